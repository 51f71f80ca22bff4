/*
 * value.c: the value of one file: a sparse map from offsets to bytes in extents.
 *
 * The map is cut into blocks of 64 KiB. block.c knows what is in one of them, radix.c keeps them in
 * a tree; here are the operations on ranges.
 *
 * Every change has the same three steps: make the slots and the room that it needs (may fail;
 * changes no byte, at most how bytes are stored), cut and put (cannot fail), settle and trim (gives
 * back what is not needed; copies at best effort). A step that fails trims, too.
 *
 * Invariants: those of radix.c and block.c. What a range operation does to the bytes of one slot is
 * framed by block_bytes() before and radix_account() after, so that value_bytes() is O(1).
 *
 * Locking: everything under the owner's shard lock, but for parts and views.
 */
#include "store/value.h"

#include "store/account.h"
#include "store/block.h"
#include "store/radix.h"
#include "store/range.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

enum {
	CLONE_COPY_MAX = 4096, /* bytes: up to this, copying is cheaper than sharing */
};

static_assert(VALUE_BLOCK == BLOCK_BYTES, "one block is one slot");
static_assert(VALUE_END >> RANGE_SHIFT == RADIX_INDEX_MAX, "the tree reaches VALUE_END");
static_assert((VALUE_READ_MAX + VALUE_BLOCK - 2) / VALUE_BLOCK + 1 == VALUE_PARTS_MAX,
	      "a range that begins on the last byte of a block touches the most blocks");
static_assert(VALUE_PARTS_MAX * (2 * BLOCK_PIECES_MAX + 1) <= STORE_VIEW_MAX,
	      "a view has room for all pieces, with a hole on each side of every one");

/* Holes are read from here. Never written; not const only because an iovec is not. */
static unsigned char value_zeros[VALUE_BLOCK];

/* The end of a range that may pass VALUE_END: cut there. */
static uint64_t range_end(uint64_t offset, uint64_t len)
{
	if (offset >= VALUE_END)
		return offset;
	return len > VALUE_END - offset ? VALUE_END : offset + len;
}

static bool range_fits(uint64_t offset, uint64_t len)
{
	return offset <= VALUE_END && len <= VALUE_END - offset;
}

void value_init(struct value *v)
{
	v->root = 0;
}

void value_fini(struct value *v)
{
	radix_free(&v->root);
}

uint64_t value_bytes(const struct value *v)
{
	return radix_bytes(v->root);
}

int value_check(const struct value *v)
{
	return radix_check(v->root);
}

int value_parts_new(struct value_parts *p, struct account *a, uint64_t offset, const void *bytes,
		    size_t len, bool force)
{
	assert(len <= VALUE_WRITE_MAX);
	const unsigned char *from = bytes;
	p->count = 0;
	if (!range_fits(offset, len))
		return -EFBIG;
	while (len) {
		size_t room = VALUE_BLOCK - (offset & (VALUE_BLOCK - 1));
		size_t part = len < room ? len : room;
		int error = 0;
		struct extent *e = extent_new(a, part, force, &error);
		if (!e) {
			value_parts_free(p);
			return error;
		}
		extent_append(e, from, part);
		assert(p->count < VALUE_PARTS_MAX);
		p->extent[p->count++] = e;
		offset += part;
		from += part;
		len -= part;
	}
	return 0;
}

void value_parts_free(struct value_parts *p)
{
	for (size_t i = 0; i < p->count; i++)
		extent_put(p->extent[i]);
	p->count = 0;
}

bool value_append(struct value *v, uint64_t offset, const void *bytes, size_t len)
{
	uint32_t start = (uint32_t)(offset & (VALUE_BLOCK - 1));
	if (!len || len > VALUE_APPEND_MAX || !start || len > VALUE_BLOCK - start)
		return false;
	uintptr_t *slot =
		range_fits(offset, len) ? radix_slot(&v->root, range_index(offset)) : NULL;
	if (!slot || !*slot)
		return false;
	uint32_t before = block_bytes(*slot);
	bool done = block_append(slot, start, bytes, (uint32_t)len, true);
	radix_account(&v->root, before, slot);
	return done;
}

/* How a slot is prepared for a change of [start, end). */
typedef int prepare_fn(uintptr_t *slot, struct account *a, uint32_t start, uint32_t end);

