/*
 * ops/layer_norm.h - layer normalisation with weight and bias over the last axis
 *
 *     y[r, c] = weight[c] * (x[r, c] - mean_c x) / sqrt(var_c x + eps) + bias[c]        (biased variance)
 *
 * Shapes   x, y [rows, cols]; weight, bias [cols]; y may be x where the types are equal
 * Types    x and y f32 or bf16 each; weight and bias f32. Sums: f64 reference, f32 elsewhere.
 * Errors   SHAPE   rows or cols disagree, or cols is 0
 *          DTYPE   weight or bias is not f32
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 * Source   Ba, Kiros and Hinton 2016, eq. 3; modules/transformer.py WanLayerNorm (norm3).
 */
#ifndef SKY_OPS_LAYER_NORM_H
#define SKY_OPS_LAYER_NORM_H

#include "ops/ctx.h"

typedef struct sky_layer_norm_args {
    sky_tensor y;      /* [rows, cols]  out */
    sky_tensor x;      /* [rows, cols] */
    sky_tensor weight; /* [cols] f32 */
    sky_tensor bias;   /* [cols] f32 */
    float eps;
} sky_layer_norm_args;

sky_status sky_layer_norm(sky_ctx *ctx, const sky_layer_norm_args *args);

#endif
