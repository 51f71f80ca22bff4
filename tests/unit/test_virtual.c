/*
 * test_virtual.c: the virtual tree: which names there are, how long a snapshot lives, who gets it.
 *
 * What depends on time is checked only where two readings of the clock around a call prove it.
 */
#include "fs/virtual.h"

#include "fs/report.h"
#include "store/store.h"
#include "tests/unit/tap.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#define FRESH_NS (VIRTUAL_FRESH_MS * INT64_C(1000000))

enum { OWNER = 1000, OTHER = 1001, GROUP = 100 };

struct fixture {
	struct store *store;
	struct report *report;
	struct virtual *v;
};

static struct fixture setup(void)
{
	struct fixture f = { 0 };
	struct store_options options = { .shards = 4 };
	struct report_facts facts = { .version = "1.2.3", .transport = "dev" };
	if (store_open(&f.store, &options) || report_new(&f.report, f.store, &facts) ||
	    virtual_new(&f.v, f.store, f.report, OWNER, GROUP)) {
		printf("Bail out! no store, report or virtual tree\n");
		exit(1);
	}
	return f;
}

static void teardown(struct fixture *f)
{
	CHECK(!virtual_check(f->v));
	virtual_free(f->v);
	report_free(f->report);
	store_close(f->store);
}

static uint64_t lookup(struct fixture *f, uint64_t parent, const char *name, uid_t uid)
{
	uint64_t number = 0;
	struct stat attr;
	CHECK(!virtual_lookup(f->v, parent, name, uid, &number, &attr));
	CHECK(virtual_is(number) && virtual_is(attr.st_ino));
	CHECK(attr.st_uid == OWNER && attr.st_gid == GROUP);
	return number;
}

static int failure(struct fixture *f, uint64_t parent, const char *name)
{
	uint64_t number = 7;
	struct stat attr;
	int err = virtual_lookup(f->v, parent, name, OWNER, &number, &attr);
	CHECK(number == 7);
	return err;
}

static uint64_t ctx(struct fixture *f)
{
	return lookup(f, STORE_ROOT, ".ctx", OWNER);
}

static uint64_t make(struct fixture *f, const char *name, uint32_t mode)
{
	struct store_birth birth = { .mode = mode };
	struct store_attr attr = { 0 };
	CHECK(!store_create(f->store, STORE_ROOT, name, strlen(name), &birth, STORE_HOLD, &attr));
	return attr.number;
}

static void names(void)
{
	struct fixture f = setup();
	uint64_t d = make(&f, "d", S_IFDIR | 0755);
	CHECK(virtual_name(STORE_ROOT, ".stats"));
	CHECK(virtual_name(STORE_ROOT, ".ctx"));
	CHECK(virtual_name(d, ".ctx"));
	CHECK(virtual_name(ctx(&f), "anything"));
	CHECK(!virtual_name(d, ".stats"));
	CHECK(!virtual_name(d, "stats.json"));
	CHECK(!virtual_name(STORE_ROOT, "control"));
	CHECK(!virtual_name(STORE_ROOT, ".ctxx"));
	CHECK(!virtual_name(STORE_ROOT, ".stat"));
	CHECK(!virtual_name(STORE_ROOT, ""));
	teardown(&f);
}

static void lookups(void)
{
	struct fixture f = setup();
	uint64_t d = make(&f, "d", S_IFDIR | 0755), file = make(&f, "file", S_IFREG | 0644);
	uint64_t root_ctx = ctx(&f), d_ctx = lookup(&f, d, ".ctx", OTHER);
	CHECK(root_ctx != d_ctx);
	CHECK(ctx(&f) == root_ctx && lookup(&f, d, ".ctx", OWNER) == d_ctx);
	lookup(&f, STORE_ROOT, ".stats", OWNER);
	lookup(&f, root_ctx, "stats.json", OWNER);
	uint64_t control = lookup(&f, root_ctx, "control", OWNER);
	CHECK(control == lookup(&f, root_ctx, "control", OTHER));
	CHECK(failure(&f, d_ctx, "stats.json") == -ENOENT);
	CHECK(failure(&f, d_ctx, "control") == -ENOENT);
	CHECK(failure(&f, root_ctx, ".ctx") == -ENOENT);
	CHECK(failure(&f, root_ctx, ".stats") == -ENOENT);
	CHECK(failure(&f, root_ctx, "x") == -ENOENT);
	CHECK(failure(&f, control, "x") == -ENOTDIR);
	CHECK(failure(&f, file, ".ctx") == -ENOTDIR);
	CHECK(failure(&f, UINT64_C(1) << 50, ".ctx") == -ENOENT);
	teardown(&f);
}

