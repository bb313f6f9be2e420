#include "ops/rig.h"

#include "support/test.h"

#include <math.h>
#include <stdlib.h>

typedef struct norm_params {
    sky_dtype x, y;
    int64_t rows, cols;
    bool in_place;
    int kind;
    int64_t first_row, rows_per_group, groups;
} norm_params;

enum { RMS, LAYER, CHANNEL, CHANNEL_SILU, RMS_ROUNDED };

static const int64_t sizes[][2] = {{1, 1}, {1, 1536}, {105, 257}, {5, 64}, {3, 2}, {17, 33}, {9, 255}, {2, 4099}};
enum { NUM_SIZES = sizeof sizes / sizeof sizes[0] };

/* y, or x itself when the case is in place. */
static sky_tensor output_for(rig *r, const norm_params *p, const sky_tensor *x)
{
    if (p->in_place) {
        rig_may_change(r, x);
        return *x;
    }
    return rig_output(r, p->y, x->num_dims, x->shape);
}

static sky_status run_norm(rig *r, const void *params, sky_tensor *out)
{
    const norm_params *p = params;
    const sky_tensor x = p->kind == CHANNEL || p->kind == CHANNEL_SILU ? RIG_INPUT(r, p->x, 1, 1, p->rows, 1, p->cols)
                                                                       : RIG_INPUT(r, p->x, 1, p->rows, p->cols);
    const sky_tensor weight = RIG_INPUT(r, SKY_F32, 2, p->cols);
    *out = output_for(r, p, &x);
    switch (p->kind) {
    case LAYER:
        return sky_layer_norm(
            &r->ctx, &(sky_layer_norm_args){
                         .y = *out, .x = x, .weight = weight, .bias = RIG_INPUT(r, SKY_F32, 3, p->cols), .eps = 1e-5F});
    case CHANNEL:
    case CHANNEL_SILU:
        return sky_channel_norm(
            &r->ctx, &(sky_channel_norm_args){.y = *out, .x = x, .gamma = weight, .silu = p->kind == CHANNEL_SILU});
    default:
        return sky_rms_norm(
            &r->ctx, &(sky_rms_norm_args){
                         .y = *out, .x = x, .weight = weight, .eps = 1e-6F, .round_normed = p->kind == RMS_ROUNDED});
    }
}

/* Moments by the sums of x and x^2, where the reference goes over x twice. */
static void row_sums(const norm_params *p, int64_t row, double *sum, double *squares)
{
    *sum = 0.0;
    *squares = 0.0;
    for (int64_t c = 0; c < p->cols; c++) {
        const double x = op_value(p->x, 1, row * p->cols + c);
        *sum += x;
        *squares += x * x;
    }
}

static void expect_norm(const void *params, double *want)
{
    const norm_params *p = params;
    const double n = (double)p->cols;
    for (int64_t row = 0; row < p->rows; row++) {
        double sum = 0.0;
        double squares = 0.0;
        row_sums(p, row, &sum, &squares);
        const double mean = sum / n;
        const double variance = fmax(squares / n - mean * mean, 0.0);
        for (int64_t c = 0; c < p->cols; c++) {
            const double x = op_value(p->x, 1, row * p->cols + c);
            const double weight = op_value(SKY_F32, 2, c);
            double y = 0.0;
            if (p->kind == LAYER) {
                y = p->cols == 1 ? op_value(SKY_F32, 3, c)
                                 : weight * (x - mean) / sqrt(variance + (double)1e-5F) + op_value(SKY_F32, 3, c);
            } else if (p->kind == CHANNEL || p->kind == CHANNEL_SILU) {
                y = weight * x * sqrt(n / squares);
                y = p->kind == CHANNEL_SILU ? y * (0.5 + 0.5 * tanh(y / 2.0)) : y; /* the logistic function */
            } else {
                y = weight * x / sqrt(squares / n + (double)1e-6F);
            }
            want[row * p->cols + c] = y;
        }
    }
}

