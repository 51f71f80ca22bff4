/*
 * list.c: many keys at once: batch retrieval and directory reads.
 *
 * One lookup waits for memory three times, one after the other: bucket, object, value. Many lookups
 * wait together: all names are hashed and their buckets prefetched before any lock is taken; then
 * the shards concerned are locked, all of them, ascending; then the objects' lines are prefetched,
 * and only then is anything read. One round of locks thus serves up to STORE_MGET_MAX keys, which
 * also makes them one consistent snapshot.
 *
 * A directory is read the same way: under its mutex, numbers from its vector, then their objects in
 * one round. What has expired is left out.
 */
#include "store/batch.h"
#include "store/names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Shards as bits, so that they come out ascending and once each. */
struct shard_bits {
	uint64_t word[STORE_SHARDS_MAX / 64];
};

static void bits_add(struct shard_bits *bits, const struct shard *shard)
{
	bits->word[shard->id / 64] |= UINT64_C(1) << (shard->id % 64);
}

static size_t bits_words(const struct store *s)
{
	return (s->shard_count + 63) / 64;
}

static void bits_acquire(struct store *s, const struct shard_bits *bits) NO_THREAD_SAFETY_ANALYSIS
{
	for (size_t i = 0; i < bits_words(s); i++)
		for (uint64_t w = bits->word[i]; w; w &= w - 1)
			lock_acquire(&s->shards[i * 64 + (size_t)__builtin_ctzll(w)].lock);
}

static void bits_release(struct store *s, const struct shard_bits *bits) NO_THREAD_SAFETY_ANALYSIS
{
	for (size_t i = 0; i < bits_words(s); i++)
		for (uint64_t w = bits->word[i]; w; w &= w - 1)
			lock_release(&s->shards[i * 64 + (size_t)__builtin_ctzll(w)].lock);
}

/* ---- batch retrieval ---- */

struct mget_key {
	struct shard_key key;
	struct shard *shard;
	uint64_t number; /* of a link, to be looked up in another shard */
	const struct object *object;
};

/* Copies at most capacity bytes of the value; the whole size, or -errno. */
static ssize_t value_get(const struct object *object, void *buffer, size_t capacity)
{
	struct store_view view;
	if (object_is_dir(object))
		return -EISDIR;
	if (!object_is_reg(object))
		return -EINVAL;
	size_t length = object->size < capacity ? object->size : capacity;
	if (!length)
		return (ssize_t)object->size; /* the buffer may be NULL */
	if (length <= object->inline_size) {
		memcpy(buffer, object_inline_const(object), length);
		return (ssize_t)object->size;
	}
	/* Long values are copied in slices, under the lock: this call promises one snapshot. */
	memcpy(buffer, object_inline_const(object), object->inline_size);
	for (size_t done = object->inline_size; done < length;) {
		size_t slice = length - done < VALUE_READ_MAX ? length - done : VALUE_READ_MAX;
		value_read(&object->value, done, slice, &view);
		value_view_copy(&view, (char *)buffer + done);
		value_view_put(&view);
		done += slice;
	}
	return (ssize_t)object->size;
}

enum { LINE = 64, OBJECT_LINES = 4 };

/* What a key needs of its object: its lines up to the end of a value of about 64 bytes. What
 * follows those, the processor sees coming by itself: prefetching more was measured, and gained
 * nothing. Always inline: gcc takes a function that only prefetches for one without effect, and
 * drops calls. */
static inline __attribute__((always_inline)) void object_prefetch(const void *entry)
{
	for (size_t i = 0; entry && i < OBJECT_LINES; i++)
		__builtin_prefetch((const char *)entry + i * LINE);
}

/* Takes the first entry of the same hash unseen: it is the right one but for one in millions. */
static bool match_any(const void *entry, const void *key)
{
	(void)entry;
	(void)key;
	return true;
}

