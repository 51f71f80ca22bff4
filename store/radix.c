/*
 * radix.c: the tree of slots of one value, one slot for each 64 KiB.
 *
 * A value whose data is all in block 0 is that block's slot, without a tree. Otherwise slots are
 * the leaves of a radix tree, 64 to a node, as high as the last block needs: 8 levels reach 2^63
 * bytes. It was preferred to a balanced tree of pieces because no change of one block ever moves
 * another: each can be prepared by itself before anything changes.
 *
 * Invariants:
 *  1. A node of height h has slots of height h - 1; height 0 is a block's slot.
 *  2. The root node's bytes is the sum over all blocks. Those of other nodes mean nothing.
 *  3. Between the operations of value.h no node and no block is empty, and a root node has
 *     something beyond its first slot; value_prepare() alone may leave more than that to
 *     value_install().
 *  4. Each node is charged to its account.
 *
 * Locking: everything under the owner's shard lock.
 */
#include "store/radix.h"

#include "store/account.h"
#include "store/block.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
	RADIX_SHIFT = 6,
	RADIX_SLOTS = 1 << RADIX_SHIFT,
	RADIX_HEIGHT_MAX = 8,
};

struct node {
	struct account *account;
	uint64_t bytes;  /* of the root only */
	unsigned height; /* constant: 1 .. RADIX_HEIGHT_MAX */
	uintptr_t slot[RADIX_SLOTS];
};

static_assert(RADIX_INDEX_MAX >> (RADIX_SHIFT * RADIX_HEIGHT_MAX) == 0, "the tree reaches the end");

static bool slot_is_node(uintptr_t slot)
{
	return (slot & BLOCK_TAG_MASK) == BLOCK_TAG_NODE;
}

static struct node *slot_node(uintptr_t slot)
{
	assert(slot_is_node(slot));
	return (struct node *)(slot - BLOCK_TAG_NODE);
}

/* How many blocks a slot of this height covers. */
static uint64_t height_span(unsigned height)
{
	return UINT64_C(1) << (RADIX_SHIFT * height);
}

/* Which slot of the node leads to the block. */
static size_t node_child(const struct node *n, uint64_t index)
{
	return (size_t)(index >> (RADIX_SHIFT * (n->height - 1))) & (RADIX_SLOTS - 1);
}

static struct node *node_new(struct account *a, unsigned height)
{
	assert(height >= 1);
	assert(height <= RADIX_HEIGHT_MAX);
	struct node *n = malloc(sizeof(*n));
	if (!n)
		return NULL;
	account_force(a, account_class(sizeof(*n))); /* small next to what hangs from it */
	memset(n, 0, sizeof(*n));
	n->account = a;
	n->height = height;
	return n;
}

static void node_delete(struct node *n)
{
	account_uncharge(n->account, account_class(sizeof(*n)));
	free(n);
}

/* Whether the tree as it is has a place for this block. */
static bool root_covers(uintptr_t root, uint64_t index)
{
	return slot_is_node(root) ? index < height_span(slot_node(root)->height) : index == 0;
}

uintptr_t radix_get(uintptr_t root, uint64_t index)
{
	uintptr_t slot = root_covers(root, index) ? root : 0;
	while (slot_is_node(slot))
		slot = slot_node(slot)->slot[node_child(slot_node(slot), index)];
	return slot;
}

uintptr_t *radix_slot(uintptr_t *root, uint64_t index)
{
	if (!root_covers(*root, index))
		return NULL;
	uintptr_t *slot = root;
	while (slot_is_node(*slot)) {
		struct node *n = slot_node(*slot);
		slot = &n->slot[node_child(n, index)];
		if (!*slot && n->height > 1)
			return NULL;
	}
	return slot;
}

/* Looks below a slot, whose part of the tree has a place for *index. */
static uintptr_t slot_next(uintptr_t slot, uint64_t *index)
{
	if (!slot_is_node(slot))
		return slot;
	const struct node *n = slot_node(slot);
	uint64_t span = height_span(n->height - 1);
	for (size_t i = node_child(n, *index); i < RADIX_SLOTS; i++) {
		uint64_t next = (*index / span + 1) * span;
		uintptr_t found = n->slot[i] ? slot_next(n->slot[i], index) : 0;
		if (found)
			return found;
		*index = next;
	}
	return 0;
}

uintptr_t radix_next(uintptr_t root, uint64_t *index)
{
	return root_covers(root, *index) ? slot_next(root, index) : 0;
}