/* Prepares every block of the range; on failure, gives back what it made. */
static int prepare_range(struct value *v, struct account *a, uint64_t offset, uint64_t end,
			 prepare_fn *prepare)
{
	if (offset >= end)
		return 0;
	for (uint64_t index = range_index(offset); index <= range_index(end - 1); index++) {
		uintptr_t *slot;
		int error = radix_make(&v->root, a, index, &slot);
		if (!error) {
			uint32_t before = block_bytes(*slot);
			error = prepare(slot, a, range_from(index, offset), range_to(index, end));
			radix_account(&v->root, before, slot); /* coalescing fills small holes */
		}
		if (error) {
			radix_trim(&v->root, range_index(offset), range_index(end - 1));
			return error;
		}
	}
	return 0;
}

int value_prepare(struct value *v, struct account *a, uint64_t offset, uint64_t len)
{
	if (!range_fits(offset, len))
		return -EFBIG;
	return prepare_range(v, a, offset, offset + len, block_prepare_write);
}

void value_install(struct value *v, struct account *a, uint64_t offset, size_t len,
		   struct value_parts *p)
{
	uint64_t end = offset + len;
	for (size_t i = 0; i < p->count; i++) {
		uint64_t index = range_index(offset) + i;
		uint32_t start = range_from(index, offset);
		struct extent *e = p->extent[i];
		assert(range_to(index, end) - start == e->used); /* made for this range */
		uintptr_t *slot = radix_slot(&v->root, index);
		assert(slot); /* prepared */
		uint32_t before = block_bytes(*slot);
		block_cut(slot, start, start + e->used);
		/* The first bytes of a log's line that crosses into the next block fit in place. */
		if (e->used <= VALUE_APPEND_MAX && *slot &&
		    block_append(slot, start, e->bytes, e->used, false)) {
			extent_put(e);
		} else {
			struct block_piece piece = { .extent = e,
						     .start = (uint16_t)start,
						     .len = e->used };
			block_put(slot, &piece);
		}
		block_settle(slot, a);
		radix_account(&v->root, before, slot);
	}
	p->count = 0;
}

/* Cuts [offset, end) everywhere. Its edges are prepared; they are not settled yet. */
static void value_cut(struct value *v, uint64_t offset, uint64_t end)
{
	if (offset >= end)
		return;
	uint64_t index = range_index(offset);
	for (; radix_next(v->root, &index) && index <= range_index(end - 1); index++) {
		uintptr_t *slot = radix_slot(&v->root, index);
		uint32_t before = block_bytes(*slot);
		block_cut(slot, range_from(index, offset), range_to(index, end));
		radix_account(&v->root, before, slot);
	}
}

static void settle_at(struct value *v, struct account *a, uint64_t index)
{
	uintptr_t *slot = radix_slot(&v->root, index);
	if (!slot)
		return;
	uint32_t before = block_bytes(*slot);
	block_settle(slot, a);
	radix_account(&v->root, before, slot);
}

/* Settles the edges of a range that was cut, and gives back what is empty. */
static void value_settle(struct value *v, struct account *a, uint64_t offset, uint64_t end)
{
	if (offset >= end)
		return;
	settle_at(v, a, range_index(offset));
	settle_at(v, a, range_index(end - 1));
	radix_trim(&v->root, range_index(offset), range_index(end - 1));
}

void value_truncate(struct value *v, struct account *a, uint64_t size)
{
	/* To the end of the last block, or the cut would have to leave a tail. */
	uint64_t end = VALUE_END + 1;
	value_cut(v, size, end);
	value_settle(v, a, size, end);
}

/* Prepares one edge of a cut: the block at `index`, if there is anything in it. */
static int prepare_edge(struct value *v, struct account *a, uint64_t index, uint64_t offset,
			uint64_t end)
{
	uintptr_t *slot = radix_slot(&v->root, index);
	if (!slot || !*slot)
		return 0;
	uint32_t before = block_bytes(*slot);
	int error = block_prepare_cut(slot, a, range_from(index, offset), range_to(index, end));
	radix_account(&v->root, before, slot);
	return error;
}

static int prepare_cut(struct value *v, struct account *a, uint64_t offset, uint64_t end)
{
	int error = prepare_edge(v, a, range_index(offset), offset, end);
	return error ? error : prepare_edge(v, a, range_index(end - 1), offset, end);
}

int value_punch(struct value *v, struct account *a, uint64_t offset, uint64_t len)
{
	uint64_t end = range_end(offset, len);
	if (offset >= end)
		return 0;
	int error = prepare_cut(v, a, offset, end);
	if (!error)
		value_cut(v, offset, end);
	value_settle(v, a, offset, end);
	return error;
}

