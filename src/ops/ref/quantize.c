#include "ops/ref/linear_sums.h"
#include "ops/ref/ref_ops.h"

#include <math.h>

enum { TILE = SKY_V_TILE_TOKENS };

static const float least_amax = 1e-12F;

/* The larger of amax and |x|; NaN once there was one. */
static float larger(float amax, float x)
{
    return isnan(amax) || fabsf(x) <= amax ? amax : fabsf(x);
}

static float at_least(float amax)
{
    return amax < least_amax ? least_amax : amax;
}

/* The header says why it is not largest / amax. */
static float factor_of(float largest, float amax)
{
    return 1.0F / amax * largest;
}

static uint8_t code_of(sky_dtype dtype, float x)
{
    if (dtype == SKY_F8_E4M3) {
        return sky_f32_to_e4m3(x);
    }
    return isnan(x) ? 0 : (uint8_t)(int8_t)rintf(x); /* at most 127 in size, since no element is larger than amax */
}

/* Where column c of a row lies. */
static int64_t index_in_parts(const sky_quantize_rows_args *args, int64_t row, int64_t c)
{
    const int64_t cols = args->x.shape[1];
    if (sky_num_parts(args->num_parts) == 1) {
        return row * cols + c;
    }
    const int64_t head_dim = cols / args->num_heads;
    const sky_span part = sky_part_of_head(args->num_heads, args->num_parts, c / head_dim);
    return sky_part_row(part, args->x.shape[0], head_dim, row) + c - part.first * head_dim;
}

sky_status sky_ref_quantize_rows(sky_ctx *ctx, const sky_quantize_rows_args *args, void *scratch)
{
    (void)ctx;
    (void)scratch;
    const int64_t cols = args->x.shape[1];
    const float largest = args->codes.dtype == SKY_F8_E4M3 ? 448.0F : 127.0F;
    uint8_t *codes = args->codes.data;
    for (int64_t r = 0; r < args->x.shape[0]; r++) {
        float amax = 0.0F;
        for (int64_t c = 0; c < cols; c++) {
            amax = larger(amax, ref_load(&args->x, index_in_parts(args, r, c)));
        }
        amax = at_least(amax);
        for (int64_t c = 0; c < cols; c++) {
            const float x = ref_load(&args->x, index_in_parts(args, r, c));
            codes[r * cols + c] = code_of(args->codes.dtype, x * factor_of(largest, amax));
        }
        ref_store(&args->scale, r, amax / largest);
    }
    return SKY_OK;
}

sky_status sky_ref_dequantize_rows(sky_ctx *ctx, const sky_dequantize_rows_args *args, void *scratch)
{
    (void)ctx;
    (void)scratch;
    const int64_t cols = args->codes.shape[1];
    for (int64_t i = 0; i < args->codes.shape[0] * cols; i++) {
        ref_store(&args->y, i, ref_load_code(&args->codes, i) * ref_load(&args->scale, i / cols));
    }
    return SKY_OK;
}

/* One group of one head. */
static void quantize_group(const sky_quantize_heads_args *args, int64_t group, int64_t head)
{
    const int64_t num_tokens = args->x.shape[0];
    const int64_t num_heads = args->x.shape[1];
    const int64_t head_dim = args->x.shape[2];
    const int64_t first = group * args->tokens_per_group;
    const int64_t end = num_tokens - first < args->tokens_per_group ? num_tokens : first + args->tokens_per_group;
    const sky_span part = sky_part_of_head(num_heads, args->num_parts, head);
    const int64_t in_part = head - part.first;
    float amax = 0.0F;
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t s = first; s < end; s++) {
            const int64_t to = sky_part_row(part, num_tokens, head_dim, s) + in_part * head_dim;
            for (int64_t d = 0; d < head_dim; d++) {
                float v = ref_load(&args->x, (s * num_heads + head) * head_dim + d);
                if (sky_tensor_present(&args->mean)) {
                    v -= ref_load(&args->mean, head * head_dim + d);
                }
                if (pass == 0) {
                    amax = larger(amax, v);
                } else {
                    ((uint8_t *)args->codes.data)[to + d] = code_of(SKY_I8, v * factor_of(127.0F, amax));
                }
            }
        }
        amax = at_least(amax);
    }
    ref_store(&args->scale, sky_part_row(part, args->scale.shape[0], 1, group) + in_part, amax / 127.0F);
}

sky_status sky_ref_quantize_heads(sky_ctx *ctx, const sky_quantize_heads_args *args, void *scratch)
{
    (void)ctx;
    (void)scratch;
    for (int64_t g = 0; g < args->scale.shape[0]; g++) {
        for (int64_t n = 0; n < args->x.shape[1]; n++) {
            quantize_group(args, g, n);
        }
    }
    return SKY_OK;
}

