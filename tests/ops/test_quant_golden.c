#include "ops/rig.h"

#include "support/compare.h"
#include "support/golden.h"
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The 8-bit contract in plain PyTorch, tests/golden/make_quant.py. */
static const char file[] = "quant.h5";

static bool check_close(const rig *r, const char *what, const float *got, const golden_array *want, double tolerance)
{
    char text[96];
    snprintf(text, sizeof text, "%s: %s", r->which->name, what);
    return test_close(__FILE__, __LINE__, text, got, want->data, want->count, tolerance);
}

/* Frees what it is given, as a tensor of the rig. */
static void expect_values(rig *r, const char *what, const sky_tensor *got, const golden_array *want, double tolerance)
{
    CHECK((size_t)sky_tensor_len(got) == want->count);
    float *values = rig_read(r, got);
    EXPECT(check_close(r, what, values, want, tolerance));
    free(values);
}

/* Codes in their order on the number line: neighbours differ by one. */
static int rank_of(sky_dtype dtype, uint8_t code)
{
    if (dtype == SKY_I8) {
        return (int8_t)code;
    }
    return code < 128 ? code : 128 - (int)code;
}

/* Equal, but for one in a thousand a step off. */
static void expect_codes(rig *r, const char *what, const sky_tensor *got, const golden_array *want)
{
    CHECK(sky_tensor_bytes(got) == want->count);
    unsigned char *codes = rig_read_bytes(r, got);
    size_t num_off = 0;
    for (size_t i = 0; i < want->count; i++) {
        const uint8_t wanted = ((const uint8_t *)want->data)[i];
        const int steps = abs(rank_of(got->dtype, codes[i]) - rank_of(got->dtype, wanted));
        num_off += steps != 0;
        if (steps > 1 || num_off > want->count / 1000) {
            test_fail(__FILE__, __LINE__, "%s: %s: code %zu is 0x%02x, want 0x%02x; %zu of the %zu up to here differ",
                      r->which->name, what, i, codes[i], wanted, num_off, i + 1);
            break;
        }
    }
    free(codes);
}

enum { ROWS = 37, LEN = 256, COLS = 96 };

/* x and w become codes; the product is taken of the golden codes. */
static void check_linear(rig *r, const golden_array *g)
{
    enum { X, W, B, XQ, X_SCALE, WQ, W_SCALE, Y };
    const sky_quantize_rows_args x = {.codes = RIG_OUTPUT(r, SKY_F8_E4M3, ROWS, LEN),
                                      .scale = RIG_OUTPUT(r, SKY_F32, ROWS),
                                      .x = RIG_VALUES(r, SKY_F32, g[X].data, ROWS, LEN)};
    const sky_quantize_rows_args w = {.codes = RIG_OUTPUT(r, SKY_F8_E4M3, COLS, LEN),
                                      .scale = RIG_OUTPUT(r, SKY_F32, COLS),
                                      .x = RIG_VALUES(r, SKY_F32, g[W].data, COLS, LEN)};
    CHECK_OK(sky_quantize_rows(&r->ctx, &x));
    CHECK_OK(sky_quantize_rows(&r->ctx, &w));
    expect_codes(r, "xq", &x.codes, &g[XQ]);
    expect_values(r, "x_scale", &x.scale, &g[X_SCALE], 1e-6);
    expect_codes(r, "wq", &w.codes, &g[WQ]);
    expect_values(r, "w_scale", &w.scale, &g[W_SCALE], 1e-6);
    const sky_linear_8bit_args args = {.y = RIG_OUTPUT(r, SKY_F32, ROWS, COLS),
                                       .x = RIG_BYTES(r, SKY_F8_E4M3, g[XQ].data, ROWS, LEN),
                                       .x_scale = RIG_VALUES(r, SKY_F32, g[X_SCALE].data, ROWS),
                                       .weight = RIG_BYTES(r, SKY_F8_E4M3, g[WQ].data, COLS, LEN),
                                       .weight_scale = RIG_VALUES(r, SKY_F32, g[W_SCALE].data, COLS),
                                       .bias = RIG_VALUES(r, SKY_F32, g[B].data, COLS)};
    CHECK_OK(sky_linear_8bit(&r->ctx, &args));
    expect_values(r, "y", &args.y, &g[Y], 1e-5);
}

