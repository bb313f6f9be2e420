#include "ops/rig.h"

#include "support/compare.h"
#include "support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Values per channel made of several ranks' parts: what one rank with all the rows would get, to the byte. */
enum { ROWS = 400, TILES = 4, COLS = 67, MAX_PARTS = 5 };

/* Where each part begins, a multiple of 128; some have no rows. */
typedef struct cut {
    int parts;
    int64_t first[MAX_PARTS + 1];
} cut;

static const cut cuts[] = {
    {1, {0, ROWS}}, {2, {0, 128, ROWS}}, {2, {0, ROWS, ROWS}}, {5, {0, 0, 128, 128, 384, ROWS}}, {2, {0, 0, ROWS}},
};

static bool same_bytes(rig *r, const sky_tensor *a, const sky_tensor *b)
{
    unsigned char *x = rig_read_bytes(r, a);
    unsigned char *y = rig_read_bytes(r, b);
    const bool same = memcmp(x, y, sky_tensor_bytes(a)) == 0;
    free(x);
    free(y);
    return same;
}

/* Row p of [parts, COLS] as [COLS]. */
static sky_tensor part_of(const sky_tensor *t, int p)
{
    const sky_tensor row = sky_tensor_rows(t, p, 1);
    return sky_tensor_reshape(&row, 1, (int64_t[]){t->shape[1]});
}

/* values [ROWS, COLS], or NULL for random ones */
static void check_mean(const test_backend *which, sky_dtype dtype, const float *values, const cut *c)
{
    rig r;
    CHECK(rig_open(&r, which, 0, RIG_ARENA_BYTES));
    const sky_tensor x =
        values != NULL ? RIG_VALUES(&r, dtype, values, ROWS, COLS) : RIG_INPUT(&r, dtype, 1, ROWS, COLS);
    const sky_tensor sums = RIG_OUTPUT(&r, SKY_I64, COLS);
    const sky_tensor parts = RIG_OUTPUT(&r, SKY_I64, c->parts, COLS);
    const sky_tensor whole = RIG_OUTPUT(&r, SKY_F32, COLS);
    const sky_tensor mean = RIG_OUTPUT(&r, SKY_F32, COLS);
    EXPECT(sky_channel_sums(&r.ctx, &(sky_channel_sums_args){.sums = sums, .x = x, .num_tokens = ROWS}) == SKY_OK);
    EXPECT(sky_sums_to_mean(&r.ctx, &(sky_sums_to_mean_args){whole, sums, ROWS}) == SKY_OK);
    for (int p = 0; p < c->parts; p++) {
        const sky_tensor rows = sky_tensor_rows(&x, c->first[p], c->first[p + 1] - c->first[p]);
        EXPECT(sky_channel_sums(&r.ctx, &(sky_channel_sums_args){
                                            .sums = part_of(&parts, p), .x = rows, .num_tokens = ROWS}) == SKY_OK);
    }
    EXPECT(sky_sums_to_mean(&r.ctx, &(sky_sums_to_mean_args){mean, parts, ROWS}) == SKY_OK);
    EXPECT(rig_check(&r) && same_bytes(&r, &whole, &mean));
    rig_close(&r);
}

/* A value saturates at the same size in a part of few rows: every third is beyond 2^62 / ROWS. */
TEST(parts_saturate_as_the_whole_does)
{
    static float x[ROWS * COLS];
    for (int i = 0; i < ROWS * COLS; i++) {
        x[i] = test_random(9, (uint64_t)i) * (i % 3 == 0 ? 1e9F : 1.0F);
    }
    for (int b = 0; b < test_num_backends(); b++) {
        for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
            test_parameters("%s, cut %d", test_backend_at(b)->name, (int)i);
            check_mean(test_backend_at(b), SKY_F32, x, &cuts[i]);
        }
    }
}

