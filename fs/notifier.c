/*
 * notifier.c: one thread, two bounded queues.
 *
 * The kernel takes locks of the inodes concerned when it is notified, and a request in flight may
 * hold them until a handler answers. Hence one thread that holds no lock while it notifies, and
 * that no handler ever waits for.
 *
 *   rechecks  a ring of object numbers, each at most once. A TTL was set on something that the
 *             kernel knows and may believe for ever: its names are to be looked up again, its
 *             attributes asked again. The names are read from the store at the time of notifying,
 *             so that one number is enough however often the TTL is set meanwhile, and a rename
 *             in between does not matter. A set of the same numbers (a hash table with linear
 *             probing, at most half full) tells whether one is queued.
 *   removed   a ring of bytes with one record per name that expired. The kernel drops the name,
 *             and so, when nobody has the file open, its inode: only its FORGET frees our memory.
 *             The directory has changed as well; of a run of records that lie in one batch each
 *             directory is invalidated once, after the names.
 *
 * Neither queue waits for the other to be empty: after NAMES_PER_TURN notifications of rechecks, be
 * it in the middle of an object with many names, comes one batch of removed names. A stop counts
 * between any two notifications.
 *
 * The kernel drops a removed name before it compares what the name stands for. So a name that has
 * been taken again must not be announced: a new directory would lose its mounts, and whoever is in
 * it his path. Hence the look at the store right before. What is made between that look and the
 * kernel's lock of the directory is still hit; the kernel offers nothing that would close this gap.
 *
 * Errors from the kernel are not: -ENOENT says that it does not know the name or inode (any more),
 * and that is as good. The same is true of -ENOTEMPTY and -EBUSY, and of a mount that has ended.
 *
 * Invariants: 1. recheck_count + reserved <= NOTIFIER_RECHECKS_MAX; the object being rechecked is
 * reserved too, so that it can be queued again when memory is short. 2. A record in the ring of
 * bytes is contiguous and aligned to 8; a gap at the end of the ring, where one did not fit,
 * begins with a record of length 0 if there is room for a head. 3. removed_used counts gaps too.
 * 4. The set has the numbers in the ring and no others.
 *
 * Locking: one mutex over both queues. It is never held during a notification.
 */
#include "fs/notifier.h"

#include "fs/compat.h"
#include "store/store.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct record {
	uint64_t directory;
	uint64_t number;
	uint64_t length; /* of the name behind it, 0 = a gap up to the end of the ring */
};

enum {
	RECORD_MAX = sizeof(struct record) + (STORE_NAME_MAX + 1 + 7) / 8 * 8,
	BATCH_BYTES = 16 << 10, /* of removed names, taken out at once: about 500 of them */
	NAMES_PER_TURN = 512,   /* rechecked before removed names have their turn */
	SET_BITS = 19,
	SET_SIZE = 1 << SET_BITS,
	RETRY_NS = 100000000, /* until memory is asked for again */
};

static_assert(sizeof(struct record) % 8 == 0, "records stay aligned");
static_assert(NOTIFIER_REMOVED_BYTES >= 2 * BATCH_BYTES, "a batch is part of the ring");
static_assert(BATCH_BYTES > RECORD_MAX, "a batch has at least one record");
static_assert(SET_SIZE >= 2 * NOTIFIER_RECHECKS_MAX, "the set is at most half full");
static_assert((NOTIFIER_RECHECKS_MAX & (NOTIFIER_RECHECKS_MAX - 1)) == 0, "indices wrap by mask");

struct notifier {
	/* constant after start */
	struct store *store;
	struct fuse_session *session;
	pthread_t thread;
	bool started;

	/* under lock */
	pthread_mutex_t lock;
	pthread_cond_t work; /* something was queued, or stop */
	pthread_cond_t room; /* the ring of bytes has got room, or stop */
	uint64_t *rechecks;
	uint64_t *set; /* 0 = empty */
	size_t recheck_first, recheck_count, reserved;
	unsigned char *removed;
	size_t removed_first, removed_used;

	/* Set under lock, for those who wait. Read between notifications without it, relaxed: to
	 * see it late costs one notification. */
	atomic_bool stop;

