/*
 * virtual.c: see virtual.h for what there is and how nodes are numbered.
 *
 * Directories and control have no state: their node ids say all, and are valid for ever. Snapshots
 * are on one list per kind, the newest first; lists are short (most hold one), because the kernel
 * forgets a snapshot as soon as it has found a newer one and nobody has it open.
 *
 * 1. A list is in descending order of serial numbers, all below next_serial.
 * 2. A snapshot without lookups is the first of its list: kept for the LOOKUP that may follow
 *    within VIRTUAL_FRESH_MS, freed when there is a newer one. An idle mount has one of each file.
 * 3. count and bytes are those of all lists; count <= VIRTUAL_SNAPSHOTS_MAX, and
 *    VIRTUAL_SNAPSHOTS_RESERVED more of root's and the owner's.
 * 4. All snapshots of one kind have one size (fs/report.c, invariant 1).
 *
 * Locking: one mutex over the lists. Pages are rendered before it is taken; of two that race both
 * stay, and each caller has what it asked for. Nothing else is locked under it.
 */
#include "fs/virtual.h"

#include "fs/report.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define DIRECTORY_BIT  (UINT64_C(1) << 62)
#define DIRECTORY_MASK (DIRECTORY_BIT - 1)
#define SERIAL_BITS    56
#define SERIAL_MASK    ((UINT64_C(1) << SERIAL_BITS) - 1)

#define DIRECTORY_NAME ".ctx"

enum { NS_PER_MS = 1000000, BLOCK_SIZE = 4096 };

/* Numbers that are part of node ids and of cookies: only ever added to. */
enum kind { KIND_NONE, KIND_STATS, KIND_JSON, KIND_CONTROL, KIND_COUNT };

static_assert(KIND_COUNT <= 64, "a kind has six bits of a node id");

static const struct file {
	const char *name;
	uint64_t parent; /* number of the directory that it is in */
	mode_t mode;
	int (*render)(struct report *r, char **bytes, size_t *size); /* null: it takes commands */
} files[KIND_COUNT] = {
	[KIND_STATS] = { ".stats", STORE_ROOT, S_IFREG | 0444, report_text },
	[KIND_JSON] = { "stats.json", STORE_VIRTUAL | DIRECTORY_BIT | STORE_ROOT, S_IFREG | 0444,
			report_json },
	[KIND_CONTROL] = { "control", STORE_VIRTUAL | DIRECTORY_BIT | STORE_ROOT, S_IFREG | 0200,
			   NULL },
};

struct snapshot {
	/* constant */
	uint64_t number; /* the node id */
	uid_t uid;
	int64_t made_ns;      /* CLOCK_MONOTONIC */
	struct timespec made; /* the same moment as a time of day */
	size_t size;
	char *bytes;

	/* under lock */
	struct snapshot *next;
	uint64_t lookups;
	bool spent; /* read to its end, or from before a reset: not to be given again */
};

struct virtual
{
	/* constant after new */
	struct store *store;
	struct report *report;
	uid_t uid;
	gid_t gid;
	struct timespec born;

	/* under lock */
	pthread_mutex_t lock;
	struct snapshot *newest[KIND_COUNT];
	uint64_t next_serial;
	uint64_t resets; /* a page that was begun under a lower number is spent */
	size_t count, bytes;
};

static void lock(struct virtual *v)
{
	int err = pthread_mutex_lock(&v->lock);
	assert(!err);
}

static void unlock(struct virtual *v)
{
	int err = pthread_mutex_unlock(&v->lock);
	assert(!err);
}

/* ---- numbers ---- */

static bool is_directory(uint64_t number)
{
	return virtual_is(number) && number & DIRECTORY_BIT;
}

static uint64_t number_of_directory(uint64_t directory)
{
	assert(directory && !(directory & ~DIRECTORY_MASK));
	return STORE_VIRTUAL | DIRECTORY_BIT | directory;
}

static uint64_t number_of_file(enum kind kind, uint64_t serial)
{
	assert(kind > KIND_NONE && kind < KIND_COUNT);
	assert(serial <= SERIAL_MASK);
	return STORE_VIRTUAL | (uint64_t)kind << SERIAL_BITS | serial;
}

static uint64_t serial_of(uint64_t number)
{
	return number & SERIAL_MASK;
}

/* KIND_NONE if it is no file's number; the kernel may say anything. */
static enum kind kind_of(uint64_t number)
{
	uint64_t kind = (number & ~STORE_VIRTUAL) >> SERIAL_BITS;
	return virtual_is(number) && kind < KIND_COUNT ? (enum kind)kind : KIND_NONE;
}

