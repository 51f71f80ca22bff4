/*
 * dirvec.c: the order of a directory, as a B+ tree over cookies (Bayer and McCreight 1972; the leaf
 * chain is left out, because a scan resumes by cookie and a descent per leaf is noise).
 *
 * Structure. Leaves (dirleaf.h) hold up to DIRLEAF_MAX entries, 12 bytes each, and grow with them.
 * Branches hold (lowest cookie, child) pairs. A directory whose entries fit one leaf has no branch.
 *
 * Appending fills the last leaf and then begins another, so leaves written in order are full: 12.1
 * bytes an entry. Puts in random order split leaves in half; both halves are fitted to what they
 * hold. Removal closes the gap (at most 3 KiB of memmove, cheaper than tombstones that every scan
 * must step over), merges a leaf that is half empty with a neighbour when one of the two can hold
 * both, and gives memory back at a quarter. So two neighbours that stay apart after a merge was
 * tried fill at least half of what they occupy.
 *
 * Rejected: an array of chunk pointers (removing or inserting a chunk moves up to 640 KB at ten
 * million names, for each of 40 000 chunks); a radix tree over cookies (8 bytes an entry while
 * dense, but survivors of long churn lie hundreds of cookies apart, and then each pays for a node).
 *
 * Invariants, verified by dirvec_check():
 *  1. Each leaf is good (dirleaf_check()), and cookies ascend strictly from leaf to leaf. The child
 *     in slot i of a branch holds cookies from slot[i].low on and below slot[i + 1].low;
 *     slot[0].low means nothing, the range comes from above.
 *  2. No leaf is empty, except the last one while a reservation is outstanding.
 *  3. A branch has 1..DIRVEC_BRANCH_MAX children, the root branch at least 2; all leaves lie at
 *     the same depth.
 *  4. count and bytes are the sums over the tree, and next_cookie is above every cookie.
 *  5. While reserved, the last leaf has a free slot within reach of its first cookie.
 *
 * Locking: the directory's mutex. Nothing here reaches a disk.
 */
#include "store/dirvec.h"

#include "store/dirleaf.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The unit test includes this file with a smaller size, so that a few entries make a deep tree. */
#ifndef DIRVEC_BRANCH_MAX
#define DIRVEC_BRANCH_MAX 63u
static_assert(DIRVEC_BRANCH_MAX >= 4, "halves of a branch need two children");
#endif

/*
 * A root grows only when all branches on the way down are full, and sparse neighbours are merged:
 * 14 levels are far more leaves than memory can hold.
 */
#define HEIGHT_MAX 14u

/* No cookie is this great: the upper end of the last leaf. */
#define COOKIE_NONE UINT64_MAX

struct branch_slot {
	uint64_t low;
	void *child;
};

struct branch {
	uint64_t count;
	struct branch_slot slot[];
};

/* The way from the root to the leaf that a cookie belongs to. */
struct path {
	struct branch *node[HEIGHT_MAX];
	uint32_t index[HEIGHT_MAX];
	struct dirleaf *leaf;
	uint64_t upper; /* the leaf's cookies are below this; COOKIE_NONE: it is the last leaf */
};

/* What malloc takes from the heap for so many bytes. */
static uint64_t heap_bytes(size_t size)
{
	return (size + 8 + 15) & ~(size_t)15;
}

static struct dirleaf *leaf_new(struct dirvec *v, uint64_t base, uint32_t capacity)
{
	struct dirleaf *leaf = malloc(dirleaf_size(capacity));

	if (!leaf)
		return NULL;
	leaf->base = base;
	leaf->count = 0;
	leaf->capacity = (uint16_t)capacity;
	v->bytes += heap_bytes(dirleaf_size(capacity));
	return leaf;
}

static void leaf_free(struct dirvec *v, struct dirleaf *leaf)
{
	v->bytes -= heap_bytes(dirleaf_size(leaf->capacity));
	free(leaf);
}

static size_t branch_size(void)
{
	return offsetof(struct branch, slot) + DIRVEC_BRANCH_MAX * sizeof(struct branch_slot);
}

static struct branch *branch_new(struct dirvec *v)
{
	struct branch *branch = malloc(branch_size());

	if (!branch)
		return NULL;
	branch->count = 0;
	v->bytes += heap_bytes(branch_size());
	return branch;
}

static void branch_free(struct dirvec *v, struct branch *branch)
{
	v->bytes -= heap_bytes(branch_size());
	free(branch);
}

