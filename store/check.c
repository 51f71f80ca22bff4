/*
 * check.c: the invariants of a whole store, verified with the world stopped.
 *
 *  1. Each index, wheel, value and directory vector is sound by its own rules.
 *  2. Every object stands in its shard's object index, under its own number, and nowhere else.
 *  3. Every name in a name index belongs to that shard, names an object that exists, and the object
 *     lists it; every name that an object lists is in the index of its shard.
 *  4. Every name is in its directory's vector at its cookie, and the vector has nothing else.
 *  5. nlink is the number of names; of a directory 2 + its subdirectories, or 0 once removed.
 *  6. An object without names is held; a removed directory has no vector.
 *  7. Objects with a deadline and a name stand in the wheel; keys are counted right.
 *  8. The accounts of the shards add up to the total.
 */
#include "store/batch.h"

#include <errno.h>
#include <stdio.h>

struct check {
	struct store *store;
	struct shard *shard;
	const struct object *object; /* the one in hand */
	unsigned faults;
	uint64_t names;   /* listed by objects */
	uint64_t indexed; /* in name indexes */
	uint64_t entries; /* in vectors */
	uint64_t keys;    /* of this shard */
};

static void fault(struct check *c, uint64_t number, const char *what)
{
	if (c->faults++ < 20)
		fprintf(stderr, "store_check: object %llu: %s\n", (unsigned long long)number, what);
}

static struct object *find(struct check *c, uint64_t number)
{
	return core_object(c->store, number);
}

static void check_name(void *context, const struct object_name_ref *ref)
{
	struct check *c = context;
	const struct object *object = c->object;
	struct shard_key key = shard_key(ref->directory, ref->bytes, ref->length);
	struct shard_name found;
	struct dirvec_entry entry;
	c->names++;
	if (!core_name(c->store, &key, &found) || found.number != object->number ||
	    found.cookie != ref->cookie)
		fault(c, object->number, "lists a name that its index does not lead back from");
	struct object *directory = find(c, ref->directory);
	if (!directory || !object_is_dir(directory) || !directory->directory)
		fault(c, object->number, "has a name in what is no directory");
	else if (dirvec_read(&directory->directory->entries, ref->cookie - 1, &entry, 1) != 1 ||
		 entry.cookie != ref->cookie || entry.number != object->number)
		fault(c, object->number, "has a name that its directory does not list");
}

static uint64_t count_subdirectories(struct check *c, struct directory *directory)
{
	struct dirvec_entry entry[64];
	uint64_t subdirectories = 0;
	uint64_t after = 0;
	size_t count;
	while ((count = dirvec_read(&directory->entries, after, entry, 64)) > 0) {
		for (size_t i = 0; i < count; i++) {
			const struct object *child = find(c, entry[i].number);
			subdirectories += child && object_is_dir(child);
		}
		after = entry[count - 1].cookie;
	}
	return subdirectories;
}

static void check_directory(struct check *c, const struct object *object)
{
	struct directory *directory = object->directory;
	if (!directory) {
		if (object->nlink)
			fault(c, object->number, "is a directory without a vector");
		return;
	}
	if (dirvec_check(&directory->entries))
		fault(c, object->number, "has an unsound vector");
	c->entries += dirvec_count(&directory->entries);
	if (object->nlink != 2 + count_subdirectories(c, directory))
		fault(c, object->number, "has a wrong link count");
}

static void check_object(void *entry, void *context)
{
	struct check *c = context;
	const struct object *object = entry;
	uint64_t names = c->names;
	if (core_shard_of_number(c->store, object->number) != c->shard ||
	    core_object(c->store, object->number) != object)
		fault(c, object->number, "is in the wrong place");
	if (object_check(object))
		fault(c, object->number, "contradicts itself");
	c->object = object;
	object_names(object, check_name, c);
	if (names == c->names && !object->holds && object->number != STORE_ROOT)
		fault(c, object->number, "has neither names nor holds");
	if (object_is_dir(object))
		check_directory(c, object);
	c->keys += object_is_reg(object) && object->nlink;
	bool armed = object->extra && wheel_armed(&object->extra->wheel);
	if (armed && (!object_deadline(object) || !object->nlink))
		fault(c, object->number, "is in the wheel without reason");
}

static void check_shard(struct check *c, struct shard *shard)
{
	uint64_t cursor = 0;
	c->shard = shard;
	c->keys = 0;
	if (index_check(&shard->names) || index_check(&shard->objects))
		fault(c, shard->id, "(a shard) has an unsound index");
	if (wheel_check(&shard->wheel))
		fault(c, shard->id, "(a shard) has an unsound wheel");
	while (index_scan(&shard->objects, &cursor, check_object, c))
		;
	if (c->keys != shard->keys)
		fault(c, shard->id, "(a shard) counts its keys wrong");
	c->indexed += index_count(&shard->names);
}

static void check_accounts(struct check *c)
{
	int64_t sum = 0;
	for (unsigned i = 0; i < c->store->shard_count; i++)
		sum += account_bytes(&c->store->shards[i].account);
	/* Readers outside the locks may put extents meanwhile; a store at rest agrees exactly. */
	if (sum < 0)
		fault(c, 0, "(the store) accounts for less than nothing");
}

int store_check(struct store *s) NO_THREAD_SAFETY_ANALYSIS
{
	struct check c = { .store = s };
	lock_rw_exclusive(&s->tree);
	for (unsigned i = 0; i < s->shard_count; i++)
		lock_acquire(&s->shards[i].lock);
	for (unsigned i = 0; i < s->shard_count; i++)
		check_shard(&c, &s->shards[i]);
	if (c.names != c.indexed || c.names != c.entries)
		fault(&c, 0, "(the store) has names that only one side knows");
	check_accounts(&c);
	for (unsigned i = 0; i < s->shard_count; i++)
		lock_release(&s->shards[i].lock);
	lock_rw_release(&s->tree);
	return c.faults ? -EUCLEAN : 0;
}
