/*
 * block.c: 64 KiB of one file: which extents its bytes are in.
 *
 * Most blocks are one extent from the start of the block on, so a slot may be that extent alone:
 * its header has room to say how many bytes show (`live`), which lets truncate cut it without
 * allocating. Two owners would need two such lengths, so an extent that a clone shared never stands
 * alone: it is a piece of a struct block. That is a small sorted array, copied to one of twice the
 * capacity when it is full. It is searched linearly: 16 pieces are four cache lines.
 *
 * A small piece can pin a large extent. Two bounds keep that in check, if memory allows: less than
 * a quarter of an extent in use is copied out, and a block never pins more than BLOCK_PINNED_MAX.
 * BLOCK_PIECES_MAX, in contrast, always holds: it bounds the length of a read's answer.
 *
 * Invariants:
 *  1. Pieces are sorted by start, do not overlap, are not empty, and end within BLOCK_BYTES.
 *  2. count <= capacity <= BLOCK_PIECES_MAX; bytes is the sum of their lengths.
 *  3. [offset, offset + len) of a piece lies below the `used` of its extent.
 *  4. An extent that stands alone is not shared, and 1 <= live <= used.
 *  5. Adjacent pieces that continue each other are one piece.
 *  6. The block, and the length of each reserved piece, are charged to its account.
 *
 * Locking: everything under the owner's shard lock.
 */
#include "store/block.h"

#include "store/account.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	BLOCK_CAPACITY_MIN = 2, /* pieces */
	BLOCK_GROW_MIN = 128,   /* bytes: the least capacity that an append moves to */
	BLOCK_SLICE_MIN = 256,  /* bytes: extents up to this are never worth copying out of */
};

static_assert(sizeof(struct block_piece) == 16, "four pieces fill a cache line");
static_assert(BLOCK_BYTES - 1 <= UINT16_MAX, "start and offset are 16 bits");

static bool slot_is_extent(uintptr_t slot)
{
	return (slot & BLOCK_TAG_MASK) == BLOCK_TAG_EXTENT;
}

static struct extent *slot_extent(uintptr_t slot)
{
	assert(slot_is_extent(slot));
	return (struct extent *)(slot - BLOCK_TAG_EXTENT);
}

static struct block *slot_block(uintptr_t slot)
{
	assert((slot & BLOCK_TAG_MASK) == BLOCK_TAG_BLOCK);
	return (struct block *)(slot - BLOCK_TAG_BLOCK);
}

static uintptr_t slot_of_extent(struct extent *e, uint32_t live)
{
	assert(!e->shared);
	assert(live >= 1);
	assert(live <= e->used);
	e->live = live & (2 * EXTENT_MAX - 1);
	return (uintptr_t)e | BLOCK_TAG_EXTENT;
}

/* Who pays for this slot: a lone extent is not shared, so its owner did. */
static struct account *slot_account(uintptr_t slot)
{
	return slot_is_extent(slot) ? slot_extent(slot)->account : slot_block(slot)->account;
}

static size_t block_class(size_t capacity)
{
	return account_class(sizeof(struct block) + capacity * sizeof(struct block_piece));
}

static void block_delete(struct block *b)
{
	account_uncharge(b->account, block_class(b->capacity));
	free(b);
}

/* The length of what [a_start, a_end) and [b_start, b_end) have in common. */
static uint32_t overlap(uint32_t a_start, uint32_t a_end, uint32_t b_start, uint32_t b_end)
{
	uint32_t start = a_start > b_start ? a_start : b_start;
	uint32_t end = a_end < b_end ? a_end : b_end;
	return start < end ? end - start : 0;
}

size_t block_pieces(uintptr_t slot, struct block_piece *one, const struct block_piece **pieces)
{
	*pieces = one;
	if (!slot)
		return 0;
	if (slot_is_extent(slot)) {
		struct extent *e = slot_extent(slot);
		*one = (struct block_piece){ .extent = e, .len = e->live };
		return 1;
	}
	const struct block *b = slot_block(slot);
	*pieces = b->piece;
	return b->count;
}

