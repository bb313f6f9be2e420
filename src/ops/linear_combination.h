/*
 * ops/linear_combination.h - weighted sum of tensors
 *
 *     y[i] = coefficient[0] * x[0][i] + coefficient[1] * x[1][i] + ...
 *
 * Shapes   y and all x the same; y may be any of them
 * Types    f32; products and sums rounded one after the other from the left (not contracted), so that every backend gives
 *          the same bytes
 * Errors   SHAPE, DTYPE; UNSUPPORTED where num_terms is not in [1, SKY_MAX_TERMS]
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 * Source   the solver's updates (sample/unipc.h).
 */
#ifndef SKY_OPS_LINEAR_COMBINATION_H
#define SKY_OPS_LINEAR_COMBINATION_H

#include "ops/ctx.h"

enum { SKY_MAX_TERMS = 6 };

typedef struct sky_linear_combination_args {
    sky_tensor y; /* out */
    int num_terms;
    sky_tensor x[SKY_MAX_TERMS];
    float coefficient[SKY_MAX_TERMS];
} sky_linear_combination_args;

sky_status sky_linear_combination(sky_ctx *ctx, const sky_linear_combination_args *args);

#endif
