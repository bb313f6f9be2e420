#include "ops/cpu/blocks.h"
#include "ops/cpu/device.h"
#include "ops/cpu/isa.h"

/* One query's row of one head. A product and a sum are two roundings (no contraction in this file). */
static void merge_row(float *restrict y, float *restrict lse, const float *restrict other, float other_lse, int64_t len)
{
    const float minus_infinity = -__builtin_inff();
    if (other_lse == minus_infinity) {
        return;
    }
    if (*lse == minus_infinity) {
        memcpy(y, other, (size_t)len * sizeof *y);
        *lse = other_lse;
        return;
    }
    const float max = *lse > other_lse ? *lse : other_lse;
    const float w = sky_exp(*lse - max);
    const float v = sky_exp(other_lse - max);
    const float sum = w + v;
    for (int64_t i = 0; i < len; i++) {
        y[i] = (w * y[i] + v * other[i]) / sum;
    }
    *lse = (float)((double)max + __builtin_log((double)sum));
}

static int64_t rows_per_job(int64_t head_dim)
{
    return sky_max_i64(1, SKY_CHUNK_LEN / sky_max_i64(head_dim, 1));
}

static void merge_rows(void *arg, int64_t index, int thread)
{
    (void)thread;
    const sky_merge_attention_args *args = arg;
    const int64_t head_dim = args->y.shape[2];
    const int64_t step = rows_per_job(head_dim);
    const int64_t end = sky_min_i64((index + 1) * step, sky_tensor_len(&args->lse));
    float *y = args->y.data;
    float *lse = args->lse.data;
    const float *other = args->other.data;
    const float *other_lse = args->other_lse.data;
    for (int64_t row = index * step; row < end; row++) {
        merge_row(y + row * head_dim, lse + row, other + row * head_dim, other_lse[row], head_dim);
    }
}

sky_status SKY_CPU(merge_attention)(sky_ctx *ctx, const sky_merge_attention_args *args, void *scratch)
{
    (void)scratch;
    sky_merge_attention_args copy = *args;
    const int64_t num_jobs = sky_div_up(sky_tensor_len(&args->lse), rows_per_job(args->y.shape[2]));
    sky_threads_for(sky_cpu_device_of(ctx)->threads, num_jobs, merge_rows, &copy);
    return SKY_OK;
}
