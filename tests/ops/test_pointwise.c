#include "ops/rig.h"

#include "support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum pointwise_op { ACTIVATION, ADD, GATED_GELU, CONVERT, CFG, COMBINATION } pointwise_op;

typedef struct pointwise_params {
    pointwise_op op;
    sky_dtype x, y;
    int64_t len;
    int kind;     /* of activation; number of terms of the combination */
    int in_place; /* 0: no; 1, 2, ..: y is the first, second, .. input */
} pointwise_params;

static const float coefficients[SKY_MAX_TERMS] = {0.1F, -1.7F, 3.3F, 0.0F, 1.0F, -0.3F};

static sky_status run_pointwise(rig *r, const void *params, sky_tensor *out)
{
    const pointwise_params *p = params;
    sky_tensor x[SKY_MAX_TERMS];
    const int num_inputs = p->op == ACTIVATION || p->op == CONVERT ? 1 : p->op == COMBINATION ? p->kind : 2;
    for (int i = 0; i < num_inputs; i++) {
        x[i] = RIG_INPUT(r, p->x, (uint64_t)(i + 1), p->len);
    }
    if (p->in_place > 0) {
        *out = x[p->in_place - 1];
        rig_may_change(r, out);
    } else {
        *out = RIG_OUTPUT(r, p->y, p->len);
    }
    switch (p->op) {
    case ACTIVATION:
        return sky_activation(&r->ctx,
                              &(sky_activation_args){.y = *out, .x = x[0], .kind = (sky_activation_kind)p->kind});
    case ADD:
        return sky_add(&r->ctx, &(sky_add_args){*out, x[0], x[1]});
    case GATED_GELU:
        return sky_gated_gelu(&r->ctx, &(sky_gated_gelu_args){.y = *out, .up = x[0], .gate = x[1]});
    case CONVERT:
        return sky_convert(&r->ctx, &(sky_convert_args){.y = *out, .x = x[0]});
    case CFG:
        return sky_cfg_combine(
            &r->ctx, &(sky_cfg_combine_args){.y = *out, .cond = x[0], .uncond = x[1], .guidance_scale = 5.3F});
    default: {
        sky_linear_combination_args args = {.y = *out, .num_terms = p->kind};
        memcpy(args.x, x, (size_t)p->kind * sizeof x[0]);
        memcpy(args.coefficient, coefficients, sizeof coefficients);
        return sky_linear_combination(&r->ctx, &args);
    }
    }
}

static double gelu_tanh(double x) /* 0.5 (1 + tanh z) is the logistic function of 2 z */
{
    return x / (1.0 + exp(-2.0 * 0.79788456080286535588 * (x + 0.044715 * x * x * x)));
}

/* f32 steps are taken through volatile, so that nothing is fused. */
static void expect_pointwise(const void *params, double *want)
{
    const pointwise_params *p = params;
    for (int64_t i = 0; i < p->len; i++) {
        const double a = op_value(p->x, 1, i);
        const double b = op_value(p->x, 2, i);
        switch (p->op) {
        case ACTIVATION:
            want[i] = p->kind == SKY_SILU        ? a * (0.5 + 0.5 * tanh(a / 2.0))
                      : p->kind == SKY_GELU_TANH ? gelu_tanh(a)
                                                 : a * 0.5 * erfc(-a * 0.70710678118654752440);
            break;
        case ADD:
            want[i] = (double)((float)a + (float)b);
            break;
        case GATED_GELU:
            want[i] = a * gelu_tanh(b);
            break;
        case CONVERT:
            want[i] = a;
            break;
        case CFG: {
            volatile float step = (float)a - (float)b;
            step = 5.3F * step;
            step = (float)b + step;
            want[i] = (double)step;
            break;
        }
        case COMBINATION: {
            volatile float sum = coefficients[0] * (float)a;
            for (int k = 1; k < p->kind; k++) {
                volatile float product = coefficients[k] * (float)op_value(p->x, (uint64_t)(k + 1), i);
                sum = sum + product;
            }
            want[i] = (double)sum;
            break;
        }
        }
    }
}

