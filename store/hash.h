/*
 * hash.h: the two hash functions of the store, both 64 bits wide.
 *
 * hash_name() places names: its top ten bits choose the shard, the rest the place in the shard's
 * name table. hash_number() places objects in their shard's object table.
 *
 * Ownership: nothing is allocated.
 * Threads:   pure functions.
 * Errors:    none.
 * Units:     len is bytes.
 * Stability: the top ten bits of hash_name() are part of every object number and so reach the disk;
 *            no reader of them assumes that they still agree with a name (design.md, section 3).
 */
#ifndef STORE_HASH_H
#define STORE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* The library's inline mode; its own warnings (a copy outside the system folders has them) are not
 * ours. Clang knows -Wconversion and its friends under the same names. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wundef"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wcast-qual"
#pragma GCC diagnostic ignored "-Wswitch-enum"
#pragma GCC diagnostic ignored "-Wnull-dereference"
#pragma GCC diagnostic ignored "-Wshadow"
#define XXH_INLINE_ALL
#include <xxhash.h>
#pragma GCC diagnostic pop

/* XXH3-64 of the name, seeded with its directory's number. */
static inline uint64_t hash_name(uint64_t directory, const void *name, size_t len)
{
	return XXH3_64bits_withSeed(name, len, directory);
}

/*
 * The finaliser of SplitMix64 (Sebastiano Vigna, public domain; the constants are David Stafford's
 * "Mix13"). It is a bijection, so two objects never have the same hash, and every bit of the number
 * reaches every bit of the result: numbers of one shard differ only above their low ten bits.
 */
static inline uint64_t hash_number(uint64_t number)
{
	number = (number ^ (number >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	number = (number ^ (number >> 27)) * UINT64_C(0x94D049BB133111EB);
	return number ^ (number >> 31);
}

#endif
