/*
 * test_index.c: store/index.[ch] and store/hash.h against a plain array of (hash, entry).
 *
 * Entries are mostly numbers made into pointers: the index never looks into one, and the hash of
 * each can be looked up or computed. index_check() runs after every change while tables are small.
 */
#include "store/index.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>

#include "store/hash.h"
#include "tests/unit/tap.h"

#define MODEL_MAX 8192

/* Entry i of the model is the pointer (i + 1) * 16, perhaps with the mark in bit 0. */
static struct {
	uint64_t hash[MODEL_MAX];
	bool present[MODEL_MAX];
	unsigned char visits[MODEL_MAX];
	size_t count;
} model;

static void *model_entry(size_t i)
{
	return (void *)(((uintptr_t)i + 1) << 4 | (i & 1));
}

static size_t model_number(const void *entry)
{
	return ((uintptr_t)entry >> 4) - 1;
}

static uint64_t model_hash(const void *entry)
{
	return model.hash[model_number(entry)];
}

/* For tests with more entries than the model holds. */
static uint64_t hash_number_of(const void *entry)
{
	return hash_number(model_number(entry));
}

static bool same_entry(const void *entry, const void *key)
{
	return entry == key;
}

static bool any_entry(const void *entry, const void *key)
{
	(void)entry;
	(void)key;
	return true;
}

static bool is_found(const struct index *ix, size_t i)
{
	return index_find(ix, model.hash[i], same_entry, model_entry(i)) == model_entry(i);
}

static void model_start(struct index *ix)
{
	memset(&model, 0, sizeof(model));
	CHECK(index_init(ix, model_hash) == 0);
}

static void add(struct index *ix, size_t i, uint64_t hash)
{
	CHECK(index_reserve(ix) == 0);
	model.hash[i] = hash;
	index_insert(ix, hash, model_entry(i));
	model.present[i] = true;
	model.count++;
}

static void drop(struct index *ix, size_t i)
{
	CHECK(index_remove(ix, model.hash[i], model_entry(i)));
	model.present[i] = false;
	model.count--;
}

/* Everything that is in is found, everything that was taken out is not. */
static void compare(const struct index *ix, size_t entries)
{
	CHECK(index_count(ix) == model.count);
	for (size_t i = 0; i < entries; i++)
		CHECK(is_found(ix, i) == model.present[i]);
}

static unsigned int order_of(const struct index *ix)
{
	return (unsigned int)(index_word(&ix->table) & 63);
}

static bool is_resizing(const struct index *ix)
{
	return index_word(&ix->old) != 0;
}

/* ---- exhaustive ---- */

/* The k-th of the 24 orders of four. */
static void nth_order(unsigned int k, size_t order[4])
{
	size_t left[4] = { 0, 1, 2, 3 };

	for (size_t i = 0; i < 4; i++) {
		size_t pick = k % (4 - i);

		k /= (unsigned int)(4 - i);
		order[i] = left[pick];
		memmove(&left[pick], &left[pick + 1], (3 - pick) * sizeof(left[0]));
	}
}

/* Entries 0-3 get these hashes, entries 4.. fill the last bucket; 0-3 leave in this order. */
static void one_order(const uint64_t hashes[4], size_t fill, const size_t order[4])
{
	struct index ix;

	model_start(&ix);
	for (size_t i = 0; i < fill / 2; i++)
		add(&ix, 4 + i, 7);
	for (size_t i = 0; i < 4; i++)
		add(&ix, i, hashes[i]);
	for (size_t i = fill / 2; i < fill; i++)
		add(&ix, 4 + i, 7);
	CHECK(index_check(&ix) == 0);
	compare(&ix, 4 + fill);
	for (size_t i = 0; i < 4; i++) {
		drop(&ix, order[i]);
		CHECK(!index_remove(&ix, hashes[order[i]], model_entry(order[i])));
		CHECK(index_check(&ix) == 0);
		compare(&ix, 4 + fill);
	}
	/* A gap before entries that overflowed is used again, and does not hide them. */
	add(&ix, 0, hashes[0]);
	CHECK(index_check(&ix) == 0);
	compare(&ix, 4 + fill);
	index_fini(&ix);
}

