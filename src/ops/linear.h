/*
 * ops/linear.h - matrix product with a weight, plus bias
 *
 *     y[m, n] = sum_k x[m, k] * weight[n, k] + bias[n]
 *
 * Shapes   x [M, K], weight [N, K], bias [N] or absent, y [M, N]; M may be 0; y overlaps nothing
 * Types    x and weight f32 or bf16, the same, or x f32 and weight bf16 (which is widened); bias f32 or bf16; y f32 or
 *          bf16. Sums: f64 reference, f32 elsewhere; the bias is added in f32 and the result rounded once.
 * Bytes    A row of y is the same whatever M is and wherever rows are cut, as long as cuts are at multiples of 128 rows:
 *          an implementation computes pieces of SKY_LINEAR_PIECE_ROWS rows, counted from row 0, in a fixed way.
 * Errors   SHAPE   rows or columns disagree, or K is 0
 *          DTYPE   x is bf16 and weight f32, or a type that is not named above
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 * Source   torch.nn.Linear.
 */
#ifndef SKY_OPS_LINEAR_H
#define SKY_OPS_LINEAR_H

#include "ops/ctx.h"

enum { SKY_LINEAR_PIECE_ROWS = 128 };

typedef struct sky_linear_args {
    sky_tensor y;      /* [M, N]  out */
    sky_tensor x;      /* [M, K] */
    sky_tensor weight; /* [N, K] */
    sky_tensor bias;   /* [N] f32 or bf16, optional */
} sky_linear_args;

sky_status sky_linear(sky_ctx *ctx, const sky_linear_args *args);

#endif
