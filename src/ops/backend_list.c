/*
 * The backends of this build. The list is the build's: a backend's own CMakeLists.txt adds its name to the property
 * SKY_BACKENDS of skyreels, and the function sky_backend_NAME() is its table. Nothing else names it: launch, bench and tests
 * walk the list.
 */
#include "skyreels.h"

#include "ops/backend.h"

#include <string.h>

/* SKY_BACKEND_LIST is SKY_BACKEND(ref) SKY_BACKEND(cpu) ..., from the build. */
#define SKY_BACKEND(name) const sky_backend *sky_backend_##name(void);
SKY_BACKEND_LIST
#undef SKY_BACKEND

typedef const sky_backend *(*find_table)(void);

#define SKY_BACKEND(name) sky_backend_##name,
static const find_table list[] = {SKY_BACKEND_LIST};
#undef SKY_BACKEND

int sky_backend_count(void)
{
    return (int)(sizeof list / sizeof list[0]);
}

const sky_backend *sky_backend_at(int index)
{
    SKY_ASSERT(index >= 0 && index < sky_backend_count());
    return list[index]();
}

const sky_backend *sky_backend_find(const char *name)
{
    for (int i = 0; i < sky_backend_count(); i++) {
        if (strcmp(sky_backend_at(i)->name, name) == 0) {
            return sky_backend_at(i);
        }
    }
    return NULL;
}

const char *sky_backend_name(const sky_backend *backend)
{
    return backend->name;
}

sky_status sky_device_open(const sky_backend *backend, const sky_device_options *options, void **device)
{
    return sky_fail_in(backend->open(options, device), "a device of backend %s", backend->name);
}

void sky_device_close(const sky_backend *backend, void **device)
{
    if (*device != NULL) {
        backend->close(device);
        *device = NULL;
    }
}

const char *sky_device_name(const sky_backend *backend, const void *device)
{
    return backend->device_name(device);
}

uint64_t sky_device_own_bytes(const sky_backend *backend, const void *device)
{
    return backend->own_bytes != NULL ? backend->own_bytes(device) : 0;
}
