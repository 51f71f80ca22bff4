/*
 * attr.c: what belongs to one object: attributes, extended attributes, TTL, holds.
 *
 * Each call locks one shard, looks the object up by its number, and either reads it or commits a
 * batch about it alone. No directory is held and the tree lock is not taken.
 */
#include "store/batch.h"

#include <errno.h>
#include <string.h>

/* Begins a change of one object: its shard is locked, on errors too. */
static int change_begin(struct batch *b, struct store *s, uint64_t number, struct object **object)
{
	batch_init(b, s);
	batch_lock_number(b, number);
	batch_lock(b);
	*object = core_object(s, number);
	if (!*object)
		return -ENOENT;
	return core_expired(*object) ? -ESTALE : 0;
}

/* Begins to look at one object: as above, without a batch. */
static int look_begin(struct store *s, uint64_t number, struct shard **shard,
		      struct object **object) NO_THREAD_SAFETY_ANALYSIS
{
	*shard = core_shard_of_number(s, number);
	lock_acquire(&(*shard)->lock);
	*object = shard_object(*shard, number);
	if (!*object)
		return -ENOENT;
	return core_expired(*object) ? -ESTALE : 0;
}

static void look_end(struct shard *shard) NO_THREAD_SAFETY_ANALYSIS
{
	lock_release(&shard->lock);
}

static void add_ctime(struct batch *b, struct object *object)
{
	struct batch_op *op = batch_add(b, BATCH_ATTR, object);
	op->attr.mask = STORE_SET_CTIME;
	op->attr.ctime = core_time();
}

/* ---- attributes ---- */

int store_getattr(struct store *s, uint64_t number, unsigned flags, struct store_attr *attr)
{
	struct shard *shard;
	struct object *object;
	int err = look_begin(s, number, &shard, &object);
	if (err == -ESTALE && (flags & STORE_BY_HANDLE))
		err = 0;
	if (!err)
		core_attr(object, 0, attr);
	look_end(shard);
	return err;
}

static int size_check(const struct object *object, uint64_t size)
{
	if (object_is_dir(object))
		return -EISDIR;
	if (!object_is_reg(object))
		return -EINVAL;
	return size > STORE_FILE_MAX ? -EFBIG : 0;
}

/* The masks of a change say what to set; this says with which values. */
static void setattr_attr(struct batch *b, struct object *object, const struct store_setattr *set,
			 bool resized)
{
	struct timespec now = core_time();
	struct batch_op *op = batch_add(b, BATCH_ATTR, object);
	const unsigned plain = STORE_SET_MODE | STORE_SET_UID | STORE_SET_GID | STORE_SET_ATIME |
			       STORE_SET_MTIME | STORE_SET_CTIME;
	op->attr = (struct batch_attr){
		.mask = set->mask & plain,
		.mode = set->mode,
		.uid = set->uid,
		.gid = set->gid,
		.atime = set->atime,
		.mtime = set->mtime,
		.ctime = set->ctime,
	};
	if (set->mask & STORE_SET_ATIME_NOW) {
		op->attr.mask |= STORE_SET_ATIME;
		op->attr.atime = now;
	}
	if ((set->mask & STORE_SET_MTIME_NOW) || (resized && !(set->mask & STORE_SET_MTIME))) {
		op->attr.mask |= STORE_SET_MTIME;
		op->attr.mtime = now;
	}
	if (!(set->mask & STORE_SET_CTIME)) {
		op->attr.mask |= STORE_SET_CTIME;
		op->attr.ctime = now;
	}
}

static int setattr_commit(struct batch *b, struct object *object, const struct store_setattr *set,
			  unsigned flags)
{
	bool resize = set->mask & STORE_SET_SIZE;
	int err = resize ? size_check(object, set->size) : 0;
	if (err)
		return err;
	if (resize && set->size == object->size && !(flags & STORE_BY_HANDLE))
		resize = false;
	/* First, so that a mode that is set stands. */
	if (flags & STORE_KILL_SETID)
		batch_kill_setid(b, object);
	if (!resize && set->mask == STORE_SET_SIZE && !b->count)
		return 0;
	setattr_attr(b, object, set, resize);
	if (resize || (set->mask & STORE_SET_MTIME_NOW))
		batch_rearm(b, object);
	if (resize)
		batch_add(b, BATCH_SIZE, object)->data.size = set->size;
	return batch_commit(b);
}

