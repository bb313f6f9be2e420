/*
 * ops/copy_columns.h - a range of columns of one matrix into another
 *
 *     y[r, y_first + c] = x[r, x_first + c]      0 <= c < num_columns; the other columns of y stay as they are
 *
 * Shapes   x [rows, Cx], y [rows, Cy]; x_first + num_columns <= Cx, y_first + num_columns <= Cy; rows and num_columns may be
 *          0; y overlaps nothing
 * Types    any, the same
 * Errors   SHAPE, DTYPE
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 * Source   arXiv 2309.14509 (DeepSpeed-Ulysses), section 3: packing by receiver, and back.
 */
#ifndef SKY_OPS_COPY_COLUMNS_H
#define SKY_OPS_COPY_COLUMNS_H

#include "ops/ctx.h"

typedef struct sky_copy_columns_args {
    sky_tensor y; /* [rows, Cy]  in and out */
    sky_tensor x; /* [rows, Cx] */
    int64_t y_first, x_first, num_columns;
} sky_copy_columns_args;

sky_status sky_copy_columns(sky_ctx *ctx, const sky_copy_columns_args *args);

#endif
