/*
 * store_model.h: the model that test_store_random.c holds the store against: objects with flat
 * contents, and directories as lists of names in the order that readdir promises.
 *
 * Ownership: static arrays of the program that includes this; contents stay allocated for reuse.
 * Threads:   one.
 * Errors:    none; what the store must answer is computed here, as -errno.
 */
#ifndef TESTS_UNIT_STORE_MODEL_H
#define TESTS_UNIT_STORE_MODEL_H

#include "store/core.h"
#include "tests/unit/tap.h"

#include <errno.h>
#include <string.h>

enum {
	OBJECTS = 48,
	ENTRIES = 32, /* of a directory */
	NAMES = 22,
	XATTRS = 4,
	BYTES = 280000, /* the largest file: five blocks, the last of them a part */
};

#define HOUR INT64_C(3600000000000)

enum state { FREE, LIVE, EXPIRED };

struct entry {
	unsigned name;
	unsigned object;
};

struct model {
	enum state state;
	bool timed; /* it has a deadline, in an hour */
	uint64_t number;
	uint32_t mode, uid, gid, nlink, rdev;
	uint64_t holds;
	size_t size;
	unsigned char *data; /* of files and symbolic links */
	int64_t period;
	int64_t xattr[XATTRS]; /* sizes; -1 = not set */
	unsigned char xattr_fill[XATTRS];
	unsigned parent; /* of a directory */
	unsigned count;
	struct entry entry[ENTRIES];
};

static struct model objects[OBJECTS];
static struct store *s;
static char names[NAMES][STORE_NAME_MAX + 1];
static size_t lengths[NAMES];
static unsigned char pattern[BYTES + 256];

static const char *const xattr_names[XATTRS] = { "security.capability", "user.a", "user.bb",
						 "trusted.x" };

static inline bool is_dir(const struct model *o)
{
	return S_ISDIR(o->mode);
}

static inline bool is_reg(const struct model *o)
{
	return S_ISREG(o->mode);
}

static inline unsigned index_of(const struct model *o)
{
	return (unsigned)(o - objects);
}

static inline unsigned model_count(void)
{
	unsigned count = 0;
	for (unsigned i = 0; i < OBJECTS; i++)
		count += objects[i].state != FREE;
	return count;
}

static inline struct model *model_new(void)
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
	abort(); /* who calls this has asked model_count() */
}

static inline struct model *pick(bool (*wanted)(const struct model *))
{
	for (unsigned tries = 0; tries < 60; tries++) {
		struct model *o = &objects[tap_below(OBJECTS)];
		if (o->state != FREE && (!wanted || wanted(o)))
			return o;
	}
	return &objects[0];
}

/* Mostly a directory, and rarely something else, or a removed one. */
static inline struct model *pick_dir(void)
{
	return pick(tap_below(30) ? is_dir : NULL);
}

static inline struct model *pick_file(void)
{
	return pick(tap_below(30) ? is_reg : NULL);
}

static inline int find(const struct model *d, unsigned name)
{
	for (unsigned i = 0; i < d->count; i++)
		if (d->entry[i].name == name)
			return (int)i;
	return -1;
}

static inline unsigned pick_name(const struct model *d)
{
	if (d->count && tap_below(3))
		return d->entry[tap_below(d->count)].name;
	return (unsigned)tap_below(NAMES);
}

static inline void entry_remove(struct model *d, unsigned at)
{
	d->count--;
	memmove(&d->entry[at], &d->entry[at + 1], (d->count - at) * sizeof(d->entry[0]));
}

static inline void entry_add(struct model *d, unsigned name, const struct model *o)
{
	d->entry[d->count++] = (struct entry){ name, index_of(o) };
}

static inline bool dir_full(const struct model *d)
{
	return d->count == ENTRIES;
}

/* What a directory answers to any call about a name in it. */
static inline int dir_error(const struct model *d)
{
	if (!is_dir(d))
		return -ENOTDIR;
	return d->nlink ? 0 : -ENOENT;
}

static inline void spin(void)
{
	int64_t now = core_now();
	while (core_now() <= now + 1)
		;
}

/* Its nanosecond is over: all its names are gone. */
static inline void expire(struct model *o)
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
static inline void arm(struct model *o)
{
	if (o->period == 1 && o->nlink)
		expire(o);
	else
		o->timed = o->period > 0 && o->nlink;
}

static inline void drop_link(struct model *o)
{
	o->nlink = is_dir(o) ? 0 : o->nlink - 1;
	if (o->nlink)
		return;
	o->timed = false;
	if (!o->holds)
		o->state = FREE;
}

static inline void kill_setid(struct model *o, unsigned flags)
{
	if (!(flags & STORE_KILL_SETID))
		return;
	o->xattr[0] = -1;
	if (is_dir(o))
		return;
	o->mode &= ~(uint32_t)S_ISUID;
	if (o->mode & S_IXGRP)
		o->mode &= ~(uint32_t)S_ISGID;
}

static inline int stale(const struct model *o)
{
	return o->state == EXPIRED ? -ESTALE : 0;
}

static inline int file_error(const struct model *o, int other)
{
	if (is_dir(o))
		return -EISDIR;
	return is_reg(o) ? 0 : other;
}

static inline int writable(const struct model *o, int other)
{
	int err = file_error(o, other);
	return err ? err : stale(o);
}

static inline void check_attr(const struct model *o, const struct store_attr *a)
{
	CHECK(a->number == o->number);
	CHECK(a->mode == o->mode);
	CHECK(a->uid == o->uid && a->gid == o->gid);
	CHECK(a->nlink == o->nlink || o->state == EXPIRED); /* the reaper takes its names */
	CHECK(is_dir(o) || a->size == o->size);
	CHECK(a->rdev == o->rdev);
	CHECK(a->expired == (o->state == EXPIRED));
	CHECK((a->ttl_ns_left != INT64_MAX) == (o->timed || o->state == EXPIRED));
}

#endif
