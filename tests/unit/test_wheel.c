/*
 * test_wheel.c: the timing wheel against a plain list of deadlines.
 *
 * The claims: never before the deadline, at most one tick after it, each node once; wheel_next_ns()
 * neither sleeps through a deadline nor spins; one call's work is bounded. They are tried for every
 * distance over two level boundaries, at every level, and by random walks in which nodes move in
 * memory.
 */
#include "store/wheel.h"
#include "tests/unit/tap.h"

#include <string.h>

#define TICK WHEEL_TICK_NS

static struct wheel wheel;

/* The first time at which a node must be returned. */
static int64_t due_ns(int64_t deadline_ns)
{
	return (deadline_ns + TICK - 1) / TICK * TICK;
}

/* --- one node -------------------------------------------------------------------------------- */

/* One node alone: asleep until wheel_next_ns() each time, and returned at its tick exactly. */
static void one_node(int64_t start_ns, int64_t deadline_ns)
{
	struct wheel_node node = { 0 };
	struct wheel_node *out[2];
	int64_t now = start_ns;
	int64_t expected = deadline_ns <= start_ns ? start_ns : due_ns(deadline_ns);
	unsigned wakes = 0;
	size_t got = 0;

	wheel_init(&wheel, start_ns);
	wheel_add(&wheel, &node, deadline_ns);
	CHECK(wheel_armed(&node));
	while (got == 0 && wakes < 20) {
		int64_t next = wheel_next_ns(&wheel);

		CHECK(next <= expected && next >= now);
		if (next > now) {
			CHECK(wheel_advance(&wheel, next - 1, out, 2) == 0);
			CHECK(wheel_next_ns(&wheel) == next);
		}
		now = next;
		got = wheel_advance(&wheel, now, out, 2);
		wakes++;
	}
	CHECK(got == 1 && out[0] == &node);
	CHECK(now == expected);
	CHECK(wakes <= WHEEL_LEVELS);
	CHECK(!wheel_armed(&node));
	CHECK(wheel_count(&wheel) == 0 && wheel_next_ns(&wheel) == INT64_MAX);
}

static void case_every_distance(void)
{
	static const int64_t starts[] = { 0, 1, 63, 64, 4095, 4096, 262143 };
	static const int64_t within[] = { 0, 1, TICK - 1 };

	for (size_t s = 0; s < sizeof(starts) / sizeof(starts[0]); s++) {
		for (int64_t ticks = 0; ticks < 4300; ticks++) {
			for (size_t i = 0; i < 3; i++)
				one_node(starts[s] * TICK + within[(size_t)ticks % 3],
					 (starts[s] + ticks) * TICK + within[i]);
		}
	}
}

/* Around each power of two up to the end of time, and from each power of two. */
static void case_every_level(void)
{
	for (int start = 0; start < 62; start++) {
		for (int bit = 0; bit < 62; bit++) {
			for (int64_t near = -1; near <= 1; near++) {
				int64_t from = INT64_C(1) << start;
				int64_t distance = (INT64_C(1) << bit) + near;

				if (distance < INT64_MAX - TICK - from)
					one_node(from, from + distance);
			}
		}
	}
}

static void case_past_and_never(void)
{
	struct wheel_node past = { 0 };
	struct wheel_node negative = { 0 };
	struct wheel_node never = { 0 };
	struct wheel_node *out[4];

	wheel_init(&wheel, 5 * TICK + 7);
	CHECK(wheel_next_ns(&wheel) == INT64_MAX);
	wheel_add(&wheel, &never, INT64_MAX);
	CHECK(wheel_next_ns(&wheel) == INT64_MAX);
	wheel_add(&wheel, &past, 5 * TICK + 6);
	CHECK(wheel_next_ns(&wheel) <= 5 * TICK + 7);
	wheel_add(&wheel, &negative, -1);
	CHECK(wheel_advance(&wheel, 0, out, 4) == 2);
	CHECK(!wheel_armed(&past) && !wheel_armed(&negative) && wheel_armed(&never));
	/* The earlier time just given did not turn the wheel back. */
	wheel_add(&wheel, &past, 5 * TICK + 6);
	CHECK(wheel_next_ns(&wheel) <= 5 * TICK + 7);
	CHECK(wheel_advance(&wheel, 5 * TICK + 7, out, 4) == 1);
	/* After an idle time, a node one tick ahead still takes one wake. */
	CHECK(wheel_advance(&wheel, 5000 * TICK, out, 4) == 0);
	wheel_add(&wheel, &past, 5001 * TICK);
	CHECK(wheel_next_ns(&wheel) == 5001 * TICK);
	wheel_del(&wheel, &past);
	CHECK(wheel_advance(&wheel, INT64_MAX - 1, out, 4) == 0);
	CHECK(wheel_check(&wheel) == 0);
	wheel_del(&wheel, &never);
	CHECK(wheel_count(&wheel) == 0);
	CHECK(wheel_check(&wheel) == 0);
}

