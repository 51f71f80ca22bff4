/*
 * counter.h: statistics counters. One list of names makes the counters, their sum and the report.
 *
 *   #define SHARD_COUNTERS(X)                   any columns after the name are the list's own
 *           X(lookups, "names looked up")
 *           X(lookup_misses, "names not found")
 *
 *   struct shard_counters { COUNTER_STRUCT(SHARD_COUNTERS) };          one per shard
 *   struct shard_sums { COUNTER_SUMS(SHARD_COUNTERS) };                plain uint64_t, for readers
 *   static const char *const names[] = { COUNTER_NAMES(SHARD_COUNTERS) };
 *
 *   counter_add_locked(&shard->counters.lookups, 1);
 *   for each shard: COUNTER_ADD_ALL(SHARD_COUNTERS, &sums, &shard->counters);
 *
 * Counters only count: they publish no other memory, so every access is relaxed and pairs with
 * nothing. A reader sees each counter exactly, but counters of different moments.
 *
 * Ownership: counters are embedded by value; zeroed memory is a valid counter of 0.
 * Threads:   anybody may read. Writers of one counter either all use counter_add(), or all hold the
 *            same lock (or are one and the same thread) and use the _locked functions. Never mix.
 * Errors:    none. A counter wraps at 2^64, as does the difference of two readings.
 * Units:     are in the counter's name.
 */
#ifndef STORE_COUNTER_H
#define STORE_COUNTER_H

#include <assert.h>
#include <stdatomic.h>
#include <stdint.h>

struct counter {
	_Atomic uint64_t value; /* atomic */
};

static_assert(sizeof(struct counter) == sizeof(uint64_t), "a counter is one word");

/* Adds from any thread: one locked instruction. */
static inline void counter_add(struct counter *counter, uint64_t n)
{
	atomic_fetch_add_explicit(&counter->value, n, memory_order_relaxed);
}

/* Sets it, by its only writer; how a reset is done too. */
static inline void counter_set_locked(struct counter *counter, uint64_t n)
{
	atomic_store_explicit(&counter->value, n, memory_order_relaxed);
}

static inline uint64_t counter_read(const struct counter *counter)
{
	return atomic_load_explicit(&counter->value, memory_order_relaxed);
}

/* Adds, by its only writer: a plain load and store, several times cheaper than counter_add(). */
static inline void counter_add_locked(struct counter *counter, uint64_t n)
{
	counter_set_locked(counter, counter_read(counter) + n);
}

/* The fields of the struct of counters, and of the struct of their sums. */
#define COUNTER_STRUCT(list)          list(COUNTER_FIELD_)
#define COUNTER_SUMS(list)            list(COUNTER_SUM_FIELD_)
#define COUNTER_FIELD_(name, ...)     struct counter name;
#define COUNTER_SUM_FIELD_(name, ...) uint64_t name;

/* The names as strings, in the order of the list, and how many there are. */
#define COUNTER_NAMES(list)      list(COUNTER_NAME_)
#define COUNTER_COUNT(list)      (0 list(COUNTER_ONE_))
#define COUNTER_NAME_(name, ...) #name,
#define COUNTER_ONE_(name, ...)  +1

/* Adds every counter of *counters to the field of the same name in *sums. */
#define COUNTER_ADD_ALL(list, sums, counters)                                                      \
	do {                                                                                       \
		__typeof__(sums) counter_sums_ = (sums);                                           \
		__typeof__(counters) counter_from_ = (counters);                                   \
		list(COUNTER_ADD_ONE_)                                                             \
	} while (0)
#define COUNTER_ADD_ONE_(name, ...) counter_sums_->name += counter_read(&counter_from_->name);

/* Sets every counter of *counters to 0, by their only writer. */
#define COUNTER_RESET_ALL(list, counters)                                                          \
	do {                                                                                       \
		__typeof__(counters) counter_from_ = (counters);                                   \
		list(COUNTER_RESET_ONE_)                                                           \
	} while (0)
#define COUNTER_RESET_ONE_(name, ...) counter_set_locked(&counter_from_->name, 0);

#endif
