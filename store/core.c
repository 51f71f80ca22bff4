/*
 * core.c: what the modules of the store share: clocks, numbers, shards, locks of several shards.
 *
 * An object's number carries its shard in its low ten bits, taken from the hash of its first name:
 * so a key is born in the shard of its name, and one lock and one table walk find both. A rename
 * may part the two: the name is then a `link` in its own shard, and the object stays where it is.
 */
#include "store/core.h"

#include <errno.h>
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

static bool match_object(const void *entry, const void *key)
{
	const struct object *object = entry;
	const uint64_t *number = key;
	return object->number == *number;
}

struct object *shard_object(struct shard *shard, uint64_t number)
{
	return index_find(&shard->objects, hash_number(number), match_object, &number);
}

static bool match_name(const void *entry, const void *key)
{
	const struct core_key *k = key;
	if (shard_is_link(entry)) {
		const struct link *link = shard_link(entry);
		return link->directory == k->directory && link->length == k->length &&
		       !memcmp(link->bytes, k->name, k->length);
	}
	const struct object *object = entry;
	return object->name_directory == k->directory && object->name_length == k->length &&
	       !memcmp(object->tail, k->name, k->length);
}

bool shard_name(struct shard *shard, const struct core_key *key, struct shard_name *found)
{
	void *entry = index_find(&shard->names, key->hash, match_name, key);
	if (!entry)
		return false;
	if (shard_is_link(entry)) {
		struct link *link = shard_link(entry);
		*found = (struct shard_name){ NULL, link, link->number, link->cookie };
	} else {
		struct object *object = entry;
		*found = (struct shard_name){ object, NULL, object->number, object->name_cookie };
	}
	return true;
}

uint64_t shard_name_hash(const void *entry)
{
	if (shard_is_link(entry)) {
		const struct link *link = shard_link(entry);
		return hash_name(link->directory, link->bytes, link->length);
	}
	const struct object *object = entry;
	return hash_name(object->name_directory, object->tail, object->name_length);
}

uint64_t shard_object_hash(const void *entry)
{
	const struct object *object = entry;
	return hash_number(object->number);
}

void shard_account_tables(struct shard *shard)
{
	uint64_t now = index_bytes(&shard->names) + index_bytes(&shard->objects);
	if (now > shard->table_bytes)
		account_force(&shard->account, now - shard->table_bytes);
	else if (now < shard->table_bytes)
		account_uncharge(&shard->account, shard->table_bytes - now);
	shard->table_bytes = now;
}

void shard_wheel(struct shard *shard, struct object *object)
{
	struct object_extra *extra = object->extra;
	if (!extra)
		return;
	struct reaper *reaper = &shard->store->reaper;
	bool was = wheel_armed(&extra->wheel);
	/* What has no name any more expires with its last hold. */
	bool wanted = extra->deadline_ns && object->nlink > 0;
	if (was)
		wheel_del(&shard->wheel, &extra->wheel);
	if (wanted)
		wheel_add(&shard->wheel, &extra->wheel, extra->deadline_ns);
	/* seq_cst, paired with the reaper's: see struct reaper. */
	if (wanted && !was)
		atomic_fetch_add(&reaper->armed, 1);
	else if (was && !wanted)
		atomic_fetch_sub(&reaper->armed, 1);
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
		.bytes = object_is_reg(object) ? value_bytes(&object->value) + object->inline_size :
		                                 object->inline_size,
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
	if (attr->expired)
		attr->nlink = 0;
}
