#include "ops/cpu/conv3d_plan.h"
#include "ops/cpu/device.h"
#include "ops/cpu/gemm.h"

/*
 * A matrix product whose rows are the pixels of an output row and whose k runs over (kt, kh, kw, c). For one (kt, kh) the
 * kW * C numbers under a pixel lie in one run of the input row, and the next pixel's begin a pixel further: no im2col is
 * ever written. Where a run would leave the row, or x is bf16, the piece of the row is first copied ("staged").
 *
 * k is taken in groups of whole segments (kt, kh); the sum over groups is in order. Nothing of this depends on H, T or on
 * how a row is cut into strips.
 *
 * Few output channels would leave most of a vector empty (the VAE's head has 3). Where all kW * O columns (kw, o) fit
 * into one, they are the product's columns and k runs over (kt, kh, c) only; a pixel's result is then the sum over kw of
 * what its neighbours have in the columns of kw ("folded").
 */
enum {
    GROUP_DEPTH = 512,   /* k of a group: its share of a weight panel stays in cache */
    SUM_LEN = 64 * 1024, /* floats of a strip's sums */
    STAGE_LEN = SKY_CPU_THREAD_BYTES / (int)sizeof(float) - SUM_LEN,
    EDGE = 12,       /* pixels of the strips at the two ends of a row; they alone are staged for padding */
    STRIP_STEP = 24, /* longer strips are a multiple: whole tiles of any height */
    MAX_SEGMENTS = 64,
    JOB_FLOPS = 4 << 20,
};

typedef struct conv_job {
    const sky_conv3d_args *args;
    const sky_cpu_device *device;
    float *packed;
    const float *bias;
    int64_t rows, cols;        /* H, W */
    int64_t channels, outputs; /* C, O */
    int64_t kernel_t, kernel_h, kernel_w;
    int64_t out_frames, out_rows, out_cols;
    int64_t folded;      /* kW, or 1 where the product's columns are the outputs */
    int64_t padded_cols; /* of the product, folded * O */
    int64_t run;         /* kW * C / folded */
    int64_t group;       /* segments of a group */
    int64_t strip;       /* pixels of a strip */
    int64_t edge_left, edge_right;
    int64_t strips_per_row, strips_per_job, num_strips;
} conv_job;

static int64_t depth_of(const conv_job *job)
{
    return job->kernel_t * job->kernel_h * job->run;
}

/* Columns [first, first + count) of the row whose elements begin at `at`, zeros outside of it. */
static void stage_row(const conv_job *job, float *to, int64_t at, int64_t first, int64_t count)
{
    const int64_t c = job->channels;
    const int64_t begin = sky_min_i64(sky_max_i64(first, 0), job->cols);
    const int64_t end = sky_max_i64(sky_min_i64(first + count, job->cols), begin);
    const int64_t left = sky_min_i64(begin - first, count);
    memset(to, 0, (size_t)(left * c) * sizeof *to);
    sky_read_copy(to + left * c, &job->args->x, at + begin * c, (end - begin) * c);
    memset(to + (left + end - begin) * c, 0, (size_t)((count - left - (end - begin)) * c) * sizeof *to);
}

/* Output pixels [first, first + count) of row (frame, row). */
static void run_strip(const conv_job *job, int64_t frame, int64_t row, int64_t first, int64_t count, float *sums,
                      float *stage)
{
    const sky_conv3d_args *args = job->args;
    const float *segment[MAX_SEGMENTS];
    const int64_t col = first * args->stride_hw - args->pad_left;
    const int64_t span = (count - 1) * args->stride_hw + job->kernel_w;
    const bool direct = args->x.dtype == SKY_F32 && col >= 0 && col + span <= job->cols;
    const int64_t num_segments = job->kernel_t * job->kernel_h;

    for (int64_t begin = 0; begin < num_segments; begin += job->group) {
        const int64_t in_group = sky_min_i64(job->group, num_segments - begin);
        for (int64_t s = 0; s < in_group; s++) {
            const int64_t kt = (begin + s) / job->kernel_h;
            const int64_t kh = (begin + s) % job->kernel_h;
            const int64_t in_row = row * args->stride_hw + kh - args->pad_top;
            segment[s] = NULL;
            if (in_row < 0 || in_row >= job->rows) {
                continue;
            }
            const int64_t at = ((frame * args->stride_t + kt) * job->rows + in_row) * job->cols * job->channels;
            if (direct) {
                segment[s] = (const float *)args->x.data + at + col * job->channels;
            } else {
                float *const to = stage + s * span * job->channels;
                stage_row(job, to, at, col, span);
                segment[s] = to;
            }
        }
        const sky_gemm_a a = {
            .segment = segment, .num_segments = in_group, .run = job->run, .lda = args->stride_hw * job->channels};
        const sky_gemm_b b = {.packed = job->packed,
                              .depth = depth_of(job),
                              .first_k = begin * job->run,
                              .cols = job->folded * job->outputs};
        SKY_CPU(gemm)(&a, count + job->folded - 1, &b, sums, job->padded_cols, begin > 0);
    }
}

