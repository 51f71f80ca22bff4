/*
 * names.c: names within one directory: lookup, creation, links, removal.
 *
 * A lookup takes one shard lock, or two one after the other when the name is a link: by then the
 * object may have lost that name, and if it is gone altogether the lookup starts again.
 *
 * A change first holds the directory (directory.h), which makes its bindings stable, then looks up,
 * then locks the shards concerned together, builds one batch and commits it. Expiry is the one
 * thing that time alone changes: an expired name that is in the way is reaped first, as a batch of
 * its own.
 */
#include "store/names.h"

#include "store/remove.h"

#include <errno.h>
#include <string.h>

static bool is_dots(const char *name, size_t length)
{
	return (length == 1 || length == 2) && !memcmp(name, "..", length);
}

int names_valid(const char *name, size_t length)
{
	if (length > STORE_NAME_MAX)
		return -ENAMETOOLONG;
	if (!length || memchr(name, '/', length) || memchr(name, '\0', length))
		return -EINVAL;
	return is_dots(name, length) ? -EINVAL : 0;
}

/* ---- lookup ---- */

static int parent_of(struct store *s, uint64_t number, uint64_t *parent)
{
	struct shard *shard = core_shard_of_number(s, number);
	struct object_name_ref ref;
	int err = 0;
	lock_acquire(&shard->lock);
	struct object *object = shard_object(shard, number);
	if (!object)
		err = -ENOENT;
	else if (!object_is_dir(object))
		err = -ENOTDIR;
	else if (number == STORE_ROOT)
		*parent = number;
	else if (!object_name_any(object, &ref))
		err = -ENOENT;
	else
		*parent = ref.directory;
	lock_release(&shard->lock);
	return err;
}

static void hold(struct object *object, unsigned flags)
{
	if (flags & STORE_HOLD)
		object->holds++;
}

static int lookup_dots(struct store *s, uint64_t directory, size_t length, unsigned flags,
		       struct store_attr *attr)
{
	uint64_t number;
	int err = parent_of(s, directory, &number);
	if (err)
		return err;
	if (length == 1)
		number = directory;
	struct shard *shard = core_shard_of_number(s, number);
	lock_acquire(&shard->lock);
	struct object *object = shard_object(shard, number);
	if (object) {
		hold(object, flags);
		core_attr(object, 0, attr);
	}
	lock_release(&shard->lock);
	return object ? 0 : -ENOENT;
}

static void count_lookup(struct shard *shard, unsigned flags, bool decided, bool hit)
{
	if (decided && !(flags & STORE_UNCOUNTED))
		counter_add_locked(hit ? &shard->counters.hits : &shard->counters.misses, 1);
}

/* One attempt, by number, after the name turned out to be a link. -EAGAIN: start again. */
static int lookup_number(struct store *s, uint64_t number, unsigned flags, struct store_attr *attr)
{
	struct shard *shard = core_shard_of_number(s, number);
	int err = 0;
	lock_acquire(&shard->lock);
	struct object *object = shard_object(shard, number);
	if (!object || !object->nlink) {
		err = -EAGAIN;
	} else if (core_expired(object)) {
		err = -ENOENT;
	} else {
		hold(object, flags);
		core_attr(object, 0, attr);
	}
	count_lookup(shard, flags, err != -EAGAIN, !err);
	lock_release(&shard->lock);
	return err;
}

static int lookup_once(struct store *s, const struct shard_key *key, unsigned flags,
		       struct store_attr *attr)
{
	struct shard *shard = core_shard_of_hash(s, key->hash);
	struct shard_name found;
	lock_acquire(&shard->lock);
	bool there = shard_name(shard, key, &found);
	if (there && found.link) {
		lock_release(&shard->lock);
		return lookup_number(s, found.number, flags, attr);
	}
	there = there && !core_expired(found.object);
	if (there) {
		hold(found.object, flags);
		core_attr(found.object, 0, attr);
	}
	count_lookup(shard, flags, true, there);
	lock_release(&shard->lock);
	return there ? 0 : -ENOENT;
}