static void removed_directory(void)
{
	struct fixture f = setup();
	uint64_t d = make(&f, "d", S_IFDIR | 0755);
	uint64_t number = lookup(&f, d, ".ctx", OWNER);
	struct stat attr;
	CHECK(!virtual_getattr(f.v, number, &attr) && attr.st_nlink == 2);
	CHECK(!store_rmdir(f.store, STORE_ROOT, "d", 1, NULL));
	CHECK(failure(&f, d, ".ctx") == -ENOENT);
	CHECK(!virtual_getattr(f.v, number, &attr) && attr.st_nlink == 0); /* it may be a cwd */
	teardown(&f);
}

static void attributes(void)
{
	struct fixture f = setup();
	struct stat attr, again;
	uint64_t number, root_ctx = ctx(&f);
	CHECK(!virtual_lookup(f.v, STORE_ROOT, ".stats", OWNER, &number, &attr));
	CHECK(attr.st_mode == (S_IFREG | 0444) && attr.st_nlink == 1 && attr.st_size > 0);
	CHECK(attr.st_blocks * 512 >= attr.st_size);
	CHECK(attr.st_ino != number);
	CHECK(!virtual_getattr(f.v, number, &again) && !memcmp(&attr, &again, sizeof(attr)));
	CHECK(!virtual_lookup(f.v, root_ctx, "control", OWNER, &number, &attr));
	CHECK(attr.st_mode == (S_IFREG | 0200) && attr.st_size == 0);
	CHECK(!virtual_getattr(f.v, number, &again) && !memcmp(&attr, &again, sizeof(attr)));
	CHECK(!virtual_lookup(f.v, STORE_ROOT, ".ctx", OWNER, &number, &attr));
	CHECK(attr.st_mode == (S_IFDIR | 0555));
	CHECK(!virtual_getattr(f.v, number, &again) && !memcmp(&attr, &again, sizeof(attr)));
	teardown(&f);
}

/* Reads a node in pieces, to its end. */
static char *contents(struct fixture *f, uint64_t number, size_t piece, size_t *size)
{
	struct stat attr;
	CHECK(!virtual_getattr(f->v, number, &attr));
	char *all = calloc(1, (size_t)attr.st_size + 1);
	const char *bytes;
	ssize_t n;
	*size = 0;
	while ((n = virtual_read(f->v, number, *size, piece, &bytes)) > 0) {
		CHECK(*size + (size_t)n <= (size_t)attr.st_size);
		memcpy(all + *size, bytes, (size_t)n);
		*size += (size_t)n;
	}
	CHECK(n == 0 && *size == (size_t)attr.st_size);
	return all;
}

static void snapshot_is_consistent(void)
{
	struct fixture f = setup();
	size_t size, again_size;
	uint64_t number = lookup(&f, STORE_ROOT, ".stats", OWNER);
	char *before = contents(&f, number, 100, &size);
	for (int i = 0; i < 1000; i++)
		report_record(f.report, REPORT_READ, report_clock(), 0);
	char *after = contents(&f, number, 4096, &again_size);
	CHECK(size == again_size && !memcmp(before, after, size));
	free(after);
	uint64_t newer = lookup(&f, STORE_ROOT, ".stats", OWNER);
	CHECK(newer != number); /* the first was read to its end */
	after = contents(&f, newer, 1 << 20, &again_size);
	CHECK(size == again_size && memcmp(before, after, size));
	free(after);
	free(before);
	const char *bytes;
	CHECK(virtual_read(f.v, number, UINT64_MAX, 10, &bytes) == 0);
	CHECK(virtual_read(f.v, number, size - 3, SIZE_MAX, &bytes) == 3);
	CHECK(virtual_read(f.v, number, 0, 0, &bytes) == 0);
	CHECK(virtual_read(f.v, ctx(&f), 0, 10, &bytes) == -EISDIR);
	teardown(&f);
}

