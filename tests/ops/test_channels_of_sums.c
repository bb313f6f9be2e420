#include "ops/rig.h"

#include "support/compare.h"
#include "support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/*
 * Statistics and codes of channels made of a linear layer's i32 sums: the bytes of linear_8bit to bf16 followed by the same ops.
 */
enum { DEPTH = 32, NUM_OUTPUTS = 4 };

typedef struct params {
    int64_t rows, cols, heads;
    int num_parts;
    bool bias, f32_bias;
    bool nan_row, nan_col; /* in the scale of row 1, of column 2 */
} params;

/* Random scales, one of them NaN where `nan` is not negative. */
static sky_tensor scales(rig *r, uint64_t seed, int64_t len, int64_t nan)
{
    float *values = malloc((size_t)len * sizeof *values + 1);
    SKY_ASSERT(values != NULL);
    for (int64_t i = 0; i < len; i++) {
        values[i] = i == nan ? NAN : 1e-3F * (2.0F + test_random(seed, (uint64_t)i));
    }
    const sky_tensor t = RIG_VALUES(r, SKY_F32, values, len);
    free(values);
    return t;
}

/* Of x: its sums, or (two steps) what linear_8bit makes of them. */
static sky_status linear_output(rig *r, const params *p, bool fused, sky_tensor *x, sky_linear_sums *x_sums)
{
    const sky_linear_sums all = {.x_scale = scales(r, 3, p->rows, p->nan_row ? 1 : -1),
                                 .weight_scale = scales(r, 4, p->cols, p->nan_col ? 2 : -1),
                                 .bias = p->bias ? RIG_INPUT(r, p->f32_bias ? SKY_F32 : SKY_BF16, 5, p->cols)
                                                 : (sky_tensor){0}};
    *x = RIG_OUTPUT(r, fused ? SKY_I32 : SKY_BF16, p->rows, p->cols);
    *x_sums = fused ? all : (sky_linear_sums){0};
    sky_linear_8bit_args linear = {
        .y = *x, .x = RIG_INPUT(r, SKY_I8, 1, p->rows, DEPTH), .weight = RIG_INPUT(r, SKY_I8, 2, p->cols, DEPTH)};
    if (!fused) {
        linear.x_scale = all.x_scale;
        linear.weight_scale = all.weight_scale;
        linear.bias = all.bias;
    }
    return sky_linear_8bit(&r->ctx, &linear);
}

/* out: sums, range, codes, scale */
static sky_status run(rig *r, const params *p, bool fused, sky_tensor *out)
{
    sky_tensor x;
    sky_linear_sums x_sums;
    const sky_tensor mean = RIG_OUTPUT(r, SKY_F32, p->cols);
    const int64_t num_tokens = p->rows + 7;
    out[0] = RIG_OUTPUT(r, SKY_I64, p->cols);
    out[1] = RIG_OUTPUT(r, SKY_F32, 2 * p->cols);
    out[2] = RIG_OUTPUT(r, SKY_F8_E4M3, sky_num_v_tiles(p->rows), p->heads, p->cols / p->heads, 128);
    out[3] = RIG_OUTPUT(r, SKY_F32, p->cols);
    SKY_TRY(linear_output(r, p, fused, &x, &x_sums));
    SKY_TRY(sky_channel_sums(
        &r->ctx,
        &(sky_channel_sums_args){.sums = out[0], .x = x, .x_sums = x_sums, .range = out[1], .num_tokens = num_tokens}));
    SKY_TRY(
        sky_sums_to_mean(&r->ctx, &(sky_sums_to_mean_args){.mean = mean, .sums = out[0], .num_tokens = num_tokens}));
    return sky_quantize_channels(&r->ctx, &(sky_quantize_channels_args){.codes = out[2],
                                                                        .scale = out[3],
                                                                        .x = x,
                                                                        .x_sums = x_sums,
                                                                        .mean = mean,
                                                                        .range = out[1],
                                                                        .num_parts = p->num_parts});
}