static void check_norms(int kind, bool types_alike)
{
    for (int i = 0; i < NUM_SIZES; i++) {
        for (int types = 0; types < 4 && !test_failed(); types++) {
            norm_params p = {.x = types & 1 ? SKY_BF16 : SKY_F32,
                             .y = types & 2 ? SKY_BF16 : SKY_F32,
                             .rows = sizes[i][0],
                             .cols = sizes[i][1],
                             .kind = kind};
            if (types_alike && p.x != p.y) {
                continue;
            }
            for (int in_place = 0; in_place <= (p.x == p.y); in_place++) {
                p.in_place = in_place != 0;
                test_parameters("kind=%d rows=%d cols=%d x=%s y=%s in_place=%d", kind, (int)p.rows, (int)p.cols,
                                sky_dtype_name(p.x), sky_dtype_name(p.y), in_place);
                op_check(&(op_case){run_norm, expect_norm, &p, .sum_len = p.cols,
                                    .num_roundings = kind == RMS_ROUNDED ? 2 : 1});
            }
        }
    }
}

TEST(rms_norm_divides_by_the_root_mean_square)
{
    check_norms(RMS, false);
}

TEST(rms_norm_rounded_before_the_weight)
{
    check_norms(RMS_ROUNDED, false);
}

TEST(layer_norm_has_weight_and_bias)
{
    check_norms(LAYER, false);
}

TEST(channel_norm_keeps_the_length)
{
    check_norms(CHANNEL, true);
    check_norms(CHANNEL_SILU, true);
}

/* Rows of x among those of a higher y: the bytes that a y of x's height gets, and the other rows as they were. */
static void check_higher(const test_backend *which, sky_dtype dtype, const int64_t shape[4], int64_t y_rows,
                         int64_t y_first_row)
{
    rig r;
    CHECK(rig_open(&r, which, 0, RIG_ARENA_BYTES));
    const sky_tensor x = rig_input(&r, dtype, 1, 4, shape);
    const sky_tensor gamma = RIG_INPUT(&r, SKY_F32, 2, shape[3]);
    const sky_tensor dense = rig_output(&r, dtype, 4, shape);
    const sky_tensor y = RIG_OUTPUT(&r, dtype, shape[0], y_rows, shape[2], shape[3]);
    sky_channel_norm_args args = {.y = dense, .x = x, .gamma = gamma, .silu = true};
    EXPECT(sky_channel_norm(&r.ctx, &args) == SKY_OK);
    args.y = y;
    args.y_first_row = y_first_row;
    EXPECT(sky_channel_norm(&r.ctx, &args) == SKY_OK);
    rig_check(&r);
    unsigned char *want = rig_read_bytes(&r, &dense);
    unsigned char *got = rig_read_bytes(&r, &y);
    const int64_t row_bytes = shape[2] * shape[3] * (int64_t)sky_dtype_bytes(dtype);
    for (int64_t i = 0; i < shape[0] * y_rows * row_bytes && !test_failed(); i++) {
        const int64_t frame = i / (y_rows * row_bytes);
        const int64_t row = i / row_bytes % y_rows - y_first_row;
        const bool written = row >= 0 && row < shape[1];
        const int at = written ? want[(frame * shape[1] + row) * row_bytes + i % row_bytes] : 0xff;
        if (got[i] != at) {
            test_fail(__FILE__, __LINE__, "%s: byte %lld is %d, want %d", which->name, (long long)i, got[i], at);
        }
    }
    free(want);
    free(got);
    rig_close(&r);
}

TEST(channel_norm_writes_rows_of_a_higher_tensor)
{
    static const int64_t cases[][6] = {
        /* T, H, W, C, rows of y, the first */
        {1, 1, 1, 1, 2, 1},    {2, 3, 5, 7, 5, 1}, {3, 4, 3, 16, 5, 0}, {4, 2, 7, 33, 3, 1}, {2, 9, 40, 5, 11, 1},
        {2, 1, 3, 2049, 3, 2}, {3, 2, 2, 3, 2, 0}, {0, 2, 2, 3, 4, 1},  {2, 0, 2, 3, 2, 1},  {2, 70, 31, 48, 72, 1},
    };
    for (int b = 0; b < test_num_backends(); b++) {
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            for (int type = 0; type < 2 && !test_failed(); type++) {
                const int64_t *c = cases[i];
                const sky_dtype dtype = type == 0 ? SKY_F32 : SKY_BF16;
                test_parameters("x=[%d, %d, %d, %d] rows=%d first=%d %s", (int)c[0], (int)c[1], (int)c[2], (int)c[3],
                                (int)c[4], (int)c[5], sky_dtype_name(dtype));
                check_higher(test_backend_at(b), dtype, c, c[4], c[5]);
            }
        }
    }
}

/* Whether a change of 1e-5 in x, more than any backend is off, moves it to another bf16 value. */
static bool near_a_tie(double x)
{
    return sky_round_bf16((float)(x * (1.0 - 1e-5))) != sky_round_bf16((float)(x * (1.0 + 1e-5)));
}

