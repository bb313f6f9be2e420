/*
 * ops/cpu/vec.h - vectors of floats, and the functions of libm that ops need, in a form that compilers vectorise
 *
 * Everything is elementwise and every fused multiply-add is written down, so a result does not depend on which lane, tail
 * or instruction set computed it, as long as the machine has fused multiply-add at all.
 */
#ifndef SKY_OPS_CPU_VEC_H
#define SKY_OPS_CPU_VEC_H

#include <stdint.h>
#include <string.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

/* The tile of a matrix product is up to SKY_CPU_MAX_VECS vectors across: what the number of registers allows. */
#if defined(__AVX512F__)
#define SKY_CPU_VEC_BYTES 64
#define SKY_VEC_EACH_LANE(f, h)                                                                                   \
    f(0, h), f(1, h), f(2, h), f(3, h), f(4, h), f(5, h), f(6, h), f(7, h), f(8, h), f(9, h), f(10, h), f(11, h), \
        f(12, h), f(13, h), f(14, h), f(15, h)
enum { SKY_CPU_LANES = 16, SKY_CPU_MAX_VECS = 4 };
#elif defined(__AVX2__)
#define SKY_CPU_VEC_BYTES       32
#define SKY_VEC_EACH_LANE(f, h) f(0, h), f(1, h), f(2, h), f(3, h), f(4, h), f(5, h), f(6, h), f(7, h)
enum { SKY_CPU_LANES = 8, SKY_CPU_MAX_VECS = 2 };
#else
#define SKY_CPU_VEC_BYTES       16
#define SKY_VEC_EACH_LANE(f, h) f(0, h), f(1, h), f(2, h), f(3, h)
enum { SKY_CPU_LANES = 4, SKY_CPU_MAX_VECS = 2 };
#endif

/* For the loop that follows: its iterations do not touch each other's memory; it is to be unrolled whole. */
#if defined(__clang__)
#define SKY_LOOP_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#define SKY_LOOP_UNROLLED    _Pragma("clang loop unroll(full)")
#else
#define SKY_LOOP_INDEPENDENT _Pragma("GCC ivdep")
#define SKY_LOOP_UNROLLED    _Pragma("GCC unroll 16")
#endif

typedef float sky_vec __attribute__((vector_size(SKY_CPU_VEC_BYTES)));
typedef uint32_t sky_vec_bits __attribute__((vector_size(SKY_CPU_VEC_BYTES)));
typedef uint16_t sky_vec_half __attribute__((vector_size(SKY_CPU_VEC_BYTES / 2)));
typedef uint16_t sky_vec_half_unaligned
    __attribute__((vector_size(SKY_CPU_VEC_BYTES / 2), aligned(sizeof(uint16_t)), may_alias));
typedef uint8_t sky_vec_byte_unaligned
    __attribute__((vector_size(SKY_CPU_VEC_BYTES / 4), aligned(sizeof(uint8_t)), may_alias));
typedef int8_t sky_vec_i8_unaligned
    __attribute__((vector_size(SKY_CPU_VEC_BYTES / 4), aligned(sizeof(int8_t)), may_alias));
typedef int32_t sky_vec_ints __attribute__((vector_size(SKY_CPU_VEC_BYTES)));
typedef float sky_vec_unaligned __attribute__((vector_size(SKY_CPU_VEC_BYTES), aligned(sizeof(float)), may_alias));

static inline sky_vec sky_vec_load(const float *from)
{
    return *(const sky_vec_unaligned *)from;
}

static inline void sky_vec_store(float *to, sky_vec x)
{
    *(sky_vec_unaligned *)to = x;
}

/* Widens bf16. */
static inline sky_vec sky_vec_load_bf16(const uint16_t *from)
{
    const sky_vec_half half = *(const sky_vec_half_unaligned *)from;
    return (sky_vec)(__builtin_convertvector(half, sky_vec_bits) << 16);
}

static inline sky_vec sky_vec_all(float x)
{
    return x - (sky_vec){0};
}

