/*
 * test_store_stress.c: many threads at one store; for ThreadSanitizer, for the lock order that
 * debug builds assert, and for what only concurrency can break:
 *
 *  - a value put by store_set() is seen whole or not at all: its bytes tell its size;
 *  - a listing shows every name that stays once, whatever is renamed over it meanwhile;
 *  - appended records neither overlap nor get lost;
 *  - the account keeps its bound, and what frees memory works at the bound;
 *  - keys that expire while they are renamed and linked all go.
 *
 *	test_store_stress [seed [percent of the usual work]]
 */
#include "store/store.h"

#include "store/account.h"
#include "tests/unit/tap.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

/* Under a sanitizer, which is slow, everything is tried, but less often. */
#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) ||                               \
	__has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
enum { STRIDE = 12 };
#else
enum { STRIDE = 1 };
#endif

enum { THREADS = 4, VALUE_MAX = 70000 };

struct worker {
	pthread_t thread;
	unsigned id;
	uint64_t state; /* of its own random numbers */
	unsigned char buffer[VALUE_MAX];
	unsigned char other[VALUE_MAX];
};

static struct store *s;
static unsigned percent = 100;
static struct worker workers[THREADS];
static pthread_barrier_t barrier;
static atomic_bool stop;

static unsigned scaled(unsigned n)
{
	return n * percent / 100 / STRIDE + 1;
}

static uint64_t below(struct worker *w, uint64_t bound)
{
	w->state ^= w->state >> 12;
	w->state ^= w->state << 25;
	w->state ^= w->state >> 27;
	return w->state * UINT64_C(2685821657736338717) % bound;
}

static void open_store(const struct store_options *options)
{
	CHECK(store_open(&s, options) == 0);
	atomic_store(&stop, false);
}

static void run_threads(void *(*body)(void *), unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		workers[i].id = i;
		workers[i].state = (tap_seed + 1) * 7919 + i * UINT64_C(0x9E3779B97F4A7C15) + 1;
		CHECK(pthread_create(&workers[i].thread, NULL, body, &workers[i]) == 0);
	}
}

static void join_threads(unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		CHECK(pthread_join(workers[i].thread, NULL) == 0);
}

/* ---- values that tell their size ---- */

static size_t size_of(unsigned char c)
{
	return c < 120   ? 1 + (size_t)c * 3
	       : c < 245 ? 400 + (size_t)(c - 120) * 20
			 : (size_t)c * 270;
}

static size_t make_value(struct worker *w)
{
	unsigned char c = (unsigned char)below(w, 256);
	memset(w->buffer, c, size_of(c));
	return size_of(c);
}

static bool value_whole(const unsigned char *bytes, ssize_t size)
{
	if (size <= 0 || (size_t)size != size_of(bytes[0]))
		return false;
	return size == 1 || !memcmp(bytes, bytes + 1, (size_t)size - 1);
}

/* ---- everything at once ---- */

enum { KEYS = 24, DIRS = 3, ROUNDS = 4 };

static uint64_t directories[DIRS];
static const char *const directory_names[DIRS] = { "a", "b", "a/c" };

/* A key whose value store_set() alone changes. */
static void key_path(struct worker *w, char *path)
{
	snprintf(path, 32, "%s/k%u", directory_names[below(w, DIRS)], (unsigned)below(w, KEYS));
}

static uint64_t key_name(struct worker *w, char *name)
{
	snprintf(name, 16, "k%u", (unsigned)below(w, KEYS));
	return directories[below(w, DIRS)];
}

static bool expected_error(ssize_t err, int a, int b, int c)
{
	return err >= 0 || err == a || err == b || err == c;
}

static void do_set(struct worker *w)
{
	char path[32];
	key_path(w, path);
	size_t size = make_value(w);
	int64_t ttl = below(w, 6) ? STORE_TTL_DEFAULT : (int64_t)below(w, 20000000) + 1;
	CHECK(store_set(s, path, w->buffer, size, ttl) == 0);
}

