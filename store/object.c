/*
 * object.c: objects in memory, their names and extended attributes.
 *
 * One allocation holds what every key needs, in this order: attributes, first name, small value.
 * That is one cache-missing access for a lookup and the value together, and about 120 bytes of
 * attributes a key; the rest, which few keys have, is an `extra`.
 *
 * Invariants (object_check):
 *  1. The embedded name fits its room, and there is one exactly when name_directory != 0.
 *  2. Inline bytes fit their room, never reach beyond the size, and exclude a value map.
 *  3. Extra names are in the order in which they were added, the last one is names_last, and the
 *     hint is one of them, or NULL.
 *  4. An extra knows its object. A deadline implies a period, and only regular files have one.
 *  5. The number of names is nlink for everything but directories.
 *
 * All of it is charged to the account of the object's shard, in malloc's classes.
 */
#include "store/object.h"

#include "store/store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

uint64_t object_charge(size_t name_room, size_t inline_room)
{
	return account_class(offsetof(struct object, tail) + name_room + inline_room);
}

/* Allocates zeroed or not is the caller's business: this one does not clear. */
static void *charged_alloc(struct account *account, size_t size, bool force, int *err)
{
	uint64_t charge = account_class(size);
	if (force) {
		account_force(account, charge);
	} else {
		*err = account_charge(account, charge);
		if (*err)
			return NULL;
	}
	void *p = malloc(size);
	if (!p) {
		account_uncharge(account, charge);
		*err = -ENOMEM;
	}
	return p;
}

static void charged_free(struct account *account, void *p, size_t size)
{
	account_uncharge(account, account_class(size));
	free(p);
}

struct object *object_new(struct account *account, uint64_t number, uint32_t mode, size_t name_room,
			  size_t inline_room, bool force, int *err)
{
	assert(name_room <= STORE_NAME_MAX && inline_room <= UINT16_MAX);
	size_t size = offsetof(struct object, tail) + name_room + inline_room;
	if (size < sizeof(struct object))
		size = sizeof(struct object);
	struct object *object = charged_alloc(account, size, force, err);
	if (!object)
		return NULL;
	memset(object, 0, sizeof(*object));
	object->number = number;
	object->mode = (uint16_t)mode;
	object->name_room = (uint8_t)name_room;
	object->inline_room = (uint16_t)inline_room;
	return object;
}

static size_t object_size(const struct object *object)
{
	size_t size = offsetof(struct object, tail) + object->name_room + object->inline_room;
	return size < sizeof(struct object) ? sizeof(struct object) : size;
}

static size_t xattr_size(const struct object_xattr *xattr)
{
	return sizeof(*xattr) + xattr->name_length + xattr->size;
}

static void extra_free(struct account *account, struct object_extra *extra)
{
	assert(!wheel_armed(&extra->wheel));
	while (extra->names) {
		struct object_name *name = extra->names;
		extra->names = name->next;
		object_name_free(account, name);
	}
	while (extra->xattrs) {
		struct object_xattr *xattr = extra->xattrs;
		extra->xattrs = xattr->next;
		object_xattr_free(account, xattr);
	}
	charged_free(account, extra, sizeof(*extra));
}

void object_free(struct account *account, struct object *object)
{
	assert(!object_is_dir(object) || !object->directory);
	if (object_is_reg(object))
		value_fini(&object->value);
	if (object->extra)
		extra_free(account, object->extra);
	charged_free(account, object, object_size(object));
}

void object_move(struct account *account, struct object *from, struct object *into)
{
	assert(into->name_room == from->name_room && into->inline_room >= from->inline_size);
	uint16_t room = into->inline_room;
	memcpy(into, from, offsetof(struct object, tail) + from->name_room);
	into->inline_room = room;
	memcpy(object_inline(into), object_inline(from), from->inline_size);
	if (into->extra)
		into->extra->object = into;
	charged_free(account, from, object_size(from));
}

