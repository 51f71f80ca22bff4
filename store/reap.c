/*
 * reap.c: the thread that removes what has expired.
 *
 * An expired key is absent the moment its time has come, because every access compares; the reaper
 * only gives the memory back, and tells who may still remember the key. Ten times a second it asks
 * each shard's timing wheel for what is due, a bounded number at a time, and removes each object
 * name by name, as logged changes like any other. When nothing in the store can expire it sleeps.
 *
 * A removal that fails for lack of memory goes back into the wheel, and is due again next time.
 */
#include "store/reap.h"

#include "store/remove.h"

#include <errno.h>
#include <string.h>

/* Any name of the object, if it is still expired. */
static bool reap_next_name(struct store *s, uint64_t number, uint64_t *directory, char *name,
			   size_t *length)
{
	struct shard *shard = core_shard_of_number(s, number);
	struct object_name_ref ref;
	lock_acquire(&shard->lock);
	struct object *object = shard_object(shard, number);
	bool more = object && core_expired(object) && object_name_any(object, &ref);
	if (more) {
		*directory = ref.directory;
		*length = ref.length;
		memcpy(name, ref.bytes, ref.length);
	}
	lock_release(&shard->lock);
	return more;
}

static int reap_name(struct store *s, uint64_t number, uint64_t directory_number, const char *name,
		     size_t length)
{
	struct directory *directory;
	struct names_found found;
	bool known = false;
	int err = directory_enter(s, directory_number, DIRECTORY_SHARED, &directory);
	if (err)
		return err;
	struct shard_key key = shard_key(directory_number, name, length);
	names_find(s, &key, &found);
	/* The name may have moved on since it was read; then the object has another, or none. */
	err = -EAGAIN;
	if (found.state == NAMES_EXPIRED && found.number == number)
		err = remove_expired(s, directory, &key, &found, &known);
	directory_leave(s, directory, DIRECTORY_SHARED);
	if (!err && s->events.removed)
		s->events.removed(s->events.context, directory_number, name, length, number, known);
	return err;
}

/* Puts an object that could not be removed back into the wheel, for the next tick. */
static void reap_again(struct store *s, uint64_t number)
{
	struct shard *shard = core_shard_of_number(s, number);
	lock_acquire(&shard->lock);
	struct object *object = shard_object(shard, number);
	if (object && object->nlink && core_expired(object) &&
	    !wheel_armed(&object->extra->wheel)) {
		wheel_add(&shard->wheel, &object->extra->wheel,
			  core_now() + (int64_t)REAP_TICK_MS * 1000000);
		atomic_fetch_add(&s->reaper.armed, 1);
	}
	lock_release(&shard->lock);
}

static void reap_object(struct store *s, uint64_t number)
{
	char name[STORE_NAME_MAX];
	uint64_t directory;
	size_t length;
	while (reap_next_name(s, number, &directory, name, &length)) {
		int err = reap_name(s, number, directory, name, length);
		if (err && err != -EAGAIN && err != -ENOENT) {
			reap_again(s, number);
			return;
		}
	}
}

/* Takes from the wheel some of what is due, and removes it. True while there is more. */
static bool reap_shard(struct store *s, struct shard *shard, int64_t now)
{
	struct wheel_node *due[REAP_BUDGET];
	uint64_t number[REAP_BUDGET];
	lock_acquire(&shard->lock);
	size_t count = wheel_advance(&shard->wheel, now, due, REAP_BUDGET);
	bool more = wheel_next_ns(&shard->wheel) <= now;
	for (size_t i = 0; i < count; i++) {
		const struct object_extra *extra =
			(const struct object_extra *)((const char *)due[i] -
						      offsetof(struct object_extra, wheel));
		number[i] = extra->object->number;
	}
	lock_release(&shard->lock);
	atomic_fetch_sub(&s->reaper.armed, count);
	for (size_t i = 0; i < count; i++)
		reap_object(s, number[i]);
	return more;
}

void store_reap(struct store *s)
{
	int64_t now = core_now();
	for (unsigned i = 0; i < s->shard_count; i++)
		while (reap_shard(s, &s->shards[i], now))
			;
}

static uint64_t tick_end(void)
{
	struct timespec now;
	int err = clock_gettime(CLOCK_MONOTONIC, &now);
	assert(!err);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec +
	       (uint64_t)REAP_TICK_MS * 1000000;
}

/* Sleeps for a tick, or until something can expire. False when it is time to stop. */
static bool reap_sleep(struct reaper *reaper)
{
	uint64_t end = tick_end();
	lock_acquire(&reaper->lock);
	atomic_store(&reaper->idle, true);
	while (!reaper->stop && !atomic_load(&reaper->armed))
		lock_cond_wait(&reaper->wake, &reaper->lock);
	atomic_store(&reaper->idle, false);
	while (!reaper->stop && lock_cond_wait_until(&reaper->wake, &reaper->lock, end))
		;
	bool stop = reaper->stop;
	lock_release(&reaper->lock);
	return !stop;
}

static void *reap_main(void *arg)
{
	struct store *s = arg;
	while (reap_sleep(&s->reaper))
		store_reap(s);
	return NULL;
}

void reap_wake(struct store *s)
{
	struct reaper *reaper = &s->reaper;
	if (!atomic_load(&reaper->idle))
		return;
	lock_acquire(&reaper->lock);
	lock_cond_signal(&reaper->wake);
	lock_release(&reaper->lock);
}

int reap_start(struct store *s)
{
	struct reaper *reaper = &s->reaper;
	lock_init(&reaper->lock, LOCK_LEAF, 0);
	lock_cond_init(&reaper->wake);
	reaper->stop = false;
	int err = pthread_create(&reaper->thread, NULL, reap_main, s);
	if (!err)
		return 0;
	lock_cond_fini(&reaper->wake);
	lock_fini(&reaper->lock);
	return -err;
}

void reap_stop(struct store *s)
{
	struct reaper *reaper = &s->reaper;
	lock_acquire(&reaper->lock);
	reaper->stop = true;
	lock_cond_signal(&reaper->wake);
	lock_release(&reaper->lock);
	int err = pthread_join(reaper->thread, NULL);
	assert(!err);
	lock_cond_fini(&reaper->wake);
	lock_fini(&reaper->lock);
}
