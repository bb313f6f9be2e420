#include "ops/rig.h"

#include "support/compare.h"
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Queries and keys after norm and rotation: as values in parts, as sums, as codes; from values and from i32 sums. */
typedef struct qk_params {
    sky_dtype x;
    int64_t tokens, heads, dim, group;
    int num_parts;
    bool mean, nan;
    bool huge;       /* weights so large that sums saturate */
    bool want_scale; /* look at the scales, else at the codes */
    sky_dtype y;
} qk_params;

static const char *describe(const qk_params *p)
{
    static char text[160];
    snprintf(text, sizeof text, "S=%d N=%d D=%d group=%d parts=%d x=%s y=%s mean=%d nan=%d huge=%d %s", (int)p->tokens,
             (int)p->heads, (int)p->dim, (int)p->group, p->num_parts, sky_dtype_name(p->x), sky_dtype_name(p->y),
             p->mean, p->nan, p->huge, p->want_scale ? "scales" : "codes");
    return text;
}

static int64_t num_groups(const qk_params *p)
{
    return (p->tokens + p->group - 1) / p->group;
}

/* ---- inputs ---- */

static int32_t sum_at(int64_t i)
{
    return (int32_t)lrintf(4000.0F * test_random(1, (uint64_t)i));
}

static float scale_at(uint64_t seed, int64_t i)
{
    return 1e-2F * (1.5F + test_random(seed, (uint64_t)i) * 0.1F);
}

/* What the op sees: of i32 sums as linear_sums.h says. */
static float x_at(const qk_params *p, int64_t s, int64_t c)
{
    const int64_t i = s * p->heads * p->dim + c;
    if (p->nan && s == 1 && c == 2) {
        return NAN;
    }
    if (p->x != SKY_I32) {
        return (float)op_value(p->x, 1, i);
    }
    const float scaled = (float)sum_at(i) * (scale_at(4, s) * scale_at(5, c));
    return sky_round_bf16(scaled + (float)op_value(SKY_BF16, 6, c));
}

typedef struct qk_inputs {
    sky_tensor x, weight, freqs, mean;
    sky_linear_sums x_sums;
} qk_inputs;

static sky_tensor scales(rig *r, uint64_t seed, int64_t len)
{
    float *values = malloc((size_t)len * sizeof *values + 1);
    SKY_ASSERT(values != NULL);
    for (int64_t i = 0; i < len; i++) {
        values[i] = scale_at(seed, i);
    }
    const sky_tensor t = RIG_VALUES(r, SKY_F32, values, len);
    free(values);
    return t;
}

static sky_tensor weights(rig *r, const qk_params *p, int64_t len)
{
    float *values = malloc((size_t)len * sizeof *values + 1);
    SKY_ASSERT(values != NULL);
    for (int64_t i = 0; i < len; i++) {
        values[i] = (float)op_value(SKY_F32, 3, i) * (p->huge ? 2e7F : 1.0F);
    }
    const sky_tensor t = RIG_VALUES(r, SKY_F32, values, len);
    free(values);
    return t;
}

static qk_inputs make_inputs(rig *r, const qk_params *p)
{
    const int64_t cols = p->heads * p->dim;
    const int64_t len = p->tokens * cols;
    qk_inputs in = {.weight = weights(r, p, cols), .freqs = RIG_INPUT(r, SKY_F32, 2, p->tokens, p->dim / 2, 2)};
    in.mean = p->mean ? RIG_INPUT(r, SKY_F32, 7, p->heads, p->dim) : (sky_tensor){0};
    if (p->x == SKY_I32) {
        int32_t *sums = malloc((size_t)len * sizeof *sums + 1);
        SKY_ASSERT(sums != NULL);
        for (int64_t i = 0; i < len; i++) {
            sums[i] = sum_at(i);
        }
        in.x = RIG_BYTES(r, SKY_I32, sums, p->tokens, cols);
        in.x_sums = (sky_linear_sums){.x_scale = scales(r, 4, p->tokens),
                                      .weight_scale = scales(r, 5, cols),
                                      .bias = RIG_INPUT(r, SKY_BF16, 6, cols)};
        free(sums);
        return in;
    }
    float *values = malloc((size_t)len * sizeof *values + 1);
    SKY_ASSERT(values != NULL);
    for (int64_t i = 0; i < len; i++) {
        values[i] = x_at(p, i / cols, i % cols);
    }
    in.x = RIG_VALUES(r, p->x, values, p->tokens, cols);
    free(values);
    return in;
}

