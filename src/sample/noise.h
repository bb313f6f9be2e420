/*
 * sample/noise.h - the normal random numbers that torch would draw
 *
 * Values depend on (seed, rule, element) only; there is no state.
 */
#ifndef SKY_SAMPLE_NOISE_H
#define SKY_SAMPLE_NOISE_H

#include "base/status.h"

#include <stdint.h>

typedef enum sky_rng_kind { SKY_RNG_TORCH_CUDA, SKY_RNG_TORCH_CPU } sky_rng_kind;

typedef struct sky_rng {
    sky_rng_kind kind;
    int num_multiprocessors; /* CUDA: of the GPU whose noise is meant; 132 is an H100 or H200, 108 an A100 */
} sky_rng;

/* Reads "torch-cuda", "torch-cuda:SMs" or "torch-cpu". Errors: USAGE. */
sky_status sky_rng_parse(const char *text, sky_rng *out);

/*
 * What torch.randn gives for count values as the draw number `draw` (from 0) of a generator seeded with seed, when all
 * draws before had the same count. Source: docs/model.md, "Random numbers"; ATen DistributionTemplates.h,
 * CPUGeneratorImpl; Salmon et al. 2011 (Philox4x32-10); Matsumoto and Nishimura 1998 (MT19937).
 */
sky_status sky_noise_fill(const sky_rng *rng, uint64_t seed, int draw, float *out, int64_t count);

#endif
