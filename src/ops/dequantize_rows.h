/*
 * ops/dequantize_rows.h - codes with one scale per row back to numbers
 *
 *     y[r, c] = value(codes[r, c]) * scale[r]
 *
 * in f32, rounded once.
 *
 * Shapes   y, codes [rows, cols]; scale [rows]
 * Types    codes e4m3 or i8; scale f32; y f32 or bf16
 * Errors   SHAPE, DTYPE
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 * Source   docs/numerics.md, the 8-bit contract (text encoder's weights).
 */
#ifndef SKY_OPS_DEQUANTIZE_ROWS_H
#define SKY_OPS_DEQUANTIZE_ROWS_H

#include "ops/ctx.h"

typedef struct sky_dequantize_rows_args {
    sky_tensor y;     /* [rows, cols]  out */
    sky_tensor codes; /* [rows, cols] e4m3 or i8 */
    sky_tensor scale; /* [rows] f32 */
} sky_dequantize_rows_args;

sky_status sky_dequantize_rows(sky_ctx *ctx, const sky_dequantize_rows_args *args);

#endif
