/*
 * ops/backend_list.h - the backends of this build, and opening a device of one
 *
 *     const sky_backend *backend = sky_backend_find("cpu");
 *     void *device = NULL;
 *     SKY_TRY(sky_device_open(backend, &(sky_device_options){.num_threads = 8}, &device));
 *     sky_ctx ctx = {.backend = backend, .device = device, .arena = &arena};
 *     ...
 *     sky_device_close(backend, &device);
 *
 * The list is the build's: a backend's own CMakeLists.txt adds its name to the property SKY_BACKENDS of skyreels, and the
 * function sky_backend_NAME() is its table. Nothing else names it: launch, bench and tests walk the list.
 */
#ifndef SKY_OPS_BACKEND_LIST_H
#define SKY_OPS_BACKEND_LIST_H

#include "base/status.h"

#include <stdint.h>

typedef struct sky_backend sky_backend;

/* What a device may be told. A backend takes what concerns it. */
typedef struct sky_device_options {
    int num_threads; /* cpu: at least 1; the thread that calls is one of them */
    const char *
        isa; /* cpu: "v4" (AVX-512), "v3" (AVX2, FMA) or "base"; NULL: the best of this machine. Others take NULL only */
    int index; /* where a machine has several devices: which, modulo their number, so that ranks may share one */
} sky_device_options;

/* In the order of the build; 0 is the reference. */
int sky_backend_count(void);
const sky_backend *sky_backend_at(int index);

/* NULL where the build has none of that name. */
const sky_backend *sky_backend_find(const char *name);
const char *sky_backend_name(const sky_backend *backend);

/*
 * A device serves one context. On failure *device is untouched. Errors: USAGE for options that no device of this backend can
 * have, UNSUPPORTED for those that this machine has not, DEVICE where there is none, NOMEM, INTERNAL.
 */
sky_status sky_device_open(const sky_backend *backend, const sky_device_options *options, void **device);

/* Takes NULL, sets NULL. All memory, pinned memory and events of the device have been given back. */
void sky_device_close(const sky_backend *backend, void **device);

/* What it computes on, in a word or two: "v4", "NVIDIA H100 80GB HBM3". */
const char *sky_device_name(const sky_backend *backend, const void *device);

/* Memory that the device holds by itself, besides what is allocated on it. */
uint64_t sky_device_own_bytes(const sky_backend *backend, const void *device);

#endif