static void exhaustive(void)
{
	/* They meet at the last bucket of eight, with or without an equal tag, and at the first. */
	static const uint64_t choice[3] = { 7, 7 | UINT64_C(9) << 40, 8 };
	static const size_t fills[] = { 0, 4, 7, 12, 20 };

	for (unsigned int which = 0; which < 81; which++) {
		uint64_t hashes[4] = { choice[which % 3], choice[which / 3 % 3],
				       choice[which / 9 % 3], choice[which / 27] };

		for (unsigned int k = 0; k < 24; k++) {
			size_t order[4];

			nth_order(k, order);
			for (size_t f = 0; f < sizeof(fills) / sizeof(fills[0]); f++)
				one_order(hashes, fills[f], order);
		}
	}
}

/* ---- randomized ---- */

/* From well spread to hopeless. All but the first kind share homes, tags or stored bits. */
static uint64_t random_hash(unsigned int kind)
{
	uint64_t r = tap_random();

	switch (kind) {
	case 0:
		return r;
	case 1:
		return r & UINT64_C(0xff0000000007); /* few homes, all tags */
	case 2:
		return (r & UINT64_C(0x010000000307)) | UINT64_C(2) << 40; /* tags 2 and 3 */
	case 3:
		return r & 0x3f00; /* homes that only large tables tell apart */
	case 4:
		return r | ~UINT64_C(7); /* the last buckets, tag 255 */
	default:
		return 0;
	}
}

static void random_change(struct index *ix, size_t entries, unsigned int kind, uint64_t grow)
{
	size_t i = tap_below(entries);

	if (!model.present[i]) {
		if (tap_below(100) < grow)
			add(ix, i, random_hash(kind));
	} else if (tap_below(100) >= grow) {
		drop(ix, i);
	} else if (tap_below(4) == 0) {
		/* The entry keeps its number and so its hash: out with the mark, and in again. */
		void *marked = (void *)((uintptr_t)model_entry(i) ^ 1);

		CHECK(index_replace(ix, model.hash[i], model_entry(i), marked));
		CHECK(!index_replace(ix, model.hash[i], model_entry(i), marked));
		CHECK(!is_found(ix, i));
		CHECK(index_find(ix, model.hash[i], same_entry, marked) == marked);
		CHECK(index_replace(ix, model.hash[i], marked, model_entry(i)));
	} else {
		index_step(ix, tap_below(4));
	}
}

static void random_run(size_t entries, unsigned int steps, unsigned int check_every)
{
	for (unsigned int kind = 0; kind <= 5; kind++) {
		struct index ix;

		model_start(&ix);
		for (unsigned int step = 0; step < steps; step++) {
			/* Phases that fill it, churn it, and empty it. */
			static const uint64_t phases[4] = { 90, 50, 10, 50 };

			random_change(&ix, entries, kind, phases[step * 8 / steps % 4]);
			if (step % check_every)
				continue;
			CHECK(index_check(&ix) == 0);
			compare(&ix, entries);
		}
		index_fini(&ix);
	}
}

static void random_small(void)
{
	random_run(90, 3000, 1);
}

static void random_large(void)
{
	random_run(4000, 30000, 997);
}

/* ---- resizing ---- */