static void do_get(struct worker *w)
{
	char path[32];
	key_path(w, path);
	ssize_t size = store_get(s, path, w->buffer, VALUE_MAX);
	CHECK(size == -ENOENT || value_whole(w->buffer, size));
}

static void do_del(struct worker *w)
{
	char path[32];
	key_path(w, path);
	CHECK(expected_error(store_del(s, path), -ENOENT, -ENOENT, -ENOENT));
}

static void do_mget(struct worker *w)
{
	struct store_item items[KEYS];
	char text[KEYS][16];
	static _Thread_local unsigned char buffers[KEYS][600];
	uint64_t directory = directories[below(w, DIRS)];
	for (unsigned i = 0; i < KEYS; i++) {
		int length = snprintf(text[i], 16, "k%u", i);
		items[i] = (struct store_item){ .name = text[i],
						.length = (size_t)length,
						.buffer = buffers[i],
						.capacity = 600 };
	}
	ssize_t found = store_mget(s, directory, items, KEYS);
	CHECK(found >= 0);
	for (unsigned i = 0; i < KEYS; i++) {
		ssize_t size = items[i].size;
		found -= size >= 0;
		CHECK(size == -ENOENT || size > 600 || value_whole(buffers[i], size));
	}
	CHECK(found == 0);
}

static void do_rename(struct worker *w)
{
	static const unsigned flag[] = { 0, 0, STORE_NOREPLACE, STORE_EXCHANGE };
	char from[16];
	char to[16];
	uint64_t a = key_name(w, from);
	uint64_t b = below(w, 2) ? a : directories[below(w, DIRS)];
	(void)key_name(w, to);
	int err = store_rename(s, a, from, strlen(from), b, to, strlen(to), flag[below(w, 4)]);
	CHECK(expected_error(err, -ENOENT, -EEXIST, -ENOENT));
}

static void do_hold(struct worker *w)
{
	struct store_attr attr;
	struct store_view view;
	char name[16];
	uint64_t directory = key_name(w, name);
	int err = store_lookup(s, directory, name, strlen(name), STORE_HOLD, &attr);
	CHECK(err == 0 || err == -ENOENT);
	if (err)
		return;
	/* Held, it can be read whatever happens to its name; and what is read stays. */
	ssize_t size = store_read(s, attr.number, 0, VALUE_MAX, &view);
	CHECK(size > 0);
	CHECK(store_getattr(s, attr.number, STORE_BY_HANDLE, &attr) == 0);
	if (below(w, 2)) {
		(void)key_name(w, name);
		err = store_link(s, attr.number, directory, name, strlen(name), 0, &attr);
		CHECK(expected_error(err, -EEXIST, -ESTALE, -EEXIST));
	} else if (below(w, 2)) {
		err = store_set_ttl(s, attr.number, (int64_t)below(w, 5000000), NULL);
		CHECK(expected_error(err, -ESTALE, -ESTALE, -ESTALE));
	}
	store_view_copy(&view, w->buffer);
	CHECK(value_whole(w->buffer, size));
	store_view_put(&view);
	store_forget(s, attr.number, 1);
}

static bool count_entry(void *context, const struct store_dirent *entry)
{
	unsigned *count = context;
	(*count)++;
	return entry->length <= 3;
}

static void do_list(struct worker *w)
{
	unsigned count = 0;
	CHECK(store_readdir(s, directories[below(w, DIRS)], 0, 0, count_entry, &count) == 0);
	CHECK(count >= 2); /* no upper bound: what goes and comes back is a new entry */
}

/* Directories come and go, and move about, with a file in some of them. */
static void do_directory(struct worker *w)
{
	static const char *const text[] = { "d0", "d1", "d2" };
	const struct store_birth birth = { .mode = S_IFDIR | 0755 };
	struct store_attr attr;
	uint64_t a = directories[below(w, DIRS)];
	uint64_t b = directories[below(w, DIRS)];
	const char *from = text[below(w, 3)];
	const char *to = text[below(w, 3)];
	int err = 0;
	switch (below(w, 4)) {
	case 0:
		err = store_create(s, a, from, 2, &birth, STORE_HOLD, &attr);
		if (!err && below(w, 2)) {
			struct store_birth file = { .mode = S_IFREG | 0600 };
			(void)store_create(s, attr.number, "f", 1, &file, 0,
					   &attr); /* may be gone */
		}
		if (!err)
			store_forget(s, attr.number, 1);
		break;
	case 1:
		err = store_rmdir(s, a, from, 2, NULL);
		break;
	case 2:
		err = store_rename(s, a, from, 2, b, to, 2, 0);
		break;
	default:
		err = store_rename(s, a, from, 2, b, to, 2, STORE_EXCHANGE);
		break;
	}
	CHECK(err == 0 || err == -EEXIST || err == -ENOENT || err == -ENOTEMPTY);
}

