#include "model/vae.h"
#include "ops/backend.h"
#include "ops/cpu/cpu.h"
#include "ops/ref/ref.h"
#include "support/compare.h"
#include "support/golden.h"
#include "support/test.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ORIGINAL  SKY_TEST_MODELS "/shapes-t2v"
#define DIFFUSERS SKY_TEST_MODELS "/diffusers-t2v"

typedef enum backend_kind { REF, CPU } backend_kind;

/* A loaded VAE on a backend, and an arena that call() makes as large as planning says. */
typedef struct fixture {
    sky_ctx ctx;
    sky_arena arena;
    sky_checkpoint *checkpoint;
    sky_weights *weights;
    sky_vae *vae;
    int64_t num_reports, last_done, last_total;
} fixture;

static sky_status setup(fixture *f, backend_kind kind, const char *folder, sky_dtype compute, bool with_encoder)
{
    test_parameters("%s %s %s", kind == REF ? "ref" : "cpu", sky_dtype_name(compute), folder);
    *f = (fixture){.ctx = {.backend = kind == REF ? sky_backend_ref() : sky_backend_cpu()}};
    if (kind == CPU) {
        SKY_TRY(sky_cpu_device_create(2, &f->ctx.device));
    }
    f->ctx.arena = &f->arena;
    SKY_TRY(sky_checkpoint_open(folder, &f->checkpoint));
    SKY_TRY(sky_weights_create(&f->ctx, f->checkpoint, SKY_VAE, NULL, &f->weights));
    return sky_vae_create(f->weights, compute, with_encoder, &f->vae);
}

static void teardown(fixture *f)
{
    sky_vae_destroy(&f->vae);
    sky_vae_destroy(&f->vae); /* twice is safe */
    sky_weights_destroy(&f->weights);
    sky_checkpoint_destroy(&f->checkpoint);
    if (f->ctx.device != NULL) {
        sky_cpu_device_destroy(&f->ctx.device);
    }
}

typedef sky_status (*vae_call)(sky_ctx *ctx, const sky_vae *vae, const sky_vae_args *args);

static void count_progress(void *user, int64_t done, int64_t total)
{
    fixture *f = user;
    f->num_reports++;
    f->last_done = done;
    f->last_total = total;
}

/* Plans, then runs in an arena of just that size; both must leave the arena as it was and use it alike. */
static void call(fixture *f, vae_call what, const sky_vae_args *args)
{
    sky_vae_args with_progress = *args;
    with_progress.progress = count_progress;
    with_progress.user = f;
    f->num_reports = 0;
    sky_arena_init_planning(&f->arena);
    CHECK_OK(what(&f->ctx, f->vae, &with_progress));
    CHECK(f->arena.used_bytes == 0 && f->num_reports == 0);
    const size_t planned_bytes = f->arena.peak_bytes;

    void *block = aligned_alloc(SKY_ARENA_ALIGNMENT_BYTES, planned_bytes);
    CHECK(block != NULL);
    memset(block, 0xff, planned_bytes); /* NaN: what is read must have been written */
    sky_arena_init(&f->arena, block, planned_bytes);
    const sky_status st = what(&f->ctx, f->vae, &with_progress);
    if (st != SKY_OK) {
        test_fail(__FILE__, __LINE__, "%s: %s", sky_status_name(st), sky_message());
    }
    EXPECT(f->arena.used_bytes == 0);
    EXPECT(f->arena.peak_bytes == planned_bytes);
    EXPECT(f->num_reports == args->latents.shape[1] && f->last_done == f->num_reports &&
           f->last_total == f->num_reports);
    free(block);
}

static sky_tensor latents_of(float *values, int64_t frames, int64_t height, int64_t width)
{
    return SKY_TENSOR(values, SKY_F32, 16, frames, height, width);
}

/* Frames [3, 4F-3, 8H, 8W] of latents, in new memory. */
static float *decode_f32(fixture *f, const sky_tensor *latents, size_t *count)
{
    const int64_t *shape = latents->shape;
    sky_tensor frames = SKY_TENSOR(NULL, SKY_F32, 3, 4 * shape[1] - 3, 8 * shape[2], 8 * shape[3]);
    *count = (size_t)sky_tensor_len(&frames);
    frames.data = calloc(*count, sizeof(float));
    call(f, sky_vae_decode, &(sky_vae_args){.latents = *latents, .frames = frames});
    return frames.data;
}

