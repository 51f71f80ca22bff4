/*
 * wheel.h: a hierarchical timing wheel: which objects of a shard are to be reaped, and when.
 *
 * Ownership: the caller owns struct wheel, which must not move, and every node, which is embedded
 *            in the caller's object. A node may move with its object: see wheel_relink().
 * Threads:   every call under the shard's lock.
 * Errors:    none; nothing is allocated. Wrong use (arming an armed node) is asserted.
 * Units:     times are nanoseconds of one clock that starts at 0 or later and never goes back
 *            (CLOCK_BOOTTIME); a tick is 2^23 ns, 8.4 ms.
 * Precision: a node is never returned before its deadline, and by the first sufficient call of
 *            wheel_advance() at or after deadline + one tick. INT64_MAX is never due.
 * Bounds:    wheel_add(), wheel_del() and wheel_relink() are O(1). wheel_advance() looks at no more
 *            than 2 * max nodes, however many are due or have to move to a finer level, and at
 *            WHEEL_LEVELS words per slot opened, however much time has passed. The rest waits for
 *            the next call.
 */
#ifndef STORE_WHEEL_H
#define STORE_WHEEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WHEEL_TICK_SHIFT 23
#define WHEEL_TICK_NS    (INT64_C(1) << WHEEL_TICK_SHIFT)
#define WHEEL_SLOT_BITS  6
#define WHEEL_SLOTS      (1u << WHEEL_SLOT_BITS)
#define WHEEL_LEVELS     7u /* 23 + 7 * 6 bits: all of int64_t, 292 years */

/* All zero is a node that is not armed. */
struct wheel_node {
	struct wheel_node *next;
	struct wheel_node **link; /* what points here; NULL: not armed */
	int64_t deadline_ns;
};

struct wheel {
	uint64_t used[WHEEL_LEVELS]; /* bit s: slot[level][s] is not empty */
	struct wheel_node *due;      /* to be returned */
	struct wheel_node *opened;   /* the slot that the clock has reached, being distributed */
	uint64_t tick;               /* the clock, in ticks: how far the slots are opened */
	int64_t now_ns;              /* the latest time that the caller gave */
	size_t count;
	struct wheel_node *slot[WHEEL_LEVELS][WHEEL_SLOTS];
};

void wheel_init(struct wheel *w, int64_t now_ns);

/*
 * Arms a node that is not armed. A deadline that the wheel's time has reached already is due at the
 * next wheel_advance().
 */
void wheel_add(struct wheel *w, struct wheel_node *n, int64_t deadline_ns);

/* Disarms an armed node. */
void wheel_del(struct wheel *w, struct wheel_node *n);

/* Whether the node is in a wheel. */
bool wheel_armed(const struct wheel_node *n);

/*
 * Repairs the links after a node's bytes were copied to a new address, armed or not; the old bytes
 * are not read. Nodes move one at a time: call this for each before the next one is copied, and
 * before any other call.
 */
void wheel_relink(struct wheel_node *moved);

/*
 * Sets the time to now_ns (an earlier time than before counts as the same time), disarms up to max
 * (at least 1) nodes that are due, and stores them in out, in no particular order. Returns how
 * many. It may stop short of max while it distributes a large slot, so call it again, perhaps with
 * the lock dropped in between, while wheel_next_ns() <= now_ns.
 */
size_t wheel_advance(struct wheel *w, int64_t now_ns, struct wheel_node **out, size_t max);

/*
 * When to call wheel_advance() next: an earlier call would return nothing. INT64_MAX when no node
 * is armed. At most one tick after the earliest deadline; it may be well before it, since a slot
 * far ahead opens at its beginning: at most WHEEL_LEVELS - 1 such calls a node.
 */
int64_t wheel_next_ns(const struct wheel *w);

/* How many nodes are armed. */
size_t wheel_count(const struct wheel *w);

/* Verifies the invariants of wheel.c. Returns 0, or -EUCLEAN. O(nodes). */
int wheel_check(const struct wheel *w);

#endif
