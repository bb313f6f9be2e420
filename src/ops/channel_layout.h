/*
 * ops/channel_layout.h - between channels first (latents, frames) and channels last (the VAE's inside)
 *
 *     to_channels_last    y[t, i, j, c] = x[c, t, i, j] * scale[c] + shift[c]
 *     to_channels_first   y[c, t, i, j] = x[t, i, j, c] * scale[c] + shift[c]
 *
 * Shapes   channels first [C, T, H, W], channels last [T, H, W, C]; scale and shift [C], both or neither.
 *          to_channels_first may take fewer channels than x has: the first ones.
 * Clamp    to_channels_first with clamp set: y is clamped to [-1, 1] in f32 after scale and shift (NaN stays NaN), then
 *          rounded to y's type
 * Types    x and y f32 or bf16 each; scale and shift f32; product and sum rounded one after the other in f32
 * Errors   SHAPE, DTYPE
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 * Source   modules/vae.py WanVAE: (mu - mean) * (1 / std), z / (1 / std) + mean.
 */
#ifndef SKY_OPS_CHANNEL_LAYOUT_H
#define SKY_OPS_CHANNEL_LAYOUT_H

#include "ops/ctx.h"

typedef struct sky_to_channels_last_args {
    sky_tensor y;     /* [T, H, W, C]  out */
    sky_tensor x;     /* [C, T, H, W] */
    sky_tensor scale; /* [C] f32, optional */
    sky_tensor shift; /* [C] f32, optional */
} sky_to_channels_last_args;

typedef struct sky_to_channels_first_args {
    sky_tensor y;     /* [C, T, H, W]  out */
    sky_tensor x;     /* [T, H, W, C or more] */
    sky_tensor scale; /* [C] f32, optional */
    sky_tensor shift; /* [C] f32, optional */
    bool clamp;       /* to [-1, 1] after scale and shift */
} sky_to_channels_first_args;

sky_status sky_to_channels_last(sky_ctx *ctx, const sky_to_channels_last_args *args);
sky_status sky_to_channels_first(sky_ctx *ctx, const sky_to_channels_first_args *args);

#endif