/* Bytes of the range that are in pieces: reserved ones only, or all. */
static uint64_t range_bytes(const struct value *v, uint64_t offset, uint64_t end, bool reserved)
{
	uint64_t bytes = 0;
	uint64_t index = range_index(offset);
	uintptr_t slot;
	if (offset >= end)
		return 0;
	for (; (slot = radix_next(v->root, &index)) && index <= range_index(end - 1); index++) {
		uint32_t from = range_from(index, offset);
		uint32_t to = range_to(index, end);
		bytes += reserved ? block_reserved(slot, from, to)
				  : to - from - block_missing(slot, from, to);
	}
	return bytes;
}

uint64_t value_reserved(const struct value *v, uint64_t offset, uint64_t len)
{
	return range_bytes(v, offset, range_end(offset, len), true);
}

/* The part of [from, to) in this block that value_owned() counts. */
static uint64_t block_owned(uintptr_t slot, uint32_t from, uint32_t to)
{
	struct block_piece one;
	const struct block_piece *pieces;
	size_t count = block_pieces(slot, &one, &pieces);
	uint64_t bytes = 0;
	for (const struct block_piece *p = pieces; p < pieces + count; p++) {
		uint32_t start = p->start > from ? p->start : from;
		uint32_t end = block_piece_end(p) < to ? block_piece_end(p) : to;
		/* A clone that is gone again left the mark, but no reference. */
		bool alone = !p->extent || !p->extent->shared ||
			     atomic_load_explicit(&p->extent->refs, memory_order_acquire) == 1;
		if (start < end && alone)
			bytes += end - start;
	}
	return bytes;
}

uint64_t value_owned(const struct value *v, uint64_t offset, uint64_t len)
{
	uint64_t end = range_end(offset, len);
	uint64_t index = range_index(offset);
	uint64_t bytes = 0;
	uintptr_t slot;
	if (offset >= end)
		return 0;
	for (; (slot = radix_next(v->root, &index)) && index <= range_index(end - 1); index++)
		bytes += block_owned(slot, range_from(index, offset), range_to(index, end));
	return bytes;
}

void value_compact(struct value *v, struct account *a, uint64_t offset, uint64_t len)
{
	uint64_t end = range_end(offset, len);
	uint64_t index = range_index(offset);
	uintptr_t found;
	if (offset >= end)
		return;
	for (; (found = radix_next(v->root, &index)) && index <= range_index(end - 1); index++) {
		uintptr_t *slot = radix_slot(&v->root, index);
		uint32_t before = block_bytes(found);
		/* Coalescing makes reserved bytes real, so blocks that have some stay as they
		 * are. */
		if (block_pinned(found) <= before || block_reserved(found, 0, VALUE_BLOCK))
			continue;
		(void)block_coalesce(slot, a, true); /* without memory it just stays larger */
		block_settle(slot, a);
		radix_account(&v->root, before, slot);
	}
}

/* Copies every block of which a clone shares something: overwriting those would need room. */
static int value_unshare(struct value *v, struct account *a, uint64_t offset, uint64_t end)
{
	uint64_t index = range_index(offset);
	uintptr_t found;
	for (; (found = radix_next(v->root, &index)) && index <= range_index(end - 1); index++) {
		uint32_t before = block_bytes(found);
		if (block_owned(found, 0, VALUE_BLOCK) == before)
			continue;
		uintptr_t *slot = radix_slot(&v->root, index);
		int error = block_coalesce(slot, a, false);
		block_settle(slot, a);
		radix_account(&v->root, before, slot);
		if (error)
			return error;
	}
	return 0;
}

int value_reserve(struct value *v, struct account *a, uint64_t offset, uint64_t len)
{
	if (!range_fits(offset, len))
		return -EFBIG;
	uint64_t end = offset + len;
	if (offset >= end)
		return 0;
	int error = value_unshare(v, a, offset, end);
	if (error)
		return error;
	uint64_t missing = len - range_bytes(v, offset, end, false);
	error = account_charge(a, missing); /* first: it bounds the loops, too */
	if (error)
		return error;
	error = prepare_range(v, a, offset, end, block_prepare_reserve);
	if (error) {
		account_uncharge(a, missing);
		return error;
	}
	for (uint64_t index = range_index(offset); index <= range_index(end - 1); index++) {
		uintptr_t *slot = radix_slot(&v->root, index);
		uint32_t before = block_bytes(*slot);
		missing -= block_reserve(slot, range_from(index, offset), range_to(index, end));
		radix_account(&v->root, before, slot);
	}
	account_uncharge(a, missing); /* holes that coalescing filled in the meantime */
	return 0;
}

