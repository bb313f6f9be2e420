#include "ops/cpu/blocks.h"
#include "ops/cpu/device.h"
#include "ops/cpu/isa.h"

/* Ops that move elements. Each job copies a line of one image, or the like; see the headers for the formulas. */

static sky_status run(sky_ctx *ctx, int64_t count, sky_threads_body body, void *job)
{
    sky_threads_for(sky_cpu_device_of(ctx)->threads, count, body, job);
    return SKY_OK;
}

static unsigned char *bytes_of(const sky_tensor *t)
{
    return t->data;
}

sky_status SKY_CPU(embedding)(sky_ctx *ctx, const sky_embedding_args *args, void *scratch)
{
    (void)ctx;
    (void)scratch;
    const int32_t *ids = args->ids.data;
    const size_t row_bytes = (size_t)args->table.shape[1] * sky_dtype_bytes(args->table.dtype);
    for (int64_t s = 0; s < args->ids.shape[0]; s++) {
        memcpy(bytes_of(&args->y) + (size_t)s * row_bytes, bytes_of(&args->table) + (size_t)ids[s] * row_bytes,
               row_bytes);
    }
    return SKY_OK;
}

static void interleave_frame(void *arg, int64_t frame, int thread)
{
    (void)thread;
    const sky_interleave_frames_args *args = arg;
    const int64_t pixels = args->x.shape[1] * args->x.shape[2];
    const size_t half_bytes = (size_t)args->y.shape[3] * sky_dtype_bytes(args->x.dtype);
    const size_t frame_bytes = (size_t)pixels * half_bytes;
    const unsigned char *x = bytes_of(&args->x) + (size_t)frame * 2 * frame_bytes;
    unsigned char *y = bytes_of(&args->y) + (size_t)frame * 2 * frame_bytes;
    for (int64_t p = 0; p < pixels; p++) {
        memcpy(y, x, half_bytes);
        memcpy(y + frame_bytes, x + half_bytes, half_bytes);
        x += 2 * half_bytes;
        y += half_bytes;
    }
}

sky_status SKY_CPU(interleave_frames)(sky_ctx *ctx, const sky_interleave_frames_args *args, void *scratch)
{
    (void)scratch;
    sky_interleave_frames_args copy = *args;
    return run(ctx, args->x.shape[0], interleave_frame, &copy);
}

/* One row of the input gives two of the output. */
static void upsample_row(void *arg, int64_t row, int thread)
{
    (void)thread;
    const sky_upsample_nearest_args *args = arg;
    const int64_t cols = args->x.shape[2];
    const size_t pixel_bytes = (size_t)args->x.shape[3] * sky_dtype_bytes(args->x.dtype);
    const size_t row_bytes = (size_t)cols * pixel_bytes;
    const unsigned char *x = bytes_of(&args->x) + (size_t)row * row_bytes;
    unsigned char *y = bytes_of(&args->y) + (size_t)row * 4 * row_bytes;
    for (int64_t j = 0; j < cols; j++) {
        memcpy(y + (size_t)(2 * j) * pixel_bytes, x + (size_t)j * pixel_bytes, pixel_bytes);
        memcpy(y + (size_t)(2 * j + 1) * pixel_bytes, x + (size_t)j * pixel_bytes, pixel_bytes);
    }
    memcpy(y + 2 * row_bytes, y, 2 * row_bytes);
}

sky_status SKY_CPU(upsample_nearest)(sky_ctx *ctx, const sky_upsample_nearest_args *args, void *scratch)
{
    (void)scratch;
    sky_upsample_nearest_args copy = *args;
    return run(ctx, args->x.shape[0] * args->x.shape[1], upsample_row, &copy);
}

