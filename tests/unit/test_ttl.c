/*
 * test_ttl.c: words of TTLs against a table, against exact integer arithmetic, and against a store.
 */
#include "fs/ttl.h"

#include "store/store.h"
#include "tests/unit/tap.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define MS INT64_C(1000000)
#define S  INT64_C(1000000000)

enum { UNTOUCHED = -77 };

static const struct unit {
	const char *name;
	int64_t ns;
	unsigned digits_max; /* digits of a fraction that are a whole number of nanoseconds */
} units[] = {
	{ "", S, 9 },         { "ms", MS, 6 },       { "s", S, 9 },          { "m", 60 * S, 9 },
	{ "h", 3600 * S, 9 }, { "d", 86400 * S, 9 }, { "w", 604800 * S, 9 },
};

enum { UNITS = sizeof(units) / sizeof(units[0]) };

/* The period that a word says, or the errno; and that a failure leaves the result alone. */
static int64_t parsed(const char *text, size_t size)
{
	int64_t ns = UNTOUCHED;
	int err = ttl_parse(text, size, &ns);
	CHECK(!err || ns == UNTOUCHED);
	return err ? err : ns;
}

static int64_t parsed_ms(const char *text)
{
	int64_t ns = UNTOUCHED;
	int err = ttl_parse_ms(text, strlen(text), &ns);
	CHECK(!err || ns == UNTOUCHED);
	return err ? err : ns;
}

static int64_t parsed_expires(const char *text, struct timespec now)
{
	int64_t ns = UNTOUCHED;
	int err = ttl_parse_expires(text, strlen(text), now, &ns);
	CHECK(!err || ns == UNTOUCHED);
	return err ? err : ns;
}

static void words(void)
{
	static const struct {
		const char *text;
		int64_t ns;
	} good[] = {
		{ "60", 60 * S },
		{ "1.5", 1500 * MS },
		{ "500ms", 500 * MS },
		{ "30s", 30 * S },
		{ "15m", 900 * S },
		{ "1h", 3600 * S },
		{ "7d", 7 * 86400 * S },
		{ "2w", 14 * 86400 * S },
		{ "0.5h", 1800 * S },
		{ ".5", 500 * MS },
		{ "007", 7 * S },
		{ "0", STORE_TTL_NONE },
		{ "0.000", STORE_TTL_NONE },
		{ "0ms", STORE_TTL_NONE },
		{ "never", STORE_TTL_NONE },
		{ "0.000000001", 1 },
		{ "0.0000000001", 1 }, /* above zero, so not "never" */
		{ "0.00000000000000000000000000000001w", 1 },
		{ "36525d", TTL_NS_MAX },
		{ "3155760000", TTL_NS_MAX },
		{ "3155760000.000000000", TTL_NS_MAX },
		{ "3155760000000ms", TTL_NS_MAX },
	};
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		CHECK(parsed(good[i].text, strlen(good[i].text)) == good[i].ns);
		CHECK(parsed(good[i].text, strlen(good[i].text) + 1) == good[i].ns);
	}
}

