/*
 * shard.c: one shard: finding objects and names, and keeping its wheel and account true.
 *
 * An object's number carries its shard in its low ten bits, taken from the hash of its first name:
 * so a key is born in the shard of its name, and one lock and one table walk find both. A rename
 * may part the two: the name is then a `link` in its own shard, and the object stays where it is.
 */
#include "store/shard.h"

#include "store/core.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

uint64_t shard_secret;

static void secret_choose(void)
{
	/* 256 bytes and less are never given in part, nor interrupted. Before the machine has any
	 * randomness the clock must do. */
	if (!shard_secret &&
	    getrandom(&shard_secret, sizeof(shard_secret), GRND_NONBLOCK) != sizeof(shard_secret))
		shard_secret = (uint64_t)core_now();
}

void shard_secret_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	int err = pthread_once(&once, secret_choose);
	assert(!err);
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
	const struct shard_key *k = key;
	if (shard_is_link(entry)) {
		const struct link *link = shard_link(entry);
		return link->directory == k->directory && link->length == k->length &&
		       !memcmp(link->bytes, k->name, k->length);
	}
	const struct object *object = entry;
	return object->name_directory == k->directory && object->name_length == k->length &&
	       !memcmp(object->tail, k->name, k->length);
}

bool shard_name(struct shard *shard, const struct shard_key *key, struct shard_name *found)
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
		return shard_hash(link->directory, link->bytes, link->length);
	}
	const struct object *object = entry;
	return shard_hash(object->name_directory, object->tail, object->name_length);
}

uint64_t shard_object_hash(const void *entry)
{
	const struct object *object = entry;
	return hash_number(object->number);
}

struct link *shard_link_new(struct shard *shard, const struct shard_key *key, uint64_t number)
{
	size_t size = sizeof(struct link) + key->length;
	struct link *link = malloc(size);
	if (!link)
		return NULL;
	account_force(&shard->account, account_class(size));
	*link = (struct link){ .directory = key->directory,
			       .number = number,
			       .length = (uint8_t)key->length };
	memcpy(link->bytes, key->name, key->length);
	return link;
}

void shard_link_free(struct shard *shard, struct link *link)
{
	account_uncharge(&shard->account, account_class(sizeof(*link) + link->length));
	free(link);
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
