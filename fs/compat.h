/*
 * compat.h: every difference between the versions of libfuse that ctxfs builds with, 3.14 to 3.18.
 * The rest of fs/ includes this file instead of libfuse's, and has no #if about its version.
 *
 * Ownership: nothing is kept.
 * Threads:   as libfuse's own functions.
 * Errors:    -ENOSYS where the library or the kernel cannot do it.
 */
#ifndef FS_COMPAT_H
#define FS_COMPAT_H

#define FUSE_USE_VERSION 312

#include <fuse_lowlevel.h>

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* The release, with its third number, which older libraries do not tell. */
#ifdef FUSE_HOTFIX_VERSION
#define COMPAT_RELEASE (FUSE_MAJOR_VERSION * 10000 + FUSE_MINOR_VERSION * 100 + FUSE_HOTFIX_VERSION)
#else
#define COMPAT_RELEASE (FUSE_MAJOR_VERSION * 10000 + FUSE_MINOR_VERSION * 100)
#endif

/* Capabilities that older libraries do not know are no bits at all: wanting them does nothing. */
#ifdef FUSE_CAP_NO_EXPORT_SUPPORT
#define COMPAT_CAP_NO_EXPORT FUSE_CAP_NO_EXPORT_SUPPORT
#else
#define COMPAT_CAP_NO_EXPORT 0
#endif

#ifdef FUSE_CAP_OVER_IO_URING
#define COMPAT_CAP_URING FUSE_CAP_OVER_IO_URING
#else
#define COMPAT_CAP_URING 0
#endif

/*
 * The second way of clearing set-id bits (the kernel tells which writes must clear them) needs a
 * library that passes on what the kernel tells: 3.18.3. With an older one ctxfs takes neither way,
 * and the kernel clears the bits itself, by a SETATTR before the write.
 */
#if defined(FUSE_CAP_HANDLE_KILLPRIV_V2) && COMPAT_RELEASE >= 31803
#define COMPAT_CAP_KILLPRIV       FUSE_CAP_HANDLE_KILLPRIV_V2
#define COMPAT_KILL_SUIDGID(info) ((info)->kill_suidgid != 0)
#else
#define COMPAT_CAP_KILLPRIV       0
#define COMPAT_KILL_SUIDGID(info) false
#endif

/* O_TMPFILE reaches the file system from 3.17 on; before, open(2) gets EOPNOTSUPP. */
#if COMPAT_RELEASE >= 31700
#define COMPAT_HAS_TMPFILE 1
#else
#define COMPAT_HAS_TMPFILE 0
#endif

/* Asks for a capability if the kernel has it. Returns whether it will be used. */
static inline bool compat_want(struct fuse_conn_info *conn, uint64_t capability)
{
#if COMPAT_RELEASE >= 31703
	return capability != 0 && fuse_set_feature_flag(conn, capability);
#else
	if (capability == 0 || (conn->capable & capability) != capability)
		return false;
	conn->want |= (unsigned)capability;
	return true;
#endif
}

/* Turns off a capability, which libfuse may have asked for by itself. */
static inline void compat_refuse(struct fuse_conn_info *conn, uint64_t capability)
{
#if COMPAT_RELEASE >= 31703
	if (capability != 0)
		fuse_unset_feature_flag(conn, capability);
#else
	conn->want &= ~(unsigned)capability;
#endif
}

/*
 * Handlers never wait, so interrupting a request is only bookkeeping: do without, where possible.
 */
static inline void compat_no_interrupt(struct fuse_conn_info *conn)
{
#if COMPAT_RELEASE >= 31700
	conn->no_interrupt = 1;
#else
	(void)conn; /* this release always keeps its list of requests */
#endif
}

/* Makes the kernel ask again for this name before it uses it. */
static inline int compat_expire_entry(struct fuse_session *session, uint64_t directory,
				      const char *name, size_t length)
{
#if COMPAT_RELEASE >= 31500
	return fuse_lowlevel_notify_expire_entry(session, directory, name, length);
#else
	return fuse_lowlevel_notify_expire_entry(session, directory, name, length,
						 FUSE_LL_EXPIRE_ONLY);
#endif
}

#endif
