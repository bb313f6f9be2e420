#include "ops/cpu/codes.h"
#include "ops/cpu/device.h"
#include "ops/cpu/isa.h"
#include "ops/cpu/linear_sums.h"

/*
 * Ops whose elements have nothing to do with each other. A thread takes SKY_CHUNK_LEN elements at a time and works through
 * them in blocks that stay in the L1 cache; a block's function sees f32 only. y may be one of the inputs, hence ivdep
 * and no restrict.
 */
typedef struct pointwise_job pointwise_job;
typedef void (*block_function)(const void *args, const float *const *x, float *y, int64_t len);

enum { MAX_INPUTS = SKY_MAX_TERMS };

struct pointwise_job {
    const void *args;
    block_function block;
    sky_tensor y;
    int num_inputs;
    sky_tensor x[MAX_INPUTS];
    int64_t len;
};

static void run_chunk(void *arg, int64_t index, int thread)
{
    (void)thread;
    const pointwise_job *job = arg;
    float buf[MAX_INPUTS][SKY_BLOCK_LEN];
    const float *x[MAX_INPUTS];
    const int64_t end = sky_min_i64((index + 1) * SKY_CHUNK_LEN, job->len);
    for (int64_t at = index * SKY_CHUNK_LEN; at < end; at += SKY_BLOCK_LEN) {
        const int64_t len = sky_min_i64(SKY_BLOCK_LEN, end - at);
        for (int i = 0; i < job->num_inputs; i++) {
            x[i] = sky_read(&job->x[i], at, len, buf[i]);
        }
        float *y = sky_write_to(&job->y, at, buf[0]);
        job->block(job->args, x, y, len);
        sky_write_end(&job->y, at, len, y);
    }
}

static sky_status run(sky_ctx *ctx, pointwise_job *job)
{
    const sky_cpu_device *device = sky_cpu_device_of(ctx);
    job->len = sky_tensor_len(&job->y);
    sky_threads_for(device->threads, sky_div_up(job->len, SKY_CHUNK_LEN), run_chunk, job);
    return SKY_OK;
}

static void silu_block(const void *args, const float *const *x, float *y, int64_t len)
{
    (void)args;
    const float *a = x[0];
    SKY_LOOP_INDEPENDENT
    for (int64_t i = 0; i < len; i++) {
        y[i] = sky_silu(a[i]);
    }
}

static void gelu_tanh_block(const void *args, const float *const *x, float *y, int64_t len)
{
    (void)args;
    const float *a = x[0];
    SKY_LOOP_INDEPENDENT
    for (int64_t i = 0; i < len; i++) {
        y[i] = sky_gelu_tanh(a[i]);
    }
}

static void gelu_erf_block(const void *args, const float *const *x, float *y, int64_t len)
{
    (void)args;
    const float *a = x[0];
    SKY_LOOP_INDEPENDENT
    for (int64_t i = 0; i < len; i++) {
        y[i] = sky_gelu_erf(a[i]);
    }
}

/* Between linear layers: from sums, to codes. A thread makes a row in its working memory. */
typedef struct activation_job {
    const sky_activation_args *args;
    const sky_cpu_device *device;
    block_function block;
    int64_t rows, cols, rows_per_job;
} activation_job;

static void activate_rows(void *arg, int64_t index, int thread)
{
    const activation_job *job = arg;
    const sky_activation_args *args = job->args;
    float *work = sky_cpu_work(job->device, thread);
    float buf[SKY_BLOCK_LEN];
    const int64_t end = sky_min_i64((index + 1) * job->rows_per_job, job->rows);
    for (int64_t row = index * job->rows_per_job; row < end; row++) {
        float *y = sky_write_to(&args->y, row * job->cols, work);
        for (int64_t col = 0; col < job->cols; col += SKY_BLOCK_LEN) {
            const int64_t len = sky_min_i64(SKY_BLOCK_LEN, job->cols - col);
            const float *x = sky_read_linear(&args->x, &args->x_sums, row, col, len, buf);
            job->block(args, &x, y + col, len);
        }
        if (sky_tensor_present(&args->y_scale)) {
            sky_encode_row(&args->y, &args->y_scale, row, y, job->cols);
        } else {
            sky_write_end(&args->y, row * job->cols, job->cols, y);
        }
    }
}

static bool goes_by_rows(const sky_activation_args *args)
{
    return args->x.dtype == SKY_I32 || (args->y.dtype != SKY_F32 && args->y.dtype != SKY_BF16);
}

sky_status SKY_CPU(activation_plan)(sky_ctx *ctx, const sky_activation_args *args, size_t *scratch_bytes)
{
    (void)ctx;
    (void)scratch_bytes;
    if (goes_by_rows(args) && args->x.shape[1] > SKY_CPU_THREAD_BYTES / (int64_t)sizeof(float)) {
        return sky_fail(SKY_ERR_UNSUPPORTED, "activation: rows of %lld do not fit the CPU backend's %d bytes a thread",
                        (long long)args->x.shape[1], SKY_CPU_THREAD_BYTES);
    }
    return SKY_OK;
}

