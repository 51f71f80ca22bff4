/*
 * dirleaf.c: one leaf of a directory vector; see dirleaf.h for the layout.
 *
 * A 32-bit distance spans 2^32 appends, so a leaf nearly always reaches; where survivors lie
 * further apart than that, the leaf refuses and the tree uses another one. The base may lie below
 * the first cookie, since removal does not move it; it is set anew when that makes a cookie
 * expressible.
 *
 * Locking: the caller's, which is the directory's mutex.
 */
#include "store/dirleaf.h"

#include <string.h>

/* Leaves double up to here, then grow by a fixed step: that bounds what a leaf may leave unused. */
#define LEAF_DOUBLE_MAX 61u
#define LEAF_STEP       32u

uint32_t dirleaf_capacity(uint32_t count)
{
	uint32_t capacity = 1;

	assert(count <= DIRLEAF_MAX);
	while (capacity < count)
		capacity = capacity < LEAF_DOUBLE_MAX ? 2 * capacity + 3 : capacity + LEAF_STEP;
	return capacity < DIRLEAF_MAX ? capacity : DIRLEAF_MAX;
}

uint32_t dirleaf_find(const struct dirleaf *leaf, uint64_t cookie)
{
	uint32_t low = 0;
	uint32_t high = leaf->count;

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (dirleaf_cookie(leaf, middle) < cookie)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void rebase(struct dirleaf *leaf, uint64_t base)
{
	for (uint32_t i = 0; i < leaf->count; i++)
		leaf->slot[i].delta = (uint32_t)(dirleaf_cookie(leaf, i) - base);
	leaf->base = base;
}

bool dirleaf_admit(struct dirleaf *leaf, uint64_t cookie)
{
	uint64_t low = cookie;
	uint64_t high = cookie;

	if (cookie >= leaf->base && cookie - leaf->base <= UINT32_MAX)
		return true;
	if (leaf->count > 0) {
		uint64_t first = dirleaf_cookie(leaf, 0);
		uint64_t last = dirleaf_cookie(leaf, leaf->count - 1u);

		low = first < cookie ? first : cookie;
		high = last > cookie ? last : cookie;
	}
	if (high - low > UINT32_MAX)
		return false;
	rebase(leaf, low);
	return true;
}

void dirleaf_insert(struct dirleaf *leaf, uint32_t at, uint64_t cookie, uint64_t number)
{
	struct dirleaf_slot *slot = &leaf->slot[at];

	assert(leaf->count < leaf->capacity);
	assert(cookie >= leaf->base && cookie - leaf->base <= UINT32_MAX);
	memmove(slot + 1, slot, (leaf->count - at) * sizeof(*slot));
	leaf->count++;
	slot->delta = (uint32_t)(cookie - leaf->base);
	dirleaf_set(leaf, at, number);
}

void dirleaf_remove(struct dirleaf *leaf, uint32_t at)
{
	struct dirleaf_slot *slot = &leaf->slot[at];

	assert(at < leaf->count);
	leaf->count--;
	memmove(slot, slot + 1, (leaf->count - at) * sizeof(*slot));
}

void dirleaf_split(struct dirleaf *left, struct dirleaf *right, uint32_t keep)
{
	uint32_t moved = left->count - keep;

	assert(right->count == 0 && keep < left->count && moved <= right->capacity);
	memcpy(right->slot, &left->slot[keep], moved * sizeof(left->slot[0]));
	right->base = left->base;
	right->count = (uint16_t)moved;
	left->count = (uint16_t)keep;
	rebase(right, dirleaf_cookie(right, 0));
}

struct dirleaf *dirleaf_join(struct dirleaf *left, struct dirleaf *right, uint64_t reach)
{
	struct dirleaf *into = left->capacity >= right->capacity ? left : right;
	uint32_t count = (uint32_t)left->count + right->count;
	uint64_t low = dirleaf_cookie(left, 0);
	uint64_t high = reach;

	assert(left->count > 0 && (right->count > 0 || reach > 0));
	if (reach == 0)
		high = dirleaf_cookie(right, right->count - 1u);
	if (count >= into->capacity || high - low > UINT32_MAX)
		return NULL;
	rebase(left, low);
	rebase(right, low);
	if (into == left) {
		memcpy(&left->slot[left->count], right->slot,
		       right->count * sizeof(right->slot[0]));
	} else {
		memmove(&right->slot[left->count], right->slot,
			right->count * sizeof(right->slot[0]));
		memcpy(right->slot, left->slot, left->count * sizeof(left->slot[0]));
	}
	into->count = (uint16_t)count;
	return into;
}

bool dirleaf_check(const struct dirleaf *leaf)
{
	for (uint32_t i = 1; i < leaf->count; i++)
		if (leaf->slot[i].delta <= leaf->slot[i - 1].delta)
			return false;
	return leaf->count <= leaf->capacity && leaf->capacity <= DIRLEAF_MAX;
}