/* --- small sets ------------------------------------------------------------------------------ */

/*
 * Every triple of deadlines from a set around the level boundaries; the middle one is deleted, or
 * not; then time goes on in steps of every size in the set, two nodes a call.
 */
static void triple(const int64_t *ticks, const size_t index[3], bool deleted, int64_t step)
{
	struct wheel_node node[3];
	struct wheel_node *out[2];
	size_t left = deleted ? 2 : 3;

	memset(node, 0, sizeof(node));
	wheel_init(&wheel, 0);
	for (size_t i = 0; i < 3; i++)
		wheel_add(&wheel, &node[i], ticks[index[i]] * TICK);
	if (deleted)
		wheel_del(&wheel, &node[1]);
	for (int64_t now = 0; now < 4300 + step; now += step) {
		do {
			size_t got = wheel_advance(&wheel, now * TICK, out, 2);

			for (size_t i = 0; i < got; i++)
				CHECK(out[i]->deadline_ns <= now * TICK);
			left -= got;
		} while (wheel_next_ns(&wheel) <= now * TICK);
		for (size_t i = 0; i < 3; i++)
			CHECK(wheel_armed(&node[i]) ==
			      (node[i].deadline_ns > now * TICK && !(deleted && i == 1)));
		CHECK(wheel_check(&wheel) == 0);
	}
	CHECK(left == 0 && wheel_count(&wheel) == 0);
}

static void case_triples(void)
{
	static const int64_t ticks[] = { 0, 1, 63, 64, 65, 128, 4095, 4096, 4160 };
	static const int64_t steps[] = { 97, 1000, 4300 };
	const size_t n = sizeof(ticks) / sizeof(ticks[0]);

	for (size_t i = 0; i < n * n * n * 2 * 3; i++) {
		size_t index[3] = { i % n, i / n % n, i / n / n % n };
		size_t variant = i / n / n / n;

		triple(ticks, index, variant % 2, steps[variant / 2]);
	}
}

/* --- random walks ---------------------------------------------------------------------------- */

#define NODES 300u

/* Nodes live in twice as many places as there are nodes, and move between them. */
struct object {
	struct wheel_node node;
	size_t owner; /* the index of the model's node that lives here; NODES: vacant */
};

static struct object places[2 * NODES];
static size_t place_of[NODES];
static bool armed[NODES];
static int64_t deadline[NODES];

static struct wheel_node *node_of(size_t i)
{
	return &places[place_of[i]].node;
}

/* A distance whose magnitude, not only its value, is random; now and then exactly on a tick. */
static int64_t random_distance(void)
{
	int64_t distance = (int64_t)(tap_random() >> (3 + tap_below(60)));

	return tap_below(4) ? distance : distance / TICK * TICK;
}

static int64_t add_clamped(int64_t a, int64_t b)
{
	return a > INT64_MAX / 2 - b ? INT64_MAX / 2 : a + b;
}

static void walk_move(size_t i)
{
	size_t to = tap_below(2 * NODES);
	size_t from = place_of[i];

	if (places[to].owner != NODES)
		return;
	places[to] = places[from];
	memset(&places[from], 0xA5, sizeof(places[from]));
	places[from].owner = NODES;
	place_of[i] = to;
	wheel_relink(&places[to].node);
}

