/*
 * test_value.c: values against flat arrays of bytes.
 *
 * The model of a value is three windows of its offsets, at 0, in the middle and at the very end;
 * each byte has a content and a kind (hole, data, reserved). After every operation the whole value
 * is read and compared. Views are held across operations: their bytes must never change.
 *
 * The module's sources are compiled into this program, so that its malloc, and no other, can be
 * made to fail at the Nth call.
 */
#include "store/account.h"
#include "tests/unit/tap.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

/* ---- allocations that fail ---- */

static _Thread_local bool armed;
static _Thread_local long fail_after; /* allocations that still succeed */
static _Thread_local long allocations;

static void *failing_malloc(size_t size)
{
	allocations++;
	return armed && fail_after-- == 0 ? NULL : malloc(size);
}

#define malloc failing_malloc
#include "store/block.c"
#include "store/extent.c"
#include "store/radix.c"
#include "store/value.c"
#include "store/value_seek.c"
#undef malloc

enum {
	WINDOWS = 3,
	WINDOW = 5 * VALUE_BLOCK - 1, /* VALUE_END is one short of a block */
	VIEWS = 6,
};

/* Under a sanitizer, which is slow, everything is tried, but less often. */
#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) ||                               \
	__has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
enum { STRIDE = 5, ROUNDS = 2, FAILING_STEPS = 50 };
#else
enum { STRIDE = 1, ROUNDS = 4, FAILING_STEPS = 120 };
#endif

static const uint64_t window_base[WINDOWS] = { 0, UINT64_C(1) << 40, VALUE_END - WINDOW };

/* ---- the model ---- */

enum kind { HOLE, DATA, RESERVED };

struct model {
	unsigned char *bytes; /* WINDOWS x WINDOW */
	unsigned char *kind;
};

static struct account_total total;
static struct account account;
static unsigned char patterns[VALUE_WRITE_MAX + 256];
static const unsigned char *pattern = patterns;
static unsigned char actual[WINDOW];
static unsigned char saved[VALUE_BLOCK];

static void begin(uint64_t limit)
{
	account_total_init(&total, limit);
	account_init(&account, &total);
}

static void model_init(struct model *m)
{
	m->bytes = calloc(WINDOWS, WINDOW);
	m->kind = calloc(WINDOWS, WINDOW);
	if (!m->bytes || !m->kind)
		abort();
}

static void model_fini(struct model *m)
{
	free(m->bytes);
	free(m->kind);
}

static void model_fill(struct model *m, size_t at, size_t len, enum kind kind)
{
	memset(m->bytes + at, 0, len);
	memset(m->kind + at, (int)kind, len);
}

/* Every write has other bytes than the one before; none is zero. */
static void pattern_next(void)
{
	static size_t round;
	if (!patterns[0]) {
		for (size_t i = 0; i < sizeof(patterns); i++)
			patterns[i] = (unsigned char)(1 + i % 251);
	}
	pattern = patterns + ++round * 7 % 251;
}

/* Millions of bytes: instrumented, it is most of the run, and no other thread is there. */
__attribute__((no_sanitize("thread"))) static uint64_t model_count(const struct model *m, size_t at,
								   size_t len, enum kind kind)
{
	uint64_t count = 0;
	for (size_t i = 0; i < len; i++)
		count += m->kind[at + i] == kind;
	return count;
}

static void read_window(const struct value *v, uint64_t base, size_t len, unsigned char *to)
{
	struct store_view view;
	CHECK(value_read(v, base, len, &view) == len);
	CHECK(view.length == len);
	value_view_copy(&view, to);
	value_view_put(&view);
}

static void check_value(const struct value *v, const struct model *m, size_t len)
{
	uint64_t allocated = 0;
	CHECK(value_check(v) == 0);
	for (size_t w = 0; w < WINDOWS; w++) {
		read_window(v, window_base[w], len, actual);
		CHECK(memcmp(actual, m->bytes + w * WINDOW, len) == 0);
		allocated += len - model_count(m, w * WINDOW, len, HOLE);
	}
	/* Coalescing may fill holes, but nothing that is written or reserved becomes one. */
	CHECK(value_bytes(v) >= allocated);
	CHECK(value_bytes(v) <= (uint64_t)WINDOWS * (WINDOW + VALUE_BLOCK));
}

/* ---- operations on both ---- */

static int write_value(struct value *v, uint64_t offset, const unsigned char *bytes, size_t len)
{
	struct value_parts parts;
	bool promised = len && value_owned(v, offset, len) == len;
	if (value_append(v, offset, bytes, len))
		return 0;
	int error = value_parts_new(&parts, &account, offset, bytes, len, promised);
	if (error)
		return error;
	error = value_prepare(v, &account, offset, len);
	if (error) {
		CHECK(!(promised && error == -ENOSPC));
		value_parts_free(&parts);
		return error;
	}
	value_install(v, &account, offset, len, &parts);
	CHECK(parts.count == 0);
	return 0;
}

