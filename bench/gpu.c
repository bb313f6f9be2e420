/*
 * bench/gpu.c - how fast the ops of a backend with memory of its own are, at the shapes of one transformer block
 *
 *     bench-gpu [--backend NAME] [--tokens N] [--heads N] [--only TEXT] [--seconds S] [--json FILE]
 *
 * Each op runs for a second first: the card is then as warm, and its clock as low, as in a render. Then it is timed by events; the
 * table has median and worst, arithmetic and bytes by the formulas of docs/performance.md, the share of the copy rate measured in
 * the same call, and SM clock and power (NVML) right behind the last run. Data are normal; keys and values have channel offsets.
 */
#include "base/clock.h"
#include "ops/backend.h"

#include <dlfcn.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_RUNS = 4000, CHUNK_ELEMENTS = 1 << 20 };

typedef struct nvml {
    void *library, *device;
    int (*clock)(void *device, int which, unsigned *mhz);
    int (*power)(void *device, unsigned *milliwatts);
} nvml;

typedef struct bench {
    sky_ctx ctx;
    sky_arena arena;
    int64_t tokens, dim, ffn_dim, heads, head_dim;
    double seconds, copy_rate;
    const char *only;
    nvml card;
    json_t *rows;
} bench;

static void check(sky_status st)
{
    if (st != SKY_OK) {
        fprintf(stderr, "bench-gpu: %s: %s\n", sky_status_name(st), sky_message());
        exit(1);
    }
}

/* A card's own words about itself; without the library, or on another vendor's card, nothing. */
static void open_nvml(nvml *card)
{
    int (*init)(void) = NULL;
    int (*handle)(unsigned index, void **device) = NULL;
    card->library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
    if (card->library == NULL) {
        return;
    }
    *(void **)&init = dlsym(card->library, "nvmlInit_v2");
    *(void **)&handle = dlsym(card->library, "nvmlDeviceGetHandleByIndex_v2");
    *(void **)&card->clock = dlsym(card->library, "nvmlDeviceGetClockInfo");
    *(void **)&card->power = dlsym(card->library, "nvmlDeviceGetPowerUsage");
    if (init == NULL || handle == NULL || init() != 0 || handle(0, &card->device) != 0) {
        card->device = NULL;
    }
}

/* Normal numbers plus offset, as they are in f32; fills a tensor of floats or codes with repeats of one chunk. */
static void fill(bench *b, const sky_tensor *t, float scale, float offset)
{
    static unsigned seed = 1;
    const size_t size = sky_dtype_bytes(t->dtype);
    const int64_t len = sky_tensor_len(t);
    const int64_t chunk = len < CHUNK_ELEMENTS ? len : CHUNK_ELEMENTS;
    unsigned char *host = malloc((size_t)chunk * size);
    SKY_ASSERT(host != NULL);
    for (int64_t i = 0; i < chunk; i++) {
        float sum = -6.0F; /* of twelve uniform numbers: normal enough */
        for (int j = 0; j < 12; j++) {
            seed = seed * 1664525U + 1013904223U;
            sum += (float)(seed >> 8) * 0x1p-24F;
        }
        const float x = sum * scale + offset;
        switch (t->dtype) {
        case SKY_F32:
            ((float *)(void *)host)[i] = x;
            break;
        case SKY_BF16:
            ((uint16_t *)(void *)host)[i] = sky_f32_to_bf16(x);
            break;
        case SKY_F8_E4M3:
            host[i] = sky_f32_to_e4m3(100.0F * x);
            break;
        default:
            SKY_ASSERT(t->dtype == SKY_I8);
            host[i] = (unsigned char)(int8_t)fmaxf(-127.0F, fminf(127.0F, rintf(30.0F * x)));
            break;
        }
    }
    check(b->ctx.backend->upload(b->ctx.device, t->data, host, (size_t)chunk * size));
    for (int64_t done = chunk; done < len; done += chunk) {
        const int64_t count = len - done < chunk ? len - done : chunk;
        check(b->ctx.backend->copy(b->ctx.device, (unsigned char *)t->data + (size_t)done * size, t->data,
                                   (size_t)count * size));
    }
    free(host);
}