/* The index of the child that a cookie belongs to. */
static uint32_t branch_find(const struct branch *branch, uint64_t cookie)
{
	uint32_t low = 1;
	uint32_t high = (uint32_t)branch->count;

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (branch->slot[middle].low <= cookie)
			low = middle + 1;
		else
			high = middle;
	}
	return low - 1;
}

static void branch_insert(struct branch *branch, uint32_t at, uint64_t low, void *child)
{
	struct branch_slot *slot = &branch->slot[at];

	assert(branch->count < DIRVEC_BRANCH_MAX);
	memmove(slot + 1, slot, (branch->count - at) * sizeof(*slot));
	branch->count++;
	slot->low = low;
	slot->child = child;
}

/*
 * Inserts into a full branch: its upper half moves to right, which is new. Insertion at the end
 * moves nothing: a directory that only grows keeps full branches. Returns the lowest cookie of
 * right.
 */
static uint64_t branch_split(struct branch *branch, struct branch *right, uint32_t at, uint64_t low,
			     void *child)
{
	uint32_t count = (uint32_t)branch->count;
	uint32_t keep = at == count ? count : (count + 1) / 2;

	memcpy(right->slot, &branch->slot[keep], (count - keep) * sizeof(branch->slot[0]));
	right->count = count - keep;
	branch->count = keep;
	if (at > keep || at == count)
		branch_insert(right, at - keep, low, child);
	else
		branch_insert(branch, at, low, child);
	return right->slot[0].low;
}

static void descend(const struct dirvec *v, uint64_t cookie, struct path *p)
{
	void *at = v->root;

	p->upper = COOKIE_NONE;
	for (uint32_t level = 0; level < v->height; level++) {
		struct branch *branch = at;
		uint32_t index = branch_find(branch, cookie);

		p->node[level] = branch;
		p->index[level] = index;
		if (index + 1 < branch->count)
			p->upper = branch->slot[index + 1].low;
		at = branch->slot[index].child;
	}
	p->leaf = at;
}

static struct dirleaf *last_leaf(const struct dirvec *v)
{
	void *at = v->root;

	for (uint32_t level = 0; level < v->height; level++) {
		struct branch *branch = at;

		at = branch->slot[branch->count - 1].child;
	}
	return at;
}

/* Makes the path's leaf, which realloc may have moved, known to its parent. */
static void path_relink(struct dirvec *v, struct path *p, struct dirleaf *leaf)
{
	p->leaf = leaf;
	if (v->height == 0)
		v->root = leaf;
	else
		p->node[v->height - 1]->slot[p->index[v->height - 1]].child = leaf;
}

/*
 * Gives the path's leaf another capacity. Returns 0 or -ENOMEM, with nothing changed; a caller that
 * shrinks need not care.
 */
static int leaf_resize(struct dirvec *v, struct path *p, uint32_t capacity)
{
	uint32_t before = p->leaf->capacity;
	struct dirleaf *leaf;

	assert(p->leaf->count <= capacity);
	leaf = realloc(p->leaf, dirleaf_size(capacity));
	if (!leaf)
		return -ENOMEM;
	v->bytes += heap_bytes(dirleaf_size(capacity));
	v->bytes -= heap_bytes(dirleaf_size(before));
	leaf->capacity = (uint16_t)capacity;
	path_relink(v, p, leaf);
	return 0;
}

/*
 * Hangs child into the tree just after the path's leaf. Allocates all it needs before it changes
 * anything. Returns 0 or -ENOMEM. The path is stale after success.
 */
static int tree_insert(struct dirvec *v, const struct path *p, uint64_t low, void *child)
{
	struct branch *spare[HEIGHT_MAX + 1];
	struct branch *root;
	uint32_t full = 0;
	uint32_t need;
	uint32_t got;

	while (full < v->height && p->node[v->height - 1 - full]->count == DIRVEC_BRANCH_MAX)
		full++;
	need = full < v->height ? full : full + 1;
	assert(need <= HEIGHT_MAX);
	for (got = 0; got < need; got++) {
		spare[got] = branch_new(v);
		if (!spare[got])
			goto free_spares;
	}
	for (uint32_t level = v->height; level-- > 0;) {
		struct branch *branch = p->node[level];

		if (branch->count < DIRVEC_BRANCH_MAX) {
			branch_insert(branch, p->index[level] + 1, low, child);
			return 0;
		}
		got--;
		low = branch_split(branch, spare[got], p->index[level] + 1, low, child);
		child = spare[got];
	}
	root = spare[0];
	branch_insert(root, 0, 0, v->root);
	branch_insert(root, 1, low, child);
	v->root = root;
	v->height++;
	return 0;

free_spares:
	while (got-- > 0)
		branch_free(v, spare[got]);
	return -ENOMEM;
}

