/*
 * store.c: how fast the store is and what a key costs in memory, through store/store.h alone.
 *
 * For each value size and number of threads a store is opened, filled, worked on and emptied:
 *
 *	set new         every key once
 *	set, get, mget 16, mget 100, mix        existing keys, drawn uniformly, then by Zipf's law
 *	set ttl         the same as set with a TTL; after the others, so that those meet none
 *	delete          every key once, in another order than they came
 *
 * Rounds alternate: each goes through all operations, and a row shows the median of its rounds, so
 * that a moment in which the machine was busy elsewhere spoils one round of each row and not one
 * row whole. Where every key is touched once, a round is a part of the keys.
 *
 * What is timed is the store: keys are drawn beforehand and copied in the order of their use, so
 * that fetching them costs no cache miss, and a thread keeps one buffer. Latency is sampled: one
 * call in many stands between two readings of the clock, which are also what ends the round; what a
 * reading costs is measured and subtracted.
 *
 * Every answer is checked: a result other than the expected one, or a value that does not begin
 * with its key, ends the program with status 1. No time does.
 *
 * Threads: workers are started for each round and share nothing but the store and the drawn keys.
 */
#include "store/store.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <malloc.h>
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#ifndef CTXFS_VERSION
#define CTXFS_VERSION "unknown"
#endif

enum {
	KEY_STRIDE = 24,
	KEY_LENGTH = KEY_STRIDE - 1, /* "session:" and fifteen hexadecimal digits */
	LIST_MAX = 16,               /* values of --threads and --sizes */
	THREADS_MAX = 256,
	BATCH_MAX = 100,
	ROUNDS_MAX = 15,
	SAMPLE_EVERY = 64, /* calls from one that is timed to the next; less if long */
	LONG_VALUE = 4096,
	VERIFY_EVERY = 16, /* keys from one that is read back to the next */
};

#define VALUE_BYTES_MAX ((uint64_t)1 << 30) /* of all values together */
#define TTL_NS          (INT64_C(3600) * 1000000000)
#define ZIPF_EXPONENT   0.99

struct options {
	size_t keys;
	double seconds; /* of each row, all rounds together */
	unsigned rounds;
	bool quick;
	const char *json;
	uint64_t seed;
	size_t threads[LIST_MAX], sizes[LIST_MAX];
	size_t thread_count, size_count;
};

/* Where keys come from. */
enum stream { ORDER, REMOVAL, UNIFORM, ZIPF, STREAMS };

static const char *const stream_name[STREAMS] = { "once", "once", "uniform", "zipf" };

/* Keys in the order of their use, KEY_STRIDE bytes each, with their NUL. */
struct draw {
	size_t keys;
	char *stream[STREAMS];
};

struct worker;

struct op {
	const char *name;
	unsigned batch; /* keys of one call */
	bool (*run)(struct worker *worker);
};

/* One line of the table. */
struct row {
	const struct op *op;
	enum stream stream;
	double rate[ROUNDS_MAX]; /* keys a second */
	struct histogram latency;
};

/* One store on which rows are measured. */
struct bench {
	const struct options *options;
	const struct draw *draw;
	struct store *store;
	size_t size;
	unsigned threads;
	struct worker *workers;
	int64_t account, resident; /* bytes of all keys */
};

struct worker {
	struct bench *bench;
	pthread_t thread;
	pthread_barrier_t *start;
	const struct op *op;
	enum stream stream;
	uint64_t seconds_ns; /* of the round; 0: until `calls` are done */
	uint64_t calls;
	size_t at[STREAMS]; /* where it is in its share of each stream */
	size_t begin, end;  /* its share */
	uint64_t random;
	uint64_t done; /* calls */
	uint64_t begin_ns, end_ns;
	char *value;  /* to set */
	char *buffer; /* to get: one value of a batch after the other */
	struct store_item items[BATCH_MAX];
	struct histogram latency;
};

static uint64_t clock_cost_ns;