/* Sums over kw. Whole vectors: what that writes behind the outputs was read a pixel ago, and nobody reads it again. */
static void fold_strip(const conv_job *job, int64_t count, float *sums)
{
    for (int64_t i = 0; i < count; i++) {
        for (int64_t o = 0; o < job->outputs; o += SKY_CPU_LANES) {
            float *const to = sums + i * job->padded_cols + o;
            sky_vec sum = sky_vec_load(to);
            for (int64_t kw = 1; kw < job->folded; kw++) {
                sum += sky_vec_load(to + kw * (job->padded_cols + job->outputs));
            }
            sky_vec_store(to, sum);
        }
    }
}

/* Adds the bias in place, then stores: rows of sums lie padded_cols apart, those of y do not. */
static void put_strip(const conv_job *job, int64_t at, int64_t count, float *sums)
{
    const sky_tensor *y = &job->args->y;
    const float *bias = job->bias;
    const int64_t outputs = job->outputs;
    for (int64_t i = 0; i < count; i++) {
        const float *from = sums + i * job->padded_cols;
        float *to = sky_write_to(y, (at + i) * outputs, sums + i * outputs); /* moves rows together, from the front */
        int64_t o = 0;
        for (; o + SKY_CPU_LANES <= outputs; o += SKY_CPU_LANES) {
            sky_vec_store(to + o, sky_vec_load(from + o) + sky_vec_load(bias + o));
        }
        for (; o < outputs; o++) {
            to[o] = from[o] + bias[o];
        }
    }
    sky_write_end(y, at * outputs, count * outputs, sums);
}

static void strip_bounds(const conv_job *job, int64_t index, int64_t *first, int64_t *count)
{
    if (index == 0 && job->edge_left > 0) {
        *first = 0;
        *count = job->edge_left;
    } else if (index == job->strips_per_row - 1 && job->edge_right > 0) {
        *first = job->out_cols - job->edge_right;
        *count = job->edge_right;
    } else {
        const int64_t inner = index - (job->edge_left > 0 ? 1 : 0);
        *first = job->edge_left + inner * job->strip;
        *count = sky_min_i64(job->strip, job->out_cols - job->edge_right - *first);
    }
}

static void run_job(void *arg, int64_t index, int thread)
{
    const conv_job *job = arg;
    float *sums = sky_cpu_work(job->device, thread);
    const int64_t begin = index * job->strips_per_job;
    const int64_t end = sky_min_i64(begin + job->strips_per_job, job->num_strips);
    for (int64_t strip = begin; strip < end; strip++) {
        const int64_t line = strip / job->strips_per_row;
        int64_t first, count;
        strip_bounds(job, strip % job->strips_per_row, &first, &count);
        run_strip(job, line / job->out_rows, line % job->out_rows, first, count, sums, sums + SUM_LEN);
        if (job->folded > 1) {
            fold_strip(job, count, sums);
        }
        put_strip(job, line * job->out_cols + first, count, sums);
    }
}

static void pack_panel(void *arg, int64_t index, int thread)
{
    (void)thread;
    const conv_job *job = arg;
    const sky_tensor *weight = &job->args->weight;
    const int64_t first = index * SKY_PANEL_COLS;
    SKY_CPU(pack_transposed)
    (job->packed + first * depth_of(job), sky_at(weight, first * depth_of(job)), weight->dtype, depth_of(job),
     sky_min_i64(SKY_PANEL_COLS, job->outputs - first), depth_of(job));
}

/* [o, kt, kh, kw, c] -> [kt, kh, c, kw, o], behind the packed weight: the scratch was planned for kW times as much. */
static void pack_folded(const conv_job *job)
{
    const int64_t outputs = job->outputs;
    const int64_t cols = job->folded * outputs;
    const int64_t num_segments = job->kernel_t * job->kernel_h;
    float *turned = job->packed + depth_of(job) * SKY_CPU_CONV3D_PAD;
    int64_t from = 0;
    for (int64_t o = 0; o < outputs; o++) {
        for (int64_t s = 0; s < num_segments; s++) {
            for (int64_t kw = 0; kw < job->folded; kw++) {
                for (int64_t c = 0; c < job->channels; c++) {
                    const int64_t to = (s * job->channels + c) * cols + kw * outputs + o;
                    sky_read_copy(turned + to, &job->args->weight, from++, 1);
                }
            }
        }
    }
    SKY_CPU(pack)(job->packed, turned, SKY_F32, cols, cols, depth_of(job));
}

