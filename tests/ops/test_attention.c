#include "ops/rig.h"

#include "support/compare.h"
#include "support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct attention_params {
    sky_dtype dtype;
    int64_t queries, keys, heads, dim;
    bool rel_bias;
    float scale;
} attention_params;

static sky_status run_attention(rig *r, const void *params, sky_tensor *out)
{
    const attention_params *p = params;
    const sky_attention_args args = {
        .y = RIG_OUTPUT(r, p->dtype, p->queries, p->heads, p->dim),
        .q = RIG_INPUT(r, p->dtype, 1, p->queries, p->heads, p->dim),
        .k = RIG_INPUT(r, p->dtype, 2, p->keys, p->heads, p->dim),
        .v = RIG_INPUT(r, p->dtype, 3, p->keys, p->heads, p->dim),
        .rel_bias = p->rel_bias ? RIG_INPUT(r, SKY_F32, 4, p->heads, p->queries + p->keys - 1) : (sky_tensor){0},
        .softmax_scale = p->scale,
    };
    *out = args.y;
    return sky_attention(&r->ctx, &args);
}

/* Each probability is one over the sum of the others' exponentials relative to it; no maximum is taken off. */
static void expect_attention(const void *params, double *want)
{
    const attention_params *p = params;
    const int64_t width = p->heads * p->dim;
    double *score = malloc((size_t)p->keys * sizeof *score);
    SKY_ASSERT(score != NULL);
    for (int64_t s = 0; s < p->queries; s++) {
        for (int64_t n = 0; n < p->heads; n++) {
            double total = 0.0;
            for (int64_t t = 0; t < p->keys; t++) {
                double dot = 0.0;
                for (int64_t d = 0; d < p->dim; d++) {
                    dot += op_value(p->dtype, 1, s * width + n * p->dim + d) *
                           op_value(p->dtype, 2, t * width + n * p->dim + d);
                }
                dot *= (double)p->scale;
                if (p->rel_bias) {
                    dot += op_value(SKY_F32, 4, n * (p->queries + p->keys - 1) + (t - s + p->queries - 1));
                }
                score[t] = exp(dot);
                total += score[t];
            }
            for (int64_t d = 0; d < p->dim; d++) {
                double y = 0.0;
                for (int64_t t = 0; t < p->keys; t++) {
                    y += score[t] * op_value(p->dtype, 3, t * width + n * p->dim + d);
                }
                want[s * width + n * p->dim + d] = y / total;
            }
        }
    }
    free(score);
}

TEST(attention_is_a_weighted_mean_of_values)
{
    static const int64_t shapes[][4] = {
        {1, 1, 1, 1},    {1, 5, 1, 2},     {64, 128, 2, 32},  {65, 129, 1, 16}, {10, 300, 3, 20},
        {33, 7, 2, 128}, {130, 63, 1, 33}, {70, 200, 2, 128}, {3, 130, 2, 80},  {129, 65, 1, 64},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        for (int kind = 0; kind < 4 && !test_failed(); kind++) {
            const attention_params p = {.dtype = kind & 1 ? SKY_BF16 : SKY_F32,
                                        .queries = shapes[i][0],
                                        .keys = shapes[i][1],
                                        .heads = shapes[i][2],
                                        .dim = shapes[i][3],
                                        .rel_bias = (kind & 2) != 0,
                                        .scale = kind & 2 && shapes[i][1] * shapes[i][3] < 10000 ? 1.0F : 0.2F};
            test_parameters("Sq=%d Sk=%d N=%d D=%d %s rel_bias=%d", (int)p.queries, (int)p.keys, (int)p.heads,
                            (int)p.dim, sky_dtype_name(p.dtype), p.rel_bias);
            op_check(&(op_case){run_attention, expect_attention, &p, .sum_len = p.dim + p.keys,
                                .unit_tolerance = p.dtype == SKY_BF16 ? SKY_ATTENTION_UNIT_ERROR : 0.0});
        }
    }
}