/* Finds the object of each key, prefetching it; names that are links are left for later. */
static bool mget_find(struct mget_key *keys, size_t count)
{
	bool links = false;
	for (size_t i = 0; i < count; i++)
		object_prefetch(
			index_find(&keys[i].shard->names, keys[i].key.hash, match_any, NULL));
	for (size_t i = 0; i < count; i++) {
		struct shard_name found;
		keys[i].object = NULL;
		keys[i].number = 0;
		lock_assert_held(&keys[i].shard->lock);
		if (!shard_name(keys[i].shard, &keys[i].key, &found))
			continue;
		keys[i].object = found.object;
		keys[i].number = found.number;
		links = links || found.link;
	}
	return links;
}

/* The value of what a name led to, if it led anywhere and has not expired: a hit. */
static ssize_t mget_value(const struct object *object, const struct store_item *item, size_t *hits)
{
	if (!object || core_expired(object))
		return -ENOENT;
	(*hits)++;
	return value_get(object, item->buffer, item->capacity);
}

/* One shard counts for the whole round: another line of memory for each key would cost more. */
static void mget_count_in(struct shard *shard, size_t keys, size_t hits)
{
	counter_add_locked(&shard->counters.hits, hits);
	counter_add_locked(&shard->counters.misses, keys - hits);
	counter_add_locked(&shard->counters.batches, 1);
	counter_add_locked(&shard->counters.batch_keys, keys);
}

/* Reads what was found. Returns how many. */
static ssize_t mget_read(struct mget_key *keys, struct store_item *items, size_t count)
{
	ssize_t found = 0;
	size_t hits = 0;
	for (size_t i = 0; i < count; i++) {
		items[i].size = mget_value(keys[i].object, &items[i], &hits);
		found += items[i].size >= 0;
	}
	mget_count_in(keys[0].shard, count, hits);
	return found;
}

/* Adds the shards of objects that only links lead to. */
static void mget_add_links(struct store *s, struct mget_key *keys, size_t count,
			   struct shard_bits *bits)
{
	for (size_t i = 0; i < count; i++)
		if (keys[i].number && !keys[i].object)
			bits_add(bits, core_shard_of_number(s, keys[i].number));
}

/* With all their shards locked. False: a link leads to a shard that is not among them. */
static bool mget_resolve(struct store *s, struct mget_key *keys, size_t count,
			 const struct shard_bits *bits)
{
	for (size_t i = 0; i < count; i++) {
		if (!keys[i].number || keys[i].object)
			continue;
		struct shard *shard = core_shard_of_number(s, keys[i].number);
		if (!(bits->word[shard->id / 64] & (UINT64_C(1) << (shard->id % 64))))
			return false;
		keys[i].object = core_object(s, keys[i].number);
	}
	return true;
}

/* One round: at most STORE_MGET_MAX keys under one hold of all their shards. */
static ssize_t mget_round(struct store *s, uint64_t directory, struct store_item *items,
			  size_t count)
{
	struct mget_key keys[STORE_MGET_MAX];
	struct shard_bits bits = { { 0 } };
	for (size_t i = 0; i < count; i++) {
		keys[i].key = shard_key(directory, items[i].name, items[i].length);
		keys[i].shard = core_shard_of_hash(s, keys[i].key.hash);
		index_prefetch(&keys[i].shard->names, keys[i].key.hash);
		bits_add(&bits, keys[i].shard);
	}
	bits_acquire(s, &bits);
	/* Links are rare, and what they lead to is in shards that are known only now: start over
	 * with those, too, until nothing new turns up. */
	while (mget_find(keys, count) && !mget_resolve(s, keys, count, &bits)) {
		bits_release(s, &bits);
		mget_add_links(s, keys, count, &bits);
		bits_acquire(s, &bits);
	}
	ssize_t found = mget_read(keys, items, count);
	bits_release(s, &bits);
	return found;
}

