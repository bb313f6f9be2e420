/*
 * ops/quantize_rows.h - 8-bit codes with one scale per row
 *
 *     amax[r]     = max(max_c |x[r, c]|, 1e-12)
 *     e4m3        codes[r, c] = e4m3(x[r, c] * (448 / amax[r]))      scale[r] = amax[r] / 448
 *     i8          codes[r, c] = rint(x[r, c] * (127 / amax[r]))      scale[r] = amax[r] / 127
 *
 * 448 / amax and 127 / amax stand for (1 / amax) * 448 and (1 / amax) * 127, as PyTorch computes them: the golden codes have
 * many ties, which another rounding turns the other way. Everything in f32, rounded to nearest even, e4m3 saturating. A NaN
 * makes its row's scale NaN and the row's codes 0x7f (e4m3) or 0 (i8). Rows are tokens (inputs of linear layers) or output
 * channels (their weights).
 *
 * Shapes   x, codes [rows, cols]; scale [rows]; cols at least 1; outputs overlap nothing. x may be rows of num_heads
 *          heads that lie in num_parts parts (head_parts.h): attention's output as it has come from several ranks
 * Types    x f32 or bf16; codes e4m3 or i8 (this chooses the format); scale f32. Every backend gives the same bytes.
 * Errors   SHAPE, DTYPE; SHAPE where num_parts is below 0, or above 1 and num_heads does not divide cols
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 * Source   docs/numerics.md, the 8-bit contract.
 */
#ifndef SKY_OPS_QUANTIZE_ROWS_H
#define SKY_OPS_QUANTIZE_ROWS_H

#include "ops/ctx.h"
#include "ops/head_parts.h"

typedef struct sky_quantize_rows_args {
    sky_tensor codes;  /* [rows, cols] e4m3 or i8  out */
    sky_tensor scale;  /* [rows] f32  out */
    sky_tensor x;      /* [rows, cols] */
    int num_parts;     /* of x; 0: one */
    int64_t num_heads; /* looked at where there are several parts */
} sky_quantize_rows_args;

sky_status sky_quantize_rows(sky_ctx *ctx, const sky_quantize_rows_args *args);

#endif
