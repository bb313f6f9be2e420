/*
 * bench/precision.c - what exceptions from the 8-bit contract bring, and what they cost
 *
 *     bench-precision --model FOLDER [--prompts N] [--steps N] [--frames N] [--threads N] [--only NAME;...]
 *                     [--videos all|none|NAME;...] [--json FILE]
 *
 * Prompts and seeds are fixed. Float32 videos are made first and kept. Every variant then runs single forwards on latents of
 * these videos (the prompt's branch, at three steps: near the start, in the middle, near the end) and, where --videos names
 * it, whole videos. Errors are |a - b|_2 / |b|_2 against float32; PSNR is over all frames. Differences to the contract are
 * over the same prompts, with the standard error of their mean. --only's and --videos' names are a variant's or its start.
 */
#include "base/clock.h"
#include "engine/settings.h"
#include "model/transformer.h"
#include "ops/cpu/cpu.h"
#include "precision_emulate.h"
#include "sample/unipc.h"
#include "skyreels.h"
#include "text/text_clean.h"
#include "text/tokenizer.h"
#include "weights/quantize.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_PROMPTS = 100, NUM_POINTS = 3, PROMPT_BYTES = 128, PER_TOKEN = 1, ARENA_BYTES = 192 << 20 };

typedef struct variant {
    const char *name;
    sky_arithmetic arithmetic;
    int64_t q_group, k_group; /* 0: the contract's */
    bool least_squares;       /* scales of weights */
    emulated_plain plain;     /* layers in bf16 */
} variant;

#define FP8 .compute = SKY_BF16, .linear = SKY_F8_E4M3, .attention_8bit = true

static const variant variants[] = {
    {"contract", {FP8}},
    {"bf16", {.compute = SKY_BF16, .linear = SKY_BF16}},
    {"int8 linears", {.compute = SKY_BF16, .linear = SKY_I8, .attention_8bit = true}},
    {"fp8 linears alone", {.compute = SKY_BF16, .linear = SKY_F8_E4M3}},
    {"8-bit attention alone", {.compute = SKY_BF16, .linear = SKY_BF16, .attention_8bit = true}},
    {"weights mse, fp8", {FP8}, .least_squares = true},
    {"weights mse, int8", {.compute = SKY_BF16, .linear = SKY_I8, .attention_8bit = true}, .least_squares = true},
    {"groups 32/64", {FP8}, .q_group = 32, .k_group = 64},
    {"groups 64/64", {FP8}, .q_group = 64, .k_group = 64},
    {"groups 128/128", {FP8}, .q_group = 128, .k_group = 128},
    {"groups 1/1", {FP8}, .q_group = PER_TOKEN, .k_group = PER_TOKEN},
    {"plain self_attn.q", {FP8}, .plain = {.parts = 1U << 0}},
    {"plain self_attn.k", {FP8}, .plain = {.parts = 1U << 1}},
    {"plain self_attn.v", {FP8}, .plain = {.parts = 1U << 2}},
    {"plain self_attn.o", {FP8}, .plain = {.parts = 1U << 3}},
    {"plain cross_attn.q", {FP8}, .plain = {.parts = 1U << 4}},
    {"plain cross_attn.k", {FP8}, .plain = {.parts = 1U << 5}},
    {"plain cross_attn.v", {FP8}, .plain = {.parts = 1U << 6}},
    {"plain cross_attn.o", {FP8}, .plain = {.parts = 1U << 7}},
    {"plain ffn.0", {FP8}, .plain = {.parts = 1U << 8}},
    {"plain ffn.2", {FP8}, .plain = {.parts = 1U << 9}},
    {"plain first block", {FP8}, .plain = {.first_blocks = 1}},
    {"plain last block", {FP8}, .plain = {.last_blocks = 1}},
    {"plain first, last block", {FP8}, .plain = {.first_blocks = 1, .last_blocks = 1}},
};
enum { NUM_VARIANTS = sizeof variants / sizeof variants[0], CONTRACT = 0 };

static const variant float32 = {"float32", {.compute = SKY_F32, .linear = SKY_F32}};

