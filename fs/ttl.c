/*
 * ttl.c: see ttl.h. Words are read by hand rather than by strtod(): a locale must not change what a
 * script means, a double does not hold a nanosecond of a century, and "1e3", "inf" and "0x10" are
 * nonsense here. The value of an attribute has a length and no NUL, so nothing here looks for one.
 *
 * 1. A word above zero never becomes STORE_TTL_NONE, in either direction: a key that should expire
 *    would live for ever. Reading rounds up to 1 ns, writing rounds up to 1 ms.
 * 2. Reading what was written gives the same period within 1 ms.
 */
#include "fs/ttl.h"

#include "store/store.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S  INT64_C(1000000000)

static_assert(TTL_NS_MAX > 0 && TTL_NS_MAX < INT64_MAX - NS_PER_S, "rounding up cannot overflow");

/* The three attributes, in the order of `names`; UNKNOWN is anybody else's attribute. */
enum form { FORM_SECONDS, FORM_MS, FORM_EXPIRES, FORM_UNKNOWN };

static const char *const names[FORM_UNKNOWN] = {
	[FORM_SECONDS] = "user.ttl",
	[FORM_MS] = "user.ttl_ms",
	[FORM_EXPIRES] = "user.expires_at",
};

static const struct unit {
	const char *name;
	int64_t ns;
} units[] = {
	{ "", NS_PER_S },
	{ "ms", NS_PER_MS },
	{ "s", NS_PER_S },
	{ "m", 60 * NS_PER_S },
	{ "h", 3600 * NS_PER_S },
	{ "d", 86400 * NS_PER_S },
	{ "w", 7 * 86400 * NS_PER_S },
};

