/*
 * ops/ref/row_codes.h - ops whose result may be codes: the op on one row into f32, then quantize_rows (private to ops/ref)
 */
#ifndef SKY_OPS_REF_ROW_CODES_H
#define SKY_OPS_REF_ROW_CODES_H

#include "ops/ref/ref_ops.h"

/* Bytes of scratch: one row of y in f32, where y is codes. */
static inline size_t ref_row_codes_bytes(const sky_tensor *y)
{
    return y->dtype == SKY_F32 || y->dtype == SKY_BF16 ? 0 : (size_t)y->shape[1] * sizeof(float);
}

/* Codes and scale of row r of y from x [1, cols]. */
static inline sky_status ref_quantize_row(sky_ctx *ctx, const sky_tensor *y, const sky_tensor *y_scale, int64_t r,
                                          const sky_tensor *x)
{
    return sky_ref_quantize_rows(
        ctx,
        &(sky_quantize_rows_args){.codes = sky_tensor_rows(y, r, 1), .scale = sky_tensor_rows(y_scale, r, 1), .x = *x},
        NULL);
}

/* Rows [r, r + 1) of a linear layer's output. */
static inline sky_linear_sums ref_sums_row(const sky_linear_sums *sums, int64_t r)
{
    sky_linear_sums row = *sums;
    if (sky_tensor_present(&sums->x_scale)) {
        row.x_scale = sky_tensor_rows(&sums->x_scale, r, 1);
    }
    return row;
}

#endif