enum op_kind { OP_WRITE, OP_PUNCH, OP_RESERVE, OP_TRUNCATE, OP_CLONE, OP_KINDS };

struct op {
	enum op_kind kind;
	size_t window, at, len;
	size_t from_window, from; /* of OP_CLONE */
};

static int op_value(struct value *v, struct value *src, const struct op *o)
{
	uint64_t offset = window_base[o->window] + o->at;
	switch (o->kind) {
	case OP_WRITE:
		return write_value(v, offset, pattern, o->len);
	case OP_PUNCH:
		return value_punch(v, &account, offset, o->len);
	case OP_RESERVE:
		return value_reserve(v, &account, offset, o->len);
	case OP_TRUNCATE:
		value_truncate(v, &account, offset);
		return 0;
	case OP_CLONE:
		return value_clone(v, &account, offset, src, window_base[o->from_window] + o->from,
				   o->len);
	case OP_KINDS:
		break;
	}
	abort();
}

static void op_model(struct model *m, const struct model *src, const struct op *o)
{
	size_t at = o->window * WINDOW + o->at;
	size_t from = o->from_window * WINDOW + o->from;
	switch (o->kind) {
	case OP_WRITE:
		memcpy(m->bytes + at, pattern, o->len);
		memset(m->kind + at, DATA, o->len);
		break;
	case OP_PUNCH:
		model_fill(m, at, o->len, HOLE);
		break;
	case OP_RESERVE:
		for (size_t i = at; i < at + o->len; i++)
			m->kind[i] = m->kind[i] == HOLE ? RESERVED : m->kind[i];
		break;
	case OP_TRUNCATE:
		model_fill(m, at, (size_t)WINDOWS * WINDOW - at, HOLE);
		break;
	case OP_CLONE:
		memmove(m->bytes + at, src->bytes + from, o->len);
		memmove(m->kind + at, src->kind + from, o->len);
		for (size_t i = at; i < at + o->len; i++)
			m->kind[i] = m->kind[i] == DATA ? DATA : HOLE;
		break;
	case OP_KINDS:
		abort();
	}
}

/* ---- exhaustive ---- */

/* Ranges between any two of: the start of a block, inside, its end, and inside the next one. */
static size_t small_ops(struct op *ops)
{
	static const size_t at[] = { 0, 3, VALUE_BLOCK, VALUE_BLOCK + 2 };
	size_t count = 0;
	for (size_t i = 0; i < 4; i++) {
		if (i)
			ops[count++] = (struct op){ .kind = OP_TRUNCATE, .at = at[i] };
		for (size_t j = i + 1; j < 4; j++) {
			struct op o = { .kind = OP_WRITE, .at = at[i], .len = at[j] - at[i] };
			ops[count++] = o;
			o.kind = OP_PUNCH;
			ops[count++] = o;
			o.kind = OP_RESERVE;
			ops[count++] = o;
		}
	}
	ops[count++] = (struct op){ .kind = OP_CLONE, .at = 1, .from = 5, .len = VALUE_BLOCK };
	ops[count++] = (struct op){ .kind = OP_CLONE, .at = VALUE_BLOCK, .len = VALUE_BLOCK };
	return count;
}

/* Compares the first bytes of a value without copying them. */
static void check_bytes(const struct value *v, const unsigned char *want, size_t len)
{
	struct store_view view;
	CHECK(value_read(v, 0, len, &view) == len);
	for (size_t i = 0; i < view.count; i++) {
		CHECK(memcmp(view.iov[i].iov_base, want, view.iov[i].iov_len) == 0);
		want += view.iov[i].iov_len;
	}
	value_view_put(&view);
}

static void exhaustive(void)
{
	enum { DEPTH = 3, LEN = VALUE_BLOCK * 2 + 4 };
	struct op ops[64];
	struct model m;
	size_t count = small_ops(ops);
	model_init(&m);
	for (size_t n = (size_t)tap_below(STRIDE); n < count * count * count; n += STRIDE) {
		struct value v;
		size_t pick = n;
		begin(0);
		value_init(&v);
		for (size_t depth = 0; depth < DEPTH; depth++, pick /= count) {
			const struct op *o = &ops[pick % count];
			pattern_next();
			CHECK(op_value(&v, &v, o) == 0);
			op_model(&m, &m, o);
		}
		CHECK(value_check(&v) == 0);
		check_bytes(&v, m.bytes, LEN);
		/* At most three pieces: nothing is coalesced, so the kinds are exact. */
		if (n % 32 == 0) { /* counting is slow */
			CHECK(value_reserved(&v, 0, LEN) == model_count(&m, 0, LEN, RESERVED));
			CHECK(value_bytes(&v) == LEN - model_count(&m, 0, LEN, HOLE));
		}
		value_fini(&v);
		CHECK(account_used(&total) == 0);
		model_fill(&m, 0, LEN, HOLE);
	}
	model_fini(&m);
}

