#include "ops/ref/linear_sums.h"
#include "ops/ref/load_store.h"
#include "ops/ref/nonlinear.h"
#include "ops/ref/ref_ops.h"
#include "ops/ref/row_codes.h"

#include <math.h>

static double sum_of_squares(const sky_tensor *x, int64_t first, int64_t len)
{
    double sum = 0.0;
    for (int64_t i = first; i < first + len; i++) {
        sum += (double)ref_load(x, i) * (double)ref_load(x, i);
    }
    return sum;
}

/* Mean and 1 / sqrt(biased variance + eps); the variance in a second pass, about the mean. */
static void moments(const sky_tensor *x, int64_t first, int64_t len, double eps, double *mean, double *inv_std)
{
    double sum = 0.0;
    for (int64_t i = first; i < first + len; i++) {
        sum += (double)ref_load(x, i);
    }
    *mean = sum / (double)len;
    double squares = 0.0;
    for (int64_t i = first; i < first + len; i++) {
        const double d = (double)ref_load(x, i) - *mean;
        squares += d * d;
    }
    *inv_std = 1.0 / sqrt(squares / (double)len + eps);
}

sky_status sky_ref_rms_norm(sky_ctx *ctx, const sky_rms_norm_args *args, void *scratch)
{
    (void)ctx;
    (void)scratch;
    const int64_t rows = args->x.shape[0];
    const int64_t cols = args->x.shape[1];
    for (int64_t r = 0; r < rows; r++) {
        double squares = 0.0;
        for (int64_t c = 0; c < cols; c++) {
            const double x = (double)ref_load_linear(&args->x, &args->x_sums, r, c);
            squares += x * x;
        }
        const double inv_rms = 1.0 / sqrt(squares / (double)cols + (double)args->eps);
        for (int64_t c = 0; c < cols; c++) {
            double normed = (double)ref_load_linear(&args->x, &args->x_sums, r, c) * inv_rms;
            if (args->round_normed) {
                normed = (double)(args->y.dtype == SKY_BF16 ? sky_round_bf16((float)normed) : (float)normed);
            }
            ref_store(&args->y, r * cols + c, (float)((double)ref_load(&args->weight, c) * normed));
        }
    }
    return SKY_OK;
}

static void layer_norm(const sky_layer_norm_args *args)
{
    const int64_t rows = args->x.shape[0];
    const int64_t cols = args->x.shape[1];
    for (int64_t r = 0; r < rows; r++) {
        double mean = 0.0;
        double inv_std = 0.0;
        moments(&args->x, r * cols, cols, (double)args->eps, &mean, &inv_std);
        for (int64_t c = 0; c < cols; c++) {
            const double normed = ((double)ref_load(&args->x, r * cols + c) - mean) * inv_std;
            const double y = (double)ref_load(&args->weight, c) * normed + (double)ref_load(&args->bias, c);
            ref_store(&args->y, r * cols + c, (float)y);
        }
    }
}

sky_status sky_ref_layer_norm_plan(sky_ctx *ctx, const sky_layer_norm_args *args, size_t *scratch_bytes)
{
    (void)ctx;
    *scratch_bytes = ref_row_codes_bytes(&args->y);
    return SKY_OK;
}

sky_status sky_ref_layer_norm(sky_ctx *ctx, const sky_layer_norm_args *args, void *scratch)
{
    if (!sky_tensor_present(&args->y_scale)) {
        layer_norm(args);
        return SKY_OK;
    }
    sky_layer_norm_args row = *args;
    row.y = SKY_TENSOR(scratch, SKY_F32, 1, args->x.shape[1]);
    for (int64_t r = 0; r < args->x.shape[0]; r++) {
        row.x = sky_tensor_rows(&args->x, r, 1);
        layer_norm(&row);
        SKY_TRY(ref_quantize_row(ctx, &args->y, &args->y_scale, r, &row.y));
    }
    return SKY_OK;
}

static void layer_norm_modulate(const sky_layer_norm_modulate_args *args)
{
    const int64_t rows = args->x.shape[0];
    const int64_t cols = args->x.shape[1];
    for (int64_t r = 0; r < rows; r++) {
        const int64_t group = (args->first_row + r) / args->rows_per_group;
        double mean = 0.0;
        double inv_std = 0.0;
        moments(&args->x, r * cols, cols, (double)args->eps, &mean, &inv_std);
        for (int64_t c = 0; c < cols; c++) {
            const double normed = ((double)ref_load(&args->x, r * cols + c) - mean) * inv_std;
            const double scale = (double)ref_load(&args->scale, group * cols + c);
            const double shift = (double)ref_load(&args->shift, group * cols + c);
            ref_store(&args->y, r * cols + c, (float)(normed * (1.0 + scale) + shift));
        }
    }
}

sky_status sky_ref_layer_norm_modulate_plan(sky_ctx *ctx, const sky_layer_norm_modulate_args *args,
                                            size_t *scratch_bytes)
{
    (void)ctx;
    *scratch_bytes = ref_row_codes_bytes(&args->y);
    return SKY_OK;
}

sky_status sky_ref_layer_norm_modulate(sky_ctx *ctx, const sky_layer_norm_modulate_args *args, void *scratch)
{
    if (!sky_tensor_present(&args->y_scale)) {
        layer_norm_modulate(args);
        return SKY_OK;
    }
    sky_layer_norm_modulate_args row = *args;
    row.y = SKY_TENSOR(scratch, SKY_F32, 1, args->x.shape[1]);
    for (int64_t r = 0; r < args->x.shape[0]; r++, row.first_row++) {
        row.x = sky_tensor_rows(&args->x, r, 1);
        layer_norm_modulate(&row);
        SKY_TRY(ref_quantize_row(ctx, &args->y, &args->y_scale, r, &row.y));
    }
    return SKY_OK;
}

sky_status sky_ref_channel_norm(sky_ctx *ctx, const sky_channel_norm_args *args, void *scratch)
{
    (void)ctx;
    (void)scratch;
    const int64_t channels = args->x.shape[args->x.num_dims - 1];
    const int64_t rows = sky_tensor_len(&args->x) / channels;
    const bool higher = args->x.num_dims == 4;
    const int64_t width = higher ? args->x.shape[2] : 1;
    const int64_t frame = higher ? args->x.shape[1] * width : rows; /* rows of a frame */
    const int64_t y_frame = higher ? args->y.shape[1] * width : rows;
    for (int64_t r = 0; r < rows; r++) {
        const int64_t to = r / frame * y_frame + args->y_first_row * width + r % frame;
        const double norm = fmax(sqrt(sum_of_squares(&args->x, r * channels, channels)), 1e-12);
        for (int64_t c = 0; c < channels; c++) {
            const double x = (double)ref_load(&args->x, r * channels + c);
            const double z = x / norm * sqrt((double)channels) * (double)ref_load(&args->gamma, c);
            ref_store(&args->y, to * channels + c, (float)(args->silu ? ref_silu(z) : z));
        }
    }
    return SKY_OK;
}