TEST(linear_8bit_of_pytorch)
{
    static const char *const names[] = {"x", "w", "b", "xq", "x_scale", "wq", "w_scale", "y"};
    enum { COUNT = sizeof names / sizeof names[0] };
    golden_array g[COUNT] = {0};
    for (int i = 0; i < COUNT; i++) {
        char path[64];
        snprintf(path, sizeof path, "linear/%s", names[i]);
        CHECK(names[i][1] == 'q' ? golden_read_u8(file, path, &g[i]) : golden_read_f32(file, path, &g[i]));
    }
    EXPECT(g[0].count == ROWS * LEN && g[1].count == COLS * LEN && g[7].count == ROWS * COLS);
    for (int b = 0; b < test_num_backends() && !test_failed(); b++) {
        rig r;
        CHECK(rig_open(&r, test_backend_at(b), 0, RIG_ARENA_BYTES));
        check_linear(&r, g);
        rig_close(&r);
    }
    for (int i = 0; i < COUNT; i++) {
        golden_free(&g[i]);
    }
}

enum { TOKENS = 300, HEADS = 2, DIM = 128, Q_GROUPS = 5, K_GROUPS = 3 };
enum { Q, K, V, Q_SCALE, K_MEAN, K_SCALE, V_MEAN, V_SCALE, OUT, Q8, K8, V8 };
/* The same with an offset to V's channels: less_mean is the output of every third query without V's mean. */
enum { SHIFT = V8 + 1, SHIFTED_MEAN, SHIFTED_SCALE, LESS_MEAN, SHIFTED_V8, NUM_ARRAYS };

/* softmax(q k^T / sqrt(D)) v in f64, [TOKENS, HEADS, DIM]. */
static float *exact_attention(const float *q, const float *k, const float *v)
{
    float *out = malloc((size_t)(TOKENS * HEADS * DIM) * sizeof *out);
    SKY_ASSERT(out != NULL);
    for (int64_t row = 0; row < TOKENS * HEADS; row++) {
        const int64_t head = row % HEADS;
        double p[TOKENS];
        double most = -INFINITY;
        double total = 0.0;
        for (int64_t t = 0; t < TOKENS; t++) {
            p[t] = 0.0;
            for (int64_t d = 0; d < DIM; d++) {
                p[t] += (double)q[row * DIM + d] * (double)k[(t * HEADS + head) * DIM + d];
            }
            p[t] /= sqrt((double)DIM);
            most = fmax(most, p[t]);
        }
        for (int64_t t = 0; t < TOKENS; t++) {
            p[t] = exp(p[t] - most);
            total += p[t];
        }
        for (int64_t d = 0; d < DIM; d++) {
            double sum = 0.0;
            for (int64_t t = 0; t < TOKENS; t++) {
                sum += p[t] * (double)v[(t * HEADS + head) * DIM + d];
            }
            out[row * DIM + d] = (float)(sum / total);
        }
    }
    return out;
}

/* Codes [TOKENS, HEADS, DIM] in the tiles of ops/quantize_channels.h. */
static sky_tensor tiles_of(rig *r, const golden_array *codes)
{
    static uint8_t tiles[K_GROUPS * HEADS * DIM * 128];
    memset(tiles, 0, sizeof tiles);
    for (int64_t i = 0; i < TOKENS * HEADS * DIM; i++) {
        tiles[rig_v_at(i / (HEADS * DIM), i % (HEADS * DIM), HEADS * DIM)] = ((const uint8_t *)codes->data)[i];
    }
    return RIG_BYTES(r, SKY_F8_E4M3, tiles, K_GROUPS, HEADS, DIM, 128);
}

typedef struct quantised_v {
    sky_tensor codes, scale, mean;
} quantised_v;

static quantised_v quantise_v(rig *r, const float *v, const golden_array *mean, const golden_array *scale,
                              const golden_array *codes)
{
    const int64_t channels = HEADS * DIM;
    const quantised_v q = {.codes = RIG_OUTPUT(r, SKY_F8_E4M3, K_GROUPS, HEADS, DIM, 128),
                           .scale = RIG_OUTPUT(r, SKY_F32, HEADS, DIM),
                           .mean = RIG_OUTPUT(r, SKY_F32, HEADS, DIM)};
    const sky_tensor flat_mean = sky_tensor_reshape(&q.mean, 1, &channels);
    const sky_channel_sums_args sums = {.sums = RIG_OUTPUT(r, SKY_I64, channels),
                                        .x = RIG_VALUES(r, SKY_F32, v, TOKENS, channels),
                                        .range = RIG_OUTPUT(r, SKY_F32, 2 * channels),
                                        .num_tokens = TOKENS};
    EXPECT(sky_channel_sums(&r->ctx, &sums) == SKY_OK);
    EXPECT(sky_sums_to_mean(&r->ctx, &(sky_sums_to_mean_args){
                                         .mean = flat_mean, .sums = sums.sums, .num_tokens = TOKENS}) == SKY_OK);
    EXPECT(sky_quantize_channels(&r->ctx,
                                 &(sky_quantize_channels_args){.codes = q.codes,
                                                               .scale = sky_tensor_reshape(&q.scale, 1, &channels),
                                                               .x = sums.x,
                                                               .mean = flat_mean,
                                                               .range = sums.range}) == SKY_OK);
    const sky_tensor tiles = tiles_of(r, codes);
    unsigned char *want = rig_read_bytes(r, &tiles);
    expect_codes(r, "v8", &q.codes, &(golden_array){.data = want, .count = sky_tensor_bytes(&tiles)});
    free(want);
    expect_values(r, "v_mean", &q.mean, mean, 1e-6);
    expect_values(r, "v_scale", &q.scale, scale, 1e-6);
    return q;
}

