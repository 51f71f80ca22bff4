/*
 * remove.c: names that go: unlink, rmdir, and the removal of expired names.
 *
 * The three differ in what they demand of the object; what they do is the same batch: the name is
 * gone, the object has one link less (or is gone itself, if nobody holds it), the directory's times
 * move. Removal never needs room: it works when the store is full.
 */
#include "store/remove.h"

#include <errno.h>
#include <string.h>

enum { REMOVE_EXPIRED_MAX = 64 }; /* names removed under one hold of the tree */

enum remove_how { REMOVE_UNLINK, REMOVE_RMDIR, REMOVE_REAP };

/* Whether this object may lose the name in this way. The locks are held. */
static int remove_check(const struct object *object, enum remove_how how)
{
	bool expired = core_expired(object);
	if (how == REMOVE_REAP)
		return expired ? 0 : -EAGAIN;
	if (expired)
		return -ESTALE; /* it came to its end since it was looked up */
	if (how == REMOVE_UNLINK)
		return object_is_dir(object) ? -EISDIR : 0;
	return object_is_dir(object) ? 0 : -ENOTDIR;
}

/* Removes the name that was found, with its directory held. */
static int remove_name(struct store *s, struct directory *directory, const struct shard_key *key,
		       const struct names_found *found, enum remove_how how, bool *known)
{
	struct timespec now = core_time();
	struct shard *shard = core_shard_of_number(s, found->number);
	struct batch b;
	batch_init(&b, s);
	batch_lock_number(&b, directory->number);
	batch_lock_number(&b, found->number);
	batch_lock_name(&b, key);
	batch_lock(&b);
	struct object *object = core_object(s, found->number);
	struct object *parent = core_object(s, directory->number);
	assert(object && parent);
	int err = remove_check(object, how);
	if (!err) {
		/* A holder of anything holds the root, without counting it. */
		*known = object->holds || parent->holds || parent->number == STORE_ROOT;
		batch_name_del(&b, object, directory, key, found->cookie, false);
		batch_drop_link(&b, object, now);
		batch_touch_directory(&b, parent, now, how == REMOVE_RMDIR ? -1 : 0);
		bool last = object->nlink == 1;
		err = batch_commit(&b);
		if (!err && how == REMOVE_REAP)
			counter_add_locked(&shard->counters.expired, last);
	}
	batch_unlock(&b);
	return err;
}

int remove_expired(struct store *s, struct directory *directory, const struct shard_key *key,
		   const struct names_found *found, bool *known)
{
	return remove_name(s, directory, key, found, REMOVE_REAP, known);
}

/* The name that the object has in the directory at the cookie. False if it is gone. */
static bool entry_key(struct store *s, uint64_t directory, const struct dirvec_entry *entry,
		      char *name, struct shard_key *key)
{
	struct shard *shard = core_shard_of_number(s, entry->number);
	struct object_name_ref ref;
	lock_acquire(&shard->lock);
	struct object *object = shard_object(shard, entry->number);
	bool there = object && object_name_at(object, directory, entry->cookie, &ref);
	if (there)
		memcpy(name, ref.bytes, ref.length);
	lock_release(&shard->lock);
	if (there)
		*key = shard_key(directory, name, ref.length);
	return there;
}

int remove_check_empty(struct store *s, uint64_t number)
{
	char name[STORE_NAME_MAX];
	struct directory *directory;
	struct dirvec_entry entry;
	struct names_found found;
	struct shard_key key;
	int err = directory_find(s, number, &directory);
	if (err)
		return err;
	/* Each round removes an expired entry, or finds a live one. */
	for (unsigned i = 0; dirvec_read(&directory->entries, 0, &entry, 1); i++) {
		if (i == REMOVE_EXPIRED_MAX)
			return -EAGAIN;
		bool there = entry_key(s, number, &entry, name, &key);
		assert(there); /* the tree is held */
		err = names_settle(s, directory, &key, &found);
		if (err)
			return err;
		if (found.state == NAMES_LIVE)
			return -ENOTEMPTY;
	}
	return 0;
}

/* One attempt. -EAGAIN: there is more to be done before it can be decided. */
static int remove_held(struct store *s, uint64_t number, const char *name, size_t length,
		       enum remove_how how, uint64_t *removed)
{
	enum directory_mode mode = how == REMOVE_RMDIR ? DIRECTORY_EXCLUSIVE : DIRECTORY_SHARED;
	struct directory *directory;
	struct names_found found;
	bool known;
	int err = directory_enter(s, number, mode, &directory);
	if (err)
		return err;
	struct shard_key key = shard_key(number, name, length);
	do {
		err = names_settle(s, directory, &key, &found);
		if (!err && found.state == NAMES_ABSENT)
			err = -ENOENT;
		if (!err && how == REMOVE_RMDIR && S_ISDIR(found.mode))
			err = remove_check_empty(s, found.number);
		if (!err)
			err = remove_name(s, directory, &key, &found, how, &known);
	} while (err == -ESTALE);
	directory_leave(s, directory, mode);
	if (!err && removed)
		*removed = found.number;
	return err;
}

/* What unlink and rmdir have in common. */
static int remove_by_name(struct store *s, uint64_t number, const char *name, size_t length,
			  enum remove_how how, uint64_t *removed)
{
	int err = names_valid(name, length);
	if (!err)
		err = log_reserve(&s->log, length);
	if (err)
		return err;
	do
		err = remove_held(s, number, name, length, how, removed);
	while (err == -EAGAIN);
	return err;
}

int store_unlink(struct store *s, uint64_t directory, const char *name, size_t length,
		 uint64_t *number)
{
	int err = remove_by_name(s, directory, name, length, REMOVE_UNLINK, number);
	/* "." and ".." are directories, like any other that unlink refuses. */
	return err == -EINVAL && length <= 2 && length && name[0] == '.' ? -EISDIR : err;
}

int store_rmdir(struct store *s, uint64_t directory, const char *name, size_t length,
		uint64_t *number)
{
	if (length == 2 && name[0] == '.' && name[1] == '.')
		return -ENOTEMPTY;
	return remove_by_name(s, directory, name, length, REMOVE_RMDIR, number);
}
