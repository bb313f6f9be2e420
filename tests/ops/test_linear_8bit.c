#include "ops/rig.h"

#include "support/compare.h"
#include "support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct linear_params {
    sky_dtype codes, y;
    int64_t rows, len, cols; /* M, K, N */
    bool bias;
    sky_dtype bias_type;
} linear_params;

static sky_linear_8bit_args make_args(rig *r, const linear_params *p)
{
    return (sky_linear_8bit_args){
        .y = RIG_OUTPUT(r, p->y, p->rows, p->cols),
        .x = RIG_INPUT(r, p->codes, 1, p->rows, p->len),
        .x_scale = RIG_INPUT(r, SKY_F32, 2, p->rows),
        .weight = RIG_INPUT(r, p->codes, 3, p->cols, p->len),
        .weight_scale = RIG_INPUT(r, SKY_F32, 4, p->cols),
        .bias = p->bias ? RIG_INPUT(r, p->bias_type, 5, p->cols) : (sky_tensor){0},
    };
}

static sky_status run_sums(rig *r, const void *params, sky_tensor *out)
{
    sky_linear_8bit_args args = make_args(r, params);
    args.x_scale = args.weight_scale = args.bias = (sky_tensor){0};
    *out = args.y;
    return sky_linear_8bit(&r->ctx, &args);
}

static void expect_sums(const void *params, double *want)
{
    const linear_params *p = params;
    for (int64_t i = 0; i < p->rows * p->cols; i++) {
        want[i] = 0.0;
        for (int64_t k = 0; k < p->len; k++) {
            want[i] += op_value(SKY_I8, 1, i / p->cols * p->len + k) * op_value(SKY_I8, 3, i % p->cols * p->len + k);
        }
    }
}

static sky_status run_linear(rig *r, const void *params, sky_tensor *out)
{
    const sky_linear_8bit_args args = make_args(r, params);
    *out = args.y;
    return sky_linear_8bit(&r->ctx, &args);
}

/* Outer products, one column of x and weight after the other, each code times its scale. */
static void expect_linear(const void *params, double *want)
{
    const linear_params *p = params;
    for (int64_t i = 0; i < p->rows * p->cols; i++) {
        want[i] = p->bias ? op_value(p->bias_type, 5, i % p->cols) : 0.0;
    }
    for (int64_t k = 0; k < p->len; k++) {
        for (int64_t m = 0; m < p->rows; m++) {
            const double x = op_value(p->codes, 1, m * p->len + k) * op_value(SKY_F32, 2, m);
            for (int64_t n = 0; n < p->cols; n++) {
                want[m * p->cols + n] += x * op_value(p->codes, 3, n * p->len + k) * op_value(SKY_F32, 4, n);
            }
        }
    }
}

/* The steps of the header in f32, after the exact sum. */
static void expect_steps(const void *params, double *want)
{
    const linear_params *p = params;
    for (int64_t m = 0; m < p->rows; m++) {
        for (int64_t n = 0; n < p->cols; n++) {
            double sum = 0.0;
            for (int64_t k = 0; k < p->len; k++) {
                sum += op_value(p->codes, 1, m * p->len + k) * op_value(p->codes, 3, n * p->len + k);
            }
            const float scale = (float)op_value(SKY_F32, 2, m) * (float)op_value(SKY_F32, 4, n);
            const float product = (float)sum * scale;
            want[m * p->cols + n] = (double)(p->bias ? product + (float)op_value(p->bias_type, 5, n) : product);
        }
    }
}

