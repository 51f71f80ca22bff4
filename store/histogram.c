/*
 * histogram.c: log-linear histograms, and sets of them for many threads.
 *
 * A value with its highest bit at position e falls into the row e - LOW_BITS of 64 buckets, and in
 * it where its next 6 bits say: one count-leading-zeros and one shift. The number of values is not
 * kept but summed from the buckets, so that it cannot disagree with them.
 *
 * A set hands each thread a struct histogram_thread through a thread-specific key (a _Thread_local
 * variable could serve one set only), with one slot per operation, made at its first use.
 *  1. All threads' structs are on set->threads, and stay there until the set is freed.
 *  2. A struct is written by the thread whose key holds it; those of dead threads are on set->idle.
 *  3. A slot counts only while slot->epoch == set->epoch.
 *
 * Reset: to zero another thread's counters would race with its load and store. So a reset only
 * begins a new epoch, which makes every slot stale (3), and the owner empties a stale slot before
 * it records into it. Readers and reset hold set->lock, so no epoch begins, and therefore no slot
 * that counts is emptied, while one is read.
 *
 * Locking: set->lock (leaf) for the lists and for the change of epoch. Recording takes it only at
 * the first record of a thread; memory orders are explained where they stand.
 */
#include "store/histogram.h"

#include "store/lock.h"

#include <assert.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum {
	HISTOGRAM_SUBS = 1 << HISTOGRAM_SUB_BITS,
	HISTOGRAM_CACHE_LINE = 64,
};

static_assert(HISTOGRAM_LOW_BITS >= HISTOGRAM_SUB_BITS, "the first row has whole nanoseconds");
static_assert(HISTOGRAM_HIGH_BITS < 64, "the end of the last bucket fits in 64 bits");

/* One operation of one thread. */
struct histogram_slot {
	_Atomic uint64_t epoch;
	_Atomic uint64_t errors;
	struct histogram histogram;
};

struct histogram_thread {
	/* constant */
	struct histogram_set *set;
	struct histogram_thread *next; /* on set->threads */

	/* under set->lock */
	struct histogram_thread *next_idle GUARDED_BY(set->lock);

	/* atomic, written by the owner */
	_Atomic(struct histogram_slot *) slots[];
};

struct histogram_set {
	/* constant */
	pthread_key_t key;
	unsigned operations;

	/* atomic */
	_Atomic uint64_t epoch; /* written under lock */
	_Atomic uint64_t dropped;

	/* under lock */
	struct lock lock;
	struct histogram_thread *threads GUARDED_BY(lock);
	struct histogram_thread *idle GUARDED_BY(lock);
};

