/*
 * report.c: collects the figures once (struct figures), then lays them out twice.
 *
 * The daemon can time only itself: from a message's arrival in a handler to its answer. What the
 * kernel adds (waking the daemon, copying, the way back to the program) is not in these times, and
 * what the kernel answers from its own caches never gets here, neither as a time nor as a hit. The
 * page says both, because otherwise its readers would take these figures for what programs see.
 *
 * 1. A page has one size for the life of the report: every field has a fixed width, numbers that
 *    outgrow it are written in larger units, JSON numbers are padded with white space. Hence no
 *    field may be left out either: kinds of messages that were never seen are shown, as the last.
 * 2. One page is made from one reading of each figure: a count in `messages` and in `operations` is
 *    the same, percentiles agree with the count next to them.
 *
 * Locking: none of its own. Histograms are per thread (store/histogram.h); since_ns is atomic.
 */
#include "fs/report.h"

#include "store/store.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NS_PER_S UINT64_C(1000000000)

enum {
	REPORT_COLUMNS = 100, /* of the page */
	REPORT_WORD_MAX = 48, /* of one formatted figure, with NUL */
};

static_assert((int)REPORT_OP_COUNT <= HISTOGRAM_OPERATIONS_MAX, "a histogram for each kind");

static const char *const op_names[REPORT_OP_COUNT] = {
#define REPORT_OP_NAME(name) #name,
	REPORT_OPS(REPORT_OP_NAME)
#undef REPORT_OP_NAME
};

struct report {
	/* constant after new */
	struct store *store;
	struct histogram_set *times;
	char *version, *transport;
	int64_t started_ns;
	size_t text_size, json_size; /* 0 until the first page (invariant 1) */

	/* atomic */
	_Atomic int64_t since_ns; /* of the last reset; relaxed, nothing hangs on it */
};

/* All that a page shows, read once (invariant 2). */
struct figures {
	uint64_t uptime_ns, counting_ns, dropped;
	struct store_stats store;
	struct histogram_summary times[REPORT_OP_COUNT];
	uint64_t errors[REPORT_OP_COUNT];
	struct histogram merged; /* working space */
};

int64_t report_clock(void)
{
	struct timespec now;
	int err = clock_gettime(CLOCK_MONOTONIC, &now);
	assert(!err);
	return now.tv_sec * (int64_t)NS_PER_S + now.tv_nsec;
}

/* ---- figures of fixed width ---- */

/* A count, right-aligned: its digits while they fit, then with k, M, G, T, P or E behind. */
static void format_count(char word[REPORT_WORD_MAX], uint64_t n, int width)
{
	static const char suffixes[] = " kMGTPE";
	int length = snprintf(word, REPORT_WORD_MAX, "%*" PRIu64, width, n);
	for (int i = 1; length > width; i++) {
		assert(suffixes[i]);
		n /= 1000;
		length = snprintf(word, REPORT_WORD_MAX, "%*" PRIu64 "%c", width - 1, n,
				  suffixes[i]);
	}
	assert(length == width);
}

/* A size in 9 columns: "512   B  ", "1.50 GiB ". */
static void format_bytes(char word[REPORT_WORD_MAX], uint64_t bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	unsigned unit = 0;
	double value = (double)bytes;
	for (; value >= 999.5 && unit < sizeof(units) / sizeof(units[0]) - 1; unit++)
		value /= 1024;
	int digits = !unit || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
	int length = snprintf(word, REPORT_WORD_MAX, "%4.*f %-3s", digits, value, units[unit]);
	assert(length == 8);
}

/* A time in 7 columns, three digits of it: "850 ns", "12.3 us", "4.56 ms". */
static void format_time(char word[REPORT_WORD_MAX], uint64_t ns)
{
	static const char *const units[] = { "ns", "us", "ms", "s " };
	unsigned unit = 0;
	double value = (double)ns;
	for (; value >= 999.5 && unit < sizeof(units) / sizeof(units[0]) - 1; unit++)
		value /= 1000;
	if (value > 9999)
		value = 9999; /* hours: whatever it is, it is not a latency */
	int digits = !unit || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
	int length = snprintf(word, REPORT_WORD_MAX, "%4.*f %s", digits, value, units[unit]);
	assert(length == 7);
}

