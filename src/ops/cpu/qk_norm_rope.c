#include "ops/cpu/codes.h"
#include "ops/cpu/device.h"
#include "ops/cpu/isa.h"
#include "ops/cpu/linear_sums.h"
#include "ops/cpu/rotate.h"
#include "ops/cpu/rows.h"

/*
 * Queries or keys after norm and rotation, a row at a time in f32: stored, added up, or made codes of. A thread's working
 * memory holds what it works on.
 */
enum { THREAD_FLOATS = SKY_CPU_THREAD_BYTES / (int)sizeof(float) };

typedef struct qk_rows {
    const sky_cpu_device *device;
    sky_tensor x;
    sky_linear_sums x_sums;
    const float *weight, *freqs;
    int64_t rows, cols, head_dim;
    float eps;
    const void *args;
} qk_rows;

#define QK_ROWS(ctx, args_)                             \
    ((qk_rows){.device = sky_cpu_device_of(ctx),        \
               .x = (args_)->x,                         \
               .x_sums = (args_)->x_sums,               \
               .weight = (args_)->weight.data,          \
               .freqs = (args_)->freqs.data,            \
               .rows = (args_)->x.shape[0],             \
               .cols = (args_)->x.shape[1],             \
               .head_dim = 2 * (args_)->freqs.shape[1], \
               .eps = (args_)->eps,                     \
               .args = (args_)})

/* A thread has so many floats a row: more rows than that column's. */
static sky_status floats_fit(const char *op, const sky_tensor *x, int64_t floats)
{
    return floats <= THREAD_FLOATS
               ? SKY_OK
               : sky_fail(SKY_ERR_UNSUPPORTED, "%s: rows of %lld do not fit the CPU backend's %d bytes a thread", op,
                          (long long)x->shape[1], SKY_CPU_THREAD_BYTES);
}

/* y [cols] may be the row itself. */
static void rotated_row(const qk_rows *r, int64_t row, float *y)
{
    const float *weight = r->weight;
    const float *x = sky_read_linear(&r->x, &r->x_sums, row, 0, r->cols, y);
    const float factor = sky_row_inverse_rms(x, r->cols, r->eps);
    SKY_LOOP_INDEPENDENT
    for (int64_t i = 0; i < r->cols; i++) {
        y[i] = weight[i] * (x[i] * factor);
    }
    for (int64_t head = 0; head < r->cols; head += r->head_dim) {
        sky_rotate(y + head, r->freqs + row * r->head_dim, y + head, r->head_dim);
    }
}

static int64_t rows_per_job(const qk_rows *r)
{
    return sky_max_i64(1, SKY_CHUNK_LEN / r->cols);
}

/* ---- values ---- */

sky_status SKY_CPU(qk_norm_rope_plan)(sky_ctx *ctx, const sky_qk_norm_rope_args *args, size_t *scratch_bytes)
{
    (void)ctx;
    (void)scratch_bytes;
    return floats_fit("qk_norm_rope", &args->x, args->x.shape[1]);
}

static void store_row(const qk_rows *r, int64_t row, const float *y)
{
    const sky_qk_norm_rope_args *args = r->args;
    const int num_parts = sky_num_parts(args->num_parts);
    for (int p = 0; p < num_parts; p++) {
        const sky_span heads = sky_partition(r->cols / r->head_dim, num_parts, p);
        const int64_t at = sky_part_row(heads, r->rows, r->head_dim, row);
        const int64_t len = heads.count * r->head_dim;
        const float *from = y + heads.first * r->head_dim;
        if (args->y.dtype == SKY_F32) {
            memcpy((float *)args->y.data + at, from, (size_t)len * sizeof *from);
        } else {
            sky_narrow((uint16_t *)args->y.data + at, from, len);
        }
    }
}

static void store_rows(void *arg, int64_t index, int thread)
{
    const qk_rows *r = arg;
    const sky_qk_norm_rope_args *args = r->args;
    const bool direct = args->y.dtype == SKY_F32 && sky_num_parts(args->num_parts) == 1;
    float *buf = sky_cpu_work(r->device, thread);
    const int64_t end = sky_min_i64((index + 1) * rows_per_job(r), r->rows);
    for (int64_t row = index * rows_per_job(r); row < end; row++) {
        if (direct) {
            rotated_row(r, row, (float *)args->y.data + row * r->cols);
        } else {
            rotated_row(r, row, buf);
            store_row(r, row, buf);
        }
    }
}

sky_status SKY_CPU(qk_norm_rope)(sky_ctx *ctx, const sky_qk_norm_rope_args *args, void *scratch)
{
    (void)scratch;
    qk_rows r = QK_ROWS(ctx, args);
    sky_threads_for(r.device->threads, sky_div_up(r.rows, rows_per_job(&r)), store_rows, &r);
    return SKY_OK;
}

/* ---- sums: each thread's own, which then add up in any order ---- */

sky_status SKY_CPU(qk_norm_rope_sums_plan)(sky_ctx *ctx, const sky_qk_norm_rope_sums_args *args, size_t *scratch_bytes)
{
    enum { FLOATS_PER_SUM = sizeof(int64_t) / sizeof(float) };
    (void)ctx;
    (void)scratch_bytes;
    return floats_fit("qk_norm_rope_sums", &args->x, (FLOATS_PER_SUM + 1) * args->x.shape[1]);
}

