#include "ops/cpu/codes.h"
#include "ops/cpu/device.h"
#include "ops/cpu/isa.h"
#include "ops/cpu/linear_sums.h"
#include "ops/cpu/rotate.h"
#include "ops/cpu/rows.h"

#include <math.h>

/*
 * Ops over rows. A thread takes rows_per_job rows, and of these as many at a time as stay in the L1 cache: where they are
 * not f32 they are widened into the thread's working memory, and a result that is to be bf16 or codes is made there too.
 */
typedef struct norm_job norm_job;
typedef void (*norm_rows)(const norm_job *job, int64_t first, int64_t count, const float *x, float *y);

struct norm_job {
    const void *args;
    const sky_cpu_device *device;
    sky_tensor x, y;
    const sky_linear_sums *x_sums; /* where x is i32 */
    const sky_tensor *y_scale;     /* where y is codes */
    int64_t rows, cols;
    int64_t rows_per_job, rows_per_group;
    int64_t frame_rows, y_frame_rows, y_first; /* y may have more rows in a frame than x: channel_norm */
    norm_rows body;
};

/* A group's rows as f32: x itself, or in buf. */
static const float *read_rows(const norm_job *job, int64_t first, int64_t count, float *buf)
{
    if (job->x.dtype != SKY_I32) {
        return sky_read(&job->x, first * job->cols, count * job->cols, buf);
    }
    for (int64_t i = 0; i < count; i++) {
        sky_read_linear(&job->x, job->x_sums, first + i, 0, job->cols, buf + i * job->cols);
    }
    return buf;
}

static bool is_codes(const sky_tensor *y)
{
    return y->dtype != SKY_F32 && y->dtype != SKY_BF16;
}

/* y are x's rows [first, first + count), which begin at element `to` of the output; those of codes are x's own. */
static void write_rows(const norm_job *job, int64_t first, int64_t count, int64_t to, const float *y)
{
    if (!is_codes(&job->y)) {
        sky_write_end(&job->y, to, count * job->cols, y);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        sky_encode_row(&job->y, job->y_scale, first + i, y + i * job->cols, job->cols);
    }
}

static void run_rows(void *arg, int64_t index, int thread)
{
    const norm_job *job = arg;
    float *buf = sky_cpu_work(job->device, thread);
    const int64_t end = sky_min_i64((index + 1) * job->rows_per_job, job->rows);
    int64_t count;
    for (int64_t first = index * job->rows_per_job; first < end; first += count) {
        const int64_t in_frame = first % job->frame_rows;
        count = sky_min_i64(sky_min_i64(job->rows_per_group, end - first), job->frame_rows - in_frame);
        const int64_t to = (first / job->frame_rows * job->y_frame_rows + job->y_first + in_frame) * job->cols;
        const float *x = read_rows(job, first, count, buf);
        float *y = sky_write_to(&job->y, to, buf);
        job->body(job, first, count, x, y);
        write_rows(job, first, count, to, y);
    }
}

/* An op's plan: a thread has one row in its memory. */
static sky_status row_fits(const char *op, const sky_tensor *x)
{
    const int64_t cols = x->shape[x->num_dims - 1];
    if (cols > SKY_CPU_THREAD_BYTES / (int64_t)sizeof(float)) {
        return sky_fail(SKY_ERR_UNSUPPORTED, "%s: rows of %lld do not fit the CPU backend's %d bytes a thread", op,
                        (long long)cols, SKY_CPU_THREAD_BYTES);
    }
    return SKY_OK;
}

