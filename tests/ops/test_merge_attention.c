#include "ops/rig.h"

#include "support/compare.h"
#include "support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct merge_params {
    int64_t queries, heads, dim;
    bool want_lse; /* which of the outputs is looked at */
} merge_params;

/* Some rows with much the larger weight on either side. */
static double lse_value(uint64_t seed, int64_t i)
{
    const double x = op_value(SKY_F32, seed, i);
    return (double)(float)(i % 5 == 0 ? 40.0 * x : x);
}

static sky_tensor lse_input(rig *r, uint64_t seed, const merge_params *p)
{
    float values[512];
    SKY_ASSERT(p->queries * p->heads <= 512);
    for (int64_t i = 0; i < p->queries * p->heads; i++) {
        values[i] = (float)lse_value(seed, i);
    }
    return RIG_VALUES(r, SKY_F32, values, p->queries, p->heads);
}

static sky_status run_merge(rig *r, const void *params, sky_tensor *out)
{
    const merge_params *p = params;
    const sky_merge_attention_args args = {
        .y = RIG_INPUT(r, SKY_F32, 1, p->queries, p->heads, p->dim),
        .lse = lse_input(r, 2, p),
        .other = RIG_INPUT(r, SKY_F32, 3, p->queries, p->heads, p->dim),
        .other_lse = lse_input(r, 4, p),
    };
    *out = p->want_lse ? args.lse : args.y;
    rig_may_change(r, &args.y);
    rig_may_change(r, &args.lse);
    return sky_merge_attention(&r->ctx, &args);
}

/* With the weight of the other as a logistic function of the difference: no maximum is taken off. */
static void expect_merge(const void *params, double *want)
{
    const merge_params *p = params;
    for (int64_t row = 0; row < p->queries * p->heads; row++) {
        const double difference = lse_value(4, row) - lse_value(2, row);
        if (p->want_lse) {
            want[row] = log(exp(lse_value(2, row)) + exp(lse_value(4, row)));
            continue;
        }
        for (int64_t i = row * p->dim; i < (row + 1) * p->dim; i++) {
            want[i] =
                op_value(SKY_F32, 1, i) / (1.0 + exp(difference)) + op_value(SKY_F32, 3, i) / (1.0 + exp(-difference));
        }
    }
}

TEST(merging_weighs_by_the_sums_of_exponentials)
{
    static const int64_t shapes[][3] = {{1, 1, 1}, {3, 2, 5}, {64, 2, 32}, {33, 5, 128}, {130, 1, 33}, {7, 1, 700}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        for (int kind = 0; kind < 2 && !test_failed(); kind++) {
            const merge_params p = {shapes[i][0], shapes[i][1], shapes[i][2], kind == 1};
            test_parameters("S=%d N=%d D=%d %s", (int)p.queries, (int)p.heads, (int)p.dim, kind ? "lse" : "y");
            op_check(&(op_case){run_merge, expect_merge, &p, .sum_len = 2, .num_roundings = 2});
        }
    }
}

/* Weights 1/4 and 3/4, as of one key with score 0 and one with score ln 3. */
TEST(merge_attention_by_hand)
{
    const float ln3 = 1.09861229F;
    for (int b = 0; b < test_num_backends(); b++) {
        rig r;
        CHECK(rig_open(&r, test_backend_at(b), 0, RIG_ARENA_BYTES));
        test_parameters("%s", r.which->name);
        const sky_merge_attention_args args = {
            .y = RIG_VALUES(&r, SKY_F32, ((const float[]){4, 8}), 1, 1, 2),
            .lse = RIG_VALUES(&r, SKY_F32, ((const float[]){1000.0F}), 1, 1),
            .other = RIG_VALUES(&r, SKY_F32, ((const float[]){8, -8}), 1, 1, 2),
            .other_lse = RIG_VALUES(&r, SKY_F32, ((const float[]){1000.0F + ln3}), 1, 1),
        };
        EXPECT(sky_merge_attention(&r.ctx, &args) == SKY_OK);
        float *y = rig_read(&r, &args.y);
        float *lse = rig_read(&r, &args.lse);
        EXPECT(fabsf(y[0] - 7.0F) < 1e-3F && fabsf(y[1] + 4.0F) < 1e-3F); /* lse has steps of 6e-5 up there */
        EXPECT(fabsf(lse[0] - 1000.0F - 2.0F * 0.69314718F) < 1e-3F);
        free(y);
        free(lse);
        rig_close(&r);
    }
}

