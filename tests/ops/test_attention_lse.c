#include "ops/rig.h"

#include "support/compare.h"
#include "support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/*
 * Attention over sets of keys: what each set says of its sums (lse), and the sets merged. Inputs are random; those of 8 bits
 * are codes whose scores, with the scales here, are a few units.
 */
typedef enum kind { F32, BF16, BF16_TO_F32, EIGHT, NUM_KINDS } kind;

static const char *const kind_names[NUM_KINDS] = {"f32", "bf16", "bf16 to f32", "8-bit"};

typedef struct shape {
    int64_t queries, keys, heads, dim;
} shape;

typedef struct inputs {
    sky_tensor q, k, v, q_scale, k_scale, v_scale;
    float softmax_scale;
} inputs;

static int64_t groups(int64_t tokens, int64_t tokens_per_group)
{
    return (tokens + tokens_per_group - 1) / tokens_per_group;
}

static sky_tensor scales(rig *r, uint64_t seed, int64_t rows, int64_t cols)
{
    float values[512];
    SKY_ASSERT(rows * cols <= 512);
    for (int64_t i = 0; i < rows * cols; i++) {
        values[i] = 0.02F * (1.0F + 0.25F * tanhf(test_random(seed, (uint64_t)i)));
    }
    return RIG_VALUES(r, SKY_F32, values, rows, cols);
}

static inputs make_inputs(rig *r, kind what, shape s)
{
    const sky_dtype dtype = what == F32 ? SKY_F32 : what == EIGHT ? SKY_I8 : SKY_BF16;
    inputs in = {
        .q = RIG_INPUT(r, dtype, 1, s.queries, s.heads, s.dim),
        .k = RIG_INPUT(r, dtype, 2, s.keys, s.heads, s.dim),
        .v = what == EIGHT ? rig_v_input(r, 3, s.keys, s.heads, s.dim) : RIG_INPUT(r, dtype, 3, s.keys, s.heads, s.dim),
        .softmax_scale = 1.5F / sqrtf((float)s.dim),
    };
    if (what == EIGHT) {
        in.q_scale = scales(r, 4, groups(s.queries, SKY_Q_GROUP_TOKENS), s.heads);
        in.k_scale = scales(r, 5, groups(s.keys, SKY_K_GROUP_TOKENS), s.heads);
        in.v_scale = scales(r, 6, s.heads, s.dim);
    }
    return in;
}

/* Attention over keys [first, first + count); first is a multiple of 128. */
static sky_status attend(rig *r, kind what, const inputs *in, int64_t first, int64_t count, sky_tensor y,
                         sky_tensor lse)
{
    const sky_tensor k = sky_tensor_rows(&in->k, first, count);
    const sky_tensor v = what == EIGHT ? sky_tensor_rows(&in->v, first / 128, groups(count, 128))
                                       : sky_tensor_rows(&in->v, first, count);
    if (what != EIGHT) {
        return sky_attention(
            &r->ctx,
            &(sky_attention_args){.y = y, .q = in->q, .k = k, .v = v, .lse = lse, .softmax_scale = in->softmax_scale});
    }
    return sky_attention_8bit(
        &r->ctx, &(sky_attention_8bit_args){.y = y,
                                            .q = in->q,
                                            .q_scale = in->q_scale,
                                            .k = k,
                                            .k_scale = sky_tensor_rows(&in->k_scale, first / SKY_K_GROUP_TOKENS,
                                                                       groups(count, SKY_K_GROUP_TOKENS)),
                                            .v = v,
                                            .v_scale = in->v_scale,
                                            .lse = lse,
                                            .softmax_scale = in->softmax_scale});
}

static sky_dtype output_type(kind what)
{
    return what == BF16 ? SKY_BF16 : SKY_F32;
}

/* Of query row / heads and head row % heads with key t, in f64; the scales are for 8 bits only. */
static double score(kind what, shape s, float softmax_scale, const float *scale_q, const float *scale_k, int64_t row,
                    int64_t t)
{
    const sky_dtype dtype = what == F32 ? SKY_F32 : what == EIGHT ? SKY_I8 : SKY_BF16;
    const int64_t head = row % s.heads;
    double dot = 0.0;
    for (int64_t d = 0; d < s.dim; d++) {
        dot += op_value(dtype, 1, row * s.dim + d) * op_value(dtype, 2, (t * s.heads + head) * s.dim + d);
    }
    if (what == EIGHT) {
        dot *= (double)scale_q[row / s.heads / 64 * s.heads + head] * (double)scale_k[t / 128 * s.heads + head];
    }
    return dot * (double)softmax_scale;
}

