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

#if defined(__AVX512F__)
enum { SKY_CPU_LANES = 16, SKY_CPU_MAX_VECS = 4 };
#elif defined(__AVX2__)
enum { SKY_CPU_LANES = 8, SKY_CPU_MAX_VECS = 2 };
#else
enum { SKY_CPU_LANES = 4, SKY_CPU_MAX_VECS = 2 };
#endif

typedef float sky_vec __attribute__((vector_size(sizeof(float) * SKY_CPU_LANES)));
typedef float sky_vec_unaligned
    __attribute__((vector_size(sizeof(float) * SKY_CPU_LANES), aligned(sizeof(float)), may_alias));

static inline sky_vec sky_vec_load(const float *from)
{
    return *(const sky_vec_unaligned *)from;
}

static inline void sky_vec_store(float *to, sky_vec x)
{
    *(sky_vec_unaligned *)to = x;
}

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