/* A single key: one lock, and nothing to prefetch but the bucket. */
static ssize_t mget_one(struct store *s, uint64_t directory, struct store_item *item)
{
	struct shard_key key = shard_key(directory, item->name, item->length);
	struct shard *shard = core_shard_of_hash(s, key.hash);
	struct shard_name found = { 0 };
	struct directory *unused;
	ssize_t size = 0;
	index_prefetch(&shard->names, key.hash);
	lock_acquire(&shard->lock);
	object_prefetch(index_find(&shard->names, key.hash, match_any, NULL));
	(void)shard_name(shard, &key, &found); /* or found.object stays NULL */
	if (!found.link) {
		size_t hits = 0;
		size = mget_value(found.object, item, &hits);
		mget_count_in(shard, 1, hits);
	}
	lock_release(&shard->lock);
	if (found.link)
		return mget_round(s, directory, item, 1);
	/* What was found was in a directory; only a miss has to ask whether there is one. */
	int err = size == -ENOENT ? directory_find(s, directory, &unused) : 0;
	if (err)
		return err;
	item->size = size;
	return size >= 0;
}

/* How many keys make the next round: as many as there are, but not too many bytes under the
 * locks. */
static size_t mget_count(const struct store_item *items, size_t count)
{
	size_t n = 1;
	size_t bytes = items[0].capacity;
	while (n < count && n < STORE_MGET_MAX && bytes + items[n].capacity <= STORE_MGET_BYTES)
		bytes += items[n++].capacity;
	return n;
}

ssize_t store_mget(struct store *s, uint64_t directory, struct store_item *items, size_t count)
{
	struct directory *unused;
	ssize_t found = 0;
	if (count == 1)
		return mget_one(s, directory, items);
	int err = directory_find(s, directory, &unused);
	if (err)
		return err;
	for (size_t i = 0, n; i < count; i += n) {
		n = mget_count(items + i, count - i);
		found += mget_round(s, directory, items + i, n);
	}
	return found;
}

/* ---- directory reads ---- */

enum { LIST_BATCH = 32 }; /* entries of one round: as many dirents are on the stack */

/* Emits "." or "..". True to go on. */
static bool emit_dot(struct store *s, uint64_t directory, uint64_t cookie, store_emit *emit,
		     void *context)
{
	struct store_dirent entry = { .cookie = cookie, .length = cookie };
	memcpy(entry.name, "..", cookie);
	entry.name[cookie] = '\0';
	if (store_lookup(s, directory, entry.name, entry.length, 0, &entry.attr))
		return true; /* removed meanwhile: it lists nothing */
	return emit(context, &entry);
}

/* Fills what has not expired; returns how many. The directory is held. */
static size_t list_fill(struct store *s, uint64_t directory, const struct dirvec_entry *from,
			size_t count, unsigned flags, struct store_dirent *out)
{
	struct shard_bits bits = { { 0 } };
	size_t filled = 0;
	for (size_t i = 0; i < count; i++) {
		struct shard *shard = core_shard_of_number(s, from[i].number);
		index_prefetch(&shard->objects, hash_number(from[i].number));
		bits_add(&bits, shard);
	}
	bits_acquire(s, &bits);
	int64_t now = core_now();
	for (size_t i = 0; i < count; i++) {
		struct shard *shard = core_shard_of_number(s, from[i].number);
		index_prefetch_entry(&shard->objects, hash_number(from[i].number));
	}
	for (size_t i = 0; i < count; i++) {
		struct object *object = core_object(s, from[i].number);
		struct object_name_ref ref;
		bool there = object && object_name_at(object, directory, from[i].cookie, &ref);
		assert(there); /* the directory is held, so the name still names it */
		int64_t deadline = object_deadline(object);
		if (deadline && deadline <= now)
			continue;
		struct store_dirent *entry = &out[filled++];
		entry->cookie = from[i].cookie;
		entry->length = ref.length;
		memcpy(entry->name, ref.bytes, ref.length);
		entry->name[ref.length] = '\0';
		core_attr(object, now, &entry->attr);
		if (flags & STORE_HOLD)
			object->holds++;
	}
	struct shard *first = core_shard_of_number(s, from[0].number);
	counter_add_locked(&first->counters.batches, 1);
	counter_add_locked(&first->counters.batch_keys, filled);
	bits_release(s, &bits);
	return filled;
}