int store_setattr(struct store *s, uint64_t number, const struct store_setattr *set, unsigned flags,
		  struct store_attr *attr)
{
	struct batch b;
	struct object *object;
	int err = log_reserve(&s->log, 0);
	if (err)
		return err;
	err = change_begin(&b, s, number, &object);
	if (!err)
		err = setattr_commit(&b, object, set, flags);
	if (!err && attr)
		core_attr(object, 0, attr);
	batch_unlock(&b);
	return err;
}

void store_forget(struct store *s, uint64_t number, uint64_t count)
{
	struct batch b;
	struct object *object;
	int err = change_begin(&b, s, number, &object);
	if (object) {
		/* The count comes from a kernel: a wrong one must not wrap. */
		object->holds -= count < object->holds ? count : object->holds;
		if (!object->holds && !object->nlink) {
			batch_add(&b, BATCH_OBJECT_DEL, object);
			err = batch_commit(&b);
			assert(!err); /* a removal needs nothing that it could lack */
		}
	}
	batch_unlock(&b);
}

int store_sync(struct store *s, uint64_t number)
{
	struct store_attr attr;
	return store_getattr(s, number, STORE_BY_HANDLE, &attr);
}

ssize_t store_readlink(struct store *s, uint64_t number, char *buffer, size_t size)
{
	struct shard *shard;
	struct object *object;
	ssize_t length = look_begin(s, number, &shard, &object);
	if (!length && !S_ISLNK(object->mode))
		length = -EINVAL;
	if (!length) {
		length = object->inline_size;
		memcpy(buffer, object_inline(object),
		       size < object->inline_size ? size : object->inline_size);
	}
	look_end(shard);
	return length;
}

/* ---- extended attributes ---- */

static int setxattr_check(const struct object *object, const char *name, size_t size,
			  unsigned flags)
{
	const struct object_xattr *old = object_xattr_find(object, name);
	if (old && (flags & STORE_CREATE))
		return -EEXIST;
	if (!old && (flags & STORE_REPLACE))
		return -ENODATA;
	size_t count;
	size_t total = object_xattr_total(object, &count) + strlen(name) + 1 + size;
	if (old)
		total -= (size_t)old->name_length + 1 + old->size;
	if (!old && count >= STORE_XATTR_COUNT_MAX)
		return -ENOSPC;
	return total > STORE_XATTR_TOTAL_MAX ? -ENOSPC : 0;
}

static int setxattr_commit(struct batch *b, struct object *object, const char *name,
			   const void *value, size_t size)
{
	int err = 0;
	struct account *account = &core_shard_of_number(b->store, object->number)->account;
	struct object_xattr *fresh = object_xattr_new(account, name, value, size, &err);
	if (!fresh)
		return err;
	batch_add(b, BATCH_XATTR_PUT, object)->xattr.fresh = fresh;
	add_ctime(b, object);
	return batch_commit(b);
}

int store_setxattr(struct store *s, uint64_t number, const char *name, const void *value,
		   size_t size, unsigned flags)
{
	struct batch b;
	struct object *object;
	size_t length = strlen(name);
	if (!length || length > STORE_XATTR_NAME_MAX)
		return -ERANGE;
	if (size > STORE_XATTR_SIZE_MAX)
		return -E2BIG;
	int err = log_reserve(&s->log, length + size);
	if (err)
		return err;
	err = change_begin(&b, s, number, &object);
	if (!err)
		err = setxattr_check(object, name, size, flags);
	if (!err)
		err = setxattr_commit(&b, object, name, value, size);
	batch_unlock(&b);
	return err;
}

ssize_t store_getxattr(struct store *s, uint64_t number, const char *name, void *value, size_t size)
{
	struct shard *shard;
	struct object *object;
	ssize_t result = look_begin(s, number, &shard, &object);
	const struct object_xattr *xattr = NULL;
	if (!result) {
		xattr = object_xattr_find(object, name);
		result = xattr ? 0 : -ENODATA;
	}
	if (!result && size && size < xattr->size)
		result = -ERANGE;
	if (!result) {
		result = xattr->size;
		if (size && xattr->size)
			memcpy(value, xattr->bytes + xattr->name_length, xattr->size);
	}
	look_end(shard);
	return result;
}

