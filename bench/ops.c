/*
 * bench/ops.c - how fast the operations of a backend in host memory are, at shapes that the models have
 *
 *     bench-ops [--backend NAME] [--threads N] [--isa v4|v3|base] [--only TEXT] [--repeat SECONDS] [--json FILE]
 *
 * Each op first has to agree with the reference on a small case. Then every row runs for at least the time given and
 * reports the median and the best; rates are the best's, flops and bytes by the formulas of docs/performance.md. The share
 * is of the best that one large f32 product reached on the same threads (for GB/s: that a copy of 128 MiB on one thread).
 *
 * Where OpenBLAS is installed, its product follows each f32 linear: in one call ("sgemm"), and in pieces of 128 rows
 * ("sgemm/128"), which is what the contract of linear would ask of it. Neither adds a bias, ours does.
 */
#include "base/clock.h"
#include "blas.h"

#include "ops/backend.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_RUNS = 10000 };

typedef struct bench {
    sky_ctx ctx;
    const char *only;
    double seconds;
    double peak_gflops, peak_gbytes;
    json_t *rows;
    double runs[MAX_RUNS];
} bench;

static void check(sky_status st)
{
    if (st != SKY_OK) {
        fprintf(stderr, "bench-ops: %s\n", sky_message());
        exit(sky_status_exit_code(st));
    }
}

/* A tensor from the arena with values in [-1, 1), codes 127 times as large, that are the same in every run. */
static sky_tensor filled(bench *b, sky_dtype dtype, int num_dims, const int64_t *shape)
{
    sky_tensor t;
    check(sky_ctx_tensor(&b->ctx, &t, dtype, num_dims, shape));
    uint32_t state = 1;
    for (int64_t i = 0; i < sky_tensor_len(&t); i++) {
        state = state * 1664525U + 1013904223U;
        const float value = (float)(state >> 8) / 8388608.0F - 1.0F;
        if (dtype == SKY_F32) {
            ((float *)t.data)[i] = value;
        } else if (dtype == SKY_BF16) {
            ((uint16_t *)t.data)[i] = sky_f32_to_bf16(value);
        } else {
            const float code = 127.0F * value;
            ((uint8_t *)t.data)[i] = dtype == SKY_I8 ? (uint8_t)(int8_t)code : sky_f32_to_e4m3(code);
        }
    }
    return t;
}
#define FILLED(b, dtype, ...) \
    filled(b, dtype, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__})

/* One operation, ready to run. */
typedef struct operation {
    const char *name;
    sky_tensor y;
    sky_tensor between; /* of an op made of two */
    sky_tensor rounded; /* of one made of three */
    double flops;       /* or 0, and then bytes */
    double bytes;
    sky_status (*run)(sky_ctx *ctx, const struct operation *op);
    sky_status (*reference)(sky_ctx *ctx, const struct operation *op); /* where it is not run with another backend */
    union {
        sky_linear_args linear;
        sky_attention_args attention;
        sky_attention_8bit_args attention_8bit;
        sky_channel_sums_args v_sums;
        sky_quantize_channels_args v_codes;
        sky_conv3d_args conv3d;
        sky_channel_norm_args channel_norm;
        sky_layer_norm_modulate_args modulate;
        sky_qk_norm_rope_args rope;
        sky_qk_norm_rope_sums_args sums;
        sky_qk_norm_rope_quantize_args codes;
        sky_activation_args activation;
        sky_gate_residual_args gate;
        sky_residual_norm_args residual;
    } args;
} operation;

#define RUNNER(op, member)                                                \
    static sky_status run_##op(sky_ctx *ctx, const operation *operation_) \
    {                                                                     \
        return sky_##op(ctx, &operation_->args.member);                   \
    }
RUNNER(linear, linear)
RUNNER(attention, attention)
RUNNER(attention_8bit, attention_8bit)
RUNNER(channel_sums, v_sums)
RUNNER(quantize_channels, v_codes)
RUNNER(conv3d, conv3d)
RUNNER(channel_norm, channel_norm)
RUNNER(layer_norm_modulate, modulate)
RUNNER(qk_norm_rope, rope)
RUNNER(qk_norm_rope_sums, sums)
RUNNER(qk_norm_rope_quantize, codes)
RUNNER(activation, activation)
RUNNER(gate_residual, gate)
RUNNER(residual_norm, residual)

static operation linear(bench *b, sky_dtype dtype, int64_t m, int64_t n, int64_t k)
{
    operation op = {.name = "linear", .flops = 2.0 * (double)m * (double)n * (double)k, .run = run_linear};
    op.y = FILLED(b, dtype, m, n);
    op.args.linear = (sky_linear_args){
        .y = op.y, .x = FILLED(b, dtype, m, k), .weight = FILLED(b, dtype, n, k), .bias = FILLED(b, SKY_F32, n)};
    return op;
}

