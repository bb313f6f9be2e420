/*
 * ops/convert.h - copies with a change of number format
 *
 *     y[i] = x[i] + shift[i mod C], added in f32, rounded to nearest even
 *
 * Shapes   x, y the same; shift [C], C their last length, or absent: nothing is added
 * Types    x and y f32 or bf16, in any pair; shift f32; y may be x only where the types are equal
 * Errors   SHAPE, DTYPE
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 */
#ifndef SKY_OPS_CONVERT_H
#define SKY_OPS_CONVERT_H

#include "ops/ctx.h"

typedef struct sky_convert_args {
    sky_tensor y; /* out */
    sky_tensor x;
    sky_tensor shift; /* [C] f32, optional */
} sky_convert_args;

sky_status sky_convert(sky_ctx *ctx, const sky_convert_args *args);

#endif
