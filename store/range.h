/*
 * range.h: how a range of a file falls into blocks of 64 KiB. Private to value*.c.
 *
 * Ownership: nothing is allocated.
 * Threads:   pure functions.
 * Errors:    none.
 * Units:     bytes of the file, or of a block; an index counts blocks.
 */
#ifndef STORE_RANGE_H
#define STORE_RANGE_H

#include "store/value.h"

#include <assert.h>

enum { RANGE_SHIFT = 16 };
static_assert((1 << RANGE_SHIFT) == VALUE_BLOCK, "a block's index is a shifted offset");

static inline uint64_t range_index(uint64_t offset)
{
	return offset >> RANGE_SHIFT;
}

/* Where a range that begins at offset begins in the block at index. */
static inline uint32_t range_from(uint64_t index, uint64_t offset)
{
	return index == range_index(offset) ? (uint32_t)(offset & (VALUE_BLOCK - 1)) : 0;
}

/* Where a range that ends at `end` ends in the block at index. */
static inline uint32_t range_to(uint64_t index, uint64_t end)
{
	uint64_t to = end - (index << RANGE_SHIFT);
	return to < VALUE_BLOCK ? (uint32_t)to : VALUE_BLOCK;
}

#endif
