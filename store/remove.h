/*
 * remove.h: removing names whose time has come. Private to store/.
 *
 * Ownership: nothing is kept.
 * Threads:   the directory is held (directory_enter).
 * Errors:    as store.h.
 * Units:     none.
 */
#ifndef STORE_REMOVE_H
#define STORE_REMOVE_H

#include "store/names.h"

/*
 * Removes an expired name, as a logged change of its own. known tells whether a holder may remember
 * it. -EAGAIN: it is not expired (any more). -ENOMEM.
 */
int remove_expired(struct store *s, struct directory *directory, const struct shard_key *key,
		   const struct names_found *found, bool *known);

/*
 * 0 if the directory has no live name, else -ENOTEMPTY. Removes expired names, but only so many
 * under one hold of the tree, which must be exclusive: on -EAGAIN let go of it, and come again.
 */
int remove_check_empty(struct store *s, uint64_t number);

#endif
