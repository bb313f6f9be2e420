#include "ops/cpu/device.h"
#include "ops/cpu/gemm.h"

/*
 * A job is a strip of columns and a stretch of rows. How large they are is chosen for speed alone: an element's sum runs
 * over k in order within each SKY_GEMM_DEPTH, and over these in order, whatever the strip.
 */
enum {
    STRIP_COLS = 256,               /* at most; packed to SKY_GEMM_DEPTH * 256 floats */
    SUM_LEN = 128 * 1024,           /* floats of a job's sums, which stay in the L2 cache: rows * strip columns */
    WIDEN_ROWS = 64,                /* rows of bf16 x widened at a time */
    WIDEN_LD = SKY_GEMM_DEPTH + 16, /* not a power of two: rows must not share cache sets */
};

_Static_assert(sizeof(float) * (STRIP_COLS * SKY_GEMM_DEPTH + SUM_LEN + WIDEN_ROWS * WIDEN_LD) <= SKY_CPU_THREAD_BYTES,
               "a job's buffers fit into a thread's working memory");

typedef struct linear_job {
    const sky_linear_args *args;
    const sky_cpu_device *device;
    int64_t rows, cols, depth; /* M, N, K */
    int64_t strip_cols, stretch_rows;
    int64_t num_strips;
} linear_job;

static void add_products(const linear_job *job, int64_t row, int64_t rows, int64_t k, const sky_gemm_b *b, float *sums,
                         int64_t ld, float *widened)
{
    const sky_tensor *x = &job->args->x;
    const float *start = NULL;
    sky_gemm_a a = {.segment = (const float *const *)&start, .num_segments = 1, .run = b->depth, .lda = job->depth};
    if (x->dtype == SKY_F32) {
        start = (const float *)x->data + row * job->depth + k;
        SKY_CPU(gemm)(&a, rows, b, sums, ld, k > 0);
        return;
    }
    start = widened;
    a.lda = WIDEN_LD;
    for (int64_t r = 0; r < rows; r += WIDEN_ROWS) {
        const int64_t count = sky_min_i64(WIDEN_ROWS, rows - r);
        for (int64_t i = 0; i < count; i++) {
            sky_read_copy(widened + i * WIDEN_LD, x, (row + r + i) * job->depth + k, b->depth);
        }
        SKY_CPU(gemm)(&a, count, b, sums + r * ld, ld, k > 0);
    }
}

static void put_row(const linear_job *job, int64_t row, int64_t col, int64_t cols, float *sums)
{
    const sky_tensor *y = &job->args->y;
    const float *bias = job->args->bias.data;
    float *to = sky_write_to(y, row * job->cols + col, sums);
    if (bias != NULL) {
        SKY_LOOP_INDEPENDENT
        for (int64_t j = 0; j < cols; j++) {
            to[j] = sums[j] + bias[col + j];
        }
    } else if (to != sums) {
        memcpy(to, sums, (size_t)cols * sizeof *to);
    }
    sky_write_end(y, row * job->cols + col, cols, to);
}

static void run_job(void *arg, int64_t index, int thread)
{
    const linear_job *job = arg;
    const int64_t col = index % job->num_strips * job->strip_cols;
    const int64_t cols = sky_min_i64(job->strip_cols, job->cols - col);
    const int64_t row = index / job->num_strips * job->stretch_rows;
    const int64_t rows = sky_min_i64(job->stretch_rows, job->rows - row);
    const int64_t ld = sky_padded_cols(cols);

    float *packed = sky_cpu_work(job->device, thread);
    float *sums = packed + STRIP_COLS * SKY_GEMM_DEPTH;
    float *widened = sums + SUM_LEN;
    for (int64_t k = 0; k < job->depth; k += SKY_GEMM_DEPTH) {
        const int64_t depth = sky_min_i64(SKY_GEMM_DEPTH, job->depth - k);
        const sky_tensor *weight = &job->args->weight;
        SKY_CPU(pack_transposed)
        (packed, sky_at(weight, col * job->depth + k), weight->dtype, job->depth, cols, depth);
        const sky_gemm_b b = {.packed = packed, .depth = depth, .cols = cols};
        add_products(job, row, rows, k, &b, sums, ld, widened);
    }
    for (int64_t r = 0; r < rows; r++) {
        put_row(job, row + r, col, cols, sums + r * ld);
    }
}

sky_status SKY_CPU(linear)(sky_ctx *ctx, const sky_linear_args *args, void *scratch)
{
    (void)scratch;
    const sky_cpu_device *device = sky_cpu_device_of(ctx);
    linear_job job = {
        .args = args,
        .device = device,
        .rows = args->x.shape[0],
        .cols = args->weight.shape[0],
        .depth = args->x.shape[1],
        .strip_cols = STRIP_COLS,
    };
    if (job.rows == 0 || job.cols == 0) {
        return SKY_OK;
    }
    const int64_t want_jobs = device->num_threads == 1 ? 1 : 4 * (int64_t)device->num_threads;
    while (job.strip_cols > 64 && sky_div_up(job.cols, job.strip_cols) < want_jobs) {
        job.strip_cols /= 2;
    }
    job.num_strips = sky_div_up(job.cols, job.strip_cols);
    job.stretch_rows = SUM_LEN / job.strip_cols;
    while (job.stretch_rows > 128 && job.num_strips * sky_div_up(job.rows, job.stretch_rows) < device->num_threads) {
        job.stretch_rows /= 2;
    }
    job.stretch_rows = sky_div_up(job.rows, sky_div_up(job.rows, job.stretch_rows)); /* of nearly equal length */
    sky_threads_for(device->threads, job.num_strips * sky_div_up(job.rows, job.stretch_rows), run_job, &job);
    return SKY_OK;
}
