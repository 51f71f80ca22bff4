/*
 * test_report.c: the pages of the statistics: one size whatever happens, figures that agree with
 * what was recorded, JSON that is JSON.
 */
#include "fs/report.h"

#include "store/store.h"
#include "tests/unit/tap.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#define MS INT64_C(1000000)
#define S  INT64_C(1000000000)

static const char *const op_names[] = {
#define NAME(name) #name,
	REPORT_OPS(NAME)
#undef NAME
};

struct fixture {
	struct store *store;
	struct report *report;
};

static struct fixture setup(const char *transport)
{
	struct fixture f = { 0 };
	struct store_options options = { .size_bytes = 64 << 20, .shards = 4 };
	struct report_facts facts = { .version = "1.2.3", .transport = transport };
	if (store_open(&f.store, &options) || report_new(&f.report, f.store, &facts)) {
		printf("Bail out! no store or report\n");
		exit(1);
	}
	return f;
}

static void teardown(struct fixture *f)
{
	report_free(f->report);
	store_close(f->store);
}

/* A page as a string. */
static char *page(struct report *r, int render(struct report *, char **, size_t *), size_t *size)
{
	char *bytes = NULL;
	CHECK(!render(r, &bytes, size));
	char *text = realloc(bytes, *size + 1);
	if (!text)
		abort();
	text[*size] = '\0';
	CHECK(strlen(text) == *size);
	return text;
}

/* ---- a reader of JSON, as strict as RFC 8259 for what a report may contain ---- */

static const char *json_space(const char *at)
{
	return at + strspn(at, " \t\r\n");
}

static const char *json_string(const char *at)
{
	if (*at++ != '"')
		return NULL;
	for (; *at != '"'; at++) {
		if ((unsigned char)*at < ' ')
			return NULL;
		if (*at == '\\' && !strchr("\"\\/bfnrtu", *++at))
			return NULL;
		if (*at == 'u' && at[-1] == '\\')
			for (int i = 0; i < 4; i++)
				if (!isxdigit((unsigned char)*++at))
					return NULL;
	}
	return at + 1;
}

static const char *json_integer(const char *at)
{
	size_t digits = strspn(at, "0123456789");
	return digits && (digits == 1 || *at != '0') ? at + digits : NULL;
}

/* The end of the value at `at`, or NULL if there is no valid one. */
static const char *json_value(const char *at)
{
	at = json_space(at);
	if (*at == '"')
		return json_string(at);
	if (*at != '{')
		return json_integer(at);
	do {
		at = json_string(json_space(at + 1));
		if (!at || *json_space(at) != ':')
			return NULL;
		at = json_value(json_space(at) + 1);
		if (!at)
			return NULL;
		at = json_space(at);
	} while (*at == ',');
	return *at == '}' ? at + 1 : NULL;
}

/* The number behind "object": { … "key": n, or just behind "key": if object is NULL. */
static uint64_t json_get(const char *text, const char *object, const char *key)
{
	char quoted[64];
	const char *at = text;
	if (object) {
		snprintf(quoted, sizeof(quoted), "\"%s\": {", object);
		at = strstr(at, quoted);
		CHECK(at);
	}
	snprintf(quoted, sizeof(quoted), "\"%s\":", key);
	at = at ? strstr(at, quoted) : NULL;
	CHECK(at);
	return at ? strtoull(at + strlen(quoted), NULL, 10) : UINT64_MAX;
}

static void check_json(const char *text)
{
	const char *end = json_value(text);
	CHECK(end && !strcmp(end, "\n"));
}

/* ---- cases ---- */

static void record_random(struct report *r)
{
	int64_t ages[] = { 0, 300, 40000, 7 * MS, 3 * S, 3600 * S, 30 * 86400 * S };
	int64_t age = ages[tap_below(sizeof(ages) / sizeof(ages[0]))];
	report_record(r, (enum report_op)tap_below(REPORT_OP_COUNT), report_clock() - age,
		      tap_below(3) ? 0 : EIO);
}

