/*
 * test_store_bound.c: what the bound of a store (size=) promises, by each way to come near it.
 */
#include "store/store.h"
#include "tests/unit/tap.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

enum { MIB = 1 << 20, BLOCK = 1 << 16, LIMIT = 16 * MIB };

static struct store *s;
static unsigned char bytes[MIB];

static void begin(void)
{
	struct store_options options = { .size_bytes = LIMIT };
	int err = store_open(&s, &options);
	if (err)
		printf("Bail out! store_open: %s\n", strerror(-err)), exit(1);
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)tap_random();
}

static void end(void)
{
	CHECK(store_check(s) == 0);
	store_close(s);
}

static uint64_t used(void)
{
	struct store_stats stats;
	store_stats(s, &stats);
	return stats.bytes_used;
}

static uint64_t file(const char *name)
{
	struct store_birth birth = { .mode = S_IFREG | 0644 };
	struct store_attr attr = { 0 };
	CHECK(store_create(s, STORE_ROOT, name, strlen(name), &birth, 0, &attr) == 0);
	return attr.number;
}

static ssize_t write_at(uint64_t number, uint64_t offset, size_t length)
{
	return store_write(s, number, offset, bytes, length, 0);
}

static bool reads_back(uint64_t number, uint64_t offset, size_t length)
{
	static unsigned char got[MIB];
	struct store_view view;
	if (store_read(s, number, offset, length, &view) != (ssize_t)length)
		return false;
	store_view_copy(&view, got);
	store_view_put(&view);
	return !memcmp(got, bytes, length);
}

/* Writes ever smaller pieces into a file until not even a few bytes fit. */
static void fill(uint64_t number)
{
	uint64_t offset = 0;
	for (size_t piece = MIB; piece >= 512; piece /= 2)
		while (write_at(number, offset, piece) > 0)
			offset += piece;
	CHECK(used() <= LIMIT && used() > LIMIT - 64 * 1024);
}

static void bound_holds(void)
{
	begin();
	uint64_t f = file("f");
	fill(f);
	CHECK(write_at(f, (uint64_t)1 << 40, 4096) == -ENOSPC);
	CHECK(store_set(s, "new", bytes, 100000, STORE_TTL_DEFAULT) == -ENOSPC);
	CHECK(store_fallocate(s, f, (uint64_t)1 << 40, MIB, 0) == -ENOSPC);
	CHECK(store_unlink(s, STORE_ROOT, "f", 1, NULL) == 0);
	CHECK(used() < MIB);
	CHECK(store_set(s, "new", bytes, 100000, STORE_TTL_DEFAULT) == 0);
	end();
}

static void copies_are_bounded(void)
{
	begin();
	uint64_t f = file("f");
	uint64_t g = file("g");
	CHECK(write_at(f, 0, MIB) == MIB);
	ssize_t n = 1;
	for (uint64_t i = 1; i < 200000 && n > 0; i++)
		n = store_copy(s, f, 0, g, i * MIB, MIB, 0);
	CHECK(n == -ENOSPC);
	CHECK(used() < LIMIT + LIMIT / 8);
	CHECK(reads_back(g, 5 * MIB, MIB));
	end();
}

static void overwriting_is_bounded(void)
{
	begin();
	uint64_t f = file("f");
	fill(f);
	for (uint64_t i = 0; i < 14 * MIB / BLOCK; i++)
		CHECK(write_at(f, i * BLOCK + 100, 49000) == 49000);
	CHECK(used() <= LIMIT + 4 * BLOCK);
	CHECK(reads_back(f, 3 * BLOCK + 100, 49000));
	end();
}

static void reserved_is_had(void)
{
	begin();
	uint64_t f = file("f");
	uint64_t g = file("g");
	CHECK(write_at(f, 0, MIB) == MIB);
	CHECK(store_copy(s, f, 0, g, 0, MIB, 0) == MIB);
	CHECK(store_fallocate(s, g, 0, 2 * MIB, 0) == 0);
	fill(file("rest"));
	for (uint64_t at = 0; at < 2 * MIB; at += 100000) {
		size_t length = at + 100000 < 2 * MIB ? 100000 : (size_t)(2 * MIB - at);
		CHECK(write_at(g, at, length) == (ssize_t)length);
		CHECK(reads_back(g, at, length));
	}
	CHECK(reads_back(f, 0, MIB)); /* the other side of the copy is as it was */
	end();
}