/* A new empty leaf for a cookie beyond either end of the path's leaf. 0 or -ENOMEM. */
static int tree_add_beside(struct dirvec *v, struct path *p, uint64_t cookie)
{
	struct dirleaf *old = p->leaf;
	struct dirleaf *leaf = leaf_new(v, cookie, dirleaf_capacity(1));
	int err;

	if (!leaf)
		return -ENOMEM;
	if (cookie > dirleaf_cookie(old, 0)) {
		err = tree_insert(v, p, cookie, leaf);
	} else {
		/* The new leaf takes the old one's place, and the old one is inserted after it. */
		path_relink(v, p, leaf);
		err = tree_insert(v, p, dirleaf_cookie(old, 0), old);
		if (err)
			path_relink(v, p, old);
	}
	if (err)
		leaf_free(v, leaf);
	return err;
}

/* Halves the path's leaf, and leaves room in both halves. 0 or -ENOMEM. */
static int tree_split(struct dirvec *v, struct path *p)
{
	struct dirleaf *left = p->leaf;
	uint32_t keep = left->count / 2u;
	uint32_t moved = left->count - keep;
	uint64_t low = dirleaf_cookie(left, keep);
	struct dirleaf *right = leaf_new(v, left->base, dirleaf_capacity(moved + 1));
	int err;

	if (!right)
		return -ENOMEM;
	err = tree_insert(v, p, low, right);
	if (err) {
		leaf_free(v, right);
		return err;
	}
	dirleaf_split(left, right, keep);
	descend(v, low - 1, p);
	(void)leaf_resize(v, p, dirleaf_capacity(keep + 1)); /* shrinks; else it stays as it was */
	return 0;
}

/* Makes the path's leaf one that has a free slot for this cookie. 0 or -ENOMEM. */
static int path_make_room(struct dirvec *v, struct path *p, uint64_t cookie)
{
	struct dirleaf *leaf = p->leaf;
	bool admits = dirleaf_admit(leaf, cookie);
	int err;

	if (admits && leaf->count < leaf->capacity)
		return 0;
	if (admits && leaf->capacity < DIRLEAF_MAX)
		return leaf_resize(v, p, dirleaf_capacity(leaf->count + 1u));
	if (!admits || (p->upper == COOKIE_NONE && dirleaf_find(leaf, cookie) == leaf->count))
		err = tree_add_beside(v, p, cookie);
	else
		err = tree_split(v, p);
	if (err)
		return err;
	descend(v, cookie, p);
	assert(p->leaf->count < p->leaf->capacity);
	return 0;
}

/* Finds, or makes, the place for a new cookie. 0 or -ENOMEM. */
static int path_open(struct dirvec *v, struct path *p, uint64_t cookie)
{
	if (!v->root) {
		v->root = leaf_new(v, cookie, dirleaf_capacity(1));
		if (!v->root)
			return -ENOMEM;
	}
	descend(v, cookie, p);
	return path_make_room(v, p, cookie);
}

/*
 * Merges the child in slot at of a branch with a neighbour if the two are small enough together.
 * Returns the slot to cut, or 0 when nothing was merged (slot 0 is never cut: the left one stays).
 */
static uint32_t branch_merge(struct dirvec *v, struct branch *parent, uint32_t at)
{
	for (uint32_t right_at = at > 0 ? at : 1; right_at <= at + 1; right_at++) {
		struct branch *left;
		struct branch *right;

		if (right_at >= parent->count)
			break;
		left = parent->slot[right_at - 1].child;
		right = parent->slot[right_at].child;
		if (left->count + right->count > DIRVEC_BRANCH_MAX - DIRVEC_BRANCH_MAX / 4)
			continue;
		right->slot[0].low = parent->slot[right_at].low; /* invariant 1 */
		memcpy(&left->slot[left->count], right->slot,
		       right->count * sizeof(right->slot[0]));
		left->count += right->count;
		branch_free(v, right);
		return right_at;
	}
	return 0;
}

/* Removes slot at from the lowest branch of the path; what it pointed to is freed already. */
static void tree_cut(struct dirvec *v, const struct path *p, uint32_t at)
{
	for (uint32_t level = v->height; level-- > 0;) {
		struct branch *branch = p->node[level];

		branch->count--;
		memmove(&branch->slot[at], &branch->slot[at + 1],
			(branch->count - at) * sizeof(branch->slot[0]));
		if (level == 0 || branch->count > DIRVEC_BRANCH_MAX / 2)
			break;
		at = p->index[level - 1];
		if (branch->count == 0) {
			branch_free(v, branch);
			continue;
		}
		at = branch_merge(v, p->node[level - 1], at);
		if (at == 0)
			break;
	}
	while (v->height > 0) {
		struct branch *root = v->root;

		if (root->count > 1)
			break;
		v->root = root->slot[0].child;
		v->height--;
		branch_free(v, root);
	}
}

