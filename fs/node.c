/*
 * node.c: the policy of the kernel's caches: a message not sent is the fastest one.
 *
 * Everything changes through this one mount, so the kernel sees every change of names and may keep
 * what it knows for ever, absent names included. The exceptions:
 *
 *   - A TTL. Names and attributes are kept until shortly before the key expires. The kernel counts
 *     in jiffies and is up to 7 ms late; so time is cut by NODE_MARGIN_NS. A key whose TTL is set
 *     when the kernel knows it already is the notifier's business.
 *   - Set-id bits. A WRITE clears them here, and does not make the kernel ask again; a mode that it
 *     keeps would stay effective for exec. So such attributes are never kept.
 *   - Virtual nodes: every LOOKUP may be a new snapshot.
 */
#include "fs/node.h"

#include <assert.h>
#include <string.h>

/* About thirty years; libfuse and the kernel turn seconds into jiffies without overflow. */
#define NODE_FOREVER_S 1e9

#define NODE_MARGIN_NS INT64_C(20000000)

enum {
	/* Programs read directories through buffers of this size, one message each. */
	NODE_BLOCK_DIRECTORY = 1 << 20,
	/* Programs that write through stdio send pieces of this size: one extent. */
	NODE_BLOCK_FILE = 1 << 16,
	NODE_BLOCK_OTHER = 4096,
	NODE_SECTOR = 512, /* the unit of st_blocks */
};

static double until_expiry(const struct store_attr *attr)
{
	if (attr->ttl_ns_left == INT64_MAX)
		return NODE_FOREVER_S;
	if (attr->expired || attr->ttl_ns_left <= NODE_MARGIN_NS)
		return 0;
	return (double)(attr->ttl_ns_left - NODE_MARGIN_NS) / 1e9;
}

static blksize_t block_size(uint32_t mode)
{
	if (S_ISDIR(mode))
		return NODE_BLOCK_DIRECTORY;
	return S_ISREG(mode) ? NODE_BLOCK_FILE : NODE_BLOCK_OTHER;
}

void node_stat(const struct store_attr *attr, struct stat *st)
{
	assert(attr->number != 0);
	assert(attr->size <= STORE_FILE_MAX);
	memset(st, 0, sizeof(*st));
	st->st_ino = attr->number;
	st->st_mode = attr->mode;
	st->st_nlink = attr->nlink;
	st->st_uid = attr->uid;
	st->st_gid = attr->gid;
	st->st_rdev = attr->rdev;
	st->st_size = (off_t)attr->size;
	st->st_blksize = block_size(attr->mode);
	st->st_blocks = (blkcnt_t)(attr->bytes / NODE_SECTOR + (attr->bytes % NODE_SECTOR != 0));
	st->st_atim = attr->atime;
	st->st_mtim = attr->mtime;
	st->st_ctim = attr->ctime;
}

double node_attr_timeout(const struct store_attr *attr)
{
	if (S_ISREG(attr->mode) && (attr->mode & (S_ISUID | S_ISGID)) != 0)
		return 0;
	return until_expiry(attr);
}

void node_entry(const struct store_attr *attr, struct fuse_entry_param *entry)
{
	memset(entry, 0, sizeof(*entry));
	entry->ino = attr->number;
	entry->attr_timeout = node_attr_timeout(attr);
	entry->entry_timeout = until_expiry(attr);
	node_stat(attr, &entry->attr);
}

void node_entry_absent(struct fuse_entry_param *entry)
{
	memset(entry, 0, sizeof(*entry));
	entry->entry_timeout = NODE_FOREVER_S;
}

void node_entry_virtual(uint64_t number, const struct stat *st, struct fuse_entry_param *entry)
{
	memset(entry, 0, sizeof(*entry));
	entry->ino = number;
	entry->attr = *st;
}