/* Re-arms, disarms or arms. */
static void walk_arm(size_t i, int64_t now)
{
	if (armed[i])
		wheel_del(&wheel, node_of(i));
	CHECK(!wheel_armed(node_of(i)));
	armed[i] = !armed[i] || tap_below(2);
	if (!armed[i])
		return;
	deadline[i] = tap_below(8) ? add_clamped(now, random_distance())
				   : now - (int64_t)tap_below(3 * TICK);
	wheel_add(&wheel, node_of(i), deadline[i]);
}

static void walk_take(struct wheel_node *const *out, size_t got, int64_t now)
{
	for (size_t k = 0; k < got; k++) {
		struct object *object = (struct object *)(void *)out[k];
		size_t i = object->owner;

		CHECK(i < NODES && armed[i] && out[k] == node_of(i));
		CHECK(out[k]->deadline_ns == deadline[i]);
		CHECK(deadline[i] <= now);
		CHECK(!wheel_armed(out[k]));
		armed[i] = false;
	}
}

/* Advances, all the way or for one call only. */
static void walk_advance(int64_t now)
{
	size_t max = 1 + tap_below(tap_below(2) ? 4 : NODES);
	struct wheel_node *out[NODES];
	bool whole = tap_below(3) != 0;
	unsigned calls = 0;

	do {
		walk_take(out, wheel_advance(&wheel, now, out, max), now);
		calls++;
	} while (whole && wheel_next_ns(&wheel) <= now && calls < 10000);
	if (!whole)
		return;
	CHECK(wheel_next_ns(&wheel) > now);
	for (size_t i = 0; i < NODES; i++)
		CHECK(!armed[i] || due_ns(deadline[i]) > now);
}

static void walk_check(void)
{
	int64_t next = wheel_next_ns(&wheel);
	size_t count = 0;

	for (size_t i = 0; i < NODES; i++) {
		CHECK(wheel_armed(node_of(i)) == armed[i]);
		if (!armed[i])
			continue;
		count++;
		CHECK(next <= due_ns(deadline[i]) || next <= wheel.now_ns);
	}
	CHECK(wheel_count(&wheel) == count);
	CHECK((next == INT64_MAX) == (count == 0));
	CHECK(wheel_check(&wheel) == 0);
}

static void walk(unsigned steps)
{
	int64_t now = random_distance() / 4;

	memset(places, 0, sizeof(places));
	for (size_t i = 0; i < 2 * NODES; i++)
		places[i].owner = i < NODES ? i : NODES;
	for (size_t i = 0; i < NODES; i++) {
		place_of[i] = i;
		armed[i] = false;
	}
	wheel_init(&wheel, now);
	for (unsigned step = 0; step < steps; step++) {
		size_t i = tap_below(NODES);
		unsigned kind = (unsigned)tap_below(16);

		if (kind < 10) {
			walk_arm(i, now);
		} else if (kind < 13) {
			walk_move(i);
		} else {
			/* Small steps mostly: the nodes far ahead must live to see every level. */
			int64_t jump = tap_below(10) ? (int64_t)tap_below(200 * TICK)
						     : random_distance() / 64;

			now = add_clamped(now, jump);
			walk_advance(now);
		}
		walk_check();
	}
}

static void case_walk(void)
{
	for (unsigned round = 0; round < 10; round++)
		walk(3000);
}

/* --- bounded work ---------------------------------------------------------------------------- */

#define CROWD 20000u

static size_t list_length(const struct wheel_node *n)
{
	size_t length = 0;

	for (; n; n = n->next)
		length++;
	return length;
}

/*
 * A crowd armed together, an hour ahead, in one slot of level 3 and then of level 2: no call moves
 * or returns more than its max.
 */
