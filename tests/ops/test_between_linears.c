/*
 * Ops between linear layers: they may read i32 sums and write 8-bit codes. What they mean is said by other ops, so each is
 * compared, on every backend, with those one after the other, byte for byte.
 */
#include "ops/rig.h"

#include "support/compare.h"
#include "support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_OUTPUTS = 3, DEPTH = 70, GROUP_ROWS = 3 };

typedef enum subject {
    LAYER_NORM,
    MODULATE,
    SILU,
    GELU_TANH,
    GELU_ERF,
    RMS_NORM,
    RESIDUAL,          /* no norm */
    RESIDUAL_NORM,     /* weight and bias */
    RESIDUAL_MODULATE, /* shift and scale */
    NUM_SUBJECTS
} subject;

typedef struct params {
    subject op;
    int64_t rows, cols;
    sky_dtype x, y; /* x i32: sums */
    sky_residual_rounding rounding;
    bool gate, bias, in_place;
} params;

static bool is_codes(sky_dtype dtype)
{
    return dtype == SKY_F8_E4M3 || dtype == SKY_I8;
}

/* Numbers of some size, one of them NaN. */
static sky_tensor numbers(rig *r, const params *p, sky_dtype dtype, uint64_t seed)
{
    const int64_t len = p->rows * p->cols;
    float *values = malloc((size_t)len * sizeof *values + 1);
    SKY_ASSERT(values != NULL);
    for (int64_t i = 0; i < len; i++) {
        values[i] = 3.0F * test_random(seed, (uint64_t)i) + 0.5F;
    }
    if (p->rows > 2) {
        values[2 * p->cols + p->cols / 2] = NAN;
    }
    const sky_tensor t = RIG_VALUES(r, dtype, values, p->rows, p->cols);
    free(values);
    return t;
}

/* A linear layer's output: sums, or (two steps) what linear_8bit makes of them; or plain numbers. */
static sky_status linear_output(rig *r, const params *p, bool fused, sky_tensor *x, sky_linear_sums *sums)
{
    if (p->x != SKY_I32) {
        *x = numbers(r, p, p->x, 11);
        return SKY_OK;
    }
    sky_linear_8bit_args linear = {.x = RIG_INPUT(r, SKY_I8, 1, p->rows, DEPTH),
                                   .weight = RIG_INPUT(r, SKY_I8, 2, p->cols, DEPTH)};
    const sky_linear_sums all = {.x_scale = RIG_INPUT(r, SKY_F32, 3, p->rows),
                                 .weight_scale = RIG_INPUT(r, SKY_F32, 4, p->cols),
                                 .bias = p->bias ? RIG_INPUT(r, SKY_BF16, 5, p->cols) : (sky_tensor){0}};
    if (fused) {
        *x = linear.y = RIG_OUTPUT(r, SKY_I32, p->rows, p->cols);
        *sums = all;
    } else {
        *x = linear.y = RIG_OUTPUT(r, SKY_BF16, p->rows, p->cols);
        linear.x_scale = all.x_scale;
        linear.weight_scale = all.weight_scale;
        linear.bias = all.bias;
    }
    return sky_linear_8bit(&r->ctx, &linear);
}

static sky_status quantize(rig *r, const params *p, const sky_tensor *x, sky_tensor *out)
{
    out[0] = RIG_OUTPUT(r, p->y, p->rows, p->cols);
    out[1] = RIG_OUTPUT(r, SKY_F32, p->rows);
    return sky_quantize_rows(&r->ctx, &(sky_quantize_rows_args){.codes = out[0], .scale = out[1], .x = *x});
}

