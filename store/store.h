/*
 * store.h: the contract of the store: names, objects, values and TTLs, in memory.
 *
 * A *key* is a path, an *entry* is an object. The store keeps objects (number, attributes, extended
 * attributes, value, expiry) and names ((directory number, name) -> object number). One key is one
 * file is one object, so TTL, size and statistics live on the object; directories, symbolic links
 * and hard links follow from names. The library knows nothing of FUSE.
 *
 *	struct store_options o = { .size_bytes = 1 << 30 };
 *	struct store *s;
 *	int err = store_open(&s, &o);
 *	store_set(s, "users/42/age", "37", 2, STORE_TTL_DEFAULT);
 *	ssize_t n = store_get(s, "users/42/age", buffer, sizeof(buffer));
 *	store_close(s);
 *
 * Ownership:  a store belongs to who opened it; close it after every other thread has returned from
 *             it. Nothing that a caller passes in is kept. What a call fills is the caller's,
 *             except the bytes of a store_view, which are references until store_view_put().
 * Threads:    every call may be made from any thread at any time, except store_open and
 *             store_close. A change is atomic and visible to every thread when the call returns.
 *             Callbacks run on the thread that their comment names, with no lock of the store held.
 * Errors:     0, a count, or -errno. What every call may return: -ENOMEM (the machine is out of
 *             memory), -ENOENT (no such name, or no such object number). -ENOSPC: the bound size=
 *             is reached; calls that only remove or rename still work then. A call that fails has
 *             changed nothing, and out-parameters change only on success.
 * Expiry:     by name, an expired key is absent at once (-ENOENT), whether it is reaped yet or not.
 *             By number, an expired object answers -ESTALE, except to reads of its data and to
 *             calls with STORE_BY_HANDLE: descriptors that are open stay readable.
 * Units:      bytes, nanoseconds (int64), counts; times of day are struct timespec
 *             (CLOCK_REALTIME). TTLs run on CLOCK_BOOTTIME, so a jump of the wall clock neither
 *             expires nor revives.
 * Durability: none in this version: contents end with store_close().
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "store/histogram.h"
#include "store/view.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

struct store;

enum {
	STORE_ROOT = 1,                  /* the object number of the root directory */
	STORE_NAME_MAX = 255,            /* bytes of a name; longer ones get -ENAMETOOLONG */
	STORE_SYMLINK_MAX = 4095,        /* bytes of a symbolic link's target */
	STORE_XATTR_NAME_MAX = 255,      /* bytes of an extended attribute's name */
	STORE_XATTR_SIZE_MAX = 65536,    /* bytes of its value; a larger one gets -E2BIG */
	STORE_XATTR_TOTAL_MAX = 1 << 20, /* bytes of all of one object; beyond: -ENOSPC */
	STORE_XATTR_COUNT_MAX =
		256, /* of one object; beyond: -ENOSPC. They are searched one by one */
	STORE_LINKS_MAX = 1 << 16,       /* hard links of one object, -EMLINK beyond */
	STORE_IO_MAX = (1 << 20) + 4096, /* bytes of one store_read or store_write */
	STORE_SHARDS_MAX = 1024,
	STORE_SHARDS_DEFAULT = 64,
	STORE_MGET_MAX = 64,        /* names looked up under one round of locks */
	STORE_MGET_BYTES = 1 << 18, /* … and bytes of their buffers, or a single key */
};

/* Object numbers with this bit are never given out: it is the caller's own (virtual files). */
#define STORE_VIRTUAL (UINT64_C(1) << 63)

/* Largest file: what an off_t can say. */
#define STORE_FILE_MAX INT64_MAX

/* TTL periods in nanoseconds; besides these, any value from 1 up. */
#define STORE_TTL_NONE    INT64_C(0)  /* never expires, also where a directory has a default */
#define STORE_TTL_DEFAULT INT64_C(-1) /* as the directory says, or else the store's options */

