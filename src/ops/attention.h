/*
 * ops/attention.h - softmax attention over all keys, per head
 *
 *     P[s, n, t] = softmax_t( softmax_scale * q[s, n] . k[t, n]  +  rel_bias[n, t - s + Sq - 1] )
 *     y[s, n]    = sum_t P[s, n, t] * v[t, n]
 *     lse[s, n]  = ln sum_t exp( softmax_scale * q[s, n] . k[t, n] )        optional: what merge_attention needs
 *
 * Shapes   q, y [Sq, N, D]; k, v [Sk, N, D]; rel_bias [N, Sq + Sk - 1] or absent; lse [Sq, N] or absent, not
 *          together with rel_bias; Sk at least 1, Sq may be 0; outputs overlap nothing
 * Types    q, k, v f32 or bf16, the same; y of their type or f32; rel_bias and lse f32. Scores, softmax and sums in f32
 *          (f64 reference), y and lse rounded once. From bf16 the matrix unit of a GPU may lose SKY_ATTENTION_UNIT_ERROR of
 *          the largest (bf16 rounds the largest by 128 times as much).
 * Bytes    A query's row depends on q's row, k, v and its position only, not on Sq or on other queries, as long as queries
 *          are cut at multiples of SKY_ATTENTION_PIECE_ROWS; heads are independent of each other. y is the same with lse
 *          or without.
 * Errors   SHAPE, DTYPE
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 * Source   Vaswani et al. 2017, eq. 1; with rel_bias modules/t5.py T5Attention (softmax_scale 1).
 */
#ifndef SKY_OPS_ATTENTION_H
#define SKY_OPS_ATTENTION_H

#include "ops/ctx.h"

enum { SKY_ATTENTION_PIECE_ROWS = 64 };
#define SKY_ATTENTION_UNIT_ERROR 0x1p-15

typedef struct sky_attention_args {
    sky_tensor y;        /* [Sq, N, D]  out */
    sky_tensor q;        /* [Sq, N, D] */
    sky_tensor k;        /* [Sk, N, D] */
    sky_tensor v;        /* [Sk, N, D] */
    sky_tensor rel_bias; /* [N, Sq + Sk - 1] f32, optional */
    sky_tensor lse;      /* [Sq, N] f32  out, optional */
    float softmax_scale;
} sky_attention_args;

sky_status sky_attention(sky_ctx *ctx, const sky_attention_args *args);

#endif
