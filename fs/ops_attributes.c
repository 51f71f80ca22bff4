/*
 * ops_attributes.c: messages about attributes of nodes, and of the file system as a whole.
 *
 * Expiry here: a node that has expired answers ESTALE, and the VFS then looks the name up again
 * and finds nothing. That must not happen to an open descriptor, which works like that of an
 * unlinked file; nor to a node that has lost its last name, which can only be meant by a
 * descriptor.
 */
#include "fs/ops_call.h"

#include <errno.h>
#include <string.h>
#include <time.h>

enum {
	OPS_BLOCK = 4096,        /* the unit of statfs */
	OPS_KEY_BYTES_MIN = 256, /* what the smallest key takes: how many more there is room for */
};

void ops_getattr(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *file)
{
	struct ops_call c = ops_begin_node(request, REPORT_GETATTR, number);
	struct store_attr attr;
	struct stat st;
	int err;

	if (virtual_is(number)) {
		err = virtual_getattr(c.context->virtual, number, &st);
		if (err)
			ops_reply(&c, err);
		else
			ops_reply_attr_virtual(&c, &st);
		return;
	}
	err = store_getattr(c.store, number, STORE_BY_HANDLE, &attr);
	if (!err && attr.expired) {
		/* Asked by path, the kernel must look the name up again, and finds it absent; asked
		 * through a descriptor, it is a file without names, as it soon will be. */
		if (attr.nlink > 0 && !file)
			err = -ESTALE;
		attr.nlink = 0;
	}
	if (err)
		ops_reply(&c, err);
	else
		ops_reply_attr(&c, &attr);
}

/* The store's words for the bits of libfuse. */
static unsigned what_to_set(int what)
{
	static const struct {
		int from;
		unsigned to;
	} bits[] = {
		{ FUSE_SET_ATTR_MODE, STORE_SET_MODE },
		{ FUSE_SET_ATTR_UID, STORE_SET_UID },
		{ FUSE_SET_ATTR_GID, STORE_SET_GID },
		{ FUSE_SET_ATTR_SIZE, STORE_SET_SIZE },
		{ FUSE_SET_ATTR_ATIME, STORE_SET_ATIME },
		{ FUSE_SET_ATTR_MTIME, STORE_SET_MTIME },
		{ FUSE_SET_ATTR_CTIME, STORE_SET_CTIME },
		{ FUSE_SET_ATTR_ATIME_NOW, STORE_SET_ATIME_NOW },
		{ FUSE_SET_ATTR_MTIME_NOW, STORE_SET_MTIME_NOW },
	};
	unsigned mask = 0;

	for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++) {
		if (what & bits[i].from)
			mask |= bits[i].to;
	}
	/* "Now" comes with the plain bit set as well, and counts more. */
	if (mask & STORE_SET_ATIME_NOW)
		mask &= ~(unsigned)STORE_SET_ATIME;
	if (mask & STORE_SET_MTIME_NOW)
		mask &= ~(unsigned)STORE_SET_MTIME;
	return mask;
}

/*
 * A change of owner clears set-id bits whoever makes it; a truncation where the kernel says so.
 * Where it does not say (older libfuse) it sends the new mode by itself. A message that sets
 * nothing comes of chown(2) with -1 and -1, and ahead of a write that is to clear the bits.
 */
static unsigned setattr_flags(int what, unsigned mask, const struct fuse_file_info *file)
{
	int clears = FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID | FUSE_SET_ATTR_KILL_SUID |
		     FUSE_SET_ATTR_KILL_SGID;
	unsigned flags = 0;

	if ((what & clears) || mask == 0)
		flags |= STORE_KILL_SETID;
	if (file)
		flags |= STORE_BY_HANDLE;
	return flags;
}

/*
 * The kernel keeps some of what it knows to itself. O_TRUNC, which changes the times of an empty
 * file as well and is an overwrite of it, looks like truncate(2) to 0, which does neither there;
 * overwrites are what people do. And a message that sets nothing still stands for a change.
 */
