#include "ops/cpu/codes.h"
#include "ops/cpu/device.h"
#include "ops/cpu/isa.h"
#include "ops/cpu/linear_sums.h"

/* Columns that one thread takes, in ops over columns; rows of a tile of codes; the side of what is turned at a time. */
enum { STRIP_COLS = 64, TILE = SKY_V_TILE_TOKENS, SQUARE = 16 };

static int64_t rows_per_job(int64_t cols)
{
    return sky_max_i64(1, SKY_CHUNK_LEN / sky_max_i64(cols, 1));
}

/* What a row has of one part: columns [first, first + len), from element `at` of x on. */
typedef struct row_run {
    int64_t at, first, len;
} row_run;

static row_run run_of_row(const sky_quantize_rows_args *args, int64_t row, int part)
{
    const int64_t cols = args->x.shape[1];
    const int num_parts = sky_num_parts(args->num_parts);
    const int64_t num_heads = num_parts > 1 ? args->num_heads : 1;
    const int64_t width = cols / num_heads;
    const sky_span heads = sky_partition(num_heads, num_parts, part);
    return (row_run){.at = sky_part_row(heads, args->x.shape[0], width, row),
                     .first = heads.first * width,
                     .len = heads.count * width};
}

static void quantize_row(const sky_quantize_rows_args *args, int64_t row)
{
    const int num_parts = sky_num_parts(args->num_parts);
    const bool e4m3 = args->codes.dtype == SKY_F8_E4M3;
    const float largest = e4m3 ? 448.0F : 127.0F;
    float buf[SKY_BLOCK_LEN];
    uint32_t bits = 0;
    float amax = 0.0F;
    for (int pass = 0; pass < 2; pass++) {
        for (int part = 0; part < num_parts; part++) {
            const row_run run = run_of_row(args, row, part);
            uint8_t *codes = (uint8_t *)args->codes.data + row * args->x.shape[1] + run.first;
            for (int64_t c = 0; c < run.len; c += SKY_BLOCK_LEN) {
                const int64_t len = sky_min_i64(SKY_BLOCK_LEN, run.len - c);
                const float *x = sky_read(&args->x, run.at + c, len, buf);
                if (pass == 0) {
                    bits = sky_amax_bits(x, len, bits);
                } else if (e4m3) {
                    sky_encode_e4m3(codes + c, x, len, 1.0F / amax * largest);
                } else {
                    sky_encode_i8(codes + c, x, len, 1.0F / amax * largest);
                }
            }
        }
        amax = sky_amax_at_least(sky_bits_float(bits));
    }
    ((float *)args->scale.data)[row] = amax / largest;
}

static void quantize_some_rows(void *arg, int64_t index, int thread)
{
    (void)thread;
    const sky_quantize_rows_args *args = arg;
    const int64_t step = rows_per_job(args->x.shape[1]);
    const int64_t end = sky_min_i64((index + 1) * step, args->x.shape[0]);
    for (int64_t row = index * step; row < end; row++) {
        quantize_row(args, row);
    }
}

sky_status SKY_CPU(quantize_rows)(sky_ctx *ctx, const sky_quantize_rows_args *args, void *scratch)
{
    (void)scratch;
    sky_quantize_rows_args copy = *args;
    const int64_t step = rows_per_job(args->x.shape[1]);
    sky_threads_for(sky_cpu_device_of(ctx)->threads, sky_div_up(args->x.shape[0], step), quantize_some_rows, &copy);
    return SKY_OK;
}

static void dequantize_some_rows(void *arg, int64_t index, int thread)
{
    (void)thread;
    const sky_dequantize_rows_args *args = arg;
    const int64_t cols = args->codes.shape[1];
    const int64_t step = rows_per_job(cols);
    const int64_t end = sky_min_i64((index + 1) * step, args->codes.shape[0]);
    float buf[SKY_BLOCK_LEN];
    for (int64_t row = index * step; row < end; row++) {
        const float scale = ((const float *)args->scale.data)[row];
        for (int64_t c = 0; c < cols; c += SKY_BLOCK_LEN) {
            const int64_t len = sky_min_i64(SKY_BLOCK_LEN, cols - c);
            float *y = sky_write_to(&args->y, row * cols + c, buf);
            sky_widen_any(y, sky_at(&args->codes, row * cols + c), args->codes.dtype, len);
            for (int64_t i = 0; i < len; i++) {
                y[i] *= scale;
            }
            sky_write_end(&args->y, row * cols + c, len, y);
        }
    }
}