static _Noreturn void __attribute__((format(printf, 1, 2))) die(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fputs("bench-store: ", stderr);
	(void)vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

static void *allocate(size_t count, size_t size)
{
	void *p = calloc(count, size);
	if (!p)
		die("out of memory");
	return p;
}

static uint64_t clock_ns(void)
{
	struct timespec now;
	int err = clock_gettime(CLOCK_MONOTONIC, &now);
	assert(!err);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* The least that lies between two readings. */
static uint64_t clock_cost(void)
{
	uint64_t least = UINT64_MAX;
	for (int i = 0; i < 1000; i++) {
		uint64_t begin = clock_ns();
		uint64_t took = clock_ns() - begin;
		if (took < least)
			least = took;
	}
	return least;
}

/* A xorshift generator (George Marsaglia's): good enough to draw keys, and cheap. Never 0. */
static uint64_t random_next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static double random_unit(uint64_t *state)
{
	return (double)(random_next(state) >> 11) * 0x1p-53;
}

/* ---- drawing keys ---- */

static char *stream_key(const struct draw *draw, enum stream stream, size_t i)
{
	return draw->stream[stream] + i * KEY_STRIDE;
}

/* cumulated[i]: the probability of rank i or a smaller one. */
static double *zipf_table(size_t keys)
{
	double *cumulated = allocate(keys, sizeof(*cumulated));
	double sum = 0;
	for (size_t i = 0; i < keys; i++) {
		sum += pow((double)(i + 1), -ZIPF_EXPONENT);
		cumulated[i] = sum;
	}
	for (size_t i = 0; i < keys; i++)
		cumulated[i] /= sum;
	return cumulated;
}

static size_t zipf_rank(const double *cumulated, size_t keys, double u)
{
	size_t low = 0;
	size_t high = keys - 1;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (cumulated[middle] < u)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Ranks are scrambled by the order of removal: the keys asked for most are anywhere. */
static void draw_fill(struct draw *draw, uint64_t seed)
{
	const uint64_t low60 = (UINT64_C(1) << 60) - 1;
	double *cumulated = zipf_table(draw->keys);
	char swap[KEY_STRIDE];
	for (size_t i = 0; i < draw->keys; i++) {
		uint64_t scrambled = ((uint64_t)i + 1) * UINT64_C(0x9E3779B97F4A7C15) & low60;
		(void)snprintf(stream_key(draw, ORDER, i), KEY_STRIDE, "session:%015" PRIx64,
			       scrambled);
	}
	memcpy(draw->stream[REMOVAL], draw->stream[ORDER], draw->keys * KEY_STRIDE);
	for (size_t i = draw->keys - 1; i > 0; i--) {
		size_t other = random_next(&seed) % (i + 1);
		memcpy(swap, stream_key(draw, REMOVAL, i), KEY_STRIDE);
		memcpy(stream_key(draw, REMOVAL, i), stream_key(draw, REMOVAL, other), KEY_STRIDE);
		memcpy(stream_key(draw, REMOVAL, other), swap, KEY_STRIDE);
	}
	for (size_t i = 0; i < draw->keys; i++) {
		size_t any = random_next(&seed) % draw->keys;
		size_t rank = zipf_rank(cumulated, draw->keys, random_unit(&seed));
		memcpy(stream_key(draw, UNIFORM, i), stream_key(draw, ORDER, any), KEY_STRIDE);
		memcpy(stream_key(draw, ZIPF, i), stream_key(draw, REMOVAL, rank), KEY_STRIDE);
	}
	free(cumulated);
}

static void draw_free(struct draw *draw)
{
	for (int i = 0; i < STREAMS; i++) {
		free(draw->stream[i]);
		draw->stream[i] = NULL;
	}
	draw->keys = 0;
}

static void draw_keys(struct draw *draw, size_t keys, uint64_t seed)
{
	if (draw->keys == keys)
		return;
	draw_free(draw);
	draw->keys = keys;
	for (int i = 0; i < STREAMS; i++)
		draw->stream[i] = allocate(keys, KEY_STRIDE);
	draw_fill(draw, seed);
}

/* ---- operations: one call each; false if its answer is wrong ---- */

static const char *next_key(struct worker *w)
{
	size_t *at = &w->at[w->stream];
	const char *key = stream_key(w->bench->draw, w->stream, *at);
	if (++*at == w->end)
		*at = w->begin;
	return key;
}

static size_t mark_length(const struct bench *b)
{
	return b->size < KEY_LENGTH ? b->size : KEY_LENGTH;
}

static bool set_key(struct worker *w, int64_t ttl_ns)
{
	struct bench *b = w->bench;
	const char *key = next_key(w);
	memcpy(w->value, key, mark_length(b));
	return store_set(b->store, key, w->value, b->size, ttl_ns) == 0;
}

static bool run_set(struct worker *w)
{
	return set_key(w, STORE_TTL_DEFAULT);
}

static bool run_set_ttl(struct worker *w)
{
	return set_key(w, TTL_NS);
}

static bool run_get(struct worker *w)
{
	struct bench *b = w->bench;
	const char *key = next_key(w);
	ssize_t size = store_get(b->store, key, w->buffer, b->size);
	return size == (ssize_t)b->size && !memcmp(w->buffer, key, mark_length(b));
}

static bool run_mget(struct worker *w)
{
	struct bench *b = w->bench;
	unsigned batch = w->op->batch;
	for (unsigned i = 0; i < batch; i++)
		w->items[i].name = next_key(w);
	ssize_t found = store_mget(b->store, STORE_ROOT, w->items, batch);
	return found == (ssize_t)batch && w->items[batch - 1].size == (ssize_t)b->size &&
	       !memcmp(w->items[0].buffer, w->items[0].name, mark_length(b));
}

static bool run_mix(struct worker *w)
{
	/* drawn, because a processor would learn "every tenth" */
	return random_next(&w->random) % 10 ? run_get(w) : run_set(w);
}

static bool run_delete(struct worker *w)
{
	return store_del(w->bench->store, next_key(w)) == 0;
}

static const struct op op_new = { "set new", 1, run_set };
static const struct op op_delete = { "delete", 1, run_delete };
static const struct op op_ttl = { "set ttl", 1, run_set_ttl };
static const struct op ops[] = {
	{ "set", 1, run_set },         { "get", 1, run_get },       { "mget 16", 16, run_mget },
	{ "mget 100", 100, run_mget }, { "mix 90/10", 1, run_mix },
};

enum {
	OPS = sizeof(ops) / sizeof(ops[0]),
	ROW_NEW = 0,
	ROW_DRAWN,                     /* all operations uniformly, then all by Zipf */
	ROW_TTL = ROW_DRAWN + 2 * OPS, /* uniform, then Zipf */
	ROW_DELETE = ROW_TTL + 2,
	ROWS,
};

/* ---- one round ---- */

/* How many calls from one that is timed to the next. */
static unsigned sample_every(const struct worker *w)
{
	unsigned every = w->op->batch > 1 ? SAMPLE_EVERY / 8 : SAMPLE_EVERY;
	if (w->bench->size >= LONG_VALUE)
		every /= 16;
	return every ? every : 1;
}

static void call(struct worker *w)
{
	if (!w->op->run(w))
		die("%s, %zu bytes, %u threads: a wrong answer", w->op->name, w->bench->size,
		    w->bench->threads);
	w->done++;
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	unsigned every = sample_every(w);
	w->done = 0;
	(void)pthread_barrier_wait(w->start); /* tells one thread that it is the last: no matter */
	uint64_t now = clock_ns();
	uint64_t deadline = w->seconds_ns ? now + w->seconds_ns : UINT64_MAX;
	w->begin_ns = now;
	while (now < deadline && w->done < w->calls) {
		uint64_t begin = clock_ns();
		call(w);
		now = clock_ns();
		uint64_t took = now - begin;
		histogram_record(&w->latency, took > clock_cost_ns ? took - clock_cost_ns : 0);
		for (unsigned i = 1; i < every && w->done < w->calls; i++)
			call(w);
	}
	w->end_ns = clock_ns();
	return NULL;
}

/* Runs the prepared workers together. Keys a second. */
static double round_run(struct bench *b, struct row *row)
{
	pthread_barrier_t start;
	uint64_t begin = UINT64_MAX;
	uint64_t end = 0;
	uint64_t calls = 0;
	if (pthread_barrier_init(&start, NULL, b->threads))
		die("no barrier");
	for (unsigned t = 0; t < b->threads; t++) {
		struct worker *w = &b->workers[t];
		w->op = row->op;
		w->stream = row->stream;
		w->start = &start;
		histogram_reset(&w->latency);
		if (pthread_create(&w->thread, NULL, worker_main, w))
			die("no thread");
	}
	for (unsigned t = 0; t < b->threads; t++) {
		struct worker *w = &b->workers[t];
		(void)pthread_join(w->thread, NULL); /* fails only for threads that are not ours */
		begin = w->begin_ns < begin ? w->begin_ns : begin;
		end = w->end_ns > end ? w->end_ns : end;
		calls += w->done;
		histogram_merge(&row->latency, &w->latency);
	}
	(void)pthread_barrier_destroy(&start);
	return (double)(calls * row->op->batch) * 1e9 / (double)(end - begin);
}

/* A round of keys drawn, for its time. */
static void round_drawn(struct bench *b, struct row *row, unsigned round)
{
	double seconds = b->options->seconds / b->options->rounds;
	for (unsigned t = 0; t < b->threads; t++) {
		b->workers[t].seconds_ns = (uint64_t)(seconds * 1e9);
		b->workers[t].calls = UINT64_MAX;
	}
	row->rate[round] = round_run(b, row);
}

/* A round of every key once: its part of each thread's share. */
static void round_once(struct bench *b, struct row *row, unsigned round)
{
	unsigned rounds = b->options->rounds;
	for (unsigned t = 0; t < b->threads; t++) {
		struct worker *w = &b->workers[t];
		size_t share = w->end - w->begin;
		w->seconds_ns = 0;
		w->calls = share * (round + 1) / rounds - share * round / rounds;
	}
	row->rate[round] = round_run(b, row);
}

/* ---- one store ---- */

static int64_t resident_bytes(void)
{
	long pages;
	FILE *file = fopen("/proc/self/statm", "r");
	if (!file || fscanf(file, "%*s %ld", &pages) != 1)
		die("cannot read /proc/self/statm");
	(void)fclose(file); /* it was only read */
	return pages * sysconf(_SC_PAGESIZE);
}

static int64_t account_bytes_used(struct store *s)
{
	struct store_stats stats;
	store_stats(s, &stats);
	return (int64_t)stats.bytes_used;
}

static void workers_init(struct bench *b)
{
	b->workers = allocate(b->threads, sizeof(*b->workers));
	for (unsigned t = 0; t < b->threads; t++) {
		struct worker *w = &b->workers[t];
		w->bench = b;
		w->begin = b->draw->keys * t / b->threads;
		w->end = b->draw->keys * (t + 1) / b->threads;
		for (int i = 0; i < STREAMS; i++)
			w->at[i] = w->begin;
		w->random = b->options->seed + t + 1;
		w->value = allocate(1, b->size + 1);
		w->buffer = allocate(BATCH_MAX, b->size + 1);
		memset(w->value, 'v', b->size);
		memset(w->buffer, 0, BATCH_MAX * (b->size + 1));
		for (unsigned i = 0; i < BATCH_MAX; i++)
			w->items[i] = (struct store_item){
				.length = KEY_LENGTH,
				.buffer = w->buffer + i * b->size,
				.capacity = b->size,
			};
	}
}

static void workers_fini(struct bench *b)
{
	for (unsigned t = 0; t < b->threads; t++) {
		free(b->workers[t].value);
		free(b->workers[t].buffer);
	}
	free(b->workers);
}

/* Reads some of the keys back, and counts all of them. */
static void verify(struct bench *b, uint64_t keys)
{
	struct worker *w = &b->workers[0];
	struct store_stats stats;
	store_stats(b->store, &stats);
	if (stats.keys != keys)
		die("%" PRIu64 " keys instead of %" PRIu64, stats.keys, keys);
	for (size_t i = 0; i < keys; i += VERIFY_EVERY) {
		const char *key = stream_key(b->draw, ORDER, i);
		if (store_get(b->store, key, w->buffer, b->size) != (ssize_t)b->size ||
		    memcmp(w->buffer, key, mark_length(b)))
			die("key %s has a wrong value", key);
	}
	if (b->options->quick && store_check(b->store))
		die("the store has broken invariants");
}

static void rows_init(struct row *rows)
{
	memset(rows, 0, ROWS * sizeof(*rows));
	for (unsigned i = 0; i < 2 * OPS; i++) {
		rows[ROW_DRAWN + i].op = &ops[i % OPS];
		rows[ROW_DRAWN + i].stream = i < OPS ? UNIFORM : ZIPF;
	}
	for (unsigned i = ROW_TTL; i < ROW_DELETE; i++) {
		rows[i].op = &op_ttl;
		rows[i].stream = i == ROW_TTL ? UNIFORM : ZIPF;
	}
	rows[ROW_NEW].op = &op_new;
	rows[ROW_NEW].stream = ORDER;
	rows[ROW_DELETE].op = &op_delete;
	rows[ROW_DELETE].stream = REMOVAL;
}

static void bench_run(struct bench *b, struct row *rows)
{
	const struct store_options options = { 0 };
	unsigned rounds = b->options->rounds;
	rows_init(rows);
	workers_init(b);
	int err = store_open(&b->store, &options);
	if (err)
		die("store_open: %s", strerror(-err));
	(void)malloc_trim(
		0); /* or the memory of the store before would be counted as ours already */
	b->account = -account_bytes_used(b->store);
	b->resident = -resident_bytes();
	for (unsigned round = 0; round < rounds; round++)
		round_once(b, &rows[ROW_NEW], round);
	b->account += account_bytes_used(b->store);
	b->resident += resident_bytes();
	for (unsigned round = 0; round < rounds; round++)
		for (unsigned i = ROW_DRAWN; i < ROW_TTL; i++)
			round_drawn(b, &rows[i], round);
	for (unsigned round = 0; round < rounds; round++)
		for (unsigned i = ROW_TTL; i < ROW_DELETE; i++)
			round_drawn(b, &rows[i], round);
	verify(b, b->draw->keys);
	for (unsigned round = 0; round < rounds; round++)
		round_once(b, &rows[ROW_DELETE], round);
	verify(b, 0);
	store_close(b->store);
	workers_fini(b);
}

/* ---- results ---- */

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

static void table_head(void)
{
	printf("%-10s %6s %3s %8s %-8s %9s %10s %10s %9s %9s %9s\n", "operation", "bytes", "thr",
	       "keys", "access", "M keys/s", "p50 us", "p99 us", "account", "resident", "overhead");
}

static void table_row(const struct bench *b, const struct row *row)
{
	double keys = (double)b->draw->keys;
	printf("%-10s %6zu %3u %8zu %-8s %9.3f %10.2f %10.2f", row->op->name, b->size, b->threads,
	       b->draw->keys, stream_name[row->stream], median(row->rate, b->options->rounds) / 1e6,
	       (double)histogram_percentile(&row->latency, 500) / 1e3,
	       (double)histogram_percentile(&row->latency, 990) / 1e3);
	if (row->op == &op_new)
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

/* Where and when: the members that every JSON line begins with. */
struct origin {
	char machine[128];
	char kernel[64];
	char date[32];
	long processors;
};

static void origin_read(struct origin *o)
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

static void json_row(FILE *out, const struct origin *o, const struct bench *b,
		     const struct row *row)
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
	fprintf(out,
		"],\"samples\":%" PRIu64 ",\"call_p50_ns\":%" PRIu64 ",\"call_p99_ns\":%" PRIu64,
		histogram_count(&row->latency), histogram_percentile(&row->latency, 500),
		histogram_percentile(&row->latency, 990));
	if (row->op == &op_new)
		fprintf(out,
			",\"account_bytes\":%" PRId64 ",\"resident_bytes\":%" PRId64
			",\"overhead_bytes_per_key\":%.1f",
			b->account, b->resident, overhead(b));
	fputs("}\n", out);
}

/* The floors of the project, beside what this run found on one thread. */
struct floors {
	double get, mget16, mget100, set256, overhead; /* 0: not measured */
};

static void floors_note(struct floors *f, const struct bench *b, const struct row *rows)
{
	double bytes = overhead(b);
	unsigned rounds = b->options->rounds;
	f->overhead = bytes > f->overhead && b->size < LONG_VALUE ? bytes : f->overhead;
	if (b->threads == 1 && b->size == 256)
		f->set256 = median(rows[ROW_DRAWN + 0].rate, rounds);
	if (b->threads == 1 && b->size == 64) {
		f->get = median(rows[ROW_DRAWN + 1].rate, rounds);
		f->mget16 = median(rows[ROW_DRAWN + 2].rate, rounds);
		f->mget100 = median(rows[ROW_DRAWN + 3].rate, rounds);
	}
}

static void floor_line(const char *what, double found, double wanted, const char *unit, bool most)
{
	if (found > 0)
		printf("  %-34s %s %6.1f %-9s %8.2f  %s\n", what, most ? "at most " : "at least",
		       wanted, unit, found,
		       (most ? found <= wanted : found >= wanted) ? "reached" : "not reached");
}

static void floors_print(const struct floors *f)
{
	puts("\nfloors, one thread, uniform");
	floor_line("get, 64 bytes", f->get / 1e6, 2, "M/s", false);
	floor_line("mget of 16, 64 bytes", f->mget16 / 1e6, 8, "M keys/s", false);
	floor_line("mget of 100, 64 bytes", f->mget100 / 1e6, 8, "M keys/s", false);
	floor_line("set of an existing key, 256 bytes", f->set256 / 1e6, 1, "M/s", false);
	floor_line("bytes beyond key and value, most", f->overhead, 200, "B a key", true);
}

/* ---- the program ---- */

static const char usage[] =
	"usage: bench-store [option...]\n"
	"  --keys N        keys (1000000); fewer where values would fill more than 1 GiB\n"
	"  --seconds S     time of each row, all rounds together (0.3)\n"
	"  --rounds N      rounds, of which the median counts (3)\n"
	"  --threads LIST  numbers of threads (1,2,4,8)\n"
	"  --sizes LIST    value sizes in bytes (64,256,1024,65536)\n"
	"  --json FILE     also write one JSON line for each row\n"
	"  --seed N        of the keys drawn (1)\n"
	"  --quick         a few thousand keys, for seconds: checks the answers, means no figure\n";

static size_t parse_number(const char *option, const char *text, size_t least, size_t most,
			   char **end)
{
	errno = 0;
	unsigned long long n = strtoull(text, end, 10);
	if (errno || *end == text || *text == '-' || n < least || n > most)
		die("--%s=%s: numbers from %zu to %zu", option, text, least, most);
	return n;
}

static size_t parse_one(const char *option, const char *text, size_t least, size_t most)
{
	char *end;
	size_t n = parse_number(option, text, least, most, &end);
	if (*end)
		die("--%s=%s: one number", option, text);
	return n;
}

static size_t parse_list(const char *option, const char *text, size_t most, size_t *list)
{
	char *end;
	size_t count = 0;
	for (;; text = end + 1) {
		if (count == LIST_MAX)
			die("--%s: at most %d numbers", option, LIST_MAX);
		list[count++] = parse_number(option, text, 1, most, &end);
		if (!*end)
			return count;
		if (*end != ',')
			die("--%s: numbers with commas between them", option);
	}
}

static double parse_seconds(const char *text)
{
	char *end;
	double seconds = strtod(text, &end);
	if (*end || !(seconds >= 0.001 && seconds <= 3600))
		die("--seconds=%s: from 0.001 to 3600", text);
	return seconds;
}

static void parse(int argc, char **argv, struct options *o)
{
	enum { KEYS, SECONDS, ROUNDS, THREADS, SIZES, JSON, SEED, QUICK, HELP };
	static const struct option names[] = {
		{ "keys", 1, NULL, KEYS },     { "seconds", 1, NULL, SECONDS },
		{ "rounds", 1, NULL, ROUNDS }, { "threads", 1, NULL, THREADS },
		{ "sizes", 1, NULL, SIZES },   { "json", 1, NULL, JSON },
		{ "seed", 1, NULL, SEED },     { "quick", 0, NULL, QUICK },
		{ "help", 0, NULL, HELP },     { NULL, 0, NULL, 0 },
	};
	for (int c; (c = getopt_long(argc, argv, "", names, NULL)) != -1;) {
		if (c == KEYS)
			o->keys = parse_one("keys", optarg, 1000, 1000000000);
		else if (c == SECONDS)
			o->seconds = parse_seconds(optarg);
		else if (c == ROUNDS)
			o->rounds = (unsigned)parse_one("rounds", optarg, 1, ROUNDS_MAX);
		else if (c == THREADS)
			o->thread_count = parse_list("threads", optarg, THREADS_MAX, o->threads);
		else if (c == SIZES)
			o->size_count = parse_list("sizes", optarg, STORE_IO_MAX, o->sizes);
		else if (c == JSON)
			o->json = optarg;
		else if (c == SEED)
			o->seed = parse_one("seed", optarg, 1, SIZE_MAX);
		else if (c == QUICK)
			*o = (struct options){ 20000,   0.02,    2,        true,
					       o->json, o->seed, { 1, 2 }, { 64, 256, 1024, 65536 },
					       2,       4 };
		else if (c == HELP)
			exit(fputs(usage, stdout) == EOF);
		else
			exit(2 + 0 * fputs(usage, stderr));
	}
	if (optind < argc)
		die("%s: no such argument (--help lists the options)", argv[optind]);
}

/* How many keys of this size are wanted, and fit. */
static size_t keys_of(const struct options *o, size_t size)
{
	uint64_t fit = (o->quick ? VALUE_BYTES_MAX / 16 : VALUE_BYTES_MAX) / size;
	return fit < o->keys ? (size_t)fit : o->keys;
}

int main(int argc, char **argv)
{
	struct options o = {
		1000000, 0.3, 3, false, NULL, 1, { 1, 2, 4, 8 }, { 64, 256, 1024, 65536 }, 4, 4
	};
	struct floors floors = { 0 };
	struct draw draw = { 0 };
	struct origin origin;
	parse(argc, argv, &o);
	FILE *json = o.json ? fopen(o.json, "w") : NULL;
	if (o.json && !json)
		die("%s: %s", o.json, strerror(errno));
	struct row *rows = allocate(ROWS, sizeof(*rows));
	origin_read(&origin);
	clock_cost_ns = clock_cost();
	printf("%s, %ld processors, Linux %s, %s, ctxfs %s, seed %" PRIu64 "\n"
	       "keys of %d bytes; median of %u rounds; times are of one call, a batch is one call; "
	       "memory in bytes a key\n\n",
	       origin.machine, origin.processors, origin.kernel, origin.date, CTXFS_VERSION, o.seed,
	       KEY_LENGTH, o.rounds);
	table_head();
	for (size_t i = 0; i < o.size_count; i++) {
		draw_keys(&draw, keys_of(&o, o.sizes[i]), o.seed);
		for (size_t t = 0; t < o.thread_count; t++) {
			struct bench b = { .options = &o,
					   .draw = &draw,
					   .size = o.sizes[i],
					   .threads = (unsigned)o.threads[t] };
			bench_run(&b, rows);
			for (unsigned r = 0; r < ROWS; r++) {
				table_row(&b, &rows[r]);
				if (json)
					json_row(json, &origin, &b, &rows[r]);
			}
			fflush(stdout);
			floors_note(&floors, &b, rows);
		}
	}
	floors_print(&floors);
	draw_free(&draw);
	free(rows);
	if (json && fclose(json))
		die("%s: %s", o.json, strerror(errno));
	return 0;
}
