#include "ops/ref/load_store.h"
#include "ops/ref/ref_ops.h"

#include <math.h>

enum { STEP = SKY_P_STEP_KEYS };

/* One row of y: a step's share in f64, and the running sum in f32. */
sky_status sky_ref_attention_8bit_plan(sky_ctx *ctx, const sky_attention_8bit_args *args, size_t *scratch_bytes)
{
    (void)ctx;
    *scratch_bytes = (size_t)args->q.shape[2] * (sizeof(double) + sizeof(float));
    return SKY_OK;
}

typedef struct running {
    float max, denominator;
    float *sum;   /* [head_dim] */
    double *step; /* [head_dim] */
} running;

/* z[j] for keys [first, first + keys); returns the largest. */
static float step_scores(const sky_attention_8bit_args *args, int64_t s, int64_t n, int64_t first, int64_t keys,
                         float *z)
{
    const int64_t num_heads = args->q.shape[1];
    const int64_t head_dim = args->q.shape[2];
    const int8_t *q = (const int8_t *)args->q.data + (s * num_heads + n) * head_dim;
    const float q_scale = ref_load(&args->q_scale, s / SKY_Q_GROUP_TOKENS * num_heads + n);
    float max = -INFINITY;
    for (int64_t j = 0; j < keys; j++) {
        const float k_scale = ref_load(&args->k_scale, (first + j) / SKY_K_GROUP_TOKENS * num_heads + n);
        const int8_t *k = (const int8_t *)args->k.data + ((first + j) * num_heads + n) * head_dim;
        int64_t product = 0;
        for (int64_t d = 0; d < head_dim; d++) {
            product += q[d] * k[d];
        }
        z[j] = (float)product * (q_scale * k_scale) * args->softmax_scale;
        max = fmaxf(max, z[j]);
    }
    return max;
}

/* Where the code of a token's channel lies among the tiles of V. */
static int64_t place_of(const sky_tensor *v, int64_t token, int64_t n, int64_t d)
{
    const int64_t tile = token / SKY_V_TILE_TOKENS;
    return ((tile * v->shape[1] + n) * v->shape[2] + d) * SKY_V_TILE_TOKENS +
           sky_v_tile_position(token % SKY_V_TILE_TOKENS);
}

/* Keys [first, first + STEP) enter the running softmax of query s, head n. */
static void add_step(const sky_attention_8bit_args *args, int64_t s, int64_t n, int64_t first, running *r)
{
    const int64_t head_dim = args->q.shape[2];
    const int64_t rest = args->k.shape[0] - first;
    const int64_t keys = rest < STEP ? rest : STEP;
    float z[STEP];
    const float max = fmaxf(r->max, step_scores(args, s, n, first, keys, z));
    const float shrink = expf(r->max - max);
    double denominator = 0.0;
    for (int64_t d = 0; d < head_dim; d++) {
        r->step[d] = 0.0;
    }
    for (int64_t j = 0; j < keys; j++) {
        const double p = (double)sky_e4m3_to_f32(sky_f32_to_e4m3(448.0F * expf(z[j] - max)));
        denominator += p;
        for (int64_t d = 0; d < head_dim; d++) {
            r->step[d] += p * (double)ref_load_code(&args->v, place_of(&args->v, first + j, n, d));
        }
    }
    r->denominator = shrink * r->denominator + (float)denominator;
    for (int64_t d = 0; d < head_dim; d++) {
        r->sum[d] = shrink * r->sum[d] + (float)r->step[d];
    }
    r->max = max;
}

sky_status sky_ref_attention_8bit(sky_ctx *ctx, const sky_attention_8bit_args *args, void *scratch)
{
    (void)ctx;
    const int64_t num_queries = args->q.shape[0];
    const int64_t num_keys = args->k.shape[0];
    const int64_t num_heads = args->q.shape[1];
    const int64_t head_dim = args->q.shape[2];
    for (int64_t s = 0; s < num_queries; s++) {
        for (int64_t n = 0; n < num_heads; n++) {
            running r = {.max = -INFINITY, .step = scratch, .sum = (float *)((double *)scratch + head_dim)};
            for (int64_t d = 0; d < head_dim; d++) {
                r.sum[d] = 0.0F;
            }
            for (int64_t first = 0; first < num_keys; first += STEP) {
                add_step(args, s, n, first, &r);
            }
            for (int64_t d = 0; d < head_dim; d++) {
                float y = r.sum[d] / r.denominator * ref_load(&args->v_scale, n * head_dim + d);
                if (sky_tensor_present(&args->v_mean)) {
                    y += ref_load(&args->v_mean, n * head_dim + d);
                }
                ref_store(&args->y, (s * num_heads + n) * head_dim + d, y);
            }
            if (sky_tensor_present(&args->lse)) {
                const double lse = (double)r.max + log((double)r.denominator / 448.0);
                ref_store(&args->lse, s * num_heads + n, (float)lse);
            }
        }
    }
    return SKY_OK;
}
