#include "ops/rig.h"

#include "support/compare.h"
#include "support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Quantising gives the same bytes on every backend: all cases here are exact. */
typedef struct quant_params {
    sky_dtype x, codes;
    int64_t rows, cols;
    bool want_scale; /* look at the scales, else at the codes */
    int64_t heads, group;
    bool mean;
    int num_parts;
} quant_params;

/* The nearest multiple of an eighth of the power of two below, but at least of 2^-9. */
static double nearest_e4m3(double x)
{
    const double step = ldexp(1.0, (fabs(x) < 0x1p-6 ? -6 : ilogb(x)) - 3);
    return copysign(fmin(rint(fabs(x) / step) * step, 448.0), x);
}

static double nearest(sky_dtype codes, double x)
{
    return codes == SKY_F8_E4M3 ? nearest_e4m3(x) : rint(x) + 0.0; /* i8 knows no -0 */
}

static double largest_code(sky_dtype codes)
{
    return codes == SKY_F8_E4M3 ? 448.0 : 127.0;
}

/* The values of one scale: their codes, or the scale at each. */
static void expect_group(const quant_params *p, const float *x, int64_t len, double *want)
{
    const float largest = (float)largest_code(p->codes);
    float amax = 1e-12F;
    for (int64_t i = 0; i < len; i++) {
        amax = fmaxf(amax, fabsf(x[i]));
    }
    const float factor = (1.0F / amax) * largest;
    for (int64_t i = 0; i < len; i++) {
        const float scaled = x[i] * factor;
        want[i] = p->want_scale ? (double)(amax / largest) : nearest(p->codes, (double)scaled);
    }
}

static sky_status run_rows(rig *r, const void *params, sky_tensor *out)
{
    const quant_params *p = params;
    const sky_quantize_rows_args args = {
        .codes = RIG_OUTPUT(r, p->codes, p->rows, p->cols),
        .scale = RIG_OUTPUT(r, SKY_F32, p->rows),
        .x = RIG_INPUT(r, p->x, 1, p->rows, p->cols),
        .num_heads = p->heads,
        .num_parts = p->num_parts,
    };
    *out = p->want_scale ? args.scale : args.codes;
    return sky_quantize_rows(&r->ctx, &args);
}

/* Index of a row's head in [part][rows, heads of the part]: everything of the parts before it, the rows above, its place. */
static int64_t place_in_parts(const quant_params *p, int64_t rows, int64_t row, int64_t head)
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

static void expect_rows(const void *params, double *want)
{
    const quant_params *p = params;
    float *x = malloc((size_t)p->cols * sizeof *x);
    double *all = malloc((size_t)p->cols * sizeof *all);
    SKY_ASSERT(x != NULL && all != NULL);
    for (int64_t row = 0; row < p->rows; row++) {
        for (int64_t c = 0; c < p->cols; c++) {
            const int64_t dim = p->heads > 0 ? p->cols / p->heads : p->cols;
            const int64_t at = p->heads > 0 ? place_in_parts(p, p->rows, row, c / dim) : row;
            x[c] = (float)op_value(p->x, 1, at * dim + c % dim);
        }
        expect_group(p, x, p->cols, all);
        if (p->want_scale) {
            want[row] = all[0];
        } else {
            memcpy(want + row * p->cols, all, (size_t)p->cols * sizeof *all);
        }
    }
    free(x);
    free(all);
}

TEST(quantize_rows_takes_a_scale_per_row)
{
    /* Rows, columns, heads (0: just columns), parts of heads. */
    static const int64_t sizes[][4] = {{1, 1, 0, 0},    {3, 7, 0, 1},   {64, 256, 4, 2}, {5, 1023, 0, 0},
                                       {2, 2500, 2, 2}, {37, 96, 3, 2}, {301, 33, 3, 5}, {9, 1100, 1, 0}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (int kind = 0; kind < 8 && !test_failed(); kind++) {
            const quant_params p = {.x = kind & 1 ? SKY_BF16 : SKY_F32,
                                    .codes = kind & 2 ? SKY_I8 : SKY_F8_E4M3,
                                    .rows = sizes[i][0],
                                    .cols = sizes[i][1],
                                    .heads = sizes[i][2],
                                    .num_parts = (int)sizes[i][3],
                                    .want_scale = (kind & 4) != 0};
            test_parameters("rows=%d cols=%d N=%d parts=%d %s to %s, %s", (int)p.rows, (int)p.cols, (int)p.heads,
                            p.num_parts, sky_dtype_name(p.x), sky_dtype_name(p.codes),
                            p.want_scale ? "scales" : "codes");
            op_check(&(op_case){run_rows, expect_rows, &p, .exact = true});
        }
    }
}

static sky_status run_heads(rig *r, const void *params, sky_tensor *out)
{
    const quant_params *p = params;
    const int64_t dim = p->cols;
    const sky_quantize_heads_args args = {
        .codes = RIG_OUTPUT(r, SKY_I8, p->rows, p->heads, dim),
        .scale = RIG_OUTPUT(r, SKY_F32, (p->rows + p->group - 1) / p->group, p->heads),
        .x = RIG_INPUT(r, p->x, 1, p->rows, p->heads, dim),
        .mean = p->mean ? RIG_INPUT(r, SKY_F32, 2, p->heads, dim) : (sky_tensor){0},
        .tokens_per_group = p->group,
        .num_parts = p->num_parts,
    };
    *out = p->want_scale ? args.scale : args.codes;
    return sky_quantize_heads(&r->ctx, &args);
}