static void check_pointwise(pointwise_params p, bool exact)
{
    static const int64_t lens[] = {1, 2, 7, 31, 64, 1000, 4097};
    for (size_t i = 0; i < sizeof lens / sizeof lens[0] && !test_failed(); i++) {
        p.len = lens[i];
        test_parameters("op=%d kind=%d len=%d x=%s y=%s in_place=%d", (int)p.op, p.kind, (int)p.len,
                        sky_dtype_name(p.x), sky_dtype_name(p.y), p.in_place);
        op_check(&(op_case){run_pointwise, expect_pointwise, &p, .sum_len = 1, .exact = exact});
    }
}

TEST(activation_of_every_kind)
{
    for (int kind = SKY_SILU; kind <= SKY_GELU_ERF; kind++) {
        check_pointwise((pointwise_params){ACTIVATION, SKY_F32, SKY_F32, .kind = kind}, false);
        check_pointwise((pointwise_params){ACTIVATION, SKY_F32, SKY_BF16, .kind = kind}, false);
        check_pointwise((pointwise_params){ACTIVATION, SKY_BF16, SKY_F32, .kind = kind}, false);
        check_pointwise((pointwise_params){ACTIVATION, SKY_BF16, SKY_BF16, .kind = kind}, false);
        check_pointwise((pointwise_params){ACTIVATION, SKY_F32, SKY_F32, .kind = kind, .in_place = 1}, false);
        check_pointwise((pointwise_params){ACTIVATION, SKY_BF16, SKY_BF16, .kind = kind, .in_place = 1}, false);
    }
}

/* Far out the results are x, or nothing beside x, and never NaN; around 1 they are known numbers. */
TEST(activation_of_known_values)
{
    static const float x[] = {0, 1, -1, 3, -50, 50, -1000, 1000, -3e38F, 3e38F};
    static const double want[3][4] = {{0, 0.73105857863, -0.26894142137, 2.85772238},
                                      {0, 0.84119199061, -0.15880800939, 2.99636267},
                                      {0, 0.84134474607, -0.15865525393, 2.99595031}};
    for (int b = 0; b < test_num_backends(); b++) {
        for (int kind = SKY_SILU; kind <= SKY_GELU_ERF; kind++) {
            rig r;
            CHECK(rig_open(&r, test_backend_at(b), 0, RIG_ARENA_BYTES));
            test_parameters("%s kind=%d", r.which->name, kind);
            const sky_activation_args args = {.y = RIG_OUTPUT(&r, SKY_F32, 10),
                                              .x = RIG_VALUES(&r, SKY_F32, x, 10),
                                              .kind = (sky_activation_kind)kind};
            const sky_status st = sky_activation(&r.ctx, &args);
            float *y = rig_read(&r, &args.y);
            EXPECT(st == SKY_OK);
            for (int i = 0; i < 4; i++) {
                EXPECT(fabs((double)y[i] - want[kind][i]) < 1e-6);
            }
            for (int i = 4; i < 10; i += 2) {
                EXPECT(fabsf(y[i]) <= fmaxf(1e-18F, fabsf(x[i]) * 0x1p-64F) && y[i + 1] == x[i + 1]);
            }
            free(y);
            rig_close(&r);
        }
    }
}

TEST(gated_gelu_multiplies)
{
    for (int in_place = 0; in_place <= 2; in_place++) {
        check_pointwise((pointwise_params){GATED_GELU, SKY_F32, SKY_F32, .in_place = in_place}, false);
        check_pointwise((pointwise_params){GATED_GELU, SKY_BF16, SKY_BF16, .in_place = in_place}, false);
    }
}

TEST(add_to_the_byte)
{
    for (int in_place = 0; in_place <= 2; in_place++) {
        check_pointwise((pointwise_params){ADD, SKY_F32, SKY_F32, .in_place = in_place}, true);
        check_pointwise((pointwise_params){ADD, SKY_BF16, SKY_BF16, .in_place = in_place}, true);
    }
}

