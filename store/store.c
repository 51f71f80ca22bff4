/*
 * store.c: opening, closing, and what a store holds and did.
 */
#include "store/store.h"

#include "store/batch.h"
#include "store/reap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int shard_init(struct shard *shard, struct store *s, unsigned id)
{
	shard->store = s;
	shard->id = id;
	shard->keys = 0;
	shard->table_bytes = 0;
	account_init(&shard->account, &s->total);
	memset(&shard->counters, 0, sizeof(shard->counters));
	int err = index_init(&shard->names, shard_name_hash);
	if (err)
		return err;
	err = index_init(&shard->objects, shard_object_hash);
	if (err) {
		index_fini(&shard->names);
		return err;
	}
	wheel_init(&shard->wheel, core_now());
	lock_init(&shard->lock, LOCK_SHARD, id);
	lock_acquire(&shard->lock);
	shard_account_tables(shard);
	lock_release(&shard->lock);
	return 0;
}

/* Frees everything in a shard. Vectors go first: no name is looked up any more. */
static void shard_fini(struct shard *shard)
{
	size_t cursor = 0;
	void *entry;
	while (index_next(&shard->names, &cursor, &entry))
		if (shard_is_link(entry))
			free(shard_link(entry));
	cursor = 0;
	while (index_next(&shard->objects, &cursor, &entry)) {
		struct object *object = entry;
		if (object->extra && wheel_armed(&object->extra->wheel))
			wheel_del(&shard->wheel, &object->extra->wheel);
		if (object_is_dir(object) && object->directory) {
			directory_free(&shard->account, object->directory);
			object->directory = NULL;
		}
		object_free(&shard->account, object);
	}
	index_fini(&shard->names);
	index_fini(&shard->objects);
	lock_fini(&shard->lock);
}

static int root_new(struct store *s, const struct store_options *options)
{
	struct shard *shard = core_shard_of_number(s, STORE_ROOT);
	struct timespec now = core_time();
	uint32_t mode = S_IFDIR | (options->root_mode ? options->root_mode : 0755U);
	int err;
	struct object *root = object_new(&shard->account, STORE_ROOT, mode, 0, 0, true, &err);
	if (!root)
		return err;
	root->directory = directory_new(&shard->account, STORE_ROOT);
	if (!root->directory || index_reserve(&shard->objects)) {
		if (root->directory)
			directory_free(&shard->account, root->directory);
		root->directory = NULL;
		object_free(&shard->account, root);
		return -ENOMEM;
	}
	root->uid = options->root_uid;
	root->gid = options->root_gid;
	root->nlink = 2;
	root->times = (struct object_times){
		now.tv_sec,
		now.tv_sec,
		now.tv_sec,
		(uint32_t)now.tv_nsec,
		(uint32_t)now.tv_nsec,
		(uint32_t)now.tv_nsec,
	};
	index_insert(&shard->objects, hash_number(STORE_ROOT), root);
	return 0;
}

static int options_check(const struct store_options *options, unsigned *shards)
{
	*shards = options->shards ? options->shards : STORE_SHARDS_DEFAULT;
	if (*shards > STORE_SHARDS_MAX || (*shards & (*shards - 1)))
		return -EINVAL;
	if (options->size_bytes > ACCOUNT_BYTES_MAX)
		return -EINVAL;
	return options->ttl_ns_default < 0 ? -EINVAL : 0;
}

int store_open(struct store **out, const struct store_options *options)
{
	unsigned count;
	unsigned made = 0;
	int err = options_check(options, &count);
	if (err)
		return err;
	shard_secret_init();
	struct store *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->shards = aligned_alloc(_Alignof(struct shard), count * sizeof(*s->shards));
	if (!s->shards) {
		free(s);
		return -ENOMEM;
	}
	s->shard_count = count;
	s->shard_shift = CORE_NUMBER_BITS - (unsigned)__builtin_ctz(count);
	s->ttl_ns_default = options->ttl_ns_default;
	lock_rw_init(&s->tree, LOCK_TREE, 0);
	log_init(&s->log);
	account_total_init(&s->total, options->size_bytes);
	atomic_init(&s->counter_next, 1); /* counter 0 is the root's */
	while (made < count && !(err = shard_init(&s->shards[made], s, made)))
		made++;
	if (!err)
		err = root_new(s, options);
	if (!err)
		err = reap_start(s);
	if (err)
		goto undo;
	*out = s;
	return 0;

undo:
	while (made)
		shard_fini(&s->shards[--made]);
	lock_rw_fini(&s->tree);
	free(s->shards);
	free(s);
	return err;
}

void store_close(struct store *s)
{
	reap_stop(s);
	for (unsigned i = 0; i < s->shard_count; i++)
		shard_fini(&s->shards[i]);
	lock_rw_fini(&s->tree);
	free(s->shards);
	free(s);
}

void store_set_events(struct store *s, const struct store_events *events)
{
	s->events = *events;
}

void store_stats(struct store *s, struct store_stats *stats)
{
	struct store_stats sum = {
		.bytes_used = account_used(&s->total),
		.bytes_limit = s->total.limit,
		.sequence = log_sequence(&s->log),
	};
	for (unsigned i = 0; i < s->shard_count; i++) {
		struct shard *shard = &s->shards[i];
		lock_acquire(&shard->lock);
		COUNTER_ADD_ALL(STORE_COUNTERS, &sum, &shard->counters);
		sum.keys += shard->keys;
		sum.objects += index_count(&shard->objects);
		sum.with_ttl += wheel_count(&shard->wheel);
		lock_release(&shard->lock);
	}
	*stats = sum;
}

void store_reset_counters(struct store *s)
{
	for (unsigned i = 0; i < s->shard_count; i++) {
		struct shard *shard = &s->shards[i];
		lock_acquire(&shard->lock);
		COUNTER_RESET_ALL(STORE_COUNTERS, &shard->counters);
		lock_release(&shard->lock);
	}
}