static const shape shapes[] = {{1, 1, 1, 1}, {1, 5, 1, 2}, {64, 128, 2, 32}, {65, 129, 1, 16}, {130, 300, 3, 20}};

/* The nearest multiple of an eighth of the power of two below, but at least of 2^-9; *step: from one to the next. */
static double nearest_e4m3(double x, double *step)
{
    *step = ldexp(1.0, (x < 0x1p-6 ? -6 : ilogb(x)) - 3);
    return rint(x / *step) * *step;
}

/*
 * The logarithm of the sum of scores z. In 8 bits of weights rounded as the steps of 256 keys do it, and *doubt is what
 * falling to the other side would change where one is that close to the middle of two codes.
 */
static double lse_of(kind what, const double *z, int64_t keys, double *doubt)
{
    double sum = 0.0;
    double sides = 0.0;
    double so_far = -INFINITY;
    for (int64_t j = 0; j < keys; j++) {
        for (int64_t i = j; j % 256 == 0 && i < j + 256 && i < keys; i++) {
            so_far = fmax(so_far, z[i]);
        }
        const double weight = 448.0 * exp(z[j] - so_far);
        double step;
        const double rounded = nearest_e4m3(weight, &step);
        const double unit = exp(so_far) / 448.0; /* no maximum is taken off in the end */
        sum += what == EIGHT ? rounded * unit : exp(z[j]);
        sides += 0.5 * step - fabs(weight - rounded) < 1e-5 * weight ? step * unit : 0.0;
    }
    *doubt = what == EIGHT ? sides / sum : 0.0;
    return log(sum);
}

/* y keeps its bytes when lse is asked for, and lse is what it should be: off by its own rounding and that of the scores. */
static void check_lse(const test_backend *which, int64_t skew, kind what, shape s)
{
    rig r;
    CHECK(rig_open(&r, which, skew, RIG_ARENA_BYTES));
    const inputs in = make_inputs(&r, what, s);
    const sky_tensor y = RIG_OUTPUT(&r, output_type(what), s.queries, s.heads, s.dim);
    const sky_tensor alone = RIG_OUTPUT(&r, output_type(what), s.queries, s.heads, s.dim);
    const sky_tensor lse = RIG_OUTPUT(&r, SKY_F32, s.queries, s.heads);
    EXPECT(attend(&r, what, &in, 0, s.keys, alone, (sky_tensor){0}) == SKY_OK);
    EXPECT(attend(&r, what, &in, 0, s.keys, y, lse) == SKY_OK && rig_check(&r));
    unsigned char *a = rig_read_bytes(&r, &alone);
    unsigned char *b = rig_read_bytes(&r, &y);
    EXPECT(memcmp(a, b, sky_tensor_bytes(&y)) == 0);
    float *got = rig_read(&r, &lse);
    float *scale_q = what == EIGHT ? rig_read(&r, &in.q_scale) : NULL;
    float *scale_k = what == EIGHT ? rig_read(&r, &in.k_scale) : NULL;
    double *z = malloc((size_t)s.keys * sizeof *z);
    SKY_ASSERT(z != NULL);
    for (int64_t i = 0; i < s.queries * s.heads && !test_failed(); i++) {
        for (int64_t t = 0; t < s.keys; t++) {
            z[t] = score(what, s, in.softmax_scale, scale_q, scale_k, i, t);
        }
        double doubt;
        const double want = lse_of(what, z, s.keys, &doubt);
        if (!(fabs((double)got[i] - want) <= 1e-6 + 3e-7 * fabs(want) + doubt)) {
            test_fail(__FILE__, __LINE__, "%s: lse %lld: got %.9g, want %.9g", which->name, (long long)i,
                      (double)got[i], want);
        }
    }
    free(a);
    free(b);
    free(z);
    free(got);
    free(scale_q);
    free(scale_k);
    rig_close(&r);
}

TEST(lse_is_the_logarithm_of_the_sum)
{
    for (int b = 0; b < test_num_backends(); b++) {
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
            for (int what = 0; what < NUM_KINDS && !test_failed(); what++) {
                test_parameters("%s, shape %d", kind_names[what], (int)i);
                check_lse(test_backend_at(b), (int64_t)i % 2, (kind)what, shapes[i]);
            }
        }
    }
}

