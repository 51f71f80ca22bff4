/*
 * test_store_random.c: long random sequences of every call of store.h, against a model.
 *
 * The model is a few dozen objects with flat contents, and directories as lists of names in the
 * order that readdir promises. Every answer of the store is foretold, errors among them. Time plays
 * no part in it: a TTL is an hour, which never ends here, or a nanosecond, which is over when the
 * call returns. What the reaper thread does meanwhile must never show.
 *
 *	test_store_random [seed [operations]]
 */
#include "store/store.h"

#include "store/core.h"
#include "tests/unit/tap.h"

#include <errno.h>
#include <string.h>

enum {
	OBJECTS = 48,
	ENTRIES = 32,           /* of a directory */
	NAMES = 22,
	XATTRS = 4,
	BYTES = 280000,         /* the largest file: five blocks, the last of them a part */
	CHECK_EVERY = 300,
};

#define HOUR INT64_C(3600000000000)

enum state { FREE, LIVE, EXPIRED };

struct entry {
	unsigned name;
	unsigned object;
};

struct model {
	enum state state;
	bool timed;             /* it has a deadline, in an hour */
	uint64_t number;
	uint32_t mode, uid, gid, nlink, rdev;
	uint64_t holds;
	size_t size;
	unsigned char *data;    /* of files and symbolic links */
	int64_t period;
	int64_t xattr[XATTRS];  /* sizes; -1 = not set */
	unsigned char xattr_fill[XATTRS];
	unsigned parent;        /* of a directory */
	unsigned count;
	struct entry entry[ENTRIES];
};

static struct store *s;
static struct model objects[OBJECTS];
static char names[NAMES][STORE_NAME_MAX + 1];
static size_t lengths[NAMES];
static unsigned char pattern[BYTES + 256];
static unsigned char actual[BYTES + 1];
static unsigned operations = 12000;

static const char *const xattr_names[XATTRS] = { "security.capability", "user.a", "user.bb",
	                                         "trusted.x" };

/* ---- the model ---- */

static bool is_dir(const struct model *o)
{
	return S_ISDIR(o->mode);
}

static bool is_reg(const struct model *o)
{
	return S_ISREG(o->mode);
}

static unsigned index_of(const struct model *o)
{
	return (unsigned)(o - objects);
}

static unsigned model_count(void)
{
	unsigned count = 0;
	for (unsigned i = 0; i < OBJECTS; i++)
		count += objects[i].state != FREE;
	return count;
}

static struct model *model_new(void)
{
	for (unsigned i = 0; i < OBJECTS; i++) {
		struct model *o = &objects[i];
		if (o->state != FREE)
			continue;
		unsigned char *data = o->data ? o->data : malloc(BYTES);
		*o = (struct model){ .state = LIVE, .data = data };
		for (unsigned x = 0; x < XATTRS; x++)
			o->xattr[x] = -1;
		return o;
	}
	return NULL;
}

static struct model *pick(bool (*wanted)(const struct model *))
{
	for (unsigned tries = 0; tries < 60; tries++) {
		struct model *o = &objects[tap_below(OBJECTS)];
		if (o->state != FREE && (!wanted || wanted(o)))
			return o;
	}
	return &objects[0];
}

/* Mostly a directory, and rarely something else, or a removed one. */
static struct model *pick_dir(void)
{
	return pick(tap_below(30) ? is_dir : NULL);
}

static struct model *pick_file(void)
{
	return pick(tap_below(30) ? is_reg : NULL);
}

static int find(const struct model *d, unsigned name)
{
	for (unsigned i = 0; i < d->count; i++)
		if (d->entry[i].name == name)
			return (int)i;
	return -1;
}

static unsigned pick_name(const struct model *d)
{
	if (d->count && tap_below(3))
		return d->entry[tap_below(d->count)].name;
	return (unsigned)tap_below(NAMES);
}

static void entry_remove(struct model *d, unsigned at)
{
	d->count--;
	memmove(&d->entry[at], &d->entry[at + 1], (d->count - at) * sizeof(d->entry[0]));
}

static void entry_add(struct model *d, unsigned name, const struct model *o)
{
	d->entry[d->count++] = (struct entry){ name, index_of(o) };
}

static bool dir_full(const struct model *d)
{
	return d->count == ENTRIES;
}

