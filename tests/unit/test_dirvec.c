/*
 * test_dirvec.c: the directory vector against a plain sorted array.
 *
 * dirvec.c, with dirleaf.c, is included as source, for two reasons: its sizes become variables, so
 * that a few entries make a tree of three levels and all short histories can be tried; and its
 * malloc can be made to fail on the Nth call. The sizes of production get the same random walk.
 */
#include "tests/unit/tap.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static unsigned leaf_max = 253;
static unsigned branch_max = 63;
static long allocations_left = -1; /* -1: no limit */

static bool allocation_allowed(void)
{
	if (allocations_left < 0)
		return true;
	if (allocations_left == 0)
		return false;
	allocations_left--;
	return true;
}

static void *limited_malloc(size_t size)
{
	return allocation_allowed() ? malloc(size) : NULL;
}

static void *limited_realloc(void *old, size_t size)
{
	return allocation_allowed() ? realloc(old, size) : NULL;
}

#define malloc            limited_malloc
#define realloc           limited_realloc
#define DIRLEAF_MAX       leaf_max
#define DIRVEC_BRANCH_MAX branch_max
#include "store/dirleaf.c"
#include "store/dirvec.c"
#undef malloc
#undef realloc

/* --- the model: entries ascending by cookie ------------------------------------------------- */

#define MODEL_MAX 20000u

struct model {
	struct dirvec_entry entry[MODEL_MAX];
	size_t count;
	uint64_t next_cookie;
};

static struct model model;
static struct dirvec vec;

static void begin(unsigned leaf, unsigned branch)
{
	leaf_max = leaf;
	branch_max = branch;
	allocations_left = -1;
	model.count = 0;
	model.next_cookie = DIRVEC_COOKIE_FIRST;
	dirvec_init(&vec);
	CHECK(dirvec_bytes(&vec) == 0);
}

