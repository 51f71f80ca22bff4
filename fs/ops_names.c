/*
 * ops_names.c: messages about names: finding, making, linking, renaming, removing; and forgetting,
 * which is how the kernel gives back what it found.
 *
 * Absent names are answered with an entry without a node, which the kernel keeps: they appear only
 * through it. Virtual names are answered afresh each time, and belong to nobody: who wants to make
 * or remove one gets EPERM.
 */
#include "fs/ops_call.h"

#include <errno.h>
#include <linux/fs.h>
#include <string.h>

static bool reserved(uint64_t parent, const char *name)
{
	return virtual_is(parent) || virtual_name(parent, name);
}

/* ---- finding ---- */

static void lookup_virtual(struct ops_call *c, uint64_t parent, const char *name)
{
	struct stat st;
	uint64_t number;
	int err;

	c->recorded = false;
	err = virtual_lookup(c->context->virtual, parent, name, fuse_req_ctx(c->request)->uid,
			     &number, &st);
	if (err)
		ops_reply(c, err);
	else
		ops_reply_entry_virtual(c, number, &st);
}

void ops_lookup(fuse_req_t request, fuse_ino_t parent, const char *name)
{
	struct ops_call c = ops_begin(request, REPORT_LOOKUP);
	struct store_attr attr;
	int err;

	if (reserved(parent, name)) {
		lookup_virtual(&c, parent, name);
		return;
	}
	err = store_lookup(c.store, parent, name, strlen(name), STORE_HOLD, &attr);
	if (err == -ENOENT)
		ops_reply_absent(&c);
	else if (err)
		ops_reply(&c, err);
	else
		ops_reply_entry(&c, &attr);
}

static void forget(struct ops_call *c, uint64_t number, uint64_t count)
{
	if (virtual_is(number))
		virtual_forget(c->context->virtual, number, count);
	else
		store_forget(c->store, number, count);
}

void ops_forget(fuse_req_t request, fuse_ino_t number, uint64_t count)
{
	struct ops_call c = ops_begin_node(request, REPORT_FORGET, number);

	forget(&c, number, count);
	ops_reply_none(&c);
}

void ops_forget_multi(fuse_req_t request, size_t count, struct fuse_forget_data *forgets)
{
	struct ops_call c = ops_begin(request, REPORT_FORGET);

	c.recorded = false;
	for (size_t i = 0; i < count; i++) {
		c.recorded |= !virtual_is(forgets[i].ino);
		forget(&c, forgets[i].ino, forgets[i].nlookup);
	}
	ops_reply_none(&c);
}

void ops_readlink(fuse_req_t request, fuse_ino_t number)
{
	struct ops_call c = ops_begin_node(request, REPORT_READLINK, number);
	char target[STORE_SYMLINK_MAX + 1];
	ssize_t length = -EINVAL;

	if (!virtual_is(number))
		length = store_readlink(c.store, number, target, STORE_SYMLINK_MAX);
	if (length < 0) {
		ops_reply(&c, (int)length);
		return;
	}
	assert(length <= STORE_SYMLINK_MAX);
	target[length] = '\0';
	ops_reply_target(&c, target);
}

/* ---- making ---- */

static struct store_birth birth(fuse_req_t request, mode_t mode)
{
	const struct fuse_ctx *caller = fuse_req_ctx(request);

	return (struct store_birth){ .mode = mode, .uid = caller->uid, .gid = caller->gid };
}

static int make(struct ops_call *c, uint64_t parent, const char *name,
		const struct store_birth *born, struct store_attr *attr)
{
	if (reserved(parent, name))
		return -EPERM;
	return store_create(c->store, parent, name, strlen(name), born, STORE_HOLD, attr);
}

static void make_entry(struct ops_call *c, uint64_t parent, const char *name,
		       const struct store_birth *born)
{
	struct store_attr attr;
	int err = make(c, parent, name, born, &attr);

	if (err)
		ops_reply(c, err);
	else
		ops_reply_entry(c, &attr);
}