/* In bf16 the two ways of rounding differ in many places; away from ties each is known to the byte. */
TEST(rms_norm_rounds_where_it_says)
{
    enum { COLS = 256 };
    double squares = 0.0;
    for (int c = 0; c < COLS; c++) {
        squares += pow(op_value(SKY_BF16, 1, c), 2.0);
    }
    for (int b = 0; b < test_num_backends(); b++) {
        int num_different = 0;
        for (int rounded = 0; rounded < 2; rounded++) {
            rig r;
            CHECK(rig_open(&r, test_backend_at(b), 0, RIG_ARENA_BYTES));
            const sky_rms_norm_args args = {.y = RIG_OUTPUT(&r, SKY_BF16, 1, COLS),
                                            .x = RIG_INPUT(&r, SKY_BF16, 1, 1, COLS),
                                            .weight = RIG_INPUT(&r, SKY_F32, 2, COLS),
                                            .round_normed = rounded != 0};
            const sky_status st = sky_rms_norm(&r.ctx, &args);
            float *got = rig_read(&r, &args.y);
            rig_close(&r);
            EXPECT(st == SKY_OK);
            for (int c = 0; c < COLS && !test_failed(); c++) {
                const double normed = op_value(SKY_BF16, 1, c) / sqrt(squares / COLS);
                const double weight = op_value(SKY_F32, 2, c);
                const double once = weight * normed;
                const double twice = weight * (double)sky_round_bf16((float)normed);
                if (near_a_tie(normed) || near_a_tie(once) || near_a_tie(twice)) {
                    continue;
                }
                test_parameters("%s rounded=%d column=%d", test_backend_at(b)->name, rounded, c);
                EXPECT(got[c] == sky_round_bf16((float)(rounded ? twice : once)));
                num_different += sky_round_bf16((float)once) != sky_round_bf16((float)twice);
            }
            free(got);
        }
        EXPECT(num_different > 50);
    }
}

static sky_status run_modulate(rig *r, const void *params, sky_tensor *out)
{
    const norm_params *p = params;
    const sky_tensor x = RIG_INPUT(r, p->x, 1, p->rows, p->cols);
    *out = output_for(r, p, &x);
    return sky_layer_norm_modulate(
        &r->ctx, &(sky_layer_norm_modulate_args){.y = *out,
                                                 .x = x,
                                                 .shift = RIG_INPUT(r, SKY_F32, 2, p->groups, p->cols),
                                                 .scale = RIG_INPUT(r, SKY_F32, 3, p->groups, p->cols),
                                                 .first_row = p->first_row,
                                                 .rows_per_group = p->rows_per_group,
                                                 .eps = 1e-6F});
}

static void expect_modulate(const void *params, double *want)
{
    const norm_params *p = params;
    for (int64_t row = 0; row < p->rows; row++) {
        double sum = 0.0;
        double squares = 0.0;
        row_sums(p, row, &sum, &squares);
        const double mean = sum / (double)p->cols;
        const double variance = fmax(squares / (double)p->cols - mean * mean, 0.0);
        int64_t group = 0;
        for (int64_t at = p->first_row + row; at >= p->rows_per_group; at -= p->rows_per_group) {
            group++;
        }
        for (int64_t c = 0; c < p->cols; c++) {
            const double x = op_value(p->x, 1, row * p->cols + c);
            const double normed = p->cols == 1 ? 0.0 : (x - mean) / sqrt(variance + (double)1e-6F);
            want[row * p->cols + c] =
                op_value(SKY_F32, 2, group * p->cols + c) + normed * (1.0 + op_value(SKY_F32, 3, group * p->cols + c));
        }
    }
}

TEST(layer_norm_modulate_takes_each_rows_group)
{
    static const int64_t groupings[][3] = {{0, 1000, 1}, {0, 7, 15}, {130, 16, 15}, {5, 1, 110}};
    for (int i = 0; i < NUM_SIZES; i++) {
        for (int j = 0; j < 4; j++) {
            for (int types = 0; types < 4 && !test_failed(); types++) {
                norm_params p = {.x = types & 1 ? SKY_BF16 : SKY_F32,
                                 .y = types & 2 ? SKY_BF16 : SKY_F32,
                                 .rows = sizes[i][0],
                                 .cols = sizes[i][1],
                                 .first_row = groupings[j][0],
                                 .rows_per_group = groupings[j][1],
                                 .groups = groupings[j][2]};
                p.in_place = p.x == p.y && j % 2 == 1;
                test_parameters("rows=%d cols=%d x=%s y=%s in_place=%d first_row=%d rows_per_group=%d", (int)p.rows,
                                (int)p.cols, sky_dtype_name(p.x), sky_dtype_name(p.y), p.in_place, (int)p.first_row,
                                (int)p.rows_per_group);
                op_check(&(op_case){run_modulate, expect_modulate, &p, .sum_len = p.cols});
            }
        }
    }
}