sky_status SKY_CPU(activation)(sky_ctx *ctx, const sky_activation_args *args, void *scratch)
{
    (void)scratch;
    static const block_function blocks[] = {
        [SKY_SILU] = silu_block, [SKY_GELU_TANH] = gelu_tanh_block, [SKY_GELU_ERF] = gelu_erf_block};
    const sky_cpu_device *device = sky_cpu_device_of(ctx);
    const block_function block = blocks[args->kind];
    if (!goes_by_rows(args)) {
        return run(ctx, &(pointwise_job){.args = args, .block = block, .y = args->y, .num_inputs = 1, .x = {args->x}});
    }
    activation_job job = {.args = args, .device = device, .block = block};
    job.rows = args->x.shape[0];
    job.cols = args->x.shape[1];
    job.rows_per_job = sky_max_i64(1, SKY_CHUNK_LEN / job.cols);
    sky_threads_for(device->threads, sky_div_up(job.rows, job.rows_per_job), activate_rows, &job);
    return SKY_OK;
}

static void add_block(const void *args, const float *const *x, float *y, int64_t len)
{
    (void)args;
    const float *a = x[0];
    const float *b = x[1];
    SKY_LOOP_INDEPENDENT
    for (int64_t i = 0; i < len; i++) {
        y[i] = a[i] + b[i];
    }
}

sky_status SKY_CPU(add)(sky_ctx *ctx, const sky_add_args *args, void *scratch)
{
    (void)scratch;
    return run(ctx, &(pointwise_job){.block = add_block, .y = args->y, .num_inputs = 2, .x = {args->a, args->b}});
}

static void gated_gelu_block(const void *args, const float *const *x, float *y, int64_t len)
{
    (void)args;
    const float *up = x[0];
    const float *gate = x[1];
    SKY_LOOP_INDEPENDENT
    for (int64_t i = 0; i < len; i++) {
        y[i] = up[i] * sky_gelu_tanh(gate[i]);
    }
}

sky_status SKY_CPU(gated_gelu)(sky_ctx *ctx, const sky_gated_gelu_args *args, void *scratch)
{
    (void)scratch;
    return run(ctx,
               &(pointwise_job){.block = gated_gelu_block, .y = args->y, .num_inputs = 2, .x = {args->up, args->gate}});
}

static void convert_block(const void *args, const float *const *x, float *y, int64_t len)
{
    (void)args;
    if (y != x[0]) {
        memcpy(y, x[0], (size_t)len * sizeof *y);
    }
}

/* A row plus the shift. */
static void convert_shifted(void *arg, int64_t row, int thread)
{
    (void)thread;
    const sky_convert_args *args = arg;
    const int64_t cols = args->shift.shape[0];
    float buf[SKY_BLOCK_LEN];
    for (int64_t c = 0; c < cols; c += SKY_BLOCK_LEN) {
        const int64_t len = sky_min_i64(SKY_BLOCK_LEN, cols - c);
        const float *shift = (const float *)args->shift.data + c;
        const float *x = sky_read(&args->x, row * cols + c, len, buf);
        float *y = sky_write_to(&args->y, row * cols + c, buf);
        SKY_LOOP_INDEPENDENT
        for (int64_t i = 0; i < len; i++) {
            y[i] = x[i] + shift[i];
        }
        sky_write_end(&args->y, row * cols + c, len, y);
    }
}

sky_status SKY_CPU(convert)(sky_ctx *ctx, const sky_convert_args *args, void *scratch)
{
    (void)scratch;
    if (sky_tensor_present(&args->shift)) {
        sky_convert_args copy = *args;
        sky_threads_for(sky_cpu_device_of(ctx)->threads, sky_tensor_len(&args->y) / args->shift.shape[0],
                        convert_shifted, &copy);
        return SKY_OK;
    }
    return run(ctx, &(pointwise_job){.block = convert_block, .y = args->y, .num_inputs = 1, .x = {args->x}});
}

/* Each operation is rounded by itself, as the header says; this file is compiled without contraction. */
static void cfg_combine_block(const void *args, const float *const *x, float *y, int64_t len)
{
    const float guidance_scale = ((const sky_cfg_combine_args *)args)->guidance_scale;
    const float *cond = x[0];
    const float *uncond = x[1];
    SKY_LOOP_INDEPENDENT
    for (int64_t i = 0; i < len; i++) {
        y[i] = uncond[i] + guidance_scale * (cond[i] - uncond[i]);
    }
}

