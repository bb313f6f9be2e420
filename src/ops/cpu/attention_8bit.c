#include "ops/cpu/attention_job.h"
#include "ops/cpu/gemm.h"

/* Codes are widened to f32, in which the products of queries and keys are exact. */
enum { MAX_EXACT_DIM = 1024 }; /* 128 * 128 * 1024 is 2^24 */

enum { STEP = SKY_P_STEP_KEYS, TILE = SKY_V_TILE_TOKENS, GROUPS = STEP / SKY_ROW_LANES };
_Static_assert((int)SKY_V_TILE_TOKENS == (int)SKY_K_GROUP_TOKENS && SKY_K_GROUP_TOKENS == 2 * SKY_ROW_LANES,
               "two groups of lanes have one scale");

typedef uint8_t keys_16 __attribute__((vector_size(16), aligned(1), may_alias));

/* [tile, channel, key] -> [channel, tile, key] in room, keys back in their order: sky_v_tile_position(), inside each 16. */
static int64_t pack_values(const sky_attention_job *job, int64_t head, int64_t key, int64_t keys, float *packed,
                           void *room)
{
    for (int64_t t = 0; t < sky_num_v_tiles(keys); t++) {
        const int64_t tile = (key / TILE + t) * job->num_heads + head;
        const uint8_t *from = (const uint8_t *)job->v.data + tile * job->head_dim * TILE;
        for (int64_t d = 0; d < job->head_dim; d++) {
            uint8_t *to = (uint8_t *)room + d * STEP + t * TILE;
            for (int64_t i = 0; i < TILE; i += 16) {
                const keys_16 in = *(const keys_16 *)(from + d * TILE + i);
                *(keys_16 *)(to + i) =
                    __builtin_shufflevector(in, in, 0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
            }
        }
    }
    const int64_t depth = sky_div_up(keys, 16) * 16; /* whole vectors are packed faster, and a tile has them */
    SKY_CPU(pack_transposed)(packed, room, SKY_F8_E4M3, STEP, job->head_dim, depth);
    return depth;
}

/* Scores of row i, in groups of 64 keys, become weights; scale[t] is that of codes in tile t. */
static inline __attribute__((always_inline)) void softmax_row(const sky_attention_piece *p, int64_t i,
                                                              const float *scale, float softmax_scale, const int groups)
{
    float *s = p->scores + i * STEP;
    sky_vec z[GROUPS * SKY_ROW_VECS];
    sky_vec lane[SKY_ROW_VECS];
    for (int j = 0; j < groups * SKY_ROW_VECS; j++) {
        const sky_vec codes_scale = sky_vec_all(scale[j / (2 * SKY_ROW_VECS)]);
        z[j] = sky_vec_load(s + j * SKY_CPU_LANES) * codes_scale * sky_vec_all(softmax_scale);
    }
    if (p->keys < groups * SKY_ROW_LANES) {
        for (int j = (groups - 1) * SKY_ROW_VECS; j < groups * SKY_ROW_VECS; j++) {
            sky_vec_store(s + j * SKY_CPU_LANES, z[j]);
        }
        for (int64_t j = p->keys; j < groups * SKY_ROW_LANES; j++) {
            s[j] = -__builtin_inff();
        }
        for (int j = (groups - 1) * SKY_ROW_VECS; j < groups * SKY_ROW_VECS; j++) {
            z[j] = sky_vec_load(s + j * SKY_CPU_LANES);
        }
    }
    for (int j = 0; j < SKY_ROW_VECS; j++) {
        lane[j] = z[j];
        for (int g = 1; g < groups; g++) {
            lane[j] = sky_vec_max(lane[j], z[g * SKY_ROW_VECS + j]);
        }
    }
    const float step_maximum = sky_fold_max(lane);
    const float now = step_maximum > p->maxima[i] ? step_maximum : p->maxima[i];
    for (int j = 0; j < SKY_ROW_VECS; j++) {
        lane[j] = sky_vec_all(0.0F);
        for (int g = 0; g < groups; g++) {
            const int at = g * SKY_ROW_VECS + j;
            const sky_vec weight = sky_vec_exp(z[at] - sky_vec_all(now));
            z[at] = sky_vec_round_e4m3(weight * sky_vec_all(448.0F));
            lane[j] += z[at];
            sky_vec_store(s + at * SKY_CPU_LANES, z[at]);
        }
    }
    sky_move_on(p, i, now, sky_fold_sum(lane));
}

static void weigh(const void *arg, const sky_attention_piece *p)
{
    const sky_attention_8bit_args *args = arg;
    const int64_t num_heads = args->q.shape[1];
    const float *k_scale = (const float *)args->k_scale.data + p->key / TILE * num_heads + p->head;
    const float q_scale = ((const float *)args->q_scale.data)[p->row / SKY_PIECE_QUERIES * num_heads + p->head];
    const int64_t groups = sky_div_up(p->keys, SKY_ROW_LANES);
    const float scale[] = {q_scale * k_scale[0], groups > 2 ? q_scale * k_scale[num_heads] : 0.0F};
    for (int64_t i = 0; i < p->rows; i++) {
        if (groups == GROUPS) {
            softmax_row(p, i, scale, args->softmax_scale, GROUPS);
        } else if (groups == 3) {
            softmax_row(p, i, scale, args->softmax_scale, 3);
        } else if (groups == 2) {
            softmax_row(p, i, scale, args->softmax_scale, 2);
        } else {
            softmax_row(p, i, scale, args->softmax_scale, 1);
        }
    }
}

static void finish(const void *arg, int64_t head, const float *sum, float total, float *y, int64_t head_dim)
{
    const sky_attention_8bit_args *args = arg;
    const float *v_scale = (const float *)args->v_scale.data + head * head_dim;
    for (int64_t d = 0; d < head_dim; d++) {
        y[d] = sum[d] / total * v_scale[d];
    }
    const float *v_mean = args->v_mean.data;
    for (int64_t d = 0; v_mean != NULL && d < head_dim; d++) {
        y[d] += v_mean[head * head_dim + d];
    }
}

sky_status SKY_CPU(attention_8bit_plan)(sky_ctx *ctx, const sky_attention_8bit_args *args, size_t *scratch_bytes)
{
    const int64_t head_dim = args->q.shape[2];
    (void)ctx;
    (void)scratch_bytes;
    if (head_dim > MAX_EXACT_DIM) {
        return sky_fail(SKY_ERR_UNSUPPORTED, "attention_8bit: head_dim %lld is beyond the CPU backend's limit of %d",
                        (long long)head_dim, MAX_EXACT_DIM);
    }
    return SKY_CPU(attention_fits)("attention_8bit", head_dim, STEP);
}

sky_status SKY_CPU(attention_8bit)(sky_ctx *ctx, const sky_attention_8bit_args *args, void *scratch)
{
    (void)scratch;
    sky_attention_job job = {
        .args = args,
        .y = args->y,
        .q = args->q,
        .k = args->k,
        .v = args->v,
        .lse = args->lse,
        .tile_keys = STEP,
        .weight_unit = 448.0,
        .pack_values = pack_values,
        .weigh = weigh,
        .finish = finish,
    };
    return SKY_CPU(attention_run)(ctx, &job);
}
