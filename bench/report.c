/*
 * report.c: the table, the JSON lines and the floors.
 */
#include "bench/report.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#ifndef CTXFS_VERSION
#define CTXFS_VERSION "unknown"
#endif

static const char *const stream_name[STREAMS] = { "once", "once", "uniform", "zipf" };

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;
	return (x > y) - (x < y);
}

static double median(const double *values, unsigned count)
{
	double sorted[ROUNDS_MAX];
	memcpy(sorted, values, count * sizeof(*values));
	qsort(sorted, count, sizeof(*sorted), compare_doubles);
	return (sorted[count / 2] + sorted[(count - 1) / 2]) / 2;
}

/* Bytes a key beyond its name and its value, as the account says. */
static double overhead(const struct bench *b)
{
	return (double)b->account / (double)b->draw->keys - KEY_LENGTH - (double)b->size;
}

void report_head(const struct origin *o, const struct options *options)
{
	printf("%s, %ld processors, Linux %s, %s, ctxfs %s, seed %" PRIu64 "\n"
	       "keys of %d bytes; median of %u rounds; M/cpu s: millions of keys in a second of\n"
	       "processor time, which tells a busy machine from a slow store; p50 and p99 are of\n"
	       "one call, and a batch is one call; memory in bytes a key, overhead what the\n"
	       "account holds beyond key and value\n\n",
	       o->machine, o->processors, o->kernel, o->date, CTXFS_VERSION, options->seed,
	       KEY_LENGTH, options->rounds);
	printf("%-10s %6s %3s %8s %-8s %8s %8s %9s %9s %9s %9s %9s\n", "operation", "bytes", "thr",
	       "keys", "access", "M keys/s", "M/cpu s", "p50 us", "p99 us", "account", "resident",
	       "overhead");
}

void report_row(const struct bench *b, const struct row *row)
{
	double keys = (double)b->draw->keys;
	printf("%-10s %6zu %3u %8zu %-8s %8.3f %8.3f %9.2f %9.2f", row->op->name, b->size,
	       b->threads, b->draw->keys, stream_name[row->stream],
	       median(row->rate, b->options->rounds) / 1e6,
	       median(row->cpu_rate, b->options->rounds) / 1e6,
	       (double)histogram_percentile(&row->latency, 500) / 1e3,
	       (double)histogram_percentile(&row->latency, 990) / 1e3);
	if (row->stream == ORDER)
		printf(" %9.1f %9.1f %9.1f", (double)b->account / keys, (double)b->resident / keys,
		       overhead(b));
	putchar('\n');
}

/* The processor's name, made safe for JSON. */
static void machine_name(char *name, size_t size)
{
	char line[256];
	FILE *file = fopen("/proc/cpuinfo", "r");
	(void)snprintf(name, size, "unknown");
	while (file && fgets(line, sizeof(line), file)) {
		const char *colon = strchr(line, ':');
		if (strncmp(line, "model name", 10) || !colon)
			continue;
		(void)snprintf(name, size, "%s", colon + strspn(colon, ": \t"));
		break;
	}
	if (file)
		(void)fclose(file); /* it was only read */
	for (char *c = name; *c; c++)
		if (*c < ' ' || *c == '"' || *c == '\\')
			*c = *c == '\n' ? '\0' : ' ';
}

void report_origin(struct origin *o)
{
	struct utsname system;
	time_t now = time(NULL);
	struct tm utc;
	machine_name(o->machine, sizeof(o->machine));
	int err = uname(&system);
	assert(!err);
	(void)snprintf(o->kernel, sizeof(o->kernel), "%.60s", system.release);
	(void)gmtime_r(&now, &utc);
	(void)strftime(o->date, sizeof(o->date), "%Y-%m-%dT%H:%M:%SZ", &utc);
	o->processors = sysconf(_SC_NPROCESSORS_ONLN);
}

void report_json(FILE *out, const struct origin *o, const struct bench *b, const struct row *row)
{
	fprintf(out,
		"{\"machine\":\"%s\",\"processors\":%ld,\"kernel\":\"%s\",\"date\":\"%s\","
		"\"version\":\"%s\",\"operation\":\"%s\",\"value_bytes\":%zu,\"key_bytes\":%d,"
		"\"threads\":%u,\"keys\":%zu,\"access\":\"%s\",\"batch\":%u,"
		"\"keys_per_s\":%.0f,\"rounds\":[",
		o->machine, o->processors, o->kernel, o->date, CTXFS_VERSION, row->op->name,
		b->size, KEY_LENGTH, b->threads, b->draw->keys, stream_name[row->stream],
		row->op->batch, median(row->rate, b->options->rounds));
	for (unsigned i = 0; i < b->options->rounds; i++)
		fprintf(out, "%s%.0f", i ? "," : "", row->rate[i]);
	fprintf(out, "],\"keys_per_cpu_s\":%.0f", median(row->cpu_rate, b->options->rounds));
	fprintf(out,
		",\"samples\":%" PRIu64 ",\"call_p50_ns\":%" PRIu64 ",\"call_p99_ns\":%" PRIu64,
		histogram_count(&row->latency), histogram_percentile(&row->latency, 500),
		histogram_percentile(&row->latency, 990));
	if (row->stream == ORDER)
		fprintf(out,
			",\"account_bytes\":%" PRId64 ",\"resident_bytes\":%" PRId64
			",\"overhead_bytes_per_key\":%.1f",
			b->account, b->resident, overhead(b));
	fputs("}\n", out);
}

void report_note(struct floors *f, const struct bench *b, const struct row *rows)
{
	double bytes = overhead(b);
	unsigned rounds = b->options->rounds;
	f->overhead = bytes > f->overhead && b->size < LONG_VALUE ? bytes : f->overhead;
	if (b->threads == 1 && b->size == 256)
		f->set256 = median(rows[ROW_SET].rate, rounds);
	if (b->threads == 1 && b->size == 64) {
		f->get = median(rows[ROW_GET].rate, rounds);
		f->mget16 = median(rows[ROW_MGET_16].rate, rounds);
		f->mget100 = median(rows[ROW_MGET_100].rate, rounds);
	}
}

static void floor_line(const char *what, double found, double wanted, const char *unit, bool most)
{
	if (found > 0)
		printf("  %-34s %s %6.1f %-9s %8.2f  %s\n", what, most ? "at most " : "at least",
		       wanted, unit, found,
		       (most ? found <= wanted : found >= wanted) ? "reached" : "not reached");
}

void report_floors(const struct floors *f)
{
	puts("\nfloors, one thread, uniform");
	floor_line("get, 64 bytes", f->get / 1e6, 2, "M/s", false);
	floor_line("mget of 16, 64 bytes", f->mget16 / 1e6, 8, "M keys/s", false);
	floor_line("mget of 100, 64 bytes", f->mget100 / 1e6, 8, "M keys/s", false);
	floor_line("set of an existing key, 256 bytes", f->set256 / 1e6, 1, "M/s", false);
	floor_line("bytes beyond key and value, most", f->overhead, 200, "B a key", true);
}
