#include "ops/rig.h"

#include "support/compare.h"
#include "support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct conv_params {
    sky_dtype dtype;
    int64_t frames, height, width, channels; /* T, H, W, C; T counts the frames in front */
    int64_t kt, kh, kw, outputs;
    int stride_t, stride_hw;
    int top, bottom, left, right;
} conv_params;

/* Shape of y: the number of places at which the kernel fits, counted. */
static void output_shape(const conv_params *p, int64_t *shape)
{
    memset(shape, 0, 4 * sizeof *shape);
    for (int64_t t = 0; t + p->kt <= p->frames; t += p->stride_t) {
        shape[0]++;
    }
    for (int64_t i = 0; i + p->kh <= p->height + p->top + p->bottom; i += p->stride_hw) {
        shape[1]++;
    }
    for (int64_t j = 0; j + p->kw <= p->width + p->left + p->right; j += p->stride_hw) {
        shape[2]++;
    }
    shape[3] = p->outputs;
}

static sky_status run_conv(rig *r, const void *params, sky_tensor *out)
{
    const conv_params *p = params;
    int64_t shape[4];
    output_shape(p, shape);
    const sky_conv3d_args args = {
        .y = rig_output(r, p->dtype, 4, shape),
        .x = RIG_INPUT(r, p->dtype, 1, p->frames, p->height, p->width, p->channels),
        .weight = RIG_INPUT(r, p->dtype, 3, p->outputs, p->kt, p->kh, p->kw, p->channels),
        .bias = RIG_INPUT(r, p->dtype, 4, p->outputs),
        .stride_t = p->stride_t,
        .stride_hw = p->stride_hw,
        .pad_top = p->top,
        .pad_bottom = p->bottom,
        .pad_left = p->left,
        .pad_right = p->right,
    };
    *out = args.y;
    return sky_conv3d(&r->ctx, &args);
}

/* Input of the formula: x, zeros around. */
static double padded(const conv_params *p, int64_t t, int64_t i, int64_t j, int64_t c)
{
    if (i < 0 || j < 0 || i >= p->height || j >= p->width) {
        return 0.0;
    }
    return op_value(p->dtype, 1, ((t * p->height + i) * p->width + j) * p->channels + c);
}

static void expect_conv(const void *params, double *want)
{
    const conv_params *p = params;
    int64_t shape[4];
    output_shape(p, shape);
    const int64_t num_taps = p->kt * p->kh * p->kw * p->channels;
    for (int64_t t = 0; t < shape[0]; t++) {
        for (int64_t i = 0; i < shape[1]; i++) {
            for (int64_t j = 0; j < shape[2]; j++) {
                for (int64_t o = 0; o < shape[3]; o++) {
                    double sum = op_value(p->dtype, 4, o);
                    for (int64_t tap = 0; tap < num_taps; tap++) {
                        const int64_t c = tap % p->channels;
                        const int64_t kw = tap / p->channels % p->kw;
                        const int64_t kh = tap / p->channels / p->kw % p->kh;
                        const int64_t kt = tap / p->channels / p->kw / p->kh;
                        sum += op_value(p->dtype, 3, o * num_taps + tap) * padded(p, t * p->stride_t + kt,
                                                                                  i * p->stride_hw + kh - p->top,
                                                                                  j * p->stride_hw + kw - p->left, c);
                    }
                    *want++ = sum;
                }
            }
        }
    }
}

