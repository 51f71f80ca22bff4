/*
 * lock.h: the store's locks: capabilities that clang checks, in an order that debug builds check.
 *
 * The lock order, stated here and nowhere else. A thread takes locks from left to right:
 *
 *   bytes of the WAL queue -> tree -> directories -> shards -> WAL queue -> leaf
 *   (reserved, may wait)      rw      by number     by index   LOCK_LOG    LOCK_LEAF
 *
 * Queue bytes come first because a writer may have to wait for them: a thread that waited with a
 * lock in its hands would stop everybody who needs that lock. Leaf locks (statistics registry,
 * notifier queue) protect a few words, and nothing is taken inside them. Within one rank, locks are
 * taken in ascending order of the number given to lock_init(); two locks of the same rank and
 * number are never held together. Locks may be released in any order.
 *
 * Clang checks that a function marked REQUIRES(x) is called with x held. It cannot check the order,
 * nor a loop that locks many shards, so builds with -DDEBUG=1 keep, per thread, a stack of locks
 * held, and assert at each acquire that (rank, order) rises. Without DEBUG nothing of this remains
 * but rank and order in the struct: its layout is the same in both.
 *
 * Ownership: the caller owns the memory; lock_fini() before it is freed, with nobody holding it.
 * Threads:   every function may be called from any thread; a lock is released by its taker.
 * Errors:    none. What pthreads could report is our own mistake here, and asserted.
 * Units:     deadlines are CLOCK_MONOTONIC nanoseconds.
 */
#ifndef STORE_LOCK_H
#define STORE_LOCK_H

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __clang__
#define LOCK_ATTRIBUTE(x) __attribute__((x))
#else
#define LOCK_ATTRIBUTE(x)
#endif

/* On a struct: it is a lock. */
#define LOCK_CAPABILITY(name) LOCK_ATTRIBUTE(capability(name))

/* On a function: the caller holds the lock, or must not hold it. */
#define REQUIRES(...)        LOCK_ATTRIBUTE(requires_capability(__VA_ARGS__))
#define REQUIRES_SHARED(...) LOCK_ATTRIBUTE(requires_shared_capability(__VA_ARGS__))
#define EXCLUDES(...)        LOCK_ATTRIBUTE(locks_excluded(__VA_ARGS__))

/* On a function: it takes the lock and returns with it, or gives it back. */
#define ACQUIRE(...)        LOCK_ATTRIBUTE(acquire_capability(__VA_ARGS__))
#define ACQUIRE_SHARED(...) LOCK_ATTRIBUTE(acquire_shared_capability(__VA_ARGS__))
#define RELEASE(...)        LOCK_ATTRIBUTE(release_capability(__VA_ARGS__))
#define RELEASE_EITHER(...) LOCK_ATTRIBUTE(release_generic_capability(__VA_ARGS__))
#define ASSERTS_HELD(...)   LOCK_ATTRIBUTE(assert_capability(__VA_ARGS__))

/* For a body that the analysis cannot follow, such as a loop that locks many shards. */
#define NO_THREAD_SAFETY_ANALYSIS LOCK_ATTRIBUTE(no_thread_safety_analysis)

/* Words for the reader: clang 14 rejects the attribute on a field, and 19 reports correct code. */
#define GUARDED_BY(x)

/* Most locks that one thread may hold at once: every shard (1024), and some to spare. */
enum { LOCK_HELD_MAX = 1024 + 128 };

enum lock_rank {
	LOCK_TREE = 1, /* the one tree lock */
	LOCK_DIR,      /* order: directory number */
	LOCK_SHARD,    /* order: shard index */
	LOCK_LOG,      /* WAL queue */
	LOCK_LEAF,     /* nothing is taken inside */
};

/* A mutex. It is not aligned to a cache line; what shares a line with it is up to the embedder. */
struct LOCK_CAPABILITY("mutex") lock {
	pthread_mutex_t mutex;
	uint64_t order;      /* constant */
	enum lock_rank rank; /* constant */
};

/* A read-write lock that prefers writers: a shared holder must not take it again. */
struct LOCK_CAPABILITY("rwlock") lock_rw {
	pthread_rwlock_t rwlock;
	uint64_t order;      /* constant */
	enum lock_rank rank; /* constant */
};

/* A condition that is waited for under a struct lock. */
struct lock_cond {
	pthread_cond_t cond;
};

void lock_init(struct lock *lock, enum lock_rank rank, uint64_t order);
void lock_fini(struct lock *lock);
void lock_rw_init(struct lock_rw *lock, enum lock_rank rank, uint64_t order);
void lock_rw_fini(struct lock_rw *lock);
void lock_cond_init(struct lock_cond *cond);
void lock_cond_fini(struct lock_cond *cond);