sky_status SKY_CPU(patchify)(sky_ctx *ctx, const sky_patchify_args *args, void *scratch)
{
    (void)ctx;
    (void)scratch;
    const int64_t channels = args->x.shape[0];
    const int64_t frames = args->x.shape[1];
    const int64_t height = args->x.shape[2];
    const int64_t width = args->x.shape[3];
    const float *x = args->x.data;
    float buf[4];
    for (int64_t r = 0; r < args->y.shape[0]; r++) {
        const int64_t token = args->first_token + r;
        const int64_t j = token % (width / 2);
        const int64_t i = token / (width / 2) % (height / 2);
        const int64_t f = token / (width / 2) / (height / 2);
        for (int64_t c = 0; c < channels; c++) {
            const float *from = x + ((c * frames + f) * height + 2 * i) * width + 2 * j;
            const int64_t at = (r * channels + c) * 4;
            float *to = sky_write_to(&args->y, at, buf);
            to[0] = from[0];
            to[1] = from[1];
            to[2] = from[width];
            to[3] = from[width + 1];
            sky_write_end(&args->y, at, 4, to);
        }
    }
    return SKY_OK;
}

sky_status SKY_CPU(unpatchify)(sky_ctx *ctx, const sky_unpatchify_args *args, void *scratch)
{
    (void)ctx;
    (void)scratch;
    const int64_t channels = args->y.shape[0];
    const int64_t frames = args->y.shape[1];
    const int64_t height = args->y.shape[2];
    const int64_t width = args->y.shape[3];
    const float *x = args->x.data;
    float *y = args->y.data;
    for (int64_t c = 0; c < channels; c++) {
        for (int64_t f = 0; f < frames; f++) {
            for (int64_t i = 0; i < height; i++) {
                float *to = y + ((c * frames + f) * height + i) * width;
                const float *from =
                    x + (f * (height / 2) + i / 2) * (width / 2) * 4 * channels + i % 2 * 2 * channels + c;
                for (int64_t j = 0; j < width; j++) {
                    to[j] = from[(j / 2 * 4 + j % 2) * channels];
                }
            }
        }
    }
    return SKY_OK;
}

/*
 * Between channels first and last. A job takes a line of pixels of one frame and turns it around a block at a time in a
 * buffer on the stack. Product and sum are two roundings (no contraction in this file).
 */
enum { PIXELS = 64, CHANNELS = 16 };

static float scaled(float x, const float *scale, const float *shift, int64_t channel)
{
    return scale == NULL ? x : x * scale[channel] + shift[channel];
}

static float clamped(float x)
{
    x = x < -1.0F ? -1.0F : x;
    return x > 1.0F ? 1.0F : x;
}

/* Line (t, i): x strides by a plane from channel to channel, y is one run of pixels. */
static void line_to_channels_last(void *arg, int64_t line, int thread)
{
    (void)thread;
    const sky_to_channels_last_args *args = arg;
    const int64_t channels = args->x.shape[0];
    const int64_t width = args->x.shape[3];
    const int64_t plane = args->x.shape[1] * args->x.shape[2] * width;
    float buf[PIXELS];
    float turned[PIXELS * CHANNELS];
    for (int64_t j = 0; j < width; j += PIXELS) {
        const int64_t pixels = sky_min_i64(PIXELS, width - j);
        for (int64_t c0 = 0; c0 < channels; c0 += CHANNELS) {
            const int64_t count = sky_min_i64(CHANNELS, channels - c0);
            for (int64_t c = 0; c < count; c++) {
                const float *x = sky_read(&args->x, (c0 + c) * plane + line * width + j, pixels, buf);
                for (int64_t p = 0; p < pixels; p++) {
                    turned[p * CHANNELS + c] = scaled(x[p], args->scale.data, args->shift.data, c0 + c);
                }
            }
            for (int64_t p = 0; p < pixels; p++) {
                const int64_t at = (line * width + j + p) * channels + c0;
                float *y = sky_write_to(&args->y, at, turned + p * CHANNELS);
                if (y != turned + p * CHANNELS) {
                    memcpy(y, turned + p * CHANNELS, (size_t)count * sizeof *y);
                }
                sky_write_end(&args->y, at, count, y);
            }
        }
    }
}

sky_status SKY_CPU(to_channels_last)(sky_ctx *ctx, const sky_to_channels_last_args *args, void *scratch)
{
    (void)scratch;
    sky_to_channels_last_args copy = *args;
    return run(ctx, args->x.shape[1] * args->x.shape[2], line_to_channels_last, &copy);
}

