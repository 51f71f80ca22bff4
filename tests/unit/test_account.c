/*
 * test_account.c: the bound holds at every moment, sums are exact whoever gives back, and
 * account_class() says what malloc takes.
 */
#include "store/account.h"

#include "tests/unit/tap.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>

enum { THREADS = 4, ROUNDS = 20000, ACCOUNTS = 3, LIMIT = 1000 };

static struct account_total total;
static struct account accounts[ACCOUNTS];
static atomic_bool running;
static atomic_int refused;

static void setup(uint64_t limit)
{
	account_total_init(&total, limit);
	for (int i = 0; i < ACCOUNTS; i++)
		account_init(&accounts[i], &total);
}

static int64_t accounts_sum(void)
{
	int64_t sum = 0;
	for (int i = 0; i < ACCOUNTS; i++)
		sum += account_bytes(&accounts[i]);
	return sum;
}

static void test_small_bounds(void)
{
	for (uint64_t limit = 1; limit <= 8; limit++) {
		for (uint64_t first = 0; first <= 9; first++) {
			for (uint64_t second = 0; second <= 9; second++) {
				setup(limit);
				int a = account_charge(&accounts[0], first);
				uint64_t used = a ? 0 : first;
				CHECK(a == (first <= limit ? 0 : -ENOSPC));
				CHECK(account_used(&total) == used);
				int b = account_charge(&accounts[1], second);
				CHECK(b == (used + second <= limit ? 0 : -ENOSPC));
				used += b ? 0 : second;
				CHECK(account_used(&total) == used);
				CHECK(account_free(&total) == limit - used);
				CHECK(accounts_sum() == (int64_t)used);
			}
		}
	}
}

static void test_force(void)
{
	setup(LIMIT);
	account_force(&accounts[0], LIMIT + 5);
	CHECK(account_used(&total) == LIMIT + 5);
	CHECK(account_free(&total) == 0);
	CHECK(account_charge(&accounts[1], 1) == -ENOSPC);
	CHECK(account_charge(&accounts[1], 0) == 0);
	account_uncharge(&accounts[0], 6);
	CHECK(account_free(&total) == 1);
	CHECK(account_charge(&accounts[1], 2) == -ENOSPC);
	CHECK(account_charge(&accounts[1], 1) == 0);
}

static void test_no_bound(void)
{
	setup(0);
	CHECK(account_free(&total) == ACCOUNT_BYTES_MAX);
	CHECK(account_charge(&accounts[0], UINT64_MAX) == -ENOSPC);
	CHECK(account_charge(&accounts[0], ACCOUNT_BYTES_MAX) == 0);
	CHECK(account_charge(&accounts[1], 1) == -ENOSPC);
	CHECK(account_bytes(&accounts[0]) == INT64_MAX);
	account_uncharge(&accounts[0], ACCOUNT_BYTES_MAX);
	CHECK(account_used(&total) == 0);
}

static void test_model(void)
{
	int64_t model[ACCOUNTS] = { 0 };
	int64_t used = 0;

	setup(LIMIT);
	for (int i = 0; i < 50000; i++) {
		unsigned which = (unsigned)tap_below(ACCOUNTS);
		int64_t bytes = (int64_t)tap_below(300);
		unsigned action = (unsigned)tap_below(20);
		if (action == 0) {
			account_force(&accounts[which], (uint64_t)bytes);
		} else if (action < 10) {
			bool fits = bytes == 0 || used + bytes <= LIMIT;
			int err = account_charge(&accounts[which], (uint64_t)bytes);
			CHECK(err == (fits ? 0 : -ENOSPC));
			bytes = fits ? bytes : 0;
		} else { /* also by another account than was charged */
			bytes = bytes < used ? bytes : used;
			account_uncharge(&accounts[which], (uint64_t)bytes);
			bytes = -bytes;
		}
		model[which] += bytes;
		used += bytes;
		CHECK(account_bytes(&accounts[which]) == model[which]);
		CHECK(account_used(&total) == (uint64_t)used);
		CHECK(accounts_sum() == used);
		CHECK(account_free(&total) == (uint64_t)(used < LIMIT ? LIMIT - used : 0));
	}
}

/* Three units of 334 or more do not fit in 1000, so one beside the first is all there can be. */
static void *charge_body(void *argument)
{
	struct account *account = argument;

	for (int i = 0; i < ROUNDS; i++) {
		uint64_t bytes = 334 + (uint64_t)(i % 7);
		if (account_charge(account, bytes) != 0) {
			atomic_fetch_add(&refused, 1);
			continue;
		}
		CHECK(account_used(&total) <= LIMIT);
		if (i % 8 == 0) /* let others meet a total that is full */
			(void)sched_yield();
		account_uncharge(account, bytes);
	}
	return NULL;
}

