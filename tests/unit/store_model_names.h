/*
 * store_model_names.h: the operations of test_store_random.c on names, each done to the store and
 * to the model.
 *
 * Ownership: as store_model.h.
 * Threads:   one.
 * Errors:    none; a wrong answer of the store is a failed CHECK.
 */
#ifndef TESTS_UNIT_STORE_MODEL_NAMES_H
#define TESTS_UNIT_STORE_MODEL_NAMES_H

#include "tests/unit/store_model.h"

static inline void birth_period(struct model *o, const struct model *d, int64_t ttl)
{
	if (is_dir(o))
		o->period = d->period;
	else if (is_reg(o))
		o->period = ttl != STORE_TTL_DEFAULT ? ttl : d->period > 0 ? d->period : 0;
}

static inline void op_create(void)
{
	static const uint32_t types[] = { S_IFREG, S_IFREG, S_IFREG, S_IFREG, S_IFDIR,
					  S_IFDIR, S_IFLNK, S_IFIFO, S_IFCHR };
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

static inline void op_tmpfile(void)
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

static inline void op_lookup(void)
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

static inline void op_link(void)
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

static inline void op_remove(void)
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
	int err = rmdir ? store_rmdir(s, d->number, names[name], lengths[name], &number)
			: store_unlink(s, d->number, names[name], lengths[name], &number);
	CHECK(err == expected);
	if (err)
		return;
	CHECK(number == o->number);
	entry_remove(d, (unsigned)at);
	d->nlink -= rmdir;
	drop_link(o);
}

static inline bool within(const struct model *below, const struct model *o)
{
	while (below != o && below != objects)
		below = &objects[below->parent];
	return below == o;
}

/* Both directories are good; from is there; to may be NULL. 1: nothing to do. */
static inline int rename_error(const struct model *fd, const struct model *from,
			       const struct model *td, const struct model *to, unsigned flags)
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

static inline void rename_apply(struct model *fd, unsigned f, struct model *td, int t,
				unsigned name, unsigned flags)
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
	} else if (fd == td) {
		fd->entry[f].name = name; /* it stays where it was */
		return;
	} else {
		entry_add(td, name, from);
	}
	entry_remove(fd, f);
}

static inline void op_rename(void)
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
	unsigned at; /* 0 and 1 are the dots */
	unsigned stop;
	unsigned flags;
	uint64_t cookie;
};

static inline bool on_entry(void *context, const struct store_dirent *e)
{
	struct listing *l = context;
	if (l->at == l->stop)
		return false;
	CHECK(e->cookie > l->cookie);
	l->cookie = e->cookie;
	if (l->at < 2) {
		CHECK(e->length == l->at + 1 && !memcmp(e->name, "..", e->length));
		CHECK(e->attr.number == (l->at && l->dir != objects ? objects[l->dir->parent].number
								    : l->dir->number));
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
static inline void op_readdir(void)
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

static inline void on_name(void *context, uint64_t directory, const char *text, size_t length)
{
	struct name_list *l = context;
	bool found = false;
	for (unsigned i = 0; i < OBJECTS; i++) {
		const struct model *d = &objects[i];
		for (unsigned e = 0; d->state == LIVE && d->number == directory && e < d->count;
		     e++)
			found = found || (d->entry[e].object == index_of(l->o) &&
					  lengths[d->entry[e].name] == length &&
					  !memcmp(names[d->entry[e].name], text, length));
	}
	CHECK(found);
	l->count++;
}

static inline void op_names(void)
{
	struct name_list l = { .o = pick(NULL) };
	int links = is_dir(l.o) ? l.o != objects && l.o->nlink : (int)l.o->nlink;
	if (l.o->state == EXPIRED)
		return; /* the reaper may or may not have been there */
	CHECK(store_names(s, l.o->number, on_name, &l) == links);
	CHECK(l.count == links);
}

#endif
