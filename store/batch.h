/*
 * batch.h: one atomic change of the store, as primitives. Private to store/.
 *
 * A primitive changes one object or one name, and states what is true afterwards (a size, a mode, a
 * link count), never a difference. Counts and directory vectors follow from primitives. Building a
 * batch and preparing it does all that can fail; applying it cannot fail.
 *
 *	struct batch b;
 *	batch_init(&b, s);
 *	batch_lock_number(&b, number);          all shards that it will touch
 *	batch_lock(&b);
 *	struct batch_op *op = batch_add(&b, BATCH_ATTR, object);    look, decide, build
 *	op->attr = …;
 *	err = batch_commit(&b);                 prepare, apply, sequence: all or nothing
 *	batch_unlock(&b);                       frees what died, outside the locks
 *
 * Ownership: a batch borrows the bytes and names that it refers to until batch_unlock(); it owns
 *            what it prepared, and gives it to the store in batch_commit().
 * Threads:   one thread at a time. Names change only while their directory is held (directory.h).
 * Errors:    batch_commit: -ENOMEM, -ENOSPC; then nothing has changed.
 * Units:     bytes, nanoseconds.
 */
#ifndef STORE_BATCH_H
#define STORE_BATCH_H

#include "store/core.h"
#include "store/directory.h"
#include "store/value.h"

enum batch_kind {
	BATCH_OBJECT_PUT, /* a new object */
	BATCH_OBJECT_DEL, /* it is gone, with its value */
	BATCH_NAME_PUT,   /* (directory, name) names the object */
	BATCH_NAME_DEL,   /* … no longer */
	BATCH_ATTR,       /* mode, owner, link count, times */
	BATCH_TTL,        /* period and deadline */
	BATCH_XATTR_PUT,
	BATCH_XATTR_DEL,
	/* Changes of a value. One a batch, and last: part of it takes effect while it is
	 * prepared. */
	BATCH_SIZE,    /* cut, or grown with zeros */
	BATCH_DATA,    /* bytes at an offset */
	BATCH_PUNCH,   /* a hole */
	BATCH_RESERVE, /* room promised */
	BATCH_COPY,    /* a range shared with another object */
};

enum { BATCH_SET_NLINK = 1 << 16 }; /* besides enum store_set, in batch_attr.mask */

struct batch_attr {
	unsigned mask;
	uint32_t mode, uid, gid, nlink;
	struct timespec atime, mtime, ctime;
};

struct batch_name {
	struct directory *directory; /* whose vector follows; NULL leaves that to the caller */
	struct shard_key key;
	uint64_t cookie;  /* of a DEL: where it is. Of a PUT: filled in */
	bool keep_cookie; /* DEL: the entry stays, for the PUT that follows to take over */
	/* prepared */
	struct link *link;
	struct object_name *more;
};

struct batch_data {
	uint64_t offset;
	uint64_t length;
	uint64_t size;             /* of the object afterwards */
	const void *bytes;         /* DATA */
	bool replace;              /* DATA: instead of the whole value; offset 0, length = size */
	struct value_parts *parts; /* DATA: filled already, if it is long */
	struct object *source;     /* COPY */
	uint64_t source_offset;
};

struct batch_op {
	enum batch_kind kind;
	struct object *object; /* what it is about; batch_commit() follows it when it moves */
	struct shard *shard;   /* where that lives */
	union {
		struct batch_name name;
		struct batch_attr attr;
		struct batch_data data;
		struct {
			int64_t period_ns, deadline_ns;
		} ttl;
		struct {
			const char *name;
			struct object_xattr *fresh; /* PUT: taken over */
		} xattr;
	};
};

/* The largest batch is a rename over a key: two names gone, one put, two objects, two
 * directories. */
enum { BATCH_OPS_MAX = 10, BATCH_DEAD_MAX = 2 };

struct batch {
	struct store *store;
	struct core_locks locks;
	unsigned count;
	unsigned dead_count;
	bool armed; /* something may expire now that did not before */
	uint64_t sequence;
	/* of the one change of a value, prepared */
	enum { BATCH_APPENDED, BATCH_INLINE, BATCH_INSTALL, BATCH_REPLACE } how;
	struct object *larger;   /* INLINE: the object, with more room */
	struct value_parts made; /* INSTALL: its bytes */
	bool compact;            /* INSTALL: at the bound, so what is replaced must go at once */
	struct value fresh;      /* REPLACE: the new value */
	struct value garbage;    /* what was cut off whole */
	struct object *dead[BATCH_DEAD_MAX];
	struct batch_op op[BATCH_OPS_MAX];
};

void batch_init(struct batch *b, struct store *s);

/* Adds the shard of an object or of a name to those that will be locked. */
void batch_lock_number(struct batch *b, uint64_t number);
void batch_lock_name(struct batch *b, const struct shard_key *key);

void batch_lock(struct batch *b) NO_THREAD_SAFETY_ANALYSIS;

/* Releases the locks, then frees what the batch removed. May be locked again afterwards. */
void batch_unlock(struct batch *b) NO_THREAD_SAFETY_ANALYSIS;

/* Appends a primitive about an object, all other fields zero. */
struct batch_op *batch_add(struct batch *b, enum batch_kind kind, struct object *object);

/* Shorthands. */
void batch_touch_directory(struct batch *b, struct object *directory, struct timespec now,
			   int links);
void batch_name_put(struct batch *b, struct object *object, struct directory *directory,
		    const struct shard_key *key, uint64_t cookie);
void batch_name_del(struct batch *b, struct object *object, struct directory *directory,
		    const struct shard_key *key, uint64_t cookie, bool keep_cookie);

/* Takes one link from an object that loses a name: a new count, or its end if nobody holds it. */
void batch_drop_link(struct batch *b, struct object *object, struct timespec now);

/* Clears what a write by someone else must clear (see STORE_KILL_SETID). */
void batch_kill_setid(struct batch *b, struct object *object);

/* The TTL starts, if the object has a period. */
void batch_arm(struct batch *b, struct object *object);

/* The TTL starts again, if it runs. */
void batch_rearm(struct batch *b, struct object *object);

/* Prepares, applies, gives the sequence. 0, or -errno with nothing changed. */
int batch_commit(struct batch *b);

/* The two halves of batch_commit(), for one primitive each. */
int batch_prepare(struct batch *b, struct batch_op *op);
void batch_apply(struct batch *b, struct batch_op *op);

/* Gives back what ops own when a batch is abandoned before batch_commit(). */
void batch_cancel(struct batch *b);

#endif