static void expect_heads(const void *params, double *want)
{
    const quant_params *p = params;
    const int64_t dim = p->cols;
    float *v = malloc((size_t)(p->group * dim) * sizeof *v);
    double *all = malloc((size_t)(p->group * dim) * sizeof *all);
    SKY_ASSERT(v != NULL && all != NULL);
    for (int64_t first = 0; first < p->rows; first += p->group) {
        const int64_t tokens = p->rows - first < p->group ? p->rows - first : p->group;
        for (int64_t n = 0; n < p->heads; n++) {
            for (int64_t i = 0; i < tokens * dim; i++) {
                const float x = (float)op_value(p->x, 1, ((first + i / dim) * p->heads + n) * dim + i % dim);
                v[i] = p->mean ? x - (float)op_value(SKY_F32, 2, n * dim + i % dim) : x;
            }
            expect_group(p, v, tokens * dim, all);
            for (int64_t i = 0; i < tokens * dim; i++) {
                if (p->want_scale) {
                    want[place_in_parts(p, (p->rows + p->group - 1) / p->group, first / p->group, n)] = all[0];
                } else {
                    want[place_in_parts(p, p->rows, first + i / dim, n) * dim + i % dim] = all[i];
                }
            }
        }
    }
    free(v);
    free(all);
}

TEST(quantize_heads_takes_a_scale_per_head_and_group)
{
    /* One part said and not said; parts that divide, that do not, and more than heads. */
    static const int64_t sizes[][5] = {{1, 1, 1, 64, 0},      {64, 2, 32, 64, 1},  {65, 3, 20, 64, 0},
                                       {300, 2, 128, 128, 2}, {128, 1, 33, 64, 3}, {7, 5, 3, 2, 3},
                                       {3, 1, 1100, 2, 0},    {9, 4, 5, 4, 2}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (int kind = 0; kind < 8 && !test_failed(); kind++) {
            const quant_params p = {.x = kind & 1 ? SKY_BF16 : SKY_F32,
                                    .codes = SKY_I8,
                                    .rows = sizes[i][0],
                                    .heads = sizes[i][1],
                                    .cols = sizes[i][2],
                                    .group = sizes[i][3],
                                    .num_parts = (int)sizes[i][4],
                                    .mean = (kind & 2) != 0,
                                    .want_scale = (kind & 4) != 0};
            test_parameters("S=%d N=%d D=%d group=%d parts=%d mean=%d %s, %s", (int)p.rows, (int)p.heads, (int)p.cols,
                            (int)p.group, p.num_parts, p.mean, sky_dtype_name(p.x), p.want_scale ? "scales" : "codes");
            op_check(&(op_case){run_heads, expect_heads, &p, .exact = true});
        }
    }
}

/* Largest and least values are given, and here they are not x's own: what is beyond saturates. */
static sky_status run_channels(rig *r, const void *params, sky_tensor *out)
{
    const quant_params *p = params;
    const sky_quantize_channels_args args = {
        .codes = RIG_OUTPUT(r, SKY_F8_E4M3, sky_num_v_tiles(p->rows), p->heads, p->cols / p->heads, 128),
        .scale = RIG_OUTPUT(r, SKY_F32, p->cols),
        .x = RIG_INPUT(r, p->x, 1, p->rows, p->cols),
        .mean = RIG_INPUT(r, SKY_F32, 3, p->cols),
        .range = RIG_INPUT(r, SKY_F32, 2, 2 * p->cols), /* some with the largest below the least: no rows */
    };
    *out = p->want_scale ? args.scale : args.codes;
    return sky_quantize_channels(&r->ctx, &args);
}

static void expect_channels(const void *params, double *want)
{
    const quant_params *p = params;
    for (int64_t i = 0; !p->want_scale && i < sky_num_v_tiles(p->rows) * p->cols * 128; i++) {
        want[i] = 0.0;
    }
    for (int64_t c = 0; c < p->cols; c++) {
        const float mean = (float)op_value(SKY_F32, 3, c);
        const float most = (float)op_value(SKY_F32, 2, c);
        const float least = (float)op_value(SKY_F32, 2, p->cols + c);
        const float amax = most < least ? 1e-12F : fmaxf(fmaxf(fabsf(most - mean), fabsf(least - mean)), 1e-12F);
        const float factor = (1.0F / amax) * 448.0F;
        if (p->want_scale) {
            want[c] = (double)(amax / 448.0F);
            continue;
        }
        for (int64_t s = 0; s < p->rows; s++) {
            const float centred = (float)op_value(p->x, 1, s * p->cols + c) - mean;
            const float scaled = centred * factor;
            want[rig_v_at(s, c, p->cols)] = nearest_e4m3((double)scaled);
        }
    }
}

/* Channel c's offset: none, or many times the values' size. */
static float offset_of(int64_t c)
{
    return c % 3 == 0 ? 0.0F : (float)(c % 7 - 3) * 5.3F;
}

static float offset_value(const quant_params *p, int64_t i)
{
    const float x = (float)op_value(SKY_F32, 1, i) + offset_of(i % p->cols);
    return p->x == SKY_BF16 ? sky_round_bf16(x) : x;
}