TEST(conv3d_sums_over_the_kernel)
{
    static const conv_params cases[] = {
        {0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0},    /* one of everything */
        {0, 5, 7, 9, 5, 3, 3, 3, 6, 1, 1, 1, 1, 1, 1},    /* causal 3 x 3 x 3 */
        {0, 3, 5, 6, 16, 3, 3, 3, 16, 1, 1, 1, 1, 1, 1},  /* one frame behind two */
        {0, 3, 5, 6, 16, 3, 3, 3, 3, 1, 1, 1, 1, 1, 1},   /* one frame from three, few outputs */
        {0, 3, 4, 4, 3, 3, 1, 1, 5, 1, 1, 0, 0, 0, 0},    /* nothing in front: T - 2 frames come out */
        {0, 2, 9, 11, 4, 1, 3, 3, 7, 1, 2, 0, 1, 0, 1},   /* downsampling, padded below and right */
        {0, 2, 8, 10, 4, 1, 3, 3, 7, 1, 2, 0, 1, 0, 1},   /* the same, even */
        {0, 6, 3, 5, 6, 3, 1, 1, 6, 2, 1, 0, 0, 0, 0},    /* stride in time */
        {0, 5, 6, 7, 24, 1, 1, 1, 33, 1, 1, 0, 0, 0, 0},  /* a matrix product */
        {0, 1, 17, 19, 3, 1, 3, 3, 20, 1, 1, 1, 1, 1, 1}, /* frames in */
        {0, 1, 6, 70, 8, 1, 3, 3, 32, 1, 1, 1, 1, 1, 1},  /* wide */
        {0, 3, 4, 4, 130, 3, 3, 3, 17, 1, 1, 1, 1, 1, 1}, /* many channels */
        {0, 1, 2, 3, 2, 1, 5, 5, 2, 1, 1, 3, 2, 2, 4},    /* padded more than a kernel's half */
        {0, 3, 5, 27, 32, 3, 3, 3, 96, 1, 1, 1, 1, 1, 1}, /* what tensor cores take */
        {0, 2, 9, 11, 64, 1, 3, 3, 70, 1, 2, 0, 1, 0, 1}, /* the same, downsampling */
        {0, 5, 3, 5, 32, 3, 1, 1, 64, 2, 1, 0, 0, 0, 0},  /* the same, stride in time */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int type = 0; type < 2 && !test_failed(); type++) {
            conv_params p = cases[i];
            p.dtype = type == 0 ? SKY_F32 : SKY_BF16;
            test_parameters("case %d %s", (int)i, sky_dtype_name(p.dtype));
            op_check(&(op_case){run_conv, expect_conv, &p, .sum_len = p.kt * p.kh * p.kw * p.channels});
        }
    }
}

/*
 * 3 x 3 over 3 x 3, padded by one, in whole numbers. Correlation as in the formula, not convolution: with kernel and image
 * both 1..9 the centre is 1*1 + 2*2 + .. + 9*9 = 285, the upper left 5*1 + 6*2 + 8*4 + 9*5 = 94. The kernel 9..1 tells a
 * turned one from a straight one everywhere.
 */
TEST(conv3d_by_hand)
{
    static const float up[] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    static const float down[] = {9, 8, 7, 6, 5, 4, 3, 2, 1};
    static const float want[2][9] = {{94, 154, 106, 186, 285, 186, 106, 154, 94},
                                     {26, 56, 54, 84, 165, 144, 134, 236, 186}};
    for (int b = 0; b < test_num_backends(); b++) {
        for (int kernel = 0; kernel < 2; kernel++) {
            rig r;
            CHECK(rig_open(&r, test_backend_at(b), 0, RIG_ARENA_BYTES));
            test_parameters("%s kernel=%d", r.which->name, kernel);
            const sky_conv3d_args args = {
                .y = RIG_OUTPUT(&r, SKY_F32, 1, 3, 3, 1),
                .x = RIG_VALUES(&r, SKY_F32, up, 1, 3, 3, 1),
                .weight = RIG_VALUES(&r, SKY_F32, kernel == 0 ? up : down, 1, 1, 3, 3, 1),
                .bias = RIG_VALUES(&r, SKY_F32, ((const float[]){0.5F}), 1),
                .stride_t = 1,
                .stride_hw = 1,
                .pad_top = 1,
                .pad_bottom = 1,
                .pad_left = 1,
                .pad_right = 1,
            };
            const sky_status st = sky_conv3d(&r.ctx, &args);
            float *y = rig_read(&r, &args.y);
            EXPECT(st == SKY_OK);
            for (int i = 0; i < 9; i++) {
                EXPECT(y[i] == want[kernel][i] + 0.5F);
            }
            free(y);
            rig_close(&r);
        }
    }
}

