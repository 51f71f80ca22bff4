/*
 * test_memory.c: what keys cost, that memory comes back, and that running out of it changes
 * nothing.
 *
 * Cost is measured twice: by the store's account, and by the process's resident memory, which the
 * account claims to foretell. Sanitizers add memory of their own, so that with them only the
 * account is looked at.
 *
 * Failure: for each of many calls, the first allocation fails, then the second, and so on until the
 * call passes. What failed must have changed nothing that anybody can see. Linked with --wrap.
 *
 *	test_memory [seed [keys]]
 */
#include "store/store.h"

#include "tests/unit/tap.h"

#include <errno.h>
#include <malloc.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) ||                               \
	__has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

enum {
	OVERHEAD_MAX = 200,     /* bytes a key, beyond its name and value */
	OVERHEAD_GROWING = 220, /* the same, in the middle of a growth */
};

static struct store *s;
static unsigned keys_max = SANITIZED ? 20000 : 240000;

/* ---- allocations that fail ---- */

static _Thread_local bool armed;
static _Thread_local bool once;       /* only one fails, not all from there on */
static _Thread_local long fail_after; /* allocations that still succeed */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);

static bool allocation_fails(void)
{
	if (!armed)
		return false;
	fail_after--;
	return once ? fail_after == -1 : fail_after < 0;
}