/* V's way: one pass for sums and range, the mean, the codes. */
static sky_status run_centred(rig *r, const void *params, sky_tensor *out)
{
    const quant_params *p = params;
    float *x = malloc((size_t)(p->rows * p->cols) * sizeof *x + 1);
    SKY_ASSERT(x != NULL);
    for (int64_t i = 0; i < p->rows * p->cols; i++) {
        x[i] = offset_value(p, i);
    }
    const sky_channel_sums_args sums = {.sums = RIG_OUTPUT(r, SKY_I64, p->cols),
                                        .x = RIG_VALUES(r, p->x, x, p->rows, p->cols),
                                        .range = RIG_OUTPUT(r, SKY_F32, 2 * p->cols),
                                        .num_tokens = p->rows > 0 ? p->rows : 1};
    free(x);
    const sky_quantize_channels_args args = {
        .codes = RIG_OUTPUT(r, SKY_F8_E4M3, sky_num_v_tiles(p->rows), p->heads, p->cols / p->heads, 128),
        .scale = RIG_OUTPUT(r, SKY_F32, p->cols),
        .x = sums.x,
        .mean = RIG_OUTPUT(r, SKY_F32, p->cols),
        .range = sums.range,
    };
    *out = p->want_scale ? args.scale : args.codes;
    SKY_TRY(sky_channel_sums(&r->ctx, &sums));
    SKY_TRY(sky_sums_to_mean(
        &r->ctx, &(sky_sums_to_mean_args){.mean = args.mean, .sums = sums.sums, .num_tokens = sums.num_tokens}));
    return sky_quantize_channels(&r->ctx, &args);
}

/* The scale is that of the largest |x - mean|, found here one by one. */
static void expect_centred(const void *params, double *want)
{
    const quant_params *p = params;
    for (int64_t i = 0; !p->want_scale && i < sky_num_v_tiles(p->rows) * p->cols * 128; i++) {
        want[i] = 0.0;
    }
    for (int64_t c = 0; c < p->cols; c++) {
        double sum = 0.0;
        float amax = 1e-12F;
        for (int64_t s = 0; s < p->rows; s++) {
            sum += rint(ldexp((double)offset_value(p, s * p->cols + c), 32));
        }
        const float mean = (float)(sum / (0x1p32 * (double)(p->rows > 0 ? p->rows : 1)));
        for (int64_t s = 0; s < p->rows; s++) {
            amax = fmaxf(amax, fabsf(offset_value(p, s * p->cols + c) - mean));
        }
        if (p->want_scale) {
            want[c] = (double)(amax / 448.0F);
            continue;
        }
        for (int64_t s = 0; s < p->rows; s++) {
            const float centred = offset_value(p, s * p->cols + c) - mean;
            const float scaled = centred * ((1.0F / amax) * 448.0F);
            want[rig_v_at(s, c, p->cols)] = nearest_e4m3((double)scaled);
        }
    }
}

/* sums, or range with want_scale */
static sky_status run_sums(rig *r, const void *params, sky_tensor *out)
{
    const quant_params *p = params;
    const sky_channel_sums_args args = {.sums = RIG_OUTPUT(r, SKY_I64, p->cols),
                                        .x = RIG_INPUT(r, p->x, 1, p->rows, p->cols),
                                        .range = p->want_scale ? RIG_OUTPUT(r, SKY_F32, 2 * p->cols) : (sky_tensor){0},
                                        .num_tokens = p->rows > 0 ? p->rows : 1};
    *out = p->want_scale ? args.range : args.sums;
    return sky_channel_sums(&r->ctx, &args);
}

static void expect_sums(const void *params, double *want)
{
    const quant_params *p = params;
    for (int64_t c = 0; c < p->cols; c++) {
        double sum = 0.0;
        double most = -INFINITY;
        double least = INFINITY;
        for (int64_t s = 0; s < p->rows; s++) {
            const double x = op_value(p->x, 1, s * p->cols + c);
            sum += rint(ldexp(x, 32));
            most = fmax(most, x);
            least = fmin(least, x);
        }
        want[c] = p->want_scale ? most : sum;
        if (p->want_scale) {
            want[p->cols + c] = least;
        }
    }
}

TEST(channel_ops_take_a_value_per_channel)
{
    /* Rows, columns, heads, parts of codes. */
    static const int64_t sizes[][4] = {{1, 1, 1, 0},    {0, 5, 1, 0},     {300, 64, 2, 2},
                                       {17, 65, 5, 3},  {129, 300, 3, 2}, {2500, 3, 1, 1},
                                       {128, 48, 3, 5}, {256, 130, 1, 0}, {130, 700, 7, 4}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (int kind = 0; kind < 2 && !test_failed(); kind++) {
            quant_params p = {.x = kind & 1 ? SKY_BF16 : SKY_F32,
                              .codes = SKY_F8_E4M3,
                              .rows = sizes[i][0],
                              .cols = sizes[i][1],
                              .heads = sizes[i][2],
                              .num_parts = (int)sizes[i][3]};
            test_parameters("rows=%d C=%d N=%d parts=%d %s", (int)p.rows, (int)p.cols, (int)p.heads, p.num_parts,
                            sky_dtype_name(p.x));
            op_check(&(op_case){run_sums, expect_sums, &p, .exact = true});
            op_check(&(op_case){run_channels, expect_channels, &p, .exact = true});
            op_check(&(op_case){run_centred, expect_centred, &p, .exact = true});
            p.want_scale = true;
            op_check(&(op_case){run_sums, expect_sums, &p, .exact = true});
            op_check(&(op_case){run_channels, expect_channels, &p, .exact = true});
            op_check(&(op_case){run_centred, expect_centred, &p, .exact = true});
        }
    }
}

