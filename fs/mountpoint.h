/*
 * mountpoint.h: the directory that ctxfs is mounted on: is it fit, does it answer, how is it tuned.
 *
 * Ownership: nothing is kept.
 * Threads:   any, but mountpoint_answers() waits for the mount: not for handlers.
 * Errors:    -errno, with a sentence in why where there is one.
 * Units:     none.
 */
#ifndef FS_MOUNTPOINT_H
#define FS_MOUNTPOINT_H

#include <limits.h>

enum { MOUNTPOINT_WHY_SIZE = PATH_MAX + 256 };

/*
 * Makes the path absolute and makes sure that it is a directory where ctxfs can be mounted. What a
 * ctxfs that was killed has left there is detached, and nothing else. -ENOENT; -ENOTDIR; -EBUSY: a
 * ctxfs is mounted there and alive, or it is "/"; -ENOTCONN: a dead mount that is no ctxfs;
 * -ETIMEDOUT: what is there hangs. After -ETIMEDOUT a thread is left behind: the process is to end.
 */
int mountpoint_prepare(const char *path, char absolute[PATH_MAX], char why[MOUNTPOINT_WHY_SIZE]);

/*
 * A number that tells apart the mount that is on top there from all others; -1: nothing is mounted
 * there, or the kernel does not tell. Asks no file system.
 */
int mountpoint_top(const char *absolute);

/* Waits until the file system mounted there has answered one question. -ENOTCONN: it has ended. */
int mountpoint_answers(const char *absolute);

/* Sets the kernel's read-ahead to what one message carries. Without the right to, does nothing. */
void mountpoint_tune(const char *absolute);

/* Detaches what is mounted there, open files or not. -EPERM. */
int mountpoint_detach(const char *absolute);

#endif
