/*
 * dirvec.h: the order of a directory: (cookie, object number) pairs, ascending by cookie.
 *
 * A cookie is the position that readdir hands out. Cookies grow by one per append and are never
 * reused in the life of the directory, so "the first cookie greater than the last one seen" resumes
 * a scan: an entry that is present throughout a scan is seen exactly once, whatever is created,
 * removed or compacted between two calls of dirvec_read().
 *
 * Ownership: struct dirvec is embedded by value in its directory and may be moved in memory. It
 *            owns its leaves and branches; an empty one owns nothing.
 * Threads:   every call under the directory's mutex.
 * Errors:    0 or -errno. Only dirvec_reserve() and dirvec_put() can fail, and change nothing then.
 * Units:     count is entries, bytes are heap bytes rounded up to allocation classes.
 * Bounds:    work per call is O(height * BRANCH_MAX + LEAF_MAX) (plus n for dirvec_read()): never a
 *            pass over the directory, and no allocation above 3 KiB. The exception is
 *            dirvec_fini(), O(leaves).
 */
#ifndef STORE_DIRVEC_H
#define STORE_DIRVEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* 1 and 2 stand for "." and "..", and 0 for the beginning. */
#define DIRVEC_COOKIE_FIRST UINT64_C(3)
#define DIRVEC_COOKIE_MAX   UINT64_C(0x7fffffffffffffff)

struct dirvec {
	void *root; /* a leaf when height is 0, else a branch; NULL when there is no leaf */
	uint64_t next_cookie;
	uint64_t count;
	uint64_t bytes;
	uint32_t height; /* branches above each leaf */
	bool reserved;   /* dirvec_reserve() succeeded and no dirvec_append() followed yet */
};

struct dirvec_entry {
	uint64_t cookie;
	uint64_t number;
};

void dirvec_init(struct dirvec *v);

/* Frees everything; v is as after dirvec_init() then. */
void dirvec_fini(struct dirvec *v);

/*
 * Makes room, so that the next dirvec_append() cannot fail, however many entries are set or removed
 * in between. An unused reservation is harmless and serves the next append. dirvec_put() of a new
 * cookie cancels it.
 * Returns 0, -ENOMEM, or -EOVERFLOW when the 63-bit cookies are used up.
 */
int dirvec_reserve(struct dirvec *v);

/* Appends after a dirvec_reserve() that returned 0. Returns the new cookie. */
uint64_t dirvec_append(struct dirvec *v, uint64_t number);

/* The cookie that the next dirvec_append() will return. */
uint64_t dirvec_next_cookie(const struct dirvec *v);

/*
 * For replay: puts an entry at a given cookie, in any order of cookies; an entry that is there
 * already gets the number. Raises the next cookie above this one. Ascending order is cheapest.
 * Returns 0, -ENOMEM, or -EINVAL for a cookie that dirvec_append() can never have returned.
 */
int dirvec_put(struct dirvec *v, uint64_t cookie, uint64_t number);

/* Gives an entry another object, in place. False: no such cookie. */
bool dirvec_set(struct dirvec *v, uint64_t cookie, uint64_t number);

/* Never needs memory: true, or false when there is no such cookie. May give memory back. */
bool dirvec_remove(struct dirvec *v, uint64_t cookie);

/*
 * Fills out with the first entries, at most n, whose cookie is greater than after (0: from the
 * beginning). Returns how many; fewer than n means that the end was reached.
 */
size_t dirvec_read(const struct dirvec *v, uint64_t after, struct dirvec_entry *out, size_t n);

uint64_t dirvec_count(const struct dirvec *v);

/* What the heap holds for v, O(1): account the difference around each change. */
uint64_t dirvec_bytes(const struct dirvec *v);

/* Verifies the invariants of dirvec.c. Returns 0, or -EUCLEAN. O(entries). */
int dirvec_check(const struct dirvec *v);

#endif
