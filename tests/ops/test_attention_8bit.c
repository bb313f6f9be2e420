#include "ops/rig.h"

#include "support/compare.h"
#include "support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct attention_params {
    sky_dtype y;
    int64_t queries, keys, heads, dim;
    float scale;
    bool mean;
} attention_params;

static int64_t groups(int64_t tokens, int64_t tokens_per_group)
{
    return (tokens + tokens_per_group - 1) / tokens_per_group;
}

/* Scales are positive in the engine; here a score's size is what softmax_scale makes of it. */
static double scale_value(uint64_t seed, int64_t i)
{
    return (double)(1.0F + 0.25F * tanhf(test_random(seed, (uint64_t)i)));
}

static sky_tensor scales(rig *r, uint64_t seed, int64_t rows, int64_t cols)
{
    float *values = malloc((size_t)(rows * cols) * sizeof *values);
    SKY_ASSERT(values != NULL);
    for (int64_t i = 0; i < rows * cols; i++) {
        values[i] = (float)scale_value(seed, i);
    }
    const sky_tensor t = RIG_VALUES(r, SKY_F32, values, rows, cols);
    free(values);
    return t;
}

static sky_attention_8bit_args make_args(rig *r, const attention_params *p)
{
    return (sky_attention_8bit_args){
        .y = RIG_OUTPUT(r, p->y, p->queries, p->heads, p->dim),
        .q = RIG_INPUT(r, SKY_I8, 1, p->queries, p->heads, p->dim),
        .q_scale = scales(r, 2, groups(p->queries, SKY_Q_GROUP_TOKENS), p->heads),
        .k = RIG_INPUT(r, SKY_I8, 3, p->keys, p->heads, p->dim),
        .k_scale = scales(r, 4, groups(p->keys, SKY_K_GROUP_TOKENS), p->heads),
        .v = rig_v_input(r, 5, p->keys, p->heads, p->dim),
        .v_scale = scales(r, 6, p->heads, p->dim),
        .v_mean = p->mean ? RIG_INPUT(r, SKY_F32, 7, p->heads, p->dim) : (sky_tensor){0},
        .softmax_scale = p->scale,
    };
}

static sky_status run_attention(rig *r, const void *params, sky_tensor *out)
{
    const sky_attention_8bit_args args = make_args(r, params);
    *out = args.y;
    return sky_attention_8bit(&r->ctx, &args);
}

/* The nearest multiple of an eighth of the power of two below, but at least of 2^-9. */
static double nearest_e4m3(double x)
{
    const double step = ldexp(1.0, (x < 0x1p-6 ? -6 : ilogb(x)) - 3);
    return rint(x / step) * step;
}

/*
 * In closed form: a key's weight is rounded relative to the largest score of its own and all earlier steps of 256 keys, and
 * moves to the largest of all by an exponential that is not rounded. The denominator sums the rounded ones.
 */
static void expect_row(const attention_params *p, int64_t s, int64_t n, double *z, double *want)
{
    double max = -INFINITY;
    double total = 0.0;
    for (int64_t j = 0; j < p->keys; j++) {
        double product = 0.0;
        for (int64_t d = 0; d < p->dim; d++) {
            product += op_value(SKY_I8, 1, (s * p->heads + n) * p->dim + d) *
                       op_value(SKY_I8, 3, (j * p->heads + n) * p->dim + d);
        }
        z[j] =
            product * (double)p->scale * scale_value(2, s / 64 * p->heads + n) * scale_value(4, j / 128 * p->heads + n);
        max = fmax(max, z[j]);
    }
    for (int64_t d = 0; d < p->dim; d++) {
        want[d] = 0.0;
    }
    double so_far = -INFINITY;
    for (int64_t j = 0; j < p->keys; j++) {
        for (int64_t i = j; j % 256 == 0 && i < j + 256 && i < p->keys; i++) {
            so_far = fmax(so_far, z[i]);
        }
        const double weight = nearest_e4m3(448.0 * exp(z[j] - so_far)) / 448.0 * exp(so_far - max);
        total += weight;
        for (int64_t d = 0; d < p->dim; d++) {
            want[d] += weight * op_value(SKY_F8_E4M3, 5, (j * p->heads + n) * p->dim + d);
        }
    }
    for (int64_t d = 0; d < p->dim; d++) {
        want[d] *= scale_value(6, n * p->dim + d) / total;
        want[d] += p->mean ? op_value(SKY_F32, 7, n * p->dim + d) : 0.0;
    }
}

