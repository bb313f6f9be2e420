/*
 * ops/residual_norm.h - a sub-layer's output enters the residual stream, and what the next sub-layer reads leaves it
 *
 *     g       = (first_row + r) / rows_per_group
 *     x[r, c] = x[r, c] + delta[r, c] * gate[g, c]                               (gate absent: 1)
 *     n       = x                                                                (rounding: below)
 *     y[r, c] = layer_norm(n)[r, c] * weight[c] + bias[c]                        with weight and bias: ops/layer_norm.h
 *             = layer_norm(n)[r, c] * (1 + scale[g, c]) + shift[g, c]            with shift and scale: ops/layer_norm_modulate.h
 *
 * It is gate_residual, convert, layer_norm or layer_norm_modulate, and quantize_rows in one pass over x, with their bytes.
 *
 * Rounding to bf16 is SKY_ROUND_NOTHING; SKY_ROUND_NORMED: n is x rounded, x itself stays as it is; SKY_ROUND_X: x is
 * rounded, and kept so in f32.
 *
 * Shapes   x, delta, y [rows, cols]; y_scale [rows]; weight, bias [cols]; gate, shift, scale [groups, cols], groups as in
 *          layer_norm_modulate. y absent: no norm, and nothing of what belongs to it. With y exactly one pair: weight and
 *          bias, or shift and scale. y may be delta where the types are equal.
 * Codes    With y e4m3 or i8, y and y_scale are what quantize_rows makes of the norm's result in f32.
 * Sums     With delta i32, delta and delta_sums are a linear layer's output: linear_sums.h.
 * Types    x f32; delta f32, bf16 or i32; y f32, bf16, e4m3 or i8; y_scale f32, with codes only; the others f32.
 *          Sums: f64 reference, f32 elsewhere.
 * Errors   SHAPE   rows, cols or groups disagree, cols is 0, rows_per_group is 0 or first_row negative (looked at with gate
 *                  or shift), codes without y_scale, half a pair
 *          DTYPE   a type not named above; y_scale without codes
 *          UNSUPPORTED  an unknown rounding
 *          INTERNAL  both pairs, or what belongs to a norm without y
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 * Source   modules/transformer.py WanAttentionBlock.forward.
 */
#ifndef SKY_OPS_RESIDUAL_NORM_H
#define SKY_OPS_RESIDUAL_NORM_H

#include "ops/ctx.h"
#include "ops/linear_sums.h"

typedef enum sky_residual_rounding { SKY_ROUND_NOTHING, SKY_ROUND_NORMED, SKY_ROUND_X } sky_residual_rounding;

typedef struct sky_residual_norm_args {
    sky_tensor x;               /* [rows, cols] f32  in and out */
    sky_tensor y;               /* [rows, cols]  out, optional */
    sky_tensor y_scale;         /* [rows] f32  out; with codes */
    sky_tensor delta;           /* [rows, cols] */
    sky_linear_sums delta_sums; /* with i32 */
    sky_tensor gate;            /* [groups, cols] f32, optional */
    sky_tensor weight, bias;    /* [cols] f32 */
    sky_tensor shift, scale;    /* [groups, cols] f32 */
    sky_residual_rounding rounding;
    int64_t first_row;      /* global index of row 0; read only with gate or shift */
    int64_t rows_per_group; /* at least 1 with these */
    float eps;
} sky_residual_norm_args;

sky_status sky_residual_norm(sky_ctx *ctx, const sky_residual_norm_args *args);

#endif
