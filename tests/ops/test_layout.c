#include "ops/rig.h"

#include "support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum layout_op { LAST, FIRST, PATCHIFY, UNPATCHIFY, UPSAMPLE, INTERLEAVE, EMBEDDING, TO_U8 } layout_op;

typedef struct layout_params {
    layout_op op;
    sky_dtype x, y;
    int64_t c, t, h, w; /* of x (of y for FIRST and UNPATCHIFY); embedding: t rows out of h */
    int64_t extra;      /* FIRST: channels of x that are not taken; PATCHIFY: first token */
    int64_t rows;       /* PATCHIFY */
    bool scaled, clamp;
} layout_params;

static sky_status run_channels(rig *r, const layout_params *p, sky_tensor *out)
{
    const int64_t first[] = {p->c, p->t, p->h, p->w};
    const int64_t last[] = {p->t, p->h, p->w, p->c + p->extra};
    const sky_tensor scale = p->scaled ? RIG_INPUT(r, SKY_F32, 2, p->c) : (sky_tensor){0};
    const sky_tensor shift = p->scaled ? RIG_INPUT(r, SKY_F32, 3, p->c) : (sky_tensor){0};
    const sky_tensor x = rig_input(r, p->x, 1, 4, p->op == LAST ? first : last);
    *out = rig_output(r, p->y, 4, p->op == LAST ? last : first);
    if (p->op == LAST) {
        return sky_to_channels_last(&r->ctx, &(sky_to_channels_last_args){*out, x, scale, shift});
    }
    return sky_to_channels_first(&r->ctx, &(sky_to_channels_first_args){*out, x, scale, shift, .clamp = p->clamp});
}

static sky_status run_layout(rig *r, const void *params, sky_tensor *out)
{
    const layout_params *p = params;
    const int64_t tokens = p->t * (p->h / 2) * (p->w / 2);
    sky_tensor x;
    switch (p->op) {
    case LAST:
    case FIRST:
        return run_channels(r, p, out);
    case PATCHIFY:
        x = RIG_INPUT(r, p->x, 1, p->c, p->t, p->h, p->w);
        *out = RIG_OUTPUT(r, p->y, p->rows, 4 * p->c);
        return sky_patchify(&r->ctx, &(sky_patchify_args){*out, x, p->extra});
    case UNPATCHIFY:
        x = RIG_INPUT(r, p->x, 1, tokens, 4 * p->c);
        *out = RIG_OUTPUT(r, p->y, p->c, p->t, p->h, p->w);
        return sky_unpatchify(&r->ctx, &(sky_unpatchify_args){*out, x});
    case UPSAMPLE:
        x = RIG_INPUT(r, p->x, 1, p->t, p->h, p->w, p->c);
        *out = RIG_OUTPUT(r, p->y, p->t, 2 * p->h, 2 * p->w, p->c);
        return sky_upsample_nearest(&r->ctx, &(sky_upsample_nearest_args){*out, x});
    case INTERLEAVE:
        x = RIG_INPUT(r, p->x, 1, p->t, p->h, p->w, 2 * p->c);
        *out = RIG_OUTPUT(r, p->y, 2 * p->t, p->h, p->w, p->c);
        return sky_interleave_frames(&r->ctx, &(sky_interleave_frames_args){*out, x});
    case EMBEDDING: {
        float ids[64];
        for (int64_t s = 0; s < p->t; s++) {
            ids[s] = (float)((s * 7 + p->h - 1) % p->h);
        }
        x = RIG_INPUT(r, p->x, 1, p->h, p->c);
        *out = RIG_OUTPUT(r, p->y, p->t, p->c);
        return sky_embedding(&r->ctx, &(sky_embedding_args){*out, x, RIG_VALUES(r, SKY_I32, ids, p->t)});
    }
    default:
        x = RIG_INPUT(r, p->x, 1, p->t, p->h, p->w, 3);
        *out = RIG_OUTPUT(r, SKY_U8, p->t, p->h, p->w, 3);
        return sky_frames_to_u8(&r->ctx, &(sky_frames_to_u8_args){*out, x});
    }
}

