#include "weights/uploader.h"

enum { NUM_BUFFERS = 2 };

static uint64_t aligned(uint64_t bytes)
{
    const uint64_t alignment = SKY_ARENA_ALIGNMENT_BYTES;
    return (bytes + alignment - 1) / alignment * alignment;
}

uint64_t sky_uploader_bytes(const sky_ctx *ctx, const uint64_t *bytes, int num_parts)
{
    uint64_t sum = 0;
    for (int i = 0; i < num_parts && !ctx->backend->host_memory; i++) {
        sum += aligned(bytes[i]);
    }
    return sum;
}

sky_status sky_uploader_reserve(sky_uploader *uploader, uint64_t bytes)
{
    const sky_backend *backend = uploader->ctx->backend;
    void *device = uploader->ctx->device;
    if (bytes <= uploader->bytes) {
        return SKY_OK;
    }
    SKY_TRY(sky_uploader_release(uploader));
    for (int i = 0; i < NUM_BUFFERS; i++) {
        void *host = NULL;
        SKY_TRY(backend->event_create(device, &uploader->buffers[i].sent));
        SKY_TRY(sky_fail_in(backend->host_alloc(device, bytes, &host), "host memory to read weights into"));
        uploader->buffers[i].host = host;
    }
    uploader->bytes = bytes;
    return SKY_OK;
}

sky_status sky_uploader_begin(sky_uploader *uploader, sky_upload_part *parts, int num_parts)
{
    const sky_backend *backend = uploader->ctx->backend;
    uint64_t bytes = 0;
    if (backend->host_memory) {
        for (int i = 0; i < num_parts; i++) {
            parts[i].host = parts[i].to;
        }
        return SKY_OK;
    }
    for (int i = 0; i < num_parts; i++) {
        bytes += aligned(parts[i].bytes);
    }
    SKY_TRY(sky_uploader_reserve(uploader, bytes));
    const sky_upload_buffer *buffer = &uploader->buffers[uploader->next];
    SKY_TRY(backend->event_sync(uploader->ctx->device, buffer->sent));
    unsigned char *host = buffer->host;
    for (int i = 0; i < num_parts; i++) {
        parts[i].host = host;
        host += aligned(parts[i].bytes);
    }
    return SKY_OK;
}

sky_status sky_uploader_end(sky_uploader *uploader, const sky_upload_part *parts, int num_parts)
{
    const sky_backend *backend = uploader->ctx->backend;
    void *device = uploader->ctx->device;
    if (backend->host_memory) {
        return SKY_OK;
    }
    sky_event *sent = uploader->buffers[uploader->next].sent;
    for (int i = 0; i < num_parts; i++) {
        SKY_TRY(backend->upload_begin(device, SKY_QUEUE_COPY, parts[i].to, parts[i].host, parts[i].bytes));
    }
    SKY_TRY(backend->event_record(device, sent, SKY_QUEUE_COPY));
    SKY_TRY(backend->event_wait(device, SKY_QUEUE_COMPUTE, sent));
    uploader->next = (uploader->next + 1) % NUM_BUFFERS;
    return SKY_OK;
}

sky_status sky_uploader_release(sky_uploader *uploader)
{
    sky_status st = SKY_OK;
    const sky_backend *backend = uploader->ctx->backend;
    void *device = uploader->ctx->device;
    for (int i = 0; i < NUM_BUFFERS; i++) {
        sky_upload_buffer *buffer = &uploader->buffers[i];
        if (buffer->sent != NULL) {
            SKY_KEEP_FIRST(st, backend->event_sync(device, buffer->sent));
            backend->event_destroy(device, &buffer->sent);
        }
        if (buffer->host != NULL) {
            backend->host_free(device, buffer->host);
            buffer->host = NULL;
        }
    }
    uploader->bytes = 0;
    uploader->next = 0;
    return st;
}