static sky_status norm(rig *r, const params *p, const sky_tensor *x, const sky_tensor *y, const sky_tensor *y_scale)
{
    const int64_t groups = p->rows / GROUP_ROWS + 2;
    if (p->op == LAYER_NORM || p->op == RESIDUAL_NORM) {
        return sky_layer_norm(&r->ctx, &(sky_layer_norm_args){.y = *y,
                                                              .y_scale = *y_scale,
                                                              .x = *x,
                                                              .weight = RIG_INPUT(r, SKY_F32, 21, p->cols),
                                                              .bias = RIG_INPUT(r, SKY_F32, 22, p->cols),
                                                              .eps = 1e-6F});
    }
    return sky_layer_norm_modulate(&r->ctx,
                                   &(sky_layer_norm_modulate_args){.y = *y,
                                                                   .y_scale = *y_scale,
                                                                   .x = *x,
                                                                   .shift = RIG_INPUT(r, SKY_F32, 23, groups, p->cols),
                                                                   .scale = RIG_INPUT(r, SKY_F32, 24, groups, p->cols),
                                                                   .first_row = 2,
                                                                   .rows_per_group = GROUP_ROWS,
                                                                   .eps = 1e-6F});
}

static sky_status simple_op(rig *r, const params *p, const sky_tensor *x, const sky_linear_sums *sums,
                            const sky_tensor *y, const sky_tensor *y_scale)
{
    if (p->op == LAYER_NORM || p->op == MODULATE) {
        return norm(r, p, x, y, y_scale);
    }
    if (p->op == RMS_NORM) {
        return sky_rms_norm(
            &r->ctx,
            &(sky_rms_norm_args){
                .y = *y, .x = *x, .x_sums = *sums, .weight = RIG_INPUT(r, SKY_F32, 25, p->cols), .eps = 1e-6F});
    }
    return sky_activation(
        &r->ctx,
        &(sky_activation_args){
            .y = *y, .y_scale = *y_scale, .x = *x, .x_sums = *sums, .kind = (sky_activation_kind)(p->op - SILU)});
}

static sky_status run_simple(rig *r, const params *p, bool fused, sky_tensor *out)
{
    sky_tensor x;
    sky_linear_sums sums = {0};
    SKY_TRY(linear_output(r, p, fused, &x, &sums));
    const bool in_f32 = is_codes(p->y) && !fused;
    const sky_tensor y = RIG_OUTPUT(r, in_f32 ? SKY_F32 : p->y, p->rows, p->cols);
    const sky_tensor y_scale = is_codes(p->y) && fused ? RIG_OUTPUT(r, SKY_F32, p->rows) : (sky_tensor){0};
    SKY_TRY(simple_op(r, p, &x, &sums, &y, &y_scale));
    out[0] = y;
    out[1] = y_scale;
    return in_f32 ? quantize(r, p, &y, out) : SKY_OK;
}

static sky_status run_residual(rig *r, const params *p, bool fused, sky_tensor *out)
{
    const int64_t groups = p->rows / GROUP_ROWS + 2;
    sky_tensor delta;
    sky_linear_sums sums = {0};
    SKY_TRY(linear_output(r, p, fused, &delta, &sums));
    const sky_tensor x = numbers(r, p, SKY_F32, 12);
    const sky_tensor gate = p->gate ? RIG_INPUT(r, SKY_F32, 26, groups, p->cols) : (sky_tensor){0};
    rig_may_change(r, &x);
    out[2] = x;
    if (fused) {
        sky_residual_norm_args args = {.x = x,
                                       .delta = delta,
                                       .delta_sums = sums,
                                       .gate = gate,
                                       .rounding = p->rounding,
                                       .first_row = 2,
                                       .rows_per_group = GROUP_ROWS,
                                       .eps = 1e-6F};
        if (p->op != RESIDUAL) {
            args.y = p->in_place ? delta : RIG_OUTPUT(r, p->y, p->rows, p->cols);
            args.y_scale = is_codes(p->y) ? RIG_OUTPUT(r, SKY_F32, p->rows) : (sky_tensor){0};
        }
        if (p->in_place) {
            rig_may_change(r, &delta);
        }
        if (p->op == RESIDUAL_NORM) {
            args.weight = RIG_INPUT(r, SKY_F32, 21, p->cols);
            args.bias = RIG_INPUT(r, SKY_F32, 22, p->cols);
        } else if (p->op == RESIDUAL_MODULATE) {
            args.shift = RIG_INPUT(r, SKY_F32, 23, groups, p->cols);
            args.scale = RIG_INPUT(r, SKY_F32, 24, groups, p->cols);
        }
        out[0] = args.y;
        out[1] = args.y_scale;
        return sky_residual_norm(&r->ctx, &args);
    }
    const sky_tensor rounded = RIG_OUTPUT(r, SKY_BF16, p->rows, p->cols);
    SKY_TRY(sky_gate_residual(
        &r->ctx,
        &(sky_gate_residual_args){.x = x, .y = delta, .gate = gate, .first_row = 2, .rows_per_group = GROUP_ROWS}));
    SKY_TRY(sky_convert(&r->ctx, &(sky_convert_args){.y = rounded, .x = x}));
    if (p->rounding == SKY_ROUND_X) {
        SKY_TRY(sky_convert(&r->ctx, &(sky_convert_args){.y = x, .x = rounded}));
    }
    if (p->op == RESIDUAL) {
        return SKY_OK;
    }
    const sky_tensor y = RIG_OUTPUT(r, is_codes(p->y) ? SKY_F32 : p->y, p->rows, p->cols);
    SKY_TRY(norm(r, p, p->rounding == SKY_ROUND_NOTHING ? &x : &rounded, &y, &(sky_tensor){0}));
    out[0] = y;
    return is_codes(p->y) ? quantize(r, p, &y, out) : SKY_OK;
}

