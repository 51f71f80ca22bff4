/*
 * index.c: tables, insertion, removal, resizing, walks and checks. The lookup is in index.h.
 *
 * A table is a power of two of 64-byte buckets of seven slots. A slot holds a pointer and bits 0-15
 * of its hash; each has a tag, eight other bits, beside it. A lookup compares seven tags at once,
 * then the stored bits, and only then looks at an entry: a miss reads one cache line and, but for
 * one in hundreds, no entry. (Chains and plain probing make a miss three times as dear; vector
 * instructions gain nothing on seven bytes.)
 *
 * An entry whose home bucket (hash & mask) is full goes to the next that is not, and each bucket
 * that it passes counts it in its overflow byte. A lookup goes on only from a bucket whose byte is
 * not zero, and a removal counts down again: no tombstones. A byte that reached 255 stays there
 * until the table is replaced; it costs time, never an answer.
 *
 * Resizing doubles or halves. The new table takes all insertions; the old one, still valid by the
 * same rules, is emptied bucket by bucket, from bucket 0 up, in later reserves and steps. Lookups
 * and removals try both. Tags and stored bits are copied, so a table of up to 2^16 buckets (360,000
 * entries) is filled without looking at an entry; beyond, hash_of() is asked, and the entries of
 * all buckets of one call are prefetched first.
 *
 * Why a resize ends before the next is due: a table of N buckets takes at most 0.8 * 7N = 5.6 N
 * entries. Every promised insertion moves INDEX_MOVE = 2 buckets and comes before the insertion, so
 * fewer than N/2 insertions happen while the N buckets of the old table are emptied.
 *   Growing   from N to 2N begins at <= 5.6 N:   5.6 N + N/2 + 16 <= 11.2 N   for N >= 4.
 *   Shrinking from N to N/2 begins at < 0.875 N: 0.875 N + N/2 + 16 <= 2.8 N  for N >= 12.
 * The smallest table has 8 buckets. The same room keeps an earlier promise when a shrink begins. A
 * grown table is at 0.4, a shrunk one at 0.25: far from the next resize.
 *
 * A large table is its own mapping: zero pages, free until they are touched. The emptied part of an
 * old one goes back to the kernel 64 KiB at a time, so that its end is cheap too.
 *
 * Invariants (index_check)
 *  1. A tag is zero if and only if its slot is; the pointer in a used slot is not NULL.
 *  2. The tag and the stored bits of a slot are those of hash_of(entry).
 *  3. Every bucket from an entry's home up to, but not including, its own has overflow > 0.
 *  4. An overflow byte below 255 is exactly the number of entries that passed its bucket.
 *  5. count is the number of used slots in both tables, and at most 0.8 of the slots of `table`.
 *  6. While resizing, old has twice or half the buckets of table; old[0 .. moved - 1] hold no
 *     entry; released <= moved < the buckets of old. Otherwise both are 0.
 *
 * Locking: the caller's (index.h). Only the two table words are read without it, by a prefetch: it
 * may then name a table that was freed a moment ago, which loads nothing.
 */
#include "store/index.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* log2 of the buckets whose number the stored bits still tell. */
#define STORED_ORDER 16
/* Tables of at least this many buckets (64 KiB) are mapped, and released in such pieces. */
#define MAPPED_BUCKETS ((size_t)1024)
#define OVERFLOW_ONE   (UINT64_C(1) << 56)
#define OVERFLOW_MAX   UINT64_C(255)
#define POINTER_MASK   ((UINT64_C(1) << 48) - 1)

/* The most entries that a table of so many buckets takes: 0.8 of its slots. */
#define TABLE_LIMIT(buckets) ((buckets)*INDEX_SLOTS * 4 / 5)
/* A table of so many buckets shrinks when it has fewer entries: 1/8 of its slots. */
#define SHRINK_BELOW(buckets) ((buckets)*INDEX_SLOTS / 8)

