/*
 * test_options.c: the command line and the vocabulary of -o: what is accepted, what it means, what
 * goes on to the kernel, and that every refusal names the option, the value and what is accepted.
 */
#include "fs/options.h"
#include "store/store.h"
#include "tests/unit/tap.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

enum { ARGUMENTS_MAX = 16 };

static const struct options_machine root = { .memory_bytes = UINT64_C(64) << 30 };
static const struct options_machine user = { .memory_bytes = UINT64_C(1) << 30,
					     .uid = 1000,
					     .gid = 100 };

static struct options o;
static char why[OPTIONS_WHY_SIZE];

/* Parses a command line given as words with single blanks between them; "ctxfs" comes first. */
static int parse_as(const struct options_machine *machine, const char *line)
{
	static char copy[8192];
	char *argv[ARGUMENTS_MAX + 2] = { (char[]){ "ctxfs" } };
	char *rest;
	int argc = 1;

	options_free(&o);
	why[0] = '\0';
	snprintf(copy, sizeof(copy), "%s", line);
	for (char *word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
		argv[argc++] = word;
	return options_parse(&o, argc, argv, machine, why);
}

static int parse(const char *line)
{
	return parse_as(&root, line);
}

/* Whether the comma-separated list for the kernel has this word. */
static bool passes(const char *word)
{
	size_t length = strlen(word);

	for (const char *at = o.mount_options; (at = strstr(at, word)) != NULL; at += length) {
		bool begins = at == o.mount_options || at[-1] == ',';

		if (begins && (at[length] == ',' || at[length] == '\0'))
			return true;
	}
	return false;
}

/* A refusal, whose sentence has all three words in it. */
static bool refuses(const char *line, const char *a, const char *b, const char *c)
{
	bool ok = parse(line) == -EINVAL && strstr(why, a) && strstr(why, b) && strstr(why, c);

	if (!ok)
		printf("# %s: %s\n", line, why);
	return ok;
}

static void defaults(void)
{
	CHECK(parse("/mnt") == 0);
	CHECK(strcmp(o.mount_point, "/mnt") == 0);
	CHECK(strcmp(o.source, "ctxfs") == 0);
	CHECK(o.size_bytes == UINT64_C(4) << 30);
	CHECK(o.shards == STORE_SHARDS_DEFAULT);
	CHECK(o.ttl_ns == STORE_TTL_NONE);
	CHECK(o.root_mode == 0755 && o.root_uid == 0 && o.root_gid == 0);
	CHECK(o.transport == OPTIONS_TRANSPORT_AUTO);
	CHECK(!o.foreground && !o.debug && !o.single_thread && !o.help && !o.version);
	CHECK(strcmp(o.mount_options, "nosuid,nodev,fsname=ctxfs,subtype=ctxfs") == 0);
	CHECK(parse_as(&user, "/mnt") == 0);
	CHECK(o.root_uid == 1000 && o.root_gid == 100);
	/* Half of the machine's memory is less than 4G. */
	CHECK(o.size_bytes == UINT64_C(1) << 29);
	CHECK(parse_as(&(struct options_machine){ .memory_bytes = 0 }, "/mnt") == 0);
	CHECK(o.size_bytes == UINT64_C(4) << 30);
}

static void arguments(void)
{
	CHECK(parse("none /mnt") == 0);
	CHECK(strcmp(o.source, "none") == 0 && strcmp(o.mount_point, "/mnt") == 0);
	CHECK(passes("fsname=none"));
	CHECK(parse("-f none -o size=1G /mnt -d") == 0);
	CHECK(strcmp(o.source, "none") == 0 && strcmp(o.mount_point, "/mnt") == 0);
	CHECK(o.foreground && o.debug && !o.single_thread);
	CHECK(parse("/mnt -fso size=1M") == 0);
	CHECK(o.foreground && o.single_thread && o.size_bytes == 1 << 20);
	CHECK(parse("/mnt -osize=1M,shards=2 -o shards=4") == 0);
	CHECK(o.size_bytes == 1 << 20 && o.shards == 4);
	CHECK(parse("-- -f -d") == 0);
	CHECK(strcmp(o.source, "-f") == 0 && strcmp(o.mount_point, "-d") == 0 && !o.foreground);
	CHECK(refuses("", "no mount point", "usage", "MOUNTPOINT"));
	CHECK(refuses("a b c", "'c'", "too many", "usage"));
	CHECK(refuses("/mnt -x", "-x", "not known", "-o"));
	CHECK(refuses("/mnt --sise", "--sise", "not known", "--help"));
	CHECK(refuses("/mnt -o", "-o", "needs", "size=1G"));
}

/* They win over anything that is wrong elsewhere, as far as it comes later. */
static void help_and_version(void)
{
	CHECK(parse("-h") == 0 && o.help && !o.version);
	CHECK(parse("--help -o nonsense") == 0 && o.help);
	CHECK(parse("-V") == 0 && o.version && !o.help);
	CHECK(parse("a b --version c") == 0 && o.version);
	CHECK(strstr(options_help(), "size=4G") && strstr(options_help(), "ttl="));
}

static void source_names(void)
{
	CHECK(parse("/mnt -o fsname=kv") == 0);
	CHECK(strcmp(o.source, "kv") == 0 && strcmp(o.mount_point, "/mnt") == 0);
	CHECK(parse("-o fsname=kv none /mnt") == 0);
	CHECK(strcmp(o.source, "kv") == 0 && strcmp(o.mount_point, "/mnt") == 0);
	CHECK(refuses("/mnt -o fsname=", "fsname", "''", "df"));
	CHECK(refuses("/mnt -o fsname", "fsname", "needs a value", "df"));
	/* A comma in a name neither ends it here nor becomes an option of the kernel. */
	CHECK(parse("a,suid\\b /mnt") == 0);
	CHECK(strcmp(o.source, "a,suid\\b") == 0 && passes("fsname=a\\,suid\\\\b"));
	CHECK(parse("/mnt -o fsname=a\\,b") == 0);
	CHECK(strcmp(o.source, "a,b") == 0 && passes("fsname=a\\,b"));
}

static void sizes(void)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
		{ "1048576", 1 << 20 },
		{ "1M", 1 << 20 },
		{ "1m", 1 << 20 },
		{ "1MiB", 1 << 20 },
		{ "1024K", 1 << 20 },
		{ "3G", UINT64_C(3) << 30 },
		{ "2T", UINT64_C(2) << 40 },
		{ "0", 0 },
		{ "0G", 0 },
		{ "50%", (UINT64_C(64) << 30) / 100 * 50 },
		{ "100%", (UINT64_C(64) << 30) / 100 * 100 },
	};
	static const char *const bad[] = {
		"",
		"G",
		"-1",
		"+1M",
		"1.5G",
		"4X",
		"4GG",
		"4GB",

		"1048575",
		"1K",
		"0x100000",
		"99999999999999999999",
		"18446744073709551616",
		"9999999T",
		"4611686018427387905",
		"0%",
		"101%",
		"5%%",
		"%",
		"50%G",
		"1e9",
	};
	char line[128], quoted[64];

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		snprintf(line, sizeof(line), "/mnt -o size=%s", good[i].text);
		CHECK(parse(line) == 0 && o.size_bytes == good[i].bytes);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(line, sizeof(line), "/mnt -o size=%s", bad[i]);
		snprintf(quoted, sizeof(quoted), "'%s'", bad[i]);
		CHECK(refuses(line, "'size'", quoted, "%"));
	}
	CHECK(parse_as(&(struct options_machine){ .uid = 0 }, "/mnt -o size=50%") == -EINVAL);
	CHECK(strstr(why, "bytes"));
}