/* ---- randomized ---- */

/* Lengths from one byte to two blocks, small ones as often as large ones. */
static size_t random_len(size_t room)
{
	size_t len = 1 + (size_t)tap_below(UINT64_C(1) << (1 + tap_below(17)));
	return len < room ? len : room;
}

static struct op random_op(size_t busy)
{
	struct op o = { .kind = OP_WRITE, .window = tap_below(4) ? 0 : (size_t)tap_below(WINDOWS) };
	uint64_t dice = tap_below(100);
	if (dice >= 60)
		o.kind = dice < 72   ? OP_PUNCH
			 : dice < 82 ? OP_RESERVE
			 : dice < 86 ? OP_TRUNCATE
				     : OP_CLONE;
	o.at = (size_t)tap_below(tap_below(2) ? busy : WINDOW);
	if (tap_below(4) == 0)
		o.at -= o.at % VALUE_BLOCK;
	o.from_window = tap_below(4) ? o.window : (size_t)tap_below(WINDOWS);
	o.from = (size_t)tap_below(WINDOW);
	o.len = random_len(WINDOW - (o.at > o.from ? o.at : o.from));
	return o;
}

/* Moves some writes to where data ends: that is where values may grow in place. */
static void maybe_append(struct op *o, const struct model *m)
{
	const unsigned char *kind = m->kind + o->window * WINDOW;
	if (o->kind != OP_WRITE || tap_below(3))
		return;
	const unsigned char *data = memchr(kind + o->at, DATA, WINDOW - o->at);
	size_t at = data ? (size_t)(data - kind) : 0;
	while (at < WINDOW && kind[at] == DATA)
		at++;
	if (at < WINDOW)
		o->at = at;
	o->len = random_len(WINDOW - o->at);
}

struct held {
	struct store_view view;
	unsigned char *copy;
};

static void held_release(struct held *h)
{
	if (!h->copy)
		return;
	value_view_copy(&h->view, actual);
	CHECK(memcmp(actual, h->copy, h->view.length) == 0);
	value_view_put(&h->view);
	free(h->copy);
	h->copy = NULL;
}

static void held_take(struct held *h, const struct value *v)
{
	size_t at = (size_t)tap_below(WINDOW);
	size_t len = random_len(WINDOW - at);
	h->copy = malloc(len);
	if (!h->copy)
		abort();
	CHECK(value_read(v, window_base[0] + at, len, &h->view) == len);
	value_view_copy(&h->view, h->copy);
}

/* Each page with data is data, and what is found is the first of it. */
static void check_seek(const struct value *v, const struct model *m, size_t size)
{
	size_t at = (size_t)tap_below(size);
	size_t page = at - at % VALUE_PAGE;
	while (page < size &&
	       !memchr(m->kind + page, DATA, page + VALUE_PAGE < size ? VALUE_PAGE : size - page))
		page += VALUE_PAGE;
	int64_t data = value_seek_data(v, at, size);
	int64_t hole = value_seek_hole(v, at, size);
	if (page < size) /* coalescing may have made earlier zeros data */
		CHECK(data >= (int64_t)at && data <= (int64_t)(page > at ? page : at));
	CHECK(hole >= (int64_t)at && hole <= (int64_t)size);
	if (hole < (int64_t)size && hole >= 0) {
		size_t from = (size_t)hole - (size_t)hole % VALUE_PAGE;
		size_t len = from + VALUE_PAGE < size ? VALUE_PAGE : size - from;
		CHECK(!memchr(m->kind + from, DATA, len));
	}
	if (data >= 0 && hole >= 0)
		CHECK(data == (int64_t)at || hole == (int64_t)at);
	CHECK(value_seek_data(v, size, size) == -ENXIO);
	CHECK(value_seek_hole(v, size, size) == -ENXIO);
}

/* No block pins more than it may; memory is not short here. */
static void check_pinned(const struct value *v)
{
	uint64_t index = 0;
	uintptr_t slot;
	for (; (slot = radix_next(v->root, &index)); index++) {
		CHECK(block_bytes(slot) > 0);
		CHECK(block_pinned(slot) <= BLOCK_PINNED_MAX);
	}
}