static sky_tensor new_tensor(bench *b, sky_dtype dtype, int num_dims, const int64_t *shape, float scale, float offset)
{
    sky_tensor t;
    check(sky_ctx_tensor(&b->ctx, &t, dtype, num_dims, shape));
    if (dtype != SKY_I64 && dtype != SKY_I32) {
        fill(b, &t, scale, offset);
    }
    return t;
}

#define SHAPE(...)                                                         \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]) \
    {                                                                      \
        __VA_ARGS__                                                        \
    }
#define NEW(b, dtype, ...) new_tensor(b, dtype, SHAPE(__VA_ARGS__), 1.0F, 0.0F)

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Times run() and prints a line; flop or bytes 0: not of interest. */
static void measure(bench *b, const char *name, sky_status (*run)(sky_ctx *ctx, const void *args), const void *args,
                    double flop, double bytes)
{
    static double times[MAX_RUNS];
    sky_event *begin = NULL;
    sky_event *end = NULL;
    const sky_backend *backend = b->ctx.backend;
    void *device = b->ctx.device;
    if (b->only != NULL && strstr(name, b->only) == NULL && strcmp(name, "copy") != 0) {
        return;
    }
    check(backend->event_create(device, &begin));
    check(backend->event_create(device, &end));
    const int64_t warm = sky_clock_ns() + INT64_C(1000000000);
    while (sky_clock_ns() < warm) {
        for (int i = 0; i < 4; i++) {
            check(run(&b->ctx, args));
        }
        check(backend->sync(device));
    }
    int num = 0;
    double total = 0.0;
    while (num < MAX_RUNS && (num < 5 || total < b->seconds)) {
        check(backend->event_record(device, begin, SKY_QUEUE_COMPUTE));
        check(run(&b->ctx, args));
        check(backend->event_record(device, end, SKY_QUEUE_COMPUTE));
        check(backend->event_sync(device, end));
        check(backend->event_elapsed(device, begin, end, &times[num]));
        total += times[num++];
    }
    unsigned mhz = 0;
    unsigned milliwatts = 0;
    if (b->card.device != NULL) {
        (void)b->card.clock(b->card.device, 1, &mhz);
        (void)b->card.power(b->card.device, &milliwatts);
    }
    qsort(times, (size_t)num, sizeof times[0], by_size);
    const double median = times[num / 2];
    const double rate = bytes / median;
    if (strcmp(name, "copy") == 0) {
        b->copy_rate = rate;
    }
    printf("%-34s %9.3f %9.3f", name, median * 1e3, times[num - 1] * 1e3);
    if (flop > 0.0) {
        printf(" %8.0f", flop / median / 1e12);
    } else {
        printf(" %8s", "");
    }
    printf(" %8.0f %5.0f%% %6u %5.0f\n", rate / 1e9, b->copy_rate > 0.0 ? 100.0 * rate / b->copy_rate : 0.0, mhz,
           (double)milliwatts / 1e3);
    fflush(stdout);
    json_array_append_new(b->rows,
                          json_pack("{s:s, s:f, s:f, s:f, s:f, s:i, s:f}", "op", name, "median_ms", median * 1e3,
                                    "worst_ms", times[num - 1] * 1e3, "tflops", flop / median / 1e12, "gb_s",
                                    rate / 1e9, "sm_mhz", (int)mhz, "watts", (double)milliwatts / 1e3));
    backend->event_destroy(device, &begin);
    backend->event_destroy(device, &end);
}

#define RUNNER(op)                                             \
    static sky_status run_##op(sky_ctx *ctx, const void *args) \
    {                                                          \
        return sky_##op(ctx, args);                            \
    }