static sky_status run(rig *r, const params *p, bool fused, sky_tensor *out)
{
    return p->op >= RESIDUAL ? run_residual(r, p, fused, out) : run_simple(r, p, fused, out);
}

static bool same_numbers(const float *a, const float *b, int64_t len)
{
    for (int64_t i = 0; i < len; i++) {
        if (memcmp(&a[i], &b[i], sizeof a[i]) != 0 && !(isnan(a[i]) && isnan(b[i]))) {
            return false;
        }
    }
    return true;
}

/* Bytes, but for the bits of a NaN in floats. */
static void expect_same(rig *a, const sky_tensor *x, rig *b, const sky_tensor *y, int output)
{
    const char *which = a->which->name;
    if (!sky_tensor_present(x) || !sky_tensor_present(y)) {
        EXPECT(sky_tensor_present(x) == sky_tensor_present(y));
        return;
    }
    EXPECT(x->dtype == y->dtype && sky_tensor_same_shape(x, y));
    unsigned char *bytes[] = {rig_read_bytes(a, x), rig_read_bytes(b, y)};
    float *floats[] = {rig_read(a, x), rig_read(b, y)};
    if (is_codes(x->dtype) ? memcmp(bytes[0], bytes[1], sky_tensor_bytes(x)) != 0
                           : !same_numbers(floats[0], floats[1], sky_tensor_len(x))) {
        test_fail(__FILE__, __LINE__, "%s, skew %d: output %d is not what the ops give one after the other", which,
                  (int)a->skew, output);
    }
    for (int i = 0; i < 2; i++) {
        free(bytes[i]);
        free(floats[i]);
    }
}

static size_t planned_bytes(const params *p, const test_backend *which)
{
    rig r;
    sky_tensor out[MAX_OUTPUTS];
    if (!rig_open(&r, which, 0, 0)) {
        return 0;
    }
    EXPECT(run(&r, p, true, out) == SKY_OK);
    EXPECT(rig_check(&r));
    const size_t bytes = r.arena.peak_bytes;
    rig_close(&r);
    return bytes > 0 ? bytes : SKY_ARENA_ALIGNMENT_BYTES;
}

