/*
 * ops_call.h: one message in service, and the ways to answer it. Private to ops*.c.
 *
 * A handler begins a call, and ends it with exactly one of the replies. The reply is recorded
 * before it is sent: whoever reads the statistics after a file operation finds it counted there.
 * Messages about virtual nodes are not recorded, so that reading statistics does not change them.
 *
 * Ownership: the call is on the handler's stack. Replies copy what they are given.
 * Threads:   the thread that begins a call ends it.
 * Errors:    a reply that cannot be delivered means that whoever asked is gone. What it would have
 *            given away (holds, snapshots) is taken back here.
 */
#ifndef FS_OPS_CALL_H
#define FS_OPS_CALL_H

#include "fs/node.h"
#include "fs/notifier.h"
#include "fs/ops.h"
#include "fs/report.h"
#include "fs/virtual.h"

#include <assert.h>
#include <sys/statvfs.h>

struct ops_call {
	fuse_req_t request;
	const struct ops_context *context;
	struct store *store;
	int64_t started_ns;
	enum report_op op;
	bool recorded; /* whether it is to be */
};

struct ops_call ops_begin(fuse_req_t request, enum report_op op);

/* The same for a message about this node, which may be virtual. */
struct ops_call ops_begin_node(fuse_req_t request, enum report_op op, uint64_t number);

/* Success without content, or an error: 0 or -errno. */
void ops_reply(struct ops_call *c, int result);

/* No reply is expected to FORGET. */
void ops_reply_none(struct ops_call *c);

/* An entry that was held once for the kernel. */
void ops_reply_entry(struct ops_call *c, const struct store_attr *attr);
void ops_reply_created(struct ops_call *c, const struct store_attr *attr,
		       const struct fuse_file_info *file);
void ops_reply_entry_virtual(struct ops_call *c, uint64_t number, const struct stat *st);
void ops_reply_absent(struct ops_call *c);

void ops_reply_attr(struct ops_call *c, const struct store_attr *attr);
void ops_reply_attr_virtual(struct ops_call *c, const struct stat *st);

/* Returns whether it was delivered. */
bool ops_reply_bytes(struct ops_call *c, const void *bytes, size_t size);
void ops_reply_view(struct ops_call *c, const struct store_view *view);
void ops_reply_count(struct ops_call *c, size_t count);
void ops_reply_offset(struct ops_call *c, int64_t offset);
void ops_reply_target(struct ops_call *c, const char *target);
void ops_reply_opened(struct ops_call *c, const struct fuse_file_info *file);
void ops_reply_statfs(struct ops_call *c, const struct statvfs *figures);

/* The value of an attribute, or of a list of them: size 0 asked for the length only. */
void ops_reply_xattr(struct ops_call *c, const void *bytes, size_t length, size_t size);

/* Whether a caller's changes clear set-id bits, where the message does not say. */
unsigned ops_kill_setid(fuse_req_t request);

/* ---- handlers, by subject ---- */

void ops_lookup(fuse_req_t request, fuse_ino_t parent, const char *name);
void ops_forget(fuse_req_t request, fuse_ino_t number, uint64_t count);
void ops_forget_multi(fuse_req_t request, size_t count, struct fuse_forget_data *forgets);
void ops_mknod(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void ops_mkdir(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode);
void ops_symlink(fuse_req_t request, const char *target, fuse_ino_t parent, const char *name);
void ops_readlink(fuse_req_t request, fuse_ino_t number);
void ops_create(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode,
		struct fuse_file_info *file);
void ops_tmpfile(fuse_req_t request, fuse_ino_t parent, mode_t mode, struct fuse_file_info *file);
void ops_link(fuse_req_t request, fuse_ino_t number, fuse_ino_t parent, const char *name);
void ops_unlink(fuse_req_t request, fuse_ino_t parent, const char *name);
void ops_rmdir(fuse_req_t request, fuse_ino_t parent, const char *name);
void ops_rename(fuse_req_t request, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
		const char *new_name, unsigned flags);

void ops_opendir(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *file);
void ops_readdir(fuse_req_t request, fuse_ino_t number, size_t size, off_t after,
		 struct fuse_file_info *file);
void ops_readdirplus(fuse_req_t request, fuse_ino_t number, size_t size, off_t after,
		     struct fuse_file_info *file);
void ops_releasedir(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *file);

void ops_getattr(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *file);
void ops_setattr(fuse_req_t request, fuse_ino_t number, struct stat *st, int what,
		 struct fuse_file_info *file);
void ops_access(fuse_req_t request, fuse_ino_t number, int mask);
void ops_statfs(fuse_req_t request, fuse_ino_t number);

void ops_open(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *file);
void ops_read(fuse_req_t request, fuse_ino_t number, size_t size, off_t offset,
	      struct fuse_file_info *file);
void ops_write(fuse_req_t request, fuse_ino_t number, const char *bytes, size_t size, off_t offset,
	       struct fuse_file_info *file);
void ops_flush(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *file);
void ops_release(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *file);
void ops_fsync(fuse_req_t request, fuse_ino_t number, int data_only, struct fuse_file_info *file);
void ops_fsyncdir(fuse_req_t request, fuse_ino_t number, int data_only,
		  struct fuse_file_info *file);
void ops_fallocate(fuse_req_t request, fuse_ino_t number, int mode, off_t offset, off_t length,
		   struct fuse_file_info *file);
void ops_lseek(fuse_req_t request, fuse_ino_t number, off_t offset, int whence,
	       struct fuse_file_info *file);
void ops_copy_file_range(fuse_req_t request, fuse_ino_t from, off_t from_offset,
			 struct fuse_file_info *from_file, fuse_ino_t to, off_t to_offset,
			 struct fuse_file_info *to_file, size_t length, int flags);
void ops_ioctl(fuse_req_t request, fuse_ino_t number, unsigned command, void *argument,
	       struct fuse_file_info *file, unsigned flags, const void *in, size_t in_size,
	       size_t out_size);

void ops_setxattr(fuse_req_t request, fuse_ino_t number, const char *name, const char *value,
		  size_t size, int flags);
void ops_getxattr(fuse_req_t request, fuse_ino_t number, const char *name, size_t size);
void ops_listxattr(fuse_req_t request, fuse_ino_t number, size_t size);
void ops_removexattr(fuse_req_t request, fuse_ino_t number, const char *name);

#endif
