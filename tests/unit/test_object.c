/*
 * test_object.c: objects by themselves: rooms, names beyond the first, extended attributes; and
 * that all of it is charged, moved and given back.
 */
#include "store/object.h"

#include "store/store.h"
#include "tests/unit/tap.h"

#include <errno.h>
#include <string.h>

enum { NAMES = 60 };

static struct account_total total;
static struct account account;

static void begin(uint64_t limit)
{
	account_total_init(&total, limit);
	account_init(&account, &total);
}

static struct object *fresh(uint32_t mode, size_t name_room, size_t inline_room)
{
	int err = 0;
	struct object *o = object_new(&account, 4711, mode, name_room, inline_room, false, &err);
	CHECK(o && !err);
	if (!o)
		abort();
	return o;
}

static void done(struct object *o)
{
	object_free(&account, o);
	CHECK(account_used(&total) == 0 && account_bytes(&account) == 0);
}

/* Every room for a name and a value of some length: nothing overlaps, everything is charged. */
static void rooms(void)
{
	char name[STORE_NAME_MAX];
	memset(name, 'n', sizeof(name));
	for (size_t n = 0; n <= STORE_NAME_MAX; n += n < 20 ? 1 : 47) {
		for (size_t v = 0; v <= 300; v += v < 20 ? 1 : 35) {
			begin(0);
			struct object *o = fresh(S_IFREG | 0644, n, v);
			CHECK(account_used(&total) == object_charge(n, v));
			CHECK(o->number == 4711 && o->mode == (S_IFREG | 0644) && !o->nlink);
			memset(object_inline(o), 'v', v);
			o->inline_size = (uint16_t)v;
			o->size = v;
			if (n) {
				CHECK(object_name_fits(o, n) && !object_name_fits(o, n + 1));
				object_name_embed(o, 1, 3, name, n);
				CHECK(!object_name_fits(o, n));
				o->nlink = 1;
			}
			CHECK(object_check(o) == 0);
			CHECK(v == 0 ||
			      (object_inline(o)[0] == 'v' && object_inline(o)[v - 1] == 'v'));
			done(o);
		}
	}
}

static void the_bound(void)
{
	int err = 0;
	begin(object_charge(10, 10));
	struct object *o = fresh(S_IFREG, 10, 10);
	CHECK(!object_new(&account, 1, S_IFREG, 0, 0, false, &err) && err == -ENOSPC);
	CHECK(!object_xattr_new(&account, "user.x", "v", 1, &err) && err == -ENOSPC);
	/* What a rename or a removal may need is to be had all the same. */
	struct object_extra *extra;
	CHECK(object_extra(&account, o, &extra) == 0 && extra->object == o);
	struct object_name *name = object_name_new(&account, 1, "name", 4);
	CHECK(name && account_used(&total) > total.limit);
	object_name_free(&account, name);
	struct object *forced = object_new(&account, 1, S_IFREG, 0, 0, true, &err);
	CHECK(forced != NULL);
	object_free(&account, forced);
	done(o);
}

/* ---- names ---- */

struct listed {
	uint64_t directory;
	uint64_t cookie;
	char text[8];
};

static struct listed list[NAMES];
static unsigned count;

static void name_add(struct object *o, uint64_t directory, uint64_t cookie)
{
	struct object_extra *extra;
	struct listed l = { .directory = directory, .cookie = cookie };
	int length = snprintf(l.text, sizeof(l.text), "n%u", (unsigned)cookie);
	if (tap_below(2) && object_name_fits(o, (size_t)length)) {
		object_name_embed(o, directory, cookie, l.text, (size_t)length);
		memmove(&list[1], &list[0], count * sizeof(list[0])); /* it comes first */
		list[0] = l;
	} else {
		CHECK(object_extra(&account, o, &extra) == 0);
		struct object_name *name =
			object_name_new(&account, directory, l.text, (size_t)length);
		CHECK(name != NULL);
		if (!name)
			abort();
		name->cookie = cookie;
		object_name_add(o, name);
		list[count] = l;
	}
	count++;
	o->nlink++;
}

static void name_remove(struct object *o, unsigned at)
{
	object_name_remove(&account, o, list[at].directory, list[at].cookie);
	count--;
	o->nlink--;
	memmove(&list[at], &list[at + 1], (count - at) * sizeof(list[0]));
}

static bool ref_is(const struct object_name_ref *ref, const struct listed *l)
{
	return ref->directory == l->directory && ref->cookie == l->cookie &&
	       ref->length == strlen(l->text) && !memcmp(ref->bytes, l->text, ref->length);
}

static void check_listed(void *context, const struct object_name_ref *ref)
{
	unsigned *seen = context;
	CHECK(*seen < count && ref_is(ref, &list[*seen]));
	(*seen)++;
}

static void check_names(const struct object *o)
{
	struct object_name_ref ref = { 0 };
	unsigned seen = 0;
	CHECK(object_check(o) == 0);
	CHECK(object_name_any(o, &ref) == (count > 0));
	CHECK(!count || ref_is(&ref, &list[0]));
	object_names(o, check_listed, &seen);
	CHECK(seen == count);
	for (unsigned tries = 0; count && tries < 4; tries++) {
		const struct listed *l = &list[tap_below(count)];
		CHECK(object_name_at(o, l->directory, l->cookie, &ref) && ref_is(&ref, l));
		CHECK(!object_name_at(o, l->directory + 1, l->cookie, &ref));
		CHECK(!object_name_at(o, l->directory, l->cookie + 1000000, &ref));
	}
}