static void given_again(void)
{
	struct fixture f = setup();
	struct stat first, next;
	uint64_t a, b;
	int64_t began = report_clock();
	CHECK(!virtual_lookup(f.v, STORE_ROOT, ".stats", OWNER, &a, &first));
	int64_t made = report_clock();
	CHECK(lookup(&f, STORE_ROOT, ".stats", OTHER) != a); /* which leaves another's the last */
	CHECK(!virtual_lookup(f.v, STORE_ROOT, ".stats", OTHER, &a, &first));
	CHECK(!virtual_lookup(f.v, STORE_ROOT, ".stats", OTHER, &b, &next));
	if (report_clock() - began < FRESH_NS)
		CHECK(a == b);
	while (report_clock() - made <= 2 * FRESH_NS)
		; /* nothing tells when a snapshot has got old but the clock */
	CHECK(!virtual_lookup(f.v, STORE_ROOT, ".stats", OTHER, &b, &next));
	CHECK(a != b);
	CHECK(first.st_ino == next.st_ino && first.st_size == next.st_size);
	teardown(&f);
}

static void reading_ends_it(void)
{
	struct fixture f = setup();
	const char *bytes;
	int64_t began = report_clock();
	uint64_t a = lookup(&f, STORE_ROOT, ".stats", OWNER);
	CHECK(virtual_read(f.v, a, 0, 10, &bytes) == 10);
	uint64_t b = lookup(&f, STORE_ROOT, ".stats", OWNER);
	if (report_clock() - began < FRESH_NS)
		CHECK(a == b); /* it was not read to its end */
	CHECK(virtual_read(f.v, b, 0, 1 << 20, &bytes) > 10);
	CHECK(lookup(&f, STORE_ROOT, ".stats", OWNER) != b);
	teardown(&f);
}

static void forgetting(void)
{
	struct fixture f = setup();
	struct stat attr;
	const char *bytes;
	CHECK(virtual_bytes(f.v) == 0);
	uint64_t a = lookup(&f, STORE_ROOT, ".stats", OWNER);
	size_t one = virtual_bytes(f.v);
	CHECK(one > 0);
	CHECK(virtual_read(f.v, a, 0, 1 << 20, &bytes) > 0);
	uint64_t b = lookup(&f, STORE_ROOT, ".stats", OWNER);
	CHECK(virtual_bytes(f.v) == 2 * one);
	virtual_forget(f.v, a, 1);
	CHECK(virtual_bytes(f.v) == one);
	CHECK(virtual_getattr(f.v, a, &attr) == -ESTALE);
	CHECK(virtual_read(f.v, a, 0, 10, &bytes) == -ESTALE);
	virtual_forget(f.v, b, 1); /* the last stays, in case that it is asked for again */
	CHECK(virtual_bytes(f.v) == one);
	CHECK(!virtual_check(f.v));
	CHECK(virtual_read(f.v, b, 0, 1 << 20, &bytes) > 0);
	lookup(&f, STORE_ROOT, ".stats", OWNER);
	CHECK(virtual_bytes(f.v) == one);
	CHECK(virtual_getattr(f.v, b, &attr) == -ESTALE);
	virtual_forget(f.v, a, 1); /* nodes that are unknown, or not counted */
	virtual_forget(f.v, ctx(&f), 100);
	virtual_forget(f.v, lookup(&f, ctx(&f), "control", OWNER), 100);
	virtual_forget(f.v, UINT64_MAX, 1);
	CHECK(virtual_getattr(f.v, STORE_VIRTUAL, &attr) == -ESTALE);
	CHECK(virtual_getattr(f.v, UINT64_MAX, &attr) == -ESTALE);
	teardown(&f);
}

