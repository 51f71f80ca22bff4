/*
 * account.c: memory accounts.
 *
 * A charge is one atomic addition on the shard's account and one compare-and-swap on the total.
 * Adding first and undoing on overflow would save the loop, but for a moment the sum would pass the
 * limit, and a small charge that fits would be refused because of a large one that does not. Giving
 * each shard a credit to spend by itself would spare the shared cache line, but then ENOSPC would
 * come while other shards still hold room, and statfs would have to add them all up.
 *
 * Invariants:
 *  1. total.used is the sum of bytes over all its accounts, whenever no call is under way.
 *  2. total.used <= limit, if there is one, but for what account_force() took.
 *  3. total.used <= ACCOUNT_BYTES_MAX.
 *
 * Locking: none. All accesses are relaxed: these numbers publish no other memory, and each atomic
 * is judged by its own value alone, so they pair with nothing.
 */
#include "store/account.h"

#include <errno.h>

static uint64_t account_bound(const struct account_total *total)
{
	return total->limit ? total->limit : ACCOUNT_BYTES_MAX;
}

void account_total_init(struct account_total *total, uint64_t limit)
{
	assert(limit <= ACCOUNT_BYTES_MAX);
	atomic_init(&total->used, 0);
	total->limit = limit;
}

void account_init(struct account *account, struct account_total *total)
{
	account->total = total;
	atomic_init(&account->bytes, 0);
}

int account_charge(struct account *account, uint64_t bytes)
{
	struct account_total *total = account->total;
	uint64_t bound = account_bound(total);
	uint64_t used = atomic_load_explicit(&total->used, memory_order_relaxed);

	do {
		/* used may be past the bound after account_force() */
		if (used > bound || bytes > bound - used)
			return bytes ? -ENOSPC : 0;
	} while (!atomic_compare_exchange_weak_explicit(
		&total->used, &used, used + bytes, memory_order_relaxed, memory_order_relaxed));
	atomic_fetch_add_explicit(&account->bytes, (int64_t)bytes, memory_order_relaxed);
	return 0;
}

void account_force(struct account *account, uint64_t bytes)
{
	assert(bytes <= ACCOUNT_BYTES_MAX);
	uint64_t used =
		atomic_fetch_add_explicit(&account->total->used, bytes, memory_order_relaxed);
	assert(used <= ACCOUNT_BYTES_MAX - bytes);
	atomic_fetch_add_explicit(&account->bytes, (int64_t)bytes, memory_order_relaxed);
}

void account_uncharge(struct account *account, uint64_t bytes)
{
	assert(bytes <= ACCOUNT_BYTES_MAX);
	atomic_fetch_sub_explicit(&account->bytes, (int64_t)bytes, memory_order_relaxed);
	uint64_t used =
		atomic_fetch_sub_explicit(&account->total->used, bytes, memory_order_relaxed);
	assert(used >= bytes);
}

int64_t account_bytes(const struct account *account)
{
	return atomic_load_explicit(&account->bytes, memory_order_relaxed);
}

uint64_t account_used(const struct account_total *total)
{
	return atomic_load_explicit(&total->used, memory_order_relaxed);
}

uint64_t account_free(const struct account_total *total)
{
	uint64_t bound = account_bound(total);
	uint64_t used = account_used(total);
	return used < bound ? bound - used : 0;
}

bool account_exhausted(const struct account_total *total)
{
	return total->limit && account_used(total) > total->limit + total->limit / 8;
}