/* A span in 14 columns: "   3d 04:05:06". */
static void format_span(char word[REPORT_WORD_MAX], uint64_t ns)
{
	uint64_t s = ns / NS_PER_S;
	unsigned day_s = (unsigned)(s % 86400);
	uint64_t days = s / 86400;
	int length = snprintf(word, REPORT_WORD_MAX, "%4" PRIu64 "d %02u:%02u:%02u",
			      days < 9999 ? days : 9999, day_s / 3600, day_s / 60 % 60, day_s % 60);
	assert(length == 14);
}

/* part / whole, scaled, in 8 columns with one decimal; a dash if there is no whole. */
static void format_ratio(char word[REPORT_WORD_MAX], uint64_t part, uint64_t whole, double scale)
{
	double value = whole ? (double)part / (double)whole * scale : 0;
	int length =
		whole ? snprintf(word, REPORT_WORD_MAX, "%8.1f", value < 999999 ? value : 999999)
		      : snprintf(word, REPORT_WORD_MAX, "%8s", "-");
	assert(length == 8);
}

/* ---- collecting ---- */

static uint64_t since(int64_t now_ns, int64_t then_ns)
{
	return now_ns > then_ns ? (uint64_t)(now_ns - then_ns) : 0;
}

static void collect(struct report *r, struct figures *f)
{
	int64_t now_ns = report_clock();
	f->uptime_ns = since(now_ns, r->started_ns);
	f->counting_ns = since(now_ns, atomic_load_explicit(&r->since_ns, memory_order_relaxed));
	f->dropped = histogram_set_dropped(r->times);
	store_stats(r->store, &f->store);
	for (unsigned op = 0; op < REPORT_OP_COUNT; op++) {
		histogram_set_read(r->times, op, &f->merged, &f->errors[op]);
		histogram_summarise(&f->merged, &f->times[op]);
	}
}

/* ---- the page ---- */

static void text_head(const struct report *r, const struct figures *f, FILE *out)
{
	char up[REPORT_WORD_MAX], counting[REPORT_WORD_MAX];
	format_span(up, f->uptime_ns);
	format_span(counting, f->counting_ns);
	fprintf(out, "ctxfs %.60s   up %s\n", r->version, up);
	fprintf(out, "transport  %.*s\n", REPORT_COLUMNS - 11, r->transport);
	fprintf(out, "counting   %s since the start, or the last echo reset > .ctx/control\n\n",
		counting);
}

/* Three figures to a line, the labels in columns 1, 31 and 61. */
static void text_store(const struct store_stats *s, FILE *out)
{
	char a[REPORT_WORD_MAX], b[REPORT_WORD_MAX], c[REPORT_WORD_MAX];
	format_count(a, s->keys, 12);
	format_count(b, s->with_ttl, 12);
	format_count(c, s->objects, 12);
	fprintf(out, "keys       %s       with TTL   %s       objects    %s\n", a, b, c);
	format_bytes(a, s->bytes_used);
	format_bytes(b, s->bytes_limit);
	format_ratio(c, s->bytes_used, s->bytes_limit, 100);
	fprintf(out, "bytes          %s       limit          %s       in use         %s %%\n", a,
		s->bytes_limit ? b : "none    ", c);
	format_count(a, s->hits, 12);
	format_count(b, s->misses, 12);
	format_ratio(c, s->hits, s->hits + s->misses, 100);
	fprintf(out, "hits       %s       misses     %s       hit rate       %s %% %s\n", a, b, c,
		"(1)");
	format_count(a, s->expired, 12);
	format_bytes(b, s->bytes_read);
	format_bytes(c, s->bytes_written);
	fprintf(out, "expired    %s       read           %s       written        %s\n", a, b, c);
	format_count(a, s->batches, 12);
	format_count(b, s->batch_keys, 12);
	format_ratio(c, s->batch_keys, s->batches, 1);
	fprintf(out, "batches    %s       batch keys %s       keys per batch %s\n", a, b, c);
	fputs("(1) of requests that reached ctxfs by name: the kernel answers for names that it\n"
	      "    knows, and asks for a new one, which is a miss, before it creates it\n\n",
	      out);
}

