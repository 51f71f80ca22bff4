/*
 * names.h: what the modules that change names share. Private to store/.
 *
 * Ownership: nothing is kept.
 * Threads:   the directory is held (directory_enter), unless a function says otherwise.
 * Errors:    as store.h.
 * Units:     bytes, nanoseconds.
 */
#ifndef STORE_NAMES_H
#define STORE_NAMES_H

#include "store/batch.h"

/* 0, -ENAMETOOLONG, or -EINVAL for what can be no entry: empty, ".", "..", with '/' or NUL. */
int names_valid(const char *name, size_t length);

enum names_state { NAMES_ABSENT, NAMES_LIVE, NAMES_EXPIRED };

/* What the name stands for now. */
struct names_found {
	enum names_state state;
	uint64_t number;
	uint64_t cookie;
	uint32_t mode;
};
void names_find(struct store *s, const struct shard_key *key, struct names_found *found);

/* names_find, after removing the name if it has expired: the state is ABSENT or LIVE. */
int names_settle(struct store *s, struct directory *directory, const struct shard_key *key,
		 struct names_found *found);

/* A new object with a name and, for store_set(), its first value. */
struct names_birth {
	const struct store_birth *birth;
	int64_t ttl_ns; /* or STORE_TTL_DEFAULT */
	const void *bytes;
	size_t size;
	struct value_parts *parts; /* holds the bytes already if they are many; or NULL */
};
int names_create(struct store *s, uint64_t directory, const char *name, size_t length,
		 const struct names_birth *n, unsigned flags, struct store_attr *attr);

#endif