/* Two keys, scores 0 and ln 3: weights 1/4 and 3/4. A bias of ln 3 on the first evens them out. */
TEST(attention_by_hand)
{
    for (int b = 0; b < test_num_backends(); b++) {
        rig r;
        CHECK(rig_open(&r, test_backend_at(b), 0, RIG_ARENA_BYTES));
        test_parameters("%s", r.which->name);
        const float ln3 = 1.09861229F;
        sky_attention_args args = {
            .y = RIG_OUTPUT(&r, SKY_F32, 1, 1, 2),
            .q = RIG_VALUES(&r, SKY_F32, ((const float[]){2, 0}), 1, 1, 2),
            .k = RIG_VALUES(&r, SKY_F32, ((const float[]){0, 7, ln3, 9}), 2, 1, 2),
            .v = RIG_VALUES(&r, SKY_F32, ((const float[]){4, 8, 8, -8}), 2, 1, 2),
            .softmax_scale = 0.5F,
        };
        sky_status st = sky_attention(&r.ctx, &args);
        float *y = rig_read(&r, &args.y);
        EXPECT(st == SKY_OK && fabsf(y[0] - 7.0F) < 1e-5F && fabsf(y[1] + 4.0F) < 1e-5F);
        free(y);
        args.rel_bias = RIG_VALUES(&r, SKY_F32, ((const float[]){ln3, 0}), 1, 2);
        st = sky_attention(&r.ctx, &args);
        y = rig_read(&r, &args.y);
        EXPECT(st == SKY_OK && fabsf(y[0] - 6.0F) < 1e-5F && fabsf(y[1]) < 1e-5F);
        free(y);
        rig_close(&r);
    }
}

/* Scores of hundreds must not overflow. */
TEST(attention_with_large_scores)
{
    for (int b = 0; b < test_num_backends(); b++) {
        rig r;
        CHECK(rig_open(&r, test_backend_at(b), 0, RIG_ARENA_BYTES));
        test_parameters("%s", r.which->name);
        const sky_attention_args args = {
            .y = RIG_OUTPUT(&r, SKY_F32, 2, 1, 1),
            .q = RIG_VALUES(&r, SKY_F32, ((const float[]){1, -1}), 2, 1, 1),
            .k = RIG_VALUES(&r, SKY_F32, ((const float[]){-900, 900, 0}), 3, 1, 1),
            .v = RIG_VALUES(&r, SKY_F32, ((const float[]){1, 2, 3}), 3, 1, 1),
            .softmax_scale = 1.0F,
        };
        const sky_status st = sky_attention(&r.ctx, &args);
        float *y = rig_read(&r, &args.y);
        EXPECT(st == SKY_OK && y[0] == 2.0F && y[1] == 1.0F);
        free(y);
        rig_close(&r);
    }
}

/* Bytes: queries cut at multiples of 64, in any number, give the bytes of the whole; so do heads on their own. */
static void check_pieces(const test_backend *which, sky_dtype dtype, bool with_bias)
{
    enum { QUERIES = 200, KEYS = 70, HEADS = 3, DIM = 20, BIAS = QUERIES + KEYS - 1 };
    const size_t row_bytes = (size_t)HEADS * DIM * sky_dtype_bytes(dtype);
    rig r;
    CHECK(rig_open(&r, which, 0, RIG_ARENA_BYTES));
    float bias[HEADS * BIAS];
    test_fill_random(bias, HEADS * BIAS, 4);
    sky_attention_args args = {
        .y = RIG_OUTPUT(&r, dtype, QUERIES, HEADS, DIM),
        .q = RIG_INPUT(&r, dtype, 1, QUERIES, HEADS, DIM),
        .k = RIG_INPUT(&r, dtype, 2, KEYS, HEADS, DIM),
        .v = RIG_INPUT(&r, dtype, 3, KEYS, HEADS, DIM),
        .rel_bias = with_bias ? RIG_VALUES(&r, SKY_F32, bias, HEADS, BIAS) : (sky_tensor){0},
        .softmax_scale = 0.25F,
    };
    const sky_tensor q = args.q;
    const sky_tensor out = RIG_OUTPUT(&r, dtype, QUERIES, HEADS, DIM);
    const sky_tensor bias_room = RIG_OUTPUT(&r, SKY_F32, HEADS, BIAS);
    bool ok = sky_attention(&r.ctx, &args) == SKY_OK;
    unsigned char *whole = rig_read_bytes(&r, &args.y);
    for (int64_t first = 0; first < QUERIES && ok; first += SKY_ATTENTION_PIECE_ROWS) {
        for (int64_t rows = 1; rows <= QUERIES - first && ok; rows += rows % 64 == 0 || rows % 64 == 63 ? 1 : 9) {
            args.q = sky_tensor_rows(&q, first, rows);
            args.y = sky_tensor_rows(&out, 0, rows);
            if (with_bias) { /* entry t - s + rows - 1 is the whole's t - (first + s) + QUERIES - 1 */
                float part[HEADS * BIAS];
                for (int64_t n = 0; n < HEADS; n++) {
                    memcpy(part + n * (rows + KEYS - 1), bias + n * BIAS + QUERIES - first - rows,
                           (size_t)(rows + KEYS - 1) * sizeof(float));
                }
                args.rel_bias = SKY_TENSOR(bias_room.data, SKY_F32, HEADS, rows + KEYS - 1);
                ok = sky_ctx_upload(&r.ctx, &args.rel_bias, part) == SKY_OK;
            }
            ok = ok && sky_attention(&r.ctx, &args) == SKY_OK;
            unsigned char *part = rig_read_bytes(&r, &args.y);
            if (ok && memcmp(part, whole + (size_t)first * row_bytes, (size_t)rows * row_bytes) != 0) {
                test_fail(__FILE__, __LINE__, "%s %s rel_bias=%d: queries %d to %d differ from those of %d",
                          which->name, sky_dtype_name(dtype), with_bias, (int)first, (int)(first + rows), (int)QUERIES);
                ok = false;
            }
            free(part);
        }
    }
    EXPECT(ok);
    free(whole);
    rig_close(&r);
}