static void expect_attention(const void *params, double *want)
{
    const attention_params *p = params;
    double *z = malloc((size_t)p->keys * sizeof *z);
    SKY_ASSERT(z != NULL);
    for (int64_t s = 0; s < p->queries; s++) {
        for (int64_t n = 0; n < p->heads; n++) {
            expect_row(p, s, n, z, want + (s * p->heads + n) * p->dim);
        }
    }
    free(z);
}

/*
 * Scores of a few units, so that weights use the whole range of e4m3, and of dozens. A weight close to the middle of two
 * codes may fall to either side, a sixteenth of itself: hence a tolerance for all elements together, 2e-4 where the
 * golden values have 2e-3 (PyTorch's exponentials).
 */
TEST(attention_8bit_is_softmax_of_codes)
{
    static const int64_t shapes[][4] = {
        {1, 1, 1, 1},    {1, 5, 1, 2},     {64, 128, 2, 32},  {65, 129, 1, 16}, {10, 300, 3, 20},
        {33, 7, 2, 128}, {130, 63, 1, 33}, {70, 513, 1, 64},  {3, 256, 2, 16},  {3, 257, 1, 16},
        {2, 190, 1, 8},  {2, 193, 1, 8},   {70, 700, 2, 128},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        for (int kind = 0; kind < 8 && !test_failed(); kind++) {
            const attention_params p = {.y = kind & 1 ? SKY_BF16 : SKY_F32,
                                        .queries = shapes[i][0],
                                        .keys = shapes[i][1],
                                        .heads = shapes[i][2],
                                        .dim = shapes[i][3],
                                        .mean = (kind & 4) != 0,
                                        .scale = (kind & 2 ? 10.0F : 1.5F) / 2500.0F / sqrtf((float)shapes[i][3])};
            test_parameters("Sq=%d Sk=%d N=%d D=%d to %s, scale %g%s", (int)p.queries, (int)p.keys, (int)p.heads,
                            (int)p.dim, sky_dtype_name(p.y), (double)p.scale, p.mean ? ", V's mean added" : "");
            op_check(&(op_case){run_attention, expect_attention, &p, .sum_len = p.dim + p.keys, .tolerance = 2e-4,
                                .unit_tolerance = SKY_ATTENTION_8BIT_UNIT_ERROR});
        }
    }
}

/* Two keys, scores 0 and ln 3: weights 448 / 3, which becomes 144, and 448. */
TEST(attention_8bit_by_hand)
{
    for (int b = 0; b < test_num_backends(); b++) {
        rig r;
        CHECK(rig_open(&r, test_backend_at(b), 0, RIG_ARENA_BYTES));
        test_parameters("%s", r.which->name);
        const float ln3 = 1.09861229F;
        const sky_attention_8bit_args args = {
            .y = RIG_OUTPUT(&r, SKY_F32, 1, 1, 2),
            .q = RIG_VALUES(&r, SKY_I8, ((const float[]){2, 0}), 1, 1, 2),
            .q_scale = RIG_VALUES(&r, SKY_F32, ((const float[]){0.5F}), 1, 1),
            .k = RIG_VALUES(&r, SKY_I8, ((const float[]){0, 7, 3, 9}), 2, 1, 2),
            .k_scale = RIG_VALUES(&r, SKY_F32, ((const float[]){2.0F}), 1, 1),
            .v = rig_v_tiles(&r, (const float[]){4, 8, 8, -8}, 2, 1, 2),
            .v_scale = RIG_VALUES(&r, SKY_F32, ((const float[]){1.0F, 10.0F}), 1, 2),
            .softmax_scale = ln3 / 6.0F,
        };
        const sky_status st = sky_attention_8bit(&r.ctx, &args);
        float *y = rig_read(&r, &args.y);
        EXPECT(st == SKY_OK && fabsf(y[0] - (4.0F * 144.0F + 8.0F * 448.0F) / 592.0F) < 1e-5F &&
               fabsf(y[1] - 10.0F * (8.0F * 144.0F - 8.0F * 448.0F) / 592.0F) < 1e-4F);
        free(y);
        rig_close(&r);
    }
}