static unsigned char *decode_u8(fixture *f, const sky_tensor *latents, size_t *count)
{
    const int64_t *shape = latents->shape;
    sky_tensor frames = SKY_TENSOR(NULL, SKY_U8, 4 * shape[1] - 3, 8 * shape[2], 8 * shape[3], 3);
    *count = (size_t)sky_tensor_len(&frames);
    frames.data = calloc(*count, 1);
    call(f, sky_vae_decode, &(sky_vae_args){.latents = *latents, .frames = frames});
    return frames.data;
}

static void check_golden(fixture *f, const char *size)
{
    char name[64];
    golden_array z, decoded, frames, encoded;
    snprintf(name, sizeof name, "%s/z", size);
    CHECK(golden_read_f32("vae.h5", name, &z));
    snprintf(name, sizeof name, "%s/decoded", size);
    CHECK(golden_read_f32("vae.h5", name, &decoded));
    snprintf(name, sizeof name, "%s/frames", size);
    CHECK(golden_read_f32("vae.h5", name, &frames));
    snprintf(name, sizeof name, "%s/encoded", size);
    CHECK(golden_read_f32("vae.h5", name, &encoded));

    const sky_tensor latents = latents_of(z.data, z.shape[1], z.shape[2], z.shape[3]);
    size_t count;
    float *got = decode_f32(f, &latents, &count);
    CHECK(count == decoded.count);
    CHECK_CLOSE("decoded", got, decoded.data, count, 1e-4);
    free(got);

    got = malloc(encoded.count * sizeof *got);
    const sky_vae_args args = {
        .latents = latents_of(got, encoded.shape[1], encoded.shape[2], encoded.shape[3]),
        .frames = SKY_TENSOR(frames.data, SKY_F32, 3, frames.shape[1], frames.shape[2], frames.shape[3])};
    call(f, sky_vae_encode, &args);
    CHECK_CLOSE("encoded", got, encoded.data, encoded.count, 1e-4);
    free(got);
    golden_free(&z);
    golden_free(&decoded);
    golden_free(&frames);
    golden_free(&encoded);
}

TEST(golden_cpu)
{
    fixture f;
    CHECK_OK(setup(&f, CPU, ORIGINAL, SKY_F32, true));
    check_golden(&f, "1x6x10");
    check_golden(&f, "3x5x7");
    teardown(&f);
}

/* Slow, so one latent frame only; the ops by themselves are compared between backends in tests/ops. */
TEST(golden_ref)
{
    fixture f;
    CHECK_OK(setup(&f, REF, ORIGINAL, SKY_F32, true));
    check_golden(&f, "1x6x10");
    teardown(&f);
}

/* The frames of Diffusers' own pipeline, from the latents that its last step left; on [0, 1]. */
TEST(golden_diffusers_layout)
{
    fixture f;
    golden_array after_step, want;
    CHECK_OK(setup(&f, CPU, DIFFUSERS, SKY_F32, true));
    CHECK(golden_read_f32("diffusers_t2v.h5", "latents_after_step", &after_step));
    CHECK(golden_read_f32("diffusers_t2v.h5", "frames", &want));
    const size_t one_step = (size_t)16 * 3 * 8 * 8;
    CHECK(after_step.count == 6 * one_step && want.count == (size_t)9 * 64 * 64 * 3);
    const sky_tensor latents = latents_of((float *)after_step.data + 5 * one_step, 3, 8, 8);
    size_t count;
    float *got = decode_f32(&f, &latents, &count);
    CHECK(count == want.count);
    const size_t num_pixels = count / 3;
    float *last = malloc(count * sizeof *last);
    for (size_t i = 0; i < count; i++) {
        last[i] = got[i % 3 * num_pixels + i / 3] / 2 + 0.5F; /* [3, T, H, W] -> [T, H, W, 3] */
    }
    CHECK_CLOSE("frames", last, want.data, count, 1e-4);
    free(last);
    free(got);
    golden_free(&after_step);
    golden_free(&want);
    teardown(&f);
}

