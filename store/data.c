/*
 * data.c: the bytes of regular files.
 *
 * A read takes references to extents under the shard's lock and hands them out without a copy; only
 * values that stand inside their object are copied. A long write copies its bytes into new extents
 * before it takes the lock, so that the lock is held for pointers, not for bytes; a short one
 * decides under the lock whether it can be inline, or appended in place.
 */
#include "store/batch.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum {
	DATA_PREFILL_MIN = 4096,  /* longer writes fill their extents before the lock */
	DATA_COPY_MAX = 16 << 20, /* bytes shared by one store_copy: about 256 extents */
	DATA_PAGE = 4096,
};

static int check_file(const struct object *object)
{
	if (!object)
		return -ENOENT;
	if (object_is_dir(object))
		return -EISDIR;
	return object_is_reg(object) ? 0 : -EINVAL;
}

static int check_writable(const struct object *object)
{
	int err = check_file(object);
	if (err)
		return err;
	return core_expired(object) ? -ESTALE : 0;
}

/* ---- reading ---- */

/* Inline bytes are copied, because their object may move as soon as the lock is released. */
static void read_inline(const struct object *object, uint64_t offset, size_t length,
			struct store_view *view)
{
	const struct value nothing = { 0 };
	size_t here = object->inline_size - (size_t)offset;
	if (here > length)
		here = length;
	memcpy(view->small, object_inline_const(object) + offset, here);
	view->count = 0;
	view->references = 0;
	if (length > here) {
		value_read(&nothing, offset + here, length - here, view);
		memmove(&view->iov[1], &view->iov[0], view->count * sizeof(view->iov[0]));
	}
	view->iov[0] = (struct iovec){ view->small, here };
	view->count++;
	view->length = length;
}

ssize_t store_read(struct store *s, uint64_t number, uint64_t offset, size_t length,
		   struct store_view *view)
{
	struct shard *shard = core_shard_of_number(s, number);
	if (length > STORE_IO_MAX)
		return -EINVAL;
	lock_acquire(&shard->lock);
	const struct object *object = shard_object(shard, number);
	ssize_t result = check_file(object);
	if (!result) {
		if (offset >= object->size)
			length = 0;
		else if (length > object->size - offset)
			length = object->size - offset;
		if (offset < object->inline_size && length)
			read_inline(object, offset, length, view);
		else
			value_read(&object->value, offset, length, view);
		counter_add_locked(&shard->counters.bytes_read, length);
		result = (ssize_t)length;
	}
	lock_release(&shard->lock);
	return result;
}

void store_view_copy(const struct store_view *view, void *to)
{
	value_view_copy(view, to);
}

void store_view_put(struct store_view *view)
{
	value_view_put(view);
}

/* ---- writing ---- */

/* What every change of a value brings with it, before the change itself. */
static void add_written(struct batch *b, struct object *object, unsigned flags)
{
	struct batch_op *op = batch_add(b, BATCH_ATTR, object);
	op->attr.mask = STORE_SET_MTIME | STORE_SET_CTIME;
	op->attr.mtime = op->attr.ctime = core_time();
	if (flags & STORE_KILL_SETID)
		batch_kill_setid(b, object);
	batch_rearm(b, object);
}

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* One attempt. parts, if any, hold the bytes already. */
static int write_once(struct store *s, uint64_t number, uint64_t offset, const void *bytes,
		      size_t length, unsigned flags, struct value_parts *parts)
{
	struct shard *shard = core_shard_of_number(s, number);
	struct batch b;
	batch_init(&b, s);
	batch_lock_number(&b, number);
	batch_lock(&b);
	struct object *object = core_object(s, number);
	int err = check_writable(object);
	if (!err && (flags & STORE_APPEND))
		offset = object->size;
	if (!err && offset > STORE_FILE_MAX - length)
		err = -EFBIG;
	if (!err) {
		add_written(&b, object, flags);
		struct batch_op *op = batch_add(&b, BATCH_DATA, object);
		op->data.offset = offset;
		op->data.length = length;
		op->data.bytes = bytes;
		op->data.parts = parts;
		op->data.size = larger(object->size, offset + length);
		err = batch_commit(&b);
	}
	if (!err)
		counter_add_locked(&shard->counters.bytes_written, length);
	batch_unlock(&b);
	return err;
}

ssize_t store_write(struct store *s, uint64_t number, uint64_t offset, const void *bytes,
		    size_t length, unsigned flags)
{
	struct value_parts parts = { .count = 0 };
	struct account *account = &core_shard_of_number(s, number)->account;
	bool prefill = length > DATA_PREFILL_MIN && !(flags & STORE_APPEND);
	if (length > STORE_IO_MAX)
		return -EINVAL;
	if (offset > STORE_FILE_MAX - length && !(flags & STORE_APPEND))
		return -EFBIG;
	int err = log_reserve(&s->log, length);
	if (err)
		return err;
	if (prefill)
		err = value_parts_new(&parts, account, offset, bytes, length, false);
	if (err == -ENOSPC)
		err = 0; /* perhaps the range is reserved: that is known under the lock */
	if (!err && length)
		err = write_once(s, number, offset, bytes, length, flags,
				 parts.count ? &parts : NULL);
	value_parts_free(&parts);
	return err ? err : (ssize_t)length;
}

/* ---- ranges ---- */

static uint64_t memory_bytes(void)
{
	long pages = sysconf(_SC_PHYS_PAGES);
	long page = sysconf(_SC_PAGESIZE);
	return pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;
}

