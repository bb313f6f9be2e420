#include "ops/backends.h"

#include "ops/cpu/cpu.h"
#include "ops/ref/ref.h"

static sky_status create_nothing(void **device)
{
    *device = NULL;
    return SKY_OK;
}

static void destroy_nothing(void **device)
{
    *device = NULL;
}

static sky_status create_cpu(void **device)
{
    return sky_cpu_device_create(2, device);
}

/* The code for machines without AVX2, alone in its thread. */
static sky_status create_cpu_base(void **device)
{
    SKY_TRY(sky_cpu_device_create(1, device));
    return sky_cpu_device_set_isa(*device, "base");
}

static const test_backend backends[] = {
    {"ref", sky_backend_ref, create_nothing, destroy_nothing},
    {"cpu", sky_backend_cpu, create_cpu, sky_cpu_device_destroy},
    {"cpu (base)", sky_backend_cpu, create_cpu_base, sky_cpu_device_destroy},
};

int test_num_backends(void)
{
    return (int)(sizeof backends / sizeof backends[0]);
}

const test_backend *test_backend_at(int index)
{
    SKY_ASSERT(index >= 0 && index < test_num_backends());
    return &backends[index];
}