/* ---- cloning ---- */

/* Adds one slice, within one block of the map, that comes from an extent of a source block. */
static int clone_add(struct value *map, struct account *a, uint64_t at, struct block_piece p,
		     bool must_copy)
{
	uintptr_t *slot;
	int error = radix_make(&map->root, a, range_index(at), &slot);
	if (error)
		return error;
	p.start = (uint16_t)(at & (VALUE_BLOCK - 1));
	bool copy = p.len <= CLONE_COPY_MAX ||
		    (uint64_t)p.len * BLOCK_SLICE_FACTOR < p.extent->capacity;
	struct extent *e = copy ? extent_new(a, p.len, false, &error) : NULL;
	if (!e && must_copy)
		return error;
	bool alone = e && !*slot && p.start == 0;
	error = alone ? 0 : block_room(slot, a, 1, false);
	if (error) {
		if (e)
			extent_put(e);
		return error;
	}
	if (e) {
		extent_append(e, p.extent->bytes + p.offset, p.len);
		p.extent = e;
		p.offset = 0;
	} else {
		extent_share(p.extent);
		(void)extent_get(p.extent); /* the map's own reference */
	}
	block_put(slot, &p);
	return 0;
}

/* Adds the data of [from, to) of a source block to the map, where `from` is to be found at `at`. */
static int clone_block(struct value *map, struct account *a, uint64_t at, uintptr_t *slot,
		       uint32_t from, uint32_t to)
{
	struct block_piece one;
	const struct block_piece *pieces;
	size_t count = block_pieces(*slot, &one, &pieces);
	bool alone = pieces == &one;
	if (alone && count && one.len > CLONE_COPY_MAX) {
		/* What is shared cannot stand alone (block.c, invariant 4). Its owner pays. */
		int error = block_room(slot, one.extent->account, 0, false);
		if (error)
			return error;
		count = block_pieces(*slot, &one, &pieces);
		alone = false;
	}
	for (size_t i = 0; i < count; i++) {
		struct block_piece p = pieces[i];
		uint32_t start = p.start > from ? p.start : from;
		uint32_t end = block_piece_end(&p) < to ? block_piece_end(&p) : to;
		while (p.extent && start < end) {
			uint64_t target = at + (start - from);
			uint32_t room = VALUE_BLOCK - (uint32_t)(target & (VALUE_BLOCK - 1));
			struct block_piece slice = {
				.extent = p.extent,
				.offset = (uint16_t)(p.offset + (start - p.start)),
				.len = end - start < room ? end - start : room,
			};
			int error = clone_add(map, a, target, slice, alone);
			if (error)
				return error;
			start += slice.len;
		}
	}
	return 0;
}

/* Fills an empty map with the source's data, at the offsets of the destination. */
static int clone_gather(struct value *map, struct account *a, uint64_t dst_offset,
			struct value *src, uint64_t src_offset, uint64_t len)
{
	uint64_t end = src_offset + len;
	uint64_t index = range_index(src_offset);
	for (; radix_next(src->root, &index) && index <= range_index(end - 1); index++) {
		uint32_t from = range_from(index, src_offset);
		uint64_t at = dst_offset + ((index << RANGE_SHIFT) + from - src_offset);
		int error = clone_block(map, a, at, radix_slot(&src->root, index), from,
					range_to(index, end));
		if (error)
			return error;
	}
	return 0;
}

/* Makes room in one block of dst, of which a part is kept, for what is in the map's block. */
static int clone_room(uintptr_t *slot, uintptr_t *from, struct account *a)
{
	size_t have = block_count(*slot);
	size_t come = block_count(*from);
	if (!have)
		return 0; /* it will take the map's block whole */
	if (have + come + 1 > BLOCK_PIECES_MAX && come > 1) {
		int error = block_coalesce(from, a, false);
		if (error)
			return error;
		come = 1;
	}
	return block_room(slot, a, come + 1, false);
}

