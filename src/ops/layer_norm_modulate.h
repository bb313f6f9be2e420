/*
 * ops/layer_norm_modulate.h - layer normalisation followed by the timestep's shift and scale
 *
 *     g       = (first_row + r) / rows_per_group
 *     y[r, c] = (x[r, c] - mean_c x) / sqrt(var_c x + eps) * (1 + scale[g, c]) + shift[g, c]
 *
 * A group is what shares one timestep: all tokens (one group), or the tokens of one latent frame.
 *
 * Shapes   x, y [rows, cols]; y_scale [rows]; shift, scale [groups, cols]; (first_row + rows - 1) / rows_per_group < groups; y may be x
 *          where the types are equal
 * Codes    With y e4m3 or i8, y and y_scale are what quantize_rows makes of the op's result in f32, bytes and all: nothing is
 *          rounded in between.
 * Types    x f32 or bf16; y f32, bf16, e4m3 or i8; y_scale f32, with codes only; shift and scale f32. Sums: f64 reference, f32 elsewhere; y rounded once.
 * Errors   SHAPE   rows, cols or groups disagree, cols or rows_per_group is 0, first_row is negative; codes
 *                  without y_scale
 *          DTYPE   shift or scale is not f32; y_scale without codes
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 * Source   Peebles and Xie 2023, section 3.2 (adaLN); modules/transformer.py WanAttentionBlock.forward.
 */
#ifndef SKY_OPS_LAYER_NORM_MODULATE_H
#define SKY_OPS_LAYER_NORM_MODULATE_H

#include "ops/ctx.h"

typedef struct sky_layer_norm_modulate_args {
    sky_tensor y;       /* [rows, cols]  out */
    sky_tensor y_scale; /* [rows] f32  out; with codes */
    sky_tensor x;       /* [rows, cols] */
    sky_tensor shift;   /* [groups, cols] f32 */
    sky_tensor scale;   /* [groups, cols] f32 */
    int64_t first_row;  /* global index of row 0 */
    int64_t rows_per_group;
    float eps;
} sky_layer_norm_modulate_args;

sky_status sky_layer_norm_modulate(sky_ctx *ctx, const sky_layer_norm_modulate_args *args);

#endif
