/*
 * ops_data.c: messages about the content of files.
 *
 * Opening costs nothing: OPEN and FLUSH are answered ENOSYS once, after which the kernel opens and
 * closes files without asking, keeping their pages. So there is no RELEASE to wait for either (it
 * comes only for files that were created before the first OPEN), and no per-open state.
 *
 * WRITE carries the offset that the kernel chose, for O_APPEND too. It alone is right: the kernel
 * has put the same bytes at the same offset of its own pages.
 */
#include "fs/ops_call.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

/* More than this is copied by several messages; sharing an extent takes under a microsecond. */
#define OPS_COPY_MAX (UINT64_C(1) << 30)

void ops_open(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *file)
{
	struct ops_call c = ops_begin_node(request, REPORT_OPEN, number);

	(void)file; /* whatever the flags are: the kernel checks them */
	ops_reply(&c, -ENOSYS);
}

void ops_flush(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *file)
{
	struct ops_call c = ops_begin_node(request, REPORT_FLUSH, number);

	(void)file; /* it has no state */
	ops_reply(&c, -ENOSYS);
}

void ops_release(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *file)
{
	struct ops_call c = ops_begin_node(request, REPORT_RELEASE, number);

	(void)file; /* it has no state */
	ops_reply(&c, 0);
}

static void read_virtual(struct ops_call *c, uint64_t number, uint64_t offset, size_t size)
{
	const char *bytes;
	ssize_t count = virtual_read(c->context->virtual, number, offset, size, &bytes);

	if (count < 0)
		ops_reply(c, (int)count);
	else
		(void)ops_reply_bytes(c, bytes, (size_t)count); /* nothing was given away */
}

void ops_read(fuse_req_t request, fuse_ino_t number, size_t size, off_t offset,
	      struct fuse_file_info *file)
{
	struct ops_call c = ops_begin_node(request, REPORT_READ, number);
	struct store_view view;
	ssize_t count;

	(void)file; /* it has no state */
	if (offset < 0) {
		ops_reply(&c, -EINVAL);
		return;
	}
	if (virtual_is(number)) {
		read_virtual(&c, number, (uint64_t)offset, size);
		return;
	}
	/* A short answer would mean the end of the file; the kernel asks for 1 MiB at most. */
	if (size > STORE_IO_MAX)
		count = -EINVAL;
	else
		count = store_read(c.store, number, (uint64_t)offset, size, &view);
	if (count < 0) {
		ops_reply(&c, (int)count);
		return;
	}
	ops_reply_view(&c, &view);
	store_view_put(&view);
}

static ssize_t write_store(struct ops_call *c, uint64_t number, const char *bytes, size_t size,
			   off_t offset, const struct fuse_file_info *file)
{
	unsigned flags = COMPAT_KILL_SUIDGID(file) ? STORE_KILL_SETID : 0;
	ssize_t count;
	int err;

	if (offset < 0 || size > STORE_IO_MAX)
		return -EINVAL;
	count = store_write(c->store, number, (uint64_t)offset, bytes, size, flags);
	if (count >= 0 && (file->flags & (O_SYNC | O_DSYNC)) != 0) {
		err = store_sync(c->store, number);
		if (err)
			return err;
	}
	return count;
}

void ops_write(fuse_req_t request, fuse_ino_t number, const char *bytes, size_t size, off_t offset,
	       struct fuse_file_info *file)
{
	struct ops_call c = ops_begin_node(request, REPORT_WRITE, number);
	ssize_t count;

	if (virtual_is(number))
		count = virtual_write(c.context->virtual, number, fuse_req_ctx(request)->uid, bytes,
				      size);
	else
		count = write_store(&c, number, bytes, size, offset, file);
	if (count < 0)
		ops_reply(&c, (int)count);
	else
		ops_reply_count(&c, (size_t)count);
}

void ops_fsync(fuse_req_t request, fuse_ino_t number, int data_only, struct fuse_file_info *file)
{
	struct ops_call c = ops_begin_node(request, REPORT_FSYNC, number);

	(void)data_only; /* attributes are logged together with data */
	(void)file;      /* it has no state */
	ops_reply(&c, virtual_is(number) ? 0 : store_sync(c.store, number));
}

