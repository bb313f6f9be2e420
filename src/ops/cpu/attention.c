#include "ops/cpu/attention_job.h"
#include "ops/cpu/gemm.h"

enum { TILE_KEYS = 128, TILE_VECS = TILE_KEYS / SKY_CPU_LANES };
_Static_assert(TILE_KEYS == 2 * SKY_ROW_LANES, "a tile of scores folds once into the lanes of rows.h");

static int64_t pack_values(const sky_attention_job *job, int64_t head, int64_t key, int64_t keys, float *packed,
                           void *room)
{
    (void)room;
    const int64_t width = job->num_heads * job->head_dim;
    const void *first = sky_at(&job->v, key * width + head * job->head_dim);
    SKY_CPU(pack)(packed, first, job->v.dtype, width, job->head_dim, keys);
    return keys;
}

/* The scores z of row i, -inf past the last key, become weights. */
static inline void softmax_row(const sky_attention_piece *p, int64_t i, sky_vec *z)
{
    sky_vec lane[SKY_ROW_VECS];
    for (int j = 0; j < SKY_ROW_VECS; j++) {
        lane[j] = sky_vec_max(z[j], z[j + SKY_ROW_VECS]);
    }
    const float tile_maximum = sky_fold_max(lane);
    const float now = tile_maximum > p->maxima[i] ? tile_maximum : p->maxima[i];
    for (int j = 0; j < TILE_VECS; j++) {
        z[j] = sky_vec_exp(z[j] - sky_vec_all(now));
        sky_vec_store(p->scores + i * TILE_KEYS + j * SKY_CPU_LANES, z[j]);
    }
    for (int j = 0; j < SKY_ROW_VECS; j++) {
        lane[j] = z[j] + z[j + SKY_ROW_VECS];
    }
    sky_move_on(p, i, now, sky_fold_sum(lane));
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
        float *s = p->scores + i * TILE_KEYS;
        for (int64_t j = p->keys; j < TILE_KEYS; j++) {
            s[j] = -__builtin_inff();
        }
        for (int64_t j = 0; bias != NULL && j < p->keys; j++) {
            s[j] = s[j] * args->softmax_scale + bias[j - i];
        }
        sky_vec z[TILE_VECS];
        for (int j = 0; j < TILE_VECS; j++) {
            z[j] = sky_vec_load(s + j * SKY_CPU_LANES) * sky_vec_all(scale);
        }
        softmax_row(p, i, z);
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
    return SKY_CPU(attention_fits)("attention", args->q.shape[2], TILE_KEYS);
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
        .tile_keys = TILE_KEYS,
        .weight_unit = 1.0,
        .pack_values = pack_values,
        .weigh = weigh,
        .finish = finish,
    };
    return SKY_CPU(attention_run)(ctx, &job);
}