int object_extra(struct account *account, struct object *object, struct object_extra **extra)
{
	int err = 0;
	if (!object->extra) {
		/* Past the bound: an unlink or a rename may need it, and they must work when
		 * full. */
		struct object_extra *fresh = charged_alloc(account, sizeof(*fresh), true, &err);
		if (!fresh)
			return err;
		memset(fresh, 0, sizeof(*fresh));
		fresh->object = object;
		fresh->period_ns = object_is_dir(object) ? OBJECT_PERIOD_UNSET : 0;
		object->extra = fresh;
	}
	*extra = object->extra;
	return 0;
}

/* ---- names ---- */

static bool name_embedded(const struct object *object)
{
	return object->name_directory != 0;
}

static void name_ref(const struct object_name *name, struct object_name_ref *ref)
{
	*ref = (struct object_name_ref){ name->directory, name->cookie, name->bytes, name->length };
}

static void name_ref_embedded(const struct object *object, struct object_name_ref *ref)
{
	*ref = (struct object_name_ref){ object->name_directory, object->name_cookie, object->tail,
					 object->name_length };
}

static bool name_is(const struct object_name *name, uint64_t directory, uint64_t cookie)
{
	return name->directory == directory && name->cookie == cookie;
}

bool object_name_at(const struct object *object, uint64_t directory, uint64_t cookie,
		    struct object_name_ref *ref)
{
	if (object->name_directory == directory && object->name_cookie == cookie) {
		name_ref_embedded(object, ref);
		return true;
	}
	struct object_extra *extra = object->extra;
	if (!extra || !extra->names)
		return false;
	/* Begin where the last search ended, and go round once: listings ask in this order. */
	struct object_name *first = extra->names_hint ? extra->names_hint : extra->names;
	struct object_name *name = first;
	do {
		if (name_is(name, directory, cookie)) {
			extra->names_hint = name;
			name_ref(name, ref);
			return true;
		}
		name = name->next ? name->next : extra->names;
	} while (name != first);
	return false;
}

bool object_name_any(const struct object *object, struct object_name_ref *ref)
{
	if (name_embedded(object))
		name_ref_embedded(object, ref);
	else if (object->extra && object->extra->names)
		name_ref(object->extra->names, ref);
	else
		return false;
	return true;
}

void object_names(const struct object *object, object_name_fn *visit, void *context)
{
	struct object_name_ref ref;
	if (name_embedded(object)) {
		name_ref_embedded(object, &ref);
		visit(context, &ref);
	}
	const struct object_name *name = object->extra ? object->extra->names : NULL;
	for (; name; name = name->next) {
		name_ref(name, &ref);
		visit(context, &ref);
	}
}

struct object_name *object_name_new(struct account *account, uint64_t directory, const char *bytes,
				    size_t length)
{
	assert(length > 0 && length <= STORE_NAME_MAX);
	int err = 0;
	struct object_name *name = charged_alloc(account, sizeof(*name) + length, true, &err);
	if (!name)
		return NULL;
	*name = (struct object_name){ .directory = directory, .length = (uint8_t)length };
	memcpy(name->bytes, bytes, length);
	return name;
}

void object_name_free(struct account *account, struct object_name *name)
{
	charged_free(account, name, sizeof(*name) + name->length);
}

void object_name_add(struct object *object, struct object_name *name)
{
	struct object_extra *extra = object->extra;
	assert(extra && !name->next);
	if (extra->names_last)
		extra->names_last->next = name;
	else
		extra->names = name;
	extra->names_last = name;
}

bool object_name_fits(const struct object *object, size_t length)
{
	return !name_embedded(object) && length <= object->name_room;
}

void object_name_embed(struct object *object, uint64_t directory, uint64_t cookie,
		       const char *bytes, size_t length)
{
	assert(object_name_fits(object, length));
	object->name_directory = directory;
	object->name_cookie = cookie;
	object->name_length = (uint8_t)length;
	memcpy(object->tail, bytes, length);
}

void object_name_remove(struct account *account, struct object *object, uint64_t directory,
			uint64_t cookie)
{
	if (object->name_directory == directory && object->name_cookie == cookie) {
		object->name_directory = 0;
		object->name_length = 0;
		return;
	}
	struct object_extra *extra = object->extra;
	assert(extra);
	struct object_name **at = &extra->names;
	struct object_name *before = NULL;
	while (*at && !name_is(*at, directory, cookie)) {
		before = *at;
		at = &before->next;
	}
	struct object_name *name = *at;
	assert(name);
	*at = name->next;
	if (extra->names_last == name)
		extra->names_last = before;
	if (extra->names_hint == name)
		extra->names_hint = name->next;
	object_name_free(account, name);
}

