/*
 * test_lock.c: locks exclude, conditions wake, and the debug build's record of what a thread holds
 * is right. The record is tested where it exists, in a build with -DDEBUG=1: every pair of ranks
 * and orders by hand, then random taking and releasing against a plain array of booleans.
 */
#include "store/lock.h"

#include "tests/unit/tap.h"

#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 4, ROUNDS = 20000, SHARDS = 1024 };

static struct lock shared_lock;
static struct lock_rw shared_rw;
static struct lock_cond shared_cond;
static uint64_t guarded, guarded_twin;
static struct lock shards[SHARDS];

static void run_threads(void *(*body)(void *))
{
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_create(&threads[i], NULL, body, NULL) == 0);
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
}

static void *mutex_body(void *argument)
{
	(void)argument;
	for (int i = 0; i < ROUNDS; i++) {
		lock_acquire(&shared_lock);
		lock_assert_held(&shared_lock);
		guarded++;
		lock_release(&shared_lock);
		lock_assert_none();
	}
	return NULL;
}

static void test_mutex(void)
{
	guarded = 0;
	lock_init(&shared_lock, LOCK_LEAF, 0);
	run_threads(mutex_body);
	CHECK(guarded == (uint64_t)THREADS * ROUNDS);
	lock_fini(&shared_lock);
}

static void *rw_body(void *argument)
{
	(void)argument;
	for (int i = 0; i < ROUNDS; i++) {
		if (i % 4 == 0) {
			lock_rw_exclusive(&shared_rw);
			guarded++;
			guarded_twin++;
			CHECK(lock_rw_held(&shared_rw));
			lock_rw_release(&shared_rw);
		} else {
			lock_rw_shared(&shared_rw);
			CHECK(lock_rw_held(&shared_rw));
			CHECK(guarded == guarded_twin);
			lock_rw_release(&shared_rw);
		}
	}
	return NULL;
}

static void test_rw(void)
{
	guarded = 0;
	guarded_twin = 0;
	lock_rw_init(&shared_rw, LOCK_TREE, 0);
	run_threads(rw_body);
	CHECK(guarded == (uint64_t)THREADS * ROUNDS / 4);
	lock_rw_fini(&shared_rw);
}

/* Thread i waits until the token says i, and passes it on. */
static void *cond_body(void *argument)
{
	lock_acquire(&shared_lock);
	uint64_t self = guarded_twin++;
	for (int i = 0; i < 200; i++) {
		while (guarded % THREADS != self)
			lock_cond_wait(&shared_cond, &shared_lock);
		guarded++;
		lock_cond_broadcast(&shared_cond);
	}
	lock_release(&shared_lock);
	return argument;
}

static void test_cond(void)
{
	guarded = 0;
	guarded_twin = 0;
	lock_init(&shared_lock, LOCK_LOG, 0);
	lock_cond_init(&shared_cond);
	run_threads(cond_body);
	CHECK(guarded == (uint64_t)THREADS * 200);
	lock_cond_fini(&shared_cond);
	lock_fini(&shared_lock);
}

static void *signal_body(void *argument)
{
	lock_acquire(&shared_lock);
	guarded = 1;
	lock_cond_signal(&shared_cond);
	lock_release(&shared_lock);
	return argument;
}

static void test_cond_until(void)
{
	struct timespec now;
	pthread_t thread;
	bool in_time = true;

	guarded = 0;
	lock_init(&shared_lock, LOCK_LOG, 0);
	lock_cond_init(&shared_cond);
	lock_acquire(&shared_lock);
	while (in_time) /* a deadline that has passed; wake-ups without cause are allowed */
		in_time = lock_cond_wait_until(&shared_cond, &shared_lock, 1);

	CHECK(pthread_create(&thread, NULL, signal_body, NULL) == 0);
	CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
	in_time = true;
	while (!guarded &&
	       in_time) /* a deadline in ten minutes: the wrong clock would be at once */
		in_time = lock_cond_wait_until(&shared_cond, &shared_lock,
					       (uint64_t)(now.tv_sec + 600) * 1000000000);
	CHECK(guarded == 1 && in_time);
	lock_release(&shared_lock);
	CHECK(pthread_join(thread, NULL) == 0);
	lock_cond_fini(&shared_cond);
	lock_fini(&shared_lock);
}

static void test_all_shards(void) NO_THREAD_SAFETY_ANALYSIS;
static void test_all_shards(void)
{
	unsigned order[SHARDS];

	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < SHARDS; i++) {
			lock_acquire(&shards[i]);
			order[i] = round == 0 ? i : SHARDS - 1 - i;
		}
		for (unsigned i = SHARDS - 1; round == 2 && i; i--) { /* shuffle */
			unsigned j = (unsigned)tap_below(i + 1);
			unsigned swap = order[i];
			order[i] = order[j];
			order[j] = swap;
		}
		for (unsigned i = 0; i < SHARDS; i++) {
			CHECK(lock_held(&shards[order[i]]));
			lock_release(&shards[order[i]]);
		}
		lock_assert_none();
	}
}

#ifdef LOCK_DEBUG
/* Whether body(argument) ends in a failed assertion, in a child process. */
static bool aborts(void (*body)(const void *), const void *argument)
{
	int status = 0;

	(void)fflush(stdout); /* the child must not print it again */
	pid_t child = fork();
	if (child == 0) {
		const struct rlimit no_core = { 0, 0 };
		(void)setrlimit(RLIMIT_CORE, &no_core);
		if (!freopen("/dev/null", "w", stderr))
			_exit(2);
		body(argument);
		_exit(0);
	}
	CHECK(child > 0 && waitpid(child, &status, 0) == child);
	CHECK(WIFEXITED(status) ? WEXITSTATUS(status) == 0 : WTERMSIG(status) == SIGABRT);
	return WIFSIGNALED(status);
}

