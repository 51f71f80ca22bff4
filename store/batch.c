/*
 * batch.c: preparing and applying primitives.
 *
 * Every change of the store, whoever asked for it, is the same few steps under the locks of the
 * shards concerned: prepare (all that can fail), apply (nothing can), take a sequence. A replayed
 * log will take the same path with primitives read from disk.
 *
 * A change of a value stands last in its batch, because part of it takes effect while it is
 * prepared: an append in place, a hole, a reservation or a shared range either succeeds, and then
 * nothing that follows can fail, or it fails and has changed nothing. Turning inline bytes into
 * extents on the way changes no byte that anybody can read, so it need not be undone.
 *
 * Where a name is kept: embedded in its object if both live in the same shard and it fits the room
 * made at birth; else as a link in the name's shard, and in the object's list of names.
 *
 * What dies is unlinked from every table under the locks, and freed after they are released: the
 * end of a large file must not stop its shard.
 */
#include "store/batch.h"

#include "store/extent.h"
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
	b->made.count = 0;
	value_init(&b->fresh);
	value_init(&b->garbage);
}

void batch_lock_number(struct batch *b, uint64_t number)
{
	core_locks_add(&b->locks, core_shard_of_number(b->store, number));
}

void batch_lock_name(struct batch *b, const struct core_key *key)
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
                    const struct core_key *key, uint64_t cookie)
{
	struct batch_op *op = batch_add(b, BATCH_NAME_PUT, object);
	op->name.directory = directory;
	op->name.key = *key;
	op->name.cookie = cookie;
}

void batch_name_del(struct batch *b, struct object *object, struct directory *directory,
                    const struct core_key *key, uint64_t cookie, bool keep_cookie)
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
	if (object_is_reg(object) && (object->mode & kill)) {
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
	op->ttl.deadline_ns = core_now() + op->ttl.period_ns;
}

void batch_rearm(struct batch *b, struct object *object)
{
	if (object_deadline(object))
		batch_arm(b, object);
}

/* ---- prepare ---- */

/* Whether the name may be embedded when its turn comes: free now, or freed by this batch before. */
static bool name_embeds(const struct batch *b, const struct batch_op *op)
{
	const struct object *object = op->object;
	const struct batch_name *name = &op->name;
	if (core_shard_of_hash(b->store, name->key.hash) != op->shard ||
	    name->key.length > object->name_room)
		return false;
	if (!object->name_directory)
		return true;
	for (const struct batch_op *other = b->op; other < op; other++)
		if (other->kind == BATCH_NAME_DEL && other->object == object &&
		    other->name.key.directory == object->name_directory &&
		    other->name.cookie == object->name_cookie)
			return true;
	return false;
}

static struct link *link_new(struct shard *shard, const struct core_key *key, uint64_t number)
{
	size_t size = sizeof(struct link) + key->length;
	struct link *link = malloc(size);
	if (!link)
		return NULL;
	account_force(&shard->account, account_class(size));
	*link = (struct link){ .directory = key->directory, .number = number,
		               .length = (uint8_t)key->length };
	memcpy(link->bytes, key->name, key->length);
	return link;
}

static void link_free(struct shard *shard, struct link *link)
{
	account_uncharge(&shard->account, account_class(sizeof(*link) + link->length));
	free(link);
}

static int prepare_name_put(struct batch *b, struct batch_op *op)
{
	struct batch_name *name = &op->name;
	struct shard *shard = core_shard_of_hash(b->store, name->key.hash);
	if (!name_embeds(b, op)) {
		struct object_extra *extra;
		int err = object_extra(&op->shard->account, op->object, &extra);
		if (err)
			return err;
		name->more = object_name_new(&op->shard->account, name->key.directory,
		                             name->key.name, name->key.length);
		name->link = link_new(shard, &name->key, op->object->number);
		if (!name->more || !name->link)
			return -ENOMEM;
	}
	/* Two names at most are put in one batch, and perhaps into the same shard. */
	int err = index_reserve_many(&shard->names, 2);
	if (!err && name->directory && !name->cookie)
		err = dirvec_reserve(&name->directory->entries);
	return err;
}

/* Moves inline bytes into the map, so that what follows need not know of them. */
static int spill(struct object *object, struct account *account)
{
	if (!object->inline_size)
		return 0;
	struct value_parts parts;
	/* Past the bound: it frees as much again once the object goes, and is 256 bytes at most. */
	int err = value_parts_new(&parts, account, 0, object_inline(object), object->inline_size,
	                          true);
	if (err)
		return err;
	err = value_prepare(&object->value, account, 0, object->inline_size);
	if (err) {
		value_parts_free(&parts);
		return err;
	}
	value_install(&object->value, account, 0, object->inline_size, &parts);
	object->inline_size = 0;
	return 0;
}