/* Makes one more snapshot, also within the time in which the last would be given again. */
static int one_more(struct fixture *f, uid_t uid, uint64_t *number)
{
	struct stat attr;
	const char *bytes;
	int err = virtual_lookup(f->v, STORE_ROOT, ".stats", uid, number, &attr);
	if (!err)
		CHECK(virtual_read(f->v, *number, 0, 1 << 20, &bytes) == attr.st_size);
	return err;
}

static void bounds(void)
{
	struct fixture f = setup();
	static uint64_t numbers[VIRTUAL_SNAPSHOTS_MAX];
	for (unsigned i = 0; i < VIRTUAL_SNAPSHOTS_USER_MAX; i++)
		CHECK(!one_more(&f, OWNER, &numbers[i]));
	uint64_t number;
	CHECK(one_more(&f, OWNER, &number) == -ENFILE);
	CHECK(!one_more(&f, OTHER, &number)); /* one user does not keep out the others */
	virtual_forget(f.v, numbers[5], 1);
	CHECK(!one_more(&f, OWNER, &numbers[5]));
	CHECK(one_more(&f, OWNER, &number) == -ENFILE);
	for (unsigned i = VIRTUAL_SNAPSHOTS_USER_MAX + 1; i < VIRTUAL_SNAPSHOTS_MAX; i++)
		CHECK(!one_more(&f, OTHER + 1 + i / VIRTUAL_SNAPSHOTS_USER_MAX, &number));
	CHECK(one_more(&f, OTHER, &number) == -ENFILE);
	CHECK(!virtual_check(f.v));
	teardown(&f);
}

static void commands(void)
{
	struct fixture f = setup();
	uint64_t control = lookup(&f, ctx(&f), "control", OWNER);
	uint64_t stats = lookup(&f, STORE_ROOT, ".stats", OWNER);
	const char *bytes;
	CHECK(virtual_write(f.v, control, OWNER, "reset\n", 6) == 6);
	CHECK(virtual_write(f.v, control, OWNER, "reset", 5) == 5);
	CHECK(virtual_write(f.v, control, 0, "reset\n", 6) == 6);
	CHECK(virtual_write(f.v, control, OTHER, "reset\n", 6) == -EACCES);
	static const char *const unknown[] = { "",       "\n",          "rese",
					       "resett", "RESET\n",     "reset\n\n",
					       " reset", "reset reset", "flush\n" };
	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++)
		CHECK(virtual_write(f.v, control, OWNER, unknown[i], strlen(unknown[i])) ==
		      -EINVAL);
	CHECK(virtual_write(f.v, control, OWNER, "reset\0", 6) == -EINVAL);
	CHECK(virtual_write(f.v, stats, OWNER, "reset\n", 6) == -EPERM);
	CHECK(virtual_write(f.v, ctx(&f), OWNER, "reset\n", 6) == -EPERM);
	CHECK(virtual_truncate(f.v, control) == 0);
	CHECK(virtual_truncate(f.v, stats) == -EPERM);
	CHECK(virtual_truncate(f.v, ctx(&f)) == -EPERM);
	CHECK(virtual_read(f.v, control, 0, 10, &bytes) == 0);
	teardown(&f);
}

static void reset_shows_at_once(void)
{
	struct fixture f = setup();
	report_record(f.report, REPORT_READLINK, report_clock(), 0);
	uint64_t control = lookup(&f, ctx(&f), "control", OWNER);
	uint64_t a = lookup(&f, STORE_ROOT, ".stats", OWNER);
	CHECK(virtual_write(f.v, control, OWNER, "reset\n", 6) == 6);
	CHECK(lookup(&f, STORE_ROOT, ".stats", OWNER) != a);
	size_t size;
	char *text = contents(&f, a, 4096, &size); /* but who has the old one open reads it */
	CHECK(strstr(text, "READLINK                   1"));
	free(text);
	teardown(&f);
}

struct listing {
	char names[200];
	uint64_t last;
	unsigned left;
	uint64_t parent_ino;
};