static double scaled(const layout_params *p, double x, int64_t c)
{
    if (p->scaled) {
        volatile float step = (float)x * (float)op_value(SKY_F32, 2, c);
        step = step + (float)op_value(SKY_F32, 3, c);
        x = (double)step;
    }
    return p->clamp ? fmin(fmax(x, -1.0), 1.0) : x;
}

/* Every op scatters: from each index of x to its place in y, where the reference gathers. */
static void expect_layout(const void *params, double *want)
{
    const layout_params *p = params;
    const int64_t C = p->c;
    const int64_t T = p->t;
    const int64_t H = p->h;
    const int64_t W = p->w;
    if (p->op == EMBEDDING) {
        for (int64_t i = 0; i < T * C; i++) {
            want[i] = op_value(p->x, 1, (i / C * 7 + H - 1) % H * C + i % C);
        }
        return;
    }
    if (p->op == TO_U8) {
        for (int64_t i = 0; i < T * H * W * 3; i++) {
            const float x = (float)op_value(p->x, 1, i);
            want[i] = x <= -1.0F ? 0.0 : x >= 1.0F ? 255.0 : floor((double)(255.0F * (x / 2.0F + 0.5F)));
        }
        return;
    }
    for (int64_t c = 0; c < C; c++) {
        for (int64_t t = 0; t < T; t++) {
            for (int64_t i = 0; i < H; i++) {
                for (int64_t j = 0; j < W; j++) {
                    const int64_t first = ((c * T + t) * H + i) * W + j;
                    const int64_t last = ((t * H + i) * W + j) * C + c;
                    const int64_t token = (t * (H / 2) + i / 2) * (W / 2) + j / 2;
                    const int64_t within = i % 2 * 2 + j % 2;
                    switch (p->op) {
                    case LAST:
                        want[last] = scaled(p, op_value(p->x, 1, first), c);
                        break;
                    case FIRST:
                        want[first] = scaled(p, op_value(p->x, 1, ((t * H + i) * W + j) * (C + p->extra) + c), c);
                        break;
                    case PATCHIFY:
                        if (token >= p->extra && token < p->extra + p->rows) {
                            want[(token - p->extra) * 4 * C + c * 4 + within] = op_value(p->x, 1, first);
                        }
                        break;
                    case UNPATCHIFY:
                        want[first] = op_value(p->x, 1, token * 4 * C + within * C + c);
                        break;
                    case UPSAMPLE:
                        for (int k = 0; k < 4; k++) {
                            want[((t * 2 * H + 2 * i + k / 2) * 2 * W + 2 * j + k % 2) * C + c] =
                                op_value(p->x, 1, last);
                        }
                        break;
                    default: /* INTERLEAVE */
                        for (int k = 0; k < 2; k++) {
                            want[(((2 * t + k) * H + i) * W + j) * C + c] =
                                op_value(p->x, 1, ((t * H + i) * W + j) * 2 * C + k * C + c);
                        }
                        break;
                    }
                }
            }
        }
    }
}

static void check_layout(layout_params p)
{
    if (!test_failed()) {
        test_parameters("op=%d C=%d T=%d H=%d W=%d extra=%d rows=%d x=%s y=%s scaled=%d clamp=%d", (int)p.op, (int)p.c,
                        (int)p.t, (int)p.h, (int)p.w, (int)p.extra, (int)p.rows, sky_dtype_name(p.x),
                        sky_dtype_name(p.y), p.scaled, p.clamp);
        op_check(&(op_case){run_layout, expect_layout, &p, .exact = true});
    }
}

static const sky_dtype pairs[][2] = {
    {SKY_F32, SKY_F32}, {SKY_BF16, SKY_BF16}, {SKY_F32, SKY_BF16}, {SKY_BF16, SKY_F32}};

