/*
 * bench.h: what the parts of the benchmark share: its options, one store under test, its rows.
 *
 * Ownership: allocate() gives memory to its caller; a bench borrows its options and its keys.
 * Threads:   the main thread, but for what measure.c hands to its workers.
 * Errors:    die() says what is wrong and ends the program with status 1: a benchmark with a wrong
 *            answer in it has no result.
 * Units:     bytes, nanoseconds, keys a second.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include "store/store.h"

enum {
	LIST_MAX = 16, /* values of --threads and --sizes */
	ROUNDS_MAX = 15,
	LONG_VALUE = 4096, /* a value of this size is a matter of copying, not of finding */
};

struct options {
	size_t keys;
	double seconds; /* of each row, all rounds together */
	unsigned rounds;
	bool quick;
	const char *json;
	uint64_t seed;
	size_t threads[LIST_MAX], sizes[LIST_MAX];
	size_t thread_count, size_count;
};

_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Zeroed memory, or the end of the program. */
void *allocate(size_t count, size_t size);

#endif