/* What one prompt has in float32. */
typedef struct sample {
    char prompt[PROMPT_BYTES];
    uint64_t seed;
    float *text;                 /* [SKY_TEXT_LEN, text_dim] */
    float *latents[NUM_POINTS];  /* what goes into these steps */
    float *velocity[NUM_POINTS]; /* of single forwards there */
    uint8_t *frames;
} sample;

typedef struct result {
    double error[MAX_PROMPTS]; /* mean over the points */
    double psnr[MAX_PROMPTS];
    bool has_videos;
    uint64_t weight_bytes;
    double plain_share; /* of the block linears' flops in the compute type */
    double seconds;
    double squares; /* of the weights' errors, to the contract's; 0 where they are the contract's */
} result;

typedef struct study {
    const char *model_path;
    int num_prompts, num_steps, points[NUM_POINTS];
    int64_t num_frames;
    char output[64];
    void *device;
    emulator *emulator;
    sky_group *group;
    sky_checkpoint *checkpoint;
    sky_video_shape shape;
    int64_t num_blocks, num_latents, num_frame_bytes, num_tokens, text_dim;
    void *block;
    sky_arena arena;
    float *freqs;
    float timestep[NUM_POINTS];
    sample samples[MAX_PROMPTS];
    result results[NUM_VARIANTS];
    bool done[NUM_VARIANTS];
} study;

static void check(sky_status st)
{
    if (st != SKY_OK) {
        fprintf(stderr, "bench-precision: %s\n", sky_message());
        exit(sky_status_exit_code(st));
    }
}

static void *need(size_t bytes)
{
    void *p = calloc(1, bytes);
    check(p != NULL ? SKY_OK : sky_fail(SKY_ERR_NOMEM, "%zu bytes", bytes));
    return p;
}

static double relative_error(const float *got, const float *want, int64_t len)
{
    double off = 0.0;
    double norm = 0.0;
    for (int64_t i = 0; i < len; i++) {
        const double d = (double)got[i] - (double)want[i];
        off += d * d;
        norm += (double)want[i] * (double)want[i];
    }
    return sqrt(off / norm);
}

static double psnr(const uint8_t *a, const uint8_t *b, int64_t len)
{
    double sum = 0.0;
    for (int64_t i = 0; i < len; i++) {
        const double d = ((double)a[i] - (double)b[i]) / 255.0;
        sum += d * d;
    }
    return 10.0 * log10((double)len / sum);
}

/* ---- prompts ---- */

static uint32_t draw(uint32_t *state, uint32_t count)
{
    *state = *state * 1664525U + 1013904223U;
    return (*state >> 16) % count;
}
#define DRAW(state, list) (list)[draw(state, sizeof(list) / sizeof((list)[0]))]

/* The grammar that the small model was trained on. */
static void make_prompts(study *s)
{
    static const char *const sizes[] = {"large ", "small ", ""};
    static const char *const colours[] = {"red",    "green", "blue", "yellow", "purple",
                                          "orange", "white", "pink", "cyan"};
    static const char *const shapes[] = {"ball", "box", "triangle", "ring", "star", "disc", "square", "circle"};
    static const char *const moves[] = {"moving to the right", "moving to the left", "moving up", "moving down",
                                        "growing larger",      "shrinking",          "bouncing",  "spinning",
                                        "standing still"};
    static const char *const backgrounds[] = {"black", "gray", "dark blue"};
    uint32_t state = 2026;
    for (int i = 0; i < s->num_prompts; i++) {
        const char *size = DRAW(&state, sizes);
        const char *colour = DRAW(&state, colours);
        const char *shape = DRAW(&state, shapes);
        const char *move = DRAW(&state, moves);
        const char *article = *size == '\0' && *colour == 'o' ? "An" : "A";
        snprintf(s->samples[i].prompt, PROMPT_BYTES, "%s %s%s %s %s on a %s background.", article, size, colour, shape,
                 move, DRAW(&state, backgrounds));
        s->samples[i].seed = 5000 + (uint64_t)i;
    }
}

/* ---- videos ---- */

typedef struct watcher {
    const study *s;
    sample *keep;         /* float32: latents and frames are kept there */
    const uint8_t *other; /* else: frames to compare with */
    double psnr;
} watcher;