size_t block_count(uintptr_t slot)
{
	if (!slot)
		return 0;
	return slot_is_extent(slot) ? 1 : slot_block(slot)->count;
}

uint32_t block_bytes(uintptr_t slot)
{
	if (!slot)
		return 0;
	return slot_is_extent(slot) ? slot_extent(slot)->live : slot_block(slot)->bytes;
}

uint32_t block_reserved(uintptr_t slot, uint32_t start, uint32_t end)
{
	struct block_piece one;
	const struct block_piece *p;
	size_t count = block_pieces(slot, &one, &p);
	uint32_t bytes = 0;
	for (size_t i = 0; i < count; i++) {
		if (!p[i].extent)
			bytes += overlap(p[i].start, block_piece_end(&p[i]), start, end);
	}
	return bytes;
}

/* The number of holes in [start, end), and their bytes in *bytes. */
static size_t block_holes(uintptr_t slot, uint32_t start, uint32_t end, uint32_t *bytes)
{
	struct block_piece one;
	const struct block_piece *p;
	size_t count = block_pieces(slot, &one, &p);
	size_t holes = 0;
	uint32_t at = 0;
	*bytes = 0;
	for (size_t i = 0; i <= count; i++) {
		uint32_t to = i < count ? p[i].start : BLOCK_BYTES;
		uint32_t hole = overlap(at, to, start, end);
		*bytes += hole;
		holes += hole > 0;
		at = i < count ? block_piece_end(&p[i]) : to;
	}
	return holes;
}

uint32_t block_missing(uintptr_t slot, uint32_t start, uint32_t end)
{
	uint32_t bytes;
	(void)block_holes(slot, start, end, &bytes); /* only the bytes are asked for */
	return bytes;
}

/* Whether piece i is the first of the block to refer to its extent. */
static bool piece_is_first(const struct block_piece *p, size_t i)
{
	for (size_t j = 0; j < i; j++) {
		if (p[j].extent == p[i].extent)
			return false;
	}
	return true;
}

/* Bytes of its extent that piece i and its siblings in the block show. */
static uint32_t piece_live(const struct block_piece *p, size_t count, size_t i)
{
	uint32_t bytes = 0;
	for (size_t j = 0; j < count; j++) {
		if (p[j].extent == p[i].extent)
			bytes += p[j].len;
	}
	return bytes;
}

uint32_t block_pinned(uintptr_t slot)
{
	struct block_piece one;
	const struct block_piece *p;
	size_t count = block_pieces(slot, &one, &p);
	uint32_t bytes = 0;
	for (size_t i = 0; i < count; i++) {
		if (p[i].extent && piece_is_first(p, i))
			bytes += p[i].extent->capacity;
	}
	return bytes;
}

/* Lets go of all pieces. */
static void block_clear(struct block *b)
{
	for (size_t i = 0; i < b->count; i++) {
		if (b->piece[i].extent)
			extent_put(b->piece[i].extent);
		else
			account_uncharge(b->account, b->piece[i].len);
	}
	b->count = 0;
	b->bytes = 0;
}

void block_free(uintptr_t *slot)
{
	uintptr_t old = *slot;
	*slot = 0;
	if (!old)
		return;
	if (slot_is_extent(old)) {
		extent_put(slot_extent(old));
		return;
	}
	block_clear(slot_block(old));
	block_delete(slot_block(old));
}

/* Whether piece q goes on exactly where p ends, in the block and in the extent. */
static bool piece_continues(const struct block_piece *p, const struct block_piece *q)
{
	if (block_piece_end(p) != q->start || p->extent != q->extent)
		return false;
	return !p->extent || p->offset + p->len == q->offset;
}

static void block_remove(struct block *b, size_t i)
{
	b->count--;
	memmove(&b->piece[i], &b->piece[i + 1], (b->count - i) * sizeof(b->piece[0]));
}