static operation attention(bench *b, sky_dtype dtype, int64_t queries, int64_t keys, int64_t heads, int64_t dim)
{
    operation op = {.name = "attention", .run = run_attention};
    op.flops = 4.0 * (double)queries * (double)keys * (double)heads * (double)dim;
    op.y = FILLED(b, dtype, queries, heads, dim);
    op.args.attention = (sky_attention_args){.y = op.y,
                                             .q = FILLED(b, dtype, queries, heads, dim),
                                             .k = FILLED(b, dtype, keys, heads, dim),
                                             .v = FILLED(b, dtype, keys, heads, dim),
                                             .softmax_scale = 1.0F / sqrtf((float)dim)};
    return op;
}

static operation attention_8bit(bench *b, sky_dtype dtype, int64_t queries, int64_t keys, int64_t heads, int64_t dim)
{
    const int64_t key_groups = (keys + SKY_K_GROUP_TOKENS - 1) / SKY_K_GROUP_TOKENS;
    operation op = {.name = "attention_8bit", .run = run_attention_8bit};
    op.flops = 4.0 * (double)queries * (double)keys * (double)heads * (double)dim;
    op.y = FILLED(b, dtype, queries, heads, dim);
    op.args.attention_8bit = (sky_attention_8bit_args){
        .y = op.y,
        .q = FILLED(b, SKY_I8, queries, heads, dim),
        .q_scale = FILLED(b, SKY_F32, (queries + SKY_Q_GROUP_TOKENS - 1) / SKY_Q_GROUP_TOKENS, heads),
        .k = FILLED(b, SKY_I8, keys, heads, dim),
        .k_scale = FILLED(b, SKY_F32, key_groups, heads),
        .v = FILLED(b, SKY_F8_E4M3, sky_num_v_tiles(keys), heads, dim, SKY_V_TILE_TOKENS),
        .v_scale = FILLED(b, SKY_F32, heads, dim),
        .v_mean = FILLED(b, SKY_F32, heads, dim),
        .softmax_scale = 1e-3F / sqrtf((float)dim)};
    return op;
}

/* What V goes through on its way to codes: sums and extremes, then the codes. */
static operation v_sums(bench *b, sky_dtype dtype, int64_t rows, int64_t heads, int64_t dim)
{
    operation op = {.name = "v_sums", .run = run_channel_sums};
    check(sky_ctx_tensor(&b->ctx, &op.y, SKY_I64, 1, (int64_t[]){heads * dim}));
    op.args.v_sums = (sky_channel_sums_args){.sums = op.y,
                                             .x = FILLED(b, dtype, rows, heads * dim),
                                             .range = FILLED(b, SKY_F32, 2 * heads * dim),
                                             .num_tokens = rows};
    op.bytes = (double)(sky_tensor_bytes(&op.y) + sky_tensor_bytes(&op.args.v_sums.x));
    return op;
}

static operation v_codes(bench *b, sky_dtype dtype, int64_t rows, int64_t heads, int64_t dim)
{
    operation op = {.name = "v_codes", .run = run_quantize_channels};
    op.y = FILLED(b, SKY_F8_E4M3, sky_num_v_tiles(rows), heads, dim, SKY_V_TILE_TOKENS);
    op.args.v_codes = (sky_quantize_channels_args){.codes = op.y,
                                                   .scale = FILLED(b, SKY_F32, heads * dim),
                                                   .x = FILLED(b, dtype, rows, heads * dim),
                                                   .mean = FILLED(b, SKY_F32, heads * dim),
                                                   .range = FILLED(b, SKY_F32, 2 * heads * dim)};
    op.bytes = (double)(sky_tensor_bytes(&op.y) + sky_tensor_bytes(&op.args.v_codes.x));
    return op;
}

static sky_status run_sgemm(sky_ctx *ctx, const operation *op)
{
    (void)ctx;
    bench_blas_linear(&op->args.linear, op->y.shape[0]);
    return SKY_OK;
}

static sky_status run_sgemm_pieces(sky_ctx *ctx, const operation *op)
{
    (void)ctx;
    bench_blas_linear(&op->args.linear, SKY_LINEAR_PIECE_ROWS);
    return SKY_OK;
}

static operation linear_by_blas(bench *b, int64_t m, int64_t n, int64_t k, bool pieces)
{
    operation op = linear(b, SKY_F32, m, n, k);
    op.name = pieces ? "sgemm/128" : "sgemm";
    op.run = pieces ? run_sgemm_pieces : run_sgemm;
    op.reference = run_linear;
    op.args.linear.bias = (sky_tensor){0};
    return op;
}

/* Frames x height x width, same padding; kt - 1 frames in front of them. */
static operation conv(bench *b, sky_dtype dtype, int64_t frames, int64_t height, int64_t width, int64_t in, int64_t out,
                      int64_t kt, int64_t khw)
{
    operation op = {.name = "conv3d", .run = run_conv3d};
    op.flops = 2.0 * (double)(frames * height * width) * (double)(in * out * kt * khw * khw);
    op.y = FILLED(b, dtype, frames, height, width, out);
    const int pad = (int)(khw / 2);
    op.args.conv3d = (sky_conv3d_args){.y = op.y,
                                       .x = FILLED(b, dtype, kt - 1 + frames, height, width, in),
                                       .weight = FILLED(b, dtype, out, kt, khw, khw, in),
                                       .bias = FILLED(b, dtype, out),
                                       .stride_t = 1,
                                       .stride_hw = 1,
                                       .pad_top = pad,
                                       .pad_bottom = pad,
                                       .pad_left = pad,
                                       .pad_right = pad};
    return op;
}

