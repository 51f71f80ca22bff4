/*
 * tap.h: the whole unit-test harness. A test program is a main() that calls tap_begin(), then
 * functions that use CHECK(), then returns tap_end(). It prints TAP, one line per tap_case().
 *
 * Ownership: nothing is allocated.
 * Threads:   CHECK() may be used from any thread; tap_case() from the main thread only.
 * Errors:    a failed CHECK() prints file, line and expression, and fails the current case.
 * Seeds:     tap_begin() takes the seed from argv[1], else from the clock, and prints it, so that
 *            every randomized failure can be reproduced.
 */
#ifndef TESTS_UNIT_TAP_H
#define TESTS_UNIT_TAP_H

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static uint64_t tap_seed;
static uint64_t tap_state;
static int tap_cases;
static int tap_failed_cases;
static atomic_int tap_failures;

/* Prints a diagnostic once per failed check, but not thousands of times from one loop. */
#define CHECK(expr)                                                                                \
	do {                                                                                       \
		if (!(expr) && atomic_fetch_add(&tap_failures, 1) < 20)                            \
			printf("# %s:%d: failed: %s\n", __FILE__, __LINE__, #expr);                \
	} while (0)

/* xorshift64*: fast and reproducible; not for anything but tests. */
static inline uint64_t tap_random(void)
{
	tap_state ^= tap_state >> 12;
	tap_state ^= tap_state << 25;
	tap_state ^= tap_state >> 27;
	return tap_state * UINT64_C(2685821657736338717);
}

/* A number in 0 .. bound - 1. */
static inline uint64_t tap_below(uint64_t bound)
{
	return tap_random() % bound;
}

static inline void tap_begin(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	tap_seed = argc > 1 ? strtoull(argv[1], NULL, 0) : (uint64_t)time(NULL);
	tap_state = tap_seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
	printf("# seed %llu\n", (unsigned long long)tap_seed);
}

/* Runs one case and prints its TAP line. */
static inline void tap_case(const char *claim, void (*body)(void))
{
	atomic_store(&tap_failures, 0);
	body();
	int failures = atomic_load(&tap_failures);
	tap_cases++;
	if (failures)
		tap_failed_cases++;
	printf("%sok %d - %s\n", failures ? "not " : "", tap_cases, claim);
}

static inline int tap_end(void)
{
	printf("1..%d\n", tap_cases);
	return tap_failed_cases ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
