/* timestep_embedding and hash_rows. */
#include "base/hash.h"
#include "ops/rig.h"

#include "support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct embedding_params {
    sky_dtype y;
    int64_t rows, dim;
} embedding_params;

static float timestep_at(int64_t row)
{
    static const float steps[] = {999.0F, 0.0F, 37.5F, 1.0F};
    return steps[row % 4];
}

static sky_status run_embedding(rig *r, const void *params, sky_tensor *out)
{
    const embedding_params *p = params;
    float timesteps[8];
    for (int64_t i = 0; i < p->rows; i++) {
        timesteps[i] = timestep_at(i);
    }
    *out = RIG_OUTPUT(r, p->y, p->rows, p->dim);
    return sky_timestep_embedding(
        &r->ctx, &(sky_timestep_embedding_args){.y = *out, .timesteps = RIG_VALUES(r, SKY_F32, timesteps, p->rows)});
}

/* By turning: the angle of column j + 1 is that of column j divided by 10000^(1 / half). */
static void expect_embedding(const void *params, double *want)
{
    const embedding_params *p = params;
    const int64_t half = p->dim / 2;
    for (int64_t r = 0; r < p->rows; r++) {
        double angle = (double)timestep_at(r);
        for (int64_t j = 0; j < half; j++, angle *= exp(-log(10000.0) / (double)half)) {
            want[r * p->dim + j] = sin(angle + acos(0.0));
            want[r * p->dim + half + j] = sin(angle);
        }
    }
}

TEST(timestep_embedding_has_cosines_first)
{
    static const int64_t sizes[][2] = {{1, 2}, {1, 256}, {7, 30}, {3, 1024}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (int y = 0; y < 2 && !test_failed(); y++) {
            const embedding_params p = {y == 0 ? SKY_F32 : SKY_BF16, sizes[i][0], sizes[i][1]};
            test_parameters("rows=%d dim=%d %s", (int)p.rows, (int)p.dim, sky_dtype_name(p.y));
            op_check(&(op_case){run_embedding, expect_embedding, &p, .sum_len = 1});
        }
    }
}

TEST(timestep_embedding_refuses)
{
    static float memory[2][64];
    rig r;
    CHECK(rig_open(&r, test_backend_at(0), 0, RIG_ARENA_BYTES));
    const sky_tensor y = SKY_TENSOR(memory[0], SKY_F32, 3, 4);
    const sky_tensor steps = SKY_TENSOR(memory[1], SKY_F32, 3);
#define REFUSES(want, out, in) \
    CHECK_STATUS(sky_timestep_embedding(&r.ctx, &(sky_timestep_embedding_args){.y = (out), .timesteps = (in)}), want)
    REFUSES(SKY_OK, y, steps);
    REFUSES(SKY_ERR_SHAPE, SKY_TENSOR(memory[0], SKY_F32, 3, 5), steps);
    REFUSES(SKY_ERR_SHAPE, SKY_TENSOR(memory[0], SKY_F32, 3, 0), steps);
    REFUSES(SKY_ERR_SHAPE, SKY_TENSOR(memory[0], SKY_F32, 2, 4), steps);
    REFUSES(SKY_ERR_DTYPE, SKY_TENSOR(memory[0], SKY_I8, 3, 4), steps);
    REFUSES(SKY_ERR_DTYPE, y, SKY_TENSOR(memory[1], SKY_BF16, 3));
    REFUSES(SKY_ERR_INTERNAL, y, SKY_TENSOR(memory[0] + 11, SKY_F32, 3));
    REFUSES(SKY_OK, SKY_TENSOR(NULL, SKY_F32, 0, 4), SKY_TENSOR(NULL, SKY_F32, 0));
#undef REFUSES
    rig_close(&r);
}

/* H as engine/fingerprint.h has described it from the first file on: numbers that stay. */
TEST(hash_keeps_its_numbers)
{
    static const char text[] = "the same bytes give the same number, whoever computes them";
    EXPECT(sky_hash(0, 0, NULL, 0) == UINT64_C(0x0));
    EXPECT(sky_hash(3, 5, text, 1) == UINT64_C(0x3ce58c64e030948d));
    EXPECT(sky_hash(3, 5, text, 31) == UINT64_C(0xaa36e9a0445c11a));
    EXPECT(sky_hash(3, 5, text, sizeof text) == UINT64_C(0x4fb2f758f8ea9d8d));
}