/* A file that is written in place, by all. */
static void do_write(struct worker *w)
{
	struct store_attr attr;
	struct store_view view;
	size_t length = below(w, 4) ? below(w, 300) : below(w, VALUE_MAX);
	uint64_t offset = below(w, 3) ? 0 : below(w, 100000);
	struct store_setattr cut = { .mask = STORE_SET_SIZE, .size = below(w, 100000) };
	CHECK(store_lookup(s, STORE_ROOT, "file", 4, 0, &attr) == 0);
	uint64_t number = attr.number;
	switch (below(w, 6)) {
	case 0:
		CHECK(store_setattr(s, number, &cut, 0, NULL) == 0);
		break;
	case 1:
		CHECK(store_punch(s, number, offset, length + 1, 0) == 0);
		break;
	case 2:
		CHECK(expected_error(store_copy(s, number, offset, number, offset + length, length,
						0),
				     -EINVAL, -EINVAL, -EINVAL));
		break;
	case 3:
		CHECK(store_read(s, number, offset, VALUE_MAX, &view) >= 0);
		store_view_copy(&view, w->buffer);
		store_view_copy(&view, w->other); /* the same again: the bytes stay */
		CHECK(!memcmp(w->buffer, w->other, view.length));
		store_view_put(&view);
		break;
	case 4:
		CHECK(expected_error(
			store_setxattr(s, number, "user.x", w->buffer, length % 300, 0), 0, 0, 0));
		(void)store_removexattr(s, number, "user.x"); /* another thread may be faster */
		break;
	default:
		CHECK(store_write(s, number, offset, w->buffer, length, 0) == (ssize_t)length);
		break;
	}
}

static void *mixed_body(void *context)
{
	static void (*const ops[])(struct worker *) = { do_set,       do_set,   do_set,  do_get,
							do_get,       do_del,   do_mget, do_rename,
							do_rename,    do_hold,  do_hold, do_list,
							do_directory, do_write, do_write };
	struct worker *w = context;
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned i = 0; i < scaled(3000); i++)
			ops[below(w, sizeof(ops) / sizeof(ops[0]))](w);
		(void)pthread_barrier_wait(&barrier); /* tells one thread that it is the last */
		if (w->id == 0)
			CHECK(store_check(s) == 0);
		(void)pthread_barrier_wait(&barrier);
	}
	return NULL;
}

static void mixed(unsigned shards)
{
	const struct store_options options = { .shards = shards };
	const struct store_birth birth = { .mode = S_IFDIR | 0755 };
	struct store_attr attr;
	open_store(&options);
	for (unsigned i = 0; i < DIRS; i++) {
		const char *name = directory_names[i];
		uint64_t parent = strlen(name) > 1 ? directories[0] : STORE_ROOT;
		name += strlen(name) - 1;
		CHECK(store_create(s, parent, name, 1, &birth, 0, &attr) == 0);
		directories[i] = attr.number;
	}
	CHECK(store_set(s, "file", "", 0, STORE_TTL_NONE) == 0);
	CHECK(pthread_barrier_init(&barrier, NULL, THREADS) == 0);
	run_threads(mixed_body, THREADS);
	join_threads(THREADS);
	CHECK(store_check(s) == 0);
	CHECK(pthread_barrier_destroy(&barrier) == 0);
	store_close(s);
}

static void mixed_one_shard(void)
{
	mixed(1);
}

static void mixed_many_shards(void)
{
	mixed(8);
}