static void check(const params *p)
{
    test_parameters("op=%d rows=%d cols=%d x=%s y=%s rounding=%d gate=%d bias=%d in_place=%d", (int)p->op, (int)p->rows,
                    (int)p->cols, sky_dtype_name(p->x), sky_dtype_name(p->y), (int)p->rounding, p->gate, p->bias,
                    p->in_place);
    for (int b = 0; b < test_num_backends() && !test_failed(); b++) {
        for (int64_t skew = 0; skew < 2 && !test_failed(); skew++) {
            rig one, two;
            sky_tensor fused[MAX_OUTPUTS] = {0};
            sky_tensor steps[MAX_OUTPUTS] = {0};
            const size_t bytes = planned_bytes(p, test_backend_at(b));
            CHECK(rig_open(&one, test_backend_at(b), skew, bytes));
            CHECK(rig_open(&two, test_backend_at(b), 0, RIG_ARENA_BYTES));
            const sky_status st = run(&one, p, true, fused);
            if (st != SKY_OK) {
                test_fail(__FILE__, __LINE__, "%s: %s", one.which->name, sky_message());
            } else if (run(&two, p, false, steps) != SKY_OK) {
                test_fail(__FILE__, __LINE__, "%s, steps: %s", two.which->name, sky_message());
            }
            EXPECT(rig_check(&one));
            for (int i = 0; i < MAX_OUTPUTS && !test_failed(); i++) {
                expect_same(&one, &fused[i], &two, &steps[i], i);
            }
            rig_close(&one);
            rig_close(&two);
        }
    }
}

static const int64_t sizes[][2] = {{1, 1}, {7, 257}, {3, 64}, {2, 1025}, {9, 1}, {130, 33}};
enum { NUM_SIZES = sizeof sizes / sizeof sizes[0] };
static const sky_dtype inputs[] = {SKY_F32, SKY_BF16, SKY_I32};
static const sky_dtype outputs[] = {SKY_F32, SKY_BF16, SKY_F8_E4M3, SKY_I8};

TEST(codes_are_those_of_the_values_in_f32)
{
    for (int op = LAYER_NORM; op <= GELU_ERF; op++) {
        for (int i = 0; i < NUM_SIZES; i++) {
            for (int x = 0; x < 2; x++) {
                for (int y = 2; y < 4 && !test_failed(); y++) {
                    check(&(params){
                        .op = (subject)op, .rows = sizes[i][0], .cols = sizes[i][1], .x = inputs[x], .y = outputs[y]});
                }
            }
        }
    }
}

TEST(sums_are_read_as_linear_8bit_writes_them)
{
    for (int op = SILU; op <= RMS_NORM; op++) {
        for (int i = 0; i < NUM_SIZES; i++) {
            for (int y = 0; y < (op == RMS_NORM ? 2 : 4); y++) {
                for (int bias = 0; bias < 2 && !test_failed(); bias++) {
                    check(&(params){.op = (subject)op,
                                    .rows = sizes[i][0],
                                    .cols = sizes[i][1],
                                    .x = SKY_I32,
                                    .y = outputs[y],
                                    .bias = bias != 0});
                }
            }
        }
    }
}

TEST(residual_norm_is_its_steps)
{
    for (int op = RESIDUAL; op < NUM_SUBJECTS; op++) {
        for (int kind = 0; kind < NUM_SIZES * 3 * 4 * 3 * 2 && !test_failed(); kind++) {
            const int size = kind % NUM_SIZES;
            const int rest = kind / NUM_SIZES;
            params p = {.op = (subject)op,
                        .rows = sizes[size][0],
                        .cols = sizes[size][1],
                        .x = inputs[rest % 3],
                        .y = outputs[rest / 3 % 4],
                        .rounding = (sky_residual_rounding)(rest / 12 % 3),
                        .gate = rest / 36 == 1,
                        .bias = size % 2 == 0};
            if (op == RESIDUAL && (p.y != SKY_F32 || p.rounding == SKY_ROUND_NORMED)) {
                continue; /* there is no y */
            }
            check(&p);
            p.in_place = op != RESIDUAL && p.x == p.y;
            if (p.in_place) {
                check(&p);
            }
        }
    }
}