static void shard_counts(void)
{
	char line[64];

	for (unsigned n = 0; n <= STORE_SHARDS_MAX + 1; n++) {
		bool good = n >= 1 && n <= STORE_SHARDS_MAX && (n & (n - 1)) == 0;

		snprintf(line, sizeof(line), "/mnt -o shards=%u", n);
		CHECK((parse(line) == 0) == good);
		CHECK(good ? o.shards == n : strstr(why, "power of two") != NULL);
	}
	CHECK(refuses("/mnt -o shards=4k", "'shards'", "'4k'", "1024"));
	CHECK(refuses("/mnt -o shards=", "'shards'", "''", "1024"));
	CHECK(refuses("/mnt -o shards=18446744073709551617", "'shards'", "551617", "1024"));
}

static void values(void)
{
	CHECK(parse("/mnt -o ttl=1h") == 0 && o.ttl_ns == INT64_C(3600000000000));
	CHECK(parse("/mnt -o ttl=1.5") == 0 && o.ttl_ns == 1500000000);
	CHECK(parse("/mnt -o ttl=1h,ttl=never") == 0 && o.ttl_ns == STORE_TTL_NONE);
	CHECK(refuses("/mnt -o ttl=soon", "'ttl'", "'soon'", "15m"));
	CHECK(refuses("/mnt -o ttl=-1", "'ttl'", "'-1'", "never"));
	CHECK(refuses("/mnt -o ttl", "'ttl'", "needs a value", "15m"));
	CHECK(parse("/mnt -o data=none") == 0);
	CHECK(refuses("/mnt -o data=/var/lib/x", "'data'", "'/var/lib/x'", "later"));
	CHECK(refuses("/mnt -o data=", "'data'", "''", "none"));
	CHECK(parse("/mnt -o transport=dev") == 0 && o.transport == OPTIONS_TRANSPORT_DEV);
	CHECK(parse("/mnt -o transport=auto") == 0 && o.transport == OPTIONS_TRANSPORT_AUTO);
	CHECK(refuses("/mnt -o transport=uring", "'transport'", "'uring'", "/dev/fuse only"));
	CHECK(refuses("/mnt -o transport=tcp", "'transport'", "'tcp'", "auto or dev"));
	CHECK(parse("/mnt -o mode=1777,uid=7,gid=8") == 0);
	CHECK(o.root_mode == 01777 && o.root_uid == 7 && o.root_gid == 8);
	CHECK(refuses("/mnt -o mode=0789", "'mode'", "'0789'", "octal"));
	CHECK(refuses("/mnt -o mode=17777", "'mode'", "'17777'", "octal"));
	CHECK(refuses("/mnt -o mode=77777777777777777777777", "'mode'", "7777", "octal"));
	CHECK(refuses("/mnt -o mode=0", "'mode'", "'0'", "octal"));
	CHECK(refuses("/mnt -o uid=root", "'uid'", "'root'", "number"));
	CHECK(refuses("/mnt -o gid=4294967295", "'gid'", "'4294967295'", "4294967294"));
}

