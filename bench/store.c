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
 * Here are the options and the order of things; draw.c makes keys, measure.c runs the rows,
 * report.c prints them. A wrong answer of the store ends the program with status 1. No time does.
 */
#include "bench/bench.h"
#include "bench/draw.h"
#include "bench/measure.h"
#include "bench/report.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS_MAX = 256 };

#define VALUE_BYTES_MAX ((uint64_t)1 << 30) /* of all values together */

_Noreturn void die(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fputs("bench-store: ", stderr);
	(void)vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

void *allocate(size_t count, size_t size)
{
	void *p = calloc(count, size);
	if (!p)
		die("out of memory");
	return p;
}

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
			die("--help lists the options");
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

/* All rows of one value size and one number of threads. */
static void measure(const struct options *o, const struct draw *draw, size_t size, size_t threads,
		    struct row *rows, const struct origin *origin, FILE *json,
		    struct floors *floors)
{
	struct bench b = { .options = o, .draw = draw, .size = size, .threads = (unsigned)threads };
	bench_run(&b, rows);
	for (unsigned r = 0; r < ROWS; r++) {
		report_row(&b, &rows[r]);
		if (json)
			report_json(json, origin, &b, &rows[r]);
	}
	(void)fflush(stdout); /* for who watches; the end of the program tells of errors */
	report_note(floors, &b, rows);
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
	report_origin(&origin);
	report_head(&origin, &o);
	for (size_t i = 0; i < o.size_count; i++) {
		draw_keys(&draw, keys_of(&o, o.sizes[i]), o.seed);
		for (size_t t = 0; t < o.thread_count; t++)
			measure(&o, &draw, o.sizes[i], o.threads[t], rows, &origin, json, &floors);
	}
	if (!o.quick)
		report_floors(&floors);
	draw_free(&draw);
	free(rows);
	if (json && fclose(json))
		die("%s: %s", o.json, strerror(errno));
	if (fflush(stdout) || ferror(stdout))
		die("cannot write the table");
	return 0;
}
