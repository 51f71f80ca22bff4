/*
 * measure.c: workers, rounds, and the life of one store under test.
 *
 * What is timed is the store: keys are drawn beforehand, and a thread keeps one buffer. Latency is
 * sampled: one call in many stands between two readings of the clock, which are also what ends the
 * round; what a reading costs is measured and subtracted. A sampled call overlaps with no other, so
 * the median of samples can be longer than the time a key takes on average.
 *
 * Every answer is checked, and a value begins with its key, so that a wrong one is seen.
 *
 * Threads: workers are started for each round and share nothing but the store and the drawn keys.
 */
#include "bench/measure.h"

#include <assert.h>
#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	BATCH_MAX = 100,
	SAMPLE_EVERY = 64, /* calls from one that is timed to the next; less if long */
	VERIFY_EVERY = 16, /* keys from one that is read back to the next */
};

#define TTL_NS (INT64_C(3600) * 1000000000)

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
	uint64_t cpu_ns; /* of the round, that this thread had of a processor */
	char *value;     /* to set */
	char *buffer;    /* to get: one value of a batch after the other */
	struct store_item items[BATCH_MAX];
	struct histogram latency;
};

static uint64_t clock_cost_ns;

static uint64_t clock_read(clockid_t clock)
{
	struct timespec now;
	int err = clock_gettime(clock, &now);
	assert(!err);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint64_t clock_ns(void)
{
	return clock_read(CLOCK_MONOTONIC);
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

/* ---- operations: one call each; false if its answer is wrong ---- */

static const char *next_key(struct worker *w)
{
	size_t *at = &w->at[w->stream];
	const char *key = draw_key(w->bench->draw, w->stream, *at);
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
	return draw_random(&w->random) % 10 ? run_get(w) : run_set(w);
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

enum { OPS = sizeof(ops) / sizeof(ops[0]) };
static_assert(ROW_SET + OPS == ROW_ZIPF, "the rows of drawn keys are in the order of ops");

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
	uint64_t cpu_begin = clock_read(CLOCK_THREAD_CPUTIME_ID);
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
	w->cpu_ns = clock_read(CLOCK_THREAD_CPUTIME_ID) - cpu_begin;
	return NULL;
}

/* Runs the prepared workers together. */
static void round_run(struct bench *b, struct row *row, unsigned round)
{
	pthread_barrier_t start;
	uint64_t begin = UINT64_MAX;
	uint64_t end = 0;
	uint64_t calls = 0;
	uint64_t cpu = 0;
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
		cpu += w->cpu_ns;
		histogram_merge(&row->latency, &w->latency);
	}
	(void)pthread_barrier_destroy(&start);
	double keys = (double)(calls * row->op->batch);
	row->rate[round] = keys * 1e9 / (double)(end - begin);
	row->cpu_rate[round] = keys * 1e9 / (double)cpu;
}

/* A round of keys drawn, for its time. */
static void round_drawn(struct bench *b, struct row *row, unsigned round)
{
	double seconds = b->options->seconds / b->options->rounds;
	for (unsigned t = 0; t < b->threads; t++) {
		b->workers[t].seconds_ns = (uint64_t)(seconds * 1e9);
		b->workers[t].calls = UINT64_MAX;
	}
	round_run(b, row, round);
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
	round_run(b, row, round);
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
		const char *key = draw_key(b->draw, ORDER, i);
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
		rows[ROW_SET + i].op = &ops[i % OPS];
		rows[ROW_SET + i].stream = i < OPS ? UNIFORM : ZIPF;
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

void bench_run(struct bench *b, struct row *rows)
{
	const struct store_options options = { 0 };
	unsigned rounds = b->options->rounds;
	clock_cost_ns = clock_cost();
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
		for (unsigned i = ROW_SET; i < ROW_TTL; i++)
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