/*
 * Bytes: strips of rows and single frames, with the rows and frames around them that the kernel needs, give the bytes of the
 * whole. `all` are FRAMES frames; out frame t comes from frames t to t + 2.
 */
enum { FRAMES = 4, HEIGHT = 11, WIDTH = 13, MAX_CHANNELS = 24, FRAMES_SEEN = 3 };

/* Rows [first, last) of num_out frames from out frame t on; the caller frees them. */
static unsigned char *conv_piece(const test_backend *which, sky_dtype dtype, const float *all, int64_t channels,
                                 int64_t outputs, int64_t t, int64_t num_out, int64_t first, int64_t last)
{
    static float piece[FRAMES * HEIGHT * WIDTH * MAX_CHANNELS];
    const int64_t row_len = WIDTH * channels;
    const int64_t from = first > 0 ? first - 1 : 0;
    const int64_t rows = (last < HEIGHT ? last + 1 : HEIGHT) - from;
    const int64_t num_in = num_out + FRAMES_SEEN - 1;
    for (int64_t f = 0; f < num_in; f++) {
        memcpy(piece + f * rows * row_len, all + ((t + f) * HEIGHT + from) * row_len,
               (size_t)(rows * row_len) * sizeof(float));
    }
    rig r;
    SKY_ASSERT(rig_open(&r, which, 0, RIG_ARENA_BYTES));
    const sky_conv3d_args args = {
        .y = RIG_OUTPUT(&r, dtype, num_out, last - first, WIDTH, outputs),
        .x = RIG_VALUES(&r, dtype, piece, num_in, rows, WIDTH, channels),
        .weight = RIG_INPUT(&r, dtype, 3, outputs, FRAMES_SEEN, 3, 3, channels),
        .bias = RIG_INPUT(&r, dtype, 4, outputs),
        .stride_t = 1,
        .stride_hw = 1,
        .pad_top = first == 0,
        .pad_bottom = last == HEIGHT,
        .pad_left = 1,
        .pad_right = 1,
    };
    EXPECT(sky_conv3d(&r.ctx, &args) == SKY_OK);
    unsigned char *bytes = rig_read_bytes(&r, &args.y);
    rig_close(&r);
    return bytes;
}

static void check_pieces(const test_backend *which, sky_dtype dtype, int64_t channels, int64_t outputs)
{
    enum { NUM_OUT = FRAMES - FRAMES_SEEN + 1 };
    const size_t out_row_bytes = (size_t)(WIDTH * outputs) * sky_dtype_bytes(dtype);
    const size_t len = (size_t)(FRAMES * HEIGHT * WIDTH * channels);
    float *all = malloc(len * sizeof *all);
    SKY_ASSERT(all != NULL && channels <= MAX_CHANNELS);
    test_fill_random(all, len, 1);
    unsigned char *whole = conv_piece(which, dtype, all, channels, outputs, 0, NUM_OUT, 0, HEIGHT);
    for (int64_t first = 0; first < HEIGHT; first++) {
        for (int64_t last = HEIGHT; last > first && !test_failed(); last--) {
            const int64_t t = (first + last) % NUM_OUT;
            unsigned char *part = conv_piece(which, dtype, all, channels, outputs, t, 1, first, last);
            if (memcmp(part, whole + (size_t)(t * HEIGHT + first) * out_row_bytes,
                       (size_t)(last - first) * out_row_bytes) != 0) {
                test_fail(__FILE__, __LINE__, "%s %s C=%d O=%d: frame %d, rows %d to %d alone differ", which->name,
                          sky_dtype_name(dtype), (int)channels, (int)outputs, (int)t, (int)first, (int)last);
            }
            free(part);
        }
    }
    free(whole);
    free(all);
}