void block_put(uintptr_t *slot, const struct block_piece *piece)
{
	assert(piece->len >= 1);
	assert(block_piece_end(piece) <= BLOCK_BYTES);
	if (!*slot) {
		assert(piece->extent);
		assert(piece->start == 0);
		assert(piece->offset == 0);
		*slot = slot_of_extent(piece->extent, piece->len);
		return;
	}
	struct block *b = slot_block(*slot);
	size_t i = 0;
	while (i < b->count && b->piece[i].start < piece->start)
		i++;
	assert(i == 0 || block_piece_end(&b->piece[i - 1]) <= piece->start);
	assert(i == b->count || block_piece_end(piece) <= b->piece[i].start);
	b->bytes += piece->len;
	if (i > 0 && piece_continues(&b->piece[i - 1], piece)) {
		b->piece[--i].len += piece->len;
		if (piece->extent)
			extent_put(piece->extent);
	} else {
		assert(b->count < b->capacity);
		memmove(&b->piece[i + 1], &b->piece[i], (b->count - i) * sizeof(*piece));
		b->piece[i] = *piece;
		b->count++;
	}
	if (i + 1 < b->count && piece_continues(&b->piece[i], &b->piece[i + 1])) {
		if (b->piece[i].extent)
			extent_put(b->piece[i].extent);
		b->piece[i].len += b->piece[i + 1].len;
		block_remove(b, i + 1);
	}
}

/* What dropping these pieces gives back, as far as no clone keeps it. */
static uint64_t pieces_release(const struct block_piece *p, size_t count)
{
	uint64_t bytes = 0;
	for (size_t i = 0; i < count; i++) {
		if (!p[i].extent)
			bytes += p[i].len;
		else if (!p[i].extent->shared && piece_is_first(p, i))
			bytes += extent_charge(p[i].extent);
	}
	return bytes;
}

int block_coalesce(uintptr_t *slot, struct account *a, bool force)
{
	struct block_piece one;
	const struct block_piece *p;
	size_t count = block_pieces(*slot, &one, &p);
	assert(count >= 1);
	uint32_t start = p[0].start;
	uint32_t end = block_piece_end(&p[count - 1]);
	if (pieces_release(p, count) >= account_class(sizeof(struct extent) + end - start))
		force = true; /* it frees more than it takes */
	int error = 0;
	struct extent *e = extent_new(a, end - start, force, &error);
	if (!e)
		return error;
	for (size_t i = 0; i < count; i++) {
		extent_append_zeros(e, p[i].start - start - e->used);
		if (p[i].extent)
			extent_append(e, p[i].extent->bytes + p[i].offset, p[i].len);
		else
			extent_append_zeros(e, p[i].len);
	}
	if (start == 0) {
		block_free(slot);
		*slot = slot_of_extent(e, end);
		return 0;
	}
	block_clear(slot_block(*slot));
	struct block_piece whole = { .extent = e, .start = (uint16_t)start, .len = end - start };
	block_put(slot, &whole);
	return 0;
}

int block_room(uintptr_t *slot, struct account *a, size_t extra, bool force)
{
	struct block_piece one;
	const struct block_piece *p;
	size_t count = block_pieces(*slot, &one, &p);
	assert(extra < BLOCK_PIECES_MAX);
	if (count + extra > BLOCK_PIECES_MAX) {
		int error = block_coalesce(slot, a, force);
		if (error)
			return error;
		count = block_pieces(*slot, &one, &p);
	}
	struct block *old = *slot && !slot_is_extent(*slot) ? slot_block(*slot) : NULL;
	if (old && old->capacity >= count + extra)
		return 0;
	size_t capacity = BLOCK_CAPACITY_MIN;
	while (capacity < count + extra)
		capacity *= 2;
	struct block *b = malloc(sizeof(*b) + capacity * sizeof(b->piece[0]));
	if (!b)
		return -ENOMEM;
	account_force(a, block_class(capacity)); /* small, and punching needs it too */
	b->account = a;
	b->bytes = block_bytes(*slot);
	b->count = (uint16_t)count;
	b->capacity = (uint16_t)capacity;
	memcpy(b->piece, p, count * sizeof(*p));
	*slot = (uintptr_t)b | BLOCK_TAG_BLOCK;
	if (old)
		block_delete(old);
	return 0;
}

