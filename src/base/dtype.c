#include "base/dtype.h"

static const struct {
    const char *name;
    size_t bytes;
} dtypes[SKY_DTYPE_COUNT] = {
    [SKY_F32] = {"f32", 4}, [SKY_BF16] = {"bf16", 2}, [SKY_F16] = {"f16", 2},      [SKY_F64] = {"f64", 8},
    [SKY_I64] = {"i64", 8}, [SKY_I32] = {"i32", 4},   [SKY_I16] = {"i16", 2},      [SKY_I8] = {"i8", 1},
    [SKY_U8] = {"u8", 1},   [SKY_BOOL] = {"bool", 1}, [SKY_F8_E4M3] = {"e4m3", 1}, [SKY_F8_E5M2] = {"e5m2", 1},
};

size_t sky_dtype_bytes(sky_dtype dtype)
{
    return (unsigned)dtype < SKY_DTYPE_COUNT ? dtypes[dtype].bytes : 0;
}

const char *sky_dtype_name(sky_dtype dtype)
{
    return (unsigned)dtype < SKY_DTYPE_COUNT ? dtypes[dtype].name : "unknown";
}

float sky_f16_to_f32(uint16_t x)
{
    const uint32_t sign = (uint32_t)(x & 0x8000U) << 16;
    uint32_t exponent = (x >> 10) & 0x1fU;
    uint32_t fraction = x & 0x3ffU;
    uint32_t bits;
    if (exponent == 0x1fU) {
        bits = sign | 0x7f800000U | (fraction << 13);
    } else if (exponent != 0) {
        bits = sign | ((exponent + 112U) << 23) | (fraction << 13);
    } else if (fraction == 0) {
        bits = sign;
    } else { /* subnormal: shift until the hidden bit appears */
        exponent = 113U;
        while ((fraction & 0x400U) == 0) {
            fraction <<= 1;
            exponent--;
        }
        bits = sign | (exponent << 23) | ((fraction & 0x3ffU) << 13);
    }
    float y;
    memcpy(&y, &bits, sizeof y);
    return y;
}

uint16_t sky_f32_to_f16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint16_t sign = (uint16_t)((bits >> 16) & 0x8000U);
    const uint32_t magnitude = bits & 0x7fffffffU;
    if (magnitude > 0x7f800000U) {
        return (uint16_t)(sign | 0x7e00U);
    }
    if (magnitude >= 0x477ff000U) { /* rounds to 65536 or more */
        return (uint16_t)(sign | 0x7c00U);
    }
    if (magnitude < 0x33000001U) { /* at most half of the smallest subnormal */
        return sign;
    }
    uint32_t shift = 13;
    uint32_t fraction = magnitude & 0x7fffffU;
    uint32_t half_bits = 0;
    const uint32_t exponent = magnitude >> 23;
    if (exponent < 113U) {
        shift += 113U - exponent;
        fraction |= 0x800000U;
    } else {
        half_bits = (exponent - 112U) << 10;
    }
    half_bits += fraction >> shift;
    const uint32_t rest = fraction & ((1U << shift) - 1U);
    const uint32_t half = 1U << (shift - 1U);
    if (rest > half || (rest == half && (half_bits & 1U) != 0)) {
        half_bits++;
    }
    return (uint16_t)(sign | half_bits);
}

float sky_e4m3_to_f32(uint8_t x)
{
    const uint32_t sign = (uint32_t)(x & 0x80U) << 24;
    const uint32_t magnitude = x & 0x7fU;
    uint32_t bits;
    float y;
    if (magnitude == 0x7fU) {
        bits = sign | 0x7fc00000U;
    } else if (magnitude >= 0x08U) {
        bits = sign | ((magnitude << 20) + (120U << 23)); /* biases 127 and 7 */
    } else {
        y = (float)magnitude * 0x1p-9F;
        memcpy(&bits, &y, sizeof bits);
        bits |= sign;
    }
    memcpy(&y, &bits, sizeof y);
    return y;
}