TEST(linear_8bit_is_a_scaled_matrix_product)
{
    static const int64_t sizes[][3] = {
        {1, 1, 1},     {1, 64, 96},   {105, 33, 257}, {128, 64, 64}, {3, 257, 1},   {7, 512, 5},
        {129, 31, 17}, {64, 256, 40}, {260, 48, 130}, {2, 1025, 3},  {3, 2300, 18},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (int kind = 0; kind < 12 && !test_failed(); kind++) {
            const linear_params p = {.codes = kind & 1 ? SKY_I8 : SKY_F8_E4M3,
                                     .y = kind & 2 ? SKY_BF16 : SKY_F32,
                                     .rows = sizes[i][0],
                                     .len = sizes[i][1],
                                     .cols = sizes[i][2],
                                     .bias = kind >= 4,
                                     .bias_type = kind >= 8 ? SKY_BF16 : SKY_F32};
            if (kind >= 4 && p.rows > 200) {
                continue; /* time */
            }
            test_parameters("M=%d K=%d N=%d %s to %s bias=%s", (int)p.rows, (int)p.len, (int)p.cols,
                            sky_dtype_name(p.codes), sky_dtype_name(p.y),
                            p.bias ? sky_dtype_name(p.bias_type) : "none");
            const bool by_unit = p.codes == SKY_F8_E4M3 && p.y == SKY_BF16;
            op_check(&(op_case){run_linear, expect_linear, &p, .sum_len = p.len,
                                .unit_tolerance = by_unit ? SKY_LINEAR_E4M3_UNIT_ERROR : 0.0});
            if (p.codes == SKY_I8) {
                op_check(&(op_case){run_linear, expect_steps, &p, .exact = true});
            }
        }
    }
}

TEST(linear_8bit_leaves_sums)
{
    static const int64_t sizes[][3] = {{1, 1, 1}, {105, 33, 257}, {3, 1024, 5}, {3, 1025, 5}, {129, 2300, 18}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const linear_params p = {
            .codes = SKY_I8, .y = SKY_I32, .rows = sizes[i][0], .len = sizes[i][1], .cols = sizes[i][2]};
        test_parameters("M=%d K=%d N=%d", (int)p.rows, (int)p.len, (int)p.cols);
        op_check(&(op_case){run_sums, expect_sums, &p, .exact = true});
    }
}

/* Sums of the largest products that there are, to the last unit: all of one sign, and with a small rest. */
TEST(linear_8bit_sums_i8_exactly)
{
    static const int64_t lens[] = {1024, 1025, 2048, 5120, 13824, SKY_LINEAR_I8_MAX_LEN};
    enum { ROWS = 2, COLS = 3 };
    int8_t *codes = malloc((size_t)COLS * SKY_LINEAR_I8_MAX_LEN);
    int8_t *x = malloc((size_t)ROWS * SKY_LINEAR_I8_MAX_LEN);
    const float one[COLS] = {1.0F, 1.0F, 1.0F};
    SKY_ASSERT(codes != NULL && x != NULL);
    for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        const int64_t len = lens[i];
        for (int64_t k = 0; k < len; k++) {
            x[k] = (int8_t)(127 - k * k % 11);
            x[len + k] = -128; /* a code that nothing here makes */
            codes[k] = 127;
            codes[len + k] = -128;
            codes[2 * len + k] = k < len / 2 ? 127 : -127; /* up, and down again to nearly nothing */
        }
        int64_t want[ROWS][COLS] = {0};
        for (int64_t k = 0; k < len; k++) {
            for (int m = 0; m < ROWS; m++) {
                for (int n = 0; n < COLS; n++) {
                    want[m][n] += (int64_t)x[m * len + k] * codes[n * len + k];
                }
            }
        }
        for (int b = 0; b < test_num_backends(); b++) {
            rig r;
            if (!rig_open(&r, test_backend_at(b), 0, RIG_ARENA_BYTES)) {
                break;
            }
            const sky_linear_8bit_args args = {.y = RIG_OUTPUT(&r, SKY_F32, ROWS, COLS),
                                               .x = RIG_BYTES(&r, SKY_I8, x, ROWS, len),
                                               .x_scale = RIG_VALUES(&r, SKY_F32, one, ROWS),
                                               .weight = RIG_BYTES(&r, SKY_I8, codes, COLS, len),
                                               .weight_scale = RIG_VALUES(&r, SKY_F32, one, COLS)};
            EXPECT(sky_linear_8bit(&r.ctx, &args) == SKY_OK);
            float *y = rig_read(&r, &args.y);
            for (int j = 0; j < ROWS * COLS; j++) {
                const int64_t sum = want[j / COLS][j % COLS];
                test_parameters("%s, K=%d, element %d: got %.9g, want %lld", r.which->name, (int)len, j, (double)y[j],
                                (long long)sum);
                EXPECT(y[j] == (float)sum);
            }
            free(y);
            if (len < SKY_LINEAR_I8_MAX_LEN) {
                const sky_linear_8bit_args bare = {
                    .y = RIG_OUTPUT(&r, SKY_I32, ROWS, COLS), .x = args.x, .weight = args.weight};
                EXPECT(sky_linear_8bit(&r.ctx, &bare) == SKY_OK);
                unsigned char *bytes = rig_read_bytes(&r, &bare.y);
                for (int j = 0; j < ROWS * COLS; j++) {
                    EXPECT(((const int32_t *)(const void *)bytes)[j] == want[j / COLS][j % COLS]);
                }
                free(bytes);
            }
            rig_close(&r);
        }
    }
    free(codes);
    free(x);
}

