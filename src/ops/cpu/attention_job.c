#include "ops/cpu/attention_job.h"

#include "ops/cpu/gemm.h"

enum { PIECE = SKY_PIECE_QUERIES, MAX_STRETCH = 1024 };

/* A thread's working memory, in floats. */
typedef struct buffers {
    float *keys;    /* [head_dim][tile_keys] in panels */
    float *values;  /* [tile_keys][padded_dim] in panels */
    float *scores;  /* [PIECE][tile_keys] */
    float *queries; /* [PIECE][head_dim] where they are not f32 */
    float *sums;    /* [stretch][padded_dim] */
    float *maxima;  /* [stretch] */
    float *totals;  /* [stretch] */
} buffers;

/* The largest stretch that fits, 0 for none. */
static int64_t largest_stretch(int64_t head_dim, int64_t padded_dim, int64_t tile_keys)
{
    const int64_t fixed_len = (head_dim + padded_dim) * tile_keys + PIECE * (tile_keys + head_dim + 1);
    const int64_t room = SKY_CPU_THREAD_BYTES / (int64_t)sizeof(float) - fixed_len;
    const int64_t rows = room < 0 ? 0 : room / (padded_dim + 2);
    return sky_min_i64(rows / PIECE * PIECE, MAX_STRETCH);
}

static buffers buffers_of(const sky_attention_job *job, int thread)
{
    buffers b;
    b.keys = sky_cpu_work(job->device, thread);
    b.values = b.keys + job->head_dim * job->tile_keys;
    b.sums = b.values + job->tile_keys * job->padded_dim;
    b.scores = b.sums + job->stretch * job->padded_dim;
    b.maxima = b.scores + PIECE * job->tile_keys;
    b.totals = b.maxima + job->stretch;
    b.queries = b.totals + job->stretch;
    return b;
}

static void run_piece(const sky_attention_job *job, const buffers *b, const sky_attention_piece *p)
{
    const int64_t width = job->num_heads * job->head_dim;
    const int64_t at = p->row * width + p->head * job->head_dim;
    const float *start = b->queries;
    sky_gemm_a a = {
        .segment = (const float *const *)&start, .num_segments = 1, .run = job->head_dim, .lda = job->head_dim};
    if (job->q.dtype == SKY_F32) {
        start = (const float *)job->q.data + at;
        a.lda = width;
    } else {
        for (int64_t i = 0; i < p->rows; i++) {
            sky_widen_any(b->queries + i * job->head_dim, sky_at(&job->q, at + i * width), job->q.dtype, job->head_dim);
        }
    }
    const sky_gemm_b keys_t = {.packed = b->keys, .depth = job->head_dim, .cols = p->keys};
    SKY_CPU(gemm)(&a, p->rows, &keys_t, b->scores, job->tile_keys, false);

    job->weigh(job->args, p);

    start = b->scores;
    a.run = p->keys;
    a.lda = job->tile_keys;
    const sky_gemm_b values = {.packed = b->values, .depth = p->values_depth, .cols = job->head_dim};
    SKY_CPU(gemm)(&a, p->rows, &values, p->sums, job->padded_dim, true);
}

/* Rows of y and lse of queries [first, first + rows). */
static void finish_rows(const sky_attention_job *job, const buffers *b, int64_t head, int64_t first, int64_t rows)
{
    float *lse = job->lse.data;
    for (int64_t i = 0; i < rows; i++) {
        const int64_t row = (first + i) * job->num_heads + head;
        float *to = sky_write_to(&job->y, row * job->head_dim, b->queries);
        job->finish(job->args, head, b->sums + i * job->padded_dim, b->totals[i], to, job->head_dim);
        sky_write_end(&job->y, row * job->head_dim, job->head_dim, to);
        if (lse != NULL) {
            lse[row] = (float)((double)b->maxima[i] + __builtin_log((double)b->totals[i] / job->weight_unit));
        }
    }
}

static void run_job(void *arg, int64_t index, int thread)
{
    const sky_attention_job *job = arg;
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
    for (int64_t key = 0; key < job->num_keys; key += job->tile_keys) {
        const int64_t keys = sky_min_i64(job->tile_keys, job->num_keys - key);
        const int64_t at = key * width + head * job->head_dim;
        SKY_CPU(pack_transposed)(b.keys, sky_at(&job->k, at), job->k.dtype, width, keys, job->head_dim);
        const int64_t values_depth = job->pack_values(job, head, key, keys, b.values, b.queries);
        for (int64_t r = 0; r < rows; r += PIECE) {
            const sky_attention_piece piece = {
                .head = head,
                .row = first + r,
                .rows = sky_min_i64(PIECE, rows - r),
                .key = key,
                .keys = keys,
                .values_depth = values_depth,
                .scores = b.scores,
                .maxima = b.maxima + r,
                .totals = b.totals + r,
                .sums = b.sums + r * job->padded_dim,
                .padded_dim = job->padded_dim,
            };
            run_piece(job, &b, &piece);
        }
    }
    finish_rows(job, &b, head, first, rows);
}

sky_status SKY_CPU(attention_fits)(const char *op, int64_t head_dim, int64_t tile_keys)
{
    if (largest_stretch(head_dim, sky_padded_cols(head_dim), tile_keys) == 0) {
        return sky_fail(SKY_ERR_UNSUPPORTED, "%s: head_dim %lld does not fit the CPU backend's %d bytes a thread", op,
                        (long long)head_dim, SKY_CPU_THREAD_BYTES);
    }
    return SKY_OK;
}

sky_status SKY_CPU(attention_run)(sky_ctx *ctx, sky_attention_job *job)
{
    const sky_cpu_device *device = sky_cpu_device_of(ctx);
    job->device = device;
    job->num_queries = job->q.shape[0];
    job->num_keys = job->k.shape[0];
    job->num_heads = job->q.shape[1];
    job->head_dim = job->q.shape[2];
    job->padded_dim = sky_padded_cols(job->head_dim);
    job->stretch = largest_stretch(job->head_dim, job->padded_dim, job->tile_keys);
    while (job->stretch > 2 * PIECE && device->num_threads > 1 &&
           job->num_heads * sky_div_up(job->num_queries, job->stretch) < 4 * (int64_t)device->num_threads) {
        job->stretch = job->stretch / 2 / PIECE * PIECE;
    }
    job->num_stretches = sky_div_up(job->num_queries, job->stretch);
    job->stretch =
        sky_div_up(sky_div_up(job->num_queries, job->num_stretches), PIECE) * PIECE; /* of nearly equal length */
    job->num_stretches = sky_div_up(job->num_queries, job->stretch);
    sky_threads_for(device->threads, job->num_heads * job->num_stretches, run_job, job);
    return SKY_OK;
}
