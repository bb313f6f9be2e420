/*
 * ops/cpu/codes.h - 8-bit codes and sums in fixed point, of runs of f32
 *
 * Largest values are found among bit patterns without their sign, which are ordered as the numbers are, with NaN above all:
 * exact, and the same in any order. The formulas are those of ops/quantize_rows.h and ops/channel_sums.h.
 */
#ifndef SKY_OPS_CPU_CODES_H
#define SKY_OPS_CPU_CODES_H

#include "ops/cpu/blocks.h"

static inline uint32_t sky_amax_bits(const float *x, int64_t len, uint32_t amax)
{
    for (int64_t i = 0; i < len; i++) {
        const uint32_t size = sky_float_bits(x[i]) & 0x7fffffffU;
        amax = size > amax ? size : amax;
    }
    return amax;
}

static inline float sky_amax_at_least(float amax)
{
    return amax < 1e-12F ? 1e-12F : amax;
}

static inline void sky_encode_e4m3(uint8_t *restrict codes, const float *restrict x, int64_t len, float factor)
{
    for (int64_t i = 0; i < len; i++) {
        codes[i] = (uint8_t)sky_e4m3_code(x[i] * factor);
    }
}

/* Adding 1.5 * 2^23 rounds to an integer, which then sits in the low bits. Nothing here is larger than 127. */
static inline void sky_encode_i8(uint8_t *restrict codes, const float *restrict x, int64_t len, float factor)
{
    for (int64_t i = 0; i < len; i++) {
        const float scaled = x[i] * factor;
        const uint32_t integer = sky_float_bits(scaled + 12582912.0F);
        codes[i] = (uint8_t)(scaled != scaled ? 0U : integer);
    }
}

/* Codes e4m3 or i8 of a row, and its scale. */
static inline void sky_encode_row(const sky_tensor *codes, const sky_tensor *scale, int64_t row, const float *x,
                                  int64_t cols)
{
    uint8_t *to = (uint8_t *)codes->data + row * cols;
    const float amax = sky_amax_at_least(sky_bits_float(sky_amax_bits(x, cols, 0)));
    if (codes->dtype == SKY_F8_E4M3) {
        sky_encode_e4m3(to, x, cols, 1.0F / amax * 448.0F);
        ((float *)scale->data)[row] = amax / 448.0F;
    } else {
        sky_encode_i8(to, x, cols, 1.0F / amax * 127.0F);
        ((float *)scale->data)[row] = amax / 127.0F;
    }
}

/* x in units of 2^-32, held to [-limit, limit]; NaN: 0. */
static inline int64_t sky_fixed(float x, int64_t limit)
{
    const double scaled = __builtin_rint((double)x * 0x1p32);
    if (scaled != scaled) {
        return 0;
    }
    if (scaled >= (double)limit || scaled <= -(double)limit) {
        return scaled < 0.0 ? -limit : limit;
    }
    return (int64_t)scaled;
}

/* The same for |x| below 2^18: adding 1.5 * 2^52 rounds to an integer, which then sits in the low bits. */
static inline int64_t sky_fixed_small(float x)
{
    const double magic = 0x1.8p52;
    const double shifted = (double)x * 0x1p32 + magic;
    int64_t bits;
    int64_t magic_bits;
    memcpy(&bits, &shifted, sizeof bits);
    memcpy(&magic_bits, &magic, sizeof bits);
    return bits - magic_bits;
}

/* sums[i] += x[i] in units of 2^-32, held to [-limit, limit]. */
static inline void sky_add_fixed(int64_t *restrict sums, const float *restrict x, int64_t len, int64_t limit)
{
    const float small = limit < INT64_C(1) << 50 ? (float)(limit >> 33) : 0x1p17F; /* safely below both bounds */
    if (sky_amax_bits(x, len, 0) <= sky_float_bits(small)) {
        for (int64_t i = 0; i < len; i++) {
            sums[i] += sky_fixed_small(x[i]);
        }
    } else {
        for (int64_t i = 0; i < len; i++) {
            sums[i] += sky_fixed(x[i], limit);
        }
    }
}

#endif
