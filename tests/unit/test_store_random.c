/*
 * test_store_random.c: long random sequences of every call of store.h, against a model.
 *
 * Every answer of the store is foretold, errors among them. Time plays no part in it: a TTL is an
 * hour, which never ends here, or a nanosecond, which is over when the call returns. What the
 * reaper thread does meanwhile must never show.
 *
 *	test_store_random [seed [operations]]
 */
#include "store/store.h"

#include "store/core.h"
#include "tests/unit/store_model_names.h"
#include "tests/unit/tap.h"

#include <errno.h>
#include <string.h>

enum { CHECK_EVERY = 300 };

static unsigned char actual[BYTES + 1];
/* Under a sanitizer, which is slow, fewer. */
#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) ||                               \
	__has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
static unsigned operations = 10000;
#else
static unsigned operations = 30000;
#endif

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
	size_t size = tap_below(4) == 0   ? tap_below(max + 1)
		      : tap_below(3) == 0 ? tap_below(70000)
		      : tap_below(2)      ? tap_below(300)
					  : tap_below(9000);
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
		.size = tap_below(4) ? random_size(BYTES) : o->size,
		.mtime = { 12345, 999999999 },
	};
	if (tap_below(2))
		set.mask &= STORE_SET_SIZE;
	set.mask |= tap_below(4) ? 0 : STORE_SET_MTIME;
	unsigned flags =
		(tap_below(3) ? 0 : STORE_KILL_SETID) | (tap_below(3) ? 0 : STORE_BY_HANDLE);
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
	if (set.mask & STORE_SET_UID)
		o->uid = set.uid;
	if (set.mask & STORE_SET_GID)
		o->gid = set.gid;
	kill_setid(o, flags); /* also where the size stays as it is */
	if (set.mask & STORE_SET_MODE)
		o->mode = (o->mode & S_IFMT) | set.mode;
	check_attr(o, &attr);
	CHECK(!(set.mask & STORE_SET_MTIME) || attr.mtime.tv_sec == 12345);
}

/* ---- data ---- */

static const unsigned char *next_pattern(void)
{
	return pattern + tap_below(256);
}

static void op_read(void)
{
	struct model *o = pick_file();
	size_t offset = random_size(BYTES + 10);
	size_t length = random_size(BYTES);
	struct store_view view;
	ssize_t expected = file_error(o, -EINVAL);
	if (!expected && offset < o->size)
		expected = (ssize_t)(length < o->size - offset ? length : o->size - offset);
	ssize_t n = store_read(s, o->number, offset, length, &view);
	CHECK(n == expected);
	if (n < 0)
		return;
	CHECK(view.length == (size_t)n);
	store_view_copy(&view, actual);
	CHECK(n == 0 || !memcmp(actual, o->data + offset, (size_t)n));
	store_view_put(&view);
}

static void op_write(void)
{
	struct model *o = pick_file();
	unsigned flags = (tap_below(5) ? 0 : STORE_APPEND) | (tap_below(5) ? 0 : STORE_KILL_SETID);
	size_t offset = tap_below(3) ? random_size(BYTES) : o->size;
	size_t at = flags & STORE_APPEND ? o->size : offset;
	if (offset > BYTES || at > BYTES || !is_reg(o))
		at = offset = 0;
	size_t length = random_size(BYTES - at);
	const unsigned char *bytes = next_pattern();
	int expected = length ? writable(o, -EINVAL) : 0;
	ssize_t n = store_write(s, o->number, offset, bytes, length, flags);
	CHECK(n == (expected ? expected : (ssize_t)length));
	if (n <= 0)
		return;
	if (at + length > o->size)
		resize(o, at + length);
	memcpy(o->data + at, bytes, length);
	kill_setid(o, flags);
}