/* Rounded to bf16, the f32 result of bf16 inputs is the bf16 result. */
TEST(an_f32_result_of_bf16_inputs_is_the_same_before_rounding)
{
    const shape s = shapes[4];
    for (int b = 0; b < test_num_backends(); b++) {
        rig r;
        CHECK(rig_open(&r, test_backend_at(b), 0, RIG_ARENA_BYTES));
        test_parameters("%s", r.which->name);
        const inputs in = make_inputs(&r, BF16, s);
        const sky_tensor exact = RIG_OUTPUT(&r, SKY_F32, s.queries, s.heads, s.dim);
        const sky_tensor rounded = RIG_OUTPUT(&r, SKY_BF16, s.queries, s.heads, s.dim);
        EXPECT(attend(&r, BF16, &in, 0, s.keys, exact, (sky_tensor){0}) == SKY_OK);
        EXPECT(attend(&r, BF16, &in, 0, s.keys, rounded, (sky_tensor){0}) == SKY_OK && rig_check(&r));
        float *x = rig_read(&r, &exact);
        float *y = rig_read(&r, &rounded);
        bool all_bf16 = true;
        for (int64_t i = 0; i < sky_tensor_len(&exact) && !test_failed(); i++) {
            EXPECT(sky_round_bf16(x[i]) == y[i]);
            all_bf16 = all_bf16 && x[i] == y[i];
        }
        EXPECT(!all_bf16);
        free(x);
        free(y);
        rig_close(&r);
    }
}

enum { MAX_SETS = 3 };

typedef struct cut {
    int sets;
    int64_t first[MAX_SETS + 1];
} cut;

/* Attention of codes with weights that are not rounded, in f64. */
static float *without_rounding(rig *r, const inputs *in, shape s)
{
    float *scale_q = rig_read(r, &in->q_scale);
    float *scale_k = rig_read(r, &in->k_scale);
    float *scale_v = rig_read(r, &in->v_scale);
    float *y = malloc((size_t)(s.queries * s.heads * s.dim) * sizeof *y);
    double *sum = malloc((size_t)s.dim * sizeof *sum);
    SKY_ASSERT(y != NULL && sum != NULL);
    for (int64_t row = 0; row < s.queries * s.heads; row++) {
        double total = 0.0;
        memset(sum, 0, (size_t)s.dim * sizeof *sum);
        for (int64_t t = 0; t < s.keys; t++) {
            const double weight = exp(score(EIGHT, s, in->softmax_scale, scale_q, scale_k, row, t));
            total += weight;
            for (int64_t d = 0; d < s.dim; d++) {
                sum[d] += weight * op_value(SKY_F8_E4M3, 3, (t * s.heads + row % s.heads) * s.dim + d);
            }
        }
        for (int64_t d = 0; d < s.dim; d++) {
            y[row * s.dim + d] = (float)(sum[d] / total * (double)scale_v[row % s.heads * s.dim + d]);
        }
    }
    free(scale_q);
    free(scale_k);
    free(scale_v);
    free(sum);
    return y;
}

/* What the sets say, put together in f64 all at once, where the op takes one after the other. */
typedef struct together {
    double *sum;   /* [queries * heads * dim] of exp(lse) y */
    double *total; /* [queries * heads] of exp(lse) */
} together;

static void add_set(together *all, rig *r, const sky_tensor *y, const sky_tensor *lse)
{
    float *ys = rig_read(r, y);
    float *lses = rig_read(r, lse);
    const int64_t dim = y->shape[2];
    for (int64_t i = 0; i < sky_tensor_len(y); i++) {
        all->sum[i] += exp((double)lses[i / dim]) * (double)ys[i];
        all->total[i / dim] += i % dim == 0 ? exp((double)lses[i / dim]) : 0.0;
    }
    free(ys);
    free(lses);
}

