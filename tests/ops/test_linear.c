#include "ops/rig.h"

#include "support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct linear_params {
    sky_dtype x, weight, y;
    int64_t rows, len, cols; /* M, K, N */
    bool bias;
    sky_dtype bias_type;
} linear_params;

static sky_status run_linear(rig *r, const void *params, sky_tensor *out)
{
    const linear_params *p = params;
    const sky_linear_args args = {
        .y = RIG_OUTPUT(r, p->y, p->rows, p->cols),
        .x = RIG_INPUT(r, p->x, 1, p->rows, p->len),
        .weight = RIG_INPUT(r, p->weight, 2, p->cols, p->len),
        .bias = p->bias ? RIG_INPUT(r, p->bias_type, 3, p->cols) : (sky_tensor){0},
    };
    *out = args.y;
    return sky_linear(&r->ctx, &args);
}

/* Outer products, one column of x and weight after the other. */
static void expect_linear(const void *params, double *want)
{
    const linear_params *p = params;
    for (int64_t i = 0; i < p->rows * p->cols; i++) {
        want[i] = p->bias ? op_value(p->bias_type, 3, i % p->cols) : 0.0;
    }
    for (int64_t k = 0; k < p->len; k++) {
        for (int64_t m = 0; m < p->rows; m++) {
            const double x = op_value(p->x, 1, m * p->len + k);
            for (int64_t n = 0; n < p->cols; n++) {
                want[m * p->cols + n] += x * op_value(p->weight, 2, n * p->len + k);
            }
        }
    }
}

TEST(linear_is_a_matrix_product)
{
    static const int64_t sizes[][3] = {
        {1, 1, 1},   {1, 64, 96},   {105, 33, 257}, {128, 64, 64},  {3, 257, 1},
        {7, 512, 5}, {129, 31, 17}, {64, 256, 40},  {260, 48, 130}, {2, 1000, 3},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (int kind = 0; kind < 18 && !test_failed(); kind++) {
            const int types = kind % 3; /* f32, bf16, f32 with a bf16 weight */
            const int bias = kind / 6;  /* none, f32, bf16 */
            const linear_params p = {.x = types == 1 ? SKY_BF16 : SKY_F32,
                                     .weight = types == 0 ? SKY_F32 : SKY_BF16,
                                     .y = kind / 3 % 2 == 1 ? SKY_BF16 : SKY_F32,
                                     .rows = sizes[i][0],
                                     .len = sizes[i][1],
                                     .cols = sizes[i][2],
                                     .bias = bias > 0,
                                     .bias_type = bias == 2 ? SKY_BF16 : SKY_F32};
            if (kind >= 6 && p.rows > 200) {
                continue; /* time */
            }
            test_parameters("M=%d K=%d N=%d x=%s weight=%s y=%s bias=%s", (int)p.rows, (int)p.len, (int)p.cols,
                            sky_dtype_name(p.x), sky_dtype_name(p.weight), sky_dtype_name(p.y),
                            p.bias ? sky_dtype_name(p.bias_type) : "none");
            op_check(&(op_case){run_linear, expect_linear, &p, .sum_len = p.len});
        }
    }
}

/* The bias comes after the sum's rounding to f32 and before the one rounding of the result. */
TEST(linear_by_hand)
{
    for (int b = 0; b < test_num_backends(); b++) {
        rig r;
        CHECK(rig_open(&r, test_backend_at(b), 0, RIG_ARENA_BYTES));
        test_parameters("%s", r.which->name);
        const sky_linear_args args = {
            .y = RIG_OUTPUT(&r, SKY_BF16, 2, 2),
            .x = RIG_VALUES(&r, SKY_F32, ((const float[]){1, 2, 3, 4, 5, 6}), 2, 3),
            .weight = RIG_VALUES(&r, SKY_F32, ((const float[]){1, 0, -1, 2, 2, 2}), 2, 3),
            .bias = RIG_VALUES(&r, SKY_F32, ((const float[]){0.25F, -1.0F + 0x1p-9F}), 2),
        };
        const sky_status st = sky_linear(&r.ctx, &args);
        float *y = rig_read(&r, &args.y);
        rig_close(&r);
        EXPECT(st == SKY_OK);
        EXPECT(y[0] == -1.75F && y[1] == 11.0F && y[2] == -1.75F && y[3] == 29.0F);
        free(y);
    }
}