static operation channel_norm(bench *b, sky_dtype dtype, int64_t rows, int64_t channels)
{
    operation op = {.name = "channel_norm", .run = run_channel_norm};
    op.y = FILLED(b, dtype, rows, channels);
    op.bytes = 2.0 * (double)sky_tensor_bytes(&op.y);
    op.args.channel_norm = (sky_channel_norm_args){
        .y = op.y, .x = FILLED(b, dtype, rows, channels), .gamma = FILLED(b, SKY_F32, channels), .silu = true};
    return op;
}

static operation modulate(bench *b, sky_dtype dtype, int64_t rows, int64_t cols)
{
    operation op = {.name = "modulate", .run = run_layer_norm_modulate};
    op.y = FILLED(b, dtype, rows, cols);
    op.args.modulate = (sky_layer_norm_modulate_args){.y = op.y,
                                                      .x = FILLED(b, SKY_F32, rows, cols),
                                                      .shift = FILLED(b, SKY_F32, 1, cols),
                                                      .scale = FILLED(b, SKY_F32, 1, cols),
                                                      .rows_per_group = rows,
                                                      .eps = 1e-6F};
    op.bytes = (double)(sky_tensor_bytes(&op.y) + sky_tensor_bytes(&op.args.modulate.x));
    return op;
}

static operation qk_norm_rope(bench *b, sky_dtype dtype, int64_t rows, int64_t heads, int64_t dim)
{
    operation op = {.name = "qk_norm_rope", .run = run_qk_norm_rope};
    op.y = FILLED(b, dtype, rows, heads * dim);
    op.bytes = 2.0 * (double)sky_tensor_bytes(&op.y);
    op.args.rope = (sky_qk_norm_rope_args){.y = op.y,
                                           .x = FILLED(b, dtype, rows, heads * dim),
                                           .weight = FILLED(b, SKY_F32, heads * dim),
                                           .freqs = FILLED(b, SKY_F32, rows, dim / 2, 2),
                                           .eps = 1e-6F};
    return op;
}

static sky_status norm_rope_between(sky_ctx *ctx, const operation *op, const sky_qk_norm_rope_args *args)
{
    sky_qk_norm_rope_args to_f32 = *args;
    to_f32.y = op->between;
    return sky_qk_norm_rope(ctx, &to_f32);
}

static sky_status run_sums_apart(sky_ctx *ctx, const operation *op)
{
    const sky_qk_norm_rope_sums_args *a = &op->args.sums;
    SKY_TRY(norm_rope_between(
        ctx, op, &(sky_qk_norm_rope_args){.x = a->x, .weight = a->weight, .freqs = a->freqs, .eps = a->eps}));
    return sky_channel_sums(ctx,
                            &(sky_channel_sums_args){.sums = a->sums, .x = op->between, .num_tokens = a->num_tokens});
}

static sky_status run_codes_apart(sky_ctx *ctx, const operation *op)
{
    const sky_qk_norm_rope_quantize_args *a = &op->args.codes;
    const int64_t heads[] = {a->x.shape[0], a->scale.shape[1], 2 * a->freqs.shape[1]};
    SKY_TRY(norm_rope_between(
        ctx, op, &(sky_qk_norm_rope_args){.x = a->x, .weight = a->weight, .freqs = a->freqs, .eps = a->eps}));
    return sky_quantize_heads(ctx, &(sky_quantize_heads_args){.codes = sky_tensor_reshape(&a->codes, 3, heads),
                                                              .scale = a->scale,
                                                              .x = sky_tensor_reshape(&op->between, 3, heads),
                                                              .mean = a->mean,
                                                              .tokens_per_group = a->tokens_per_group});
}

/* In one op, or by way of f32 rows; bytes are those of the one op in both cases. */
static operation qk_sums(bench *b, sky_dtype dtype, int64_t rows, int64_t heads, int64_t dim, bool apart)
{
    operation op = {.name = apart ? "qk_sums/f32" : "qk_sums", .run = apart ? run_sums_apart : run_qk_norm_rope_sums};
    check(sky_ctx_tensor(&b->ctx, &op.y, SKY_I64, 1, (int64_t[]){heads * dim}));
    op.between = FILLED(b, SKY_F32, rows, heads * dim);
    op.args.sums = (sky_qk_norm_rope_sums_args){.sums = op.y,
                                                .x = FILLED(b, dtype, rows, heads * dim),
                                                .weight = FILLED(b, SKY_F32, heads * dim),
                                                .freqs = FILLED(b, SKY_F32, rows, dim / 2, 2),
                                                .eps = 1e-6F,
                                                .num_tokens = rows};
    op.bytes = (double)(sky_tensor_bytes(&op.y) + sky_tensor_bytes(&op.args.sums.x));
    return op;
}

