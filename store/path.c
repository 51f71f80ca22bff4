/*
 * path.c: keys by path, for the bench, tools and tests.
 *
 * A path is resolved name by name, each with one lookup. A key that exists is overwritten in one
 * batch: its old value goes and the new one comes, so that no reader sees half of either.
 */
#include "store/batch.h"
#include "store/names.h"

#include <errno.h>
#include <string.h>

/* Finds the directory of a path, and its last name. */
static int path_split(struct store *s, const char *path, uint64_t *directory, const char **name,
		      size_t *length)
{
	struct store_attr attr;
	*directory = STORE_ROOT;
	for (;;) {
		const char *slash = strchr(path, '/');
		if (!slash)
			break;
		int err = store_lookup(s, *directory, path, (size_t)(slash - path), 0, &attr);
		if (err)
			return err;
		*directory = attr.number;
		path = slash + 1;
	}
	*name = path;
	*length = strlen(path);
	return names_valid(path, *length);
}

ssize_t store_get(struct store *s, const char *path, void *value, size_t size)
{
	struct store_item item = { .buffer = value, .capacity = size };
	uint64_t directory;
	int err = path_split(s, path, &directory, &item.name, &item.length);
	if (err)
		return err;
	ssize_t found = store_mget(s, directory, &item, 1);
	return found < 0 ? found : item.size;
}

struct set {
	const void *value;
	size_t size;
	int64_t ttl_ns;
	struct value_parts parts; /* the bytes, if they are too many to copy under a lock */
};

static int set_check(const struct object *object)
{
	if (!object || !object->nlink || core_expired(object))
		return -ESTALE; /* it went since it was looked up */
	if (object_is_dir(object))
		return -EISDIR;
	return object_is_reg(object) ? 0 : -EINVAL;
}

/* Overwrites an object whose shard the batch has locked. -ESTALE: it is gone. */
static int set_object(struct batch *b, struct object *object, struct set *set)
{
	int err = set_check(object);
	if (err)
		return err;
	struct batch_op *op = batch_add(b, BATCH_ATTR, object);
	struct shard *shard = op->shard;
	op->attr.mask = STORE_SET_MTIME | STORE_SET_CTIME;
	op->attr.mtime = op->attr.ctime = core_time();
	if (set->ttl_ns == STORE_TTL_DEFAULT) {
		batch_rearm(b, object);
	} else if (set->ttl_ns || object_deadline(object)) {
		op = batch_add(b, BATCH_TTL, object);
		op->ttl.period_ns = set->ttl_ns;
		op->ttl.deadline_ns = set->ttl_ns ? core_deadline(set->ttl_ns) : 0;
	}
	op = batch_add(b, BATCH_DATA, object);
	op->data.replace = true;
	op->data.bytes = set->value;
	op->data.length = op->data.size = set->size;
	op->data.parts = set->parts.count ? &set->parts : NULL;
	err = batch_commit(b);
	if (!err)
		counter_add_locked(&shard->counters.bytes_written, set->size);
	return err;
}

/* Overwrites what the name leads to: an object in the name's shard, locked with it, but for
 * links. */
static int set_existing(struct store *s, const struct shard_key *key, struct set *set)
{
	struct shard_name found = { 0 };
	struct batch b;
	batch_init(&b, s);
	batch_lock_name(&b, key);
	batch_lock(&b);
	/* or found.object stays NULL, which set_object() checks */
	(void)core_name(s, key, &found);
	if (found.link) {
		/* Both shards together, or a rename could come between, and the value would reach
		 * the object under its new name. */
		uint64_t number = found.number;
		batch_unlock(&b);
		batch_lock_name(&b, key);
		batch_lock_number(&b, number);
		batch_lock(&b);
		if (core_name(s, key, &found) && found.number == number)
			found.object = core_object(s, number);
		else
			found.object = NULL;
	}
	int err = set_object(&b, found.object, set);
	batch_unlock(&b);
	return err;
}

static int set_once(struct store *s, const struct shard_key *key, struct set *set)
{
	const struct store_birth birth = { .mode = S_IFREG | 0644 };
	int err = set_existing(s, key, set);
	if (err != -ESTALE)
		return err;
	const struct names_birth n = {
		.birth = &birth,
		.ttl_ns = set->ttl_ns,
		.bytes = set->value,
		.size = set->size,
		.parts = set->parts.count ? &set->parts : NULL,
	};
	return names_create(s, key->directory, key->name, key->length, &n, 0, NULL);
}

int store_set(struct store *s, const char *path, const void *value, size_t size, int64_t ttl_ns)
{
	struct set set = { .value = value, .size = size, .ttl_ns = ttl_ns };
	uint64_t directory;
	const char *name;
	size_t length;
	if (size > STORE_IO_MAX)
		return -EFBIG;
	/* the clock is asked only if it can matter */
	if (ttl_ns < STORE_TTL_DEFAULT || (ttl_ns > 0 && ttl_ns > INT64_MAX - core_now()))
		return -EINVAL;
	int err = path_split(s, path, &directory, &name, &length);
	if (!err)
		err = log_reserve(&s->log, size);
	if (err)
		return err;
	struct shard_key key = shard_key(directory, name, length);
	struct shard *shard = core_shard_of_hash(s, key.hash);
	index_prefetch(&shard->names, key.hash);
	/* The account of a key's shard is known before the key is: they share the name's hash. */
	if (size > VALUE_APPEND_MAX)
		err = value_parts_new(&set.parts, &shard->account, 0, value, size, false);
	if (err)
		return err;
	/* Between the two attempts at it, a key may come or go. */
	do
		err = set_once(s, &key, &set);
	while (err == -EEXIST || err == -ESTALE);
	value_parts_free(&set.parts);
	return err;
}

int store_del(struct store *s, const char *path)
{
	uint64_t directory;
	const char *name;
	size_t length;
	int err = path_split(s, path, &directory, &name, &length);
	return err ? err : store_unlink(s, directory, name, length, NULL);
}