static void resize_every_step(void)
{
	size_t entries = 1500, resizes = 0;
	struct index ix;

	model_start(&ix);
	for (size_t i = 0; i < entries; i++) {
		size_t moved = ix.moved;
		bool before = is_resizing(&ix);

		add(&ix, i, tap_random());
		CHECK(!before || !is_resizing(&ix) || ix.moved - moved <= INDEX_MOVE);
		resizes += !before && is_resizing(&ix);
		CHECK(index_check(&ix) == 0);
		CHECK(is_found(&ix, i) && is_found(&ix, tap_below(i + 1)));
	}
	compare(&ix, entries);
	CHECK(resizes == 6 && order_of(&ix) == 9);
	for (size_t i = 0; i < entries; i++) {
		drop(&ix, i);
		while (index_wants_step(&ix)) {
			size_t moved = ix.moved;
			bool before = is_resizing(&ix);

			resizes += !before;
			CHECK(index_step(&ix, 3) == index_wants_step(&ix));
			CHECK(!before || !is_resizing(&ix) || ix.moved - moved <= 3);
			CHECK(index_check(&ix) == 0);
			if (i % 64 == 0)
				compare(&ix, entries);
		}
		CHECK(index_check(&ix) == 0);
	}
	compare(&ix, entries);
	CHECK(resizes == 12 && order_of(&ix) == INDEX_ORDER_MIN);
	CHECK(index_bytes(&ix) == sizeof(struct index_bucket) << INDEX_ORDER_MIN);
	index_fini(&ix);
}

/* A promise of the most is kept at every count, also through a shrink that begins after it. */
static void promises(void)
{
	for (size_t start = 0; start < 400; start++) {
		struct index ix;

		model_start(&ix);
		for (size_t i = 0; i < start; i++)
			add(&ix, i, tap_random());
		for (size_t i = 0; i < start && tap_below(64); i++)
			drop(&ix, i);
		CHECK(index_reserve_many(&ix, INDEX_RESERVE_MAX) == 0);
		index_step(&ix, tap_below(3));
		for (size_t i = start; i < start + INDEX_RESERVE_MAX; i++) {
			model.hash[i] = tap_random();
			index_insert(&ix, model.hash[i], model_entry(i));
			model.present[i] = true;
			model.count++;
		}
		CHECK(index_check(&ix) == 0);
		compare(&ix, start + INDEX_RESERVE_MAX);
		index_fini(&ix);
	}
}

/* Hundreds of equal hashes pin the overflow bytes at 255; a new table begins without that. */
static void saturation(void)
{
	size_t entries = 3000;
	struct index ix;

	model_start(&ix);
	for (size_t i = 0; i < entries; i++)
		add(&ix, i, 5);
	CHECK(index_check(&ix) == 0);
	compare(&ix, entries);
	for (size_t i = entries; i > 0; i--)
		drop(&ix, i - 1);
	CHECK(index_check(&ix) == 0);
	CHECK(index_overflow(index_word_base(index_word(&ix.table))[5].meta) == 255);
	CHECK(index_find(&ix, 5, any_entry, NULL) == NULL);
	while (index_step(&ix, 7))
		CHECK(index_check(&ix) == 0);
	CHECK(index_overflow(index_word_base(index_word(&ix.table))[5].meta) == 0);
	index_fini(&ix);
}

/* Every bucket of a table pinned at 255: a lookup of nothing still ends, after one round. */
static void all_saturated(void)
{
	size_t keep = 60, most = ((size_t)7 << 6) * 4 / 5, pinned = 0;
	struct index ix;

	model_start(&ix);
	for (size_t i = 0; i < most; i++)
		add(&ix, i, i);
	for (uint64_t home = 0; home < 64; home += 4) {
		for (size_t i = keep; i < most; i++)
			drop(&ix, i);
		for (size_t i = keep; i < most; i++)
			add(&ix, i, home);
		compare(&ix, most);
	}
	CHECK(order_of(&ix) == 6 && !is_resizing(&ix) && index_check(&ix) == 0);
	for (size_t at = 0; at < 64; at++)
		pinned += index_overflow(index_word_base(index_word(&ix.table))[at].meta) == 255;
	CHECK(pinned == 64);
	CHECK(index_find(&ix, 1 << 15, any_entry, NULL) == NULL);
	CHECK(!index_remove(&ix, 1 << 15, model_entry(0)));
	index_fini(&ix);
}

/* The address space is closed while one call runs, so that the mapping it wants fails. */
static int reserve_without_memory(struct index *ix, bool *stepped)
{
	struct rlimit limit, none;
	int rc = 0;

	CHECK(getrlimit(RLIMIT_AS, &limit) == 0);
	none = limit;
	none.rlim_cur = 0;
	CHECK(setrlimit(RLIMIT_AS, &none) == 0);
	if (stepped)
		*stepped = index_step(ix, 8);
	else
		rc = index_reserve(ix);
	CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
	return rc;
}