static size_t model_find(uint64_t cookie)
{
	size_t low = 0;
	size_t high = model.count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (model.entry[middle].cookie < cookie)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void model_put(uint64_t cookie, uint64_t number)
{
	size_t at = model_find(cookie);

	if (at == model.count || model.entry[at].cookie != cookie) {
		assert(model.count < MODEL_MAX);
		memmove(&model.entry[at + 1], &model.entry[at],
			(model.count - at) * sizeof(model.entry[0]));
		model.count++;
	}
	model.entry[at] = (struct dirvec_entry){ cookie, number };
	if (cookie >= model.next_cookie)
		model.next_cookie = cookie + 1;
}

static void model_remove(size_t at)
{
	model.count--;
	memmove(&model.entry[at], &model.entry[at + 1],
		(model.count - at) * sizeof(model.entry[0]));
}

/* Whether one read gives what the model has. */
static bool read_agrees(uint64_t after, size_t n)
{
	static struct dirvec_entry out[MODEL_MAX + 1];
	size_t from = model_find(after + 1);
	size_t expected = model.count - from < n ? model.count - from : n;

	return dirvec_read(&vec, after, out, n) == expected &&
	       memcmp(out, &model.entry[from], expected * sizeof(out[0])) == 0;
}

static bool all_agrees(void)
{
	return dirvec_check(&vec) == 0 && dirvec_count(&vec) == model.count &&
	       dirvec_next_cookie(&vec) == model.next_cookie && read_agrees(0, MODEL_MAX + 1);
}

/* --- operations on both --------------------------------------------------------------------- */

static void both_append(uint64_t number)
{
	uint64_t cookie = model.next_cookie;

	CHECK(dirvec_reserve(&vec) == 0);
	CHECK(dirvec_next_cookie(&vec) == cookie);
	allocations_left = 0;
	CHECK(dirvec_append(&vec, number) == cookie);
	allocations_left = -1;
	model_put(cookie, number);
}

static void both_put(uint64_t cookie, uint64_t number)
{
	CHECK(dirvec_put(&vec, cookie, number) == 0);
	model_put(cookie, number);
}

/* Every removal of every test runs without memory. */
static void both_remove(size_t at)
{
	uint64_t cookie = model.entry[at].cookie;

	allocations_left = tap_below(2) ? 0 : -1;
	CHECK(dirvec_remove(&vec, cookie));
	CHECK(!dirvec_remove(&vec, cookie));
	allocations_left = -1;
	model_remove(at);
}

static void both_set(size_t at, uint64_t number)
{
	CHECK(dirvec_set(&vec, model.entry[at].cookie, number));
	model.entry[at].number = number;
}

/* --- cases ---------------------------------------------------------------------------------- */

static void case_empty(void)
{
	struct dirvec_entry out[1];

	begin(253, 63);
	CHECK(dirvec_read(&vec, 0, out, 1) == 0);
	CHECK(dirvec_next_cookie(&vec) == 3);
	CHECK(!dirvec_remove(&vec, 3));
	CHECK(!dirvec_set(&vec, 3, 1));
	CHECK(dirvec_put(&vec, 0, 1) == -EINVAL);
	CHECK(dirvec_put(&vec, 2, 1) == -EINVAL);
	CHECK(dirvec_put(&vec, DIRVEC_COOKIE_MAX + 1, 1) == -EINVAL);
	CHECK(dirvec_bytes(&vec) == 0);
	both_append(7);
	CHECK(dirvec_bytes(&vec) == 32);
	both_append(8);
	both_append(UINT64_MAX);
	CHECK(dirvec_bytes(&vec) == 80);
	CHECK(all_agrees());
	while (model.count > 0)
		both_remove(0);
	CHECK(dirvec_bytes(&vec) == 0);
	CHECK(dirvec_next_cookie(&vec) == 6);
	dirvec_fini(&vec);
}

/*
 * All histories of so many steps. A step is: append; reserve alone; remove, or set, the entry at
 * one of three places; put a cookie at one of three distances. Each history runs from a tree that
 * `filled` appends left, so that the steps cut and merge branches too.
 */
#define STEP_KINDS 9u

static void exhaustive_step(unsigned kind)
{
	size_t places[3] = { 0, model.count / 2, model.count - 1 };

	switch (kind) {
	case 0:
		both_append(tap_random());
		break;
	case 1:
		CHECK(dirvec_reserve(&vec) == 0);
		break;
	case 2:
	case 3:
	case 4:
		if (model.count > 0)
			both_remove(places[kind - 2]);
		break;
	case 5:
		if (model.count > 0)
			both_set(places[1], tap_random());
		break;
	case 6:
		both_put(DIRVEC_COOKIE_FIRST, tap_random());
		break;
	case 7:
		both_put(model.next_cookie + (UINT64_C(1) << 32), tap_random());
		break;
	default:
		both_put(DIRVEC_COOKIE_FIRST + model.next_cookie / 2, tap_random());
		break;
	}
}

static void exhaustive(unsigned filled, unsigned thinned, unsigned steps)
{
	unsigned long histories = 1;

	for (unsigned i = 0; i < steps; i++)
		histories *= STEP_KINDS;
	for (unsigned long history = 0; history < histories; history++) {
		unsigned long rest = history;

		begin(3, 4);
		for (unsigned i = 0; i < filled; i++)
			both_append(i);
		for (unsigned i = 0; i < thinned; i++)
			both_remove((7 * i) % model.count);
		for (unsigned i = 0; i < steps; i++) {
			exhaustive_step((unsigned)(rest % STEP_KINDS));
			rest /= STEP_KINDS;
			CHECK(all_agrees());
			CHECK(read_agrees(model.count > 0 ? model.entry[0].cookie : 5, 2));
		}
		dirvec_fini(&vec);
	}
}

static void case_exhaustive(void)
{
	exhaustive(0, 0, 5);
	exhaustive(10, 0, 4);
	exhaustive(40, 25, 4);
}

/* Every subset of 12 entries, removed in three orders, with every scan position. */
static void case_subsets(void)
{
	for (unsigned subset = 0; subset < 1u << 12; subset++) {
		begin(3, 4);
		for (unsigned i = 0; i < 12; i++)
			both_append(i);
		for (unsigned i = 0; i < 12; i++) {
			unsigned at = subset % 3 == 0 ? i : subset % 3 == 1 ? 11 - i : i * 5 % 12;

			if (subset >> at & 1)
				both_remove(model_find(DIRVEC_COOKIE_FIRST + at));
		}
		CHECK(dirvec_check(&vec) == 0);
		for (uint64_t after = 0; after < 16; after++)
			CHECK(read_agrees(after, 1) && read_agrees(after, 4));
		dirvec_fini(&vec);
	}
}

/* --- random walks with scans in between ------------------------------------------------------ */

/*
 * A scan in progress: since it began, an entry is `steady` while it has not been removed. At its
 * end it must have seen each steady entry once, and no cookie twice (they ascend).
 */
#define SCANS 4u

struct scan {
	uint64_t position;
	uint64_t steady[MODEL_MAX];
	size_t steady_count;
	size_t steady_seen;
};

static struct scan scans[SCANS];

static void scan_begin(struct scan *scan)
{
	scan->position = 0;
	scan->steady_seen = 0;
	scan->steady_count = model.count;
	for (size_t i = 0; i < model.count; i++)
		scan->steady[i] = model.entry[i].cookie;
}

static void scan_forget(struct scan *scan, uint64_t cookie)
{
	for (size_t i = 0; i < scan->steady_count; i++) {
		if (scan->steady[i] != cookie)
			continue;
		scan->steady_count--;
		if (i < scan->steady_seen)
			scan->steady_seen--;
		memmove(&scan->steady[i], &scan->steady[i + 1],
			(scan->steady_count - i) * sizeof(scan->steady[0]));
		return;
	}
}

static void scan_continue(struct scan *scan)
{
	struct dirvec_entry out[40];
	size_t n = 1 + tap_below(40);
	size_t got = dirvec_read(&vec, scan->position, out, n);

	for (size_t i = 0; i < got; i++) {
		CHECK(out[i].cookie > scan->position);
		scan->position = out[i].cookie;
		if (scan->steady_seen < scan->steady_count &&
		    scan->steady[scan->steady_seen] == out[i].cookie)
			scan->steady_seen++;
	}
	if (got < n) {
		CHECK(scan->steady_seen == scan->steady_count);
		scan_begin(scan);
	}
}

static void walk_remove(size_t at)
{
	for (unsigned i = 0; i < SCANS; i++)
		scan_forget(&scans[i], model.entry[at].cookie);
	both_remove(at);
}

/* A cookie to put: among the others, just above, or so far off that no leaf can reach it. */
static uint64_t walk_cookie(void)
{
	switch (tap_below(16)) {
	case 0:
		return model.next_cookie + (UINT64_C(3) << 31) + tap_below(3);
	case 1:
		return model.next_cookie + tap_below(9);
	default:
		return DIRVEC_COOKIE_FIRST + tap_below(model.next_cookie);
	}
}

static void walk(unsigned leaf, unsigned branch, size_t size, unsigned steps, bool puts)
{
	size_t goal = size;

	begin(leaf, branch);
	for (unsigned i = 0; i < SCANS; i++)
		scan_begin(&scans[i]);
	for (unsigned step = 0; step < steps; step++) {
		bool grow = tap_below(10) < (model.count < goal ? 8 : 2);
		unsigned kind = (unsigned)tap_below(20);

		if (model.count == goal)
			goal = tap_below(4) ? tap_below(size) : 0;
		if (kind == 0)
			CHECK(dirvec_reserve(&vec) == 0);
		else if (kind < 4)
			scan_continue(&scans[tap_below(SCANS)]);
		else if (kind == 4 && model.count > 0)
			both_set(tap_below(model.count), tap_random());
		else if (grow && puts && kind < 12)
			both_put(walk_cookie(), tap_random());
		else if (grow)
			both_append(tap_random());
		else if (model.count > 0)
			walk_remove(kind < 8 ? 0 : tap_below(model.count));
		if (leaf < 10 || step % 512 == 0)
			CHECK(dirvec_check(&vec) == 0);
		if (step % 64 == 0)
			CHECK(all_agrees());
	}
	CHECK(all_agrees());
	dirvec_fini(&vec);
}

static void case_walk_small(void)
{
	for (unsigned round = 0; round < 4; round++) {
		walk(3, 4, 100, 5000, false);
		walk(5, 4, 200, 5000, true);
		walk(13, 5, 300, 5000, true);
	}
}

static void case_walk_large(void)
{
	walk(253, 63, 3000, 12000, false);
	walk(253, 63, 3000, 12000, true);
	walk(13, 63, 3000, 12000, true);
}

/* --- single claims --------------------------------------------------------------------------- */

/* rename over an entry of one directory: everything goes between the reserve and the append. */
static void case_reservation(void)
{
	for (size_t count = 1; count < 120; count++) {
		for (unsigned way = 0; way < 3; way++) {
			begin(5, 4);
			for (size_t i = 0; i < count; i++)
				both_append(i);
			CHECK(dirvec_reserve(&vec) == 0);
			while (model.count > 0) {
				size_t last = model.count - 1;

				both_remove(way == 0 ? 0 : way == 1 ? last : last / 2);
				CHECK(dirvec_check(&vec) == 0);
			}
			allocations_left = 0;
			model_put(dirvec_append(&vec, 99), 99);
			allocations_left = -1;
			CHECK(all_agrees());
			dirvec_fini(&vec);
		}
	}
}

/* The Nth allocation fails, for every N, while a tree is built by puts: nothing may change. */
static void case_no_memory(void)
{
	for (unsigned order = 0; order < 4; order++) {
		begin(3, 4);
		for (uint64_t i = 0; i < 150; i++) {
			uint64_t place = order == 0 ? i : order == 1 ? i * 77 % 150 : 149 - i;
			uint64_t apart = UINT64_C(1) << (order < 3 ? 30 : 33);
			uint64_t cookie = DIRVEC_COOKIE_FIRST + place * apart;
			long limit = 0;
			int err;

			do {
				allocations_left = limit++;
				err = dirvec_put(&vec, cookie, i);
				allocations_left = -1;
				CHECK(err == 0 || err == -ENOMEM);
				if (err)
					CHECK(all_agrees());
			} while (err && limit < 20);
			model_put(cookie, i);
			CHECK(all_agrees());
		}
		dirvec_fini(&vec);
	}
	begin(3, 4);
	for (uint64_t i = 0; i < 150; i++) {
		long limit = 0;
		int err;

		do {
			allocations_left = limit++;
			err = dirvec_reserve(&vec);
			allocations_left = -1;
			CHECK(all_agrees());
		} while (err && limit < 20);
		both_append(i);
	}
	dirvec_fini(&vec);
}

static void case_cookie_end(void)
{
	begin(253, 63);
	both_put(DIRVEC_COOKIE_MAX - 1, 1);
	both_append(2);
	CHECK(dirvec_reserve(&vec) == -EOVERFLOW);
	CHECK(read_agrees(DIRVEC_COOKIE_MAX - 2, 9));
	CHECK(read_agrees(DIRVEC_COOKIE_MAX, 9));
	CHECK(all_agrees());
	dirvec_fini(&vec);
}

/* Bytes an entry, times 10, after so many operations. The limits are the figures of the design. */
static uint64_t tenths(void)
{
	return dirvec_bytes(&vec) * 10 / dirvec_count(&vec);
}

static void case_memory(void)
{
	const uint64_t count = 100000;

	begin(253, 63);
	for (uint64_t i = 0; i < count; i++) {
		CHECK(dirvec_reserve(&vec) == 0);
		dirvec_append(&vec, i);
	}
	printf("# appended: %.1f bytes an entry\n", (double)tenths() / 10);
	CHECK(tenths() <= 123);
	for (uint64_t i = 0; i < count; i++)
		if (tap_below(100) != 0)
			dirvec_remove(&vec, DIRVEC_COOKIE_FIRST + i);
	printf("# 1 in 100 left: %.1f bytes an entry\n", (double)tenths() / 10);
	CHECK(tenths() <= 260);
	CHECK(dirvec_check(&vec) == 0);
	dirvec_fini(&vec);
	for (uint64_t i = 0; i < count; i++)
		CHECK(dirvec_put(&vec, DIRVEC_COOKIE_FIRST + i * 77777 % count, i) == 0);
	printf("# put in scattered order: %.1f bytes an entry\n", (double)tenths() / 10);
	CHECK(tenths() <= 145);
	dirvec_fini(&vec);
	for (uint64_t i = 0; i < count; i++)
		CHECK(dirvec_put(&vec, DIRVEC_COOKIE_FIRST + tap_below(UINT64_C(1) << 34), i) == 0);
	printf("# put in random order: %.1f bytes an entry\n", (double)tenths() / 10);
	CHECK(tenths() <= 145);
	CHECK(dirvec_check(&vec) == 0);
	dirvec_fini(&vec);
	CHECK(dirvec_bytes(&vec) == 0);
}

/* dirvec_check() itself must be able to fail. */
static void case_check_detects(void)
{
	begin(3, 4);
	for (uint64_t i = 0; i < 40; i++)
		both_append(i);
	CHECK(dirvec_check(&vec) == 0);
	vec.count++;
	CHECK(dirvec_check(&vec) == -EUCLEAN);
	vec.count--;
	vec.next_cookie--;
	CHECK(dirvec_check(&vec) == -EUCLEAN);
	vec.next_cookie++;
	struct dirleaf *leaf = last_leaf(&vec);
	leaf->slot[0].delta += 1000;
	CHECK(dirvec_check(&vec) == -EUCLEAN);
	leaf->slot[0].delta -= 1000;
	CHECK(dirvec_check(&vec) == 0);
	dirvec_fini(&vec);
}

int main(int argc, char **argv)
{
	tap_begin(argc, argv);
	tap_case("an empty vector owns nothing, and three names cost 80 bytes", case_empty);
	tap_case("all short histories agree with the model", case_exhaustive);
	tap_case("after every subset of removals every read agrees", case_subsets);
	tap_case("random histories on tiny nodes agree, and scans see each steady entry once",
		 case_walk_small);
	tap_case("random histories on real nodes agree, and scans see each steady entry once",
		 case_walk_large);
	tap_case("a reservation survives any removals", case_reservation);
	tap_case("a failed allocation changes nothing", case_no_memory);
	tap_case("the last cookie is used once", case_cookie_end);
	tap_case("memory stays within the figures of the design", case_memory);
	tap_case("the check notices damage", case_check_detects);
	return tap_end();
}