TEST(convert_to_the_byte)
{
    check_pointwise((pointwise_params){CONVERT, SKY_F32, SKY_F32}, true);
    check_pointwise((pointwise_params){CONVERT, SKY_F32, SKY_BF16}, true);
    check_pointwise((pointwise_params){CONVERT, SKY_BF16, SKY_F32}, true);
    check_pointwise((pointwise_params){CONVERT, SKY_BF16, SKY_BF16}, true);
    check_pointwise((pointwise_params){CONVERT, SKY_F32, SKY_F32, .in_place = 1}, true);
}

typedef struct shift_params {
    sky_dtype x, y;
    int64_t rows, cols;
} shift_params;

static sky_status run_shifted(rig *r, const void *params, sky_tensor *out)
{
    const shift_params *p = params;
    *out = RIG_OUTPUT(r, p->y, p->rows, 1, p->cols);
    return sky_convert(&r->ctx, &(sky_convert_args){.y = *out,
                                                    .x = RIG_INPUT(r, p->x, 1, p->rows, 1, p->cols),
                                                    .shift = RIG_INPUT(r, SKY_F32, 2, p->cols)});
}

static void expect_shifted(const void *params, double *want)
{
    const shift_params *p = params;
    for (int64_t i = 0; i < p->rows * p->cols; i++) {
        const float sum = (float)op_value(p->x, 1, i) + (float)op_value(SKY_F32, 2, i % p->cols);
        want[i] = (double)sum;
    }
}

TEST(convert_with_a_shift_adds_before_it_rounds)
{
    static const int64_t sizes[][2] = {{1, 1}, {7, 33}, {65, 128}, {3, 2500}};
    for (int i = 0; i < 4; i++) {
        for (int kind = 0; kind < 4 && !test_failed(); kind++) {
            const shift_params p = {kind & 1 ? SKY_BF16 : SKY_F32, kind & 2 ? SKY_BF16 : SKY_F32, sizes[i][0],
                                    sizes[i][1]};
            test_parameters("[%d, %d] %s to %s", (int)p.rows, (int)p.cols, sky_dtype_name(p.x), sky_dtype_name(p.y));
            op_check(&(op_case){run_shifted, expect_shifted, &p, .exact = true});
        }
    }
}

TEST(convert_rounds_to_even_and_keeps_what_is_special)
{
    static const float x[] = {1.0F + 0x1p-8F, 1.0F + 0x3p-8F, -0.0F, INFINITY, -INFINITY, NAN, 3.4e38F, 1e-40F};
    static const uint16_t want[] = {0x3f80, 0x3f82, 0x8000, 0x7f80, 0xff80, 0, 0x7f80, 0x0001};
    for (int b = 0; b < test_num_backends(); b++) {
        rig r;
        CHECK(rig_open(&r, test_backend_at(b), 0, RIG_ARENA_BYTES));
        test_parameters("%s", r.which->name);
        float all[40]; /* several times, for wide and narrow code */
        for (int i = 0; i < 40; i++) {
            all[i] = x[i % 8];
        }
        const sky_convert_args args = {.y = RIG_OUTPUT(&r, SKY_BF16, 39), .x = RIG_VALUES(&r, SKY_F32, all, 39)};
        const sky_status st = sky_convert(&r.ctx, &args);
        unsigned char *bytes = rig_read_bytes(&r, &args.y);
        EXPECT(st == SKY_OK);
        for (int i = 0; i < 39; i++) {
            uint16_t y;
            memcpy(&y, bytes + 2 * i, sizeof y);
            EXPECT(i % 8 == 5 ? isnan(sky_bf16_to_f32(y)) : y == want[i % 8]);
        }
        free(bytes);
        rig_close(&r);
    }
}

TEST(cfg_combine_to_the_byte)
{
    for (int in_place = 0; in_place <= 2; in_place++) {
        check_pointwise((pointwise_params){CFG, SKY_F32, SKY_F32, .in_place = in_place}, true);
    }
}