/* The bytes of the published pipeline's video from its latents: cut, not rounded, so one step off here and there. */
TEST(golden_video)
{
    fixture f;
    golden_array z, want;
    CHECK_OK(setup(&f, CPU, ORIGINAL, SKY_F32, false));
    CHECK(golden_read_f32("t2v.h5", "0/latents", &z));
    CHECK(golden_read_u8("t2v.h5", "0/frames", &want));
    const sky_tensor latents = latents_of(z.data, z.shape[1], z.shape[2], z.shape[3]);
    size_t count;
    unsigned char *got = decode_u8(&f, &latents, &count);
    CHECK(count == want.count);
    const unsigned char *bytes = want.data;
    size_t num_off = 0;
    for (size_t i = 0; i < count; i++) {
        if (abs(got[i] - bytes[i]) > 1) {
            test_fail(__FILE__, __LINE__, "byte %zu: want %d, got %d", i, bytes[i], got[i]);
            break;
        }
        num_off += got[i] != bytes[i];
    }
    if (num_off > count / 10000) {
        test_fail(__FILE__, __LINE__, "%zu of %zu bytes are one step off", num_off, count);
    }
    free(got);
    golden_free(&z);
    golden_free(&want);
    teardown(&f);
}

/* The first frames of a clip do not know how long it goes on, to the byte. */
static void check_causal(fixture *f)
{
    const int64_t height = 3;
    const int64_t width = 5;
    const int64_t num_all = 4;
    float all[16 * 4 * 3 * 5];
    float some[16 * 4 * 3 * 5];
    test_fill_random(all, sizeof all / sizeof *all, 1);
    const sky_tensor latents = latents_of(all, num_all, height, width);
    size_t count_all, count;
    unsigned char *frames_all = decode_u8(f, &latents, &count_all);
    for (int64_t num = 1; num < num_all; num++) {
        const size_t per_channel = (size_t)(num * height * width);
        for (int c = 0; c < 16; c++) {
            memcpy(some + (size_t)c * per_channel, all + c * num_all * height * width, per_channel * sizeof *some);
        }
        const sky_tensor shorter = latents_of(some, num, height, width);
        unsigned char *frames = decode_u8(f, &shorter, &count);
        CHECK(count < count_all);
        if (memcmp(frames, frames_all, count) != 0) {
            test_fail(__FILE__, __LINE__, "frames of %d latent frames differ from the first of %d", (int)num,
                      (int)num_all);
        }
        free(frames);
    }
    free(frames_all);
}

TEST(later_frames_do_not_change_earlier_ones)
{
    fixture f;
    CHECK_OK(setup(&f, CPU, ORIGINAL, SKY_F32, false));
    check_causal(&f);
    teardown(&f);
    CHECK_OK(setup(&f, CPU, ORIGINAL, SKY_BF16, false));
    check_causal(&f);
    teardown(&f);
}

/* The same of the encoder, whose first latent frame is the first frame alone. */
TEST(later_frames_do_not_change_earlier_latents)
{
    fixture f;
    CHECK_OK(setup(&f, CPU, ORIGINAL, SKY_F32, true));
    enum { PIXELS = 16 * 24, LATENTS = 2 * 3 };
    static float all[3 * 9 * PIXELS];
    static float some[3 * 5 * PIXELS];
    float latents_all[16 * 3 * LATENTS];
    float latents[16 * 2 * LATENTS];
    test_fill_random(all, sizeof all / sizeof *all, 2);
    for (int c = 0; c < 3; c++) {
        memcpy(some + c * 5 * PIXELS, all + c * 9 * PIXELS, (size_t)5 * PIXELS * sizeof *some);
    }
    call(
        &f, sky_vae_encode,
        &(sky_vae_args){.latents = latents_of(latents_all, 3, 2, 3), .frames = SKY_TENSOR(all, SKY_F32, 3, 9, 16, 24)});
    call(&f, sky_vae_encode,
         &(sky_vae_args){.latents = latents_of(latents, 2, 2, 3), .frames = SKY_TENSOR(some, SKY_F32, 3, 5, 16, 24)});
    for (int c = 0; c < 16; c++) {
        EXPECT(memcmp(latents + c * 2 * LATENTS, latents_all + c * 3 * LATENTS, sizeof(float) * 2 * LATENTS) == 0);
    }
    teardown(&f);
}

