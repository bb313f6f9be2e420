/*
 * ops/timestep_embedding.h - a timestep as cosines and sines
 *
 *     y[r, j]        = cos(timesteps[r] * 10000^(-j / half))        half = freq_dim / 2, 0 <= j < half
 *     y[r, half + j] = sin(the same)
 *
 * Cosines come first. Powers, products, cosines and sines in f64, rounded once.
 *
 * Shapes   y [rows, freq_dim], freq_dim even and not 0; timesteps [rows]: one for all tokens, or one a latent frame
 * Types    y f32 or bf16; timesteps f32
 * Errors   SHAPE, DTYPE
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 * Source   modules/transformer.py sinusoidal_embedding_1d.
 */
#ifndef SKY_OPS_TIMESTEP_EMBEDDING_H
#define SKY_OPS_TIMESTEP_EMBEDDING_H

#include "ops/ctx.h"

typedef struct sky_timestep_embedding_args {
    sky_tensor y;         /* [rows, freq_dim]  out */
    sky_tensor timesteps; /* [rows] f32 */
} sky_timestep_embedding_args;

sky_status sky_timestep_embedding(sky_ctx *ctx, const sky_timestep_embedding_args *args);

#endif