TEST(channels_last_and_first)
{
    for (int i = 0; i < 4; i++) {
        for (int scale = 0; scale < 2; scale++) {
            layout_params p = {LAST, pairs[i][0], pairs[i][1], 1, 1, 1, 1, .scaled = scale != 0};
            check_layout(p);
            p.c = 16;
            p.t = 3;
            p.h = 5;
            p.w = 7;
            check_layout(p);
            p.op = FIRST;
            for (p.extra = 0; p.extra <= 16; p.extra += 16) {
                p.clamp = false;
                check_layout(p);
                p.clamp = true;
                check_layout(p);
            }
            check_layout((layout_params){FIRST, pairs[i][0], pairs[i][1], 3, 2, 33, 65, .scaled = scale != 0});
            check_layout((layout_params){LAST, pairs[i][0], pairs[i][1], 3, 2, 33, 65, .scaled = scale != 0});
        }
    }
}

TEST(clamp_keeps_nan)
{
    for (int b = 0; b < test_num_backends(); b++) {
        rig r;
        CHECK(rig_open(&r, test_backend_at(b), 0, RIG_ARENA_BYTES));
        test_parameters("%s", r.which->name);
        float x[37];
        for (int i = 0; i < 37; i++) {
            x[i] = i % 4 == 0 ? NAN : i % 4 == 1 ? INFINITY : i % 4 == 2 ? -INFINITY : 0.25F;
        }
        const sky_to_channels_first_args args = {
            .y = RIG_OUTPUT(&r, SKY_F32, 1, 1, 1, 37), .x = RIG_VALUES(&r, SKY_F32, x, 1, 1, 37, 1), .clamp = true};
        EXPECT(sky_to_channels_first(&r.ctx, &args) == SKY_OK);
        float *y = rig_read(&r, &args.y);
        for (int i = 0; i < 37; i++) {
            EXPECT(i % 4 == 0 ? isnan(y[i]) : y[i] == (i % 4 == 1 ? 1.0F : i % 4 == 2 ? -1.0F : 0.25F));
        }
        free(y);
        rig_close(&r);
    }
}

TEST(patches_out_and_in)
{
    static const int64_t shapes[][4] = {{1, 1, 2, 2}, {16, 3, 6, 10}, {5, 2, 4, 14}, {36, 1, 8, 6}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        layout_params p = {PATCHIFY, SKY_F32, SKY_F32, shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3]};
        const int64_t tokens = p.t * (p.h / 2) * (p.w / 2);
        p.rows = tokens;
        check_layout(p);
        p.y = SKY_BF16;
        check_layout(p);
        p.extra = tokens / 3; /* a rank's share */
        p.rows = tokens - p.extra - tokens / 4;
        check_layout(p);
        p.y = SKY_F32;
        check_layout(p);
        check_layout((layout_params){UNPATCHIFY, SKY_F32, SKY_F32, p.c, p.t, p.h, p.w});
    }
}

TEST(upsampling_and_interleaving)
{
    static const int64_t shapes[][4] = {{1, 1, 1, 1}, {6, 2, 3, 5}, {17, 1, 4, 9}, {64, 3, 2, 2}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        for (int j = 0; j < 2; j++) {
            const int64_t *s = shapes[i];
            check_layout((layout_params){UPSAMPLE, pairs[j][0], pairs[j][1], s[0], s[1], s[2], s[3]});
            check_layout((layout_params){INTERLEAVE, pairs[j][0], pairs[j][1], s[0], s[1], s[2], s[3]});
        }
    }
}

TEST(embedding_takes_rows)
{
    for (int j = 0; j < 2; j++) {
        check_layout((layout_params){EMBEDDING, pairs[j][0], pairs[j][1], 1, 1, 1, 1});
        check_layout((layout_params){EMBEDDING, pairs[j][0], pairs[j][1], 33, 64, 20, 1});
        check_layout((layout_params){EMBEDDING, pairs[j][0], pairs[j][1], 128, 5, 400, 1});
    }
}

