/*
 * test_histogram.c: the error bound at every bucket's ends, percentiles against a sorted array,
 * merging, and sets that lose nothing while threads come, go, read and reset.
 */
#include "store/histogram.h"

#include "tests/unit/tap.h"

#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

enum { VALUES_MAX = 3000, THREADS = 4, ROUNDS = 20000, OPERATIONS = 3, WANTED_OPERATIONS = 64 };

static const uint64_t first_ns = UINT64_C(1) << HISTOGRAM_LOW_BITS;
static const uint64_t end_ns = UINT64_C(1) << HISTOGRAM_HIGH_BITS;

static struct histogram scratch, other, both;
static uint64_t values[VALUES_MAX];

static void test_buckets(void)
{
	CHECK(sizeof(struct histogram) <= 20480);
	CHECK(first_ns <= 100 && end_ns > UINT64_C(3600) * 1000000000);
	CHECK(histogram_bucket_lowest_ns(0) == first_ns);
	CHECK(histogram_bucket_highest_ns(HISTOGRAM_BUCKETS - 1) == end_ns - 1);
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		uint64_t lowest = histogram_bucket_lowest_ns(i);
		uint64_t highest = histogram_bucket_highest_ns(i);
		CHECK(lowest <= highest);
		CHECK((highest - lowest) * 64 < lowest); /* under 1/64 */
		CHECK(histogram_bucket(lowest) == i);
		CHECK(histogram_bucket(lowest + (highest - lowest) / 2) == i);
		CHECK(histogram_bucket(highest) == i);
		if (i)
			CHECK(histogram_bucket_highest_ns(i - 1) + 1 == lowest);
	}
}

static void test_ends(void)
{
	for (uint64_t ns = 0; ns < first_ns; ns++)
		CHECK(histogram_bucket(ns) == 0);
	CHECK(histogram_bucket(end_ns) == HISTOGRAM_BUCKETS - 1);
	CHECK(histogram_bucket(UINT64_MAX) == HISTOGRAM_BUCKETS - 1);

	histogram_reset(&scratch);
	histogram_record(&scratch, 3);
	CHECK(histogram_percentile(&scratch, 500) == 3); /* not the bucket's end, 65 */
	histogram_record(&scratch, end_ns * 5);
	CHECK(histogram_max_ns(&scratch) == end_ns * 5);
	CHECK(histogram_percentile(&scratch, 1000) == end_ns * 5);
	CHECK(histogram_sum_ns(&scratch) == end_ns * 5 + 3);
	CHECK(histogram_count(&scratch) == 2);
}

static void test_empty(void)
{
	struct histogram_summary summary;
	static const struct histogram_summary zero;

	histogram_record(&scratch, 1000);
	histogram_reset(&scratch);
	for (unsigned permille = 0; permille <= 1000; permille++)
		CHECK(histogram_percentile(&scratch, permille) == 0);
	histogram_summarise(&scratch, &summary);
	CHECK(!memcmp(&summary, &zero, sizeof(zero)));
}

static int compare_values(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a;
	uint64_t right = *(const uint64_t *)b;
	return (left > right) - (left < right);
}

/* Times as they are: many orders of magnitude, and a few outside the range. */
static uint64_t random_ns(void)
{
	uint64_t ns = tap_random() >> (18 + tap_below(44));
	return tap_below(100) ? ns : tap_random() >> tap_below(64);
}

/* The exact percentile by definition: the smallest value with enough values at or before it. */
static uint64_t exact_percentile(unsigned count, unsigned permille)
{
	unsigned i = 0;
	while (i < count - 1 && (uint64_t)(i + 1) * 1000 < (uint64_t)count * permille)
		i++;
	return values[i];
}

static void check_percentile(unsigned count, unsigned permille)
{
	uint64_t exact = exact_percentile(count, permille);
	uint64_t found = histogram_percentile(&scratch, permille);
	uint64_t max_ns = values[count - 1];

	CHECK(found >= exact && found <= max_ns);
	if (exact < first_ns)
		CHECK(found <= histogram_bucket_highest_ns(0));
	else if (exact < histogram_bucket_lowest_ns(HISTOGRAM_BUCKETS - 1))
		CHECK((found - exact) * 64 < exact);
	else
		CHECK(found == max_ns);
}

static void test_percentiles(void)
{
	struct histogram_summary summary;

	for (int round = 0; round < 40; round++) {
		unsigned count = round < 10 ? (unsigned)round + 1 : 1 + (unsigned)tap_below(2999);
		uint64_t sum = 0;
		histogram_reset(&scratch);
		for (unsigned i = 0; i < count; i++) {
			values[i] = random_ns();
			sum += values[i];
			histogram_record(&scratch, values[i]);
		}
		qsort(values, count, sizeof(values[0]), compare_values);
		for (unsigned permille = 0; permille <= 1000; permille += round < 10 ? 1 : 37)
			check_percentile(count, permille);
		check_percentile(count, 1000);
		CHECK(histogram_percentile(&scratch, 1000) == values[count - 1]);

		histogram_summarise(&scratch, &summary);
		CHECK(summary.count == count && summary.sum_ns == sum);
		CHECK(summary.max_ns == values[count - 1]);
		CHECK(summary.p50_ns == histogram_percentile(&scratch, 500));
		CHECK(summary.p90_ns == histogram_percentile(&scratch, 900));
		CHECK(summary.p95_ns == histogram_percentile(&scratch, 950));
		CHECK(summary.p99_ns == histogram_percentile(&scratch, 990));
		CHECK(summary.p999_ns == histogram_percentile(&scratch, 999));
	}
}

