/*
 * value_seek.c: where the data and the holes of a value are.
 */
#include "store/block.h"
#include "store/radix.h"
#include "store/range.h"
#include "store/value.h"

#include <errno.h>

/* The first byte of data at or after offset, or UINT64_MAX. */
static uint64_t next_data(const struct value *v, uint64_t offset)
{
	uint64_t index = range_index(offset);
	uintptr_t slot;
	for (; (slot = radix_next(v->root, &index)); index++) {
		struct block_piece one;
		const struct block_piece *p;
		size_t count = block_pieces(slot, &one, &p);
		uint32_t from = range_from(index, offset);
		for (size_t i = 0; i < count; i++) {
			if (p[i].extent && block_piece_end(&p[i]) > from)
				return (index << RANGE_SHIFT) +
				       (p[i].start > from ? p[i].start : from);
		}
	}
	return UINT64_MAX;
}

/* The first byte at or after offset that is not data; `limit` if there is none below it. */
static uint64_t next_hole(const struct value *v, uint64_t offset, uint64_t limit)
{
	while (offset < limit) {
		uint64_t index = range_index(offset);
		struct block_piece one;
		const struct block_piece *p;
		size_t count = block_pieces(radix_get(v->root, index), &one, &p);
		uint32_t at = range_from(index, offset);
		for (size_t i = 0; i < count; i++) {
			if (p[i].extent && p[i].start <= at && block_piece_end(&p[i]) > at)
				at = block_piece_end(&p[i]);
		}
		offset = (index << RANGE_SHIFT) + at;
		if (at < VALUE_BLOCK)
			return offset < limit ? offset : limit;
	}
	return limit;
}

static uint64_t page_floor(uint64_t offset)
{
	return offset & ~(uint64_t)(VALUE_PAGE - 1);
}

int64_t value_seek_data(const struct value *v, uint64_t offset, uint64_t size)
{
	assert(size <= VALUE_END);
	if (offset >= size)
		return -ENXIO;
	uint64_t found = next_data(v, page_floor(offset));
	if (found >= size)
		return -ENXIO;
	return (int64_t)(page_floor(found) > offset ? page_floor(found) : offset);
}

int64_t value_seek_hole(const struct value *v, uint64_t offset, uint64_t size)
{
	assert(size <= VALUE_END);
	if (offset >= size)
		return -ENXIO;
	uint64_t at = page_floor(offset);
	while (at < size) {
		uint64_t page = page_floor(next_hole(v, at, size) + VALUE_PAGE - 1);
		uint64_t data = next_data(v, page);
		if (data >= size || page_floor(data) > page) {
			at = page;
			break;
		}
		at = data; /* this page has some, further on */
	}
	if (at < offset)
		at = offset;
	return (int64_t)(at < size ? at : size);
}