	/* the thread's own */
	unsigned char *batch;
	unsigned turn_left; /* notifications until removed names have their turn */
	uint64_t directories[NOTIFIER_DIRECTORIES_MAX];
	size_t directory_count;
};

/* With the NUL behind the name: libfuse sends one byte more than it is told. */
static size_t record_size(size_t length)
{
	return sizeof(struct record) + (length + 1 + 7) / 8 * 8;
}

static bool stopped(const struct notifier *n)
{
	return atomic_load_explicit(&n->stop, memory_order_relaxed);
}

/* ---- the set of numbers that are queued ---- */

static size_t set_home(uint64_t number)
{
	return (size_t)(number * UINT64_C(0x9e3779b97f4a7c15) >> (64 - SET_BITS));
}

/* Where the number is, or else the empty place where it belongs. */
static size_t set_find_locked(const struct notifier *n, uint64_t number)
{
	size_t at = set_home(number);

	while (n->set[at] && n->set[at] != number)
		at = (at + 1) & (SET_SIZE - 1);
	return at;
}

/* Closes the gap, so that no search ends before it has found what lies behind. */
static void set_remove_locked(struct notifier *n, uint64_t number)
{
	size_t gap = set_find_locked(n, number);

	assert(n->set[gap] == number);
	for (size_t at = (gap + 1) & (SET_SIZE - 1); n->set[at]; at = (at + 1) & (SET_SIZE - 1)) {
		size_t from_home = (at - set_home(n->set[at])) & (SET_SIZE - 1);

		if (from_home < ((at - gap) & (SET_SIZE - 1)))
			continue; /* its search begins behind the gap */
		n->set[gap] = n->set[at];
		gap = at;
	}
	n->set[gap] = 0;
}

/* Uses a reservation, or gives it back if the number is queued already. */
static void queue_recheck_locked(struct notifier *n, uint64_t number)
{
	size_t at = set_find_locked(n, number);

	assert(n->reserved > 0);
	n->reserved--;
	if (n->set[at])
		return;
	n->set[at] = number;
	n->rechecks[(n->recheck_first + n->recheck_count) & (NOTIFIER_RECHECKS_MAX - 1)] = number;
	n->recheck_count++;
	assert(n->recheck_count + n->reserved <= NOTIFIER_RECHECKS_MAX);
}

/* 0: there is none. Otherwise its place stays reserved. */
static uint64_t take_recheck_locked(struct notifier *n)
{
	uint64_t number;

	if (n->recheck_count == 0)
		return 0;
	number = n->rechecks[n->recheck_first];
	n->recheck_first = (n->recheck_first + 1) & (NOTIFIER_RECHECKS_MAX - 1);
	n->recheck_count--;
	n->reserved++;
	set_remove_locked(n, number);
	return number;
}

/* ---- removed names ---- */

/* Moves whole records from the ring to n->batch. Returns their bytes. */
static size_t take_removed_locked(struct notifier *n)
{
	size_t taken = 0;

	while (n->removed_used > 0) {
		size_t to_end = NOTIFIER_REMOVED_BYTES - n->removed_first;
		struct record head = { .length = 0 };
		size_t size;

		if (to_end >= sizeof(head))
			memcpy(&head, n->removed + n->removed_first, sizeof(head));
		size = head.length ? record_size(head.length) : to_end;
		if (head.length) {
			if (taken + size > BATCH_BYTES)
				break;
			memcpy(n->batch + taken, n->removed + n->removed_first, size);
			taken += size;
		}
		n->removed_first = (n->removed_first + size) % NOTIFIER_REMOVED_BYTES;
		n->removed_used -= size;
	}
	if (taken > 0)
		pthread_cond_broadcast(&n->room);
	return taken;
}

static void invalidate_directories(struct notifier *n)
{
	for (size_t i = 0; i < n->directory_count; i++)
		(void)fuse_lowlevel_notify_inval_inode(n->session, n->directories[i], 0, 0);
	n->directory_count = 0;
}

static void remember_directory(struct notifier *n, uint64_t directory)
{
	/* Backwards: keys that expire together mostly lie in the same directory. */
	for (size_t i = n->directory_count; i > 0; i--) {
		if (n->directories[i - 1] == directory)
			return;
	}
	if (n->directory_count == NOTIFIER_DIRECTORIES_MAX)
		invalidate_directories(n);
	n->directories[n->directory_count++] = directory;
}

