/*
 * reap.h: removing what has expired. Private to store/.
 *
 * Ownership: the store owns its reaper thread, from reap_start() to reap_stop().
 * Threads:   reap_wake() from any thread, holding no lock.
 * Errors:    reap_start: -errno of the thread's creation. What cannot be removed for lack of memory
 *            is tried again at the next tick.
 * Units:     ticks of REAP_TICK_MS.
 */
#ifndef STORE_REAP_H
#define STORE_REAP_H

#include "store/core.h"

enum {
	REAP_TICK_MS = 100, /* an expired key is absent at once; its memory lags by this */
	REAP_BUDGET = 64,   /* objects taken from one shard's wheel under one hold of its lock */
};

int reap_start(struct store *s);
void reap_stop(struct store *s);

/* Something can expire now: the reaper must not sleep without a limit. */
void reap_wake(struct store *s);

#endif