/* The modes that tmpfs knows. Others get EOPNOTSUPP, and programs do without. */
static int fallocate_store(struct ops_call *c, uint64_t number, int mode, uint64_t offset,
			   uint64_t length)
{
	unsigned flags = ops_kill_setid(c->request);

	if (mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE))
		return store_punch(c->store, number, offset, length, flags);
	if ((mode & ~FALLOC_FL_KEEP_SIZE) != 0)
		return -EOPNOTSUPP;
	if (mode & FALLOC_FL_KEEP_SIZE)
		flags |= STORE_KEEP_SIZE;
	return store_fallocate(c->store, number, offset, length, flags);
}

void ops_fallocate(fuse_req_t request, fuse_ino_t number, int mode, off_t offset, off_t length,
		   struct fuse_file_info *file)
{
	struct ops_call c = ops_begin_node(request, REPORT_FALLOCATE, number);
	int err;

	(void)file; /* it has no state */
	if (virtual_is(number))
		err = -EPERM;
	else if (offset < 0 || length <= 0)
		err = -EINVAL;
	else
		err = fallocate_store(&c, number, mode, (uint64_t)offset, (uint64_t)length);
	ops_reply(&c, err);
}

/* A virtual file is all data, and then a hole without end, like any file. */
static int64_t seek_virtual(struct ops_call *c, uint64_t number, off_t offset, bool hole)
{
	struct stat st;
	int err = virtual_getattr(c->context->virtual, number, &st);

	if (err)
		return err;
	if (offset >= st.st_size)
		return -ENXIO;
	return hole ? st.st_size : offset;
}

/* The kernel does the other ways of seeking itself. */
void ops_lseek(fuse_req_t request, fuse_ino_t number, off_t offset, int whence,
	       struct fuse_file_info *file)
{
	struct ops_call c = ops_begin_node(request, REPORT_LSEEK, number);
	bool hole = whence == SEEK_HOLE;
	int64_t found;

	(void)file; /* it has no state */
	if (whence != SEEK_HOLE && whence != SEEK_DATA)
		found = -EINVAL;
	else if (offset < 0)
		found = -ENXIO;
	else if (virtual_is(number))
		found = seek_virtual(&c, number, offset, hole);
	else
		found = store_seek(c.store, number, (uint64_t)offset, hole);
	if (found < 0)
		ops_reply(&c, (int)found);
	else
		ops_reply_offset(&c, found);
}

void ops_copy_file_range(fuse_req_t request, fuse_ino_t from, off_t from_offset,
			 struct fuse_file_info *from_file, fuse_ino_t to, off_t to_offset,
			 struct fuse_file_info *to_file, size_t length, int flags)
{
	struct ops_call c = ops_begin_node(request, REPORT_COPY_FILE_RANGE, to);
	ssize_t count;

	(void)from_file; /* they have no state */
	(void)to_file;
	/* The answer has 32 bits. */
	if (length > OPS_COPY_MAX)
		length = OPS_COPY_MAX;
	if (flags != 0 || from_offset < 0 || to_offset < 0)
		count = -EINVAL;
	else if (virtual_is(to))
		count = -EPERM;
	else if (virtual_is(from))
		count = -EXDEV; /* programs then copy by reading and writing */
	else
		count = store_copy(c.store, from, (uint64_t)from_offset, to, (uint64_t)to_offset,
				   length, ops_kill_setid(request));
	if (count < 0)
		ops_reply(&c, (int)count);
	else
		ops_reply_count(&c, (size_t)count);
}

void ops_ioctl(fuse_req_t request, fuse_ino_t number, unsigned command, void *argument,
	       struct fuse_file_info *file, unsigned flags, const void *in, size_t in_size,
	       size_t out_size)
{
	struct ops_call c = ops_begin_node(request, REPORT_IOCTL, number);

	(void)command; /* there are none */
	(void)argument;
	(void)file;
	(void)flags;
	(void)in;
	(void)in_size;
	(void)out_size;
	ops_reply(&c, -ENOTTY);
}