void *__wrap_malloc(size_t size)
{
	return allocation_fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	return allocation_fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
	return allocation_fails() ? NULL : __real_realloc(old, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
	return allocation_fails() ? NULL : __real_aligned_alloc(alignment, size);
}

/* ---- what keys cost ---- */

static uint64_t used(void)
{
	struct store_stats stats;
	store_stats(s, &stats);
	return stats.bytes_used;
}

static uint64_t resident(void)
{
	unsigned long long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");
	CHECK(f != NULL);
	if (f) {
		CHECK(fscanf(f, "%*s %llu", &pages) == 1);
		CHECK(fclose(f) == 0);
	}
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static unsigned char bytes[70000];
static unsigned char more[70000];

/*
 * The overhead once all keys are there, and the worst on the way: while the tables of all shards
 * double, which is at the same time when numbers are alike, old and new ones stand side by side.
 */
static void cost_of(size_t size)
{
	const struct store_options options = { .shards = 64 };
	char path[32];
	double account = 0;
	double process = 0;
	double worst = 0;
	CHECK(malloc_trim(0) >= 0);
	uint64_t before = resident();
	CHECK(store_open(&s, &options) == 0);
	for (unsigned i = 1; i <= keys_max; i++) {
		int length = snprintf(path, sizeof(path), "user:%07u", i);
		CHECK(store_set(s, path, bytes, size, STORE_TTL_DEFAULT) == 0);
		if (i % (keys_max / 24) || i < keys_max / 10)
			continue;
		double useful = (double)i * (double)((size_t)length + size);
		account = ((double)used() - useful) / i;
		process = ((double)(resident() - before) - useful) / i;
		worst = account > worst ? account : worst;
	}
	printf("# values of %zu: %.1f bytes a key charged, %.1f resident; worst %.1f\n", size,
	       account, process, worst);
	CHECK(account <= OVERHEAD_MAX);
	CHECK(SANITIZED || process <= OVERHEAD_MAX);
	CHECK(worst <= OVERHEAD_GROWING);
	store_close(s);
}

static void cost_64(void)
{
	cost_of(64);
}

static void cost_256(void)
{
	cost_of(256);
}

static size_t churn_size(void)
{
	switch (tap_below(16)) {
	case 0:
		return tap_below(20000);
	case 1:
	case 2:
		return tap_below(4000);
	default:
		return tap_below(600);
	}
}

static void churn_once(unsigned keys)
{
	char path[48];
	char other[48];
	snprintf(path, sizeof(path), "key%u", (unsigned)tap_below(keys));
	snprintf(other, sizeof(other), "key%u", (unsigned)tap_below(keys));
	switch (tap_below(6)) {
	case 0:
	case 1:
		(void)store_del(s, path); /* it may not be there */
		break;
	case 2:
		(void)store_rename(s, STORE_ROOT, path, strlen(path), STORE_ROOT, other,
				   strlen(other), 0);
		break;
	default:
		CHECK(store_set(s, path, bytes, churn_size(), STORE_TTL_DEFAULT) == 0);
		break;
	}
}

static void churn(void)
{
	const struct store_options options = { .shards = 16 };
	unsigned keys = keys_max / 8;
	char path[48];
	CHECK(malloc_trim(0) >= 0);
	uint64_t before = resident();
	CHECK(store_open(&s, &options) == 0);
	uint64_t start = used();
	for (unsigned i = 0; i < 8 * keys; i++)
		churn_once(keys);
	double ratio = (double)(resident() - before) / (double)used();
	printf("# after churn: %.1f MB by the account, resident / account %.2f\n",
	       (double)used() / 1e6, ratio);
	CHECK(SANITIZED || (ratio <= 1.3 && ratio > 0.7));
	CHECK(store_check(s) == 0);
	for (unsigned i = 0; i < keys; i++) {
		snprintf(path, sizeof(path), "key%u", i);
		(void)store_del(s, path); /* some are not there */
	}
	CHECK(store_check(s) == 0);
	printf("# emptied: %llu bytes, %llu at the start\n", (unsigned long long)used(),
	       (unsigned long long)start);
	/* Tables keep a little of their size; nothing else is left. */
	CHECK(used() <= start + 32768);
	store_close(s);
}

/* ---- what failed has changed nothing ---- */

static uint64_t mix(uint64_t hash, const void *data, size_t size)
{
	const unsigned char *p = data;
	for (size_t i = 0; i < size; i++)
		hash = (hash ^ p[i]) * UINT64_C(0x100000001B3);
	return hash;
}

static uint64_t mix_object(uint64_t hash, const struct store_attr *a)
{
	struct store_view view;
	struct store_ttl ttl = { 0 };
	char list[256];
	const uint64_t words[] = { a->number,
				   a->size,
				   a->mode,
				   a->uid,
				   a->gid,
				   a->nlink,
				   (uint64_t)a->mtime.tv_sec,
				   (uint64_t)a->mtime.tv_nsec,
				   (uint64_t)a->ctime.tv_sec,
				   (uint64_t)a->ctime.tv_nsec };
	hash = mix(hash, words, sizeof(words));
	ssize_t n = store_read(s, a->number, 0, sizeof(more), &view);
	if (n >= 0) {
		store_view_copy(&view, more);
		store_view_put(&view);
		hash = mix(hash, more, (size_t)n);
	}
	n = store_listxattr(s, a->number, list, sizeof(list));
	CHECK(n >= 0);
	for (const char *name = list; name < list + n; name += strlen(name) + 1) {
		ssize_t size = store_getxattr(s, a->number, name, more, sizeof(more));
		CHECK(size >= 0);
		hash = mix(mix(hash, name, strlen(name)), more, (size_t)size);
	}
	(void)store_get_ttl(s, a->number, &ttl); /* zero if there is none */
	return mix(hash, &ttl.period_ns, sizeof(ttl.period_ns));
}

static bool mix_entry(void *context, const struct store_dirent *e)
{
	uint64_t *hash = context;
	*hash = mix(mix_object(*hash, &e->attr), e->name, e->length);
	if (S_ISDIR(e->attr.mode) && e->name[0] != '.')
		CHECK(store_readdir(s, e->attr.number, 0, 0, mix_entry, context) == 0);
	return true;
}

static uint64_t held; /* a file without a name */

/* Everything that anybody can see. */
static uint64_t fingerprint(void)
{
	uint64_t hash = 0;
	struct store_attr attr;
	CHECK(store_readdir(s, STORE_ROOT, 0, 0, mix_entry, &hash) == 0);
	CHECK(store_getattr(s, held, 0, &attr) == 0);
	return mix_object(hash, &attr);
}

static uint64_t number_of(const char *name)
{
	struct store_attr attr;
	CHECK(store_lookup(s, STORE_ROOT, name, strlen(name), 0, &attr) == 0);
	return attr.number;
}

static int create(uint32_t mode, const char *name)
{
	const struct store_birth birth = { .mode = mode, .target = "there", .target_length = 5 };
	struct store_attr attr;
	return store_create(s, STORE_ROOT, name, strlen(name), &birth, STORE_HOLD, &attr);
}

static int write_to(const char *name, uint64_t offset, size_t length)
{
	ssize_t n = store_write(s, number_of(name), offset, bytes, length, 0);
	return n < 0 ? (int)n : 0;
}

static int rename_to(const char *from, uint64_t directory, const char *to, unsigned flags)
{
	return store_rename(s, STORE_ROOT, from, strlen(from), directory, to, strlen(to), flags);
}

static int try_create(void)
{
	return create(S_IFREG | 0644, "new");
}

static int try_create_many(void)
{
	static unsigned next; /* through every growth of tables and vectors */
	char name[32];
	snprintf(name, sizeof(name), "many%u", next);
	int err = create(S_IFREG | 0644, name);
	next += !err;
	return err;
}

static int try_mkdir(void)
{
	return create(S_IFDIR | 0755, "directory");
}

static int try_symlink(void)
{
	return create(S_IFLNK | 0777, "symlink");
}

static int try_create_default_ttl(void)
{
	const struct store_birth birth = { .mode = S_IFREG | 0600 };
	struct store_attr attr;
	return store_create(s, number_of("hour"), "x", 1, &birth, 0, &attr);
}

static int try_tmpfile(void)
{
	const struct store_birth birth = { .mode = S_IFREG | 0600 };
	struct store_attr attr;
	return store_tmpfile(s, STORE_ROOT, &birth, &attr);
}

static int try_link(void)
{
	struct store_attr attr;
	return store_link(s, number_of("small"), STORE_ROOT, "link", 4, 0, &attr);
}

static int try_link_held(void)
{
	struct store_attr attr;
	return store_link(s, held, STORE_ROOT, "named", 5, 0, &attr);
}

static int try_rename(void)
{
	return rename_to("moved", STORE_ROOT, "a-longer-name-that-has-to-be-kept-elsewhere", 0);
}

static int try_rename_back(void)
{
	return rename_to("a-longer-name-that-has-to-be-kept-elsewhere", STORE_ROOT, "moved", 0);
}

static int try_rename_across(void)
{
	return rename_to("moved", number_of("hour"), "moved-into-a-directory", 0);
}

static int try_rename_over(void)
{
	return rename_to("small", STORE_ROOT, "large", 0);
}

static int try_exchange(void)
{
	return rename_to("large", number_of("hour"), "in", STORE_EXCHANGE);
}

static int try_write_grown_inline(void)
{
	return write_to("tiny", 0, 250);
}

static int try_write_spilled(void)
{
	return write_to("tiny", 200, 300);
}

static int try_write_large(void)
{
	return write_to("tiny", 1000, 69000);
}

static int try_write_middle(void)
{
	return write_to("large", 1000, 60000);
}

static int try_write_append(void)
{
	return write_to("large", 69999, 5000);
}

static int try_write_sparse(void)
{
	return write_to("large", UINT64_C(1) << 40, 1);
}

static int try_fallocate(void)
{
	return store_fallocate(s, number_of("tiny"), 100000, 400000, 0);
}

static int try_punch(void)
{
	return store_punch(s, number_of("whole"), 10000, 9000, 0);
}

static int try_copy(void)
{
	ssize_t n = store_copy(s, number_of("whole"), 10, number_of("tiny"), 70, 60000, 0);
	return n < 0 ? (int)n : 0;
}

static int try_setxattr(void)
{
	return store_setxattr(s, number_of("whole"), "user.test", bytes, 3000, 0);
}

static int try_set_ttl(void)
{
	return store_set_ttl(s, number_of("whole"), INT64_C(3600000000000), NULL);
}

static int try_set_new(void)
{
	return store_set(s, "set", bytes, 300, 0);
}

static int try_set_new_large(void)
{
	return store_set(s, "set-large", bytes, 70000, INT64_C(3600000000000));
}

static int try_set_inline(void)
{
	return store_set(s, "set", bytes, 200, 0);
}

static int try_set_larger(void)
{
	return store_set(s, "set", bytes + 1, 20000, INT64_C(3600000000000));
}

static int try_truncate(void)
{
	const struct store_setattr set = { .mask = STORE_SET_SIZE, .size = 30000 };
	return store_setattr(s, number_of("whole"), &set, 0, NULL);
}

static int try_unlink(void)
{
	return store_unlink(s, STORE_ROOT, "whole", 5, NULL);
}

static int try_rmdir(void)
{
	return store_rmdir(s, STORE_ROOT, "directory", 9, NULL);
}

/* In this order: some need what others left. */
static const struct trial {
	const char *name;
	int (*call)(void);
	unsigned times;
	bool never_fails; /* what removes must not need memory */
} trials[] = {
	{ "create", try_create, 1, false },
	{ "mkdir", try_mkdir, 1, false },
	{ "symlink", try_symlink, 1, false },
	{ "create with a default TTL", try_create_default_ttl, 1, false },
	{ "tmpfile", try_tmpfile, 1, false },
	{ "link", try_link, 1, false },
	{ "rename", try_rename, 1, false },
	{ "rename back", try_rename_back, 1, false },
	{ "rename across", try_rename_across, 1, false },
	{ "rename over", try_rename_over, 1, false },
	{ "exchange", try_exchange, 1, false },
	{ "write, inline", try_write_grown_inline, 1, false },
	{ "write, spilled", try_write_spilled, 1, false },
	{ "write, large", try_write_large, 1, false },
	{ "set, new", try_set_new, 1, false },
	{ "set, inline", try_set_inline, 1, false },
	{ "set, larger", try_set_larger, 1, false },
	{ "set, new and large", try_set_new_large, 1, false },
	{ "write, middle", try_write_middle, 1, false },
	{ "append", try_write_append, 1, false },
	{ "write, sparse", try_write_sparse, 1, false },
	{ "fallocate", try_fallocate, 1, false },
	{ "punch", try_punch, 1, false },
	{ "copy", try_copy, 1, false },
	{ "setxattr", try_setxattr, 2, false },
	{ "set_ttl", try_set_ttl, 1, false },
	{ "truncate", try_truncate, 1, true },
	{ "unlink", try_unlink, 1, true },
	{ "rmdir", try_rmdir, 1, true },
	{ "create many", try_create_many, 150, false },
	{ "link what has no name", try_link_held, 1, false },
};

static void trial_setup(void)
{
	const struct store_options options = { .shards = 1 };
	const struct store_birth birth = { .mode = S_IFREG | 0600 };
	struct store_attr attr;
	CHECK(store_open(&s, &options) == 0);
	CHECK(store_tmpfile(s, STORE_ROOT, &birth, &attr) == 0);
	held = attr.number;
	CHECK(create(S_IFDIR | 0755, "hour") == 0);
	CHECK(store_set_ttl(s, number_of("hour"), INT64_C(3600000000000), NULL) == 0);
	CHECK(store_set(s, "hour/in", bytes, 10, 0) == 0);
	CHECK(store_set(s, "moved", bytes, 10, 0) == 0);
	CHECK(store_set(s, "small", bytes, 100, 0) == 0);
	CHECK(store_set(s, "tiny", bytes, 5, 0) == 0);
	CHECK(store_set(s, "large", bytes, 69999, 0) == 0);
	CHECK(store_set(s, "whole", bytes, 65536, 0) == 0);
}

static void trial_run(const struct trial *t)
{
	for (unsigned i = 0; i < t->times; i++) {
		int err = -ENOMEM;
		for (long n = 0; err; n++) {
			uint64_t before = fingerprint();
			fail_after = n;
			armed = true;
			err = t->call();
			armed = false;
			if (!err)
				break;
			if (err != -ENOMEM || t->never_fails || n == 200) {
				printf("# %s: error %d at allocation %ld\n", t->name, err, n);
				CHECK(false);
				return;
			}
			if (fingerprint() != before) {
				printf("# %s: changed by failing allocation %ld\n", t->name, n);
				CHECK(false);
			}
			CHECK(store_check(s) == 0);
		}
	}
	CHECK(store_check(s) == 0);
}

static void failures(void)
{
	trial_setup();
	for (size_t i = 0; i < sizeof(trials) / sizeof(trials[0]); i++)
		trial_run(&trials[i]);
	store_close(s);
}

static void failures_persist(void)
{
	once = false;
	failures();
}

static void failures_single(void)
{
	once = true;
	failures();
}

static void open_fails(void)
{
	const struct store_options options = { .shards = 4 };
	int err = -ENOMEM;
	for (long n = 0; err; n++) {
		struct store *const nothing = NULL;
		s = nothing;
		fail_after = n;
		once = true;
		armed = true;
		err = store_open(&s, &options);
		armed = false;
		CHECK(err == 0 || (err == -ENOMEM && s == nothing));
		CHECK(n < 100);
	}
	CHECK(store_check(s) == 0);
	store_close(s);
}

int main(int argc, char **argv)
{
	tap_begin(argc, argv);
	if (argc > 2)
		keys_max = (unsigned)strtoul(argv[2], NULL, 0);
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)(1 + i % 251);
	tap_case("memory: 200 bytes a key at most, values of 64 bytes", cost_64);
	tap_case("memory: 200 bytes a key at most, values of 256 bytes", cost_256);
	tap_case("memory: churn wastes little, and what is removed comes back", churn);
	tap_case("memory: a call that runs out of memory changes nothing", failures_persist);
	tap_case("memory: a call of which one allocation fails changes nothing", failures_single);
	tap_case("memory: a store that cannot be opened leaves nothing", open_fails);
	return tap_end();
}
