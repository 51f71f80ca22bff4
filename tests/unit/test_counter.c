/*
 * test_counter.c: one list makes the counters, the sums and the names, in the same order, and no
 * addition is lost, with or without a lock.
 */
#include "store/counter.h"

#include "tests/unit/tap.h"

#include <pthread.h>
#include <string.h>

#define TOY_COUNTERS(X)                                                                            \
	X(apples, "apples eaten")                                                                  \
	X(pears_bytes, "bytes of pears")                                                           \
	X(plums)

struct toy_counters {
	COUNTER_STRUCT(TOY_COUNTERS)
};

struct toy_sums {
	COUNTER_SUMS(TOY_COUNTERS)
};

static const char *const toy_names[] = { COUNTER_NAMES(TOY_COUNTERS) };

enum { THREADS = 4, ROUNDS = 20000, SHARDS = 5 };

static struct toy_counters shards[SHARDS];
static struct toy_counters shared;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void test_list(void)
{
	static_assert(COUNTER_COUNT(TOY_COUNTERS) == 3, "three on the list");
	static_assert(sizeof(struct toy_counters) == 3 * 8, "one word each");
	static_assert(sizeof(struct toy_sums) == 3 * 8, "one word each");
	CHECK(sizeof(toy_names) / sizeof(toy_names[0]) == 3);
	CHECK(!strcmp(toy_names[0], "apples"));
	CHECK(!strcmp(toy_names[1], "pears_bytes"));
	CHECK(!strcmp(toy_names[2], "plums"));
}

static struct toy_sums shards_sum(void)
{
	struct toy_sums sums = { 0 };
	for (int i = 0; i < SHARDS; i++)
		COUNTER_ADD_ALL(TOY_COUNTERS, &sums, &shards[i]);
	return sums;
}

static void test_sum(void)
{
	struct toy_sums model = { 0 };

	for (int i = 0; i < 10000; i++) {
		struct toy_counters *shard = &shards[tap_below(SHARDS)];
		uint64_t n = tap_random() >> 20;
		counter_add(&shard->apples, n);
		model.apples += n;
		counter_add_locked(&shard->pears_bytes, n + 1);
		model.pears_bytes += n + 1;
		counter_add_locked(&shard->plums, 1);
		model.plums++;
	}
	struct toy_sums sums = shards_sum();
	CHECK(!memcmp(&sums, &model, sizeof(sums)));

	model.plums -= counter_read(&shards[0].plums);
	model.apples -= counter_read(&shards[0].apples);
	model.pears_bytes -= counter_read(&shards[0].pears_bytes);
	COUNTER_RESET_ALL(TOY_COUNTERS, &shards[0]);
	sums = shards_sum();
	CHECK(!memcmp(&sums, &model, sizeof(sums)));
}

static void *count_body(void *argument)
{
	for (int i = 0; i < ROUNDS; i++) {
		counter_add(&shared.apples, 2);
		pthread_mutex_lock(&mutex);
		counter_add_locked(&shared.plums, 3);
		pthread_mutex_unlock(&mutex);
	}
	return argument;
}

static void test_threads(void)
{
	pthread_t threads[THREADS];
	uint64_t last = 0;

	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_create(&threads[i], NULL, count_body, NULL) == 0);
	for (int i = 0; i < ROUNDS; i++) { /* a reader beside them never sees it fall */
		uint64_t plums = counter_read(&shared.plums);
		CHECK(plums >= last && plums % 3 == 0);
		last = plums;
	}
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	CHECK(counter_read(&shared.apples) == (uint64_t)2 * THREADS * ROUNDS);
	CHECK(counter_read(&shared.plums) == (uint64_t)3 * THREADS * ROUNDS);
}

int main(int argc, char **argv)
{
	tap_begin(argc, argv);
	tap_case("one list makes struct, sums and names", test_list);
	tap_case("sums over shards match a model", test_sum);
	tap_case("no addition is lost under threads", test_threads);
	return tap_end();
}
