/*
 * ops/host_device.h - the part of a backend's table that is the same for all that compute on the host (ops/ref, ops/cpu)
 *
 * Device memory is the host's own, and every call has finished when it returns: queues and events have nothing to order.
 *
 *     static const sky_backend backend = {.name = "cpu", .open = .., .close = .., SKY_HOST_DEVICE, ...};
 *
 * `device` is not looked at.
 */
#ifndef SKY_OPS_HOST_DEVICE_H
#define SKY_OPS_HOST_DEVICE_H

#include "ops/backend.h"

sky_status sky_host_memory(void *device, uint64_t *free_bytes, uint64_t *total_bytes);
sky_status sky_host_alloc(void *device, size_t bytes, void **out);
void sky_host_free(void *device, void *block);
sky_status sky_host_copy(void *device, void *to, const void *from, size_t bytes);
sky_status sky_host_copy_begin(void *device, sky_queue queue, void *to, const void *from, size_t bytes);
sky_status sky_host_zero(void *device, void *to, size_t bytes);
sky_status sky_host_sync(void *device);
sky_status sky_host_event_create(void *device, sky_event **out);
void sky_host_event_destroy(void *device, sky_event **event);
sky_status sky_host_event_record(void *device, sky_event *event, sky_queue queue);
sky_status sky_host_event_wait(void *device, sky_queue queue, sky_event *event);
sky_status sky_host_event_sync(void *device, sky_event *event);
sky_status sky_host_event_elapsed(void *device, const sky_event *from, const sky_event *to, double *seconds);
void *sky_host_native_queue(void *device, sky_queue queue);

#define SKY_HOST_DEVICE                                                                                                \
    .host_memory = true, .memory = sky_host_memory, .alloc = sky_host_alloc, .free = sky_host_free,                    \
    .host_alloc = sky_host_alloc, .host_free = sky_host_free, .upload = sky_host_copy, .download = sky_host_copy,      \
    .upload_begin = sky_host_copy_begin, .download_begin = sky_host_copy_begin, .copy = sky_host_copy,                 \
    .zero = sky_host_zero, .sync = sky_host_sync, .event_create = sky_host_event_create,                               \
    .event_destroy = sky_host_event_destroy, .event_record = sky_host_event_record, .event_wait = sky_host_event_wait, \
    .event_sync = sky_host_event_sync, .event_elapsed = sky_host_event_elapsed, .native_queue = sky_host_native_queue

#endif