static void check_codes(const test_backend *which, sky_dtype dtype, const cut *c)
{
    rig r;
    CHECK(rig_open(&r, which, 0, RIG_ARENA_BYTES));
    const sky_tensor x = RIG_INPUT(&r, dtype, 1, ROWS, COLS);
    const sky_tensor mean = RIG_INPUT(&r, SKY_F32, 2, COLS);
    const sky_tensor sums = RIG_OUTPUT(&r, SKY_I64, COLS);
    const sky_tensor range = RIG_OUTPUT(&r, SKY_F32, 2 * COLS);
    const sky_tensor parts = RIG_OUTPUT(&r, SKY_F32, c->parts, 2 * COLS);
    const sky_tensor whole = RIG_OUTPUT(&r, SKY_F8_E4M3, TILES, 1, COLS, 128);
    const sky_tensor codes = RIG_OUTPUT(&r, SKY_F8_E4M3, TILES, 1, COLS, 128);
    const sky_tensor whole_scale = RIG_OUTPUT(&r, SKY_F32, COLS);
    const sky_tensor scales = RIG_OUTPUT(&r, SKY_F32, c->parts, COLS);
    EXPECT(sky_channel_sums(
               &r.ctx, &(sky_channel_sums_args){.sums = sums, .x = x, .range = range, .num_tokens = ROWS}) == SKY_OK);
    EXPECT(sky_quantize_channels(
               &r.ctx, &(sky_quantize_channels_args){
                           .codes = whole, .scale = whole_scale, .x = x, .mean = mean, .range = range}) == SKY_OK);
    for (int p = 0; p < c->parts; p++) {
        const sky_tensor rows = sky_tensor_rows(&x, c->first[p], c->first[p + 1] - c->first[p]);
        EXPECT(sky_channel_sums(
                   &r.ctx, &(sky_channel_sums_args){
                               .sums = sums, .x = rows, .range = part_of(&parts, p), .num_tokens = ROWS}) == SKY_OK);
    }
    for (int p = 0; p < c->parts; p++) {
        const int64_t count = c->first[p + 1] - c->first[p];
        const sky_tensor scale = part_of(&scales, p);
        EXPECT(
            sky_quantize_channels(&r.ctx, &(sky_quantize_channels_args){
                                              .codes = sky_tensor_rows(&codes, c->first[p] / 128, (count + 127) / 128),
                                              .scale = scale,
                                              .x = sky_tensor_rows(&x, c->first[p], count),
                                              .mean = mean,
                                              .range = parts}) == SKY_OK);
        EXPECT(same_bytes(&r, &scale, &whole_scale)); /* a part without rows has it too */
    }
    EXPECT(rig_check(&r) && same_bytes(&r, &whole, &codes));
    rig_close(&r);
}

TEST(parts_give_what_the_whole_gives)
{
    for (int b = 0; b < test_num_backends(); b++) {
        for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
            for (int bf16 = 0; bf16 < 2; bf16++) {
                const test_backend *which = test_backend_at(b);
                test_parameters("%s, cut %d, %s", which->name, (int)i, bf16 ? "bf16" : "f32");
                check_mean(which, bf16 ? SKY_BF16 : SKY_F32, NULL, &cuts[i]);
                check_codes(which, bf16 ? SKY_BF16 : SKY_F32, &cuts[i]);
            }
        }
    }
}

TEST(no_rows_have_sums_of_zero_and_the_least_scale)
{
    for (int b = 0; b < test_num_backends(); b++) {
        rig r;
        CHECK(rig_open(&r, test_backend_at(b), 0, RIG_ARENA_BYTES));
        test_parameters("%s", r.which->name);
        const sky_tensor none = SKY_TENSOR(NULL, SKY_F32, 0, COLS);
        const sky_tensor sums = RIG_OUTPUT(&r, SKY_I64, COLS);
        const sky_tensor range = RIG_OUTPUT(&r, SKY_F32, 2 * COLS);
        const sky_tensor scale = RIG_OUTPUT(&r, SKY_F32, COLS);
        EXPECT(sky_channel_sums(&r.ctx, &(sky_channel_sums_args){
                                            .sums = sums, .x = none, .range = range, .num_tokens = 1}) == SKY_OK);
        const sky_tensor no_codes = SKY_TENSOR(NULL, SKY_F8_E4M3, 0, 1, COLS, 128);
        EXPECT(sky_quantize_channels(&r.ctx, &(sky_quantize_channels_args){.codes = no_codes,
                                                                           .scale = scale,
                                                                           .x = none,
                                                                           .mean = RIG_INPUT(&r, SKY_F32, 1, COLS),
                                                                           .range = range}) == SKY_OK);
        float *s = rig_read(&r, &sums);
        float *got = rig_read(&r, &scale);
        for (int c = 0; c < COLS; c++) {
            EXPECT(s[c] == 0.0F && got[c] == 1e-12F / 448.0F);
        }
        rig_check(&r);
        free(s);
        free(got);
        rig_close(&r);
    }
}

/*
 * Parts that overflow 64 bits together, and parts whose sum in f64 would lose the small ones and fall on the other side of
 * a tie: 2^53 + 2^29 is in the middle of two f32 numbers, and 2 more decides.
 */