/* Flags of calls; each call names those that it takes. */
enum store_flags {
	STORE_HOLD = 1 << 0,      /* count one more hold on the object (see store_forget) */
	STORE_BY_HANDLE = 1 << 1, /* asked through an open descriptor: expiry does not matter */
	STORE_KILL_SETID =
		1 << 2,           /* clear set-uid, set-gid (with group execute), file capability */
	STORE_APPEND = 1 << 3,    /* write at the end, whatever the offset says */
	STORE_NOREPLACE = 1 << 4, /* rename: -EEXIST if the target is there */
	STORE_EXCHANGE = 1 << 5,  /* rename: swap the two names */
	STORE_KEEP_SIZE = 1 << 6, /* fallocate: do not grow the file */
	STORE_CREATE = 1 << 7,    /* setxattr: -EEXIST if it is there */
	STORE_REPLACE = 1 << 8,   /* setxattr: -ENODATA if it is not */
	STORE_UNCOUNTED = 1 << 9, /* lookup: neither a hit nor a miss */
};

struct store_options {
	uint64_t size_bytes; /* bound on all memory of the store, 0 = none */
	unsigned shards;     /* a power of two, 1 .. STORE_SHARDS_MAX; 0 = STORE_SHARDS_DEFAULT */
	int64_t ttl_ns_default; /* TTL of new files where no directory says otherwise; 0 = none */
	uint32_t root_mode;     /* permission bits of the root directory; 0 = 0755 */
	uint32_t root_uid, root_gid;
};

/* What stat(2) tells of an object, and what a cache needs to know of its expiry. */
struct store_attr {
	uint64_t number;
	uint64_t size;  /* bytes; of a symbolic link, its target's length */
	uint64_t bytes; /* allocated to the value */
	uint32_t mode;  /* type and permission bits, as st_mode */
	uint32_t uid, gid;
	uint32_t nlink;
	uint32_t rdev; /* of device nodes */
	bool expired;  /* only with STORE_BY_HANDLE: gone by name, though perhaps not reaped */
	struct timespec atime, mtime, ctime;
	int64_t ttl_ns_left; /* until expiry, > 0; INT64_MAX = never */
};

/* ---- opening and closing ---- */

/*
 * Opens a store and starts its reaper thread. -EINVAL: shards is not a power of two in range, a
 * negative TTL, or a size beyond INT64_MAX. Leaves *out alone on failure.
 */
int store_open(struct store **out, const struct store_options *options);

/* Stops the reaper, frees everything. The store must not be in use. */
void store_close(struct store *s);

/*
 * What the store tells its owner of changes that nobody asked for. `removed` is called by the
 * reaper thread, no lock held, after an expired key lost the name (directory, name, length); known
 * tells whether the object or its directory has holds. It may call the store, but must not block
 * for long.
 */
struct store_events {
	void *context;
	void (*removed)(void *context, uint64_t directory, const char *name, size_t length,
			uint64_t number, bool known);
};

/* Sets the callbacks; events is copied. Call it once, before anything can expire. */
void store_set_events(struct store *s, const struct store_events *events);

/* ---- names ---- */

/* The owner of a new object, and its initial permission bits (type included in mode). */
struct store_birth {
	uint32_t mode; /* S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK */
	uint32_t uid, gid;
	uint32_t rdev;      /* of device nodes */
	const char *target; /* of a symbolic link */
	size_t target_length;
};

/*
 * Finds name in directory and fills attr. flags: STORE_HOLD, STORE_UNCOUNTED. "." and ".." are
 * names like any other to a caller and are resolved. -ENOENT; -ENOTDIR; -ENAMETOOLONG. Counts a hit
 * or a miss.
 */
int store_lookup(struct store *s, uint64_t directory, const char *name, size_t length,
		 unsigned flags, struct store_attr *attr);

/*
 * Makes an object of any type and its name in one step; the set-group-id bit of the directory gives
 * its group to the child (and itself to a child directory). flags: STORE_HOLD. -EEXIST; -ENOTDIR;
 * -ENOENT (the directory was removed); -ENAMETOOLONG; -EINVAL (empty name, ".", "..", '/' or NUL in
 * it, unknown type, target length 0); -ENOSPC.
 */
int store_create(struct store *s, uint64_t directory, const char *name, size_t length,
		 const struct store_birth *birth, unsigned flags, struct store_attr *attr);