/* The arithmetic of the file comment, for the smallest tables; larger ones have more room. */
#define MIN_BUCKETS (1 << INDEX_ORDER_MIN)
static_assert(TABLE_LIMIT(MIN_BUCKETS) + MIN_BUCKETS / INDEX_MOVE + INDEX_RESERVE_MAX <=
		      TABLE_LIMIT(2 * MIN_BUCKETS),
	      "a grown table has room until the old one is empty");
static_assert(SHRINK_BELOW(2 * MIN_BUCKETS) + 2 * MIN_BUCKETS / INDEX_MOVE + INDEX_RESERVE_MAX <=
		      TABLE_LIMIT(MIN_BUCKETS),
	      "a shrunk table has room until the old one is empty");

/* ---- one table ---- */

static size_t word_buckets(uintptr_t word)
{
	return index_word_mask(word) + 1;
}

static unsigned int word_order(uintptr_t word)
{
	return (unsigned int)(word & 63);
}

static size_t table_bytes(size_t buckets)
{
	return buckets * sizeof(struct index_bucket);
}

/* A word for an empty table, or 0 when there is no memory. */
static uintptr_t table_new(unsigned int order)
{
	size_t buckets = (size_t)1 << order;
	size_t bytes = table_bytes(buckets);
	void *base;

	if (buckets >= MAPPED_BUCKETS) {
		base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			    0);
		if (base == MAP_FAILED)
			return 0;
		/* A huge page is zeroed at first touch, 2 MiB under a lock, and cannot be given
		 * back in pieces. A kernel without them refuses, which is as good. */
		(void)madvise(base, bytes, MADV_NOHUGEPAGE);
	} else {
		base = aligned_alloc(sizeof(struct index_bucket), bytes);
		if (!base)
			return 0;
		memset(base, 0, bytes);
	}
	return (uintptr_t)base | order;
}

static void table_free(uintptr_t word)
{
	struct index_bucket *base = index_word_base(word);
	size_t bytes = table_bytes(word_buckets(word));

	if (word_buckets(word) < MAPPED_BUCKETS)
		free(base);
	else if (munmap(base, bytes))
		/* The kernel joins neighbours, and parting them needs one more mapping than it
		 * may allow. Then only the addresses are lost, not the memory. */
		(void)madvise(base, bytes, MADV_DONTNEED);
}

/* Undoes the counting of one entry that was placed in bucket `end` of the table. */
static void table_uncount_path(uintptr_t word, size_t home, size_t end)
{
	struct index_bucket *base = index_word_base(word);
	size_t mask = index_word_mask(word);

	for (size_t at = home; at != end; at = (at + 1) & mask) {
		assert(index_overflow(base[at].meta) > 0);
		if (index_overflow(base[at].meta) < OVERFLOW_MAX)
			base[at].meta -= OVERFLOW_ONE;
	}
}

/* Puts a slot in the first free place from bucket `home` on. There is one. */
static void table_place(uintptr_t word, size_t home, uint64_t tag, uint64_t slot)
{
	struct index_bucket *base = index_word_base(word);
	size_t mask = index_word_mask(word);
	size_t at = home;
	unsigned int i;

	while (index_zero_tags(base[at].meta) == 0) {
		if (index_overflow(base[at].meta) < OVERFLOW_MAX)
			base[at].meta += OVERFLOW_ONE;
		at = (at + 1) & mask;
	}
	i = index_first_slot(index_zero_tags(base[at].meta));
	base[at].meta |= tag << (8 * i);
	base[at].slot[i] = slot;
}

/* Finds the slot that holds exactly this value: true, its bucket and its number in the bucket. */
static bool table_locate(uintptr_t word, uint64_t hash, uint64_t slot, size_t *bucket,
			 unsigned int *number)
{
	const struct index_bucket *base = index_word_base(word);
	size_t mask = index_word_mask(word);
	size_t at = hash & mask;

	for (size_t left = mask + 1; left; left--, at = (at + 1) & mask) {
		uint64_t hits = index_tag_hits(base[at].meta, hash);

		for (; hits; hits &= hits - 1) {
			unsigned int i = index_first_slot(hits);

			if (base[at].slot[i] != slot)
				continue;
			*bucket = at;
			*number = i;
			return true;
		}
		if (index_overflow(base[at].meta) == 0)
			break;
	}
	return false;
}

