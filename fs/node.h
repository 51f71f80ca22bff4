/*
 * node.h: what the kernel is told of an object, and for how long it may believe it.
 *
 * Ownership: nothing is allocated.
 * Threads:   any; nothing is kept.
 * Errors:    none.
 * Units:     timeouts are seconds, as libfuse wants them.
 */
#ifndef FS_NODE_H
#define FS_NODE_H

#include "fs/compat.h"
#include "store/store.h"

#include <sys/stat.h>

/* Fills what stat(2) tells. */
void node_stat(const struct store_attr *attr, struct stat *st);

/* How long attributes may be kept. */
double node_attr_timeout(const struct store_attr *attr);

/* Fills an answer to LOOKUP and its like. */
void node_entry(const struct store_attr *attr, struct fuse_entry_param *entry);

/* Fills the answer "there is no such name", which the kernel keeps. */
void node_entry_absent(struct fuse_entry_param *entry);

/* Fills the answer for a virtual node, which the kernel must ask for every time. */
void node_entry_virtual(uint64_t number, const struct stat *st, struct fuse_entry_param *entry);

#endif