/* A later step's much larger score leaves nothing of the earlier ones; scores of thousands must not overflow. */
TEST(attention_8bit_with_large_scores)
{
    enum { KEYS = 300 };
    int8_t k[KEYS] = {0};
    float v[KEYS];
    for (int j = 0; j < KEYS; j++) {
        v[j] = 1.0F;
    }
    k[5] = -127;
    v[5] = 3.0F;
    k[290] = 127;
    v[290] = 2.0F;
    for (int b = 0; b < test_num_backends(); b++) {
        rig r;
        CHECK(rig_open(&r, test_backend_at(b), 0, RIG_ARENA_BYTES));
        test_parameters("%s", r.which->name);
        const sky_attention_8bit_args args = {
            .y = RIG_OUTPUT(&r, SKY_F32, 2, 1, 1),
            .q = RIG_VALUES(&r, SKY_I8, ((const float[]){127, -127}), 2, 1, 1),
            .q_scale = RIG_VALUES(&r, SKY_F32, ((const float[]){1.0F}), 1, 1),
            .k = RIG_BYTES(&r, SKY_I8, k, KEYS, 1, 1),
            .k_scale = RIG_VALUES(&r, SKY_F32, ((const float[]){1.0F, 1.0F, 1.0F}), 3, 1),
            .v = rig_v_tiles(&r, v, KEYS, 1, 1),
            .v_scale = RIG_VALUES(&r, SKY_F32, ((const float[]){1.0F}), 1, 1),
            .softmax_scale = 1.0F,
        };
        const sky_status st = sky_attention_8bit(&r.ctx, &args);
        float *y = rig_read(&r, &args.y);
        EXPECT(st == SKY_OK && y[0] == 2.0F && y[1] == 3.0F);
        free(y);
        rig_close(&r);
    }
}

/* Bytes: queries cut at multiples of 64, in any number, give the bytes of the whole. */
static void check_pieces(const test_backend *which, sky_dtype dtype)
{
    const attention_params p = {.y = dtype, .queries = 200, .keys = 150, .heads = 3, .dim = 20, .scale = 2e-4F};
    const size_t row_bytes = (size_t)(p.heads * p.dim) * sky_dtype_bytes(dtype);
    rig r;
    CHECK(rig_open(&r, which, 0, RIG_ARENA_BYTES));
    sky_attention_8bit_args args = make_args(&r, &p);
    const sky_tensor q = args.q;
    const sky_tensor q_scale = args.q_scale;
    const sky_tensor out = RIG_OUTPUT(&r, dtype, p.queries, p.heads, p.dim);
    bool ok = sky_attention_8bit(&r.ctx, &args) == SKY_OK;
    unsigned char *whole = rig_read_bytes(&r, &args.y);
    for (int64_t first = 0; first < p.queries && ok; first += SKY_Q_GROUP_TOKENS) {
        for (int64_t rows = 1; rows <= p.queries - first && ok; rows += rows % 64 == 0 || rows % 64 == 63 ? 1 : 9) {
            args.q = sky_tensor_rows(&q, first, rows);
            args.q_scale = sky_tensor_rows(&q_scale, first / SKY_Q_GROUP_TOKENS, groups(rows, SKY_Q_GROUP_TOKENS));
            args.y = sky_tensor_rows(&out, 0, rows);
            ok = sky_attention_8bit(&r.ctx, &args) == SKY_OK;
            unsigned char *part = rig_read_bytes(&r, &args.y);
            if (ok && memcmp(part, whole + (size_t)first * row_bytes, (size_t)rows * row_bytes) != 0) {
                test_fail(__FILE__, __LINE__, "%s %s: queries %d to %d differ from those of %d", which->name,
                          sky_dtype_name(dtype), (int)first, (int)(first + rows), (int)p.queries);
                ok = false;
            }
            free(part);
        }
    }
    EXPECT(ok);
    free(whole);
    rig_close(&r);
}

TEST(attention_8bit_rows_do_not_depend_on_their_number)
{
    for (int b = 0; b < test_num_backends(); b++) {
        check_pieces(test_backend_at(b), SKY_F32);
        check_pieces(test_backend_at(b), SKY_BF16);
    }
}

/* Head n of [tokens, heads, len] elements of size bytes. */
static void take_head(void *to, const void *from, int64_t tokens, int64_t heads, int64_t n, int64_t bytes)
{
    for (int64_t s = 0; s < tokens; s++) {
        memcpy((unsigned char *)to + s * bytes, (const unsigned char *)from + (s * heads + n) * bytes, (size_t)bytes);
    }
}