/* Mean of v over tokens [HEADS * DIM], in f64. */
static void means_of(const float *v, double *mean)
{
    for (int64_t c = 0; c < HEADS * DIM; c++) {
        mean[c] = 0.0;
        for (int64_t t = 0; t < TOKENS; t++) {
            mean[c] += (double)v[t * HEADS * DIM + c] / TOKENS;
        }
    }
}

/*
 * With channel means in V the output is nearly these means: what is judged is what is left without them, as attention_8bit
 * gives it without v_mean. args are those of attention without an offset.
 */
static void check_shifted(rig *r, const sky_attention_8bit_args *without, const golden_array *g)
{
    enum { COUNT = TOKENS * HEADS * DIM };
    static float v[COUNT];
    static double mean[HEADS * DIM];
    for (int64_t i = 0; i < COUNT; i++) {
        v[i] = ((const float *)g[V].data)[i] + ((const float *)g[SHIFT].data)[i % (HEADS * DIM)];
    }
    const quantised_v q = quantise_v(r, v, &g[SHIFTED_MEAN], &g[SHIFTED_SCALE], &g[SHIFTED_V8]);
    sky_attention_8bit_args args = *without;
    args.v = q.codes;
    args.v_scale = q.scale;
    args.v_mean = (sky_tensor){0};
    CHECK_OK(sky_attention_8bit(&r->ctx, &args));
    float *y = rig_read(r, &args.y);
    float *exact = exact_attention(g[Q].data, g[K].data, v);
    means_of(v, mean);
    for (int64_t i = 0; i < COUNT; i++) {
        exact[i] = (float)((double)exact[i] - mean[i % (HEADS * DIM)]);
    }
    const double error = test_relative_error(y, exact, COUNT);
    if (!(error < 0.0475)) { /* PyTorch's own is 0.04720 */
        test_fail(__FILE__, __LINE__, "%s: without V's mean %.4f from exact attention", r->which->name, error);
    }
    for (int64_t t = 0; t < TOKENS; t += 3) {
        memmove(y + t / 3 * HEADS * DIM, y + t * HEADS * DIM, HEADS * DIM * sizeof *y);
    }
    EXPECT(check_close(r, "out less V's mean", y, &g[LESS_MEAN], 2e-3));
    free(exact);
    free(y);
}

