/*
 * ttl.h: times to live as words. Shell scripts speak of TTLs through three extended attributes:
 *
 *	user.ttl         seconds left, such as 59.998; set as 60, 1.5, 500ms, 30s, 15m, 1h, 7d, 2w
 *	user.ttl_ms      the same in whole milliseconds
 *	user.expires_at  the same as a time of day, in seconds since 1970, such as 1790000000.123
 *
 * Each takes "0" and "never" for no TTL. Of a directory, user.ttl and user.ttl_ms are the period
 * that new files in it get, and user.expires_at does not exist.
 *
 * Ownership: nothing is allocated, nothing that is passed in is kept.
 * Threads:   every function may be called from any thread; none keeps state.
 * Errors:    -EINVAL for text that is no such word; the rest as store/store.h says.
 * Units:     nanoseconds (int64), unless a name says otherwise. A period is at most TTL_NS_MAX.
 */
#ifndef FS_TTL_H
#define FS_TTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

struct store;

/* A hundred years. Longer periods are slips of the keyboard, and are refused. */
#define TTL_NS_MAX (INT64_C(36525) * 86400 * 1000000000)

/* A buffer of this size takes any word that ttl_format_* writes, with its NUL. */
enum { TTL_TEXT_MAX = 32 };

/*
 * Reads a period: a decimal number, then nothing (seconds), ms, s, m, h, d or w; or "never". Zero
 * and "never" give STORE_TTL_NONE; what is above zero gives at least 1. One NUL or newline at the
 * end of the text is tolerated, for callers who count it. 0 or -EINVAL.
 */
int ttl_parse(const char *text, size_t size, int64_t *period_ns);

/* Reads a period in whole milliseconds without a unit, or "never". 0 or -EINVAL. */
int ttl_parse_ms(const char *text, size_t size, int64_t *period_ns);

/*
 * Reads a time of day in seconds since 1970, or "never", and turns it into a period from now on. A
 * time that has passed gives 1 ns: whoever says that a key ends then wants it gone. 0 or -EINVAL.
 */
int ttl_parse_expires(const char *text, size_t size, struct timespec now, int64_t *period_ns);

/*
 * Write a word and its NUL; size is at least TTL_TEXT_MAX. They return the length. What is left is
 * rounded up to milliseconds: "0" is written only for 0, because read back it means "never".
 */
int ttl_format_seconds(char *buffer, size_t size, int64_t ns);
int ttl_format_ms(char *buffer, size_t size, int64_t ns);

/* The same for a time of day after 1970, rounded to the nearest millisecond. */
int ttl_format_expires(char *buffer, size_t size, struct timespec at);

/* Whether this attribute speaks of a TTL. */
bool ttl_xattr(const char *name);

/*
 * setxattr(2) of one of the three. flags: STORE_CREATE (-EEXIST if there is a TTL), STORE_REPLACE
 * (-ENODATA if there is none). -EINVAL also for user.expires_at of a directory. -EPERM, -ESTALE.
 */
int ttl_set(struct store *s, uint64_t number, const char *name, const char *value, size_t size,
	    unsigned flags);

/*
 * getxattr(2): the length of the word, without NUL; copied if it fits. size 0 asks, a smaller one
 * gets -ERANGE. -ENODATA: no TTL, or it is a directory and the name is user.expires_at.
 */
ssize_t ttl_get(struct store *s, uint64_t number, const char *name, char *buffer, size_t size);

/*
 * removexattr(2): a file never expires from then on; a directory has no default of its own.
 * -ENODATA: there was none.
 */
int ttl_remove(struct store *s, uint64_t number, const char *name);

#endif
