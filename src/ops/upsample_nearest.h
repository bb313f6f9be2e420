/*
 * ops/upsample_nearest.h - doubles height and width by repetition
 *
 *     y[t, i, j, c] = x[t, i / 2, j / 2, c]
 *
 * Shapes   x [T, H, W, C]; y [T, 2H, 2W, C]
 * Types    f32 or bf16, the same
 * Errors   SHAPE, DTYPE
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 * Source   modules/vae.py Upsample (nearest-exact, factor 2).
 */
#ifndef SKY_OPS_UPSAMPLE_NEAREST_H
#define SKY_OPS_UPSAMPLE_NEAREST_H

#include "ops/ctx.h"

typedef struct sky_upsample_nearest_args {
    sky_tensor y; /* [T, 2H, 2W, C]  out */
    sky_tensor x; /* [T, H, W, C] */
} sky_upsample_nearest_args;

sky_status sky_upsample_nearest(sky_ctx *ctx, const sky_upsample_nearest_args *args);

#endif