static void permissions(void)
{
	/* Only root can come in: the kernel's checks would forbid nothing. */
	CHECK(parse("/mnt") == 0 && !passes("default_permissions"));
	CHECK(parse("/mnt -o default_permissions") == 0 && passes("default_permissions"));
	CHECK(parse("/mnt -o allow_other") == 0);
	CHECK(passes("default_permissions") && passes("allow_other") && o.default_permissions);
	CHECK(parse_as(&user, "/mnt") == 0 && passes("default_permissions"));
	CHECK(parse_as(&user, "/mnt -o allow_root") == 0);
	CHECK(passes("default_permissions") && passes("allow_root"));
	CHECK(refuses("/mnt -o allow_root,allow_other", "allow_other", "allow_root", "exclude"));
	CHECK(refuses("/mnt -o allow_other=1", "'allow_other'", "'1'", "no value"));
	/* What the user says comes behind the defaults, and so wins. */
	CHECK(parse("/mnt -o suid,dev") == 0);
	CHECK(strncmp(o.mount_options, "nosuid,nodev,suid,dev,", 22) == 0);
}

static void vocabulary(void)
{
	CHECK(parse("none /mnt -o rw,defaults,_netdev,nofail,noauto,auto,user,users,nouser,owner,"
		    "group,relatime,strictatime,lazytime,nodiratime,x-systemd.automount,"
		    "x-systemd.requires=a.service,comment=all mine") == -EINVAL); /* a blank */
	CHECK(parse("none /mnt -o rw,defaults,_netdev,nofail,noauto,auto,user,users,nouser,owner,"
		    "group,relatime,strictatime,lazytime,nodiratime,x-systemd.automount,"
		    "x-systemd.requires=a.service,X-mount.mkdir,comment=mine,user=kim") == 0);
	CHECK(strcmp(o.mount_options, "nosuid,nodev,rw,fsname=none,subtype=ctxfs") == 0);
	CHECK(parse("/mnt -o ro,noexec,noatime,sync,dirsync,context=a:b:c") == 0);
	CHECK(passes("ro") && passes("noexec") && passes("noatime") && passes("sync"));
	CHECK(passes("dirsync") && passes("context=a:b:c"));
	CHECK(parse("/mnt -o ,,size=1M,,") == 0 && o.size_bytes == 1 << 20);
	CHECK(parse("/mnt -o debug") == 0 && o.debug);
	CHECK(refuses("/mnt -o auto_unmount", "'auto_unmount'", "not supported", "again"));
	CHECK(refuses("size=1G /mnt", "'size=1G'", "SOURCE", "-o"));
	CHECK(refuses("/mnt -o siez=1G", "'siez'", "not known", "size"));
	CHECK(refuses("/mnt -o defaults=1", "'defaults'", "'1'", "no value"));
	CHECK(refuses("/mnt -o ro=1", "'ro'", "'1'", "no value"));
	CHECK(refuses("/mnt -o context", "'context'", "needs a value", "security"));
	CHECK(refuses("/mnt -o =", "''", "not known", "size"));
	CHECK(parse("/mnt -o x-") == 0); /* nobody's word here, but somebody's */
	CHECK(refuses("/mnt -o fd=3", "'fd'", "not known", ""));
	CHECK(refuses("/mnt -o subtype=x", "'subtype'", "not known", ""));
	CHECK(refuses("/mnt -o user_id=3", "'user_id'", "not known", ""));
}