/* Whether no byte of the slot is outside [start, end). */
static bool slot_within(uintptr_t slot, uint32_t start, uint32_t end)
{
	struct block_piece one;
	const struct block_piece *p;
	size_t count = block_pieces(slot, &one, &p);
	return !count || (start <= p[0].start && end >= block_piece_end(&p[count - 1]));
}

/* Whether a cut of [start, end) makes two pieces of one. */
static bool cut_splits(uintptr_t slot, uint32_t start, uint32_t end)
{
	struct block_piece one;
	const struct block_piece *p;
	size_t count = block_pieces(slot, &one, &p);
	for (size_t i = 0; i < count; i++) {
		if (p[i].start < start && block_piece_end(&p[i]) > end)
			return true;
	}
	return false;
}

int block_prepare_write(uintptr_t *slot, struct account *a, uint32_t start, uint32_t end)
{
	assert(start < end);
	/* All there is goes: its block takes one piece, and what begins the block stands alone. */
	if (slot_within(*slot, start, end) && (*slot || start == 0))
		return 0;
	/* What only overwrites must not fail for lack of room: the old bytes, or what was reserved
	 * for them, hold it. */
	bool force = !block_missing(*slot, start, end);
	/* A full block is coalesced, and that piece may then be split, too. */
	bool full = block_count(*slot) == BLOCK_PIECES_MAX;
	return block_room(slot, a, full || cut_splits(*slot, start, end) ? 2 : 1, force);
}

int block_prepare_cut(uintptr_t *slot, struct account *a, uint32_t start, uint32_t end)
{
	/* A lone extent shows a prefix of itself, so losing its head alone makes it a block,
	 * too. */
	bool headless = *slot && slot_is_extent(*slot) && start == 0 && end > 0 &&
			end < slot_extent(*slot)->live;
	if (headless || cut_splits(*slot, start, end))
		return block_room(slot, a, 1, true); /* force: it frees memory */
	return 0;
}

int block_prepare_reserve(uintptr_t *slot, struct account *a, uint32_t start, uint32_t end)
{
	uint32_t bytes;
	size_t holes = block_holes(*slot, start, end, &bytes);
	if (!holes)
		return 0;
	if (holes + block_count(*slot) > BLOCK_PIECES_MAX) {
		int error = block_coalesce(slot, a, false);
		if (error)
			return error;
		holes = block_holes(*slot, start, end, &bytes);
	}
	return holes ? block_room(slot, a, holes, false) : 0;
}

static void cut_extent(uintptr_t *slot, uint32_t start, uint32_t end)
{
	struct extent *e = slot_extent(*slot);
	uint32_t live = e->live;
	if (start >= live)
		return;
	assert(end >= live); /* else block_prepare_cut made it a block */
	if (start == 0)
		block_free(slot);
	else
		*slot = slot_of_extent(e, start);
}

/* Cuts [start, end) out of the middle of piece i, which becomes two. */
static void cut_middle(struct block *b, size_t i, uint32_t start, uint32_t end)
{
	assert(b->count < b->capacity); /* block_prepare_cut */
	struct block_piece *p = &b->piece[i];
	memmove(p + 1, p, (b->count - i) * sizeof(*p));
	b->count++;
	b->bytes -= end - start;
	p[1].len = block_piece_end(&p[1]) - end;
	p[1].start = (uint16_t)end;
	p[0].len = start - p[0].start;
	if (p[0].extent) {
		p[1].offset = (uint16_t)(p[0].offset + (end - p[0].start));
		(void)extent_get(p[1].extent); /* one reference for each half */
	} else {
		account_uncharge(b->account, end - start);
	}
}

