/*
 * extent.c: reference-counted buffers that hold the bytes of values.
 *
 * One allocation: a header of 24 bytes, then the bytes. The size is fixed at birth: an extent that
 * is too small is replaced, never moved, because others may be reading it.
 *
 * Invariants:
 *  1. live <= used <= capacity, 1 <= capacity <= EXTENT_MAX.
 *  2. bytes[0, used) never change; used never shrinks, and never grows once shared is set.
 *  3. While the extent lives, extent_charge() bytes are charged to its account.
 *
 * Locking: none for the count. A reader copies bytes below the end that it captured under the
 * owner's lock, while an owner may be appending above it: different bytes, so no race.
 */
#include "store/extent.h"

#include "store/account.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static_assert(sizeof(struct extent) == 24, "a small value pays the header in full");

uint64_t extent_charge(const struct extent *e)
{
	return account_class(sizeof(*e) + e->capacity);
}

struct extent *extent_new(struct account *a, size_t capacity, bool force, int *err)
{
	assert(capacity >= 1);
	assert(capacity <= EXTENT_MAX);
	uint64_t charge = account_class(sizeof(struct extent) + capacity);
	if (force) {
		account_force(a, charge);
	} else {
		int error = account_charge(a, charge);
		if (error) {
			*err = error;
			return NULL;
		}
	}
	struct extent *e = malloc(sizeof(*e) + capacity);
	if (!e) {
		account_uncharge(a, charge);
		*err = -ENOMEM;
		return NULL;
	}
	atomic_init(&e->refs, 1);
	e->capacity = (uint32_t)capacity;
	e->used = 0;
	e->live = 0;
	e->shared = 0;
	e->account = a;
	return e;
}

struct extent *extent_get(struct extent *e)
{
	/* Relaxed: the caller's own reference, or the lock, already orders it after the birth. */
	uint32_t before = atomic_fetch_add_explicit(&e->refs, 1, memory_order_relaxed);
	assert(before >= 1);
	assert(before < UINT32_MAX);
	return e;
}

void extent_put(struct extent *e)
{
	/*
	 * Release: what this holder read or wrote comes before the free. Acquire: the holder who
	 *          frees
	 * sees that all others are done. Both pair with each other, here. The plain load spares
	 * the only holder the locked instruction: nobody else can get a reference from nowhere.
	 */
	if (atomic_load_explicit(&e->refs, memory_order_acquire) != 1) {
		uint32_t before = atomic_fetch_sub_explicit(&e->refs, 1, memory_order_acq_rel);
		assert(before >= 1);
		if (before > 1)
			return;
	}
	account_uncharge(e->account, extent_charge(e));
	free(e);
}

void extent_append(struct extent *e, const void *bytes, size_t len)
{
	assert(!e->shared);
	assert(len <= e->capacity - e->used);
	memcpy(e->bytes + e->used, bytes, len);
	e->used += (uint32_t)len;
}

void extent_append_zeros(struct extent *e, size_t len)
{
	assert(!e->shared);
	assert(len <= e->capacity - e->used);
	memset(e->bytes + e->used, 0, len);
	e->used += (uint32_t)len;
}

void extent_share(struct extent *e)
{
	/* Written once only: later owners hold other locks, and read it. */
	if (!e->shared)
		e->shared = 1;
}

bool extent_appendable(const struct extent *e, size_t end, size_t len)
{
	return !e->shared && end == e->used && len <= e->capacity - e->used;
}
