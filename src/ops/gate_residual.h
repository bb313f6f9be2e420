/*
 * ops/gate_residual.h - adds a sub-layer's output to the residual stream
 *
 *     g        = (first_row + r) / rows_per_group
 *     x[r, c] += y[r, c] * gate[g, c]                 (gate absent: 1)
 *
 * Shapes   x, y [rows, cols]; gate [groups, cols] or absent; groups as in layer_norm_modulate
 * Types    x f32; y f32 or bf16; gate f32
 * Errors   SHAPE, DTYPE
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 * Source   Peebles and Xie 2023, section 3.2; modules/transformer.py WanAttentionBlock.forward.
 */
#ifndef SKY_OPS_GATE_RESIDUAL_H
#define SKY_OPS_GATE_RESIDUAL_H

#include "ops/ctx.h"

typedef struct sky_gate_residual_args {
    sky_tensor x;           /* [rows, cols] f32  in and out */
    sky_tensor y;           /* [rows, cols] */
    sky_tensor gate;        /* [groups, cols] f32, optional */
    int64_t first_row;      /* global index of row 0; read only with a gate */
    int64_t rows_per_group; /* at least 1 with a gate */
} sky_gate_residual_args;

sky_status sky_gate_residual(sky_ctx *ctx, const sky_gate_residual_args *args);

#endif
