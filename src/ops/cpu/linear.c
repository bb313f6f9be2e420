#include "ops/cpu/device.h"
#include "ops/cpu/gemm.h"

/*
 * linear and linear_8bit. A job is a strip of columns and a stretch of rows. How large they are is chosen for speed alone: an element's sum runs
 * over k in order within each SKY_GEMM_DEPTH, and over these in order, whatever the strip.
 */
enum {
    STRIP_COLS = 256,               /* at most; packed to SKY_GEMM_DEPTH * 256 floats */
    SUM_LEN = 128 * 1024,           /* floats of a job's sums, which stay in the L2 cache: rows * strip columns */
    WIDEN_ROWS = 64,                /* rows of x widened at a time, where it is not f32 */
    WIDEN_LD = SKY_GEMM_DEPTH + 16, /* not a power of two: rows must not share cache sets */
    EXACT_LEN = 1024,               /* products of i8 that f32 sums exactly: 128 * 128 * 1024 is 2^24 */
};

_Static_assert(sizeof(double) * SUM_LEN +
                       sizeof(float) * (STRIP_COLS * SKY_GEMM_DEPTH + SUM_LEN + WIDEN_ROWS * WIDEN_LD) <=
                   SKY_CPU_THREAD_BYTES,
               "a job's buffers fit into a thread's working memory");
_Static_assert(EXACT_LEN % SKY_GEMM_DEPTH == 0, "sums move on at the end of a depth");

typedef struct linear_job {
    const sky_cpu_device *device;
    sky_tensor y, x, weight;
    sky_tensor bias;                     /* [N] or absent */
    const float *x_scale, *weight_scale; /* or both NULL */
    int64_t rows, cols, depth;           /* M, N, K */
    int64_t chunk_len;                   /* sums over k that are longer go on in f64; depth where none is */
    int64_t strip_cols, stretch_rows;
    int64_t num_strips;
} linear_job;

/* A thread's working memory. */
typedef struct buffers {
    double *totals; /* [SUM_LEN] where chunk_len is below depth */
    float *packed;  /* [SKY_GEMM_DEPTH][STRIP_COLS] in panels */
    float *sums;    /* [SUM_LEN] */
    float *widened; /* [WIDEN_ROWS][WIDEN_LD] */
} buffers;

static buffers buffers_of(const linear_job *job, int thread)
{
    buffers b;
    b.totals = sky_cpu_work(job->device, thread);
    b.packed = (float *)(b.totals + SUM_LEN);
    b.sums = b.packed + STRIP_COLS * SKY_GEMM_DEPTH;
    b.widened = b.sums + SUM_LEN;
    return b;
}

static void add_products(const linear_job *job, int64_t row, int64_t rows, int64_t k, const sky_gemm_b *b, float *sums,
                         int64_t ld, float *widened)
{
    const sky_tensor *x = &job->x;
    const bool add = k % job->chunk_len > 0;
    const float *start = NULL;
    sky_gemm_a a = {.segment = (const float *const *)&start, .num_segments = 1, .run = b->depth, .lda = job->depth};
    if (x->dtype == SKY_F32) {
        start = (const float *)x->data + row * job->depth + k;
        SKY_CPU(gemm)(&a, rows, b, sums, ld, add);
        return;
    }
    start = widened;
    a.lda = WIDEN_LD;
    for (int64_t r = 0; r < rows; r += WIDEN_ROWS) {
        const int64_t count = sky_min_i64(WIDEN_ROWS, rows - r);
        for (int64_t i = 0; i < count; i++) {
            sky_widen_any(widened + i * WIDEN_LD, sky_at(x, (row + r + i) * job->depth + k), x->dtype, b->depth);
        }
        SKY_CPU(gemm)(&a, count, b, sums + r * ld, ld, add);
    }
}

/* The sums of the chunk that ends at k enter the totals; after the last, the totals become the sums. */
static void end_chunk(const linear_job *job, int64_t k, double *restrict totals, float *restrict sums, int64_t len)
{
    const bool first = k <= job->chunk_len;
    for (int64_t i = 0; i < len; i++) {
        totals[i] = first ? (double)sums[i] : totals[i] + (double)sums[i];
    }
    if (k == job->depth) {
        for (int64_t i = 0; i < len; i++) {
            sums[i] = (float)totals[i];
        }
    }
}