/*
 * Makes a regular file without a name (O_TMPFILE), held once; it goes with its last hold unless
 * store_link names it before. directory gives its group and default TTL. attr->nlink is 0.
 */
int store_tmpfile(struct store *s, uint64_t directory, const struct store_birth *birth,
		  struct store_attr *attr);

/*
 * Gives the object one more name, or a first one (after store_tmpfile, or to one unlinked but
 * held). flags: STORE_HOLD. -EPERM for a directory; -ESTALE if it has expired; -EEXIST; -EMLINK.
 */
int store_link(struct store *s, uint64_t number, uint64_t directory, const char *name,
	       size_t length, unsigned flags, struct store_attr *attr);

/* Removes a name that is not a directory's. -EISDIR. *number, if wanted, is what it named. */
int store_unlink(struct store *s, uint64_t directory, const char *name, size_t length,
		 uint64_t *number);

/* Removes an empty directory. -ENOTDIR, -ENOTEMPTY, -EINVAL for ".", -ENOTEMPTY for "..". */
int store_rmdir(struct store *s, uint64_t directory, const char *name, size_t length,
		uint64_t *number);

/*
 * Moves a name, replacing what the target names (which goes as by unlink or rmdir), atomically.
 * flags: STORE_NOREPLACE or STORE_EXCHANGE. -EINVAL: a directory into itself or below; -EISDIR,
 * -ENOTDIR, -ENOTEMPTY, -EEXIST as rename(2). Two names of one object: nothing happens, 0.
 */
int store_rename(struct store *s, uint64_t from_directory, const char *from, size_t from_length,
		 uint64_t to_directory, const char *to, size_t to_length, unsigned flags);

/* Reads a symbolic link: its length, of which at most size bytes are copied. -EINVAL: no link. */
ssize_t store_readlink(struct store *s, uint64_t number, char *buffer, size_t size);

/* One entry of a directory. */
struct store_dirent {
	uint64_t cookie;        /* pass it as `after` to go on behind this entry; > 0, < 2^63 */
	struct store_attr attr; /* only number and the type bits of mode without STORE_ATTR */
	size_t length;
	char name[STORE_NAME_MAX + 1];
};

/* Takes one entry; false stops, and the entry counts as not taken (no hold stays). */
typedef bool store_emit(void *context, const struct store_dirent *entry);

/*
 * Lists a directory from behind cookie `after` (0 = from the start): ".", "..", then names in the
 * order of their creation. An entry that is there throughout a listing is seen exactly once,
 * whatever is created, removed or renamed meanwhile. Attributes are read in batches, together with
 * holds. flags: STORE_HOLD (not for "." and ".."). emit is called without locks, on this thread.
 * 0 when the end was reached or emit stopped; -ENOTDIR. A removed directory lists nothing.
 */
int store_readdir(struct store *s, uint64_t directory, uint64_t after, unsigned flags,
		  store_emit *emit, void *context);

/*
 * Calls `each` for every name that the object has at one moment; no lock is held. Returns the
 * number of names, 0 also if there is no such object.
 */
typedef void store_each_name(void *context, uint64_t directory, const char *name, size_t length);
int store_names(struct store *s, uint64_t number, store_each_name *each, void *context);

/* ---- objects ---- */

/* flags: STORE_BY_HANDLE. -ESTALE if it has expired, without that flag. */
int store_getattr(struct store *s, uint64_t number, unsigned flags, struct store_attr *attr);

enum store_set {
	STORE_SET_MODE = 1 << 0,
	STORE_SET_UID = 1 << 1,
	STORE_SET_GID = 1 << 2,
	STORE_SET_SIZE = 1 << 3,
	STORE_SET_ATIME = 1 << 4,
	STORE_SET_MTIME = 1 << 5,
	STORE_SET_CTIME = 1 << 6,
	STORE_SET_ATIME_NOW = 1 << 7,
	STORE_SET_MTIME_NOW = 1 << 8,
};