TEST(conv3d_rows_do_not_depend_on_their_number)
{
    for (int b = 0; b < test_num_backends(); b++) {
        check_pieces(test_backend_at(b), SKY_F32, 5, 7);
        check_pieces(test_backend_at(b), SKY_F32, 16, 3);
        check_pieces(test_backend_at(b), SKY_BF16, 24, 16);
    }
}

/* A NaN, in a frame in front or a new one, reaches the outputs whose kernel sees it and no others. */
static void check_nan(const test_backend *which, sky_dtype dtype, int64_t outputs)
{
    enum { T = 4, H = 5, W = 40, C = 9, AT_ROW = 2, AT_COL = 33 };
    static float x[T * H * W * C];
    for (int64_t at_frame = 0; at_frame < T && !test_failed(); at_frame++) {
        test_fill_random(x, sizeof x / sizeof x[0], 1);
        x[((at_frame * H + AT_ROW) * W + AT_COL) * C + C - 1] = NAN;
        rig r;
        CHECK(rig_open(&r, which, 0, RIG_ARENA_BYTES));
        const sky_conv3d_args args = {
            .y = RIG_OUTPUT(&r, dtype, T - 2, H, W, outputs),
            .x = RIG_VALUES(&r, dtype, x, T, H, W, C),
            .weight = RIG_INPUT(&r, dtype, 3, outputs, 3, 3, 3, C),
            .bias = RIG_INPUT(&r, dtype, 4, outputs),
            .stride_t = 1,
            .stride_hw = 1,
            .pad_top = 1,
            .pad_bottom = 1,
            .pad_left = 1,
            .pad_right = 1,
        };
        EXPECT(sky_conv3d(&r.ctx, &args) == SKY_OK);
        float *y = rig_read(&r, &args.y);
        rig_close(&r);
        for (int64_t n = 0; n < (T - 2) * H * W * outputs && !test_failed(); n++) {
            const int64_t t = n / (H * W * outputs);
            const int64_t i = n / (W * outputs) % H;
            const int64_t j = n / outputs % W;
            const bool sees = at_frame >= t && at_frame <= t + 2 && llabs(i - AT_ROW) <= 1 && llabs(j - AT_COL) <= 1;
            if (isnan(y[n]) != sees) {
                test_fail(__FILE__, __LINE__, "%s %s O=%d, NaN in frame %d: y[%d, %d, %d, ..] is %g", which->name,
                          sky_dtype_name(dtype), (int)outputs, (int)at_frame, (int)t, (int)i, (int)j, (double)y[n]);
            }
        }
        free(y);
    }
}

TEST(conv3d_nan_reaches_what_sees_it)
{
    for (int b = 0; b < test_num_backends(); b++) {
        check_nan(test_backend_at(b), SKY_F32, 7);
        check_nan(test_backend_at(b), SKY_F32, 3);
        check_nan(test_backend_at(b), SKY_BF16, 16);
    }
}

