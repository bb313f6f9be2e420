#include "ops/ref/load_store.h"
#include "ops/ref/ref_ops.h"

#include <math.h>

sky_status sky_ref_merge_attention(sky_ctx *ctx, const sky_merge_attention_args *args, void *scratch)
{
    (void)ctx;
    (void)scratch;
    const int64_t head_dim = args->y.shape[2];
    for (int64_t row = 0; row < sky_tensor_len(&args->lse); row++) {
        const double lse = (double)ref_load(&args->lse, row);
        const double other_lse = (double)ref_load(&args->other_lse, row);
        if (other_lse == -INFINITY) {
            continue;
        }
        const bool nothing_yet = lse == -INFINITY;
        const double max = lse > other_lse ? lse : other_lse;
        const double w = exp(lse - max);
        const double v = exp(other_lse - max);
        for (int64_t d = 0; d < head_dim; d++) {
            const int64_t at = row * head_dim + d;
            const double other = (double)ref_load(&args->other, at);
            const double merged = nothing_yet ? other : (w * (double)ref_load(&args->y, at) + v * other) / (w + v);
            ref_store(&args->y, at, (float)merged);
        }
        ref_store(&args->lse, row, (float)(max + log(w + v)));
    }
    return SKY_OK;
}
