#include "ops/ref/load_store.h"
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
sky_status sky_ref_qk_norm_rope_plan(sky_ctx *ctx, const sky_qk_norm_rope_args *args, size_t *scratch_bytes)
{
    (void)ctx;
    *scratch_bytes = (size_t)args->x.shape[1] * sizeof(float);
    return SKY_OK;
}

sky_status sky_ref_qk_norm_rope(sky_ctx *ctx, const sky_qk_norm_rope_args *args, void *scratch)
{
    const int64_t cols = args->x.shape[1];
    const int64_t head_dim = args->freqs.shape[1] * 2;
    const sky_tensor normed = SKY_TENSOR(scratch, SKY_F32, 1, cols);
    for (int64_t s = 0; s < args->x.shape[0]; s++) {
        const sky_tensor y = sky_tensor_rows(&args->y, s, 1);
        const int64_t heads[] = {1, cols / head_dim, head_dim};
        SKY_TRY(sky_ref_rms_norm(
            ctx,
            &(sky_rms_norm_args){
                .y = normed, .x = sky_tensor_rows(&args->x, s, 1), .weight = args->weight, .eps = args->eps},
            NULL));
        SKY_TRY(sky_ref_rope(ctx,
                             &(sky_rope_args){.y = sky_tensor_reshape(&y, 3, heads),
                                              .x = sky_tensor_reshape(&normed, 3, heads),
                                              .freqs = sky_tensor_rows(&args->freqs, s, 1)},
                             NULL));
    }
    return SKY_OK;
}