/* The largest |x - mean| of channel c, of all parts' extremes. */
static float centred_amax(const sky_quantize_channels_args *args, int64_t c, float mean)
{
    const int64_t cols = args->x.shape[1];
    const int64_t parts = sky_tensor_len(&args->range) / (2 * cols);
    float most = -INFINITY;
    float least = INFINITY;
    for (int64_t p = 0; p < parts; p++) {
        const float part_most = ref_load(&args->range, 2 * p * cols + c);
        const float part_least = ref_load(&args->range, (2 * p + 1) * cols + c);
        if (isnan(part_most) || isnan(part_least)) {
            return NAN;
        }
        most = part_most > most ? part_most : most;
        least = part_least < least ? part_least : least;
    }
    return most < least ? least_amax : larger(larger(least_amax, most - mean), least - mean);
}

sky_status sky_ref_quantize_channels(sky_ctx *ctx, const sky_quantize_channels_args *args, void *scratch)
{
    (void)ctx;
    (void)scratch;
    const int64_t cols = args->x.shape[1];
    const int64_t num_tiles = args->codes.shape[0];
    const int64_t head_dim = args->codes.shape[2];
    for (int64_t c = 0; c < cols; c++) {
        const float mean = ref_load(&args->mean, c);
        const float amax = centred_amax(args, c, mean);
        const sky_span part = sky_part_of_head(args->codes.shape[1], args->num_parts, c / head_dim);
        for (int64_t s = 0; s < num_tiles * TILE; s++) { /* to the end of the last tile */
            const int64_t at = sky_part_row(part, num_tiles, head_dim * TILE, s / TILE) +
                               (c - part.first * head_dim) * TILE + sky_v_tile_position(s % TILE);
            uint8_t code = 0;
            if (s < args->x.shape[0]) {
                code = code_of(SKY_F8_E4M3,
                               (ref_load_linear(&args->x, &args->x_sums, s, c) - mean) * factor_of(448.0F, amax));
            }
            ((uint8_t *)args->codes.data)[at] = code;
        }
        ref_store(&args->scale, c, amax / 448.0F);
    }
    return SKY_OK;
}

/* x in units of 2^-32, held to [-limit, limit]. */
static int64_t fixed(float x, int64_t limit)
{
    const double scaled = rint((double)x * 0x1p32);
    if (isnan(scaled)) {
        return 0;
    }
    if (fabs(scaled) >= (double)limit) {
        return scaled < 0.0 ? -limit : limit;
    }
    return (int64_t)scaled;
}

static void store_range(const sky_channel_sums_args *args, int64_t c)
{
    const int64_t cols = args->x.shape[1];
    float most = -INFINITY;
    float least = INFINITY;
    for (int64_t s = 0; s < args->x.shape[0]; s++) {
        const float x = ref_load_linear(&args->x, &args->x_sums, s, c);
        most = isnan(x) || x > most ? x : most; /* a NaN stays: nothing is larger */
        least = isnan(x) || x < least ? x : least;
    }
    ref_store(&args->range, c, isnan(most) ? NAN : most + 0.0F);
    ref_store(&args->range, cols + c, isnan(most) ? NAN : least + 0.0F);
}

sky_status sky_ref_channel_sums(sky_ctx *ctx, const sky_channel_sums_args *args, void *scratch)
{
    (void)ctx;
    (void)scratch;
    const int64_t rows = args->x.shape[0];
    const int64_t cols = args->x.shape[1];
    for (int64_t c = 0; c < cols; c++) {
        int64_t sum = 0;
        for (int64_t s = 0; s < rows; s++) {
            sum += fixed(ref_load_linear(&args->x, &args->x_sums, s, c), (INT64_C(1) << 62) / args->num_tokens);
        }
        ((int64_t *)args->sums.data)[c] = sum;
        if (sky_tensor_present(&args->range)) {
            store_range(args, c);
        }
    }
    return SKY_OK;
}

sky_status sky_ref_sums_to_mean(sky_ctx *ctx, const sky_sums_to_mean_args *args, void *scratch)
{
    (void)ctx;
    (void)scratch;
    const int64_t cols = args->mean.shape[0];
    const int64_t parts = sky_tensor_len(&args->sums) / cols;
    for (int64_t c = 0; c < cols; c++) {
        __int128 sum = 0;
        for (int64_t p = 0; p < parts; p++) {
            sum += ((const int64_t *)args->sums.data)[p * cols + c];
        }
        ref_store(&args->mean, c, (float)((double)sum / (0x1p32 * (double)args->num_tokens)));
    }
    return SKY_OK;
}