static void op_range(void)
{
	struct model *o = pick_file();
	bool punch = tap_below(2);
	unsigned flags =
		(tap_below(2) ? 0 : STORE_KEEP_SIZE) | (tap_below(5) ? 0 : STORE_KILL_SETID);
	size_t offset = random_size(BYTES - 1);
	size_t length = random_size(BYTES - offset);
	int expected = length ? writable(o, -ENODEV) : -EINVAL;
	int err = punch ? store_punch(s, o->number, offset, length, flags)
			: store_fallocate(s, o->number, offset, length, flags);
	CHECK(err == expected);
	if (err)
		return;
	if (punch && offset < o->size)
		memset(o->data + offset, 0, length < o->size - offset ? length : o->size - offset);
	else if (!punch && !(flags & STORE_KEEP_SIZE) && offset + length > o->size)
		resize(o, offset + length);
	kill_setid(o, flags);
}

/* Where data is depends on pages and history; but what is no data must be zero. */
static void op_seek(void)
{
	struct model *o = pick_file();
	size_t offset = random_size(BYTES);
	int64_t data = store_seek(s, o->number, offset, false);
	int64_t hole = store_seek(s, o->number, offset, true);
	if (!is_reg(o) || offset >= o->size) {
		CHECK(data == file_error(o, -EINVAL) || (is_reg(o) && data == -ENXIO));
		CHECK(hole == data);
		return;
	}
	size_t zeros = data < 0 ? o->size : (size_t)data;
	CHECK(data == -ENXIO || (zeros >= offset && zeros < o->size));
	for (size_t i = offset; i < zeros; i++)
		CHECK(o->data[i] == 0);
	CHECK(hole >= (int64_t)offset && hole <= (int64_t)o->size);
	CHECK((zeros == offset) == (hole > (int64_t)offset));
}

static ssize_t copy_expected(const struct model *from, size_t from_offset, const struct model *to,
			     size_t to_offset, size_t length)
{
	int err = file_error(from, -EINVAL);
	if (!err)
		err = writable(to, -EINVAL);
	if (err)
		return err;
	if (from_offset >= from->size)
		return 0;
	if (length > from->size - from_offset)
		length = from->size - from_offset;
	if (from == to && from_offset < to_offset + length && to_offset < from_offset + length)
		return -EINVAL;
	return (ssize_t)length;
}

static void op_copy(void)
{
	struct model *from = pick_file();
	struct model *to = pick_file();
	size_t from_offset = random_size(is_reg(from) ? from->size : 100);
	size_t to_offset = random_size(BYTES);
	size_t length = random_size(BYTES - to_offset);
	ssize_t expected = copy_expected(from, from_offset, to, to_offset, length);
	ssize_t n = store_copy(s, from->number, from_offset, to->number, to_offset, length, 0);
	CHECK(expected <= 0 ? n == expected : n > 0 && n <= expected);
	if (n <= 0)
		return;
	if (to_offset + (size_t)n > to->size)
		resize(to, to_offset + (size_t)n);
	memcpy(to->data + to_offset, from->data + from_offset, (size_t)n);
}

static void op_readlink(void)
{
	struct model *o = pick(NULL);
	size_t size = tap_below(STORE_SYMLINK_MAX + 2);
	ssize_t expected = stale(o) ? stale(o) : S_ISLNK(o->mode) ? (ssize_t)o->size : -EINVAL;
	ssize_t n = store_readlink(s, o->number, (char *)actual, size);
	CHECK(n == expected);
	if (n > 0)
		CHECK(!memcmp(actual, o->data, (size_t)n < size ? (size_t)n : size));
}

/* ---- extended attributes and TTLs ---- */