/* The golden latents of the larger size, for the two cases below. */
static void golden_latents(float *values, size_t count)
{
    golden_array z;
    if (golden_read_f32("vae.h5", "3x5x7/z", &z)) {
        SKY_ASSERT(z.count == count);
        memcpy(values, z.data, count * sizeof *values);
        golden_free(&z);
    }
}

TEST(bytes_are_the_float_frames_cut)
{
    fixture f;
    CHECK_OK(setup(&f, CPU, ORIGINAL, SKY_F32, false));
    float values[16 * 3 * 5 * 7];
    golden_latents(values, sizeof values / sizeof *values);
    const sky_tensor latents = latents_of(values, 3, 5, 7);
    size_t count, count_u8;
    float *frames = decode_f32(&f, &latents, &count);
    unsigned char *bytes = decode_u8(&f, &latents, &count_u8);
    CHECK(count == count_u8);
    for (size_t i = 0; i < count; i++) {
        const float x = frames[i % 3 * (count / 3) + i / 3];
        const int want = (int)(255 * (x / 2 + 0.5F));
        if (!(x >= -1 && x <= 1) || bytes[i] != want) {
            test_fail(__FILE__, __LINE__, "byte %zu: %d of %.9g", i, bytes[i], (double)x);
            break;
        }
    }
    free(frames);
    free(bytes);
    teardown(&f);
}

TEST(bf16_is_close_to_f32)
{
    fixture f;
    float values[16 * 3 * 5 * 7];
    golden_latents(values, sizeof values / sizeof *values);
    const sky_tensor latents = latents_of(values, 3, 5, 7);
    size_t count;
    CHECK_OK(setup(&f, CPU, ORIGINAL, SKY_F32, true));
    unsigned char *exact = decode_u8(&f, &latents, &count);
    teardown(&f);
    CHECK_OK(setup(&f, CPU, ORIGINAL, SKY_BF16, true));
    unsigned char *rounded = decode_u8(&f, &latents, &count);
    const double psnr = test_psnr_u8(exact, rounded, count);
    if (!(psnr >= 45.0) || isinf(psnr)) { /* equal frames would mean that nothing was rounded */
        test_fail(__FILE__, __LINE__, "%.1f dB between bf16 and f32", psnr);
    }

    golden_array pixels, encoded;
    CHECK(golden_read_f32("vae.h5", "3x5x7/frames", &pixels));
    CHECK(golden_read_f32("vae.h5", "3x5x7/encoded", &encoded));
    float got[16 * 3 * 5 * 7];
    call(
        &f, sky_vae_encode,
        &(sky_vae_args){.latents = latents_of(got, 3, 5, 7), .frames = SKY_TENSOR(pixels.data, SKY_F32, 3, 9, 40, 56)});
    CHECK_CLOSE("encoded in bf16", got, encoded.data, encoded.count, 2e-2);
    golden_free(&pixels);
    golden_free(&encoded);
    free(exact);
    free(rounded);
    teardown(&f);
}

/* What planning says for F latent frames of the 540P size. */
static size_t planned_540p(fixture *f, bool encode, int64_t num_latent_frames)
{
    static float nothing; /* planning reads no data */
    const int64_t num_frames = 4 * num_latent_frames - 3;
    sky_vae_args args = {.latents = latents_of(&nothing, num_latent_frames, 68, 120),
                         .frames = SKY_TENSOR(&nothing, SKY_U8, num_frames, 544, 960, 3)};
    if (encode) {
        args.frames = SKY_TENSOR(&nothing, SKY_F32, 3, num_frames, 544, 960);
    }
    sky_arena_init_planning(&f->arena);
    const sky_status st = (encode ? sky_vae_encode : sky_vae_decode)(&f->ctx, f->vae, &args);
    if (st != SKY_OK) {
        test_fail(__FILE__, __LINE__, "%s: %s", sky_status_name(st), sky_message());
    }
    return f->arena.peak_bytes;
}

/*
 * Decoding takes what is kept of the past and three tensors of the largest size (a residual block's input and its two
 * temporaries), one of them with the two frames of its past in front, and nothing but the latents themselves grows with the
 * clip. Width 16, bf16.
 */