static sky_status see_latents(void *user, int step, const float *latents, int64_t len)
{
    const watcher *w = user;
    for (int p = 0; p < NUM_POINTS && w->keep != NULL; p++) {
        if (step == w->s->points[p]) {
            SKY_ASSERT(len == w->s->num_latents);
            w->keep->latents[p] = need((size_t)len * sizeof *latents);
            memcpy(w->keep->latents[p], latents, (size_t)len * sizeof *latents);
        }
    }
    return SKY_OK;
}

static sky_status see_frames(void *user, const uint8_t *frames, int64_t len)
{
    watcher *w = user;
    SKY_ASSERT(len == w->s->num_frame_bytes);
    if (w->keep != NULL) {
        w->keep->frames = need((size_t)len);
        memcpy(w->keep->frames, frames, (size_t)len);
    } else {
        w->psnr = psnr(frames, w->other, len);
    }
    return SKY_OK;
}

static sky_precision precision_of(const sky_arithmetic *a)
{
    return a->linear == SKY_F32       ? SKY_PRECISION_FP32
           : a->linear == SKY_BF16    ? SKY_PRECISION_BF16
           : a->linear == SKY_F8_E4M3 ? SKY_PRECISION_FP8
                                      : SKY_PRECISION_INT8;
}

static sky_settings settings_of(const study *s, const variant *v, const sample *sample_)
{
    sky_settings settings = sky_settings_default();
    settings.model_path = s->model_path;
    settings.prompt = sample_->prompt;
    settings.output = s->output;
    settings.height = 96;
    settings.width = 160;
    settings.num_frames = s->num_frames;
    settings.inference_steps = s->num_steps;
    settings.guidance_scale = 3.0;
    settings.shift = 3.0;
    settings.seed = sample_->seed;
    settings.rng.kind = SKY_RNG_TORCH_CPU;
    settings.precision = precision_of(&v->arithmetic);
    settings.attention_8bit = v->arithmetic.attention_8bit;
    sky_settings_complete(&settings);
    return settings;
}

static double render(study *s, const variant *v, sample *sample_, bool keep)
{
    watcher w = {.s = s, .keep = keep ? sample_ : NULL, .other = sample_->frames};
    const sky_engine_observer observer = {.latents = see_latents, .frames = see_frames, .user = &w};
    const sky_settings settings = settings_of(s, v, sample_);
    sky_engine *engine = NULL;
    sky_result result_;
    check(sky_settings_check(&settings));
    check(sky_engine_create(
        &(sky_engine_config){
            .backend = &s->emulator->table, .device = s->device, .group = s->group, .observer = &observer},
        &engine));
    check(sky_engine_render(engine, &settings, &result_));
    sky_engine_destroy(&engine);
    return w.psnr;
}

/* ---- single forwards ---- */

static sky_ctx context(study *s)
{
    return (sky_ctx){.backend = &s->emulator->table, .device = s->device, .arena = &s->arena};
}

static void encode_texts(study *s)
{
    sky_ctx ctx = context(s);
    sky_tokenizer *tokenizer = NULL;
    sky_weights *weights = NULL;
    sky_text_encoder *encoder = NULL;
    check(sky_tokenizer_open(sky_checkpoint_tokenizer_path(s->checkpoint), &tokenizer));
    check(sky_weights_create(&ctx, s->checkpoint, SKY_TEXT_ENCODER, NULL, &weights));
    check(sky_text_encoder_create(&ctx, weights, SKY_F32, false, &encoder));
    s->text_dim = sky_text_encoder_dim(encoder);
    for (int i = 0; i < s->num_prompts; i++) {
        int32_t ids[SKY_TEXT_LEN];
        int64_t num_ids = 0;
        char *clean = NULL;
        check(sky_text_clean(s->samples[i].prompt, &clean));
        check(sky_tokenizer_encode(tokenizer, clean, SKY_TEXT_LEN, ids, &num_ids));
        free(clean);
        s->samples[i].text = need((size_t)(SKY_TEXT_LEN * s->text_dim) * sizeof(float));
        const sky_tensor out = SKY_TENSOR(s->samples[i].text, SKY_F32, SKY_TEXT_LEN, s->text_dim);
        check(sky_text_encoder_encode(&ctx, encoder,
                                      &(sky_text_encode_args){.ids = ids, .num_ids = num_ids, .out = out}));
    }
    sky_text_encoder_destroy(&encoder);
    sky_weights_destroy(&weights);
    sky_tokenizer_destroy(&tokenizer);
}