static void op_setxattr(void)
{
	static const unsigned flag[] = { 0, 0, STORE_CREATE, STORE_REPLACE };
	struct model *o = pick(NULL);
	unsigned x = (unsigned)tap_below(XATTRS);
	unsigned flags = flag[tap_below(4)];
	size_t size = tap_below(tap_below(3) ? 50 : 5000);
	bool remove = tap_below(3) == 0;
	int expected = stale(o);
	if (!expected && o->xattr[x] < 0)
		expected = remove || (flags & STORE_REPLACE) ? -ENODATA : 0;
	else if (!expected && !remove)
		expected = flags & STORE_CREATE ? -EEXIST : 0;
	unsigned char fill = (unsigned char)tap_below(256);
	memset(actual, fill, size);
	int err = remove ? store_removexattr(s, o->number, xattr_names[x])
			 : store_setxattr(s, o->number, xattr_names[x], actual, size, flags);
	CHECK(err == expected);
	if (err)
		return;
	o->xattr[x] = remove ? -1 : (int64_t)size;
	o->xattr_fill[x] = fill;
}

static void op_getxattr(void)
{
	struct model *o = pick(NULL);
	unsigned x = (unsigned)tap_below(XATTRS);
	size_t size = tap_below(6000);
	ssize_t expected = stale(o) ? stale(o) : o->xattr[x] < 0 ? -ENODATA : (ssize_t)o->xattr[x];
	if (expected > 0 && size && size < (size_t)expected)
		expected = -ERANGE;
	ssize_t n = store_getxattr(s, o->number, xattr_names[x], actual, size);
	CHECK(n == expected);
	for (ssize_t i = 0; size && i < n; i++)
		CHECK(actual[i] == o->xattr_fill[x]);
}

static void op_listxattr(void)
{
	struct model *o = pick(NULL);
	ssize_t expected = stale(o);
	for (unsigned x = 0; !stale(o) && x < XATTRS; x++)
		if (o->xattr[x] >= 0)
			expected += (ssize_t)strlen(xattr_names[x]) + 1;
	CHECK(store_listxattr(s, o->number, NULL, 0) == expected);
	if (expected <= 0)
		return;
	char *list = (char *)actual;
	CHECK(store_listxattr(s, o->number, list, (size_t)expected - 1) == -ERANGE ||
	      expected == 1);
	CHECK(store_listxattr(s, o->number, list, (size_t)expected) == expected);
	for (const char *at = list; at < list + expected; at += strlen(at) + 1) {
		bool found = false;
		for (unsigned x = 0; x < XATTRS; x++)
			found = found || (o->xattr[x] >= 0 && !strcmp(at, xattr_names[x]));
		CHECK(found);
	}
}

static void op_set_ttl(void)
{
	static const int64_t periods[] = { STORE_TTL_NONE, STORE_TTL_DEFAULT, HOUR, HOUR, -2, 1 };
	struct model *o = tap_below(3) ? pick_file() : pick(NULL);
	int64_t period = periods[tap_below(tap_below(4) ? 5 : 6)];
	bool had = is_dir(o) ? o->period > 0 : o->timed;
	bool none = !had;
	int expected = stale(o);
	if (!expected && !is_dir(o) && !is_reg(o))
		expected = -EPERM;
	if (!expected && period < (is_dir(o) ? -1 : 0))
		expected = -EINVAL;
	if (is_dir(o) && period == 1 && tap_below(4))
		return; /* everything in it would be born dead: not too often */
	int err = store_set_ttl(s, o->number, period, &none);
	CHECK(err == expected);
	CHECK(none == !had);
	if (err)
		return;
	o->period = period;
	if (is_reg(o))
		arm(o);
}

static void op_get_ttl(void)
{
	struct model *o = pick_file();
	struct store_ttl ttl = { 0 };
	bool has = is_dir(o) ? o->period > 0 : o->timed;
	int expected = stale(o) ? stale(o) : has ? 0 : -ENODATA;
	CHECK(store_get_ttl(s, o->number, &ttl) == expected);
	if (expected)
		return;
	CHECK(ttl.period_ns == o->period);
	CHECK(is_dir(o) || (ttl.left_ns <= HOUR && ttl.left_ns > HOUR / 2));
}

/* ---- by path ---- */

static char path[OBJECTS * (STORE_NAME_MAX + 1) + 1];