/* The bare sums of i8 codes, which are whole numbers. */
static void put_sums(const linear_job *job, int64_t row, int64_t col, int64_t cols, int64_t at, const buffers *b)
{
    int32_t *restrict y = (int32_t *)job->y.data + row * job->cols + col;
    if (job->chunk_len < job->depth) {
        for (int64_t j = 0; j < cols; j++) {
            y[j] = (int32_t)b->totals[at + j];
        }
    } else {
        for (int64_t j = 0; j < cols; j++) {
            y[j] = (int32_t)b->sums[at + j];
        }
    }
}

static void put_row(const linear_job *job, int64_t row, int64_t col, int64_t cols, float *sums, const float *bias)
{
    const sky_tensor *y = &job->y;
    float *to = sky_write_to(y, row * job->cols + col, sums);
    if (job->x_scale != NULL) {
        const float x_scale = job->x_scale[row];
        const float *weight_scale = job->weight_scale + col;
        SKY_LOOP_INDEPENDENT
        for (int64_t j = 0; j < cols; j++) {
            sums[j] *= x_scale * weight_scale[j];
        }
    }
    if (bias != NULL) {
        SKY_LOOP_INDEPENDENT
        for (int64_t j = 0; j < cols; j++) {
            to[j] = sums[j] + bias[j];
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
    float buf[STRIP_COLS];
    const float *bias = sky_tensor_present(&job->bias) ? sky_read(&job->bias, col, cols, buf) : NULL;
    const int64_t row = index / job->num_strips * job->stretch_rows;
    const int64_t rows = sky_min_i64(job->stretch_rows, job->rows - row);
    const int64_t ld = sky_padded_cols(cols);
    const buffers b = buffers_of(job, thread);

    for (int64_t k = 0; k < job->depth; k += SKY_GEMM_DEPTH) {
        const int64_t depth = sky_min_i64(SKY_GEMM_DEPTH, job->depth - k);
        const sky_tensor *weight = &job->weight;
        SKY_CPU(pack_transposed)
        (b.packed, sky_at(weight, col * job->depth + k), weight->dtype, job->depth, cols, depth);
        const sky_gemm_b packed = {.packed = b.packed, .depth = depth, .cols = cols};
        add_products(job, row, rows, k, &packed, b.sums, ld, b.widened);
        const int64_t end = k + depth;
        if (job->chunk_len < job->depth && (end % job->chunk_len == 0 || end == job->depth)) {
            end_chunk(job, end, b.totals, b.sums, rows * ld);
        }
    }
    for (int64_t r = 0; r < rows; r++) {
        if (job->y.dtype == SKY_I32) {
            put_sums(job, row + r, col, cols, r * ld, &b);
        } else {
            put_row(job, row + r, col, cols, b.sums + r * ld, bias);
        }
    }
}

static sky_status run(linear_job *job)
{
    const sky_cpu_device *device = job->device;
    job->rows = job->x.shape[0];
    job->cols = job->weight.shape[0];
    job->depth = job->x.shape[1];
    job->chunk_len = job->x.dtype == SKY_I8 ? EXACT_LEN : job->depth;
    job->strip_cols = STRIP_COLS;
    if (job->rows == 0 || job->cols == 0) {
        return SKY_OK;
    }
    const int64_t want_jobs = device->num_threads == 1 ? 1 : 4 * (int64_t)device->num_threads;
    while (job->strip_cols > 64 && sky_div_up(job->cols, job->strip_cols) < want_jobs) {
        job->strip_cols /= 2;
    }
    job->num_strips = sky_div_up(job->cols, job->strip_cols);
    job->stretch_rows = SUM_LEN / job->strip_cols;
    while (job->stretch_rows > 128 &&
           job->num_strips * sky_div_up(job->rows, job->stretch_rows) < device->num_threads) {
        job->stretch_rows /= 2;
    }
    job->stretch_rows = sky_div_up(job->rows, sky_div_up(job->rows, job->stretch_rows)); /* of nearly equal length */
    sky_threads_for(device->threads, job->num_strips * sky_div_up(job->rows, job->stretch_rows), run_job, job);
    return SKY_OK;
}

sky_status SKY_CPU(linear)(sky_ctx *ctx, const sky_linear_args *args, void *scratch)
{
    (void)scratch;
    return run(&(linear_job){
        .device = sky_cpu_device_of(ctx), .y = args->y, .x = args->x, .weight = args->weight, .bias = args->bias});
}

sky_status SKY_CPU(linear_8bit)(sky_ctx *ctx, const sky_linear_8bit_args *args, void *scratch)
{
    (void)scratch;
    return run(&(linear_job){.device = sky_cpu_device_of(ctx),
                             .y = args->y,
                             .x = args->x,
                             .weight = args->weight,
                             .bias = args->bias,
                             .x_scale = args->x_scale.data,
                             .weight_scale = args->weight_scale.data});
}
