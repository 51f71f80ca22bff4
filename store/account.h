/*
 * account.h: memory accounts. Every shard charges what it allocates to its own account, and all
 * accounts to one total, which holds the bound of the store (-o size=).
 *
 * An account counts what malloc really takes: charge account_class(n), not n, and uncharge as much.
 * Whoever allocates charges first, allocates then, and uncharges if the allocation fails.
 *
 * Ownership: the caller owns the memory of both structs; the total outlives its accounts.
 * Threads:   every function but the two init ones may be called from any thread, with or without
 *            locks: a charge may be given back on another thread than the one that took it.
 * Errors:    -ENOSPC at the bound. The bound holds at every moment for account_charge();
 *            account_force() alone may pass it.
 * Units:     bytes.
 */
#ifndef STORE_ACCOUNT_H
#define STORE_ACCOUNT_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* The most that all accounts together may hold, bounded or not: sums stay within an int64_t. */
#define ACCOUNT_BYTES_MAX ((uint64_t)INT64_MAX)

/* What glibc does on 64-bit machines. test_account.c holds these against the real malloc. */
enum {
	ACCOUNT_CHUNK_MIN = 32,
	ACCOUNT_CHUNK_ALIGN = 16,
	ACCOUNT_CHUNK_HEADER = 8,
	ACCOUNT_MMAP_MIN = 128 * 1024, /* chunks from this size on are mappings of whole pages */
	ACCOUNT_PAGE = 4096,
};

struct account_total {
	_Atomic uint64_t used; /* atomic */
	uint64_t limit;        /* constant after init; 0 for no bound */
};

struct account {
	struct account_total *total; /* constant after init */
	_Atomic int64_t bytes; /* atomic; below zero if its charges were given back elsewhere */
};

/* limit 0 is no bound. A limit is at most ACCOUNT_BYTES_MAX. */
void account_total_init(struct account_total *total, uint64_t limit);
void account_init(struct account *account, struct account_total *total);

/* Takes bytes: all of them and 0, or none and -ENOSPC if they would pass the limit. */
int account_charge(struct account *account, uint64_t bytes);

/*
 * Takes bytes even past the limit: for what must not fail, such as the bookkeeping of an unlink or
 * the replay of a log written under a higher limit. The sum must stay within ACCOUNT_BYTES_MAX.
 */
void account_force(struct account *account, uint64_t bytes);

/* Gives bytes back. More than the total has in use is our own mistake, and asserted. */
void account_uncharge(struct account *account, uint64_t bytes);

/*
 * Whether account_force() has gone so far past the limit, by an eighth of it, that even what may
 * pass it must be refused, unless it frees memory.
 */
bool account_exhausted(const struct account_total *total);

/* What this account holds now. */
int64_t account_bytes(const struct account *account);

/* What all accounts hold together; past the limit only after account_force(). */
uint64_t account_used(const struct account_total *total);

/* What may still be charged: 0 at or past the limit, counted from ACCOUNT_BYTES_MAX if no bound. */
uint64_t account_free(const struct account_total *total);

/* What malloc(bytes) takes from memory: its size class with the header, or whole pages. */
static inline uint64_t account_class(uint64_t bytes)
{
	assert(bytes <= ACCOUNT_BYTES_MAX - 2 * ACCOUNT_PAGE);
	uint64_t align = ACCOUNT_CHUNK_ALIGN;
	uint64_t chunk = (bytes + ACCOUNT_CHUNK_HEADER + align - 1) & ~(align - 1);
	if (chunk < ACCOUNT_CHUNK_MIN)
		return ACCOUNT_CHUNK_MIN;
	if (chunk < ACCOUNT_MMAP_MIN)
		return chunk;
	uint64_t page = ACCOUNT_PAGE; /* a mapping has one more header word in front */
	return (chunk + ACCOUNT_CHUNK_HEADER + page - 1) & ~(page - 1);
}

#endif