/* Row or column n holds code n and nothing else, the other side ones. NaN shows in its row or column only. */
static void check_codes(const test_backend *which, sky_dtype dtype, bool in_x)
{
    enum { CODES = 256, OTHERS = 70, LEN = 19 };
    static uint8_t codes[CODES * LEN];
    static float ones[OTHERS * LEN];
    static float scale[CODES];
    rig r;
    CHECK(rig_open(&r, which, 0, RIG_ARENA_BYTES));
    memset(codes, 0, sizeof codes);
    for (int i = 0; i < CODES; i++) {
        codes[i * LEN + i % LEN] = (uint8_t)i;
        scale[i] = 1.0F;
    }
    for (int i = 0; i < OTHERS * LEN; i++) {
        ones[i] = 1.0F;
    }
    const sky_tensor all = RIG_BYTES(&r, dtype, codes, CODES, LEN);
    const sky_tensor others = RIG_VALUES(&r, dtype, ones, OTHERS, LEN);
    const int64_t rows = in_x ? CODES : OTHERS;
    const int64_t cols = in_x ? OTHERS : CODES;
    const sky_linear_8bit_args args = {.y = RIG_OUTPUT(&r, SKY_F32, rows, cols),
                                       .x = in_x ? all : others,
                                       .x_scale = RIG_VALUES(&r, SKY_F32, scale, rows),
                                       .weight = in_x ? others : all,
                                       .weight_scale = RIG_VALUES(&r, SKY_F32, scale, cols)};
    EXPECT(sky_linear_8bit(&r.ctx, &args) == SKY_OK);
    float *y = rig_read(&r, &args.y);
    for (int i = 0; i < CODES * OTHERS && !test_failed(); i++) {
        const int code = in_x ? i / OTHERS : i % CODES;
        const float want = dtype == SKY_I8 ? (float)(int8_t)code : sky_e4m3_to_f32((uint8_t)code);
        test_parameters("%s %s, code 0x%02x in %s: got %g, want %g", which->name, sky_dtype_name(dtype), code,
                        in_x ? "x" : "weight", (double)y[i], (double)want);
        EXPECT(isnan(want) ? isnan(y[i]) : y[i] == want);
    }
    free(y);
    rig_close(&r);
}

TEST(linear_8bit_knows_every_code)
{
    for (int b = 0; b < test_num_backends(); b++) {
        for (int kind = 0; kind < 4; kind++) {
            check_codes(test_backend_at(b), kind & 1 ? SKY_I8 : SKY_F8_E4M3, (kind & 2) != 0);
        }
    }
}

/* The scales multiply each other first; the bias comes after and before the one rounding of the result. */
TEST(linear_8bit_by_hand)
{
    for (int b = 0; b < test_num_backends(); b++) {
        rig r;
        CHECK(rig_open(&r, test_backend_at(b), 0, RIG_ARENA_BYTES));
        test_parameters("%s", r.which->name);
        const sky_linear_8bit_args args = {
            .y = RIG_OUTPUT(&r, SKY_BF16, 2, 2),
            .x = RIG_VALUES(&r, SKY_F8_E4M3, ((const float[]){1, 2, 3, 448, -0.5F, 0x1p-9F}), 2, 3),
            .x_scale = RIG_VALUES(&r, SKY_F32, ((const float[]){1.0F, 2.0F}), 2),
            .weight = RIG_VALUES(&r, SKY_F8_E4M3, ((const float[]){1, 0, -1, 2, 2, 2}), 2, 3),
            .weight_scale = RIG_VALUES(&r, SKY_F32, ((const float[]){0.5F, 0x1p100F}), 2),
            .bias = RIG_VALUES(&r, SKY_F32, ((const float[]){0.25F, 0.0F}), 2),
        };
        const sky_status st = sky_linear_8bit(&r.ctx, &args);
        float *y = rig_read(&r, &args.y);
        rig_close(&r);
        EXPECT(st == SKY_OK);
        EXPECT(y[0] == -0.75F && y[1] == 12.0F * 0x1p100F && y[2] == 448.0F && y[3] == 896.0F * 0x1p101F);
        free(y);
    }
}

