/*
 * options.c: the command line, and the vocabulary of -o.
 *
 * Three lists hold every word: those that a function takes, with or without a value; those that
 * go on to the kernel through libfuse; and those that mount(8) and fstab(5) keep for themselves,
 * which are dropped. Any other word is an error. Words that go on keep their order, because the
 * later of two (suid,nosuid) wins; so it is with values here.
 *
 * The strings that an entry of -o consists of are cut in place in a copy of the argument. As with
 * mount(8), a backslash in front of a comma makes it part of the value.
 *
 * Invariants: 1. After a failure the struct owns nothing. 2. mount_options always holds
 * fsname= and subtype=, and nosuid,nodev before anything that the user said.
 */
#include "fs/options.h"

#include "fs/ttl.h"
#include "store/store.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define USAGE "usage: ctxfs [SOURCE] MOUNTPOINT [-o option,...]"

#define SIZE_DEFAULT (UINT64_C(4) << 30)

struct parser {
	struct options *o;
	const struct options_machine *machine;
	char *why;
	bool allow_other, allow_root;
	const char *names[2]; /* SOURCE and MOUNTPOINT as they come */
	unsigned name_count;
	char *kernel; /* words for the kernel, each behind a comma */
	size_t kernel_length, kernel_capacity;
};

/* value is NULL for a flag. They return 0 or -errno, and explain themselves through fail(). */
typedef int take(struct parser *p, const char *name, const char *value);

struct word {
	const char *name;
	take *take;
	const char *accepts; /* what a value may be; NULL: the word has none */
};