static void no_memory(void)
{
	size_t grow_at = ((size_t)7 << 11) * 4 / 5, entries = 0;
	bool stepped = true;
	struct index ix;

	memset(&model, 0, sizeof(model));
	CHECK(index_init(&ix, hash_number_of) == 0);
	for (; entries < grow_at; entries++) {
		CHECK(index_reserve(&ix) == 0);
		index_insert(&ix, hash_number(entries), model_entry(entries));
	}
	CHECK(order_of(&ix) == 11 && !is_resizing(&ix));
	CHECK(reserve_without_memory(&ix, NULL) == -ENOMEM);
	CHECK(index_check(&ix) == 0 && index_count(&ix) == entries && !is_resizing(&ix));
	CHECK(index_reserve(&ix) == 0 && is_resizing(&ix));
	while (index_step(&ix, 100))
		;
	CHECK(order_of(&ix) == 12);
	while (!index_wants_step(&ix)) {
		entries--;
		CHECK(index_remove(&ix, hash_number(entries), model_entry(entries)));
	}
	CHECK(reserve_without_memory(&ix, &stepped) == 0 && !stepped);
	CHECK(reserve_without_memory(&ix, NULL) == 0);
	CHECK(index_check(&ix) == 0 && index_count(&ix) == entries && order_of(&ix) == 12);
	CHECK(index_step(&ix, 1) && order_of(&ix) == 11);
	index_fini(&ix);
}

/* More than 2^16 buckets: the stored bits no longer tell the home, hash_of() does. */
static void wide_tables(void)
{
	size_t entries = ((size_t)7 << 16) * 4 / 5 + 1, left = entries, seen = 0, low = SIZE_MAX;
	size_t cursor = 0;
	void *entry;
	struct index ix;

	CHECK(index_init(&ix, hash_number_of) == 0);
	for (size_t i = 0; i < entries; i++) {
		CHECK(index_reserve(&ix) == 0);
		index_insert(&ix, hash_number(i), model_entry(i));
	}
	CHECK(order_of(&ix) == 17 && is_resizing(&ix));
	CHECK(index_find(&ix, hash_number(3), same_entry, model_entry(3)));
	while (index_step(&ix, 5000)) {
		/* What has been emptied goes back to the kernel on the way. */
		CHECK(index_bytes(&ix) <= (size_t)64 * ((3 << 16) - ix.moved + 8192));
		low = index_bytes(&ix) < low ? index_bytes(&ix) : low;
		CHECK(index_find(&ix, hash_number(left), any_entry, NULL) == NULL);
	}
	CHECK(low < (size_t)64 * 5 << 15);
	CHECK(index_check(&ix) == 0);
	while (index_next(&ix, &cursor, &entry))
		seen++;
	CHECK(seen == entries);
	for (size_t i = 0; i < entries; i++)
		CHECK(index_find(&ix, hash_number(i), same_entry, model_entry(i)));
	while (left > 1000) {
		left--;
		CHECK(index_remove(&ix, hash_number(left), model_entry(left)));
		if (index_wants_step(&ix))
			index_step(&ix, 16);
	}
	while (index_step(&ix, 1000))
		;
	CHECK(order_of(&ix) <= 11 && index_check(&ix) == 0 && index_count(&ix) == left);
	for (size_t i = 0; i < left + 10; i++)
		CHECK(!index_find(&ix, hash_number(i), same_entry, model_entry(i)) == (i >= left));
	index_fini(&ix);
}

/* ---- walks ---- */

static void next_walk(void)
{
	for (size_t entries = 0; entries < 200; entries++) {
		size_t cursor = 0, seen = 0;
		void *entry;
		struct index ix;

		model_start(&ix);
		for (size_t i = 0; i < entries; i++)
			add(&ix, i, random_hash(i % 3 ? 0 : 1));
		while (index_next(&ix, &cursor, &entry)) {
			size_t i = model_number(entry);

			CHECK(entry == model_entry(i) && model.present[i]);
			drop(&ix, i);
			seen++;
		}
		CHECK(seen == entries && index_count(&ix) == 0 && index_check(&ix) == 0);
		index_fini(&ix);
	}
}