/* Everything from q, k and v on; then the attention of the golden codes. */
static void check_attention(rig *r, const golden_array *g)
{
    const sky_tensor k = RIG_VALUES(r, SKY_F32, g[K].data, TOKENS, HEADS, DIM);
    const sky_tensor mean = RIG_OUTPUT(r, SKY_F32, HEADS, DIM);
    const sky_tensor flat_mean = sky_tensor_reshape(&mean, 1, (int64_t[]){HEADS * DIM});
    const sky_tensor sums = RIG_OUTPUT(r, SKY_I64, HEADS * DIM);
    CHECK_OK(sky_channel_sums(&r->ctx,
                              &(sky_channel_sums_args){.sums = sums,
                                                       .x = sky_tensor_reshape(&k, 2, (int64_t[]){TOKENS, HEADS * DIM}),
                                                       .num_tokens = TOKENS}));
    CHECK_OK(
        sky_sums_to_mean(&r->ctx, &(sky_sums_to_mean_args){.mean = flat_mean, .sums = sums, .num_tokens = TOKENS}));
    expect_values(r, "k_mean", &mean, &g[K_MEAN], 1e-6);
    const sky_quantize_heads_args q8 = {.codes = RIG_OUTPUT(r, SKY_I8, TOKENS, HEADS, DIM),
                                        .scale = RIG_OUTPUT(r, SKY_F32, Q_GROUPS, HEADS),
                                        .x = RIG_VALUES(r, SKY_F32, g[Q].data, TOKENS, HEADS, DIM),
                                        .tokens_per_group = SKY_Q_GROUP_TOKENS};
    const sky_quantize_heads_args k8 = {.codes = RIG_OUTPUT(r, SKY_I8, TOKENS, HEADS, DIM),
                                        .scale = RIG_OUTPUT(r, SKY_F32, K_GROUPS, HEADS),
                                        .x = k,
                                        .mean = mean,
                                        .tokens_per_group = SKY_K_GROUP_TOKENS};
    CHECK_OK(sky_quantize_heads(&r->ctx, &q8));
    CHECK_OK(sky_quantize_heads(&r->ctx, &k8));
    expect_codes(r, "q8", &q8.codes, &g[Q8]);
    expect_values(r, "q_scale", &q8.scale, &g[Q_SCALE], 1e-6);
    expect_codes(r, "k8", &k8.codes, &g[K8]);
    expect_values(r, "k_scale", &k8.scale, &g[K_SCALE], 1e-6);
    const quantised_v v = quantise_v(r, g[V].data, &g[V_MEAN], &g[V_SCALE], &g[V8]);
    sky_attention_8bit_args args = {.y = RIG_OUTPUT(r, SKY_F32, TOKENS, HEADS, DIM),
                                    .q = q8.codes,
                                    .q_scale = q8.scale,
                                    .k = k8.codes,
                                    .k_scale = k8.scale,
                                    .v = v.codes,
                                    .v_scale = v.scale,
                                    .v_mean = v.mean,
                                    .softmax_scale = 0.0883883476F};
    CHECK_OK(sky_attention_8bit(&r->ctx, &args));
    expect_values(r, "out", &args.y, &g[OUT], 2e-3);
    float *y = rig_read(r, &args.y);
    float *exact = exact_attention(g[Q].data, g[K].data, g[V].data);
    const double error = test_relative_error(y, exact, g[OUT].count);
    free(exact);
    free(y);
    if (!(error < 0.038)) { /* PyTorch's own is 0.03779 */
        test_fail(__FILE__, __LINE__, "%s: %.4f from exact attention", r->which->name, error);
    }
    args.q = RIG_BYTES(r, SKY_I8, g[Q8].data, TOKENS, HEADS, DIM);
    args.k = RIG_BYTES(r, SKY_I8, g[K8].data, TOKENS, HEADS, DIM);
    args.v = tiles_of(r, &g[V8]);
    CHECK_OK(sky_attention_8bit(&r->ctx, &args));
    expect_values(r, "out of the golden codes", &args.y, &g[OUT], 2e-3);
    check_shifted(r, &args, g);
}

TEST(attention_8bit_of_pytorch)
{
    static const char *const names[NUM_ARRAYS] = {
        "q",        "k",  "v",  "q_scale", "k_mean",       "k_scale",       "v_mean",         "v_scale",
        "out",      "q8", "k8", "v8",      "offset/shift", "offset/v_mean", "offset/v_scale", "offset/out_less_mean",
        "offset/v8"};
    golden_array g[NUM_ARRAYS] = {0};
    for (int i = 0; i < NUM_ARRAYS; i++) {
        char path[64];
        snprintf(path, sizeof path, "attention/%s", names[i]);
        if (i == Q8 || i == K8) { /* negative numbers do not fit a u8 */
            CHECK(golden_read_i64(file, path, &g[i]));
            for (size_t j = 0; j < g[i].count; j++) {
                ((int8_t *)g[i].data)[j] = (int8_t)((const int64_t *)g[i].data)[j];
            }
        } else {
            CHECK(i == V8 || i == SHIFTED_V8 ? golden_read_u8(file, path, &g[i]) : golden_read_f32(file, path, &g[i]));
        }
    }
    EXPECT(g[Q].count == TOKENS * HEADS * DIM && g[Q_SCALE].count == Q_GROUPS * HEADS &&
           g[K_SCALE].count == K_GROUPS * HEADS);
    for (int b = 0; b < test_num_backends() && !test_failed(); b++) {
        rig r;
        CHECK(rig_open(&r, test_backend_at(b), 0, RIG_ARENA_BYTES));
        check_attention(&r, g);
        rig_close(&r);
    }
    for (int i = 0; i < NUM_ARRAYS; i++) {
        golden_free(&g[i]);
    }
}

TEST_MAIN