/* One tensor of the whole, [tokens, heads, ...], its head n alone, as an input of another rig. */
static sky_tensor head_of(rig *to, rig *from, const sky_tensor *t, int64_t n)
{
    sky_tensor alone = *t;
    alone.shape[1] = 1;
    const int64_t len = sky_tensor_len(&alone) / t->shape[0];
    unsigned char *all = rig_read_bytes(from, t);
    unsigned char *one = malloc(sky_tensor_bytes(t));
    SKY_ASSERT(one != NULL);
    take_head(one, all, t->shape[0], t->shape[1], n, len * (int64_t)sky_dtype_bytes(t->dtype));
    const sky_tensor out = rig_bytes(to, t->dtype, one, t->num_dims, alone.shape);
    free(all);
    free(one);
    return out;
}

static void check_heads(const test_backend *which)
{
    const attention_params p = {.y = SKY_F32, .queries = 70, .keys = 133, .heads = 3, .dim = 24, .scale = 2e-4F};
    rig r;
    CHECK(rig_open(&r, which, 0, RIG_ARENA_BYTES));
    const sky_attention_8bit_args all = make_args(&r, &p);
    EXPECT(sky_attention_8bit(&r.ctx, &all) == SKY_OK);
    float *whole = rig_read(&r, &all.y);
    float *v_scale = rig_read(&r, &all.v_scale);
    for (int64_t n = 0; n < p.heads && !test_failed(); n++) {
        rig alone;
        if (!rig_open(&alone, which, 0, RIG_ARENA_BYTES)) {
            break;
        }
        const sky_attention_8bit_args args = {
            .y = RIG_OUTPUT(&alone, SKY_F32, p.queries, 1, p.dim),
            .q = head_of(&alone, &r, &all.q, n),
            .q_scale = head_of(&alone, &r, &all.q_scale, n),
            .k = head_of(&alone, &r, &all.k, n),
            .k_scale = head_of(&alone, &r, &all.k_scale, n),
            .v = head_of(&alone, &r, &all.v, n),
            .v_scale = RIG_VALUES(&alone, SKY_F32, v_scale + n * p.dim, 1, p.dim),
            .softmax_scale = p.scale,
        };
        EXPECT(sky_attention_8bit(&alone.ctx, &args) == SKY_OK);
        float *part = rig_read(&alone, &args.y);
        for (int64_t s = 0; s < p.queries; s++) {
            if (memcmp(part + s * p.dim, whole + (s * p.heads + n) * p.dim, (size_t)p.dim * sizeof(float)) != 0) {
                test_fail(__FILE__, __LINE__, "%s: head %d alone differs at query %d", which->name, (int)n, (int)s);
                break;
            }
        }
        free(part);
        rig_close(&alone);
    }
    free(whole);
    free(v_scale);
    rig_close(&r);
}

TEST(attention_8bit_heads_do_not_depend_on_each_other)
{
    for (int b = 0; b < test_num_backends(); b++) {
        check_heads(test_backend_at(b));
    }
}

