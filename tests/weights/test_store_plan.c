/* A store that plans counts the bytes that loading would hold, from a checkpoint's directories alone. */
#include "model/text_encoder.h"
#include "model/transformer.h"
#include "model/vae.h"
#include "ops/cpu/cpu.h"
#include "support/test.h"
#include "weights/convert_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const sky_arithmetic fp32 = {.compute = SKY_F32, .linear = SKY_F32};
static const sky_arithmetic bf16 = {.compute = SKY_BF16, .linear = SKY_BF16};
static const sky_arithmetic fp8 = {.compute = SKY_BF16, .linear = SKY_F8_E4M3, .attention_8bit = true};
static const sky_arithmetic int8 = {.compute = SKY_BF16, .linear = SKY_I8, .attention_8bit = true};

/* What is loaded, and how. */
typedef struct want {
    sky_component component;
    const sky_arithmetic *arithmetic;
    bool text_fp8;
} want;

static sky_status make_model(sky_ctx *ctx, sky_weights *weights, const want *w)
{
    sky_transformer *transformer = NULL;
    sky_text_encoder *text_encoder = NULL;
    sky_vae *vae = NULL;
    sky_status st = SKY_OK;
    if (w->component == SKY_TRANSFORMER) {
        st = sky_transformer_create(weights, w->arithmetic, &transformer);
    } else if (w->component == SKY_TEXT_ENCODER) {
        st = sky_text_encoder_create(ctx, weights, w->arithmetic->compute, w->text_fp8, &text_encoder);
    } else {
        st = sky_vae_create(weights, w->arithmetic->compute, true, &vae);
    }
    sky_transformer_destroy(&transformer);
    sky_text_encoder_destroy(&text_encoder);
    sky_vae_destroy(&vae);
    return st;
}

/* What a store says of itself in the end. */
typedef struct counts {
    uint64_t bytes, staging_bytes;
    int num_reports;
} counts;

static void count_report(void *user, uint64_t done_bytes, uint64_t total_bytes)
{
    (void)done_bytes;
    (void)total_bytes;
    ((counts *)user)->num_reports++;
}

static sky_status load(sky_ctx *ctx, const char *folder, const want *w, counts *out)
{
    sky_status st = SKY_OK;
    sky_checkpoint *checkpoint = NULL;
    sky_weights *weights = NULL;
    *out = (counts){0};
    SKY_TRY_GOTO(sky_checkpoint_open(folder, &checkpoint));
    SKY_TRY_GOTO(sky_weights_create(ctx, checkpoint, w->component,
                                    &(sky_weights_options){.progress = count_report, .user = out}, &weights));
    SKY_TRY_GOTO(make_model(ctx, weights, w));
    out->bytes = sky_weights_bytes(weights);
    out->staging_bytes = sky_weights_staging_bytes(weights);
done:
    sky_weights_destroy(&weights);
    sky_checkpoint_destroy(&checkpoint);
    return st;
}

static sky_status refuse_alloc(void *device, size_t bytes, void **out)
{
    (void)device;
    (void)out;
    return sky_fail(SKY_ERR_NOMEM, "%zu bytes asked for while planning", bytes);
}

/* On a backend that gives no memory and takes no data. */
static sky_status plan(const char *folder, const want *w, counts *out)
{
    sky_arena arena;
    sky_backend backend = *sky_backend_cpu();
    sky_ctx ctx = {.backend = &backend, .arena = &arena};
    backend.alloc = refuse_alloc;
    backend.free = NULL;
    backend.upload = NULL;
    backend.download = NULL;
    sky_arena_init_planning(&arena);
    return load(&ctx, folder, w, out);
}

static void check_folder(const char *folder, const want *wants, size_t num_wants)
{
    sky_ctx ctx = {.backend = sky_backend_cpu()};
    CHECK_OK(sky_cpu_device_create(1, &ctx.device));
    for (size_t i = 0; i < num_wants; i++) {
        const want *w = &wants[i];
        counts planned = {0};
        counts loaded = {0};
        test_parameters("%s, %s, %s, codes %s%s", folder, sky_component_name(w->component),
                        sky_dtype_name(w->arithmetic->compute), sky_dtype_name(w->arithmetic->linear),
                        w->text_fp8 ? ", text in fp8" : "");
        const sky_status st = plan(folder, w, &planned);
        if (st != SKY_OK || load(&ctx, folder, w, &loaded) != SKY_OK) {
            test_fail(__FILE__, __LINE__, "%s: %s", st == SKY_OK ? "loading" : "planning", sky_message());
            continue;
        }
        if (planned.bytes != loaded.bytes || planned.staging_bytes != loaded.staging_bytes) {
            test_fail(__FILE__, __LINE__, "planned %llu bytes and %llu to load them, held %llu and %llu",
                      (unsigned long long)planned.bytes, (unsigned long long)planned.staging_bytes,
                      (unsigned long long)loaded.bytes, (unsigned long long)loaded.staging_bytes);
        }
        EXPECT(loaded.bytes > 0 && loaded.staging_bytes > 0);
        EXPECT(planned.num_reports == 0 && loaded.num_reports > 0);
    }
    sky_cpu_device_destroy(&ctx.device);
}