TEST(linear_combination_to_the_byte)
{
    for (int num_terms = 1; num_terms <= SKY_MAX_TERMS; num_terms++) {
        for (int in_place = 0; in_place <= num_terms; in_place++) {
            check_pointwise((pointwise_params){COMBINATION, SKY_F32, SKY_F32, .kind = num_terms, .in_place = in_place},
                            true);
        }
    }
}

typedef struct residual_params {
    sky_dtype y;
    int64_t rows, cols, first_row, rows_per_group, groups; /* groups 0: no gate */
} residual_params;

static sky_status run_residual(rig *r, const void *params, sky_tensor *out)
{
    const residual_params *p = params;
    *out = RIG_INPUT(r, SKY_F32, 1, p->rows, p->cols);
    rig_may_change(r, out);
    return sky_gate_residual(&r->ctx,
                             &(sky_gate_residual_args){
                                 .x = *out,
                                 .y = RIG_INPUT(r, p->y, 2, p->rows, p->cols),
                                 .gate = p->groups > 0 ? RIG_INPUT(r, SKY_F32, 3, p->groups, p->cols) : (sky_tensor){0},
                                 .first_row = p->first_row,
                                 .rows_per_group = p->rows_per_group});
}

static void expect_residual(const void *params, double *want)
{
    const residual_params *p = params;
    for (int64_t i = 0; i < p->rows * p->cols; i++) {
        double gate = 1.0;
        if (p->groups > 0) {
            const int64_t group = (p->first_row + i / p->cols) / p->rows_per_group;
            gate = op_value(SKY_F32, 3, group * p->cols + i % p->cols);
        }
        want[i] = fma(op_value(p->y, 2, i), gate, op_value(SKY_F32, 1, i));
    }
}

TEST(gate_residual_adds_what_the_gate_lets_through)
{
    static const residual_params cases[] = {
        {0, 1, 1, 0, 0, 0},   {0, 105, 257, 0, 0, 0}, {0, 105, 257, 0, 200, 1},
        {0, 20, 33, 5, 7, 4}, {0, 3, 64, 2, 1, 5},    {0, 13, 4099, 100, 50, 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int type = 0; type < 2 && !test_failed(); type++) {
            residual_params p = cases[i];
            p.y = type == 0 ? SKY_F32 : SKY_BF16;
            test_parameters("case %d y=%s", (int)i, sky_dtype_name(p.y));
            op_check(&(op_case){run_residual, expect_residual, &p, .sum_len = 1});
        }
    }
}

typedef struct rope_params {
    sky_dtype x, y;
    int64_t tokens, heads, dim;
    bool norm, in_place;
} rope_params;

static sky_status run_rope(rig *r, const void *params, sky_tensor *out)
{
    const rope_params *p = params;
    const sky_tensor x = p->norm ? RIG_INPUT(r, p->x, 1, p->tokens, p->heads * p->dim)
                                 : RIG_INPUT(r, p->x, 1, p->tokens, p->heads, p->dim);
    const sky_tensor freqs = RIG_INPUT(r, SKY_F32, 2, p->tokens, p->dim / 2, 2);
    *out = p->in_place ? x : rig_output(r, p->y, x.num_dims, x.shape);
    if (p->in_place) {
        rig_may_change(r, &x);
    }
    if (!p->norm) {
        return sky_rope(&r->ctx, &(sky_rope_args){.y = *out, .x = x, .freqs = freqs});
    }
    return sky_qk_norm_rope(
        &r->ctx,
        &(sky_qk_norm_rope_args){
            .y = *out, .x = x, .weight = RIG_INPUT(r, SKY_F32, 3, p->heads * p->dim), .freqs = freqs, .eps = 1e-6F});
}