/* Mean error over one prompt's points; with keep the velocities become what others are compared with. */
static double forwards_of(study *s, const variant *v, sky_ctx *ctx, const sky_transformer *model, sample *sample_,
                          bool keep)
{
    const size_t mark = sky_arena_mark(&s->arena);
    const int64_t *grid = (int64_t[]){s->shape.latent_frames, s->shape.latent_rows, s->shape.latent_cols};
    const int64_t head_dim = sky_transformer_get_dims(model)->head_dim;
    const int64_t channels = s->num_latents / (grid[0] * grid[1] * grid[2]);
    float *velocity = need((size_t)s->num_latents * sizeof *velocity);
    sky_tensor text = {0};
    sky_text_kv kv = {0};
    double error = 0.0;
    check(sky_ctx_tensor(ctx, &text, v->arithmetic.compute, 2, (int64_t[]){SKY_TEXT_LEN, s->text_dim}));
    SKY_ASSERT(sky_dtype_convert(text.data, text.dtype, sample_->text, SKY_F32, (size_t)sky_tensor_len(&text)));
    check(sky_transformer_condition(ctx, model, &text, NULL, &kv));
    for (int p = 0; p < NUM_POINTS; p++) {
        check(sky_transformer_forward(
            ctx, model,
            &(sky_transformer_args){.velocity = SKY_TENSOR(velocity, SKY_F32, channels, grid[0], grid[1], grid[2]),
                                    .latents =
                                        SKY_TENSOR(sample_->latents[p], SKY_F32, channels, grid[0], grid[1], grid[2]),
                                    .freqs = SKY_TENSOR(s->freqs, SKY_F32, s->num_tokens, head_dim / 2, 2),
                                    .timestep = s->timestep[p],
                                    .kv = &kv}));
        if (keep) {
            sample_->velocity[p] = need((size_t)s->num_latents * sizeof *velocity);
            memcpy(sample_->velocity[p], velocity, (size_t)s->num_latents * sizeof *velocity);
        } else {
            error += relative_error(velocity, sample_->velocity[p], s->num_latents) / NUM_POINTS;
        }
    }
    free(velocity);
    sky_arena_release(&s->arena, mark);
    return error;
}

/* Of the block linears' flops over a whole video; keys and values of the text are made once, the rest in every step. */
static double plain_share(const study *s, const variant *v, const sky_transformer_dims *d)
{
    double plain = 0.0;
    double all = 0.0;
    for (int64_t layer = 0; layer < d->num_layers; layer++) {
        for (int part = 0; part < SKY_BLOCK_LINEARS; part++) {
            const char *name = sky_block_linear_name(part);
            const bool text = strcmp(name, "cross_attn.k") == 0 || strcmp(name, "cross_attn.v") == 0;
            const double rows = text ? SKY_TEXT_LEN : (double)s->num_tokens * s->num_steps;
            const double flops = 2.0 * rows * (double)d->dim * (double)(name[0] == 'f' ? d->ffn_dim : d->dim);
            all += flops;
            if (v->arithmetic.linear == v->arithmetic.compute ||
                emulated_is_plain(&v->plain, d->num_layers, layer, part)) {
                plain += flops;
            }
        }
    }
    return plain / all;
}

static void run_forwards(study *s, const variant *v, result *r)
{
    sky_ctx ctx = context(s);
    sky_weights *weights = NULL;
    sky_transformer *model = NULL;
    check(sky_weights_create(&ctx, s->checkpoint, SKY_TRANSFORMER, NULL, &weights));
    check(sky_transformer_create(weights, &v->arithmetic, &model));
    for (int i = 0; i < s->num_prompts; i++) {
        const double error = forwards_of(s, v, &ctx, model, &s->samples[i], r == NULL);
        if (r != NULL) {
            r->error[i] = error;
        }
    }
    if (r != NULL) {
        r->weight_bytes = sky_weights_bytes(weights) + (uint64_t)emulator_plain_bytes(s->emulator);
        r->plain_share = plain_share(s, v, sky_transformer_get_dims(model));
    }
    sky_transformer_destroy(&model);
    sky_weights_destroy(&weights);
}

/* ---- the emulated attention has to be the backend's where the groups are ---- */