static int change_range(struct store *s, uint64_t number, enum batch_kind kind, uint64_t offset,
			uint64_t length, unsigned flags)
{
	struct batch b;
	if (!length)
		return -EINVAL;
	if (length > STORE_FILE_MAX || offset > STORE_FILE_MAX - length)
		return -EFBIG;
	/* Without a bound a promise beyond the machine's memory would be an empty one. */
	if (kind == BATCH_RESERVE && !s->total.limit && length > memory_bytes())
		return -ENOSPC;
	int err = log_reserve(&s->log, 0);
	if (err)
		return err;
	batch_init(&b, s);
	batch_lock_number(&b, number);
	batch_lock(&b);
	struct object *object = core_object(s, number);
	err = check_writable(object);
	if (err == -EINVAL)
		err = -ENODEV; /* as fallocate(2) says of what is no file */
	if (!err) {
		add_written(&b, object, flags);
		struct batch_op *op = batch_add(&b, kind, object);
		op->data.offset = offset;
		op->data.length = length;
		op->data.size = object->size;
		if (kind == BATCH_RESERVE && !(flags & STORE_KEEP_SIZE))
			op->data.size = larger(object->size, offset + length);
		err = batch_commit(&b);
	}
	batch_unlock(&b);
	return err;
}

int store_fallocate(struct store *s, uint64_t number, uint64_t offset, uint64_t length,
		    unsigned flags)
{
	return change_range(s, number, BATCH_RESERVE, offset, length, flags);
}

int store_punch(struct store *s, uint64_t number, uint64_t offset, uint64_t length, unsigned flags)
{
	return change_range(s, number, BATCH_PUNCH, offset, length, flags);
}

/* The first page of an inline value is data, and the rest a hole. */
static int64_t seek_inline(const struct object *object, uint64_t offset, bool hole)
{
	uint64_t end = object->size < DATA_PAGE ? object->size : DATA_PAGE;
	if (offset >= object->size)
		return -ENXIO;
	if (hole)
		return (int64_t)(offset < end ? end : offset);
	return offset < end ? (int64_t)offset : -ENXIO;
}

int64_t store_seek(struct store *s, uint64_t number, uint64_t offset, bool hole)
{
	struct shard *shard = core_shard_of_number(s, number);
	lock_acquire(&shard->lock);
	const struct object *object = shard_object(shard, number);
	int64_t result = check_file(object);
	if (!result) {
		if (object->inline_size)
			result = seek_inline(object, offset, hole);
		else if (hole)
			result = value_seek_hole(&object->value, offset, object->size);
		else
			result = value_seek_data(&object->value, offset, object->size);
	}
	lock_release(&shard->lock);
	return result;
}

/* ---- copying by sharing ---- */

struct copy {
	struct object *from, *to;
	uint64_t from_offset, to_offset, length;
	char small[STORE_SMALL_MAX];
};

/* How much to copy this time; 0 at the end of the source. */
static int copy_check(const struct store *s, struct copy *c)
{
	int err = check_file(c->from);
	if (!err)
		err = check_writable(c->to);
	if (err)
		return err;
	if (c->from_offset >= c->from->size)
		c->length = 0;
	else if (c->length > c->from->size - c->from_offset)
		c->length = c->from->size - c->from_offset;
	if (c->length > DATA_COPY_MAX)
		c->length = DATA_COPY_MAX;
	if (c->to_offset > STORE_FILE_MAX - c->length)
		return -EFBIG;
	/* Sharing takes no bytes, but the maps that share them are charged past the bound. */
	if (!account_free(&s->total))
		return -ENOSPC;
	if (c->from == c->to && c->from_offset < c->to_offset + c->length &&
	    c->to_offset < c->from_offset + c->length)
		return -EINVAL;
	return 0;
}

/* Inline bytes are copied; what follows them in their file is a hole, left for the next call. */
static void copy_add(struct batch *b, struct copy *c)
{
	bool small = c->from_offset < c->from->inline_size;
	if (small && c->length > c->from->inline_size - c->from_offset)
		c->length = c->from->inline_size - c->from_offset;
	if (small)
		memcpy(c->small, object_inline(c->from) + c->from_offset, c->length);
	struct batch_op *op = batch_add(b, small ? BATCH_DATA : BATCH_COPY, c->to);
	op->data.offset = c->to_offset;
	op->data.length = c->length;
	op->data.bytes = c->small;
	op->data.size = larger(c->to->size, c->to_offset + c->length);
	op->data.source = c->from;
	op->data.source_offset = c->from_offset;
}

ssize_t store_copy(struct store *s, uint64_t from, uint64_t from_offset, uint64_t to,
		   uint64_t to_offset, uint64_t length, unsigned flags)
{
	struct copy c = { .from_offset = from_offset, .to_offset = to_offset, .length = length };
	struct batch b;
	int err = log_reserve(&s->log, 0);
	if (err)
		return err;
	batch_init(&b, s);
	batch_lock_number(&b, from);
	batch_lock_number(&b, to);
	batch_lock(&b);
	c.from = core_object(s, from);
	c.to = core_object(s, to);
	err = copy_check(s, &c);
	if (!err && c.length) {
		add_written(&b, c.to, flags);
		copy_add(&b, &c);
		err = batch_commit(&b);
	}
	batch_unlock(&b);
	return err ? err : (ssize_t)c.length;
}