static void random_round(uint64_t limit, int steps)
{
	struct value v[2];
	struct model m[2];
	struct held held[VIEWS] = { 0 };
	size_t busy = tap_below(2) ? 3000 : WINDOW;
	begin(limit);
	for (int i = 0; i < 2; i++) {
		value_init(&v[i]);
		model_init(&m[i]);
	}
	for (int step = 0; step < steps; step++) {
		size_t to = (size_t)tap_below(2);
		size_t from = (size_t)tap_below(2);
		struct op o = random_op(busy);
		maybe_append(&o, &m[to]);
		pattern_next();
		int error = op_value(&v[to], &v[from], &o);
		if (!error)
			op_model(&m[to], &m[from], &o);
		CHECK(error == 0 || (limit && error == -ENOSPC && o.kind != OP_PUNCH));
		check_value(&v[to], &m[to], WINDOW);
		if (from != to)
			CHECK(value_check(&v[from]) == 0);
		check_seek(&v[to], &m[to], WINDOW);
		if (!limit)
			check_pinned(&v[to]);
		struct held *h = &held[tap_below(VIEWS)];
		held_release(h);
		held_take(h, &v[to]);
	}
	for (size_t i = 0; i < VIEWS; i++)
		held_release(&held[i]);
	for (int i = 0; i < 2; i++) {
		value_fini(&v[i]);
		model_fini(&m[i]);
	}
	CHECK(account_used(&total) == 0);
}

static void randomized(void)
{
	for (int round = 0; round < ROUNDS; round++)
		random_round(0, 100);
}

static void bounded(void)
{
	for (int round = 0; round < ROUNDS; round++)
		random_round(400000 + tap_below(400000), 100);
}

/* ---- failing allocations ---- */

static void allocation_failures(void)
{
	struct value v[2];
	struct model m[2];
	long failures = 0;
	begin(0);
	for (int i = 0; i < 2; i++) {
		value_init(&v[i]);
		model_init(&m[i]);
	}
	for (int step = 0; step < FAILING_STEPS; step++) {
		size_t to = (size_t)tap_below(2);
		struct op o = random_op(step % 2 ? 2000 : WINDOW);
		maybe_append(&o, &m[to]);
		pattern_next();
		int error = -ENOMEM;
		for (long n = 0; error; n++) {
			fail_after = n;
			armed = true;
			error = op_value(&v[to], &v[1 - to], &o);
			armed = false;
			CHECK(error == 0 || error == -ENOMEM);
			CHECK(error == 0 || (o.kind != OP_TRUNCATE));
			failures += error != 0;
			if (error && n < 4)
				check_value(&v[to], &m[to], WINDOW);
			CHECK(value_check(&v[to]) == 0);
			CHECK(value_check(&v[1 - to]) == 0);
			if (n > 1000)
				abort();
		}
		op_model(&m[to], &m[1 - to], &o);
		check_value(&v[to], &m[to], WINDOW);
		check_value(&v[1 - to], &m[1 - to], WINDOW);
	}
	CHECK(failures > FAILING_STEPS / 2);
	for (int i = 0; i < 2; i++) {
		value_truncate(&v[i], &account, 0);
		CHECK(v[i].root == 0);
		model_fini(&m[i]);
	}
	CHECK(account_used(&total) == 0);
}

/* ---- single claims ---- */

static void small_value_costs_one_extent(void)
{
	struct value v;
	begin(0);
	value_init(&v);
	pattern_next();
	long before = allocations;
	CHECK(write_value(&v, 0, pattern, 1024) == 0);
	CHECK(allocations - before == 1);
	CHECK(account_used(&total) == account_class(24 + 1024));
	CHECK(write_value(&v, 0, pattern, 1024) == 0); /* overwriting leaves nothing behind */
	CHECK(account_used(&total) == account_class(24 + 1024));
	value_fini(&v);
	CHECK(account_used(&total) == 0);
}

static void log_of_lines(void)
{
	enum { LINES = 10000, LINE = 80 };
	static unsigned char back[LINES * LINE];
	static unsigned char want[LINES * LINE];
	struct value v;
	begin(0);
	value_init(&v);
	long before = allocations;
	for (size_t i = 0; i < LINES; i++) {
		pattern_next();
		memcpy(want + i * LINE, pattern, LINE);
		CHECK(write_value(&v, i * LINE, pattern, LINE) == 0);
	}
	/* 13 blocks; in each, capacity doubles from 128 bytes to 64 KiB. */
	CHECK(allocations - before < 13 * 14);
	CHECK(account_used(&total) < sizeof(want) + sizeof(want) / 8);
	CHECK(value_bytes(&v) == sizeof(want));
	CHECK(value_check(&v) == 0);
	read_window(&v, 0, sizeof(back), back);
	CHECK(memcmp(back, want, sizeof(want)) == 0);
	value_fini(&v);
	CHECK(account_used(&total) == 0);
}