sky_status SKY_CPU(dequantize_rows)(sky_ctx *ctx, const sky_dequantize_rows_args *args, void *scratch)
{
    (void)scratch;
    sky_dequantize_rows_args copy = *args;
    const int64_t step = rows_per_job(args->codes.shape[1]);
    sky_threads_for(sky_cpu_device_of(ctx)->threads, sky_div_up(args->codes.shape[0], step), dequantize_some_rows,
                    &copy);
    return SKY_OK;
}

/* x less its mean, where there is one. */
static const float *read_centred(const sky_quantize_heads_args *args, int64_t at, const float *mean, int64_t len,
                                 float *buf)
{
    const float *x = sky_read(&args->x, at, len, buf);
    if (mean == NULL) {
        return x;
    }
    SKY_LOOP_INDEPENDENT
    for (int64_t i = 0; i < len; i++) {
        buf[i] = x[i] - mean[i];
    }
    return buf;
}

/* One group of one head, in two passes: the largest, the codes. */
static void quantize_group(void *arg, int64_t index, int thread)
{
    (void)thread;
    const sky_quantize_heads_args *args = arg;
    const int64_t num_heads = args->x.shape[1];
    const int64_t head_dim = args->x.shape[2];
    const int64_t head = index % num_heads;
    const int64_t first = index / num_heads * args->tokens_per_group;
    const int64_t tokens = sky_min_i64(args->tokens_per_group, args->x.shape[0] - first);
    const sky_span part = sky_part_of_head(num_heads, args->num_parts, head);
    const int64_t in_part = head - part.first;
    const float *mean = args->mean.data;
    float buf[SKY_BLOCK_LEN];
    uint32_t bits = 0;
    float amax = 0.0F;
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t s = first; s < first + tokens; s++) {
            uint8_t *codes = args->codes.data;
            codes += sky_part_row(part, args->x.shape[0], head_dim, s) + in_part * head_dim;
            for (int64_t d = 0; d < head_dim; d += SKY_BLOCK_LEN) {
                const int64_t len = sky_min_i64(SKY_BLOCK_LEN, head_dim - d);
                const int64_t channel = head * head_dim + d;
                const int64_t at = s * num_heads * head_dim + channel;
                const float *v = read_centred(args, at, mean == NULL ? NULL : mean + channel, len, buf);
                if (pass == 0) {
                    bits = sky_amax_bits(v, len, bits);
                } else {
                    sky_encode_i8(codes + d, v, len, 1.0F / amax * 127.0F);
                }
            }
        }
        amax = sky_amax_at_least(sky_bits_float(bits));
    }
    float *scale = args->scale.data;
    scale[sky_part_row(part, args->scale.shape[0], 1, index / num_heads) + in_part] = amax / 127.0F;
}

sky_status SKY_CPU(quantize_heads)(sky_ctx *ctx, const sky_quantize_heads_args *args, void *scratch)
{
    (void)scratch;
    sky_quantize_heads_args copy = *args;
    const int64_t num_jobs = args->scale.shape[0] * args->scale.shape[1];
    sky_threads_for(sky_cpu_device_of(ctx)->threads, num_jobs, quantize_group, &copy);
    return SKY_OK;
}

typedef uint8_t bytes_16 __attribute__((vector_size(SQUARE)));
typedef uint8_t bytes_16_unaligned __attribute__((vector_size(SQUARE), aligned(1), may_alias));

/* Turns a square of bytes around. Rows i and i + 8 interleaved move an element's row and column number on by one bit. */
static inline void turn_square(bytes_16 *v)
{
    for (int step = 0; step < 4; step++) {
        bytes_16 to[SQUARE];
        SKY_LOOP_UNROLLED
        for (int i = 0; i < SQUARE / 2; i++) {
            const bytes_16 a = v[i];
            const bytes_16 b = v[i + SQUARE / 2];
            to[2 * i] = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            to[2 * i + 1] = __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        }
        memcpy(v, to, sizeof to);
    }
}

