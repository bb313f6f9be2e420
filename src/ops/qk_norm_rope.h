/*
 * ops/qk_norm_rope.h - RMS norm of queries or keys over all heads together, then rotary embedding
 *
 *     y = rope(rms_norm(x; weight, eps), freqs)
 *
 * The norm runs over the full width N*D; its result stays in f32 until it has been rotated and is rounded once.
 *
 * Shapes   x, y [S, N*D]; weight [N*D]; freqs [S, D/2, 2] (this gives D); y may be x where the types are equal
 * Types    x and y f32 or bf16 each; weight and freqs f32
 * Errors   SHAPE   rows disagree, or D does not divide x's columns
 *          DTYPE   weight or freqs is not f32
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 * Source   modules/transformer.py WanSelfAttention.forward (norm_q, norm_k, rope_apply).
 */
#ifndef SKY_OPS_QK_NORM_ROPE_H
#define SKY_OPS_QK_NORM_ROPE_H

#include "ops/ctx.h"

typedef struct sky_qk_norm_rope_args {
    sky_tensor y;      /* [S, N*D]  out */
    sky_tensor x;      /* [S, N*D] */
    sky_tensor weight; /* [N*D] f32 */
    sky_tensor freqs;  /* [S, D/2, 2] f32 */
    float eps;
} sky_qk_norm_rope_args;

sky_status sky_qk_norm_rope(sky_ctx *ctx, const sky_qk_norm_rope_args *args);

#endif
