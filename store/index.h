/*
 * index.h: a tagged hash index from a 64-bit hash to a pointer, which grows and shrinks a few
 * buckets at a time. Each shard has one for its names and one for its objects.
 *
 * The index does not know keys: equal hashes are allowed, and the caller's match function decides.
 * How it is built, and why lookups end, is in index.c.
 *
 * Ownership: the caller owns the entries; the index owns its tables. An entry is a pointer of at
 *            most 48 bits, not NULL, whose low bits the index keeps as given: entries are 16-byte
 *            aligned and the caller may mark a kind in bit 0. Callbacks get it with the mark.
 * Threads:   every call is made under the lock of the shard that owns the index, except
 *            index_prefetch(), which needs none as long as the struct itself is alive.
 * Errors:    only init and reserve can fail, with -ENOMEM, and then nothing has changed.
 * Units:     count is entries, bytes is bytes of tables, buckets are 64 bytes.
 * Bounds:    one reserve moves at most INDEX_MOVE buckets for each insertion that it promises.
 *            No operation ever pays for the size of the table.
 */
#ifndef STORE_INDEX_H
#define STORE_INDEX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	INDEX_SLOTS = 7,        /* entries in a bucket, one cache line */
	INDEX_ORDER_MIN = 3,    /* log2 of the buckets of the smallest table */
	INDEX_RESERVE_MAX = 16, /* insertions that one reserve can promise */
	INDEX_MOVE = 2,         /* buckets moved for each promised insertion while resizing */
};

/* True when the entry is the one that key means. */
typedef bool index_match_fn(const void *entry, const void *key);
/* The hash that the entry was inserted with. Asked only for tables of more than 2^16 buckets. */
typedef uint64_t index_hash_fn(const void *entry);
/* Called for each entry of a scan; must not change the index. */
typedef void index_visit_fn(void *entry, void *context);

struct index_bucket {
	uint64_t meta;              /* bytes 0-6: tags, 0 is an empty slot; byte 7: overflow */
	uint64_t slot[INDEX_SLOTS]; /* bits 0-47: the pointer; 48-63: bits 0-15 of the hash */
};
_Static_assert(sizeof(struct index_bucket) == 64, "a bucket is one cache line");

/* Private to index.c and to the inline functions below. */
struct index {
	/* atomic: stored under the lock, loaded by index_prefetch() without. A word is a table's
	 * address (64-byte aligned) | log2 of its buckets, so that the two always agree. */
	atomic_uintptr_t table; /* takes the insertions */
	atomic_uintptr_t old;   /* being emptied into table; 0 when not resizing */
	/* under lock */
	size_t count;    /* entries in both tables */
	size_t moved;    /* buckets of old that are empty for good */
	size_t released; /* buckets of old whose memory went back to the kernel; <= moved */
	/* constant after init */
	index_hash_fn *hash_of;
};

/* 0 or -ENOMEM. */
int index_init(struct index *ix, index_hash_fn *hash_of);
/* Frees the tables, not the entries. No index_prefetch() may still run. */
void index_fini(struct index *ix);

/*
 * Promises that the next n <= INDEX_RESERVE_MAX insertions (index_reserve: one) cannot fail; moves
 * INDEX_MOVE * n buckets when resizing. A promise holds until the n-th insertion or the release of
 * the lock, whatever is removed or stepped, and does not add to an earlier one. 0 or -ENOMEM.
 */
int index_reserve(struct index *ix);
int index_reserve_many(struct index *ix, size_t n);

/* Adds an entry; needs a promise. The same pointer must not be in the index twice. */
void index_insert(struct index *ix, uint64_t hash, void *entry);
/* Takes out exactly this pointer, mark included. False when it is not there. */
bool index_remove(struct index *ix, uint64_t hash, const void *entry);
/* Puts new_entry, of the same hash, in the place of old_entry. False when that is not there. */
bool index_replace(struct index *ix, uint64_t hash, const void *old_entry, void *new_entry);

/* Background work: starts a shrink that is due (without memory the index stays large) and moves at
 * most so many buckets. True while there is more to do. */
bool index_step(struct index *ix, size_t buckets);
/* True when index_step() has something to do: worth asking after removals. */
bool index_wants_step(const struct index *ix);

/* A hint: loads the cache line of each entry that may have this hash, without looking into it. */
void index_prefetch_entry(const struct index *ix, uint64_t hash);

/* Walks everything under one hold of the lock. *cursor begins at 0. True and *entry, or false at
 * the end. Between calls entries already returned may be removed, and nothing else done. */
bool index_next(const struct index *ix, size_t *cursor, void **entry);