static operation qk_codes(bench *b, sky_dtype dtype, int64_t rows, int64_t heads, int64_t dim, bool apart)
{
    operation op = {.name = apart ? "qk_codes/f32" : "qk_codes",
                    .run = apart ? run_codes_apart : run_qk_norm_rope_quantize};
    check(sky_ctx_tensor(&b->ctx, &op.y, SKY_I8, 2, (int64_t[]){rows, heads * dim}));
    op.between = FILLED(b, SKY_F32, rows, heads * dim);
    op.args.codes = (sky_qk_norm_rope_quantize_args){
        .codes = op.y,
        .scale = FILLED(b, SKY_F32, (rows + SKY_K_GROUP_TOKENS - 1) / SKY_K_GROUP_TOKENS, heads),
        .x = FILLED(b, dtype, rows, heads * dim),
        .weight = FILLED(b, SKY_F32, heads * dim),
        .freqs = FILLED(b, SKY_F32, rows, dim / 2, 2),
        .eps = 1e-6F,
        .mean = FILLED(b, SKY_F32, heads, dim),
        .tokens_per_group = SKY_K_GROUP_TOKENS};
    op.bytes = (double)(sky_tensor_bytes(&op.y) + sky_tensor_bytes(&op.args.codes.x));
    return op;
}

static operation gelu(bench *b, sky_dtype dtype, int64_t rows, int64_t cols)
{
    operation op = {.name = "gelu_tanh", .run = run_activation};
    op.y = FILLED(b, dtype, rows, cols);
    op.bytes = 2.0 * (double)sky_tensor_bytes(&op.y);
    op.args.activation = (sky_activation_args){.y = op.y, .x = FILLED(b, dtype, rows, cols), .kind = SKY_GELU_TANH};
    return op;
}

static operation gate_residual(bench *b, sky_dtype dtype, int64_t rows, int64_t cols)
{
    operation op = {.name = "gate_residual", .run = run_gate_residual};
    op.y = FILLED(b, SKY_F32, rows, cols);
    op.args.gate = (sky_gate_residual_args){
        .x = op.y, .y = FILLED(b, dtype, rows, cols), .gate = FILLED(b, SKY_F32, 1, cols), .rows_per_group = rows};
    op.bytes = 2.0 * (double)sky_tensor_bytes(&op.y) + (double)sky_tensor_bytes(&op.args.gate.y);
    return op;
}

/* ---- what feeds a linear layer of 8 bits, in one op or by way of f32 rows; bytes are those of the one op ---- */

static sky_status run_gelu_apart(sky_ctx *ctx, const operation *op)
{
    const sky_activation_args *a = &op->args.activation;
    SKY_TRY(sky_activation(ctx, &(sky_activation_args){.y = op->between, .x = a->x, .kind = a->kind}));
    return sky_quantize_rows(ctx, &(sky_quantize_rows_args){.codes = a->y, .scale = a->y_scale, .x = op->between});
}

static operation gelu_codes(bench *b, sky_dtype dtype, int64_t rows, int64_t cols, bool apart)
{
    operation op = {.name = apart ? "gelu_codes/f32" : "gelu_codes", .run = apart ? run_gelu_apart : run_activation};
    check(sky_ctx_tensor(&b->ctx, &op.y, SKY_I8, 2, (int64_t[]){rows, cols}));
    op.between = FILLED(b, SKY_F32, rows, cols);
    op.args.activation = (sky_activation_args){
        .y = op.y, .y_scale = FILLED(b, SKY_F32, rows), .x = FILLED(b, dtype, rows, cols), .kind = SKY_GELU_TANH};
    op.bytes = (double)(sky_tensor_bytes(&op.y) + sky_tensor_bytes(&op.args.activation.x));
    return op;
}

static sky_status run_residual_apart(sky_ctx *ctx, const operation *op)
{
    const sky_residual_norm_args *a = &op->args.residual;
    SKY_TRY(sky_gate_residual(ctx, &(sky_gate_residual_args){.x = a->x,
                                                             .y = a->delta,
                                                             .gate = a->gate,
                                                             .first_row = a->first_row,
                                                             .rows_per_group = a->rows_per_group}));
    SKY_TRY(sky_convert(ctx, &(sky_convert_args){.y = op->rounded, .x = a->x}));
    SKY_TRY(sky_layer_norm(
        ctx, &(sky_layer_norm_args){
                 .y = op->between, .x = op->rounded, .weight = a->weight, .bias = a->bias, .eps = a->eps}));
    return sky_quantize_rows(ctx, &(sky_quantize_rows_args){.codes = a->y, .scale = a->y_scale, .x = op->between});
}

