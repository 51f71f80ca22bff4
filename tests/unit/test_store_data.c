/*
 * test_store_data.c: the contract of store.h about the bytes and attributes of one object: values
 * that pass between inline and extents, sparse files, set-id bits, limits, and the bound.
 */
#include "store/store.h"

#include "tests/unit/tap.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static struct store *s;
static struct store_attr attr;
static unsigned char bytes[STORE_IO_MAX];
static unsigned char actual[STORE_IO_MAX];

static void begin_with(struct store_options options)
{
	CHECK(store_open(&s, &options) == 0);
}

static void begin(void)
{
	begin_with((struct store_options){ .shards = 2 });
}

static void end(void)
{
	CHECK(store_check(s) == 0);
	store_close(s);
}

static uint64_t make(const char *name, uint32_t mode)
{
	const struct store_birth birth = { .mode = mode };
	CHECK(store_create(s, STORE_ROOT, name, strlen(name), &birth, 0, &attr) == 0);
	return attr.number;
}

static struct store_attr get(uint64_t number)
{
	struct store_attr a = { 0 };
	CHECK(store_getattr(s, number, 0, &a) == 0);
	return a;
}

static int truncate_to(uint64_t number, uint64_t size)
{
	const struct store_setattr set = { .mask = STORE_SET_SIZE, .size = size };
	return store_setattr(s, number, &set, 0, NULL);
}

static ssize_t write_at(uint64_t number, uint64_t offset, size_t length)
{
	return store_write(s, number, offset, bytes, length, 0);
}

static ssize_t read_at(uint64_t number, uint64_t offset, size_t length)
{
	struct store_view view;
	ssize_t n = store_read(s, number, offset, length, &view);
	if (n < 0)
		return n;
	CHECK(view.length == (size_t)n);
	store_view_copy(&view, actual);
	store_view_put(&view);
	return n;
}

static bool zeros(size_t from, size_t to)
{
	while (from < to && !actual[from])
		from++;
	return from >= to;
}

static uint64_t used(void)
{
	struct store_stats stats;
	store_stats(s, &stats);
	return stats.bytes_used;
}

/* Written, cut, grown and written into again, at every size where a value changes its form. */
static void forms(void)
{
	static const size_t sizes[] = { 0, 1, 100, 255, 256, 257, 4097, 65535, 65536, 65537 };
	enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };
	begin();
	uint64_t f = make("f", S_IFREG);
	for (unsigned i = 0; i < SIZES * SIZES * SIZES; i++) {
		size_t written = sizes[i % SIZES];
		size_t cut = sizes[i / SIZES % SIZES];
		size_t grown = sizes[i / SIZES / SIZES];
		size_t kept = written < cut ? written : cut;
		kept = kept < grown ? kept : grown;
		CHECK(truncate_to(f, 0) == 0 && get(f).bytes == 0);
		CHECK(write_at(f, 0, written) == (ssize_t)written);
		CHECK(truncate_to(f, cut) == 0 && truncate_to(f, grown) == 0);
		CHECK(get(f).size == grown && read_at(f, 0, 70000) == (ssize_t)grown);
		CHECK(!memcmp(actual, bytes, kept) && zeros(kept, grown));
		CHECK(write_at(f, grown, 10) == 10 && write_at(f, grown / 2, 1) == 1);
		CHECK(read_at(f, 0, 70000) == (ssize_t)grown + 10);
		CHECK(actual[grown / 2] == bytes[0] && actual[grown + 9] == bytes[9]);
	}
	CHECK(truncate_to(f, 0) == 0 && get(f).bytes == 0);
	end();
}