int store_lookup(struct store *s, uint64_t directory, const char *name, size_t length,
		 unsigned flags, struct store_attr *attr)
{
	if (length > STORE_NAME_MAX)
		return -ENAMETOOLONG;
	if (is_dots(name, length))
		return lookup_dots(s, directory, length, flags, attr);
	struct shard_key key = shard_key(directory, name, length);
	int err;
	do
		err = lookup_once(s, &key, flags, attr);
	while (err == -EAGAIN);
	if (err == -ENOENT) {
		/* Rarely asked for, so it costs the misses a second lock and the hits nothing. */
		struct directory *unused;
		int wrong = directory_find(s, directory, &unused);
		if (wrong == -ENOTDIR)
			err = wrong;
	}
	return err;
}

/* Fills what only the object knows. */
static void find_object(const struct object *object, struct names_found *found)
{
	assert(object); /* the directory is held, so the name still names it */
	found->mode = object->mode;
	found->state = core_expired(object) ? NAMES_EXPIRED : NAMES_LIVE;
}

void names_find(struct store *s, const struct shard_key *key, struct names_found *found)
{
	struct shard *shard = core_shard_of_hash(s, key->hash);
	struct shard_name name = { 0 };
	*found = (struct names_found){ .state = NAMES_ABSENT };
	lock_acquire(&shard->lock);
	(void)shard_name(shard, key, &name); /* or name stays empty */
	if (name.object)
		find_object(name.object, found);
	lock_release(&shard->lock);
	found->number = name.number;
	found->cookie = name.cookie;
	if (!name.link)
		return;
	shard = core_shard_of_number(s, name.number);
	lock_acquire(&shard->lock);
	find_object(shard_object(shard, name.number), found);
	lock_release(&shard->lock);
}

int names_settle(struct store *s, struct directory *directory, const struct shard_key *key,
		 struct names_found *found)
{
	names_find(s, key, found);
	while (found->state == NAMES_EXPIRED) {
		bool known;
		int err = remove_expired(s, directory, key, found, &known);
		if (err && err != -EAGAIN)
			return err;
		names_find(s, key, found);
	}
	return 0;
}

/* ---- creation ---- */

/* What a child takes from its directory. */
struct parent {
	uint32_t mode, gid;
	int64_t period_ns;
};

static void parent_read(struct store *s, uint64_t number, struct parent *parent)
{
	struct shard *shard = core_shard_of_number(s, number);
	lock_acquire(&shard->lock);
	struct object *object = shard_object(shard, number);
	assert(object);
	parent->mode = object->mode;
	parent->gid = object->gid;
	parent->period_ns = object->extra ? object->extra->period_ns : OBJECT_PERIOD_UNSET;
	lock_release(&shard->lock);
}

/* Gives a new object its TTL, or a new directory its default. */
static int birth_ttl(struct store *s, struct account *account, struct object *object,
		     const struct parent *parent, int64_t ttl_ns)
{
	struct object_extra *extra;
	int64_t period = parent->period_ns;
	if (!object_is_dir(object) && !object_is_reg(object))
		return 0;
	if (object_is_reg(object)) {
		period = ttl_ns != STORE_TTL_DEFAULT     ? ttl_ns
			 : period == OBJECT_PERIOD_UNSET ? s->ttl_ns_default
							 : period;
		if (!period)
			return 0;
	} else if (period == OBJECT_PERIOD_UNSET) {
		return 0;
	}
	int err = object_extra(account, object, &extra);
	if (err)
		return err;
	extra->period_ns = period;
	if (object_is_reg(object))
		extra->deadline_ns = core_deadline(period);
	return 0;
}

static size_t birth_room(const struct names_birth *n)
{
	if (S_ISLNK(n->birth->mode))
		return n->birth->target_length;
	return n->size <= STORE_SMALL_MAX ? n->size : 0;
}

static void birth_attributes(struct object *object, const struct store_birth *birth,
			     const struct parent *parent, struct timespec now)
{
	object->uid = birth->uid;
	object->gid = birth->gid;
	if (parent->mode & S_ISGID) {
		object->gid = parent->gid;
		if (object_is_dir(object))
			object->mode = (uint16_t)(object->mode | S_ISGID);
	}
	if (S_ISLNK(birth->mode)) {
		memcpy(object_inline(object), birth->target, birth->target_length);
		object->inline_size = (uint16_t)birth->target_length;
		object->size = birth->target_length;
	} else if (S_ISCHR(birth->mode) || S_ISBLK(birth->mode)) {
		object->size = birth->rdev;
	}
	object->nlink = object_is_dir(object) ? 2 : 1;
	object->times = (struct object_times){
		now.tv_sec,
		now.tv_sec,
		now.tv_sec,
		(uint32_t)now.tv_nsec,
		(uint32_t)now.tv_nsec,
		(uint32_t)now.tv_nsec,
	};
}