static int fail(struct parser *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int fail(struct parser *p, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(p->why, OPTIONS_WHY_SIZE, format, arguments);
	va_end(arguments);
	return -EINVAL;
}

static int no_memory(struct parser *p)
{
	(void)fail(p, "out of memory"); /* the sentence only: the error is another one */
	return -ENOMEM;
}

/* ---- what goes on to the kernel ---- */

static bool append_bytes(struct parser *p, const char *bytes, size_t length)
{
	if (p->kernel_length + length + 1 > p->kernel_capacity) {
		size_t capacity = 2 * (p->kernel_length + length + 1);
		char *grown = realloc(p->kernel, capacity);

		if (!grown)
			return false;
		p->kernel = grown;
		p->kernel_capacity = capacity;
	}
	memcpy(p->kernel + p->kernel_length, bytes, length);
	p->kernel_length += length;
	p->kernel[p->kernel_length] = '\0';
	return true;
}

/* libfuse takes the backslashes off again. */
static bool append_escaped(struct parser *p, const char *text)
{
	bool ok = true;

	for (; ok && *text; text++) {
		if (*text == ',' || *text == '\\')
			ok = append_bytes(p, "\\", 1);
		ok = ok && append_bytes(p, text, 1);
	}
	return ok;
}

static int pass(struct parser *p, const char *name, const char *value)
{
	bool ok = p->kernel_length == 0 || append_bytes(p, ",", 1);

	ok = ok && append_bytes(p, name, strlen(name));
	if (value)
		ok = ok && append_bytes(p, "=", 1) && append_escaped(p, value);
	return ok ? 0 : no_memory(p);
}

/* ---- values ---- */

static int refuse(struct parser *p, const char *name, const char *value, const char *accepts)
{
	return fail(p, "option '%s': '%s' is not accepted; give %s", name, value, accepts);
}

/* Decimal digits only, at most max; false for anything else. */
static bool number(const char *text, const char **end, uint64_t max, uint64_t *value)
{
	uint64_t v = 0;
	const char *c = text;

	for (; *c >= '0' && *c <= '9'; c++) {
		unsigned digit = (unsigned)(*c - '0');

		if (v > (max - digit) / 10)
			return false;
		v = v * 10 + digit;
	}
	*end = c;
	*value = v;
	return c != text;
}

/* The power of two of a suffix, -1 if it is none. */
static int suffix_shift(const char *suffix)
{
	static const char letters[] = "kmgt";
	const char *found;

	if (*suffix == '\0')
		return 0;
	found = strchr(letters, *suffix | 0x20);
	if (!found || (suffix[1] != '\0' && strcmp(suffix + 1, "iB") != 0))
		return -1;
	return 10 * (int)(found - letters + 1);
}

#define SIZE_ACCEPTS                                                                               \
	"bytes, with K, M, G or T (4G), or a share of memory (50%), from 1M; 0 = no bound"

static int take_size(struct parser *p, const char *name, const char *value)
{
	const char *end;
	uint64_t bytes;
	int shift;

	if (!number(value, &end, UINT64_MAX, &bytes))
		return refuse(p, name, value, SIZE_ACCEPTS);
	if (strcmp(end, "%") == 0) {
		if (bytes < 1 || bytes > 100)
			return refuse(p, name, value, "1% to 100%");
		if (p->machine->memory_bytes == 0)
			return refuse(p, name, value,
				      "bytes: how much memory there is is not known");
		bytes = p->machine->memory_bytes / 100 * bytes;
	} else {
		shift = suffix_shift(end);
		if (shift < 0 || bytes > (UINT64_C(1) << 62) >> shift)
			return refuse(p, name, value, SIZE_ACCEPTS);
		bytes <<= shift;
	}
	if (bytes != 0 && bytes < OPTIONS_SIZE_MIN)
		return refuse(p, name, value, SIZE_ACCEPTS);
	p->o->size_bytes = bytes;
	return 0;
}

#define TTL_ACCEPTS "a period such as 60, 1.5, 500ms, 30s, 15m, 1h, 7d, 2w, or 0 or never"

static int take_ttl(struct parser *p, const char *name, const char *value)
{
	int64_t period_ns;

	if (ttl_parse(value, strlen(value), &period_ns))
		return refuse(p, name, value, TTL_ACCEPTS);
	p->o->ttl_ns = period_ns;
	return 0;
}

#define SHARDS_ACCEPTS "a power of two from 1 to 1024"

static_assert(STORE_SHARDS_MAX == 1024, "SHARDS_ACCEPTS and the help name the largest number");

static int take_shards(struct parser *p, const char *name, const char *value)
{
	const char *end;
	uint64_t count;

	if (!number(value, &end, STORE_SHARDS_MAX, &count) || *end || count == 0 ||
	    (count & (count - 1)) != 0)
		return refuse(p, name, value, SHARDS_ACCEPTS);
	p->o->shards = (unsigned)count;
	return 0;
}

#define DATA_ACCEPTS                                                                               \
	"none: this version keeps its contents in memory only, and data directories "              \
	"come in a later one"

static int take_data(struct parser *p, const char *name, const char *value)
{
	return strcmp(value, "none") == 0 ? 0 : refuse(p, name, value, DATA_ACCEPTS);
}

#define TRANSPORT_ACCEPTS "auto or dev"

static int take_transport(struct parser *p, const char *name, const char *value)
{
	if (strcmp(value, "uring") == 0)
		return refuse(p, name, value,
			      TRANSPORT_ACCEPTS
			      ": this version speaks to the kernel through /dev/fuse only");
	if (strcmp(value, "auto") == 0)
		p->o->transport = OPTIONS_TRANSPORT_AUTO;
	else if (strcmp(value, "dev") == 0)
		p->o->transport = OPTIONS_TRANSPORT_DEV;
	else
		return refuse(p, name, value, TRANSPORT_ACCEPTS);
	return 0;
}

#define MODE_ACCEPTS "octal permission bits, such as 0755 or 1777"

static int take_mode(struct parser *p, const char *name, const char *value)
{
	uint32_t mode = 0;
	const char *c = value;

	for (; *c >= '0' && *c <= '7' && mode <= 07777; c++)
		mode = mode << 3 | (uint32_t)(*c - '0');
	/* The store takes 0 for its own default, and a root that nobody can enter is a slip. */
	if (c == value || *c || mode > 07777 || mode == 0)
		return refuse(p, name, value, MODE_ACCEPTS);
	p->o->root_mode = mode;
	return 0;
}

#define OWNER_ACCEPTS "a number from 0 to 4294967294"

static int take_owner(struct parser *p, const char *name, const char *value)
{
	const char *end;
	uint64_t id;

	/* The largest number means "nobody said" to chown(2). */
	if (!number(value, &end, UINT32_MAX - 1, &id) || *end)
		return refuse(p, name, value, OWNER_ACCEPTS);
	if (strcmp(name, "uid") == 0)
		p->o->root_uid = (uint32_t)id;
	else
		p->o->root_gid = (uint32_t)id;
	return 0;
}

#define SOURCE_ACCEPTS "the name that df and mount show"

static int set_string(struct parser *p, char **string, const char *value)
{
	char *copy = strdup(value);

	if (!copy)
		return no_memory(p);
	free(*string);
	*string = copy;
	return 0;
}

static int take_fsname(struct parser *p, const char *name, const char *value)
{
	if (*value == '\0')
		return refuse(p, name, value, SOURCE_ACCEPTS);
	return set_string(p, &p->o->source, value);
}

/* ---- flags ---- */

static int take_allow(struct parser *p, const char *name, const char *value)
{
	if (strcmp(name, "allow_other") == 0)
		p->allow_other = true;
	else
		p->allow_root = true;
	if (p->allow_other && p->allow_root)
		return fail(p,
			    "options 'allow_other' and 'allow_root' exclude each other; give one");
	return pass(p, name, value);
}

static int take_permissions(struct parser *p, const char *name, const char *value)
{
	(void)name; /* both are the table's */
	(void)value;
	p->o->default_permissions = true;
	return 0;
}

static int take_debug(struct parser *p, const char *name, const char *value)
{
	(void)name; /* both are the table's */
	(void)value;
	p->o->debug = true;
	return 0;
}

/* It takes a fusermount3 as new as the library, and without one a mount just does not go. */
static int refuse_auto_unmount(struct parser *p, const char *name, const char *value)
{
	(void)value; /* it has none */
	return fail(p,
		    "option '%s' is not supported; after a crash, starting ctxfs again "
		    "detaches the dead mount",
		    name);
}

/* ---- the vocabulary ---- */

#define CONTEXT_ACCEPTS "a security context"

static const struct word words[] = {
	{ "data", take_data, DATA_ACCEPTS },
	{ "size", take_size, SIZE_ACCEPTS },
	{ "ttl", take_ttl, TTL_ACCEPTS },
	{ "shards", take_shards, SHARDS_ACCEPTS },
	{ "transport", take_transport, TRANSPORT_ACCEPTS },
	{ "mode", take_mode, MODE_ACCEPTS },
	{ "uid", take_owner, OWNER_ACCEPTS },
	{ "gid", take_owner, OWNER_ACCEPTS },
	{ "fsname", take_fsname, SOURCE_ACCEPTS },
	{ "allow_other", take_allow, NULL },
	{ "allow_root", take_allow, NULL },
	{ "default_permissions", take_permissions, NULL },
	{ "debug", take_debug, NULL },
	{ "auto_unmount", refuse_auto_unmount, NULL },
	{ "context", pass, CONTEXT_ACCEPTS },
	{ "fscontext", pass, CONTEXT_ACCEPTS },
	{ "defcontext", pass, CONTEXT_ACCEPTS },
	{ "rootcontext", pass, CONTEXT_ACCEPTS },
};

/* Flags of the kernel and of libfuse. */
static const char *const passed[] = {
	"ro",     "rw",   "suid",  "nosuid",  "dev",   "nodev",   "exec",
	"noexec", "sync", "async", "dirsync", "atime", "noatime",
};

/* Flags that mount(8) and fstab(5) keep for themselves, and those that mean nothing here. */
static const char *const dropped[] = {
	"defaults",   "auto",     "noauto",     "nofail",      "_netdev",       "_rnetdev",
	"user",       "nouser",   "users",      "owner",       "noowner",       "group",
	"nogroup",    "relatime", "norelatime", "strictatime", "nostrictatime", "lazytime",
	"nolazytime", "diratime", "nodiratime", "silent",      "loud",          "mand",
	"nomand",     "iversion", "noiversion",
};

static bool is_one_of(const char *const *list, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(list[i], name) == 0)
			return true;
	}
	return false;
}