sky_status SKY_CPU(cfg_combine)(sky_ctx *ctx, const sky_cfg_combine_args *args, void *scratch)
{
    (void)scratch;
    return run(
        ctx,
        &(pointwise_job){
            .args = args, .block = cfg_combine_block, .y = args->y, .num_inputs = 2, .x = {args->cond, args->uncond}});
}

/* As above. Summed in a buffer: y may be any of the terms. */
static void linear_combination_block(const void *any, const float *const *x, float *y, int64_t len)
{
    const sky_linear_combination_args *args = any;
    float sum[SKY_BLOCK_LEN];
    for (int64_t i = 0; i < len; i++) {
        sum[i] = args->coefficient[0] * x[0][i];
    }
    for (int term = 1; term < args->num_terms; term++) {
        const float coefficient = args->coefficient[term];
        for (int64_t i = 0; i < len; i++) {
            sum[i] = sum[i] + coefficient * x[term][i];
        }
    }
    memcpy(y, sum, (size_t)len * sizeof *y);
}

sky_status SKY_CPU(linear_combination)(sky_ctx *ctx, const sky_linear_combination_args *args, void *scratch)
{
    (void)scratch;
    pointwise_job job = {.args = args, .block = linear_combination_block, .y = args->y, .num_inputs = args->num_terms};
    for (int i = 0; i < args->num_terms; i++) {
        job.x[i] = args->x[i];
    }
    return run(ctx, &job);
}

/* The rows of gate_residual, a few to a job. */
typedef struct gate_job {
    const sky_gate_residual_args *args;
    int64_t rows, cols, rows_per_job;
} gate_job;

static void gate_rows(void *arg, int64_t index, int thread)
{
    (void)thread;
    const gate_job *job = arg;
    const sky_gate_residual_args *args = job->args;
    float buf[SKY_BLOCK_LEN];
    const int64_t end = sky_min_i64((index + 1) * job->rows_per_job, job->rows);
    for (int64_t row = index * job->rows_per_job; row < end; row++) {
        const float *gate = args->gate.data;
        if (gate != NULL) {
            gate += (args->first_row + row) / args->rows_per_group * job->cols;
        }
        for (int64_t col = 0; col < job->cols; col += SKY_BLOCK_LEN) {
            const int64_t len = sky_min_i64(SKY_BLOCK_LEN, job->cols - col);
            const float *y = sky_read(&args->y, row * job->cols + col, len, buf);
            float *x = (float *)args->x.data + row * job->cols + col;
            if (gate == NULL) {
                SKY_LOOP_INDEPENDENT
                for (int64_t i = 0; i < len; i++) {
                    x[i] += y[i];
                }
            } else {
                SKY_LOOP_INDEPENDENT
                for (int64_t i = 0; i < len; i++) {
                    x[i] = sky_madd(y[i], gate[col + i], x[i]);
                }
            }
        }
    }
}

sky_status SKY_CPU(gate_residual)(sky_ctx *ctx, const sky_gate_residual_args *args, void *scratch)
{
    (void)scratch;
    const sky_cpu_device *device = sky_cpu_device_of(ctx);
    gate_job job = {.args = args, .rows = args->x.shape[0], .cols = args->x.shape[1]};
    job.rows_per_job = sky_max_i64(1, SKY_CHUNK_LEN / sky_max_i64(job.cols, 1));
    sky_threads_for(device->threads, sky_div_up(job.rows, job.rows_per_job), gate_rows, &job);
    return SKY_OK;
}

static void u8_chunk(void *arg, int64_t index, int thread)
{
    (void)thread;
    const sky_frames_to_u8_args *args = arg;
    float buf[SKY_BLOCK_LEN];
    const int64_t end = sky_min_i64((index + 1) * SKY_CHUNK_LEN, sky_tensor_len(&args->x));
    for (int64_t at = index * SKY_CHUNK_LEN; at < end; at += SKY_BLOCK_LEN) {
        const int64_t len = sky_min_i64(SKY_BLOCK_LEN, end - at);
        const float *x = sky_read(&args->x, at, len, buf);
        unsigned char *restrict y = (unsigned char *)args->y.data + at;
        for (int64_t i = 0; i < len; i++) {
            float v = x[i] / 2.0F + 0.5F;
            v = v > 0.0F ? v : 0.0F; /* NaN too */
            v = v < 1.0F ? v : 1.0F;
            y[i] = (unsigned char)(int)(255.0F * v);
        }
    }
}

sky_status SKY_CPU(frames_to_u8)(sky_ctx *ctx, const sky_frames_to_u8_args *args, void *scratch)
{
    (void)scratch;
    const sky_cpu_device *device = sky_cpu_device_of(ctx);
    sky_frames_to_u8_args copy = *args;
    sky_threads_for(device->threads, sky_div_up(sky_tensor_len(&args->x), SKY_CHUNK_LEN), u8_chunk, &copy);
    return SKY_OK;
}