void block_cut(uintptr_t *slot, uint32_t start, uint32_t end)
{
	assert(start <= end);
	assert(end <= BLOCK_BYTES);
	if (!*slot || start == end)
		return;
	if (slot_is_extent(*slot)) {
		cut_extent(slot, start, end);
		return;
	}
	struct block *b = slot_block(*slot);
	size_t kept = 0;
	for (size_t i = 0; i < b->count; i++) {
		struct block_piece p = b->piece[i];
		uint32_t last = block_piece_end(&p);
		uint32_t gone = overlap(p.start, last, start, end);
		if (p.start < start && last > end) {
			cut_middle(b, i, start, end);
			return; /* nothing else is in the range */
		}
		if (gone && !p.extent)
			account_uncharge(b->account, gone);
		b->bytes -= gone;
		if (gone == p.len) {
			if (p.extent)
				extent_put(p.extent);
			continue;
		}
		if (gone && p.start >= start) {
			p.offset = (uint16_t)(p.extent ? p.offset + gone : 0);
			p.start = (uint16_t)end;
		}
		p.len -= gone;
		b->piece[kept++] = p;
	}
	b->count = (uint16_t)kept;
}

uint32_t block_reserve(uintptr_t *slot, uint32_t start, uint32_t end)
{
	uint32_t bytes = 0;
	while (start < end) {
		struct block_piece one;
		const struct block_piece *p;
		size_t count = block_pieces(*slot, &one, &p);
		size_t i = 0;
		while (i < count && block_piece_end(&p[i]) <= start)
			i++;
		uint32_t to = i < count && p[i].start < end ? p[i].start : end;
		uint32_t next = i < count && p[i].start < end ? block_piece_end(&p[i]) : end;
		if (start < to) {
			struct block_piece hole = { .start = (uint16_t)start, .len = to - start };
			block_put(slot, &hole);
			bytes += hole.len;
		}
		start = next;
	}
	return bytes;
}

/* A copy of a slice that pins too much, or NULL. */
static struct extent *slice_copy(const struct block_piece *p, uint32_t live, struct account *a)
{
	/* Near the bound what a truncation gives back is worth a copy much sooner. */
	bool tight = account_free(a->total) < BLOCK_TIGHT;
	uint64_t enough = tight ? (uint64_t)live * 5 / 4 : (uint64_t)live * BLOCK_SLICE_FACTOR;
	if (p->extent->capacity <= BLOCK_SLICE_MIN || enough >= p->extent->capacity)
		return NULL;
	int error;
	/* Not shared means that the large extent goes, so it may pass the bound for a moment. */
	struct extent *e = extent_new(a, p->len, !p->extent->shared, &error);
	if (e)
		extent_append(e, p->extent->bytes + p->offset, p->len);
	return e;
}

static void settle_extent(uintptr_t *slot, struct account *a)
{
	struct block_piece p = { .extent = slot_extent(*slot), .len = slot_extent(*slot)->live };
	struct extent *e = slice_copy(&p, p.len, a);
	if (e) {
		extent_put(p.extent);
		*slot = slot_of_extent(e, p.len);
	}
}

void block_settle(uintptr_t *slot, struct account *a)
{
	if (!*slot)
		return;
	if (slot_is_extent(*slot)) {
		settle_extent(slot, a);
		return;
	}
	struct block *b = slot_block(*slot);
	if (!b->count) {
		block_free(slot);
		return;
	}
	for (size_t i = 0; i < b->count; i++) {
		struct block_piece *p = &b->piece[i];
		struct extent *e =
			p->extent ? slice_copy(p, piece_live(b->piece, b->count, i), a) : NULL;
		if (e) {
			extent_put(p->extent);
			p->extent = e;
			p->offset = 0;
		}
	}
	if (block_pinned(*slot) > BLOCK_PINNED_MAX) {
		(void)block_coalesce(slot, a, false); /* best effort: pinned memory is charged */
		if (slot_is_extent(*slot))
			return;
	}
	struct block_piece p = b->piece[0];
	if (b->count == 1 && p.extent && p.start == 0 && p.offset == 0 && !p.extent->shared) {
		*slot = slot_of_extent(p.extent, p.len);
		block_delete(b);
	}
}

