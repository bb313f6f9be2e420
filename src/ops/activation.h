/*
 * ops/activation.h - pointwise nonlinearity
 *
 *     SILU       y = x / (1 + exp(-x))
 *     GELU_TANH  y = 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
 *     GELU_ERF   y = 0.5 x (1 + erf(x / sqrt(2)))
 *
 * Shapes   x, y the same; y may be x where the types are equal; [rows, cols] where y is codes or x sums; y_scale [rows]
 * Codes    With y e4m3 or i8, y and y_scale are what quantize_rows makes of the op's result in f32, bytes and all: nothing is
 *          rounded in between.
 * Sums     With x i32, x and x_sums are a linear layer's output: linear_sums.h.
 * Types    x f32, bf16 or i32; y f32, bf16, e4m3 or i8; y_scale f32, with codes only; evaluated in f32 (f64 reference), rounded once
 * Errors   SHAPE, DTYPE; UNSUPPORTED for an unknown kind
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 * Source   Hendrycks and Gimpel 2016 (GELU); torch.nn.GELU, torch.nn.SiLU.
 */
#ifndef SKY_OPS_ACTIVATION_H
#define SKY_OPS_ACTIVATION_H

#include "ops/ctx.h"
#include "ops/linear_sums.h"

typedef enum sky_activation_kind { SKY_SILU, SKY_GELU_TANH, SKY_GELU_ERF } sky_activation_kind;

typedef struct sky_activation_args {
    sky_tensor y;       /* out */
    sky_tensor y_scale; /* [rows] f32  out; with codes */
    sky_tensor x;
    sky_linear_sums x_sums; /* with i32 */
    sky_activation_kind kind;
} sky_activation_args;

sky_status sky_activation(sky_ctx *ctx, const sky_activation_args *args);

#endif