/* codes [TILE][STRIP_COLS] -> to [cols][TILE] */
static void write_turned(uint8_t *to, const uint8_t *codes, int64_t cols)
{
    for (int64_t c = 0; c < cols; c += SQUARE) {
        for (int64_t i = 0; i < TILE; i += SQUARE) {
            bytes_16 v[SQUARE];
            for (int64_t j = 0; j < SQUARE; j++) {
                v[j] = *(const bytes_16_unaligned *)(codes + (i + j) * STRIP_COLS + c);
            }
            turn_square(v);
            for (int64_t j = 0; j < SQUARE && c + j < cols; j++) {
                *(bytes_16_unaligned *)(to + (c + j) * TILE + i) = v[j];
            }
        }
    }
}

/* Strips of the largest part, which is the first one. */
static int64_t strips_of_part(const sky_quantize_channels_args *args)
{
    const sky_span heads = sky_partition(args->codes.shape[1], sky_num_parts(args->num_parts), 0);
    return sky_div_up(heads.count * args->codes.shape[2], STRIP_COLS);
}

/* The largest |x - mean| of channel c, of all parts' extremes. */
static float centred_amax(const sky_quantize_channels_args *args, int64_t c, float mean)
{
    const int64_t all = args->scale.shape[0];
    const int64_t parts = sky_tensor_len(&args->range) / (2 * all);
    const float *range = (const float *)args->range.data + c;
    uint32_t bits = 0; /* without the sign, NaN is above all */
    float most = -__builtin_inff();
    float least = __builtin_inff();
    for (int64_t p = 0; p < parts; p++, range += 2 * all) {
        const float ends[] = {range[0], range[all]};
        bits = ends[0] != ends[0] ? 0x7fc00000U : bits;
        bits = ends[1] != ends[1] ? 0x7fc00000U : bits;
        most = ends[0] > most ? ends[0] : most;
        least = ends[1] < least ? ends[1] : least;
    }
    const float sizes[] = {most - mean, least - mean};
    if (most >= least) {
        bits = sky_amax_bits(sizes, 2, bits);
    }
    return sky_amax_at_least(sky_bits_float(bits));
}

static inline void encode_centred(uint8_t *restrict codes, const float *restrict x, const float *restrict mean,
                                  const float *restrict factor, int64_t cols)
{
    for (int64_t c = 0; c < cols; c++) {
        codes[c] = (uint8_t)sky_e4m3_code((x[c] - mean[c]) * factor[c]);
    }
}

static void quantize_strip(void *arg, int64_t index, int thread)
{
    (void)thread;
    const sky_quantize_channels_args *args = arg;
    const int64_t head_dim = args->codes.shape[2];
    const int part = (int)(index / strips_of_part(args));
    const sky_span heads = sky_partition(args->codes.shape[1], sky_num_parts(args->num_parts), part);
    const int64_t in_part = index % strips_of_part(args) * STRIP_COLS;
    const int64_t first = heads.first * head_dim + in_part;
    const int64_t cols = sky_min_i64(STRIP_COLS, heads.count * head_dim - in_part);
    const float *mean = (const float *)args->mean.data + first;
    float *scale = (float *)args->scale.data + first;
    float factor[STRIP_COLS];
    float buf[STRIP_COLS];
    uint8_t codes[TILE * STRIP_COLS];
    for (int64_t c = 0; c < cols; c++) {
        const float a = centred_amax(args, first + c, mean[c]);
        factor[c] = 1.0F / a * 448.0F;
        scale[c] = a / 448.0F;
    }
    for (int64_t t = 0; t < args->codes.shape[0]; t++) {
        const int64_t rows = sky_min_i64(TILE, args->x.shape[0] - t * TILE);
        if (rows < TILE) {
            memset(codes, 0, sizeof codes);
        }
        for (int64_t s = 0; s < rows; s++) {
            const float *x = sky_read_linear(&args->x, &args->x_sums, t * TILE + s, first, cols, buf);
            encode_centred(codes + sky_v_tile_position(s) * STRIP_COLS, x, mean, factor, cols);
        }
        const int64_t to = sky_part_row(heads, args->codes.shape[0], head_dim * TILE, t) + in_part * TILE;
        write_turned((uint8_t *)args->codes.data + to, codes, cols);
    }
}