TEST(attention_8bit_refuses)
{
    static float memory[7][256];
    rig r;
    CHECK(rig_open(&r, test_backend_at(0), 0, RIG_ARENA_BYTES));
    const sky_attention_8bit_args good = {
        .y = SKY_TENSOR(memory[0], SKY_F32, 65, 2, 1),
        .q = SKY_TENSOR(memory[1], SKY_I8, 65, 2, 1),
        .q_scale = SKY_TENSOR(memory[2], SKY_F32, 2, 2),
        .k = SKY_TENSOR(memory[3], SKY_I8, 129, 2, 1),
        .k_scale = SKY_TENSOR(memory[4], SKY_F32, 2, 2),
        .v = SKY_TENSOR(memory[5], SKY_F8_E4M3, 2, 2, 1, 128),
        .v_scale = SKY_TENSOR(memory[6], SKY_F32, 2, 1),
        .softmax_scale = 1.0F,
    };
    CHECK_OK(sky_attention_8bit(&r.ctx, &good));
#define REFUSES(field, value, want)                               \
    do {                                                          \
        sky_attention_8bit_args changed = good;                   \
        changed.field = (value);                                  \
        CHECK_STATUS(sky_attention_8bit(&r.ctx, &changed), want); \
    } while (0)
    REFUSES(y, SKY_TENSOR(memory[0], SKY_F32, 64, 2, 1), SKY_ERR_SHAPE);
    REFUSES(q, SKY_TENSOR(memory[1], SKY_I8, 65, 1, 2), SKY_ERR_SHAPE);
    REFUSES(q_scale, SKY_TENSOR(memory[2], SKY_F32, 1, 2), SKY_ERR_SHAPE);
    REFUSES(q_scale, SKY_TENSOR(memory[2], SKY_F32, 2, 1), SKY_ERR_SHAPE);
    REFUSES(k, SKY_TENSOR(memory[3], SKY_I8, 128, 2, 1), SKY_ERR_SHAPE);
    REFUSES(k_scale, SKY_TENSOR(memory[4], SKY_F32, 3, 2), SKY_ERR_SHAPE);
    REFUSES(k_scale, SKY_TENSOR(memory[4], SKY_F32, 2, 1), SKY_ERR_SHAPE);
    REFUSES(v, SKY_TENSOR(memory[5], SKY_F8_E4M3, 1, 2, 1, 128), SKY_ERR_SHAPE);
    REFUSES(v, SKY_TENSOR(memory[5], SKY_F8_E4M3, 3, 2, 1, 128), SKY_ERR_SHAPE);
    REFUSES(v, SKY_TENSOR(memory[5], SKY_F8_E4M3, 2, 1, 2, 128), SKY_ERR_SHAPE);
    REFUSES(v, SKY_TENSOR(memory[5], SKY_F8_E4M3, 2, 2, 1, 64), SKY_ERR_SHAPE);
    REFUSES(v_scale, SKY_TENSOR(memory[6], SKY_F32, 1, 2), SKY_ERR_SHAPE);
    REFUSES(v_mean, SKY_TENSOR(memory[6], SKY_F32, 1, 2), SKY_ERR_SHAPE);
    REFUSES(v_mean, SKY_TENSOR(memory[6], SKY_BF16, 2, 1), SKY_ERR_DTYPE);
    REFUSES(v_mean, SKY_TENSOR(memory[0], SKY_F32, 2, 1), SKY_ERR_INTERNAL);
    REFUSES(y.dtype, SKY_I8, SKY_ERR_DTYPE);
    REFUSES(q.dtype, SKY_F8_E4M3, SKY_ERR_DTYPE);
    REFUSES(k.dtype, SKY_F8_E4M3, SKY_ERR_DTYPE);
    REFUSES(v.dtype, SKY_I8, SKY_ERR_DTYPE);
    REFUSES(q_scale.dtype, SKY_BF16, SKY_ERR_DTYPE);
    REFUSES(y.data, memory[2], SKY_ERR_INTERNAL);
    sky_attention_8bit_args bad = good; /* other heads or head dims for k and v alike; no keys; no queries */
    bad.k = SKY_TENSOR(memory[3], SKY_I8, 129, 1, 1);
    bad.v = SKY_TENSOR(memory[5], SKY_F8_E4M3, 2, 1, 1, 128);
    CHECK_STATUS(sky_attention_8bit(&r.ctx, &bad), SKY_ERR_SHAPE);
    bad.k = SKY_TENSOR(memory[3], SKY_I8, 129, 2, 2);
    bad.v = SKY_TENSOR(memory[5], SKY_F8_E4M3, 2, 2, 2, 128);
    CHECK_STATUS(sky_attention_8bit(&r.ctx, &bad), SKY_ERR_SHAPE);
    bad = good;
    bad.k = SKY_TENSOR(memory[3], SKY_I8, 0, 2, 1);
    bad.k_scale = SKY_TENSOR(memory[4], SKY_F32, 0, 2);
    bad.v = SKY_TENSOR(memory[5], SKY_F8_E4M3, 0, 2, 1, 128);
    CHECK_STATUS(sky_attention_8bit(&r.ctx, &bad), SKY_ERR_SHAPE);
    bad = good;
    bad.q = SKY_TENSOR(memory[1], SKY_I8, 0, 2, 1);
    bad.q_scale = SKY_TENSOR(memory[2], SKY_F32, 0, 2);
    bad.y = SKY_TENSOR(memory[0], SKY_F32, 0, 2, 1);
    CHECK_OK(sky_attention_8bit(&r.ctx, &bad));
    rig_close(&r);
}

TEST_MAIN
