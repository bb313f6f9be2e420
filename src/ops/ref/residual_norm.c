#include "ops/ref/linear_sums.h"
#include "ops/ref/row_codes.h"

/* Two rows: delta, or the bf16 copy that the norm sees, in f32 or bf16; and what the norm needs for codes. */
sky_status sky_ref_residual_norm_plan(sky_ctx *ctx, const sky_residual_norm_args *args, size_t *scratch_bytes)
{
    (void)ctx;
    *scratch_bytes = 2 * (size_t)args->x.shape[1] * sizeof(float);
    return SKY_OK;
}

/* Row r of delta, by itself: sums become numbers in scratch. */
static sky_tensor delta_row(const sky_residual_norm_args *args, int64_t r, void *scratch)
{
    if (args->delta.dtype != SKY_I32) {
        return sky_tensor_rows(&args->delta, r, 1);
    }
    const sky_tensor row = SKY_TENSOR(scratch, SKY_F32, 1, args->x.shape[1]);
    for (int64_t c = 0; c < row.shape[1]; c++) {
        ref_store(&row, c, ref_load_linear(&args->delta, &args->delta_sums, r, c));
    }
    return row;
}

static sky_status norm_row(sky_ctx *ctx, const sky_residual_norm_args *args, int64_t r, const sky_tensor *x,
                           void *scratch)
{
    const sky_tensor y = sky_tensor_rows(&args->y, r, 1);
    const sky_tensor y_scale =
        sky_tensor_present(&args->y_scale) ? sky_tensor_rows(&args->y_scale, r, 1) : args->y_scale;
    if (sky_tensor_present(&args->weight)) {
        return sky_ref_layer_norm(
            ctx,
            &(sky_layer_norm_args){
                .y = y, .y_scale = y_scale, .x = *x, .weight = args->weight, .bias = args->bias, .eps = args->eps},
            scratch);
    }
    return sky_ref_layer_norm_modulate(ctx,
                                       &(sky_layer_norm_modulate_args){.y = y,
                                                                       .y_scale = y_scale,
                                                                       .x = *x,
                                                                       .shift = args->shift,
                                                                       .scale = args->scale,
                                                                       .first_row = args->first_row + r,
                                                                       .rows_per_group = args->rows_per_group,
                                                                       .eps = args->eps},
                                       scratch);
}

sky_status sky_ref_residual_norm(sky_ctx *ctx, const sky_residual_norm_args *args, void *scratch)
{
    const int64_t cols = args->x.shape[1];
    const sky_tensor rounded = SKY_TENSOR(scratch, SKY_BF16, 1, cols);
    for (int64_t r = 0; r < args->x.shape[0]; r++) {
        sky_tensor x = sky_tensor_rows(&args->x, r, 1);
        SKY_TRY(sky_ref_gate_residual(ctx,
                                      &(sky_gate_residual_args){.x = x,
                                                                .y = delta_row(args, r, scratch),
                                                                .gate = args->gate,
                                                                .first_row = args->first_row + r,
                                                                .rows_per_group = args->rows_per_group},
                                      NULL));
        if (args->rounding != SKY_ROUND_NOTHING) {
            SKY_TRY(sky_ref_convert(ctx, &(sky_convert_args){.y = rounded, .x = x}, NULL));
        }
        if (args->rounding == SKY_ROUND_X) {
            SKY_TRY(sky_ref_convert(ctx, &(sky_convert_args){.y = x, .x = rounded}, NULL));
        }
        if (sky_tensor_present(&args->y)) {
            SKY_TRY(
                norm_row(ctx, args, r, args->rounding == SKY_ROUND_NORMED ? &rounded : &x, (float *)scratch + cols));
        }
    }
    return SKY_OK;
}