/* Strips as long as their buffers allow; 0 where not even one pixel fits. */
static int64_t strip_len(const conv_job *job)
{
    const int64_t stride = job->args->stride_hw;
    int64_t pixels = SUM_LEN / job->padded_cols - (job->folded - 1);
    const int64_t columns = STAGE_LEN / (job->group * job->channels); /* at least (pixels - 1) * stride + kW */
    if (columns < job->kernel_w) {
        return 0;
    }
    pixels = sky_min_i64(pixels, (columns - job->kernel_w) / stride + 1);
    return pixels > STRIP_STEP ? pixels / STRIP_STEP * STRIP_STEP : pixels;
}

/* A kernel of one pixel works on rows of any length: take the whole frame, or all frames, as one row. */
static void flatten(conv_job *job)
{
    const sky_conv3d_args *args = job->args;
    if (job->kernel_h != 1 || job->kernel_w != 1 || args->stride_hw != 1 || args->pad_top != 0 ||
        args->pad_bottom != 0 || args->pad_left != 0 || args->pad_right != 0) {
        return;
    }
    job->cols *= job->rows;
    job->rows = 1;
    if (job->kernel_t == 1 && args->stride_t == 1) {
        job->cols *= job->out_frames;
        job->out_frames = 1;
    }
    job->out_cols = job->cols;
    job->out_rows = 1;
}

/* In f32: behind the packed weight where it was bf16. */
static const float *bias_of(const sky_conv3d_args *args, float *scratch)
{
    return sky_read(&args->bias, 0, args->bias.shape[0], scratch + sky_cpu_conv3d_packed_len(args));
}

/* What follows from the shapes alone; a strip of 0 does not fit. */
static conv_job job_of(const sky_conv3d_args *args)
{
    const int64_t *w = args->weight.shape;
    conv_job job = {
        .args = args,
        .rows = args->x.shape[1],
        .cols = args->x.shape[2],
        .channels = w[4],
        .outputs = w[0],
        .kernel_t = w[1],
        .kernel_h = w[2],
        .kernel_w = w[3],
        .out_frames = args->y.shape[0],
        .out_rows = args->y.shape[1],
        .out_cols = args->y.shape[2],
        .folded = w[3] * w[0] <= SKY_CPU_CONV3D_PAD && args->stride_hw == 1 ? w[3] : 1,
    };
    job.padded_cols = sky_padded_cols(job.folded * job.outputs);
    job.run = job.kernel_w * job.channels / job.folded;
    flatten(&job);
    job.group = sky_min_i64(sky_max_i64(GROUP_DEPTH / sky_max_i64(job.run, 1), 1),
                            sky_min_i64(job.kernel_t * job.kernel_h, MAX_SEGMENTS));
    job.strip = strip_len(&job);
    return job;
}

sky_status SKY_CPU(conv3d_plan)(sky_ctx *ctx, const sky_conv3d_args *args, size_t *scratch_bytes)
{
    (void)ctx;
    const conv_job job = job_of(args);
    if (job.strip == 0) {
        return sky_fail(SKY_ERR_UNSUPPORTED,
                        "conv3d: %lld x %lld channels do not fit the CPU backend's %d bytes a thread",
                        (long long)job.channels, (long long)job.outputs, SKY_CPU_THREAD_BYTES);
    }
    *scratch_bytes = sky_cpu_conv3d_scratch_bytes(args);
    return SKY_OK;
}

sky_status SKY_CPU(conv3d)(sky_ctx *ctx, const sky_conv3d_args *args, void *scratch)
{
    const sky_cpu_device *device = sky_cpu_device_of(ctx);
    conv_job job = job_of(args);
    job.device = device;
    job.packed = scratch;
    job.bias = bias_of(args, scratch);
    if (args->x.dtype == SKY_F32 && job.out_cols > 3 * EDGE && job.strip >= EDGE) {
        job.edge_left = args->pad_left > 0 && args->pad_left <= EDGE * args->stride_hw ? EDGE : 0;
        job.edge_right = args->pad_right > 0 && args->pad_right <= EDGE * args->stride_hw ? EDGE : 0;
    }
    job.strips_per_row = sky_div_up(job.out_cols - job.edge_left - job.edge_right, job.strip) +
                         (job.edge_left > 0 ? 1 : 0) + (job.edge_right > 0 ? 1 : 0);
    job.num_strips = job.strips_per_row * job.out_rows * job.out_frames;
    const int64_t flops = 2 * sky_min_i64(job.strip, job.out_cols) * depth_of(&job) * job.padded_cols;
    job.strips_per_job = sky_max_i64(1, JOB_FLOPS / sky_max_i64(flops, 1));

    if (job.folded > 1) {
        pack_folded(&job);
    } else {
        sky_threads_for(device->threads, sky_div_up(job.outputs, SKY_PANEL_COLS), pack_panel, &job);
    }
    sky_threads_for(device->threads, sky_div_up(job.num_strips, job.strips_per_job), run_job, &job);
    return SKY_OK;
}