static uint64_t make_slot(uint64_t hash, const void *entry)
{
	return (hash << 48) | (uintptr_t)entry;
}

static void *slot_entry(uint64_t slot)
{
	return (void *)(uintptr_t)(slot & POINTER_MASK);
}

/* ---- resizing ---- */

static void store_word(atomic_uintptr_t *where, uintptr_t word)
{
	/* Relaxed: pairs with index_prefetch(), which follows no pointer. */
	atomic_store_explicit(where, word, memory_order_relaxed);
}

/* Begins to move everything to a new table. 0 or -ENOMEM. */
static int resize_begin(struct index *ix, unsigned int order)
{
	uintptr_t word = table_new(order);

	assert(index_word(&ix->old) == 0);
	if (!word)
		return -ENOMEM;
	store_word(&ix->old, index_word(&ix->table));
	store_word(&ix->table, word);
	return 0;
}

static void resize_end(struct index *ix)
{
	uintptr_t old = index_word(&ix->old);

	store_word(&ix->old, 0);
	ix->moved = 0;
	ix->released = 0;
	table_free(old);
}

static bool shrink_is_due(const struct index *ix)
{
	uintptr_t table = index_word(&ix->table);

	return word_order(table) > INDEX_ORDER_MIN && ix->count < SHRINK_BELOW(word_buckets(table));
}

/* Moves the entries of one bucket of the old table. wide: the stored bits do not tell the homes. */
static void move_bucket(struct index *ix, uintptr_t old, uintptr_t table, bool wide)
{
	struct index_bucket *bucket = &index_word_base(old)[ix->moved];

	for (unsigned int i = 0; i < INDEX_SLOTS; i++) {
		uint64_t tag = (bucket->meta >> (8 * i)) & 0xff;
		uint64_t slot = bucket->slot[i];
		uint64_t hash;

		if (!tag)
			continue;
		hash = wide ? ix->hash_of(slot_entry(slot)) : slot >> 48;
		table_place(table, hash & index_word_mask(table), tag, slot);
		table_uncount_path(old, hash & index_word_mask(old), ix->moved);
		bucket->slot[i] = 0;
	}
	/* The overflow of entries further on stays. */
	bucket->meta &= OVERFLOW_MAX * OVERFLOW_ONE;
	ix->moved++;
}

/*
 * Gives the emptied part of a mapped old table back, piece by piece. That also zeroes its overflow
 * bytes, so it waits until nothing in the table has passed the last emptied bucket: then nothing
 * left has passed any before it, and what is lost is zero or stuck at 255.
 */
static void release_moved(struct index *ix, uintptr_t old)
{
	struct index_bucket *base = index_word_base(old);

	if (word_buckets(old) < MAPPED_BUCKETS || ix->moved % MAPPED_BUCKETS ||
	    index_overflow(base[ix->moved - 1].meta))
		return;
	/* A failure only delays the memory until resize_end(). */
	if (madvise(&base[ix->released], table_bytes(ix->moved - ix->released), MADV_DONTNEED) == 0)
		ix->released = ix->moved;
}

/* The hash of every entry will be asked for: lets the misses overlap. */
static void prefetch_buckets(uintptr_t word, size_t first, size_t buckets)
{
	const struct index_bucket *base = index_word_base(word);

	for (size_t at = first; at < first + buckets; at++)
		for (unsigned int i = 0; i < INDEX_SLOTS; i++)
			if (base[at].slot[i])
				__builtin_prefetch(slot_entry(base[at].slot[i]));
}