TEST(published_folders)
{
    static const char *const folders[] = {ORIGINAL, DIFFUSERS};
    static const want wants[] = {{SKY_TRANSFORMER, &fp32, false}, {SKY_TRANSFORMER, &bf16, false},
                                 {SKY_TRANSFORMER, &fp8, false},  {SKY_TRANSFORMER, &int8, false},
                                 {SKY_TEXT_ENCODER, &fp32, true}, {SKY_TEXT_ENCODER, &fp32, false},
                                 {SKY_TEXT_ENCODER, &bf16, true}, {SKY_TEXT_ENCODER, &bf16, false},
                                 {SKY_VAE, &fp32, false},         {SKY_VAE, &bf16, false}};
    for (size_t i = 0; i < 2; i++) {
        check_folder(folders[i], wants, sizeof wants / sizeof wants[0]);
    }
}

TEST(converted_folders)
{
    static const want rest[] = {
        {SKY_TEXT_ENCODER, &bf16, true}, {SKY_TEXT_ENCODER, &bf16, false}, {SKY_VAE, &bf16, false}};
    const char *e4m3 = converted_folder("fp8", DIFFUSERS, SKY_F8_E4M3, 2);
    check_folder(e4m3, &(want){SKY_TRANSFORMER, &fp8, false}, 1);
    check_folder(e4m3, rest, sizeof rest / sizeof rest[0]);
    check_folder(converted_folder("int8", ORIGINAL, SKY_I8, 1), &(want){SKY_TRANSFORMER, &int8, false}, 1);
}

/* Sets all tensors of a safetensors file to bytes that are no numbers. */
static void spoil_values(const char *path)
{
    unsigned char *data = NULL;
    uint64_t header_bytes = 0;
    const size_t len = load_bytes(path, &data);
    SKY_ASSERT(len > sizeof header_bytes);
    memcpy(&header_bytes, data, sizeof header_bytes);
    SKY_ASSERT(header_bytes < len - sizeof header_bytes);
    memset(data + sizeof header_bytes + header_bytes, 0xff, len - sizeof header_bytes - header_bytes);
    save_bytes(path, data, len);
    free(data);
}

TEST(values_are_not_looked_at)
{
    const char *folder = copied_folder("spoilt", DIFFUSERS);
    const want w = {SKY_TRANSFORMER, &fp8, false};
    sky_ctx ctx = {.backend = sky_backend_cpu()};
    counts planned = {0};
    counts loaded = {0};
    spoil_values(file_in(folder, "transformer/diffusion_pytorch_model.safetensors"));
    CHECK_OK(sky_cpu_device_create(1, &ctx.device));
    EXPECT(load(&ctx, folder, &w, &loaded) == SKY_ERR_INPUT);
    sky_cpu_device_destroy(&ctx.device);
    CHECK_OK(plan(folder, &w, &planned));
    CHECK_OK(plan(DIFFUSERS, &w, &loaded));
    CHECK(planned.bytes == loaded.bytes);
}

/* Names, shapes and formats are checked as ever. */
TEST(what_cannot_be_loaded_cannot_be_planned)
{
    counts ignored;
    CHECK_STATUS(plan(converted_folder("codes", DIFFUSERS, SKY_I8, 1), &(want){SKY_TRANSFORMER, &fp8, false}, &ignored),
                 SKY_ERR_MISMATCH);
    CHECK(strstr(sky_message(), "--precision int8") != NULL);

    sky_arena arena;
    sky_ctx ctx = {.backend = sky_backend_cpu(), .arena = &arena};
    sky_checkpoint *checkpoint = NULL;
    sky_weights *weights = NULL;
    sky_tensor t = {0};
    sky_tensor again = {0};
    sky_weight_request request = {.dtype = SKY_F32, .num_dims = 1, .shape = {3}};
    sky_arena_init_planning(&arena);
    CHECK_OK(sky_checkpoint_open(DIFFUSERS, &checkpoint));
    CHECK_OK(sky_weights_create(&ctx, checkpoint, SKY_VAE, NULL, &weights));
    EXPECT(sky_weights_get(weights, "conv2.weight", &request, &t) == SKY_ERR_MISMATCH);
    EXPECT(sky_weights_get(weights, "no.such.tensor", &request, &t) == SKY_ERR_INPUT);
    EXPECT(t.data == NULL && sky_weights_bytes(weights) == 0);
    request.shape[0] = 16;
    EXPECT(sky_weights_get(weights, "conv2.bias", &request, &t) == SKY_OK && t.data != NULL);
    EXPECT(sky_weights_get(weights, "conv2.bias", &request, &again) == SKY_OK && again.data == t.data);
    EXPECT(sky_weights_bytes(weights) == SKY_ARENA_ALIGNMENT_BYTES);
    sky_weights_destroy(&weights);
    sky_checkpoint_destroy(&checkpoint);
}

TEST_MAIN