static void fill(float *to, int64_t len, uint32_t state)
{
    for (int64_t i = 0; i < len; i++) {
        state = state * 1664525U + 1013904223U;
        to[i] = (float)(state >> 8) / 8388608.0F - 1.0F;
    }
}

static void attend(study *s, int64_t tokens, int64_t heads, sky_tensor *y)
{
    enum { HEAD_DIM = 128 };
    sky_ctx ctx = context(s);
    const int64_t shape[] = {tokens, heads, HEAD_DIM};
    const int64_t groups[2][2] = {{(tokens + SKY_Q_GROUP_TOKENS - 1) / SKY_Q_GROUP_TOKENS, heads},
                                  {(tokens + SKY_K_GROUP_TOKENS - 1) / SKY_K_GROUP_TOKENS, heads}};
    sky_tensor x, mean, sums, range, scale[2], codes[2], v, v_scale, v_mean;
    check(sky_ctx_tensor(&ctx, y, SKY_F32, 3, shape));
    check(sky_ctx_tensor(&ctx, &x, SKY_F32, 3, shape));
    check(sky_ctx_tensor(&ctx, &v, SKY_F8_E4M3, 4,
                         (int64_t[]){sky_num_v_tiles(tokens), heads, HEAD_DIM, SKY_V_TILE_TOKENS}));
    check(sky_ctx_tensor(&ctx, &mean, SKY_F32, 2, shape + 1));
    check(sky_ctx_tensor(&ctx, &sums, SKY_I64, 1, (int64_t[]){heads * HEAD_DIM}));
    check(sky_ctx_tensor(&ctx, &range, SKY_F32, 1, (int64_t[]){2 * heads * HEAD_DIM}));
    check(sky_ctx_tensor(&ctx, &v_mean, SKY_F32, 2, shape + 1));
    check(sky_ctx_tensor(&ctx, &v_scale, SKY_F32, 2, shape + 1));
    fill(mean.data, sky_tensor_len(&mean), 9);
    for (int i = 0; i < 2; i++) {
        check(sky_ctx_tensor(&ctx, &codes[i], SKY_I8, 3, shape));
        check(sky_ctx_tensor(&ctx, &scale[i], SKY_F32, 2, groups[i]));
        fill(x.data, sky_tensor_len(&x), (uint32_t)i);
        for (int64_t j = 0; j < sky_tensor_len(&x); j++) { /* groups that differ, scores that are not all alike */
            ((float *)x.data)[j] *= 1.0F + (float)(j / (HEAD_DIM * heads) % 97) / 24.0F;
        }
        check(sky_quantize_heads(
            &ctx, &(sky_quantize_heads_args){.codes = codes[i],
                                             .scale = scale[i],
                                             .x = x,
                                             .mean = i == 1 ? mean : (sky_tensor){0},
                                             .tokens_per_group = i == 0 ? SKY_Q_GROUP_TOKENS : SKY_K_GROUP_TOKENS}));
    }
    const sky_tensor x_rows = sky_tensor_reshape(&x, 2, (int64_t[]){tokens, heads * HEAD_DIM});
    const sky_tensor mean_row = sky_tensor_reshape(&v_mean, 1, (int64_t[]){heads * HEAD_DIM});
    const sky_tensor scale_row = sky_tensor_reshape(&v_scale, 1, (int64_t[]){heads * HEAD_DIM});
    check(sky_channel_sums(&ctx,
                           &(sky_channel_sums_args){.sums = sums, .x = x_rows, .range = range, .num_tokens = tokens}));
    check(sky_sums_to_mean(&ctx, &(sky_sums_to_mean_args){.mean = mean_row, .sums = sums, .num_tokens = tokens}));
    check(sky_quantize_channels(
        &ctx,
        &(sky_quantize_channels_args){.codes = v, .scale = scale_row, .x = x_rows, .mean = mean_row, .range = range}));
    check(sky_attention_8bit(&ctx, &(sky_attention_8bit_args){.y = *y,
                                                              .q = codes[0],
                                                              .q_scale = scale[0],
                                                              .k = codes[1],
                                                              .k_scale = scale[1],
                                                              .v = v,
                                                              .v_scale = v_scale,
                                                              .v_mean = v_mean,
                                                              .softmax_scale = 1.0F / sqrtf((float)HEAD_DIM)}));
}