/* The sets' results, merged one after the other, in y and lse, and put together, in expected and expected_lse. */
static void merge_sets(rig *r, kind what, const inputs *in, const cut *c, sky_merge_attention_args *merge,
                       float *expected, float *expected_lse)
{
    const int64_t len = sky_tensor_len(&merge->y);
    const int64_t rows = sky_tensor_len(&merge->lse);
    together all = {.sum = calloc((size_t)len, sizeof(double)), .total = calloc((size_t)rows, sizeof(double))};
    SKY_ASSERT(all.sum != NULL && all.total != NULL);
    for (int i = 0; i < c->sets; i++) {
        const sky_tensor y = i == 0 ? merge->y : merge->other;
        const sky_tensor lse = i == 0 ? merge->lse : merge->other_lse;
        EXPECT(attend(r, what, in, c->first[i], c->first[i + 1] - c->first[i], y, lse) == SKY_OK);
        add_set(&all, r, &y, &lse);
        EXPECT(i == 0 || sky_merge_attention(&r->ctx, merge) == SKY_OK);
    }
    for (int64_t i = 0; i < len; i++) {
        expected[i] = (float)(all.sum[i] / all.total[i / merge->y.shape[2]]);
    }
    for (int64_t i = 0; i < rows; i++) {
        expected_lse[i] = (float)log(all.total[i]);
    }
    free(all.sum);
    free(all.total);
}

/*
 * In 8 bits a set begins with a running maximum of its own, so weights (and with them lse) are rounded to other codes than in
 * the whole, a sixteenth of a weight apart at most: here 1.5 % of y lie between the whole and attention without that rounding, 1 % between
 * the merged sets and the whole. So the sets must be as close to the former as the whole is, and closer to the whole.
 */
static void check_merged(const test_backend *which, kind what, shape s, const cut *c)
{
    rig r;
    CHECK(rig_open(&r, which, 0, RIG_ARENA_BYTES));
    const size_t len = (size_t)(s.queries * s.heads * s.dim);
    const inputs in = make_inputs(&r, what, s);
    const sky_tensor whole = RIG_OUTPUT(&r, SKY_F32, s.queries, s.heads, s.dim);
    const sky_tensor whole_lse = RIG_OUTPUT(&r, SKY_F32, s.queries, s.heads);
    sky_merge_attention_args merge = {
        .y = RIG_OUTPUT(&r, SKY_F32, s.queries, s.heads, s.dim),
        .lse = RIG_OUTPUT(&r, SKY_F32, s.queries, s.heads),
        .other = RIG_OUTPUT(&r, SKY_F32, s.queries, s.heads, s.dim),
        .other_lse = RIG_OUTPUT(&r, SKY_F32, s.queries, s.heads),
    };
    float *expected = malloc(len * sizeof *expected);
    float *expected_lse = malloc((size_t)(s.queries * s.heads) * sizeof *expected_lse);
    SKY_ASSERT(expected != NULL && expected_lse != NULL);
    EXPECT(attend(&r, what, &in, 0, s.keys, whole, whole_lse) == SKY_OK);
    merge_sets(&r, what, &in, c, &merge, expected, expected_lse);
    rig_check(&r);
    float *want = rig_read(&r, &whole);
    float *got = rig_read(&r, &merge.y);
    (void)test_close(__FILE__, __LINE__, "y against the sets'", got, expected, len, 1e-6);
    if (what != EIGHT) {
        const bool by_unit = !r.ctx.backend->host_memory && what != F32;
        (void)test_close(__FILE__, __LINE__, "y", got, want, len, by_unit ? SKY_ATTENTION_UNIT_ERROR : 1e-6);
    } else {
        float *exact = without_rounding(&r, &in, s);
        const double whole_error = test_relative_error(want, exact, len);
        const double merged_error = test_relative_error(got, exact, len);
        const double between = test_relative_error(got, want, len);
        if (!(merged_error <= 1.1 * whole_error && between <= whole_error)) {
            test_fail(__FILE__, __LINE__, "weights rounded: whole %.3g, merged %.3g, between them %.3g", whole_error,
                      merged_error, between);
        }
        free(exact);
    }
    float *want_lse = rig_read(&r, &whole_lse);
    float *got_lse = rig_read(&r, &merge.lse);
    const size_t rows = (size_t)sky_tensor_len(&whole_lse);
    (void)test_close(__FILE__, __LINE__, "lse against the sets'", got_lse, expected_lse, rows, 1e-6);
    (void)test_close(__FILE__, __LINE__, "lse", got_lse, want_lse, rows, what == EIGHT ? 1e-3 : 1e-6);
    free(expected);
    free(expected_lse);
    free(want);
    free(got);
    free(want_lse);
    free(got_lse);
    rig_close(&r);
}