static void fresh_free(struct account *account, struct object *object)
{
	if (object_is_dir(object) && object->directory)
		directory_free(account, object->directory);
	if (object_is_dir(object))
		object->directory = NULL;
	object_free(account, object);
}

/* The new object, complete, and nobody's yet. */
static int fresh_new(struct store *s, uint64_t hash, size_t name_room, const struct names_birth *n,
		     const struct parent *parent, struct timespec now, struct object **out)
{
	uint64_t number = core_number_new(s, hash);
	struct account *account = &core_shard_of_number(s, number)->account;
	int err;
	struct object *object =
		object_new(account, number, n->birth->mode, name_room, birth_room(n), false, &err);
	if (!object)
		return err;
	birth_attributes(object, n->birth, parent, now);
	err = birth_ttl(s, account, object, parent, n->ttl_ns);
	if (!err && object_is_dir(object)) {
		object->directory = directory_new(account, number);
		err = object->directory ? 0 : -ENOMEM;
	}
	if (err) {
		fresh_free(account, object);
		return err;
	}
	*out = object;
	return 0;
}

static int birth_valid(const struct store_birth *birth)
{
	switch (birth->mode & S_IFMT) {
	case S_IFLNK:
		if (!birth->target_length)
			return -EINVAL;
		return birth->target_length > STORE_SYMLINK_MAX ? -ENAMETOOLONG : 0;
	case S_IFREG:
	case S_IFDIR:
	case S_IFIFO:
	case S_IFSOCK:
	case S_IFCHR:
	case S_IFBLK:
		return 0;
	default:
		return -EINVAL;
	}
}

/* Builds and commits the birth. The locks are held; the name is free. */
static int create_commit(struct batch *b, struct directory *directory, const struct shard_key *key,
			 struct object *object, const struct names_birth *n, struct timespec now)
{
	struct object *parent = core_object(b->store, directory->number);
	batch_add(b, BATCH_OBJECT_PUT, object);
	batch_name_put(b, object, directory, key, 0);
	batch_touch_directory(b, parent, now, object_is_dir(object) ? 1 : 0);
	if (n->size) {
		struct batch_op *op = batch_add(b, BATCH_DATA, object);
		op->data.bytes = n->bytes;
		op->data.length = op->data.size = n->size;
		op->data.parts = n->parts;
	}
	return batch_commit(b);
}

/* With the directory held. */
static int create_in(struct store *s, struct directory *directory, const struct shard_key *key,
		     const struct names_birth *n, unsigned flags, struct store_attr *attr)
{
	struct timespec now = core_time();
	struct parent parent;
	struct object *object;
	struct shard_name taken;
	struct batch b;
	parent_read(s, directory->number, &parent);
	int err = fresh_new(s, key->hash, key->length, n, &parent, now, &object);
	if (err)
		return err;
	struct account *account = &core_shard_of_number(s, object->number)->account;
	batch_init(&b, s);
	batch_lock_number(&b, directory->number);
	batch_lock_number(&b, object->number);
	batch_lock(&b);
	if (core_name(s, key, &taken)) {
		err = -EEXIST;
		fresh_free(account, object);
	} else {
		hold(object, flags);
		err = create_commit(&b, directory, key, object, n, now);
		if (!err && attr)
			core_attr(core_object(s, object->number), 0, attr);
	}
	batch_unlock(&b);
	return err;
}

int names_create(struct store *s, uint64_t number, const char *name, size_t length,
		 const struct names_birth *n, unsigned flags, struct store_attr *attr)
{
	enum directory_mode mode = S_ISDIR(n->birth->mode) ? DIRECTORY_EXCLUSIVE : DIRECTORY_SHARED;
	struct directory *directory;
	struct names_found found;
	int err = names_valid(name, length);
	if (!err)
		err = birth_valid(n->birth);
	if (!err)
		err = log_reserve(&s->log, length + n->size);
	if (!err)
		err = directory_enter(s, number, mode, &directory);
	if (err)
		return err;
	struct shard_key key = shard_key(number, name, length);
	err = create_in(s, directory, &key, n, flags, attr);
	if (err == -EEXIST || err == -ENOSPC) {
		/* Perhaps it only stands in the way because the reaper has not come by; and that a
		 * name is there counts more than that there is no room for it. */
		err = names_settle(s, directory, &key, &found);
		if (!err)
			err = found.state == NAMES_LIVE
				      ? -EEXIST
				      : create_in(s, directory, &key, n, flags, attr);
	}
	directory_leave(s, directory, mode);
	return err;
}