/* What a directory answers to any call about a name in it. */
static int dir_error(const struct model *d)
{
	if (!is_dir(d))
		return -ENOTDIR;
	return d->nlink ? 0 : -ENOENT;
}

static void spin(void)
{
	int64_t now = core_now();
	while (core_now() <= now + 1)
		;
}

/* Its nanosecond is over: all its names are gone. */
static void expire(struct model *o)
{
	spin();
	for (unsigned i = 0; i < OBJECTS; i++) {
		struct model *d = &objects[i];
		for (unsigned e = d->state == FREE ? 0 : d->count; e-- > 0;)
			if (d->entry[e].object == index_of(o))
				entry_remove(d, e);
	}
	o->timed = false;
	o->nlink = 0;
	o->state = o->holds ? EXPIRED : FREE;
}

/* A period begins, or begins again. */
static void arm(struct model *o)
{
	if (o->period == 1 && o->nlink)
		expire(o);
	else
		o->timed = o->period > 0 && o->nlink;
}

static void drop_link(struct model *o)
{
	o->nlink = is_dir(o) ? 0 : o->nlink - 1;
	if (o->nlink)
		return;
	o->timed = false;
	if (!o->holds)
		o->state = FREE;
}

static void kill_setid(struct model *o, unsigned flags)
{
	if (!(flags & STORE_KILL_SETID))
		return;
	o->xattr[0] = -1;
	if (!is_reg(o))
		return;
	o->mode &= ~(uint32_t)S_ISUID;
	if (o->mode & S_IXGRP)
		o->mode &= ~(uint32_t)S_ISGID;
}

static int stale(const struct model *o)
{
	return o->state == EXPIRED ? -ESTALE : 0;
}

static int file_error(const struct model *o, int other)
{
	if (is_dir(o))
		return -EISDIR;
	return is_reg(o) ? 0 : other;
}

static int writable(const struct model *o, int other)
{
	int err = file_error(o, other);
	return err ? err : stale(o);
}

static void check_attr(const struct model *o, const struct store_attr *a)
{
	CHECK(a->number == o->number);
	CHECK(a->mode == o->mode);
	CHECK(a->uid == o->uid && a->gid == o->gid);
	CHECK(a->nlink == o->nlink);
	CHECK(is_dir(o) || a->size == o->size);
	CHECK(a->rdev == o->rdev);
	CHECK(a->expired == (o->state == EXPIRED));
	CHECK((a->ttl_ns_left != INT64_MAX) == (o->timed || o->state == EXPIRED));
}

/* ---- names ---- */

static void birth_period(struct model *o, const struct model *d, int64_t ttl)
{
	if (is_dir(o))
		o->period = d->period;
	else if (is_reg(o))
		o->period = ttl != STORE_TTL_DEFAULT ? ttl : d->period > 0 ? d->period : 0;
}

static void op_create(void)
{
	static const uint32_t types[] = { S_IFREG, S_IFREG, S_IFREG, S_IFREG, S_IFDIR, S_IFDIR,
		                          S_IFLNK, S_IFIFO, S_IFCHR };
	struct model *d = pick_dir();
	unsigned name = pick_name(d);
	unsigned hold = tap_below(3) ? 0 : STORE_HOLD;
	struct store_birth birth = {
		.mode = types[tap_below(9)] | (uint32_t)tap_below(010000),
		.uid = (uint32_t)tap_below(5),
		.gid = (uint32_t)tap_below(5),
		.target = (const char *)pattern,
		.target_length = 1 + tap_below(tap_below(2) ? 40 : STORE_SYMLINK_MAX),
		.rdev = 77,
	};
	int expected = dir_error(d);
	if (!expected && find(d, name) >= 0)
		expected = -EEXIST;
	if (!expected && (dir_full(d) || model_count() == OBJECTS))
		return;
	struct store_attr attr;
	int err = store_create(s, d->number, names[name], lengths[name], &birth, hold, &attr);
	CHECK(err == expected);
	if (err)
		return;
	struct model *o = model_new();
	o->number = attr.number;
	o->mode = birth.mode;
	o->uid = birth.uid;
	o->gid = birth.gid;
	if (d->mode & S_ISGID) {
		o->gid = d->gid;
		o->mode |= is_dir(o) ? S_ISGID : 0;
	}
	o->nlink = is_dir(o) ? 2 : 1;
	o->holds = hold != 0;
	o->parent = index_of(d);
	if (S_ISLNK(o->mode)) {
		o->size = birth.target_length;
		memcpy(o->data, birth.target, o->size);
	}
	o->rdev = S_ISCHR(o->mode) ? birth.rdev : 0;
	d->nlink += is_dir(o);
	entry_add(d, name, o);
	birth_period(o, d, STORE_TTL_DEFAULT);
	o->timed = is_reg(o) && o->period > 0;
	if (o->period != 1)
		check_attr(o, &attr);
	if (is_reg(o))
		arm(o);
}