/* Bytes: rows cut anywhere at multiples of 128, and any number of rows, give the bytes of the whole. */
static void check_pieces(const test_backend *which, sky_dtype dtype, int64_t len, int64_t cols)
{
    enum { ROWS = 300 };
    rig r;
    CHECK(rig_open(&r, which, 0, RIG_ARENA_BYTES));
    const size_t row_bytes = (size_t)cols * sky_dtype_bytes(dtype);
    sky_linear_args args = {
        .y = RIG_OUTPUT(&r, dtype, ROWS, cols),
        .x = RIG_INPUT(&r, dtype, 1, ROWS, len),
        .weight = RIG_INPUT(&r, dtype, 2, cols, len),
        .bias = RIG_INPUT(&r, SKY_F32, 3, cols),
    };
    const sky_tensor x = args.x;
    bool ok = sky_linear(&r.ctx, &args) == SKY_OK;
    unsigned char *whole = rig_read_bytes(&r, &args.y);
    const sky_tensor out = RIG_OUTPUT(&r, dtype, ROWS, cols);
    for (int64_t first = 0; first < ROWS && ok; first += SKY_LINEAR_PIECE_ROWS) {
        for (int64_t rows = 1; rows <= ROWS - first && ok; rows++) {
            if (first > 0 && rows % 7 != 1 && first + rows != ROWS) {
                continue; /* time */
            }
            args.x = sky_tensor_rows(&x, first, rows);
            args.y = sky_tensor_rows(&out, 0, rows);
            ok = sky_linear(&r.ctx, &args) == SKY_OK;
            unsigned char *part = rig_read_bytes(&r, &args.y);
            if (ok && memcmp(part, whole + (size_t)first * row_bytes, (size_t)rows * row_bytes) != 0) {
                test_fail(__FILE__, __LINE__, "%s: K=%d N=%d %s: rows %d to %d differ from those of %d rows",
                          which->name, (int)len, (int)cols, sky_dtype_name(dtype), (int)first, (int)(first + rows),
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

TEST(linear_rows_do_not_depend_on_their_number)
{
    for (int b = 0; b < test_num_backends(); b++) {
        check_pieces(test_backend_at(b), SKY_F32, 65, 37);
        check_pieces(test_backend_at(b), SKY_BF16, 40, 24);
        check_pieces(test_backend_at(b), SKY_F32, 300, 7);
    }
}

TEST(linear_without_rows)
{
    rig r;
    CHECK(rig_open(&r, test_backend_at(0), 0, RIG_ARENA_BYTES));
    const sky_linear_args args = {
        .y = SKY_TENSOR(NULL, SKY_F32, 0, 4),
        .x = SKY_TENSOR(NULL, SKY_F32, 0, 3),
        .weight = RIG_INPUT(&r, SKY_F32, 2, 4, 3),
    };
    EXPECT(sky_linear(&r.ctx, &args) == SKY_OK);
    rig_close(&r);
}

TEST(linear_refuses)
{
    static float memory[4][64];
    rig r;
    CHECK(rig_open(&r, test_backend_at(0), 0, RIG_ARENA_BYTES));
    const sky_linear_args good = {
        .y = SKY_TENSOR(memory[0], SKY_F32, 3, 7),
        .x = SKY_TENSOR(memory[1], SKY_F32, 3, 5),
        .weight = SKY_TENSOR(memory[2], SKY_F32, 7, 5),
        .bias = SKY_TENSOR(memory[3], SKY_F32, 7),
    };
    CHECK_OK(sky_linear(&r.ctx, &good));
    sky_linear_args bad = good;
    bad.weight = SKY_TENSOR(memory[2], SKY_F32, 7, 6);
    CHECK_STATUS(sky_linear(&r.ctx, &bad), SKY_ERR_SHAPE);
    EXPECT(strcmp(sky_message(), "linear: x is [3, 5] f32, weight [7, 6] f32: columns disagree") == 0);
    bad = good;
    bad.y = SKY_TENSOR(memory[0], SKY_F32, 4, 7);
    CHECK_STATUS(sky_linear(&r.ctx, &bad), SKY_ERR_SHAPE);
    bad = good;
    bad.y = SKY_TENSOR(memory[0], SKY_F32, 3, 6);
    CHECK_STATUS(sky_linear(&r.ctx, &bad), SKY_ERR_SHAPE);
    bad = good;
    bad.bias = SKY_TENSOR(memory[3], SKY_F32, 6);
    CHECK_STATUS(sky_linear(&r.ctx, &bad), SKY_ERR_SHAPE);
    bad = good;
    bad.x = SKY_TENSOR(memory[1], SKY_F32, 3, 0);
    bad.weight = SKY_TENSOR(memory[2], SKY_F32, 7, 0);
    CHECK_STATUS(sky_linear(&r.ctx, &bad), SKY_ERR_SHAPE);
    bad = good;
    bad.x = SKY_TENSOR(memory[1], SKY_F32, 3, 5, 1);
    CHECK_STATUS(sky_linear(&r.ctx, &bad), SKY_ERR_SHAPE);
    bad = good;
    bad.weight.data = NULL;
    CHECK_STATUS(sky_linear(&r.ctx, &bad), SKY_ERR_SHAPE);
    bad = good;
    bad.x.dtype = SKY_BF16;
    CHECK_STATUS(sky_linear(&r.ctx, &bad), SKY_ERR_DTYPE);
    bad = good;
    bad.bias.dtype = SKY_I32;
    CHECK_STATUS(sky_linear(&r.ctx, &bad), SKY_ERR_DTYPE);
    bad = good;
    bad.y.dtype = SKY_F16;
    CHECK_STATUS(sky_linear(&r.ctx, &bad), SKY_ERR_DTYPE);
    EXPECT(strcmp(sky_message(), "linear: y is [3, 7] f16: want f32 or bf16") == 0);
    bad = good;
    bad.y.data = memory[1] + 14; /* x's last element */
    CHECK_STATUS(sky_linear(&r.ctx, &bad), SKY_ERR_INTERNAL);
    bad = good;
    bad.y.data = memory[1] + 15; /* behind it */
    CHECK_OK(sky_linear(&r.ctx, &bad));
    rig_close(&r);
}

TEST_MAIN