RUNNER(linear)
RUNNER(linear_8bit)
RUNNER(attention)
RUNNER(attention_8bit)
RUNNER(layer_norm_modulate)
RUNNER(residual_norm)
RUNNER(activation)
RUNNER(qk_norm_rope_sums)
RUNNER(qk_norm_rope_quantize)
RUNNER(channel_sums)
RUNNER(quantize_channels)
RUNNER(quantize_rows)
RUNNER(channel_norm)
RUNNER(conv3d)
RUNNER(upsample_nearest)

static sky_status run_copy(sky_ctx *ctx, const void *args)
{
    const sky_tensor *t = args;
    return sky_ctx_copy(ctx, &t[0], &t[1]);
}

static void copies(bench *b)
{
    const sky_tensor both[] = {NEW(b, SKY_F32, INT64_C(1) << 28), NEW(b, SKY_F32, INT64_C(1) << 28)};
    measure(b, "copy", run_copy, both, 0.0, 2.0 * (double)sky_tensor_bytes(&both[0]));
}

static void linears(bench *b, const char *what, int64_t n, int64_t k)
{
    const int64_t m = b->tokens;
    const double flop = 2.0 * (double)m * (double)n * (double)k;
    const sky_dtype types[] = {SKY_F8_E4M3, SKY_I8};
    char name[64];
    const size_t mark = sky_arena_mark(&b->arena);
    const sky_linear_args wide = {.y = NEW(b, SKY_BF16, m, n),
                                  .x = NEW(b, SKY_BF16, m, k),
                                  .weight = NEW(b, SKY_BF16, n, k),
                                  .bias = NEW(b, SKY_BF16, n)};
    snprintf(name, sizeof name, "linear bf16 %s", what);
    measure(b, name, run_linear, &wide, flop, 2.0 * (double)(m * n + m * k + n * k));
    for (int i = 0; i < 2; i++) {
        const sky_linear_8bit_args args = {.y = wide.y,
                                           .x = NEW(b, types[i], m, k),
                                           .x_scale = NEW(b, SKY_F32, m),
                                           .weight = NEW(b, types[i], n, k),
                                           .weight_scale = NEW(b, SKY_F32, n),
                                           .bias = wide.bias};
        snprintf(name, sizeof name, "linear_8bit %s %s", sky_dtype_name(types[i]), what);
        measure(b, name, run_linear_8bit, &args, flop, (double)(2 * m * n + m * k + n * k));
        if (types[i] == SKY_I8) {
            const sky_linear_8bit_args sums = {.y = NEW(b, SKY_I32, m, n), .x = args.x, .weight = args.weight};
            snprintf(name, sizeof name, "linear_8bit i8 sums %s", what);
            measure(b, name, run_linear_8bit, &sums, flop, (double)(4 * m * n + m * k + n * k));
        }
    }
    sky_arena_release(&b->arena, mark);
}

static void attentions(bench *b)
{
    const int64_t s = b->tokens;
    const int64_t n = b->heads;
    const int64_t d = b->head_dim;
    const size_t mark = sky_arena_mark(&b->arena);
    const sky_attention_8bit_args args = {.y = NEW(b, SKY_BF16, s, n, d),
                                          .q = NEW(b, SKY_I8, s, n, d),
                                          .q_scale = new_tensor(b, SKY_F32, SHAPE((s + 63) / 64, n), 0.0F, 0.03F),
                                          .k = NEW(b, SKY_I8, s, n, d),
                                          .k_scale = new_tensor(b, SKY_F32, SHAPE((s + 127) / 128, n), 0.0F, 0.03F),
                                          .v = NEW(b, SKY_F8_E4M3, sky_num_v_tiles(s), n, d, SKY_V_TILE_TOKENS),
                                          .v_scale = new_tensor(b, SKY_F32, SHAPE(n, d), 0.0F, 0.01F),
                                          .v_mean = NEW(b, SKY_F32, n, d),
                                          .softmax_scale = 1.0F / sqrtf((float)d)};
    measure(b, "attention_8bit", run_attention_8bit, &args, 4.0 * (double)s * (double)s * (double)(n * d), 0.0);
    enum { KEYS = 512 };
    const sky_attention_args cross = {.y = args.y,
                                      .q = NEW(b, SKY_BF16, s, n, d),
                                      .k = NEW(b, SKY_BF16, KEYS, n, d),
                                      .v = NEW(b, SKY_BF16, KEYS, n, d),
                                      .softmax_scale = args.softmax_scale};
    measure(b, "attention bf16, 512 keys", run_attention, &cross, 4.0 * (double)s * KEYS * (double)(n * d), 0.0);
    sky_arena_release(&b->arena, mark);
}