/* Prepares dst for the cut of the range, and for the blocks of the map. */
static int clone_prepare(struct value *v, struct account *a, uint64_t offset, uint64_t end,
			 struct value *map)
{
	int error = prepare_cut(v, a, offset, end);
	uint64_t index = range_index(offset);
	for (; !error && radix_next(map->root, &index); index++) {
		uintptr_t *slot;
		error = radix_make(&v->root, a, index, &slot);
		bool whole = range_from(index, offset) == 0 && range_to(index, end) == VALUE_BLOCK;
		if (error || whole)
			continue;
		uint32_t before = block_bytes(*slot);
		error = clone_room(slot, radix_slot(&map->root, index), a);
		radix_account(&v->root, before, slot);
	}
	return error;
}

/* Moves the pieces of one block of the map to where dst was cut. */
static void clone_move(uintptr_t *slot, uintptr_t *from)
{
	if (!block_bytes(*slot)) {
		block_free(slot);
		*slot = *from;
		*from = 0;
		return;
	}
	struct block_piece one;
	const struct block_piece *p;
	size_t count = block_pieces(*from, &one, &p);
	for (size_t i = 0; i < count; i++) {
		if (p[i].extent)
			(void)extent_get(p[i].extent); /* the map's own goes with the map */
		block_put(slot, &p[i]);
	}
}

int value_clone(struct value *dst, struct account *dst_account, uint64_t dst_offset,
		struct value *src, uint64_t src_offset, uint64_t len)
{
	struct account *a = dst_account;
	if (!range_fits(dst_offset, len) || !range_fits(src_offset, len))
		return -EFBIG;
	if (!len)
		return 0;
	uint64_t end = dst_offset + len;
	struct value map;
	value_init(&map);
	int error = clone_gather(&map, a, dst_offset, src, src_offset, len);
	if (!error)
		error = clone_prepare(dst, a, dst_offset, end, &map);
	if (!error) {
		value_cut(dst, dst_offset, end);
		uint64_t index = range_index(dst_offset);
		for (; radix_next(map.root, &index); index++) {
			uintptr_t *slot = radix_slot(&dst->root, index);
			uint32_t before = block_bytes(*slot);
			clone_move(slot, radix_slot(&map.root, index));
			block_settle(slot, a);
			radix_account(&dst->root, before, slot);
		}
	}
	value_settle(dst, a, dst_offset, end); /* after a failure, it only gives back */
	value_fini(&map);
	return error;
}

/* ---- reading ---- */

/* Adds `len` bytes at `from`, which are in extent e, or zeros if there is none. */
static void view_add(struct store_view *view, struct extent *e, unsigned char *from, size_t len)
{
	assert(view->count < STORE_VIEW_MAX);
	view->iov[view->count++] = (struct iovec){ .iov_base = from, .iov_len = len };
	view->length += len;
	if (e)
		view->extent[view->references++] = extent_get(e);
}

/* Adds [start, end) of a block. */
static void view_add_block(struct store_view *view, uintptr_t slot, uint32_t start, uint32_t end)
{
	struct block_piece one;
	const struct block_piece *p;
	size_t count = block_pieces(slot, &one, &p);
	for (size_t i = 0; i < count && start < end; i++) {
		uint32_t to = block_piece_end(&p[i]) < end ? block_piece_end(&p[i]) : end;
		if (!p[i].extent || to <= start)
			continue;
		if (p[i].start >= end)
			break;
		if (p[i].start > start) {
			view_add(view, NULL, value_zeros, p[i].start - start);
			start = p[i].start;
		}
		unsigned char *from = p[i].extent->bytes + p[i].offset + (start - p[i].start);
		view_add(view, p[i].extent, from, to - start);
		start = to;
	}
	if (start < end)
		view_add(view, NULL, value_zeros, end - start);
}

size_t value_read(const struct value *v, uint64_t offset, size_t len, struct store_view *view)
{
	assert(len <= VALUE_READ_MAX);
	assert(offset <= UINT64_MAX - len);
	view->count = 0;
	view->length = 0;
	view->references = 0;
	while (view->length < len) {
		uint64_t at = offset + view->length;
		uint32_t start = range_from(range_index(at), at);
		uint32_t end = range_to(range_index(at), offset + len);
		view_add_block(view, radix_get(v->root, range_index(at)), start, end);
	}
	return len;
}

void value_view_copy(const struct store_view *view, void *to)
{
	unsigned char *at = to;
	for (size_t i = 0; i < view->count; i++) {
		memcpy(at, view->iov[i].iov_base, view->iov[i].iov_len);
		at += view->iov[i].iov_len;
	}
}

void value_view_put(struct store_view *view)
{
	for (size_t i = 0; i < view->references; i++)
		extent_put(view->extent[i]);
	view->count = 0;
	view->length = 0;
	view->references = 0;
}