static void op_tmpfile(void)
{
	struct model *d = pick_dir();
	struct store_birth birth = { .mode = S_IFREG | 0600, .uid = 3, .gid = 4 };
	struct store_attr attr;
	if (!dir_error(d) && model_count() == OBJECTS)
		return;
	int err = store_tmpfile(s, d->number, &birth, &attr);
	CHECK(err == dir_error(d));
	if (err)
		return;
	struct model *o = model_new();
	o->number = attr.number;
	o->mode = birth.mode;
	o->uid = birth.uid;
	o->gid = d->mode & S_ISGID ? d->gid : birth.gid;
	o->holds = 1;
	birth_period(o, d, STORE_TTL_DEFAULT);
	check_attr(o, &attr);
}

static void op_lookup(void)
{
	struct model *d = pick_dir();
	unsigned name = pick_name(d);
	unsigned hold = tap_below(4) ? 0 : STORE_HOLD;
	const char *text = names[name];
	size_t length = lengths[name];
	int at = find(d, name);
	int expected = dir_error(d);
	struct model *o = at < 0 ? NULL : &objects[d->entry[at].object];
	if (tap_below(10) == 0) {
		length = 1 + tap_below(2);
		text = "..";
		o = length == 1 || d == objects ? d : &objects[d->parent];
		if (is_dir(d) && length == 1 && !d->nlink)
			return; /* "." of a removed directory: nobody asks for it by name */
	}
	if (!expected && !o)
		expected = -ENOENT;
	struct store_attr attr;
	int err = store_lookup(s, d->number, text, length, hold, &attr);
	CHECK(err == expected);
	if (err)
		return;
	check_attr(o, &attr);
	o->holds += hold != 0;
}

static void op_link(void)
{
	struct model *d = pick_dir();
	struct model *o = pick(tap_below(4) ? is_reg : NULL);
	unsigned name = pick_name(d);
	unsigned hold = tap_below(3) ? 0 : STORE_HOLD;
	int expected = dir_error(d);
	if (!expected)
		expected = find(d, name) >= 0 ? -EEXIST : is_dir(o) ? -EPERM : stale(o);
	if (!expected && dir_full(d))
		return;
	struct store_attr attr;
	int err = store_link(s, o->number, d->number, names[name], lengths[name], hold, &attr);
	CHECK(err == expected);
	if (err)
		return;
	entry_add(d, name, o);
	o->holds += hold != 0;
	o->nlink++;
	if (o->nlink == 1)
		o->timed = o->period > 0;
	if (!o->timed || o->period != 1)
		check_attr(o, &attr);
	if (o->nlink == 1)
		arm(o);
}

static void op_remove(void)
{
	struct model *d = pick_dir();
	unsigned name = pick_name(d);
	bool rmdir = tap_below(3) == 0;
	int at = find(d, name);
	struct model *o = at < 0 ? NULL : &objects[d->entry[at].object];
	uint64_t number = 0;
	int expected = dir_error(d);
	if (!expected && !o)
		expected = -ENOENT;
	if (!expected && rmdir)
		expected = !is_dir(o) ? -ENOTDIR : o->count ? -ENOTEMPTY : 0;
	else if (!expected)
		expected = is_dir(o) ? -EISDIR : 0;
	int err = rmdir ? store_rmdir(s, d->number, names[name], lengths[name], &number) :
	                  store_unlink(s, d->number, names[name], lengths[name], &number);
	CHECK(err == expected);
	if (err)
		return;
	CHECK(number == o->number);
	entry_remove(d, (unsigned)at);
	d->nlink -= rmdir;
	drop_link(o);
}

static bool within(const struct model *below, const struct model *o)
{
	while (below != o && below != objects)
		below = &objects[below->parent];
	return below == o;
}

