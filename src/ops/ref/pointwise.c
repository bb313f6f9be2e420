#include "ops/ref/linear_sums.h"
#include "ops/ref/load_store.h"
#include "ops/ref/nonlinear.h"
#include "ops/ref/ref_ops.h"
#include "ops/ref/row_codes.h"

static void activate(const sky_activation_args *args)
{
    const int64_t len = sky_tensor_len(&args->x);
    const bool sums = args->x.dtype == SKY_I32;
    for (int64_t i = 0; i < len; i++) {
        const double x =
            (double)(sums ? ref_load_linear(&args->x, &args->x_sums, i / args->x.shape[1], i % args->x.shape[1])
                          : ref_load(&args->x, i));
        const double y = args->kind == SKY_SILU        ? ref_silu(x)
                         : args->kind == SKY_GELU_TANH ? ref_gelu_tanh(x)
                                                       : ref_gelu_erf(x);
        ref_store(&args->y, i, (float)y);
    }
}

sky_status sky_ref_activation_plan(sky_ctx *ctx, const sky_activation_args *args, size_t *scratch_bytes)
{
    (void)ctx;
    *scratch_bytes = ref_row_codes_bytes(&args->y);
    return SKY_OK;
}

sky_status sky_ref_activation(sky_ctx *ctx, const sky_activation_args *args, void *scratch)
{
    if (!sky_tensor_present(&args->y_scale)) {
        activate(args);
        return SKY_OK;
    }
    sky_activation_args row = *args;
    row.y = SKY_TENSOR(scratch, SKY_F32, 1, args->x.shape[1]);
    for (int64_t r = 0; r < args->x.shape[0]; r++) {
        row.x = sky_tensor_rows(&args->x, r, 1);
        row.x_sums = ref_sums_row(&args->x_sums, r);
        activate(&row);
        SKY_TRY(ref_quantize_row(ctx, &args->y, &args->y_scale, r, &row.y));
    }
    return SKY_OK;
}

sky_status sky_ref_gated_gelu(sky_ctx *ctx, const sky_gated_gelu_args *args, void *scratch)
{
    (void)ctx;
    (void)scratch;
    const int64_t len = sky_tensor_len(&args->y);
    for (int64_t i = 0; i < len; i++) {
        const double gate = ref_gelu_tanh((double)ref_load(&args->gate, i));
        ref_store(&args->y, i, (float)((double)ref_load(&args->up, i) * gate));
    }
    return SKY_OK;
}

sky_status sky_ref_add(sky_ctx *ctx, const sky_add_args *args, void *scratch)
{
    (void)ctx;
    (void)scratch;
    const int64_t len = sky_tensor_len(&args->y);
    for (int64_t i = 0; i < len; i++) {
        ref_store(&args->y, i, ref_load(&args->a, i) + ref_load(&args->b, i));
    }
    return SKY_OK;
}

sky_status sky_ref_convert(sky_ctx *ctx, const sky_convert_args *args, void *scratch)
{
    (void)ctx;
    (void)scratch;
    const int64_t len = sky_tensor_len(&args->y);
    const bool shifted = sky_tensor_present(&args->shift);
    for (int64_t i = 0; i < len; i++) {
        const float x = ref_load(&args->x, i);
        ref_store(&args->y, i, shifted ? x + ref_load(&args->shift, i % args->shift.shape[0]) : x);
    }
    return SKY_OK;
}

sky_status sky_ref_gate_residual(sky_ctx *ctx, const sky_gate_residual_args *args, void *scratch)
{
    (void)ctx;
    (void)scratch;
    const int64_t rows = args->x.shape[0];
    const int64_t cols = args->x.shape[1];
    const bool gated = sky_tensor_present(&args->gate);
    for (int64_t r = 0; r < rows; r++) {
        const int64_t group = gated ? (args->first_row + r) / args->rows_per_group : 0;
        for (int64_t c = 0; c < cols; c++) {
            const double gate = gated ? (double)ref_load(&args->gate, group * cols + c) : 1.0;
            const int64_t i = r * cols + c;
            ref_store(&args->x, i, (float)((double)ref_load(&args->x, i) + (double)ref_load(&args->y, i) * gate));
        }
    }
    return SKY_OK;
}

/* The next two are f32 step by step, so that every backend gives the same bytes. */
sky_status sky_ref_cfg_combine(sky_ctx *ctx, const sky_cfg_combine_args *args, void *scratch)
{
    (void)ctx;
    (void)scratch;
    const float *cond = args->cond.data;
    const float *uncond = args->uncond.data;
    float *y = args->y.data;
    const int64_t len = sky_tensor_len(&args->y);
    for (int64_t i = 0; i < len; i++) {
        const float difference = cond[i] - uncond[i];
        const float product = args->guidance_scale * difference;
        y[i] = uncond[i] + product;
    }
    return SKY_OK;
}

sky_status sky_ref_linear_combination(sky_ctx *ctx, const sky_linear_combination_args *args, void *scratch)
{
    (void)ctx;
    (void)scratch;
    float *y = args->y.data;
    const int64_t len = sky_tensor_len(&args->y);
    for (int64_t i = 0; i < len; i++) {
        float sum = args->coefficient[0] * ((const float *)args->x[0].data)[i];
        for (int k = 1; k < args->num_terms; k++) {
            const float product = args->coefficient[k] * ((const float *)args->x[k].data)[i];
            sum = sum + product;
        }
        y[i] = sum;
    }
    return SKY_OK;
}
