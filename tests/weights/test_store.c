#include "ops/backend.h"
#include "ops/cpu/cpu.h"
#include "support/test.h"
#include "weights/store.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DIFFUSERS SKY_TEST_MODELS "/diffusers-t2v"

/* A store over the VAE of the Diffusers folder, which is stored in f32 (width 8). */
typedef struct fixture {
    sky_ctx ctx;
    sky_checkpoint *checkpoint;
    sky_weights *weights;
    uint64_t done_bytes, total_bytes;
    int num_reports;
    bool fell;
} fixture;

static void count_progress(void *user, uint64_t done_bytes, uint64_t total_bytes)
{
    fixture *f = user;
    f->fell = f->fell || done_bytes < f->done_bytes;
    f->done_bytes = done_bytes;
    f->total_bytes = total_bytes;
    f->num_reports++;
}

static sky_status setup(fixture *f, sky_component component)
{
    *f = (fixture){.ctx = {.backend = sky_backend_cpu()}};
    SKY_TRY(sky_cpu_device_create(1, &f->ctx.device));
    SKY_TRY(sky_checkpoint_open(DIFFUSERS, &f->checkpoint));
    return sky_weights_create(&f->ctx, f->checkpoint, component,
                              &(sky_weights_options){.progress = count_progress, .user = f}, &f->weights);
}

static void teardown(fixture *f)
{
    sky_weights_destroy(&f->weights);
    sky_weights_destroy(&f->weights); /* twice is safe */
    sky_checkpoint_destroy(&f->checkpoint);
    sky_cpu_device_destroy(&f->ctx.device);
}

/* The stored values of a tensor, read past the store. */
static float *stored(const fixture *f, sky_component component, const char *name, size_t count)
{
    float *values = malloc(count * sizeof *values);
    const sky_source_tensor *source = sky_checkpoint_find(f->checkpoint, component, name);
    if (values == NULL || source == NULL ||
        sky_checkpoint_read(f->checkpoint, component, source, values, SKY_F32) != SKY_OK) {
        test_fail(__FILE__, __LINE__, "%s cannot be read: %s", name, sky_message());
    }
    return values;
}

static const char conv_name[] = "decoder.upsamples.4.residual.2.weight";
static const sky_weight_request conv_f32 = {.dtype = SKY_F32, .num_dims = 5, .shape = {32, 16, 3, 3, 3}};

static void check_types(fixture *f)
{
    const size_t count = 32 * 16 * 27;
    sky_weight_request bf16 = conv_f32;
    sky_weight_request rounded = conv_f32;
    bf16.dtype = SKY_BF16;
    rounded.round_bf16 = true;
    sky_tensor as_f32, as_bf16, as_rounded;
    CHECK_OK(sky_weights_get(f->weights, conv_name, &conv_f32, &as_f32));
    CHECK_OK(sky_weights_get(f->weights, conv_name, &bf16, &as_bf16));
    CHECK_OK(sky_weights_get(f->weights, conv_name, &rounded, &as_rounded));
    CHECK(as_f32.dtype == SKY_F32 && as_bf16.dtype == SKY_BF16 && as_rounded.dtype == SKY_F32);
    CHECK(as_f32.num_dims == 5 && as_f32.shape[0] == 32 && as_f32.shape[1] == 16 && as_f32.shape[4] == 3);

    float *want = stored(f, SKY_VAE, conv_name, count);
    const float *got = as_f32.data;
    const float *got_rounded = as_rounded.data;
    const uint16_t *got_bf16 = as_bf16.data;
    size_t num_unequal = 0; /* values that bf16 cannot hold, so that the case tells rounding from none */
    for (size_t i = 0; i < count; i++) {
        if (got[i] != want[i] || got_bf16[i] != sky_f32_to_bf16(want[i]) || got_rounded[i] != sky_round_bf16(want[i])) {
            test_fail(__FILE__, __LINE__, "value %zu: stored %.9g, got %.9g, bf16 %.9g, rounded %.9g", i,
                      (double)want[i], (double)got[i], (double)sky_bf16_to_f32(got_bf16[i]), (double)got_rounded[i]);
            break;
        }
        num_unequal += got[i] != got_rounded[i];
    }
    EXPECT(num_unequal > count / 2);
    EXPECT(sky_weights_bytes(f->weights) == count * (4 + 2 + 4));
    free(want);
}

TEST(types_and_rounding)
{
    fixture f;
    CHECK_OK(setup(&f, SKY_VAE));
    check_types(&f);
    teardown(&f);
}

/* got [O, kT, kH, kW, C] against stored [O, C, kT, kH, kW] */
static void check_turned(fixture *f, const char *name, const sky_weight_request *request, const int64_t want_shape[5])
{
    test_parameters("%s", name);
    sky_tensor got;
    CHECK_OK(sky_weights_get_conv(f->weights, name, request, &got));
    CHECK(got.num_dims == 5 && memcmp(got.shape, want_shape, 5 * sizeof *want_shape) == 0);
    const int64_t outputs = got.shape[0];
    const int64_t taps = got.shape[1] * got.shape[2] * got.shape[3];
    const int64_t channels = got.shape[4];
    float *want = stored(f, SKY_VAE, name, (size_t)(taps * channels * outputs));
    for (int64_t i = 0; i < taps * channels * outputs; i++) {
        const int64_t c = i % channels;
        const int64_t tap = i / channels % taps;
        const int64_t o = i / channels / taps;
        const float value = want[(o * channels + c) * taps + tap];
        const float found =
            got.dtype == SKY_F32 ? ((const float *)got.data)[i] : sky_bf16_to_f32(((const uint16_t *)got.data)[i]);
        if (found != (got.dtype == SKY_F32 ? value : sky_round_bf16(value))) {
            test_fail(__FILE__, __LINE__, "tap %d, channel %d, output %d: want %.9g, got %.9g", (int)tap, (int)c,
                      (int)o, (double)value, (double)found);
            break;
        }
    }
    free(want);
}

