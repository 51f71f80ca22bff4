/*
 * lock.c: setting up locks, and the debug build's record of the locks that a thread holds.
 *
 * The mutex spins a little before it sleeps (adaptive): sections under a shard lock last well under
 * a microsecond, and a sleep costs two system calls. The read-write lock prefers writers: a rename
 * across directories must not starve behind a stream of creates.
 *
 * The record is a thread-local array of the locks held, sorted because locks are taken in order.
 *  1. (rank, order) rises strictly from entry to entry, over released entries too.
 *  2. The last entry is held: so one comparison with it checks an acquire, and its rank is the
 *     highest this thread holds.
 *  3. An entry released out of turn stays, with a null lock, until all above it are released or
 *     the array is full and swept.
 * Taking is O(1); releasing is a binary search, since thousands may be held.
 *
 * Locking: the record belongs to its thread.
 */
#include "store/lock.h"

#include <errno.h>
#include <stddef.h>
#include <time.h>

enum { NS_PER_SECOND = 1000 * 1000 * 1000 };

#ifdef __has_feature
#if __has_feature(thread_sanitizer)
#define LOCK_TSAN 1
#endif
#endif
#ifdef __SANITIZE_THREAD__
#define LOCK_TSAN 1
#endif

#ifdef LOCK_TSAN
/*
 * The sanitizer's own deadlock detector aborts in a thread that holds more than 64 locks, which a
 * batch read of 65 shards does. The ranks say more than it could; it still finds every race.
 */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "detect_deadlocks=0";
}
#endif

void lock_init(struct lock *lock, enum lock_rank rank, uint64_t order)
{
	pthread_mutexattr_t attr;

	assert(rank >= LOCK_TREE && rank <= LOCK_LEAF);
	int err = pthread_mutexattr_init(&attr);
	assert(!err);
	err = pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP);
	assert(!err);
	err = pthread_mutex_init(&lock->mutex, &attr);
	assert(!err);
	(void)pthread_mutexattr_destroy(&attr); /* holds nothing in glibc */
	lock->rank = rank;
	lock->order = order;
}

void lock_fini(struct lock *lock)
{
	int err = pthread_mutex_destroy(&lock->mutex);
	assert(!err); /* EBUSY: somebody still holds it */
}

void lock_rw_init(struct lock_rw *lock, enum lock_rank rank, uint64_t order)
{
	pthread_rwlockattr_t attr;

	assert(rank >= LOCK_TREE && rank <= LOCK_LEAF);
	int err = pthread_rwlockattr_init(&attr);
	assert(!err);
	err = pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	assert(!err);
	err = pthread_rwlock_init(&lock->rwlock, &attr);
	assert(!err);
	(void)pthread_rwlockattr_destroy(&attr); /* holds nothing in glibc */
	lock->rank = rank;
	lock->order = order;
}

void lock_rw_fini(struct lock_rw *lock)
{
	int err = pthread_rwlock_destroy(&lock->rwlock);
	assert(!err);
}

void lock_cond_init(struct lock_cond *cond)
{
	pthread_condattr_t attr;

	int err = pthread_condattr_init(&attr);
	assert(!err);
	err = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	assert(!err);
	err = pthread_cond_init(&cond->cond, &attr);
	assert(!err);
	(void)pthread_condattr_destroy(&attr); /* holds nothing in glibc */
}

void lock_cond_fini(struct lock_cond *cond)
{
	int err = pthread_cond_destroy(&cond->cond);
	assert(!err);
}

/* While it waits the lock stays on the record: a thread asleep takes no other. */
void lock_cond_wait(struct lock_cond *cond, struct lock *lock)
{
	assert(lock_debug_only(lock, lock->rank, lock->order));
	int err = pthread_cond_wait(&cond->cond, &lock->mutex);
	assert(!err);
}

bool lock_cond_wait_until(struct lock_cond *cond, struct lock *lock, uint64_t deadline_ns)
{
	struct timespec deadline = {
		.tv_sec = (time_t)(deadline_ns / NS_PER_SECOND),
		.tv_nsec = (long)(deadline_ns % NS_PER_SECOND),
	};

	assert(lock_debug_only(lock, lock->rank, lock->order));
	int err = pthread_cond_timedwait(&cond->cond, &lock->mutex, &deadline);
	assert(!err || err == ETIMEDOUT);
	return !err;
}

void lock_cond_signal(struct lock_cond *cond)
{
	int err = pthread_cond_signal(&cond->cond);
	assert(!err);
}

void lock_cond_broadcast(struct lock_cond *cond)
{
	int err = pthread_cond_broadcast(&cond->cond);
	assert(!err);
}

#ifdef LOCK_DEBUG
struct lock_entry {
	const void *lock; /* null when released out of turn */
	uint64_t order;
	enum lock_rank rank;
};

static _Thread_local struct {
	size_t count;   /* entries, released ones too */
	size_t holding; /* entries that are held */
	struct lock_entry entries[LOCK_HELD_MAX];
} lock_record;

static bool lock_entry_before(const struct lock_entry *entry, enum lock_rank rank, uint64_t order)
{
	return entry->rank != rank ? entry->rank < rank : entry->order < order;
}

/* The entry of a lock that is held, or null. */
static struct lock_entry *lock_entry_find(const void *lock, enum lock_rank rank, uint64_t order)
{
	size_t low = 0;
	size_t high = lock_record.count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (lock_entry_before(&lock_record.entries[middle], rank, order))
			low = middle + 1;
		else
			high = middle;
	}
	if (low == lock_record.count || lock_record.entries[low].lock != lock)
		return NULL;
	return &lock_record.entries[low];
}

/* Drops the entries that were released out of turn. */
static void lock_record_sweep(void)
{
	size_t kept = 0;

	for (size_t i = 0; i < lock_record.count; i++) {
		if (lock_record.entries[i].lock)
			lock_record.entries[kept++] = lock_record.entries[i];
	}
	assert(kept == lock_record.holding);
	lock_record.count = kept;
}

void lock_debug_push(const void *lock, enum lock_rank rank, uint64_t order)
{
	assert(lock);
	if (lock_record.count == LOCK_HELD_MAX)
		lock_record_sweep();
	assert(lock_record.count < LOCK_HELD_MAX);

	struct lock_entry *entry = &lock_record.entries[lock_record.count];
	if (lock_record.count) /* the lock order, store/lock.h */
		assert(lock_entry_before(entry - 1, rank, order));
	*entry = (struct lock_entry){ .lock = lock, .order = order, .rank = rank };
	lock_record.count++;
	lock_record.holding++;
}

void lock_debug_pop(const void *lock, enum lock_rank rank, uint64_t order)
{
	struct lock_entry *entry = lock_entry_find(lock, rank, order);

	assert(entry); /* this thread holds it */
	entry->lock = NULL;
	lock_record.holding--;
	while (lock_record.count && !lock_record.entries[lock_record.count - 1].lock)
		lock_record.count--;
}

bool lock_debug_held(const void *lock, enum lock_rank rank, uint64_t order)
{
	return lock_entry_find(lock, rank, order);
}

bool lock_debug_only(const void *lock, enum lock_rank rank, uint64_t order)
{
	return lock_record.holding == 1 && lock_debug_held(lock, rank, order);
}

bool lock_debug_none_from(enum lock_rank rank)
{
	size_t count = lock_record.count;
	return !count || lock_record.entries[count - 1].rank < rank;
}
#endif