TEST(norms_refuse)
{
    static float memory[4][64];
    rig r;
    CHECK(rig_open(&r, test_backend_at(0), 0, RIG_ARENA_BYTES));
    sky_ctx *ctx = &r.ctx;
    const sky_tensor y = SKY_TENSOR(memory[0], SKY_F32, 4, 6);
    const sky_tensor x = SKY_TENSOR(memory[1], SKY_F32, 4, 6);
    const sky_tensor weight = SKY_TENSOR(memory[2], SKY_F32, 6);
    const sky_tensor bias = SKY_TENSOR(memory[3], SKY_F32, 6);
    const sky_tensor short_weight = SKY_TENSOR(memory[2], SKY_F32, 5);
    const sky_tensor bf16_weight = SKY_TENSOR(memory[2], SKY_BF16, 6);
    const sky_tensor fewer_rows = SKY_TENSOR(memory[0], SKY_F32, 3, 6);
    const sky_tensor no_cols = SKY_TENSOR(memory[1], SKY_F32, 4, 0);
    const sky_tensor no_weight = SKY_TENSOR(memory[2], SKY_F32, 0);
    const sky_tensor bf16_in_x = SKY_TENSOR(memory[1], SKY_BF16, 4, 6);
    const sky_tensor one_off = SKY_TENSOR(memory[1] + 1, SKY_F32, 4, 6);

#define REFUSES(op, want, ...) CHECK_STATUS(sky_##op(ctx, &(sky_##op##_args){__VA_ARGS__}), want)
    REFUSES(rms_norm, SKY_OK, .y = y, .x = x, .weight = weight);
    REFUSES(rms_norm, SKY_ERR_SHAPE, .y = fewer_rows, .x = x, .weight = weight);
    REFUSES(rms_norm, SKY_ERR_SHAPE, .y = y, .x = x, .weight = short_weight);
    REFUSES(rms_norm, SKY_ERR_SHAPE, .y = no_cols, .x = no_cols, .weight = no_weight);
    REFUSES(rms_norm, SKY_ERR_DTYPE, .y = y, .x = x, .weight = bf16_weight);
    REFUSES(rms_norm, SKY_ERR_INTERNAL, .y = bf16_in_x, .x = x, .weight = weight);
    REFUSES(rms_norm, SKY_ERR_INTERNAL, .y = one_off, .x = x, .weight = weight);

    REFUSES(layer_norm, SKY_OK, .y = y, .x = x, .weight = weight, .bias = bias);
    REFUSES(layer_norm, SKY_ERR_SHAPE, .y = fewer_rows, .x = x, .weight = weight, .bias = bias);
    REFUSES(layer_norm, SKY_ERR_SHAPE, .y = y, .x = x, .weight = weight, .bias = short_weight);
    REFUSES(layer_norm, SKY_ERR_SHAPE, .y = no_cols, .x = no_cols, .weight = no_weight, .bias = no_weight);
    REFUSES(layer_norm, SKY_ERR_DTYPE, .y = y, .x = x, .weight = bf16_weight, .bias = bias);
    REFUSES(layer_norm, SKY_ERR_DTYPE, .y = y, .x = x, .weight = weight, .bias = bf16_weight);
    REFUSES(layer_norm, SKY_ERR_INTERNAL, .y = bf16_in_x, .x = x, .weight = weight, .bias = bias);

    REFUSES(channel_norm, SKY_OK, .y = y, .x = x, .gamma = weight);
    REFUSES(channel_norm, SKY_ERR_SHAPE, .y = fewer_rows, .x = x, .gamma = weight);
    REFUSES(channel_norm, SKY_ERR_SHAPE, .y = y, .x = x, .gamma = short_weight);
    const sky_tensor scalars[] = {{.data = memory[0]}, {.data = memory[1]}};
    REFUSES(channel_norm, SKY_ERR_SHAPE, .y = scalars[0], .x = scalars[1], .gamma = SKY_TENSOR(memory[2], SKY_F32, 0));
    REFUSES(channel_norm, SKY_ERR_DTYPE, .y = y, .x = x, .gamma = bf16_weight);
    REFUSES(channel_norm, SKY_ERR_DTYPE, .y = y, .x = bf16_in_x, .gamma = weight);
    REFUSES(channel_norm, SKY_ERR_INTERNAL, .y = one_off, .x = x, .gamma = weight);
    REFUSES(channel_norm, SKY_ERR_SHAPE, .y = y, .x = x, .gamma = weight, .y_first_row = 1);
    const sky_tensor frames = SKY_TENSOR(memory[1], SKY_F32, 2, 1, 1, 6);
#define HIGHER_REFUSES(want, out, first, ...)                                                                     \
    REFUSES(channel_norm, want, .y = SKY_TENSOR(memory[out], SKY_F32, __VA_ARGS__), .x = frames, .gamma = weight, \
            .y_first_row = first)
    HIGHER_REFUSES(SKY_OK, 0, 2, 2, 3, 1, 6);
    HIGHER_REFUSES(SKY_ERR_SHAPE, 0, 3, 2, 3, 1, 6);
    HIGHER_REFUSES(SKY_ERR_SHAPE, 0, -1, 2, 3, 1, 6);
    HIGHER_REFUSES(SKY_ERR_SHAPE, 0, 0, 2, 0, 1, 6);
    HIGHER_REFUSES(SKY_ERR_SHAPE, 0, INT64_MAX, 2, 3, 1, 6);
    HIGHER_REFUSES(SKY_ERR_SHAPE, 0, 0, 1, 3, 1, 6);
    HIGHER_REFUSES(SKY_ERR_SHAPE, 0, 0, 2, 3, 2, 6);
    HIGHER_REFUSES(SKY_ERR_SHAPE, 0, 0, 2, 3, 1, 5);
    HIGHER_REFUSES(SKY_ERR_INTERNAL, 1, 0, 2, 3, 1, 6);

    const sky_tensor groups = SKY_TENSOR(memory[2], SKY_F32, 2, 6);
    const sky_tensor fewer_groups = SKY_TENSOR(memory[2], SKY_F32, 1, 6);
    const sky_tensor narrow_groups = SKY_TENSOR(memory[2], SKY_F32, 2, 5);
    const sky_tensor bf16_groups = SKY_TENSOR(memory[2], SKY_BF16, 2, 6);
#define MODULATE_REFUSES(want, out, in, a, b, first, per)                                             \
    REFUSES(layer_norm_modulate, want, .y = out, .x = in, .shift = a, .scale = b, .first_row = first, \
            .rows_per_group = per)
    MODULATE_REFUSES(SKY_OK, y, x, groups, groups, 0, 2);
    MODULATE_REFUSES(SKY_OK, y, x, groups, groups, 4, 4);
    MODULATE_REFUSES(SKY_ERR_SHAPE, y, x, groups, groups, 5, 4);
    MODULATE_REFUSES(SKY_ERR_SHAPE, y, x, groups, groups, 0, 1);
    MODULATE_REFUSES(SKY_ERR_SHAPE, y, x, groups, groups, 0, 0);
    MODULATE_REFUSES(SKY_ERR_SHAPE, y, x, groups, groups, -1, 4);
    MODULATE_REFUSES(SKY_ERR_SHAPE, y, x, groups, groups, INT64_MAX, 4);
    MODULATE_REFUSES(SKY_ERR_SHAPE, y, x, fewer_groups, groups, 0, 4);
    MODULATE_REFUSES(SKY_ERR_SHAPE, y, x, narrow_groups, narrow_groups, 0, 4);
    MODULATE_REFUSES(SKY_ERR_SHAPE, fewer_rows, x, groups, groups, 0, 4);
    MODULATE_REFUSES(SKY_ERR_SHAPE, no_cols, no_cols, SKY_TENSOR(memory[2], SKY_F32, 2, 0),
                     SKY_TENSOR(memory[2], SKY_F32, 2, 0), 0, 4);
    MODULATE_REFUSES(SKY_ERR_DTYPE, y, x, bf16_groups, groups, 0, 4);
    MODULATE_REFUSES(SKY_ERR_DTYPE, y, x, groups, bf16_groups, 0, 4);
    MODULATE_REFUSES(SKY_ERR_INTERNAL, bf16_in_x, x, groups, groups, 0, 4);
    rig_close(&r);
}

TEST_MAIN