/* Both directories are good; from is there; to may be NULL. 1: nothing to do. */
static int rename_error(const struct model *fd, const struct model *from, const struct model *td,
                        const struct model *to, unsigned flags)
{
	if (!from || (!to && (flags & STORE_EXCHANGE)))
		return -ENOENT;
	if (to && (flags & STORE_NOREPLACE))
		return -EEXIST;
	if (is_dir(from) && within(td, from))
		return -EINVAL;
	if (to && (flags & STORE_EXCHANGE) && is_dir(to) && within(fd, to))
		return -EINVAL;
	if (!to || (flags & STORE_EXCHANGE))
		return to == from ? 1 : 0;
	if (to == from)
		return 1;
	if (is_dir(to) != is_dir(from))
		return is_dir(to) ? -EISDIR : -ENOTDIR;
	return is_dir(to) && to->count ? -ENOTEMPTY : 0;
}

static void rename_apply(struct model *fd, unsigned f, struct model *td, int t, unsigned name,
                         unsigned flags)
{
	struct model *from = &objects[fd->entry[f].object];
	struct model *to = t < 0 ? NULL : &objects[td->entry[t].object];
	fd->nlink -= is_dir(from);
	td->nlink += is_dir(from);
	if (is_dir(from))
		from->parent = index_of(td);
	if (to)
		td->nlink -= is_dir(to);
	if (flags & STORE_EXCHANGE) {
		fd->nlink += is_dir(to);
		if (is_dir(to))
			to->parent = index_of(fd);
		fd->entry[f].object = index_of(to);
		td->entry[t].object = index_of(from);
		return;
	}
	if (to) {
		td->entry[t].object = index_of(from);
		drop_link(to);
	} else {
		entry_add(td, name, from);
	}
	entry_remove(fd, f);
}

static void op_rename(void)
{
	static const unsigned flag[] = { 0, 0, 0, STORE_NOREPLACE, STORE_EXCHANGE };
	struct model *fd = pick_dir();
	struct model *td = tap_below(2) ? fd : pick_dir();
	unsigned flags = flag[tap_below(5)];
	unsigned a = pick_name(fd);
	unsigned b = pick_name(td);
	int f = find(fd, a);
	int t = find(td, b);
	int expected = dir_error(fd);
	if (!expected)
		expected = dir_error(td);
	if (!expected)
		expected = rename_error(fd, f < 0 ? NULL : &objects[fd->entry[f].object], td,
		                        t < 0 ? NULL : &objects[td->entry[t].object], flags);
	if (!expected && t < 0 && dir_full(td))
		return;
	int err = store_rename(s, fd->number, names[a], lengths[a], td->number, names[b],
	                       lengths[b], flags);
	CHECK(err == (expected > 0 ? 0 : expected));
	if (!expected && !err)
		rename_apply(fd, (unsigned)f, td, t, b, flags);
}

struct listing {
	const struct model *dir;
	unsigned at;            /* 0 and 1 are the dots */
	unsigned stop;
	unsigned flags;
	uint64_t cookie;
};

static bool on_entry(void *context, const struct store_dirent *e)
{
	struct listing *l = context;
	if (l->at == l->stop)
		return false;
	CHECK(e->cookie > l->cookie);
	l->cookie = e->cookie;
	if (l->at < 2) {
		CHECK(e->length == l->at + 1 && !memcmp(e->name, "..", e->length));
		CHECK(e->attr.number == (l->at && l->dir != objects ?
		                                 objects[l->dir->parent].number :
		                                 l->dir->number));
	} else {
		CHECK(l->at - 2 < l->dir->count);
		const struct entry *m = &l->dir->entry[(l->at - 2) % ENTRIES];
		struct model *o = &objects[m->object];
		CHECK(e->length == lengths[m->name]);
		CHECK(!memcmp(e->name, names[m->name], e->length + 1));
		check_attr(o, &e->attr);
		o->holds += (l->flags & STORE_HOLD) != 0;
	}
	l->at++;
	return true;
}

/* Lists it in pieces of random length. */
static void op_readdir(void)
{
	struct model *d = pick_dir();
	struct listing l = { .dir = d, .flags = tap_below(4) ? 0 : STORE_HOLD };
	unsigned end = d->nlink ? d->count + 2 : 0;
	int expected = is_dir(d) ? 0 : -ENOTDIR;
	do {
		unsigned begin = l.at;
		l.stop = begin + 1 + (unsigned)tap_below(2 * ENTRIES);
		int err = store_readdir(s, d->number, l.cookie, l.flags, on_entry, &l);
		CHECK(err == expected);
		CHECK(err || l.at == (end < l.stop ? end : l.stop));
		if (err || (l.at == begin && l.at != end))
			return;
	} while (l.at < end);
}