static int prepare_inline(struct batch *b, struct batch_op *op, size_t end)
{
	struct object *object = op->object;
	int err = 0;
	b->how = BATCH_INLINE;
	if (end <= object->inline_room)
		return 0;
	/* As much room as the allocation has anyway. */
	uint64_t class = object_charge(object->name_room, end) - ACCOUNT_CHUNK_HEADER;
	size_t room = (size_t)class - offsetof(struct object, tail) - object->name_room;
	b->larger = object_new(&op->shard->account, object->number, object->mode,
	                       object->name_room, room, false, &err);
	return err;
}

/* The parts that the caller filled, or new ones. */
static int take_parts(struct batch *b, struct batch_op *op, bool force)
{
	struct batch_data *data = &op->data;
	if (data->parts && data->parts->count) {
		b->made = *data->parts;
		data->parts->count = 0;
		return 0;
	}
	return value_parts_new(&b->made, &op->shard->account, data->offset, data->bytes,
	                       data->length, force);
}

/* Nobody sees the new value before it takes the place of the old one. */
static int prepare_replace(struct batch *b, struct batch_op *op)
{
	struct batch_data *data = &op->data;
	struct account *account = &op->shard->account;
	if (data->length <= STORE_SMALL_MAX)
		return prepare_inline(b, op, data->length);
	b->how = BATCH_REPLACE;
	int err = take_parts(b, op, false);
	if (!err)
		err = value_prepare(&b->fresh, account, 0, data->length);
	if (!err)
		value_install(&b->fresh, account, 0, data->length, &b->made);
	return err;
}

static int prepare_data(struct batch *b, struct batch_op *op)
{
	struct batch_data *data = &op->data;
	struct object *object = op->object;
	struct account *account = &op->shard->account;
	uint64_t end = data->offset + data->length;
	if (data->replace)
		return prepare_replace(b, op);
	if (!object->value.root && end <= STORE_SMALL_MAX)
		return prepare_inline(b, op, end > object->inline_size ? end : object->inline_size);
	if (object->value.root && !data->parts &&
	    value_append(&object->value, data->offset, data->bytes, data->length)) {
		b->how = BATCH_APPENDED;
		return 0;
	}
	b->how = BATCH_INSTALL;
	bool covered = data->offset == 0 && data->length >= object->inline_size;
	int err = covered ? 0 : spill(object, account);
	if (err)
		return err;
	/* At the bound, what is only overwritten must not fail: the old bytes make room for the new, at
	 * once or, if they are part of larger extents, by compacting those first. */
	bool promised = account_free(account->total) < data->length + EXTENT_MAX &&
	                value_owned(&object->value, data->offset, data->length) == data->length;
	if (promised)
		value_compact(&object->value, account, data->offset, data->length);
	err = take_parts(b, op, promised);
	return err ? err : value_prepare(&object->value, account, data->offset, data->length);
}

static int prepare_copy(struct batch_op *op)
{
	struct batch_data *data = &op->data;
	struct account *account = &op->shard->account;
	int err = spill(op->object, account);
	if (!err)
		err = value_clone(&op->object->value, account, data->offset, &data->source->value,
		                  data->source_offset, data->length);
	return err;
}

static int prepare_range(struct batch_op *op)
{
	struct account *account = &op->shard->account;
	struct value *value = &op->object->value;
	int err = spill(op->object, account);
	if (err)
		return err;
	if (op->kind == BATCH_PUNCH)
		return value_punch(value, account, op->data.offset, op->data.length);
	return value_reserve(value, account, op->data.offset, op->data.length);
}