static void test_merge(void)
{
	histogram_reset(&scratch);
	histogram_reset(&other);
	histogram_reset(&both);
	for (int i = 0; i < 5000; i++) {
		uint64_t ns = random_ns();
		histogram_record(tap_below(2) ? &scratch : &other, ns);
		histogram_record(&both, ns);
	}
	histogram_merge(&scratch, &other);
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		CHECK(histogram_bucket_count(&scratch, i) == histogram_bucket_count(&both, i));
	CHECK(histogram_sum_ns(&scratch) == histogram_sum_ns(&both));
	CHECK(histogram_max_ns(&scratch) == histogram_max_ns(&both));
}

/* Sets. */

static struct histogram_set *sets[2];
static atomic_bool running;

static void *record_body(void *argument)
{
	for (unsigned i = 0; i < ROUNDS; i++) {
		histogram_set_record(sets[0], i % OPERATIONS, 1000 + i, i % 5 == 0);
		if (i % 2)
			histogram_set_record(sets[1], 0, 7000, false);
	}
	return argument;
}

static void run_recorders(void)
{
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_create(&threads[i], NULL, record_body, NULL) == 0);
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
}

static void sets_open(void)
{
	for (int i = 0; i < 2; i++) {
		sets[i] = histogram_set_new(OPERATIONS);
		assert(sets[i]);
	}
}

static void sets_close(void)
{
	for (int i = 0; i < 2; i++)
		histogram_set_free(sets[i]);
	histogram_set_free(NULL);
}

static uint64_t set_count(int which, unsigned operation, uint64_t *errors)
{
	histogram_set_read(sets[which], operation, &scratch, errors);
	return histogram_count(&scratch);
}

static void test_set_exact(void)
{
	uint64_t errors, all = 0, all_errors = 0, sum = 0;

	sets_open();
	for (uint64_t wave = 1; wave <= 5; wave++) { /* later threads reuse dead threads' structs */
		run_recorders();
		all = all_errors = sum = 0;
		for (unsigned op = 0; op < OPERATIONS; op++) {
			all += set_count(0, op, &errors);
			all_errors += errors;
			sum += histogram_sum_ns(&scratch);
		}
		CHECK(all == wave * THREADS * ROUNDS);
		CHECK(all_errors == wave * THREADS * ROUNDS / 5);
		CHECK(sum ==
		      wave * THREADS * (UINT64_C(1000) * ROUNDS + ROUNDS * (ROUNDS - 1) / 2));
		CHECK(set_count(1, 0, &errors) == wave * THREADS * ROUNDS / 2 && errors == 0);
		CHECK(set_count(1, 1, &errors) == 0 && histogram_max_ns(&scratch) == 0);
	}
	CHECK(histogram_set_dropped(sets[0]) == 0);
	sets_close();
}

static void test_set_reset(void)
{
	uint64_t errors;

	sets_open();
	for (uint64_t round = 1; round < 10; round++) {
		for (uint64_t i = 0; i < round; i++)
			histogram_set_record(sets[0], 1, 100 * round, true);
		CHECK(set_count(0, 1, &errors) == round && errors == round);
		CHECK(histogram_max_ns(&scratch) == 100 * round);
		histogram_set_reset(sets[0]);
		CHECK(set_count(0, 1, &errors) == 0 && errors == 0);
		CHECK(histogram_max_ns(&scratch) == 0 && histogram_sum_ns(&scratch) == 0);
	}
	/* The maximum, too, forgets what was larger before. */
	histogram_set_record(sets[0], 1, 5000, false);
	histogram_set_reset(sets[0]);
	histogram_set_record(sets[0], 1, 200, false);
	CHECK(set_count(0, 1, &errors) == 1 && histogram_max_ns(&scratch) == 200);
	sets_close();
}

/*
 * Every record is a failed one of 4096 ns, so a reading taken beside them must be consistent in
 * itself: one bucket, its maximum, and a sum that may only be ahead of the count.
 */
static void *steady_body(void *argument)
{
	while (atomic_load_explicit(&running, memory_order_relaxed))
		histogram_set_record(sets[0], 2, 4096, true);
	return argument;
}

static void *short_body(void *argument)
{
	for (int i = 0; i < 50; i++)
		histogram_set_record(sets[0], 2, 4096, true);
	return argument;
}

