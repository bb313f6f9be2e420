#include "ops/cpu/codes.h"
#include "ops/cpu/device.h"
#include "ops/cpu/isa.h"
#include "ops/cpu/linear_sums.h"
#include "ops/cpu/rows.h"

/* A thread takes rows_per_job rows; where y is not f32 it makes a row of it in its working memory. */
typedef struct residual_job {
    const sky_residual_norm_args *args;
    const sky_cpu_device *device;
    int64_t rows, cols, rows_per_job;
} residual_job;

/* The row's group of a [groups, cols] tensor; NULL where there is none. */
static const float *group_of(const residual_job *job, const sky_tensor *groups, int64_t row)
{
    const float *data = groups->data;
    return data == NULL ? NULL : data + (job->args->first_row + row) / job->args->rows_per_group * job->cols;
}

static void add_delta(const residual_job *job, int64_t row, float *x)
{
    const sky_residual_norm_args *args = job->args;
    const float *gate = group_of(job, &args->gate, row);
    float buf[SKY_BLOCK_LEN];
    for (int64_t col = 0; col < job->cols; col += SKY_BLOCK_LEN) {
        const int64_t len = sky_min_i64(SKY_BLOCK_LEN, job->cols - col);
        const float *delta = sky_read_linear(&args->delta, &args->delta_sums, row, col, len, buf);
        float *to = x + col;
        if (gate == NULL) {
            SKY_LOOP_INDEPENDENT
            for (int64_t i = 0; i < len; i++) {
                to[i] += delta[i];
            }
        } else {
            SKY_LOOP_INDEPENDENT
            for (int64_t i = 0; i < len; i++) {
                to[i] = sky_madd(delta[i], gate[col + i], to[i]);
            }
        }
    }
}

static void norm_row(const residual_job *job, int64_t row, const float *x, float *work)
{
    const sky_residual_norm_args *args = job->args;
    const int64_t at = row * job->cols;
    float *y = sky_write_to(&args->y, at, work);
    if (args->rounding == SKY_ROUND_NORMED) {
        memcpy(y, x, (size_t)job->cols * sizeof *y);
        sky_round_run(y, job->cols);
        x = y;
    }
    if (sky_tensor_present(&args->weight)) {
        sky_row_layer_norm(x, args->weight.data, args->bias.data, args->eps, y, job->cols);
    } else {
        sky_row_layer_norm_modulate(x, group_of(job, &args->shift, row), group_of(job, &args->scale, row), args->eps, y,
                                    job->cols);
    }
    if (sky_tensor_present(&args->y_scale)) {
        sky_encode_row(&args->y, &args->y_scale, row, y, job->cols);
    } else {
        sky_write_end(&args->y, at, job->cols, y);
    }
}

static void run_rows(void *arg, int64_t index, int thread)
{
    const residual_job *job = arg;
    const sky_residual_norm_args *args = job->args;
    const int64_t end = sky_min_i64((index + 1) * job->rows_per_job, job->rows);
    for (int64_t row = index * job->rows_per_job; row < end; row++) {
        float *x = (float *)args->x.data + row * job->cols;
        add_delta(job, row, x);
        if (args->rounding == SKY_ROUND_X) {
            sky_round_run(x, job->cols);
        }
        if (sky_tensor_present(&args->y)) {
            norm_row(job, row, x, sky_cpu_work(job->device, thread));
        }
    }
}

sky_status SKY_CPU(residual_norm_plan)(sky_ctx *ctx, const sky_residual_norm_args *args, size_t *scratch_bytes)
{
    (void)ctx;
    (void)scratch_bytes;
    if (args->x.shape[1] > SKY_CPU_THREAD_BYTES / (int64_t)sizeof(float)) {
        return sky_fail(SKY_ERR_UNSUPPORTED,
                        "residual_norm: rows of %lld do not fit the CPU backend's %d bytes a thread",
                        (long long)args->x.shape[1], SKY_CPU_THREAD_BYTES);
    }
    return SKY_OK;
}

sky_status SKY_CPU(residual_norm)(sky_ctx *ctx, const sky_residual_norm_args *args, void *scratch)
{
    (void)scratch;
    const sky_cpu_device *device = sky_cpu_device_of(ctx);
    residual_job job = {.args = args, .device = device, .rows = args->x.shape[0], .cols = args->x.shape[1]};
    job.rows_per_job = sky_max_i64(1, SKY_CHUNK_LEN / sky_max_i64(job.cols, 1));
    sky_threads_for(device->threads, sky_div_up(job.rows, job.rows_per_job), run_rows, &job);
    return SKY_OK;
}