/* Relaxed: the numbers publish nothing, and each is read by itself. */
static uint64_t histogram_load(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

static void histogram_store(_Atomic uint64_t *word, uint64_t value)
{
	atomic_store_explicit(word, value, memory_order_relaxed);
}

/* There is one writer, so this needs no locked instruction. */
static void histogram_add(_Atomic uint64_t *word, uint64_t n)
{
	histogram_store(word, histogram_load(word) + n);
}

unsigned histogram_bucket(uint64_t ns)
{
	if (ns < UINT64_C(1) << HISTOGRAM_LOW_BITS)
		return 0;
	if (ns >= UINT64_C(1) << HISTOGRAM_HIGH_BITS)
		return HISTOGRAM_BUCKETS - 1;

	unsigned top = 63 - (unsigned)__builtin_clzll(ns);
	unsigned sub = (unsigned)(ns >> (top - HISTOGRAM_SUB_BITS)); /* SUBS .. 2 * SUBS - 1 */
	return ((top - HISTOGRAM_LOW_BITS) << HISTOGRAM_SUB_BITS) + sub - HISTOGRAM_SUBS;
}

uint64_t histogram_bucket_lowest_ns(unsigned index)
{
	assert(index < HISTOGRAM_BUCKETS);
	unsigned row = index >> HISTOGRAM_SUB_BITS;
	uint64_t sub = HISTOGRAM_SUBS + (index & (HISTOGRAM_SUBS - 1));
	return sub << (row + HISTOGRAM_LOW_BITS - HISTOGRAM_SUB_BITS);
}

uint64_t histogram_bucket_highest_ns(unsigned index)
{
	unsigned row = index >> HISTOGRAM_SUB_BITS;
	uint64_t width = UINT64_C(1) << (row + HISTOGRAM_LOW_BITS - HISTOGRAM_SUB_BITS);
	return histogram_bucket_lowest_ns(index) + width - 1;
}

uint64_t histogram_bucket_count(const struct histogram *h, unsigned index)
{
	assert(index < HISTOGRAM_BUCKETS);
	/* Acquire: pairs with the release in histogram_record(). */
	return atomic_load_explicit(&h->counts[index], memory_order_acquire);
}

void histogram_record(struct histogram *h, uint64_t ns)
{
	_Atomic uint64_t *count = &h->counts[histogram_bucket(ns)];

	if (ns > histogram_load(&h->max_ns))
		histogram_store(&h->max_ns, ns);
	histogram_add(&h->sum_ns, ns);
	/*
	 * The count last, with release: pairs with the acquire in histogram_bucket_count(), so that
	 * no value is counted and larger than the maximum.
	 */
	atomic_store_explicit(count, histogram_load(count) + 1, memory_order_release);
}

void histogram_reset(struct histogram *h)
{
	histogram_store(&h->max_ns, 0);
	histogram_store(&h->sum_ns, 0);
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		histogram_store(&h->counts[i], 0);
}

/* Counts first: see histogram_record(). */
void histogram_merge(struct histogram *into, const struct histogram *from)
{
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		histogram_add(&into->counts[i], histogram_bucket_count(from, i));
	histogram_add(&into->sum_ns, histogram_load(&from->sum_ns));

	uint64_t max_ns = histogram_load(&from->max_ns);
	if (max_ns > histogram_load(&into->max_ns))
		histogram_store(&into->max_ns, max_ns);
}

uint64_t histogram_count(const struct histogram *h)
{
	uint64_t count = 0;

	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		count += histogram_bucket_count(h, i);
	return count;
}

uint64_t histogram_max_ns(const struct histogram *h)
{
	return histogram_load(&h->max_ns);
}

uint64_t histogram_sum_ns(const struct histogram *h)
{
	return histogram_load(&h->sum_ns);
}

/* What the values in a bucket are reported as. The last has no end but the maximum. */
static uint64_t histogram_bucket_value(unsigned index, uint64_t max_ns)
{
	uint64_t highest = histogram_bucket_highest_ns(index);
	return highest < max_ns && index < HISTOGRAM_BUCKETS - 1 ? highest : max_ns;
}

/* Of count values in ascending order, the first with permille / 1000 of them at or before it. */
static uint64_t histogram_rank(uint64_t count, unsigned permille)
{
	/* count * permille / 1000, rounded up, without overflow */
	uint64_t rank = count / 1000 * permille + (count % 1000 * permille + 999) / 1000;
	return rank ? rank : 1;
}

/*
 * Finds several percentiles, ascending, in one pass. While somebody records, the buckets may have
 * grown since they were counted, so a rank is always found.
 */
static void histogram_percentiles(const struct histogram *h, uint64_t count,
				  const unsigned *permilles, uint64_t *values, unsigned wanted)
{
	uint64_t max_ns = histogram_max_ns(h);
	uint64_t seen = 0;
	unsigned done = 0;

	for (unsigned i = 0; i < HISTOGRAM_BUCKETS && done < wanted; i++) {
		seen += histogram_bucket_count(h, i);
		while (done < wanted && count && seen >= histogram_rank(count, permilles[done]))
			values[done++] = histogram_bucket_value(i, max_ns);
	}
	while (done < wanted) /* nothing recorded */
		values[done++] = 0;
}

uint64_t histogram_percentile(const struct histogram *h, unsigned permille)
{
	uint64_t value;

	assert(permille <= 1000);
	histogram_percentiles(h, histogram_count(h), &permille, &value, 1);
	return value;
}

void histogram_summarise(const struct histogram *h, struct histogram_summary *summary)
{
	static const unsigned permilles[] = { 500, 900, 950, 990, 999 };
	enum { WANTED = sizeof(permilles) / sizeof(permilles[0]) };
	uint64_t values[WANTED];
	uint64_t count = histogram_count(h);

	histogram_percentiles(h, count, permilles, values, WANTED);
	*summary = (struct histogram_summary){
		.count = count,
		.p50_ns = values[0],
		.p90_ns = values[1],
		.p95_ns = values[2],
		.p99_ns = values[3],
		.p999_ns = values[4],
		.max_ns = histogram_max_ns(h),
		.sum_ns = histogram_sum_ns(h),
	};
}

/* The key's destructor: a thread that has recorded is exiting. */
static void histogram_thread_exit(void *argument)
{
	struct histogram_thread *thread = argument;
	struct histogram_set *set = thread->set;

	lock_acquire(&set->lock);
	thread->next_idle = set->idle;
	set->idle = thread;
	lock_release(&set->lock);
}

static struct histogram_thread *histogram_thread_new(struct histogram_set *set)
{
	struct histogram_thread *thread;
	size_t slots_size = set->operations * sizeof(thread->slots[0]);

	thread = calloc(1, sizeof(*thread) + slots_size);
	if (thread)
		thread->set = set;
	return thread;
}

/* Gives this thread a struct of its own: a dead thread's, or a new one. Null without memory. */
static struct histogram_thread *histogram_thread_attach(struct histogram_set *set)
{
	struct histogram_thread *fresh = NULL;
	struct histogram_thread *thread;

	lock_acquire(&set->lock);
	thread = set->idle;
	if (thread)
		set->idle = thread->next_idle;
	lock_release(&set->lock);

	if (!thread) {
		fresh = histogram_thread_new(set);
		thread = fresh;
	}
	if (!thread)
		return NULL;
	if (pthread_setspecific(set->key, thread) != 0) {
		/* No memory for the key's second level: keep a used struct, its counts matter. */
		if (fresh)
			free(fresh);
		else
			histogram_thread_exit(thread);
		return NULL;
	}
	if (fresh) {
		lock_acquire(&set->lock);
		fresh->next = set->threads;
		set->threads = fresh;
		lock_release(&set->lock);
	}
	return thread;
}

/* The slot of this thread and operation, made if need be. Null without memory. */
static struct histogram_slot *
histogram_slot_make(struct histogram_set *set, struct histogram_thread *thread, unsigned operation)
{
	struct histogram_slot *slot;
	size_t line = HISTOGRAM_CACHE_LINE; /* no neighbour's writes on our lines */

	if (!thread)
		thread = histogram_thread_attach(set);
	if (!thread)
		return NULL;
	slot = atomic_load_explicit(&thread->slots[operation], memory_order_relaxed);
	if (slot) /* a dead thread's */
		return slot;

	slot = aligned_alloc(line, (sizeof(*slot) + line - 1) / line * line);
	if (!slot)
		return NULL;
	memset(slot, 0, sizeof(*slot)); /* epoch 0 is never current: the slot is stale */
	/* Release: pairs with the acquire in histogram_set_read(), which must see it zeroed. */
	atomic_store_explicit(&thread->slots[operation], slot, memory_order_release);
	return slot;
}

/* Empties a slot that was written before the last reset. By its owner. */
static void histogram_slot_renew(struct histogram_slot *slot, uint64_t epoch)
{
	histogram_reset(&slot->histogram);
	histogram_store(&slot->errors, 0);
	/* Release: pairs with the acquire in histogram_set_read(), which must see it empty. */
	atomic_store_explicit(&slot->epoch, epoch, memory_order_release);
}

struct histogram_set *histogram_set_new(unsigned operations)
{
	assert(operations > 0 && operations <= HISTOGRAM_OPERATIONS_MAX);

	struct histogram_set *set = calloc(1, sizeof(*set));
	if (!set)
		return NULL;
	if (pthread_key_create(&set->key, histogram_thread_exit) != 0) {
		free(set);
		return NULL;
	}
	set->operations = operations;
	histogram_store(&set->epoch, 1);
	lock_init(&set->lock, LOCK_LEAF, (uintptr_t)set);
	return set;
}

void histogram_set_free(struct histogram_set *set)
{
	if (!set)
		return;
	int err = pthread_key_delete(set->key);
	assert(!err);

	struct histogram_thread *next;
	for (struct histogram_thread *thread = set->threads; thread; thread = next) {
		next = thread->next;
		for (unsigned i = 0; i < set->operations; i++)
			free(atomic_load_explicit(&thread->slots[i], memory_order_relaxed));
		free(thread);
	}
	lock_fini(&set->lock);
	free(set);
}

void histogram_set_record(struct histogram_set *set, unsigned operation, uint64_t ns, bool failed)
{
	struct histogram_thread *thread = pthread_getspecific(set->key);
	struct histogram_slot *slot = NULL;

	assert(operation < set->operations);
	if (thread) /* relaxed: our own store, or a dead thread's, whose struct came by the lock */
		slot = atomic_load_explicit(&thread->slots[operation], memory_order_relaxed);
	if (!slot)
		slot = histogram_slot_make(set, thread, operation);
	if (!slot) {
		atomic_fetch_add_explicit(&set->dropped, 1, memory_order_relaxed);
		return;
	}

	/*
	 * Acquire: pairs with the release in histogram_set_reset(), so that a reader of the epoch
	 * before, who held the lock before the reset, cannot see this slot being emptied.
	 */
	uint64_t epoch = atomic_load_explicit(&set->epoch, memory_order_acquire);
	if (histogram_load(&slot->epoch) != epoch)
		histogram_slot_renew(slot, epoch);
	histogram_record(&slot->histogram, ns);
	if (failed) /* Release: pairs with the acquire in histogram_set_read(), for the count */
		atomic_store_explicit(&slot->errors, histogram_load(&slot->errors) + 1,
				      memory_order_release);
}

void histogram_set_read(struct histogram_set *set, unsigned operation, struct histogram *merged,
			uint64_t *errors)
{
	uint64_t failed = 0;

	assert(operation < set->operations);
	histogram_reset(merged);
	lock_acquire(&set->lock);
	uint64_t epoch = histogram_load(&set->epoch); /* changes under this lock only */
	for (struct histogram_thread *thread = set->threads; thread; thread = thread->next) {
		/* Acquire, twice: pairs with histogram_slot_make() and histogram_slot_renew(). */
		struct histogram_slot *slot =
			atomic_load_explicit(&thread->slots[operation], memory_order_acquire);
		if (!slot || atomic_load_explicit(&slot->epoch, memory_order_acquire) != epoch)
			continue;
		/* Acquire, and before the counts: errors never exceed them. */
		failed += atomic_load_explicit(&slot->errors, memory_order_acquire);
		histogram_merge(merged, &slot->histogram);
	}
	lock_release(&set->lock);
	*errors = failed;
}

void histogram_set_reset(struct histogram_set *set)
{
	lock_acquire(&set->lock);
	/* Release: pairs with the acquire in histogram_set_record(). */
	atomic_store_explicit(&set->epoch, histogram_load(&set->epoch) + 1, memory_order_release);
	lock_release(&set->lock);
}

uint64_t histogram_set_dropped(const struct histogram_set *set)
{
	return histogram_load(&set->dropped);
}