/* Pairs as complex numbers; freqs need not lie on the circle. */
static void expect_rope(const void *params, double *want)
{
    const rope_params *p = params;
    const int64_t width = p->heads * p->dim;
    for (int64_t s = 0; s < p->tokens; s++) {
        double squares = 0.0;
        for (int64_t c = 0; c < width; c++) {
            squares += pow(op_value(p->x, 1, s * width + c), 2.0);
        }
        const double inv_rms = p->norm ? pow(squares / (double)width + (double)1e-6F, -0.5) : 1.0;
        for (int64_t c = 0; c < width; c++) {
            const int64_t mate = c ^ 1; /* dim is even, so pairs start at even columns */
            const double self = op_value(p->x, 1, s * width + c) * inv_rms * (p->norm ? op_value(SKY_F32, 3, c) : 1.0);
            const double other =
                op_value(p->x, 1, s * width + mate) * inv_rms * (p->norm ? op_value(SKY_F32, 3, mate) : 1.0);
            const int64_t pair = s * p->dim + c % p->dim / 2 * 2;
            const double cosine = op_value(SKY_F32, 2, pair);
            const double sine = op_value(SKY_F32, 2, pair + 1);
            want[s * width + c] = self * cosine + (c % 2 == 0 ? -other : other) * sine;
        }
    }
}

static void check_rope(bool norm)
{
    static const int64_t shapes[][3] = {{1, 1, 2}, {105, 3, 32}, {7, 12, 128}, {33, 1, 6}, {1, 5, 22}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        for (int types = 0; types < 4 && !test_failed(); types++) {
            rope_params p = {.x = types & 1 ? SKY_BF16 : SKY_F32,
                             .y = types & 2 ? SKY_BF16 : SKY_F32,
                             .tokens = shapes[i][0],
                             .heads = shapes[i][1],
                             .dim = shapes[i][2],
                             .norm = norm};
            for (int in_place = 0; in_place <= (p.x == p.y); in_place++) {
                p.in_place = in_place != 0;
                test_parameters("S=%d N=%d D=%d x=%s y=%s norm=%d in_place=%d", (int)p.tokens, (int)p.heads, (int)p.dim,
                                sky_dtype_name(p.x), sky_dtype_name(p.y), norm, in_place);
                op_check(&(op_case){run_rope, expect_rope, &p, .sum_len = norm ? p.heads * p.dim : 2});
            }
        }
    }
}

TEST(rope_rotates_pairs)
{
    check_rope(false);
}

TEST(qk_norm_rope_norms_all_heads_together)
{
    check_rope(true);
}

#define REFUSES(op, want, ...) CHECK_STATUS(sky_##op(ctx, &(sky_##op##_args){__VA_ARGS__}), want)

