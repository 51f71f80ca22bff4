/*
 * ops_xattrs.c: extended attributes, three of which are the TTL (see fs/ttl.h).
 *
 * user.*, trusted.* and security.* are stored as they come; who may set which is the VFS's
 * business. system.* (ACLs) is not supported. Virtual nodes have none.
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

/* Whether this attribute can exist: 0, -EOPNOTSUPP, or -EINVAL for a prefix with nothing behind. */
static int check_name(const char *name)
{
	static const char *const prefixes[] = { "user.", "trusted.", "security." };

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
		if (has_prefix(name, prefixes[i]))
			return name[strlen(prefixes[i])] ? 0 : -EINVAL;
	}
	return -EOPNOTSUPP;
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
	int err = check_name(name);

	if (virtual_is(number))
		return -EPERM;
	if (err)
		return err;
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

static ssize_t get(struct ops_call *c, uint64_t number, const char *name, char *value, size_t room)
{
	int err = check_name(name);

	if (err)
		return err;
	if (virtual_is(number))
		return -ENODATA;
	if (ttl_xattr(name))
		return ttl_get(c->store, number, name, value, room);
	return store_getxattr(c->store, number, name, value, room);
}

void ops_getxattr(fuse_req_t request, fuse_ino_t number, const char *name, size_t size)
{
	struct ops_call c = ops_begin_node(request, REPORT_GETXATTR, number);
	char value[STORE_XATTR_SIZE_MAX]; /* only what is used is touched */
	size_t room = size < sizeof(value) ? size : sizeof(value);
	ssize_t length = get(&c, number, name, value, room);

	if (length < 0)
		ops_reply(&c, (int)length);
	else
		ops_reply_xattr(&c, value, (size_t)length, size);
}

/* Takes the names out that only root is to see. Returns what is left. */
static size_t hide_trusted(char *names, size_t length)
{
	size_t kept = 0, size;

	for (size_t at = 0; at < length; at += size) {
		size = strlen(names + at) + 1;
		if (has_prefix(names + at, "trusted."))
			continue;
		memmove(names + kept, names + at, size);
		kept += size;
	}
	return kept;
}

/* All names, that of the TTL behind those that are stored. Returns their length. */
static ssize_t list_names(struct ops_call *c, uint64_t number, char names[XATTR_LIST_MAX])
{
	struct store_ttl ttl;
	ssize_t result = store_listxattr(c->store, number, names, XATTR_LIST_MAX);
	size_t length;
	int err;

	if (result < 0)
		return result == -ERANGE ? -E2BIG : result; /* more than the system call can say */
	length = (size_t)result;
	if (fuse_req_ctx(c->request)->uid != 0)
		length = hide_trusted(names, length);
	err = store_get_ttl(c->store, number, &ttl);
	if (err)
		return err == -ENODATA ? (ssize_t)length : err;
	if (XATTR_LIST_MAX - length < sizeof(ttl_listed))
		return -E2BIG;
	memcpy(names + length, ttl_listed, sizeof(ttl_listed));
	return (ssize_t)(length + sizeof(ttl_listed));
}

void ops_listxattr(fuse_req_t request, fuse_ino_t number, size_t size)
{
	struct ops_call c = ops_begin_node(request, REPORT_LISTXATTR, number);
	char names[XATTR_LIST_MAX]; /* only what is used is touched */
	ssize_t length = 0;

	if (!virtual_is(number))
		length = list_names(&c, number, names);
	if (length < 0)
		ops_reply(&c, (int)length);
	else
		ops_reply_xattr(&c, names, (size_t)length, size);
}

static int drop(struct ops_call *c, uint64_t number, const char *name)
{
	int err = check_name(name);

	if (err)
		return err;
	if (virtual_is(number))
		return -EPERM;
	if (ttl_xattr(name))
		return ttl_remove(c->store, number, name);
	return store_removexattr(c->store, number, name);
}

void ops_removexattr(fuse_req_t request, fuse_ino_t number, const char *name)
{
	struct ops_call c = ops_begin_node(request, REPORT_REMOVEXATTR, number);

	ops_reply(&c, drop(&c, number, name));
}