static void sum_rows(void *arg, int64_t index, int thread)
{
    const qk_rows *r = arg;
    const sky_qk_norm_rope_sums_args *args = r->args;
    const int64_t limit = (INT64_C(1) << 62) / args->num_tokens;
    int64_t *sums = sky_cpu_work(r->device, thread);
    float *buf = (float *)(void *)(sums + r->cols);
    const int64_t end = sky_min_i64((index + 1) * rows_per_job(r), r->rows);
    for (int64_t row = index * rows_per_job(r); row < end; row++) {
        rotated_row(r, row, buf);
        sky_add_fixed(sums, buf, r->cols, limit);
    }
}

sky_status SKY_CPU(qk_norm_rope_sums)(sky_ctx *ctx, const sky_qk_norm_rope_sums_args *args, void *scratch)
{
    (void)scratch;
    qk_rows r = QK_ROWS(ctx, args);
    int64_t *total = args->sums.data;
    for (int t = 0; t < r.device->num_threads; t++) {
        memset(sky_cpu_work(r.device, t), 0, (size_t)r.cols * sizeof *total);
    }
    sky_threads_for(r.device->threads, sky_div_up(r.rows, rows_per_job(&r)), sum_rows, &r);
    memset(total, 0, (size_t)r.cols * sizeof *total);
    for (int t = 0; t < r.device->num_threads; t++) {
        const int64_t *sums = sky_cpu_work(r.device, t);
        for (int64_t c = 0; c < r.cols; c++) {
            total[c] += sums[c];
        }
    }
    return SKY_OK;
}

/* ---- codes: a thread takes a group of tokens ---- */

sky_status SKY_CPU(qk_norm_rope_quantize_plan)(sky_ctx *ctx, const sky_qk_norm_rope_quantize_args *args,
                                               size_t *scratch_bytes)
{
    (void)ctx;
    (void)scratch_bytes;
    return floats_fit("qk_norm_rope_quantize", &args->x, args->x.shape[1] + 2 * args->scale.shape[1]);
}

/* Less the mean, where there is one. */
static void centred_row(const qk_rows *r, int64_t row, float *v)
{
    const float *mean = ((const sky_qk_norm_rope_quantize_args *)r->args)->mean.data;
    rotated_row(r, row, v);
    if (mean != NULL) {
        SKY_LOOP_INDEPENDENT
        for (int64_t i = 0; i < r->cols; i++) {
            v[i] -= mean[i];
        }
    }
}

static void encode_row(const qk_rows *r, int64_t row, const float *v, const float *factor)
{
    const sky_qk_norm_rope_quantize_args *args = r->args;
    const int num_parts = sky_num_parts(args->num_parts);
    for (int p = 0; p < num_parts; p++) {
        const sky_span heads = sky_partition(args->scale.shape[1], num_parts, p);
        uint8_t *codes = (uint8_t *)args->codes.data + sky_part_row(heads, r->rows, r->head_dim, row);
        for (int64_t n = heads.first; n < sky_span_end(heads); n++, codes += r->head_dim) {
            sky_encode_i8(codes, v + n * r->head_dim, r->head_dim, factor[n]);
        }
    }
}

/* Scales of a group from its heads' largest, and what its codes are multiplied by. */
static void store_scales(const qk_rows *r, int64_t group, const uint32_t *bits, float *factor)
{
    const sky_qk_norm_rope_quantize_args *args = r->args;
    const int64_t num_heads = args->scale.shape[1];
    const int num_parts = sky_num_parts(args->num_parts);
    for (int p = 0; p < num_parts; p++) {
        const sky_span heads = sky_partition(num_heads, num_parts, p);
        float *scale = (float *)args->scale.data + sky_part_row(heads, args->scale.shape[0], 1, group);
        for (int64_t n = heads.first; n < sky_span_end(heads); n++) {
            const float amax = sky_amax_at_least(sky_bits_float(bits[n]));
            factor[n] = 1.0F / amax * 127.0F;
            scale[n - heads.first] = amax / 127.0F;
        }
    }
}

/*
 * In two passes: the largest, the codes. The first one's rows are kept where a thread's memory holds them, which it does for
 * 128 tokens of the 14B model; the rest are made again.
 */
static void quantize_group(void *arg, int64_t group, int thread)
{
    const qk_rows *r = arg;
    const sky_qk_norm_rope_quantize_args *args = r->args;
    const int64_t num_heads = args->scale.shape[1];
    const int64_t first = group * args->tokens_per_group;
    const int64_t tokens = sky_min_i64(args->tokens_per_group, r->rows - first);
    uint32_t *bits = sky_cpu_work(r->device, thread);
    float *factor = (float *)(void *)(bits + num_heads);
    float *tile = factor + num_heads;
    const int64_t room = (THREAD_FLOATS - 2 * num_heads) / r->cols;
    const int64_t kept = tokens <= room ? tokens : room - 1;
    memset(bits, 0, (size_t)num_heads * sizeof *bits);
    for (int64_t t = 0; t < tokens; t++) {
        float *v = tile + sky_min_i64(t, kept) * r->cols;
        centred_row(r, first + t, v);
        for (int64_t n = 0; n < num_heads; n++) {
            bits[n] = sky_amax_bits(v + n * r->head_dim, r->head_dim, bits[n]);
        }
    }
    store_scales(r, group, bits, factor);
    for (int64_t t = 0; t < tokens; t++) {
        float *v = tile + sky_min_i64(t, kept) * r->cols;
        if (t >= kept) {
            centred_row(r, first + t, v);
        }
        encode_row(r, first + t, v, factor);
    }
}

sky_status SKY_CPU(qk_norm_rope_quantize)(sky_ctx *ctx, const sky_qk_norm_rope_quantize_args *args, void *scratch)
{
    (void)scratch;
    qk_rows r = QK_ROWS(ctx, args);
    sky_threads_for(r.device->threads, args->scale.shape[0], quantize_group, &r);
    return SKY_OK;
}