static void nonsense(void)
{
	static const char *const bad[] = {
		"",
		"-1",
		"-0",
		"+1",
		" 1",
		"1 ",
		"1 s",
		"s",
		"ms",
		".",
		"5.",
		"5.s",
		".s",
		"1.2.3",
		"1,5",
		"1e3",
		"0x10",
		"inf",
		"nan",
		"Never",
		"never ",
		"nevers",
		"neve",
		"1S",
		"1M",
		"1y",
		"1min",
		"1hour",
		"1ss",
		"1h30m",
		"1.5.ms",
		"five",
		"\n",
		"\n\n",
		"60\n\n",
		"6\n0",
		"36525.1d",
		"3155760001",
		"3155760000.000000001",
		"3155760000001ms",
		"5218w",
		"9223372036854775807",
		"9223372036854775808",
		"18446744073709551617",
		"99999999999999999999999999999999999999999999",
		"99999999999999999999999999999999999999999999.9w",
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(parsed(bad[i], strlen(bad[i])) == -EINVAL);
	CHECK(parsed("60\n", 3) == 60 * S);
	CHECK(parsed("60\n\0", 4) == -EINVAL); /* one is tolerated, not two */
	CHECK(parsed("60\0\0", 4) == -EINVAL);
	CHECK(parsed("6\0"
		     "0",
		     3) == -EINVAL);
	CHECK(parsed("\0", 1) == -EINVAL);
}

static void every_short_text(void)
{
	/* All texts of up to three of these; the grammar, written down a second time. */
	static const char set[] = "05.smhdw-";
	enum { SET = sizeof(set) - 1 };
	unsigned accepted = 0;
	for (unsigned n = 0; n < SET * SET * SET; n++) {
		char t[4] = { set[n % SET], set[n / SET % SET], set[n / SET / SET], 0 };
		size_t number = strspn(t, "05.");
		char *point = memchr(t, '.', number);
		bool digits = number && t[number - 1] != '.' &&
			      (!point || !memchr(point + 1, '.', number - (size_t)(point + 1 - t)));
		bool unit = !t[number] || !strcmp(t + number, "ms") ||
			    (!t[number + 1] && strchr("smhdw", t[number]));
		CHECK((parsed(t, 3) >= 0) == (digits && unit));
		accepted += parsed(t, 3) >= 0;
	}
	CHECK(accepted > 10);
}

static void exact(void)
{
	static const uint64_t pow10[] = { 1,      10,      100,      1000,      10000,
					  100000, 1000000, 10000000, 100000000, 1000000000 };
	for (int i = 0; i < 20000; i++) {
		const struct unit *unit = &units[tap_below(UNITS)];
		uint64_t whole = tap_below(2 * (uint64_t)(TTL_NS_MAX / unit->ns));
		if (i & 1)
			whole >>= tap_below(40);
		unsigned digits = (unsigned)tap_below(unit->digits_max + 1);
		uint64_t fraction = tap_below(pow10[digits]);
		char text[64];
		int length = snprintf(text, sizeof(text), "%" PRIu64, whole);
		if (digits)
			length += snprintf(text + length, sizeof(text) - (size_t)length,
					   ".%0*" PRIu64, (int)digits, fraction);
		length += snprintf(text + length, sizeof(text) - (size_t)length, "%s", unit->name);
		/* Fits: whole < 2 centuries of the unit, and a fraction is under one unit. */
		uint64_t ns = whole * (uint64_t)unit->ns +
			      fraction * ((uint64_t)unit->ns / pow10[digits]);
		int64_t want = ns <= (uint64_t)TTL_NS_MAX ? (int64_t)ns : -EINVAL;
		CHECK(parsed(text, (size_t)length) == want);
	}
}

static void round_trip(void)
{
	char text[TTL_TEXT_MAX];
	for (int i = 0; i < 20000; i++) {
		int64_t ns = (int64_t)tap_below((uint64_t)TTL_NS_MAX - MS) >> tap_below(60);
		int length = ttl_format_seconds(text, sizeof(text), ns);
		int64_t back = parsed(text, (size_t)length);
		CHECK(length == (int)strlen(text));
		CHECK(back >= ns && back < ns + MS);
		CHECK((back == 0) == (ns == 0));
		length = ttl_format_ms(text, sizeof(text), ns);
		CHECK(length == (int)strlen(text));
		CHECK(parsed_ms(text) == back);
	}
}

static void formats(void)
{
	char text[TTL_TEXT_MAX];
	ttl_format_seconds(text, sizeof(text), 59998 * MS);
	CHECK(!strcmp(text, "59.998"));
	ttl_format_seconds(text, sizeof(text), 59998 * MS + 1);
	CHECK(!strcmp(text, "59.999"));
	ttl_format_seconds(text, sizeof(text), 1);
	CHECK(!strcmp(text, "0.001"));
	ttl_format_seconds(text, sizeof(text), 0);
	CHECK(!strcmp(text, "0"));
	ttl_format_seconds(text, sizeof(text), 3600 * S);
	CHECK(!strcmp(text, "3600.000"));
	ttl_format_ms(text, sizeof(text), 59998 * MS);
	CHECK(!strcmp(text, "59998"));
	ttl_format_ms(text, sizeof(text), 0);
	CHECK(!strcmp(text, "0"));
	ttl_format_expires(text, sizeof(text), (struct timespec){ 1790000000, 123456789 });
	CHECK(!strcmp(text, "1790000000.123"));
	ttl_format_expires(text, sizeof(text), (struct timespec){ 1790000000, 999999999 });
	CHECK(!strcmp(text, "1790000001.000"));
	CHECK(ttl_format_ms(text, sizeof(text), TTL_NS_MAX) == 13);
}

static void milliseconds(void)
{
	CHECK(parsed_ms("1500") == 1500 * MS);
	CHECK(parsed_ms("1500\n") == 1500 * MS);
	CHECK(parsed_ms("0") == STORE_TTL_NONE);
	CHECK(parsed_ms("never") == STORE_TTL_NONE);
	CHECK(parsed_ms("3155760000000") == TTL_NS_MAX);
	CHECK(parsed_ms("3155760000001") == -EINVAL);
	CHECK(parsed_ms("1.5") == -EINVAL);
	CHECK(parsed_ms("1s") == -EINVAL);
	CHECK(parsed_ms("1ms") == -EINVAL);
	CHECK(parsed_ms("-1") == -EINVAL);
	CHECK(parsed_ms("") == -EINVAL);
}

static void expires(void)
{
	struct timespec now = { 1790000000, 500 * MS };
	CHECK(parsed_expires("1790000060.5", now) == 60 * S);
	CHECK(parsed_expires("1790000001", now) == 500 * MS);
	CHECK(parsed_expires("1790000000.500000001", now) == 1);
	CHECK(parsed_expires("1790000000.5", now) == 1); /* now, and before: it ends at once */
	CHECK(parsed_expires("1789999999", now) == 1);
	CHECK(parsed_expires("60", now) == 1);
	CHECK(parsed_expires("0", now) == STORE_TTL_NONE);
	CHECK(parsed_expires("never", now) == STORE_TTL_NONE);
	CHECK(parsed_expires("1790000060s", now) == -EINVAL);
	CHECK(parsed_expires("-1", now) == -EINVAL);
	CHECK(parsed_expires("4945760000.5", now) == TTL_NS_MAX);
	CHECK(parsed_expires("4945760000.500000001", now) == -EINVAL);
	CHECK(parsed_expires("9223372036.854775808", now) == -EINVAL);
	CHECK(parsed_expires("1790000060500", now) == -EINVAL); /* milliseconds, by mistake */
}

static void names(void)
{
	CHECK(ttl_xattr("user.ttl"));
	CHECK(ttl_xattr("user.ttl_ms"));
	CHECK(ttl_xattr("user.expires_at"));
	CHECK(!ttl_xattr("user.ttl_"));
	CHECK(!ttl_xattr("user.tt"));
	CHECK(!ttl_xattr("user.ttl_m"));
	CHECK(!ttl_xattr("USER.TTL"));
	CHECK(!ttl_xattr("trusted.ttl"));
	CHECK(!ttl_xattr(""));
}

/* ---- with a store ---- */

static struct store *store_new(void)
{
	struct store *s = NULL;
	struct store_options options = { .shards = 4 };
	int err = store_open(&s, &options);
	if (err)
		printf("Bail out! store_open: %s\n", strerror(-err)), exit(1);
	return s;
}

static uint64_t make(struct store *s, const char *name, uint32_t mode)
{
	struct store_birth birth = { .mode = mode };
	struct store_attr attr = { 0 };
	CHECK(!store_create(s, STORE_ROOT, name, strlen(name), &birth, 0, &attr));
	return attr.number;
}

static int set(struct store *s, uint64_t number, const char *name, const char *value,
	       unsigned flags)
{
	return ttl_set(s, number, name, value, strlen(value), flags);
}

/* The attribute as a number, in thousandths for those with a point; or -errno. */
static int64_t get(struct store *s, uint64_t number, const char *name)
{
	char text[TTL_TEXT_MAX] = "", more[4];
	ssize_t size = ttl_get(s, number, name, text, sizeof(text) - 1);
	if (size < 0)
		return size;
	CHECK(size == (ssize_t)strlen(text));
	CHECK(ttl_get(s, number, name, NULL, 0) >= 1);
	if (size > (ssize_t)sizeof(more))
		CHECK(ttl_get(s, number, name, more, sizeof(more)) == -ERANGE);
	char *point = strchr(text, '.');
	if (point)
		memmove(point, point + 1, strlen(point));
	return strtoll(text, NULL, 10);
}

static void of_files(void)
{
	struct store *s = store_new();
	uint64_t f = make(s, "f", 0100644);
	CHECK(get(s, f, "user.ttl") == -ENODATA);
	CHECK(get(s, f, "user.ttl_ms") == -ENODATA);
	CHECK(get(s, f, "user.expires_at") == -ENODATA);
	CHECK(ttl_remove(s, f, "user.ttl") == -ENODATA);
	CHECK(set(s, f, "user.ttl", "60", STORE_REPLACE) == -ENODATA);
	CHECK(set(s, f, "user.ttl", "soon", 0) == -EINVAL);
	CHECK(get(s, f, "user.ttl") == -ENODATA);
	CHECK(!set(s, f, "user.ttl", "1h", STORE_CREATE));
	CHECK(set(s, f, "user.ttl", "2h", STORE_CREATE) == -EEXIST);
	int64_t left = get(s, f, "user.ttl"); /* a minute is enough for any machine to get here */
	CHECK(left > 3540000 && left <= 3600000);
	CHECK(!set(s, f, "user.ttl_ms", "7200000", STORE_REPLACE));
	left = get(s, f, "user.ttl_ms");
	CHECK(left > 7140000 && left <= 7200000);
	char at[TTL_TEXT_MAX];
	struct timespec later = { time(NULL) + 86400, 0 };
	ttl_format_expires(at, sizeof(at), later);
	CHECK(!set(s, f, "user.expires_at", at, 0));
	CHECK(llabs(get(s, f, "user.expires_at") - later.tv_sec * 1000LL) <= 1);
	left = get(s, f, "user.ttl");
	CHECK(left > 86340000 && left <= 86400000);
	CHECK(!ttl_remove(s, f, "user.ttl_ms"));
	CHECK(get(s, f, "user.ttl") == -ENODATA);
	CHECK(!set(s, f, "user.ttl", "60", 0));
	CHECK(!set(s, f, "user.ttl", "never", 0));
	CHECK(get(s, f, "user.ttl") == -ENODATA);
	CHECK(!set(s, f, "user.expires_at", "1", 0)); /* gone at once */
	CHECK(get(s, f, "user.ttl") == -ESTALE || get(s, f, "user.ttl") == -ENOENT);
	CHECK(get(s, UINT64_C(1) << 40, "user.ttl") == -ENOENT);
	store_close(s);
}

static void of_directories(void)
{
	struct store *s = store_new();
	uint64_t d = make(s, "d", 0040755);
	CHECK(get(s, d, "user.ttl") == -ENODATA);
	CHECK(ttl_remove(s, d, "user.ttl") == -ENODATA);
	CHECK(!set(s, d, "user.ttl", "90s", 0));
	CHECK(get(s, d, "user.ttl") == 90000); /* the period, not what is left of it */
	CHECK(get(s, d, "user.ttl_ms") == 90000);
	CHECK(get(s, d, "user.expires_at") == -ENODATA);
	CHECK(set(s, d, "user.expires_at", "1790000000", 0) == -EINVAL);
	CHECK(ttl_remove(s, d, "user.expires_at") == -ENODATA);
	CHECK(get(s, d, "user.ttl") == 90000);
	CHECK(!set(s, d, "user.ttl", "never", 0));
	/* Without a default of the mount to overrule, "never" is the same as none. */
	CHECK(get(s, d, "user.ttl") == -ENODATA);
	CHECK(ttl_remove(s, d, "user.ttl") == -ENODATA);
	uint64_t l = make(s, "fifo", 0010644);
	CHECK(set(s, l, "user.ttl", "60", 0) == -EPERM);
	store_close(s);
}

int main(int argc, char **argv)
{
	tap_begin(argc, argv);
	tap_case("the words of the manual mean what it says", words);
	tap_case("nonsense is EINVAL and changes nothing", nonsense);
	tap_case("every text of three characters is judged by the grammar", every_short_text);
	tap_case("random numbers with units are exact to the nanosecond", exact);
	tap_case("what is written reads back within a millisecond, and never as none", round_trip);
	tap_case("formats", formats);
	tap_case("user.ttl_ms takes whole milliseconds", milliseconds);
	tap_case("user.expires_at counts from now", expires);
	tap_case("three names are about TTLs", names);
	tap_case("a file's TTL is set, read, replaced and removed", of_files);
	tap_case("a directory's TTL is a period for its files", of_directories);
	return tap_end();
}