TEST(memory_at_540p)
{
    fixture f;
    CHECK_OK(setup(&f, CPU, ORIGINAL, SKY_BF16, true));
    /* Channels kept per position at 1/8, 1/4, 1/2 and full size; two frames of two bytes each. */
    const size_t at_eighth = 16 + 10 * 64 + 64;
    const size_t at_quarter = 32 + 5 * 64 + 64;
    const size_t at_half = 6 * 32;
    const size_t at_full = 7 * 16;
    const size_t kept = (size_t)68 * 120 * 4 * (at_eighth + 4 * at_quarter + 16 * at_half + 64 * at_full);
    const size_t largest = (size_t)4 * 544 * 960 * 16 * 2;
    const size_t decode = planned_540p(&f, false, 25);
    const size_t past = largest / 2;
    if (decode < kept + 3 * largest + past || decode > kept + 3 * largest + past + largest / 2) {
        test_fail(__FILE__, __LINE__, "decoding: %zu bytes, kept %zu, largest tensor %zu", decode, kept, largest);
    }
    const size_t latents = (size_t)(25 - 5) * 68 * 120 * 16 * 2;
    EXPECT(decode - planned_540p(&f, false, 5) == latents);
    EXPECT(planned_540p(&f, true, 25) - planned_540p(&f, true, 5) == latents);
    teardown(&f);
}

TEST(what_does_not_fit_is_refused)
{
    fixture f;
    CHECK_OK(setup(&f, CPU, ORIGINAL, SKY_F32, false));
    static float latents[16 * 2 * 2 * 2];
    static float frames[3 * 5 * 16 * 16];
    sky_arena_init_planning(&f.arena);
    const sky_vae_args good = {.latents = latents_of(latents, 2, 2, 2),
                               .frames = SKY_TENSOR(frames, SKY_F32, 3, 5, 16, 16)};
    CHECK_OK(sky_vae_decode(&f.ctx, f.vae, &good));
    CHECK_STATUS(sky_vae_encode(&f.ctx, f.vae, &good), SKY_ERR_USAGE);

    sky_vae_args args = good;
    args.frames.shape[1] = 8;
    CHECK_STATUS(sky_vae_decode(&f.ctx, f.vae, &args), SKY_ERR_SHAPE);
    args = good;
    args.frames.dtype = SKY_U8; /* but channels first */
    CHECK_STATUS(sky_vae_decode(&f.ctx, f.vae, &args), SKY_ERR_SHAPE);
    args = good;
    args.latents.shape[0] = 20;
    CHECK_STATUS(sky_vae_decode(&f.ctx, f.vae, &args), SKY_ERR_SHAPE);
    args = good;
    args.latents.dtype = SKY_BF16;
    CHECK_STATUS(sky_vae_decode(&f.ctx, f.vae, &args), SKY_ERR_DTYPE);
    sky_vae *other = NULL;
    CHECK_STATUS(sky_vae_create(f.weights, SKY_F16, false, &other), SKY_ERR_DTYPE);
    CHECK(other == NULL);

    sky_arena_init(&f.arena, NULL, 0);
    CHECK_STATUS(sky_vae_decode(&f.ctx, f.vae, &good), SKY_ERR_NOMEM);
    /* Full in the middle of a chunk: everything is given back all the same. */
    sky_arena_init_planning(&f.arena);
    CHECK_OK(sky_vae_decode(&f.ctx, f.vae, &good));
    const size_t bytes = f.arena.peak_bytes - SKY_ARENA_ALIGNMENT_BYTES;
    void *block = aligned_alloc(SKY_ARENA_ALIGNMENT_BYTES, bytes);
    sky_arena_init(&f.arena, block, bytes);
    EXPECT(sky_vae_decode(&f.ctx, f.vae, &good) == SKY_ERR_NOMEM && f.arena.used_bytes == 0);
    free(block);
    teardown(&f);
}

/* Writes data to path. */
static bool write_file(const char *path, const void *data, size_t len)
{
    FILE *file = fopen(path, "wb");
    const bool ok = file != NULL && fwrite(data, 1, len, file) == len;
    return (file == NULL || fclose(file) == 0) && ok;
}

