/*
 * ops/qk_norm_rope.h - RMS norm of queries or keys over all heads together, then rotary embedding: as values, sums or codes
 *
 *     r = rope(rms_norm(x; weight, eps), freqs)
 *
 *     qk_norm_rope            y = r
 *     qk_norm_rope_sums       sums = channel_sums(r; num_tokens)                       nothing else is written
 *     qk_norm_rope_quantize   codes, scale = quantize_heads(r; mean, tokens_per_group, num_parts)
 *
 * The norm runs over the full width N*D; its result stays in f32 until it has been rotated, and r is rounded to nothing where
 * sums or codes are made of it: every backend gives the bytes of its own qk_norm_rope to f32 followed by channel_sums.h or
 * quantize_heads.h. Keys are normed twice so that no one writes them down: their mean must be known before their codes.
 *
 * Shapes   x, y, codes [S, N*D]; weight [N*D]; freqs [S, D/2, 2] (this gives D); sums [N*D]; mean [N, D] or absent; scale
 *          [ceil(S / tokens_per_group), N]; S may be 0. y, codes and scale lie in num_parts parts (head_parts.h). y may be x
 *          where the types are equal and num_parts is at most 1; other outputs overlap nothing
 * Types    x f32, bf16, or i32 with x_sums (linear_sums.h); y f32 or bf16; weight, freqs, mean and scale f32; sums i64; codes i8
 * Errors   SHAPE   rows disagree, D does not divide x's columns, num_parts is below 0; what channel_sums and quantize_heads
 *                  refuse
 *          DTYPE
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 * Source   modules/transformer.py WanSelfAttention.forward (norm_q, norm_k, rope_apply); docs/numerics.md, the 8-bit contract.
 */
#ifndef SKY_OPS_QK_NORM_ROPE_H
#define SKY_OPS_QK_NORM_ROPE_H

#include "ops/ctx.h"
#include "ops/head_parts.h"
#include "ops/linear_sums.h"

typedef struct sky_qk_norm_rope_args {
    sky_tensor y;           /* [S, N*D]  out */
    sky_tensor x;           /* [S, N*D] */
    sky_linear_sums x_sums; /* of x i32 */
    sky_tensor weight;      /* [N*D] f32 */
    sky_tensor freqs;       /* [S, D/2, 2] f32 */
    float eps;
    int num_parts; /* of y; 0: one */
} sky_qk_norm_rope_args;

typedef struct sky_qk_norm_rope_sums_args {
    sky_tensor sums; /* [N*D] i64  out */
    sky_tensor x;    /* x to eps as above */
    sky_linear_sums x_sums;
    sky_tensor weight;
    sky_tensor freqs;
    float eps;
    int64_t num_tokens; /* of all ranks: at least S */
} sky_qk_norm_rope_sums_args;

typedef struct sky_qk_norm_rope_quantize_args {
    sky_tensor codes; /* [S, N*D] i8  out */
    sky_tensor scale; /* [groups, N] f32  out */
    sky_tensor x;     /* x to eps as above */
    sky_linear_sums x_sums;
    sky_tensor weight;
    sky_tensor freqs;
    float eps;
    sky_tensor mean; /* [N, D] f32, optional */
    int64_t tokens_per_group;
    int num_parts; /* of codes and scale; 0: one */
} sky_qk_norm_rope_quantize_args;

sky_status sky_qk_norm_rope(sky_ctx *ctx, const sky_qk_norm_rope_args *args);
sky_status sky_qk_norm_rope_sums(sky_ctx *ctx, const sky_qk_norm_rope_sums_args *args);
sky_status sky_qk_norm_rope_quantize(sky_ctx *ctx, const sky_qk_norm_rope_quantize_args *args);

#endif