static operation residual_codes(bench *b, sky_dtype dtype, int64_t rows, int64_t cols, bool apart)
{
    operation op = {.name = apart ? "residual/f32" : "residual", .run = apart ? run_residual_apart : run_residual_norm};
    op.y = FILLED(b, SKY_F32, rows, cols);
    op.between = FILLED(b, SKY_F32, rows, cols);
    op.rounded = FILLED(b, SKY_BF16, rows, cols);
    op.args.residual = (sky_residual_norm_args){.x = op.y,
                                                .y_scale = FILLED(b, SKY_F32, rows),
                                                .delta = FILLED(b, dtype, rows, cols),
                                                .gate = FILLED(b, SKY_F32, 1, cols),
                                                .weight = FILLED(b, SKY_F32, cols),
                                                .bias = FILLED(b, SKY_F32, cols),
                                                .rounding = SKY_ROUND_NORMED,
                                                .rows_per_group = rows,
                                                .eps = 1e-6F};
    check(sky_ctx_tensor(&b->ctx, &op.args.residual.y, SKY_F8_E4M3, 2, (int64_t[]){rows, cols}));
    op.bytes = 2.0 * (double)sky_tensor_bytes(&op.y) +
               (double)(sky_tensor_bytes(&op.args.residual.y) + sky_tensor_bytes(&op.args.residual.delta));
    return op;
}

static double element(const sky_tensor *t, int64_t i)
{
    if (t->dtype == SKY_I64) {
        return (double)((const int64_t *)t->data)[i];
    }
    if (t->dtype == SKY_I8) {
        return ((const int8_t *)t->data)[i];
    }
    if (t->dtype == SKY_F8_E4M3) {
        return (double)sky_e4m3_to_f32(((const uint8_t *)t->data)[i]);
    }
    return t->dtype == SKY_F32 ? ((const float *)t->data)[i] : sky_bf16_to_f32(((const uint16_t *)t->data)[i]);
}