TEST(conv3d_refuses)
{
    static float memory[5][512];
    rig r;
    CHECK(rig_open(&r, test_backend_at(0), 0, RIG_ARENA_BYTES));
    const sky_conv3d_args good = {
        .y = SKY_TENSOR(memory[0], SKY_F32, 2, 4, 5, 3),
        .x = SKY_TENSOR(memory[1], SKY_F32, 4, 4, 5, 2),
        .weight = SKY_TENSOR(memory[3], SKY_F32, 3, 3, 3, 3, 2),
        .bias = SKY_TENSOR(memory[4], SKY_F32, 3),
        .stride_t = 1,
        .stride_hw = 1,
        .pad_top = 1,
        .pad_bottom = 1,
        .pad_left = 1,
        .pad_right = 1,
    };
    CHECK_OK(sky_conv3d(&r.ctx, &good));
#define REFUSES(field, value, want)                       \
    do {                                                  \
        sky_conv3d_args changed = good;                   \
        changed.field = (value);                          \
        CHECK_STATUS(sky_conv3d(&r.ctx, &changed), want); \
    } while (0)
    REFUSES(y, SKY_TENSOR(memory[0], SKY_F32, 1, 4, 5, 3), SKY_ERR_SHAPE);
    REFUSES(y, SKY_TENSOR(memory[0], SKY_F32, 2, 3, 5, 3), SKY_ERR_SHAPE);
    REFUSES(y, SKY_TENSOR(memory[0], SKY_F32, 2, 4, 6, 3), SKY_ERR_SHAPE);
    REFUSES(y, SKY_TENSOR(memory[0], SKY_F32, 2, 4, 5, 2), SKY_ERR_SHAPE);
    REFUSES(x, SKY_TENSOR(memory[1], SKY_F32, 4, 4, 5, 1), SKY_ERR_SHAPE);
    REFUSES(x, SKY_TENSOR(memory[1], SKY_F32, 3, 4, 5, 2), SKY_ERR_SHAPE);
    REFUSES(x, SKY_TENSOR(memory[1], SKY_F32, 4, 4, 4, 2), SKY_ERR_SHAPE);
    REFUSES(x, SKY_TENSOR(memory[1], SKY_F32, 2, 4, 5, 2), SKY_ERR_SHAPE);
    REFUSES(weight, SKY_TENSOR(memory[3], SKY_F32, 3, 5, 3, 3, 2), SKY_ERR_SHAPE);
    REFUSES(weight, SKY_TENSOR(memory[3], SKY_F32, 3, 3, 7, 3, 2), SKY_ERR_SHAPE);
    REFUSES(weight, SKY_TENSOR(memory[3], SKY_F32, 3, 3, 3, 8, 2), SKY_ERR_SHAPE);
    REFUSES(weight, SKY_TENSOR(memory[3], SKY_F32, 3, 3, 0, 3, 2), SKY_ERR_SHAPE);
    REFUSES(weight, SKY_TENSOR(memory[3], SKY_F32, 3, 3, 3, 3, 1), SKY_ERR_SHAPE);
    REFUSES(bias, SKY_TENSOR(memory[4], SKY_F32, 4), SKY_ERR_SHAPE);
    REFUSES(stride_t, 0, SKY_ERR_SHAPE);
    REFUSES(stride_hw, 0, SKY_ERR_SHAPE);
    REFUSES(pad_top, -1, SKY_ERR_SHAPE);
    REFUSES(pad_right, -1, SKY_ERR_SHAPE);
    REFUSES(y.dtype, SKY_BF16, SKY_ERR_DTYPE);
    REFUSES(x.dtype, SKY_BF16, SKY_ERR_DTYPE);
    REFUSES(weight.dtype, SKY_BF16, SKY_ERR_DTYPE);
    REFUSES(bias.dtype, SKY_BF16, SKY_ERR_DTYPE);
    sky_conv3d_args bad = good; /* what the formula would make of an empty kernel, and of one too large */
    bad.weight = SKY_TENSOR(memory[3], SKY_F32, 3, 3, 0, 3, 2);
    bad.y = SKY_TENSOR(memory[0], SKY_F32, 2, 7, 5, 3);
    CHECK_STATUS(sky_conv3d(&r.ctx, &bad), SKY_ERR_SHAPE);
    bad.weight = SKY_TENSOR(memory[3], SKY_F32, 3, 5, 3, 3, 2);
    bad.y = SKY_TENSOR(memory[0], SKY_F32, 0, 4, 5, 3);
    CHECK_STATUS(sky_conv3d(&r.ctx, &bad), SKY_ERR_SHAPE);
    REFUSES(y.data, memory[1], SKY_ERR_INTERNAL);
    REFUSES(y.data, memory[1] + 159, SKY_ERR_INTERNAL);
    rig_close(&r);
}

TEST_MAIN