static void text_row(const struct figures *f, unsigned op, FILE *out)
{
	const struct histogram_summary *t = &f->times[op];
	const uint64_t times_ns[] = { t->p50_ns, t->p90_ns,  t->p95_ns,
				      t->p99_ns, t->p999_ns, t->max_ns };
	char count[REPORT_WORD_MAX], errors[REPORT_WORD_MAX];
	format_count(count, t->count, 12);
	format_count(errors, f->errors[op], 10);
	fprintf(out, "%-15s %s %s", op_names[op], count, errors);
	for (unsigned i = 0; i < sizeof(times_ns) / sizeof(times_ns[0]); i++) {
		char time[REPORT_WORD_MAX] = "      -";
		if (t->count)
			format_time(time, times_ns[i]);
		fprintf(out, "   %s", time);
	}
	fputc('\n', out);
}

/* Kinds that were seen come first: the rest of the table is for those who look for a zero. */
static void text_table(const struct figures *f, FILE *out)
{
	fprintf(out,
		"Messages from the kernel by kind, and the daemon's own handling time of each.\n"
		"An answer with an errno is an error, also where it only says that nothing is "
		"there.\n"
		"%-15s %12s %10s   %7s   %7s   %7s   %7s   %7s   %7s\n",
		"kind", "count", "errors", "p50  ", "p90  ", "p95  ", "p99  ", "p99.9  ", "max  ");
	for (unsigned op = 0; op < REPORT_OP_COUNT; op++)
		if (f->times[op].count)
			text_row(f, op, out);
	for (unsigned op = 0; op < REPORT_OP_COUNT; op++)
		if (!f->times[op].count)
			text_row(f, op, out);
}

static void text(const struct report *r, const struct figures *f, FILE *out)
{
	text_head(r, f, out);
	text_store(&f->store, out);
	text_table(f, out);
}

/* ---- JSON ---- */

enum {
	JSON_DIGITS = 20,   /* of UINT64_MAX */
	JSON_NAME_MAX = 15, /* COPY_FILE_RANGE */
};

static void json_string(const char *name, const char *value, FILE *out)
{
	fprintf(out, "  \"%s\": \"", name);
	for (; *value; value++) {
		if ((unsigned char)*value < ' ')
			fprintf(out, "\\u%04x", (unsigned)*value);
		else if (*value == '"' || *value == '\\')
			fprintf(out, "\\%c", *value);
		else
			fputc(*value, out);
	}
	fputs("\",\n", out);
}

/* A number that ends in the same column as others with the same indent, whatever their names. */
static void json_number(const char *name, uint64_t value, FILE *out)
{
	int padding = JSON_NAME_MAX - (int)strlen(name);
	assert(padding >= 0);
	fprintf(out, "\"%s\": %*" PRIu64, name, padding + JSON_DIGITS, value);
}

static void json_line(const char *name, uint64_t value, FILE *out)
{
	fputs("  ", out);
	json_number(name, value, out);
	fputs(",\n", out);
}

static void json_store(const struct store_stats *s, FILE *out)
{
#define JSON_FIELD(name) json_line(#name, s->name, out);
	JSON_FIELD(keys)
	JSON_FIELD(objects)
	JSON_FIELD(with_ttl)
	JSON_FIELD(bytes_used)
	JSON_FIELD(bytes_limit)
	STORE_COUNTERS(JSON_FIELD)
	JSON_FIELD(sequence)
#undef JSON_FIELD
}

static void json_operation(const struct histogram_summary *t, uint64_t errors, FILE *out)
{
	fprintf(out, "{ \"count\": %*" PRIu64 ", \"errors\": %*" PRIu64, JSON_DIGITS, t->count,
		JSON_DIGITS, errors);
#define JSON_TIME(name) fprintf(out, ", \"" #name "\": %*" PRIu64, JSON_DIGITS, t->name);
	JSON_TIME(p50_ns)
	JSON_TIME(p90_ns)
	JSON_TIME(p95_ns)
	JSON_TIME(p99_ns)
	JSON_TIME(p999_ns)
	JSON_TIME(max_ns)
	JSON_TIME(sum_ns)
#undef JSON_TIME
	fputs(" }", out);
}

