#include "ops/cpu/attention_job.h"
#include "ops/cpu/gemm.h"

/* Codes are widened to f32, in which the products of queries and keys are exact. */
enum { MAX_EXACT_DIM = 1024 }; /* 128 * 128 * 1024 is 2^24 */

typedef uint8_t keys_16 __attribute__((vector_size(16), aligned(1), may_alias));

/* Keys go back to their own order in room: sky_v_tile_position(), inside each 16. */
static void pack_values(const sky_attention_job *job, int64_t head, int64_t key, int64_t keys, float *packed,
                        void *room)
{
    enum { TILE = SKY_V_TILE_TOKENS };
    const int64_t tile = key / TILE * job->num_heads + head;
    const uint8_t *from = (const uint8_t *)job->v.data + tile * job->head_dim * TILE;
    uint8_t *codes = room;
    for (int64_t i = 0; i < job->head_dim * TILE; i += 16) {
        const keys_16 in = *(const keys_16 *)(from + i);
        *(keys_16 *)(codes + i) = __builtin_shufflevector(in, in, 0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
    }
    SKY_CPU(pack_transposed)(packed, codes, SKY_F8_E4M3, TILE, job->head_dim, keys);
}

static void weigh(const void *arg, const sky_attention_piece *p)
{
    const sky_attention_8bit_args *args = arg;
    const int64_t num_heads = args->q.shape[1];
    const float codes_scale = ((const float *)args->q_scale.data)[p->row / SKY_PIECE_QUERIES * num_heads + p->head] *
                              ((const float *)args->k_scale.data)[p->key / SKY_TILE_KEYS * num_heads + p->head];
    for (int64_t i = 0; i < p->rows; i++) {
        float *s = p->scores + i * SKY_TILE_KEYS;
        sky_vec z[SKY_TILE_VECS];
        for (int j = 0; j < SKY_TILE_VECS; j++) {
            z[j] = sky_vec_load(s + j * SKY_CPU_LANES) * sky_vec_all(codes_scale) * sky_vec_all(args->softmax_scale);
        }
        if (p->keys < SKY_TILE_KEYS) {
            for (int j = 0; j < SKY_TILE_VECS; j++) {
                sky_vec_store(s + j * SKY_CPU_LANES, z[j]);
            }
            for (int64_t j = p->keys; j < SKY_TILE_KEYS; j++) {
                s[j] = -__builtin_inff();
            }
            for (int j = 0; j < SKY_TILE_VECS; j++) {
                z[j] = sky_vec_load(s + j * SKY_CPU_LANES);
            }
        }
        sky_softmax_row(p, i, z, true);
    }
}

static void finish(const void *arg, int64_t head, const float *sum, float total, float *y, int64_t head_dim)
{
    const sky_attention_8bit_args *args = arg;
    const float *v_scale = (const float *)args->v_scale.data + head * head_dim;
    for (int64_t d = 0; d < head_dim; d++) {
        y[d] = sum[d] / 448.0F / total * v_scale[d];
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
    return SKY_CPU(attention_fits)("attention_8bit", head_dim);
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
        .pack_values = pack_values,
        .weigh = weigh,
        .finish = finish,
    };
    return SKY_CPU(attention_run)(ctx, &job);
}
