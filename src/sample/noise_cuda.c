/*
 * The normals of torch's CUDA generator: Philox4x32-10 and Box-Muller, in the order of ATen's kernel.
 *
 * The kernel runs T threads, at most what fits on the GPU at once, so the values depend on the number of multiprocessors
 * as soon as count is above that. Thread i takes the elements i, i + T, i + 2T, ...: four of them (its "lanes") from each
 * counter value.
 */
#include "sample/noise_rules.h"

#include <math.h>

enum {
    BLOCK_THREADS = 256,
    MULTIPROCESSOR_THREADS = 2048, /* of every data-centre GPU since V100; consumer cards have 1,536 */
    NUM_LANES = 4,
};

/* Counter (subsequence in the high half) and key to four words. Salmon et al. 2011, table 2. */
static inline void philox4x32_10(uint64_t position, uint64_t subsequence, uint64_t seed, uint32_t out[NUM_LANES])
{
    uint32_t c0 = (uint32_t)position;
    uint32_t c1 = (uint32_t)(position >> 32);
    uint32_t c2 = (uint32_t)subsequence;
    uint32_t c3 = (uint32_t)(subsequence >> 32);
    uint32_t k0 = (uint32_t)seed;
    uint32_t k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53U * c0;
        const uint64_t p1 = (uint64_t)0xCD9E8D57U * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9U;
        k1 += 0xBB67AE85U;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/*
 * The GPU's fast sine and cosine take turns, not radians: __sincosf() first multiplies by 1 / (2 pi), rounding towards
 * zero. Found by comparison with an H200: doing the same brings the largest difference from 1.8e-6 to 1.2e-6.
 */
static inline float turns_of(float radians)
{
    const double exact = (double)radians * (double)0.15915494F; /* 48 bits at most */
    const float nearest = (float)exact;
    return (double)nearest > exact ? nextafterf(nearest, 0.0F) : nearest;
}

/*
 * curand_normal.h, _curand_box_muller: sine first. nvcc contracts the angle's product and sum, which one double
 * multiplication and addition gives as well.
 */
static inline void box_muller(uint32_t a, uint32_t b, float *sine, float *cosine)
{
    const float step = 2.3283064e-10F; /* 2^-32 */
    const float angle_step = 2.3283064e-10F * 6.2831855F;
    const float u = (float)a * step + step / 2.0F;
    const float angle = (float)((double)(float)b * (double)angle_step + (double)(angle_step / 2.0F));
    const float radius = sqrtf(-2.0F * (float)log((double)u));
    double s;
    double c;
    sincos(2.0 * M_PI * (double)turns_of(angle), &s, &c);
    *sine = radius * (float)s;
    *cosine = radius * (float)c;
}

void sky_noise_torch_cuda(int num_multiprocessors, uint64_t seed, int draw, float *out, int64_t count)
{
    /*
     * ATen calc_execution_policy(). Above 2^29 values torch cuts a tensor into pieces by its dimensions, which count does
     * not tell: there the values follow the rule, but torch's differ.
     */
    const int64_t most_blocks = (int64_t)num_multiprocessors * (MULTIPROCESSOR_THREADS / BLOCK_THREADS);
    const int64_t wanted_blocks = (count + BLOCK_THREADS - 1) / BLOCK_THREADS;
    const int64_t num_threads = BLOCK_THREADS * (wanted_blocks < most_blocks ? wanted_blocks : most_blocks);
    const int64_t num_turns = (count - 1) / (num_threads * NUM_LANES) + 1; /* counter values that each thread takes */
    const uint64_t first = (uint64_t)draw * (uint64_t)num_turns;

    for (int64_t turn = 0; turn < num_turns; turn++) {
        float *lane0 = out + turn * NUM_LANES * num_threads;
        const int64_t left = count - turn * NUM_LANES * num_threads;
        const int64_t threads = left < num_threads ? left : num_threads;
        for (int64_t thread = 0; thread < threads; thread++) {
            uint32_t bits[NUM_LANES];
            float normal[NUM_LANES];
            philox4x32_10(first + (uint64_t)turn, (uint64_t)thread, seed, bits);
            box_muller(bits[0], bits[1], &normal[0], &normal[1]);
            if (thread + 2 * num_threads < left) {
                box_muller(bits[2], bits[3], &normal[2], &normal[3]);
            }
            for (int lane = 0; lane < NUM_LANES && thread + lane * num_threads < left; lane++) {
                lane0[thread + lane * num_threads] = normal[lane];
            }
        }
    }
}