static void rows(bench *b)
{
    const int64_t s = b->tokens;
    const int64_t c = b->dim;
    const double elements = (double)s * (double)c;
    const size_t mark = sky_arena_mark(&b->arena);
    const sky_tensor x = NEW(b, SKY_F32, s, c);
    const sky_tensor x16 = NEW(b, SKY_BF16, s, c);
    const sky_tensor codes = NEW(b, SKY_F8_E4M3, s, c);
    const sky_tensor scale = NEW(b, SKY_F32, s);
    const sky_tensor group = NEW(b, SKY_F32, 1, c);
    const sky_tensor channel = NEW(b, SKY_F32, c);
    measure(
        b, "layer_norm_modulate f32 to e4m3", run_layer_norm_modulate,
        &(sky_layer_norm_modulate_args){
            .y = codes, .y_scale = scale, .x = x, .shift = group, .scale = group, .rows_per_group = s, .eps = 1e-6F},
        0.0, 5.0 * elements);
    measure(b, "residual_norm bf16 to e4m3", run_residual_norm,
            &(sky_residual_norm_args){.x = x,
                                      .y = codes,
                                      .y_scale = scale,
                                      .delta = x16,
                                      .gate = group,
                                      .shift = group,
                                      .scale = group,
                                      .rows_per_group = s,
                                      .eps = 1e-6F},
            0.0, 11.0 * elements);
    measure(b, "quantize_rows bf16 to e4m3", run_quantize_rows,
            &(sky_quantize_rows_args){.codes = codes, .scale = scale, .x = x16}, 0.0, 3.0 * elements);
    const sky_tensor sums = NEW(b, SKY_I64, c);
    const sky_tensor range = NEW(b, SKY_F32, 2 * c);
    const sky_tensor freqs = NEW(b, SKY_F32, s, b->head_dim / 2, 2);
    measure(b, "qk_norm_rope_sums bf16", run_qk_norm_rope_sums,
            &(sky_qk_norm_rope_sums_args){
                .sums = sums, .x = x16, .weight = channel, .freqs = freqs, .eps = 1e-6F, .num_tokens = s},
            0.0, 2.0 * elements);
    const sky_tensor i8 = NEW(b, SKY_I8, s, c);
    measure(b, "qk_norm_rope_quantize bf16", run_qk_norm_rope_quantize,
            &(sky_qk_norm_rope_quantize_args){.codes = i8,
                                              .scale = NEW(b, SKY_F32, (s + 63) / 64, b->heads),
                                              .x = x16,
                                              .weight = channel,
                                              .freqs = freqs,
                                              .eps = 1e-6F,
                                              .mean = NEW(b, SKY_F32, b->heads, b->head_dim),
                                              .tokens_per_group = 64},
            0.0, 3.0 * elements);
    measure(b, "channel_sums bf16, range", run_channel_sums,
            &(sky_channel_sums_args){.sums = sums, .x = x16, .range = range, .num_tokens = s}, 0.0, 2.0 * elements);
    const sky_tensor tiles = NEW(b, SKY_F8_E4M3, sky_num_v_tiles(s), b->heads, b->head_dim, SKY_V_TILE_TOKENS);
    measure(b, "quantize_channels bf16", run_quantize_channels,
            &(sky_quantize_channels_args){
                .codes = tiles, .scale = NEW(b, SKY_F32, c), .x = x16, .mean = channel, .range = range},
            0.0, 3.0 * elements);
    sky_arena_release(&b->arena, mark);
    const sky_tensor up = NEW(b, SKY_BF16, s, b->ffn_dim);
    measure(b, "activation gelu bf16 to e4m3", run_activation,
            &(sky_activation_args){
                .y = NEW(b, SKY_F8_E4M3, s, b->ffn_dim), .y_scale = NEW(b, SKY_F32, s), .x = up, .kind = SKY_GELU_TANH},
            0.0, 3.0 * (double)s * (double)b->ffn_dim);
    sky_arena_release(&b->arena, mark);
}