/* ---- listings ---- */

enum { STABLE = 70, PASSING = 40 };

static void *churn_body(void *context)
{
	struct worker *w = context;
	while (!atomic_load(&stop)) {
		char temporary[16];
		char a[16];
		char b[16];
		snprintf(temporary, sizeof(temporary), "t%u.%u", w->id,
			 (unsigned)below(w, PASSING));
		snprintf(a, sizeof(a), "s%u", (unsigned)below(w, STABLE));
		snprintf(b, sizeof(b), "s%u", (unsigned)below(w, STABLE));
		switch (below(w, 4)) {
		case 0:
			CHECK(store_set(s, temporary, "x", 1, 0) == 0);
			break;
		case 1:
			CHECK(expected_error(store_del(s, temporary), -ENOENT, 0, 0));
			break;
		case 2:
			CHECK(store_set(s, temporary, "y", 1, 0) == 0);
			CHECK(store_rename(s, STORE_ROOT, temporary, strlen(temporary), STORE_ROOT,
					   a, strlen(a), 0) == 0);
			break;
		default:
			CHECK(store_rename(s, STORE_ROOT, a, strlen(a), STORE_ROOT, b, strlen(b),
					   STORE_EXCHANGE) == 0);
			break;
		}
	}
	return NULL;
}

struct seen {
	unsigned stable[STABLE];
	uint64_t cookie;
};

static bool see(void *context, const struct store_dirent *e)
{
	struct seen *seen = context;
	unsigned a;
	CHECK(e->cookie > seen->cookie);
	seen->cookie = e->cookie;
	if (sscanf(e->name, "s%u", &a) == 1)
		seen->stable[a % STABLE]++;
	return true;
}

static void listings(void)
{
	const struct store_options options = { .shards = 4 };
	open_store(&options);
	for (unsigned i = 0; i < STABLE; i++) {
		char name[16];
		snprintf(name, sizeof(name), "s%u", i);
		CHECK(store_set(s, name, "z", 1, 0) == 0);
	}
	run_threads(churn_body, 3);
	for (unsigned round = 0; round < scaled(4000); round++) {
		struct seen seen = { .cookie = 0 };
		CHECK(store_readdir(s, STORE_ROOT, 0, 0, see, &seen) == 0);
		for (unsigned i = 0; i < STABLE; i++)
			CHECK(seen.stable[i] == 1);
	}
	atomic_store(&stop, true);
	join_threads(3);
	CHECK(store_check(s) == 0);
	store_close(s);
}

/* ---- appends ---- */

enum { RECORD = 24 };

static uint64_t appended;

static void *append_body(void *context)
{
	struct worker *w = context;
	char record[RECORD + 1];
	for (unsigned i = 0; i < scaled(4000); i++) {
		snprintf(record, sizeof(record), "%u %021u\n", w->id, i);
		CHECK(store_write(s, appended, 0, record, RECORD, STORE_APPEND) == RECORD);
	}
	return NULL;
}

static void appends(void)
{
	const struct store_options options = { .shards = 1 };
	struct store_attr attr;
	struct store_view view;
	unsigned next[THREADS] = { 0 };
	char record[RECORD + 1] = "";
	open_store(&options);
	CHECK(store_set(s, "log", "", 0, 0) == 0);
	CHECK(store_lookup(s, STORE_ROOT, "log", 3, 0, &attr) == 0);
	appended = attr.number;
	run_threads(append_body, THREADS);
	join_threads(THREADS);
	CHECK(store_getattr(s, appended, 0, &attr) == 0);
	CHECK(attr.size == (uint64_t)RECORD * THREADS * scaled(4000));
	for (uint64_t at = 0; at < attr.size; at += RECORD) {
		unsigned id;
		unsigned i;
		CHECK(store_read(s, appended, at, RECORD, &view) == RECORD);
		store_view_copy(&view, record);
		store_view_put(&view);
		CHECK(sscanf(record, "%u %u\n", &id, &i) == 2 && i == next[id % THREADS]++);
	}
	CHECK(store_check(s) == 0);
	store_close(s);
}