TEST(parts_are_summed_exactly)
{
    enum { PARTS = 3, LEN = 4 };
    const int64_t big = INT64_C(1) << 62;
    const int64_t tie = (INT64_C(1) << 53) + (INT64_C(1) << 29);
    const int64_t sums[PARTS][LEN] = {{big, -big, tie, INT64_MAX}, {big, -big, 1, 1}, {big, -big, 1, INT64_MIN}};
    const float want[LEN] = {0x3p30F, -0x3p30F, 0x1p21F + 0.25F, 0.0F};
    for (int b = 0; b < test_num_backends(); b++) {
        rig r;
        CHECK(rig_open(&r, test_backend_at(b), 0, RIG_ARENA_BYTES));
        const sky_sums_to_mean_args args = {
            .mean = RIG_OUTPUT(&r, SKY_F32, LEN), .sums = RIG_BYTES(&r, SKY_I64, sums, PARTS, LEN), .num_tokens = 1};
        EXPECT(sky_sums_to_mean(&r.ctx, &args) == SKY_OK && rig_check(&r));
        float *mean = rig_read(&r, &args.mean);
        for (int i = 0; i < LEN; i++) {
            test_parameters("%s, channel %d: got %.9g", r.which->name, i, (double)mean[i]);
            EXPECT(mean[i] == want[i]);
        }
        free(mean);
        rig_close(&r);
    }
}

/* In any part: it must not get lost among the others. */
TEST(a_nan_in_one_part_shows)
{
    const float range[3][6] = {
        {NAN, 1.0F, 1.0F, NAN, 0.0F, 0.0F}, {2.0F, NAN, 2.0F, 1.0F, NAN, 0.0F}, {3.0F, 3.0F, NAN, 1.0F, 0.0F, NAN}};
    const float x[3] = {1.0F, 2.0F, 0.0F};
    for (int b = 0; b < test_num_backends(); b++) {
        rig r;
        CHECK(rig_open(&r, test_backend_at(b), 0, RIG_ARENA_BYTES));
        test_parameters("%s", r.which->name);
        const sky_quantize_channels_args args = {.codes = RIG_OUTPUT(&r, SKY_F8_E4M3, 1, 3, 1, 128),
                                                 .scale = RIG_OUTPUT(&r, SKY_F32, 3),
                                                 .x = RIG_VALUES(&r, SKY_F32, x, 1, 3),
                                                 .mean = RIG_INPUT(&r, SKY_F32, 1, 3),
                                                 .range = RIG_VALUES(&r, SKY_F32, &range[0][0], 3, 6)};
        EXPECT(sky_quantize_channels(&r.ctx, &args) == SKY_OK);
        float *scale = rig_read(&r, &args.scale);
        unsigned char *codes = rig_read_bytes(&r, &args.codes);
        for (int i = 0; i < 3; i++) {
            EXPECT(isnan(scale[i]) && codes[i * 128] == 0x7f && codes[i * 128 + 1] == 0);
        }
        free(scale);
        free(codes);
        rig_close(&r);
    }
}

TEST(parts_of_another_shape_are_refused)
{
    static float memory[4][128];
    rig r;
    CHECK(rig_open(&r, test_backend_at(0), 0, RIG_ARENA_BYTES));
    const int64_t shapes[][2] = {{2, 3}, {0, 4}, {4, 2}, {1, 5}};
    for (int i = 0; i < 4; i++) {
        test_parameters("[%d, %d] for 4 channels", (int)shapes[i][0], (int)shapes[i][1]);
        const sky_sums_to_mean_args mean = {.mean = SKY_TENSOR(memory[0], SKY_F32, 4),
                                            .sums = SKY_TENSOR(memory[1], SKY_I64, shapes[i][0], shapes[i][1]),
                                            .num_tokens = 1};
        CHECK_STATUS(sky_sums_to_mean(&r.ctx, &mean), SKY_ERR_SHAPE);
        const sky_quantize_channels_args channels = {.codes = SKY_TENSOR(memory[0], SKY_F8_E4M3, 1, 2, 2, 128),
                                                     .scale = SKY_TENSOR(memory[1], SKY_F32, 4),
                                                     .x = SKY_TENSOR(memory[2], SKY_F32, 3, 4),
                                                     .mean = SKY_TENSOR(memory[3] + 64, SKY_F32, 4),
                                                     .range =
                                                         SKY_TENSOR(memory[3], SKY_F32, shapes[i][0], shapes[i][1])};
        CHECK_STATUS(sky_quantize_channels(&r.ctx, &channels), SKY_ERR_SHAPE);
    }
    EXPECT(strstr(sky_message(), "want [8] or [parts, 8]") != NULL);
    rig_close(&r);
}

TEST_MAIN