/* ---- one block of the transformer in fp8 with 8-bit attention, op by op as src/model/transformer_block.c has them ---- */

typedef struct layer {
    sky_tensor weight, scale, bias;
} layer;

typedef struct block_state {
    int64_t tokens;
    sky_tensor x, codes, code_scale, q, k, v, freqs, group, channel, sums, range, mean, v_mean;
    sky_tensor q_codes, q_scale, k_codes, k_scale, v_codes, v_scale, cross_k, cross_v, up, up_codes;
    layer self_q, self_k, self_v, self_o, cross_q, cross_o, ffn_up, ffn_down;
} block_state;

static layer new_layer(bench *b, int64_t n, int64_t k)
{
    return (layer){.weight = NEW(b, SKY_F8_E4M3, n, k),
                   .scale = new_tensor(b, SKY_F32, SHAPE(n), 0.0F, 1e-5F),
                   .bias = NEW(b, SKY_BF16, n)};
}

static sky_status apply(sky_ctx *ctx, const block_state *s, const layer *l, const sky_tensor *codes,
                        const sky_tensor *y)
{
    return sky_linear_8bit(ctx, &(sky_linear_8bit_args){.y = *y,
                                                        .x = *codes,
                                                        .x_scale = s->code_scale,
                                                        .weight = l->weight,
                                                        .weight_scale = l->scale,
                                                        .bias = l->bias});
}

static sky_status quantize_qk(sky_ctx *ctx, const block_state *s, const sky_tensor *x, const sky_tensor *codes,
                              const sky_tensor *scale, const sky_tensor *mean, int64_t tokens_per_group)
{
    return sky_qk_norm_rope_quantize(ctx,
                                     &(sky_qk_norm_rope_quantize_args){.codes = *codes,
                                                                       .scale = *scale,
                                                                       .x = *x,
                                                                       .weight = s->channel,
                                                                       .freqs = s->freqs,
                                                                       .eps = 1e-6F,
                                                                       .mean = mean != NULL ? *mean : (sky_tensor){0},
                                                                       .tokens_per_group = tokens_per_group});
}

static sky_status add_and_norm(sky_ctx *ctx, const block_state *s, const sky_tensor *delta, bool norm)
{
    sky_residual_norm_args args = {
        .x = s->x, .delta = *delta, .gate = s->group, .rows_per_group = s->tokens, .eps = 1e-6F};
    if (norm) {
        args.y = s->codes;
        args.y_scale = s->code_scale;
        args.shift = args.scale = s->group;
    } else {
        args.rounding = SKY_ROUND_X;
    }
    return sky_residual_norm(ctx, &args);
}

