/*
 * ops/rms_norm.h - root-mean-square normalisation over the last axis
 *
 *     y[r, c] = weight[c] * x[r, c] / sqrt(mean_c(x[r, c]^2) + eps)
 *
 * With round_normed the quotient is rounded to y's type before it is multiplied by the weight (the text encoder's way).
 *
 * Shapes   x, y [rows, cols]; weight [cols]; y may be x where the types are equal
 * Sums     With x i32, x and x_sums are a linear layer's output: linear_sums.h.
 * Types    x f32, bf16 or i32; y f32 or bf16; weight f32. Sums: f64 reference, f32 elsewhere.
 * Errors   SHAPE   rows or cols disagree, or cols is 0
 *          DTYPE   weight is not f32
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 * Source   Zhang and Sennrich 2019, eq. 4; modules/transformer.py WanRMSNorm, modules/t5.py T5LayerNorm.
 */
#ifndef SKY_OPS_RMS_NORM_H
#define SKY_OPS_RMS_NORM_H

#include "ops/ctx.h"
#include "ops/linear_sums.h"

typedef struct sky_rms_norm_args {
    sky_tensor y;      /* [rows, cols]  out */
    sky_tensor x;      /* [rows, cols] */
    sky_tensor weight; /* [cols] f32 */
    float eps;
    bool round_normed;
    sky_linear_sums x_sums; /* with i32 */
} sky_rms_norm_args;

sky_status sky_rms_norm(sky_ctx *ctx, const sky_rms_norm_args *args);

#endif