/* Sums of parts add up to the bits of the whole's, wherever rows are cut; large and tiny values, of both signs. */
static void check_splits(const test_backend *which, sky_dtype dtype)
{
    enum { ROWS = 90, COLS = 67 };
    static float x[ROWS * COLS];
    rig r;
    CHECK(rig_open(&r, which, 0, RIG_ARENA_BYTES));
    for (int i = 0; i < ROWS * COLS; i++) {
        x[i] = ldexpf(test_random(5, (uint64_t)i), i % 7 == 0 ? i % 46 - 25 : -12); /* up to 2^20 and beyond */
        x[i] = dtype == SKY_BF16 ? sky_round_bf16(x[i]) : x[i];
    }
    const sky_tensor all = RIG_VALUES(&r, dtype, x, ROWS, COLS);
    const sky_tensor sums = RIG_OUTPUT(&r, SKY_I64, COLS);
    bool ok = true;
    for (int64_t cut = 0; cut <= ROWS && ok; cut++) {
        int64_t total[COLS] = {0};
        for (int part = 0; part < 2; part++) {
            const sky_tensor rows = part == 0 ? sky_tensor_rows(&all, 0, cut) : sky_tensor_rows(&all, cut, ROWS - cut);
            ok = ok && sky_channel_sums(
                           &r.ctx, &(sky_channel_sums_args){.sums = sums, .x = rows, .num_tokens = ROWS}) == SKY_OK;
            int64_t *got = (int64_t *)(void *)rig_read_bytes(&r, &sums);
            for (int c = 0; c < COLS; c++) {
                total[c] += got[c];
            }
            free(got);
        }
        for (int c = 0; c < COLS && ok; c++) {
            long double want = 0.0L;
            for (int s = 0; s < ROWS; s++) {
                want += rintl(ldexpl((long double)x[s * COLS + c], 32));
            }
            if ((long double)total[c] != want) {
                test_fail(__FILE__, __LINE__, "%s %s: cut at %d: channel %d sums to %lld, want %.0Lf", which->name,
                          sky_dtype_name(dtype), (int)cut, c, (long long)total[c], want);
                ok = false;
            }
        }
    }
    EXPECT(ok);
    rig_close(&r);
}

TEST(channel_sums_of_parts_add_up)
{
    for (int b = 0; b < test_num_backends(); b++) {
        check_splits(test_backend_at(b), SKY_F32);
        check_splits(test_backend_at(b), SKY_BF16);
    }
}

/* What a sum of fixed-point numbers cannot hold is cut off at 2^62 over the number of tokens; NaN counts as nothing. */
TEST(channel_sums_do_not_overflow)
{
    enum { ROWS = 5, COLS = 4 };
    const int64_t limit = (INT64_C(1) << 62) / ROWS;
    const float x[ROWS][COLS] = {{1e30F, -INFINITY, 1.0F, 0x1p-32F},
                                 {3e38F, -1e20F, NAN, 0x1.8p-32F},
                                 {INFINITY, -1e20F, -0.25F, 0x1p-33F},
                                 {1e9F, -1e20F, 0.0F, -0x1.4p-31F},
                                 {1e10F, -1e10F, 2.0F, 0x1p17F}};
    const int64_t want[COLS] = {5 * limit, -5 * limit, 11 * (INT64_C(1) << 30), (INT64_C(1) << 49) + 1 + 2 + 0 - 2};
    for (int b = 0; b < test_num_backends(); b++) {
        rig r;
        CHECK(rig_open(&r, test_backend_at(b), 0, RIG_ARENA_BYTES));
        const sky_tensor sums = RIG_OUTPUT(&r, SKY_I64, COLS);
        const sky_tensor in = RIG_VALUES(&r, SKY_F32, &x[0][0], ROWS, COLS);
        EXPECT(sky_channel_sums(&r.ctx, &(sky_channel_sums_args){.sums = sums, .x = in, .num_tokens = ROWS}) == SKY_OK);
        int64_t *got = (int64_t *)(void *)rig_read_bytes(&r, &sums);
        for (int c = 0; c < COLS; c++) {
            test_parameters("%s, channel %d: %lld, want %lld", r.which->name, c, (long long)got[c], (long long)want[c]);
            EXPECT(got[c] == want[c]);
        }
        free(got);
        rig_close(&r);
    }
}

/* Where the NaN is and what sign it has does not matter; a zero is +0; infinities are values like others. */
TEST(channel_range_of_extremes)
{
    enum { ROWS = 3, COLS = 6 };
    const float x[ROWS][COLS] = {{NAN, 1.0F, 1.0F, -0.0F, INFINITY, -2.0F},
                                 {1.0F, -NAN, 2.0F, 0.0F, -INFINITY, -1.0F},
                                 {2.0F, -1.0F, __builtin_nanf("7"), -0.0F, 0.0F, -3.0F}};
    const float want[2 * COLS] = {NAN, NAN, NAN, 0.0F, INFINITY, -1.0F, NAN, NAN, NAN, 0.0F, -INFINITY, -3.0F};
    const float none[2] = {-INFINITY, INFINITY};
    for (int b = 0; b < test_num_backends(); b++) {
        rig r;
        CHECK(rig_open(&r, test_backend_at(b), 0, RIG_ARENA_BYTES));
        sky_channel_sums_args args = {.sums = RIG_OUTPUT(&r, SKY_I64, COLS),
                                      .x = RIG_VALUES(&r, SKY_F32, &x[0][0], ROWS, COLS),
                                      .range = RIG_OUTPUT(&r, SKY_F32, 2 * COLS),
                                      .num_tokens = ROWS};
        EXPECT(sky_channel_sums(&r.ctx, &args) == SKY_OK);
        float *got = rig_read(&r, &args.range);
        for (int i = 0; i < 2 * COLS; i++) {
            test_parameters("%s, range %d: %a, want %a", r.which->name, i, (double)got[i], (double)want[i]);
            uint32_t bits[2];
            memcpy(&bits[0], &got[i], sizeof bits[0]);
            memcpy(&bits[1], &want[i], sizeof bits[1]);
            EXPECT(bits[0] == bits[1]);
        }
        free(got);
        args.x = SKY_TENSOR(NULL, SKY_F32, 0, COLS);
        EXPECT(sky_channel_sums(&r.ctx, &args) == SKY_OK && rig_check(&r));
        got = rig_read(&r, &args.range);
        for (int i = 0; i < 2 * COLS; i++) {
            EXPECT(got[i] == none[i / COLS]);
        }
        free(got);
        rig_close(&r);
    }
}