struct name_list {
	const struct model *o;
	int count;
};

static void on_name(void *context, uint64_t directory, const char *text, size_t length)
{
	struct name_list *l = context;
	bool found = false;
	for (unsigned i = 0; i < OBJECTS; i++) {
		const struct model *d = &objects[i];
		for (unsigned e = 0; d->state == LIVE && d->number == directory && e < d->count; e++)
			found = found || (d->entry[e].object == index_of(l->o) &&
			                  lengths[d->entry[e].name] == length &&
			                  !memcmp(names[d->entry[e].name], text, length));
	}
	CHECK(found);
	l->count++;
}

static void op_names(void)
{
	struct name_list l = { .o = pick(NULL) };
	int links = is_dir(l.o) ? l.o != objects && l.o->nlink : (int)l.o->nlink;
	if (l.o->state == EXPIRED)
		return; /* the reaper may or may not have been there */
	CHECK(store_names(s, l.o->number, on_name, &l) == links);
	CHECK(l.count == links);
}

/* ---- objects ---- */

static void op_forget(void)
{
	struct model *o = pick(NULL);
	uint64_t count = tap_below(2) ? o->holds : 1;
	if (!o->holds)
		return;
	store_forget(s, o->number, count);
	o->holds -= count;
	struct store_attr attr;
	if (!o->holds && !o->nlink) {
		int err = store_getattr(s, o->number, 0, &attr);
		CHECK(err == -ENOENT || (o->state == EXPIRED && err == -ESTALE));
		o->state = FREE;
	}
}

static void op_getattr(void)
{
	struct model *o = pick(NULL);
	struct store_attr attr;
	CHECK(store_getattr(s, o->number, 0, &attr) == stale(o));
	CHECK(store_getattr(s, o->number, STORE_BY_HANDLE, &attr) == 0);
	check_attr(o, &attr);
	CHECK(store_sync(s, o->number) == 0);
}

static void resize(struct model *o, size_t size)
{
	if (size > o->size)
		memset(o->data + o->size, 0, size - o->size);
	o->size = size;
}

/* A size or an offset: mostly small, and often near something. */
static size_t random_size(size_t max)
{
	size_t size = tap_below(4) == 0 ? tap_below(max + 1) :
	              tap_below(3) == 0 ? tap_below(70000) :
	              tap_below(2)      ? tap_below(300) :
	                                  tap_below(9000);
	return size > max ? max : size;
}

static void op_setattr(void)
{
	struct model *o = tap_below(2) ? pick_file() : pick(NULL);
	struct store_setattr set = {
		.mask = (unsigned)tap_below(16),
		.mode = (uint32_t)tap_below(010000),
		.uid = (uint32_t)tap_below(5),
		.gid = (uint32_t)tap_below(5),
		.size = random_size(BYTES),
		.mtime = { 12345, 999999999 },
	};
	if (tap_below(2))
		set.mask &= STORE_SET_SIZE;
	set.mask |= tap_below(4) ? 0 : STORE_SET_MTIME;
	unsigned flags = (tap_below(3) ? 0 : STORE_KILL_SETID) | (tap_below(3) ? 0 : STORE_BY_HANDLE);
	bool resized = set.mask & STORE_SET_SIZE;
	int expected = stale(o);
	if (!expected && resized)
		expected = file_error(o, -EINVAL);
	struct store_attr attr;
	int err = store_setattr(s, o->number, &set, flags, &attr);
	CHECK(err == expected);
	if (err)
		return;
	resized = resized && (set.size != o->size || (flags & STORE_BY_HANDLE));
	if (resized)
		resize(o, set.size);
	if (set.mask & STORE_SET_MODE)
		o->mode = (o->mode & S_IFMT) | set.mode;
	if (set.mask & STORE_SET_UID)
		o->uid = set.uid;
	if (set.mask & STORE_SET_GID)
		o->gid = set.gid;
	if (resized || (set.mask & ~(unsigned)STORE_SET_SIZE))
		kill_setid(o, flags);
	check_attr(o, &attr);
	CHECK(!(set.mask & STORE_SET_MTIME) || attr.mtime.tv_sec == 12345);
}