static void *watch_body(void *argument)
{
	while (atomic_load(&running)) {
		CHECK(account_used(&total) <= LIMIT);
		CHECK(account_free(&total) <= LIMIT);
	}
	return argument;
}

static void test_threads(void)
{
	pthread_t threads[THREADS];
	pthread_t watcher;

	setup(LIMIT);
	/* One unit is taken for good, so only one of the threads can have another. */
	CHECK(account_charge(&accounts[0], 334) == 0);
	atomic_store(&running, true);
	CHECK(pthread_create(&watcher, NULL, watch_body, NULL) == 0);
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_create(&threads[i], NULL, charge_body, &accounts[i % ACCOUNTS]) == 0);
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	atomic_store(&running, false);
	CHECK(pthread_join(watcher, NULL) == 0);
	CHECK(account_used(&total) == 334);
	CHECK(accounts_sum() == 334);
	printf("# refused %d of %d\n", atomic_load(&refused), THREADS * ROUNDS);
}

/* A charge that fits is never refused because of one that does not. */
static void *too_large_body(void *argument)
{
	while (atomic_load(&running))
		CHECK(account_charge(argument, LIMIT) == -ENOSPC);
	return NULL;
}

static void test_no_false_refusal(void)
{
	pthread_t thread;

	setup(LIMIT);
	CHECK(account_charge(&accounts[0], 10) == 0);
	atomic_store(&running, true);
	CHECK(pthread_create(&thread, NULL, too_large_body, &accounts[1]) == 0);
	for (int i = 0; i < ROUNDS; i++) {
		CHECK(account_charge(&accounts[0], 10) == 0);
		account_uncharge(&accounts[0], 10);
	}
	atomic_store(&running, false);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(account_used(&total) == 10);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OTHER_MALLOC 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define OTHER_MALLOC 1
#endif
#endif

#ifndef OTHER_MALLOC
static uint64_t taken_by(size_t bytes, uint64_t header)
{
	void *memory = malloc(bytes);
	uint64_t taken = malloc_usable_size(memory) + header;
	free(memory);
	return taken;
}

static void test_class(void)
{
	uint64_t large[] = { 131040, 131048, 131049, 131072, 135144, 135152, 135153, 1000000 };
	unsigned wrong = 0;

	for (size_t n = 1; n <= 100000; n++)
		wrong += taken_by(n, ACCOUNT_CHUNK_HEADER) != account_class(n);
	CHECK(wrong == 0);
	/* Fix the threshold, which glibc raises when a mapping is freed; leave no heap to use. */
	CHECK(mallopt(M_MMAP_THRESHOLD, ACCOUNT_MMAP_MIN) == 1);
	CHECK(mallopt(M_TOP_PAD, 0) == 1);
	(void)malloc_trim(0);
	for (size_t i = 0; i < sizeof(large) / sizeof(large[0]); i++) {
		uint64_t class = account_class(large[i]);
		bool mapped = class >= ACCOUNT_MMAP_MIN;
		CHECK(taken_by(large[i], (mapped ? 2 : 1) * ACCOUNT_CHUNK_HEADER) == class);
	}
}
#endif

static void test_class_shape(void)
{
	CHECK(account_class(0) == 32);
	for (uint64_t n = 1; n < 300000; n++) {
		CHECK(account_class(n) >= n + 8);
		CHECK(account_class(n) >= account_class(n - 1));
		CHECK(account_class(n) % ACCOUNT_CHUNK_ALIGN == 0);
		CHECK(account_class(n) <= (n < 24 ? 32 : n < 131049 ? n + 23 : n + 31 + 4095));
	}
}

int main(int argc, char **argv)
{
	tap_begin(argc, argv);
#ifndef OTHER_MALLOC
	tap_case("account_class() is what malloc takes, 1 to 100000 bytes and mappings",
		 test_class);
#else
	printf("# account_class() is compared to glibc's malloc, which a sanitizer replaces\n");
#endif
	tap_case("account_class() never shrinks and wastes no more than it must", test_class_shape);
	tap_case("every small bound and pair of charges", test_small_bounds);
	tap_case("a forced charge passes the bound and blocks others", test_force);
	tap_case("without a bound the sum still fits in 63 bits", test_no_bound);
	tap_case("random charges match a model", test_model);
	tap_case("the bound holds at every moment under threads", test_threads);
	tap_case("a charge that fits is not refused for one that does not", test_no_false_refusal);
	return tap_end();
}
