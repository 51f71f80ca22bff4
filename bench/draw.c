/*
 * draw.c: keys, in the orders in which a benchmark asks for them.
 *
 * Zipf's law gives the key of rank r a probability in proportion to 1 / r^0.99. A rank is found by
 * bisection in the table of cumulated probabilities: exact, and fast enough outside the timed part.
 * Which key has which rank is decided by the order of removal, a random one, so the keys asked for
 * most are neighbours neither in time of birth nor in any table.
 */
#include "bench/draw.h"

#include "bench/bench.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ZIPF_EXPONENT 0.99

/* A xorshift generator (George Marsaglia's): good enough to draw keys, and cheap. Never 0. */
uint64_t draw_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static double random_unit(uint64_t *state)
{
	return (double)(draw_random(state) >> 11) * 0x1p-53;
}

/* cumulated[i]: the probability of rank i or a smaller one. */
static double *zipf_table(size_t keys)
{
	double *cumulated = allocate(keys, sizeof(*cumulated));
	double sum = 0;
	for (size_t i = 0; i < keys; i++) {
		sum += pow((double)(i + 1), -ZIPF_EXPONENT);
		cumulated[i] = sum;
	}
	for (size_t i = 0; i < keys; i++)
		cumulated[i] /= sum;
	return cumulated;
}

static size_t zipf_rank(const double *cumulated, size_t keys, double u)
{
	size_t low = 0;
	size_t high = keys - 1;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (cumulated[middle] < u)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void draw_fill(struct draw *draw, uint64_t seed)
{
	const uint64_t low60 = (UINT64_C(1) << 60) - 1;
	double *cumulated = zipf_table(draw->keys);
	char swap[KEY_STRIDE];
	for (size_t i = 0; i < draw->keys; i++) {
		uint64_t scrambled = ((uint64_t)i + 1) * UINT64_C(0x9E3779B97F4A7C15) & low60;
		(void)snprintf(draw_key(draw, ORDER, i), KEY_STRIDE, "session:%015" PRIx64,
			       scrambled);
	}
	memcpy(draw->stream[REMOVAL], draw->stream[ORDER], draw->keys * KEY_STRIDE);
	for (size_t i = draw->keys - 1; i > 0; i--) {
		size_t other = draw_random(&seed) % (i + 1);
		memcpy(swap, draw_key(draw, REMOVAL, i), KEY_STRIDE);
		memcpy(draw_key(draw, REMOVAL, i), draw_key(draw, REMOVAL, other), KEY_STRIDE);
		memcpy(draw_key(draw, REMOVAL, other), swap, KEY_STRIDE);
	}
	for (size_t i = 0; i < draw->keys; i++) {
		size_t any = draw_random(&seed) % draw->keys;
		size_t rank = zipf_rank(cumulated, draw->keys, random_unit(&seed));
		memcpy(draw_key(draw, UNIFORM, i), draw_key(draw, ORDER, any), KEY_STRIDE);
		memcpy(draw_key(draw, ZIPF, i), draw_key(draw, REMOVAL, rank), KEY_STRIDE);
	}
	free(cumulated);
}

void draw_free(struct draw *draw)
{
	for (int i = 0; i < STREAMS; i++) {
		free(draw->stream[i]);
		draw->stream[i] = NULL;
	}
	draw->keys = 0;
}

void draw_keys(struct draw *draw, size_t keys, uint64_t seed)
{
	if (draw->keys == keys)
		return;
	draw_free(draw);
	draw->keys = keys;
	for (int i = 0; i < STREAMS; i++)
		draw->stream[i] = allocate(keys, KEY_STRIDE);
	draw_fill(draw, seed);
}