static bool emit(void *context, const char *name, const struct stat *attr, uint64_t cookie)
{
	struct listing *l = context;
	if (!l->left)
		return false;
	l->left--;
	CHECK(cookie > l->last);
	l->last = cookie;
	CHECK(S_ISDIR(attr->st_mode) == (name[0] == '.'));
	if (!strcmp(name, ".."))
		l->parent_ino = attr->st_ino;
	snprintf(l->names + strlen(l->names), sizeof(l->names) - strlen(l->names), "%s ", name);
	return true;
}

static void listings(void)
{
	struct fixture f = setup();
	uint64_t d = make(&f, "d", S_IFDIR | 0755);
	for (unsigned step = 1; step < 6; step++) { /* from any cookie on, the rest */
		struct listing l = { 0 };
		uint64_t after;
		do {
			after = l.last;
			l.left = step;
			CHECK(!virtual_readdir(f.v, ctx(&f), after, emit, &l));
		} while (l.last != after);
		CHECK(!strcmp(l.names, ". .. stats.json control "));
		CHECK(l.parent_ino == STORE_ROOT);
	}
	struct listing l = { .left = 10 };
	CHECK(!virtual_readdir(f.v, lookup(&f, d, ".ctx", OWNER), 0, emit, &l));
	CHECK(!strcmp(l.names, ". .. "));
	CHECK(l.parent_ino == d);
	CHECK(virtual_readdir(f.v, lookup(&f, STORE_ROOT, ".stats", OWNER), 0, emit, &l) ==
	      -ENOTDIR);
	teardown(&f);
}

enum { THREADS = 3, ROUNDS = 400 };

static void *reader(void *arg)
{
	struct fixture *f = arg;
	static atomic_uint next_uid;
	uid_t uid = OWNER + atomic_fetch_add(&next_uid, 1) % 2;
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t number;
		struct stat attr, again;
		CHECK(!virtual_lookup(f->v, STORE_ROOT, ".stats", uid, &number, &attr));
		const char *bytes;
		ssize_t n = virtual_read(f->v, number, 0, 1 << 20, &bytes);
		CHECK(n == attr.st_size && !memcmp(bytes, "ctxfs ", 6) && bytes[n - 1] == '\n');
		CHECK(!virtual_getattr(f->v, number, &again) && attr.st_size == again.st_size);
		report_record(f->report, REPORT_READ, report_clock(), 0);
		if (i % 50 == 0)
			CHECK(virtual_write(f->v, lookup(f, ctx(f), "control", OWNER), 0, "reset",
					    5) == 5);
		virtual_forget(f->v, number, 1);
	}
	return NULL;
}

static void threads(void)
{
	struct fixture f = setup();
	pthread_t thread[THREADS];
	for (int i = 0; i < THREADS; i++)
		CHECK(!pthread_create(&thread[i], NULL, reader, &f));
	for (int i = 0; i < 100; i++)
		CHECK(!virtual_check(f.v));
	for (int i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	uint64_t number = lookup(&f, STORE_ROOT, ".stats", OWNER);
	size_t size;
	free(contents(&f, number, 4096, &size));
	CHECK(virtual_bytes(f.v) == size); /* all but the last went with their lookups */
	teardown(&f);
}

int main(int argc, char **argv)
{
	tap_begin(argc, argv);
	tap_case("these names are reserved, and no others", names);
	tap_case("virtual names resolve where they should, to stable nodes", lookups);
	tap_case("there is no .ctx in a directory that was removed", removed_directory);
	tap_case("attributes are the same by name and by node", attributes);
	tap_case("a snapshot never changes; the next one does", snapshot_is_consistent);
	tap_case("the same user gets a snapshot again for a moment, and no other", given_again);
	tap_case("a snapshot that was read to its end is not given again", reading_ends_it);
	tap_case("forgotten snapshots go, but for the last", forgetting);
	tap_case("the number of snapshots is bounded, for each user too", bounds);
	tap_case("control takes its words, from those who may", commands);
	tap_case("a reset shows in the next lookup", reset_shows_at_once);
	tap_case("directories list their files, from any cookie on", listings);
	tap_case("readers on many threads get whole pages, and all memory back", threads);
	return tap_end();
}