static void small_slices_free_large_extents(void)
{
	struct value v;
	begin(0);
	value_init(&v);
	pattern_next();
	CHECK(write_value(&v, 0, pattern, VALUE_BLOCK) == 0);
	value_truncate(&v, &account, 100);
	CHECK(account_used(&total) == account_class(24 + 100));
	CHECK(write_value(&v, 0, pattern, VALUE_BLOCK) == 0);
	CHECK(value_punch(&v, &account, 10, VALUE_BLOCK - 20) == 0);
	CHECK(account_used(&total) < 400);
	value_fini(&v);
	CHECK(account_used(&total) == 0);
}

static void clones_share(void)
{
	struct value a;
	struct value b;
	begin(0);
	value_init(&a);
	value_init(&b);
	pattern_next();
	for (size_t i = 0; i < 4; i++)
		CHECK(write_value(&a, i << 20, pattern, 1 << 20) == 0);
	uint64_t before = account_used(&total);
	CHECK(value_clone(&b, &account, 0, &a, 0, 4 << 20) == 0);
	CHECK(account_used(&total) - before < before / 50); /* blocks and nodes only */
	CHECK(value_bytes(&b) == 4 << 20);
	value_fini(&a);
	CHECK(value_append(&b, (4 << 20) - 1, "x", 1) == false);
	read_window(&b, 3 << 20, VALUE_BLOCK, actual);
	CHECK(memcmp(actual, pattern, VALUE_BLOCK) == 0);
	value_fini(&b);
	CHECK(account_used(&total) == 0);
}

static void clone_of_one_appended_byte_stays(void)
{
	struct value a;
	struct value b;
	unsigned char back[3 * 8000];
	begin(0);
	value_init(&a);
	value_init(&b);
	pattern_next();
	CHECK(write_value(&a, 0, pattern, 8000) == 0);
	CHECK(value_append(&a, 8000, pattern, 8000)); /* now with room to spare */
	CHECK(value_clone(&b, &account, 0, &a, 0, 16000) == 0);
	long before = allocations;
	CHECK(value_append(&a, 16000, "AAAA", 4)); /* two owners, two locks: never in place */
	CHECK(allocations == before + 1);
	CHECK(value_append(&b, 16000, "BBBB", 4));
	read_window(&a, 15999, 5, back);
	CHECK(memcmp(back + 1, "AAAA", 4) == 0);
	read_window(&b, 15999, 5, back);
	CHECK(memcmp(back + 1, "BBBB", 4) == 0);
	value_fini(&a);
	value_fini(&b);
	CHECK(account_used(&total) == 0);
}

static void reserved_room_is_kept(void)
{
	struct value v;
	begin(1 << 20);
	value_init(&v);
	CHECK(value_reserve(&v, &account, 100, 600000) == 0);
	CHECK(value_reserved(&v, 0, VALUE_END) == 600000);
	CHECK(value_bytes(&v) == 600000);
	CHECK(value_reserve(&v, &account, 0, 1 << 20) == -ENOSPC);
	CHECK(value_bytes(&v) == 600000);
	CHECK(value_seek_data(&v, 0, 700000) == -ENXIO); /* as on tmpfs */
	CHECK(value_seek_hole(&v, 0, 700000) == 0);
	CHECK(account_charge(&account, account_free(&total)) == 0);
	uint64_t full = account_used(&total);
	pattern_next();
	for (size_t at = 100; at < 570000; at += 30000)
		CHECK(write_value(&v, at, pattern, 30000) == 0);
	CHECK(account_used(&total) < full + 600000 / 50);
	CHECK(value_reserved(&v, 0, VALUE_END) == 30000);
	CHECK(write_value(&v, 100, pattern, 60000) == 0); /* not new data either */
	CHECK(value_owned(&v, 0, VALUE_END) == 600000);
	CHECK(account_used(&total) < full + 600000 / 50);
	CHECK(write_value(&v, 0, pattern, 50) == -ENOSPC);
	CHECK(value_punch(&v, &account, 200, 500000) == 0);
	value_fini(&v);
	account_uncharge(&account, account_used(&total));
}

