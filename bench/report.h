/*
 * report.h: the results: a table for readers, JSON lines for programs, the floors at the end.
 *
 * Ownership: nothing is kept.
 * Threads:   the main thread.
 * Errors:    none; what cannot be found out is "unknown".
 * Units:     in the head of the table, and in the names of JSON's members.
 */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "bench/measure.h"

#include <stdio.h>

/* Where and when: the members that every JSON line begins with. */
struct origin {
	char machine[128];
	char kernel[64];
	char date[32];
	long processors;
};

/* The floors of the project, beside what this run found; 0: not measured. */
struct floors {
	double get, mget16, mget100, set256; /* on one thread, uniform */
	double overhead;                     /* the most of any value size below LONG_VALUE */
};

void report_origin(struct origin *origin);
void report_head(const struct origin *origin, const struct options *options);
void report_row(const struct bench *bench, const struct row *row);
void report_json(FILE *out, const struct origin *origin, const struct bench *bench,
		 const struct row *row);

/* Takes from the rows of one bench what belongs to a floor. */
void report_note(struct floors *floors, const struct bench *bench, const struct row *rows);
void report_floors(const struct floors *floors);

#endif
