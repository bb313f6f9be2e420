/*
 * ops/rope.h - three-dimensional rotary position embedding from a table
 *
 *     for every pair p:  (y[2p], y[2p+1]) = (x[2p] cos - x[2p+1] sin,  x[2p] sin + x[2p+1] cos)
 *
 * with cos = freqs[s, p, 0] and sin = freqs[s, p, 1]; neighbours form a pair. model/rope.h makes the table.
 *
 * Shapes   x, y [S, N, D], D even; freqs [S, D/2, 2]; y may be x where the types are equal
 * Types    x and y f32 or bf16 each; freqs f32; rotated in f32 (f64 reference), rounded once
 * Errors   SHAPE, DTYPE
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 * Source   Su et al. 2021, eq. 34; modules/transformer.py rope_apply.
 */
#ifndef SKY_OPS_ROPE_H
#define SKY_OPS_ROPE_H

#include "ops/ctx.h"

typedef struct sky_rope_args {
    sky_tensor y;     /* [S, N, D]  out */
    sky_tensor x;     /* [S, N, D] */
    sky_tensor freqs; /* [S, D/2, 2] f32 */
} sky_rope_args;

sky_status sky_rope(sky_ctx *ctx, const sky_rope_args *args);

#endif