static void appending_after_truncate(void)
{
	struct value v;
	struct store_view view;
	unsigned char back[200];
	begin(0);
	value_init(&v);
	pattern_next();
	CHECK(write_value(&v, 0, pattern, 1000) == 0);
	CHECK(value_append(&v, 1000, pattern, 200)); /* room to spare from here on */
	CHECK(value_read(&v, 1000, 200, &view) == 200);
	value_truncate(&v, &account, 1000);
	CHECK(value_append(&v, 1000, "fresh", 5)); /* the view still reads what it saw */
	value_view_copy(&view, back);
	CHECK(memcmp(back, pattern, 200) == 0);
	value_view_put(&view);
	read_window(&v, 1000, 6, back);
	CHECK(memcmp(back, "fresh", 6) == 0);
	value_fini(&v);
	CHECK(account_used(&total) == 0);
}

static void appending_into_reserved(void)
{
	struct value v;
	begin(0);
	value_init(&v);
	pattern_next();
	CHECK(write_value(&v, 0, pattern, 1000) == 0);
	CHECK(value_reserve(&v, &account, 0, 3 * VALUE_BLOCK) == 0);
	for (size_t at = 1000; at < VALUE_BLOCK - 100; at += 80) {
		CHECK(value_append(&v, at, pattern, 80));
		CHECK(value_reserved(&v, 0, VALUE_END) == 3 * VALUE_BLOCK - at - 80);
	}
	CHECK(value_bytes(&v) == 3 * VALUE_BLOCK);
	CHECK(value_check(&v) == 0);
	value_fini(&v);
	CHECK(account_used(&total) == 0);
}

/* Leaves `bytes` of the store free; returns what to uncharge at the end. */
static uint64_t fill_but(uint64_t bytes)
{
	uint64_t taken = account_free(&total) - bytes;
	CHECK(account_charge(&account, taken) == 0);
	return taken;
}

/* Three extents, each with a quarter in use: none is copied out, but all pin more than two
 * blocks. */
static void overlapping_writes_are_coalesced(void)
{
	struct value v;
	begin(1 << 20);
	value_init(&v);
	pattern_next();
	CHECK(write_value(&v, 0, pattern, VALUE_BLOCK) == 0);
	uint64_t taken = fill_but(0); /* also at the bound: it frees more than it takes */
	for (size_t at = 16384; at <= 32768; at += 16384)
		CHECK(write_value(&v, at, pattern, VALUE_BLOCK - at) == 0);
	/* One extent, or three with nothing to spare, as slices are copied out sooner here. */
	CHECK(account_used(&total) < taken + account_class(24 + VALUE_BLOCK) + 512);
	value_fini(&v);
	CHECK(account_used(&total) == taken);
}

/* Coalescing frees more than it takes, so it may pass the bound on the way. */
static void scattered_overwrites_at_the_bound(void)
{
	struct value v;
	begin(1 << 20);
	value_init(&v);
	pattern_next();
	CHECK(write_value(&v, 0, pattern, VALUE_BLOCK) == 0);
	uint64_t taken = fill_but(2000);
	for (size_t i = 0; i < 20; i++)
		CHECK(write_value(&v, 100 + i * 3000, pattern, 1) == 0);
	value_fini(&v);
	CHECK(account_used(&total) == taken);
}

/* Three extents with some use each: compacted, one of their size; reserved bytes stay reserved. */
static void compacting(void)
{
	struct value v;
	begin(0);
	value_init(&v);
	pattern_next();
	CHECK(write_value(&v, 0, pattern, VALUE_BLOCK) == 0);
	CHECK(write_value(&v, 20000, pattern, 30000) == 0);
	CHECK(account_used(&total) > VALUE_BLOCK + 30000);
	read_window(&v, 0, VALUE_BLOCK, actual);
	memcpy(saved, actual, VALUE_BLOCK);
	value_compact(&v, &account, 5, 1);
	CHECK(account_used(&total) == account_class(24 + VALUE_BLOCK));
	CHECK(value_check(&v) == 0);
	read_window(&v, 0, VALUE_BLOCK, actual);
	CHECK(memcmp(actual, saved, VALUE_BLOCK) == 0);
	CHECK(value_punch(&v, &account, 20000, 30000) == 0);
	CHECK(value_reserve(&v, &account, 20000, 30000) == 0);
	value_compact(&v, &account, 0, UINT64_MAX);
	CHECK(value_reserved(&v, 0, VALUE_BLOCK) == 30000);
	value_fini(&v);
	CHECK(account_used(&total) == 0);
}

/* The block shares an extent with a clone, so coalescing it frees less than it takes. */
static void scattered_writes_into_reserved_at_the_bound(void)
{
	struct value a;
	struct value b;
	begin(1 << 20);
	value_init(&a);
	value_init(&b);
	pattern_next();
	CHECK(write_value(&a, 0, pattern, VALUE_BLOCK) == 0);
	CHECK(value_clone(&b, &account, 0, &a, 0, VALUE_BLOCK) == 0);
	CHECK(value_punch(&b, &account, 1000, 40000) == 0);
	CHECK(value_reserve(&b, &account, 1000, 40000) == 0);
	uint64_t taken = fill_but(0);
	for (size_t i = 0; i < 20; i++)
		CHECK(write_value(&b, 1100 + i * 1900, pattern, 1) == 0);
	value_fini(&a);
	value_fini(&b);
	CHECK(account_used(&total) == taken);
}