static bool is_control(uint64_t number)
{
	return number == number_of_file(KIND_CONTROL, 0);
}

static enum kind kind_by_name(uint64_t parent, const char *name)
{
	for (enum kind kind = KIND_NONE + 1; kind < KIND_COUNT; kind++)
		if (files[kind].parent == parent && !strcmp(files[kind].name, name))
			return kind;
	return KIND_NONE;
}

bool virtual_name(uint64_t parent, const char *name)
{
	return virtual_is(parent) || !strcmp(name, DIRECTORY_NAME) || kind_by_name(parent, name);
}

/* ---- attributes ---- */

static void fill(const struct virtual *v, uint64_t ino, mode_t mode, nlink_t nlink,
		 struct timespec time, struct stat *attr)
{
	*attr = (struct stat){
		.st_ino = ino,
		.st_mode = mode,
		.st_nlink = nlink,
		.st_uid = v->uid,
		.st_gid = v->gid,
		.st_blksize = BLOCK_SIZE,
		.st_atim = time,
		.st_mtim = time,
		.st_ctim = time,
	};
}

/* With the blocks of a file without holes: some programs take fewer for a sign of holes. */
static void fill_file(const struct virtual *v, enum kind kind, const struct snapshot *s,
		      struct stat *attr)
{
	fill(v, number_of_file(kind, 0), files[kind].mode, 1, s ? s->made : v->born, attr);
	attr->st_size = s ? (off_t)s->size : 0;
	attr->st_blocks = (attr->st_size + 511) / 512;
}

/* .ctx lives and dies with the directory that it is in. */
static int directory_getattr(struct virtual *v, uint64_t number, struct stat *attr)
{
	struct store_attr parent;
	int err = store_getattr(v->store, number & DIRECTORY_MASK, 0, &parent);
	if (err)
		return err == -ENOENT ? -ESTALE : err;
	if (!S_ISDIR(parent.mode))
		return -ESTALE;
	fill(v, number, S_IFDIR | 0555, parent.nlink ? 2 : 0, v->born, attr);
	return 0;
}

/* ---- snapshots ---- */

static void snapshot_free(struct snapshot *s)
{
	if (s)
		free(s->bytes);
	free(s);
}

static struct snapshot *snapshot_new(struct virtual *v, enum kind kind, uid_t uid)
{
	struct snapshot *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->uid = uid;
	s->made_ns = report_clock();
	int err = clock_gettime(CLOCK_REALTIME, &s->made);
	assert(!err);
	if (files[kind].render(v->report, &s->bytes, &s->size)) {
		free(s);
		return NULL;
	}
	return s;
}

/* Where it hangs on its list, or the end of that: the kernel may name one from before a restart. */
static struct snapshot **find_locked(struct virtual *v, uint64_t number)
{
	struct snapshot **at = &v->newest[kind_of(number)];
	while (*at && (*at)->number != number)
		at = &(*at)->next;
	return at;
}

static void remove_locked(struct virtual *v, struct snapshot **at)
{
	struct snapshot *s = *at;
	assert(!s->lookups);
	*at = s->next;
	v->count--;
	v->bytes -= s->size;
	snapshot_free(s);
}

/* The last snapshot, if it may be given once more, with one lookup counted on it. */
static struct snapshot *reuse_locked(struct virtual *v, enum kind kind, uid_t uid)
{
	struct snapshot *s = v->newest[kind];
	if (!s || s->spent || s->uid != uid)
		return NULL;
	if (report_clock() - s->made_ns >= (int64_t)VIRTUAL_FRESH_MS * NS_PER_MS)
		return NULL;
	s->lookups++;
	return s;
}

static size_t count_of_user_locked(const struct virtual *v, uid_t uid)
{
	size_t count = 0;
	for (enum kind kind = 0; kind < KIND_COUNT; kind++)
		for (const struct snapshot *s = v->newest[kind]; s; s = s->next)
			count += s->uid == uid;
	return count;
}

/* Root and the owner: whose mount it is cannot be kept from looking after it. */
static bool is_master(const struct virtual *v, uid_t uid)
{
	return uid == 0 || uid == v->uid;
}