TEST(convolutions_are_turned)
{
    fixture f;
    CHECK_OK(setup(&f, SKY_VAE));
    sky_weight_request bf16 = conv_f32;
    bf16.dtype = SKY_BF16;
    const sky_weight_request flat = {.dtype = SKY_F32, .num_dims = 4, .shape = {16, 32, 3, 3}};
    const sky_weight_request time = {.dtype = SKY_F32, .num_dims = 5, .shape = {64, 32, 3, 1, 1}};
    check_turned(&f, conv_name, &conv_f32, (const int64_t[]){32, 3, 3, 3, 16});
    check_turned(&f, conv_name, &bf16, (const int64_t[]){32, 3, 3, 3, 16});
    check_turned(&f, "decoder.upsamples.3.resample.1.weight", &flat, (const int64_t[]){16, 1, 3, 3, 32});
    check_turned(&f, "decoder.upsamples.3.time_conv.weight", &time, (const int64_t[]){64, 3, 1, 1, 32});
    teardown(&f);
}

static void check_kept(fixture *f)
{
    sky_weight_request bf16 = conv_f32;
    bf16.dtype = SKY_BF16;
    sky_tensor first, again, other, turned;
    CHECK_OK(sky_weights_get(f->weights, conv_name, &conv_f32, &first));
    const uint64_t bytes = sky_weights_bytes(f->weights);
    CHECK(bytes == sky_tensor_bytes(&first));
    CHECK_OK(sky_weights_get(f->weights, conv_name, &conv_f32, &again));
    CHECK(again.data == first.data && sky_tensor_same_shape(&again, &first));
    CHECK(sky_weights_bytes(f->weights) == bytes && f->num_reports == 1);
    CHECK_OK(sky_weights_get(f->weights, conv_name, &bf16, &other));
    CHECK_OK(sky_weights_get_conv(f->weights, conv_name, &conv_f32, &turned));
    CHECK(other.data != first.data && turned.data != first.data);
    /* Read three times, but counted once. */
    CHECK(f->num_reports == 3 && f->done_bytes == bytes && f->total_bytes > f->done_bytes && !f->fell);
}

TEST(an_equal_request_gets_the_same_tensor)
{
    fixture f;
    CHECK_OK(setup(&f, SKY_VAE));
    check_kept(&f);
    teardown(&f);
}

TEST(progress_ends_at_the_total)
{
    fixture f;
    CHECK_OK(setup(&f, SKY_TEXT_ENCODER));
    uint64_t bytes = 0;
    const char *const names[] = {"token_embedding.weight", "norm.weight"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        sky_weight_request request = {.dtype = SKY_F32};
        CHECK(sky_weights_shape(f.weights, names[i], &request.num_dims, request.shape));
        sky_tensor t;
        CHECK_OK(sky_weights_get(f.weights, names[i], &request, &t));
        bytes += sky_checkpoint_find(f.checkpoint, SKY_TEXT_ENCODER, names[i])->len_bytes;
        CHECK(f.done_bytes == bytes);
    }
    CHECK(f.total_bytes == sky_checkpoint_bytes(f.checkpoint, SKY_TEXT_ENCODER));
    teardown(&f);
}

TEST(what_is_refused)
{
    fixture f;
    CHECK_OK(setup(&f, SKY_VAE));
    sky_tensor t = {0};
    sky_weight_request request = conv_f32;
    request.shape[0] = 16;
    request.shape[1] = 32;
    CHECK_STATUS(sky_weights_get(f.weights, conv_name, &request, &t), SKY_ERR_MISMATCH);
    CHECK(strstr(sky_message(), "decoder.upsamples.4.residual.2.weight: want [16, 32, 3, 3, 3], "
                                "file has [32, 16, 3, 3, 3]") != NULL);
    request = conv_f32;
    request.num_dims = 4;
    CHECK_STATUS(sky_weights_get_conv(f.weights, conv_name, &request, &t), SKY_ERR_MISMATCH);

    CHECK_STATUS(sky_weights_get(f.weights, "decoder.upsamples.99.weight", &conv_f32, &t), SKY_ERR_INPUT);
    CHECK(strstr(sky_message(), "decoder.upsamples.99.weight") != NULL && strstr(sky_message(), "VAE") != NULL);
    CHECK(strstr(sky_message(), "diffusers-t2v") != NULL && strstr(sky_message(), ".safetensors") != NULL);

    request = conv_f32;
    request.dtype = SKY_I8;
    CHECK_STATUS(sky_weights_get(f.weights, conv_name, &request, &t), SKY_ERR_DTYPE);
    request = conv_f32;
    request.num_dims = 3;
    CHECK_STATUS(sky_weights_get_conv(f.weights, conv_name, &request, &t), SKY_ERR_SHAPE);
    request = conv_f32;
    request.shape[2] = 0;
    CHECK_STATUS(sky_weights_get(f.weights, conv_name, &request, &t), SKY_ERR_SHAPE);
    CHECK(t.data == NULL && sky_weights_bytes(f.weights) == 0 && f.num_reports == 0);

    int num_dims;
    int64_t shape[SKY_MAX_DIMS];
    CHECK(!sky_weights_shape(f.weights, "no.such.tensor", &num_dims, shape));
    CHECK(sky_weights_config(f.weights) != NULL);
    teardown(&f);
}

TEST_MAIN
