/*
 * block.h: 64 KiB of one file: which extents its bytes are in. Private to value.c and its test.
 *
 * A *slot* is one word: 0 for nothing, a tagged extent that shows its first `live` bytes from the
 * start of the block, or a tagged struct block with sorted pieces. value.c keeps slots in a tree.
 *
 * Ownership: a slot owns its block and one reference per piece (or the one to its extent).
 * Threads:   everything under the lock of the value's owner.
 * Errors:    what changes bytes cannot fail; what allocates for it comes before (block_room and the
 *            block_prepare_ functions), returns -ENOMEM or -ENOSPC, and changes no byte.
 * Units:     bytes; positions are within the block, 0 .. BLOCK_BYTES.
 */
#ifndef STORE_BLOCK_H
#define STORE_BLOCK_H

#include "store/extent.h"

enum {
	BLOCK_BYTES = EXTENT_MAX,
	BLOCK_PIECES_MAX = 16,             /* beyond, the block is coalesced into one extent */
	BLOCK_PINNED_MAX = 2 * EXTENT_MAX, /* likewise, if memory allows */
	BLOCK_TIGHT = 16 * EXTENT_MAX,     /* room left below which less than 4/5 is, too */
	BLOCK_SLICE_FACTOR = 4,            /* less than capacity / 4 in use: copied out */
};

/* The low bits of a slot. */
enum block_tag {
	BLOCK_TAG_EXTENT = 1,
	BLOCK_TAG_BLOCK = 2,
	BLOCK_TAG_NODE = 3, /* value.c's */
	BLOCK_TAG_MASK = 3,
};

struct block_piece {
	struct extent *extent; /* NULL: reserved, reads as zeros */
	uint16_t start;        /* in the block */
	uint16_t offset;       /* in the extent */
	uint32_t len;
};

struct block {
	struct account *account; /* the owner's; pays for the block and for reserved bytes */
	uint32_t bytes;          /* sum of the pieces' lengths */
	uint16_t count;
	uint16_t capacity;
	struct block_piece piece[];
};

/* The pieces of a slot in order, for reading; *one is room for the piece of a lone extent. */
size_t block_pieces(uintptr_t slot, struct block_piece *one, const struct block_piece **pieces);

static inline uint32_t block_piece_end(const struct block_piece *p)
{
	return p->start + p->len;
}

/* How many pieces there are. */
size_t block_count(uintptr_t slot);

/* Allocated bytes: the sum of the pieces' lengths, reserved ones too. */
uint32_t block_bytes(uintptr_t slot);

/* How many bytes of [start, end) are reserved. */
uint32_t block_reserved(uintptr_t slot, uint32_t start, uint32_t end);

/* How many bytes of [start, end) are neither data nor reserved. */
uint32_t block_missing(uintptr_t slot, uint32_t start, uint32_t end);

/*
 * Makes the slot a block with room for `extra` more pieces (at most BLOCK_PIECES_MAX - 1),
 * coalescing it if it would hold too many. force coalesces past the bound of the store.
 */
int block_room(uintptr_t *slot, struct account *a, size_t extra, bool force);

/* All that block_cut + block_put of [start, end) need. */
int block_prepare_write(uintptr_t *slot, struct account *a, uint32_t start, uint32_t end);

/* All that block_cut of [start, end) needs, without a block_put. */
int block_prepare_cut(uintptr_t *slot, struct account *a, uint32_t start, uint32_t end);

/* All that block_reserve of [start, end) needs. */
int block_prepare_reserve(uintptr_t *slot, struct account *a, uint32_t start, uint32_t end);

/* Makes [start, end) a hole. Only a cut in the middle of a piece needs preparation. */
void block_cut(uintptr_t *slot, uint32_t start, uint32_t end);

/* Puts a piece into a hole, taking over its reference (or, reserved, its charge). Prepared. */
void block_put(uintptr_t *slot, const struct block_piece *piece);

/* Fills the holes in [start, end) with reserved pieces, already charged; returns their bytes. */
uint32_t block_reserve(uintptr_t *slot, uint32_t start, uint32_t end);

/*
 * Adds bytes where data ends, in place if the extent allows it, and, if grow is set, by moving that
 * piece to a larger extent. Reserved bytes on the way are released. False if neither is possible.
 */
bool block_append(uintptr_t *slot, uint32_t start, const void *bytes, uint32_t len, bool grow);

/* One extent instead of all pieces; holes and reserved bytes between them become zeros. */
int block_coalesce(uintptr_t *slot, struct account *a, bool force);

/*
 * After changes: frees an empty block, copies small slices out of large extents, coalesces if too
 * much is pinned (both only if memory allows), and lets a lone extent stand by itself.
 */
void block_settle(uintptr_t *slot, struct account *a);

/* Drops everything; the slot is 0 then. */
void block_free(uintptr_t *slot);

/* 0, or -EUCLEAN if an invariant of block.c does not hold. */
int block_check(uintptr_t slot);

/* The sum of the capacities of the distinct extents that the slot refers to. */
uint32_t block_pinned(uintptr_t slot);

#endif
