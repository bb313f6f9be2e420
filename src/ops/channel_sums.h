/*
 * ops/channel_sums.h - sums over tokens that are the same in any order, largest and least values, and the mean
 *
 *     sums[c] = sum_s fixed(x[s, c])      fixed(v) = v * 2^32, rounded to nearest even (saturating at +-2^62 / num_tokens,
 *                                         NaN: 0)
 *     range[c] = max_s x[s, c], range[C + c] = min_s x[s, c]      -inf and inf for no rows, both NaN where there is one; a
 *                                         zero is +0
 *     mean[c] = (f32)(sum_p sums[p, c] / (2^32 * num_tokens))      the sum exact, the rest in f64, rounded once
 *
 * 64-bit fixed point: ranks add their sums of different tokens and get what one rank would get. num_tokens is that of all
 * ranks, so that a value saturates at the same size whoever holds it.
 *
 * Shapes   x [rows, C]; sums, mean [C]; range [2 C] or absent; rows may be 0; outputs overlap nothing. sums_to_mean: sums [C] or [parts, C], a part for each rank
 * Types    x f32, bf16, or i32 with x_sums (linear_sums.h); sums i64; range and mean f32. Every backend gives the same bytes.
 * Errors   SHAPE, DTYPE; SHAPE where num_tokens is below 1, or below rows
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 * Source   docs/numerics.md, the 8-bit contract (K and V less their means); Zhang et al. 2024 (SageAttention), section 3.2.
 */
#ifndef SKY_OPS_CHANNEL_SUMS_H
#define SKY_OPS_CHANNEL_SUMS_H

#include "ops/ctx.h"
#include "ops/linear_sums.h"

typedef struct sky_channel_sums_args {
    sky_tensor sums;        /* [C] i64  out */
    sky_tensor x;           /* [rows, C] */
    sky_linear_sums x_sums; /* of x i32 */
    sky_tensor range;       /* [2 C] f32  out, optional */
    int64_t num_tokens;     /* of all ranks: at least rows */
} sky_channel_sums_args;

typedef struct sky_sums_to_mean_args {
    sky_tensor mean; /* [C] f32  out */
    sky_tensor sums; /* [C] or [parts, C] i64 */
    int64_t num_tokens;
} sky_sums_to_mean_args;

sky_status sky_channel_sums(sky_ctx *ctx, const sky_channel_sums_args *args);
sky_status sky_sums_to_mean(sky_ctx *ctx, const sky_sums_to_mean_args *args);

#endif
