#include "ops/ref/load_store.h"
#include "ops/ref/ref_ops.h"

#include <math.h>

/* One row of q, of scores and of y in f64. */
sky_status sky_ref_attention_plan(sky_ctx *ctx, const sky_attention_args *args, size_t *scratch_bytes)
{
    (void)ctx;
    *scratch_bytes = (size_t)(2 * args->q.shape[2] + args->k.shape[0]) * sizeof(double);
    return SKY_OK;
}

static double largest(const double *scores, int64_t len)
{
    double max = -INFINITY;
    for (int64_t t = 0; t < len; t++) {
        max = fmax(max, scores[t]);
    }
    return max;
}

/* scores[t] = exp(scores[t] - max), and their sum. */
static double exponentials(double *scores, int64_t len, double max)
{
    double sum = 0.0;
    for (int64_t t = 0; t < len; t++) {
        scores[t] = exp(scores[t] - max);
        sum += scores[t];
    }
    return sum;
}

sky_status sky_ref_attention(sky_ctx *ctx, const sky_attention_args *args, void *scratch)
{
    (void)ctx;
    const int64_t num_queries = args->q.shape[0];
    const int64_t num_heads = args->q.shape[1];
    const int64_t head_dim = args->q.shape[2];
    const int64_t num_keys = args->k.shape[0];
    const int64_t bias_len = num_queries + num_keys - 1;
    double *q = scratch;
    double *y = q + head_dim;
    double *scores = y + head_dim;
    for (int64_t n = 0; n < num_heads; n++) {
        for (int64_t s = 0; s < num_queries; s++) {
            const int64_t row = (s * num_heads + n) * head_dim;
            ref_load_row(q, &args->q, row, head_dim);
            for (int64_t t = 0; t < num_keys; t++) {
                scores[t] =
                    (double)args->softmax_scale * ref_dot(q, &args->k, (t * num_heads + n) * head_dim, head_dim);
                if (sky_tensor_present(&args->rel_bias)) {
                    scores[t] += (double)ref_load(&args->rel_bias, n * bias_len + t - s + num_queries - 1);
                }
            }
            const double max = largest(scores, num_keys);
            const double sum = exponentials(scores, num_keys, max);
            for (int64_t d = 0; d < head_dim; d++) {
                y[d] = 0.0;
            }
            for (int64_t t = 0; t < num_keys; t++) {
                ref_add_scaled(y, scores[t], &args->v, (t * num_heads + n) * head_dim, head_dim);
            }
            for (int64_t d = 0; d < head_dim; d++) {
                ref_store(&args->y, row + d, (float)(y[d] / sum));
            }
            if (sky_tensor_present(&args->lse)) {
                ref_store(&args->lse, s * num_heads + n, (float)(max + log(sum)));
            }
        }
    }
    return SKY_OK;
}