static int prepare(struct batch *b, struct batch_op *op)
{
	struct object_extra *extra;
	switch (op->kind) {
	case BATCH_OBJECT_PUT:
		return index_reserve(&op->shard->objects);
	case BATCH_NAME_PUT:
		return prepare_name_put(b, op);
	case BATCH_TTL:
	case BATCH_XATTR_PUT:
		return object_extra(&op->shard->account, op->object, &extra);
	case BATCH_DATA:
		return prepare_data(b, op);
	case BATCH_COPY:
		return prepare_copy(op);
	case BATCH_PUNCH:
	case BATCH_RESERVE:
		return prepare_range(op);
	case BATCH_OBJECT_DEL:
	case BATCH_NAME_DEL:
	case BATCH_ATTR:
	case BATCH_XATTR_DEL:
	case BATCH_SIZE:
		return 0;
	}
	return -EINVAL;
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
				link_free(core_shard_of_hash(b->store, op->name.key.hash),
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

/* ---- apply: nothing here can fail ---- */

static bool is_key(const struct object *object)
{
	return object_is_reg(object) && object->nlink > 0;
}

static void apply_object_put(struct batch *b, struct batch_op *op)
{
	struct object *object = op->object;
	index_insert(&op->shard->objects, hash_number(object->number), object);
	op->shard->keys += is_key(object);
	shard_wheel(op->shard, object);
	b->armed = b->armed || object_deadline(object);
	shard_account_tables(op->shard);
}

/* A directory that nothing names any more has no names either. */
static void drop_directory(struct batch_op *op)
{
	if (!object_is_dir(op->object) || !op->object->directory)
		return;
	assert(dirvec_count(&op->object->directory->entries) == 0);
	directory_free(&op->shard->account, op->object->directory);
	op->object->directory = NULL;
}

static void apply_object_del(struct batch *b, struct batch_op *op)
{
	struct object *object = op->object;
	assert(!object->holds && b->dead_count < BATCH_DEAD_MAX);
	bool found = index_remove(&op->shard->objects, hash_number(object->number), object);
	assert(found);
	op->shard->keys -= is_key(object);
	object->nlink = 0;
	shard_wheel(op->shard, object);
	drop_directory(op);
	b->dead[b->dead_count++] = object;
	index_step(&op->shard->objects, 1);
	shard_account_tables(op->shard);
}

static void apply_name_put(struct batch *b, struct batch_op *op)
{
	struct batch_name *name = &op->name;
	struct shard *shard = core_shard_of_hash(b->store, name->key.hash);
	struct object *object = op->object;
	if (name->directory) {
		struct dirvec *entries = &name->directory->entries;
		if (!name->cookie) {
			name->cookie = dirvec_append(entries, object->number);
		} else {
			bool found = dirvec_set(entries, name->cookie, object->number);
			assert(found);
		}
		struct shard *home = core_shard_of_number(b->store, name->directory->number);
		directory_account(&home->account, name->directory);
	}
	if (name->link) {
		name->link->cookie = name->more->cookie = name->cookie;
		object_name_add(object, name->more);
		index_insert(&shard->names, name->key.hash, shard_link_mark(name->link));
	} else {
		object_name_embed(object, name->key.directory, name->cookie, name->key.name,
		                  name->key.length);
		index_insert(&shard->names, name->key.hash, object);
	}
	shard_account_tables(shard);
}

static void apply_name_del(struct batch *b, struct batch_op *op)
{
	struct batch_name *name = &op->name;
	struct shard *shard = core_shard_of_hash(b->store, name->key.hash);
	struct shard_name found;
	bool there = shard_name(shard, &name->key, &found);
	assert(there && found.number == op->object->number);
	void *entry = found.link ? shard_link_mark(found.link) : (void *)found.object;
	there = index_remove(&shard->names, name->key.hash, entry);
	assert(there);
	if (found.link)
		link_free(shard, found.link);
	object_name_remove(&op->shard->account, op->object, name->key.directory, name->cookie);
	if (name->directory && !name->keep_cookie) {
		there = dirvec_remove(&name->directory->entries, name->cookie);
		assert(there);
		struct shard *home = core_shard_of_number(b->store, name->directory->number);
		directory_account(&home->account, name->directory);
	}
	index_step(&shard->names, 1);
	shard_account_tables(shard);
}

static void apply_attr(struct batch_op *op)
{
	const struct batch_attr *attr = &op->attr;
	struct object *object = op->object;
	struct object_times *t = &object->times;
	if (attr->mask & STORE_SET_MODE)
		object->mode = (object->mode & S_IFMT) | (attr->mode & ~(uint32_t)S_IFMT);
	if (attr->mask & STORE_SET_UID)
		object->uid = attr->uid;
	if (attr->mask & STORE_SET_GID)
		object->gid = attr->gid;
	if (attr->mask & STORE_SET_ATIME) {
		t->atime_s = attr->atime.tv_sec;
		t->atime_ns = (uint32_t)attr->atime.tv_nsec;
	}
	if (attr->mask & STORE_SET_MTIME) {
		t->mtime_s = attr->mtime.tv_sec;
		t->mtime_ns = (uint32_t)attr->mtime.tv_nsec;
	}
	if (attr->mask & STORE_SET_CTIME) {
		t->ctime_s = attr->ctime.tv_sec;
		t->ctime_ns = (uint32_t)attr->ctime.tv_nsec;
	}
	if (attr->mask & BATCH_SET_NLINK) {
		op->shard->keys -= is_key(object);
		object->nlink = attr->nlink;
		op->shard->keys += is_key(object);
		shard_wheel(op->shard, object);
		if (!attr->nlink)
			drop_directory(op);
	}
}

static void apply_ttl(struct batch *b, struct batch_op *op)
{
	op->object->extra->period_ns = op->ttl.period_ns;
	op->object->extra->deadline_ns = op->ttl.deadline_ns;
	shard_wheel(op->shard, op->object);
	b->armed = b->armed || op->ttl.deadline_ns;
}

static void apply_size(struct batch *b, struct batch_op *op)
{
	struct object *object = op->object;
	uint64_t size = op->data.size;
	if (object->inline_size > size)
		object->inline_size = (uint16_t)size;
	if (object->value.root && !size) {
		assert(!b->garbage.root);
		b->garbage = object->value;
		value_init(&object->value);
	} else if (object->value.root && size < object->size) {
		value_truncate(&object->value, &op->shard->account, size);
	}
	object->size = size;
}

/* Puts the larger copy in the object's place everywhere. */
static void apply_move(struct batch *b, struct batch_op *op)
{
	struct object *old = op->object;
	struct object *new = b->larger;
	bool found = index_replace(&op->shard->objects, hash_number(old->number), old, new);
	assert(found);
	if (old->name_directory) {
		found = index_replace(&op->shard->names, shard_name_hash(old), old, new);
		assert(found);
	}
	object_move(&op->shard->account, old, new);
	b->larger = NULL;
	for (struct batch_op *other = b->op; other < b->op + b->count; other++)
		if (other->object == old)
			other->object = new;
}

static void apply_inline(struct object *object, const struct batch_data *data)
{
	char *bytes = object_inline(object);
	size_t end = data->offset + data->length;
	if (data->offset > object->inline_size)
		memset(bytes + object->inline_size, 0, data->offset - object->inline_size);
	memcpy(bytes + data->offset, data->bytes, data->length);
	if (end > object->inline_size)
		object->inline_size = (uint16_t)end;
}

static void apply_data(struct batch *b, struct batch_op *op)
{
	if (b->larger)
		apply_move(b, op);
	struct batch_data *data = &op->data;
	struct object *object = op->object;
	if (data->replace) {
		b->garbage = object->value;
		object->value = b->fresh;
		value_init(&b->fresh);
		object->inline_size = 0;
	}
	if (b->how == BATCH_INLINE) {
		apply_inline(object, data);
	} else if (b->how == BATCH_INSTALL) {
		object->inline_size = 0;
		value_install(&object->value, &op->shard->account, data->offset, data->length,
		              &b->made);
	}
	object->size = data->size;
}

static void apply(struct batch *b, struct batch_op *op)
{
	switch (op->kind) {
	case BATCH_OBJECT_PUT:
		apply_object_put(b, op);
		break;
	case BATCH_OBJECT_DEL:
		apply_object_del(b, op);
		break;
	case BATCH_NAME_PUT:
		apply_name_put(b, op);
		break;
	case BATCH_NAME_DEL:
		apply_name_del(b, op);
		break;
	case BATCH_ATTR:
		apply_attr(op);
		break;
	case BATCH_TTL:
		apply_ttl(b, op);
		break;
	case BATCH_XATTR_PUT:
		object_xattr_put(&op->shard->account, op->object, op->xattr.fresh);
		break;
	case BATCH_XATTR_DEL:
		object_xattr_remove(&op->shard->account, op->object, op->xattr.name);
		break;
	case BATCH_SIZE:
		apply_size(b, op);
		break;
	case BATCH_DATA:
		apply_data(b, op);
		break;
	case BATCH_PUNCH:
	case BATCH_RESERVE:
	case BATCH_COPY:
		op->object->size = op->data.size;
		break;
	}
}

#ifdef LOCK_DEBUG
enum { CHECK_COUNT_MAX = 512 };  /* entries of an index or a vector that are verified each time */

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
		int err = prepare(b, &b->op[i]);
		if (err) {
			batch_cancel(b);
			return err;
		}
	}
	for (unsigned i = 0; i < b->count; i++)
		apply(b, &b->op[i]);
	b->sequence = log_append(&b->store->log, b);
	counter_add_locked(&b->op[0].shard->counters.changes, 1);
#ifdef LOCK_DEBUG
	check_applied(b);
#endif
	b->count = 0;
	return 0;
}