/* ---- the ops ---- */

static sky_status norm_rope(rig *r, const qk_params *p, const qk_inputs *in, const sky_tensor *y, int num_parts)
{
    (void)p;
    return sky_qk_norm_rope(&r->ctx, &(sky_qk_norm_rope_args){.y = *y,
                                                              .x = in->x,
                                                              .x_sums = in->x_sums,
                                                              .weight = in->weight,
                                                              .freqs = in->freqs,
                                                              .eps = 1e-6F,
                                                              .num_parts = num_parts});
}

static sky_status sums_of(rig *r, const qk_params *p, const qk_inputs *in, const sky_tensor *sums)
{
    return sky_qk_norm_rope_sums(&r->ctx, &(sky_qk_norm_rope_sums_args){.sums = *sums,
                                                                        .x = in->x,
                                                                        .x_sums = in->x_sums,
                                                                        .weight = in->weight,
                                                                        .freqs = in->freqs,
                                                                        .eps = 1e-6F,
                                                                        .num_tokens = p->tokens + 7});
}

static sky_status codes_of(rig *r, const qk_params *p, const qk_inputs *in, const sky_tensor *codes,
                           const sky_tensor *scale)
{
    return sky_qk_norm_rope_quantize(&r->ctx, &(sky_qk_norm_rope_quantize_args){.codes = *codes,
                                                                                .scale = *scale,
                                                                                .x = in->x,
                                                                                .x_sums = in->x_sums,
                                                                                .weight = in->weight,
                                                                                .freqs = in->freqs,
                                                                                .eps = 1e-6F,
                                                                                .mean = in->mean,
                                                                                .tokens_per_group = p->group,
                                                                                .num_parts = p->num_parts});
}

/* ---- what is exact ---- */

static void expect_rotated(const qk_params *p, double *want)
{
    const int64_t cols = p->heads * p->dim;
    for (int64_t s = 0; s < p->tokens; s++) {
        double squares = 0.0;
        for (int64_t c = 0; c < cols; c++) {
            squares += pow((double)x_at(p, s, c), 2.0);
        }
        const double inv_rms = pow(squares / (double)cols + (double)1e-6F, -0.5);
        for (int64_t c = 0; c < cols; c++) {
            const int64_t mate = c ^ 1;
            const double self = (double)x_at(p, s, c) * inv_rms * op_value(SKY_F32, 3, c);
            const double other = (double)x_at(p, s, mate) * inv_rms * op_value(SKY_F32, 3, mate);
            const int64_t pair = s * p->dim + c % p->dim / 2 * 2;
            const double cosine = op_value(SKY_F32, 2, pair);
            const double sine = op_value(SKY_F32, 2, pair + 1);
            want[s * cols + c] = self * cosine + (c % 2 == 0 ? -other : other) * sine;
        }
    }
}

static double *rotated(const qk_params *p)
{
    double *all = malloc((size_t)(p->tokens * p->heads * p->dim) * sizeof *all + 1);
    SKY_ASSERT(all != NULL);
    expect_rotated(p, all);
    return all;
}