/* Moves piece p to a new extent that also takes `len` more bytes; NULL if that is not to be had. */
static struct extent *piece_grown(const struct block_piece *p, struct account *a, const void *bytes,
				  uint32_t len, uint32_t limit)
{
	uint32_t capacity = 2 * (p->len + len);
	if (capacity < BLOCK_GROW_MIN)
		capacity = BLOCK_GROW_MIN;
	if (capacity > limit - p->start)
		capacity = limit - p->start;
	int error;
	struct extent *e = extent_new(a, capacity, false, &error);
	if (!e)
		return NULL;
	extent_append(e, p->extent->bytes + p->offset, p->len);
	extent_append(e, bytes, len);
	return e;
}

bool block_append(uintptr_t *slot, uint32_t start, const void *bytes, uint32_t len, bool grow)
{
	struct block_piece one;
	const struct block_piece *pieces;
	size_t count = block_pieces(*slot, &one, &pieces);
	size_t i = 0;
	while (i < count && block_piece_end(&pieces[i]) != start)
		i++;
	if (i == count || !pieces[i].extent)
		return false;
	uint32_t limit = BLOCK_BYTES; /* where data begins again */
	for (size_t j = count; j-- > i + 1;) {
		if (pieces[j].extent)
			limit = pieces[j].start;
	}
	if (len > limit - start)
		return false;
	struct block_piece p = pieces[i];
	bool moved = !extent_appendable(p.extent, p.offset + p.len, len);
	if (!moved) {
		extent_append(p.extent, bytes, len);
	} else {
		struct extent *e =
			grow ? piece_grown(&p, slot_account(*slot), bytes, len, limit) : NULL;
		if (!e)
			return false;
		extent_put(p.extent);
		p.extent = e;
		p.offset = 0;
	}
	p.len += len;
	if (slot_is_extent(*slot)) {
		*slot = slot_of_extent(p.extent, p.len);
		return true;
	}
	block_cut(slot, start, start + len); /* reserved bytes at most: nothing is split */
	struct block *b = slot_block(*slot);
	b->piece[i] = p;
	b->bytes += len;
	if (moved)
		block_settle(slot, b->account);
	return true;
}

static bool piece_valid(const struct block_piece *p)
{
	if (p->len < 1 || block_piece_end(p) > BLOCK_BYTES)
		return false;
	return p->extent ? p->offset + p->len <= p->extent->used : p->offset == 0;
}

int block_check(uintptr_t slot)
{
	struct block_piece one;
	const struct block_piece *p;
	size_t count = block_pieces(slot, &one, &p);
	uint32_t bytes = 0;
	for (size_t i = 0; i < count; i++) {
		const struct extent *e = p[i].extent;
		if (!piece_valid(&p[i]))
			return -EUCLEAN;
		if (i &&
		    (block_piece_end(&p[i - 1]) > p[i].start || piece_continues(&p[i - 1], &p[i])))
			return -EUCLEAN;
		if (e && (!atomic_load_explicit(&e->refs, memory_order_relaxed) ||
			  e->used > e->capacity || e->capacity > EXTENT_MAX))
			return -EUCLEAN;
		bytes += p[i].len;
	}
	if (bytes != block_bytes(slot))
		return -EUCLEAN;
	if (slot && slot_is_extent(slot))
		return slot_extent(slot)->shared ? -EUCLEAN : 0;
	if (slot && (count > slot_block(slot)->capacity || count > BLOCK_PIECES_MAX))
		return -EUCLEAN;
	return 0;
}
