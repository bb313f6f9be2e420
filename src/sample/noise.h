/*
 * sample/noise.h - the normal random numbers that torch would draw
 *
 * Values depend on (seed, rule, element) only; there is no state.
 */
#ifndef SKY_SAMPLE_NOISE_H
#define SKY_SAMPLE_NOISE_H

#include "base/status.h"

#include <stdint.h>

/*
 * What torch.randn gives for count values as the draw number `draw` (from 0) of a generator seeded with seed, when all
 * draws before had the same count. Source: docs/model.md, "Random numbers"; ATen DistributionTemplates.h,
 * CPUGeneratorImpl; Salmon et al. 2011 (Philox4x32-10); Matsumoto and Nishimura 1998 (MT19937).
 */
sky_status sky_noise_fill(const sky_rng *rng, uint64_t seed, int draw, float *out, int64_t count);

#endif