static sky_status self_attention(sky_ctx *ctx, const block_state *s)
{
    const int64_t rows = s->tokens;
    const int64_t heads[] = {rows, s->mean.shape[0], s->mean.shape[1]};
    const sky_tensor q = sky_tensor_reshape(&s->q_codes, 3, heads);
    const sky_tensor k = sky_tensor_reshape(&s->k_codes, 3, heads);
    const sky_tensor y = sky_tensor_reshape(&s->q, 3, heads);
    const sky_tensor mean = sky_tensor_reshape(&s->mean, 1, (int64_t[]){heads[1] * heads[2]});
    const sky_tensor v_mean = sky_tensor_reshape(&s->v_mean, 1, (int64_t[]){heads[1] * heads[2]});
    SKY_TRY(apply(ctx, s, &s->self_k, &s->codes, &s->k));
    SKY_TRY(apply(ctx, s, &s->self_v, &s->codes, &s->v));
    SKY_TRY(apply(ctx, s, &s->self_q, &s->codes, &s->q));
    SKY_TRY(sky_qk_norm_rope_sums(
        ctx,
        &(sky_qk_norm_rope_sums_args){
            .sums = s->sums, .x = s->k, .weight = s->channel, .freqs = s->freqs, .eps = 1e-6F, .num_tokens = rows}));
    SKY_TRY(sky_sums_to_mean(ctx, &(sky_sums_to_mean_args){.mean = mean, .sums = s->sums, .num_tokens = rows}));
    SKY_TRY(sky_channel_sums(
        ctx, &(sky_channel_sums_args){.sums = s->sums, .x = s->v, .range = s->range, .num_tokens = rows}));
    SKY_TRY(sky_sums_to_mean(ctx, &(sky_sums_to_mean_args){.mean = v_mean, .sums = s->sums, .num_tokens = rows}));
    SKY_TRY(quantize_qk(ctx, s, &s->k, &s->k_codes, &s->k_scale, &s->mean, SKY_K_GROUP_TOKENS));
    SKY_TRY(quantize_qk(ctx, s, &s->q, &s->q_codes, &s->q_scale, NULL, SKY_Q_GROUP_TOKENS));
    SKY_TRY(sky_quantize_channels(
        ctx, &(sky_quantize_channels_args){
                 .codes = s->v_codes, .scale = s->v_scale, .x = s->v, .mean = v_mean, .range = s->range}));
    SKY_TRY(sky_attention_8bit(ctx, &(sky_attention_8bit_args){.y = y,
                                                               .q = q,
                                                               .q_scale = s->q_scale,
                                                               .k = k,
                                                               .k_scale = s->k_scale,
                                                               .v = s->v_codes,
                                                               .v_scale = sky_tensor_reshape(&s->v_scale, 2, &heads[1]),
                                                               .v_mean = s->v_mean,
                                                               .softmax_scale = 1.0F / sqrtf((float)heads[2])}));
    SKY_TRY(sky_quantize_rows(ctx, &(sky_quantize_rows_args){.codes = s->codes, .scale = s->code_scale, .x = s->q}));
    SKY_TRY(apply(ctx, s, &s->self_o, &s->codes, &s->k));
    return add_and_norm(ctx, s, &s->k, true);
}

static sky_status cross_attention(sky_ctx *ctx, const block_state *s)
{
    const int64_t heads[] = {s->tokens, s->mean.shape[0], s->mean.shape[1]};
    SKY_TRY(apply(ctx, s, &s->cross_q, &s->codes, &s->q));
    SKY_TRY(sky_rms_norm(ctx, &(sky_rms_norm_args){.y = s->q, .x = s->q, .weight = s->channel, .eps = 1e-6F}));
    SKY_TRY(sky_attention(ctx, &(sky_attention_args){.y = sky_tensor_reshape(&s->k, 3, heads),
                                                     .q = sky_tensor_reshape(&s->q, 3, heads),
                                                     .k = s->cross_k,
                                                     .v = s->cross_v,
                                                     .softmax_scale = 1.0F / sqrtf((float)heads[2])}));
    SKY_TRY(sky_quantize_rows(ctx, &(sky_quantize_rows_args){.codes = s->codes, .scale = s->code_scale, .x = s->k}));
    SKY_TRY(apply(ctx, s, &s->cross_o, &s->codes, &s->q));
    return add_and_norm(ctx, s, &s->q, true);
}

static sky_status run_block(sky_ctx *ctx, const void *args)
{
    const block_state *s = args;
    SKY_TRY(sky_layer_norm_modulate(ctx, &(sky_layer_norm_modulate_args){.y = s->codes,
                                                                         .y_scale = s->code_scale,
                                                                         .x = s->x,
                                                                         .shift = s->group,
                                                                         .scale = s->group,
                                                                         .rows_per_group = s->tokens,
                                                                         .eps = 1e-6F}));
    SKY_TRY(self_attention(ctx, s));
    SKY_TRY(cross_attention(ctx, s));
    SKY_TRY(apply(ctx, s, &s->ffn_up, &s->codes, &s->up));
    SKY_TRY(sky_activation(
        ctx, &(sky_activation_args){.y = s->up_codes, .y_scale = s->code_scale, .x = s->up, .kind = SKY_GELU_TANH}));
    SKY_TRY(apply(ctx, s, &s->ffn_down, &s->up_codes, &s->q));
    return add_and_norm(ctx, s, &s->q, false);
}