/* Writes the path of a directory that has one, with a slash behind it. */
static size_t path_of(const struct model *d)
{
	if (d == objects)
		return 0;
	const struct model *parent = &objects[d->parent];
	size_t length = path_of(parent);
	for (unsigned e = 0; e < parent->count; e++) {
		if (parent->entry[e].object != index_of(d))
			continue;
		unsigned name = parent->entry[e].name;
		memcpy(path + length, names[name], lengths[name]);
		path[length + lengths[name]] = '/';
		return length + lengths[name] + 1;
	}
	return length;
}

static struct model *pick_path(struct model **d, unsigned *name)
{
	*d = pick(is_dir);
	if (!(*d)->nlink)
		*d = objects;
	*name = pick_name(*d);
	size_t length = path_of(*d);
	memcpy(path + length, names[*name], lengths[*name] + 1);
	int at = find(*d, *name);
	return at < 0 ? NULL : &objects[(*d)->entry[at].object];
}

static void op_set(void)
{
	static const int64_t ttls[] = { STORE_TTL_DEFAULT, STORE_TTL_DEFAULT, 0, HOUR, HOUR, 1 };
	struct model *d;
	unsigned name;
	struct model *o = pick_path(&d, &name);
	int64_t ttl = ttls[tap_below(6)];
	size_t size = random_size(BYTES);
	const unsigned char *bytes = next_pattern();
	if (!o && (dir_full(d) || model_count() == OBJECTS))
		return;
	int expected = o ? file_error(o, -EINVAL) : 0;
	int err = store_set(s, path, bytes, size, ttl);
	CHECK(err == expected);
	if (err)
		return;
	if (!o) {
		struct store_attr attr;
		o = model_new();
		o->mode = S_IFREG | 0644;
		o->gid = d->mode & S_ISGID ? d->gid : 0;
		o->nlink = 1;
		entry_add(d, name, o);
		birth_period(o, d, ttl);
		o->timed = o->period > 0;
		err = store_lookup(s, d->number, names[name], lengths[name], 0, &attr);
		CHECK(err == (o->period == 1 ? -ENOENT : 0));
		o->number = err ? 0 : attr.number;
	} else if (ttl != STORE_TTL_DEFAULT && (ttl || o->timed)) {
		o->period = ttl;
		o->timed = ttl > 0;
	}
	resize(o, size);
	memcpy(o->data, bytes, size);
	if (o->timed)
		arm(o);
}

static void op_get(void)
{
	struct model *d;
	unsigned name;
	struct model *o = pick_path(&d, &name);
	size_t size = random_size(BYTES);
	ssize_t expected = !o ? -ENOENT : file_error(o, -EINVAL);
	if (!expected)
		expected = (ssize_t)o->size;
	ssize_t n = store_get(s, path, actual, size);
	CHECK(n == expected);
	if (n > 0)
		CHECK(!memcmp(actual, o->data, size < (size_t)n ? size : (size_t)n));
}

static void op_del(void)
{
	struct model *d;
	unsigned name;
	struct model *o = pick_path(&d, &name);
	int expected = !o ? -ENOENT : is_dir(o) ? -EISDIR : 0;
	CHECK(store_del(s, path) == expected);
	if (expected)
		return;
	entry_remove(d, (unsigned)find(d, name));
	drop_link(o);
}