static void json(const struct report *r, const struct figures *f, FILE *out)
{
	fputs("{\n", out);
	json_string("version", r->version, out);
	json_string("transport", r->transport, out);
	json_line("uptime_ns", f->uptime_ns, out);
	json_line("counting_ns", f->counting_ns, out);
	json_line("records_dropped", f->dropped, out);
	json_store(&f->store, out);
	fputs("  \"messages\": {\n", out);
	for (unsigned op = 0; op < REPORT_OP_COUNT; op++) {
		fputs("    ", out);
		json_number(op_names[op], f->times[op].count, out);
		fputs(op + 1 < REPORT_OP_COUNT ? ",\n" : "\n  },\n", out);
	}
	fputs("  \"operations\": {\n", out);
	for (unsigned op = 0; op < REPORT_OP_COUNT; op++) {
		fprintf(out, "    \"%s\": ", op_names[op]);
		json_operation(&f->times[op], f->errors[op], out);
		fputs(op + 1 < REPORT_OP_COUNT ? ",\n" : "\n  }\n}\n", out);
	}
}

/* ---- exports ---- */

/* Lays the figures of this moment out; expected_size is 0 if it is not known yet. */
static int render(struct report *r,
		  void layout(const struct report *r, const struct figures *f, FILE *out),
		  size_t expected_size, char **page, size_t *size)
{
	struct figures *f = calloc(1, sizeof(*f)); /* too large for a handler's stack */
	if (!f)
		return -ENOMEM;
	char *bytes = NULL;
	size_t count = 0;
	FILE *out = open_memstream(&bytes, &count);
	if (!out) {
		free(f);
		return -ENOMEM;
	}
	collect(r, f);
	layout(r, f, out);
	free(f);
	bool failed = ferror(out);
	if (fclose(out) || failed) {
		free(bytes);
		return -ENOMEM;
	}
	assert(!expected_size || count == expected_size); /* invariant 1 */
	*page = bytes;
	*size = count;
	return 0;
}

int report_text(struct report *r, char **page, size_t *size)
{
	return render(r, text, r->text_size, page, size);
}

int report_json(struct report *r, char **page, size_t *size)
{
	return render(r, json, r->json_size, page, size);
}

/* The sizes of the pages, which hold from now on. */
static int measure(struct report *r)
{
	char *page;
	size_t text_size, json_size;
	int err = report_text(r, &page, &text_size);
	if (err)
		return err;
	free(page);
	err = report_json(r, &page, &json_size);
	if (err)
		return err;
	free(page);
	r->text_size = text_size;
	r->json_size = json_size;
	return 0;
}

int report_new(struct report **out, struct store *s, const struct report_facts *facts)
{
	struct report *r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->store = s;
	r->started_ns = report_clock();
	atomic_init(&r->since_ns, r->started_ns);
	r->times = histogram_set_new(REPORT_OP_COUNT);
	r->version = strdup(facts->version);
	r->transport = strdup(facts->transport);
	if (!r->times || !r->version || !r->transport || measure(r)) {
		report_free(r);
		return -ENOMEM;
	}
	*out = r;
	return 0;
}

void report_free(struct report *r)
{
	if (!r)
		return;
	histogram_set_free(r->times);
	free(r->version);
	free(r->transport);
	free(r);
}

void report_record(struct report *r, enum report_op op, int64_t started_ns, int error)
{
	assert(op < REPORT_OP_COUNT);
	assert(error >= 0);
	histogram_set_record(r->times, op, since(report_clock(), started_ns), error != 0);
}

void report_reset(struct report *r)
{
	histogram_set_reset(r->times);
	store_reset_counters(r->store);
	atomic_store_explicit(&r->since_ns, report_clock(), memory_order_relaxed);
}
