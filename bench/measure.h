/*
 * measure.h: one store, filled, worked on and emptied: the rows of one value size and one number of
 * threads.
 *
 * Ownership: a bench borrows its options and its keys, and the rows are the caller's.
 * Threads:   one bench at a time; its workers are gone when bench_run() returns.
 * Errors:    a wrong answer of the store ends the program (bench.h).
 * Units:     rates are keys a second, latencies nanoseconds of one call, memory bytes of all keys.
 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include "bench/bench.h"
#include "bench/draw.h"

struct worker;

struct op {
	const char *name;
	unsigned batch;                     /* keys of one call */
	bool (*run)(struct worker *worker); /* one call; false if its answer is wrong */
};

/* One line of the table. */
struct row {
	const struct op *op;
	enum stream stream;
	double rate[ROUNDS_MAX];     /* keys a second */
	double cpu_rate[ROUNDS_MAX]; /* keys a second of processor time, all threads' added up */
	struct histogram latency;
};

enum {
	ROW_NEW,
	ROW_SET, /* from here on: keys drawn uniformly */
	ROW_GET,
	ROW_MGET_16,
	ROW_MGET_100,
	ROW_MIX,
	ROW_ZIPF,                                  /* the same five operations by Zipf's law */
	ROW_TTL = ROW_ZIPF + (ROW_ZIPF - ROW_SET), /* uniform, then Zipf */
	ROW_DELETE = ROW_TTL + 2,
	ROWS,
};

struct bench {
	/* set by the caller, the rest 0 */
	const struct options *options;
	const struct draw *draw;
	size_t size;
	unsigned threads;
	/* measured */
	int64_t account, resident;
	/* of measure.c */
	struct store *store;
	struct worker *workers;
};

/* Measures all ROWS rows. */
void bench_run(struct bench *bench, struct row *rows);

#endif