static void op_mget(void)
{
	enum { KEYS = 100, ROOM = 300 };
	static char buffers[KEYS][ROOM];
	struct store_item items[KEYS];
	unsigned asked[KEYS];
	struct model *d = pick_dir();
	size_t count = tap_below(KEYS + 1);
	ssize_t expected = dir_error(d);
	for (size_t i = 0; i < count; i++) {
		asked[i] = pick_name(d);
		items[i] = (struct store_item){ .name = names[asked[i]],
						.length = lengths[asked[i]],
						.buffer = buffers[i],
						.capacity = ROOM };
		int at = find(d, asked[i]);
		expected += !dir_error(d) && at >= 0 && is_reg(&objects[d->entry[at].object]);
	}
	CHECK(store_mget(s, d->number, items, count) == expected);
	for (size_t i = 0; expected >= 0 && i < count; i++) {
		int at = find(d, asked[i]);
		const struct model *o = at < 0 ? NULL : &objects[d->entry[at].object];
		ssize_t size = !o ? -ENOENT : file_error(o, -EINVAL);
		CHECK(items[i].size == (size ? size : (ssize_t)o->size));
		if (size || !o)
			continue;
		CHECK(!memcmp(buffers[i], o->data, o->size < ROOM ? o->size : ROOM));
	}
}

/* ---- the sequence ---- */

static const struct {
	void (*run)(void);
	unsigned weight;
} ops[] = {
	{ op_create, 30 },  { op_tmpfile, 3 },  { op_lookup, 15 },  { op_link, 10 },
	{ op_remove, 14 },  { op_rename, 20 },  { op_readdir, 6 },  { op_names, 3 },
	{ op_forget, 12 },  { op_getattr, 8 },  { op_setattr, 12 }, { op_read, 15 },
	{ op_write, 30 },   { op_range, 10 },   { op_seek, 5 },     { op_copy, 10 },
	{ op_readlink, 3 }, { op_setxattr, 8 }, { op_getxattr, 5 }, { op_listxattr, 3 },
	{ op_set_ttl, 7 },  { op_get_ttl, 5 },  { op_set, 15 },     { op_get, 8 },
	{ op_del, 4 },      { op_mget, 5 },
};

static void random_op(void)
{
	enum { OPS = sizeof(ops) / sizeof(ops[0]) };
	unsigned total = 0;
	for (unsigned i = 0; i < OPS; i++)
		total += ops[i].weight;
	uint64_t at = tap_below(total);
	unsigned i = 0;
	while (at >= ops[i].weight)
		at -= ops[i++].weight;
	ops[i].run();
}

/* What is counted agrees, once the reaper has come by: at most two ticks after the last expiry. */
static void check_stats(void)
{
	struct store_stats stats;
	uint64_t keys = 0;
	uint64_t timed = 0;
	uint64_t alive = 0;
	for (unsigned i = 0; i < OBJECTS; i++) {
		const struct model *o = &objects[i];
		alive += o->state != FREE;
		keys += o->state == LIVE && is_reg(o) && o->nlink;
		timed += o->state == LIVE && o->timed;
	}
	int64_t end = core_now() + 2 * WHEEL_TICK_NS;
	bool over;
	do {
		over = core_now() > end;
		store_reap(s);
		store_stats(s, &stats);
	} while (!over && (stats.objects != alive || stats.with_ttl != timed));
	CHECK(stats.objects == alive);
	CHECK(stats.keys == keys);
	CHECK(stats.with_ttl == timed);
}

/* Compares everything, by every way that leads to it. */
static void check_all(void)
{
	CHECK(store_check(s) == 0);
	for (unsigned i = 0; i < OBJECTS; i++) {
		const struct model *o = &objects[i];
		struct store_attr attr;
		struct store_view view;
		if (o->state == FREE)
			continue;
		CHECK(store_getattr(s, o->number, STORE_BY_HANDLE, &attr) == 0);
		check_attr(o, &attr);
		if (!is_reg(o))
			continue;
		CHECK(store_read(s, o->number, 0, BYTES, &view) == (ssize_t)o->size);
		store_view_copy(&view, actual);
		CHECK(!memcmp(actual, o->data, o->size));
		store_view_put(&view);
	}
}

static uint64_t table_bytes(void)
{
	uint64_t bytes = 0;
	for (unsigned i = 0; i < s->shard_count; i++)
		bytes += s->shards[i].table_bytes;
	return bytes;
}