static void verify_groups(study *s)
{
    const size_t mark = sky_arena_mark(&s->arena);
    sky_tensor want, got;
    attend(s, 530, 2, &want);
    s->emulator->q_group = SKY_Q_GROUP_TOKENS;
    s->emulator->k_group = SKY_K_GROUP_TOKENS;
    attend(s, 530, 2, &got);
    s->emulator->q_group = s->emulator->k_group = 0;
    const double error = relative_error(got.data, want.data, sky_tensor_len(&want));
    printf("emulated attention with groups of %d and %d: %.1e from the CPU backend's\n", SKY_Q_GROUP_TOKENS,
           SKY_K_GROUP_TOKENS, error);
    check(error <= 1e-5 ? SKY_OK : sky_fail(SKY_ERR_INTERNAL, "the emulated attention is off by %.3g", error));
    sky_arena_release(&s->arena, mark);
}

/* ---- the table ---- */

typedef struct estimate {
    double mean, error; /* standard error of the mean */
} estimate;

static estimate difference(const double *a, const double *b, int count)
{
    double sum = 0.0;
    double squares = 0.0;
    for (int i = 0; i < count; i++) {
        sum += a[i] - b[i];
    }
    for (int i = 0; i < count; i++) {
        squares += pow(a[i] - b[i] - sum / count, 2.0);
    }
    return (estimate){sum / count, count > 1 ? sqrt(squares / (count - 1) / count) : NAN};
}

static double mean_of(const double *a, int count)
{
    double sum = 0.0;
    for (int i = 0; i < count; i++) {
        sum += a[i];
    }
    return sum / count;
}

static double least_of(const double *a, int count)
{
    double least = INFINITY;
    for (int i = 0; i < count; i++) {
        least = fmin(least, a[i]);
    }
    return least;
}

static void print_row(const study *s, int index, json_t *rows)
{
    const result *r = &s->results[index];
    const result *contract = &s->results[CONTRACT];
    const double error = mean_of(r->error, s->num_prompts);
    json_t *row =
        json_pack("{s:s, s:f, s:I, s:f, s:f}", "name", variants[index].name, "forward_error", error, "weight_bytes",
                  (json_int_t)r->weight_bytes, "plain_share", r->plain_share, "seconds", r->seconds);
    json_t *errors = json_array(); /* to compare two builds, prompt by prompt */
    for (int i = 0; i < s->num_prompts; i++) {
        json_array_append_new(errors, json_real(r->error[i]));
    }
    json_object_set_new(row, "forward_errors", errors);
    printf("%-24s %8.5f", variants[index].name, error);
    if (s->done[CONTRACT]) {
        const double base = mean_of(contract->error, s->num_prompts);
        const estimate d = difference(r->error, contract->error, s->num_prompts);
        printf(" %+7.2f %% +- %4.2f", 100.0 * d.mean / base, 100.0 * d.error / base);
        json_object_set_new(row, "error_change", json_real(d.mean / base));
        json_object_set_new(row, "error_change_se", json_real(d.error / base));
    } else {
        printf(" %17s", "");
    }
    if (r->has_videos) {
        printf("  %6.2f %6.2f", mean_of(r->psnr, s->num_prompts), least_of(r->psnr, s->num_prompts));
        json_object_set_new(row, "psnr_mean", json_real(mean_of(r->psnr, s->num_prompts)));
        json_object_set_new(row, "psnr_min", json_real(least_of(r->psnr, s->num_prompts)));
        if (contract->has_videos) {
            const estimate d = difference(r->psnr, contract->psnr, s->num_prompts);
            printf(" %+6.2f +- %4.2f", d.mean, d.error);
            json_object_set_new(row, "psnr_change", json_real(d.mean));
            json_object_set_new(row, "psnr_change_se", json_real(d.error));
        } else {
            printf(" %14s", "");
        }
    } else {
        printf("  %6s %6s %14s", "-", "-", "");
    }
    printf("  %10llu  %5.1f %%  %5.1f s\n", (unsigned long long)r->weight_bytes, 100.0 * r->plain_share, r->seconds);
    if (r->squares > 0.0) {
        printf("%-24s squared error of the weights: %+.2f %%\n", "", 100.0 * (r->squares - 1.0));
        json_object_set_new(row, "weight_squares_change", json_real(r->squares - 1.0));
    }
    fflush(stdout);
    json_array_append_new(rows, row);
}