TEST(attention_rows_do_not_depend_on_their_number)
{
    for (int b = 0; b < test_num_backends(); b++) {
        for (int kind = 0; kind < 4; kind++) {
            check_pieces(test_backend_at(b), kind & 1 ? SKY_BF16 : SKY_F32, (kind & 2) != 0);
        }
    }
}

static void check_heads(const test_backend *which, sky_dtype dtype)
{
    enum { QUERIES = 70, KEYS = 133, HEADS = 3, DIM = 24, LEN_Q = QUERIES * HEADS * DIM, LEN_K = KEYS * HEADS * DIM };
    static float all[3][LEN_K]; /* q, k, v */
    static float one[3][LEN_K];
    const int64_t lens[] = {QUERIES, KEYS, KEYS};
    rig r;
    CHECK(rig_open(&r, which, 0, RIG_ARENA_BYTES));
    for (int i = 0; i < 3; i++) {
        test_fill_random(all[i], LEN_K, (uint64_t)i);
    }
    sky_attention_args args = {
        .y = RIG_OUTPUT(&r, dtype, QUERIES, HEADS, DIM),
        .q = RIG_VALUES(&r, dtype, all[0], QUERIES, HEADS, DIM),
        .k = RIG_VALUES(&r, dtype, all[1], KEYS, HEADS, DIM),
        .v = RIG_VALUES(&r, dtype, all[2], KEYS, HEADS, DIM),
        .softmax_scale = 0.25F,
    };
    EXPECT(sky_attention(&r.ctx, &args) == SKY_OK);
    float *whole = rig_read(&r, &args.y);
    rig_close(&r);
    for (int64_t n = 0; n < HEADS && !test_failed(); n++) {
        CHECK(rig_open(&r, which, 0, RIG_ARENA_BYTES));
        for (int i = 0; i < 3; i++) {
            for (int64_t s = 0; s < lens[i]; s++) {
                memcpy(one[i] + s * DIM, all[i] + (s * HEADS + n) * DIM, DIM * sizeof(float));
            }
        }
        args.y = RIG_OUTPUT(&r, dtype, QUERIES, 1, DIM);
        args.q = RIG_VALUES(&r, dtype, one[0], QUERIES, 1, DIM);
        args.k = RIG_VALUES(&r, dtype, one[1], KEYS, 1, DIM);
        args.v = RIG_VALUES(&r, dtype, one[2], KEYS, 1, DIM);
        EXPECT(sky_attention(&r.ctx, &args) == SKY_OK);
        float *part = rig_read(&r, &args.y);
        for (int64_t s = 0; s < QUERIES; s++) {
            if (memcmp(part + s * DIM, whole + (s * HEADS + n) * DIM, DIM * sizeof(float)) != 0) {
                test_fail(__FILE__, __LINE__, "%s %s: head %d alone differs at query %d", which->name,
                          sky_dtype_name(dtype), (int)n, (int)s);
                break;
            }
        }
        free(part);
        rig_close(&r);
    }
    free(whole);
}