/* Runs op here and on the reference from the same start; ends the program where they differ. */
static void verify(bench *b, operation op)
{
    const size_t bytes = sky_tensor_bytes(&op.y);
    const sky_ctx fast = b->ctx;
    sky_ctx slow = b->ctx;
    slow.backend = sky_backend_at(0); /* the reference, which has no device */
    slow.device = NULL;
    sky_tensor want = op.y;
    sky_tensor start = op.y;
    check(sky_arena_tensor(b->ctx.arena, &want));
    check(sky_arena_tensor(b->ctx.arena, &start));
    memcpy(start.data, op.y.data, bytes);
    check(op.reference != NULL ? op.reference(&slow, &op) : op.run(&slow, &op));
    memcpy(want.data, op.y.data, bytes);
    memcpy(op.y.data, start.data, bytes);
    b->ctx = fast;
    check(op.run(&b->ctx, &op));

    double off = 0.0;
    double norm = 0.0;
    for (int64_t i = 0; i < sky_tensor_len(&want); i++) {
        const double w = element(&want, i);
        const double d = element(&op.y, i) - w;
        off += d * d;
        norm += w * w;
    }
    const double tolerance = op.y.dtype == SKY_F32 || op.y.dtype == SKY_I64 ? 2e-6 : 4e-3;
    if (!(sqrt(off / norm) <= tolerance)) {
        fprintf(stderr, "bench-ops: %s is off by %.3g of the reference, want %.3g; not timing a wrong result\n",
                op.name, sqrt(off / norm), tolerance);
        exit(70);
    }
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct timing {
    double median, best; /* seconds of one run */
} timing;

static timing measure(bench *b, const operation *op)
{
    check(op->run(&b->ctx, op));
    const double start = sky_clock_seconds();
    int count = 0;
    do {
        const double begin = sky_clock_seconds();
        check(op->run(&b->ctx, op));
        b->runs[count++] = sky_clock_seconds() - begin;
    } while (count < MAX_RUNS && (count < 3 || sky_clock_seconds() - start < b->seconds));
    qsort(b->runs, (size_t)count, sizeof b->runs[0], by_value);
    return (timing){.median = b->runs[count / 2], .best = b->runs[0]};
}

static void report(bench *b, const operation *op, const char *shape)
{
    const timing t = measure(b, op);
    const double work = (op->flops > 0.0 ? op->flops : op->bytes) * 1e-9;
    const char *unit = op->flops > 0.0 ? "GFLOP/s" : "GB/s";
    const double share = work / t.best / (op->flops > 0.0 ? b->peak_gflops : b->peak_gbytes);
    printf("%-14s %-5s %-32s %10.3f %10.3f %9.1f %-7s %4.0f %%\n", op->name, sky_dtype_name(op->y.dtype), shape,
           t.median * 1e3, t.best * 1e3, work / t.best, unit, share * 100.0);
    fflush(stdout);
    json_array_append_new(b->rows,
                          json_pack("{s:s, s:s, s:s, s:f, s:f, s:f, s:s, s:f}", "op", op->name, "dtype",
                                    sky_dtype_name(op->y.dtype), "shape", shape, "median_ms", t.median * 1e3, "best_ms",
                                    t.best * 1e3, "rate", work / t.best, "unit", unit, "share", share));
}

/* Makes, times and forgets one operation. */
#define ROW(b, shape, make)                                          \
    do {                                                             \
        if ((b)->only == NULL || strstr(#make, (b)->only) != NULL) { \
            const size_t mark_ = sky_arena_mark((b)->ctx.arena);     \
            const operation op_ = make;                              \
            report(b, &op_, shape);                                  \
            sky_arena_release((b)->ctx.arena, mark_);                \
        }                                                            \
    } while (0)

static void linear_rows(bench *b, sky_dtype dtype, int64_t m, int64_t n, int64_t k)
{
    char shape[64];
    snprintf(shape, sizeof shape, "%lld x %lld x %lld", (long long)m, (long long)n, (long long)k);
    ROW(b, shape, linear(b, dtype, m, n, k));
    if (dtype == SKY_F32 && bench_blas_name() != NULL) {
        ROW(b, shape, linear_by_blas(b, m, n, k, false));
        ROW(b, shape, linear_by_blas(b, m, n, k, true));
    }
}

static void qk_rows(bench *b, const char *shape, sky_dtype dtype, int64_t rows, int64_t heads, int64_t dim)
{
    for (int apart = 0; apart < 2; apart++) {
        ROW(b, shape, qk_sums(b, dtype, rows, heads, dim, apart != 0));
        ROW(b, shape, qk_codes(b, dtype, rows, heads, dim, apart != 0));
    }
}

static void code_rows(bench *b, const char *dim, const char *ffn_dim, sky_dtype dtype, int64_t rows, int64_t cols,
                      int64_t ffn_cols)
{
    for (int apart = 0; apart < 2; apart++) {
        ROW(b, dim, residual_codes(b, dtype, rows, cols, apart != 0));
        ROW(b, ffn_dim, gelu_codes(b, dtype, rows, ffn_cols, apart != 0));
    }
}

/* Computes all rows at once and the first ones alone: how many elements of these come out otherwise? */
static int64_t changed_by_rows(bench *b, operation whole, int64_t rows)
{
    const size_t mark = sky_arena_mark(b->ctx.arena);
    operation part = whole;
    part.y = FILLED(b, SKY_F32, rows, whole.y.shape[1]);
    part.args.linear.y = part.y;
    part.args.linear.x.shape[0] = rows;
    check(whole.run(&b->ctx, &whole));
    check(part.run(&b->ctx, &part));
    int64_t changed = 0;
    for (int64_t i = 0; i < sky_tensor_len(&part.y); i++) {
        changed += memcmp((const float *)part.y.data + i, (const float *)whole.y.data + i, sizeof(float)) != 0;
    }
    sky_arena_release(b->ctx.arena, mark);
    return changed;
}

/* FNV-1a of the result: does another --isa, --threads or OPENBLAS_CORETYPE give the same bytes? */
static unsigned long long fingerprint(bench *b, operation op)
{
    check(op.run(&b->ctx, &op));
    uint64_t hash = 0xcbf29ce484222325U;
    for (size_t i = 0; i < sky_tensor_bytes(&op.y); i++) {
        hash = (hash ^ ((const unsigned char *)op.y.data)[i]) * 0x100000001b3U;
    }
    return hash;
}

/* A cut between pieces of linear's contract, and one elsewhere. */
static void report_changes(bench *b)
{
    const size_t mark = sky_arena_mark(b->ctx.arena);
    const operation ours = linear(b, SKY_F32, 540, 256, 768);
    const operation sgemm = linear_by_blas(b, 540, 256, 768, false);
    const operation pieces = linear_by_blas(b, 540, 256, 768, true);
    for (int64_t rows = 512; rows <= 527; rows += 15) {
        printf("%lld rows of 540 x 256 x 768 alone, elements changed: linear %lld, sgemm %lld, sgemm/128 %lld\n",
               (long long)rows, (long long)changed_by_rows(b, ours, rows), (long long)changed_by_rows(b, sgemm, rows),
               (long long)changed_by_rows(b, pieces, rows));
    }
    printf("fingerprints: linear %016llx, sgemm %016llx, sgemm/128 %016llx\n", fingerprint(b, ours),
           fingerprint(b, sgemm), fingerprint(b, pieces));
    sky_arena_release(b->ctx.arena, mark);
}

static void verify_all(bench *b)
{
    const size_t mark = sky_arena_mark(b->ctx.arena);
    if (bench_blas_name() != NULL) {
        verify(b, linear_by_blas(b, 131, 70, 300, false));
        verify(b, linear_by_blas(b, 131, 70, 300, true));
    }
    for (int i = 0; i < 2; i++) {
        const sky_dtype dtype = i == 0 ? SKY_F32 : SKY_BF16;
        verify(b, linear(b, dtype, 131, 70, 300));
        verify(b, attention(b, dtype, 70, 150, 2, 40));
        verify(b, attention_8bit(b, dtype, 70, 300, 2, 40));
        verify(b, v_sums(b, dtype, 150, 3, 20));
        verify(b, v_codes(b, dtype, 150, 3, 20));
        verify(b, conv(b, dtype, 2, 5, 45, 18, 20, 3, 3));
        verify(b, conv(b, dtype, 2, 5, 9, 18, 20, 1, 1));
        verify(b, channel_norm(b, dtype, 33, 48));
        verify(b, modulate(b, dtype, 33, 260));
        verify(b, qk_norm_rope(b, dtype, 33, 3, 20));
        verify(b, qk_sums(b, dtype, 150, 3, 20, false));
        verify(b, qk_codes(b, dtype, 150, 3, 20, false));
        verify(b, gelu(b, dtype, 33, 70));
        verify(b, gate_residual(b, dtype, 33, 70));
        verify(b, residual_codes(b, dtype, 33, 70, false));
        verify(b, gelu_codes(b, dtype, 33, 70, false));
    }
    sky_arena_release(b->ctx.arena, mark);
}

/* What this machine can do on these threads: one large product, and one large copy by the calling thread. */
static void measure_peaks(bench *b)
{
    const size_t mark = sky_arena_mark(b->ctx.arena);
    const operation large = linear(b, SKY_F32, 1024, 2048, 1024);
    b->peak_gflops = large.flops / measure(b, &large).best * 1e-9;
    const size_t bytes = (size_t)128 << 20;
    void *from = NULL;
    void *to = NULL;
    check(sky_arena_alloc(b->ctx.arena, bytes, &from));
    check(sky_arena_alloc(b->ctx.arena, bytes, &to));
    memset(from, 1, bytes);
    memset(to, 1, bytes);
    double best = INFINITY;
    for (int i = 0; i < 5; i++) {
        const double begin = sky_clock_seconds();
        memcpy(to, from, bytes);
        best = fmin(best, sky_clock_seconds() - begin);
    }
    b->peak_gbytes = 2.0 * (double)bytes / best * 1e-9;
    sky_arena_release(b->ctx.arena, mark);
}

/* dim 256, ffn_dim 768, 4 heads, 540 tokens; VAE of width 16 at 96 x 160 pixels. */
static void small_model(bench *b, sky_dtype dtype)
{
    linear_rows(b, dtype, 540, 256, 256);
    linear_rows(b, dtype, 540, 768, 256);
    linear_rows(b, dtype, 540, 256, 768);
    linear_rows(b, dtype, 1, 1536, 256);
    ROW(b, "540 x 540, 4 heads of 64", attention(b, dtype, 540, 540, 4, 64));
    ROW(b, "540 x 540, 4 heads of 64", attention_8bit(b, dtype, 540, 540, 4, 64));
    ROW(b, "540 x 4 x 64", v_sums(b, dtype, 540, 4, 64));
    ROW(b, "540 x 4 x 64", v_codes(b, dtype, 540, 4, 64));
    ROW(b, "540 x 64, 4 heads of 64", attention(b, dtype, 540, 64, 4, 64));
    ROW(b, "240 x 240, 1 head of 64", attention(b, dtype, 240, 240, 1, 64));
    ROW(b, "540 x 256", modulate(b, dtype, 540, 256));
    ROW(b, "540 x 4 x 64", qk_norm_rope(b, dtype, 540, 4, 64));
    qk_rows(b, "540 x 4 x 64", dtype, 540, 4, 64);
    ROW(b, "540 x 768", gelu(b, dtype, 540, 768));
    ROW(b, "540 x 256", gate_residual(b, dtype, 540, 256));
    code_rows(b, "540 x 256", "540 x 768", dtype, 540, 256, 768);
    ROW(b, "1 x 12 x 20, 64 to 64, 3x3x3", conv(b, dtype, 1, 12, 20, 64, 64, 3, 3));
    ROW(b, "2 x 24 x 40, 64 to 64, 3x3x3", conv(b, dtype, 2, 24, 40, 64, 64, 3, 3));
    ROW(b, "4 x 48 x 80, 32 to 32, 3x3x3", conv(b, dtype, 4, 48, 80, 32, 32, 3, 3));
    ROW(b, "4 x 96 x 160, 16 to 16, 3x3x3", conv(b, dtype, 4, 96, 160, 16, 16, 3, 3));
    ROW(b, "4 x 96 x 160, 32 to 16, 1x3x3", conv(b, dtype, 4, 96, 160, 32, 16, 1, 3));
    ROW(b, "4 x 96 x 160, 16 to 3, 3x3x3", conv(b, dtype, 4, 96, 160, 16, 3, 3, 3));
    ROW(b, "2 x 24 x 40, 32 to 64, 1x1x1", conv(b, dtype, 2, 24, 40, 32, 64, 1, 1));
    ROW(b, "4 x 96 x 160 x 16, silu", channel_norm(b, dtype, 4 * 96 * 160, 16));
    ROW(b, "4 x 48 x 80 x 32, silu", channel_norm(b, dtype, 4 * 48 * 80, 32));
}

/* A slice of the 14B model: dim 5120, ffn_dim 13824; VAE of width 96. */
static void large_model(bench *b, sky_dtype dtype)
{
    linear_rows(b, dtype, 128, 5120, 5120);
    linear_rows(b, dtype, 1024, 5120, 5120);
    linear_rows(b, dtype, 1024, 13824, 5120);
    linear_rows(b, dtype, 1024, 5120, 13824);
    ROW(b, "1024 x 4096, 2 heads of 128", attention(b, dtype, 1024, 4096, 2, 128));
    ROW(b, "1024 x 4096, 2 heads of 128", attention_8bit(b, dtype, 1024, 4096, 2, 128));
    ROW(b, "1024 x 40 x 128", v_sums(b, dtype, 1024, 40, 128));
    ROW(b, "1024 x 40 x 128", v_codes(b, dtype, 1024, 40, 128));
    ROW(b, "512 x 4080, 1 head of 384", attention(b, dtype, 512, 4080, 1, 384));
    ROW(b, "1024 x 5120", modulate(b, dtype, 1024, 5120));
    ROW(b, "1024 x 40 x 128", qk_norm_rope(b, dtype, 1024, 40, 128));
    qk_rows(b, "1024 x 40 x 128", dtype, 1024, 40, 128);
    ROW(b, "1024 x 13824", gelu(b, dtype, 1024, 13824));
    ROW(b, "1024 x 5120", gate_residual(b, dtype, 1024, 5120));
    code_rows(b, "1024 x 5120", "1024 x 13824", dtype, 1024, 5120, 13824);
    ROW(b, "1 x 68 x 120, 96 to 96, 3x3x3", conv(b, dtype, 1, 68, 120, 96, 96, 3, 3));
    ROW(b, "1 x 68 x 120, 192 to 192, 3x3x3", conv(b, dtype, 1, 68, 120, 192, 192, 3, 3));
    ROW(b, "1 x 68 x 120, 384 to 384, 3x3x3", conv(b, dtype, 1, 68, 120, 384, 384, 3, 3));
    ROW(b, "1 x 68 x 120, 384 to 768, 3x1x1", conv(b, dtype, 1, 68, 120, 384, 768, 3, 1));
    ROW(b, "68 x 120 x 96, silu", channel_norm(b, dtype, 68 * 120, 96));
}

static int usage(const char *what)
{
    fprintf(stderr,
            "bench-ops: %s\nusage: bench-ops [--backend NAME] [--threads N] [--isa NAME] [--only TEXT] [--repeat "
            "SECONDS] [--json FILE]\n",
            what);
    return 64;
}

int main(int argc, char **argv)
{
    static bench b = {.seconds = 0.2};
    int num_threads = 1;
    const char *isa = NULL;
    const char *backend = "cpu";
    const char *json_path = NULL;
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc) {
            return usage("an option lacks its value");
        } else if (strcmp(argv[i], "--threads") == 0) {
            num_threads = (int)strtol(argv[i + 1], NULL, 10);
        } else if (strcmp(argv[i], "--backend") == 0) {
            backend = argv[i + 1];
        } else if (strcmp(argv[i], "--isa") == 0) {
            isa = argv[i + 1];
        } else if (strcmp(argv[i], "--only") == 0) {
            b.only = argv[i + 1];
        } else if (strcmp(argv[i], "--repeat") == 0) {
            b.seconds = strtod(argv[i + 1], NULL);
        } else if (strcmp(argv[i], "--json") == 0) {
            json_path = argv[i + 1];
        } else {
            return usage(argv[i]);
        }
    }

    const size_t arena_bytes = (size_t)1 << 30;
    void *block = NULL;
    sky_arena arena;
    b.ctx = (sky_ctx){.backend = sky_backend_find(backend), .arena = &arena};
    if (b.ctx.backend == NULL || !b.ctx.backend->host_memory) {
        return usage("--backend: want one of this build's whose memory the host may read and write");
    }
    check(sky_device_open(b.ctx.backend, &(sky_device_options){.num_threads = num_threads, .isa = isa}, &b.ctx.device));
    const char *device_name = sky_device_name(b.ctx.backend, b.ctx.device);
    check(b.ctx.backend->alloc(b.ctx.device, arena_bytes, &block));
    sky_arena_init(&arena, block, arena_bytes);
    b.rows = json_array();

    bench_blas_set_threads(num_threads);
    verify_all(&b);
    measure_peaks(&b);
    printf("%s: %d thread%s of %s; peak %.1f GFLOP/s, copy %.1f GB/s\n", backend, num_threads,
           num_threads == 1 ? "" : "s", device_name, b.peak_gflops, b.peak_gbytes);
    if (bench_blas_name() != NULL) {
        printf("%s\n", bench_blas_name());
        report_changes(&b);
    }
    printf("%-14s %-5s %-32s %10s %10s %9s %-7s %6s\n", "op", "y", "shape", "median ms", "best ms", "rate", "",
           "share");
    small_model(&b, SKY_F32);
    small_model(&b, SKY_BF16);
    large_model(&b, SKY_F32);
    large_model(&b, SKY_BF16);

    int exit_code = 0;
    if (json_path != NULL) {
        json_t *all = json_pack("{s:s, s:i, s:s, s:s?, s:f, s:f, s:O}", "backend", backend, "threads", num_threads,
                                "isa", device_name, "blas", bench_blas_name(), "peak_gflops", b.peak_gflops,
                                "copy_gbytes", b.peak_gbytes, "rows", b.rows);
        if (all == NULL || json_dump_file(all, json_path, JSON_INDENT(1)) != 0) {
            fprintf(stderr, "bench-ops: %s: cannot be written\n", json_path);
            exit_code = 74;
        }
        json_decref(all);
    }
    json_decref(b.rows);
    b.ctx.backend->free(b.ctx.device, block);
    sky_device_close(b.ctx.backend, &b.ctx.device);
    return exit_code;
}