/* Merges the leaves in slots right_at - 1 and right_at of a branch, if one can hold both. */
static bool leaf_merge_pair(struct dirvec *v, const struct path *p, uint32_t right_at)
{
	struct branch *parent = p->node[v->height - 1];
	struct dirleaf *left = parent->slot[right_at - 1].child;
	struct dirleaf *right = parent->slot[right_at].child;
	uint64_t reach = 0;
	struct dirleaf *into;

	/* A reservation lives in the last leaf, and must survive this. */
	if (v->reserved && right == last_leaf(v))
		reach = v->next_cookie;
	into = dirleaf_join(left, right, reach);
	if (!into)
		return false;
	parent->slot[right_at - 1].child = into;
	leaf_free(v, into == left ? right : left);
	tree_cut(v, p, right_at);
	return true;
}

static bool leaf_merge(struct dirvec *v, const struct path *p)
{
	uint32_t at;

	if (v->height == 0)
		return false;
	at = p->index[v->height - 1];
	if (at > 0 && leaf_merge_pair(v, p, at))
		return true;
	return at + 1 < p->node[v->height - 1]->count && leaf_merge_pair(v, p, at + 1);
}

/* After a removal from the path's leaf: frees it, merges it or shrinks it when that is due. */
static void path_compact(struct dirvec *v, struct path *p)
{
	struct dirleaf *leaf = p->leaf;

	if (leaf->count == 0) {
		if (v->reserved && p->upper == COOKIE_NONE)
			return;
		leaf_free(v, leaf);
		if (v->height == 0)
			v->root = NULL;
		else
			tree_cut(v, p, p->index[v->height - 1]);
		return;
	}
	if (leaf->count > leaf->capacity / 2 || leaf_merge(v, p))
		return;
	if (leaf->count <= leaf->capacity / 4 &&
	    dirleaf_capacity(2u * leaf->count) < leaf->capacity)
		(void)leaf_resize(v, p, dirleaf_capacity(2u * leaf->count)); /* else it stays */
}

void dirvec_init(struct dirvec *v)
{
	*v = (struct dirvec){ .next_cookie = DIRVEC_COOKIE_FIRST };
}

static void tree_free(struct dirvec *v, void *node, uint32_t height)
{
	struct branch *branch = node;

	if (height == 0) {
		leaf_free(v, node);
		return;
	}
	for (uint64_t i = 0; i < branch->count; i++)
		tree_free(v, branch->slot[i].child, height - 1);
	branch_free(v, branch);
}

void dirvec_fini(struct dirvec *v)
{
	if (v->root)
		tree_free(v, v->root, v->height);
	assert(v->bytes == 0);
	dirvec_init(v);
}

int dirvec_reserve(struct dirvec *v)
{
	struct path p;
	int err;

	if (v->next_cookie > DIRVEC_COOKIE_MAX)
		return -EOVERFLOW;
	err = path_open(v, &p, v->next_cookie);
	if (!err)
		v->reserved = true;
	return err;
}

uint64_t dirvec_append(struct dirvec *v, uint64_t number)
{
	uint64_t cookie = v->next_cookie;
	struct dirleaf *leaf = last_leaf(v);

	assert(v->reserved && leaf);
	bool admits = dirleaf_admit(leaf, cookie);
	assert(admits);
	dirleaf_insert(leaf, leaf->count, cookie, number);
	v->next_cookie++;
	v->count++;
	v->reserved = false;
	return cookie;
}

uint64_t dirvec_next_cookie(const struct dirvec *v)
{
	return v->next_cookie;
}

/* The leaf and the index of a cookie that is there; NULL if it is not. */
static struct dirleaf *path_find(const struct dirvec *v, uint64_t cookie, struct path *p,
				 uint32_t *index)
{
	uint32_t at;

	if (!v->root)
		return NULL;
	descend(v, cookie, p);
	at = dirleaf_find(p->leaf, cookie);
	if (at == p->leaf->count || dirleaf_cookie(p->leaf, at) != cookie)
		return NULL;
	*index = at;
	return p->leaf;
}

/* A put may take the reserved slot, or leave an empty last leaf behind: so start without one. */
static void cancel_reservation(struct dirvec *v)
{
	struct path p;

	if (!v->reserved)
		return;
	v->reserved = false;
	descend(v, COOKIE_NONE, &p);
	path_compact(v, &p);
}