/* Index of a row's head in [part][rows, heads of the part]: everything of the parts before it, the rows above, its place. */
static int64_t place_in_parts(const qk_params *p, int64_t rows, int64_t row, int64_t head)
{
    const int64_t parts = p->num_parts > 0 ? p->num_parts : 1;
    int64_t before = 0;
    int64_t part = 0;
    int64_t count = p->heads / parts + (p->heads % parts > 0);
    while (head >= before + count) {
        before += count;
        part++;
        count = p->heads / parts + (part < p->heads % parts);
    }
    return before * rows + row * count + head - before;
}

static sky_status run_values(rig *r, const void *params, sky_tensor *out)
{
    const qk_params *p = params;
    const qk_inputs in = make_inputs(r, p);
    *out = RIG_OUTPUT(r, p->y, p->tokens, p->heads * p->dim);
    return norm_rope(r, p, &in, out, p->num_parts);
}

static void expect_values(const void *params, double *want)
{
    const qk_params *p = params;
    double *all = rotated(p);
    for (int64_t i = 0; i < p->tokens * p->heads; i++) {
        memcpy(want + place_in_parts(p, p->tokens, i / p->heads, i % p->heads) * p->dim, all + i * p->dim,
               (size_t)p->dim * sizeof *all);
    }
    free(all);
}

static sky_status run_sums(rig *r, const void *params, sky_tensor *out)
{
    const qk_params *p = params;
    const qk_inputs in = make_inputs(r, p);
    *out = RIG_OUTPUT(r, SKY_I64, p->heads * p->dim);
    return sums_of(r, p, &in, out);
}

static void expect_sums(const void *params, double *want)
{
    const qk_params *p = params;
    const int64_t cols = p->heads * p->dim;
    double *all = rotated(p);
    for (int64_t c = 0; c < cols; c++) {
        want[c] = 0.0;
        for (int64_t s = 0; s < p->tokens; s++) {
            want[c] += ldexp(all[s * cols + c], 32);
        }
    }
    free(all);
}

static sky_status run_codes(rig *r, const void *params, sky_tensor *out)
{
    const qk_params *p = params;
    const qk_inputs in = make_inputs(r, p);
    const sky_tensor codes = RIG_OUTPUT(r, SKY_I8, p->tokens, p->heads * p->dim);
    const sky_tensor scale = RIG_OUTPUT(r, SKY_F32, num_groups(p), p->heads);
    *out = p->want_scale ? scale : codes;
    return codes_of(r, p, &in, &codes, &scale);
}

static double centred(const qk_params *p, const double *all, int64_t s, int64_t c)
{
    return all[s * p->heads * p->dim + c] - (p->mean ? op_value(SKY_F32, 7, c) : 0.0);
}

static void expect_codes(const void *params, double *want)
{
    const qk_params *p = params;
    double *all = rotated(p);
    for (int64_t i = 0; i < num_groups(p) * p->heads; i++) {
        const int64_t n = i % p->heads;
        const int64_t first = i / p->heads * p->group;
        const int64_t end = first + p->group < p->tokens ? first + p->group : p->tokens;
        double amax = 1e-12;
        for (int64_t s = first; s < end; s++) {
            for (int64_t d = 0; d < p->dim; d++) {
                amax = fmax(amax, fabs(centred(p, all, s, n * p->dim + d)));
            }
        }
        for (int64_t s = first; s < end && !p->want_scale; s++) {
            for (int64_t d = 0; d < p->dim; d++) {
                const double code = rint(centred(p, all, s, n * p->dim + d) * 127.0 / amax);
                want[place_in_parts(p, p->tokens, s, n) * p->dim + d] = code;
            }
        }
        if (p->want_scale) {
            want[place_in_parts(p, num_groups(p), i / p->heads, n)] = amax / 127.0;
        }
    }
    free(all);
}

/* Tokens, heads, head dim, tokens in a group, parts: that divide, that do not, that are empty. */
static const int64_t sizes[][5] = {{1, 1, 2, 64, 0}, {105, 3, 32, 64, 2}, {7, 12, 128, 128, 4}, {33, 1, 6, 8, 3},
                                   {1, 5, 22, 1, 2}, {130, 5, 8, 64, 1},  {65, 7, 34, 64, 3},   {12, 2, 1030, 5, 2}};
