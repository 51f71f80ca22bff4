/*
 * directory.c: finding a directory and holding its names still.
 *
 * Changes within one directory hold the tree lock shared and the directory's mutex; changes that
 * move names between directories, or make or remove a directory, hold the tree lock exclusive, and
 * then need no mutex. Either way the bindings of the directories concerned are stable: look up
 * first, then lock the shards in ascending order.
 */
#include "store/directory.h"

#include <errno.h>
#include <stdlib.h>

struct directory *directory_new(struct account *account, uint64_t number)
{
	struct directory *directory = malloc(sizeof(*directory));
	if (!directory)
		return NULL;
	directory->number = number;
	directory->charged = account_class(sizeof(*directory));
	account_force(account, directory->charged);
	lock_init(&directory->lock, LOCK_DIR, number);
	dirvec_init(&directory->entries);
	return directory;
}

void directory_free(struct account *account, struct directory *directory)
{
	account_uncharge(account, directory->charged);
	dirvec_fini(&directory->entries);
	lock_fini(&directory->lock);
	free(directory);
}

void directory_account(struct account *account, struct directory *directory)
{
	uint64_t now = account_class(sizeof(*directory)) + dirvec_bytes(&directory->entries);
	if (now > directory->charged)
		account_force(account, now - directory->charged);
	else if (now < directory->charged)
		account_uncharge(account, directory->charged - now);
	directory->charged = now;
}

int directory_find(struct store *s, uint64_t number, struct directory **directory)
{
	struct shard *shard = core_shard_of_number(s, number);
	int err = 0;
	lock_acquire(&shard->lock);
	struct object *object = shard_object(shard, number);
	if (!object)
		err = -ENOENT;
	else if (!object_is_dir(object))
		err = -ENOTDIR;
	else if (!object->directory)
		err = -ENOENT;
	else
		*directory = object->directory;
	lock_release(&shard->lock);
	return err;
}

int directory_enter(struct store *s, uint64_t number, enum directory_mode mode,
		    struct directory **directory)
{
	if (mode == DIRECTORY_EXCLUSIVE)
		lock_rw_exclusive(&s->tree);
	else
		lock_rw_shared(&s->tree);
	int err = directory_find(s, number, directory);
	if (err)
		lock_rw_release(&s->tree);
	else if (mode == DIRECTORY_SHARED)
		lock_acquire(&(*directory)->lock);
	return err;
}

void directory_leave(struct store *s, struct directory *directory, enum directory_mode mode)
{
	if (mode == DIRECTORY_SHARED)
		lock_release(&directory->lock);
	lock_rw_release(&s->tree);
}
