#include "ops/cpu/cpu.h"

#include "support/test.h"

#include <string.h>

/* Linked with isa_generic.c in place of isa_x86.c: what machines other than x86-64 get, on any machine. */
TEST(a_machine_of_another_kind_has_the_base_set_only)
{
    void *device = NULL;
    CHECK_OK(sky_cpu_device_create(1, &device));
    EXPECT(strcmp(sky_cpu_device_isa(device), "base") == 0);
    EXPECT(sky_cpu_device_set_isa(device, "v3") == SKY_ERR_UNSUPPORTED);
    EXPECT(sky_cpu_device_set_isa(device, "base") == SKY_OK);
    sky_cpu_device_destroy(&device);
}

TEST_MAIN
