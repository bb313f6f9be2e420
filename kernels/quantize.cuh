/*
 * kernels/quantize.cuh - codes, scales and fixed-point sums on one number (private to kernels)
 *
 * Step by step as ops/ref/quantize.c: every backend gives the same bytes.
 */
#ifndef SKY_KERNELS_QUANTIZE_CUH
#define SKY_KERNELS_QUANTIZE_CUH

#include "kernels/launch.cuh"

/* The amax behind the largest magnitude's bits: at least 1e-12, NaN where there was one. */
static __device__ __forceinline__ float amax_of_bits(unsigned bits)
{
    const float amax = __uint_as_float(bits);
    return amax < 1e-12F ? 1e-12F : amax;
}

static __device__ __forceinline__ float factor_of(float largest, float amax)
{
    return __fmul_rn(__fdiv_rn(1.0F, amax), largest);
}

static __device__ __forceinline__ uint8_t i8_code(float x)
{
    return isnan(x) ? 0 : (uint8_t)(int8_t)rintf(x);
}

/* x in units of 2^-32, held to [-limit, limit]. */
static __device__ __forceinline__ int64_t fixed_of(float x, int64_t limit)
{
    const double scaled = rint((double)x * 0x1p32);
    if (isnan(scaled)) {
        return 0;
    }
    if (fabs(scaled) >= (double)limit) {
        return scaled < 0.0 ? -limit : limit;
    }
    return (int64_t)scaled;
}

/* sky_v_tile_position() of ops/quantize_channels.h. */
static __device__ __forceinline__ int tile_position(int key)
{
    return (key & ~15) | (key & 1) | (key & 8) >> 2 | (key & 6) << 1;
}

/* ops/head_parts.h: the part of a row of `width` elements a head that `head` is in, and where its row begins. */
struct head_parts {
    int64_t num_heads;
    int num_parts;
    __device__ int64_t row(int64_t head, int64_t num_rows, int64_t width, int64_t row) const
    {
        const int64_t share = num_heads / num_parts;
        const int64_t larger = num_heads % num_parts; /* the first parts hold one more */
        int64_t first;
        int64_t count;
        if (head < larger * (share + 1)) {
            count = share + 1;
            first = head / count * count;
        } else {
            count = share;
            first = larger + (head - larger) / share * share;
        }
        return (first * num_rows + count * row + head - first) * width;
    }
};

static inline head_parts parts_of(int64_t num_heads, int num_parts)
{
    return {num_heads, sky_num_parts(num_parts)};
}

#endif
