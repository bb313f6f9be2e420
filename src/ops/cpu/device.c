#include "ops/cpu/device.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Weights and activations of gigabytes, met page by page, cost more in page faults than in copying: large pages. */
enum { LARGE_PAGE_BYTES = 2 << 20 };

static sky_status device_alloc(void *device, size_t bytes, void **out)
{
    (void)device;
    const size_t alignment = bytes >= 2 * LARGE_PAGE_BYTES ? LARGE_PAGE_BYTES : SKY_ARENA_ALIGNMENT_BYTES;
    if (bytes > SIZE_MAX - alignment) {
        return sky_fail(SKY_ERR_NOMEM, "%zu bytes", bytes);
    }
    const size_t rounded = bytes == 0 ? alignment : (bytes + alignment - 1) / alignment * alignment;
    void *block = aligned_alloc(alignment, rounded);
    if (block == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "%zu bytes of host memory", bytes);
    }
    if (alignment == LARGE_PAGE_BYTES) {
        /* A wish: where the kernel has none, small pages serve. Not for the last page where the block does not fill it. */
        (void)madvise(block, bytes / LARGE_PAGE_BYTES * LARGE_PAGE_BYTES, MADV_HUGEPAGE);
    }
    *out = block;
    return SKY_OK;
}

static void device_free(void *device, void *block)
{
    (void)device;
    free(block);
}

static sky_status device_copy(void *device, void *to, const void *from, size_t bytes)
{
    (void)device;
    if (bytes > 0) {
        memcpy(to, from, bytes);
    }
    return SKY_OK;
}

static sky_status device_zero(void *device, void *to, size_t bytes)
{
    (void)device;
    if (bytes > 0) {
        memset(to, 0, bytes);
    }
    return SKY_OK;
}

static sky_status device_sync(void *device)
{
    (void)device;
    return SKY_OK;
}

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

const sky_backend *sky_backend_cpu(void)
{
    static const sky_backend backend = {.name = "cpu",
                                        .alloc = device_alloc,
                                        .free = device_free,
                                        .upload = device_copy,
                                        .download = device_copy,
                                        .copy = device_copy,
                                        .zero = device_zero,
                                        .sync = device_sync,
#define ENTRY(op) .op = forward_##op, .op##_plan = plan_##op,
                                        SKY_OPS(ENTRY)
#undef ENTRY
    };
    return &backend;
}

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
    SKY_TRY_GOTO(device_alloc(NULL, (size_t)num_threads * SKY_CPU_THREAD_BYTES, &work));
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