/* sums [3], by hand: large ones lose digits in f64 and f32, once each. */
TEST(sums_to_mean_divides_once)
{
    static const int64_t sums[] = {INT64_C(3) << 32, -(INT64_C(1) << 30), INT64_C(0x3fffffffffffffff), 1, 0};
    enum { LEN = sizeof sums / sizeof sums[0] };
    static const int64_t tokens[] = {1, 3, 51000};
    for (int b = 0; b < test_num_backends(); b++) {
        for (int t = 0; t < 3; t++) {
            rig r;
            CHECK(rig_open(&r, test_backend_at(b), t, RIG_ARENA_BYTES));
            const sky_sums_to_mean_args args = {.mean = RIG_OUTPUT(&r, SKY_F32, LEN),
                                                .sums = RIG_BYTES(&r, SKY_I64, sums, LEN),
                                                .num_tokens = tokens[t]};
            EXPECT(sky_sums_to_mean(&r.ctx, &args) == SKY_OK && rig_check(&r));
            float *mean = rig_read(&r, &args.mean);
            for (int i = 0; i < LEN; i++) {
                test_parameters("%s: %lld / %d", r.which->name, (long long)sums[i], (int)tokens[t]);
                EXPECT(mean[i] == (float)ldexp((double)sums[i] / (double)tokens[t], -32));
            }
            free(mean);
            rig_close(&r);
        }
    }
}

static sky_status run_back(rig *r, const void *params, sky_tensor *out)
{
    const quant_params *p = params;
    *out = RIG_OUTPUT(r, p->x, p->rows, p->cols);
    return sky_dequantize_rows(&r->ctx,
                               &(sky_dequantize_rows_args){.y = *out,
                                                           .codes = RIG_INPUT(r, p->codes, 1, p->rows, p->cols),
                                                           .scale = RIG_INPUT(r, SKY_F32, 2, p->rows)});
}

static void expect_back(const void *params, double *want)
{
    const quant_params *p = params;
    for (int64_t i = 0; i < p->rows * p->cols; i++) {
        want[i] = op_value(p->codes, 1, i) * op_value(SKY_F32, 2, i / p->cols);
    }
}

TEST(dequantize_rows_multiplies)
{
    static const int64_t sizes[][2] = {{1, 1}, {3, 7}, {64, 256}, {5, 1025}, {301, 33}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (int kind = 0; kind < 4 && !test_failed(); kind++) {
            const quant_params p = {.x = kind & 1 ? SKY_BF16 : SKY_F32,
                                    .codes = kind & 2 ? SKY_I8 : SKY_F8_E4M3,
                                    .rows = sizes[i][0],
                                    .cols = sizes[i][1]};
            test_parameters("rows=%d cols=%d %s to %s", (int)p.rows, (int)p.cols, sky_dtype_name(p.codes),
                            sky_dtype_name(p.x));
            op_check(&(op_case){run_back, expect_back, &p, .exact = true});
        }
    }
}

TEST(dequantize_rows_knows_every_code)
{
    uint8_t codes[256];
    for (int i = 0; i < 256; i++) {
        codes[i] = (uint8_t)i;
    }
    for (int b = 0; b < test_num_backends(); b++) {
        for (int i8 = 0; i8 < 2; i8++) {
            rig r;
            CHECK(rig_open(&r, test_backend_at(b), 0, RIG_ARENA_BYTES));
            const sky_dequantize_rows_args args = {.y = RIG_OUTPUT(&r, SKY_F32, 1, 256),
                                                   .codes = RIG_BYTES(&r, i8 ? SKY_I8 : SKY_F8_E4M3, codes, 1, 256),
                                                   .scale = RIG_VALUES(&r, SKY_F32, &(float){0.5F}, 1)};
            EXPECT(sky_dequantize_rows(&r.ctx, &args) == SKY_OK);
            float *y = rig_read(&r, &args.y);
            for (int i = 0; i < 256; i++) {
                const float want = i8 ? (float)(int8_t)i : sky_e4m3_to_f32((uint8_t)i);
                test_parameters("%s, code 0x%02x: got %g, want half of %g", r.which->name, i, (double)y[i],
                                (double)want);
                EXPECT(isnan(want) ? isnan(y[i]) : y[i] == 0.5F * want && signbit(y[i]) == signbit(want));
            }
            free(y);
            rig_close(&r);
        }
    }
}