TEST(pointwise_ops_refuse)
{
    static float memory[3][64];
    rig r;
    CHECK(rig_open(&r, test_backend_at(0), 0, RIG_ARENA_BYTES));
    sky_ctx *ctx = &r.ctx;
    const sky_tensor y = SKY_TENSOR(memory[0], SKY_F32, 4, 6);
    const sky_tensor a = SKY_TENSOR(memory[1], SKY_F32, 4, 6);
    const sky_tensor b = SKY_TENSOR(memory[2], SKY_F32, 4, 6);
    const sky_tensor longer = SKY_TENSOR(memory[2], SKY_F32, 5, 6);
    const sky_tensor flat = SKY_TENSOR(memory[2], SKY_F32, 24);
    const sky_tensor bf16 = SKY_TENSOR(memory[2], SKY_BF16, 4, 6);
    const sky_tensor bf16_in_a = SKY_TENSOR(memory[1], SKY_BF16, 4, 6);
    const sky_tensor f16 = SKY_TENSOR(memory[2], SKY_F16, 4, 6);
    const sky_tensor one_off = SKY_TENSOR(memory[1] + 1, SKY_F32, 4, 6);
    const sky_tensor absent = {0};

    REFUSES(activation, SKY_OK, .y = y, .x = bf16);
    REFUSES(activation, SKY_ERR_SHAPE, .y = y, .x = longer);
    REFUSES(activation, SKY_ERR_SHAPE, .y = y, .x = flat);
    REFUSES(activation, SKY_ERR_DTYPE, .y = y, .x = f16);
    REFUSES(activation, SKY_ERR_UNSUPPORTED, .y = y, .x = a, .kind = (sky_activation_kind)3);
    REFUSES(activation, SKY_ERR_INTERNAL, .y = bf16_in_a, .x = a);
    REFUSES(convert, SKY_ERR_SHAPE, .y = y, .x = longer);
    REFUSES(convert, SKY_ERR_DTYPE, .y = y, .x = f16);
    REFUSES(convert, SKY_ERR_INTERNAL, .y = bf16_in_a, .x = a);
    REFUSES(convert, SKY_ERR_SHAPE, .y = y, .x = absent);
    REFUSES(convert, SKY_ERR_SHAPE, .y = y, .x = y, .shift = longer);
    REFUSES(add, SKY_ERR_SHAPE, .y = y, .a = a, .b = longer);
    REFUSES(add, SKY_ERR_SHAPE, .y = y, .a = longer, .b = a);
    REFUSES(add, SKY_ERR_DTYPE, .y = y, .a = a, .b = bf16);
    REFUSES(add, SKY_ERR_DTYPE, .y = y, .a = bf16, .b = bf16);
    REFUSES(add, SKY_ERR_INTERNAL, .y = one_off, .a = b, .b = a);
    REFUSES(gated_gelu, SKY_ERR_SHAPE, .y = y, .up = a, .gate = longer);
    REFUSES(gated_gelu, SKY_ERR_DTYPE, .y = y, .up = a, .gate = bf16);
    REFUSES(gated_gelu, SKY_ERR_INTERNAL, .y = one_off, .up = b, .gate = a);
    REFUSES(cfg_combine, SKY_ERR_SHAPE, .y = y, .cond = longer, .uncond = a);
    REFUSES(cfg_combine, SKY_ERR_DTYPE, .y = y, .cond = bf16, .uncond = a);
    REFUSES(cfg_combine, SKY_ERR_DTYPE, .y = bf16, .cond = bf16, .uncond = bf16);
    REFUSES(cfg_combine, SKY_ERR_INTERNAL, .y = one_off, .cond = b, .uncond = a);
    REFUSES(linear_combination, SKY_ERR_UNSUPPORTED, .y = y, .num_terms = 0);
    REFUSES(linear_combination, SKY_ERR_UNSUPPORTED, .y = y, .num_terms = SKY_MAX_TERMS + 1);
    REFUSES(linear_combination, SKY_ERR_SHAPE, .y = y, .num_terms = 2, .x = {a, longer});
    REFUSES(linear_combination, SKY_ERR_DTYPE, .y = y, .num_terms = 2, .x = {a, bf16});
    REFUSES(linear_combination, SKY_ERR_INTERNAL, .y = one_off, .num_terms = 2, .x = {b, a});

    REFUSES(gate_residual, SKY_OK, .x = y, .y = a);
    REFUSES(gate_residual, SKY_ERR_SHAPE, .x = y, .y = longer);
    REFUSES(gate_residual, SKY_ERR_SHAPE, .x = y, .y = a, .gate = b, .first_row = 0, .rows_per_group = 0);
    REFUSES(gate_residual, SKY_ERR_SHAPE, .x = y, .y = a, .gate = b, .first_row = -1, .rows_per_group = 1);
    REFUSES(gate_residual, SKY_ERR_SHAPE, .x = y, .y = a, .gate = b, .first_row = 1, .rows_per_group = 1);
    REFUSES(gate_residual, SKY_ERR_SHAPE, .x = y, .y = a, .gate = SKY_TENSOR(memory[2], SKY_F32, 4, 5),
            .rows_per_group = 1);
    REFUSES(gate_residual, SKY_ERR_DTYPE, .x = bf16, .y = a);
    REFUSES(gate_residual, SKY_ERR_DTYPE, .x = y, .y = f16);
    REFUSES(gate_residual, SKY_ERR_DTYPE, .x = y, .y = a, .gate = bf16, .rows_per_group = 1);
    REFUSES(gate_residual, SKY_ERR_INTERNAL, .x = a, .y = one_off);
    rig_close(&r);
}