static void gone_clones_do_not_matter(void)
{
	begin();
	uint64_t f = file("f");
	CHECK(write_at(f, 0, MIB) == MIB);
	CHECK(store_copy(s, f, 0, file("g"), 0, MIB, 0) == MIB);
	CHECK(store_unlink(s, STORE_ROOT, "g", 1, NULL) == 0);
	fill(file("rest"));
	CHECK(write_at(f, 1000, 300000) == 300000);
	CHECK(reads_back(f, 1000, 300000));
	end();
}

static void truncating_frees(void)
{
	begin();
	uint64_t f[400];
	unsigned count = 0;
	for (char name[16]; count < 400; count++) {
		snprintf(name, sizeof(name), "f%u", count);
		f[count] = file(name);
		if (write_at(f[count], 0, BLOCK) < 0)
			break;
	}
	CHECK(count > 200 && count < 400);
	struct store_setattr half = { .mask = STORE_SET_SIZE, .size = BLOCK / 2 };
	uint64_t before = used();
	for (unsigned i = 0; i < 20; i++)
		CHECK(store_setattr(s, f[i], &half, 0, NULL) == 0);
	CHECK(before - used() > 8 * BLOCK);
	CHECK(write_at(f[399 < count ? 399 : count], 0, BLOCK) == BLOCK);
	end();
}

static void renaming_works_and_ends(void)
{
	char old[32];
	char new[STORE_NAME_MAX + 1];
	begin();
	unsigned count = 0;
	int err = 0;
	struct store_birth birth = { .mode = S_IFREG | 0644 };
	for (; !err; count += !err) {
		int length = snprintf(old, sizeof(old), "k%u", count);
		err = store_create(s, STORE_ROOT, old, (size_t)length, &birth, 0, NULL);
	}
	CHECK(err == -ENOSPC && count > 10000);
	err = 0;
	for (unsigned i = 0; i < count && !err; i++) {
		int length = snprintf(old, sizeof(old), "k%u", i);
		memset(new, 'x', STORE_NAME_MAX);
		memcpy(new, old, (size_t)length);
		err = store_rename(s, STORE_ROOT, old, (size_t)length, STORE_ROOT, new,
				   STORE_NAME_MAX, 0);
		CHECK(!err || i > 100);
	}
	CHECK(err == -ENOSPC && used() < LIMIT + LIMIT / 7);
	CHECK(store_unlink(s, STORE_ROOT, "k99999999", 9, NULL) == -ENOENT);
	end();
}

static void what_is_there_counts_first(void)
{
	struct store_birth birth = { .mode = S_IFREG | 0644 };
	struct store_attr attr;
	begin();
	(void)file("here");
	fill(file("rest"));
	int err = 0;
	for (unsigned i = 0; !err; i++) {
		char name[32];
		int length = snprintf(name, sizeof(name), "n%u", i);
		err = store_create(s, STORE_ROOT, name, (size_t)length, &birth, 0, &attr);
	}
	CHECK(err == -ENOSPC);
	CHECK(store_create(s, STORE_ROOT, "here", 4, &birth, 0, &attr) == -EEXIST);
	end();
}

int main(int argc, char **argv)
{
	tap_begin(argc, argv);
	tap_case("bound: what is new is refused, what goes makes room", bound_holds);
	tap_case("bound: sharing by copies ends there, too", copies_are_bounded);
	tap_case("bound: overwriting works there, and does not pass it", overwriting_is_bounded);
	tap_case("bound: what fallocate promised can be written, shared bytes or not",
		 reserved_is_had);
	tap_case("bound: a copy that is gone costs nothing", gone_clones_do_not_matter);
	tap_case("bound: truncating gives room back", truncating_frees);
	tap_case("bound: renaming works, and passes it by an eighth at most",
		 renaming_works_and_ends);
	tap_case("bound: an existing name is reported before the lack of room",
		 what_is_there_counts_first);
	return tap_end();
}
