#include "ops/ref/load_store.h"
#include "ops/ref/ref_ops.h"

#include <math.h>

enum { TILE = SKY_K_GROUP_TOKENS };

/* One row of y: a tile's share in f64, and the running sum in f32. */
sky_status sky_ref_attention_8bit_plan(sky_ctx *ctx, const sky_attention_8bit_args *args, size_t *scratch_bytes)
{
    (void)ctx;
    *scratch_bytes = (size_t)args->q.shape[2] * (sizeof(double) + sizeof(float));
    return SKY_OK;
}

typedef struct running {
    float max, denominator;
    float *sum;   /* [head_dim] */
    double *tile; /* [head_dim] */
} running;

/* z[j] for the keys of tile t; returns the largest. */
static float tile_scores(const sky_attention_8bit_args *args, int64_t s, int64_t n, int64_t t, int64_t keys, float *z)
{
    const int64_t num_heads = args->q.shape[1];
    const int64_t head_dim = args->q.shape[2];
    const float scale =
        ref_load(&args->q_scale, s / SKY_Q_GROUP_TOKENS * num_heads + n) * ref_load(&args->k_scale, t * num_heads + n);
    const int8_t *q = (const int8_t *)args->q.data + (s * num_heads + n) * head_dim;
    float max = -INFINITY;
    for (int64_t j = 0; j < keys; j++) {
        const int8_t *k = (const int8_t *)args->k.data + ((t * TILE + j) * num_heads + n) * head_dim;
        int64_t product = 0;
        for (int64_t d = 0; d < head_dim; d++) {
            product += q[d] * k[d];
        }
        z[j] = (float)product * scale * args->softmax_scale;
        max = fmaxf(max, z[j]);
    }
    return max;
}

/* The keys of tile t enter the running softmax of query s, head n. */
static void add_tile(const sky_attention_8bit_args *args, int64_t s, int64_t n, int64_t t, running *r)
{
    const int64_t num_heads = args->q.shape[1];
    const int64_t head_dim = args->q.shape[2];
    const int64_t rest = args->k.shape[0] - t * TILE;
    const int64_t keys = rest < TILE ? rest : TILE;
    float z[TILE];
    const float max = fmaxf(r->max, tile_scores(args, s, n, t, keys, z));
    const float shrink = expf(r->max - max);
    double denominator = 0.0;
    for (int64_t d = 0; d < head_dim; d++) {
        r->tile[d] = 0.0;
    }
    for (int64_t j = 0; j < keys; j++) {
        const float p = expf(z[j] - max);
        const double rounded = (double)sky_e4m3_to_f32(sky_f32_to_e4m3(448.0F * p));
        denominator += (double)p;
        for (int64_t d = 0; d < head_dim; d++) {
            const int64_t at = ((t * num_heads + n) * head_dim + d) * SKY_V_TILE_TOKENS + sky_v_tile_position(j);
            r->tile[d] += rounded * (double)ref_load_code(&args->v, at);
        }
    }
    r->denominator = shrink * r->denominator + (float)denominator;
    for (int64_t d = 0; d < head_dim; d++) {
        r->sum[d] = shrink * r->sum[d] + (float)r->tile[d];
    }
    r->max = max;
}

sky_status sky_ref_attention_8bit(sky_ctx *ctx, const sky_attention_8bit_args *args, void *scratch)
{
    (void)ctx;
    const int64_t num_queries = args->q.shape[0];
    const int64_t num_heads = args->q.shape[1];
    const int64_t head_dim = args->q.shape[2];
    const int64_t num_tiles = (args->k.shape[0] + TILE - 1) / TILE;
    for (int64_t s = 0; s < num_queries; s++) {
        for (int64_t n = 0; n < num_heads; n++) {
            running r = {.max = -INFINITY, .tile = scratch, .sum = (float *)((double *)scratch + head_dim)};
            for (int64_t d = 0; d < head_dim; d++) {
                r.sum[d] = 0.0F;
            }
            for (int64_t t = 0; t < num_tiles; t++) {
                add_tile(args, s, n, t, &r);
            }
            for (int64_t d = 0; d < head_dim; d++) {
                const float y = r.sum[d] / 448.0F / r.denominator * ref_load(&args->v_scale, n * head_dim + d);
                ref_store(&args->y, (s * num_heads + n) * head_dim + d, y);
            }
            if (sky_tensor_present(&args->lse)) {
                const double lse = (double)r.max + log((double)r.denominator);
                ref_store(&args->lse, s * num_heads + n, (float)lse);
            }
        }
    }
    return SKY_OK;
}
