/*
 * view.h: the answer of a read: where its bytes are, without a copy.
 *
 * Ownership: the caller's, usually on its stack: about 15 KiB, of which only what is used is
 *            touched. It holds references to extents until store_view_put().
 * Threads:   one thread at a time. The bytes do not change while the view holds them.
 * Errors:    none.
 * Units:     count is iovecs, references are extents, length is bytes.
 */
#ifndef STORE_VIEW_H
#define STORE_VIEW_H

#include <stddef.h>
#include <sys/uio.h>

enum {
	/* The longest read, STORE_IO_MAX, meets at most 18 blocks of at most 16 pieces, with a
	 * hole on each side of every piece. */
	STORE_VIEW_MAX = 18 * (16 + 17),
	STORE_SMALL_MAX = 256, /* bytes of a value that is kept, and copied, inside its object */
};

struct extent;

struct store_view {
	size_t count;
	size_t length;
	size_t references;
	struct iovec iov[STORE_VIEW_MAX];
	struct extent *extent[STORE_VIEW_MAX];
	unsigned char small[STORE_SMALL_MAX];
};

#endif