int store_create(struct store *s, uint64_t directory, const char *name, size_t length,
		 const struct store_birth *birth, unsigned flags, struct store_attr *attr)
{
	struct names_birth n = { .birth = birth, .ttl_ns = STORE_TTL_DEFAULT };
	return names_create(s, directory, name, length, &n, flags, attr);
}

int store_tmpfile(struct store *s, uint64_t number, const struct store_birth *birth,
		  struct store_attr *attr)
{
	struct names_birth n = { .birth = birth, .ttl_ns = STORE_TTL_DEFAULT };
	struct directory *directory;
	struct object *object;
	struct parent parent;
	struct batch b;
	if (!S_ISREG(birth->mode))
		return -EINVAL;
	int err = log_reserve(&s->log, 0);
	if (!err)
		err = directory_enter(s, number, DIRECTORY_SHARED, &directory);
	if (err)
		return err;
	parent_read(s, number, &parent);
	directory_leave(s, directory, DIRECTORY_SHARED);
	/* It has no name to take its shard from: spread by time of birth. */
	struct timespec now = core_time();
	err = fresh_new(s, hash_number((uint64_t)now.tv_nsec), 0, &n, &parent, now, &object);
	if (err)
		return err;
	object->nlink = 0;
	object->holds = 1;
	if (object->extra)
		object->extra->deadline_ns = 0; /* its time begins when it gets a name */
	batch_init(&b, s);
	batch_lock_number(&b, object->number);
	batch_lock(&b);
	batch_add(&b, BATCH_OBJECT_PUT, object);
	err = batch_commit(&b);
	if (!err)
		core_attr(object, 0, attr);
	batch_unlock(&b);
	return err;
}

static int link_check(const struct store *s, const struct object *object)
{
	if (!object)
		return -ENOENT;
	if (object_is_dir(object))
		return -EPERM;
	if (core_expired(object))
		return -ESTALE;
	if (object->nlink >= STORE_LINKS_MAX)
		return -EMLINK;
	/* Names are charged past the bound, because a rename must not be refused; a link may be. */
	return account_free(&s->total) ? 0 : -ENOSPC;
}

/* With the directory held, and the name free. */
static int link_in(struct store *s, struct directory *directory, const struct shard_key *key,
		   uint64_t number, unsigned flags, struct store_attr *attr)
{
	struct timespec now = core_time();
	struct batch b;
	batch_init(&b, s);
	batch_lock_number(&b, directory->number);
	batch_lock_number(&b, number);
	batch_lock_name(&b, key);
	batch_lock(&b);
	struct object *object = core_object(s, number);
	int err = link_check(s, object);
	if (!err) {
		batch_name_put(&b, object, directory, key, 0);
		struct batch_op *op = batch_add(&b, BATCH_ATTR, object);
		op->attr.mask = BATCH_SET_NLINK | STORE_SET_CTIME;
		op->attr.nlink = object->nlink + 1;
		op->attr.ctime = now;
		batch_touch_directory(&b, core_object(s, directory->number), now, 0);
		if (!object->nlink)
			batch_arm(&b, object);
		err = batch_commit(&b);
	}
	if (!err) {
		hold(object, flags);
		core_attr(object, 0, attr);
	}
	batch_unlock(&b);
	return err;
}

int store_link(struct store *s, uint64_t number, uint64_t directory_number, const char *name,
	       size_t length, unsigned flags, struct store_attr *attr)
{
	struct directory *directory;
	struct names_found found;
	int err = names_valid(name, length);
	if (!err)
		err = log_reserve(&s->log, length);
	if (!err)
		err = directory_enter(s, directory_number, DIRECTORY_SHARED, &directory);
	if (err)
		return err;
	struct shard_key key = shard_key(directory_number, name, length);
	err = names_settle(s, directory, &key, &found);
	if (!err)
		err = found.state == NAMES_LIVE ? -EEXIST
						: link_in(s, directory, &key, number, flags, attr);
	directory_leave(s, directory, DIRECTORY_SHARED);
	return err;
}