/*
 * Words with any value, or none, that concern somebody else. user=NAME is what mount(8) records.
 */
static bool foreign(const char *text)
{
	static const char *const prefixes[] = { "x-", "X-", "comment=", "user=" };

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
		if (strncmp(text, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	}
	return false;
}

static const struct word *find_word(const char *name)
{
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(words[i].name, name) == 0)
			return &words[i];
	}
	return NULL;
}

static int unknown(struct parser *p, const char *name)
{
	return fail(p,
		    "option '%s' is not known; accepted are data, size, ttl, shards, transport, "
		    "mode, uid, gid, allow_other, allow_root, ro, and what mount(8) and fstab(5) "
		    "know (see ctxfs --help)",
		    name);
}

/* One word of -o, as "name" or "name=value"; it is cut in place. */
static int take_word(struct parser *p, char *text)
{
	char *value = strchr(text, '=');
	const struct word *word;
	bool pass_on, drop;

	if (*text == '\0' || foreign(text))
		return 0;
	if (value)
		*value++ = '\0';
	word = find_word(text);
	pass_on = is_one_of(passed, sizeof(passed) / sizeof(passed[0]), text);
	drop = is_one_of(dropped, sizeof(dropped) / sizeof(dropped[0]), text);
	if (!word && !pass_on && !drop)
		return unknown(p, text);
	if (word && word->accepts && !value)
		return fail(p, "option '%s' needs a value: %s=VALUE, where VALUE is %s", text, text,
			    word->accepts);
	if (value && !(word && word->accepts))
		return fail(p, "option '%s' takes no value, but '%s' was given", text, value);
	if (word)
		return word->take(p, text, value);
	return pass_on ? pass(p, text, NULL) : 0;
}

