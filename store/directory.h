/*
 * directory.h: directories as sets of names: their mutex and their order. Private to store/.
 *
 * Ownership: a directory object owns its struct directory, from its birth until the rmdir or rename
 *            that removes it, which frees it at once: a removed directory has no names.
 * Threads:   a struct directory is created and freed only under the tree lock, exclusive, so a
 *            pointer to one is good for as long as the tree lock is held, shared or exclusive. What
 *            it holds is guarded by its mutex, or by holding the tree lock exclusive.
 * Errors:    -ENOMEM; directory_enter: -ENOENT, -ENOTDIR.
 * Units:     none.
 */
#ifndef STORE_DIRECTORY_H
#define STORE_DIRECTORY_H

#include "store/core.h"
#include "store/dirvec.h"

struct directory {
	/* constant after creation */
	uint64_t number;
	/* under lock */
	struct lock lock;
	struct dirvec entries;
	uint64_t charged; /* bytes of entries that the account knows of */
};

struct directory *directory_new(struct account *account, uint64_t number);
void directory_free(struct account *account, struct directory *directory);

/* Charges what the vector grew or shrank by, past the bound: entries are already charged for. */
void directory_account(struct account *account, struct directory *directory);

/* How a thread holds the tree while it works on names. */
enum directory_mode { DIRECTORY_SHARED, DIRECTORY_EXCLUSIVE };

/*
 * Takes the tree lock and, if shared, the directory's mutex: names in it are stable until
 * directory_leave(). On an error nothing is held. -ENOENT: no such object, or a removed directory.
 */
int directory_enter(struct store *s, uint64_t number, enum directory_mode mode,
		    struct directory **directory) NO_THREAD_SAFETY_ANALYSIS;
void directory_leave(struct store *s, struct directory *directory,
		     enum directory_mode mode) NO_THREAD_SAFETY_ANALYSIS;

/* The same directory object without locks of its own: under the tree lock. -ENOENT, -ENOTDIR. */
int directory_find(struct store *s, uint64_t number, struct directory **directory);

#endif