static void transformer_block(bench *b)
{
    enum { TEXT = 512 };
    const int64_t s = b->tokens;
    const int64_t c = b->dim;
    const int64_t n = b->heads;
    const int64_t d = b->head_dim;
    const size_t mark = sky_arena_mark(&b->arena);
    const block_state state = {.tokens = s,
                               .x = NEW(b, SKY_F32, s, c),
                               .codes = NEW(b, SKY_F8_E4M3, s, c),
                               .code_scale = NEW(b, SKY_F32, s),
                               .q = NEW(b, SKY_BF16, s, c),
                               .k = NEW(b, SKY_BF16, s, c),
                               .v = NEW(b, SKY_BF16, s, c),
                               .freqs = NEW(b, SKY_F32, s, d / 2, 2),
                               .group = new_tensor(b, SKY_F32, SHAPE(1, c), 0.1F, 0.0F),
                               .channel = new_tensor(b, SKY_F32, SHAPE(c), 0.1F, 1.0F),
                               .sums = NEW(b, SKY_I64, c),
                               .range = NEW(b, SKY_F32, 2 * c),
                               .mean = NEW(b, SKY_F32, n, d),
                               .v_mean = NEW(b, SKY_F32, n, d),
                               .q_codes = NEW(b, SKY_I8, s, c),
                               .q_scale = NEW(b, SKY_F32, (s + 63) / 64, n),
                               .k_codes = NEW(b, SKY_I8, s, c),
                               .k_scale = NEW(b, SKY_F32, (s + 127) / 128, n),
                               .v_codes = NEW(b, SKY_F8_E4M3, sky_num_v_tiles(s), n, d, SKY_V_TILE_TOKENS),
                               .v_scale = NEW(b, SKY_F32, c),
                               .cross_k = NEW(b, SKY_BF16, TEXT, n, d),
                               .cross_v = NEW(b, SKY_BF16, TEXT, n, d),
                               .up = NEW(b, SKY_BF16, s, b->ffn_dim),
                               .up_codes = NEW(b, SKY_F8_E4M3, s, b->ffn_dim),
                               .self_q = new_layer(b, c, c),
                               .self_k = new_layer(b, c, c),
                               .self_v = new_layer(b, c, c),
                               .self_o = new_layer(b, c, c),
                               .cross_q = new_layer(b, c, c),
                               .cross_o = new_layer(b, c, c),
                               .ffn_up = new_layer(b, b->ffn_dim, c),
                               .ffn_down = new_layer(b, c, b->ffn_dim)};
    const double linear = 2.0 * (double)s * (6.0 * (double)c * (double)c + 2.0 * (double)c * (double)b->ffn_dim);
    const double attention = 4.0 * (double)s * (double)c * (double)(s + TEXT);
    measure(b, "block, fp8 and 8-bit attention", run_block, &state, linear + attention, 0.0);
    sky_arena_release(&b->arena, mark);
}