static void count_visit(void *entry, void *context)
{
	size_t i = model_number(entry);

	(void)context;
	CHECK(entry == model_entry(i) && model.present[i]);
	model.visits[i]++;
}

/* Below `stay` nothing is touched during the walk; the rest comes, goes and forces resizes. */
static void one_scan(size_t stay, size_t others, unsigned int kind)
{
	size_t entries = stay + others;
	uint64_t cursor = 0;
	uint64_t grow = 50;
	struct index ix;
	bool more;

	model_start(&ix);
	for (size_t i = 0; i < entries; i++)
		if (i < stay || tap_below(2))
			add(&ix, i, random_hash(kind));
	do {
		more = index_scan(&ix, &cursor, count_visit, NULL);
		if (tap_below(8) == 0)
			grow = tap_below(2) ? 100 : 0;
		/* Mostly few, so that slices fall into the middle of a resize. */
		for (size_t n = tap_below(tap_below(4) ? 8 : others); n; n--) {
			size_t i = stay + tap_below(others);

			if (model.present[i] && tap_below(100) >= grow) {
				drop(&ix, i);
				/* A later insertion may be visited again. */
				model.visits[i] = 0;
			} else if (!model.present[i] && tap_below(100) < grow) {
				add(&ix, i, random_hash(kind));
			}
			if (tap_below(64) == 0)
				index_step(&ix, tap_below(16));
		}
	} while (more);
	for (size_t i = 0; i < entries; i++)
		CHECK(i < stay ? model.visits[i] == 1 : model.visits[i] <= 1);
	CHECK(cursor == 0 && index_check(&ix) == 0);
	index_fini(&ix);
}

static void scan_walk(void)
{
	for (unsigned int round = 0; round < 12; round++) {
		for (unsigned int kind = 0; kind <= 5; kind++) {
			one_scan(10, 300, kind);
			one_scan(tap_below(200), 1 + tap_below(600), kind);
			one_scan(tap_below(200), 1 + tap_below(2000), 0);
		}
	}
}

/* Where a walk in slices comes to a hash: its bits, the last first. */
static uint64_t order_in_scan(uint64_t hash)
{
	uint64_t reversed = 0;

	for (unsigned int bit = 0; bit < 64; bit++)
		reversed |= (hash >> bit & 1) << (63 - bit);
	return reversed;
}

static void count_number(void *entry, void *context)
{
	unsigned char *visits = context;

	visits[model_number(entry)]++;
}

/*
 * A cursor that is finer than 16 bits meets tables that are smaller than that. The walk is stopped
 * in front of the home of entry `next`, bit 16 of whose hash is set: the home of 17 bits just
 * before it differs in that bit alone.
 */
static void scan_wide(void)
{
	size_t entries = 380000, left = entries, stay = 200, wrong = 0, next = 0;
	unsigned char *visits = calloc(entries, 1);
	uint64_t cursor = 0;
	struct index ix;

	CHECK(visits && index_init(&ix, hash_number_of) == 0);
	for (size_t i = 0; i < entries; i++) {
		CHECK(index_reserve(&ix) == 0);
		index_insert(&ix, hash_number(i), model_entry(i));
	}
	while (index_step(&ix, 1000))
		;
	CHECK(order_of(&ix) == 17);
	while (!(hash_number(next) >> 16 & 1))
		next++;
	while (cursor != order_in_scan(hash_number(next) & 0x1ffff))
		CHECK(index_scan(&ix, &cursor, count_number, visits));
	CHECK(cursor << 16 != 0 && visits[next] == 0);
	while (left > stay) {
		left--;
		CHECK(index_remove(&ix, hash_number(left), model_entry(left)));
	}
	while (index_step(&ix, 1000))
		;
	CHECK(order_of(&ix) < 10);
	while (index_scan(&ix, &cursor, count_number, visits))
		;
	for (size_t i = 0; i < entries; i++)
		wrong += i < stay ? visits[i] != 1 : visits[i] > 1;
	CHECK(wrong == 0);
	index_fini(&ix);
	free(visits);
}

