/*
 * batch_apply.c: the part of a change that cannot fail: everything it needs is there.
 *
 * Each primitive makes its object or name what it says, and whatever follows from that: counts, the
 * timing wheel, the directory's vector, the account of tables that grew or shrank.
 */
#include "store/batch.h"

#include <string.h>

/* Buckets moved by a removal while an index shrinks. One would be too few: a shrink of N buckets
 * begins at 0.875 N entries, and so many removals would not end it before the index is empty. */
enum { APPLY_SHRINK_STEP = 4 };

static bool is_key(const struct object *object)
{
	return object_is_reg(object) && object->nlink > 0;
}

static void apply_object_put(struct batch *b, struct batch_op *op)
{
	struct object *object = op->object;
	lock_assert_held(&op->shard->lock);
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
	lock_assert_held(&op->shard->lock);
	assert(!object->holds && b->dead_count < BATCH_DEAD_MAX);
	bool found = index_remove(&op->shard->objects, hash_number(object->number), object);
	assert(found);
	op->shard->keys -= is_key(object);
	object->nlink = 0;
	shard_wheel(op->shard, object);
	drop_directory(op);
	b->dead[b->dead_count++] = object;
	index_step(&op->shard->objects, APPLY_SHRINK_STEP);
	shard_account_tables(op->shard);
}

static void apply_name_put(struct batch *b, struct batch_op *op)
{
	struct batch_name *name = &op->name;
	struct shard *shard = core_shard_of_hash(b->store, name->key.hash);
	struct object *object = op->object;
	lock_assert_held(&shard->lock);
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
	lock_assert_held(&shard->lock);
	bool there = shard_name(shard, &name->key, &found);
	assert(there && found.number == op->object->number);
	void *entry = found.link ? shard_link_mark(found.link) : (void *)found.object;
	there = index_remove(&shard->names, name->key.hash, entry);
	assert(there);
	if (found.link)
		shard_link_free(shard, found.link);
	object_name_remove(&op->shard->account, op->object, name->key.directory, name->cookie);
	if (name->directory && !name->keep_cookie) {
		there = dirvec_remove(&name->directory->entries, name->cookie);
		assert(there);
		struct shard *home = core_shard_of_number(b->store, name->directory->number);
		directory_account(&home->account, name->directory);
	}
	index_step(&shard->names, APPLY_SHRINK_STEP);
	shard_account_tables(shard);
}

static void apply_attr(struct batch_op *op)
{
	const struct batch_attr *attr = &op->attr;
	struct object *object = op->object;
	struct object_times *t = &object->times;
	lock_assert_held(&op->shard->lock);
	if (attr->mask & STORE_SET_MODE)
		object->mode = (uint16_t)((object->mode & S_IFMT) | (attr->mode & 07777));
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
	lock_assert_held(&op->shard->lock);
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
	if (data->length) /* else the bytes may be NULL */
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
		if (b->compact)
			value_compact(&object->value, &op->shard->account, data->offset,
				      data->length);
	}
	object->size = data->size;
}

void batch_apply(struct batch *b, struct batch_op *op)
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