/* Of the VAE's decoder at 544 x 960: the widest level. */
static void vae(bench *b)
{
    enum { T = 4, H = 544, W = 960, C = 96 };
    const size_t mark = sky_arena_mark(&b->arena);
    const sky_tensor x = NEW(b, SKY_BF16, T + 2, H, W, C);
    const sky_tensor y = NEW(b, SKY_BF16, T, H, W, C);
    measure(b, "channel_norm silu bf16, 96", run_channel_norm,
            &(sky_channel_norm_args){.y = y, .x = y, .gamma = NEW(b, SKY_F32, C), .silu = true}, 0.0,
            4.0 * T * H * W * C);
    measure(b, "conv3d 3x3x3 bf16, 96 to 96", run_conv3d,
            &(sky_conv3d_args){.y = y,
                               .x = x,
                               .weight = new_tensor(b, SKY_BF16, SHAPE(C, 3, 3, 3, C), 0.02F, 0.0F),
                               .bias = NEW(b, SKY_BF16, C),
                               .stride_t = 1,
                               .stride_hw = 1,
                               .pad_top = 1,
                               .pad_bottom = 1,
                               .pad_left = 1,
                               .pad_right = 1},
            2.0 * T * H * W * C * C * 27.0, 0.0);
    measure(b, "upsample_nearest bf16, 96", run_upsample_nearest,
            &(sky_upsample_nearest_args){.y = y, .x = NEW(b, SKY_BF16, T, H / 2, W / 2, C)}, 0.0, 2.5 * T * H * W * C);
    sky_arena_release(&b->arena, mark);
}

int main(int argc, char **argv)
{
    bench b = {.tokens = 51000, .dim = 5120, .ffn_dim = 13824, .heads = 40, .head_dim = 128, .seconds = 0.3};
    const char *backend = "cuda";
    const char *json_path = NULL;
    uint64_t free_bytes = 0;
    uint64_t total_bytes = 0;
    void *block = NULL;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--backend") == 0) {
            backend = argv[i + 1];
        } else if (strcmp(argv[i], "--tokens") == 0) {
            b.tokens = atoll(argv[i + 1]);
        } else if (strcmp(argv[i], "--heads") == 0) {
            b.heads = atoll(argv[i + 1]);
            b.dim = b.heads * b.head_dim;
        } else if (strcmp(argv[i], "--only") == 0) {
            b.only = argv[i + 1];
        } else if (strcmp(argv[i], "--seconds") == 0) {
            b.seconds = atof(argv[i + 1]);
        } else if (strcmp(argv[i], "--json") == 0) {
            json_path = argv[i + 1];
        } else {
            fprintf(stderr, "bench-gpu: unknown argument %s\n", argv[i]);
            return 64;
        }
    }
    b.ctx = (sky_ctx){.backend = sky_backend_find(backend), .arena = &b.arena};
    if (b.ctx.backend == NULL || b.tokens < 1 || b.heads < 1) {
        fprintf(stderr, "bench-gpu: no backend %s in this build, or no tokens or heads\n", backend);
        return 64;
    }
    check(sky_device_open(b.ctx.backend, &(sky_device_options){.num_threads = 1}, &b.ctx.device));
    check(b.ctx.backend->memory(b.ctx.device, &free_bytes, &total_bytes));
    const size_t bytes = (size_t)(free_bytes / 4 * 3);
    check(b.ctx.backend->alloc(b.ctx.device, bytes, &block));
    sky_arena_init(&b.arena, block, bytes);
    open_nvml(&b.card);
    b.rows = json_array();
    printf("%s, %lld tokens, dim %lld\n%-34s %9s %9s %8s %8s %6s %6s %5s\n",
           sky_device_name(b.ctx.backend, b.ctx.device), (long long)b.tokens, (long long)b.dim, "op", "ms", "worst",
           "TFLOP/s", "GB/s", "copy", "MHz", "W");
    const size_t mark = sky_arena_mark(&b.arena);
    copies(&b);
    sky_arena_release(&b.arena, mark);
    linears(&b, "q", b.dim, b.dim);
    linears(&b, "q,k,v", 3 * b.dim, b.dim);
    linears(&b, "ffn.0", b.ffn_dim, b.dim);
    linears(&b, "ffn.2", b.dim, b.ffn_dim);
    attentions(&b);
    rows(&b);
    transformer_block(&b);
    vae(&b);
    if (json_path != NULL && json_dump_file(b.rows, json_path, JSON_INDENT(1)) != 0) {
        fprintf(stderr, "bench-gpu: %s: cannot be written\n", json_path);
    }
    json_decref(b.rows);
    b.ctx.backend->free(b.ctx.device, block);
    sky_device_close(b.ctx.backend, &b.ctx.device);
    return 0;
}
