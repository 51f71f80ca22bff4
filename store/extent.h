/*
 * extent.h: reference-counted buffers that hold the bytes of values.
 *
 * The one rule: bytes below `used` never change. Appending in place is allowed only when the write
 * begins exactly at `used`, no clone ever shared the extent, and the owner's shard lock is held.
 * Everything else replaces the extent. So a reference held by a reader, a batch file or the queue
 * of the log stays valid, without a lock and without a copy.
 *
 * Ownership: extent_new() gives its caller one reference; the last extent_put() frees the buffer
 *            and gives its charge back to the account that paid. That account outlives the extent.
 * Threads:   extent_get() and extent_put() from any thread, by whoever holds a reference. used,
 *            live and shared belong to the owner's shard lock: a reader never looks at them, it
 *            captured (offset, length) under that lock.
 * Errors:    extent_new() sets -ENOSPC at the bound of the store, -ENOMEM when malloc fails.
 * Units:     bytes.
 */
#ifndef STORE_EXTENT_H
#define STORE_EXTENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXTENT_MAX 65536

struct account;

struct extent {
	_Atomic uint32_t refs; /* atomic */
	uint32_t capacity;     /* constant after extent_new */

	/* Under the owner's lock; constant once shared, because then there are several owners. */
	uint32_t used;
	uint32_t
		live : 31; /* block.c's: bytes shown, while the extent stands in a slot by itself */
	uint32_t shared : 1; /* sticky: more than one value may refer to it, so no appending */

	struct account *account; /* constant after extent_new: who paid */
	unsigned char bytes[];
};

/*
 * An empty extent for 1 .. EXTENT_MAX bytes, or NULL with *err set to -ENOSPC or -ENOMEM. force
 * charges past the bound of the store: for work that frees memory, or whose room is reserved.
 */
struct extent *extent_new(struct account *a, size_t capacity, bool force, int *err);

/* One more reference, for a caller who holds one or the lock of a value that does. */
struct extent *extent_get(struct extent *e);

void extent_put(struct extent *e);

/* Adds bytes at the end, of which there is room: the only way that `used` moves. */
void extent_append(struct extent *e, const void *bytes, size_t len);

/* Like extent_append, of zeros. */
void extent_append_zeros(struct extent *e, size_t len);

/* Forbids appending from now on. Under the lock of an owner, of whom there is only one before. */
void extent_share(struct extent *e);

/* Whether bytes [0, end) are all that is in use, and `len` more may be added in place. */
bool extent_appendable(const struct extent *e, size_t end, size_t len);

/* What the extent holds charged. */
uint64_t extent_charge(const struct extent *e);

#endif