static void line_to_channels_first(void *arg, int64_t line, int thread)
{
    (void)thread;
    const sky_to_channels_first_args *args = arg;
    const int64_t channels = args->y.shape[0];
    const int64_t width = args->y.shape[3];
    const int64_t plane = args->y.shape[1] * args->y.shape[2] * width;
    const int64_t pixel = args->x.shape[3];
    float buf[CHANNELS];
    float turned[PIXELS * CHANNELS];
    for (int64_t j = 0; j < width; j += PIXELS) {
        const int64_t pixels = sky_min_i64(PIXELS, width - j);
        for (int64_t c0 = 0; c0 < channels; c0 += CHANNELS) {
            const int64_t count = sky_min_i64(CHANNELS, channels - c0);
            for (int64_t p = 0; p < pixels; p++) {
                const float *x = sky_read(&args->x, (line * width + j + p) * pixel + c0, count, buf);
                for (int64_t c = 0; c < count; c++) {
                    const float v = scaled(x[c], args->scale.data, args->shift.data, c0 + c);
                    turned[c * PIXELS + p] = args->clamp ? clamped(v) : v;
                }
            }
            for (int64_t c = 0; c < count; c++) {
                const int64_t at = (c0 + c) * plane + line * width + j;
                float *y = sky_write_to(&args->y, at, turned + c * PIXELS);
                if (y != turned + c * PIXELS) {
                    memcpy(y, turned + c * PIXELS, (size_t)pixels * sizeof *y);
                }
                sky_write_end(&args->y, at, pixels, y);
            }
        }
    }
}

sky_status SKY_CPU(to_channels_first)(sky_ctx *ctx, const sky_to_channels_first_args *args, void *scratch)
{
    (void)scratch;
    sky_to_channels_first_args copy = *args;
    return run(ctx, args->y.shape[1] * args->y.shape[2], line_to_channels_first, &copy);
}

/* A range of columns is copied in jobs of about COPY_BYTES: several rows, or, where rows are longer, a part of one. */
enum { COPY_BYTES = 256 << 10 };

typedef struct copy_job {
    unsigned char *y;
    const unsigned char *x;
    size_t y_stride, x_stride, row_bytes; /* row_bytes of each row are copied */
    size_t part_bytes;                    /* of a row, in one job */
    int64_t num_parts;                    /* of a row */
    int64_t num_rows, rows_per_job;
} copy_job;

static void copy_some(void *arg, int64_t index, int thread)
{
    (void)thread;
    const copy_job *job = arg;
    const int64_t first = index / job->num_parts * job->rows_per_job;
    const int64_t end = sky_min_i64(first + job->rows_per_job, job->num_rows);
    const size_t at = (size_t)(index % job->num_parts) * job->part_bytes;
    const size_t rest = job->row_bytes - at;
    const size_t bytes = rest < job->part_bytes ? rest : job->part_bytes;
    for (int64_t r = first; r < end; r++) {
        memcpy(job->y + (size_t)r * job->y_stride + at, job->x + (size_t)r * job->x_stride + at, bytes);
    }
}

sky_status SKY_CPU(copy_columns)(sky_ctx *ctx, const sky_copy_columns_args *args, void *scratch)
{
    (void)scratch;
    const size_t element = sky_dtype_bytes(args->x.dtype);
    copy_job job = {
        .y = bytes_of(&args->y) + (size_t)args->y_first * element,
        .x = bytes_of(&args->x) + (size_t)args->x_first * element,
        .y_stride = (size_t)args->y.shape[1] * element,
        .x_stride = (size_t)args->x.shape[1] * element,
        .row_bytes = (size_t)args->num_columns * element,
        .num_rows = args->x.shape[0],
    };
    job.part_bytes = job.row_bytes < COPY_BYTES ? job.row_bytes : COPY_BYTES;
    job.num_parts = sky_div_up((int64_t)job.row_bytes, (int64_t)job.part_bytes);
    job.rows_per_job = COPY_BYTES / (int64_t)job.part_bytes;
    return run(ctx, sky_div_up(job.num_rows, job.rows_per_job) * job.num_parts, copy_some, &job);
}