/* ---- the rest ---- */

static bool is_key(const void *entry, const void *key)
{
	return model_number(entry) == *(const size_t *)key;
}

/* Notes the candidates of a lookup: entry i is of tag 2 + i % 2, and an empty slot is none. */
static bool is_even(const void *entry, const void *key)
{
	CHECK(entry != NULL && model_number(entry) % 2 == 0);
	++*(size_t *)(uintptr_t)key;
	return false;
}

/* A byte that differs in its last bit, next to one that is equal, is where a lazy test errs. */
static void neighbour_tags(void)
{
	size_t asked = 0;
	struct index ix;

	model_start(&ix);
	for (size_t i = 0; i < 6; i++)
		add(&ix, i, (i % 2 + 2) << 40);
	CHECK(index_find(&ix, UINT64_C(2) << 40, is_even, &asked) == NULL && asked == 3);
	index_fini(&ix);
	model_start(&ix);
	add(&ix, 0, 0);
	CHECK(index_find(&ix, 0, is_even, &asked) == NULL && asked == 4);
	index_fini(&ix);
}

static void duplicates(void)
{
	size_t key;
	struct index ix;

	model_start(&ix);
	for (size_t i = 0; i < 20; i++)
		add(&ix, i, 42);
	for (key = 0; key < 20; key++)
		CHECK(index_find(&ix, 42, is_key, &key) == model_entry(key));
	CHECK(index_find(&ix, 42, is_key, &key) == NULL);
	/* Neither other stored bits nor another tag reach an entry, not even to ask about it. */
	CHECK(index_find(&ix, 42 + (1 << 15), any_entry, NULL) == NULL);
	CHECK(index_find(&ix, 42 | UINT64_C(2) << 40, any_entry, NULL) == NULL);
	CHECK(!index_remove(&ix, 42, (void *)((uintptr_t)model_entry(3) ^ 1)));
	index_prefetch_entry(&ix, 42);
	compare(&ix, 20);
	index_fini(&ix);
}

/* The check is worth something: each kind of damage is seen. */
static void check_sees_damage(void)
{
	struct index_bucket *base;
	struct index_bucket whole;
	struct index ix;

	model_start(&ix);
	for (size_t i = 0; i < 9; i++)
		add(&ix, i, 2);
	base = index_word_base(index_word(&ix.table));
	whole = base[2];
	CHECK(index_check(&ix) == 0 && index_overflow(whole.meta) == 2);
	base[2].slot[3] = 0;
	CHECK(index_check(&ix) == -EUCLEAN);
	base[2] = whole;
	base[2].meta ^= 6;
	CHECK(index_check(&ix) == -EUCLEAN);
	base[2] = whole;
	base[2].slot[6] ^= UINT64_C(1) << 60;
	CHECK(index_check(&ix) == -EUCLEAN);
	base[2] = whole;
	base[2].meta -= UINT64_C(1) << 56;
	CHECK(index_check(&ix) == -EUCLEAN);
	base[2].meta -= UINT64_C(1) << 56;
	CHECK(index_check(&ix) == -EUCLEAN);
	base[2] = whole;
	base[1].meta += UINT64_C(1) << 56;
	CHECK(index_check(&ix) == -EUCLEAN);
	base[1].meta = 0;
	ix.count--;
	CHECK(index_check(&ix) == -EUCLEAN);
	ix.count++;
	ix.moved = 1;
	CHECK(index_check(&ix) == -EUCLEAN);
	ix.moved = 0;
	CHECK(index_check(&ix) == 0);
	index_fini(&ix);
}

static atomic_bool prefetch_stop;