/* The argument of one -o. */
static int take_list(struct parser *p, const char *list)
{
	char *copy = strdup(list);
	char *word = copy, *to = copy;
	int err = 0;

	if (!copy)
		return no_memory(p);
	for (const char *from = list; !err; from++) {
		if (*from == ',' || *from == '\0') {
			*to++ = '\0';
			err = take_word(p, word);
			word = to;
			if (*from == '\0')
				break;
		} else {
			if (*from == '\\' && (from[1] == ',' || from[1] == '\\'))
				from++;
			*to++ = *from;
		}
	}
	free(copy);
	return err;
}

/* ---- the command line ---- */

static int take_positional(struct parser *p, const char *text)
{
	if (*text == '\0')
		return fail(p, "an empty name is no mount point");
	if (p->name_count == 2)
		return fail(p, "'%s' is one argument too many; " USAGE, text);
	p->names[p->name_count++] = text;
	return 0;
}

/* A cluster of letters such as -fd. -o takes the rest of it, or else the next argument. */
static int take_letters(struct parser *p, const char *letters, char *const *next, bool *used_next)
{
	for (const char *c = letters; *c; c++) {
		switch (*c) {
		case 'f':
			p->o->foreground = true;
			break;
		case 'd':
			p->o->debug = true;
			break;
		case 's':
			p->o->single_thread = true;
			break;
		case 'h':
			p->o->help = true;
			break;
		case 'V':
			p->o->version = true;
			break;
		case 'o':
			if (c[1])
				return take_list(p, c + 1);
			if (!*next)
				return fail(p, "-o needs options behind it, such as -o size=1G");
			*used_next = true;
			return take_list(p, *next);
		default:
			return fail(p, "-%c is not known; accepted are -o, -f, -d, -s, -h and -V",
				    *c);
		}
	}
	return 0;
}

static int take_argument(struct parser *p, char *const *argv, bool *used_next)
{
	const char *text = argv[0];

	if (strcmp(text, "--help") == 0)
		p->o->help = true;
	else if (strcmp(text, "--version") == 0)
		p->o->version = true;
	else if (strncmp(text, "--", 2) == 0)
		return fail(p, "%s is not known; accepted are --help and --version", text);
	else if (text[0] == '-' && text[1])
		return take_letters(p, text + 1, argv + 1, used_next);
	else
		return take_positional(p, text);
	return 0;
}

/* MOUNTPOINT, or SOURCE and MOUNTPOINT. What fsname= says counts more than SOURCE. */
static int name_mount(struct parser *p)
{
	struct options *o = p->o;
	int err;

	if (p->name_count == 0)
		return fail(p, "no mount point given; " USAGE);
	/* A word that was meant for -o would silently become the name that df shows. */
	if (p->name_count == 2 && strchr(p->names[0], '='))
		return fail(p, "'%s' stands where SOURCE does; options come behind -o; " USAGE,
			    p->names[0]);
	err = set_string(p, &o->mount_point, p->names[p->name_count - 1]);
	if (!err && !o->source)
		err = set_string(p, &o->source, p->name_count == 2 ? p->names[0] : "ctxfs");
	return err;
}

