/*
 * ops/layer_norm.h - layer normalisation with weight and bias over the last axis
 *
 *     y[r, c] = weight[c] * (x[r, c] - mean_c x) / sqrt(var_c x + eps) + bias[c]        (biased variance)
 *
 * Shapes   x, y [rows, cols]; y_scale [rows]; weight, bias [cols]; y may be x where the types are equal
 * Codes    With y e4m3 or i8, y and y_scale are what quantize_rows makes of the op's result in f32, bytes and all: nothing is
 *          rounded in between.
 * Types    x f32 or bf16; y f32, bf16, e4m3 or i8; y_scale f32, with codes only; weight and bias f32. Sums: f64 reference, f32 elsewhere.
 * Errors   SHAPE   rows or cols disagree, or cols is 0; codes without y_scale
 *          DTYPE   weight or bias is not f32; y_scale without codes
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 * Source   Ba, Kiros and Hinton 2016, eq. 3; modules/transformer.py WanLayerNorm (norm3).
 */
#ifndef SKY_OPS_LAYER_NORM_H
#define SKY_OPS_LAYER_NORM_H

#include "ops/ctx.h"

typedef struct sky_layer_norm_args {
    sky_tensor y;       /* [rows, cols]  out */
    sky_tensor y_scale; /* [rows] f32  out; with codes */
    sky_tensor x;       /* [rows, cols] */
    sky_tensor weight;  /* [cols] f32 */
    sky_tensor bias;    /* [cols] f32 */
    float eps;
} sky_layer_norm_args;

sky_status sky_layer_norm(sky_ctx *ctx, const sky_layer_norm_args *args);

#endif