void ops_mknod(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct ops_call c = ops_begin_node(request, REPORT_MKNOD, parent);
	struct store_birth born = birth(request, mode);

	born.rdev = (uint32_t)rdev; /* the kernel's own 32 bits came this way */
	make_entry(&c, parent, name, &born);
}

void ops_mkdir(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct ops_call c = ops_begin_node(request, REPORT_MKDIR, parent);
	struct store_birth born = birth(request, S_IFDIR | (mode & 07777));

	make_entry(&c, parent, name, &born);
}

void ops_symlink(fuse_req_t request, const char *target, fuse_ino_t parent, const char *name)
{
	struct ops_call c = ops_begin_node(request, REPORT_SYMLINK, parent);
	struct store_birth born = birth(request, S_IFLNK | 0777);

	born.target = target;
	born.target_length = strlen(target);
	if (born.target_length > STORE_SYMLINK_MAX)
		ops_reply(&c, -ENAMETOOLONG);
	else
		make_entry(&c, parent, name, &born);
}

void ops_create(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode,
		struct fuse_file_info *file)
{
	struct ops_call c = ops_begin_node(request, REPORT_CREATE, parent);
	struct store_birth born = birth(request, S_IFREG | (mode & 07777));
	struct store_attr attr;
	int err = make(&c, parent, name, &born, &attr);

	file->keep_cache = 1; /* as it is for every file that is opened without a message */
	if (err)
		ops_reply(&c, err);
	else
		ops_reply_created(&c, &attr, file);
}

void ops_tmpfile(fuse_req_t request, fuse_ino_t parent, mode_t mode, struct fuse_file_info *file)
{
	struct ops_call c = ops_begin_node(request, REPORT_TMPFILE, parent);
	struct store_birth born = birth(request, S_IFREG | (mode & 07777));
	struct store_attr attr;
	int err = -EPERM;

	if (!virtual_is(parent))
		err = store_tmpfile(c.store, parent, &born, &attr);
	file->keep_cache = 1;
	if (err)
		ops_reply(&c, err);
	else
		ops_reply_created(&c, &attr, file);
}

void ops_link(fuse_req_t request, fuse_ino_t number, fuse_ino_t parent, const char *name)
{
	struct ops_call c = ops_begin_node(request, REPORT_LINK, number);
	struct store_attr attr;
	int err = -EPERM;

	if (!virtual_is(number) && !reserved(parent, name))
		err = store_link(c.store, number, parent, name, strlen(name), STORE_HOLD, &attr);
	if (err)
		ops_reply(&c, err);
	else
		ops_reply_entry(&c, &attr);
}

/* ---- removing and renaming ---- */

void ops_unlink(fuse_req_t request, fuse_ino_t parent, const char *name)
{
	struct ops_call c = ops_begin_node(request, REPORT_UNLINK, parent);
	int err = -EPERM;

	if (!reserved(parent, name))
		err = store_unlink(c.store, parent, name, strlen(name), NULL);
	ops_reply(&c, err);
}

void ops_rmdir(fuse_req_t request, fuse_ino_t parent, const char *name)
{
	struct ops_call c = ops_begin_node(request, REPORT_RMDIR, parent);
	int err = -EPERM;

	if (!reserved(parent, name))
		err = store_rmdir(c.store, parent, name, strlen(name), NULL);
	ops_reply(&c, err);
}

void ops_rename(fuse_req_t request, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
		const char *new_name, unsigned flags)
{
	struct ops_call c = ops_begin_node(request, REPORT_RENAME, parent);
	unsigned how = 0;
	int err;

	if (flags & RENAME_NOREPLACE)
		how |= STORE_NOREPLACE;
	if (flags & RENAME_EXCHANGE)
		how |= STORE_EXCHANGE;
	/* No whiteouts, and not both at once. */
	if ((flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE)) != 0 ||
	    how == (STORE_NOREPLACE | STORE_EXCHANGE))
		err = -EINVAL;
	else if (reserved(parent, name) || reserved(new_parent, new_name))
		err = -EPERM;
	else
		err = store_rename(c.store, parent, name, strlen(name), new_parent, new_name,
				   strlen(new_name), how);
	ops_reply(&c, err);
}