/* -inf: on the one side, the other, both; the y that goes with it is NaN, as memory that nobody wrote may be. */
TEST(a_set_that_contributes_nothing_changes_nothing)
{
    const float y_of[4] = {NAN, 2.0F, NAN, 4.0F};
    const float lse_of[4] = {-INFINITY, 0.5F, -INFINITY, 100.0F};
    const float other_of[4] = {1.0F, NAN, NAN, 5.0F};
    const float other_lse_of[4] = {-0.25F, -INFINITY, -INFINITY, -300.0F};
    const float want[4] = {1.0F, 2.0F, NAN, 4.0F};
    const float want_lse[4] = {-0.25F, 0.5F, -INFINITY, 100.0F};
    for (int b = 0; b < test_num_backends(); b++) {
        rig r;
        CHECK(rig_open(&r, test_backend_at(b), 0, RIG_ARENA_BYTES));
        const sky_merge_attention_args args = {
            .y = RIG_VALUES(&r, SKY_F32, y_of, 2, 2, 1),
            .lse = RIG_VALUES(&r, SKY_F32, lse_of, 2, 2),
            .other = RIG_VALUES(&r, SKY_F32, other_of, 2, 2, 1),
            .other_lse = RIG_VALUES(&r, SKY_F32, other_lse_of, 2, 2),
        };
        EXPECT(sky_merge_attention(&r.ctx, &args) == SKY_OK);
        float *y = rig_read(&r, &args.y);
        float *lse = rig_read(&r, &args.lse);
        for (int i = 0; i < 4; i++) {
            test_parameters("%s, row %d: got %g, lse %g", r.which->name, i, (double)y[i], (double)lse[i]);
            EXPECT(isnan(want[i]) ? isnan(y[i]) : y[i] == want[i]);
            EXPECT(lse[i] == want_lse[i]);
        }
        free(y);
        free(lse);
        rig_close(&r);
    }
}

TEST(merge_attention_refuses)
{
    static float memory[4][64];
    rig r;
    CHECK(rig_open(&r, test_backend_at(0), 0, RIG_ARENA_BYTES));
    const sky_merge_attention_args good = {.y = SKY_TENSOR(memory[0], SKY_F32, 3, 2, 4),
                                           .lse = SKY_TENSOR(memory[1], SKY_F32, 3, 2),
                                           .other = SKY_TENSOR(memory[2], SKY_F32, 3, 2, 4),
                                           .other_lse = SKY_TENSOR(memory[3], SKY_F32, 3, 2)};
    CHECK_OK(sky_merge_attention(&r.ctx, &good));
#define REFUSES(field, value, want)                                \
    do {                                                           \
        sky_merge_attention_args changed = good;                   \
        changed.field = (value);                                   \
        CHECK_STATUS(sky_merge_attention(&r.ctx, &changed), want); \
    } while (0)
    REFUSES(other, SKY_TENSOR(memory[2], SKY_F32, 3, 4, 2), SKY_ERR_SHAPE);
    REFUSES(other_lse, SKY_TENSOR(memory[3], SKY_F32, 2, 3), SKY_ERR_SHAPE);
    REFUSES(y.dtype, SKY_BF16, SKY_ERR_DTYPE);
    REFUSES(lse.dtype, SKY_BF16, SKY_ERR_DTYPE);
    REFUSES(other.dtype, SKY_BF16, SKY_ERR_DTYPE);
    REFUSES(lse.data, memory[3] + 5, SKY_ERR_INTERNAL);
    REFUSES(lse.data, memory[2] + 23, SKY_ERR_INTERNAL);
    REFUSES(lse.data, memory[0] + 23, SKY_ERR_INTERNAL);
    sky_merge_attention_args bad = good; /* both alike, but not as y */
    bad.lse = SKY_TENSOR(memory[1], SKY_F32, 2, 3);
    bad.other_lse = SKY_TENSOR(memory[3], SKY_F32, 2, 3);
    CHECK_STATUS(sky_merge_attention(&r.ctx, &bad), SKY_ERR_SHAPE);
    const sky_merge_attention_args none = {.y = SKY_TENSOR(NULL, SKY_F32, 0, 2, 4),
                                           .lse = SKY_TENSOR(NULL, SKY_F32, 0, 2),
                                           .other = SKY_TENSOR(NULL, SKY_F32, 0, 2, 4),
                                           .other_lse = SKY_TENSOR(NULL, SKY_F32, 0, 2)};
    CHECK_OK(sky_merge_attention(&r.ctx, &none));
    rig_close(&r);
}

TEST_MAIN
