#include "ops/cpu/device.h"
#include "ops/cpu/gemm.h"
#include "ops/cpu/rows.h"

/*
 * As attention.c: a job is a head and a stretch of queries, and every tile of keys is packed once and then met by all the
 * job's queries. Codes are widened to f32, in which the products of queries and keys are exact.
 */
enum {
    TILE = SKY_K_GROUP_TOKENS,
    PIECE = SKY_Q_GROUP_TOKENS,
    MAX_STRETCH = 1024,
    TILE_VECS = TILE / SKY_CPU_LANES,
    MAX_EXACT_DIM = 1024, /* 128 * 128 * 1024 is 2^24 */
};
_Static_assert(TILE == 2 * SKY_ROW_LANES, "a tile of scores folds once into the lanes of rows.h");

typedef struct attention_job {
    const sky_attention_8bit_args *args;
    const sky_cpu_device *device;
    int64_t num_queries, num_keys, num_heads, head_dim;
    int64_t padded_dim;
    int64_t stretch; /* queries of a job: whole pieces */
    int64_t num_stretches;
} attention_job;

/* A thread's working memory, in floats. */
typedef struct buffers {
    float *keys;    /* [head_dim][TILE] in panels */
    float *values;  /* [TILE][padded_dim] in panels */
    float *scores;  /* [PIECE][TILE] */
    float *queries; /* [PIECE][head_dim] */
    float *sums;    /* [stretch][padded_dim] */
    float *maxima;  /* [stretch] */
    float *totals;  /* [stretch] */
} buffers;

static int64_t fixed_len(int64_t head_dim, int64_t padded_dim)
{
    return (head_dim + padded_dim) * TILE + PIECE * (TILE + head_dim + 1);
}

/* The largest stretch that fits, 0 for none. */
static int64_t largest_stretch(int64_t head_dim, int64_t padded_dim)
{
    const int64_t room = SKY_CPU_THREAD_BYTES / (int64_t)sizeof(float) - fixed_len(head_dim, padded_dim);
    const int64_t rows = room < 0 ? 0 : room / (padded_dim + 2);
    return sky_min_i64(rows / PIECE * PIECE, MAX_STRETCH);
}

static buffers buffers_of(const attention_job *job, int thread)
{
    buffers b;
    b.keys = sky_cpu_work(job->device, thread);
    b.values = b.keys + job->head_dim * TILE;
    b.sums = b.values + TILE * job->padded_dim;
    b.scores = b.sums + job->stretch * job->padded_dim;
    b.maxima = b.scores + PIECE * TILE;
    b.totals = b.maxima + job->stretch;
    b.queries = b.totals + job->stretch;
    return b;
}

/*
 * Products of one query's and a tile's codes become weights, as values of e4m3, 448 the largest; its running values move
 * on. Those past the last key give 0.
 */
static void softmax_tile(float *s, int64_t num_keys, float codes_scale, float softmax_scale, float *maximum,
                         float *total, float *sum, int64_t padded_dim)
{
    sky_vec v[TILE_VECS];
    sky_vec lane[SKY_ROW_VECS];
    for (int i = 0; i < TILE_VECS; i++) {
        v[i] = sky_vec_load(s + i * SKY_CPU_LANES) * sky_vec_all(codes_scale) * sky_vec_all(softmax_scale);
    }
    if (num_keys < TILE) {
        for (int i = 0; i < TILE_VECS; i++) {
            sky_vec_store(s + i * SKY_CPU_LANES, v[i]);
        }
        for (int64_t i = num_keys; i < TILE; i++) {
            s[i] = -__builtin_inff();
        }
        for (int i = 0; i < TILE_VECS; i++) {
            v[i] = sky_vec_load(s + i * SKY_CPU_LANES);
        }
    }
    for (int i = 0; i < SKY_ROW_VECS; i++) {
        lane[i] = sky_vec_max(v[i], v[i + SKY_ROW_VECS]);
    }
    const float tile_maximum = sky_fold_max(lane);
    const float now = tile_maximum > *maximum ? tile_maximum : *maximum;
    for (int i = 0; i < TILE_VECS; i++) {
        v[i] = sky_vec_exp(v[i] - sky_vec_all(now));
        sky_vec_store(s + i * SKY_CPU_LANES, sky_vec_round_e4m3(v[i] * sky_vec_all(448.0F)));
    }
    for (int i = 0; i < SKY_ROW_VECS; i++) {
        lane[i] = v[i] + v[i + SKY_ROW_VECS];
    }
    const float shrink = sky_exp(*maximum - now);
    *total = sky_madd(*total, shrink, sky_fold_sum(lane));
    *maximum = now;
    if (shrink != 1.0F) {
        for (int64_t d = 0; d < padded_dim; d += SKY_CPU_LANES) {
            sky_vec_store(sum + d, sky_vec_load(sum + d) * sky_vec_all(shrink));
        }
    }
}

