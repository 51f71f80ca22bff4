/*
 * histogram.h: how long things took, as a distribution, cheaply enough to time every operation.
 *
 * Every power of two of nanoseconds is divided into 64 equal buckets, so a value is known to within
 * 1/64 of itself (1.6 %) wherever it lies between 64 ns and 73 minutes: the layout of Gil Tene's
 * HdrHistogram (the log-linear buckets are older). Values outside fall into the first or the last
 * bucket; the sum and the maximum are exact anyway. A histogram takes 18 KiB, whatever it has seen.
 *
 * A histogram set times many kinds of operation on many threads. Each thread that records has its
 * own histograms, made when first used, so recording never meets another writer; they outlive the
 * thread, so that nothing it counted is lost, and the next new thread goes on with them.
 *
 * Ownership: the caller owns a struct histogram; zeroed memory is an empty one. Sets: new, free.
 * Threads:   one writer per histogram at a time (record, merge into, reset); any number of readers
 *            meanwhile, who see each bucket exactly, but buckets of different moments. To have
 *            percentiles agree with each other, merge into a histogram of one's own and read it.
 *            All functions of a set but new and free may be called by any threads at once.
 *            A thread's first record in a set takes a leaf lock, so none is made under one.
 * Errors:    only histogram_set_new() can fail. Without memory for a new thread's histograms a
 *            record is dropped, and counted by histogram_set_dropped().
 * Units:     nanoseconds. Percentiles are given in permille: 999 is the 99.9th.
 * Bounds:    a set takes 18 KiB for each operation that each thread uses, for the most threads
 *            there were at once.
 */
#ifndef STORE_HISTOGRAM_H
#define STORE_HISTOGRAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	HISTOGRAM_SUB_BITS = 6,   /* 64 buckets to the power of two */
	HISTOGRAM_LOW_BITS = 6,   /* values from 2^6 ns on are told apart */
	HISTOGRAM_HIGH_BITS = 42, /* up to 2^42 ns, a little more than an hour */
	HISTOGRAM_BUCKETS = (HISTOGRAM_HIGH_BITS - HISTOGRAM_LOW_BITS) << HISTOGRAM_SUB_BITS,
	HISTOGRAM_OPERATIONS_MAX = 256, /* kinds of operation in a set */
};

struct histogram {
	_Atomic uint64_t max_ns;
	_Atomic uint64_t sum_ns;
	_Atomic uint64_t counts[HISTOGRAM_BUCKETS];
};

struct histogram_summary {
	uint64_t count;
	uint64_t p50_ns;
	uint64_t p90_ns;
	uint64_t p95_ns;
	uint64_t p99_ns;
	uint64_t p999_ns;
	uint64_t max_ns;
	uint64_t sum_ns;
};

void histogram_record(struct histogram *h, uint64_t ns);
void histogram_reset(struct histogram *h);

/* Adds all of from to into. The order in which histograms are added makes no difference. */
void histogram_merge(struct histogram *into, const struct histogram *from);

uint64_t histogram_count(const struct histogram *h);  /* how many values were recorded */
uint64_t histogram_max_ns(const struct histogram *h); /* the largest, exactly; 0 if none */
uint64_t histogram_sum_ns(const struct histogram *h);

/*
 * The smallest value that at least permille / 1000 of all recorded values do not exceed, rounded up
 * to the end of its bucket but never beyond the maximum; 0 if nothing was recorded. So 500 is the
 * median, 1000 the maximum. permille is 0..1000; 0 gives the same as the smallest rank, 1.
 */
uint64_t histogram_percentile(const struct histogram *h, unsigned permille);

/* All that a report shows, in one pass. */
void histogram_summarise(const struct histogram *h, struct histogram_summary *summary);

/* For reports that show the buckets themselves: index < HISTOGRAM_BUCKETS. */
unsigned histogram_bucket(uint64_t ns);               /* where a value falls */
uint64_t histogram_bucket_lowest_ns(unsigned index);  /* the bucket's own range, without what */
uint64_t histogram_bucket_highest_ns(unsigned index); /* the first and the last take in besides */
uint64_t histogram_bucket_count(const struct histogram *h, unsigned index);

struct histogram_set;

/*
 * A set for operations numbered 0 .. operations - 1, at most HISTOGRAM_OPERATIONS_MAX. Returns null
 * if there is no memory, or no thread-specific key left (a process has 1024).
 */
struct histogram_set *histogram_set_new(unsigned operations);

/* No thread may use it any more, nor be exiting after having recorded in it. Null is ignored. */
void histogram_set_free(struct histogram_set *set);

/* Counts one operation and its time; failed ones are counted as errors besides. */
void histogram_set_record(struct histogram_set *set, unsigned operation, uint64_t ns, bool failed);

/*
 * Replaces *merged by all that was recorded for one operation since the last reset, and *errors by
 * how many of these failed. Of a record under way, the time may already be in the sum and the
 * maximum and the count not yet there; errors never exceed the count.
 */
void histogram_set_read(struct histogram_set *set, unsigned operation, struct histogram *merged,
			uint64_t *errors);

/*
 * Forgets all that was recorded before. A record under way belongs either before the reset or after
 * it, as a whole; a count is never half forgotten.
 */
void histogram_set_reset(struct histogram_set *set);

/* Records dropped for want of memory, ever. */
uint64_t histogram_set_dropped(const struct histogram_set *set);

#endif