/* In each lane: a > b ? a : b, a < b ? a : b (b where one is NaN), and a * b + c rounded once where the machine can. */
#if defined(__AVX512F__)
static inline sky_vec sky_vec_max(sky_vec a, sky_vec b)
{
    return (sky_vec)_mm512_max_ps((__m512)a, (__m512)b);
}
static inline sky_vec sky_vec_min(sky_vec a, sky_vec b)
{
    return (sky_vec)_mm512_min_ps((__m512)a, (__m512)b);
}
static inline sky_vec sky_vec_madd(sky_vec a, sky_vec b, sky_vec c)
{
    return (sky_vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
#elif defined(__AVX2__)
static inline sky_vec sky_vec_max(sky_vec a, sky_vec b)
{
    return (sky_vec)_mm256_max_ps((__m256)a, (__m256)b);
}
static inline sky_vec sky_vec_min(sky_vec a, sky_vec b)
{
    return (sky_vec)_mm256_min_ps((__m256)a, (__m256)b);
}
static inline sky_vec sky_vec_madd(sky_vec a, sky_vec b, sky_vec c)
{
    return (sky_vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
#else
static inline sky_vec sky_vec_max(sky_vec a, sky_vec b)
{
    const sky_vec_bits mask = (sky_vec_bits)(a > b);
    return (sky_vec)((mask & (sky_vec_bits)a) | (~mask & (sky_vec_bits)b));
}
static inline sky_vec sky_vec_min(sky_vec a, sky_vec b)
{
    const sky_vec_bits mask = (sky_vec_bits)(a < b);
    return (sky_vec)((mask & (sky_vec_bits)a) | (~mask & (sky_vec_bits)b));
}
static inline sky_vec sky_vec_madd(sky_vec a, sky_vec b, sky_vec c)
{
#if defined(__ARM_FEATURE_FMA)
    for (int i = 0; i < SKY_CPU_LANES; i++) {
        c[i] = __builtin_fmaf(a[i], b[i], c[i]);
    }
    return c;
#else
    return a * b + c;
#endif
}
#endif

/*
 * Lanes of a and then of b, numbered on, in the order that number(lane, h) gives; h is a constant. Lanes i and i ^ h change
 * places in SKY_VEC_SWAP; an h that the vector is too short for leaves it as it is.
 */
#define SKY_VEC_PICK(a, b, number, h) __builtin_shufflevector(a, b, SKY_VEC_EACH_LANE(number, h))
#define SKY_VEC_SWAPPED(lane, h)      (((lane) ^ (h)) % SKY_CPU_LANES)
#define SKY_VEC_SWAP(x, h)            SKY_VEC_PICK(x, x, SKY_VEC_SWAPPED, h)

/* a * b + c, rounded once where the machine can. */
static inline float sky_madd(float a, float b, float c)
{
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

static inline uint32_t sky_float_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float sky_bits_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The number that an e4m3 code stands for, and the code of x: to nearest even, saturating, NaN 0x7f. Free of branches. */
static inline float sky_e4m3_value(uint32_t code)
{
    const uint32_t magnitude = code & 0x7fU;
    const uint32_t subnormal = sky_float_bits((float)(int32_t)magnitude * 0x1p-9F);
    const uint32_t normal = (magnitude << 20) + (120U << 23);
    uint32_t bits = magnitude < 8U ? subnormal : normal;
    bits = magnitude == 0x7fU ? 0x7fc00000U : bits;
    return sky_bits_float(bits | (code & 0x80U) << 24);
}

/* sky_e4m3_value() of the codes at `from`, and i8. */
static inline sky_vec sky_vec_load_e4m3(const uint8_t *from)
{
    const sky_vec_bits code = __builtin_convertvector(*(const sky_vec_byte_unaligned *)from, sky_vec_bits);
    const sky_vec_bits magnitude = code & 0x7fU;
    const sky_vec subnormal = __builtin_convertvector((sky_vec_ints)magnitude, sky_vec) * sky_vec_all(0x1p-9F);
    const sky_vec_bits normal = (magnitude << 20) + (120U << 23);
    const sky_vec_bits is_subnormal = (sky_vec_bits)(magnitude < 8U);
    const sky_vec_bits is_nan = (sky_vec_bits)(magnitude == 0x7fU);
    const sky_vec_bits bits = (is_subnormal & (sky_vec_bits)subnormal) | (~is_subnormal & normal);
    return (sky_vec)(bits | (is_nan & 0x7fc00000U) | (code & 0x80U) << 24);
}

static inline sky_vec sky_vec_load_i8(const int8_t *from)
{
    return __builtin_convertvector(__builtin_convertvector(*(const sky_vec_i8_unaligned *)from, sky_vec_ints), sky_vec);
}

/* Adding 2^20 times the power of two below x, at least 2^-6, rounds to codes, which then sit in the low bits. */
static inline uint32_t sky_e4m3_code(float x)
{
    const uint32_t bits = sky_float_bits(x);
    float size = sky_bits_float(bits & 0x7fffffffU);
    size = size < 448.0F ? size : 448.0F;
    const uint32_t power = sky_float_bits(size > 0x1p-6F ? size : 0x1p-6F) & 0x7f800000U;
    const float magic = sky_bits_float(power + (20U << 23));
    const uint32_t steps = sky_float_bits(size + magic) - sky_float_bits(magic);
    const uint32_t code = (power >> 20) - (121U << 3) + steps;
    return x != x ? 0x7fU : (code | (bits >> 24 & 0x80U));
}

/* The value of the nearest code in each lane, for numbers from 0 to 448. */
static inline sky_vec sky_vec_round_e4m3(sky_vec x)
{
    const sky_vec_bits power = (sky_vec_bits)sky_vec_max(x, sky_vec_all(0x1p-6F)) & 0x7f800000U;
    const sky_vec magic = (sky_vec)(power + (20U << 23));
    return (x + magic) - magic;
}

/*
 * exp(x) to 1e-7 relative; the argument is held to [-87, 88], so the result is normal and finite. NaN stays NaN.
 * Cody and Waite's reduction, Cephes' polynomial.
 */
static inline float sky_exp(float x)
{
    const float magic = 12582912.0F; /* 1.5 * 2^23: adding it rounds to an integer, which then sits in the low bits */
    x = x < -87.0F ? -87.0F : x;
    x = x > 88.0F ? 88.0F : x;
    const float shifted = sky_madd(x, 1.44269504088896341F, magic);
    const float n = shifted - magic;
    float r = sky_madd(n, -0.693359375F, x);
    r = sky_madd(n, 2.12194440e-4F, r);
    float p = 1.9875691500e-4F;
    p = sky_madd(p, r, 1.3981999507e-3F);
    p = sky_madd(p, r, 8.3334519073e-3F);
    p = sky_madd(p, r, 4.1665795894e-2F);
    p = sky_madd(p, r, 1.6666665459e-1F);
    p = sky_madd(p, r, 5.0000001201e-1F);
    p = sky_madd(p, r * r, r) + 1.0F;
    return p * sky_bits_float((sky_float_bits(shifted) << 23) + 0x3f800000U);
}

/* sky_exp() in each lane, to the same bits. */
static inline sky_vec sky_vec_exp(sky_vec x)
{
    const sky_vec magic = sky_vec_all(12582912.0F);
    x = sky_vec_max(sky_vec_all(-87.0F), x);
    x = sky_vec_min(sky_vec_all(88.0F), x);
    const sky_vec shifted = sky_vec_madd(x, sky_vec_all(1.44269504088896341F), magic);
    const sky_vec n = shifted - magic;
    sky_vec r = sky_vec_madd(n, sky_vec_all(-0.693359375F), x);
    r = sky_vec_madd(n, sky_vec_all(2.12194440e-4F), r);
    sky_vec p = sky_vec_all(1.9875691500e-4F);
    p = sky_vec_madd(p, r, sky_vec_all(1.3981999507e-3F));
    p = sky_vec_madd(p, r, sky_vec_all(8.3334519073e-3F));
    p = sky_vec_madd(p, r, sky_vec_all(4.1665795894e-2F));
    p = sky_vec_madd(p, r, sky_vec_all(1.6666665459e-1F));
    p = sky_vec_madd(p, r, sky_vec_all(5.0000001201e-1F));
    p = sky_vec_madd(p, r * r, r) + sky_vec_all(1.0F);
    return p * (sky_vec)(((sky_vec_bits)shifted << 23) + 0x3f800000U);
}

static inline sky_vec sky_vec_silu(sky_vec x)
{
    return x / (sky_vec_all(1.0F) + sky_vec_exp(-x));
}

/* x / (1 + exp(-x)) */
static inline float sky_silu(float x)
{
    return x / (1.0F + sky_exp(-x));
}

/* 0.5 x (1 + tanh(u)) = x / (1 + exp(-2u)) with u = sqrt(2/pi) (x + 0.044715 x^3); no cancellation for negative x. */
static inline float sky_gelu_tanh(float x)
{
    const float u = sky_madd(0.044715F * x * x, x, x);
    return x / (1.0F + sky_exp(-1.59576912160573071F * u));
}

/*
 * 0.5 x (1 + erf(x / sqrt 2)) = x (1 - e) for positive and x e for negative x, with 2 e = erfc(a), a = |x| / sqrt 2;
 * erfc(a) = exp(-a^2) p((a - 2) / (a + 2)) / (1 + 2a), p fitted on Chebyshev points of a in [0, 10] to 1e-8.
 */
static inline float sky_gelu_erf(float x)
{
    float a = (x < 0.0F ? -x : x) * 0.707106781186547524F;
    a = a > 10.0F ? 10.0F : a;
    const float q = (a - 2.0F) / (a + 2.0F);
    float p = 2.3631995645700954e-05F;
    p = sky_madd(p, q, -0.0003706792776938528F);
    p = sky_madd(p, q, -0.0012539473827928305F);
    p = sky_madd(p, q, 0.001279022777453065F);
    p = sky_madd(p, q, 0.008640526793897152F);
    p = sky_madd(p, q, -0.008046395145356655F);
    p = sky_madd(p, q, -0.05420587584376335F);
    p = sky_madd(p, q, 0.16405338048934937F);
    p = sky_madd(p, q, -0.16603128612041473F);
    p = sky_madd(p, q, -0.09276390820741653F);
    p = sky_madd(p, q, 1.2769783735275269F);
    const float e = 0.5F * sky_exp(-a * a) * p / sky_madd(2.0F, a, 1.0F);
    return x * (x < 0.0F ? e : 1.0F - e);
}

#endif