/* With a range of +-448 and no mean the factor is 1: every bf16 number, and the neighbours of every tie, become what sky_f32_to_e4m3 says. */
TEST(every_backend_rounds_to_e4m3_as_base_does)
{
    enum { ALL = 0x10000, TIES = 126 * 6 };
    static uint16_t bits[ALL];
    static float ties[TIES];
    CHECK((1.0F / 448.0F) * 448.0F == 1.0F);
    for (int i = 0; i < ALL; i++) {
        bits[i] = (uint16_t)i;
    }
    for (int i = 0; i < 126; i++) {
        const float low = sky_e4m3_to_f32((uint8_t)i);
        const float tie = low + (sky_e4m3_to_f32((uint8_t)(i + 1)) - low) / 2.0F;
        const float near[] = {tie, nextafterf(tie, 0.0F), nextafterf(tie, 1e9F)};
        for (int j = 0; j < 3; j++) {
            ties[6 * i + j] = near[j];
            ties[6 * i + 3 + j] = -near[j];
        }
    }
    const float range[4] = {448.0F, 448.0F, -448.0F, -448.0F};
    const float no_mean[2] = {0.0F, 0.0F};
    for (int b = 0; b < test_num_backends(); b++) {
        rig r;
        CHECK(rig_open(&r, test_backend_at(b), 0, RIG_ARENA_BYTES));
        sky_quantize_channels_args args = {.codes = RIG_OUTPUT(&r, SKY_F8_E4M3, ALL / 256, 1, 2, 128),
                                           .scale = RIG_OUTPUT(&r, SKY_F32, 2),
                                           .x = RIG_BYTES(&r, SKY_BF16, bits, ALL / 2, 2),
                                           .mean = RIG_VALUES(&r, SKY_F32, no_mean, 2),
                                           .range = RIG_VALUES(&r, SKY_F32, range, 4)};
        EXPECT(sky_quantize_channels(&r.ctx, &args) == SKY_OK);
        unsigned char *codes = rig_read_bytes(&r, &args.codes);
        for (int i = 0; i < ALL && !test_failed(); i++) {
            const unsigned code = codes[rig_v_at(i / 2, i % 2, 2)];
            test_parameters("%s: bf16 0x%04x became 0x%02x", r.which->name, (unsigned)i, code);
            EXPECT(code == sky_f32_to_e4m3(sky_bf16_to_f32((uint16_t)i)));
        }
        free(codes);
        args.x = RIG_VALUES(&r, SKY_F32, ties, TIES / 2, 2);
        args.codes = RIG_OUTPUT(&r, SKY_F8_E4M3, sky_num_v_tiles(TIES / 2), 2, 1, 128);
        EXPECT(sky_quantize_channels(&r.ctx, &args) == SKY_OK);
        codes = rig_read_bytes(&r, &args.codes);
        for (int i = 0; i < TIES && !test_failed(); i++) {
            const unsigned code = codes[rig_v_at(i / 2, i % 2, 2)];
            test_parameters("%s: %a became 0x%02x", r.which->name, (double)ties[i], code);
            EXPECT(code == sky_f32_to_e4m3(ties[i]));
        }
        free(codes);
        rig_close(&r);
    }
}

/* Rows of zeros, of the least, of infinity and NaN. A scale that is not a number shows in everything made of the row. */
TEST(quantize_rows_of_extremes)
{
    enum { ROWS = 6, COLS = 3 };
    const float x[ROWS][COLS] = {{0.0F, -0.0F, 0.0F},     {1e-12F, -1e-13F, 1e-45F},          {1e-13F, 0.0F, -1e-13F},
                                 {1.0F, -INFINITY, 0.0F}, {1.0F, __builtin_nanf("5"), -2.0F}, {3e38F, -1e38F, 1e30F}};
    const uint8_t e4m3[ROWS][COLS] = {{0x00, 0x80, 0x00}, {0x7e, 0xe3, 0x00}, {0x63, 0x00, 0xe3},
                                      {0x00, 0x7f, 0x00}, {0x7f, 0x7f, 0x7f}, {0x7e, 0xf1, 0x00}};
    const int8_t i8[ROWS][COLS] = {{0, 0, 0}, {127, -13, 0}, {13, 0, -13}, {0, 0, 0}, {0, 0, 0}, {127, -42, 0}};
    const float amax[ROWS] = {1e-12F, 1e-12F, 1e-12F, INFINITY, NAN, 3e38F};
    for (int b = 0; b < test_num_backends(); b++) {
        for (int kind = 0; kind < 2; kind++) {
            rig r;
            CHECK(rig_open(&r, test_backend_at(b), 0, RIG_ARENA_BYTES));
            const sky_quantize_rows_args args = {.codes = RIG_OUTPUT(&r, kind ? SKY_I8 : SKY_F8_E4M3, ROWS, COLS),
                                                 .scale = RIG_OUTPUT(&r, SKY_F32, ROWS),
                                                 .x = RIG_VALUES(&r, SKY_F32, &x[0][0], ROWS, COLS)};
            EXPECT(sky_quantize_rows(&r.ctx, &args) == SKY_OK);
            unsigned char *codes = rig_read_bytes(&r, &args.codes);
            float *scale = rig_read(&r, &args.scale);
            for (int i = 0; i < ROWS * COLS; i++) {
                const uint8_t want = kind ? (uint8_t)i8[i / COLS][i % COLS] : e4m3[i / COLS][i % COLS];
                test_parameters("%s %s, row %d, %g: code 0x%02x, want 0x%02x; scale %g", r.which->name,
                                sky_dtype_name(args.codes.dtype), i / COLS, (double)x[i / COLS][i % COLS], codes[i],
                                want, (double)scale[i / COLS]);
                EXPECT(codes[i] == want);
                const float want_scale = amax[i / COLS] / (kind ? 127.0F : 448.0F);
                EXPECT(isnan(want_scale) ? isnan(scale[i / COLS]) : scale[i / COLS] == want_scale);
            }
            free(codes);
            free(scale);
            rig_close(&r);
        }
    }
}