/* Bytes: rows cut anywhere at multiples of 128, and any number of rows, give the bytes of the whole. */
static void check_pieces(const test_backend *which, sky_dtype codes, int64_t len, int64_t cols)
{
    enum { ROWS = 300 };
    rig r;
    CHECK(rig_open(&r, which, 0, RIG_ARENA_BYTES));
    const linear_params p = {.codes = codes, .y = SKY_F32, .rows = ROWS, .len = len, .cols = cols, .bias = true};
    const size_t row_bytes = (size_t)cols * sizeof(float);
    sky_linear_8bit_args args = make_args(&r, &p);
    const sky_tensor x = args.x;
    const sky_tensor x_scale = args.x_scale;
    bool ok = sky_linear_8bit(&r.ctx, &args) == SKY_OK;
    unsigned char *whole = rig_read_bytes(&r, &args.y);
    const sky_tensor out = RIG_OUTPUT(&r, SKY_F32, ROWS, cols);
    for (int64_t first = 0; first < ROWS && ok; first += SKY_LINEAR_PIECE_ROWS) {
        for (int64_t rows = 1; rows <= ROWS - first && ok; rows++) {
            if (rows % 7 != 1 && rows > 14 && first + rows != ROWS) {
                continue; /* time */
            }
            args.x = sky_tensor_rows(&x, first, rows);
            args.x_scale = sky_tensor_rows(&x_scale, first, rows);
            args.y = sky_tensor_rows(&out, 0, rows);
            ok = sky_linear_8bit(&r.ctx, &args) == SKY_OK;
            unsigned char *part = rig_read_bytes(&r, &args.y);
            if (ok && memcmp(part, whole + (size_t)first * row_bytes, (size_t)rows * row_bytes) != 0) {
                test_fail(__FILE__, __LINE__, "%s: K=%d N=%d %s: rows %d to %d differ from those of %d rows",
                          which->name, (int)len, (int)cols, sky_dtype_name(codes), (int)first, (int)(first + rows),
                          (int)ROWS);
                ok = false;
            }
            free(part);
        }
    }
    EXPECT(ok);
    free(whole);
    rig_close(&r);
}

TEST(linear_8bit_rows_do_not_depend_on_their_number)
{
    for (int b = 0; b < test_num_backends(); b++) {
        check_pieces(test_backend_at(b), SKY_F8_E4M3, 65, 37);
        check_pieces(test_backend_at(b), SKY_F8_E4M3, 300, 7);
        check_pieces(test_backend_at(b), SKY_I8, 40, 24);
    }
}

TEST(linear_8bit_without_rows)
{
    rig r;
    CHECK(rig_open(&r, test_backend_at(0), 0, RIG_ARENA_BYTES));
    const sky_linear_8bit_args args = {
        .y = SKY_TENSOR(NULL, SKY_F32, 0, 4),
        .x = SKY_TENSOR(NULL, SKY_I8, 0, 3),
        .x_scale = SKY_TENSOR(NULL, SKY_F32, 0),
        .weight = RIG_INPUT(&r, SKY_I8, 2, 4, 3),
        .weight_scale = RIG_INPUT(&r, SKY_F32, 2, 4),
    };
    EXPECT(sky_linear_8bit(&r.ctx, &args) == SKY_OK);
    rig_close(&r);
}