#define PLAN(op)                                                                                     \
    sky_status SKY_CPU(op##_plan)(sky_ctx * ctx, const sky_##op##_args *args, size_t *scratch_bytes) \
    {                                                                                                \
        (void)ctx;                                                                                   \
        (void)scratch_bytes;                                                                         \
        return row_fits(#op, &args->x);                                                              \
    }
PLAN(channel_norm)
PLAN(layer_norm)
PLAN(layer_norm_modulate)
PLAN(rms_norm)
PLAN(rope)
#undef PLAN

static norm_job job_of(sky_ctx *ctx, const void *args, const sky_tensor *x, const sky_tensor *y, norm_rows body)
{
    norm_job job = {.args = args, .device = sky_cpu_device_of(ctx), .x = *x, .y = *y, .body = body};
    job.cols = x->shape[x->num_dims - 1];
    job.rows = sky_tensor_len(x) / sky_max_i64(job.cols, 1);
    job.rows_per_job = sky_max_i64(1, SKY_CHUNK_LEN / sky_max_i64(job.cols, 1));
    job.rows_per_group = sky_max_i64(1, SKY_BLOCK_LEN / sky_max_i64(job.cols, 1));
    job.frame_rows = job.y_frame_rows = job.rows;
    return job;
}

static sky_status run_job(norm_job *job)
{
    sky_threads_for(job->device->threads, sky_div_up(job->rows, job->rows_per_job), run_rows, job);
    return SKY_OK;
}

static sky_status run(sky_ctx *ctx, const void *args, const sky_tensor *x, const sky_tensor *y, norm_rows body)
{
    norm_job job = job_of(ctx, args, x, y, body);
    return run_job(&job);
}

/* x may be a linear layer's output, y a linear layer's input. */
static sky_status run_between(sky_ctx *ctx, const void *args, const sky_tensor *x, const sky_linear_sums *x_sums,
                              const sky_tensor *y, const sky_tensor *y_scale, norm_rows body)
{
    norm_job job = job_of(ctx, args, x, y, body);
    job.x_sums = x_sums;
    job.y_scale = y_scale;
    return run_job(&job);
}

/* y may have more rows than x in each frame of [T, H, W, C], of which x's begin at y_first_row. */
static sky_status run_frames(sky_ctx *ctx, const void *args, const sky_tensor *x, const sky_tensor *y,
                             int64_t y_first_row, norm_rows body)
{
    norm_job job = job_of(ctx, args, x, y, body);
    if (!sky_tensor_same_shape(x, y)) {
        job.frame_rows = x->shape[1] * x->shape[2];
        job.y_frame_rows = y->shape[1] * y->shape[2];
        job.y_first = y_first_row * y->shape[2];
    }
    return run_job(&job);
}

/* The loop over a group's rows around NAME_row(). */
#define EACH_ROW(name)                                                                                   \
    static void name##_rows(const norm_job *job, int64_t first, int64_t count, const float *x, float *y) \
    {                                                                                                    \
        for (int64_t i = 0; i < count; i++) {                                                            \
            name##_row(job, first + i, x + i * job->cols, y + i * job->cols);                            \
        }                                                                                                \
    }

static void rms_norm_row(const norm_job *job, int64_t row, const float *x, float *y)
{
    (void)row;
    const sky_rms_norm_args *args = job->args;
    const float *weight = args->weight.data;
    const float factor = sky_row_inverse_rms(x, job->cols, args->eps);
    if (args->round_normed && args->y.dtype == SKY_BF16) {
        for (int64_t i = 0; i < job->cols; i++) {
            y[i] = weight[i] * sky_round_bf16(x[i] * factor);
        }
        return;
    }
    SKY_LOOP_INDEPENDENT
    for (int64_t i = 0; i < job->cols; i++) {
        y[i] = weight[i] * (x[i] * factor);
    }
}

EACH_ROW(rms_norm)

sky_status SKY_CPU(rms_norm)(sky_ctx *ctx, const sky_rms_norm_args *args, void *scratch)
{
    (void)scratch;
    return run_between(ctx, args, &args->x, &args->x_sums, &args->y, NULL, rms_norm_rows);
}

static void layer_norm_row(const norm_job *job, int64_t row, const float *x, float *y)
{
    (void)row;
    const sky_layer_norm_args *args = job->args;
    sky_row_layer_norm(x, args->weight.data, args->bias.data, args->eps, y, job->cols);
}

EACH_ROW(layer_norm)

sky_status SKY_CPU(layer_norm)(sky_ctx *ctx, const sky_layer_norm_args *args, void *scratch)
{
    (void)scratch;
    return run_between(ctx, args, &args->x, NULL, &args->y, &args->y_scale, layer_norm_rows);
}

static void layer_norm_modulate_row(const norm_job *job, int64_t row, const float *x, float *y)
{
    const sky_layer_norm_modulate_args *args = job->args;
    const int64_t group = (args->first_row + row) / args->rows_per_group;
    const float *shift = (const float *)args->shift.data + group * job->cols;
    const float *scale = (const float *)args->scale.data + group * job->cols;
    sky_row_layer_norm_modulate(x, shift, scale, args->eps, y, job->cols);
}

EACH_ROW(layer_norm_modulate)

sky_status SKY_CPU(layer_norm_modulate)(sky_ctx *ctx, const sky_layer_norm_modulate_args *args, void *scratch)
{
    (void)scratch;
    return run_between(ctx, args, &args->x, NULL, &args->y, &args->y_scale, layer_norm_modulate_rows);
}

/* In two passes: a row's sum, root, quotient and exponentials one after the other would be waited for in each row anew. */
static void channel_norm_rows(const norm_job *job, int64_t first, int64_t count, const float *x, float *y)
{
    (void)first;
    const sky_channel_norm_args *args = job->args;
    const float *gamma = args->gamma.data;
    const int64_t cols = job->cols;
    float factor[SKY_BLOCK_LEN];
    for (int64_t i = 0; i < count; i++) {
        factor[i] = sky_row_sum_squares(x + i * cols, cols, 0.0F);
    }
    const float root = sqrtf((float)cols);
    for (int64_t i = 0; i < count; i++) {
        const float norm = sqrtf(factor[i]);
        factor[i] = root / (norm < 1e-12F ? 1e-12F : norm);
    }
    for (int64_t i = 0; i < count; i++, x += cols, y += cols) {
        int64_t c = 0; /* whole vectors by hand: rows are short, and there are millions of them */
        for (; c + SKY_CPU_LANES <= cols; c += SKY_CPU_LANES) {
            const sky_vec z = sky_vec_load(x + c) * sky_vec_all(factor[i]) * sky_vec_load(gamma + c);
            sky_vec_store(y + c, args->silu ? sky_vec_silu(z) : z);
        }
        for (; c < cols; c++) {
            const float z = x[c] * factor[i] * gamma[c];
            y[c] = args->silu ? sky_silu(z) : z;
        }
    }
}

sky_status SKY_CPU(channel_norm)(sky_ctx *ctx, const sky_channel_norm_args *args, void *scratch)
{
    (void)scratch;
    return run_frames(ctx, args, &args->x, &args->y, args->y_first_row, channel_norm_rows);
}

static void rope_row(const norm_job *job, int64_t row, const float *x, float *y)
{
    const sky_rope_args *args = job->args;
    const int64_t heads = args->x.shape[1];
    const float *freqs = (const float *)args->freqs.data + row / heads * job->cols;
    sky_rotate(x, freqs, y, job->cols);
}

EACH_ROW(rope)

sky_status SKY_CPU(rope)(sky_ctx *ctx, const sky_rope_args *args, void *scratch)
{
    (void)scratch;
    return run(ctx, args, &args->x, &args->y, rope_rows);
}
