/*
 * options.h: what the command line says. A pure parser: it reads no file, prints nothing, and knows
 * nothing of FUSE but the words that go on to it.
 *
 *	ctxfs [SOURCE] MOUNTPOINT [-o option,...] [-f] [-d] [-s] [-h] [-V]
 *
 * Ownership: struct options owns its strings from a successful options_parse() to options_free().
 * Threads:   any, each with its own struct.
 * Errors:    -EINVAL, with a sentence that names the option, the value and what is accepted.
 *            -ENOMEM.
 * Units:     bytes, nanoseconds.
 */
#ifndef FS_OPTIONS_H
#define FS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef CTXFS_VERSION
#define CTXFS_VERSION "0.1.0"
#endif

enum options_transport { OPTIONS_TRANSPORT_AUTO, OPTIONS_TRANSPORT_DEV };

enum {
	OPTIONS_WHY_SIZE = 512,     /* room for any explanation */
	OPTIONS_SIZE_MIN = 1 << 20, /* smallest size= but 0 */
};

/* What the defaults depend on. */
struct options_machine {
	uint64_t memory_bytes; /* all of it, 0 if not known */
	uint32_t uid, gid;     /* who runs ctxfs */
};

struct options {
	bool help, version; /* if one is set, nothing else is checked */
	bool foreground, debug, single_thread;
	bool default_permissions; /* the kernel checks modes */
	enum options_transport transport;
	unsigned shards;
	uint64_t size_bytes; /* 0 = no bound */
	int64_t ttl_ns;      /* 0 = none */
	uint32_t root_mode, root_uid, root_gid;
	char *source;
	char *mount_point;   /* as given */
	char *mount_options; /* for fuse_session_new, comma-separated */
};

/* 0, or -EINVAL or -ENOMEM with why filled; then there is nothing to free. */
int options_parse(struct options *o, int argc, char *const *argv,
		  const struct options_machine *machine, char why[OPTIONS_WHY_SIZE]);
void options_free(struct options *o);

/* The text of --help. */
const char *options_help(void);

#endif
