/*
 * notifier.h: tells the kernel of changes that it did not ask for: keys that expired, and keys
 * that it knows and that have got a TTL.
 *
 * Ownership: nothing that is passed in is kept. Store and session must outlive notifier_stop().
 * Threads:   handlers call reserve, recheck and cancel; the store's reaper calls removed. Nobody
 *            else talks to the kernel unasked: a notification from a handler can wait for a lock
 *            that is held by a request which that handler should serve.
 * Errors:    0 or -errno.
 * Bounds:    NOTIFIER_RECHECKS_MAX different objects to recheck: beyond, notifier_reserve() says
 *            -EBUSY, and the change that needs it must not be made. (Not -EAGAIN: from setxattr(2)
 *            the VFS would make it EOPNOTSUPP.) NOTIFIER_REMOVED_BYTES of removed names: beyond,
 *            notifier_removed() waits for room, which is the reaper's pace; expired keys are absent
 *            by name whether they are reaped or not. Nothing is ever dropped.
 */
#ifndef FS_NOTIFIER_H
#define FS_NOTIFIER_H

#include <stddef.h>
#include <stdint.h>

struct fuse_session;
struct notifier;
struct store;

enum {
	NOTIFIER_RECHECKS_MAX = 1 << 18,
	NOTIFIER_REMOVED_BYTES = 1 << 22,
	NOTIFIER_DIRECTORIES_MAX = 64, /* invalidated together, after their names */
};

int notifier_new(struct notifier **out, struct store *store);

/* It must be stopped, or never started. Null is ignored. */
void notifier_free(struct notifier *n);

/* Starts the thread. Before that, what comes in is only kept. */
int notifier_start(struct notifier *n, struct fuse_session *session);

/*
 * Stops the thread, which takes no longer than one notification, and releases the reaper if it
 * waits. What is still queued, and what comes later, is forgotten: the mount is about to end. Call
 * it while requests are still served: a notification in progress may need one answered.
 */
void notifier_stop(struct notifier *n);

/* Books room for one recheck. -EBUSY: there is none, for the moment. */
int notifier_reserve(struct notifier *n);

/*
 * Uses the room: the kernel will ask again for the object's names and attributes. Of an object that
 * is queued already nothing more is kept.
 */
void notifier_recheck(struct notifier *n, uint64_t number);

/* Gives the room back. */
void notifier_cancel(struct notifier *n);

/*
 * An expired object lost this name. May wait for room: not for handlers. If the name stands for
 * another object by the time that its turn comes, the kernel is not told to drop it.
 */
void notifier_removed(struct notifier *n, uint64_t directory, const char *name, size_t length,
		      uint64_t number);

#endif
