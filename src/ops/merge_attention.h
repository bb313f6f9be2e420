/*
 * ops/merge_attention.h - attention over two sets of keys from attention over each
 *
 *     m          = max(lse[s, n], other_lse[s, n])
 *     w, v       = exp(lse - m), exp(other_lse - m)
 *     y[s, n]    = (w y[s, n] + v other[s, n]) / (w + v)
 *     lse[s, n]  = m + ln(w + v)
 *
 * A set whose lse is -inf contributes nothing, whatever its y holds; where both are, y and lse stay as they are.
 *
 * attention_8bit's y is to be merged without V's mean, which is the same for all sets: convert.h adds it in the end.
 *
 * Attention in f32 (y f32, inputs f32 or bf16) over all keys is what the sets merge into, up to rounding. In 8 bits every
 * set rounds its weights against a running maximum of its own: the merged sets are as close to attention without that
 * rounding as all keys at once are (about 1.5 % of y), and 1 % of y away from those (tests/ops/test_attention_lse.c).
 *
 * Shapes   y, other [S, N, D]; lse, other_lse [S, N]; S may be 0; outputs overlap nothing else
 * Types    all f32. Everything in f32 (reference: f64, rounded once).
 * Errors   SHAPE, DTYPE
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 * Source   Liu et al. 2023 (ring attention); Dao 2023 (FlashAttention-2), section 3.1: the same rule, between ranks.
 */
#ifndef SKY_OPS_MERGE_ATTENTION_H
#define SKY_OPS_MERGE_ATTENTION_H

#include "ops/ctx.h"

typedef struct sky_merge_attention_args {
    sky_tensor y;         /* [S, N, D]  in and out */
    sky_tensor lse;       /* [S, N]  in and out */
    sky_tensor other;     /* [S, N, D] */
    sky_tensor other_lse; /* [S, N] */
} sky_merge_attention_args;

sky_status sky_merge_attention(sky_ctx *ctx, const sky_merge_attention_args *args);

#endif
