/*
 * ops.c: the table of handlers, what is agreed with the kernel at the start, and the replies.
 *
 * The handlers lie in ops_names.c (names), ops_list.c (listings), ops_attributes.c, ops_data.c and
 * ops_xattrs.c. None keeps state between messages, and none waits for anything but a mutex of the
 * store: so two threads serve a mount, and a reply always comes from the handler's own thread.
 *
 * Invariants: 1. Every message is answered exactly once (FORGET by nothing). 2. For every entry
 * that the kernel has been given, the store counts one hold; where the reply was not delivered, it
 * does not. 3. No name or content of a virtual node ever reaches the store.
 */
#include "fs/ops_call.h"

#include <errno.h>
#include <unistd.h>

enum {
	OPS_WRITE_MAX = 1 << 20, /* bytes of one READ or WRITE */
	OPS_BACKGROUND_MIN = 64, /* requests in the background: read-ahead, for the most part */
	OPS_BACKGROUND_PER_CORE = 16,
};

static_assert((uint64_t)OPS_WRITE_MAX <= STORE_IO_MAX, "a message is one call of the store");
static_assert(FUSE_ROOT_ID == STORE_ROOT, "node ids are object numbers");

/* ---- what is agreed at the start ---- */

/*
 * Everything that may change changes through this mount, so the kernel keeps its pages until told
 * otherwise. O_TRUNC has to come as a SETATTR, because there will be no OPEN. Splicing costs more
 * than it saves at our sizes. Locks stay the kernel's: it is the only client.
 */
static void init(void *context, struct fuse_conn_info *conn)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned background = cores > 0 ? (unsigned)cores * OPS_BACKGROUND_PER_CORE : 0;

	(void)context; /* nothing of it depends on the kernel */
	(void)compat_want(conn,
			  FUSE_CAP_EXPLICIT_INVAL_DATA); /* wishes: without them it is slower */
	(void)compat_want(conn, FUSE_CAP_PARALLEL_DIROPS);
	(void)compat_want(conn, FUSE_CAP_CACHE_SYMLINKS);
	(void)compat_want(conn, FUSE_CAP_READDIRPLUS);
	(void)compat_want(conn, FUSE_CAP_ASYNC_READ);
	(void)compat_want(conn, COMPAT_CAP_NO_EXPORT);
	(void)compat_want(conn, COMPAT_CAP_KILLPRIV);
	compat_refuse(conn, FUSE_CAP_AUTO_INVAL_DATA);
	compat_refuse(conn, FUSE_CAP_ATOMIC_O_TRUNC);
	compat_refuse(conn, FUSE_CAP_READDIRPLUS_AUTO);
	compat_refuse(conn, FUSE_CAP_WRITEBACK_CACHE);
	compat_refuse(conn, FUSE_CAP_SPLICE_READ);
	compat_refuse(conn, FUSE_CAP_SPLICE_WRITE);
	compat_refuse(conn, FUSE_CAP_SPLICE_MOVE);
	compat_refuse(conn, FUSE_CAP_POSIX_ACL);
	compat_refuse(conn, FUSE_CAP_POSIX_LOCKS);
	compat_refuse(conn, FUSE_CAP_FLOCK_LOCKS);
	/* The first way of clearing set-id bits does not say which writes are to clear them. */
	compat_refuse(conn, FUSE_CAP_HANDLE_KILLPRIV);
	compat_refuse(conn, COMPAT_CAP_URING);
	compat_no_interrupt(conn);
	if (conn->max_write > OPS_WRITE_MAX)
		conn->max_write = OPS_WRITE_MAX;
	conn->max_background = background > OPS_BACKGROUND_MIN ? background : OPS_BACKGROUND_MIN;
	conn->congestion_threshold = conn->max_background / 4 * 3;
	conn->time_gran = 1;
}

const struct fuse_lowlevel_ops ops_table = {
	.init = init,
	.lookup = ops_lookup,
	.forget = ops_forget,
	.forget_multi = ops_forget_multi,
	.getattr = ops_getattr,
	.setattr = ops_setattr,
	.readlink = ops_readlink,
	.mknod = ops_mknod,
	.mkdir = ops_mkdir,
	.unlink = ops_unlink,
	.rmdir = ops_rmdir,
	.symlink = ops_symlink,
	.rename = ops_rename,
	.link = ops_link,
	.open = ops_open,
	.read = ops_read,
	.write = ops_write,
	.flush = ops_flush,
	.release = ops_release,
	.fsync = ops_fsync,
	.opendir = ops_opendir,
	.readdir = ops_readdir,
	.readdirplus = ops_readdirplus,
	.releasedir = ops_releasedir,
	.fsyncdir = ops_fsyncdir,
	.statfs = ops_statfs,
	.setxattr = ops_setxattr,
	.getxattr = ops_getxattr,
	.listxattr = ops_listxattr,
	.removexattr = ops_removexattr,
	.access = ops_access,
	.create = ops_create,
	.ioctl = ops_ioctl,
	.fallocate = ops_fallocate,
	.copy_file_range = ops_copy_file_range,
	.lseek = ops_lseek,
#if COMPAT_HAS_TMPFILE
	.tmpfile = ops_tmpfile,
#endif
};