/* Bytes that the account holds besides the tables, which shrink in their own time. */
static uint64_t account_used_besides(void)
{
	struct store_stats stats;
	store_stats(s, &stats);
	return stats.bytes_used - table_bytes();
}

static void remove_below(struct model *d)
{
	while (d->count) {
		struct entry e = d->entry[d->count - 1];
		struct model *o = &objects[e.object];
		if (is_dir(o))
			remove_below(o);
		int err =
			is_dir(o)
				? store_rmdir(s, d->number, names[e.name], lengths[e.name], NULL)
				: store_unlink(s, d->number, names[e.name], lengths[e.name], NULL);
		CHECK(err == 0);
		d->count--;
		d->nlink -= is_dir(o);
		drop_link(o);
	}
}

/* Without names and holds nothing is left, to the byte. */
static void empty_again(uint64_t base)
{
	remove_below(&objects[0]);
	for (unsigned i = 0; i < OBJECTS; i++) {
		struct model *o = &objects[i];
		if (o->state == FREE)
			continue;
		store_forget(s, o->number, o->holds);
		o->holds = 0;
		if (i)
			o->state = FREE;
	}
	CHECK(store_removexattr(s, STORE_ROOT, xattr_names[0]) <= 0);
	for (unsigned x = 1; x < XATTRS; x++)
		(void)store_removexattr(s, STORE_ROOT, xattr_names[x]); /* most are not there */
	check_stats();
	CHECK(store_check(s) == 0);
	CHECK(account_used_besides() <= base);
}

static void run(unsigned shards)
{
	const struct store_options options = { .shards = shards };
	for (unsigned i = 0; i < OBJECTS; i++)
		objects[i].state = FREE;
	CHECK(store_open(&s, &options) == 0);
	struct model *root = model_new();
	root->number = STORE_ROOT;
	root->mode = S_IFDIR | 0755;
	root->nlink = 2;
	root->period = STORE_TTL_DEFAULT;
	/* What a TTL and a last tombstone leave with the root stays with it: part of the base. */
	CHECK(store_set_ttl(s, STORE_ROOT, STORE_TTL_DEFAULT, NULL) == 0);
	CHECK(store_set(s, "a", "", 0, 0) == 0);
	CHECK(store_del(s, "a") == 0);
	uint64_t base = account_used_besides();
	for (unsigned i = 1; i <= operations && !atomic_load(&tap_failures); i++) {
		random_op();
		if (atomic_load(&tap_failures))
			printf("# after operation %u\n", i);
		if (i % CHECK_EVERY == 0)
			check_all();
		if (i % (10 * CHECK_EVERY) == 0)
			check_stats();
	}
	if (!atomic_load(&tap_failures))
		empty_again(base);
	store_close(s);
}

static void one_shard(void)
{
	run(1);
}

static void two_shards(void)
{
	run(2);
}

static void many_shards(void)
{
	run(64);
}

static void most_shards(void)
{
	operations /= 8;
	run(1024);
}

static void make_names(void)
{
	for (unsigned i = 0; i < NAMES; i++) {
		lengths[i] = i < 14 ? 1 + i % 3 : i < 18 ? 40 + i : STORE_NAME_MAX;
		memset(names[i], 'a' + (int)i, lengths[i]);
	}
	memcpy(names[13], "\xff\n", 2); /* bytes are bytes */
	memcpy(names[14], ". ..", 4);
}

int main(int argc, char **argv)
{
	tap_begin(argc, argv);
	if (argc > 2)
		operations = (unsigned)strtoul(argv[2], NULL, 0);
	make_names();
	for (size_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (unsigned char)(1 + i % 251);
	tap_case("store: random operations agree with a model, 1 shard", one_shard);
	tap_case("store: random operations agree with a model, 2 shards", two_shards);
	tap_case("store: random operations agree with a model, 64 shards", many_shards);
	tap_case("store: random operations agree with a model, 1024 shards", most_shards);
	return tap_end();
}