/* More holes than a block has pieces: some become zeros, and are not charged twice. */
static void reserving_between_scattered_bytes(void)
{
	struct value v;
	begin(0);
	value_init(&v);
	pattern_next();
	for (size_t i = 1; i <= 10; i++)
		CHECK(write_value(&v, i * 5000, pattern, 1) == 0);
	CHECK(value_reserve(&v, &account, 0, VALUE_BLOCK) == 0);
	CHECK(value_bytes(&v) == VALUE_BLOCK);
	CHECK(value_check(&v) == 0);
	value_fini(&v);
	CHECK(account_used(&total) == 0);
}

static void the_edge_of_offsets(void)
{
	struct value v;
	struct value_parts parts;
	begin(0);
	value_init(&v);
	CHECK(value_parts_new(&parts, &account, VALUE_END, "x", 1, false) == -EFBIG);
	CHECK(value_parts_new(&parts, &account, UINT64_MAX, "x", 1, false) == -EFBIG);
	CHECK(value_prepare(&v, &account, VALUE_END - 1, 2) == -EFBIG);
	CHECK(value_reserve(&v, &account, 1, VALUE_END) == -EFBIG);
	CHECK(value_clone(&v, &account, 5, &v, 0, VALUE_END) == -EFBIG);
	CHECK(value_append(&v, VALUE_END, "x", 1) == false);
	CHECK(write_value(&v, VALUE_END - 1, (const unsigned char *)"x", 1) == 0);
	CHECK(value_seek_data(&v, 0, VALUE_END) == (int64_t)((VALUE_END - 1) & ~UINT64_C(4095)));
	CHECK(value_seek_hole(&v, 0, VALUE_END) == 0);
	CHECK(value_seek_hole(&v, VALUE_END - 1, VALUE_END) == (int64_t)VALUE_END);
	CHECK(value_clone(&v, &account, 0, &v, 1, VALUE_END - 1) == 0); /* a shift by one */
	CHECK(value_bytes(&v) == 2);
	CHECK(value_punch(&v, &account, 1, UINT64_MAX) == 0);
	CHECK(v.root == 0);
	CHECK(write_value(&v, 7, pattern, 0) == 0);
	CHECK(value_punch(&v, &account, 7, 0) == 0);
	CHECK(value_reserve(&v, &account, 7, 0) == 0);
	CHECK(value_clone(&v, &account, 7, &v, 9, 0) == 0);
	value_truncate(&v, &account, UINT64_MAX);
	CHECK(v.root == 0);
	CHECK(account_used(&total) == 0);
}

/* Single bytes with holes between them, 15 or 16 to a block, read from where most blocks meet. */
static void worst_view(void)
{
	enum { STEP = VALUE_BLOCK / 16 + 1 };
	static unsigned char back[VALUE_READ_MAX];
	static unsigned char want[VALUE_READ_MAX];
	struct value v;
	struct store_view view;
	size_t pieces = 0;
	begin(0);
	value_init(&v);
	for (uint64_t at = VALUE_BLOCK - 1; at < VALUE_BLOCK - 1 + VALUE_READ_MAX; at += STEP) {
		pattern_next();
		CHECK(write_value(&v, at, pattern, 1) == 0);
		want[at - (VALUE_BLOCK - 1)] = pattern[0];
		pieces++;
	}
	CHECK(value_bytes(&v) == pieces); /* nothing coalesced */
	CHECK(value_read(&v, VALUE_BLOCK - 1, VALUE_READ_MAX, &view) == VALUE_READ_MAX);
	CHECK(view.references == pieces);
	CHECK(view.count >= 2 * pieces);
	value_view_copy(&view, back);
	CHECK(memcmp(back, want, sizeof(want)) == 0);
	value_view_put(&view);
	value_fini(&v);
	CHECK(account_used(&total) == 0);
}

/* ---- threads ---- */

struct shared {
	pthread_mutex_t lock;
	struct value value;
};

static struct shared files[2] = { { .lock = PTHREAD_MUTEX_INITIALIZER },
				  { .lock = PTHREAD_MUTEX_INITIALIZER } };
static atomic_bool stop;

