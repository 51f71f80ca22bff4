/*
 * test_store.c: the contract of store.h, claim by claim: errors, expiry, holds, limits, times.
 *
 * Expiry is reached by a TTL of one nanosecond. What random operations against a model cover
 * already is in test_store_random.c.
 */
#include "store/store.h"

#include "store/core.h"
#include "tests/unit/tap.h"

#include <errno.h>
#include <string.h>

#define HOUR   INT64_C(3600000000000)
#define SECOND INT64_C(1000000000)

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
	begin_with((struct store_options){ .shards = 4 });
}

static void end(void)
{
	CHECK(store_check(s) == 0);
	store_close(s);
}

static int create(uint64_t directory, const char *name, uint32_t mode)
{
	const struct store_birth birth = { .mode = mode, .uid = 5, .gid = 6 };
	return store_create(s, directory, name, strlen(name), &birth, 0, &attr);
}

static uint64_t file(const char *name)
{
	CHECK(create(STORE_ROOT, name, S_IFREG | 0644) == 0);
	return attr.number;
}

static uint64_t directory(uint64_t parent, const char *name)
{
	CHECK(create(parent, name, S_IFDIR | 0755) == 0);
	return attr.number;
}

static int lookup(uint64_t parent, const char *name)
{
	return store_lookup(s, parent, name, strlen(name), 0, &attr);
}

static int unlink_in(uint64_t parent, const char *name)
{
	return store_unlink(s, parent, name, strlen(name), NULL);
}

static int rmdir_in(uint64_t parent, const char *name)
{
	return store_rmdir(s, parent, name, strlen(name), NULL);
}

static int move(uint64_t a, const char *from, uint64_t b, const char *to, unsigned flags)
{
	return store_rename(s, a, from, strlen(from), b, to, strlen(to), flags);
}

static int link_to(uint64_t number, uint64_t parent, const char *name)
{
	return store_link(s, number, parent, name, strlen(name), 0, &attr);
}

static struct store_attr get(uint64_t number)
{
	struct store_attr a = { 0 };
	CHECK(store_getattr(s, number, STORE_BY_HANDLE, &a) == 0);
	return a;
}

static void expire(uint64_t number)
{
	CHECK(store_set_ttl(s, number, 1, NULL) == 0);
	int64_t now = core_now();
	while (core_now() <= now + 1)
		;
}

static struct store_stats stats(void)
{
	struct store_stats st;
	store_stats(s, &st);
	return st;
}

/* The wheel's precision is a tick: wait for the clock, then let the reaper's work be done. */
static void reap_all(void)
{
	int64_t now = core_now();
	while (core_now() <= now + 2 * WHEEL_TICK_NS)
		;
	store_reap(s);
}