enum { NUM_SIZES = sizeof sizes / sizeof sizes[0] };

static qk_params params_of(size_t i, sky_dtype x)
{
    return (qk_params){.x = x,
                       .tokens = sizes[i][0],
                       .heads = sizes[i][1],
                       .dim = sizes[i][2],
                       .group = sizes[i][3],
                       .num_parts = (int)sizes[i][4]};
}

static const sky_dtype x_types[] = {SKY_F32, SKY_BF16, SKY_I32};
enum { NUM_TYPES = sizeof x_types / sizeof x_types[0] };

TEST(values_lie_in_parts)
{
    for (size_t i = 0; i < NUM_SIZES; i++) {
        for (int kind = 0; kind < 2 * NUM_TYPES && !test_failed(); kind++) {
            qk_params p = params_of(i, x_types[kind / 2]);
            p.y = kind % 2 == 0 ? SKY_F32 : SKY_BF16;
            test_parameters("%s", describe(&p));
            op_check(&(op_case){run_values, expect_values, &p, .sum_len = p.heads * p.dim});
        }
    }
}

TEST(sums_are_those_of_rotated_rows)
{
    for (size_t i = 0; i < NUM_SIZES; i++) {
        for (int type = 0; type < NUM_TYPES && !test_failed(); type++) {
            const qk_params p = params_of(i, x_types[type]);
            test_parameters("%s", describe(&p));
            op_check(&(op_case){run_sums, expect_sums, &p, .sum_len = p.heads * p.dim});
        }
    }
}

/* A code may be the next one, where the exact value lies between two. The bytes are looked at below. */
TEST(codes_are_those_of_rotated_rows)
{
    for (size_t i = 0; i < NUM_SIZES; i++) {
        for (int kind = 0; kind < 4 * NUM_TYPES && !test_failed(); kind++) {
            qk_params p = params_of(i, x_types[kind / 4]);
            p.mean = kind % 2 != 0;
            p.want_scale = kind / 2 % 2 != 0;
            test_parameters("%s", describe(&p));
            op_case c = {run_codes, expect_codes, &p, .sum_len = p.heads * p.dim};
            c.tolerance = p.want_scale ? 0.0 : 1.001 / 127.0;
            op_check(&c);
        }
    }
}

/* ---- the same bytes as one op after the other ---- */

static bool same_bytes(rig *r, const char *what, const sky_tensor *a, const sky_tensor *b)
{
    unsigned char *x = rig_read_bytes(r, a);
    unsigned char *y = rig_read_bytes(r, b);
    const size_t bytes = sky_tensor_bytes(a);
    size_t first = 0;
    while (first < bytes && x[first] == y[first]) {
        first++;
    }
    free(x);
    free(y);
    if (first < bytes) {
        test_fail(__FILE__, __LINE__, "%s: %s: byte %zu of %zu differs", r->which->name, what, first, bytes);
    }
    return first == bytes;
}