static void size_is_constant(void)
{
	struct fixture f = setup("dev, 2 threads");
	size_t text_size, json_size, size;
	free(page(f.report, report_text, &text_size));
	free(page(f.report, report_json, &json_size));
	for (int i = 0; i < 200; i++) {
		for (int j = 0; j < i; j++)
			record_random(f.report);
		char key[32];
		snprintf(key, sizeof(key), "key%d", i);
		CHECK(!store_set(f.store, key, key, strlen(key), i & 1 ? 3600 * S : 0));
		CHECK(store_get(f.store, key, key, sizeof(key)) >= 0);
		if (i == 150)
			report_reset(f.report);
		free(page(f.report, report_text, &size));
		CHECK(size == text_size);
		free(page(f.report, report_json, &size));
		CHECK(size == json_size);
	}
	teardown(&f);
}

/* Every line fits, and every kind has a row, once. */
static void check_layout(const char *text)
{
	for (const char *line = text; *line; line = strchr(line, '\n') + 1) {
		CHECK(strchr(line, '\n'));
		CHECK(strcspn(line, "\n") <= 100);
	}
	for (unsigned op = 0; op < REPORT_OP_COUNT; op++) {
		char row[32];
		snprintf(row, sizeof(row), "\n%-15s ", op_names[op]);
		const char *first = strstr(text, row);
		CHECK(first && !strstr(first + 1, row));
	}
}

static void layout(void)
{
	struct fixture f =
		setup("a transport with so many good reasons for having been chosen that "
		      "nobody wants to read all of them to the very end of a long line");
	for (int i = 0; i < 500; i++) {
		record_random(f.report);
		size_t size;
		char *text = page(f.report, report_text, &size);
		if (i % 50 == 0)
			check_layout(text);
		free(text);
	}
	teardown(&f);
}

static void used_kinds_come_first(void)
{
	struct fixture f = setup("dev");
	report_record(f.report, REPORT_WRITE, report_clock(), 0);
	size_t size;
	char *text = page(f.report, report_text, &size);
	const char *used = strstr(text, "\nWRITE "), *unused = strstr(text, "\nLOOKUP ");
	CHECK(used && unused && used < unused);
	CHECK(strstr(text, "1.2.3"));
	CHECK(strstr(text, "of requests that reached ctxfs"));
	CHECK(strstr(text, "daemon's own handling time"));
	free(text);
	teardown(&f);
}

static void figures_agree(void)
{
	struct fixture f = setup("dev");
	uint64_t count[REPORT_OP_COUNT] = { 0 }, errors[REPORT_OP_COUNT] = { 0 };
	for (int i = 0; i < 5000; i++) {
		unsigned op = (unsigned)tap_below(REPORT_OP_COUNT);
		int error = tap_below(4) ? 0 : ENOENT;
		report_record(f.report, op, report_clock() - 5 * MS, error);
		count[op]++;
		errors[op] += error != 0;
	}
	size_t size;
	char *text = page(f.report, report_json, &size);
	check_json(text);
	const char *operations = strstr(text, "\"operations\"");
	for (unsigned op = 0; op < REPORT_OP_COUNT; op++) {
		const char *name = op_names[op];
		CHECK(json_get(text, "messages", name) == count[op]);
		CHECK(json_get(operations, name, "count") == count[op]);
		CHECK(json_get(operations, name, "errors") == errors[op]);
		uint64_t p50 = json_get(operations, name, "p50_ns");
		uint64_t p999 = json_get(operations, name, "p999_ns");
		uint64_t max = json_get(operations, name, "max_ns");
		CHECK(count[op] ? p50 >= 5 * MS && p50 <= p999 && p999 <= max : !max);
		CHECK(json_get(operations, name, "sum_ns") >= count[op] * 5 * MS);
	}
	free(text);
	teardown(&f);
}

static void clocks_of_the_future(void)
{
	struct fixture f = setup("dev");
	report_record(f.report, REPORT_READ, report_clock() + 3600 * S, 0);
	size_t size;
	char *text = page(f.report, report_json, &size);
	CHECK(json_get(strstr(text, "\"operations\""), "READ", "max_ns") == 0);
	CHECK(json_get(text, "messages", "READ") == 1);
	free(text);
	teardown(&f);
}