/* Whether a list of names, or of their beginnings, has this one. */
static bool listed(const char *list, const char *name)
{
    char *copy = strdup(list);
    check(copy != NULL ? SKY_OK : sky_fail(SKY_ERR_NOMEM, "a list of names"));
    bool found = strcmp(list, "all") == 0;
    char *rest = copy;
    for (char *part = strsep(&rest, ";"); part != NULL; part = strsep(&rest, ";")) {
        found = found || (*part != '\0' && strncmp(name, part, strlen(part)) == 0);
    }
    free(copy);
    return found;
}

static void run_variant(study *s, int index, bool videos)
{
    const variant *v = &variants[index];
    result *r = &s->results[index];
    const double start = sky_clock_seconds();
    if (v->least_squares) {
        check(emulator_requantize(s->emulator, s->checkpoint, v->arithmetic.linear));
        r->squares = s->emulator->least_squares / s->emulator->contract_squares;
    }
    if (v->plain.parts != 0 || v->plain.first_blocks > 0 || v->plain.last_blocks > 0) {
        check(emulator_keep_plain(s->emulator, s->checkpoint, v->arithmetic.linear, s->num_blocks, &v->plain));
    }
    s->emulator->q_group = v->q_group;
    s->emulator->k_group = v->k_group;
    run_forwards(s, v, r);
    for (int i = 0; i < s->num_prompts && videos; i++) {
        r->psnr[i] = render(s, v, &s->samples[i], false);
    }
    r->has_videos = videos;
    s->emulator->q_group = s->emulator->k_group = 0;
    emulator_forget_layers(s->emulator);
    r->seconds = sky_clock_seconds() - start;
    s->done[index] = true;
}

static void open_study(study *s, int num_threads)
{
    sky_weights *weights = NULL;
    sky_transformer_dims dims;
    sky_unipc *solver = NULL;
    make_prompts(s);
    const sky_settings settings = settings_of(s, &float32, &s->samples[0]);
    check(sky_settings_check(&settings));
    s->shape = sky_settings_shape(&settings);
    s->num_tokens = sky_grid_tokens(&s->shape.grid);
    s->num_frame_bytes = s->num_frames * settings.height * settings.width * 3;
    check(sky_cpu_device_create(num_threads, &s->device));
    check(sky_group_self_create(&s->group));
    check(sky_checkpoint_open(s->model_path, &s->checkpoint));
    s->block = aligned_alloc(SKY_ARENA_ALIGNMENT_BYTES, ARENA_BYTES);
    check(s->block != NULL ? SKY_OK : sky_fail(SKY_ERR_NOMEM, "arena"));
    sky_arena_init(&s->arena, s->block, ARENA_BYTES);

    sky_ctx ctx = {.backend = sky_backend_cpu(), .device = s->device, .arena = &s->arena};
    check(sky_weights_create(&ctx, s->checkpoint, SKY_TRANSFORMER, NULL, &weights));
    check(sky_transformer_infer(weights, &dims));
    sky_weights_destroy(&weights);
    s->num_blocks = dims.num_layers;
    s->num_latents = dims.in_dim * s->shape.latent_frames * s->shape.latent_rows * s->shape.latent_cols;
    const int64_t most_tokens = s->num_tokens > 1024 ? s->num_tokens : 1024; /* verify_groups has fewer */
    check(emulator_create(num_threads, most_tokens * (dims.num_heads > 2 ? dims.num_heads : 2), &s->emulator));
    s->freqs = need((size_t)(s->num_tokens * dims.head_dim) * sizeof *s->freqs);
    check(sky_rope_fill(&s->shape.grid, dims.head_dim, 0, s->num_tokens, s->freqs));

    s->points[0] = s->num_steps / 20;
    s->points[1] = s->num_steps / 2;
    s->points[2] = s->num_steps * 9 / 10;
    check(sky_unipc_create(
        &(sky_unipc_config){.num_steps = s->num_steps, .shift = settings.shift, .grid = settings.scheduler}, &solver));
    for (int p = 0; p < NUM_POINTS; p++) {
        s->timestep[p] = sky_unipc_timestep(solver, s->points[p]);
    }
    sky_unipc_destroy(&solver);
}

