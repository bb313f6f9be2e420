#include "ops/cpu/device.h"

#include "ops/host_device.h"

#include <stdlib.h>

/* Hands each op and its plan on to the device's instruction set. */
#define FORWARD(op)                                                                               \
    static sky_status forward_##op(sky_ctx *ctx, const sky_##op##_args *args, void *scratch)      \
    {                                                                                             \
        return sky_cpu_device_of(ctx)->isa->table->op(ctx, args, scratch);                        \
    }                                                                                             \
    static sky_status plan_##op(sky_ctx *ctx, const sky_##op##_args *args, size_t *scratch_bytes) \
    {                                                                                             \
        const sky_backend *table = sky_cpu_device_of(ctx)->isa->table;                            \
        return table->op##_plan != NULL ? table->op##_plan(ctx, args, scratch_bytes) : SKY_OK;    \
    }
SKY_OPS(FORWARD)
#undef FORWARD

sky_status sky_cpu_device_set_isa(void *device, const char *name)
{
    const sky_cpu_isa *isa = sky_cpu_isa_find(name);
    if (isa == NULL) {
        return sky_fail(SKY_ERR_UNSUPPORTED, "instruction set '%s' is not offered by this machine or build", name);
    }
    ((sky_cpu_device *)device)->isa = isa;
    return SKY_OK;
}

sky_status sky_cpu_device_create(int num_threads, void **device)
{
    sky_status st = SKY_OK;
    sky_cpu_device *d = NULL;
    void *work = NULL;
    if (num_threads < 1) {
        return sky_fail(SKY_ERR_USAGE, "want at least 1 thread, got %d", num_threads);
    }
    d = calloc(1, sizeof *d);
    if (d == NULL) {
        st = sky_fail(SKY_ERR_NOMEM, "a CPU device");
        goto done;
    }
    d->num_threads = num_threads;
    SKY_TRY_GOTO(sky_host_alloc(NULL, (size_t)num_threads * SKY_CPU_THREAD_BYTES, &work));
    d->work = work;
    SKY_TRY_GOTO(sky_threads_create(num_threads, &d->threads));
    d->isa = sky_cpu_isa_best();
    *device = d;
    d = NULL;
done:
    sky_cpu_device_destroy((void **)&d);
    return st;
}

void sky_cpu_device_destroy(void **device)
{
    sky_cpu_device *d = *device;
    if (d == NULL) {
        return;
    }
    sky_threads_destroy(&d->threads);
    free(d->work);
    free(d);
    *device = NULL;
}

const char *sky_cpu_device_isa(const void *device)
{
    return ((const sky_cpu_device *)device)->isa->name;
}

static sky_status device_open(const sky_device_options *options, void **device)
{
    void *d = NULL;
    SKY_TRY(sky_cpu_device_create(options->num_threads, &d));
    const sky_status st = options->isa != NULL ? sky_cpu_device_set_isa(d, options->isa) : SKY_OK;
    if (st != SKY_OK) {
        sky_cpu_device_destroy(&d);
        return st;
    }
    *device = d;
    return SKY_OK;
}

static uint64_t device_own_bytes(const void *device)
{
    return (uint64_t)((const sky_cpu_device *)device)->num_threads * SKY_CPU_THREAD_BYTES;
}

const sky_backend *sky_backend_cpu(void)
{
    static const sky_backend backend = {.name = "cpu",
                                        .open = device_open,
                                        .close = sky_cpu_device_destroy,
                                        .device_name = sky_cpu_device_isa,
                                        .own_bytes = device_own_bytes,
                                        SKY_HOST_DEVICE,
#define ENTRY(op) .op = forward_##op, .op##_plan = plan_##op,
                                        SKY_OPS(ENTRY)
#undef ENTRY
    };
    return &backend;
}
