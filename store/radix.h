/*
 * radix.h: the tree of slots of one value, one slot for each 64 KiB (block.h). Private to value.c.
 *
 * Ownership: the root word is the caller's, 0 when empty; the tree owns its nodes and blocks.
 * Threads:   everything under the lock of the value's owner.
 * Errors:    only radix_make() can fail, with -ENOMEM.
 * Units:     an index counts blocks, up to RADIX_INDEX_MAX.
 */
#ifndef STORE_RADIX_H
#define STORE_RADIX_H

#include <stdint.h>

#define RADIX_INDEX_MAX ((UINT64_C(1) << 47) - 1) /* the last byte of the last one is 2^63 - 1 */

struct account;

/* A block's slot, by value; 0 if there is nothing. */
uintptr_t radix_get(uintptr_t root, uint64_t index);

/* The first non-empty slot at or after *index, which is set to its index; or 0. */
uintptr_t radix_next(uintptr_t root, uint64_t *index);

/* A block's slot, for changing it, or NULL if the tree has no place for it. */
uintptr_t *radix_slot(uintptr_t *root, uint64_t index);

/* The same, making the nodes on the way. -ENOMEM may leave empty nodes: radix_trim() them. */
int radix_make(uintptr_t *root, struct account *a, uint64_t index, uintptr_t **slot);

/* The sum of block_bytes() over all slots; O(1). */
uint64_t radix_bytes(uintptr_t root);

/* Keeps that sum after a slot went from `before` bytes to what it has now. */
void radix_account(uintptr_t *root, uint32_t before, const uintptr_t *slot);

/* Frees empty nodes and blocks among first .. last, and makes the tree no higher than it must
 * be. */
void radix_trim(uintptr_t *root, uint64_t first, uint64_t last);

/* Drops everything; the root is 0 then. */
void radix_free(uintptr_t *root);

/* 0, or -EUCLEAN if an invariant of radix.c or block.c does not hold. */
int radix_check(uintptr_t root);

#endif
