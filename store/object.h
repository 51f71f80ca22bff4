/*
 * object.h: one object in memory: attributes, names, extended attributes, small values.
 *
 * An object is one allocation: the struct, then room for its first name, then room for a small
 * value. What few objects have (a TTL, extended attributes, more names) stands aside in an `extra`.
 * Objects move when their inline room grows, so nothing keeps a pointer to one across an unlock,
 * except the two indexes of its shard and its own extra, which shard_resize() repairs.
 *
 * Ownership: object_new() makes an object that its maker owns until it is put into a shard's index.
 * Threads:   everything under the lock of the object's shard, but for objects not yet or no longer
 *            in an index, which belong to one thread.
 * Errors:    -ENOMEM; -ENOSPC from the account.
 * Units:     sizes in bytes, deadlines in CLOCK_BOOTTIME nanoseconds.
 */
#ifndef STORE_OBJECT_H
#define STORE_OBJECT_H

#include "store/account.h"
#include "store/value.h"
#include "store/view.h"
#include "store/wheel.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

struct directory;

/* Times of day as an object keeps them: all that time_t can say, without padding. */
struct __attribute__((packed, aligned(4))) object_times {
	int64_t atime_s, mtime_s, ctime_s;
	uint32_t atime_ns, mtime_ns, ctime_ns;
};

/* A name beyond the embedded one. */
struct object_name {
	struct object_name *next;
	uint64_t directory;
	uint64_t cookie;
	uint8_t length;
	char bytes[];
};

struct object_xattr {
	struct object_xattr *next;
	uint32_t size; /* bytes of the value */
	uint8_t name_length;
	char bytes[]; /* the name, then the value */
};

struct object;

/* A directory that has no default TTL of its own; STORE_TTL_NONE is one: "never". */
#define OBJECT_PERIOD_UNSET INT64_C(-1)

struct object_extra {
	struct wheel_node wheel;
	struct object *object; /* whose it is */
	int64_t period_ns;     /* of a file: 0 = no TTL; of a directory: its default, or unset */
	int64_t deadline_ns;   /* of a file: 0 = no TTL */
	struct object_name *names; /* beyond the embedded one, oldest first */
	struct object_name *names_last;
	struct object_name *names_hint; /* where the last search ended: listings go in this order */
	struct object_xattr *xattrs;
};

/* What a lookup or a read needs stands last, on the cache lines of the name and the small value. */
struct object {
	uint64_t holds; /* see store_forget() */
	uint64_t name_cookie;
	struct object_times times;
	uint32_t uid, gid;
	uint32_t nlink;
	uint64_t number;         /* constant */
	uint64_t size;           /* bytes of the value or link target; of a device node its rdev */
	uint64_t name_directory; /* of the embedded name; 0 = none */
	struct object_extra *extra; /* NULL for most */
	union {
		struct value value;          /* of a regular file; empty while inline_size > 0 */
		struct directory *directory; /* of a directory; NULL once it is removed */
	};
	uint16_t mode;        /* type (constant) and permission bits */
	uint16_t inline_size; /* bytes of the value (or link target) that stand in the tail */
	uint16_t inline_room;
	uint8_t name_length;
	uint8_t name_room;
	char tail[]; /* name_room bytes, then inline_room bytes */
};

/* Every byte here is paid for by every key: nothing is padded. */
_Static_assert(offsetof(struct object, tail) == 112, "attributes and the name's place");

/*
 * Makes an object with room for a name and an inline value, charged to the account (past the bound
 * if force). NULL and *err on failure. Everything but number and mode is zero.
 */
struct object *object_new(struct account *account, uint64_t number, uint32_t mode, size_t name_room,
			  size_t inline_room, bool force, int *err);

/* Frees it with all that it has; it must be in no index and no wheel. */
void object_free(struct account *account, struct object *object);

/* What an object of these rooms costs the account. */
uint64_t object_charge(size_t name_room, size_t inline_room);

/*
 * Moves everything of one object into another, which has the same room for a name and at least as
 * much inline room, and frees the first. The caller repairs who pointed to it (shard_moved()).
 */
void object_move(struct account *account, struct object *from, struct object *into);

static inline char *object_inline(struct object *object)
{
	return object->tail + object->name_room;
}

static inline const char *object_inline_const(const struct object *object)
{
	return object->tail + object->name_room;
}

/* Makes sure that there is an extra. 0 or -ENOMEM. */
int object_extra(struct account *account, struct object *object, struct object_extra **extra);

static inline bool object_is_dir(const struct object *object)
{
	return S_ISDIR(object->mode);
}

static inline bool object_is_reg(const struct object *object)
{
	return S_ISREG(object->mode);
}

/* When it expires; 0 = never. Directories never do. */
static inline int64_t object_deadline(const struct object *object)
{
	return object->extra ? object->extra->deadline_ns : 0;
}

/* ---- names ---- */

/* A name of the object, wherever it is kept; length 0 = none. */
struct object_name_ref {
	uint64_t directory;
	uint64_t cookie;
	const char *bytes;
	size_t length;
};

/* The name that the object has in this directory at this cookie, if any. */
bool object_name_at(const struct object *object, uint64_t directory, uint64_t cookie,
		    struct object_name_ref *ref);

/* Any name: the embedded one, or else the oldest. False if it has none. */
bool object_name_any(const struct object *object, struct object_name_ref *ref);

/* Visits every name: the embedded one first, then the others, oldest first. */
typedef void object_name_fn(void *context, const struct object_name_ref *ref);
void object_names(const struct object *object, object_name_fn *visit, void *context);

/* Allocates a name to be added later; charged past the bound (it is small and must not be
 * refused). */
struct object_name *object_name_new(struct account *account, uint64_t directory, const char *bytes,
				    size_t length);
void object_name_free(struct account *account, struct object_name *name);

/* Appends it; the object must have an extra. Takes it over. */
void object_name_add(struct object *object, struct object_name *name);

/* Whether a name could be embedded now: there is room and no other is. */
bool object_name_fits(const struct object *object, size_t length);
void object_name_embed(struct object *object, uint64_t directory, uint64_t cookie,
		       const char *bytes, size_t length);

/* Removes the name at (directory, cookie), which must be there. */
void object_name_remove(struct account *account, struct object *object, uint64_t directory,
			uint64_t cookie);

/* ---- extended attributes ---- */

struct object_xattr *object_xattr_find(const struct object *object, const char *name);

/* Allocates one, to be put in place later. -ENOSPC, -ENOMEM. */
struct object_xattr *object_xattr_new(struct account *account, const char *name, const void *value,
				      size_t size, int *err);
void object_xattr_free(struct account *account, struct object_xattr *xattr);

/* Puts it in the place of one of the same name, or adds it; the object must have an extra. */
void object_xattr_put(struct account *account, struct object *object, struct object_xattr *xattr);
void object_xattr_remove(struct account *account, struct object *object, const char *name);

/* Bytes of all names and values, and how many there are. */
size_t object_xattr_total(const struct object *object, size_t *count);

/* 0, or -EUCLEAN when what stands in this object contradicts itself. */
int object_check(const struct object *object);

#endif