struct store_setattr {
	unsigned mask; /* enum store_set */
	uint32_t mode; /* permission bits only; the type stays */
	uint32_t uid, gid;
	uint64_t size;
	struct timespec atime, mtime, ctime;
};

/*
 * Changes attributes in one step and fills attr (may be NULL). ctime becomes now unless it is set.
 * A new size cuts, or grows with zeros, sets mtime, and re-arms the TTL; MTIME_NOW re-arms it too.
 * A size that stays as it is changes nothing, except with STORE_BY_HANDLE (truncate(2) as against
 * ftruncate(2)). flags: STORE_KILL_SETID, STORE_BY_HANDLE.
 * -ESTALE expired; -EISDIR, -EINVAL size of what is no regular file; -EFBIG.
 */
int store_setattr(struct store *s, uint64_t number, const struct store_setattr *set, unsigned flags,
		  struct store_attr *attr);

/*
 * Holds: a caller that remembers object numbers (a kernel's inode cache) counts itself with
 * STORE_HOLD. An object without names lives on, unlinked, until its last hold is gone, and its
 * memory is freed then. store_forget drops count holds.
 */
void store_forget(struct store *s, uint64_t number, uint64_t count);

/* Waits until every change of the object is as durable as it can be: at once, in this version. */
int store_sync(struct store *s, uint64_t number);

/* ---- data of regular files ---- */

/*
 * Reads up to length bytes (<= STORE_IO_MAX) at offset: exactly min(length, size - offset), holes
 * as zeros. Works on expired and on unlinked objects. Returns the count, 0 at the end. -EISDIR;
 * -EINVAL for what has no data. After a return >= 0 the answer is view->iov[0 .. count - 1], whose
 * bytes stay as they are, without any lock, until store_view_put(), which must be called once.
 */
ssize_t store_read(struct store *s, uint64_t number, uint64_t offset, size_t length,
		   struct store_view *view);
void store_view_copy(const struct store_view *view, void *to);
void store_view_put(struct store_view *view);

/*
 * Writes all length bytes (<= STORE_IO_MAX) or none; re-arms the TTL; sets mtime and ctime.
 * flags: STORE_APPEND, STORE_KILL_SETID. Returns length. -ESTALE: expired; -EFBIG; -ENOSPC.
 */
ssize_t store_write(struct store *s, uint64_t number, uint64_t offset, const void *bytes,
		    size_t length, unsigned flags);

/*
 * Reserves room, so that a later write into the range cannot fail for lack of it.
 * flags: STORE_KEEP_SIZE, STORE_KILL_SETID. -ENOSPC, -EFBIG, -ESTALE, -EISDIR, -ENODEV.
 */
int store_fallocate(struct store *s, uint64_t number, uint64_t offset, uint64_t length,
		    unsigned flags);

/* Makes a hole; the size stays. flags: STORE_KILL_SETID. */
int store_punch(struct store *s, uint64_t number, uint64_t offset, uint64_t length, unsigned flags);

/* SEEK_DATA (hole = false) and SEEK_HOLE. The offset found, or -ENXIO. */
int64_t store_seek(struct store *s, uint64_t number, uint64_t offset, bool hole);

/*
 * Copies a range by sharing extents; may copy less than asked (never 0 before the end of the
 * source). flags: STORE_KILL_SETID. Overlapping ranges of one file: -EINVAL. Returns the bytes
 * copied.
 */
ssize_t store_copy(struct store *s, uint64_t from, uint64_t from_offset, uint64_t to,
		   uint64_t to_offset, uint64_t length, unsigned flags);

/* ---- extended attributes; values are bytes, names end with NUL ---- */

/* flags: STORE_CREATE, STORE_REPLACE. -ESTALE, -E2BIG, -ERANGE (name too long), -ENOSPC. */
int store_setxattr(struct store *s, uint64_t number, const char *name, const void *value,
		   size_t size, unsigned flags);
/* The value's size; copied only if it fits: size 0 asks, a smaller one gets -ERANGE. -ENODATA. */
ssize_t store_getxattr(struct store *s, uint64_t number, const char *name, void *value,
		       size_t size);