/* What the formulas say, written down once more: one row of two columns. */
TEST(residual_norm_by_hand)
{
    for (int b = 0; b < test_num_backends(); b++) {
        rig r;
        CHECK(rig_open(&r, test_backend_at(b), 0, RIG_ARENA_BYTES));
        test_parameters("%s", r.which->name);
        sky_residual_norm_args args = {.x = RIG_VALUES(&r, SKY_F32, ((const float[]){1.0F, 3.0F}), 1, 2),
                                       .y = RIG_OUTPUT(&r, SKY_I8, 1, 2),
                                       .y_scale = RIG_OUTPUT(&r, SKY_F32, 1),
                                       .delta = RIG_VALUES(&r, SKY_BF16, ((const float[]){2.0F, 4.0F}), 1, 2),
                                       .gate = RIG_VALUES(&r, SKY_F32, ((const float[]){9, 9, 0.5F, 2.0F}), 2, 2),
                                       .shift = RIG_VALUES(&r, SKY_F32, ((const float[]){9, 9, 0.0F, 3.0F}), 2, 2),
                                       .scale = RIG_VALUES(&r, SKY_F32, ((const float[]){9, 9, 1.0F, 0.0F}), 2, 2),
                                       .first_row = 4,
                                       .rows_per_group = 4};
        rig_may_change(&r, &args.x);
        const sky_status st = sky_residual_norm(&r.ctx, &args);
        float *x = rig_read(&r, &args.x);
        float *y = rig_read(&r, &args.y);
        float *scale = rig_read(&r, &args.y_scale);
        rig_close(&r);
        EXPECT(st == SKY_OK);
        EXPECT(x[0] == 2.0F && x[1] == 11.0F); /* normed: -1, 1; modulated: -2, 4 */
        EXPECT(y[0] == -64.0F || y[0] == -63.0F);
        EXPECT(y[1] == 127.0F && fabsf(scale[0] - 4.0F / 127.0F) < 1e-6F);
        free(x);
        free(y);
        free(scale);
    }
}

/* The norm sees 1 and 1 where the sum is rounded, else a difference; the residual itself keeps it. */
TEST(residual_norm_rounds_where_it_says)
{
    static const float tiny = 0x1p-12F;
    for (int b = 0; b < test_num_backends(); b++) {
        for (int rounding = SKY_ROUND_NOTHING; rounding <= SKY_ROUND_X; rounding++) {
            rig r;
            CHECK(rig_open(&r, test_backend_at(b), 0, RIG_ARENA_BYTES));
            test_parameters("%s rounding=%d", r.which->name, rounding);
            sky_residual_norm_args args = {.x = RIG_VALUES(&r, SKY_F32, ((const float[]){1.0F, 1.0F}), 1, 2),
                                           .y = RIG_OUTPUT(&r, SKY_F32, 1, 2),
                                           .delta = RIG_VALUES(&r, SKY_F32, ((const float[]){0.0F, tiny}), 1, 2),
                                           .weight = RIG_VALUES(&r, SKY_F32, ((const float[]){1.0F, 1.0F}), 2),
                                           .bias = RIG_VALUES(&r, SKY_F32, ((const float[]){0.0F, 0.0F}), 2),
                                           .rounding = (sky_residual_rounding)rounding,
                                           .eps = 1e-12F};
            rig_may_change(&r, &args.x);
            const sky_status st = sky_residual_norm(&r.ctx, &args);
            float *x = rig_read(&r, &args.x);
            float *y = rig_read(&r, &args.y);
            rig_close(&r);
            EXPECT(st == SKY_OK);
            EXPECT(x[1] == (rounding == SKY_ROUND_X ? 1.0F : 1.0F + tiny));
            EXPECT(rounding == SKY_ROUND_NOTHING ? fabsf(y[1]) > 0.9F : y[1] == 0.0F);
            free(x);
            free(y);
        }
    }
}

