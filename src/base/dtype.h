/*
 * base/dtype.h - number formats of tensors and the conversions between them
 *
 * Conversions to narrower floats round to nearest even; f32 to f16 overflows to infinity as IEEE says, f32 to e4m3, which has
 * no infinity, to the largest number; NaN stays NaN.
 */
#ifndef SKY_BASE_DTYPE_H
#define SKY_BASE_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum sky_dtype {
    SKY_F32 = 0,
    SKY_BF16,
    SKY_F16,
    SKY_F64,
    SKY_I64,
    SKY_I32,
    SKY_I16,
    SKY_I8,
    SKY_U8,
    SKY_BOOL,
    SKY_F8_E4M3,
    SKY_F8_E5M2,
    SKY_DTYPE_COUNT
} sky_dtype;

/* Bytes of one element; 0 for an unknown value. */
size_t sky_dtype_bytes(sky_dtype dtype);

/* Lower-case name as in messages: "f32", "bf16", ... */
const char *sky_dtype_name(sky_dtype dtype);

static inline float sky_bf16_to_f32(uint16_t x)
{
    const uint32_t bits = (uint32_t)x << 16;
    float y;
    memcpy(&y, &bits, sizeof y);
    return y;
}

static inline uint16_t sky_f32_to_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7fffffffU) > 0x7f800000U) {
        return (uint16_t)((bits >> 16) | 0x40U); /* NaN, kept quiet */
    }
    bits += 0x7fffU + ((bits >> 16) & 1U);
    return (uint16_t)(bits >> 16);
}

/* The nearest bf16 value, as f32. */
static inline float sky_round_bf16(float x)
{
    return sky_bf16_to_f32(sky_f32_to_bf16(x));
}

float sky_f16_to_f32(uint16_t x);
uint16_t sky_f32_to_f16(float x);

/*
 * e4m3 without infinities ("fn"): sign, 4 bits of exponent with bias 7, 3 bits of fraction; up to 448 (0x7e), subnormal below
 * 2^-6 in steps of 2^-9. 0x7f and 0xff are NaN; NaN becomes 0x7f whatever its sign. Source: Micikevicius et al. 2022.
 */
float sky_e4m3_to_f32(uint8_t x);
uint8_t sky_f32_to_e4m3(float x);

/*
 * Converts count elements from src (type src_dtype) to dst (type dst_dtype); neither needs to be aligned.
 * Floating source types f32, bf16, f16, f64; destinations f32, bf16, f16. False for any other pair, nothing written.
 */
bool sky_dtype_convert(void *dst, sky_dtype dst_dtype, const void *src, sky_dtype src_dtype, size_t count);

#endif
