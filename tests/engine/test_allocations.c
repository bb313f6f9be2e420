/*
 * The guard of the denoising loop: between the steps nothing is allocated. The linker sends every call of the library and
 * of this program through the functions below (CMakeLists.txt).
 */
#include "ops/cpu/cpu.h"
#include "ops/ref/ref.h"
#include "skyreels.h"
#include "support/test.h"

#include <stdatomic.h>
#include <stdlib.h>

static atomic_long num_allocations;

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *block, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *block, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);

void *__wrap_malloc(size_t bytes)
{
    atomic_fetch_add(&num_allocations, 1);
    return __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    atomic_fetch_add(&num_allocations, 1);
    return __real_calloc(count, bytes);
}

void *__wrap_realloc(void *block, size_t bytes)
{
    atomic_fetch_add(&num_allocations, 1);
    return __real_realloc(block, bytes);
}

void *__wrap_aligned_alloc(size_t alignment, size_t bytes)
{
    atomic_fetch_add(&num_allocations, 1);
    return __real_aligned_alloc(alignment, bytes);
}

enum { NUM_STEPS = 4 };

static sky_status note(void *user, int step, const float *latents, int64_t len)
{
    (void)latents;
    (void)len;
    long *counts = user;
    counts[step] = atomic_load(&num_allocations);
    return SKY_OK;
}

static void check_backend(const sky_backend *backend, void *device, sky_precision precision)
{
    long counts[NUM_STEPS + 1] = {0};
    sky_engine *engine = NULL;
    sky_group *group = NULL;
    sky_result result;
    const sky_engine_observer observer = {.latents = note, .user = counts};
    sky_settings settings = sky_settings_default();
    settings.model_path = SKY_TEST_MODELS "/diffusers-t2v";
    settings.prompt = "x";
    settings.height = 32;
    settings.width = 32;
    settings.num_frames = 5;
    settings.inference_steps = NUM_STEPS;
    settings.precision = precision;
    settings.output = test_temp_path("video.y4m");
    sky_settings_complete(&settings);
    test_parameters("%s, precision %d", backend->name, (int)precision);
    CHECK_OK(sky_group_self_create(&group));
    CHECK_OK(sky_engine_create(
        &(sky_engine_config){.backend = backend, .device = device, .group = group, .observer = &observer}, &engine));
    CHECK_OK(sky_engine_render(engine, &settings, &result));
    CHECK(counts[0] > 0); /* the count works: loading has allocated */
    for (int step = 0; step < NUM_STEPS; step++) {
        test_parameters("%s, precision %d, step %d", backend->name, (int)precision, step);
        EXPECT(counts[step + 1] == counts[step]);
    }
    sky_engine_destroy(&engine);
    sky_group_destroy(&group);
}

TEST(the_denoising_loop_allocates_nothing)
{
    const sky_precision precisions[] = {SKY_PRECISION_FP32, SKY_PRECISION_BF16, SKY_PRECISION_FP8};
    for (int i = 0; i < 3; i++) {
        void *device = NULL;
        check_backend(sky_backend_ref(), NULL, precisions[i]);
        CHECK_OK(sky_cpu_device_create(2, &device));
        check_backend(sky_backend_cpu(), device, precisions[i]);
        sky_cpu_device_destroy(&device);
    }
}

TEST_MAIN
