/*
 * wheel.c: a hierarchical timing wheel (Varghese and Lauck, "Hashed and hierarchical timing
 * wheels", SOSP 1987, scheme 7).
 *
 * Structure. A node's tick is its deadline in ticks, rounded up. Read ticks as numbers of seven
 * 6-bit digits. A node lies on the level of the highest digit in which its tick differs from the
 * clock, in the slot of that digit. So all nodes of a level come before all nodes of the levels
 * above it, and the first slot in use on the lowest level in use is the next to be reached: a
 * bitmap per level finds it in at most seven steps, and time in which nothing is due costs nothing.
 *
 * Advancing sets the clock to the beginning of that slot. On level 0 its nodes are due. On a higher
 * level they have to be distributed over the levels below; a slot may hold a million nodes that
 * were armed together, so the whole list is taken off first, in O(1), as `opened`, and distributed
 * within the budget of each call. While that lasts the clock stands, so placing stays unambiguous,
 * and nodes may be added and deleted as ever. A node moves down at most six times in its life.
 *
 * Rejected: a heap (O(log n), and every sift touches nodes in other cache lines); one ring of
 * hashed slots (each turn visits nodes that are not due); rounding deadlines to coarser slots on
 * the higher levels, which spares the moves (a TTL of a day would be reaped up to half an hour
 * late).
 *
 * Invariants, verified by wheel_check():
 *  1. Each list is doubly linked through `link`: *n->link == n.
 *  2. used[] has a bit exactly for each slot that is not empty.
 *  3. A node in a slot has tick > clock, and lies where place() says.
 *  4. A node in `due` has deadline_ns <= now_ns; one in `opened` has tick >= clock.
 *  5. The clock is never ahead of now_ns, rounded down. count is the length of all lists.
 *
 * Locking: the shard's lock.
 */
#include "store/wheel.h"

#include <assert.h>
#include <errno.h>

#define LEVEL_SHIFT(level) ((level)*WHEEL_SLOT_BITS)

static_assert(WHEEL_TICK_SHIFT + WHEEL_LEVELS * WHEEL_SLOT_BITS > 63, "any int64_t has a slot");
static_assert(WHEEL_SLOTS == 64, "a bitmap is one 64-bit word");

/* Rounded up, so that a node is never early; negative deadlines are as due as 0. */
static uint64_t tick_of(int64_t deadline_ns)
{
	uint64_t ns = deadline_ns > 0 ? (uint64_t)deadline_ns : 0;

	return (ns + WHEEL_TICK_NS - 1) >> WHEEL_TICK_SHIFT;
}

/* The time at which a tick begins; INT64_MAX for the one tick that int64_t does not reach. */
static int64_t tick_ns(uint64_t tick)
{
	return tick > (uint64_t)INT64_MAX >> WHEEL_TICK_SHIFT ? INT64_MAX
							      : (int64_t)(tick << WHEEL_TICK_SHIFT);
}

static void list_push(struct wheel_node **head, struct wheel_node *n)
{
	n->next = *head;
	n->link = head;
	if (n->next)
		n->next->link = &n->next;
	*head = n;
}

static void list_remove(struct wheel_node *n)
{
	*n->link = n->next;
	if (n->next)
		n->next->link = n->link;
	n->next = NULL;
	n->link = NULL;
}

/* The level and the slot of a tick that is ahead of the clock. */
static void place(const struct wheel *w, uint64_t tick, unsigned *level, unsigned *slot)
{
	unsigned highest = 63u - (unsigned)__builtin_clzll(tick ^ w->tick);

	assert(tick > w->tick);
	*level = highest / WHEEL_SLOT_BITS;
	*slot = (unsigned)(tick >> LEVEL_SHIFT(*level)) % WHEEL_SLOTS;
}

/* Puts a node that is in no list where it belongs. */
static void wheel_place(struct wheel *w, struct wheel_node *n)
{
	uint64_t tick = tick_of(n->deadline_ns);
	unsigned level;
	unsigned slot;

	/* The clock may lag behind now_ns while slots are being opened; the second test is for
	 * that. */
	if (tick <= w->tick || n->deadline_ns <= w->now_ns) {
		list_push(&w->due, n);
		return;
	}
	place(w, tick, &level, &slot);
	list_push(&w->slot[level][slot], n);
	w->used[level] |= UINT64_C(1) << slot;
}

/* The slot to be reached next, and the tick at which it begins. False: all slots are empty. */
static bool next_slot(const struct wheel *w, unsigned *level, unsigned *slot, uint64_t *begin)
{
	for (unsigned l = 0; l < WHEEL_LEVELS; l++) {
		uint64_t above;

		if (!w->used[l])
			continue;
		above = w->tick >> LEVEL_SHIFT(l + 1);
		*level = l;
		*slot = (unsigned)__builtin_ctzll(w->used[l]);
		*begin = (above << WHEEL_SLOT_BITS | *slot) << LEVEL_SHIFT(l);
		return true;
	}
	return false;
}