/* Empties up to so many more buckets of the old table, if there is one. */
static void resize_move(struct index *ix, size_t buckets)
{
	uintptr_t old = index_word(&ix->old);
	uintptr_t table = index_word(&ix->table);
	bool wide = word_order(old) > STORED_ORDER || word_order(table) > STORED_ORDER;

	if (!old)
		return;
	if (buckets > word_buckets(old) - ix->moved)
		buckets = word_buckets(old) - ix->moved;
	if (wide)
		prefetch_buckets(old, ix->moved, buckets);
	for (; buckets; buckets--) {
		move_bucket(ix, old, table, wide);
		if (ix->moved == word_buckets(old))
			resize_end(ix);
		else
			release_moved(ix, old);
	}
}

/* ---- the interface ---- */

int index_init(struct index *ix, index_hash_fn *hash_of)
{
	uintptr_t word;

	assert(hash_of);
	word = table_new(INDEX_ORDER_MIN);
	if (!word)
		return -ENOMEM;
	atomic_init(&ix->table, word);
	atomic_init(&ix->old, 0);
	ix->count = 0;
	ix->moved = 0;
	ix->released = 0;
	ix->hash_of = hash_of;
	return 0;
}

void index_fini(struct index *ix)
{
	if (index_word(&ix->old))
		resize_end(ix);
	table_free(index_word(&ix->table));
	store_word(&ix->table, 0);
}

int index_reserve(struct index *ix)
{
	return index_reserve_many(ix, 1);
}

int index_reserve_many(struct index *ix, size_t n)
{
	uintptr_t table = index_word(&ix->table);

	assert(n <= INDEX_RESERVE_MAX);
	if (ix->count + n > TABLE_LIMIT(word_buckets(table))) {
		int rc = resize_begin(ix, word_order(table) + 1);

		if (rc)
			return rc;
	} else if (index_word(&ix->old) == 0 && shrink_is_due(ix)) {
		/* Best effort: without memory the index stays large, and valid. */
		(void)resize_begin(ix, word_order(table) - 1);
	}
	resize_move(ix, n * INDEX_MOVE);
	return 0;
}

void index_insert(struct index *ix, uint64_t hash, void *entry)
{
	uintptr_t table = index_word(&ix->table);

	assert(entry && (uintptr_t)entry <= POINTER_MASK);
	assert(ix->count < TABLE_LIMIT(word_buckets(table)));
	table_place(table, hash & index_word_mask(table), index_tag(hash), make_slot(hash, entry));
	ix->count++;
}

/* Finds an entry in either table: true, its table, bucket and slot. */
static bool index_locate(const struct index *ix, uint64_t hash, const void *entry, uintptr_t *word,
			 size_t *bucket, unsigned int *number)
{
	uint64_t slot = make_slot(hash, entry);

	*word = index_word(&ix->table);
	if (table_locate(*word, hash, slot, bucket, number))
		return true;
	*word = index_word(&ix->old);
	return *word && table_locate(*word, hash, slot, bucket, number);
}

bool index_remove(struct index *ix, uint64_t hash, const void *entry)
{
	struct index_bucket *bucket;
	uintptr_t word;
	size_t at;
	unsigned int i;

	if (!index_locate(ix, hash, entry, &word, &at, &i))
		return false;
	bucket = &index_word_base(word)[at];
	bucket->meta &= ~(UINT64_C(0xff) << (8 * i));
	bucket->slot[i] = 0;
	table_uncount_path(word, hash & index_word_mask(word), at);
	ix->count--;
	return true;
}

bool index_replace(struct index *ix, uint64_t hash, const void *old_entry, void *new_entry)
{
	uintptr_t word;
	size_t at;
	unsigned int i;

	assert(new_entry && (uintptr_t)new_entry <= POINTER_MASK);
	if (!index_locate(ix, hash, old_entry, &word, &at, &i))
		return false;
	index_word_base(word)[at].slot[i] = make_slot(hash, new_entry);
	return true;
}

bool index_step(struct index *ix, size_t buckets)
{
	if (index_word(&ix->old) == 0) {
		if (!shrink_is_due(ix) || resize_begin(ix, word_order(index_word(&ix->table)) - 1))
			return false;
	}
	resize_move(ix, buckets);
	return index_wants_step(ix);
}