/* ---- a name, not what it once named ---- */

static void *set_body(void *context)
{
	struct worker *w = context;
	while (!atomic_load(&stop))
		CHECK(store_set(s, "k", w->buffer, 1 + below(w, 500), 0) == 0);
	return NULL;
}

/* What is set by a name that moved away at the same time must not reach it under its new name. */
static void sets_by_name(void)
{
	const struct store_options options = { .shards = 64 };
	char value[8];
	open_store(&options);
	/* Born elsewhere, "k" is a link to another shard. */
	CHECK(store_set(s, "other", "mine", 4, 0) == 0);
	CHECK(store_rename(s, STORE_ROOT, "other", 5, STORE_ROOT, "k", 1, 0) == 0);
	run_threads(set_body, 2);
	for (unsigned i = 0; i < scaled(20000); i++) {
		CHECK(store_rename(s, STORE_ROOT, "k", 1, STORE_ROOT, "other", 5, 0) == 0);
		CHECK(store_set(s, "other", "mine", 4, 0) == 0);
		for (unsigned tries = 0; tries < 4; tries++)
			CHECK(store_get(s, "other", value, 8) == 4 && !memcmp(value, "mine", 4));
		CHECK(store_rename(s, STORE_ROOT, "other", 5, STORE_ROOT, "k", 1, 0) == 0);
	}
	atomic_store(&stop, true);
	join_threads(2);
	CHECK(store_check(s) == 0);
	store_close(s);
}

/* ---- the bound ---- */

enum { LIMIT = 6 << 20 };

/*
 * What may pass the bound: tables of names and directories, which a charged object brings with it,
 * and the name or link of a rename. All of it together is a small part of the whole.
 */
enum { SLACK = LIMIT / 16 };

static atomic_ullong peak;

static void note_peak(void)
{
	struct store_stats stats;
	store_stats(s, &stats);
	if (stats.bytes_used > atomic_load(&peak))
		atomic_store(&peak, stats.bytes_used);
}

static void *fill_body(void *context)
{
	struct worker *w = context;
	unsigned refused = 0;
	for (unsigned i = 0; refused < 50; i++) {
		char path[32];
		snprintf(path, sizeof(path), "f%u.%u", w->id, i);
		int err = store_set(s, path, w->buffer, make_value(w), 0);
		CHECK(err == 0 || err == -ENOSPC);
		refused += err == -ENOSPC;
		if (i % 16 == 0)
			note_peak();
	}
	return NULL;
}

/* At the bound: moves, cuts and removes what its filler made. */
static void *free_body(void *context)
{
	struct worker *w = context;
	struct store_setattr cut = { .mask = STORE_SET_SIZE | STORE_SET_MTIME_NOW };
	struct store_attr attr;
	unsigned missed = 0;
	for (unsigned i = 0; missed < 200; i++) {
		char from[32];
		char to[32];
		snprintf(from, sizeof(from), "f%u.%u", w->id, i);
		snprintf(to, sizeof(to), "a-name-that-needs-more-room-%u.%u", w->id, i);
		int err = store_rename(s, STORE_ROOT, from, strlen(from), STORE_ROOT, to,
				       strlen(to), 0);
		CHECK(err == 0 || err == -ENOENT);
		missed += err != 0;
		if (err)
			continue;
		CHECK(store_lookup(s, STORE_ROOT, to, strlen(to), 0, &attr) == 0);
		cut.size = attr.size / 2;
		CHECK(store_setattr(s, attr.number, &cut, 0, NULL) == 0);
		CHECK(store_del(s, to) == 0);
		note_peak();
	}
	return NULL;
}

static void bound(void)
{
	const struct store_options options = { .shards = 4, .size_bytes = LIMIT };
	struct store_stats before;
	struct store_stats after;
	open_store(&options);
	store_stats(s, &before);
	CHECK(before.bytes_limit == LIMIT);
	for (unsigned round = 0; round < 2; round++) {
		atomic_store(&peak, 0);
		run_threads(fill_body, THREADS);
		join_threads(THREADS);
		CHECK(atomic_load(&peak) > LIMIT * UINT64_C(8) / 10);
		run_threads(free_body, THREADS);
		join_threads(THREADS);
		CHECK(atomic_load(&peak) <= LIMIT + SLACK);
		CHECK(store_check(s) == 0);
	}
	store_stats(s, &after);
	CHECK(after.keys == 0);
	CHECK(after.bytes_used < before.bytes_used + LIMIT / 20);
	store_close(s);
}

