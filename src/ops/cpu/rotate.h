/*
 * ops/cpu/rotate.h - rotary embedding of a run
 */
#ifndef SKY_OPS_CPU_ROTATE_H
#define SKY_OPS_CPU_ROTATE_H

#include "ops/cpu/vec.h"

/* Neighbours form a pair; freqs [dim / 2, 2] holds cos and sin. x may be y. */
static inline void sky_rotate(const float *x, const float *freqs, float *y, int64_t dim)
{
    SKY_LOOP_INDEPENDENT
    for (int64_t p = 0; p < dim / 2; p++) {
        const float re = x[2 * p];
        const float im = x[2 * p + 1];
        const float c = freqs[2 * p];
        const float s = freqs[2 * p + 1];
        y[2 * p] = sky_madd(re, c, -(im * s));
        y[2 * p + 1] = sky_madd(re, s, im * c);
    }
}

#endif
