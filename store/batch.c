/*
 * batch.c: building a batch of primitives, and committing it.
 *
 * Every change of the store, whoever asked for it, is the same few steps under the locks of the
 * shards concerned: prepare (batch_prepare.c: all that can fail), apply (batch_apply.c: nothing
 * can), take a sequence. A replayed log will take the same path with primitives read from disk.
 *
 * What dies is unlinked from every table under the locks, and freed after they are released: the
 * end of a large file must not stop its shard.
 */
#include "store/batch.h"

#include "store/reap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void batch_init(struct batch *b, struct store *s)
{
	b->store = s;
	b->locks.count = 0;
	b->count = 0;
	b->dead_count = 0;
	b->armed = false;
	b->sequence = 0;
	b->larger = NULL;
	b->compact = false;
	b->made.count = 0;
	value_init(&b->fresh);
	value_init(&b->garbage);
}

void batch_lock_number(struct batch *b, uint64_t number)
{
	core_locks_add(&b->locks, core_shard_of_number(b->store, number));
}

void batch_lock_name(struct batch *b, const struct shard_key *key)
{
	core_locks_add(&b->locks, core_shard_of_hash(b->store, key->hash));
}

void batch_lock(struct batch *b)
{
	core_locks_acquire(&b->locks);
}

void batch_unlock(struct batch *b)
{
	core_locks_release(&b->locks);
	b->locks.count = 0;
	for (unsigned i = 0; i < b->dead_count; i++) {
		struct object *object = b->dead[i];
		object_free(&core_shard_of_number(b->store, object->number)->account, object);
	}
	b->dead_count = 0;
	value_fini(&b->garbage);
	if (b->armed)
		reap_wake(b->store);
	b->armed = false;
}

struct batch_op *batch_add(struct batch *b, enum batch_kind kind, struct object *object)
{
	assert(b->count < BATCH_OPS_MAX);
	struct batch_op *op = &b->op[b->count++];
	memset(op, 0, sizeof(*op));
	op->kind = kind;
	op->object = object;
	op->shard = core_shard_of_number(b->store, object->number);
	return op;
}

void batch_touch_directory(struct batch *b, struct object *directory, struct timespec now,
			   int links)
{
	struct batch_op *op = batch_add(b, BATCH_ATTR, directory);
	op->attr.mask = STORE_SET_MTIME | STORE_SET_CTIME | (links ? BATCH_SET_NLINK : 0U);
	op->attr.mtime = op->attr.ctime = now;
	op->attr.nlink = directory->nlink + (uint32_t)links;
}

void batch_name_put(struct batch *b, struct object *object, struct directory *directory,
		    const struct shard_key *key, uint64_t cookie)
{
	struct batch_op *op = batch_add(b, BATCH_NAME_PUT, object);
	op->name.directory = directory;
	op->name.key = *key;
	op->name.cookie = cookie;
}

void batch_name_del(struct batch *b, struct object *object, struct directory *directory,
		    const struct shard_key *key, uint64_t cookie, bool keep_cookie)
{
	struct batch_op *op = batch_add(b, BATCH_NAME_DEL, object);
	op->name.directory = directory;
	op->name.key = *key;
	op->name.cookie = cookie;
	op->name.keep_cookie = keep_cookie;
}

void batch_drop_link(struct batch *b, struct object *object, struct timespec now)
{
	uint32_t left = object_is_dir(object) ? 0 : object->nlink - 1;
	if (!left && !object->holds) {
		batch_add(b, BATCH_OBJECT_DEL, object);
		return;
	}
	struct batch_op *op = batch_add(b, BATCH_ATTR, object);
	op->attr.mask = BATCH_SET_NLINK | STORE_SET_CTIME;
	op->attr.nlink = left;
	op->attr.ctime = now;
	/* Without a name it cannot expire: who has it open may go on writing. */
	if (!left && object_deadline(object) && !core_expired(object))
		batch_add(b, BATCH_TTL, object)->ttl.period_ns = object->extra->period_ns;
}