static void announce(struct notifier *n, const struct record *head, const char *name)
{
	struct store_attr taken;

	if (store_lookup(n->store, head->directory, name, head->length, STORE_UNCOUNTED, &taken) !=
	    0)
		(void)fuse_lowlevel_notify_delete(n->session, head->directory, head->number, name,
						  head->length);
	/* Who has it open still: its link count has changed. */
	(void)fuse_lowlevel_notify_inval_inode(n->session, head->number, -1, 0);
	remember_directory(n, head->directory);
}

static void announce_removed(struct notifier *n, size_t bytes)
{
	struct record head;

	for (size_t at = 0; at < bytes && !stopped(n); at += record_size(head.length)) {
		memcpy(&head, n->batch + at, sizeof(head));
		announce(n, &head, (const char *)n->batch + at + sizeof(head));
	}
	if (stopped(n))
		n->directory_count = 0;
	invalidate_directories(n);
}

/* Announces one batch. False: there was none. */
static bool serve_removed(struct notifier *n)
{
	size_t bytes;

	pthread_mutex_lock(&n->lock);
	bytes = take_removed_locked(n);
	pthread_mutex_unlock(&n->lock);
	announce_removed(n, bytes);
	n->turn_left = NAMES_PER_TURN;
	return bytes > 0;
}

/* ---- rechecks ---- */

/* Before each notification. */
static void take_turn(struct notifier *n)
{
	if (n->turn_left == 0)
		(void)serve_removed(n); /* if there was none, the turn is ours again */
	n->turn_left--;
}

static void expire_name(void *context, uint64_t directory, const char *name, size_t length)
{
	struct notifier *n = context;
	char copy[STORE_NAME_MAX + 1]; /* with the NUL that libfuse sends */

	if (stopped(n))
		return;
	assert(length <= STORE_NAME_MAX);
	memcpy(copy, name, length);
	copy[length] = '\0';
	take_turn(n);
	if (compat_expire_entry(n->session, directory, copy, length) == -ENOSYS)
		/* TTLs are for regular files, so dropping the name hurts nobody's directory. */
		(void)fuse_lowlevel_notify_inval_entry(n->session, directory, copy, length);
}

/* Memory is short: the other queue goes on, and this object waits at the end of its own. */
static void postpone(struct notifier *n, uint64_t number)
{
	struct timespec until;
	bool busy = serve_removed(n);

	pthread_mutex_lock(&n->lock);
	queue_recheck_locked(n, number);
	if (!busy && !stopped(n) && clock_gettime(CLOCK_REALTIME, &until) == 0) {
		until.tv_nsec += RETRY_NS;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		(void)pthread_cond_timedwait(&n->work, &n->lock, &until); /* early is fine */
	}
	pthread_mutex_unlock(&n->lock);
}

static void recheck(struct notifier *n, uint64_t number)
{
	/* No names, or no such object: then there is nothing to do. */
	if (store_names(n->store, number, expire_name, n) == -ENOMEM) {
		postpone(n, number);
		return;
	}
	if (!stopped(n)) {
		take_turn(n);
		(void)fuse_lowlevel_notify_inval_inode(n->session, number, -1, 0);
	}
	notifier_cancel(n);
}

static void *run(void *context)
{
	struct notifier *n = context;

	pthread_mutex_lock(&n->lock);
	while (!stopped(n)) {
		/* Rechecks first: until then the kernel believes more than it should. */
		uint64_t number = take_recheck_locked(n);

		if (!number && n->removed_used == 0) {
			pthread_cond_wait(&n->work, &n->lock);
			continue;
		}
		pthread_mutex_unlock(&n->lock);
		if (number)
			recheck(n, number);
		else
			(void)serve_removed(n); /* only this thread takes any out */
		pthread_mutex_lock(&n->lock);
	}
	pthread_mutex_unlock(&n->lock);
	return NULL;
}

/* ---- what others call ---- */

int notifier_reserve(struct notifier *n)
{
	int err = 0;

	pthread_mutex_lock(&n->lock);
	if (n->recheck_count + n->reserved < NOTIFIER_RECHECKS_MAX)
		n->reserved++;
	else
		err = -EBUSY;
	pthread_mutex_unlock(&n->lock);
	return err;
}