/* What this thread holds, known to debug builds only; lock.c says how. Elsewhere these vanish. */
#if defined(DEBUG) && DEBUG
#define LOCK_DEBUG 1
void lock_debug_push(const void *lock, enum lock_rank rank, uint64_t order);
void lock_debug_pop(const void *lock, enum lock_rank rank, uint64_t order);
bool lock_debug_held(const void *lock, enum lock_rank rank, uint64_t order);
bool lock_debug_only(const void *lock, enum lock_rank rank, uint64_t order);
bool lock_debug_none_from(enum lock_rank rank);
#else
#define lock_debug_push(lock, rank, order) ((void)0)
#define lock_debug_pop(lock, rank, order)  ((void)0)
#define lock_debug_held(lock, rank, order) ((void)(lock), true)
#define lock_debug_only(lock, rank, order) ((void)(lock), true)
#define lock_debug_none_from(rank)         ((void)(rank), true)
#endif

static inline void lock_acquire(struct lock *lock) ACQUIRE(lock) NO_THREAD_SAFETY_ANALYSIS;
static inline void lock_acquire(struct lock *lock)
{
	/* before the lock is taken, so that a wrong order is reported and does not deadlock */
	lock_debug_push(lock, lock->rank, lock->order);
	int err = pthread_mutex_lock(&lock->mutex);
	assert(!err);
}

static inline void lock_release(struct lock *lock) RELEASE(lock) NO_THREAD_SAFETY_ANALYSIS;
static inline void lock_release(struct lock *lock)
{
	lock_debug_pop(lock, lock->rank, lock->order);
	int err = pthread_mutex_unlock(&lock->mutex);
	assert(!err);
}

static inline void lock_rw_shared(struct lock_rw *lock)
	ACQUIRE_SHARED(lock) NO_THREAD_SAFETY_ANALYSIS;
static inline void lock_rw_shared(struct lock_rw *lock)
{
	lock_debug_push(lock, lock->rank, lock->order);
	int err = pthread_rwlock_rdlock(&lock->rwlock);
	assert(!err);
}

static inline void lock_rw_exclusive(struct lock_rw *lock) ACQUIRE(lock) NO_THREAD_SAFETY_ANALYSIS;
static inline void lock_rw_exclusive(struct lock_rw *lock)
{
	lock_debug_push(lock, lock->rank, lock->order);
	int err = pthread_rwlock_wrlock(&lock->rwlock);
	assert(!err);
}

/* Releases it whichever way it was taken. */
static inline void lock_rw_release(struct lock_rw *lock)
	RELEASE_EITHER(lock) NO_THREAD_SAFETY_ANALYSIS;
static inline void lock_rw_release(struct lock_rw *lock)
{
	lock_debug_pop(lock, lock->rank, lock->order);
	int err = pthread_rwlock_unlock(&lock->rwlock);
	assert(!err);
}

/* For assertions only: whether this thread holds it. Without DEBUG nobody knows, and it is true. */
static inline bool lock_held(const struct lock *lock)
{
	return lock_debug_held(lock, lock->rank, lock->order);
}

static inline bool lock_rw_held(const struct lock_rw *lock)
{
	return lock_debug_held(lock, lock->rank, lock->order);
}

/* Asserts that this thread holds the lock, and tells clang so, where it cannot follow. */
static inline void lock_assert_held(const struct lock *lock) ASSERTS_HELD(lock);
static inline void lock_assert_held(const struct lock *lock)
{
	assert(lock_held(lock));
}

/* Asserts that this thread holds no lock at all: before a wait for queue bytes, before a reply. */
static inline void lock_assert_none(void)
{
	assert(lock_debug_none_from(LOCK_TREE));
}

/* Asserts that this thread holds no lock of this rank or a later one. */
static inline void lock_assert_none_from(enum lock_rank rank)
{
	assert(lock_debug_none_from(rank));
}

/*
 * Waits for the condition, releasing the lock meanwhile. It must be the only lock held. May return
 * without cause, so it is always called in a loop that checks what is waited for.
 */
void lock_cond_wait(struct lock_cond *cond, struct lock *lock) REQUIRES(lock);

/* The same, until CLOCK_MONOTONIC reaches deadline_ns. Returns false when it has. */
bool lock_cond_wait_until(struct lock_cond *cond, struct lock *lock, uint64_t deadline_ns)
	REQUIRES(lock);

void lock_cond_signal(struct lock_cond *cond);    /* wakes one */
void lock_cond_broadcast(struct lock_cond *cond); /* wakes all */

#endif