static void check_fused(const qk_params *p, const test_backend *which, int64_t skew, size_t arena_bytes)
{
    rig r;
    const int64_t cols = p->heads * p->dim;
    const int64_t heads[] = {p->tokens, p->heads, p->dim};
    CHECK(rig_open(&r, which, skew, arena_bytes));
    const qk_inputs in = make_inputs(&r, p);
    const sky_tensor f32 = RIG_OUTPUT(&r, SKY_F32, p->tokens, cols);
    const sky_tensor sums[2] = {RIG_OUTPUT(&r, SKY_I64, cols), RIG_OUTPUT(&r, SKY_I64, cols)};
    const sky_tensor codes[2] = {RIG_OUTPUT(&r, SKY_I8, p->tokens, cols), RIG_OUTPUT(&r, SKY_I8, p->tokens, cols)};
    const sky_tensor scale[2] = {RIG_OUTPUT(&r, SKY_F32, num_groups(p), p->heads),
                                 RIG_OUTPUT(&r, SKY_F32, num_groups(p), p->heads)};
    EXPECT(norm_rope(&r, p, &in, &f32, 1) == SKY_OK);
    EXPECT(sky_channel_sums(&r.ctx, &(sky_channel_sums_args){.sums = sums[0], .x = f32, .num_tokens = p->tokens + 7}) ==
           SKY_OK);
    EXPECT(sky_quantize_heads(&r.ctx, &(sky_quantize_heads_args){.codes = sky_tensor_reshape(&codes[0], 3, heads),
                                                                 .scale = scale[0],
                                                                 .x = sky_tensor_reshape(&f32, 3, heads),
                                                                 .mean = in.mean,
                                                                 .tokens_per_group = p->group,
                                                                 .num_parts = p->num_parts}) == SKY_OK);
    EXPECT(sums_of(&r, p, &in, &sums[1]) == SKY_OK && codes_of(&r, p, &in, &codes[1], &scale[1]) == SKY_OK);
    EXPECT(sky_ctx_sync(&r.ctx) == SKY_OK && rig_check(&r));
    EXPECT(same_bytes(&r, "sums", &sums[0], &sums[1]) && same_bytes(&r, "codes", &codes[0], &codes[1]) &&
           same_bytes(&r, "scales", &scale[0], &scale[1]));
    rig_close(&r);
}

TEST(fused_ops_give_the_bytes_of_separate_ones)
{
    for (size_t i = 0; i < NUM_SIZES; i++) {
        for (int kind = 0; kind < 4 * NUM_TYPES; kind++) {
            qk_params p = params_of(i, x_types[kind / 4]);
            p.mean = kind % 2 != 0;
            p.nan = kind / 2 % 2 != 0 && p.x != SKY_I32 && p.heads * p.dim > 2;
            p.huge = kind % 4 == 1; /* the limit is of num_tokens, not of rows */
            test_parameters("%s", describe(&p));
            for (int b = 0; b < 2 * test_num_backends() && !test_failed(); b++) {
                check_fused(&p, test_backend_at(b / 2), b % 2, RIG_ARENA_BYTES);
            }
        }
    }
}

/* More than a thread of the CPU backend keeps: rows behind are made twice. */
TEST(a_group_may_be_large)
{
    const qk_params p = {
        .x = SKY_BF16, .tokens = 1100, .heads = 8, .dim = 128, .group = 1090, .num_parts = 3, .mean = true};
    test_parameters("%s", describe(&p));
    for (int b = 0; b < test_num_backends() && !test_failed(); b++) {
        check_fused(&p, test_backend_at(b), 0, (size_t)8 << 20);
    }
}