static void check_hash(const test_backend *which, sky_dtype dtype, int64_t rows, int64_t cols, int64_t per_group,
                       int64_t first_group)
{
    const int64_t groups = (rows + per_group - 1) / per_group;
    const size_t row_bytes = (size_t)cols * sky_dtype_bytes(dtype);
    for (int64_t skew = 0; skew < 2; skew++) {
        rig r;
        CHECK(rig_open(&r, which, skew, RIG_ARENA_BYTES));
        test_parameters("%s skew=%d %s rows=%d cols=%d per_group=%d", which->name, (int)skew, sky_dtype_name(dtype),
                        (int)rows, (int)cols, (int)per_group);
        const sky_hash_rows_args args = {.sums = RIG_OUTPUT(&r, SKY_I64, groups),
                                         .x = RIG_INPUT(&r, dtype, 1, rows, cols),
                                         .stage = UINT64_C(0x123456789abcdef0),
                                         .first_row = first_group * per_group,
                                         .rows_per_group = per_group};
        EXPECT(sky_hash_rows(&r.ctx, &args) == SKY_OK);
        EXPECT(rig_check(&r));
        unsigned char *x = rig_read_bytes(&r, &args.x);
        unsigned char *sums = rig_read_bytes(&r, &args.sums);
        for (int64_t i = 0; i < groups && !test_failed(); i++) {
            const int64_t left = rows - i * per_group;
            const size_t bytes = (size_t)(left < per_group ? left : per_group) * row_bytes;
            EXPECT(((const uint64_t *)(const void *)sums)[i] ==
                   sky_hash(args.stage, (uint64_t)(first_group + i), x + (size_t)(i * per_group) * row_bytes, bytes));
        }
        free(x);
        free(sums);
        rig_close(&r);
    }
}

TEST(hash_rows_hashes_each_group)
{
    for (int b = 0; b < test_num_backends() && !test_failed(); b++) {
        check_hash(test_backend_at(b), SKY_F32, 1, 1, 128, 0);
        check_hash(test_backend_at(b), SKY_BF16, 300, 33, 128, 5);
        check_hash(test_backend_at(b), SKY_I8, 7, 5, 2, 1);
        check_hash(test_backend_at(b), SKY_F32, 256, 8, 128, 0);
        check_hash(test_backend_at(b), SKY_BF16, 5, 0, 2, 0);
    }
}

TEST(hash_rows_refuses)
{
    static int64_t memory[2][64];
    rig r;
    CHECK(rig_open(&r, test_backend_at(0), 0, RIG_ARENA_BYTES));
    const sky_tensor sums = SKY_TENSOR(memory[0], SKY_I64, 2);
    const sky_tensor x = SKY_TENSOR(memory[1], SKY_F32, 5, 3);
#define REFUSES(want, out, in, first, per)                                                                             \
    CHECK_STATUS(                                                                                                      \
        sky_hash_rows(&r.ctx,                                                                                          \
                      &(sky_hash_rows_args){.sums = (out), .x = (in), .first_row = (first), .rows_per_group = (per)}), \
        want)
    REFUSES(SKY_OK, sums, x, 6, 3);
    REFUSES(SKY_ERR_SHAPE, sums, x, 5, 3);
    REFUSES(SKY_ERR_SHAPE, sums, x, -3, 3);
    REFUSES(SKY_ERR_SHAPE, sums, x, 0, 0);
    REFUSES(SKY_ERR_SHAPE, sums, x, 0, 2);
    REFUSES(SKY_ERR_SHAPE, sums, x, 0, 5);
    REFUSES(SKY_ERR_SHAPE, sums, SKY_TENSOR(memory[1], SKY_F32, 15), 0, 3);
    REFUSES(SKY_ERR_DTYPE, SKY_TENSOR(memory[0], SKY_F32, 2), x, 0, 3);
    REFUSES(SKY_ERR_INTERNAL, SKY_TENSOR(memory[1] + 7, SKY_I64, 2), x, 0, 3);
    REFUSES(SKY_OK, SKY_TENSOR(NULL, SKY_I64, 0), SKY_TENSOR(NULL, SKY_F32, 0, 3), 0, 3);
#undef REFUSES
    rig_close(&r);
}

TEST_MAIN