static void *prefetch_loop(void *arg)
{
	const struct index *ix = arg;

	for (uint64_t i = 0; !atomic_load(&prefetch_stop); i++)
		index_prefetch(ix, hash_number(i));
	return NULL;
}

static void prefetch_unlocked(void)
{
	size_t entries = 20000;
	pthread_t thread;
	struct index ix;

	CHECK(index_init(&ix, hash_number_of) == 0);
	CHECK(pthread_create(&thread, NULL, prefetch_loop, &ix) == 0);
	for (unsigned int round = 0; round < 4; round++) {
		for (size_t i = 0; i < entries; i++) {
			CHECK(index_reserve(&ix) == 0);
			index_insert(&ix, hash_number(i), model_entry(i));
		}
		for (size_t i = 0; i < entries; i++) {
			CHECK(index_remove(&ix, hash_number(i), model_entry(i)));
			index_step(&ix, 2);
		}
	}
	atomic_store(&prefetch_stop, true);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(index_check(&ix) == 0 && index_count(&ix) == 0);
	index_fini(&ix);
}

static void hashes(void)
{
	/* Published: XXH3-64 of nothing, and the first two outputs of SplitMix64 from 0. */
	CHECK(hash_name(0, "", 0) == UINT64_C(0x2D06800538D394C2));
	CHECK(hash_number(UINT64_C(0x9E3779B97F4A7C15)) == UINT64_C(0xE220A8397B1DCDAF));
	CHECK(hash_number(UINT64_C(0x9E3779B97F4A7C15) * 2) == UINT64_C(0x6E789E6AA1B965F4));
	CHECK(hash_name(1, "a", 1) != hash_name(2, "a", 1));
	CHECK(hash_name(1, "a\0", 2) != hash_name(1, "a", 1));
}

/* What the shards do: equal top bits of a name's hash, equal low bits of a number, cost nothing. */
static void shard_bits(void)
{
	size_t entries = ((size_t)7 << 10) * 4 / 5;
	struct index ix;

	for (unsigned int kind = 0; kind < 2; kind++) {
		size_t homes_left = 0, buckets;

		model_start(&ix);
		for (size_t i = 0; i < entries; i++)
			add(&ix, i, kind ? hash_number(i << 10 | 77) : tap_random() >> 10);
		buckets = (size_t)1 << order_of(&ix);
		for (size_t at = 0; at < buckets; at++)
			homes_left +=
				index_overflow(index_word_base(index_word(&ix.table))[at].meta) > 0;
		CHECK(order_of(&ix) == 10);
		/* At 0.8 a quarter of the buckets overflows; a bad spread makes it nearly all. */
		CHECK(homes_left < buckets / 2);
		index_fini(&ix);
	}
}

int main(int argc, char **argv)
{
	tap_begin(argc, argv);
	tap_case("index: every order of four colliding entries around full buckets", exhaustive);
	tap_case("index: random changes, checked after each, bad hashes too", random_small);
	tap_case("index: random changes of thousands of entries", random_large);
	tap_case("index: grows and shrinks a few buckets at a time, sound at every step",
		 resize_every_step);
	tap_case("index: a promise of sixteen insertions is kept at every count", promises);
	tap_case("index: thousands of equal hashes, saturated overflow", saturation);
	tap_case("index: lookups end when every bucket is saturated", all_saturated);
	tap_case("index: without memory a reserve fails and changes nothing", no_memory);
	tap_case("index: more than 2^16 buckets", wide_tables);
	tap_case("index: a walk returns each entry once and may remove it", next_walk);
	tap_case("index: a walk in slices visits what stays exactly once", scan_walk);
	tap_case("index: a fine cursor survives a shrink below 2^16 buckets", scan_wide);
	tap_case("index: a match is asked only about its own tag", neighbour_tags);
	tap_case("index: equal hashes are told apart by the match alone", duplicates);
	tap_case("index: the check sees damage", check_sees_damage);
	tap_case("index: prefetch needs no lock", prefetch_unlocked);
	tap_case("hash: published values", hashes);
	tap_case("hash: the bits that choose the shard do not crowd the table", shard_bits);
	return tap_end();
}