/* The names, each with its NUL, one after the other; size 0 asks. -ERANGE. */
ssize_t store_listxattr(struct store *s, uint64_t number, char *list, size_t size);
int store_removexattr(struct store *s, uint64_t number, const char *name);

/* ---- TTL ---- */

struct store_ttl {
	int64_t period_ns; /* re-armed by overwriting and touching; of a directory: its default */
	int64_t left_ns;   /* of a file: until expiry, > 0 */
	struct timespec
		expires_at; /* of a file: the same as a time of day, by the clock as it is now */
};

/*
 * Sets the TTL of a regular file: it expires period_ns from now, and STORE_TTL_NONE makes it
 * permanent. Of a directory: the default for what is created in it; STORE_TTL_NONE means that files
 * there do not expire, STORE_TTL_DEFAULT that it has no default of its own. *none, if wanted, tells
 * whether there was no TTL before. -EINVAL: negative period; -EPERM: neither file nor directory;
 * -ESTALE: expired already.
 */
int store_set_ttl(struct store *s, uint64_t number, int64_t period_ns, bool *none);

/* -ENODATA: it has none. */
int store_get_ttl(struct store *s, uint64_t number, struct store_ttl *ttl);

/* ---- keys by path: for the bench, tools and tests. No leading slash; directories must exist
 * ---- */

/* Creates or overwrites a key with a whole value, atomically. A new key gets ttl_ns; an existing
 * one
   keeps and re-arms its own with STORE_TTL_DEFAULT. -EFBIG over STORE_IO_MAX; -EISDIR. */
int store_set(struct store *s, const char *path, const void *value, size_t size, int64_t ttl_ns);
/* The value's size, of which at most `size` bytes are copied. An absent key is -ENOENT, an empty
 * 0. */
ssize_t store_get(struct store *s, const char *path, void *value, size_t size);
int store_del(struct store *s, const char *path);

/* One key of a batch: the caller fills name, length, buffer, capacity; the store fills size. */
struct store_item {
	const char *name;
	size_t length;
	void *buffer;
	size_t capacity;
	ssize_t size; /* the value's whole size, or -ENOENT, -EISDIR, … for this key */
};

/*
 * Retrieves many keys of one directory, the memory accesses of all overlapping (hash all, prefetch
 * buckets, then entries, then values). Every STORE_MGET_MAX keys are one consistent snapshot, or as
 * many as have buffers of STORE_MGET_BYTES together.
 * Returns how many were found. -ENOTDIR and -ENOENT are about the directory.
 */
ssize_t store_mget(struct store *s, uint64_t directory, struct store_item *items, size_t count);

/* ---- what it holds and did ---- */

/* Counters of what was asked, in the order in which reports show them. */
#define STORE_COUNTERS(X)                                                                          \
	X(hits)       /* lookups by name that found a live key */                                  \
	X(misses)     /* lookups by name that did not, expired keys among them */                  \
	X(expired)    /* objects removed because their time had come */                            \
	X(batches)    /* mget rounds and directory reads */                                        \
	X(batch_keys) /* keys that they asked for */                                               \
	X(changes)    /* batches of changes applied */                                             \
	X(bytes_read)                                                                              \
	X(bytes_written)

struct store_stats {
#define STORE_COUNTER_FIELD(name) uint64_t name;
	STORE_COUNTERS(STORE_COUNTER_FIELD)
#undef STORE_COUNTER_FIELD
	uint64_t keys;        /* regular files with a name, expired but unreaped ones among them */
	uint64_t objects;     /* of every type, unlinked ones among them */
	uint64_t with_ttl;    /* objects that will expire */
	uint64_t bytes_used;  /* charged to the account */
	uint64_t bytes_limit; /* 0 = none */
	uint64_t sequence;    /* of the last change */
};

void store_stats(struct store *s, struct store_stats *stats);
void store_reset_counters(struct store *s);

/* Runs the reaper's work now, to its end, on this thread: for tests and tools. */
void store_reap(struct store *s);

/*
 * Verifies every invariant of the store (see store/check.c): 0 or -EUCLEAN, after printing what is
 * wrong to stderr. Stops the world while it runs.
 */
int store_check(struct store *s);

#endif