/* Which tensors make sense together. */
TEST(ops_between_linears_refuse)
{
    static float memory[14][64];
    rig r;
    CHECK(rig_open(&r, test_backend_at(0), 0, RIG_ARENA_BYTES));
    const sky_residual_norm_args good = {.x = SKY_TENSOR(memory[0], SKY_F32, 4, 6),
                                         .y = SKY_TENSOR(memory[1], SKY_I8, 4, 6),
                                         .y_scale = SKY_TENSOR(memory[2], SKY_F32, 4),
                                         .delta = SKY_TENSOR(memory[3], SKY_I32, 4, 6),
                                         .delta_sums = {.x_scale = SKY_TENSOR(memory[4], SKY_F32, 4),
                                                        .weight_scale = SKY_TENSOR(memory[5], SKY_F32, 6),
                                                        .bias = SKY_TENSOR(memory[6], SKY_BF16, 6)},
                                         .gate = SKY_TENSOR(memory[7], SKY_F32, 1, 6),
                                         .shift = SKY_TENSOR(memory[8], SKY_F32, 1, 6),
                                         .scale = SKY_TENSOR(memory[9], SKY_F32, 1, 6),
                                         .rows_per_group = 4};
    CHECK_OK(sky_residual_norm(&r.ctx, &good));
#define REFUSES(want, ...)                                 \
    do {                                                   \
        sky_residual_norm_args a = good;                   \
        __VA_ARGS__;                                       \
        CHECK_STATUS(sky_residual_norm(&r.ctx, &a), want); \
    } while (0)
    const sky_tensor none = {0};
    const sky_tensor weight = SKY_TENSOR(memory[10], SKY_F32, 6);
    const sky_tensor bias = SKY_TENSOR(memory[11], SKY_F32, 6);
    REFUSES(SKY_OK, a.shift = none; a.scale = none; a.weight = weight; a.bias = bias);
    REFUSES(SKY_OK, a.y = none; a.y_scale = none; a.shift = none; a.scale = none);
    REFUSES(SKY_OK, a.gate = none);
    REFUSES(SKY_OK, a.delta_sums.bias = none);
    REFUSES(SKY_ERR_SHAPE, a.shift = none);
    REFUSES(SKY_ERR_SHAPE, a.scale = none);
    REFUSES(SKY_ERR_SHAPE, a.shift = none; a.scale = none);
    REFUSES(SKY_ERR_SHAPE, a.shift = none; a.scale = none; a.weight = weight);
    REFUSES(SKY_ERR_INTERNAL, a.weight = weight; a.bias = bias);
    REFUSES(SKY_ERR_INTERNAL, a.y = none; a.y_scale = none);
    REFUSES(SKY_ERR_INTERNAL, a.y = none; a.shift = none; a.scale = none);
    REFUSES(SKY_ERR_INTERNAL, a.y = none; a.y_scale = none; a.shift = none; a.scale = none;
            a.rounding = SKY_ROUND_NORMED);
    REFUSES(SKY_ERR_UNSUPPORTED, a.rounding = (sky_residual_rounding)3);
    REFUSES(SKY_ERR_SHAPE, a.y_scale = none);
    REFUSES(SKY_ERR_SHAPE, a.y_scale.shape[0] = 3);
    REFUSES(SKY_ERR_DTYPE, a.y_scale.dtype = SKY_BF16);
    REFUSES(SKY_ERR_DTYPE, a.y.dtype = SKY_BF16);
    REFUSES(SKY_ERR_DTYPE, a.y.dtype = SKY_U8);
    REFUSES(SKY_ERR_SHAPE, a.y.shape[0] = 3);
    REFUSES(SKY_ERR_DTYPE, a.x.dtype = SKY_BF16);
    REFUSES(SKY_ERR_DTYPE, a.delta.dtype = SKY_BF16);
    REFUSES(SKY_ERR_SHAPE, a.delta_sums.x_scale = none);
    REFUSES(SKY_ERR_SHAPE, a.delta_sums.weight_scale = none);
    REFUSES(SKY_ERR_SHAPE, a.delta_sums.x_scale.shape[0] = 6);
    REFUSES(SKY_ERR_SHAPE, a.delta_sums.bias.shape[0] = 4);
    REFUSES(SKY_ERR_SHAPE, a.rows_per_group = 3);
    REFUSES(SKY_ERR_SHAPE, a.rows_per_group = 0);
    REFUSES(SKY_ERR_SHAPE, a.first_row = -1);
    REFUSES(SKY_ERR_SHAPE, a.gate.shape[1] = 5);
    REFUSES(SKY_ERR_SHAPE, a.scale.shape[0] = 2);
    REFUSES(SKY_ERR_SHAPE, a.x.data = NULL);
    REFUSES(SKY_ERR_SHAPE, a.delta.data = NULL);
    REFUSES(SKY_ERR_INTERNAL, a.y.data = memory[0]);
    REFUSES(SKY_ERR_INTERNAL, a.y.data = memory[3]); /* the same memory, another type */
    REFUSES(SKY_ERR_INTERNAL, a.y_scale.data = memory[8]);
    REFUSES(SKY_ERR_INTERNAL, a.y_scale.data = memory[0]);
    REFUSES(SKY_ERR_INTERNAL, a.gate.data = memory[0]);
    REFUSES(SKY_ERR_INTERNAL, a.shift.data = memory[1]);
    REFUSES(SKY_ERR_INTERNAL, a.delta_sums.x_scale.data = memory[0]);
    REFUSES(SKY_ERR_INTERNAL, a.delta_sums.bias.data = memory[1]);
#undef REFUSES

    const sky_tensor x = SKY_TENSOR(memory[0], SKY_F32, 4, 6);
    const sky_tensor sums = SKY_TENSOR(memory[0], SKY_I32, 4, 6);
    const sky_tensor y = SKY_TENSOR(memory[1], SKY_F32, 4, 6);
    const sky_tensor codes = SKY_TENSOR(memory[1], SKY_F8_E4M3, 4, 6);
    const sky_tensor scales = SKY_TENSOR(memory[2], SKY_F32, 4);
    const sky_tensor scalars[] = {{.data = memory[0]}, {.data = memory[1], .dtype = SKY_I8}};
#define REFUSES(op, want, ...) CHECK_STATUS(sky_##op(&r.ctx, &(sky_##op##_args){__VA_ARGS__}), want)
    REFUSES(activation, SKY_OK, .y = codes, .y_scale = scales, .x = x);
    REFUSES(activation, SKY_ERR_SHAPE, .y = codes, .x = x);
    REFUSES(activation, SKY_ERR_DTYPE, .y = y, .y_scale = scales, .x = x);
    REFUSES(activation, SKY_ERR_SHAPE, .y = scalars[1], .y_scale = scales, .x = scalars[0]);
    REFUSES(activation, SKY_ERR_INTERNAL, .y = codes, .y_scale = SKY_TENSOR(memory[0] + 23, SKY_F32, 4), .x = x);
    REFUSES(activation, SKY_ERR_SHAPE, .y = y, .x = sums);
    REFUSES(activation, SKY_OK, .y = y, .x = sums, .x_sums = {.x_scale = scales, .weight_scale = weight});
    REFUSES(activation, SKY_ERR_DTYPE, .y = y, .x = x, .x_sums = {.x_scale = scales, .weight_scale = weight});
    REFUSES(rms_norm, SKY_OK, .y = y, .x = sums, .weight = bias, .x_sums = {.x_scale = scales, .weight_scale = weight});
    REFUSES(rms_norm, SKY_ERR_SHAPE, .y = y, .x = sums, .weight = bias);
    REFUSES(rms_norm, SKY_ERR_DTYPE, .y = codes, .x = x, .weight = bias);
    REFUSES(layer_norm, SKY_OK, .y = codes, .y_scale = scales, .x = x, .weight = weight, .bias = bias);
    REFUSES(layer_norm, SKY_ERR_SHAPE, .y = codes, .x = x, .weight = weight, .bias = bias);
    REFUSES(layer_norm, SKY_ERR_INTERNAL, .y = codes, .y_scale = scales, .x = x, .weight = weight,
            .bias = SKY_TENSOR(memory[2] + 3, SKY_F32, 6));
    REFUSES(layer_norm_modulate, SKY_ERR_DTYPE, .y = y, .y_scale = scales, .x = x, .shift = good.shift,
            .scale = good.scale, .rows_per_group = 4);
    rig_close(&r);
}

TEST_MAIN