bool index_wants_step(const struct index *ix)
{
	return index_word(&ix->old) != 0 || shrink_is_due(ix);
}

/* A match that looks at every candidate and accepts none. */
static bool prefetch_candidate(const void *entry, const void *key)
{
	(void)key;
	__builtin_prefetch(entry);
	return false;
}

void index_prefetch_entry(const struct index *ix, uint64_t hash)
{
	(void)index_find(ix, hash, prefetch_candidate, NULL); /* Finds nothing, by design. */
}

size_t index_bytes(const struct index *ix)
{
	uintptr_t old = index_word(&ix->old);
	size_t buckets = word_buckets(index_word(&ix->table));

	if (old)
		buckets += word_buckets(old) - ix->released;
	return table_bytes(buckets);
}

/* ---- walks ---- */

bool index_next(const struct index *ix, size_t *cursor, void **entry)
{
	uintptr_t word = index_word(&ix->table);
	size_t first = 0;

	/* The cursor numbers the slots of table, then those of old. */
	while (word) {
		size_t end = first + word_buckets(word) * INDEX_SLOTS;

		for (; *cursor < end; ++*cursor) {
			size_t at = *cursor - first;
			uint64_t slot =
				index_word_base(word)[at / INDEX_SLOTS].slot[at % INDEX_SLOTS];

			if (slot) {
				++*cursor;
				*entry = slot_entry(slot);
				return true;
			}
		}
		first = end;
		word = word == index_word(&ix->old) ? 0 : index_word(&ix->old);
	}
	return false;
}

static uint64_t reverse_bits(uint64_t x)
{
	x = ((x >> 1) & UINT64_C(0x5555555555555555)) | ((x & UINT64_C(0x5555555555555555)) << 1);
	x = ((x >> 2) & UINT64_C(0x3333333333333333)) | ((x & UINT64_C(0x3333333333333333)) << 2);
	x = ((x >> 4) & UINT64_C(0x0f0f0f0f0f0f0f0f)) | ((x & UINT64_C(0x0f0f0f0f0f0f0f0f)) << 4);
	return __builtin_bswap64(x);
}

/* Visits the entries of one home bucket of one table that come at or after `from` in scan order. */
static void scan_home(const struct index *ix, uintptr_t word, size_t home, uint64_t from,
		      index_visit_fn *visit, void *context)
{
	const struct index_bucket *base = index_word_base(word);
	size_t mask = index_word_mask(word);
	size_t at = home;
	/* 16 bits decide when neither the home nor the cursor is finer than that. */
	bool wide = word_order(word) > STORED_ORDER || from << STORED_ORDER;

	for (size_t left = mask + 1; left; left--, at = (at + 1) & mask) {
		for (unsigned int i = 0; i < INDEX_SLOTS; i++) {
			uint64_t slot = base[at].slot[i];
			uint64_t hash;

			if (!slot || ((slot >> 48) ^ home) & mask & 0xffff)
				continue;
			hash = wide ? ix->hash_of(slot_entry(slot)) : slot >> 48;
			if ((hash & mask) == home && reverse_bits(hash) >= from)
				visit(slot_entry(slot), context);
		}
		if (index_overflow(base[at].meta) == 0)
			break;
	}
}

/*
 * The order of the walk is that of the hashes with their bits reversed, which is independent of the
 * table's size: bucket b of a table of 2^k buckets is the home of one unbroken range of it,
 * 2^(64-k) long, and the two buckets that it splits into have the two halves. The cursor says:
 * everything before it has been visited. A table that shrank brings back entries before the cursor
 * together with others; they are left out.
 */
bool index_scan(const struct index *ix, uint64_t *cursor, index_visit_fn *visit, void *context)
{
	uintptr_t words[2] = { index_word(&ix->table), index_word(&ix->old) };
	uint64_t from = *cursor;
	unsigned int order = word_order(words[0]);
	size_t group;

	if (words[1] && word_order(words[1]) < order)
		order = word_order(words[1]);
	group = reverse_bits(from) & (((size_t)1 << order) - 1);
	for (unsigned int i = 0; i < 2 && words[i]; i++) {
		size_t home = group;

		for (; home < word_buckets(words[i]); home += (size_t)1 << order)
			scan_home(ix, words[i], home, from, visit, context);
	}
	*cursor = (from | (UINT64_MAX >> order)) + 1;
	return *cursor != 0;
}

