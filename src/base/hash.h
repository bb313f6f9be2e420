/*
 * base/hash.h - a 64-bit hash of bytes, for fingerprints
 *
 * H(stage, group, bytes): of 64-bit words in the machine's byte order. Other bytes give another number but for a chance of
 * 2^-64. It guards against accidents, not people. Every backend computes the same numbers (ops/hash_rows.h).
 */
#ifndef SKY_BASE_HASH_H
#define SKY_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { SKY_HASH_LANES = 4 };

/* Odd, with bits in no pattern: the fractions of the golden ratio and of the square root of 2. */
#define SKY_HASH_MULTIPLIER_A UINT64_C(0x9e3779b97f4a7c15)
#define SKY_HASH_MULTIPLIER_B UINT64_C(0x6a09e667f3bcc909)

static inline uint64_t sky_hash_rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

/*
 * Takes in a word. For a given state it maps words one to one, and for a given word states: of two inputs that differ in
 * one word, the states differ from there to the end.
 */
static inline uint64_t sky_hash_take(uint64_t state, uint64_t word)
{
    return sky_hash_rotate(state ^ (word * SKY_HASH_MULTIPLIER_A), 29) * SKY_HASH_MULTIPLIER_B;
}

/* One to one; every bit of x reaches every bit of the result (a sum of hashes must not keep a trace of single bits). */
static inline uint64_t sky_hash_stir(uint64_t x)
{
    x = (x ^ x >> 32) * SKY_HASH_MULTIPLIER_A;
    x = (x ^ x >> 29) * SKY_HASH_MULTIPLIER_B;
    return x ^ x >> 32;
}

/* The state before the first word. */
static inline uint64_t sky_hash_start(uint64_t stage, uint64_t group, uint64_t bytes)
{
    return sky_hash_take(sky_hash_take(sky_hash_take(0, stage), group), bytes);
}

/* From the lanes' last states. */
static inline uint64_t sky_hash_end(uint64_t start, const uint64_t *lanes)
{
    uint64_t all = start;
    for (int i = 0; i < SKY_HASH_LANES; i++) {
        all = sky_hash_take(all, lanes[i]);
    }
    return sky_hash_stir(all);
}

/*
 * H(stage, group, bytes). Four lanes take every fourth word each, so that a multiplication need not wait for the one before;
 * of the last word the bytes that are missing count as zero, and lanes that get no word more keep their state.
 */
static inline uint64_t sky_hash(uint64_t stage, uint64_t group, const void *data, size_t bytes)
{
    enum { WORD = 8 };
    const unsigned char *p = data;
    const uint64_t start = sky_hash_start(stage, group, bytes);
    uint64_t lanes[SKY_HASH_LANES] = {start, start, start, start};
    size_t left = bytes;
    uint64_t word = 0;
    for (; left >= SKY_HASH_LANES * WORD; left -= SKY_HASH_LANES * WORD, p += SKY_HASH_LANES * WORD) {
        for (int i = 0; i < SKY_HASH_LANES; i++) {
            memcpy(&word, p + i * WORD, WORD);
            lanes[i] = sky_hash_take(lanes[i], word);
        }
    }
    for (int i = 0; left > 0; i++) {
        const size_t len = left < WORD ? left : WORD;
        word = 0;
        memcpy(&word, p, len);
        lanes[i] = sky_hash_take(lanes[i], word);
        left -= len;
        p += len;
    }
    return sky_hash_end(start, lanes);
}

#endif