void batch_kill_setid(struct batch *b, struct object *object)
{
	uint32_t kill = S_ISUID;
	if (object->mode & S_IXGRP)
		kill |= S_ISGID;
	if (!object_is_dir(object) && (object->mode & kill)) {
		struct batch_op *op = batch_add(b, BATCH_ATTR, object);
		op->attr.mask = STORE_SET_MODE;
		op->attr.mode = object->mode & ~kill;
	}
	if (object_xattr_find(object, "security.capability"))
		batch_add(b, BATCH_XATTR_DEL, object)->xattr.name = "security.capability";
}

void batch_arm(struct batch *b, struct object *object)
{
	if (!object->extra || object->extra->period_ns <= 0)
		return;
	struct batch_op *op = batch_add(b, BATCH_TTL, object);
	op->ttl.period_ns = object->extra->period_ns;
	op->ttl.deadline_ns = core_deadline(op->ttl.period_ns);
}

void batch_rearm(struct batch *b, struct object *object)
{
	if (object_deadline(object))
		batch_arm(b, object);
}

static void discard(struct account *account, struct object *object)
{
	if (object_is_dir(object) && object->directory) {
		directory_free(account, object->directory);
		object->directory = NULL;
	}
	object_free(account, object);
}

void batch_cancel(struct batch *b)
{
	for (struct batch_op *op = b->op; op < b->op + b->count; op++) {
		struct account *account = &op->shard->account;
		if (op->kind == BATCH_OBJECT_PUT) {
			discard(account, op->object);
		} else if (op->kind == BATCH_NAME_PUT) {
			if (op->name.more)
				object_name_free(account, op->name.more);
			if (op->name.link)
				shard_link_free(core_shard_of_hash(b->store, op->name.key.hash),
						op->name.link);
		} else if (op->kind == BATCH_XATTR_PUT) {
			object_xattr_free(account, op->xattr.fresh);
		}
	}
	if (b->larger)
		object_free(&core_shard_of_number(b->store, b->larger->number)->account, b->larger);
	b->larger = NULL;
	value_parts_free(&b->made);
	value_fini(&b->fresh);
	b->count = 0;
}

#ifdef LOCK_DEBUG
enum { CHECK_COUNT_MAX = 512 }; /* entries of an index or a vector that are verified each time */

/* In a debug build: what a batch touched is sound afterwards; large tables only now and then. */
static void check_applied(const struct batch *b)
{
	bool all = b->sequence % 4096 == 0;
	for (const struct batch_op *op = b->op; op < b->op + b->count; op++) {
		const struct shard *shard = op->shard;
		bool dead = false;
		for (unsigned i = 0; i < b->dead_count; i++)
			dead = dead || b->dead[i] == op->object;
		/* Names and link counts agree at the end of a batch only, which is here. */
		assert(dead || !object_check(op->object));
		if (all || index_count(&shard->objects) <= CHECK_COUNT_MAX) {
			assert(!index_check(&shard->objects));
			assert(!index_check(&shard->names));
			assert(!wheel_check(&shard->wheel));
		}
		if (op->kind != BATCH_NAME_PUT && op->kind != BATCH_NAME_DEL)
			continue;
		const struct dirvec *entries =
			op->name.directory ? &op->name.directory->entries : NULL;
		if (entries && (all || dirvec_count(entries) <= CHECK_COUNT_MAX))
			assert(!dirvec_check(entries));
	}
}
#endif

int batch_commit(struct batch *b)
{
	for (unsigned i = 0; i < b->count; i++) {
		int err = batch_prepare(b, &b->op[i]);
		if (err) {
			batch_cancel(b);
			return err;
		}
	}
	for (unsigned i = 0; i < b->count; i++)
		batch_apply(b, &b->op[i]);
	b->sequence = log_append(&b->store->log, b);
	counter_add_locked(&b->op[0].shard->counters.changes, 1);
#ifdef LOCK_DEBUG
	check_applied(b);
#endif
	b->count = 0;
	return 0;
}