TEST(rope_ops_refuse)
{
    static float memory[4][64];
    rig r;
    CHECK(rig_open(&r, test_backend_at(0), 0, RIG_ARENA_BYTES));
    sky_ctx *ctx = &r.ctx;
    const sky_tensor y = SKY_TENSOR(memory[0], SKY_F32, 3, 2, 4);
    const sky_tensor x = SKY_TENSOR(memory[1], SKY_F32, 3, 2, 4);
    const sky_tensor freqs = SKY_TENSOR(memory[2], SKY_F32, 3, 2, 2);
    const sky_tensor bf16_freqs = SKY_TENSOR(memory[2], SKY_BF16, 3, 2, 2);
    REFUSES(rope, SKY_OK, .y = y, .x = x, .freqs = freqs);
    REFUSES(rope, SKY_ERR_SHAPE, .y = SKY_TENSOR(memory[0], SKY_F32, 3, 1, 4), .x = x, .freqs = freqs);
    REFUSES(rope, SKY_ERR_SHAPE, .y = y, .x = x, .freqs = SKY_TENSOR(memory[2], SKY_F32, 2, 2, 2));
    REFUSES(rope, SKY_ERR_SHAPE, .y = y, .x = x, .freqs = SKY_TENSOR(memory[2], SKY_F32, 3, 1, 2));
    REFUSES(rope, SKY_ERR_SHAPE, .y = SKY_TENSOR(memory[0], SKY_F32, 3, 2, 5),
            .x = SKY_TENSOR(memory[1], SKY_F32, 3, 2, 5), .freqs = freqs);
    REFUSES(rope, SKY_ERR_DTYPE, .y = y, .x = x, .freqs = bf16_freqs);
    REFUSES(rope, SKY_ERR_INTERNAL, .y = SKY_TENSOR(memory[1], SKY_BF16, 3, 2, 4), .x = x, .freqs = freqs);

    const sky_tensor rows = SKY_TENSOR(memory[1], SKY_F32, 3, 8);
    const sky_tensor out = SKY_TENSOR(memory[0], SKY_F32, 3, 8);
    const sky_tensor weight = SKY_TENSOR(memory[3], SKY_F32, 8);
    REFUSES(qk_norm_rope, SKY_OK, .y = out, .x = rows, .weight = weight, .freqs = freqs);
    REFUSES(qk_norm_rope, SKY_ERR_SHAPE, .y = SKY_TENSOR(memory[0], SKY_F32, 2, 8), .x = rows, .weight = weight,
            .freqs = freqs);
    REFUSES(qk_norm_rope, SKY_ERR_SHAPE, .y = out, .x = rows, .weight = weight,
            .freqs = SKY_TENSOR(memory[2], SKY_F32, 3, 3, 2));
    REFUSES(qk_norm_rope, SKY_ERR_SHAPE, .y = out, .x = rows, .weight = weight,
            .freqs = SKY_TENSOR(memory[2], SKY_F32, 3, 0, 2));
    REFUSES(qk_norm_rope, SKY_ERR_SHAPE, .y = out, .x = rows, .weight = weight,
            .freqs = SKY_TENSOR(memory[2], SKY_F32, 2, 2, 2));
    REFUSES(qk_norm_rope, SKY_ERR_SHAPE, .y = out, .x = rows, .weight = SKY_TENSOR(memory[3], SKY_F32, 4),
            .freqs = freqs);
    REFUSES(qk_norm_rope, SKY_ERR_DTYPE, .y = out, .x = rows, .weight = SKY_TENSOR(memory[3], SKY_BF16, 8),
            .freqs = freqs);
    REFUSES(qk_norm_rope, SKY_ERR_DTYPE, .y = out, .x = rows, .weight = weight, .freqs = bf16_freqs);
    REFUSES(qk_norm_rope, SKY_ERR_INTERNAL, .y = SKY_TENSOR(memory[1] + 8, SKY_F32, 3, 8), .x = rows, .weight = weight,
            .freqs = freqs);
    rig_close(&r);
}

TEST_MAIN