static char *read_file(const char *path, size_t *len)
{
    FILE *file = fopen(path, "rb");
    struct stat info;
    char *data = NULL;
    if (file != NULL && fstat(fileno(file), &info) == 0 && (data = malloc((size_t)info.st_size)) != NULL) {
        *len = fread(data, 1, (size_t)info.st_size, file);
    }
    if (file != NULL) {
        fclose(file);
    }
    return data;
}

/*
 * The Diffusers folder with links to all but the VAE, in whose header `from` (found once) is replaced by `to` of the
 * same length.
 */
static const char *patched_model(const char *name, const char *from, const char *to)
{
    static const char *const linked[] = {"model_index.json", "scheduler",   "text_encoder",
                                         "tokenizer",        "transformer", "vae/config.json"};
    char path[1024];
    char target[1024];
    const char *folder = test_temp_path(name);
    snprintf(path, sizeof path, "%s/vae", folder);
    if ((mkdir(folder, 0700) != 0 && errno != EEXIST) || (mkdir(path, 0700) != 0 && errno != EEXIST)) {
        test_fail(__FILE__, __LINE__, "cannot make %s", path);
        return folder;
    }
    for (size_t i = 0; i < sizeof linked / sizeof *linked; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, linked[i]);
        snprintf(target, sizeof target, "%s/%s", DIFFUSERS, linked[i]);
        if (symlink(target, path) != 0) {
            test_fail(__FILE__, __LINE__, "cannot link %s", path);
        }
    }
    size_t len = 0;
    char *data = read_file(DIFFUSERS "/vae/diffusion_pytorch_model.safetensors", &len);
    char *at = data == NULL ? NULL : memmem(data, len, from, strlen(from));
    snprintf(path, sizeof path, "%s/vae/diffusion_pytorch_model.safetensors", folder);
    if (at == NULL || strlen(from) != strlen(to)) {
        test_fail(__FILE__, __LINE__, "no %s to patch", from);
    } else {
        memcpy(at, to, strlen(to));
        if (!write_file(path, data, len)) {
            test_fail(__FILE__, __LINE__, "cannot write %s", path);
        }
    }
    free(data);
    return folder;
}

static void check_refused(const char *name, const char *from, const char *to, sky_status want, const char *message)
{
    fixture f;
    const char *folder = patched_model(name, from, to);
    CHECK(!test_failed());
    CHECK_STATUS(setup(&f, CPU, folder, SKY_F32, true), want);
    if (strstr(sky_message(), message) == NULL) {
        test_fail(__FILE__, __LINE__, "want a message with '%s', got '%s'", message, sky_message());
    }
    CHECK(f.vae == NULL);
    teardown(&f);
}

/* Headers of safetensors; the values stay where they are, as another shape of the same length or under another name. */
TEST(shapes_that_do_not_fit_are_refused)
{
    check_refused("wide", "\"decoder.up_blocks.1.resnets.0.conv1.weight\":{\"dtype\":\"F32\",\"shape\":[32,16,3,3,3]",
                  "\"decoder.up_blocks.1.resnets.0.conv1.weight\":{\"dtype\":\"F32\",\"shape\":[16,32,3,3,3]",
                  SKY_ERR_MISMATCH,
                  "decoder.upsamples.4.residual.2.weight: want [32, 16, 3, 3, 3], file has [16, 32, 3, 3, 3]");
    /* The width itself: what is taken from it then fits nothing else. */
    check_refused("narrow", "\"decoder.conv_in.weight\":{\"dtype\":\"F32\",\"shape\":[32,16,3,3,3]",
                  "\"decoder.conv_in.weight\":{\"dtype\":\"F32\",\"shape\":[16,32,3,3,3]", SKY_ERR_MISMATCH,
                  "decoder.conv1.weight: want [16, 16, 3, 3, 3], file has [16, 32, 3, 3, 3]");
    check_refused("odd", "\"decoder.conv_in.weight\":{\"dtype\":\"F32\",\"shape\":[32,16,3,3,3]",
                  "\"decoder.conv_in.weight\":{\"dtype\":\"F32\",\"shape\":[54,16,4,4,1]", SKY_ERR_MISMATCH,
                  "decoder.conv1.weight: want [4 x width, 16, 3, 3, 3]");
}

TEST_MAIN
