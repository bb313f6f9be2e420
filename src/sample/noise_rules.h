/*
 * sample/noise_rules.h - the two rules behind sample/noise.h, each in its file
 *
 * Both compute logarithms, sines and cosines in double and round at the places where torch's float arithmetic rounds, so
 * that the values do not depend on the machine's float library.
 */
#ifndef SKY_SAMPLE_NOISE_RULES_H
#define SKY_SAMPLE_NOISE_RULES_H

#include <stdint.h>

/* out[0..count) of draw number `draw`; count at least 1, num_multiprocessors at least 1, draw at least 0. */
void sky_noise_torch_cuda(int num_multiprocessors, uint64_t seed, int draw, float *out, int64_t count);
void sky_noise_torch_cpu(uint64_t seed, int draw, float *out, int64_t count);

#endif