/* Puts a new snapshot in front, with one lookup. -ENFILE at the bounds. */
static int add_locked(struct virtual *v, enum kind kind, struct snapshot *s)
{
	if (v->newest[kind] && !v->newest[kind]->lookups)
		remove_locked(v, &v->newest[kind]);
	size_t reserved = is_master(v, s->uid) ? VIRTUAL_SNAPSHOTS_RESERVED : 0;
	if (v->count >= VIRTUAL_SNAPSHOTS_MAX + reserved ||
	    count_of_user_locked(v, s->uid) >= VIRTUAL_SNAPSHOTS_USER_MAX)
		return -ENFILE;
	s->number = number_of_file(kind, v->next_serial++);
	s->lookups = 1;
	s->next = v->newest[kind];
	v->newest[kind] = s;
	v->count++;
	v->bytes += s->size;
	return 0;
}

static int snapshot_lookup(struct virtual *v, enum kind kind, uid_t uid, uint64_t *number,
			   struct stat *attr)
{
	lock(v);
	uint64_t resets = v->resets;
	struct snapshot *s = reuse_locked(v, kind, uid);
	if (s) {
		*number = s->number;
		fill_file(v, kind, s, attr);
	}
	unlock(v);
	if (s)
		return 0;
	s = snapshot_new(v, kind, uid);
	if (!s)
		return -ENOMEM;
	lock(v);
	int err = add_locked(v, kind, s);
	if (!err) {
		s->spent = resets != v->resets;
		*number = s->number;
		fill_file(v, kind, s, attr);
	}
	unlock(v);
	if (err)
		snapshot_free(s);
	return err;
}

void virtual_forget(struct virtual *v, uint64_t number, uint64_t count)
{
	if (!kind_of(number))
		return;
	lock(v);
	struct snapshot **at = find_locked(v, number), *s = *at;
	if (s) {
		assert(s->lookups >= count);
		s->lookups -= count;
		if (!s->lookups && s != v->newest[kind_of(number)]) /* invariant 2 */
			remove_locked(v, at);
	}
	unlock(v);
}

/* ---- the tree ---- */

static int directory_lookup(struct virtual *v, uint64_t parent, uint64_t *number, struct stat *attr)
{
	struct store_attr found;
	int err = store_getattr(v->store, parent, 0, &found);
	if (err)
		return err;
	if (!S_ISDIR(found.mode))
		return -ENOTDIR;
	if (!found.nlink)
		return -ENOENT;
	*number = number_of_directory(parent);
	fill(v, *number, S_IFDIR | 0555, 2, v->born, attr);
	return 0;
}

int virtual_lookup(struct virtual *v, uint64_t parent, const char *name, uid_t uid,
		   uint64_t *number, struct stat *attr)
{
	enum kind kind = kind_by_name(parent, name);
	if (kind && files[kind].render)
		return snapshot_lookup(v, kind, uid, number, attr);
	if (kind) {
		*number = number_of_file(kind, 0);
		fill_file(v, kind, NULL, attr);
		return 0;
	}
	if (virtual_is(parent) && !is_directory(parent))
		return -ENOTDIR;
	if (virtual_is(parent) || strcmp(name, DIRECTORY_NAME))
		return -ENOENT;
	return directory_lookup(v, parent, number, attr);
}

int virtual_getattr(struct virtual *v, uint64_t number, struct stat *attr)
{
	if (is_directory(number))
		return directory_getattr(v, number, attr);
	if (is_control(number)) {
		fill_file(v, KIND_CONTROL, NULL, attr);
		return 0;
	}
	if (!kind_of(number))
		return -ESTALE;
	lock(v);
	const struct snapshot *s = *find_locked(v, number);
	if (s)
		fill_file(v, kind_of(number), s, attr);
	unlock(v);
	return s ? 0 : -ESTALE;
}

ssize_t virtual_read(struct virtual *v, uint64_t number, uint64_t offset, size_t size,
		     const char **bytes)
{
	if (is_directory(number))
		return -EISDIR;
	if (is_control(number)) {
		*bytes = "";
		return 0;
	}
	if (!kind_of(number))
		return -ESTALE;
	ssize_t found = -ESTALE;
	lock(v);
	struct snapshot *s = *find_locked(v, number);
	if (s) {
		size_t at = offset < s->size ? (size_t)offset : s->size;
		size_t count = size < s->size - at ? size : s->size - at;
		*bytes = s->bytes + at;
		found = (ssize_t)count;
		if (at + count == s->size)
			s->spent = true;
	}
	unlock(v);
	return found;
}