TEST(attention_heads_do_not_depend_on_each_other)
{
    for (int b = 0; b < test_num_backends(); b++) {
        check_heads(test_backend_at(b), SKY_F32);
        check_heads(test_backend_at(b), SKY_BF16);
    }
}

TEST(attention_refuses)
{
    static float memory[5][256];
    rig r;
    CHECK(rig_open(&r, test_backend_at(0), 0, RIG_ARENA_BYTES));
    const sky_attention_args good = {
        .y = SKY_TENSOR(memory[0], SKY_F32, 3, 2, 4),
        .q = SKY_TENSOR(memory[1], SKY_F32, 3, 2, 4),
        .k = SKY_TENSOR(memory[2], SKY_F32, 5, 2, 4),
        .v = SKY_TENSOR(memory[3], SKY_F32, 5, 2, 4),
        .rel_bias = SKY_TENSOR(memory[4], SKY_F32, 2, 7),
        .softmax_scale = 1.0F,
    };
    CHECK_OK(sky_attention(&r.ctx, &good));
#define REFUSES(field, value, want)                          \
    do {                                                     \
        sky_attention_args changed = good;                   \
        changed.field = (value);                             \
        CHECK_STATUS(sky_attention(&r.ctx, &changed), want); \
    } while (0)
    REFUSES(y, SKY_TENSOR(memory[0], SKY_F32, 2, 2, 4), SKY_ERR_SHAPE);
    REFUSES(q, SKY_TENSOR(memory[1], SKY_F32, 3, 4, 2), SKY_ERR_SHAPE);
    REFUSES(k, SKY_TENSOR(memory[2], SKY_F32, 4, 2, 4), SKY_ERR_SHAPE);
    REFUSES(v, SKY_TENSOR(memory[3], SKY_F32, 5, 2, 3), SKY_ERR_SHAPE);
    REFUSES(rel_bias, SKY_TENSOR(memory[4], SKY_F32, 2, 8), SKY_ERR_SHAPE);
    REFUSES(rel_bias, SKY_TENSOR(memory[4], SKY_F32, 1, 7), SKY_ERR_SHAPE);
    REFUSES(q.dtype, SKY_BF16, SKY_ERR_DTYPE);
    REFUSES(k.dtype, SKY_BF16, SKY_ERR_DTYPE);
    REFUSES(v.dtype, SKY_BF16, SKY_ERR_DTYPE);
    REFUSES(y.dtype, SKY_BF16, SKY_ERR_DTYPE);
    REFUSES(rel_bias.dtype, SKY_BF16, SKY_ERR_DTYPE);
    REFUSES(y.data, memory[1], SKY_ERR_INTERNAL);
    REFUSES(y.data, memory[3] + 39, SKY_ERR_INTERNAL);
    sky_attention_args bad = good;
    bad.k = SKY_TENSOR(memory[2], SKY_F32, 0, 2, 4);
    bad.v = SKY_TENSOR(memory[3], SKY_F32, 0, 2, 4);
    CHECK_STATUS(sky_attention(&r.ctx, &bad), SKY_ERR_SHAPE);
    bad.rel_bias = (sky_tensor){0};
    CHECK_STATUS(sky_attention(&r.ctx, &bad), SKY_ERR_SHAPE);
    bad = good; /* other heads, then another head dim, for k and v alike */
    bad.rel_bias = (sky_tensor){0};
    bad.k = SKY_TENSOR(memory[2], SKY_F32, 5, 4, 4);
    bad.v = SKY_TENSOR(memory[3], SKY_F32, 5, 4, 4);
    CHECK_STATUS(sky_attention(&r.ctx, &bad), SKY_ERR_SHAPE);
    bad.k = SKY_TENSOR(memory[2], SKY_F32, 5, 2, 3);
    bad.v = SKY_TENSOR(memory[3], SKY_F32, 5, 2, 3);
    CHECK_STATUS(sky_attention(&r.ctx, &bad), SKY_ERR_SHAPE);
    bad = good; /* no queries */
    bad.q = SKY_TENSOR(memory[1], SKY_F32, 0, 2, 4);
    bad.y = SKY_TENSOR(memory[0], SKY_F32, 0, 2, 4);
    bad.rel_bias = SKY_TENSOR(memory[4], SKY_F32, 2, 4);
    CHECK_OK(sky_attention(&r.ctx, &bad));
    rig_close(&r);
}

TEST_MAIN
