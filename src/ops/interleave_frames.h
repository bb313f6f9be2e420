/*
 * ops/interleave_frames.h - doubles the number of frames by taking two from the channels of one
 *
 *     y[2t, i, j, c] = x[t, i, j, c]        y[2t + 1, i, j, c] = x[t, i, j, C + c]
 *
 * Shapes   x [T, H, W, 2C]; y [2T, H, W, C]
 * Types    f32 or bf16, the same
 * Errors   SHAPE, DTYPE
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 * Source   modules/vae.py Resample.forward, upsample3d.
 */
#ifndef SKY_OPS_INTERLEAVE_FRAMES_H
#define SKY_OPS_INTERLEAVE_FRAMES_H

#include "ops/ctx.h"

typedef struct sky_interleave_frames_args {
    sky_tensor y; /* [2T, H, W, C]  out */
    sky_tensor x; /* [T, H, W, 2C] */
} sky_interleave_frames_args;

sky_status sky_interleave_frames(sky_ctx *ctx, const sky_interleave_frames_args *args);

#endif
