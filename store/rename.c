/*
 * rename.c: moving a name, replacing or exchanging another.
 *
 * Within one directory, and when no directory object is involved, the tree lock is held shared and
 * the directory's mutex does the rest; otherwise the tree is held exclusive, so that no ancestor
 * can move meanwhile and no directory can vanish.
 *
 * A name that is replaced or exchanged keeps its place (its cookie) in the directory's order: a
 * listing that goes on meanwhile sees that name once, as it must of a name that is always there. A
 * name that becomes another in the same directory keeps it, too.
 */
#include "store/remove.h"

#include <errno.h>
#include <string.h>

/* One of the two names. */
struct rename_end {
	struct directory *directory;
	struct shard_key key;
	struct names_found found;
};

struct rename {
	struct store *store;
	struct rename_end from, to;
	unsigned flags;
	enum directory_mode mode;
};

/* Whether `below` is the directory `number`, or lies in it. The tree is held exclusive. */
static bool is_within(struct store *s, uint64_t below, uint64_t number)
{
	while (below != number && below != STORE_ROOT) {
		struct shard *shard = core_shard_of_number(s, below);
		struct object_name_ref ref = { 0 };
		lock_acquire(&shard->lock);
		struct object *object = shard_object(shard, below);
		bool named = object && object_name_any(object, &ref);
		lock_release(&shard->lock);
		if (!named)
			return false;
		below = ref.directory;
	}
	return below == number;
}

static bool is_dir(const struct rename_end *end)
{
	return end->found.state == NAMES_LIVE && S_ISDIR(end->found.mode);
}

/* What rename(2) demands of the two. 0, -errno, or 1 when there is nothing to do. */
static int rename_check(const struct rename *r)
{
	const struct rename_end *from = &r->from;
	const struct rename_end *to = &r->to;
	bool exchange = r->flags & STORE_EXCHANGE;
	bool there = to->found.state == NAMES_LIVE;
	if (from->found.state == NAMES_ABSENT || (exchange && !there))
		return -ENOENT;
	if (there && (r->flags & STORE_NOREPLACE))
		return -EEXIST;
	if (is_dir(from) && is_within(r->store, to->directory->number, from->found.number))
		return -EINVAL;
	if (exchange && is_dir(to) &&
	    is_within(r->store, from->directory->number, to->found.number))
		return -EINVAL;
	if (!there)
		return 0;
	if (to->found.number == from->found.number)
		return 1;
	if (exchange)
		return 0;
	if (is_dir(from) != is_dir(to))
		return is_dir(to) ? -EISDIR : -ENOTDIR;
	return is_dir(to) ? remove_check_empty(r->store, to->found.number) : 0;
}

static void rename_lock(struct rename *r, struct batch *b)
{
	batch_init(b, r->store);
	batch_lock_number(b, r->from.directory->number);
	batch_lock_number(b, r->to.directory->number);
	batch_lock_number(b, r->from.found.number);
	batch_lock_name(b, &r->from.key);
	batch_lock_name(b, &r->to.key);
	if (r->to.found.state == NAMES_LIVE)
		batch_lock_number(b, r->to.found.number);
	batch_lock(b);
}

static struct object *object_of(struct rename *r, uint64_t number)
{
	struct object *object = core_object(r->store, number);
	assert(object);
	return object;
}

static void set_ctime(struct batch *b, struct object *object, struct timespec now)
{
	struct batch_op *op = batch_add(b, BATCH_ATTR, object);
	op->attr.mask = STORE_SET_CTIME;
	op->attr.ctime = now;
}

/* The directories' times, and their link counts as subdirectories come and go. */
static void rename_touch(struct rename *r, struct batch *b, int from_links, int to_links,
			 struct timespec now)
{
	struct object *from = object_of(r, r->from.directory->number);
	struct object *to = object_of(r, r->to.directory->number);
	if (from == to) {
		batch_touch_directory(b, from, now, from_links + to_links);
		return;
	}
	batch_touch_directory(b, from, now, from_links);
	batch_touch_directory(b, to, now, to_links);
}