static int finish(struct parser *p)
{
	struct options *o = p->o;
	int err = name_mount(p);

	/*
	 * Where only root can come in, the kernel's checks would cost messages and forbid nothing.
	 */
	if (p->machine->uid != 0 || p->allow_other)
		o->default_permissions = true;
	if (!err && o->default_permissions)
		err = pass(p, "default_permissions", NULL);
	if (!err)
		err = pass(p, "fsname", o->source);
	if (!err)
		err = pass(p, "subtype", "ctxfs");
	return err;
}

static void set_defaults(struct options *o, const struct options_machine *machine)
{
	*o = (struct options){
		.size_bytes = SIZE_DEFAULT,
		.shards = STORE_SHARDS_DEFAULT,
		.root_mode = 0755,
		.root_uid = machine->uid,
		.root_gid = machine->gid,
	};
	if (machine->memory_bytes > 0 && machine->memory_bytes / 2 < o->size_bytes)
		o->size_bytes = machine->memory_bytes / 2;
}

int options_parse(struct options *o, int argc, char *const *argv,
		  const struct options_machine *machine, char why[OPTIONS_WHY_SIZE])
{
	struct options parsed;
	struct parser p = { .o = &parsed, .machine = machine, .why = why };
	bool names_only = false;
	int err;

	assert(argc >= 1 && argv[argc] == NULL);
	set_defaults(&parsed, machine);
	err = pass(&p, "nosuid", NULL);
	if (!err)
		err = pass(&p, "nodev", NULL);
	for (int i = 1; i < argc && !err && !parsed.help && !parsed.version; i++) {
		bool used_next = false;

		if (names_only) {
			err = take_positional(&p, argv[i]);
		} else if (strcmp(argv[i], "--") == 0) {
			names_only = true;
		} else {
			err = take_argument(&p, argv + i, &used_next);
			i += used_next;
		}
	}
	if (!err && !parsed.help && !parsed.version)
		err = finish(&p);
	parsed.mount_options = p.kernel;
	if (err) {
		options_free(&parsed);
		return err;
	}
	*o = parsed;
	return 0;
}

void options_free(struct options *o)
{
	free(o->source);
	free(o->mount_point);
	free(o->mount_options);
	o->source = o->mount_point = o->mount_options = NULL;
}

static const char help[] =
	"usage: ctxfs [SOURCE] MOUNTPOINT [-o option,...] [-f] [-d] [-s]\n"
	"\n"
	"Mounts a key-value store at MOUNTPOINT: a key is a file, a TTL is an extended\n"
	"attribute. Returns when the mount answers. SOURCE is the name that df shows.\n"
	"\n"
	"  -o size=4G        bound on all memory: bytes, K, M, G, T, or a share such as 50%;\n"
	"                    0 = none. Default: 4G, or half of the machine's memory if less\n"
	"  -o ttl=1h         TTL of new files where no directory has its own: seconds, or ms, s,\n"
	"                    m, h, d, w behind the number; 0 or never = none (default)\n"
	"  -o data=none      contents live in memory and end with the mount (the only mode yet)\n"
	"  -o mode=0755      permission bits of the root directory; 1777 shares it as /tmp is\n"
	"  -o uid=N,gid=N    its owner; default: who runs ctxfs\n"
	"  -o allow_other    other users may come in (as modes permit); allow_root: only root\n"
	"  -o ro             nothing can be changed\n"
	"  -o shards=64      parts of the store that are locked apart: a power of two to 1024\n"
	"  -o transport=auto how to speak to the kernel: auto or dev (/dev/fuse)\n"
	"  -o fsname=NAME    the same as SOURCE\n"
	"  -o ...            mount flags (noexec, noatime, suid, dev, ...; nosuid,nodev is the\n"
	"                    default), and all words of mount(8) and fstab(5)\n"
	"  -f                stay in the foreground\n"
	"  -d                the same, and print every message\n"
	"  -s                one thread\n"
	"  -h, --help        this text\n"
	"  -V, --version     the version\n"
	"\n"
	"Unmount with umount MOUNTPOINT, or fusermount3 -u MOUNTPOINT if you are not root.\n"
	"Exit: 0 when mounted (in the foreground: when unmounted), 1 on failure, 2 on misuse.\n";

const char *options_help(void)
{
	return help;
}