TEST(frames_become_bytes)
{
    check_layout((layout_params){TO_U8, SKY_F32, SKY_U8, 3, 1, 1, 1});
    check_layout((layout_params){TO_U8, SKY_F32, SKY_U8, 3, 2, 33, 17});
    check_layout((layout_params){TO_U8, SKY_BF16, SKY_U8, 3, 2, 33, 17});
}

/* Cut, not rounded: 254.99 is 254, and 255 is reached at 1 only. */
TEST(frames_to_u8_by_hand)
{
    static const float x[] = {-1, 1, 0, 0.999F, -0.9999F, 5, -5, NAN, INFINITY, -INFINITY, 0.5F, 2.0F / 255.0F};
    static const float want[] = {0, 255, 127, 254, 0, 255, 0, 0, 255, 0, 191, 128};
    for (int b = 0; b < test_num_backends(); b++) {
        rig r;
        CHECK(rig_open(&r, test_backend_at(b), 0, RIG_ARENA_BYTES));
        test_parameters("%s", r.which->name);
        float many[96];
        for (int i = 0; i < 96; i++) {
            many[i] = x[i % 12];
        }
        const sky_frames_to_u8_args args = {RIG_OUTPUT(&r, SKY_U8, 1, 4, 8, 3),
                                            RIG_VALUES(&r, SKY_F32, many, 1, 4, 8, 3)};
        EXPECT(sky_frames_to_u8(&r.ctx, &args) == SKY_OK);
        float *y = rig_read(&r, &args.y);
        for (int i = 0; i < 96; i++) {
            EXPECT(y[i] == want[i % 12]);
        }
        free(y);
        rig_close(&r);
    }
}

#define REFUSES(op, want, ...) CHECK_STATUS(sky_##op(ctx, &(sky_##op##_args){__VA_ARGS__}), want)

TEST(channel_layouts_refuse)
{
    static float memory[4][256];
    rig r;
    CHECK(rig_open(&r, test_backend_at(0), 0, RIG_ARENA_BYTES));
    sky_ctx *ctx = &r.ctx;
    const sky_tensor first = SKY_TENSOR(memory[0], SKY_F32, 3, 2, 4, 5);
    const sky_tensor last = SKY_TENSOR(memory[1], SKY_F32, 2, 4, 5, 3);
    const sky_tensor more = SKY_TENSOR(memory[1], SKY_F32, 2, 4, 5, 6);
    const sky_tensor fewer = SKY_TENSOR(memory[1], SKY_F32, 2, 4, 5, 2);
    const sky_tensor wider = SKY_TENSOR(memory[1], SKY_F32, 2, 4, 6, 3);
    const sky_tensor vector = SKY_TENSOR(memory[2], SKY_F32, 3);
    const sky_tensor longer = SKY_TENSOR(memory[2], SKY_F32, 4);
    const sky_tensor bf16 = SKY_TENSOR(memory[2], SKY_BF16, 3);
    REFUSES(to_channels_last, SKY_OK, .y = last, .x = first, .scale = vector, .shift = vector);
    REFUSES(to_channels_last, SKY_ERR_SHAPE, .y = last, .x = first, .scale = vector);
    REFUSES(to_channels_last, SKY_ERR_SHAPE, .y = last, .x = first, .shift = vector);
    REFUSES(to_channels_last, SKY_ERR_SHAPE, .y = last, .x = first, .scale = longer, .shift = longer);
    REFUSES(to_channels_last, SKY_ERR_SHAPE, .y = more, .x = first);
    REFUSES(to_channels_last, SKY_ERR_SHAPE, .y = wider, .x = first);
    REFUSES(to_channels_last, SKY_ERR_DTYPE, .y = last, .x = first, .scale = bf16, .shift = vector);
    REFUSES(to_channels_last, SKY_ERR_DTYPE, .y = last, .x = SKY_TENSOR(memory[0], SKY_F64, 3, 2, 4, 5));
    REFUSES(to_channels_last, SKY_ERR_INTERNAL, .y = last, .x = SKY_TENSOR(memory[1], SKY_F32, 3, 2, 4, 5));
    REFUSES(to_channels_first, SKY_OK, .y = first, .x = more, .scale = vector, .shift = vector);
    REFUSES(to_channels_first, SKY_ERR_SHAPE, .y = first, .x = fewer);
    REFUSES(to_channels_first, SKY_ERR_SHAPE, .y = first, .x = wider);
    REFUSES(to_channels_first, SKY_ERR_SHAPE, .y = first, .x = more, .shift = vector);
    REFUSES(to_channels_first, SKY_ERR_DTYPE, .y = first, .x = more, .scale = vector, .shift = bf16);
    REFUSES(to_channels_first, SKY_ERR_INTERNAL, .y = SKY_TENSOR(memory[1], SKY_F32, 3, 2, 4, 5), .x = last);
    rig_close(&r);
}

