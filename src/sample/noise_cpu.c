/*
 * The normals of torch's CPU generator: MT19937, and Box-Muller in one of two ways, by the number of values.
 */
#include "sample/noise_rules.h"

#include <math.h>
#include <stdbool.h>

enum { MT_WORDS = 624, MT_MIDDLE = 397, BLOCK = 16 };

typedef struct mt19937 {
    uint32_t word[MT_WORDS];
    int next; /* MT_WORDS: all used */
} mt19937;

static void mt_seed(mt19937 *mt, uint32_t seed)
{
    mt->word[0] = seed;
    for (uint32_t i = 1; i < MT_WORDS; i++) {
        mt->word[i] = 1812433253U * (mt->word[i - 1] ^ (mt->word[i - 1] >> 30)) + i;
    }
    mt->next = MT_WORDS;
}

static inline uint32_t mt_twist(uint32_t upper, uint32_t lower, uint32_t far)
{
    const uint32_t y = (upper & 0x80000000U) | (lower & 0x7fffffffU);
    return far ^ (y >> 1) ^ ((y & 1U) != 0 ? 0x9908b0dfU : 0U);
}

static void mt_refill(mt19937 *mt)
{
    uint32_t *w = mt->word;
    for (int i = 0; i < MT_WORDS - MT_MIDDLE; i++) {
        w[i] = mt_twist(w[i], w[i + 1], w[i + MT_MIDDLE]);
    }
    for (int i = MT_WORDS - MT_MIDDLE; i < MT_WORDS - 1; i++) {
        w[i] = mt_twist(w[i], w[i + 1], w[i + MT_MIDDLE - MT_WORDS]);
    }
    w[MT_WORDS - 1] = mt_twist(w[MT_WORDS - 1], w[0], w[MT_MIDDLE - 1]);
    mt->next = 0;
}

static uint32_t mt_next(mt19937 *mt)
{
    if (mt->next == MT_WORDS) {
        mt_refill(mt);
    }
    uint32_t y = mt->word[mt->next++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680U;
    y ^= (y << 15) & 0xefc60000U;
    return y ^ (y >> 18);
}

static void mt_skip(mt19937 *mt, uint64_t num_words)
{
    while (num_words > (uint64_t)(MT_WORDS - mt->next)) {
        num_words -= (uint64_t)(MT_WORDS - mt->next);
        mt_refill(mt);
    }
    mt->next += (int)num_words;
}

static float uniform_float(mt19937 *mt)
{
    return (float)(mt_next(mt) & 0xffffffU) * 0x1p-24F;
}

static double uniform_double(mt19937 *mt)
{
    const uint64_t high = mt_next(mt);
    const uint64_t low = mt_next(mt);
    return (double)(((high << 32) | low) & ((UINT64_C(1) << 53) - 1)) * 0x1p-53;
}

/* ATen normal_distribution<double>: pairs in double; the second of a pair waits in the generator, across draws too. */
static void fill_few(mt19937 *mt, int draw, float *out, int64_t count)
{
    const int64_t first = (int64_t)draw * count; /* values given out before */
    double sine = 0.0;
    mt_skip(mt, (uint64_t)(first / 2) * 4);
    for (int64_t i = first - first % 2; i < first + count; i++) {
        double value = sine;
        if (i % 2 == 0) {
            const double u1 = uniform_double(mt);
            const double u2 = uniform_double(mt);
            const double radius = sqrt(-2.0 * log1p(-u2));
            const double angle = 2.0 * M_PI * u1;
            sine = radius * sin(angle);
            value = radius * cos(angle);
        }
        if (i >= first) {
            out[i - first] = (float)value;
        }
    }
}

/* 16 uniforms to 16 normals: cosines in the first half, sines in the second. ATen normal_fill_16(). */
static void transform_block(float *block)
{
    for (int i = 0; i < BLOCK / 2; i++) {
        const float u1 = 1.0F - block[i];
        const float angle = (float)(2.0 * M_PI) * block[i + BLOCK / 2];
        const float radius = sqrtf(-2.0F * (float)log((double)u1));
        double s;
        double c;
        sincos((double)angle, &s, &c);
        block[i] = radius * (float)c;
        block[i + BLOCK / 2] = radius * (float)s;
    }
}

/* ATen normal_fill(): all uniforms first, then the blocks; a tail is drawn anew, over the last 16 values. */
static void fill_many(mt19937 *mt, int draw, float *out, int64_t count)
{
    const bool has_tail = count % BLOCK != 0;
    mt_skip(mt, (uint64_t)draw * ((uint64_t)count + (has_tail ? BLOCK : 0)));
    for (int64_t i = 0; i < count; i++) {
        out[i] = uniform_float(mt);
    }
    for (int64_t i = 0; i + BLOCK <= count; i += BLOCK) {
        transform_block(out + i);
    }
    if (has_tail) {
        float *tail = out + count - BLOCK;
        for (int i = 0; i < BLOCK; i++) {
            tail[i] = uniform_float(mt);
        }
        transform_block(tail);
    }
}

void sky_noise_torch_cpu(uint64_t seed, int draw, float *out, int64_t count)
{
    mt19937 mt;
    mt_seed(&mt, (uint32_t)seed); /* torch too uses the low half only */
    if (count < BLOCK) {
        fill_few(&mt, draw, out, count);
    } else {
        fill_many(&mt, draw, out, count);
    }
}
