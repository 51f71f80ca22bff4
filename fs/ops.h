/*
 * ops.h: the file system as libfuse sees it: a table of handlers over a store.
 *
 * Each handler decodes one message, calls the store (or the virtual tree) once, and replies
 * exactly once, on its own thread, before it returns. Handlers keep nothing between messages: a
 * node id is an object number, and an open file has no state.
 *
 * Ownership: the context is the caller's and outlives the session; so does what it points to.
 * Threads:   the table is constant; handlers run on libfuse's threads.
 * Errors:    to the kernel, as store/store.h names them.
 */
#ifndef FS_OPS_H
#define FS_OPS_H

#include "fs/compat.h"

struct notifier;
struct report;
struct store;
struct virtual;

/* What handlers work on: the user data of the session. Constant while it is served. */
struct ops_context {
	struct store *store;
	struct report *report;
	struct virtual *virtual;
	struct notifier *notifier;
	uint64_t memory_bytes; /* of the machine: what statfs tells where the store has no bound */
};

/* For fuse_session_new, with a struct ops_context as user data. */
extern const struct fuse_lowlevel_ops ops_table;

#endif
