/*
 * ops/channel_norm.h - normalisation of the VAE over channels, with SiLU behind it if wanted
 *
 *     z[r, c] = x[r, c] / max(sqrt(sum_c x[r, c]^2), 1e-12) * sqrt(C) * gamma[c]
 *     y[r, c] = silu ? z / (1 + exp(-z)) : z
 *
 * Shapes   x, y [.., C] alike (all but the last axis are rows r); gamma [C]; y may be x.
 *          Or y is higher than x: x [T, H, W, C] goes to rows [y_first_row, y_first_row + H) of each frame of
 *          y [T, Hy, W, C], whose other rows stay as they are; y then overlaps nothing.
 * Types    x and y f32 or bf16, the same; gamma f32; evaluated in f32 (f64 reference), rounded once
 * Errors   SHAPE, also where y has no such rows; DTYPE
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 * Source   modules/vae.py RMS_norm, followed by nn.SiLU in ResidualBlock and head.
 */
#ifndef SKY_OPS_CHANNEL_NORM_H
#define SKY_OPS_CHANNEL_NORM_H

#include "ops/ctx.h"

typedef struct sky_channel_norm_args {
    sky_tensor y;        /* [.., C] or [T, Hy, W, C]  out */
    sky_tensor x;        /* [.., C] */
    sky_tensor gamma;    /* [C] f32 */
    int64_t y_first_row; /* 0 where y is not higher than x */
    bool silu;
} sky_channel_norm_args;

sky_status sky_channel_norm(sky_ctx *ctx, const sky_channel_norm_args *args);

#endif