static void store_figures(void)
{
	struct fixture f = setup("dev");
	char value[16];
	CHECK(!store_set(f.store, "a", "1", 1, 0));
	CHECK(!store_set(f.store, "b", "2", 1, 3600 * S));
	store_reset_counters(f.store);
	CHECK(store_get(f.store, "a", value, sizeof(value)) == 1);
	CHECK(store_get(f.store, "b", value, sizeof(value)) == 1);
	CHECK(store_get(f.store, "c", value, sizeof(value)) == -ENOENT);
	struct store_stats stats;
	store_stats(f.store, &stats);
	size_t size;
	char *text = page(f.report, report_json, &size);
	CHECK(json_get(text, NULL, "keys") == 2);
	CHECK(json_get(text, NULL, "with_ttl") == stats.with_ttl);
	CHECK(json_get(text, NULL, "hits") == stats.hits);
	CHECK(json_get(text, NULL, "misses") == stats.misses);
	CHECK(json_get(text, NULL, "bytes_used") == stats.bytes_used);
	CHECK(json_get(text, NULL, "bytes_limit") == 64 << 20);
	CHECK(json_get(text, NULL, "sequence") == stats.sequence);
	CHECK(stats.hits == 2 && stats.misses == 1);
	free(text);
	text = page(f.report, report_text, &size);
	CHECK(strstr(text, "66.7 %")); /* the hit rate */
	CHECK(strstr(text, "64.0 MiB"));
	free(text);
	teardown(&f);
}

static void reset(void)
{
	struct fixture f = setup("dev");
	char value[16];
	CHECK(!store_set(f.store, "a", "1", 1, 0));
	CHECK(store_get(f.store, "a", value, sizeof(value)) == 1);
	report_record(f.report, REPORT_READ, report_clock(), EIO);
	int64_t before = report_clock();
	report_reset(f.report);
	size_t size;
	char *text = page(f.report, report_json, &size);
	CHECK(json_get(text, "messages", "READ") == 0);
	CHECK(json_get(strstr(text, "\"operations\""), "READ", "errors") == 0);
	CHECK(json_get(text, NULL, "hits") == 0);
	CHECK(json_get(text, NULL, "keys") == 1); /* what it holds is no counter */
	CHECK(json_get(text, NULL, "counting_ns") <= (uint64_t)(report_clock() - before));
	CHECK(json_get(text, NULL, "uptime_ns") >= json_get(text, NULL, "counting_ns"));
	free(text);
	report_record(f.report, REPORT_READ, report_clock(), 0);
	text = page(f.report, report_json, &size);
	CHECK(json_get(text, "messages", "READ") == 1);
	free(text);
	teardown(&f);
}

static void facts_are_quoted(void)
{
	struct fixture f = setup("dev: \"two\" threads\\\n\tand \x01 more");
	size_t size;
	char *text = page(f.report, report_json, &size);
	check_json(text);
	CHECK(strstr(text, "\"dev: \\\"two\\\" threads\\\\\\u000a\\u0009and \\u0001 more\""));
	free(text);
	teardown(&f);
}

enum { THREADS = 3, RECORDS = 20000 };

static void *recorder(void *arg)
{
	struct report *r = arg;
	for (int i = 0; i < RECORDS; i++)
		report_record(r, REPORT_READ, report_clock(), i % 4 ? 0 : ENOENT);
	return NULL;
}

static void threads(void)
{
	struct fixture f = setup("dev");
	pthread_t thread[THREADS];
	for (int i = 0; i < THREADS; i++)
		CHECK(!pthread_create(&thread[i], NULL, recorder, f.report));
	uint64_t seen = 0;
	size_t size;
	for (int i = 0; i < 20; i++) {
		char *text = page(f.report, report_json, &size);
		uint64_t count = json_get(text, "messages", "READ");
		CHECK(count >= seen && count <= THREADS * RECORDS);
		seen = count;
		free(text);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	char *text = page(f.report, report_json, &size);
	CHECK(json_get(text, "messages", "READ") == THREADS * RECORDS);
	CHECK(json_get(strstr(text, "\"operations\""), "READ", "errors") == THREADS * RECORDS / 4);
	free(text);
	teardown(&f);
}

int main(int argc, char **argv)
{
	tap_begin(argc, argv);
	tap_case("a page has one size, whatever was recorded", size_is_constant);
	tap_case("every line fits in 100 columns, every kind has one row", layout);
	tap_case("kinds that were seen come before those that were not", used_kinds_come_first);
	tap_case("messages, operations and errors are what was recorded", figures_agree);
	tap_case("a message from the future took no time", clocks_of_the_future);
	tap_case("the store's figures are its own", store_figures);
	tap_case("reset begins anew but for what the store holds", reset);
	tap_case("facts are quoted as JSON wants it", facts_are_quoted);
	tap_case("no record of any thread is lost, and pages meanwhile are sound", threads);
	return tap_end();
}