TEST(sets_of_keys_merge_into_the_whole)
{
    static const shape sizes[] = {{70, 300, 2, 32}, {5, 700, 3, 64}};
    static const cut cuts[][2] = {{{2, {0, 128, 300}}, {3, {0, 128, 256, 300}}},
                                  {{2, {0, 512, 700}}, {3, {0, 128, 640, 700}}}};
    for (int b = 0; b < test_num_backends(); b++) {
        for (int size = 0; size < 2; size++) {
            for (int c = 0; c < 2; c++) {
                for (int what = 0; what < NUM_KINDS; what++) {
                    if (what != BF16) { /* sets are merged in f32 */
                        test_parameters("%s, %s, size %d, %d sets", test_backend_at(b)->name, kind_names[what], size,
                                        cuts[size][c].sets);
                        check_merged(test_backend_at(b), (kind)what, sizes[size], &cuts[size][c]);
                    }
                }
            }
        }
    }
}

/* Heads partitioned over two ranks and queries cut at 128: lse and an f32 y keep their bytes too. */
static void check_subset(const test_backend *which, kind what)
{
    enum { QUERIES = 200, KEYS = 150, HEADS = 5, FIRST = 1, SUB = 3, DIM = 24 };
    const shape s = {QUERIES, KEYS, HEADS, DIM};
    rig r;
    CHECK(rig_open(&r, which, 0, RIG_ARENA_BYTES));
    const inputs in = make_inputs(&r, what, s);
    const sky_tensor y = RIG_OUTPUT(&r, output_type(what), QUERIES, HEADS, DIM);
    const sky_tensor lse = RIG_OUTPUT(&r, SKY_F32, QUERIES, HEADS);
    EXPECT(attend(&r, what, &in, 0, KEYS, y, lse) == SKY_OK);

    /* [tokens, heads * len] with the subset's columns copied out */
    const sky_tensor *from[] = {&in.q, &in.k, &in.v, &in.q_scale, &in.k_scale, &in.v_scale, &y, &lse};
    sky_tensor to[8] = {{0}};
    for (int i = 0; i < 8; i++) {
        if (sky_tensor_present(from[i])) {
            const bool by_head = i == 5; /* v_scale [N, D]: heads are rows, and rows of heads are one row of columns */
            const int64_t rows = by_head ? 1 : from[i]->shape[0];
            const int64_t len = sky_tensor_len(from[i]) / rows / HEADS;
            to[i] = RIG_OUTPUT(&r, from[i]->dtype, rows, SUB * len);
            EXPECT(sky_copy_columns(&r.ctx, &(sky_copy_columns_args){
                                                .y = to[i],
                                                .x = sky_tensor_reshape(from[i], 2, (int64_t[]){rows, HEADS * len}),
                                                .x_first = FIRST * len,
                                                .num_columns = SUB * len}) == SKY_OK);
            to[i] = by_head                  ? sky_tensor_reshape(&to[i], 2, (int64_t[]){SUB, DIM})
                    : from[i]->num_dims == 4 ? sky_tensor_reshape(&to[i], 4, (int64_t[]){rows, SUB, DIM, 128})
                    : from[i]->num_dims == 3 ? sky_tensor_reshape(&to[i], 3, (int64_t[]){rows, SUB, DIM})
                                             : to[i];
        }
    }
    for (int64_t first = 0; first < QUERIES; first += 128) {
        const int64_t rows = QUERIES - first < 128 ? QUERIES - first : 128;
        inputs part = {.q = sky_tensor_rows(&to[0], first, rows),
                       .k = to[1],
                       .v = to[2],
                       .q_scale = what == EIGHT ? sky_tensor_rows(&to[3], first / 64, groups(rows, 64)) : to[3],
                       .k_scale = to[4],
                       .v_scale = to[5],
                       .softmax_scale = in.softmax_scale};
        const sky_tensor y_part = RIG_OUTPUT(&r, output_type(what), rows, SUB, DIM);
        const sky_tensor lse_part = RIG_OUTPUT(&r, SKY_F32, rows, SUB);
        EXPECT(attend(&r, what, &part, 0, KEYS, y_part, lse_part) == SKY_OK);
        const sky_tensor want[] = {sky_tensor_rows(&to[6], first, rows), sky_tensor_rows(&to[7], first, rows)};
        const sky_tensor got[] = {y_part, lse_part};
        for (int i = 0; i < 2; i++) {
            unsigned char *a = rig_read_bytes(&r, &want[i]);
            unsigned char *b = rig_read_bytes(&r, &got[i]);
            if (memcmp(a, b, sky_tensor_bytes(&got[i])) != 0) {
                test_fail(__FILE__, __LINE__, "%s %s: %s of heads %d to %d, queries from %d on, differs", which->name,
                          kind_names[what], i == 0 ? "y" : "lse", FIRST, FIRST + SUB - 1, (int)first);
            }
            free(a);
            free(b);
        }
    }
    rig_check(&r);
    rig_close(&r);
}