static size_t planned_bytes(const params *p, const test_backend *which)
{
    rig r;
    sky_tensor out[NUM_OUTPUTS];
    if (!rig_open(&r, which, 0, 0)) {
        return 0;
    }
    EXPECT(run(&r, p, true, out) == SKY_OK);
    EXPECT(rig_check(&r));
    const size_t bytes = r.arena.peak_bytes;
    rig_close(&r);
    return bytes > 0 ? bytes : SKY_ARENA_ALIGNMENT_BYTES;
}

static void expect_same(rig *one, const sky_tensor *got, rig *two, const sky_tensor *want, int output)
{
    static const char *const names[NUM_OUTPUTS] = {"sums", "range", "codes", "scale"};
    unsigned char *x = rig_read_bytes(one, got);
    unsigned char *y = rig_read_bytes(two, want);
    if (memcmp(x, y, sky_tensor_bytes(want)) != 0) {
        test_fail(__FILE__, __LINE__, "%s: other %s than in two steps", one->which->name, names[output]);
    }
    free(x);
    free(y);
}

static void check(const params *p)
{
    test_parameters("rows=%d C=%d N=%d parts=%d bias=%d f32=%d nan_row=%d nan_col=%d", (int)p->rows, (int)p->cols,
                    (int)p->heads, p->num_parts, p->bias, p->f32_bias, p->nan_row, p->nan_col);
    for (int b = 0; b < test_num_backends() && !test_failed(); b++) {
        for (int64_t skew = 0; skew < 2 && !test_failed(); skew++) {
            rig one, two;
            sky_tensor fused[NUM_OUTPUTS];
            sky_tensor steps[NUM_OUTPUTS];
            CHECK(rig_open(&one, test_backend_at(b), skew, planned_bytes(p, test_backend_at(b))));
            CHECK(rig_open(&two, test_backend_at(b), 0, RIG_ARENA_BYTES));
            EXPECT(run(&one, p, true, fused) == SKY_OK && run(&two, p, false, steps) == SKY_OK);
            EXPECT(rig_check(&one));
            for (int i = 0; i < NUM_OUTPUTS && !test_failed(); i++) {
                expect_same(&one, &fused[i], &two, &steps[i], i);
            }
            rig_close(&one);
            rig_close(&two);
        }
    }
}

/* Rows, columns, heads, parts of codes. */
static const int64_t sizes[][4] = {{1, 1, 1, 0},   {0, 5, 1, 0},     {3, 64, 2, 2},   {17, 65, 5, 3},
                                   {129, 7, 1, 1}, {300, 130, 2, 2}, {128, 48, 3, 5}, {257, 33, 3, 0}};
enum { NUM_SIZES = sizeof sizes / sizeof sizes[0] };

static params sized(int i)
{
    return (params){.rows = sizes[i][0], .cols = sizes[i][1], .heads = sizes[i][2], .num_parts = (int)sizes[i][3]};
}

TEST(sums_are_read_as_linear_8bit_writes_them)
{
    for (int i = 0; i < NUM_SIZES; i++) {
        for (int bias = 0; bias < 3 && !test_failed(); bias++) {
            params p = sized(i);
            p.bias = bias > 0;
            p.f32_bias = bias == 2;
            check(&p);
        }
    }
}

/* In the scale of a row: in all channels; of a column: in one. */
TEST(a_nan_in_a_scale_shows_as_in_two_steps)
{
    for (int i = 0; i < NUM_SIZES; i++) {
        for (int nan = 1; nan < 4 && !test_failed(); nan++) {
            params p = sized(i);
            p.bias = true;
            p.nan_row = (nan & 1) != 0;
            p.nan_col = (nan & 2) != 0;
            check(&p);
        }
    }
    for (int b = 0; b < test_num_backends() && !test_failed(); b++) {
        rig r;
        sky_tensor out[NUM_OUTPUTS];
        CHECK(rig_open(&r, test_backend_at(b), 0, RIG_ARENA_BYTES));
        EXPECT(run(&r, &(params){.rows = 3, .cols = 4, .heads = 1, .nan_col = true}, true, out) == SKY_OK);
        float *range = rig_read(&r, &out[1]);
        float *scale = rig_read(&r, &out[3]);
        for (int c = 0; c < 4; c++) {
            test_parameters("%s, channel %d", r.which->name, c);
            EXPECT(isnan(range[c]) == (c == 2) && isnan(range[4 + c]) == (c == 2) && isnan(scale[c]) == (c == 2));
        }
        free(range);
        free(scale);
        rig_close(&r);
    }
}

