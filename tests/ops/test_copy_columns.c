#include "ops/rig.h"

#include "support/test.h"

#include <stdlib.h>
#include <string.h>

static unsigned char byte_at(int64_t i)
{
    return (unsigned char)(i * 7 + i / 251);
}

static sky_tensor filled(rig *r, sky_dtype dtype, int64_t rows, int64_t cols)
{
    const size_t bytes = (size_t)(rows * cols) * sky_dtype_bytes(dtype);
    unsigned char *body = malloc(bytes + 1);
    SKY_ASSERT(body != NULL);
    for (size_t i = 0; i < bytes; i++) {
        body[i] = byte_at((int64_t)i);
    }
    const sky_tensor t = RIG_BYTES(r, dtype, body, rows, cols);
    free(body);
    return t;
}

typedef struct copy_params {
    int64_t rows, x_cols, y_cols, x_first, y_first, num_columns;
} copy_params;

/* Outputs begin as bytes 0xff, which is what must be left outside the columns. */
static void check_copy(const test_backend *which, int64_t skew, sky_dtype dtype, const copy_params *p)
{
    rig r;
    CHECK(rig_open(&r, which, skew, RIG_ARENA_BYTES));
    const int64_t size = (int64_t)sky_dtype_bytes(dtype);
    const sky_copy_columns_args args = {
        .y = RIG_OUTPUT(&r, dtype, p->rows, p->y_cols),
        .x = filled(&r, dtype, p->rows, p->x_cols),
        .y_first = p->y_first,
        .x_first = p->x_first,
        .num_columns = p->num_columns,
    };
    EXPECT(sky_copy_columns(&r.ctx, &args) == SKY_OK && sky_ctx_sync(&r.ctx) == SKY_OK);
    rig_check(&r);
    unsigned char *y = rig_read_bytes(&r, &args.y);
    for (int64_t i = 0; i < p->rows * p->y_cols * size && !test_failed(); i++) {
        const int64_t row = i / (p->y_cols * size);
        const int64_t within = i % (p->y_cols * size) - p->y_first * size;
        const bool copied = within >= 0 && within < p->num_columns * size;
        const unsigned char want = copied ? byte_at((row * p->x_cols + p->x_first) * size + within) : 0xff;
        if (y[i] != want) {
            test_fail(__FILE__, __LINE__, "%s: byte %lld is %d, want %d", which->name, (long long)i, y[i], want);
        }
    }
    free(y);
    rig_close(&r);
}

TEST(columns_arrive_and_others_stay)
{
    static const copy_params cases[] = {
        {1, 1, 1, 0, 0, 1},   {5, 7, 7, 0, 0, 7},   {5, 12, 4, 8, 0, 4},      {5, 4, 12, 0, 4, 4},
        {33, 9, 10, 3, 2, 5}, {3, 6, 8, 6, 8, 0},   {0, 6, 8, 1, 1, 3},       {2, 0, 3, 0, 1, 0},
        {4, 3, 3, 0, 0, 0},   {700, 5, 3, 2, 0, 3}, {130, 96, 24, 48, 0, 24},
    };
    for (int b = 0; b < test_num_backends(); b++) {
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            for (int dtype = 0; dtype < SKY_DTYPE_COUNT && !test_failed(); dtype++) {
                const copy_params *p = &cases[i];
                test_parameters("rows=%d x_cols=%d y_cols=%d x_first=%d y_first=%d num_columns=%d %s", (int)p->rows,
                                (int)p->x_cols, (int)p->y_cols, (int)p->x_first, (int)p->y_first, (int)p->num_columns,
                                sky_dtype_name((sky_dtype)dtype));
                check_copy(test_backend_at(b), i % 2, (sky_dtype)dtype, p);
            }
        }
    }
}

/* Rows of megabytes, as frames are: a row is shared out as well, and its last part is shorter. */
TEST(long_rows_are_copied_whole)
{
    static const copy_params cases[] = {
        {2, 300001, 200003, 99998, 0, 200003}, {1, 262144, 262144, 0, 0, 262144}, {3, 65537, 70000, 0, 4463, 65537}};
    for (int b = 0; b < test_num_backends(); b++) {
        for (size_t i = 0; i < sizeof cases / sizeof cases[0] && !test_failed(); i++) {
            check_copy(test_backend_at(b), 0, SKY_F32, &cases[i]);
            check_copy(test_backend_at(b), 1, SKY_I8, &cases[i]);
        }
    }
}

TEST(copy_columns_refuses)
{
    static float memory[2][64];
    rig r;
    CHECK(rig_open(&r, test_backend_at(0), 0, RIG_ARENA_BYTES));
    const sky_copy_columns_args good = {.y = SKY_TENSOR(memory[0], SKY_F32, 5, 6),
                                        .x = SKY_TENSOR(memory[1], SKY_F32, 5, 8),
                                        .y_first = 2,
                                        .x_first = 4,
                                        .num_columns = 4};
    CHECK_OK(sky_copy_columns(&r.ctx, &good));
#define REFUSES(field, value, want)                             \
    do {                                                        \
        sky_copy_columns_args changed = good;                   \
        changed.field = (value);                                \
        CHECK_STATUS(sky_copy_columns(&r.ctx, &changed), want); \
    } while (0)
    REFUSES(y_first, 3, SKY_ERR_SHAPE);
    REFUSES(y_first, -1, SKY_ERR_SHAPE);
    REFUSES(y_first, INT64_MAX, SKY_ERR_SHAPE);
    REFUSES(x_first, 5, SKY_ERR_SHAPE);
    EXPECT(strcmp(sky_message(), "copy_columns: x is [5, 8] f32: it has no 4 columns from x_first 5 on") == 0);
    REFUSES(x_first, -1, SKY_ERR_SHAPE);
    REFUSES(num_columns, 5, SKY_ERR_SHAPE);
    REFUSES(num_columns, -1, SKY_ERR_SHAPE);
    REFUSES(num_columns, INT64_MAX, SKY_ERR_SHAPE);
    REFUSES(x, SKY_TENSOR(memory[1], SKY_F32, 4, 8), SKY_ERR_SHAPE);
    REFUSES(y, SKY_TENSOR(memory[0], SKY_F32, 6, 6), SKY_ERR_SHAPE);
    REFUSES(x.dtype, SKY_I32, SKY_ERR_DTYPE);
    REFUSES(y.data, memory[1], SKY_ERR_INTERNAL);
    rig_close(&r);
}

TEST_MAIN