/* ---- checks ---- */

/* Invariants 1 to 3 for one slot. */
static bool slot_is_sound(const struct index *ix, uintptr_t word, size_t at, unsigned int i)
{
	const struct index_bucket *base = index_word_base(word);
	size_t mask = index_word_mask(word);
	uint64_t tag = (base[at].meta >> (8 * i)) & 0xff;
	uint64_t slot = base[at].slot[i];
	uint64_t hash;

	if (!tag || !slot)
		return !tag && !slot;
	if (!slot_entry(slot))
		return false;
	hash = ix->hash_of(slot_entry(slot));
	if (tag != index_tag(hash) || slot >> 48 != (hash & 0xffff))
		return false;
	for (size_t on = hash & mask; on != at; on = (on + 1) & mask)
		if (index_overflow(base[on].meta) == 0)
			return false;
	return true;
}

/* Invariant 4 for one bucket; by 3, whatever passed it lies before the next overflow of zero. */
static bool overflow_is_sound(const struct index *ix, uintptr_t word, size_t at)
{
	const struct index_bucket *base = index_word_base(word);
	size_t mask = index_word_mask(word);
	uint64_t overflow = index_overflow(base[at].meta);
	uint64_t passed = 0;
	size_t distance = 0;

	if (overflow == OVERFLOW_MAX)
		return true;
	while (distance < mask && index_overflow(base[(at + distance) & mask].meta)) {
		const struct index_bucket *bucket;

		distance++;
		bucket = &base[(at + distance) & mask];
		for (unsigned int i = 0; i < INDEX_SLOTS; i++) {
			if (!bucket->slot[i])
				continue;
			uint64_t hash = ix->hash_of(slot_entry(bucket->slot[i]));

			if (((at + distance - hash) & mask) >= distance)
				passed++;
		}
	}
	return passed == overflow;
}

/* Invariants 1 to 4 for a table; adds its entries to *count. */
static bool table_is_sound(const struct index *ix, uintptr_t word, size_t *count)
{
	const struct index_bucket *base = index_word_base(word);
	size_t buckets = word_buckets(word);

	for (size_t at = 0; at < buckets; at++) {
		for (unsigned int i = 0; i < INDEX_SLOTS; i++) {
			if (!slot_is_sound(ix, word, at, i))
				return false;
			if (base[at].slot[i])
				++*count;
		}
	}
	for (size_t at = 0; at < buckets; at++)
		if (!overflow_is_sound(ix, word, at))
			return false;
	return true;
}

/* Invariant 6. */
static bool resize_is_sound(const struct index *ix)
{
	uintptr_t old = index_word(&ix->old);
	unsigned int order = word_order(index_word(&ix->table));

	if (!old)
		return ix->moved == 0 && ix->released == 0;
	if (word_order(old) != order + 1 && word_order(old) + 1 != order)
		return false;
	if (ix->released > ix->moved || ix->moved >= word_buckets(old))
		return false;
	for (size_t at = 0; at < ix->moved; at++)
		if (index_word_base(old)[at].meta & ~(OVERFLOW_MAX * OVERFLOW_ONE))
			return false;
	return true;
}

int index_check(const struct index *ix)
{
	uintptr_t table = index_word(&ix->table);
	uintptr_t old = index_word(&ix->old);
	size_t count = 0;

	if (!table || word_order(table) < INDEX_ORDER_MIN || !resize_is_sound(ix))
		return -EUCLEAN;
	if (!table_is_sound(ix, table, &count) || (old && !table_is_sound(ix, old, &count)))
		return -EUCLEAN;
	if (count != ix->count || count > TABLE_LIMIT(word_buckets(table)))
		return -EUCLEAN;
	return 0;
}