TEST(linear_8bit_refuses)
{
    static float memory[6][64];
    rig r;
    CHECK(rig_open(&r, test_backend_at(0), 0, RIG_ARENA_BYTES));
    const sky_linear_8bit_args good = {
        .y = SKY_TENSOR(memory[0], SKY_F32, 3, 7),
        .x = SKY_TENSOR(memory[1], SKY_I8, 3, 5),
        .x_scale = SKY_TENSOR(memory[2], SKY_F32, 3),
        .weight = SKY_TENSOR(memory[3], SKY_I8, 7, 5),
        .weight_scale = SKY_TENSOR(memory[4], SKY_F32, 7),
        .bias = SKY_TENSOR(memory[5], SKY_F32, 7),
    };
    CHECK_OK(sky_linear_8bit(&r.ctx, &good));
#define REFUSES(field, value, want)                            \
    do {                                                       \
        sky_linear_8bit_args changed = good;                   \
        changed.field = (value);                               \
        CHECK_STATUS(sky_linear_8bit(&r.ctx, &changed), want); \
    } while (0)
    REFUSES(weight, SKY_TENSOR(memory[3], SKY_I8, 7, 6), SKY_ERR_SHAPE);
    EXPECT(strcmp(sky_message(), "linear_8bit: x is [3, 5] i8, weight [7, 6] i8: columns disagree") == 0);
    REFUSES(y, SKY_TENSOR(memory[0], SKY_F32, 4, 7), SKY_ERR_SHAPE);
    REFUSES(y, SKY_TENSOR(memory[0], SKY_F32, 3, 6), SKY_ERR_SHAPE);
    REFUSES(x_scale, SKY_TENSOR(memory[2], SKY_F32, 7), SKY_ERR_SHAPE);
    REFUSES(weight_scale, SKY_TENSOR(memory[4], SKY_F32, 3), SKY_ERR_SHAPE);
    REFUSES(bias, SKY_TENSOR(memory[5], SKY_F32, 6), SKY_ERR_SHAPE);
    REFUSES(weight.dtype, SKY_F8_E4M3, SKY_ERR_DTYPE);
    REFUSES(x.dtype, SKY_F32, SKY_ERR_DTYPE);
    REFUSES(x_scale.dtype, SKY_BF16, SKY_ERR_DTYPE);
    REFUSES(weight_scale.dtype, SKY_BF16, SKY_ERR_DTYPE);
    REFUSES(bias.dtype, SKY_I32, SKY_ERR_DTYPE);
    REFUSES(y.dtype, SKY_I8, SKY_ERR_DTYPE);
    REFUSES(x_scale, (sky_tensor){0}, SKY_ERR_SHAPE);
    REFUSES(weight_scale, (sky_tensor){0}, SKY_ERR_SHAPE);
    REFUSES(y.data, memory[4] + 6, SKY_ERR_INTERNAL);
    sky_linear_8bit_args sums = good;
    sums.y.dtype = SKY_I32;
    CHECK_STATUS(sky_linear_8bit(&r.ctx, &sums), SKY_ERR_DTYPE); /* with scales and bias */
    sums.x_scale = sums.weight_scale = (sky_tensor){0};
    CHECK_STATUS(sky_linear_8bit(&r.ctx, &sums), SKY_ERR_DTYPE); /* with bias */
    sums.bias = (sky_tensor){0};
    CHECK_OK(sky_linear_8bit(&r.ctx, &sums));
    sums.x.dtype = sums.weight.dtype = SKY_F8_E4M3;
    CHECK_STATUS(sky_linear_8bit(&r.ctx, &sums), SKY_ERR_DTYPE);
    sums.x = SKY_TENSOR(memory[1], SKY_I8, 3, SKY_LINEAR_I8_MAX_LEN);
    sums.weight = SKY_TENSOR(memory[3], SKY_I8, 7, SKY_LINEAR_I8_MAX_LEN);
    CHECK_STATUS(sky_linear_8bit(&r.ctx, &sums), SKY_ERR_SHAPE);
    sky_linear_8bit_args bad = good; /* nothing to sum over; too much of it */
    bad.x = SKY_TENSOR(memory[1], SKY_I8, 3, 0);
    bad.weight = SKY_TENSOR(memory[3], SKY_I8, 7, 0);
    CHECK_STATUS(sky_linear_8bit(&r.ctx, &bad), SKY_ERR_SHAPE);
    bad.x = SKY_TENSOR(memory[1], SKY_I8, 3, SKY_LINEAR_I8_MAX_LEN + 1);
    bad.weight = SKY_TENSOR(memory[3], SKY_I8, 7, SKY_LINEAR_I8_MAX_LEN + 1);
    CHECK_STATUS(sky_linear_8bit(&r.ctx, &bad), SKY_ERR_SHAPE);
    rig_close(&r);
}

TEST_MAIN
