/*
 * virtual.h: files that are not in the store but made by the daemon: .stats in the root, and the
 * directory .ctx in every directory, in the root with stats.json and control in it. Their names are
 * never listed by the directory they are in, always resolvable, and cannot be created or removed.
 *
 * Node ids of virtual nodes have the top bit set, and tell what they are:
 *
 *	 63 62 61      56 55                              0
 *	+--+--+----------+---------------------------------+
 *	| 1| 1|        number of a directory               |  .ctx of that directory
 *	+--+--+----------+---------------------------------+
 *	| 1| 0| kind     | 0                               |  a file: its st_ino, for ever
 *	+--+--+----------+---------------------------------+
 *	| 1| 0| kind     | n > 0, never used twice         |  one snapshot of that file
 *	+--+--+----------+---------------------------------+
 *
 * Kind 0 is never used, and no kind is given to another file later. Directory numbers are below
 * 2^62.
 *
 * A snapshot is the content of a file at one moment: LOOKUP makes it, and it stays as it is, size
 * and all, until FORGET. So whoever has opened the file reads one consistent page, and there is no
 * state in open files. st_ino stays the same from snapshot to snapshot: to the kernel they are
 * nodes, to programs one file. Entries must be given a timeout of 0, attributes likewise.
 *
 * A LOOKUP gives the last snapshot again if it is the same user's, under VIRTUAL_FRESH_MS old, not
 * yet read to its end, and the statistics were not reset since. (The kernel looks up twice when it
 * finds another node behind a name; stat and then open should find one node. What has been read to
 * its end has served its reader, so `cat .stats` always shows what happened before it.)
 *
 * Ownership: store and report must outlive the virtual tree. Bytes of virtual_read() belong to the
 *            snapshot, and stay while it has a lookup that was not forgotten.
 * Threads:   every function but new and free may be called by any threads at once. None blocks for
 *            longer than it takes to copy the counters together (0.2 ms).
 * Errors:    -ENOENT no such name; -ESTALE no such node (any more); -ENOMEM.
 * Units:     bytes.
 * Bounds:    VIRTUAL_SNAPSHOTS_MAX of all files, VIRTUAL_SNAPSHOTS_USER_MAX of one user's; beyond,
 *            LOOKUP gets -ENFILE. VIRTUAL_SNAPSHOTS_RESERVED more are for root and the owner, so
 *            that no number of others keeps them out. What nobody has open the kernel forgets at
 *            the next LOOKUP of that name, so it takes a program that keeps that many snapshots
 *            open at once.
 */
#ifndef FS_VIRTUAL_H
#define FS_VIRTUAL_H

#include "store/store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

struct report;
struct virtual;

enum {
	VIRTUAL_FRESH_MS = 100,
	VIRTUAL_SNAPSHOTS_MAX = 1024, /* of 13 KiB each, and a little */
	VIRTUAL_SNAPSHOTS_USER_MAX = 128,
	VIRTUAL_SNAPSHOTS_RESERVED = 2 * VIRTUAL_SNAPSHOTS_USER_MAX,
};

/* Virtual nodes belong to this user and group. Leaves *out alone on failure. */
int virtual_new(struct virtual **out, struct store *s, struct report *r, uid_t uid, gid_t gid);

/* No thread may use it any more. Null is ignored. */
void virtual_free(struct virtual *v);

/* Whether a node is virtual, that is, whether the functions below are to be asked. */
static inline bool virtual_is(uint64_t number)
{
	return number & STORE_VIRTUAL;
}

/*
 * Whether this name is not the user's to create, remove or rename: .ctx in any directory, .stats in
 * the root, and everything in a virtual directory. It need not exist.
 */
bool virtual_name(uint64_t parent, const char *name);

/*
 * Finds a virtual name for which virtual_name() is true; makes a snapshot where one is due, and
 * counts one lookup on it. uid is who asks. -ENOENT also for .ctx in a directory that was removed;
 * -ENFILE; -ENOTDIR.
 */
int virtual_lookup(struct virtual *v, uint64_t parent, const char *name, uid_t uid,
		   uint64_t *number, struct stat *attr);

/* Drops lookups; with the last one a snapshot goes. Nodes that are no snapshots are not counted. */
void virtual_forget(struct virtual *v, uint64_t number, uint64_t count);

int virtual_getattr(struct virtual *v, uint64_t number, struct stat *attr);

/* Finds up to size bytes at offset in the file; returns how many, 0 at its end. -EISDIR. */
ssize_t virtual_read(struct virtual *v, uint64_t number, uint64_t offset, size_t size,
		     const char **bytes);

/*
 * Carries out a command, one word with or without a newline: "reset". Returns size. -EINVAL for any
 * other; -EACCES unless uid is root's or the owner's; -EPERM for files that take no commands.
 */
ssize_t virtual_write(struct virtual *v, uint64_t number, uid_t uid, const char *bytes,
		      size_t size);

/* What a shell asks before it writes: allowed, and without effect, where writing is. -EPERM. */
int virtual_truncate(struct virtual *v, uint64_t number);

/* Takes one entry; false stops. attr has st_ino and the type in st_mode. cookie is > 0. */
typedef bool virtual_emit(void *context, const char *name, const struct stat *attr,
			  uint64_t cookie);

/*
 * Lists a virtual directory from behind cookie `after` (0 = from the start), "." and ".." first.
 * The entries have no nodes (answer READDIRPLUS with node id 0). -ENOTDIR.
 */
int virtual_readdir(struct virtual *v, uint64_t number, uint64_t after, virtual_emit *emit,
		    void *context);

/* What the snapshots take. */
size_t virtual_bytes(struct virtual *v);

/* Verifies the invariants in virtual.c: 0 or -EUCLEAN. */
int virtual_check(struct virtual *v);

#endif