/* The order of names, whatever comes and goes; directories have their own cookies. */
static void names(void)
{
	begin(0);
	struct object *o = fresh(S_IFREG, 5, 0);
	uint64_t cookie = 3;
	count = 0;
	for (unsigned i = 0; i < 4000; i++) {
		bool grow = count == 0 || (count < NAMES && tap_below(1000) < 560);
		if (grow)
			name_add(o, 100 + 7 * tap_below(3), cookie++);
		else
			name_remove(o, (unsigned)tap_below(count));
		check_names(o);
	}
	while (count > 3) /* those that are left go with the object */
		name_remove(o, count - 1);
	check_names(o);
	done(o);
}

/* ---- extended attributes ---- */

static void put(struct object *o, const char *name, const char *value)
{
	struct object_extra *extra;
	int err = 0;
	struct object_xattr *x = object_xattr_new(&account, name, value, strlen(value), &err);
	CHECK(x && !err && object_extra(&account, o, &extra) == 0);
	object_xattr_put(&account, o, x);
}

static bool has(const struct object *o, const char *name, const char *value)
{
	const struct object_xattr *x = object_xattr_find(o, name);
	if (!x || !value)
		return !x && !value;
	return x->size == strlen(value) && !memcmp(x->bytes + x->name_length, value, x->size);
}

static size_t xattr_total(const struct object *o)
{
	size_t n;
	size_t bytes = object_xattr_total(o, &n);
	CHECK((bytes == 0) == (n == 0));
	return bytes;
}

static void xattrs(void)
{
	begin(0);
	struct object *o = fresh(S_IFREG, 0, 0);
	CHECK(has(o, "user.a", NULL) && xattr_total(o) == 0);
	put(o, "user.a", "one");
	put(o, "user.ab", "");
	put(o, "user.b", "three");
	CHECK(has(o, "user.a", "one") && has(o, "user.ab", "") && has(o, "user.b", "three"));
	CHECK(has(o, "user.", NULL) && has(o, "user.abc", NULL));
	CHECK(xattr_total(o) == 7 + 3 + 8 + 0 + 7 + 5);
	uint64_t before = account_used(&total);
	put(o, "user.ab", "two");
	put(o, "user.ab", "");
	CHECK(account_used(&total) == before);
	object_xattr_remove(&account, o, "user.a");
	CHECK(has(o, "user.a", NULL) && has(o, "user.ab", "") && has(o, "user.b", "three"));
	object_xattr_remove(&account, o, "user.b");
	CHECK(xattr_total(o) == 8 && object_check(o) == 0);
	done(o);
}

/* ---- moving ---- */

static void moving(void)
{
	begin(0);
	int err = 0;
	struct object *o = fresh(S_IFREG | 0600, 9, 10);
	object_name_embed(o, 1, 3, "the name", 8);
	o->nlink = 1;
	o->holds = 2;
	memcpy(object_inline(o), "0123456789", 10);
	o->inline_size = 10;
	o->size = 20;
	put(o, "user.a", "one");
	o->extra->period_ns = o->extra->deadline_ns = 5;
	struct object *larger = object_new(&account, 4711, o->mode, 9, 200, false, &err);
	CHECK(larger != NULL);
	if (!larger)
		abort();
	object_move(&account, o, larger);
	CHECK(larger->inline_room == 200 && larger->inline_size == 10 && larger->size == 20);
	CHECK(!memcmp(object_inline(larger), "0123456789", 10) && larger->holds == 2);
	CHECK(larger->name_length == 8 && !memcmp(larger->tail, "the name", 8));
	CHECK(larger->extra->object == larger && object_deadline(larger) == 5);
	CHECK(has(larger, "user.a", "one") && object_check(larger) == 0);
	done(larger);
}

/* ---- the check ---- */

/* Each of these faults is seen, and undone again. */
static void faults(void)
{
	begin(0);
	struct object *o = fresh(S_IFREG, 5, 5);
	object_name_embed(o, 1, 3, "name", 4);
	o->nlink = 1;
	CHECK(object_check(o) == 0);
	o->nlink = 2;
	CHECK(object_check(o) == -EUCLEAN);
	o->nlink = 1;
	o->name_length = 6;
	CHECK(object_check(o) == -EUCLEAN);
	o->name_length = 4;
	o->inline_size = 3; /* beyond the size */
	CHECK(object_check(o) == -EUCLEAN);
	o->size = 9;
	CHECK(object_check(o) == 0);
	o->inline_size = 6; /* beyond the room */
	CHECK(object_check(o) == -EUCLEAN);
	o->inline_size = 0;
	struct object_extra *extra;
	CHECK(object_extra(&account, o, &extra) == 0 && object_check(o) == 0);
	extra->deadline_ns = 1; /* without a period */
	CHECK(object_check(o) == -EUCLEAN);
	extra->deadline_ns = 0;
	extra->object = NULL;
	CHECK(object_check(o) == -EUCLEAN);
	extra->object = o;
	done(o);
}

int main(int argc, char **argv)
{
	tap_begin(argc, argv);
	tap_case("object: every room for a name and a value", rooms);
	tap_case("object: at the bound, what removes still has its room", the_bound);
	tap_case("object: names keep their order, whatever comes and goes", names);
	tap_case("object: extended attributes are replaced and removed", xattrs);
	tap_case("object: a move takes everything along", moving);
	tap_case("object: the check sees each fault", faults);
	return tap_end();
}
