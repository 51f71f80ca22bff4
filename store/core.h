/*
 * core.h: the store as its modules see it: shards, clocks, locks of several shards.
 * Private to store/.
 *
 *   struct store ── tree (rw lock) ── root directory
 *        │
 *        ├─ shard 0 ─ lock ─ names   (directory, name) -> object, or -> link -> number
 *        │                   objects  number -> object
 *        │                   wheel    what will expire
 *        │                   account, counters
 *        ├─ shard 1 …
 *        ├─ log: the sequence, and later the WAL queue
 *        └─ reaper: one thread
 *
 * Ownership: a shard owns its objects and links; store.c owns the shards.
 * Threads:   lock.h states the order of locks. What a shard owns is read and written under its
 *            lock.
 * Errors:    as store.h.
 * Units:     clocks in nanoseconds.
 */
#ifndef STORE_CORE_H
#define STORE_CORE_H

#include "store/log.h"
#include "store/shard.h"

#include <pthread.h>
#include <stdatomic.h>

struct reaper {
	pthread_t thread;
	struct lock lock;
	struct lock_cond wake;
	bool stop; /* under lock */
	/* atomic: the reaper sets idle and then reads armed before it sleeps without a limit, who
	 * arms adds to armed and then reads idle: one of the two sees the other (both seq_cst). */
	atomic_bool idle;
	_Atomic uint64_t armed; /* objects in wheels */
};

struct store {
	/* constant after open */
	struct shard *shards;
	unsigned shard_count;
	unsigned shard_shift; /* 10 - log2(shard_count) */
	int64_t ttl_ns_default;
	struct store_events events;
	/* locks and what they guard: see lock.h */
	struct lock_rw tree;
	struct reaper reaper;
	struct log log;
	/* atomic */
	_Atomic uint64_t counter_next; /* of object numbers: never used twice */
	struct account_total total;
};

enum { CORE_NUMBER_BITS = 10 }; /* low bits of a number, and top bits of a name's hash: the shard */

static inline struct shard *core_shard_of_hash(const struct store *s, uint64_t hash)
{
	return &s->shards[(hash >> (64 - CORE_NUMBER_BITS)) >> s->shard_shift];
}

static inline struct shard *core_shard_of_number(const struct store *s, uint64_t number)
{
	return &s->shards[(number & ((1U << CORE_NUMBER_BITS) - 1)) >> s->shard_shift];
}

/*
 * As shard_object() and shard_name(), for a caller who holds the shard's lock among others: clang
 * cannot follow a set of locks, so debug builds check instead.
 */
static inline struct object *core_object(const struct store *s, uint64_t number)
{
	struct shard *shard = core_shard_of_number(s, number);
	lock_assert_held(&shard->lock);
	return shard_object(shard, number);
}

static inline bool core_name(const struct store *s, const struct shard_key *key,
			     struct shard_name *found)
{
	struct shard *shard = core_shard_of_hash(s, key->hash);
	lock_assert_held(&shard->lock);
	return shard_name(shard, key, found);
}

/* A new object number, for an object born with a name of this hash. */
uint64_t core_number_new(struct store *s, uint64_t hash);

int64_t core_now(void);          /* CLOCK_BOOTTIME */
struct timespec core_time(void); /* CLOCK_REALTIME */

/* When a period that begins now is over; INT64_MAX, which is never, for those that would
 * overflow. */
static inline int64_t core_deadline(int64_t period_ns)
{
	int64_t now = core_now();
	return period_ns > INT64_MAX - now ? INT64_MAX : now + period_ns;
}

/* True when the object's time has come. Asks the clock only if it has a TTL. */
static inline bool core_expired(const struct object *object)
{
	int64_t deadline = object_deadline(object);
	return __builtin_expect(deadline != 0, 0) && deadline <= core_now();
}

/* A few shards, kept ascending, to be locked together. */
enum { CORE_LOCKS_MAX = 8 };
struct core_locks {
	unsigned count;
	struct shard *shard[CORE_LOCKS_MAX];
};

void core_locks_add(struct core_locks *locks, struct shard *shard);
void core_locks_acquire(const struct core_locks *locks);
void core_locks_release(const struct core_locks *locks);

/* Fills attr. now is core_now() if the caller has it, else 0. */
void core_attr(const struct object *object, int64_t now, struct store_attr *attr);

#endif