int dirvec_put(struct dirvec *v, uint64_t cookie, uint64_t number)
{
	struct path p;
	int err;

	if (cookie < DIRVEC_COOKIE_FIRST || cookie > DIRVEC_COOKIE_MAX)
		return -EINVAL;
	if (dirvec_set(v, cookie, number))
		return 0;
	cancel_reservation(v);
	err = path_open(v, &p, cookie);
	if (err)
		return err;
	dirleaf_insert(p.leaf, dirleaf_find(p.leaf, cookie), cookie, number);
	v->count++;
	if (v->next_cookie <= cookie)
		v->next_cookie = cookie + 1;
	return 0;
}

bool dirvec_set(struct dirvec *v, uint64_t cookie, uint64_t number)
{
	struct path p;
	uint32_t at = 0;
	struct dirleaf *leaf = path_find(v, cookie, &p, &at);

	if (!leaf)
		return false;
	dirleaf_set(leaf, at, number);
	return true;
}

bool dirvec_remove(struct dirvec *v, uint64_t cookie)
{
	struct path p;
	uint32_t at = 0;
	struct dirleaf *leaf = path_find(v, cookie, &p, &at);

	if (!leaf)
		return false;
	dirleaf_remove(leaf, at);
	v->count--;
	path_compact(v, &p);
	return true;
}

size_t dirvec_read(const struct dirvec *v, uint64_t after, struct dirvec_entry *out, size_t n)
{
	size_t filled = 0;
	struct path p;

	if (!v->root || after >= DIRVEC_COOKIE_MAX)
		return 0;
	p.upper = after + 1;
	while (filled < n && p.upper != COOKIE_NONE) {
		uint64_t from = p.upper;

		descend(v, from, &p);
		for (uint32_t i = dirleaf_find(p.leaf, from); i < p.leaf->count && filled < n;
		     i++) {
			out[filled].cookie = dirleaf_cookie(p.leaf, i);
			out[filled].number = dirleaf_number(p.leaf, i);
			filled++;
		}
	}
	return filled;
}

uint64_t dirvec_count(const struct dirvec *v)
{
	return v->count;
}

uint64_t dirvec_bytes(const struct dirvec *v)
{
	return v->bytes;
}

struct census {
	uint64_t count;
	uint64_t bytes;
	bool good;
};

static void check_leaf(const struct dirvec *v, const struct dirleaf *leaf, uint64_t low,
		       uint64_t upper, struct census *census)
{
	census->count += leaf->count;
	census->bytes += heap_bytes(dirleaf_size(leaf->capacity));
	if (!dirleaf_check(leaf))
		census->good = false;
	if (leaf->count == 0 && !(v->reserved && upper == COOKIE_NONE))
		census->good = false;
	for (uint32_t i = 0; i < leaf->count; i++) {
		uint64_t cookie = dirleaf_cookie(leaf, i);

		if (cookie < low || cookie >= upper || cookie >= v->next_cookie)
			census->good = false;
	}
	if (v->reserved && upper == COOKIE_NONE) {
		uint64_t first = leaf->count > 0 ? dirleaf_cookie(leaf, 0) : v->next_cookie;

		if (leaf->count == leaf->capacity || v->next_cookie - first > UINT32_MAX)
			census->good = false;
	}
}

static void check_node(const struct dirvec *v, const void *node, uint32_t height, uint64_t low,
		       uint64_t upper, struct census *census)
{
	const struct branch *branch = node;

	if (height == 0) {
		check_leaf(v, node, low, upper, census);
		return;
	}
	census->bytes += heap_bytes(branch_size());
	if (branch->count < (node == v->root ? 2 : 1) || branch->count > DIRVEC_BRANCH_MAX) {
		census->good = false;
		return;
	}
	for (uint32_t i = 0; i < branch->count; i++) {
		uint64_t from = i > 0 ? branch->slot[i].low : low;
		uint64_t to = i + 1 < branch->count ? branch->slot[i + 1].low : upper;

		if (from >= to)
			census->good = false;
		check_node(v, branch->slot[i].child, height - 1, from, to, census);
	}
}

int dirvec_check(const struct dirvec *v)
{
	struct census census = { .good = true };

	if (v->root)
		check_node(v, v->root, v->height, DIRVEC_COOKIE_FIRST, COOKIE_NONE, &census);
	else if (v->height != 0 || v->reserved)
		return -EUCLEAN;
	if (census.count != v->count || census.bytes != v->bytes)
		return -EUCLEAN;
	return census.good ? 0 : -EUCLEAN;
}