/* ---- extended attributes ---- */

static bool xattr_is(const struct object_xattr *xattr, const char *name, size_t length)
{
	return xattr->name_length == length && !memcmp(xattr->bytes, name, length);
}

/* Where the pointer to the attribute of this name is, or the NULL at the end. */
static struct object_xattr **xattr_slot(struct object_extra *extra, const char *name, size_t length)
{
	struct object_xattr **at = &extra->xattrs;
	while (*at && !xattr_is(*at, name, length))
		at = &(*at)->next;
	return at;
}

struct object_xattr *object_xattr_find(const struct object *object, const char *name)
{
	return object->extra ? *xattr_slot(object->extra, name, strlen(name)) : NULL;
}

struct object_xattr *object_xattr_new(struct account *account, const char *name, const void *value,
				      size_t size, int *err)
{
	size_t length = strlen(name);
	assert(length <= STORE_XATTR_NAME_MAX && size <= STORE_XATTR_SIZE_MAX);
	struct object_xattr *xattr =
		charged_alloc(account, sizeof(*xattr) + length + size, false, err);
	if (!xattr)
		return NULL;
	*xattr = (struct object_xattr){ .size = (uint32_t)size, .name_length = (uint8_t)length };
	memcpy(xattr->bytes, name, length);
	if (size)
		memcpy(xattr->bytes + length, value, size);
	return xattr;
}

void object_xattr_free(struct account *account, struct object_xattr *xattr)
{
	charged_free(account, xattr, xattr_size(xattr));
}

void object_xattr_put(struct account *account, struct object *object, struct object_xattr *xattr)
{
	assert(object->extra && !xattr->next);
	struct object_xattr **at = xattr_slot(object->extra, xattr->bytes, xattr->name_length);
	struct object_xattr *old = *at;
	if (old) {
		xattr->next = old->next;
		object_xattr_free(account, old);
	}
	*at = xattr;
}

void object_xattr_remove(struct account *account, struct object *object, const char *name)
{
	assert(object->extra);
	struct object_xattr **at = xattr_slot(object->extra, name, strlen(name));
	struct object_xattr *old = *at;
	assert(old);
	*at = old->next;
	object_xattr_free(account, old);
}

size_t object_xattr_total(const struct object *object, size_t *count)
{
	size_t total = 0;
	*count = 0;
	if (!object->extra)
		return 0;
	for (struct object_xattr *xattr = object->extra->xattrs; xattr; xattr = xattr->next) {
		total += (size_t)xattr->name_length + 1 + xattr->size;
		(*count)++;
	}
	return total;
}

/* ---- check ---- */

static int check_extra(const struct object *object, uint64_t *names)
{
	const struct object_extra *extra = object->extra;
	const struct object_name *last = NULL;
	bool hint = !extra->names_hint;
	for (const struct object_name *name = extra->names; name; name = name->next) {
		(*names)++;
		hint = hint || name == extra->names_hint;
		last = name;
	}
	if (last != extra->names_last || !hint)
		return -EUCLEAN;
	if (extra->object != object)
		return -EUCLEAN;
	if (extra->deadline_ns && (extra->period_ns <= 0 || !object_is_reg(object)))
		return -EUCLEAN;
	return 0;
}

int object_check(const struct object *object)
{
	uint64_t names = name_embedded(object);
	if (object->name_length > object->name_room || names != (object->name_length > 0))
		return -EUCLEAN;
	if (object->inline_size > object->inline_room || object->inline_size > object->size)
		return -EUCLEAN;
	if (object_is_reg(object)) {
		if (object->inline_size && object->value.root)
			return -EUCLEAN;
		int err = value_check(&object->value);
		if (err)
			return err;
	}
	if (object->extra) {
		int err = check_extra(object, &names);
		if (err)
			return err;
	}
	if (object_is_dir(object))
		return names <= 1 ? 0 : -EUCLEAN;
	return names == object->nlink ? 0 : -EUCLEAN;
}