static void check_steady(void)
{
	uint64_t errors;
	uint64_t count = set_count(0, 2, &errors);

	CHECK(errors <= count);
	CHECK(histogram_bucket_count(&scratch, histogram_bucket(4096)) == count);
	CHECK(histogram_sum_ns(&scratch) % 4096 == 0);
	CHECK(histogram_sum_ns(&scratch) >= count * 4096);
	CHECK(histogram_max_ns(&scratch) == 4096 || count == 0);
	CHECK(histogram_percentile(&scratch, 990) == (count ? 4096 : 0));
}

static void *reset_body(void *argument)
{
	for (int i = 0; i < 300; i++) {
		histogram_set_reset(sets[0]);
		check_steady();
	}
	return argument;
}

static void test_set_concurrent(void)
{
	pthread_t threads[THREADS];
	uint64_t errors;

	sets_open();
	atomic_store(&running, true);
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_create(&threads[i], NULL, steady_body, NULL) == 0);
	(void)reset_body(NULL);
	for (int i = 0; i < 100; i++) { /* threads come and go as well */
		pthread_t thread;
		CHECK(pthread_create(&thread, NULL, short_body, NULL) == 0);
		CHECK(pthread_join(thread, NULL) == 0);
		check_steady();
	}
	atomic_store(&running, false);
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	uint64_t count = set_count(0, 2, &errors);
	CHECK(count == errors && count >= 5000);
	CHECK(histogram_sum_ns(&scratch) == count * 4096);
	sets_close();
}

/* What the recorder shall record now, and what it has last begun to. */
static _Atomic uint64_t wanted_ns, begun_ns;

static void *wanted_body(void *argument)
{
	for (unsigned i = 0; atomic_load(&running); i++) {
		uint64_t ns = atomic_load(&wanted_ns);
		atomic_store(&begun_ns, ns);
		histogram_set_record(sets[0], i % WANTED_OPERATIONS, ns, false);
	}
	return argument;
}

/*
 * When the recorder has gone over to a new value, a reset leaves nothing of the old one. There are
 * many operations so that some are read in the very moment when their owner empties them.
 */
static void test_set_no_revival(void)
{
	pthread_t thread;
	uint64_t errors;

	sets[0] = histogram_set_new(WANTED_OPERATIONS);
	assert(sets[0]);
	atomic_store(&running, true);
	CHECK(pthread_create(&thread, NULL, wanted_body, NULL) == 0);
	for (int turn = 0; turn < 200; turn++) {
		uint64_t ns = turn % 2 ? 1000 : 30000;
		atomic_store(&wanted_ns, ns);
		while (atomic_load(&begun_ns) != ns)
			(void)sched_yield();
		histogram_set_reset(sets[0]);
		for (int i = 0; i < 30; i++) {
			uint64_t count =
				set_count(0, (unsigned)tap_below(WANTED_OPERATIONS), &errors);
			CHECK(histogram_bucket_count(&scratch, histogram_bucket(ns)) == count);
			CHECK(histogram_max_ns(&scratch) == ns || count == 0);
		}
	}
	atomic_store(&running, false);
	CHECK(pthread_join(thread, NULL) == 0);
	histogram_set_free(sets[0]);
}

/* Without resets no reading ever falls. */
static void test_set_monotonic(void)
{
	pthread_t threads[2];
	uint64_t last = 0, errors;

	sets_open();
	for (int i = 0; i < 2; i++)
		CHECK(pthread_create(&threads[i], NULL, record_body, NULL) == 0);
	for (int i = 0; i < 200; i++) {
		uint64_t count = set_count(0, 1, &errors);
		CHECK(count >= last && errors <= count);
		last = count;
	}
	for (int i = 0; i < 2; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	sets_close();
}

/* A thread-specific key that leaked would make this fail: a process has 1024. */
static void test_set_many(void)
{
	for (int i = 0; i < 3000; i++) {
		struct histogram_set *set = histogram_set_new(HISTOGRAM_OPERATIONS_MAX);
		CHECK(set);
		if (!set)
			return;
		histogram_set_record(set, HISTOGRAM_OPERATIONS_MAX - 1, 1, false);
		histogram_set_free(set);
	}
}

int main(int argc, char **argv)
{
	tap_begin(argc, argv);
	tap_case("buckets are adjacent and narrower than 1/64 of their value", test_buckets);
	tap_case("values outside the range are counted, and kept as maximum and sum", test_ends);
	tap_case("an empty histogram is all zeros", test_empty);
	tap_case("percentiles are within 1/64 of a sorted array's", test_percentiles);
	tap_case("merging is the same as recording in one", test_merge);
	tap_case("a set loses nothing when threads exit and return", test_set_exact);
	tap_case("a reset forgets everything before it", test_set_reset);
	tap_case("readings are whole under recording, resets and thread exits",
		 test_set_concurrent);
	tap_case("what a reset forgot never comes back", test_set_no_revival);
	tap_case("counts never fall without a reset", test_set_monotonic);
	tap_case("sets come and go without using up keys", test_set_many);
	return tap_end();
}