static void case_bounded(void)
{
	static struct wheel_node crowd[CROWD];
	struct wheel_node *out[64];
	const int64_t hour = 105 * INT64_C(4096) * TICK;
	size_t opened = 0;
	size_t returned = 0;
	size_t calls = 0;
	int64_t now = 0;

	wheel_init(&wheel, 0);
	for (size_t i = 0; i < CROWD; i++)
		wheel_add(&wheel, &crowd[i], hour + (int64_t)tap_below(20 * TICK));
	while (returned < CROWD && calls < 10 * CROWD) {
		int64_t next = wheel_next_ns(&wheel);

		now = next > now ? next : now;
		size_t due = list_length(wheel.due);
		size_t got = wheel_advance(&wheel, now, out, 64);
		size_t left = list_length(wheel.opened);

		calls++;
		returned += got;
		CHECK(got <= 64);
		/* The calls that open a slot, and that return nothing, leave most of the crowd
		 * there. */
		CHECK(opened > 0 || got > 0 || left >= CROWD - 64);
		CHECK(opened == 0 || left > opened || opened - left <= 64);
		CHECK(due < 64 || got == 64);
		opened = left;
	}
	CHECK(returned == CROWD && wheel_count(&wheel) == 0);
	CHECK(calls <= CROWD / 64 * WHEEL_LEVELS + 100);
}

/* Nodes may be deleted, moved and added while a large slot is being distributed. */
static void case_changes_while_opened(void)
{
	static struct wheel_node crowd[200];
	static struct wheel_node elsewhere;
	struct wheel_node *out[4];
	size_t left = 200;

	memset(crowd, 0, sizeof(crowd));
	wheel_init(&wheel, 0);
	for (size_t i = 0; i < 200; i++)
		wheel_add(&wheel, &crowd[i], (5000 + (int64_t)i % 60) * TICK);
	left -= wheel_advance(&wheel, 5200 * TICK, out, 4);
	CHECK(wheel.opened != NULL);
	for (struct wheel_node *n = wheel.opened; n && n->next; n = wheel.opened->next) {
		wheel_del(&wheel, n);
		left--;
		CHECK(wheel_check(&wheel) == 0);
		if (left < 100)
			break;
	}
	struct wheel_node *n = wheel.opened;

	elsewhere = *n;
	memset(n, 0xA5, sizeof(*n));
	wheel_relink(&elsewhere);
	CHECK(wheel_check(&wheel) == 0);
	CHECK(wheel.opened == &elsewhere);
	memset(n, 0, sizeof(*n));
	wheel_add(&wheel, n, 5100 * TICK);
	CHECK(wheel.due == n);
	left++;
	while (wheel_next_ns(&wheel) <= 5200 * TICK)
		left -= wheel_advance(&wheel, 5200 * TICK, out, 4);
	CHECK(left == 0 && wheel_count(&wheel) == 0);
}

/* wheel_check() itself must be able to fail. */
static void case_check_detects(void)
{
	struct wheel_node a = { 0 };
	struct wheel_node b = { 0 };

	wheel_init(&wheel, 0);
	wheel_add(&wheel, &a, 100 * TICK);
	wheel_add(&wheel, &b, 100 * TICK);
	CHECK(wheel_check(&wheel) == 0);
	wheel.count++;
	CHECK(wheel_check(&wheel) != 0);
	wheel.count--;
	a.deadline_ns += 1000 * TICK;
	CHECK(wheel_check(&wheel) != 0);
	a.deadline_ns -= 1000 * TICK;
	wheel.used[3] = 1;
	CHECK(wheel_check(&wheel) != 0);
	wheel.used[3] = 0;
	a.link = &a.next;
	CHECK(wheel_check(&wheel) != 0);
}

int main(int argc, char **argv)
{
	tap_begin(argc, argv);
	tap_case("a node at every distance over two levels comes at its tick", case_every_distance);
	tap_case("a node at every level comes at its tick, in at most 7 wakes", case_every_level);
	tap_case("the past is due at once, and INT64_MAX never", case_past_and_never);
	tap_case("all triples around the level boundaries come when due", case_triples);
	tap_case("random walks with moves, deletions and jumps agree with the model", case_walk);
	tap_case("the work of one call is bounded by its max", case_bounded);
	tap_case("nodes change freely while a slot is being distributed",
		 case_changes_while_opened);
	tap_case("the check notices damage", case_check_detects);
	return tap_end();
}