/* Sums that linear_8bit leaves are seen as the values that it writes. */
TEST(sums_of_a_linear_layer_are_its_values)
{
    enum { TOKENS = 70, DIM = 24, K = 40 };
    for (int b = 0; b < test_num_backends(); b++) {
        rig r;
        CHECK(rig_open(&r, test_backend_at(b), 0, RIG_ARENA_BYTES));
        const sky_linear_8bit_args linear = {.y = RIG_OUTPUT(&r, SKY_BF16, TOKENS, DIM),
                                             .x = RIG_INPUT(&r, SKY_I8, 1, TOKENS, K),
                                             .x_scale = RIG_INPUT(&r, SKY_F32, 2, TOKENS),
                                             .weight = RIG_INPUT(&r, SKY_I8, 3, DIM, K),
                                             .weight_scale = RIG_INPUT(&r, SKY_F32, 4, DIM),
                                             .bias = RIG_INPUT(&r, SKY_BF16, 5, DIM)};
        const sky_linear_8bit_args bare = {
            .y = RIG_OUTPUT(&r, SKY_I32, TOKENS, DIM), .x = linear.x, .weight = linear.weight};
        EXPECT(sky_linear_8bit(&r.ctx, &linear) == SKY_OK && sky_linear_8bit(&r.ctx, &bare) == SKY_OK);
        sky_qk_norm_rope_args args = {.y = RIG_OUTPUT(&r, SKY_F32, TOKENS, DIM),
                                      .x = linear.y,
                                      .weight = RIG_INPUT(&r, SKY_F32, 6, DIM),
                                      .freqs = RIG_INPUT(&r, SKY_F32, 7, TOKENS, 4, 2),
                                      .eps = 1e-6F};
        const sky_tensor of_values = args.y;
        EXPECT(sky_qk_norm_rope(&r.ctx, &args) == SKY_OK);
        args.y = RIG_OUTPUT(&r, SKY_F32, TOKENS, DIM);
        args.x = bare.y;
        args.x_sums =
            (sky_linear_sums){.x_scale = linear.x_scale, .weight_scale = linear.weight_scale, .bias = linear.bias};
        EXPECT(sky_qk_norm_rope(&r.ctx, &args) == SKY_OK);
        EXPECT(same_bytes(&r, "of sums", &of_values, &args.y));
        rig_close(&r);
    }
}