#define REFUSES(want, op, args, change)             \
    do {                                            \
        sky_##op##_args a = args;                   \
        change;                                     \
        CHECK_STATUS(sky_##op(&r.ctx, &a), (want)); \
    } while (0)

TEST(sums_without_what_they_lack_are_refused)
{
    static float memory[8][128];
    const sky_tensor none = {0};
    rig r;
    CHECK(rig_open(&r, test_backend_at(0), 0, RIG_ARENA_BYTES));
    const sky_linear_sums x_sums = {.x_scale = SKY_TENSOR(memory[0], SKY_F32, 3),
                                    .weight_scale = SKY_TENSOR(memory[1], SKY_F32, 4),
                                    .bias = SKY_TENSOR(memory[2], SKY_BF16, 4)};
    const sky_channel_sums_args sums = {.sums = SKY_TENSOR(memory[3], SKY_I64, 4),
                                        .x = SKY_TENSOR(memory[4], SKY_I32, 3, 4),
                                        .x_sums = x_sums,
                                        .range = SKY_TENSOR(memory[5], SKY_F32, 8),
                                        .num_tokens = 3};
    REFUSES(SKY_OK, channel_sums, sums, (void)a);
    REFUSES(SKY_OK, channel_sums, sums, a.x_sums.bias = none);
    REFUSES(SKY_ERR_DTYPE, channel_sums, sums, a.x.dtype = SKY_F32);
    REFUSES(SKY_ERR_DTYPE, channel_sums, sums, a.x.dtype = SKY_I8);
    REFUSES(SKY_ERR_SHAPE, channel_sums, sums, a.x_sums = (sky_linear_sums){0});
    REFUSES(SKY_ERR_SHAPE, channel_sums, sums, a.x_sums.x_scale.shape[0] = 4);
    REFUSES(SKY_ERR_SHAPE, channel_sums, sums, a.x_sums.weight_scale.shape[0] = 3);
    REFUSES(SKY_ERR_SHAPE, channel_sums, sums, a.x_sums.bias.shape[0] = 3);
    REFUSES(SKY_ERR_INTERNAL, channel_sums, sums, a.x_sums.x_scale.data = memory[3]);
    REFUSES(SKY_ERR_INTERNAL, channel_sums, sums, a.x_sums.bias.data = memory[5]);

    const sky_quantize_channels_args codes = {.codes = SKY_TENSOR(memory[6], SKY_F8_E4M3, 1, 1, 4, 128),
                                              .scale = SKY_TENSOR(memory[3], SKY_F32, 4),
                                              .x = sums.x,
                                              .x_sums = x_sums,
                                              .mean = SKY_TENSOR(memory[5] + 8, SKY_F32, 4),
                                              .range = sums.range};
    REFUSES(SKY_OK, quantize_channels, codes, (void)a);
    REFUSES(SKY_OK, quantize_channels, codes, a.x_sums.bias = none);
    REFUSES(SKY_ERR_DTYPE, quantize_channels, codes, a.x.dtype = SKY_F32);
    REFUSES(SKY_ERR_DTYPE, quantize_channels, codes, a.x.dtype = SKY_I8);
    REFUSES(SKY_ERR_SHAPE, quantize_channels, codes, a.x_sums = (sky_linear_sums){0});
    REFUSES(SKY_ERR_SHAPE, quantize_channels, codes, a.x_sums.x_scale.shape[0] = 4);
    REFUSES(SKY_ERR_SHAPE, quantize_channels, codes, a.x_sums.weight_scale.shape[0] = 3);
    REFUSES(SKY_ERR_INTERNAL, quantize_channels, codes, a.x_sums.weight_scale.data = memory[6]);
    REFUSES(SKY_ERR_INTERNAL, quantize_channels, codes, a.x_sums.bias.data = memory[3]);
    rig_close(&r);
}

TEST_MAIN