static void close_study(study *s)
{
    for (int i = 0; i < s->num_prompts; i++) {
        for (int p = 0; p < NUM_POINTS; p++) {
            free(s->samples[i].latents[p]);
            free(s->samples[i].velocity[p]);
        }
        free(s->samples[i].text);
        free(s->samples[i].frames);
    }
    emulator_destroy(&s->emulator);
    sky_checkpoint_destroy(&s->checkpoint);
    sky_group_destroy(&s->group);
    sky_cpu_device_destroy(&s->device);
    free(s->freqs);
    free(s->block);
    char beside[sizeof s->output + 8]; /* the settings, which y4m keeps in a file of its own */
    snprintf(beside, sizeof beside, "%s.json", s->output);
    unlink(s->output);
    unlink(beside);
}

static int usage(const char *what)
{
    fprintf(stderr,
            "bench-precision: %s\nusage: bench-precision --model FOLDER [--prompts N] [--steps N] [--frames N] "
            "[--threads N] [--only NAME;...] [--videos all|none|NAME;...] [--json FILE]\n",
            what);
    return 64;
}

static json_t *run_study(study *s, const char *only, const char *videos)
{
    json_t *rows = json_array();
    const double start = sky_clock_seconds();
    verify_groups(s);
    encode_texts(s);
    for (int i = 0; i < s->num_prompts; i++) {
        (void)render(s, &float32, &s->samples[i], true);
    }
    run_forwards(s, &float32, NULL);
    printf("%d float32 videos of %lld frames, %d steps: %.0f s\n\n", s->num_prompts, (long long)s->num_frames,
           s->num_steps, sky_clock_seconds() - start);
    printf("%-24s %8s %17s  %6s %6s %14s  %10s  %7s\n", "variant", "forward", "to the contract", "PSNR", "least",
           "to contract", "weights", "plain");
    for (int v = 0; v < NUM_VARIANTS; v++) {
        if (listed(only, variants[v].name)) {
            run_variant(s, v, listed(videos, variants[v].name));
            print_row(s, v, rows);
        }
    }
    return rows;
}

int main(int argc, char **argv)
{
    static study s = {.num_prompts = 30, .num_steps = 20, .num_frames = 33};
    const char *only = "all";
    const char *videos = "all";
    const char *json_path = NULL;
    int num_threads = 2;
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc) {
            return usage("an option lacks its value");
        } else if (strcmp(argv[i], "--model") == 0) {
            s.model_path = argv[i + 1];
        } else if (strcmp(argv[i], "--prompts") == 0) {
            s.num_prompts = (int)strtol(argv[i + 1], NULL, 10);
        } else if (strcmp(argv[i], "--steps") == 0) {
            s.num_steps = (int)strtol(argv[i + 1], NULL, 10);
        } else if (strcmp(argv[i], "--frames") == 0) {
            s.num_frames = strtol(argv[i + 1], NULL, 10);
        } else if (strcmp(argv[i], "--threads") == 0) {
            num_threads = (int)strtol(argv[i + 1], NULL, 10);
        } else if (strcmp(argv[i], "--only") == 0) {
            only = argv[i + 1];
        } else if (strcmp(argv[i], "--videos") == 0) {
            videos = argv[i + 1];
        } else if (strcmp(argv[i], "--json") == 0) {
            json_path = argv[i + 1];
        } else {
            return usage(argv[i]);
        }
    }
    if (s.model_path == NULL || s.num_prompts < 1 || s.num_prompts > MAX_PROMPTS || s.num_steps < 3 ||
        num_threads < 1) {
        return usage("--model is required; 1 to 100 prompts, 3 steps or more");
    }
    snprintf(s.output, sizeof s.output, "/tmp/bench-precision-%ld.y4m", (long)getpid());
    open_study(&s, num_threads);
    json_t *rows = run_study(&s, only, videos);
    if (json_path != NULL && json_dump_file(rows, json_path, JSON_INDENT(1)) != 0) {
        fprintf(stderr, "bench-precision: cannot write %s\n", json_path);
    }
    json_decref(rows);
    close_study(&s);
    return 0;
}