static enum form form_of(const char *name)
{
	enum form form = 0;
	while (form < FORM_UNKNOWN && strcmp(name, names[form]))
		form++;
	return form;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* The length of the word without the one NUL or newline that may follow it. */
static size_t word_size(const char *text, size_t size)
{
	bool tail = size && (text[size - 1] == '\0' || text[size - 1] == '\n');
	return tail ? size - 1 : size;
}

static bool word_is(const char *text, size_t size, const char *word)
{
	return size == strlen(word) && !memcmp(text, word, size);
}

static const struct unit *unit_find(const char *text, size_t size)
{
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (word_is(text, size, units[i].name))
			return &units[i];
	return NULL;
}

/* Splits a word: *whole digits, a point, *fraction digits; the rest is the unit. */
static bool split(const char *text, size_t size, size_t *whole, size_t *fraction)
{
	size_t at = 0;
	while (at < size && is_digit(text[at]))
		at++;
	*whole = at;
	*fraction = 0;
	if (at == size || text[at] != '.')
		return *whole > 0;
	for (at++; at < size && is_digit(text[at]); at++)
		(*fraction)++;
	return *fraction > 0; /* ".5" is what bc(1) prints; "5." is half a word */
}

/* The value in nanoseconds of digits, whole before the point and fraction after it. */
static int decimal(const char *text, size_t whole, size_t fraction, int64_t unit_ns, int64_t ns_max,
		   int64_t *ns)
{
	uint64_t unit = (uint64_t)unit_ns, max = (uint64_t)ns_max, sum = 0;
	for (size_t i = 0; i < whole; i++) {
		sum = sum * 10 + (uint64_t)(text[i] - '0');
		if (sum > max / unit)
			return -EINVAL;
	}
	sum *= unit;
	bool above_zero = sum > 0;
	for (size_t i = 0; i < fraction; i++) {
		char digit = text[whole + 1 + i];
		unit /= 10;
		sum += unit * (uint64_t)(digit - '0');
		above_zero = above_zero || digit != '0';
	}
	if (sum > max)
		return -EINVAL;
	*ns = above_zero && !sum ? 1 : (int64_t)sum;
	return 0;
}

int ttl_parse(const char *text, size_t size, int64_t *period_ns)
{
	size_t length = word_size(text, size), whole, fraction;
	if (word_is(text, length, "never")) {
		*period_ns = STORE_TTL_NONE;
		return 0;
	}
	if (!split(text, length, &whole, &fraction))
		return -EINVAL;
	size_t number = whole + (fraction ? fraction + 1 : 0);
	const struct unit *unit = unit_find(text + number, length - number);
	if (!unit)
		return -EINVAL;
	return decimal(text, whole, fraction, unit->ns, TTL_NS_MAX, period_ns);
}

int ttl_parse_ms(const char *text, size_t size, int64_t *period_ns)
{
	size_t length = word_size(text, size), whole, fraction;
	if (word_is(text, length, "never")) {
		*period_ns = STORE_TTL_NONE;
		return 0;
	}
	if (!split(text, length, &whole, &fraction) || whole != length)
		return -EINVAL;
	return decimal(text, whole, 0, NS_PER_MS, TTL_NS_MAX, period_ns);
}

int ttl_parse_expires(const char *text, size_t size, struct timespec now, int64_t *period_ns)
{
	size_t length = word_size(text, size), whole, fraction;
	if (word_is(text, length, "never")) {
		*period_ns = STORE_TTL_NONE;
		return 0;
	}
	if (!split(text, length, &whole, &fraction) ||
	    whole + (fraction ? fraction + 1 : 0) != length)
		return -EINVAL;
	int64_t at_ns;
	int err = decimal(text, whole, fraction, NS_PER_S, INT64_MAX, &at_ns);
	if (err)
		return err;
	int64_t left_ns = at_ns - (now.tv_sec * NS_PER_S + now.tv_nsec);
	if (left_ns > TTL_NS_MAX)
		return -EINVAL;
	if (at_ns == 0)
		*period_ns = STORE_TTL_NONE;
	else
		*period_ns = left_ns > 0 ? left_ns : 1;
	return 0;
}

/* Whole milliseconds, rounded up (invariant 1). */
static int64_t ms_up(int64_t ns)
{
	assert(ns >= 0);
	return ns / NS_PER_MS + (ns % NS_PER_MS != 0);
}

static int format_thousandths(char *buffer, size_t size, int64_t ms)
{
	assert(size >= TTL_TEXT_MAX);
	int length =
		ms ? snprintf(buffer, size, "%lld.%03d", (long long)(ms / 1000), (int)(ms % 1000))
		   : snprintf(buffer, size, "0");
	assert(length > 0 && length < TTL_TEXT_MAX);
	return length;
}

int ttl_format_seconds(char *buffer, size_t size, int64_t ns)
{
	return format_thousandths(buffer, size, ms_up(ns));
}

int ttl_format_ms(char *buffer, size_t size, int64_t ns)
{
	assert(size >= TTL_TEXT_MAX);
	int length = snprintf(buffer, size, "%lld", (long long)ms_up(ns));
	assert(length > 0 && length < TTL_TEXT_MAX);
	return length;
}

int ttl_format_expires(char *buffer, size_t size, struct timespec at)
{
	assert(at.tv_sec >= 0);
	assert(at.tv_nsec >= 0 && at.tv_nsec < NS_PER_S);
	int64_t ms = (at.tv_nsec + NS_PER_MS / 2) / NS_PER_MS;
	return format_thousandths(buffer, size, at.tv_sec * 1000 + ms);
}

bool ttl_xattr(const char *name)
{
	return form_of(name) != FORM_UNKNOWN;
}

/* 1 for a directory, 0 for anything else, or -errno. */
static int is_directory(struct store *s, uint64_t number)
{
	struct store_attr attr;
	int err = store_getattr(s, number, STORE_BY_HANDLE, &attr);
	return err ? err : S_ISDIR(attr.mode);
}

static int parse(enum form form, const char *value, size_t size, int64_t *period_ns)
{
	if (form == FORM_SECONDS)
		return ttl_parse(value, size, period_ns);
	if (form == FORM_MS)
		return ttl_parse_ms(value, size, period_ns);
	struct timespec now;
	int err = clock_gettime(CLOCK_REALTIME, &now);
	assert(!err);
	return ttl_parse_expires(value, size, now, period_ns);
}

int ttl_set(struct store *s, uint64_t number, const char *name, const char *value, size_t size,
	    unsigned flags)
{
	enum form form = form_of(name);
	assert(form != FORM_UNKNOWN);
	assert(!(flags & ~(unsigned)(STORE_CREATE | STORE_REPLACE)));
	int64_t period_ns;
	int err = parse(form, value, size, &period_ns);
	if (err)
		return err;
	int directory = form == FORM_EXPIRES ? is_directory(s, number) : 0;
	if (directory)
		return directory < 0 ? directory : -EINVAL;
	if (flags) {
		/* Two setters at once may both pass; that costs nothing but the errno of one. */
		struct store_ttl ttl;
		err = store_get_ttl(s, number, &ttl);
		if (err && err != -ENODATA)
			return err;
		if (flags & STORE_CREATE && !err)
			return -EEXIST;
		if (flags & STORE_REPLACE && err)
			return err;
	}
	return store_set_ttl(s, number, period_ns, NULL);
}

ssize_t ttl_get(struct store *s, uint64_t number, const char *name, char *buffer, size_t size)
{
	enum form form = form_of(name);
	assert(form != FORM_UNKNOWN);
	int directory = is_directory(s, number);
	if (directory < 0)
		return directory;
	struct store_ttl ttl;
	int err = store_get_ttl(s, number, &ttl);
	if (err)
		return err;
	int64_t ns = directory ? ttl.period_ns : ttl.left_ns;
	char word[TTL_TEXT_MAX];
	int length;
	if (form == FORM_SECONDS)
		length = ttl_format_seconds(word, sizeof(word), ns);
	else if (form == FORM_MS)
		length = ttl_format_ms(word, sizeof(word), ns);
	else if (!directory)
		length = ttl_format_expires(word, sizeof(word), ttl.expires_at);
	else
		return -ENODATA;
	if (!size)
		return length;
	if (size < (size_t)length)
		return -ERANGE;
	memcpy(buffer, word, (size_t)length);
	return length;
}

int ttl_remove(struct store *s, uint64_t number, const char *name)
{
	assert(ttl_xattr(name));
	int directory = is_directory(s, number);
	if (directory < 0)
		return directory;
	if (directory && form_of(name) == FORM_EXPIRES)
		return -ENODATA;
	bool none;
	int err = store_set_ttl(s, number, directory ? STORE_TTL_DEFAULT : STORE_TTL_NONE, &none);
	if (err)
		return err;
	return none ? -ENODATA : 0;
}