sky_status SKY_CPU(quantize_channels)(sky_ctx *ctx, const sky_quantize_channels_args *args, void *scratch)
{
    (void)scratch;
    sky_quantize_channels_args copy = *args;
    sky_threads_for(sky_cpu_device_of(ctx)->threads, sky_num_parts(args->num_parts) * strips_of_part(args),
                    quantize_strip, &copy);
    return SKY_OK;
}

/* A maximum of floats may lose a NaN; so it is remembered apart. */
typedef struct extremes {
    float most[STRIP_COLS], least[STRIP_COLS];
    uint32_t nan[STRIP_COLS];
} extremes;

static inline void widen_extremes(extremes *restrict e, const float *restrict x, int64_t cols)
{
    for (int64_t c = 0; c < cols; c++) {
        e->most[c] = x[c] > e->most[c] ? x[c] : e->most[c];
        e->least[c] = x[c] < e->least[c] ? x[c] : e->least[c];
        e->nan[c] |= x[c] != x[c];
    }
}

static void sum_strip(void *arg, int64_t index, int thread)
{
    (void)thread;
    const sky_channel_sums_args *args = arg;
    const int64_t rows = args->x.shape[0];
    const int64_t first = index * STRIP_COLS;
    const int64_t cols = sky_min_i64(STRIP_COLS, args->sums.shape[0] - first);
    const int64_t limit = (INT64_C(1) << 62) / args->num_tokens;
    int64_t sums[STRIP_COLS] = {0};
    extremes e;
    float buf[STRIP_COLS];
    for (int64_t c = 0; c < cols; c++) {
        e.most[c] = -__builtin_inff();
        e.least[c] = __builtin_inff();
        e.nan[c] = 0;
    }
    float *range = args->range.data;
    for (int64_t s = 0; s < rows; s++) {
        const float *x = sky_read_linear(&args->x, &args->x_sums, s, first, cols, buf);
        sky_add_fixed(sums, x, cols, limit);
        if (range != NULL) {
            widen_extremes(&e, x, cols);
        }
    }
    memcpy((int64_t *)args->sums.data + first, sums, (size_t)cols * sizeof *sums);
    for (int64_t c = 0; range != NULL && c < cols; c++) {
        range[first + c] = e.nan[c] != 0 ? __builtin_nanf("") : e.most[c] + 0.0F;
        range[args->sums.shape[0] + first + c] = e.nan[c] != 0 ? __builtin_nanf("") : e.least[c] + 0.0F;
    }
}

sky_status SKY_CPU(channel_sums)(sky_ctx *ctx, const sky_channel_sums_args *args, void *scratch)
{
    (void)scratch;
    sky_channel_sums_args copy = *args;
    sky_threads_for(sky_cpu_device_of(ctx)->threads, sky_div_up(args->sums.shape[0], STRIP_COLS), sum_strip, &copy);
    return SKY_OK;
}

sky_status SKY_CPU(sums_to_mean)(sky_ctx *ctx, const sky_sums_to_mean_args *args, void *scratch)
{
    (void)ctx;
    (void)scratch;
    const double units = 0x1p32 * (double)args->num_tokens;
    const int64_t cols = args->mean.shape[0];
    const int64_t parts = sky_tensor_len(&args->sums) / cols;
    for (int64_t c = 0; c < cols; c++) {
        __int128 sum = 0; /* 64 bits would do for one part, but not for several full ones */
        for (int64_t p = 0; p < parts; p++) {
            sum += ((const int64_t *)args->sums.data)[p * cols + c];
        }
        ((float *)args->mean.data)[c] = (float)((double)sum / units);
    }
    return SKY_OK;
}