static int rename_move(struct rename *r, struct batch *b, struct timespec now)
{
	struct rename_end *from = &r->from;
	struct rename_end *to = &r->to;
	struct object *moved = object_of(r, from->found.number);
	int directory = object_is_dir(moved) ? 1 : 0;
	int replaced = 0;
	/* A new name in the same directory stays where the old one was: moved to the end, it would
	 * meet a listing that renames what it sees again and again. */
	bool stays = from->directory == to->directory && to->found.state != NAMES_LIVE;
	if (stays)
		to->found.cookie = from->found.cookie;
	batch_name_del(b, moved, from->directory, &from->key, from->found.cookie, stays);
	if (to->found.state == NAMES_LIVE) {
		struct object *victim = object_of(r, to->found.number);
		replaced = object_is_dir(victim) ? 1 : 0;
		batch_name_del(b, victim, to->directory, &to->key, to->found.cookie, true);
		batch_drop_link(b, victim, now);
	}
	batch_name_put(b, moved, to->directory, &to->key, to->found.cookie);
	set_ctime(b, moved, now);
	rename_touch(r, b, -directory, directory - replaced, now);
	return batch_commit(b);
}

static int rename_exchange(struct rename *r, struct batch *b, struct timespec now)
{
	struct rename_end *from = &r->from;
	struct rename_end *to = &r->to;
	struct object *first = object_of(r, from->found.number);
	struct object *second = object_of(r, to->found.number);
	int shift = (object_is_dir(second) ? 1 : 0) - (object_is_dir(first) ? 1 : 0);
	batch_name_del(b, first, from->directory, &from->key, from->found.cookie, true);
	batch_name_del(b, second, to->directory, &to->key, to->found.cookie, true);
	batch_name_put(b, first, to->directory, &to->key, to->found.cookie);
	batch_name_put(b, second, from->directory, &from->key, from->found.cookie);
	set_ctime(b, first, now);
	set_ctime(b, second, now);
	rename_touch(r, b, shift, -shift, now);
	return batch_commit(b);
}

/* With the directories held. -EDEADLK: a directory is involved, so the tree must be exclusive. */
static int rename_in(struct rename *r)
{
	struct batch b;
	struct timespec now = core_time();
	/* The old name last: if it expires at this moment, nothing more is done; and the new name,
	 * which may be the same one, cannot be reaped after the old one was found. */
	int err = names_settle(r->store, r->to.directory, &r->to.key, &r->to.found);
	if (!err)
		err = names_settle(r->store, r->from.directory, &r->from.key, &r->from.found);
	if (!err && r->mode == DIRECTORY_SHARED && (is_dir(&r->from) || is_dir(&r->to)))
		err = -EDEADLK;
	if (!err)
		err = rename_check(r);
	if (err)
		return err < 0 ? err : 0;
	rename_lock(r, &b);
	err = r->flags & STORE_EXCHANGE ? rename_exchange(r, &b, now) : rename_move(r, &b, now);
	batch_unlock(&b);
	return err;
}

static int rename_held(struct rename *r, uint64_t from, uint64_t to, enum directory_mode mode)
{
	r->mode = mode;
	int err = directory_enter(r->store, from, mode, &r->from.directory);
	if (err)
		return err;
	r->to.directory = r->from.directory;
	if (to != from)
		err = directory_find(r->store, to, &r->to.directory);
	if (!err)
		err = rename_in(r);
	directory_leave(r->store, r->from.directory, mode);
	return err;
}

int store_rename(struct store *s, uint64_t from_directory, const char *from, size_t from_length,
		 uint64_t to_directory, const char *to, size_t to_length, unsigned flags)
{
	int err = names_valid(from, from_length);
	if (!err)
		err = names_valid(to, to_length);
	if (!err && (flags & STORE_NOREPLACE) && (flags & STORE_EXCHANGE))
		err = -EINVAL;
	if (!err)
		err = log_reserve(&s->log, from_length + to_length);
	if (err)
		return err;
	struct rename r = { .store = s, .flags = flags };
	r.from.key = shard_key(from_directory, from, from_length);
	r.to.key = shard_key(to_directory, to, to_length);
	err = -EDEADLK;
	if (from_directory == to_directory)
		err = rename_held(&r, from_directory, to_directory, DIRECTORY_SHARED);
	/* Again while an old directory that is in the way is being emptied of expired names. */
	while (err == -EDEADLK || err == -EAGAIN)
		err = rename_held(&r, from_directory, to_directory, DIRECTORY_EXCLUSIVE);
	return err;
}
