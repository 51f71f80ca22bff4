/*
 * ops_xattrs.c: extended attributes, three of which are the TTL (see fs/ttl.h).
 *
 * user.*, trusted.* and security.* are stored as they come; who may set which is the VFS's business.
 * system.* (ACLs) is not supported. Virtual nodes have none.
 *
 * Setting a TTL changes for how long the kernel may believe what it knows of the key. Room for
 * telling it is booked first: if there is none, the TTL is not set.
 */
#include "fs/notifier.h"
#include "fs/ops_call.h"
#include "fs/ttl.h"

#include <errno.h>
#include <linux/limits.h>
#include <string.h>
#include <sys/xattr.h>

/* What listxattr(2) shows of a TTL: one form of the three, or copies would set it three times. */
static const char ttl_listed[] = "user.ttl";

static bool has_prefix(const char *name, const char *prefix)
{
	return strncmp(name, prefix, strlen(prefix)) == 0;
}

/* Whether this attribute can exist. */
static bool supported(const char *name)
{
	return has_prefix(name, "user.") || has_prefix(name, "trusted.") ||
	       has_prefix(name, "security.");
}

static int set_ttl(struct ops_call *c, uint64_t number, const char *name, const char *value,
		   size_t size, unsigned flags)
{
	int err = notifier_reserve(c->context->notifier);

	if (err)
		return err;
	err = ttl_set(c->store, number, name, value, size, flags);
	if (err)
		notifier_cancel(c->context->notifier);
	else
		notifier_recheck(c->context->notifier, number);
	return err;
}

static int set(struct ops_call *c, uint64_t number, const char *name, const char *value,
	       size_t size, int flags)
{
	unsigned how = 0;

	if (virtual_is(number))
		return -EPERM;
	if (!supported(name))
		return -EOPNOTSUPP;
	if (flags & XATTR_CREATE)
		how |= STORE_CREATE;
	if (flags & XATTR_REPLACE)
		how |= STORE_REPLACE;
	if (ttl_xattr(name))
		return set_ttl(c, number, name, value, size, how);
	return store_setxattr(c->store, number, name, value, size, how);
}

void ops_setxattr(fuse_req_t request, fuse_ino_t number, const char *name, const char *value,
		  size_t size, int flags)
{
	struct ops_call c = ops_begin_node(request, REPORT_SETXATTR, number);

	ops_reply(&c, set(&c, number, name, value, size, flags));
}

void ops_getxattr(fuse_req_t request, fuse_ino_t number, const char *name, size_t size)
{
	struct ops_call c = ops_begin_node(request, REPORT_GETXATTR, number);
	char value[STORE_XATTR_SIZE_MAX]; /* only what is used is touched */
	size_t room = size < sizeof(value) ? size : sizeof(value);
	ssize_t length;

	if (!supported(name))
		length = -EOPNOTSUPP;
	else if (virtual_is(number))
		length = -ENODATA;
	else if (ttl_xattr(name))
		length = ttl_get(c.store, number, name, value, room);
	else
		length = store_getxattr(c.store, number, name, value, room);
	if (length < 0)
		ops_reply(&c, (int)length);
	else
		ops_reply_xattr(&c, value, (size_t)length, size);
}

/* Names that are stored, and that of the TTL behind them. list may be NULL with room 0. */
static ssize_t list_names(struct ops_call *c, uint64_t number, char *list, size_t room)
{
	struct store_ttl ttl;
	ssize_t length = store_listxattr(c->store, number, list, room);
	int err;

	if (length < 0)
		return length;
	err = store_get_ttl(c->store, number, &ttl);
	if (err == -ENODATA)
		return length;
	if (err)
		return err;
	if (room > 0) {
		if (room - (size_t)length < sizeof(ttl_listed))
			return -ERANGE;
		memcpy(list + length, ttl_listed, sizeof(ttl_listed));
	}
	return length + (ssize_t)sizeof(ttl_listed);
}

void ops_listxattr(fuse_req_t request, fuse_ino_t number, size_t size)
{
	struct ops_call c = ops_begin_node(request, REPORT_LISTXATTR, number);
	char names[XATTR_LIST_MAX]; /* only what is used is touched */
	size_t room = size < sizeof(names) ? size : sizeof(names);
	ssize_t length = 0;

	if (!virtual_is(number))
		length = list_names(&c, number, names, room);
	if (length < 0)
		ops_reply(&c, (int)length);
	else
		ops_reply_xattr(&c, names, (size_t)length, size);
}

void ops_removexattr(fuse_req_t request, fuse_ino_t number, const char *name)
{
	struct ops_call c = ops_begin_node(request, REPORT_REMOVEXATTR, number);
	int err;

	if (!supported(name))
		err = -EOPNOTSUPP;
	else if (virtual_is(number))
		err = -EPERM;
	else if (ttl_xattr(name))
		err = ttl_remove(c.store, number, name);
	else
		err = store_removexattr(c.store, number, name);
	ops_reply(&c, err);
}