#define REFUSES(op, want, ...)                                                   \
    do {                                                                         \
        CHECK_STATUS(sky_##op(&r.ctx, &(sky_##op##_args){__VA_ARGS__}), (want)); \
    } while (0)

TEST(quantising_ops_refuse)
{
    static float memory[4][128];
    rig r;
    CHECK(rig_open(&r, test_backend_at(0), 0, RIG_ARENA_BYTES));
    const sky_tensor x = SKY_TENSOR(memory[0], SKY_F32, 3, 4);
    const sky_tensor e4m3 = SKY_TENSOR(memory[1], SKY_F8_E4M3, 3, 4);
    const sky_tensor three = SKY_TENSOR(memory[2], SKY_F32, 3);
    const sky_tensor four = SKY_TENSOR(memory[3], SKY_F32, 4);
    const sky_tensor other = SKY_TENSOR(memory[1], SKY_F8_E4M3, 4, 3);
    const sky_tensor in_x = SKY_TENSOR(memory[0] + 11, SKY_F32, 3);
    REFUSES(quantize_rows, SKY_OK, .codes = e4m3, .scale = three, .x = x);
    REFUSES(quantize_rows, SKY_OK, .codes = SKY_TENSOR(NULL, SKY_I8, 0, 4), .scale = SKY_TENSOR(NULL, SKY_F32, 0),
            .x = SKY_TENSOR(NULL, SKY_F32, 0, 4));
    REFUSES(quantize_rows, SKY_OK, .codes = e4m3, .scale = three, .x = x, .num_parts = 3, .num_heads = 2);
    REFUSES(quantize_rows, SKY_ERR_SHAPE, .codes = e4m3, .scale = three, .x = x, .num_parts = -1);
    REFUSES(quantize_rows, SKY_ERR_SHAPE, .codes = e4m3, .scale = three, .x = x, .num_parts = 2);
    REFUSES(quantize_rows, SKY_ERR_SHAPE, .codes = e4m3, .scale = three, .x = x, .num_parts = 2, .num_heads = 3);
    REFUSES(quantize_rows, SKY_ERR_SHAPE, .codes = other, .scale = three, .x = x);
    REFUSES(quantize_rows, SKY_ERR_SHAPE, .codes = e4m3, .scale = four, .x = x);
    REFUSES(quantize_rows, SKY_ERR_SHAPE, .codes = SKY_TENSOR(memory[1], SKY_I8, 3, 0), .scale = three,
            .x = SKY_TENSOR(memory[0], SKY_F32, 3, 0));
    REFUSES(quantize_rows, SKY_ERR_DTYPE, .codes = SKY_TENSOR(memory[1], SKY_U8, 3, 4), .scale = three, .x = x);
    REFUSES(quantize_rows, SKY_ERR_INTERNAL, .codes = e4m3, .scale = in_x, .x = x);
    REFUSES(quantize_rows, SKY_ERR_INTERNAL, .codes = e4m3, .scale = SKY_TENSOR(memory[1], SKY_F32, 3), .x = x);

    REFUSES(dequantize_rows, SKY_OK, .y = x, .codes = e4m3, .scale = three);
    REFUSES(dequantize_rows, SKY_ERR_SHAPE, .y = x, .codes = other, .scale = three);
    REFUSES(dequantize_rows, SKY_ERR_SHAPE, .y = x, .codes = e4m3, .scale = four);
    REFUSES(dequantize_rows, SKY_ERR_DTYPE, .y = e4m3, .codes = e4m3, .scale = three);

    const sky_tensor sums = SKY_TENSOR(memory[3], SKY_I64, 4);
    REFUSES(channel_sums, SKY_OK, .sums = sums, .x = x, .num_tokens = 3);
    REFUSES(channel_sums, SKY_ERR_SHAPE, .sums = SKY_TENSOR(memory[3], SKY_I64, 3), .x = x, .num_tokens = 3);
    REFUSES(channel_sums, SKY_ERR_SHAPE, .sums = sums, .x = x, .num_tokens = 2);
    REFUSES(channel_sums, SKY_ERR_SHAPE, .sums = sums, .x = SKY_TENSOR(NULL, SKY_F32, 0, 4), .num_tokens = 0);
    REFUSES(channel_sums, SKY_ERR_DTYPE, .sums = four, .x = x, .num_tokens = 3);
    REFUSES(channel_sums, SKY_ERR_SHAPE, .sums = sums, .x = x, .range = three, .num_tokens = 3);
    REFUSES(sums_to_mean, SKY_ERR_SHAPE, .mean = four, .sums = SKY_TENSOR(memory[0], SKY_I64, 4), .num_tokens = 0);
    REFUSES(sums_to_mean, SKY_ERR_SHAPE, .mean = four, .sums = SKY_TENSOR(memory[0], SKY_I64, 3), .num_tokens = 1);

    const sky_tensor mean = SKY_TENSOR(memory[2] + 16, SKY_F32, 4);
    const sky_tensor range = SKY_TENSOR(memory[2], SKY_F32, 8);
    const sky_tensor tiles = SKY_TENSOR(memory[1], SKY_F8_E4M3, 1, 2, 2, 128);
    REFUSES(quantize_channels, SKY_OK, .codes = tiles, .scale = four, .x = x, .mean = mean, .range = range);
    REFUSES(quantize_channels, SKY_ERR_DTYPE, .codes = SKY_TENSOR(memory[1], SKY_I8, 1, 2, 2, 128), .scale = four,
            .x = x, .mean = mean, .range = range);
    REFUSES(quantize_channels, SKY_OK, .codes = tiles, .scale = four, .x = x, .mean = mean, .range = range,
            .num_parts = 3);
    REFUSES(quantize_channels, SKY_ERR_SHAPE, .codes = tiles, .scale = four, .x = x, .mean = mean, .range = range,
            .num_parts = -1);
    REFUSES(quantize_channels, SKY_ERR_SHAPE, .codes = e4m3, .scale = four, .x = x, .mean = mean, .range = range);
    REFUSES(quantize_channels, SKY_ERR_SHAPE, .codes = SKY_TENSOR(memory[1], SKY_F8_E4M3, 2, 2, 2, 128), .scale = four,
            .x = x, .mean = mean, .range = range);
    REFUSES(quantize_channels, SKY_ERR_SHAPE, .codes = SKY_TENSOR(memory[1], SKY_F8_E4M3, 1, 1, 3, 128), .scale = four,
            .x = x, .mean = mean, .range = range);
    REFUSES(quantize_channels, SKY_ERR_SHAPE, .codes = SKY_TENSOR(memory[1], SKY_F8_E4M3, 1, 4, 2, 64), .scale = four,
            .x = x, .mean = mean, .range = range);
    REFUSES(quantize_channels, SKY_ERR_SHAPE, .codes = tiles, .scale = four, .x = x, .mean = mean,
            .range = SKY_TENSOR(memory[2], SKY_F32, 4));
    REFUSES(quantize_channels, SKY_ERR_SHAPE, .codes = tiles, .scale = three, .x = x, .mean = mean, .range = range);
    REFUSES(quantize_channels, SKY_ERR_SHAPE, .codes = tiles, .scale = four, .x = x, .mean = three, .range = range);
    REFUSES(quantize_channels, SKY_ERR_INTERNAL, .codes = tiles, .scale = four, .x = x, .mean = mean,
            .range = SKY_TENSOR(memory[3], SKY_F32, 8));
    REFUSES(quantize_channels, SKY_ERR_INTERNAL, .codes = tiles, .scale = four, .x = x, .mean = four, .range = range);
    rig_close(&r);
}

TEST(quantize_heads_refuses)
{
    static float memory[4][64];
    rig r;
    CHECK(rig_open(&r, test_backend_at(0), 0, RIG_ARENA_BYTES));
    const sky_tensor x = SKY_TENSOR(memory[0], SKY_F32, 5, 2, 3);
    const sky_tensor codes = SKY_TENSOR(memory[1], SKY_I8, 5, 2, 3);
    const sky_tensor scale = SKY_TENSOR(memory[2], SKY_F32, 3, 2);
    const sky_tensor mean = SKY_TENSOR(memory[3], SKY_F32, 2, 3);
    REFUSES(quantize_heads, SKY_OK, .codes = codes, .scale = scale, .x = x, .mean = mean, .tokens_per_group = 2);
    REFUSES(quantize_heads, SKY_OK, .codes = SKY_TENSOR(NULL, SKY_I8, 0, 2, 3),
            .scale = SKY_TENSOR(NULL, SKY_F32, 0, 2), .x = SKY_TENSOR(NULL, SKY_F32, 0, 2, 3), .tokens_per_group = 64);
    REFUSES(quantize_heads, SKY_ERR_SHAPE, .codes = codes, .scale = scale, .x = x, .tokens_per_group = 0);
    REFUSES(quantize_heads, SKY_ERR_SHAPE, .codes = codes, .scale = scale, .x = x, .tokens_per_group = 3);
    REFUSES(quantize_heads, SKY_ERR_SHAPE, .codes = codes, .scale = scale, .x = x, .tokens_per_group = 2,
            .num_parts = -1);
    REFUSES(quantize_heads, SKY_ERR_SHAPE, .codes = codes, .scale = SKY_TENSOR(memory[2], SKY_F32, 3, 3), .x = x,
            .tokens_per_group = 2);
    REFUSES(quantize_heads, SKY_ERR_SHAPE, .codes = SKY_TENSOR(memory[1], SKY_I8, 5, 3, 2), .scale = scale, .x = x,
            .tokens_per_group = 2);
    REFUSES(quantize_heads, SKY_ERR_SHAPE, .codes = codes, .scale = scale, .x = x,
            .mean = SKY_TENSOR(memory[3], SKY_F32, 3, 2), .tokens_per_group = 2);
    REFUSES(quantize_heads, SKY_ERR_DTYPE, .codes = SKY_TENSOR(memory[1], SKY_F8_E4M3, 5, 2, 3), .scale = scale, .x = x,
            .tokens_per_group = 2);
    REFUSES(quantize_heads, SKY_ERR_INTERNAL, .codes = codes, .scale = scale, .x = x,
            .mean = SKY_TENSOR(memory[2], SKY_F32, 2, 3), .tokens_per_group = 2);
    REFUSES(quantize_heads, SKY_ERR_INTERNAL, .codes = codes, .scale = SKY_TENSOR(memory[0] + 29, SKY_F32, 3, 2),
            .x = x, .tokens_per_group = 2);
    rig_close(&r);
}

TEST_MAIN