/* Queries [row, row + rows), the local ones [local, ..), against keys [key, key + keys): a tile of its own. */
static void run_piece(const attention_job *job, const buffers *b, int64_t head, int64_t row, int64_t rows,
                      int64_t local, int64_t key, int64_t keys)
{
    const sky_attention_8bit_args *args = job->args;
    const int64_t width = job->num_heads * job->head_dim;
    const float *start = b->queries;
    sky_gemm_a a = {
        .segment = (const float *const *)&start, .num_segments = 1, .run = job->head_dim, .lda = job->head_dim};
    for (int64_t i = 0; i < rows; i++) {
        const int64_t at = (row + i) * width + head * job->head_dim;
        sky_widen_i8(b->queries + i * job->head_dim, (const int8_t *)args->q.data + at, job->head_dim);
    }
    const sky_gemm_b keys_t = {.packed = b->keys, .depth = job->head_dim, .cols = keys};
    SKY_CPU(gemm)(&a, rows, &keys_t, b->scores, TILE, false);

    const float codes_scale = ((const float *)args->q_scale.data)[row / PIECE * job->num_heads + head] *
                              ((const float *)args->k_scale.data)[key / TILE * job->num_heads + head];
    for (int64_t i = 0; i < rows; i++) {
        softmax_tile(b->scores + i * TILE, keys, codes_scale, args->softmax_scale, b->maxima + local + i,
                     b->totals + local + i, b->sums + (local + i) * job->padded_dim, job->padded_dim);
    }
    start = b->scores;
    a.run = keys;
    a.lda = TILE;
    const sky_gemm_b values = {.packed = b->values, .depth = keys, .cols = job->head_dim};
    SKY_CPU(gemm)(&a, rows, &values, b->sums + local * job->padded_dim, job->padded_dim, true);
}

static void run_job(void *arg, int64_t index, int thread)
{
    const attention_job *job = arg;
    const sky_attention_8bit_args *args = job->args;
    const buffers b = buffers_of(job, thread);
    const int64_t head = index / job->num_stretches;
    const int64_t first = index % job->num_stretches * job->stretch;
    const int64_t rows = sky_min_i64(job->stretch, job->num_queries - first);
    const int64_t width = job->num_heads * job->head_dim;

    memset(b.sums, 0, (size_t)(rows * job->padded_dim) * sizeof *b.sums);
    for (int64_t i = 0; i < rows; i++) {
        b.maxima[i] = -__builtin_inff();
        b.totals[i] = 0.0F;
    }
    for (int64_t key = 0; key < job->num_keys; key += TILE) {
        const int64_t keys = sky_min_i64(TILE, job->num_keys - key);
        const int64_t at = key * width + head * job->head_dim;
        SKY_CPU(pack_transposed)(b.keys, sky_at(&args->k, at), args->k.dtype, width, keys, job->head_dim);
        SKY_CPU(pack)(b.values, sky_at(&args->v, at), args->v.dtype, width, job->head_dim, keys);
        for (int64_t r = 0; r < rows; r += PIECE) {
            run_piece(job, &b, head, first + r, sky_min_i64(PIECE, rows - r), r, key, keys);
        }
    }
    const float *v_scale = (const float *)args->v_scale.data + head * job->head_dim;
    for (int64_t i = 0; i < rows; i++) {
        const int64_t at = (first + i) * width + head * job->head_dim;
        const float *sum = b.sums + i * job->padded_dim;
        float *to = sky_write_to(&args->y, at, b.queries);
        for (int64_t d = 0; d < job->head_dim; d++) {
            to[d] = sum[d] / 448.0F / b.totals[i] * v_scale[d];
        }
        sky_write_end(&args->y, at, job->head_dim, to);
    }
}

sky_status SKY_CPU(attention_8bit)(sky_ctx *ctx, const sky_attention_8bit_args *args, void *scratch)
{
    (void)scratch;
    const sky_cpu_device *device = sky_cpu_device_of(ctx);
    attention_job job = {
        .args = args,
        .device = device,
        .num_queries = args->q.shape[0],
        .num_keys = args->k.shape[0],
        .num_heads = args->q.shape[1],
        .head_dim = args->q.shape[2],
    };
    if (job.num_queries == 0 || job.num_heads == 0 || job.head_dim == 0) {
        return SKY_OK;
    }
    job.padded_dim = sky_padded_cols(job.head_dim);
    job.stretch = largest_stretch(job.head_dim, job.padded_dim);
    if (job.head_dim > MAX_EXACT_DIM || job.stretch == 0) {
        return sky_fail(SKY_ERR_UNSUPPORTED, "attention_8bit: head_dim %lld is beyond the CPU backend's limit of %d",
                        (long long)job.head_dim, MAX_EXACT_DIM);
    }
    while (job.stretch > 2 * PIECE && device->num_threads > 1 &&
           job.num_heads * sky_div_up(job.num_queries, job.stretch) < 4 * (int64_t)device->num_threads) {
        job.stretch = job.stretch / 2 / PIECE * PIECE;
    }
    job.num_stretches = sky_div_up(job.num_queries, job.stretch);
    job.stretch =
        sky_div_up(sky_div_up(job.num_queries, job.num_stretches), PIECE) * PIECE; /* of nearly equal length */
    job.num_stretches = sky_div_up(job.num_queries, job.stretch);
    sky_threads_for(device->threads, job.num_heads * job.num_stretches, run_job, &job);
    return SKY_OK;
}
