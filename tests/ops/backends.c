#include "ops/backends.h"

#include <stdlib.h>
#include <string.h>

/* Besides what each backend does by itself; left out where the build or the machine has it not. */
static const test_backend variants[] = {
    {"cpu (base)",
     "cpu",
     {.num_threads = 1, .isa = "base"}}, /* the code for machines without AVX2, alone in its thread */
};

enum { NUM_VARIANTS = sizeof variants / sizeof variants[0], MAX_BACKENDS = 16 };

static test_backend list[MAX_BACKENDS];
static int num;

static sky_status try_to_open(const test_backend *which)
{
    const sky_backend *backend = sky_backend_find(which->backend);
    void *device = NULL;
    SKY_TRY(backend == NULL ? SKY_ERR_UNSUPPORTED : sky_device_open(backend, &which->options, &device));
    sky_device_close(backend, &device);
    return SKY_OK;
}

/* A machine without a GPU leaves its backend out, unless it is said to have one. */
static bool must_open(void)
{
    const char *required = getenv("SKY_REQUIRE_GPU");
    return required != NULL && strcmp(required, "1") == 0;
}

static void fill(void)
{
    SKY_ASSERT(sky_backend_count() + NUM_VARIANTS <= MAX_BACKENDS);
    for (int i = 0; i < sky_backend_count(); i++) {
        const char *name = sky_backend_name(sky_backend_at(i));
        const test_backend which = {.name = name, .backend = name, .options.num_threads = 2};
        if (must_open() || try_to_open(&which) != SKY_ERR_DEVICE) {
            list[num++] = which;
        }
    }
    for (int i = 0; i < NUM_VARIANTS; i++) {
        if (try_to_open(&variants[i]) == SKY_OK) {
            list[num++] = variants[i];
        }
    }
    sky_clear_message();
}

int test_num_backends(void)
{
    if (num == 0) {
        fill();
    }
    return num;
}

const test_backend *test_backend_at(int index)
{
    SKY_ASSERT(index >= 0 && index < test_num_backends());
    return &list[index];
}
