/*
 * core.c: what the modules of the store share: clocks, numbers, locks of several shards.
 */
#include "store/core.h"

#include <string.h>

uint64_t core_number_new(struct store *s, uint64_t hash)
{
	/* Relaxed: only uniqueness matters. */
	uint64_t counter = atomic_fetch_add_explicit(&s->counter_next, 1, memory_order_relaxed);
	return counter << CORE_NUMBER_BITS | hash >> (64 - CORE_NUMBER_BITS);
}

int64_t core_now(void)
{
	struct timespec now;
	int err = clock_gettime(CLOCK_BOOTTIME, &now);
	assert(!err);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

struct timespec core_time(void)
{
	struct timespec now;
	int err = clock_gettime(CLOCK_REALTIME, &now);
	assert(!err);
	return now;
}

void core_locks_add(struct core_locks *locks, struct shard *shard)
{
	unsigned at = 0;
	while (at < locks->count && locks->shard[at]->id < shard->id)
		at++;
	if (at < locks->count && locks->shard[at] == shard)
		return;
	assert(locks->count < CORE_LOCKS_MAX);
	memmove(&locks->shard[at + 1], &locks->shard[at],
		(locks->count - at) * sizeof(locks->shard[0]));
	locks->shard[at] = shard;
	locks->count++;
}

void core_locks_acquire(const struct core_locks *locks) NO_THREAD_SAFETY_ANALYSIS
{
	for (unsigned i = 0; i < locks->count; i++)
		lock_acquire(&locks->shard[i]->lock);
}

void core_locks_release(const struct core_locks *locks) NO_THREAD_SAFETY_ANALYSIS
{
	for (unsigned i = 0; i < locks->count; i++)
		lock_release(&locks->shard[i]->lock);
}

void core_attr(const struct object *object, int64_t now, struct store_attr *attr)
{
	const struct object_times *t = &object->times;
	bool device = S_ISCHR(object->mode) || S_ISBLK(object->mode);
	int64_t deadline = object_deadline(object);
	if (deadline && !now)
		now = core_now();
	*attr = (struct store_attr){
		.number = object->number,
		.size = device ? 0 : object->size,
		.bytes = object_is_reg(object) ? value_bytes(&object->value) + object->inline_size
					       : object->inline_size,
		.mode = object->mode,
		.uid = object->uid,
		.gid = object->gid,
		.nlink = object->nlink,
		.rdev = device ? (uint32_t)object->size : 0,
		.expired = deadline && deadline <= now,
		.atime = { t->atime_s, t->atime_ns },
		.mtime = { t->mtime_s, t->mtime_ns },
		.ctime = { t->ctime_s, t->ctime_ns },
		.ttl_ns_left = deadline ? deadline - now : INT64_MAX,
	};
}
