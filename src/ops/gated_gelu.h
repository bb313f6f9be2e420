/*
 * ops/gated_gelu.h - gated feed-forward unit of the text encoder
 *
 *     y[i] = up[i] * gelu_tanh(gate[i])
 *
 * Shapes   y, up, gate the same; y may be up or gate
 * Types    f32 or bf16, all the same; evaluated in f32 (f64 reference), rounded once
 * Errors   SHAPE, DTYPE
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 * Source   Shazeer 2020 (GEGLU); skyreels_v2_infer/modules/t5.py, T5FeedForward: fc1(x) * gate(x).
 */
#ifndef SKY_OPS_GATED_GELU_H
#define SKY_OPS_GATED_GELU_H

#include "ops/ctx.h"

typedef struct sky_gated_gelu_args {
    sky_tensor y;    /* out */
    sky_tensor up;   /* the linear branch (fc1) */
    sky_tensor gate; /* the activated branch */
} sky_gated_gelu_args;

sky_status sky_gated_gelu(sky_ctx *ctx, const sky_gated_gelu_args *args);

#endif
