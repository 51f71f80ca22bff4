/*
 * shard.h: one shard of the store: its two indexes, its wheel, its account. Private to store/.
 *
 * Ownership: a shard owns its objects and links; store.c owns the shards.
 * Threads:   what stands "under lock" is read and written under the shard's lock; every function
 *            needs it, but for shard_link_new and shard_link_free.
 * Errors:    none; a link without memory is NULL.
 * Units:     bytes, counts.
 */
#ifndef STORE_SHARD_H
#define STORE_SHARD_H

#include "store/account.h"
#include "store/counter.h"
#include "store/hash.h"
#include "store/index.h"
#include "store/lock.h"
#include "store/object.h"
#include "store/store.h"
#include "store/wheel.h"

/* A name whose object lives in another shard, or has its embedded name elsewhere. */
struct link {
	uint64_t directory;
	uint64_t number;
	uint64_t cookie;
	uint8_t length;
	char bytes[];
};

/* Counters of one shard: written under its lock, read without. */
struct shard_counters {
	COUNTER_STRUCT(STORE_COUNTERS)
};

struct shard {
	/* constant after open */
	_Alignas(64) struct store *store;
	unsigned id;
	/* under lock */
	struct lock lock;
	struct index names; /* struct object *, or struct link * with bit 0 set */
	struct index objects;
	uint64_t keys;        /* regular files with a name */
	uint64_t table_bytes; /* of the two indexes, as charged */
	/* atomic */
	struct shard_counters counters;
	struct account account;
	/* under lock; last, because it is large: what every lookup touches stands together */
	struct wheel wheel;
};

/* What a name is looked up by. */
struct shard_key {
	uint64_t directory;
	uint64_t hash;
	const char *name;
	size_t length;
};

/*
 * Mixed into the hash of every name: with a known seed anybody who may create files could choose
 * names that all fall into one bucket. Random, one for all stores of the process (an index asks for
 * the hash of an entry without knowing its store), constant once a store is open. What was placed
 * with another secret is still found: nothing assumes that a name's shard is its object's.
 */
extern uint64_t shard_secret;

/* Chooses the secret, once, unless a test chose it before, to be reproducible. */
void shard_secret_init(void);

static inline uint64_t shard_hash(uint64_t directory, const char *name, size_t length)
{
	return hash_name(shard_secret ^ directory, name, length);
}

static inline struct shard_key shard_key(uint64_t directory, const char *name, size_t length)
{
	return (struct shard_key){ directory, shard_hash(directory, name, length), name, length };
}

/* The object of this number, or NULL. */
struct object *shard_object(struct shard *shard, uint64_t number) REQUIRES(shard->lock);

/* What a name stands for in its shard: its object here, or a link; both NULL if there is no
 * such. */
struct shard_name {
	struct object *object;
	struct link *link;
	uint64_t number;
	uint64_t cookie;
};
bool shard_name(struct shard *shard, const struct shard_key *key, struct shard_name *found)
	REQUIRES(shard->lock);

/* Charges what the indexes grew or shrank by. */
void shard_account_tables(struct shard *shard) REQUIRES(shard->lock);

/* Arms, moves or disarms the object's place in the wheel, to agree with its deadline. */
void shard_wheel(struct shard *shard, struct object *object) REQUIRES(shard->lock);

/* The indexes' callbacks. */
uint64_t shard_name_hash(const void *entry);
uint64_t shard_object_hash(const void *entry);

static inline bool shard_is_link(const void *entry)
{
	return (uintptr_t)entry & 1;
}

static inline struct link *shard_link(const void *entry)
{
	return (struct link *)((uintptr_t)entry & ~(uintptr_t)1);
}

static inline void *shard_link_mark(struct link *link)
{
	return (void *)((uintptr_t)link | 1);
}

/* A link to go into this shard's name index, charged past the bound; NULL without memory. */
struct link *shard_link_new(struct shard *shard, const struct shard_key *key, uint64_t number);
void shard_link_free(struct shard *shard, struct link *link);

#endif