static void failure_changes_nothing(void)
{
	char *argv[] = { (char[]){ "ctxfs" }, (char[]){ "/mnt" }, (char[]){ "-oshards=3" }, NULL };
	struct options before;

	memset(&before, 0x5a, sizeof(before));
	struct options after = before;
	CHECK(options_parse(&after, 3, argv, &root, why) == -EINVAL);
	CHECK(memcmp(&before, &after, sizeof(before)) == 0);
}

static void long_values(void)
{
	char line[4096] = "/mnt -o ";
	size_t length = strlen(line);

	memset(line + length, 'q', sizeof(line) - length - 1);
	line[sizeof(line) - 1] = '\0';
	CHECK(parse(line) == -EINVAL && strlen(why) < OPTIONS_WHY_SIZE);
	memcpy(line + length, "size=", 5);
	CHECK(parse(line) == -EINVAL && strlen(why) < OPTIONS_WHY_SIZE);
	memcpy(line + length, "fsname=", 7);
	CHECK(parse(line) == 0 && strlen(o.source) == sizeof(line) - 1 - length - 7);
}

/* Whatever comes, it is either accepted in full or explained, and the bounds hold. */
static void random_lines(void)
{
	static const char *const pieces[] = {
		"size", "ttl", "shards", "data", "transport", "mode",     "uid",  "gid", "ro",
		"=",    "=",   ",",      ",",    "1",         "64",       "0",    "G",   "%",
		"\\",   "\\,", "none",   "auto", "1h",        "x-",       "user", "777", " ",
		" -o ", "-f",  "/mnt",   "--",   "-",         "comment=",
	};
	char line[256];

	for (int round = 0; round < 100000; round++) {
		size_t length = 0;
		unsigned count = (unsigned)tap_below(12);

		line[0] = '\0';
		for (unsigned i = 0; i < count; i++) {
			const char *piece = pieces[tap_below(sizeof(pieces) / sizeof(pieces[0]))];

			length +=
				(size_t)snprintf(line + length, sizeof(line) - length, "%s", piece);
		}
		int err = parse(line);
		CHECK(err == 0 || (err == -EINVAL && why[0] != '\0'));
		if (err || o.help || o.version)
			continue;
		CHECK(o.mount_point[0] != '\0' && o.source[0] != '\0');
		CHECK(o.size_bytes == 0 || o.size_bytes >= OPTIONS_SIZE_MIN);
		CHECK(o.shards >= 1 && o.shards <= STORE_SHARDS_MAX && o.ttl_ns >= 0);
		CHECK(o.root_mode >= 1 && o.root_mode <= 07777);
		CHECK(strncmp(o.mount_options, "nosuid,nodev,", 13) == 0);
		CHECK(passes("subtype=ctxfs"));
	}
}

int main(int argc, char **argv)
{
	tap_begin(argc, argv);
	tap_case("options: defaults, with half of the memory if that is less than 4G", defaults);
	tap_case("options: SOURCE, MOUNTPOINT and letters come in any order", arguments);
	tap_case("options: help and version need nothing else", help_and_version);
	tap_case("options: a source may hold a comma, and smuggles nothing in", source_names);
	tap_case("options: size= takes bytes, suffixes, shares; nothing else", sizes);
	tap_case("options: shards= takes the powers of two to 1024", shard_counts);
	tap_case("options: values are read, and refused with what is accepted", values);
	tap_case("options: the kernel checks modes unless only root can come in", permissions);
	tap_case("options: fstab's words are dropped, the kernel's go on", vocabulary);
	tap_case("options: a failure changes nothing", failure_changes_nothing);
	tap_case("options: long values are cut in the explanation, not in themselves", long_values);
	tap_case("options: random lines are accepted in full or explained", random_lines);
	options_free(&o);
	return tap_end();
}