TEST(layouts_refuse)
{
    static float memory[3][512];
    rig r;
    CHECK(rig_open(&r, test_backend_at(0), 0, RIG_ARENA_BYTES));
    sky_ctx *ctx = &r.ctx;
    const sky_tensor latents = SKY_TENSOR(memory[0], SKY_F32, 3, 2, 4, 6);
    const sky_tensor odd = SKY_TENSOR(memory[0], SKY_F32, 3, 2, 4, 5);
    const sky_tensor rows = SKY_TENSOR(memory[1], SKY_F32, 12, 12);
    const sky_tensor fewer_rows = SKY_TENSOR(memory[1], SKY_F32, 8, 12);
    const sky_tensor narrow = SKY_TENSOR(memory[1], SKY_F32, 12, 8);
    REFUSES(patchify, SKY_OK, .y = rows, .x = latents);
    REFUSES(patchify, SKY_ERR_SHAPE, .y = rows, .x = latents, .first_token = 1);
    REFUSES(patchify, SKY_ERR_SHAPE, .y = rows, .x = latents, .first_token = -1);
    REFUSES(patchify, SKY_ERR_SHAPE, .y = fewer_rows, .x = odd); /* even if its whole patches fit */
    REFUSES(patchify, SKY_ERR_SHAPE, .y = narrow, .x = latents);
    REFUSES(patchify, SKY_ERR_DTYPE, .y = rows, .x = SKY_TENSOR(memory[0], SKY_BF16, 3, 2, 4, 6));
    REFUSES(patchify, SKY_ERR_INTERNAL, .y = SKY_TENSOR(memory[0], SKY_F32, 12, 12), .x = latents);
    REFUSES(unpatchify, SKY_OK, .y = latents, .x = rows);
    REFUSES(unpatchify, SKY_ERR_SHAPE, .y = latents, .x = SKY_TENSOR(memory[1], SKY_F32, 11, 12));
    REFUSES(unpatchify, SKY_ERR_SHAPE, .y = latents, .x = narrow);
    REFUSES(unpatchify, SKY_ERR_SHAPE, .y = odd, .x = fewer_rows);
    REFUSES(unpatchify, SKY_ERR_DTYPE, .y = latents, .x = SKY_TENSOR(memory[1], SKY_BF16, 12, 12));
    REFUSES(unpatchify, SKY_ERR_INTERNAL, .y = latents, .x = SKY_TENSOR(memory[0], SKY_F32, 12, 12));

    const sky_tensor image = SKY_TENSOR(memory[0], SKY_F32, 2, 3, 4, 6);
    const sky_tensor bf16_image = SKY_TENSOR(memory[2], SKY_BF16, 2, 3, 4, 6);
    const sky_tensor small = SKY_TENSOR(memory[0], SKY_F32, 1, 2, 3, 4);
    REFUSES(upsample_nearest, SKY_OK, .y = SKY_TENSOR(memory[1], SKY_F32, 1, 4, 6, 4), .x = small);
    REFUSES(upsample_nearest, SKY_ERR_SHAPE, .y = SKY_TENSOR(memory[1], SKY_F32, 1, 4, 5, 4), .x = small);
    REFUSES(upsample_nearest, SKY_ERR_SHAPE, .y = SKY_TENSOR(memory[1], SKY_F32, 2, 4, 6, 4), .x = small);
    REFUSES(upsample_nearest, SKY_ERR_DTYPE, .y = SKY_TENSOR(memory[1], SKY_BF16, 1, 4, 6, 4), .x = small);
    REFUSES(upsample_nearest, SKY_ERR_INTERNAL, .y = SKY_TENSOR(memory[0], SKY_F32, 1, 4, 6, 4), .x = small);
    REFUSES(interleave_frames, SKY_OK, .y = SKY_TENSOR(memory[1], SKY_F32, 4, 3, 4, 3), .x = image);
    REFUSES(interleave_frames, SKY_ERR_SHAPE, .y = SKY_TENSOR(memory[1], SKY_F32, 4, 3, 4, 2), .x = image);
    REFUSES(interleave_frames, SKY_ERR_SHAPE, .y = SKY_TENSOR(memory[1], SKY_F32, 3, 3, 4, 3), .x = image);
    REFUSES(interleave_frames, SKY_ERR_DTYPE, .y = SKY_TENSOR(memory[1], SKY_F32, 4, 3, 4, 3), .x = bf16_image);
    REFUSES(interleave_frames, SKY_ERR_INTERNAL, .y = SKY_TENSOR(memory[0], SKY_F32, 4, 3, 4, 3), .x = image);

    static int32_t numbers[5];
    const sky_tensor ids = SKY_TENSOR(numbers, SKY_I32, 5);
    const sky_tensor table = SKY_TENSOR(memory[0], SKY_F32, 7, 4);
    REFUSES(embedding, SKY_OK, .y = SKY_TENSOR(memory[1], SKY_F32, 5, 4), .table = table, .ids = ids);
    REFUSES(embedding, SKY_ERR_SHAPE, .y = SKY_TENSOR(memory[1], SKY_F32, 4, 4), .table = table, .ids = ids);
    REFUSES(embedding, SKY_ERR_SHAPE, .y = SKY_TENSOR(memory[1], SKY_F32, 5, 3), .table = table, .ids = ids);
    REFUSES(embedding, SKY_ERR_DTYPE, .y = SKY_TENSOR(memory[1], SKY_BF16, 5, 4), .table = table, .ids = ids);
    REFUSES(embedding, SKY_ERR_DTYPE, .y = SKY_TENSOR(memory[1], SKY_F32, 5, 4), .table = table,
            .ids = SKY_TENSOR(numbers, SKY_I64, 5));
    REFUSES(embedding, SKY_ERR_INTERNAL, .y = SKY_TENSOR(memory[0], SKY_F32, 5, 4), .table = table, .ids = ids);

    const sky_tensor frames = SKY_TENSOR(memory[0], SKY_F32, 2, 3, 4, 3);
    REFUSES(frames_to_u8, SKY_OK, .y = SKY_TENSOR(memory[1], SKY_U8, 2, 3, 4, 3), .x = frames);
    REFUSES(frames_to_u8, SKY_ERR_SHAPE, .y = SKY_TENSOR(memory[1], SKY_U8, 2, 3, 5, 3), .x = frames);
    REFUSES(frames_to_u8, SKY_ERR_SHAPE, .y = SKY_TENSOR(memory[1], SKY_U8, 2, 3, 4, 6), .x = image);
    REFUSES(frames_to_u8, SKY_ERR_DTYPE, .y = SKY_TENSOR(memory[1], SKY_F32, 2, 3, 4, 3), .x = frames);
    REFUSES(frames_to_u8, SKY_ERR_INTERNAL, .y = SKY_TENSOR(memory[0], SKY_U8, 2, 3, 4, 3), .x = frames);
    rig_close(&r);
}

TEST_MAIN