TEST(a_rank_s_heads_and_queries_have_the_bytes_of_the_whole)
{
    for (int b = 0; b < test_num_backends(); b++) {
        for (int what = 0; what < NUM_KINDS; what++) {
            check_subset(test_backend_at(b), (kind)what);
        }
    }
}

TEST(no_queries_have_no_lse)
{
    for (int b = 0; b < test_num_backends(); b++) {
        rig r;
        CHECK(rig_open(&r, test_backend_at(b), 0, RIG_ARENA_BYTES));
        for (int what = 0; what < NUM_KINDS; what++) {
            test_parameters("%s, %s", r.which->name, kind_names[what]);
            rig_close(&r);
            CHECK(rig_open(&r, test_backend_at(b), 0, RIG_ARENA_BYTES));
            const inputs in = make_inputs(&r, (kind)what, (shape){0, 130, 2, 8});
            const sky_tensor y = RIG_OUTPUT(&r, output_type((kind)what), 0, 2, 8);
            EXPECT(attend(&r, (kind)what, &in, 0, 130, y, RIG_OUTPUT(&r, SKY_F32, 0, 2)) == SKY_OK);
            EXPECT(rig_check(&r));
        }
        rig_close(&r);
    }
}

TEST(attention_with_lse_refuses)
{
    static float memory[6][256];
    rig r;
    CHECK(rig_open(&r, test_backend_at(0), 0, RIG_ARENA_BYTES));
    const sky_attention_args good = {.y = SKY_TENSOR(memory[0], SKY_F32, 3, 2, 4),
                                     .q = SKY_TENSOR(memory[1], SKY_BF16, 3, 2, 4),
                                     .k = SKY_TENSOR(memory[2], SKY_BF16, 5, 2, 4),
                                     .v = SKY_TENSOR(memory[3], SKY_BF16, 5, 2, 4),
                                     .lse = SKY_TENSOR(memory[4], SKY_F32, 3, 2),
                                     .softmax_scale = 1.0F};
    CHECK_OK(sky_attention(&r.ctx, &good));
#define REFUSES(field, value, want)                          \
    do {                                                     \
        sky_attention_args changed = good;                   \
        changed.field = (value);                             \
        CHECK_STATUS(sky_attention(&r.ctx, &changed), want); \
    } while (0)
    REFUSES(lse, SKY_TENSOR(memory[4], SKY_F32, 2, 3), SKY_ERR_SHAPE);
    REFUSES(lse, SKY_TENSOR(memory[4], SKY_F32, 6), SKY_ERR_SHAPE);
    REFUSES(lse, SKY_TENSOR(memory[4], SKY_BF16, 3, 2), SKY_ERR_DTYPE);
    REFUSES(rel_bias, SKY_TENSOR(memory[5], SKY_F32, 2, 7), SKY_ERR_SHAPE);
    REFUSES(lse.data, memory[0] + 23, SKY_ERR_INTERNAL);
    REFUSES(lse.data, memory[1] + 11, SKY_ERR_INTERNAL);
    REFUSES(lse.data, memory[3] + 19, SKY_ERR_INTERNAL);
    REFUSES(k.dtype, SKY_F32, SKY_ERR_DTYPE);
    REFUSES(q.dtype, SKY_F32, SKY_ERR_DTYPE);
    sky_attention_args bad = good; /* bf16 of f32 inputs is not offered */
    bad.y.dtype = SKY_BF16;
    bad.q.dtype = bad.k.dtype = bad.v.dtype = SKY_F32;
    CHECK_STATUS(sky_attention(&r.ctx, &bad), SKY_ERR_DTYPE);
    bad = good; /* no head dim: nothing is computed, so there is no lse */
    bad.y.shape[2] = bad.q.shape[2] = bad.k.shape[2] = bad.v.shape[2] = 0;
    CHECK_STATUS(sky_attention(&r.ctx, &bad), SKY_ERR_SHAPE);
    rig_close(&r);
}

TEST_MAIN