/* Makes the root so high that it covers the block. */
static int root_raise(uintptr_t *root, struct account *a, uint64_t index)
{
	while (!root_covers(*root, index)) {
		unsigned height = slot_is_node(*root) ? slot_node(*root)->height + 1 : 1;
		while (!*root && index >= height_span(height))
			height++; /* nothing to carry along: at once */
		struct node *n = node_new(a, height);
		if (!n)
			return -ENOMEM;
		n->bytes = radix_bytes(*root);
		n->slot[0] = *root;
		*root = (uintptr_t)n | BLOCK_TAG_NODE;
	}
	return 0;
}

int radix_make(uintptr_t *root, struct account *a, uint64_t index, uintptr_t **slot)
{
	assert(index <= RADIX_INDEX_MAX);
	int error = root_raise(root, a, index);
	if (error)
		return error;
	uintptr_t *at = root;
	while (slot_is_node(*at)) {
		unsigned height = slot_node(*at)->height;
		at = &slot_node(*at)->slot[node_child(slot_node(*at), index)];
		if (!*at && height > 1) {
			struct node *n = node_new(a, height - 1);
			if (!n)
				return -ENOMEM;
			*at = (uintptr_t)n | BLOCK_TAG_NODE;
		}
	}
	*slot = at;
	return 0;
}

uint64_t radix_bytes(uintptr_t root)
{
	return slot_is_node(root) ? slot_node(root)->bytes : block_bytes(root);
}

void radix_account(uintptr_t *root, uint32_t before, const uintptr_t *slot)
{
	if (!slot_is_node(*root))
		return; /* a block knows its own */
	struct node *n = slot_node(*root);
	assert(n->bytes >= before);
	n->bytes = n->bytes - before + block_bytes(*slot);
}

/* Trims blocks first .. last, counted from the first one below this slot. */
static void slot_trim(uintptr_t *slot, uint64_t first, uint64_t last)
{
	if (!slot_is_node(*slot)) {
		if (*slot && !block_bytes(*slot))
			block_free(slot);
		return;
	}
	struct node *n = slot_node(*slot);
	uint64_t span = height_span(n->height - 1);
	bool empty = true;
	for (size_t i = 0; i < RADIX_SLOTS; i++) {
		uint64_t from = i * span;
		if (n->slot[i] && from <= last && first < from + span)
			slot_trim(&n->slot[i], first > from ? first - from : 0, last - from);
		empty = empty && !n->slot[i];
	}
	if (empty) {
		node_delete(n);
		*slot = 0;
	}
}

/* Whether the root node leads to block 0's side of the tree only. */
static bool root_is_tall(const struct node *n)
{
	for (size_t i = 1; i < RADIX_SLOTS; i++) {
		if (n->slot[i])
			return false;
	}
	return true;
}

void radix_trim(uintptr_t *root, uint64_t first, uint64_t last)
{
	slot_trim(root, first, last);
	while (slot_is_node(*root) && root_is_tall(slot_node(*root))) {
		struct node *n = slot_node(*root);
		*root = n->slot[0];
		if (slot_is_node(*root))
			slot_node(*root)->bytes = n->bytes;
		node_delete(n);
	}
}

void radix_free(uintptr_t *root)
{
	if (!slot_is_node(*root)) {
		block_free(root);
		return;
	}
	struct node *n = slot_node(*root);
	for (size_t i = 0; i < RADIX_SLOTS; i++) {
		if (n->slot[i])
			radix_free(&n->slot[i]);
	}
	node_delete(n);
	*root = 0;
}

/* Adds up what is below a slot; -EUCLEAN if it is not sound. */
static int slot_check(uintptr_t slot, unsigned height, uint64_t *bytes)
{
	if (!slot_is_node(slot)) {
		*bytes += block_bytes(slot);
		return height ? -EUCLEAN : block_check(slot);
	}
	const struct node *n = slot_node(slot);
	if (n->height != height || height < 1 || height > RADIX_HEIGHT_MAX)
		return -EUCLEAN;
	for (size_t i = 0; i < RADIX_SLOTS; i++) {
		int error = n->slot[i] ? slot_check(n->slot[i], height - 1, bytes) : 0;
		if (error)
			return error;
	}
	return 0;
}

int radix_check(uintptr_t root)
{
	uint64_t bytes = 0;
	int error = slot_check(root, slot_is_node(root) ? slot_node(root)->height : 0, &bytes);
	if (error)
		return error;
	return bytes == radix_bytes(root) ? 0 : -EUCLEAN;
}
