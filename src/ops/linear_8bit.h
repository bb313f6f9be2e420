/*
 * ops/linear_8bit.h - matrix product of 8-bit codes, with a scale per token and per output channel, plus bias
 *
 *     y[m, n] = (sum_k value(x[m, k]) * value(weight[n, k])) * (x_scale[m] * weight_scale[n]) + bias[n]
 *
 * Shapes   x [M, K], x_scale [M], weight [N, K], weight_scale [N], bias [N] or absent, y [M, N]; M may be 0; y overlaps nothing
 * Sums     With y i32 (x i8, K below SKY_LINEAR_I8_MAX_LEN) y is the sum alone, scales and bias absent: the op that reads y
 *          takes them (linear_sums.h), and large layers need no 16-bit copy of their output.
 * Types    x and weight e4m3 or i8, the same; scales f32; bias f32 or bf16; y bf16, f32 or i32. i8: the sum is exact (K at most
 *          SKY_LINEAR_I8_MAX_LEN) and rounded to f32, every backend gives the same bytes; e4m3: f64 reference, f32
 *          elsewhere; scales and bias in f32, then rounded once. e4m3 to bf16: the matrix unit of a GPU keeps fewer bits than f32
 *          while it adds; its sums may be off by SKY_LINEAR_E4M3_UNIT_ERROR of the largest (bf16 rounds the largest by eight
 *          times as much).
 * Bytes    As in linear.h: a row of y is the same whatever M is and wherever rows are cut at multiples of
 *          SKY_LINEAR_PIECE_ROWS.
 * Errors   SHAPE, DTYPE
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 * Source   docs/numerics.md, the 8-bit contract; cuBLASLt's outer-vector scaling.
 */
#ifndef SKY_OPS_LINEAR_8BIT_H
#define SKY_OPS_LINEAR_8BIT_H

#include "ops/linear.h"

enum { SKY_LINEAR_I8_MAX_LEN = 1 << 17 };
#define SKY_LINEAR_E4M3_UNIT_ERROR 0x1p-11

typedef struct sky_linear_8bit_args {
    sky_tensor y;            /* [M, N]  out */
    sky_tensor x;            /* [M, K] codes */
    sky_tensor x_scale;      /* [M] f32; absent where y is i32, as weight_scale and bias are */
    sky_tensor weight;       /* [N, K] codes */
    sky_tensor weight_scale; /* [N] f32 */
    sky_tensor bias;         /* [N] f32 or bf16, optional */
} sky_linear_8bit_args;

sky_status sky_linear_8bit(sky_ctx *ctx, const sky_linear_8bit_args *args);

#endif
