#include "ops/ref/load_store.h"
#include "ops/ref/ref_ops.h"

sky_status sky_ref_linear_plan(sky_ctx *ctx, const sky_linear_args *args, size_t *scratch_bytes)
{
    (void)ctx;
    *scratch_bytes = (size_t)args->x.shape[1] * sizeof(double);
    return SKY_OK;
}

sky_status sky_ref_linear(sky_ctx *ctx, const sky_linear_args *args, void *scratch)
{
    (void)ctx;
    const int64_t rows = args->x.shape[0];
    const int64_t len = args->x.shape[1];
    const int64_t cols = args->weight.shape[0];
    double *weight_row = scratch;
    for (int64_t n = 0; n < cols; n++) {
        ref_load_row(weight_row, &args->weight, n * len, len);
        for (int64_t m = 0; m < rows; m++) {
            float y = (float)ref_dot(weight_row, &args->x, m * len, len);
            if (sky_tensor_present(&args->bias)) {
                y += ref_load(&args->bias, n);
            }
            ref_store(&args->y, m * cols + n, y);
        }
    }
    return SKY_OK;
}