/*
 * Walks in slices: visits the few entries of one home bucket (many only if their hashes are equal)
 * and advances *cursor, which begins at 0. True while there is more. Between calls the lock may be
 * released, the index changed and resized at will: what is there during the whole walk is visited
 * exactly once, what comes or goes meanwhile at most once per insertion. A cursor never expires.
 */
bool index_scan(const struct index *ix, uint64_t *cursor, index_visit_fn *visit, void *context);

/* 0, or -EUCLEAN when an invariant of index.c is broken. Asks hash_of for every entry. */
int index_check(const struct index *ix);

/* Bytes of the tables, without what has gone back to the kernel. */
size_t index_bytes(const struct index *ix);
/* The entries. */
static inline size_t index_count(const struct index *ix)
{
	return ix->count;
}

/* What follows is the lookup, inline so that match is inlined into it, and its parts. */

static inline struct index_bucket *index_word_base(uintptr_t word)
{
	return (struct index_bucket *)(word & ~(uintptr_t)63);
}

static inline size_t index_word_mask(uintptr_t word)
{
	return ((size_t)1 << (word & 63)) - 1;
}

static inline uintptr_t index_word(const atomic_uintptr_t *word)
{
	/* Relaxed: under the lock it is ordered by the lock, for a prefetch any value will do. */
	return atomic_load_explicit(word, memory_order_relaxed);
}

/*
 * Bits 40-47: apart from the bucket number and the stored bits (0-15, and up to 39 in the largest
 * table), and from the shard (54-63), which is the same for all names of an index. Never 0.
 */
static inline uint64_t index_tag(uint64_t hash)
{
	uint64_t tag = (hash >> 40) & 0xff;

	return tag ? tag : 1;
}

/* The high bit of each of bytes 0-6 that is zero, exactly: no carry crosses a byte. */
static inline uint64_t index_zero_tags(uint64_t meta)
{
	const uint64_t low7 = UINT64_C(0x7f7f7f7f7f7f7f7f);

	return ~(((meta & low7) + low7) | meta | low7) & UINT64_C(0x0080808080808080);
}

static inline uint64_t index_tag_hits(uint64_t meta, uint64_t hash)
{
	return index_zero_tags(meta ^ (index_tag(hash) * UINT64_C(0x0101010101010101)));
}

/* The number of the first slot in a result of index_zero_tags(), which is not 0. */
static inline unsigned int index_first_slot(uint64_t hits)
{
	return (unsigned int)__builtin_ctzll(hits) >> 3;
}

/* Entries that were pushed past this bucket; 255 means so many or more, or any after that. */
static inline uint64_t index_overflow(uint64_t meta)
{
	return meta >> 56;
}

static inline __attribute__((always_inline)) void *
index_find_in(uintptr_t word, uint64_t hash, index_match_fn *match, const void *key)
{
	const struct index_bucket *base = index_word_base(word);
	size_t mask = index_word_mask(word);
	size_t at = hash & mask;

	/* Bounded by the table: saturated overflow counts could lead round for ever. */
	for (size_t left = mask + 1; left; left--, at = (at + 1) & mask) {
		const struct index_bucket *bucket = &base[at];
		uint64_t hits = index_tag_hits(bucket->meta, hash);

		for (; hits; hits &= hits - 1) {
			/* Equal high bits cancel out and leave the bare pointer. */
			uint64_t entry = bucket->slot[index_first_slot(hits)] ^ (hash << 48);

			if (entry >> 48 == 0 && match((const void *)(uintptr_t)entry, key))
				return (void *)(uintptr_t)entry;
		}
		if (index_overflow(bucket->meta) == 0)
			break;
	}
	return NULL;
}

/* The entry of this hash that matches the key, or NULL. */
static inline __attribute__((always_inline)) void *
index_find(const struct index *ix, uint64_t hash, index_match_fn *match, const void *key)
{
	void *entry = index_find_in(index_word(&ix->table), hash, match, key);
	uintptr_t old;

	if (entry)
		return entry;
	old = index_word(&ix->old);
	return __builtin_expect(old != 0, 0) ? index_find_in(old, hash, match, key) : NULL;
}

static inline void index_prefetch_in(uintptr_t word, uint64_t hash)
{
	/* The table may be gone: no pointer is formed into it, and a prefetch cannot fault. */
	__builtin_prefetch(
		(const void *)((word & ~(uintptr_t)63) + (hash & index_word_mask(word)) * 64));
}

/* A hint, with or without the lock: loads the cache line where a lookup of this hash begins. */
static inline void index_prefetch(const struct index *ix, uint64_t hash)
{
	uintptr_t old = index_word(&ix->old);

	index_prefetch_in(index_word(&ix->table), hash);
	if (__builtin_expect(old != 0, 0))
		index_prefetch_in(old, hash);
}

#endif
