/*
 * ops_list.c: listings. READDIRPLUS gives names with attributes and nodes, so that who reads the
 * files of a directory asks no more about them; READDIR gives names alone.
 *
 * A directory is listed from a cookie that stays valid whatever happens in between, so an open
 * directory needs no state. The kernel does not keep listings (OPENDIR is answered without
 * cache_readdir): an expired key would stay in them until the reaper comes.
 *
 * Every entry of READDIRPLUS that has a node counts one lookup. If the answer is not delivered
 * these are taken back, so their numbers are kept until then.
 */
#include "fs/ops_call.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	OPS_LIST_MAX = 1 << 20, /* bytes of one answer */
	/* No entry of READDIRPLUS is smaller: a node, attributes, and the shortest name. */
	OPS_ENTRY_PLUS_MIN = 152,
};

struct listing {
	fuse_req_t request;
	bool plus;
	bool overran; /* an entry did not fit */
	char *bytes;
	size_t size, used;
	uint64_t *held; /* numbers given away */
	size_t held_count, held_max;
};

static bool is_dots(const char *name)
{
	return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

/* libfuse returns what an entry needs, and writes it only if it fits. */
static bool add(struct listing *l, const char *name, const struct fuse_entry_param *entry,
		uint64_t cookie)
{
	char *to = l->bytes + l->used;
	size_t room = l->size - l->used;
	size_t need;

	if (l->plus)
		need = fuse_add_direntry_plus(l->request, to, room, name, entry, (off_t)cookie);
	else
		need = fuse_add_direntry(l->request, to, room, name, &entry->attr, (off_t)cookie);
	if (need > room) {
		l->overran = true;
		return false;
	}
	l->used += need;
	return true;
}

static bool emit(void *context, const struct store_dirent *found)
{
	struct listing *l = context;
	struct fuse_entry_param entry;

	if (!l->plus || is_dots(found->name)) {
		memset(&entry, 0, sizeof(entry)); /* no node: nothing is given away */
		entry.attr.st_ino = found->attr.number;
		entry.attr.st_mode = found->attr.mode;
		return add(l, found->name, &entry, found->cookie);
	}
	node_entry(&found->attr, &entry);
	if (!add(l, found->name, &entry, found->cookie))
		return false;
	assert(l->held_count < l->held_max);
	l->held[l->held_count++] = found->attr.number;
	return true;
}

static bool emit_virtual(void *context, const char *name, const struct stat *st, uint64_t cookie)
{
	struct fuse_entry_param entry;

	memset(&entry, 0, sizeof(entry));
	entry.attr = *st;
	return add(context, name, &entry, cookie);
}

/* One allocation: the answer, and behind it the numbers. */
static int listing_init(struct listing *l, fuse_req_t request, bool plus, size_t size)
{
	*l = (struct listing){ .request = request, .plus = plus };
	l->size = (size < OPS_LIST_MAX ? size : OPS_LIST_MAX) / 8 * 8;
	l->held_max = plus ? l->size / OPS_ENTRY_PLUS_MIN + 1 : 0;
	l->bytes = malloc(l->size + l->held_max * sizeof(*l->held) + 1);
	l->held = (void *)(l->bytes + l->size);
	return l->bytes ? 0 : -ENOMEM;
}

static void list(fuse_req_t request, enum report_op op, uint64_t number, size_t size, off_t after)
{
	struct ops_call c = ops_begin_node(request, op, number);
	bool plus = op == REPORT_READDIRPLUS;
	struct listing l;
	int err = after < 0 ? -EINVAL : listing_init(&l, request, plus, size);

	if (err) {
		ops_reply(&c, err);
		return;
	}
	if (virtual_is(number))
		err = virtual_readdir(c.context->virtual, number, (uint64_t)after, emit_virtual,
				      &l);
	else
		err = store_readdir(c.store, number, (uint64_t)after, plus ? STORE_HOLD : 0, emit,
				    &l);
	/* An empty answer would say that this is the end. */
	if (!err && l.used == 0 && l.overran)
		err = -EINVAL;
	if (err)
		ops_reply(&c, err);
	if (err || !ops_reply_bytes(&c, l.bytes, l.used)) {
		for (size_t i = 0; i < l.held_count; i++)
			store_forget(c.store, l.held[i], 1);
	}
	free(l.bytes);
}

void ops_readdir(fuse_req_t request, fuse_ino_t number, size_t size, off_t after,
		 struct fuse_file_info *file)
{
	(void)file; /* it has no state */
	list(request, REPORT_READDIR, number, size, after);
}

void ops_readdirplus(fuse_req_t request, fuse_ino_t number, size_t size, off_t after,
		     struct fuse_file_info *file)
{
	(void)file; /* it has no state */
	list(request, REPORT_READDIRPLUS, number, size, after);
}

void ops_opendir(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *file)
{
	struct ops_call c = ops_begin_node(request, REPORT_OPENDIR, number);

	ops_reply_opened(&c, file);
}

void ops_releasedir(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *file)
{
	struct ops_call c = ops_begin_node(request, REPORT_RELEASEDIR, number);

	(void)file; /* it has no state */
	ops_reply(&c, 0);
}

void ops_fsyncdir(fuse_req_t request, fuse_ino_t number, int data_only, struct fuse_file_info *file)
{
	struct ops_call c = ops_begin_node(request, REPORT_FSYNCDIR, number);

	(void)data_only; /* names are logged together with attributes */
	(void)file;      /* it has no state */
	ops_reply(&c, virtual_is(number) ? 0 : store_sync(c.store, number));
}