static void far_away(void)
{
	begin();
	uint64_t f = make("f", S_IFREG);
	CHECK(write_at(f, STORE_FILE_MAX - 10, 10) == 10 && get(f).size == STORE_FILE_MAX);
	CHECK(write_at(f, STORE_FILE_MAX - 10, 11) == -EFBIG &&
	      write_at(f, UINT64_MAX, 1) == -EFBIG);
	CHECK(store_write(s, f, 0, bytes, 1, STORE_APPEND) == -EFBIG);
	CHECK(truncate_to(f, UINT64_C(1) << 63) == -EFBIG);
	CHECK(store_fallocate(s, f, STORE_FILE_MAX, 1, 0) == -EFBIG);
	CHECK(store_fallocate(s, f, 0, 0, 0) == -EINVAL && store_punch(s, f, 1, 0, 0) == -EINVAL);
	CHECK(read_at(f, UINT64_C(1) << 40, 100) == 100 && zeros(0, 100));
	CHECK(read_at(f, UINT64_MAX, 100) == 0 && read_at(f, STORE_FILE_MAX, 1) == 0);
	CHECK(store_seek(s, f, 0, false) >= STORE_FILE_MAX - 4096 &&
	      store_seek(s, f, 0, true) == 0);
	CHECK(store_seek(s, f, UINT64_MAX, false) == -ENXIO && get(f).bytes < 100);
	CHECK(used() < 200000);
	/* "Whatever the offset says". */
	CHECK(truncate_to(f, 3) == 0);
	CHECK(store_write(s, f, UINT64_MAX, bytes, 4, STORE_APPEND) == 4 && get(f).size == 7);
	CHECK(write_at(f, 0, sizeof(bytes)) == (ssize_t)sizeof(bytes));
	CHECK(write_at(f, 0, sizeof(bytes) + 1) == -EINVAL);
	CHECK(read_at(f, 0, sizeof(bytes)) == (ssize_t)sizeof(bytes));
	CHECK(!memcmp(actual, bytes, sizeof(bytes)));
	end();
}

static void what_is_no_file(void)
{
	begin();
	uint64_t d = make("d", S_IFDIR);
	uint64_t p = make("p", S_IFIFO);
	uint64_t f = make("f", S_IFREG);
	uint64_t none = UINT64_C(1) << 50;
	CHECK(write_at(d, 0, 1) == -EISDIR && write_at(p, 0, 1) == -EINVAL &&
	      write_at(none, 0, 1) == -ENOENT);
	CHECK(read_at(d, 0, 1) == -EISDIR && read_at(p, 0, 1) == -EINVAL &&
	      read_at(none, 0, 1) == -ENOENT);
	CHECK(truncate_to(d, 0) == -EISDIR && truncate_to(p, 0) == -EINVAL);
	CHECK(store_fallocate(s, d, 0, 1, 0) == -EISDIR &&
	      store_fallocate(s, p, 0, 1, 0) == -ENODEV);
	CHECK(store_seek(s, d, 0, true) == -EISDIR && store_copy(s, d, 0, f, 0, 1, 0) == -EISDIR);
	CHECK(store_copy(s, f, 0, p, 0, 1, 0) == -EINVAL &&
	      store_copy(s, none, 0, f, 0, 1, 0) == -ENOENT);
	CHECK(store_readlink(s, f, (char *)actual, 9) == -EINVAL && store_sync(s, none) == -ENOENT);
	CHECK(store_setattr(s, none, &(struct store_setattr){ 0 }, 0, NULL) == -ENOENT);
	store_forget(s, none, 1);
	end();
}

/* Every mode, and each way to write. */
static void set_ids(void)
{
	begin();
	uint64_t f = make("f", S_IFREG);
	for (unsigned i = 0; i < 64; i++) {
		uint32_t group = i & 1 ? S_IXGRP : 0;
		uint32_t mode = (i & 2 ? S_ISUID : 0U) | (i & 4 ? S_ISGID : 0U) | group | 0604U;
		unsigned flags = i & 8 ? STORE_KILL_SETID : 0;
		uint32_t expected = mode;
		struct store_setattr set = { .mask = STORE_SET_MODE, .mode = mode };
		CHECK(store_setattr(s, f, &set, 0, &attr) == 0 && attr.mode == (S_IFREG | mode));
		CHECK(store_setxattr(s, f, "security.capability", "cap", 3, 0) == 0);
		set = (struct store_setattr){ .mask = STORE_SET_SIZE, .size = get(f).size + 1 };
		switch (i >> 4) {
		case 0:
			CHECK(store_write(s, f, 0, bytes, 1, flags) == 1);
			break;
		case 1:
			CHECK(store_setattr(s, f, &set, flags, NULL) == 0);
			break;
		case 2:
			CHECK(store_fallocate(s, f, 0, 1, flags) == 0);
			break;
		default:
			CHECK(store_punch(s, f, 0, 1, flags) == 0);
			break;
		}
		if (flags) {
			expected &= ~(uint32_t)S_ISUID;
			expected &= group ? ~(uint32_t)S_ISGID : ~0U;
		}
		CHECK(get(f).mode == (S_IFREG | expected));
		CHECK(store_getxattr(s, f, "security.capability", NULL, 0) ==
		      (flags ? -ENODATA : 3));
	}
	end();
}