/* Moves the clock to the next slot that now_ns has reached, and opens it; else to now_ns. */
static bool open_next(struct wheel *w)
{
	uint64_t target = (uint64_t)w->now_ns >> WHEEL_TICK_SHIFT;
	struct wheel_node **head;
	unsigned level;
	unsigned slot;
	uint64_t begin;

	assert(!w->due && !w->opened);
	if (!next_slot(w, &level, &slot, &begin) || begin > target) {
		w->tick = target;
		return false;
	}
	assert(begin > w->tick);
	w->tick = begin;
	head = level == 0 ? &w->due : &w->opened;
	*head = w->slot[level][slot];
	(*head)->link = head;
	w->slot[level][slot] = NULL;
	w->used[level] &= ~(UINT64_C(1) << slot);
	return true;
}

void wheel_init(struct wheel *w, int64_t now_ns)
{
	assert(now_ns >= 0);
	*w = (struct wheel){ .now_ns = now_ns, .tick = (uint64_t)now_ns >> WHEEL_TICK_SHIFT };
}

void wheel_add(struct wheel *w, struct wheel_node *n, int64_t deadline_ns)
{
	assert(!wheel_armed(n));
	n->deadline_ns = deadline_ns;
	wheel_place(w, n);
	w->count++;
}

void wheel_del(struct wheel *w, struct wheel_node *n)
{
	uintptr_t first = (uintptr_t)&w->slot[0][0];
	uintptr_t link = (uintptr_t)n->link;

	assert(wheel_armed(n));
	assert(w->count > 0);
	list_remove(n);
	w->count--;
	/* Was it the only node of a slot? Then its link was the slot itself, which is empty now. */
	if (link >= first && link < first + sizeof(w->slot)) {
		size_t index = (link - first) / sizeof(w->slot[0][0]);
		size_t level = index / WHEEL_SLOTS;
		size_t slot = index % WHEEL_SLOTS;

		if (!w->slot[level][slot])
			w->used[level] &= ~(UINT64_C(1) << slot);
	}
}

bool wheel_armed(const struct wheel_node *n)
{
	return n->link != NULL;
}

void wheel_relink(struct wheel_node *moved)
{
	if (!wheel_armed(moved))
		return;
	*moved->link = moved;
	if (moved->next)
		moved->next->link = &moved->next;
}

size_t wheel_advance(struct wheel *w, int64_t now_ns, struct wheel_node **out, size_t max)
{
	size_t count = 0;
	size_t moves = 0;

	assert(max > 0);
	if (now_ns > w->now_ns)
		w->now_ns = now_ns;
	while (count < max) {
		struct wheel_node *n = w->due;

		if (n) {
			list_remove(n);
			w->count--;
			out[count++] = n;
		} else if (w->opened) {
			if (moves++ == max)
				break;
			n = w->opened;
			list_remove(n);
			wheel_place(w, n);
		} else if (!open_next(w)) {
			break;
		}
	}
	return count;
}

int64_t wheel_next_ns(const struct wheel *w)
{
	unsigned level;
	unsigned slot;
	uint64_t begin;

	if (w->due || w->opened)
		return w->now_ns;
	return next_slot(w, &level, &slot, &begin) ? tick_ns(begin) : INT64_MAX;
}

size_t wheel_count(const struct wheel *w)
{
	return w->count;
}

/* --- wheel_check -------------------------------------------------------------------------- */

enum list_kind { LIST_DUE, LIST_OPENED, LIST_SLOT };

static bool check_node(const struct wheel *w, const struct wheel_node *n, enum list_kind kind,
		       unsigned level, unsigned slot)
{
	uint64_t tick = tick_of(n->deadline_ns);
	unsigned level_expected;
	unsigned slot_expected;

	if (kind == LIST_DUE)
		return n->deadline_ns <= w->now_ns;
	if (kind == LIST_OPENED)
		return tick >= w->tick;
	if (tick <= w->tick)
		return false;
	place(w, tick, &level_expected, &slot_expected);
	return level == level_expected && slot == slot_expected;
}

/* Adds the length of a list to count; false when a node in it breaks an invariant. */
static bool check_list(const struct wheel *w, struct wheel_node *const *head, enum list_kind kind,
		       unsigned level, unsigned slot, size_t *count)
{
	struct wheel_node *const *link = head;

	for (const struct wheel_node *n = *head; n; n = n->next) {
		if (n->link != link || !check_node(w, n, kind, level, slot))
			return false;
		link = &n->next;
		(*count)++;
	}
	return true;
}

int wheel_check(const struct wheel *w)
{
	size_t count = 0;
	bool good = w->now_ns >= 0 && w->tick <= (uint64_t)w->now_ns >> WHEEL_TICK_SHIFT;

	good = good && check_list(w, &w->due, LIST_DUE, 0, 0, &count);
	good = good && check_list(w, &w->opened, LIST_OPENED, 0, 0, &count);
	for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
		for (unsigned slot = 0; slot < WHEEL_SLOTS; slot++) {
			struct wheel_node *const *head = &w->slot[level][slot];
			bool used = w->used[level] >> slot & 1;

			good = good && used == (*head != NULL) &&
			       check_list(w, head, LIST_SLOT, level, slot, &count);
		}
	}
	return good && count == w->count ? 0 : -EUCLEAN;
}
