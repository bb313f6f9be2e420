#include "ops/host_device.h"

#include "base/clock.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Weights and activations of gigabytes, met page by page, cost more in page faults than in copying: large pages. */
enum { LARGE_PAGE_BYTES = 2 << 20 };

struct sky_event {
    int64_t recorded_ns; /* 0: never */
};

sky_status sky_host_memory(void *device, uint64_t *free_bytes, uint64_t *total_bytes)
{
    (void)device;
    return sky_machine_memory(free_bytes, total_bytes);
}

sky_status sky_host_alloc(void *device, size_t bytes, void **out)
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

void sky_host_free(void *device, void *block)
{
    (void)device;
    free(block);
}

sky_status sky_host_copy(void *device, void *to, const void *from, size_t bytes)
{
    (void)device;
    if (bytes > 0) {
        memcpy(to, from, bytes);
    }
    return SKY_OK;
}

sky_status sky_host_copy_begin(void *device, sky_queue queue, void *to, const void *from, size_t bytes)
{
    (void)queue;
    return sky_host_copy(device, to, from, bytes);
}

sky_status sky_host_zero(void *device, void *to, size_t bytes)
{
    (void)device;
    if (bytes > 0) {
        memset(to, 0, bytes);
    }
    return SKY_OK;
}

sky_status sky_host_sync(void *device)
{
    (void)device;
    return SKY_OK;
}

sky_status sky_host_event_create(void *device, sky_event **out)
{
    (void)device;
    sky_event *event = calloc(1, sizeof *event);
    if (event == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "an event");
    }
    *out = event;
    return SKY_OK;
}

void sky_host_event_destroy(void *device, sky_event **event)
{
    (void)device;
    free(*event);
    *event = NULL;
}

sky_status sky_host_event_record(void *device, sky_event *event, sky_queue queue)
{
    (void)device;
    (void)queue;
    event->recorded_ns = sky_clock_ns();
    return SKY_OK;
}

sky_status sky_host_event_wait(void *device, sky_queue queue, sky_event *event)
{
    (void)device;
    (void)queue;
    (void)event;
    return SKY_OK;
}

sky_status sky_host_event_sync(void *device, sky_event *event)
{
    (void)device;
    (void)event;
    return SKY_OK;
}

sky_status sky_host_event_elapsed(void *device, const sky_event *from, const sky_event *to, double *seconds)
{
    (void)device;
    if (from->recorded_ns == 0 || to->recorded_ns == 0) {
        return sky_fail(SKY_ERR_INTERNAL, "the time between events of which one was never recorded");
    }
    *seconds = 1e-9 * (double)(to->recorded_ns - from->recorded_ns);
    return SKY_OK;
}

void *sky_host_native_queue(void *device, sky_queue queue)
{
    (void)device;
    (void)queue;
    return NULL;
}