#define REFUSES(op, want, ...)                                                   \
    do {                                                                         \
        CHECK_STATUS(sky_##op(&r.ctx, &(sky_##op##_args){__VA_ARGS__}), (want)); \
    } while (0)

TEST(fused_ops_refuse)
{
    static float memory[8][64];
    static int64_t sums_memory[16];
    rig r;
    CHECK(rig_open(&r, test_backend_at(0), 0, RIG_ARENA_BYTES));
    const sky_tensor x = SKY_TENSOR(memory[0], SKY_F32, 5, 8);
    const sky_tensor weight = SKY_TENSOR(memory[1], SKY_F32, 8);
    const sky_tensor freqs = SKY_TENSOR(memory[2], SKY_F32, 5, 2, 2);
    const sky_tensor codes = SKY_TENSOR(memory[3], SKY_I8, 5, 8);
    const sky_tensor scale = SKY_TENSOR(memory[4], SKY_F32, 3, 2);
    const sky_tensor mean = SKY_TENSOR(memory[5], SKY_F32, 2, 4);
    const sky_tensor y = SKY_TENSOR(memory[6], SKY_F32, 5, 8);
    const sky_tensor sums = SKY_TENSOR(sums_memory, SKY_I64, 8);
    const sky_tensor i32 = SKY_TENSOR(memory[0], SKY_I32, 5, 8);
    const sky_linear_sums with = {.x_scale = SKY_TENSOR(memory[7], SKY_F32, 5),
                                  .weight_scale = SKY_TENSOR(memory[7] + 8, SKY_F32, 8)};
#define IN .x = x, .weight = weight, .freqs = freqs
    REFUSES(qk_norm_rope, SKY_OK, .y = y, IN, .num_parts = 2);
    REFUSES(qk_norm_rope, SKY_OK, .y = x, IN, .num_parts = 1);
    REFUSES(qk_norm_rope, SKY_ERR_INTERNAL, .y = x, IN, .num_parts = 2);
    REFUSES(qk_norm_rope, SKY_ERR_SHAPE, .y = y, IN, .num_parts = -1);
    REFUSES(qk_norm_rope, SKY_ERR_DTYPE, .y = y, IN, .x_sums = with);
    REFUSES(qk_norm_rope, SKY_ERR_SHAPE, .y = y, .x = i32, .weight = weight, .freqs = freqs);
    REFUSES(qk_norm_rope, SKY_OK, .y = y, .x = i32, .x_sums = with, .weight = weight, .freqs = freqs);

    REFUSES(qk_norm_rope_sums, SKY_OK, .sums = sums, IN, .num_tokens = 5);
    REFUSES(qk_norm_rope_sums, SKY_ERR_SHAPE, .sums = sums, IN, .num_tokens = 4);
    REFUSES(qk_norm_rope_sums, SKY_ERR_SHAPE, .sums = sums, IN, .num_tokens = 0);
    REFUSES(qk_norm_rope_sums, SKY_ERR_SHAPE, .sums = SKY_TENSOR(sums_memory, SKY_I64, 7), IN, .num_tokens = 5);
    REFUSES(qk_norm_rope_sums, SKY_ERR_DTYPE, .sums = SKY_TENSOR(memory[6], SKY_F32, 8), IN, .num_tokens = 5);
    REFUSES(qk_norm_rope_sums, SKY_ERR_SHAPE, .sums = sums, .x = x, .weight = weight,
            .freqs = SKY_TENSOR(memory[2], SKY_F32, 5, 3, 2), .num_tokens = 5);

#define OUT .codes = codes, .scale = scale
    REFUSES(qk_norm_rope_quantize, SKY_OK, OUT, IN, .mean = mean, .tokens_per_group = 2, .num_parts = 3);
    REFUSES(qk_norm_rope_quantize, SKY_OK, .codes = SKY_TENSOR(NULL, SKY_I8, 0, 8),
            .scale = SKY_TENSOR(NULL, SKY_F32, 0, 2), .x = SKY_TENSOR(NULL, SKY_F32, 0, 8), .weight = weight,
            .freqs = SKY_TENSOR(NULL, SKY_F32, 0, 2, 2), .tokens_per_group = 64);
    REFUSES(qk_norm_rope_quantize, SKY_ERR_SHAPE, OUT, IN, .tokens_per_group = 0);
    REFUSES(qk_norm_rope_quantize, SKY_ERR_SHAPE, OUT, IN, .tokens_per_group = 3);
    REFUSES(qk_norm_rope_quantize, SKY_ERR_SHAPE, OUT, IN, .tokens_per_group = 2, .num_parts = -1);
    REFUSES(qk_norm_rope_quantize, SKY_ERR_SHAPE, OUT, IN, .tokens_per_group = 2,
            .mean = SKY_TENSOR(memory[5], SKY_F32, 4, 2));
    REFUSES(qk_norm_rope_quantize, SKY_ERR_SHAPE, .codes = SKY_TENSOR(memory[3], SKY_I8, 8, 5), .scale = scale, IN,
            .tokens_per_group = 2);
    REFUSES(qk_norm_rope_quantize, SKY_ERR_DTYPE, .codes = SKY_TENSOR(memory[3], SKY_F8_E4M3, 5, 8), .scale = scale, IN,
            .tokens_per_group = 2);
    REFUSES(qk_norm_rope_quantize, SKY_ERR_INTERNAL, OUT, IN, .tokens_per_group = 2,
            .mean = SKY_TENSOR(memory[4], SKY_F32, 2, 4));
    REFUSES(qk_norm_rope_quantize, SKY_ERR_INTERNAL, .codes = codes, .scale = SKY_TENSOR(memory[0], SKY_F32, 3, 2), IN,
            .tokens_per_group = 2);
    REFUSES(qk_norm_rope_quantize, SKY_ERR_INTERNAL, .codes = codes, .scale = SKY_TENSOR(memory[3], SKY_F32, 3, 2), IN,
            .tokens_per_group = 2);
    REFUSES(qk_norm_rope_quantize, SKY_ERR_INTERNAL, .codes = codes, .scale = SKY_TENSOR(memory[7], SKY_F32, 3, 2),
            .x = i32, .x_sums = with, .weight = weight, .freqs = freqs, .tokens_per_group = 2);
#undef IN
#undef OUT
    rig_close(&r);
}

TEST_MAIN
