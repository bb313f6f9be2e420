#include "ops/backends.h"

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

static const test_backend backends[] = {
    {"ref", sky_backend_ref, create_nothing, destroy_nothing},
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