static ssize_t list_names(const struct object *object, char *list, size_t size)
{
	size_t total = 0;
	const struct object_xattr *xattr = object->extra ? object->extra->xattrs : NULL;
	for (; xattr; xattr = xattr->next) {
		size_t length = (size_t)xattr->name_length + 1;
		if (size && total + length > size)
			return -ERANGE;
		if (size) {
			memcpy(list + total, xattr->bytes, length - 1);
			list[total + length - 1] = '\0';
		}
		total += length;
	}
	return (ssize_t)total;
}

ssize_t store_listxattr(struct store *s, uint64_t number, char *list, size_t size)
{
	struct shard *shard;
	struct object *object;
	ssize_t result = look_begin(s, number, &shard, &object);
	if (!result)
		result = list_names(object, list, size);
	look_end(shard);
	return result;
}

int store_removexattr(struct store *s, uint64_t number, const char *name)
{
	struct batch b;
	struct object *object;
	int err = log_reserve(&s->log, 0);
	if (err)
		return err;
	err = change_begin(&b, s, number, &object);
	if (!err && !object_xattr_find(object, name))
		err = -ENODATA;
	if (!err) {
		batch_add(&b, BATCH_XATTR_DEL, object)->xattr.name = name;
		add_ctime(&b, object);
		err = batch_commit(&b);
	}
	batch_unlock(&b);
	return err;
}

/* ---- TTL ---- */

/* A directory's "never" is a setting only where it overrules something. */
static bool has_ttl(const struct store *s, const struct object *object)
{
	if (!object->extra)
		return false;
	if (!object_is_dir(object))
		return object->extra->deadline_ns != 0;
	return object->extra->period_ns > 0 ||
	       (object->extra->period_ns == STORE_TTL_NONE && s->ttl_ns_default);
}

static int set_ttl_check(const struct object *object, int64_t period_ns)
{
	if (!object_is_dir(object) && !object_is_reg(object))
		return -EPERM;
	if (period_ns < 0 && !(object_is_dir(object) && period_ns == STORE_TTL_DEFAULT))
		return -EINVAL;
	return period_ns > INT64_MAX - core_now() ? -EINVAL : 0;
}

int store_set_ttl(struct store *s, uint64_t number, int64_t period_ns, bool *none)
{
	struct batch b;
	struct object *object;
	bool had = false;
	int err = log_reserve(&s->log, 0);
	if (err)
		return err;
	err = change_begin(&b, s, number, &object);
	if (!err)
		err = set_ttl_check(object, period_ns);
	if (!err) {
		had = has_ttl(s, object);
		struct batch_op *op = batch_add(&b, BATCH_TTL, object);
		op->ttl.period_ns = period_ns;
		if (object_is_reg(object) && period_ns && object->nlink)
			op->ttl.deadline_ns = core_deadline(period_ns);
		add_ctime(&b, object);
		err = batch_commit(&b);
	}
	batch_unlock(&b);
	if (!err && none)
		*none = !had;
	return err;
}

int store_get_ttl(struct store *s, uint64_t number, struct store_ttl *ttl)
{
	struct shard *shard;
	struct object *object;
	int err = look_begin(s, number, &shard, &object);
	if (!err && !has_ttl(s, object))
		err = -ENODATA;
	if (!err) {
		*ttl = (struct store_ttl){ .period_ns = object->extra->period_ns };
		if (object->extra->deadline_ns) {
			struct timespec at = core_time();
			ttl->left_ns = object->extra->deadline_ns - core_now();
			if (ttl->left_ns < 1)
				ttl->left_ns = 1; /* it was not expired a moment ago */
			/* Whole seconds first: the sum may be beyond what nanoseconds can say. */
			int64_t ns = at.tv_nsec + ttl->left_ns % 1000000000;
			at.tv_sec += ttl->left_ns / 1000000000 + ns / 1000000000;
			at.tv_nsec = ns % 1000000000;
			ttl->expires_at = at;
		}
	}
	look_end(shard);
	return err;
}