uint8_t sky_f32_to_e4m3(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint32_t sign = (bits >> 24) & 0x80U;
    const uint32_t magnitude = bits & 0x7fffffffU;
    uint32_t code;
    if (magnitude > 0x7f800000U) {
        return 0x7fU;
    }
    if (magnitude >= 0x43e00000U) { /* 448 */
        code = 0x7eU;
    } else if (magnitude >= 0x3c800000U) { /* 2^-6: drop 20 bits of fraction, a carry goes into the exponent */
        code = ((magnitude + 0x7ffffU + ((magnitude >> 20) & 1U)) >> 20) - (120U << 3);
    } else if (magnitude < 0x3a000000U) { /* 2^-11, so less than half a step */
        code = 0;
    } else {
        const uint32_t fraction = (magnitude & 0x7fffffU) | 0x800000U;
        const uint32_t shift = 141U - (magnitude >> 23); /* 21 for an exponent of 2^-7, whose code is 4 to 8 */
        const uint32_t rest = fraction & ((1U << shift) - 1U);
        const uint32_t half = 1U << (shift - 1U);
        code = fraction >> shift;
        if (rest > half || (rest == half && (code & 1U) != 0)) {
            code++;
        }
    }
    return (uint8_t)(sign | code);
}

/* Loops for each pair that the compiler can vectorise; memcpy, because neither side need be aligned. */
#define CONVERT_LOOP(from_type, to_type, expression) \
    for (size_t i = 0; i < count; i++) {             \
        from_type x;                                 \
        memcpy(&x, from + i * sizeof x, sizeof x);   \
        const to_type y = (expression);              \
        memcpy(to + i * sizeof y, &y, sizeof y);     \
    }

static void to_f32(unsigned char *to, const unsigned char *from, sky_dtype from_dtype, size_t count)
{
    if (from_dtype == SKY_BF16) {
        CONVERT_LOOP(uint16_t, float, sky_bf16_to_f32(x))
    } else if (from_dtype == SKY_F16) {
        CONVERT_LOOP(uint16_t, float, sky_f16_to_f32(x))
    } else {
        CONVERT_LOOP(double, float, (float)x)
    }
}

static void to_bf16(unsigned char *to, const unsigned char *from, sky_dtype from_dtype, size_t count)
{
    if (from_dtype == SKY_F32) {
        CONVERT_LOOP(float, uint16_t, sky_f32_to_bf16(x))
    } else if (from_dtype == SKY_F16) {
        CONVERT_LOOP(uint16_t, uint16_t, sky_f32_to_bf16(sky_f16_to_f32(x)))
    } else {
        CONVERT_LOOP(double, uint16_t, sky_f32_to_bf16((float)x))
    }
}

static void to_f16(unsigned char *to, const unsigned char *from, sky_dtype from_dtype, size_t count)
{
    if (from_dtype == SKY_F32) {
        CONVERT_LOOP(float, uint16_t, sky_f32_to_f16(x))
    } else if (from_dtype == SKY_BF16) {
        CONVERT_LOOP(uint16_t, uint16_t, sky_f32_to_f16(sky_bf16_to_f32(x)))
    } else {
        CONVERT_LOOP(double, uint16_t, sky_f32_to_f16((float)x))
    }
}

bool sky_dtype_convert(void *dst, sky_dtype dst_dtype, const void *src, sky_dtype src_dtype, size_t count)
{
    if (src_dtype != SKY_F32 && src_dtype != SKY_BF16 && src_dtype != SKY_F16 && src_dtype != SKY_F64) {
        return false;
    }
    if (src_dtype == dst_dtype && dst_dtype != SKY_F64) {
        memcpy(dst, src, count * sky_dtype_bytes(dst_dtype));
        return true;
    }
    switch (dst_dtype) {
    case SKY_F32:
        to_f32(dst, src, src_dtype, count);
        return true;
    case SKY_BF16:
        to_bf16(dst, src, src_dtype, count);
        return true;
    case SKY_F16:
        to_f16(dst, src, src_dtype, count);
        return true;
    default:
        return false;
    }
}