/* ---- calls ---- */

struct ops_call ops_begin(fuse_req_t request, enum report_op op)
{
	const struct ops_context *context = fuse_req_userdata(request);

	return (struct ops_call){
		.request = request,
		.context = context,
		.store = context->store,
		.started_ns = report_clock(),
		.op = op,
		.recorded = true,
	};
}

struct ops_call ops_begin_node(fuse_req_t request, enum report_op op, uint64_t number)
{
	struct ops_call c = ops_begin(request, op);

	c.recorded = !virtual_is(number);
	return c;
}

unsigned ops_kill_setid(fuse_req_t request)
{
	return fuse_req_ctx(request)->uid == 0 ? 0 : STORE_KILL_SETID;
}

static void record(const struct ops_call *c, int error)
{
	if (c->recorded)
		report_record(c->context->report, c->op, c->started_ns, error);
}

/* ---- replies: a failed delivery matters only where something was given away ---- */

void ops_reply(struct ops_call *c, int result)
{
	assert(result <= 0);
	record(c, -result);
	(void)fuse_reply_err(c->request, -result);
}

void ops_reply_none(struct ops_call *c)
{
	record(c, 0);
	fuse_reply_none(c->request);
}

void ops_reply_entry(struct ops_call *c, const struct store_attr *attr)
{
	struct fuse_entry_param entry;

	node_entry(attr, &entry);
	record(c, 0);
	if (fuse_reply_entry(c->request, &entry))
		store_forget(c->store, attr->number, 1);
}

void ops_reply_created(struct ops_call *c, const struct store_attr *attr,
		       const struct fuse_file_info *file)
{
	struct fuse_entry_param entry;

	node_entry(attr, &entry);
	record(c, 0);
	if (fuse_reply_create(c->request, &entry, file))
		store_forget(c->store, attr->number, 1);
}

void ops_reply_entry_virtual(struct ops_call *c, uint64_t number, const struct stat *st)
{
	struct fuse_entry_param entry;

	node_entry_virtual(number, st, &entry);
	record(c, 0);
	if (fuse_reply_entry(c->request, &entry))
		virtual_forget(c->context->virtual, number, 1);
}

/*
 * An answer without a node: the kernel keeps it, other than an error. Counted as the error it is.
 */
void ops_reply_absent(struct ops_call *c)
{
	struct fuse_entry_param entry;

	node_entry_absent(&entry);
	record(c, ENOENT);
	(void)fuse_reply_entry(c->request, &entry);
}

void ops_reply_attr(struct ops_call *c, const struct store_attr *attr)
{
	struct stat st;

	node_stat(attr, &st);
	record(c, 0);
	(void)fuse_reply_attr(c->request, &st, node_attr_timeout(attr));
}

void ops_reply_attr_virtual(struct ops_call *c, const struct stat *st)
{
	record(c, 0);
	(void)fuse_reply_attr(c->request, st, 0);
}

bool ops_reply_bytes(struct ops_call *c, const void *bytes, size_t size)
{
	record(c, 0);
	return fuse_reply_buf(c->request, bytes, size) == 0;
}

void ops_reply_view(struct ops_call *c, const struct store_view *view)
{
	record(c, 0);
	if (view->count == 0)
		(void)fuse_reply_buf(c->request, NULL, 0);
	else if (view->count == 1)
		(void)fuse_reply_buf(c->request, view->iov[0].iov_base, view->iov[0].iov_len);
	else
		(void)fuse_reply_iov(c->request, view->iov, (int)view->count);
}

void ops_reply_count(struct ops_call *c, size_t count)
{
	record(c, 0);
	(void)fuse_reply_write(c->request, count);
}

void ops_reply_offset(struct ops_call *c, int64_t offset)
{
	record(c, 0);
	(void)fuse_reply_lseek(c->request, offset);
}

void ops_reply_target(struct ops_call *c, const char *target)
{
	record(c, 0);
	(void)fuse_reply_readlink(c->request, target);
}

void ops_reply_opened(struct ops_call *c, const struct fuse_file_info *file)
{
	record(c, 0);
	(void)fuse_reply_open(c->request, file);
}

void ops_reply_statfs(struct ops_call *c, const struct statvfs *figures)
{
	record(c, 0);
	(void)fuse_reply_statfs(c->request, figures);
}

void ops_reply_xattr(struct ops_call *c, const void *bytes, size_t length, size_t size)
{
	if (size != 0 && length > size) {
		ops_reply(c, -ERANGE);
		return;
	}
	record(c, 0);
	if (size == 0)
		(void)fuse_reply_xattr(c->request, length);
	else
		(void)fuse_reply_buf(c->request, bytes, length);
}
