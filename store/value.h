/*
 * value.h: the value of one file: a sparse map from offsets to bytes in extents.
 *
 * A struct value is one word, embedded in its object. A value of up to 64 KiB costs that word and
 * one allocation; larger ones a radix tree of 64 KiB blocks. Holes cost nothing. Bytes that
 * fallocate reserved read as zeros and are charged, but take no memory until they are written.
 * The size of the file is the object's business: here, what is not data reads as zeros for ever.
 *
 * Writing: value_parts_new() before the lock copies the bytes; under the lock
 *	if (!value_append(...)) { value_prepare(...); value_install(...); }
 * Parts that were not installed are freed. To write into reserved bytes at the bound of the store,
 * ask value_reserved() first and make the parts with force. They are made before the lock, so ask
 * again under it: if the reservation went, free them and start over.
 *
 * Ownership: a value owns references to extents, and its tree. The account `a` of a value is always
 *            the same one, outlives it, and pays for all that it allocates.
 * Threads:   everything under the lock of the value's owner, but for value_parts_* and
 *            value_view_*, which need none. value_clone needs the locks of both owners.
 * Errors:    -ENOMEM, -ENOSPC (the bound of the store), -EFBIG (beyond VALUE_END). What fails
 *            changes no byte. Copies that only save memory (slices of large extents) are best
 *            effort.
 * Units:     bytes. Ranges may be empty. A range that removes or reads may pass VALUE_END.
 */
#ifndef STORE_VALUE_H
#define STORE_VALUE_H

#include "store/view.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VALUE_BLOCK      65536
#define VALUE_WRITE_MAX  ((1 << 20) + 4096)    /* bytes of one value_parts_new */
#define VALUE_READ_MAX   VALUE_WRITE_MAX       /* bytes of one value_read */
#define VALUE_PARTS_MAX  18                    /* blocks that such a range can touch */
#define VALUE_APPEND_MAX 16384                 /* bytes that are copied under the lock */
#define VALUE_END        ((uint64_t)INT64_MAX) /* one beyond the last byte of any value */
#define VALUE_PAGE       4096                  /* granularity of value_seek_* */

struct account;
struct extent;

struct value {
	uintptr_t root; /* 0: empty. The tags are in block.h. */
};

/* Bytes on their way into a value: one extent for each block that they touch. */
struct value_parts {
	size_t count;
	struct extent *extent[VALUE_PARTS_MAX];
};

/*
 * Copies len <= VALUE_WRITE_MAX bytes that are to be written at offset. No lock. force charges past
 * the bound of the store. 0, -ENOSPC, -ENOMEM or -EFBIG; on failure p->count is 0.
 */
int value_parts_new(struct value_parts *p, struct account *a, uint64_t offset, const void *bytes,
		    size_t len, bool force);
void value_parts_free(struct value_parts *p);

void value_init(struct value *v);
/* Drops all, at a cost that is proportional to the extents; the value is empty then. */
void value_fini(struct value *v);

/*
 * Writes bytes that begin where data ends, if they stay within that block and there are at most
 * VALUE_APPEND_MAX: in place, or, when the extent is full, by moving it to one with twice the room,
 * so that many small appends cost a constant each. Else false and no change: write by parts.
 */
bool value_append(struct value *v, uint64_t offset, const void *bytes, size_t len);

/* All allocation that value_install() into this range needs. 0, -ENOMEM, -ENOSPC or -EFBIG. */
int value_prepare(struct value *v, struct account *a, uint64_t offset, uint64_t len);

/*
 * Puts the parts, made for the same offset and len, in place of what the range held. It must have
 * been prepared under this hold of the lock. Takes over the references: p->count is 0 then.
 */
void value_install(struct value *v, struct account *a, uint64_t offset, size_t len,
		   struct value_parts *p);

/* Cuts everything at size and beyond, reserved bytes too. What grows back reads as zeros. */
void value_truncate(struct value *v, struct account *a, uint64_t size);

/* Makes the range a hole, giving up reservations. 0 or -ENOMEM. */
int value_punch(struct value *v, struct account *a, uint64_t offset, uint64_t len);

/* Reserves all that is a hole in the range. All or nothing: 0, -ENOSPC, -ENOMEM or -EFBIG. */
int value_reserve(struct value *v, struct account *a, uint64_t offset, uint64_t len);

/* How many bytes of the range are reserved. */
uint64_t value_reserved(const struct value *v, uint64_t offset, uint64_t len);

/*
 * How many bytes of the range are reserved, or in extents that no clone shares: overwriting those
 * takes no room in the end, so it need not fail at the bound of the store.
 */
uint64_t value_owned(const struct value *v, uint64_t offset, uint64_t len);

/*
 * Gives back what large extents hold beyond what the range shows of them, at the price of a copy of
 * each block: for a write that must succeed at the bound of the store. Best effort.
 */
void value_compact(struct value *v, struct account *a, uint64_t offset, uint64_t len);

/*
 * Fills the view with references to len <= VALUE_READ_MAX bytes at offset, holes as zeros, and
 * returns len. Put the view afterwards, with or without the lock.
 */
size_t value_read(const struct value *v, uint64_t offset, size_t len, struct store_view *view);
/* Copies all view->length bytes. */
void value_view_copy(const struct store_view *view, void *to);
/* Drops the references; the view is empty then. */
void value_view_put(struct store_view *view);

/*
 * The first data (or hole) at or after offset in a file of this size; -ENXIO if there is none, or
 * if offset is not below size; the end of the file counts as a hole. As on tmpfs, a page with any
 * data is data, and reserved bytes are a hole until they are written.
 */
int64_t value_seek_data(const struct value *v, uint64_t offset, uint64_t size);
int64_t value_seek_hole(const struct value *v, uint64_t offset, uint64_t size);

/*
 * Replaces a range of dst by one of src, sharing extents (small slices are copied): holes and
 * reserved bytes of src become holes. Prepares for itself. src may be dst, ranges may overlap.
 * Both ranges end at VALUE_END at the latest. 0, -ENOMEM, -ENOSPC or -EFBIG.
 */
int value_clone(struct value *dst, struct account *dst_account, uint64_t dst_offset,
		struct value *src, uint64_t src_offset, uint64_t len);

/* Allocated bytes, reserved ones too, for st_blocks. O(1). */
uint64_t value_bytes(const struct value *v);

/* 0, or -EUCLEAN if an invariant of value.c or block.c does not hold. Visits every piece. */
int value_check(const struct value *v);

#endif