struct pair {
	enum lock_rank rank[2];
	uint64_t order[2];
};

static void take_pair(const void *argument) NO_THREAD_SAFETY_ANALYSIS;
static void take_pair(const void *argument)
{
	const struct pair *pair = argument;
	struct lock locks[2];

	for (int i = 0; i < 2; i++) {
		lock_init(&locks[i], pair->rank[i], pair->order[i]);
		lock_acquire(&locks[i]);
	}
}

static void test_order(void)
{
	static const uint64_t orders[] = { 0, 1, UINT64_MAX };
	enum { ORDERS = 3, KINDS = LOCK_LEAF * ORDERS };

	for (unsigned a = 0; a < KINDS; a++) {
		for (unsigned b = 0; b < KINDS; b++) {
			struct pair pair = {
				.rank = { LOCK_TREE + a / ORDERS, LOCK_TREE + b / ORDERS },
				.order = { orders[a % ORDERS], orders[b % ORDERS] },
			};
			CHECK(aborts(take_pair, &pair) == (a >= b));
		}
	}
}

static void release_not_held(const void *argument) NO_THREAD_SAFETY_ANALYSIS;
static void release_not_held(const void *argument)
{
	(void)argument;
	lock_acquire(&shards[1]);
	lock_release(&shards[2]);
}

static void release_twice(const void *argument) NO_THREAD_SAFETY_ANALYSIS;
static void release_twice(const void *argument)
{
	(void)argument;
	lock_acquire(&shards[1]);
	lock_acquire(&shards[2]);
	lock_release(&shards[1]);
	lock_release(&shards[1]);
}

static void none_but_one(const void *argument) NO_THREAD_SAFETY_ANALYSIS;
static void none_but_one(const void *argument)
{
	(void)argument;
	lock_acquire(&shards[1]);
	lock_assert_none();
}

static void wait_with_two(const void *argument) NO_THREAD_SAFETY_ANALYSIS;
static void wait_with_two(const void *argument)
{
	(void)argument;
	lock_acquire(&shards[1]);
	lock_acquire(&shards[2]);
	(void)lock_cond_wait_until(&shared_cond, &shards[2], 1);
}

static void wait_with_one(const void *argument) NO_THREAD_SAFETY_ANALYSIS;
static void wait_with_one(const void *argument)
{
	(void)argument;
	lock_acquire(&shards[1]);
	lock_assert_none_from(LOCK_LOG);
	(void)lock_cond_wait_until(&shared_cond, &shards[1], 1);
}

static void test_misuse(void)
{
	lock_cond_init(&shared_cond);
	CHECK(aborts(release_not_held, NULL));
	CHECK(aborts(release_twice, NULL));
	CHECK(aborts(none_but_one, NULL));
	CHECK(aborts(wait_with_two, NULL));
	CHECK(!aborts(wait_with_one, NULL));
	lock_cond_fini(&shared_cond);
}

static void test_record(void) NO_THREAD_SAFETY_ANALYSIS;
static void test_record(void)
{
	enum { LOCKS = 12 };
	bool held[LOCKS] = { false };
	int top = -1;

	for (int step = 0; step < 20000; step++) {
		int i = (int)tap_below(LOCKS);
		if (held[i])
			lock_release(&shards[i]);
		else if (i > top)
			lock_acquire(&shards[i]);
		else
			continue;
		held[i] = !held[i];
		for (int j = 0, was = LOCKS; j < was; j++)
			CHECK(lock_held(&shards[j]) == held[j]);
		for (top = LOCKS - 1; top >= 0 && !held[top]; top--)
			;
		CHECK(lock_debug_none_from(LOCK_LOG));
		CHECK(lock_debug_none_from(LOCK_SHARD) == (top < 0));
	}
	for (int i = 0; i < LOCKS; i++) {
		if (held[i])
			lock_release(&shards[i]);
	}
	lock_assert_none();
}

/* Hand over hand: never more than two, but more in all than the record has room for. */
static void test_hand_over_hand(void) NO_THREAD_SAFETY_ANALYSIS;
static void test_hand_over_hand(void)
{
	struct lock locks[2];

	for (uint64_t i = 0; i < 3 * LOCK_HELD_MAX; i++) {
		lock_init(&locks[i % 2], LOCK_DIR, i);
		lock_acquire(&locks[i % 2]);
		if (i) {
			lock_release(&locks[(i + 1) % 2]);
			lock_fini(&locks[(i + 1) % 2]);
		}
	}
	lock_release(&locks[(3 * LOCK_HELD_MAX - 1) % 2]);
	lock_assert_none();
}
#endif

int main(int argc, char **argv)
{
	tap_begin(argc, argv);
	for (unsigned i = 0; i < SHARDS; i++)
		lock_init(&shards[i], LOCK_SHARD, i);
	tap_case("a mutex excludes", test_mutex);
	tap_case("a read-write lock excludes writers from all", test_rw);
	tap_case("a condition hands a token round", test_cond);
	tap_case("a deadline is on the monotonic clock", test_cond_until);
	tap_case("1024 locks are held at once and released in any order", test_all_shards);
#ifdef LOCK_DEBUG
	tap_case("every wrong pair of locks is caught, every right one taken", test_order);
	tap_case("releasing or waiting wrongly is caught", test_misuse);
	tap_case("the record of held locks matches a model", test_record);
	tap_case("the record never fills with released locks", test_hand_over_hand);
#else
	printf("# the checks of the lock order need a build with -DDEBUG=1\n");
#endif
	for (unsigned i = 0; i < SHARDS; i++)
		lock_fini(&shards[i]);
	return tap_end();
}
