/*
 * log.h: the seam between a change in memory and its way to disk. Every batch passes here, in the
 * order of its sequence. With data=none, the only mode of this version, nothing is queued.
 *
 * Ownership: the store owns its log.
 * Threads:   log_reserve() may come to wait for room in a queue, so it is called before any lock is
 *            taken; log_append() is called under the locks of the shards that the batch changed, so
 *            that the order of sequences is the order of changes to each object.
 * Errors:    log_reserve() may come to refuse (-EIO, -ENOSPC); nothing that follows it can fail.
 * Units:     bytes; sequences count batches from 1.
 */
#ifndef STORE_LOG_H
#define STORE_LOG_H

#include <stdatomic.h>
#include <stdint.h>

struct batch;

struct log {
	_Atomic uint64_t sequence; /* of the last batch */
};

static inline void log_init(struct log *log)
{
	atomic_init(&log->sequence, 0);
}

/* Takes room for a batch of so many bytes of payload. 0. */
static inline int log_reserve(struct log *log, uint64_t bytes)
{
	(void)log;
	(void)bytes;
	return 0;
}

/* Gives the batch its place in the order of changes. Cannot fail. */
static inline uint64_t log_append(struct log *log, const struct batch *batch)
{
	(void)batch;
	/* Relaxed: the shards' locks order the changes; the number only has to be unique and
	 * rising. */
	return atomic_fetch_add_explicit(&log->sequence, 1, memory_order_relaxed) + 1;
}

static inline uint64_t log_sequence(const struct log *log)
{
	return atomic_load_explicit(&log->sequence, memory_order_relaxed);
}

#endif