static bool same(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static void times(void)
{
	const struct timespec t = { -5, 999999999 };
	begin();
	uint64_t f = make("f", S_IFREG);
	struct store_setattr set = {
		.mask = STORE_SET_ATIME | STORE_SET_MTIME | STORE_SET_CTIME,
		.atime = { 1, 2 },
		.mtime = t,
		.ctime = { INT64_MAX, 3 },
	};
	CHECK(store_setattr(s, f, &set, 0, &attr) == 0);
	CHECK(attr.atime.tv_nsec == 2 && same(attr.mtime, t) && attr.ctime.tv_sec == INT64_MAX);
	/* The same size again: truncate(2) leaves mtime alone, ftruncate(2) does not. */
	CHECK(truncate_to(f, 0) == 0 && same(get(f).mtime, t));
	CHECK(read_at(f, 0, 1) == 0 && get(f).atime.tv_sec == 1);
	set = (struct store_setattr){ .mask = STORE_SET_SIZE };
	CHECK(store_setattr(s, f, &set, STORE_BY_HANDLE, &attr) == 0 && attr.mtime.tv_sec > 1000);
	set = (struct store_setattr){ .mask = STORE_SET_SIZE | STORE_SET_MTIME,
				      .size = 9,
				      .mtime = t };
	CHECK(store_setattr(s, f, &set, 0, &attr) == 0 && same(attr.mtime, t) && attr.size == 9);
	set = (struct store_setattr){ .mask = STORE_SET_ATIME_NOW | STORE_SET_MTIME_NOW };
	CHECK(store_setattr(s, f, &set, 0, &attr) == 0 && attr.atime.tv_sec > 1000);
	CHECK(same(attr.mtime, attr.ctime));
	/* The mode's type is not to be changed. */
	set = (struct store_setattr){ .mask = STORE_SET_MODE, .mode = S_IFDIR | 0123 };
	CHECK(store_setattr(s, f, &set, 0, &attr) == 0 && attr.mode == (S_IFREG | 0123));
	/* All or nothing. */
	set = (struct store_setattr){ .mask = STORE_SET_SIZE | STORE_SET_UID,
				      .uid = 9,
				      .size = UINT64_MAX };
	CHECK(store_setattr(s, f, &set, 0, NULL) == -EFBIG && get(f).uid == 0);
	end();
}

static void xattr_limits(void)
{
	char name[STORE_XATTR_NAME_MAX + 2];
	memset(name, 'x', sizeof(name));
	name[STORE_XATTR_NAME_MAX + 1] = '\0';
	begin();
	uint64_t f = make("f", S_IFREG);
	CHECK(store_setxattr(s, f, name, "", 0, 0) == -ERANGE);
	name[STORE_XATTR_NAME_MAX] = '\0';
	CHECK(store_setxattr(s, f, name, NULL, 0, 0) == 0 &&
	      store_getxattr(s, f, name, NULL, 0) == 0);
	CHECK(store_setxattr(s, f, "", "", 0, 0) == -ERANGE);
	CHECK(store_setxattr(s, f, "user.v", bytes, STORE_XATTR_SIZE_MAX + 1, 0) == -E2BIG);
	int err = 0;
	unsigned count = 0;
	for (; !err && count < 40; count++) {
		snprintf(name, 16, "user.%u", count);
		err = store_setxattr(s, f, name, bytes, STORE_XATTR_SIZE_MAX, 0);
	}
	CHECK(err == -ENOSPC && count == 16); /* names count, too, so that fifteen fit */
	CHECK(store_setxattr(s, f, "user.3", bytes, STORE_XATTR_SIZE_MAX, STORE_REPLACE) == 0);
	CHECK(store_getxattr(s, f, "user.3", actual, 100) == -ERANGE);
	CHECK(store_getxattr(s, f, "user.3", actual, sizeof(actual)) == STORE_XATTR_SIZE_MAX);
	CHECK(!memcmp(actual, bytes, STORE_XATTR_SIZE_MAX));
	end();
}

static void copies(void)
{
	begin();
	uint64_t f = make("f", S_IFREG);
	uint64_t g = make("g", S_IFREG);
	for (unsigned i = 0; i < 24; i++)
		CHECK(write_at(f, (uint64_t)i << 20, 1 << 20) == 1 << 20);
	uint64_t before = used();
	uint64_t done = 0;
	ssize_t n;
	while ((n = store_copy(s, f, done, g, done, UINT64_MAX >> 2, 0)) > 0)
		done += (uint64_t)n;
	CHECK(n == 0 && done == 24 << 20 && get(g).size == done);
	CHECK(used() < before + (1 << 20)); /* shared, not copied */
	CHECK(read_at(g, 20 << 20, 1000) == 1000 && !memcmp(actual, bytes, 1000));
	CHECK(write_at(f, 20 << 20, 10) == 10 && store_punch(s, f, 1000, 100000, 0) == 0);
	CHECK(read_at(g, 500, 2000) == 2000 && !memcmp(actual, bytes + 500, 2000));
	CHECK(store_copy(s, f, 0, f, 5, 10, 0) == -EINVAL);
	CHECK(store_copy(s, f, 0, f, 24 << 20, 1 << 20, 0) == 1 << 20);
	CHECK(store_copy(s, f, 0, g, STORE_FILE_MAX - 5, 10, 0) == -EFBIG);
	CHECK(store_copy(s, f, 30 << 20, g, 0, 10, 0) == 0);
	end();
}

/* What was reserved, and what is only overwritten, needs no room; all else is refused. */
static void the_bound(void)
{
	enum { LIMIT = 4 << 20 };
	begin_with((struct store_options){ .shards = 1, .size_bytes = LIMIT });
	char name[16];
	uint64_t r = make("r", S_IFREG);
	uint64_t small = make("small", S_IFREG);
	CHECK(write_at(small, 0, 100) == 100 && store_fallocate(s, r, 0, 1 << 20, 0) == 0);
	CHECK(store_fallocate(s, r, 0, UINT64_C(1) << 40, 0) == -ENOSPC && get(r).size == 1 << 20);
	int err = 0;
	for (unsigned i = 0; !err; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		err = store_set(s, name, bytes, 10000, 0);
	}
	CHECK(err == -ENOSPC);
	uint64_t full = used();
	CHECK(full <= LIMIT && full > LIMIT - 20000);
	while (!(err = store_set(s, "filler", bytes, 200, 0)))
		CHECK(store_rename(s, STORE_ROOT, "filler", 6, STORE_ROOT, name, strlen(name), 0) ==
			      0 &&
		      name[0]++);
	CHECK(err == -ENOSPC);
	for (uint64_t at = 0; at < 1 << 20; at += 1 << 18)
		CHECK(write_at(r, at, 1 << 18) == 1 << 18);
	for (unsigned i = 0; i < 300; i++)
		CHECK(write_at(r, i * 3001, 700) == 700);
	CHECK(write_at(r, (1 << 20) - 5, 10000) == -ENOSPC && get(r).size == 1 << 20);
	CHECK(store_setxattr(s, r, "user.x", bytes, 5000, 0) == -ENOSPC);
	CHECK(store_set(s, "small", bytes, 50000, 0) == -ENOSPC && get(small).size == 100);
	CHECK(read_at(small, 0, 1000) == 100 && !memcmp(actual, bytes, 100));
	CHECK(used() <= LIMIT + LIMIT / 16);
	CHECK(truncate_to(r, 10) == 0 && store_punch(s, small, 10, 5, 0) == 0);
	CHECK(used() < LIMIT - (1 << 19) && store_set(s, "small", bytes, 50000, 0) == 0);
	end();
}

int main(int argc, char **argv)
{
	tap_begin(argc, argv);
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)(1 + i % 251);
	tap_case("data: inline, extents, and back, with zeros where it grew", forms);
	tap_case("data: up to the last byte of an off_t", far_away);
	tap_case("data: only regular files have data", what_is_no_file);
	tap_case("data: writes clear set-id bits and capabilities when told to", set_ids);
	tap_case("data: times are set, kept, or now", times);
	tap_case("data: extended attributes to their limits", xattr_limits);
	tap_case("data: copies share what they copy", copies);
	tap_case("data: at the bound, reserved and overwritten bytes go on", the_bound);
	return tap_end();
}