/* Emits a round; false when emit stopped. Entries not taken lose their holds. */
static bool list_emit(struct store *s, const struct store_dirent *entries, size_t count,
		      unsigned flags, store_emit *emit, void *context)
{
	size_t i = 0;
	while (i < count && emit(context, &entries[i]))
		i++;
	bool stopped = i < count;
	for (; i < count; i++)
		if (flags & STORE_HOLD)
			store_forget(s, entries[i].attr.number, 1);
	return !stopped;
}

/*
 * The next entries behind the cookie: how many, at most LIST_BATCH. The directory is held until its
 * objects are read, or a rename over one of them in between would hide a name that is always there.
 * -ENOENT: the directory was removed.
 */
static ssize_t list_round(struct store *s, uint64_t number, uint64_t *after, unsigned flags,
			  struct store_dirent *out, size_t *filled)
{
	struct dirvec_entry raw[LIST_BATCH];
	struct directory *directory;
	int err = directory_enter(s, number, DIRECTORY_SHARED, &directory);
	if (err)
		return err;
	size_t count = dirvec_read(&directory->entries, *after, raw, LIST_BATCH);
	*filled = count ? list_fill(s, number, raw, count, flags, out) : 0;
	directory_leave(s, directory, DIRECTORY_SHARED);
	if (count)
		*after = raw[count - 1].cookie;
	return (ssize_t)count;
}

int store_readdir(struct store *s, uint64_t number, uint64_t after, unsigned flags,
		  store_emit *emit, void *context)
{
	struct store_dirent entries[LIST_BATCH];
	struct directory *unused;
	size_t filled = 0;
	int err = directory_find(s, number, &unused);
	if (err)
		return err == -ENOENT ? 0 : err;
	for (uint64_t dot = after; dot < DIRVEC_COOKIE_FIRST - 1; dot++)
		if (!emit_dot(s, number, dot + 1, emit, context))
			return 0;
	while (list_round(s, number, &after, flags, entries, &filled) > 0)
		if (!list_emit(s, entries, filled, flags, emit, context))
			return 0;
	return 0;
}

/* All names of an object, one after the other, each behind its directory and its length. */
struct names_copy {
	size_t size; /* of bytes */
	size_t need; /* of what there is to copy */
	int count;
	char *bytes;
};

enum { NAMES_HEADER = sizeof(uint64_t) + 1 };

static void names_copy_one(void *context, const struct object_name_ref *ref)
{
	struct names_copy *copy = context;
	size_t at = copy->need;
	copy->need += NAMES_HEADER + ref->length;
	copy->count++;
	if (copy->need > copy->size)
		return;
	uint8_t length = (uint8_t)ref->length;
	memcpy(copy->bytes + at, &ref->directory, sizeof(ref->directory));
	memcpy(copy->bytes + at + sizeof(ref->directory), &length, 1);
	memcpy(copy->bytes + at + NAMES_HEADER, ref->bytes, ref->length);
}

static void names_copy_all(struct store *s, uint64_t number, struct names_copy *copy)
{
	struct shard *shard = core_shard_of_number(s, number);
	copy->need = 0;
	copy->count = 0;
	lock_acquire(&shard->lock);
	const struct object *object = shard_object(shard, number);
	if (object)
		object_names(object, names_copy_one, copy);
	lock_release(&shard->lock);
}

int store_names(struct store *s, uint64_t number, store_each_name *each, void *context)
{
	char few[1024];
	struct names_copy copy = { .size = sizeof(few), .bytes = few };
	char *many = NULL;
	/* Copied under one hold of the lock, as the callback runs without it. */
	names_copy_all(s, number, &copy);
	while (copy.need > copy.size) {
		free(many);
		many = malloc(copy.need);
		if (!many)
			return -ENOMEM;
		copy.bytes = many;
		copy.size = copy.need;
		names_copy_all(s, number, &copy);
	}
	for (size_t at = 0; at < copy.need;) {
		uint64_t directory;
		uint8_t length;
		memcpy(&directory, copy.bytes + at, sizeof(directory));
		memcpy(&length, copy.bytes + at + sizeof(directory), 1);
		each(context, directory, copy.bytes + at + NAMES_HEADER, length);
		at += NAMES_HEADER + (size_t)length;
	}
	free(many);
	return copy.count;
}
