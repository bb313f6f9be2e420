#include "ops/ref/linear_sums.h"
#include "ops/ref/ref_ops.h"

sky_status sky_ref_rope(sky_ctx *ctx, const sky_rope_args *args, void *scratch)
{
    (void)ctx;
    (void)scratch;
    const int64_t num_heads = args->x.shape[1];
    const int64_t head_dim = args->x.shape[2];
    for (int64_t s = 0; s < args->x.shape[0]; s++) {
        for (int64_t n = 0; n < num_heads; n++) {
            for (int64_t d = 0; d < head_dim; d += 2) {
                const int64_t i = (s * num_heads + n) * head_dim + d;
                const double cosine = (double)ref_load(&args->freqs, s * head_dim + d);
                const double sine = (double)ref_load(&args->freqs, s * head_dim + d + 1);
                const double a = (double)ref_load(&args->x, i);
                const double b = (double)ref_load(&args->x, i + 1);
                ref_store(&args->y, i, (float)(a * cosine - b * sine));
                ref_store(&args->y, i + 1, (float)(a * sine + b * cosine));
            }
        }
    }
    return SKY_OK;
}

/* One row between norm and rotation, in f32. */
static size_t row_bytes(const sky_tensor *x)
{
    return (size_t)x->shape[1] * sizeof(float);
}

sky_status sky_ref_qk_norm_rope_plan(sky_ctx *ctx, const sky_qk_norm_rope_args *args, size_t *scratch_bytes)
{
    (void)ctx;
    *scratch_bytes = 2 * row_bytes(&args->x);
    return SKY_OK;
}

/* [cols] of heads to row `row` of y, which lies in parts. */
static void store_in_parts(const sky_qk_norm_rope_args *args, int64_t row, const sky_tensor *rotated)
{
    const int64_t head_dim = args->freqs.shape[1] * 2;
    const int64_t num_heads = args->x.shape[1] / head_dim;
    for (int64_t n = 0; n < num_heads; n++) {
        const sky_span part = sky_part_of_head(num_heads, args->num_parts, n);
        const int64_t to = sky_part_row(part, args->x.shape[0], head_dim, row) + (n - part.first) * head_dim;
        for (int64_t d = 0; d < head_dim; d++) {
            ref_store(&args->y, to + d, ref_load(rotated, n * head_dim + d));
        }
    }
}

sky_status sky_ref_qk_norm_rope(sky_ctx *ctx, const sky_qk_norm_rope_args *args, void *scratch)
{
    const int64_t cols = args->x.shape[1];
    const int64_t head_dim = args->freqs.shape[1] * 2;
    const int64_t heads[] = {1, cols / head_dim, head_dim};
    const sky_tensor normed = SKY_TENSOR(scratch, SKY_F32, 1, cols);
    const sky_tensor rotated = SKY_TENSOR((float *)scratch + cols, SKY_F32, 1, cols);
    for (int64_t s = 0; s < args->x.shape[0]; s++) {
        for (int64_t c = 0; c < cols; c++) {
            ref_store(&normed, c, ref_load_linear(&args->x, &args->x_sums, s, c));
        }
        SKY_TRY(sky_ref_rms_norm(
            ctx, &(sky_rms_norm_args){.y = normed, .x = normed, .weight = args->weight, .eps = args->eps}, NULL));
        SKY_TRY(sky_ref_rope(ctx,
                             &(sky_rope_args){.y = sky_tensor_reshape(&rotated, 3, heads),
                                              .x = sky_tensor_reshape(&normed, 3, heads),
                                              .freqs = sky_tensor_rows(&args->freqs, s, 1)},
                             NULL));
        store_in_parts(args, s, &rotated);
    }
    return SKY_OK;
}

/* All rotated rows in f32, and behind them the scratch of qk_norm_rope. */
static size_t rotated_bytes(const sky_tensor *x)
{
    return (size_t)(x->shape[0] + 2) * row_bytes(x);
}

static sky_tensor rotated_rows(const sky_tensor *x, void *scratch)
{
    return SKY_TENSOR(scratch, SKY_F32, x->shape[0], x->shape[1]);
}

static void *behind(const sky_tensor *rows)
{
    return (char *)rows->data + sky_tensor_bytes(rows);
}

sky_status sky_ref_qk_norm_rope_sums_plan(sky_ctx *ctx, const sky_qk_norm_rope_sums_args *args, size_t *scratch_bytes)
{
    (void)ctx;
    *scratch_bytes = rotated_bytes(&args->x);
    return SKY_OK;
}

sky_status sky_ref_qk_norm_rope_sums(sky_ctx *ctx, const sky_qk_norm_rope_sums_args *args, void *scratch)
{
    const sky_tensor rotated = rotated_rows(&args->x, scratch);
    SKY_TRY(sky_ref_qk_norm_rope(ctx,
                                 &(sky_qk_norm_rope_args){.y = rotated,
                                                          .x = args->x,
                                                          .x_sums = args->x_sums,
                                                          .weight = args->weight,
                                                          .freqs = args->freqs,
                                                          .eps = args->eps},
                                 behind(&rotated)));
    return sky_ref_channel_sums(
        ctx, &(sky_channel_sums_args){.sums = args->sums, .x = rotated, .num_tokens = args->num_tokens}, NULL);
}

sky_status sky_ref_qk_norm_rope_quantize_plan(sky_ctx *ctx, const sky_qk_norm_rope_quantize_args *args,
                                              size_t *scratch_bytes)
{
    (void)ctx;
    *scratch_bytes = rotated_bytes(&args->x);
    return SKY_OK;
}

sky_status sky_ref_qk_norm_rope_quantize(sky_ctx *ctx, const sky_qk_norm_rope_quantize_args *args, void *scratch)
{
    const int64_t head_dim = args->freqs.shape[1] * 2;
    const int64_t heads[] = {args->x.shape[0], args->x.shape[1] / head_dim, head_dim};
    const sky_tensor rotated = rotated_rows(&args->x, scratch);
    SKY_TRY(sky_ref_qk_norm_rope(ctx,
                                 &(sky_qk_norm_rope_args){.y = rotated,
                                                          .x = args->x,
                                                          .x_sums = args->x_sums,
                                                          .weight = args->weight,
                                                          .freqs = args->freqs,
                                                          .eps = args->eps},
                                 behind(&rotated)));
    return sky_ref_quantize_heads(ctx,
                                  &(sky_quantize_heads_args){.codes = sky_tensor_reshape(&args->codes, 3, heads),
                                                             .scale = args->scale,
                                                             .x = sky_tensor_reshape(&rotated, 3, heads),
                                                             .mean = args->mean,
                                                             .tokens_per_group = args->tokens_per_group,
                                                             .num_parts = args->num_parts},
                                  NULL);
}
