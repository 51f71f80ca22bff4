/*
 * report.h: what the daemon did and how long it took, as a page for people and as JSON.
 *
 * ops.c takes report_clock() when a message arrives and calls report_record() when it has been
 * answered; everything else is made from these, from the store's counters, and from a few facts.
 * Messages about virtual files and directories need not be recorded: then reading the statistics
 * does not change them.
 *
 * Ownership: report_new() copies the facts; the store must outlive the report. Pages belong to the
 *            caller, who frees them.
 * Threads:   every function but new and free may be called by any threads at once. Recording takes
 *            no lock.
 * Errors:    -ENOMEM.
 * Units:     nanoseconds; bytes.
 */
#ifndef FS_REPORT_H
#define FS_REPORT_H

#include <stddef.h>
#include <stdint.h>

struct store;
struct report;

/* Kinds of FUSE messages, by the kernel's names, in the order of reports. Only ever added to. */
#define REPORT_OPS(X)                                                                              \
	X(LOOKUP)                                                                                  \
	X(FORGET)                                                                                  \
	X(GETATTR)                                                                                 \
	X(SETATTR)                                                                                 \
	X(READLINK)                                                                                \
	X(SYMLINK)                                                                                 \
	X(MKNOD)                                                                                   \
	X(MKDIR)                                                                                   \
	X(UNLINK)                                                                                  \
	X(RMDIR)                                                                                   \
	X(RENAME)                                                                                  \
	X(LINK)                                                                                    \
	X(OPEN)                                                                                    \
	X(READ)                                                                                    \
	X(WRITE)                                                                                   \
	X(STATFS)                                                                                  \
	X(RELEASE)                                                                                 \
	X(FSYNC)                                                                                   \
	X(SETXATTR)                                                                                \
	X(GETXATTR)                                                                                \
	X(LISTXATTR)                                                                               \
	X(REMOVEXATTR)                                                                             \
	X(FLUSH)                                                                                   \
	X(OPENDIR)                                                                                 \
	X(READDIR)                                                                                 \
	X(READDIRPLUS)                                                                             \
	X(RELEASEDIR)                                                                              \
	X(FSYNCDIR)                                                                                \
	X(ACCESS)                                                                                  \
	X(CREATE)                                                                                  \
	X(FALLOCATE)                                                                               \
	X(LSEEK)                                                                                   \
	X(COPY_FILE_RANGE)                                                                         \
	X(TMPFILE)                                                                                 \
	X(IOCTL)

enum report_op {
#define REPORT_OP_ENUM(name) REPORT_##name,
	REPORT_OPS(REPORT_OP_ENUM)
#undef REPORT_OP_ENUM
		REPORT_OP_COUNT
};

/* What a report says of the daemon itself. */
struct report_facts {
	const char *version;
	const char *transport; /* and why it was chosen: "dev, 2 threads: …" */
};

/* Leaves *out alone on failure. */
int report_new(struct report **out, struct store *s, const struct report_facts *facts);

/* No thread may use it any more. Null is ignored. */
void report_free(struct report *r);

/* CLOCK_MONOTONIC, for report_record(). */
int64_t report_clock(void);

/* Counts a message that arrived at started_ns and is answered now; error: 0 or a positive errno. */
void report_record(struct report *r, enum report_op op, int64_t started_ns, int error);

/* Begins anew: times and counts here, and the store's counters. What it holds now stays. */
void report_reset(struct report *r);

/*
 * The page of .stats, without a NUL behind it. Its size is the same at every call for one report,
 * so that a size that was told a moment ago is true for what is read now.
 */
int report_text(struct report *r, char **text, size_t *size);

/*
 * The same figures as one JSON object, likewise of one size. Keys are only ever added:
 *
 *	version, transport    strings
 *	uptime_ns             since the daemon's start
 *	counting_ns           since the last reset
 *	records_dropped       messages that were not counted for want of memory
 *	keys … sequence       the figures of struct store_stats, by name; bytes_limit 0: none
 *	messages              name of a kind of message -> how many
 *	operations            the same name -> count, errors, p50_ns, p90_ns, p95_ns, p99_ns,
 *	                      p999_ns, max_ns, sum_ns
 */
int report_json(struct report *r, char **text, size_t *size);

#endif
