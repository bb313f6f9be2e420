/*
 * ops/attention_8bit.h - softmax attention with INT8 queries and keys and e4m3 values
 *
 * For each query s and head n, over steps of SKY_P_STEP_KEYS keys in order, with running maximum m (-inf at first),
 * denominator d and output o (0 at first):
 *
 *     z[j]  = (q[s, n] . k[j, n]) * (q_scale[s / 64, n] * k_scale[j / 128, n]) * softmax_scale    the product exact
 *     m'    = max(m, max_j z[j]);   a = exp(m - m');   p[j] = value(e4m3(448 exp(z[j] - m')))     j in the step
 *     d     = a d + sum_j p[j]                                                                    f32 in the step, then added
 *     o     = a o + sum_j p[j] * value(v[j / 128, n, :, i(j)])                                    the same
 *     m     = m'
 *     y[s, n, c] = o[c] / d * v_scale[n, c] + v_mean[n, c]       rounded once to y's type; without v_mean nothing is added
 *     lse[s, n]  = m + ln(d / 448)                               optional: what merge_attention needs
 *
 * Weights are rounded before they are summed, for the numerator and the denominator alike, so that they add up to one.
 *
 * K is taken less its mean over all tokens (quantize_heads): softmax does not notice. V is, too (quantize_channels), and as
 * weights add up to one its mean is added in the end: here, or, where y is merged with others', behind the last merge
 * (merge_attention.h). V comes in the tiles of
 * quantize_channels, where key j lies at i(j) = sky_v_tile_position(j % 128); codes behind the last key are 0.
 *
 * Shapes   q, y [Sq, N, D]; q_scale [ceil(Sq / 64), N]; k [Sk, N, D]; k_scale [ceil(Sk / 128), N];
 *          v [ceil(Sk / 128), N, D, 128]; v_scale [N, D]; v_mean [N, D] or absent; lse [Sq, N] or absent; Sk at least 1, Sq may be 0; outputs
 *          overlap nothing
 * Types    q, k i8; v e4m3; scales f32; y bf16 or f32. Scores, softmax and sums f32 (reference: the sums within a step in f64).
 *          The matrix unit of a GPU keeps fewer bits than f32 while it adds a step: a sum may be off by
 *          SKY_ATTENTION_8BIT_UNIT_ERROR of the largest (the codes of P and V cost 15 times as much).
 * Bytes    A query's row depends on q's row and scale, k, v and nothing else, as long as queries are cut at multiples of
 *          SKY_Q_GROUP_TOKENS; heads are independent of each other. y is the same with lse or without.
 * Errors   SHAPE, DTYPE
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 * Source   docs/numerics.md, the 8-bit contract; Zhang et al. 2024 (SageAttention2), algorithm 1; Dao 2023 (FlashAttention-2).
 */
#ifndef SKY_OPS_ATTENTION_8BIT_H
#define SKY_OPS_ATTENTION_8BIT_H

#include "ops/quantize_channels.h"
#include "ops/quantize_heads.h"

enum { SKY_P_STEP_KEYS = 256 };
#define SKY_ATTENTION_8BIT_UNIT_ERROR 0x1p-9

typedef struct sky_attention_8bit_args {
    sky_tensor y;       /* [Sq, N, D]  out */
    sky_tensor q;       /* [Sq, N, D] i8 */
    sky_tensor q_scale; /* [ceil(Sq / 64), N] f32 */
    sky_tensor k;       /* [Sk, N, D] i8 */
    sky_tensor k_scale; /* [ceil(Sk / 128), N] f32 */
    sky_tensor v;       /* [ceil(Sk / 128), N, D, 128] e4m3 */
    sky_tensor v_scale; /* [N, D] f32 */
    sky_tensor v_mean;  /* [N, D] f32, optional */
    sky_tensor lse;     /* [Sq, N] f32  out, optional */
    float softmax_scale;
} sky_attention_8bit_args;

sky_status sky_attention_8bit(sky_ctx *ctx, const sky_attention_8bit_args *args);

#endif