static void *reader(void *argument)
{
	unsigned state = *(const unsigned *)argument;
	struct store_view view;
	unsigned char *copy = malloc(2 * VALUE_BLOCK);
	unsigned char *again = malloc(2 * VALUE_BLOCK);
	if (!copy || !again)
		abort();
	do {
		struct shared *f = &files[rand_r(&state) % 2];
		size_t at = (size_t)rand_r(&state) % VALUE_BLOCK;
		size_t len = 1 + (size_t)rand_r(&state) % VALUE_BLOCK;
		pthread_mutex_lock(&f->lock);
		(void)value_read(&f->value, at, len, &view); /* checked by the other cases */
		pthread_mutex_unlock(&f->lock);
		value_view_copy(&view, copy);
		value_view_copy(&view, again);
		CHECK(memcmp(copy, again, len) == 0);
		value_view_put(&view);
	} while (!atomic_load(&stop));
	free(copy);
	free(again);
	return NULL;
}

static void *writer(void *argument)
{
	unsigned state = *(const unsigned *)argument;
	size_t end[2] = { 0, 0 };
	for (int i = 0; i < 1500; i++) {
		size_t n = (size_t)rand_r(&state) % 2;
		struct value *v = &files[n].value;
		size_t at = (size_t)rand_r(&state) % VALUE_BLOCK;
		int dice = rand_r(&state) % 16;
		if (dice == 0) {
			pthread_mutex_lock(&files[0].lock);
			pthread_mutex_lock(&files[1].lock);
			CHECK(value_clone(v, &account, 0, &files[1 - n].value, 0,
					  2 * VALUE_BLOCK) == 0);
			pthread_mutex_unlock(&files[1].lock);
			pthread_mutex_unlock(&files[0].lock);
			end[n] = end[1 - n];
			continue;
		}
		pthread_mutex_lock(&files[n].lock);
		if (dice == 1) {
			value_truncate(v, &account, at);
			end[n] = at;
		} else if (dice < 5) {
			CHECK(write_value(v, at, patterns + dice, 3000) == 0);
		} else {
			CHECK(write_value(v, end[n], patterns + dice, 100) == 0);
			end[n] += 100;
		}
		pthread_mutex_unlock(&files[n].lock);
	}
	return NULL;
}

static void concurrent(void)
{
	pthread_t thread[4];
	unsigned seed[4];
	begin(0);
	pattern_next();
	atomic_store(&stop, false);
	for (size_t i = 0; i < 4; i++) {
		seed[i] = (unsigned)tap_random();
		if (pthread_create(&thread[i], NULL, i < 2 ? writer : reader, &seed[i]))
			abort();
	}
	for (size_t i = 0; i < 4; i++) {
		if (i == 2)
			atomic_store(&stop, true);
		pthread_join(thread[i], NULL);
	}
	for (size_t i = 0; i < 2; i++) {
		CHECK(value_check(&files[i].value) == 0);
		value_fini(&files[i].value);
	}
	CHECK(account_used(&total) == 0);
}

int main(int argc, char **argv)
{
	tap_begin(argc, argv);
	pattern_next();
	tap_case("value: a small value costs one exact extent", small_value_costs_one_extent);
	tap_case("value: a log of short lines is packed, at a constant cost a line", log_of_lines);
	tap_case("value: a small slice does not pin a large extent",
		 small_slices_free_large_extents);
	tap_case("value: a clone shares its bytes and outlives its source", clones_share);
	tap_case("value: appending to a clone leaves the other alone",
		 clone_of_one_appended_byte_stays);
	tap_case("value: a write into reserved bytes finds room at the bound",
		 reserved_room_is_kept);
	tap_case("value: appending after a truncate leaves views alone", appending_after_truncate);
	tap_case("value: appending uses up what is reserved", appending_into_reserved);
	tap_case("value: overlapping writes do not pin three extents",
		 overlapping_writes_are_coalesced);
	tap_case("value: small overwrites go on at the bound", scattered_overwrites_at_the_bound);
	tap_case("value: compacting gives back what large extents hold", compacting);
	tap_case("value: scattered writes into reserved bytes go on at the bound",
		 scattered_writes_into_reserved_at_the_bound);
	tap_case("value: reserving around many pieces is charged once",
		 reserving_between_scattered_bytes);
	tap_case("value: offsets up to the last one, and none beyond", the_edge_of_offsets);
	tap_case("value: the most scattered read fits its view", worst_view);
	tap_case("value: every short sequence around a block boundary", exhaustive);
	tap_case("value: random operations agree with flat bytes; views never change", randomized);
	tap_case("value: the same at the bound of the store", bounded);
	tap_case("value: any allocation may fail, and nothing has changed", allocation_failures);
	tap_case("value: readers, appenders and clones on several threads", concurrent);
	return tap_end();
}
