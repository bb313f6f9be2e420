/*
 * ops/ref/linear_sums.h - elements of a linear layer's output, which may still be sums (private to ops/ref)
 */
#ifndef SKY_OPS_REF_LINEAR_SUMS_H
#define SKY_OPS_REF_LINEAR_SUMS_H

#include "ops/linear_sums.h"
#include "ops/ref/load_store.h"

/* Element [row, col] of x [rows, cols]. */
static inline float ref_load_linear(const sky_tensor *x, const sky_linear_sums *sums, int64_t row, int64_t col)
{
    const int64_t i = row * x->shape[1] + col;
    if (x->dtype != SKY_I32) {
        return ref_load(x, i);
    }
    float y =
        (float)((const int32_t *)x->data)[i] * (ref_load(&sums->x_scale, row) * ref_load(&sums->weight_scale, col));
    if (sky_tensor_present(&sums->bias)) {
        y += ref_load(&sums->bias, col);
    }
    return sky_round_bf16(y);
}

#endif