/* ---- expiry against everything that moves names ---- */

static atomic_uint removed;

/* Called by the reaper: it may call the store. */
static void on_removed(void *context, uint64_t directory, const char *name, size_t length,
		       uint64_t number, bool known)
{
	struct store_attr attr;
	(void)context;
	(void)known; /* of either kind: other threads hold and forget */
	int err = store_lookup(s, directory, name, length, 0, &attr);
	CHECK(err == -ENOENT || (err == 0 && attr.number != number));
	atomic_fetch_add(&removed, 1);
}

static void *expire_body(void *context)
{
	struct worker *w = context;
	struct store_attr attr;
	for (unsigned i = 0; i < scaled(6000); i++) {
		char a[16];
		char b[16];
		unsigned flags = below(w, 3) ? 0 : STORE_EXCHANGE;
		uint64_t directory = below(w, 3) ? directories[0] : STORE_ROOT;
		snprintf(a, sizeof(a), "k%u", (unsigned)below(w, KEYS));
		snprintf(b, sizeof(b), "k%u", (unsigned)below(w, KEYS));
		CHECK(store_set(s, a, "x", 1, 1 + (int64_t)below(w, 3000000)) == 0);
		int err = store_lookup(s, STORE_ROOT, b, strlen(b), 0, &attr);
		if (!err && below(w, 2))
			err = store_link(s, attr.number, directory, a, strlen(a), 0, &attr);
		CHECK(expected_error(err, -ENOENT, -EEXIST, -ESTALE));
		err = store_rename(s, STORE_ROOT, a, strlen(a), directory, b, strlen(b), flags);
		CHECK(expected_error(err, -ENOENT, -ENOENT, -ENOENT));
		if (below(w, 20) == 0)
			store_reap(s);
	}
	return NULL;
}

static void expiring(void)
{
	const struct store_options options = { .shards = 4 };
	const struct store_birth birth = { .mode = S_IFDIR | 0755 };
	const struct store_events events = { .removed = on_removed };
	struct store_attr attr;
	struct store_stats stats;
	open_store(&options);
	store_set_events(s, &events);
	CHECK(store_create(s, STORE_ROOT, "d", 1, &birth, 0, &attr) == 0);
	directories[0] = attr.number;
	run_threads(expire_body, THREADS);
	join_threads(THREADS);
	/* All of it has a TTL of 3 ms at most, so this ends. */
	do {
		store_reap(s);
		store_stats(s, &stats);
	} while (stats.with_ttl);
	CHECK(store_check(s) == 0);
	CHECK(atomic_load(&removed) > 0 && stats.expired > 0);
	/* The reaper may have the last few in its hands, and with them the directory. */
	while (store_rmdir(s, STORE_ROOT, "d", 1, NULL))
		store_reap(s);
	do
		store_stats(s, &stats);
	while (stats.objects > 1);
	CHECK(stats.keys == 0);
	CHECK(store_check(s) == 0);
	store_close(s);
}

int main(int argc, char **argv)
{
	tap_begin(argc, argv);
	if (argc > 2)
		percent = (unsigned)strtoul(argv[2], NULL, 0);
	tap_case("store: threads do everything at once, 1 shard", mixed_one_shard);
	tap_case("store: threads do everything at once, 8 shards", mixed_many_shards);
	tap_case("store: a listing shows each name that stays exactly once", listings);
	tap_case("store: a value is set by its name, not by what that once named", sets_by_name);
	tap_case("store: concurrent appends neither overlap nor get lost", appends);
	tap_case("store: the bound holds, and what frees memory works at it", bound);
	tap_case("store: keys that expire while they are renamed and linked all go", expiring);
	return tap_end();
}
