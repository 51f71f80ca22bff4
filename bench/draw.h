/*
 * draw.h: the keys of a benchmark, drawn beforehand and copied in the order of their use, so that
 * fetching one costs no cache miss of its own.
 *
 * Ownership: a zeroed struct draw is empty; draw_free() empties it again.
 * Threads:   read by any number of threads once drawn.
 * Errors:    without memory the program ends.
 * Units:     a stream has one key for each key there is; a key takes KEY_STRIDE bytes with its NUL.
 */
#ifndef BENCH_DRAW_H
#define BENCH_DRAW_H

#include <stddef.h>
#include <stdint.h>

enum {
	KEY_STRIDE = 24,
	KEY_LENGTH = KEY_STRIDE - 1, /* "session:" and fifteen hexadecimal digits */
};

/* Every key once, in two orders, and as many draws from all keys, by two laws. */
enum stream { ORDER, REMOVAL, UNIFORM, ZIPF, STREAMS };

struct draw {
	size_t keys;
	char *stream[STREAMS];
};

/* Draws so many keys, unless they are there already. The same seed gives the same keys. */
void draw_keys(struct draw *draw, size_t keys, uint64_t seed);
void draw_free(struct draw *draw);

static inline char *draw_key(const struct draw *draw, enum stream stream, size_t i)
{
	return draw->stream[stream] + i * KEY_STRIDE;
}

/* The next of a sequence of random numbers. The state is never 0. */
uint64_t draw_random(uint64_t *state);

#endif