void notifier_cancel(struct notifier *n)
{
	pthread_mutex_lock(&n->lock);
	assert(n->reserved > 0);
	n->reserved--;
	pthread_mutex_unlock(&n->lock);
}

void notifier_recheck(struct notifier *n, uint64_t number)
{
	assert(number != 0);
	pthread_mutex_lock(&n->lock);
	queue_recheck_locked(n, number);
	pthread_cond_signal(&n->work);
	pthread_mutex_unlock(&n->lock);
}

/* Where a record of this size goes: leaves a gap if it does not fit before the end. */
static bool place_locked(struct notifier *n, size_t size, size_t *at)
{
	size_t end = (n->removed_first + n->removed_used) % NOTIFIER_REMOVED_BYTES;
	size_t to_end = NOTIFIER_REMOVED_BYTES - end;
	size_t gap = to_end < size ? to_end : 0;

	if (n->removed_used + gap + size > NOTIFIER_REMOVED_BYTES)
		return false;
	if (gap >= sizeof(struct record))
		memset(n->removed + end, 0, sizeof(struct record));
	*at = gap ? 0 : end;
	n->removed_used += gap + size;
	return true;
}

void notifier_removed(struct notifier *n, uint64_t directory, const char *name, size_t length,
		      uint64_t number)
{
	struct record head = { .directory = directory, .number = number, .length = length };
	size_t size = record_size(length);
	size_t at;
	bool placed = false;

	assert(length > 0 && length <= STORE_NAME_MAX);
	pthread_mutex_lock(&n->lock);
	while (!stopped(n) && !(placed = place_locked(n, size, &at)))
		pthread_cond_wait(&n->room, &n->lock);
	if (placed) {
		memcpy(n->removed + at, &head, sizeof(head));
		memcpy(n->removed + at + sizeof(head), name, length);
		n->removed[at + sizeof(head) + length] = '\0';
		pthread_cond_signal(&n->work);
	}
	pthread_mutex_unlock(&n->lock);
}

int notifier_start(struct notifier *n, struct fuse_session *session)
{
	int err;

	assert(!n->started);
	n->session = session;
	err = pthread_create(&n->thread, NULL, run, n);
	if (err)
		return -err;
	n->started = true;
	return 0;
}

void notifier_stop(struct notifier *n)
{
	pthread_mutex_lock(&n->lock);
	atomic_store_explicit(&n->stop, true, memory_order_relaxed);
	pthread_cond_broadcast(&n->work);
	pthread_cond_broadcast(&n->room);
	pthread_mutex_unlock(&n->lock);
	if (n->started)
		pthread_join(n->thread, NULL);
	n->started = false;
}

int notifier_new(struct notifier **out, struct store *store)
{
	struct notifier *n = calloc(1, sizeof(*n));

	if (!n)
		return -ENOMEM;
	n->store = store;
	n->rechecks = malloc(NOTIFIER_RECHECKS_MAX * sizeof(*n->rechecks));
	n->set = calloc(SET_SIZE, sizeof(*n->set)); /* what is not used is not touched */
	n->removed = malloc(NOTIFIER_REMOVED_BYTES);
	n->batch = malloc(BATCH_BYTES);
	if (!n->rechecks || !n->set || !n->removed || !n->batch)
		goto free_memory;
	if (pthread_mutex_init(&n->lock, NULL))
		goto free_memory;
	if (pthread_cond_init(&n->work, NULL))
		goto destroy_lock;
	if (pthread_cond_init(&n->room, NULL))
		goto destroy_work;
	*out = n;
	return 0;

destroy_work:
	pthread_cond_destroy(&n->work);
destroy_lock:
	pthread_mutex_destroy(&n->lock);
free_memory:
	free(n->batch);
	free(n->removed);
	free(n->set);
	free(n->rechecks);
	free(n);
	return -ENOMEM;
}

void notifier_free(struct notifier *n)
{
	if (!n)
		return;
	assert(!n->started);
	pthread_cond_destroy(&n->room);
	pthread_cond_destroy(&n->work);
	pthread_mutex_destroy(&n->lock);
	free(n->batch);
	free(n->removed);
	free(n->set);
	free(n->rechecks);
	free(n);
}
