/*
 * dirleaf.h: one leaf of a directory vector (dirvec.h): up to DIRLEAF_MAX (cookie, object number)
 * entries, ascending by cookie, in one allocation. Private to dirvec.c.
 *
 * Layout. An entry is 12 bytes: a 32-bit distance from the leaf's base cookie, and the number in
 * two halves, so that it needs no padding. Capacities fill malloc's 16-byte classes exactly: 1
 * entry costs 32 bytes, 5 cost 80, 253 cost 3056.
 *
 * Ownership: the caller allocates dirleaf_size() bytes, sets base, count and capacity, and frees.
 * Threads:   the caller's lock.
 * Errors:    none; what a leaf cannot hold is refused beforehand (dirleaf_admit(), dirleaf_join()).
 */
#ifndef STORE_DIRLEAF_H
#define STORE_DIRLEAF_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The unit test includes dirleaf.c with a smaller size, so that a few entries make a deep tree. */
#ifndef DIRLEAF_MAX
#define DIRLEAF_MAX 253u
static_assert(DIRLEAF_MAX <= UINT16_MAX, "a leaf counts its entries in 16 bits");
static_assert(DIRLEAF_MAX % 4 == 1, "a full leaf should fill its allocation class");
#endif

struct dirleaf_slot {
	uint32_t delta;
	uint32_t number_low;
	uint32_t number_high;
};

struct dirleaf {
	uint64_t base; /* at most the first cookie */
	uint16_t count;
	uint16_t capacity;
	struct dirleaf_slot slot[];
};

static_assert(sizeof(struct dirleaf_slot) == 12, "an entry is 12 bytes");
static_assert(offsetof(struct dirleaf, slot) == 12, "slots follow the header without a gap");

static inline size_t dirleaf_size(uint32_t capacity)
{
	return offsetof(struct dirleaf, slot) + capacity * sizeof(struct dirleaf_slot);
}

static inline uint64_t dirleaf_cookie(const struct dirleaf *leaf, uint32_t index)
{
	return leaf->base + leaf->slot[index].delta;
}

static inline uint64_t dirleaf_number(const struct dirleaf *leaf, uint32_t index)
{
	const struct dirleaf_slot *slot = &leaf->slot[index];

	return (uint64_t)slot->number_high << 32 | slot->number_low;
}

static inline void dirleaf_set(struct dirleaf *leaf, uint32_t index, uint64_t number)
{
	leaf->slot[index].number_low = (uint32_t)number;
	leaf->slot[index].number_high = (uint32_t)(number >> 32);
}

/* The smallest capacity that holds so many entries: 1, 5, 13, 29, 61, 93 ... DIRLEAF_MAX. */
uint32_t dirleaf_capacity(uint32_t count);

/* The index of the first entry whose cookie is at least this; count when there is none. */
uint32_t dirleaf_find(const struct dirleaf *leaf, uint64_t cookie);

/*
 * Whether the leaf can express this cookie beside its entries; moves the base when that helps. Says
 * nothing about a free slot.
 */
bool dirleaf_admit(struct dirleaf *leaf, uint64_t cookie);

/* Inserts at an index that keeps the order; needs a free slot and dirleaf_admit(). */
void dirleaf_insert(struct dirleaf *leaf, uint32_t at, uint64_t cookie, uint64_t number);

void dirleaf_remove(struct dirleaf *leaf, uint32_t at);

/* Moves the entries from index keep on to right, which is empty and large enough. */
void dirleaf_split(struct dirleaf *left, struct dirleaf *right, uint32_t keep);

/*
 * Moves all entries of two neighbours into the one with more room, if it has a slot more than they
 * need, and can express all their cookies and the cookie `reach` (0: none), which is above them.
 * left is not empty. Returns the leaf that holds all, or NULL with nothing changed; the other one
 * is the caller's to free.
 */
struct dirleaf *dirleaf_join(struct dirleaf *left, struct dirleaf *right, uint64_t reach);

/* Whether count <= capacity <= DIRLEAF_MAX and the cookies ascend strictly. */
bool dirleaf_check(const struct dirleaf *leaf);

#endif
