/*
 * batch_prepare.c: the part of a change that can fail.
 *
 * A change of a value stands last in its batch, because part of it takes effect while it is
 * prepared: an append in place, a hole, a reservation or a shared range either succeeds, and then
 * nothing that follows can fail, or it fails and has changed nothing. Turning inline bytes into
 * extents on the way changes no byte that anybody can read, so it need not be undone.
 *
 * Where a name will be kept: embedded in its object if both live in the same shard and it fits the
 * room made at birth; else as a link in the name's shard, and in the object's list of names.
 */
#include "store/batch.h"
#include "store/extent.h"

#include <errno.h>

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

static int prepare_name_put(struct batch *b, struct batch_op *op)
{
	struct batch_name *name = &op->name;
	struct shard *shard = core_shard_of_hash(b->store, name->key.hash);
	if (!name_embeds(b, op)) {
		struct object_extra *extra;
		if (account_exhausted(op->shard->account.total))
			return -ENOSPC;
		int err = object_extra(&op->shard->account, op->object, &extra);
		if (err)
			return err;
		name->more = object_name_new(&op->shard->account, name->key.directory,
					     name->key.name, name->key.length);
		name->link = shard_link_new(shard, &name->key, op->object->number);
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
	size_t room = (size_t) class - offsetof(struct object, tail) - object->name_room;
	b->larger = object_new(&op->shard->account, object->number, object->mode, object->name_room,
			       room, false, &err);
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
	/* At the bound, what is only overwritten must not fail: the old bytes make room for the
	 * new, at once or, if they are part of larger extents, when those are compacted. */
	bool promised = account_free(account->total) < data->length + EXTENT_MAX &&
			value_owned(&object->value, data->offset, data->length) == data->length;
	b->compact = promised;
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

int batch_prepare(struct batch *b, struct batch_op *op)
{
	struct object_extra *extra;
	switch (op->kind) {
	case BATCH_OBJECT_PUT:
		return index_reserve(&op->shard->objects);
	case BATCH_NAME_PUT:
		return prepare_name_put(b, op);
	case BATCH_TTL:
	case BATCH_XATTR_PUT:
		if (!op->object->extra && account_exhausted(op->shard->account.total))
			return -ENOSPC;
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