static int truncate_to(uint64_t number, uint64_t size)
{
	const struct store_setattr set = { .mask = STORE_SET_SIZE, .size = size };
	return store_setattr(s, number, &set, 0, NULL);
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

/* ---- opening ---- */

static void opening(void)
{
	struct store *out = NULL;
	static const unsigned wrong[] = { 3, 5, 63, 1025, 2048 };
	for (unsigned i = 0; i < 5; i++) {
		const struct store_options options = { .shards = wrong[i] };
		CHECK(store_open(&out, &options) == -EINVAL && !out);
	}
	const struct store_options negative = { .ttl_ns_default = -1 };
	CHECK(store_open(&out, &negative) == -EINVAL && !out);
	for (unsigned shards = 0; shards <= 1024; shards = shards ? shards * 2 : 1) {
		begin_with((struct store_options){
			.shards = shards, .root_mode = 01777, .root_uid = 7, .root_gid = 8 });
		struct store_attr a = get(STORE_ROOT);
		CHECK(a.mode == (S_IFDIR | 01777) && a.uid == 7 && a.gid == 8 && a.nlink == 2);
		CHECK(a.ttl_ns_left == INT64_MAX && !a.expired);
		CHECK(stats().objects == 1 && stats().keys == 0);
		end();
	}
}

/* ---- names ---- */

static void lookups(void)
{
	char longest[STORE_NAME_MAX + 2];
	memset(longest, 'n', sizeof(longest));
	begin();
	uint64_t f = file("f");
	uint64_t d = directory(STORE_ROOT, "d");
	store_reset_counters(s);
	CHECK(lookup(STORE_ROOT, "f") == 0 && attr.number == f && attr.uid == 5);
	CHECK(lookup(STORE_ROOT, "g") == -ENOENT && attr.number == f);
	CHECK(stats().hits == 1 && stats().misses == 1);
	CHECK(lookup(f, "x") == -ENOTDIR && lookup(f, ".") == -ENOTDIR);
	CHECK(lookup(UINT64_C(1) << 40, "x") == -ENOENT);
	CHECK(lookup(STORE_ROOT, "") == -ENOENT);
	CHECK(lookup(d, "..") == 0 && attr.number == STORE_ROOT);
	CHECK(lookup(d, ".") == 0 && attr.number == d);
	CHECK(lookup(STORE_ROOT, "..") == 0 && attr.number == STORE_ROOT);
	CHECK(store_lookup(s, d, "./", 2, 0, &attr) == -ENOENT);
	CHECK(store_lookup(s, d, ".\0", 2, 0, &attr) == -ENOENT);
	CHECK(store_lookup(s, d, longest, STORE_NAME_MAX, 0, &attr) == -ENOENT);
	CHECK(store_lookup(s, d, longest, STORE_NAME_MAX + 1, 0, &attr) == -ENAMETOOLONG);
	end();
}

static void creating(void)
{
	static const char *const wrong[] = { "", ".", "..", "a/b", "/" };
	struct store_birth birth = { .mode = S_IFREG };
	begin();
	for (unsigned i = 0; i < 5; i++)
		CHECK(create(STORE_ROOT, wrong[i], S_IFREG) == -EINVAL);
	CHECK(store_create(s, STORE_ROOT, "a\0b", 3, &birth, 0, &attr) == -EINVAL);
	CHECK(create(STORE_ROOT, "x", 0) == -EINVAL && create(STORE_ROOT, "x", 0644) == -EINVAL);
	CHECK(create(STORE_ROOT, "x", S_IFLNK | 0777) == -EINVAL);
	birth = (struct store_birth){ .mode = S_IFLNK,
				      .target = (char *)bytes,
				      .target_length = STORE_SYMLINK_MAX + 1 };
	CHECK(store_create(s, STORE_ROOT, "l", 1, &birth, 0, &attr) == -ENAMETOOLONG);
	birth.target_length = STORE_SYMLINK_MAX;
	CHECK(store_create(s, STORE_ROOT, "l", 1, &birth, 0, &attr) == 0);
	CHECK(attr.size == STORE_SYMLINK_MAX);
	birth = (struct store_birth){ .mode = S_IFBLK | 0600, .rdev = 0x801 };
	CHECK(store_create(s, STORE_ROOT, "b", 1, &birth, 0, &attr) == 0);
	CHECK(attr.rdev == 0x801 && attr.size == 0);
	uint64_t d = directory(STORE_ROOT, "d");
	CHECK(store_lookup(s, STORE_ROOT, "d", 1, STORE_HOLD, &attr) == 0);
	CHECK(rmdir_in(STORE_ROOT, "d") == 0);
	CHECK(create(d, "x", S_IFREG) == -ENOENT && create(d, "x", S_IFDIR) == -ENOENT);
	CHECK(store_tmpfile(s, d, &birth, &attr) == -EINVAL);
	birth.mode = S_IFREG;
	CHECK(store_tmpfile(s, d, &birth, &attr) == -ENOENT);
	CHECK(get(d).nlink == 0);
	store_forget(s, d, 1);
	CHECK(store_getattr(s, d, 0, &attr) == -ENOENT);
	uint64_t f = file("f");
	CHECK(create(STORE_ROOT, "f", S_IFREG) == -EEXIST && create(f, "x", S_IFREG) == -ENOTDIR);
	CHECK(get(f).mtime.tv_nsec == get(f).ctime.tv_nsec && get(f).atime.tv_sec > 0);
	end();
}

static void inherited_group(void)
{
	begin_with((struct store_options){ .root_mode = 02755, .root_gid = 77 });
	CHECK(create(STORE_ROOT, "f", S_IFREG | 0644) == 0);
	CHECK(attr.gid == 77 && attr.mode == (S_IFREG | 0644));
	uint64_t d = directory(STORE_ROOT, "d");
	CHECK(attr.gid == 77 && attr.mode == (S_IFDIR | 02755));
	CHECK(create(d, "g", S_IFREG | 0600) == 0 && attr.gid == 77);
	end();
}

static void longest_names(void)
{
	char name[2][STORE_NAME_MAX];
	begin_with((struct store_options){ .shards = 1024 });
	for (unsigned i = 0; i < 200; i++) {
		memset(name[0], 'a', STORE_NAME_MAX);
		memset(name[1], 'b', STORE_NAME_MAX);
		name[0][i] = name[1][i] = 'c';
		const struct store_birth birth = { .mode = S_IFREG };
		CHECK(store_create(s, STORE_ROOT, name[0], STORE_NAME_MAX, &birth, 0, &attr) == 0);
		uint64_t number = attr.number;
		CHECK(store_rename(s, STORE_ROOT, name[0], STORE_NAME_MAX, STORE_ROOT, "s", 1, 0) ==
		      0);
		CHECK(store_rename(s, STORE_ROOT, "s", 1, STORE_ROOT, name[1], STORE_NAME_MAX, 0) ==
		      0);
		CHECK(store_lookup(s, STORE_ROOT, name[1], STORE_NAME_MAX, 0, &attr) == 0);
		CHECK(attr.number == number && attr.nlink == 1);
	}
	end();
}

static void count_name(void *context, uint64_t parent, const char *name, size_t length)
{
	unsigned *count = context;
	CHECK(parent == STORE_ROOT && length && name[0] != '/');
	(*count)++;
}

/* Debug builds check every name of an object at every change: too slow for so many. */
#if defined(DEBUG) && DEBUG
#define MANY_LINKS 1000
#else
#define MANY_LINKS ((unsigned)STORE_LINKS_MAX)
#endif

static void links(void)
{
	char name[16];
	begin();
	uint64_t d = directory(STORE_ROOT, "d");
	uint64_t f = file("f");
	CHECK(link_to(d, STORE_ROOT, "x") == -EPERM);
	CHECK(link_to(f, STORE_ROOT, "d") == -EEXIST && link_to(f, f, "x") == -ENOTDIR);
	CHECK(link_to(UINT64_C(99) << 20, STORE_ROOT, "x") == -ENOENT);
	for (unsigned i = 1; i < MANY_LINKS; i++) {
		unsigned count = 0;
		snprintf(name, sizeof(name), "l%u", i);
		CHECK(link_to(f, STORE_ROOT, name) == 0);
		if (i < 300)
			CHECK(store_names(s, f, count_name, &count) == (int)i + 1 &&
			      count == i + 1);
	}
	CHECK(attr.nlink == MANY_LINKS && stats().keys == 1);
	CHECK(MANY_LINKS < (unsigned)STORE_LINKS_MAX || link_to(f, STORE_ROOT, "x") == -EMLINK);
	CHECK(unlink_in(STORE_ROOT, "f") == 0);
	for (unsigned i = 1; i < MANY_LINKS; i++) {
		snprintf(name, sizeof(name), "l%u", i);
		CHECK(unlink_in(STORE_ROOT, name) == 0);
	}
	CHECK(store_getattr(s, f, 0, &attr) == -ENOENT && stats().keys == 0);
	end();
}

static void removing(void)
{
	uint64_t number = 0;
	begin();
	uint64_t f = file("f");
	uint64_t d = directory(STORE_ROOT, "d");
	CHECK(get(STORE_ROOT).nlink == 3);
	CHECK(unlink_in(STORE_ROOT, "d") == -EISDIR && unlink_in(STORE_ROOT, ".") == -EISDIR);
	CHECK(rmdir_in(STORE_ROOT, "f") == -ENOTDIR && rmdir_in(STORE_ROOT, ".") == -EINVAL);
	CHECK(rmdir_in(STORE_ROOT, "..") == -ENOTEMPTY && rmdir_in(STORE_ROOT, "g") == -ENOENT);
	CHECK(unlink_in(f, "x") == -ENOTDIR);
	CHECK(move(STORE_ROOT, "f", d, "f", 0) == 0 && rmdir_in(STORE_ROOT, "d") == -ENOTEMPTY);
	CHECK(store_unlink(s, d, "f", 1, &number) == 0 && number == f);
	CHECK(store_rmdir(s, STORE_ROOT, "d", 1, &number) == 0 && number == d);
	CHECK(get(STORE_ROOT).nlink == 2 && stats().objects == 1);
	end();
}

static void renaming(void)
{
	begin();
	uint64_t a = directory(STORE_ROOT, "a");
	uint64_t b = directory(STORE_ROOT, "b");
	uint64_t c = directory(a, "c");
	uint64_t f = file("f");
	CHECK(move(STORE_ROOT, "a", c, "x", 0) == -EINVAL &&
	      move(STORE_ROOT, "a", a, "x", 0) == -EINVAL);
	CHECK(move(a, "c", STORE_ROOT, "a", STORE_EXCHANGE) == -EINVAL);
	CHECK(move(a, "c", STORE_ROOT, "a", 0) == -ENOTEMPTY);
	CHECK(move(STORE_ROOT, "f", STORE_ROOT, "a", 0) == -EISDIR);
	CHECK(move(STORE_ROOT, "a", STORE_ROOT, "f", 0) == -ENOTDIR);
	CHECK(move(STORE_ROOT, "f", STORE_ROOT, "a", STORE_NOREPLACE) == -EEXIST);
	CHECK(move(STORE_ROOT, "f", STORE_ROOT, "g", STORE_EXCHANGE) == -ENOENT);
	CHECK(move(STORE_ROOT, "f", STORE_ROOT, "a", STORE_NOREPLACE | STORE_EXCHANGE) == -EINVAL);
	/* A directory changes places with a file: link counts and ".." follow. */
	CHECK(move(a, "c", STORE_ROOT, "f", STORE_EXCHANGE) == 0);
	CHECK(get(a).nlink == 2 && get(STORE_ROOT).nlink == 5);
	CHECK(lookup(c, "..") == 0 && attr.number == STORE_ROOT);
	CHECK(lookup(a, "c") == 0 && attr.number == f);
	CHECK(move(STORE_ROOT, "f", a, "d", 0) == 0);
	CHECK(get(a).nlink == 3 && get(STORE_ROOT).nlink == 4);
	CHECK(lookup(c, "..") == 0 && attr.number == a);
	/* Over an empty directory. */
	CHECK(move(a, "d", STORE_ROOT, "b", 0) == 0);
	CHECK(get(a).nlink == 2 && get(STORE_ROOT).nlink == 4);
	CHECK(store_getattr(s, b, 0, &attr) == -ENOENT);
	/* Two names of one object: nothing happens, but the flags are heard. */
	CHECK(link_to(f, STORE_ROOT, "same") == 0);
	CHECK(move(a, "c", STORE_ROOT, "same", 0) == 0 && lookup(a, "c") == 0 && attr.nlink == 2);
	CHECK(move(a, "c", a, "c", STORE_NOREPLACE) == -EEXIST && move(a, "c", a, "c", 0) == 0);
	end();
}

/* ---- expiry ---- */

static unsigned removed_names;
static bool removed_known;

static void on_removed(void *context, uint64_t parent, const char *name, size_t length,
		       uint64_t number, bool known)
{
	CHECK(context == bytes && parent && length && name && number);
	removed_known = known;
	removed_names++;
}

static void expired_links(void)
{
	const struct store_events events = { .context = bytes, .removed = on_removed };
	begin();
	store_set_events(s, &events);
	removed_names = 0;
	uint64_t d = directory(STORE_ROOT, "d");
	CHECK(store_set(s, "f", "value", 5, HOUR) == 0 && lookup(STORE_ROOT, "f") == 0);
	uint64_t f = attr.number;
	CHECK(store_lookup(s, STORE_ROOT, "f", 1, STORE_HOLD, &attr) == 0);
	CHECK(link_to(f, d, "g") == 0 && link_to(f, d, "h") == 0);
	expire(f);
	CHECK(lookup(STORE_ROOT, "f") == -ENOENT && lookup(d, "g") == -ENOENT);
	CHECK(unlink_in(d, "h") == -ENOENT && link_to(f, STORE_ROOT, "i") == -ESTALE);
	CHECK(store_getattr(s, f, 0, &attr) == -ESTALE && get(f).expired);
	CHECK(store_write(s, f, 0, "x", 1, 0) == -ESTALE && truncate_to(f, 0) == -ESTALE);
	CHECK(store_set_ttl(s, f, HOUR, NULL) == -ESTALE);
	CHECK(store_setxattr(s, f, "user.a", "", 0, 0) == -ESTALE);
	CHECK(read_at(f, 0, 10) == 5 && !memcmp(actual, "value", 5));
	reap_all();
	while (stats().keys) /* the reaper's thread may have it in its hands */
		store_reap(s);
	CHECK(stats().expired == 1 && stats().objects == 3);
	CHECK(read_at(f, 0, 10) == 5 && store_getattr(s, f, 0, &attr) == -ESTALE);
	CHECK(rmdir_in(STORE_ROOT, "d") == 0);
	store_forget(s, f, 1);
	CHECK(store_getattr(s, f, STORE_BY_HANDLE, &attr) == -ENOENT && stats().objects == 1);
	end();
	/* "h" was removed by unlink, which met it first; the others by the reaper. */
	CHECK(removed_names == 2 && removed_known);
}

static void expired_in_the_way(void)
{
	begin();
	uint64_t d = directory(STORE_ROOT, "d");
	uint64_t e = directory(STORE_ROOT, "e");
	uint64_t a = file("a");
	CHECK(link_to(a, d, "a") == 0 && link_to(a, e, "a") == 0 && link_to(a, e, "b") == 0);
	uint64_t b = file("b");
	uint64_t c = file("c");
	expire(a);
	CHECK(move(STORE_ROOT, "a", STORE_ROOT, "x", 0) == -ENOENT);
	CHECK(move(STORE_ROOT, "b", STORE_ROOT, "a", STORE_EXCHANGE) == -ENOENT);
	CHECK(move(STORE_ROOT, "b", STORE_ROOT, "a", STORE_NOREPLACE) == 0);
	CHECK(lookup(STORE_ROOT, "a") == 0 && attr.number == b);
	CHECK(link_to(c, e, "a") == 0 && unlink_in(e, "a") == 0);
	CHECK(create(e, "b", S_IFDIR | 0755) == 0 && rmdir_in(e, "b") == 0);
	/* Only expired names in it: as good as empty. */
	CHECK(rmdir_in(STORE_ROOT, "d") == 0);
	CHECK(store_set(s, "e/k", "v", 1, 1) == 0);
	directory(STORE_ROOT, "f");
	CHECK(move(STORE_ROOT, "f", STORE_ROOT, "e", 0) == 0);
	CHECK(get(STORE_ROOT).nlink == 3 && stats().keys == 2);
	CHECK(store_set(s, "a", "new", 3, 1) == 0 && store_set(s, "a", "newer", 5, 0) == 0);
	CHECK(lookup(STORE_ROOT, "a") == 0 && attr.number != b && attr.ttl_ns_left == INT64_MAX);
	end();
}

static void orphans(void)
{
	begin();
	CHECK(store_set(s, "f", "12345", 5, HOUR) == 0);
	CHECK(store_lookup(s, STORE_ROOT, "f", 1, STORE_HOLD, &attr) == 0);
	uint64_t f = attr.number;
	CHECK(unlink_in(STORE_ROOT, "f") == 0);
	CHECK(get(f).nlink == 0 && stats().keys == 0 && stats().with_ttl == 0);
	CHECK(store_write(s, f, 5, bytes, 70000, 0) == 70000 && truncate_to(f, 6) == 0);
	CHECK(read_at(f, 0, 10) == 6 && store_get_ttl(s, f, &(struct store_ttl){ 0 }) == -ENODATA);
	CHECK(link_to(f, STORE_ROOT, "again") == 0 && attr.ttl_ns_left <= HOUR);
	CHECK(stats().keys == 1 && stats().with_ttl == 1);
	CHECK(store_lookup(s, STORE_ROOT, "again", 5, STORE_HOLD, &attr) == 0);
	CHECK(unlink_in(STORE_ROOT, "again") == 0);
	store_forget(s, f, 1);
	CHECK(get(f).nlink == 0);
	store_forget(s, f, 100); /* more than there are: no harm */
	CHECK(store_getattr(s, f, STORE_BY_HANDLE, &attr) == -ENOENT);
	store_forget(s, f, 1);
	end();
}

static void ttl_defaults(void)
{
	struct store_ttl ttl;
	bool none;
	begin_with((struct store_options){ .ttl_ns_default = HOUR });
	uint64_t d = directory(STORE_ROOT, "d");
	uint64_t f = file("f");
	CHECK(store_get_ttl(s, f, &ttl) == 0 && ttl.period_ns == HOUR && ttl.left_ns <= HOUR);
	CHECK(ttl.expires_at.tv_sec >= get(f).ctime.tv_sec + 3599);
	CHECK(store_get_ttl(s, d, &ttl) == -ENODATA);
	CHECK(store_set_ttl(s, d, 2 * HOUR, &none) == 0 && none);
	CHECK(store_get_ttl(s, d, &ttl) == 0 && ttl.period_ns == 2 * HOUR);
	uint64_t e = directory(d, "e");
	CHECK(create(e, "g", S_IFREG) == 0 && attr.ttl_ns_left > HOUR);
	CHECK(store_set_ttl(s, e, STORE_TTL_NONE, &none) == 0 && !none);
	CHECK(create(e, "h", S_IFREG) == 0 && attr.ttl_ns_left == INT64_MAX);
	CHECK(store_set_ttl(s, e, STORE_TTL_DEFAULT, &none) == 0 && !none); /* it overruled */
	CHECK(create(e, "i", S_IFREG) == 0 && attr.ttl_ns_left <= HOUR);
	CHECK(store_set(s, "d/e/j", "", 0, STORE_TTL_NONE) == 0 && lookup(e, "j") == 0);
	CHECK(attr.ttl_ns_left == INT64_MAX && get(e).ttl_ns_left == INT64_MAX);
	CHECK(store_set_ttl(s, f, -1, NULL) == -EINVAL && store_set_ttl(s, d, -2, NULL) == -EINVAL);
	CHECK(create(e, "p", S_IFIFO) == 0);
	CHECK(store_set_ttl(s, attr.number, HOUR, NULL) == -EPERM);
	end();
}

/* Each of these lets the time begin anew; reading and renaming do not. */
static void ttl_rearmed(void)
{
	const struct store_setattr touch = { .mask = STORE_SET_MTIME_NOW };
	const struct store_setattr mode = { .mask = STORE_SET_MODE, .mode = 0600 };
	struct store_ttl ttl;
	begin();
	CHECK(store_set(s, "f", "1", 1, HOUR) == 0 && lookup(STORE_ROOT, "f") == 0);
	uint64_t f = attr.number;
	for (unsigned i = 0; i < 7; i++) {
		int64_t before = get(f).ttl_ns_left;
		int64_t now = core_now();
		while (core_now() < now + 20000)
			;
		int64_t begun = core_now();
		bool rearmed = true;
		switch (i) {
		case 0:
			CHECK(store_write(s, f, 0, "2", 1, 0) == 1);
			break;
		case 1:
			CHECK(truncate_to(f, 400) == 0);
			break;
		case 2:
			CHECK(store_setattr(s, f, &touch, 0, NULL) == 0);
			break;
		case 3:
			CHECK(store_set(s, "f", "3", 1, STORE_TTL_DEFAULT) == 0);
			break;
		case 4:
			CHECK(read_at(f, 0, 1) == 1 && store_setattr(s, f, &mode, 0, NULL) == 0);
			rearmed = false;
			break;
		case 5:
			CHECK(move(STORE_ROOT, "f", STORE_ROOT, "moved", 0) == 0);
			rearmed = false;
			break;
		default:
			CHECK(store_fallocate(s, f, 0, 10, 0) == 0);
			break;
		}
		CHECK(store_get_ttl(s, f, &ttl) == 0 && ttl.period_ns == HOUR);
		CHECK(rearmed ? ttl.left_ns >= HOUR - (core_now() - begun) : ttl.left_ns < before);
	}
	end();
}

static void ttl_longest(void)
{
	begin_with((struct store_options){ .ttl_ns_default = INT64_MAX });
	uint64_t f = file("f"); /* not a day passes */
	CHECK(get(f).ttl_ns_left > INT64_MAX / 2);
	CHECK(store_set_ttl(s, f, INT64_MAX, NULL) == -EINVAL);
	CHECK(store_set_ttl(s, f, INT64_MAX - core_now() - SECOND / 1000, NULL) == 0);
	int64_t now = core_now();
	while (core_now() < now + 2 * SECOND / 1000)
		;
	CHECK(store_write(s, f, 0, "x", 1, 0) == 1); /* re-armed beyond the end of time */
	CHECK(get(f).ttl_ns_left > INT64_MAX / 2 && lookup(STORE_ROOT, "f") == 0);
	end();
}

/* ---- listing and many keys ---- */

struct taking {
	unsigned left;
	unsigned seen;
	uint64_t cookie;
};

static bool take(void *context, const struct store_dirent *e)
{
	struct taking *t = context;
	if (!t->left)
		return false;
	t->left--;
	t->seen++;
	t->cookie = e->cookie;
	return true;
}

static void listing(void)
{
	struct taking t = { .left = 1000 };
	begin();
	uint64_t d = directory(STORE_ROOT, "d");
	CHECK(store_readdir(s, d, 0, 0, take, &t) == 0 && t.seen == 2);
	for (unsigned i = 0; i < 100; i++) {
		char name[8];
		snprintf(name, sizeof(name), "%u", i);
		CHECK(create(d, name, S_IFREG) == 0);
	}
	/* What is not taken is not held; "." and ".." never are. */
	t = (struct taking){ .left = 40 };
	CHECK(store_readdir(s, d, 0, STORE_HOLD, take, &t) == 0 && t.seen == 40);
	for (unsigned i = 0; i < 100; i++) {
		char name[8];
		snprintf(name, sizeof(name), "%u", i);
		CHECK(unlink_in(d, name) == 0);
	}
	CHECK(stats().objects == 2 + 38);
	t.left = 1000;
	CHECK(store_readdir(s, d, t.cookie, 0, take, &t) == 0 && t.seen == 40);
	CHECK(store_readdir(s, d, UINT64_MAX / 2, 0, take, &t) == 0 && t.seen == 40);
	CHECK(store_lookup(s, STORE_ROOT, "d", 1, STORE_HOLD, &attr) == 0);
	CHECK(rmdir_in(STORE_ROOT, "d") == 0);
	CHECK(store_readdir(s, d, 0, 0, take, &t) == 0 && t.seen == 40);
	CHECK(store_readdir(s, file("f"), 0, 0, take, &t) == -ENOTDIR);
	end();
}

static void paths(void)
{
	begin();
	uint64_t d = directory(STORE_ROOT, "d");
	CHECK(store_set(s, "d/k", NULL, 0, STORE_TTL_DEFAULT) == 0 &&
	      store_get(s, "d/k", NULL, 0) == 0);
	CHECK(store_get(s, "d/x", actual, 9) == -ENOENT && store_get(s, "d", actual, 9) == -EISDIR);
	CHECK(store_set(s, "d", "", 0, 0) == -EISDIR && store_set(s, "d/", "", 0, 0) == -EINVAL);
	CHECK(store_set(s, "x/k", "", 0, 0) == -ENOENT &&
	      store_set(s, "d/k/l", "", 0, 0) == -ENOTDIR);
	CHECK(store_set(s, "k", "", 0, -2) == -EINVAL &&
	      store_set(s, "k", "", 0, INT64_MAX) == -EINVAL);
	CHECK(store_set(s, "k", bytes, sizeof(bytes), 0) == 0);
	CHECK(store_get(s, "k", actual, sizeof(actual)) == (ssize_t)sizeof(bytes));
	CHECK(!memcmp(bytes, actual, sizeof(bytes)));
	CHECK(store_set(s, "k", bytes, sizeof(bytes) + 1, 0) == -EFBIG);
	CHECK(store_get(s, "k", actual, 3) == (ssize_t)sizeof(bytes));
	CHECK(store_set(s, "k", NULL, 0, 0) == 0 && store_get(s, "k", actual, 3) == 0);
	CHECK(stats().bytes_used < 100000);
	/* Through a name that is a link, in another shard or not: the same object. */
	CHECK(store_set(s, "o", "old", 3, HOUR) == 0 && lookup(STORE_ROOT, "o") == 0);
	uint64_t o = attr.number;
	CHECK(link_to(o, d, "l") == 0 && store_set(s, "d/l", bytes, 90000, STORE_TTL_DEFAULT) == 0);
	CHECK(store_get(s, "o", actual, 5) == 90000 && get(o).nlink == 2);
	CHECK(get(o).ttl_ns_left < INT64_MAX && store_set(s, "o", "", 0, 0) == 0);
	CHECK(get(o).ttl_ns_left == INT64_MAX);
	CHECK(store_del(s, "d") == -EISDIR && store_del(s, "d/l") == 0 &&
	      store_del(s, "d/l") == -ENOENT);
	end();
}

static void counters(void)
{
	begin();
	CHECK(store_set(s, "k", "12345", 5, 0) == 0);
	store_reset_counters(s);
	uint64_t sequence = stats().sequence;
	CHECK(store_get(s, "k", actual, 9) == 5 && store_get(s, "l", actual, 9) == -ENOENT);
	CHECK(stats().hits == 1 && stats().misses == 1 && stats().sequence == sequence);
	CHECK(store_set(s, "k", "123", 3, 0) == 0 && stats().bytes_written == 3);
	CHECK(lookup(STORE_ROOT, "k") == 0 && read_at(attr.number, 1, 9) == 2);
	CHECK(stats().bytes_read == 2 && stats().changes == 1 && stats().sequence == sequence + 1);
	CHECK(create(STORE_ROOT, "k", S_IFREG) == -EEXIST && stats().sequence == sequence + 1);
	store_reset_counters(s);
	CHECK(stats().hits == 0 && stats().bytes_written == 0 && stats().keys == 1);
	end();
}

/* Renames each name as it is seen, to one that was not there. */
static bool rename_seen(void *context, const struct store_dirent *e)
{
	unsigned *seen = context;
	char new[32];
	int length = snprintf(new, sizeof(new), "renamed%u", *seen);
	if (e->length > 2)
		CHECK(store_rename(s, STORE_ROOT, e->name, e->length, STORE_ROOT, new,
				   (size_t)length, 0) == 0);
	return ++*seen < 1000;
}

static void listing_while_renaming(void)
{
	begin();
	for (unsigned i = 0; i < 100; i++) {
		char name[32];
		snprintf(name, sizeof(name), "name%u", i);
		CHECK(store_set(s, name, "", 0, STORE_TTL_DEFAULT) == 0);
	}
	unsigned seen = 0;
	CHECK(store_readdir(s, STORE_ROOT, 0, 0, rename_seen, &seen) == 0);
	CHECK(seen == 102);
	end();
}

int main(int argc, char **argv)
{
	tap_begin(argc, argv);
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)(1 + i % 251);
	tap_case("store: opens with 1 to 1024 shards and refuses other numbers", opening);
	tap_case("store: a lookup finds a name or says why not", lookups);
	tap_case("store: creation refuses what is no name, no type, no place", creating);
	tap_case("store: a set-group-id directory gives its group", inherited_group);
	tap_case("store: names of 255 bytes in 1024 shards", longest_names);
	tap_case("store: 65536 links, and no more", links);
	tap_case("store: unlink and rmdir each refuse what is the other's", removing);
	tap_case("store: rename as rename(2) says, with link counts and ..", renaming);
	tap_case("store: all names of an expired object go at once", expired_links);
	tap_case("store: an expired name is in nobody's way", expired_in_the_way);
	tap_case("store: what has no name lives until its last hold", orphans);
	tap_case("store: a TTL comes from the call, the directory, or the options", ttl_defaults);
	tap_case("store: an overwrite lets the TTL begin anew, a read does not", ttl_rearmed);
	tap_case("store: the longest TTLs do not run over", ttl_longest);
	tap_case("store: a listing ends, whatever is renamed meanwhile", listing_while_renaming);
	tap_case("store: a listing holds what was taken, and a removed one is empty", listing);
	tap_case("store: keys by path", paths);
	tap_case("store: counters count", counters);
	return tap_end();
}