/* No snapshot from before now is given to anybody who comes now. */
static void spend_all(struct virtual *v)
{
	lock(v);
	v->resets++;
	for (enum kind kind = 0; kind < KIND_COUNT; kind++)
		if (v->newest[kind])
			v->newest[kind]->spent = true;
	unlock(v);
}

ssize_t virtual_write(struct virtual *v, uint64_t number, uid_t uid, const char *bytes, size_t size)
{
	static const char word[] = "reset";
	if (!is_control(number))
		return -EPERM;
	if (!is_master(v, uid))
		return -EACCES;
	size_t length = size && bytes[size - 1] == '\n' ? size - 1 : size;
	if (length != sizeof(word) - 1 || memcmp(bytes, word, length))
		return -EINVAL;
	report_reset(v->report);
	spend_all(v);
	return (ssize_t)size;
}

int virtual_truncate(struct virtual *v, uint64_t number)
{
	(void)v; /* as the others have it */
	return is_control(number) ? 0 : -EPERM;
}

/* Cookies are 1 for ".", 2 for "..", and from then on kinds: they stay when files are added. */
enum { COOKIE_SELF = 1, COOKIE_PARENT = 2 };

int virtual_readdir(struct virtual *v, uint64_t number, uint64_t after, virtual_emit *emit,
		    void *context)
{
	struct stat attr;
	if (!is_directory(number))
		return -ENOTDIR;
	int err = directory_getattr(v, number, &attr);
	if (err)
		return err;
	if (after < COOKIE_SELF && !emit(context, ".", &attr, COOKIE_SELF))
		return 0;
	attr.st_ino = number & DIRECTORY_MASK;
	if (after < COOKIE_PARENT && !emit(context, "..", &attr, COOKIE_PARENT))
		return 0;
	for (enum kind kind = KIND_NONE + 1; kind < KIND_COUNT; kind++) {
		uint64_t cookie = COOKIE_PARENT + (uint64_t)kind;
		if (files[kind].parent != number || cookie <= after)
			continue;
		fill_file(v, kind, NULL, &attr);
		if (!emit(context, files[kind].name, &attr, cookie))
			return 0;
	}
	return 0;
}

/* ---- life ---- */

int virtual_new(struct virtual **out, struct store *s, struct report *r, uid_t uid, gid_t gid)
{
	struct virtual *v = calloc(1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	v->store = s;
	v->report = r;
	v->uid = uid;
	v->gid = gid;
	v->next_serial = 1;
	int err = clock_gettime(CLOCK_REALTIME, &v->born);
	assert(!err);
	err = pthread_mutex_init(&v->lock, NULL);
	assert(!err);
	*out = v;
	return 0;
}

void virtual_free(struct virtual *v)
{
	if (!v)
		return;
	for (enum kind kind = 0; kind < KIND_COUNT; kind++) {
		while (v->newest[kind]) {
			struct snapshot *s = v->newest[kind];
			v->newest[kind] = s->next;
			snapshot_free(s);
		}
	}
	int err = pthread_mutex_destroy(&v->lock);
	assert(!err);
	free(v);
}

size_t virtual_bytes(struct virtual *v)
{
	lock(v);
	size_t bytes = v->bytes;
	unlock(v);
	return bytes;
}

/* Adds one list to the sums; false if it breaks an invariant. */
static bool check_list_locked(const struct virtual *v, enum kind kind, size_t *count, size_t *bytes)
{
	uint64_t above = v->next_serial;
	bool sound = files[kind].render || !v->newest[kind];
	for (const struct snapshot *s = v->newest[kind]; s; s = s->next) {
		uint64_t serial = serial_of(s->number);
		sound = sound && s->number == number_of_file(kind, serial);
		sound = sound && serial > 0 && serial < above;         /* 1 */
		sound = sound && (s->lookups || s == v->newest[kind]); /* 2 */
		sound = sound && s->size == v->newest[kind]->size;     /* 4 */
		above = serial;
		*count += 1;
		*bytes += s->size;
	}
	return sound;
}

int virtual_check(struct virtual *v)
{
	size_t count = 0, bytes = 0;
	bool sound = true;
	lock(v);
	for (enum kind kind = 0; kind < KIND_COUNT; kind++)
		sound = check_list_locked(v, kind, &count, &bytes) && sound;
	sound = sound && count == v->count && bytes == v->bytes; /* 3 */
	sound = sound && count <= VIRTUAL_SNAPSHOTS_MAX + VIRTUAL_SNAPSHOTS_RESERVED;
	unlock(v);
	return sound ? 0 : -EUCLEAN;
}
