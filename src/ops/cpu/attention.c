#include "ops/cpu/attention_job.h"
#include "ops/cpu/gemm.h"

static void pack_values(const sky_attention_job *job, int64_t head, int64_t key, int64_t keys, float *packed,
                        void *room)
{
    (void)room;
    const int64_t width = job->num_heads * job->head_dim;
    const void *first = sky_at(&job->v, key * width + head * job->head_dim);
    SKY_CPU(pack)(packed, first, job->v.dtype, width, job->head_dim, keys);
}

static void weigh(const void *arg, const sky_attention_piece *p)
{
    const sky_attention_args *args = arg;
    const int64_t num_queries = args->q.shape[0];
    const int64_t num_keys = args->k.shape[0];
    const float *bias = args->rel_bias.data;
    const float scale = bias == NULL ? args->softmax_scale : 1.0F;
    if (bias != NULL) { /* [num_heads][num_queries + num_keys - 1], where query 0 and key 0 meet at num_queries - 1 */
        bias += p->head * (num_queries + num_keys - 1) + p->key - p->row + num_queries - 1;
    }
    for (int64_t i = 0; i < p->rows; i++) {
        float *s = p->scores + i * SKY_TILE_KEYS;
        for (int64_t j = p->keys; j < SKY_TILE_KEYS; j++) {
            s[j] = -__builtin_inff();
        }
        for (int64_t j = 0; bias != NULL && j < p->keys; j++) {
            s[j] = s[j] * args->softmax_scale + bias[j - i];
        }
        sky_vec z[SKY_TILE_VECS];
        for (int j = 0; j < SKY_TILE_VECS; j++) {
            z[j] = sky_vec_load(s + j * SKY_CPU_LANES) * sky_vec_all(scale);
        }
        sky_softmax_row(p, i, z, false);
    }
}

static void finish(const void *arg, int64_t head, const float *sum, float total, float *y, int64_t head_dim)
{
    (void)arg;
    (void)head;
    for (int64_t d = 0; d < head_dim; d++) {
        y[d] = sum[d] / total;
    }
}

sky_status SKY_CPU(attention_plan)(sky_ctx *ctx, const sky_attention_args *args, size_t *scratch_bytes)
{
    (void)ctx;
    (void)scratch_bytes;
    return SKY_CPU(attention_fits)("attention", args->q.shape[2]);
}

sky_status SKY_CPU(attention)(sky_ctx *ctx, const sky_attention_args *args, void *scratch)
{
    (void)scratch;
    sky_attention_job job = {
        .args = args,
        .y = args->y,
        .q = args->q,
        .k = args->k,
        .v = args->v,
        .lse = args->lse,
        .pack_values = pack_values,
        .weigh = weigh,
        .finish = finish,
    };
    return SKY_CPU(attention_run)(ctx, &job);
}