static void complete(struct store_setattr *set)
{
	if ((set->mask & STORE_SET_SIZE) && set->size == 0 && !(set->mask & STORE_SET_MTIME))
		set->mask |= STORE_SET_MTIME_NOW;
	if (set->mask == 0 && clock_gettime(CLOCK_REALTIME, &set->ctime) == 0)
		set->mask = STORE_SET_CTIME;
}

static void setattr_virtual(struct ops_call *c, uint64_t number, int what)
{
	int allowed = FUSE_SET_ATTR_SIZE | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW |
		      FUSE_SET_ATTR_CTIME | FUSE_SET_ATTR_KILL_SUID | FUSE_SET_ATTR_KILL_SGID;
	struct stat st;
	int err = -EPERM;

	if ((what & FUSE_SET_ATTR_SIZE) && !(what & ~allowed))
		err = virtual_truncate(c->context->virtual, number);
	if (!err)
		err = virtual_getattr(c->context->virtual, number, &st);
	if (err)
		ops_reply(c, err);
	else
		ops_reply_attr_virtual(c, &st);
}

void ops_setattr(fuse_req_t request, fuse_ino_t number, struct stat *st, int what,
		 struct fuse_file_info *file)
{
	struct ops_call c = ops_begin_node(request, REPORT_SETATTR, number);
	struct store_setattr set = {
		.mask = what_to_set(what),
		.mode = st->st_mode & 07777,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.size = (uint64_t)st->st_size,
		.atime = st->st_atim,
		.mtime = st->st_mtim,
		.ctime = st->st_ctim,
	};
	unsigned flags = setattr_flags(what, set.mask, file);
	struct store_attr attr;
	int err;

	if (virtual_is(number)) {
		setattr_virtual(&c, number, what);
		return;
	}
	complete(&set);
	if ((set.mask & STORE_SET_SIZE) && st->st_size < 0)
		err = -EINVAL;
	else
		err = store_setattr(c.store, number, &set, flags, &attr);
	if (err)
		ops_reply(&c, err);
	else
		ops_reply_attr(&c, &attr);
}

/*
 * Asked only where the kernel does not check permissions itself, that is, where root is the only
 * one who can come in. ENOSYS: yes, always, and do not ask again.
 */
void ops_access(fuse_req_t request, fuse_ino_t number, int mask)
{
	struct ops_call c = ops_begin_node(request, REPORT_ACCESS, number);
	struct store_attr attr;
	struct stat st;
	mode_t mode;
	int err;

	/* Asked only where the kernel does not check by itself, which is for root alone; and root
	 * may do anything but execute what nobody may. */
	if (virtual_is(number)) {
		err = virtual_getattr(c.context->virtual, number, &st);
		mode = err ? 0 : st.st_mode;
	} else {
		err = store_getattr(c.store, number, 0, &attr);
		mode = err ? 0 : attr.mode;
	}
	if (!err && (mask & X_OK) && !S_ISDIR(mode) && !(mode & 0111))
		err = -EACCES;
	ops_reply(&c, err);
}

void ops_statfs(fuse_req_t request, fuse_ino_t number)
{
	struct ops_call c = ops_begin_node(request, REPORT_STATFS, number);
	struct statvfs figures;
	struct store_stats stats;
	uint64_t total, left;

	store_stats(c.store, &stats);
	total = stats.bytes_limit ? stats.bytes_limit : c.context->memory_bytes;
	left = total > stats.bytes_used ? total - stats.bytes_used : 0;
	memset(&figures, 0, sizeof(figures));
	figures.f_bsize = OPS_BLOCK;
	figures.f_frsize = OPS_BLOCK;
	figures.f_blocks = total / OPS_BLOCK;
	figures.f_bfree = figures.f_bavail = left / OPS_BLOCK;
	figures.f_ffree = figures.f_favail = left / OPS_KEY_BYTES_MIN;
	figures.f_files = stats.objects + figures.f_ffree;
	figures.f_namemax = STORE_NAME_MAX;
	ops_reply_statfs(&c, &figures);
}
