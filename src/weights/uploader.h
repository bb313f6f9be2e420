/*
 * weights/uploader.h - two buffers between files and the device; private to the store
 *
 * One is filled while the other goes up: on the copy queue, from pinned memory. Where the host may write device memory
 * itself (host_memory), there is nothing between: what would go into a buffer goes to its place.
 *
 *     sky_upload_part part = {.to = weight.data, .bytes = num_bytes};
 *     SKY_TRY(sky_uploader_begin(&uploader, &part, 1));  // waits until a buffer is free again
 *     ... num_bytes bytes to part.host ...
 *     SKY_TRY(sky_uploader_end(&uploader, &part, 1));    // on its way; ops enqueued on ctx from now on find it there
 *     ...
 *     SKY_TRY(sky_uploader_release(&uploader));          // waits for all, gives the buffers back
 */
#ifndef SKY_WEIGHTS_UPLOADER_H
#define SKY_WEIGHTS_UPLOADER_H

#include "ops/backend.h"

typedef struct sky_upload_buffer {
    unsigned char *host; /* of host_alloc, or NULL */
    sky_event *sent;     /* behind what was sent of it last */
} sky_upload_buffer;

typedef struct sky_uploader {
    const sky_ctx *ctx; /* borrowed; the rest is 0 at first */
    sky_upload_buffer buffers[2];
    uint64_t bytes; /* of each */
    int next;
} sky_uploader;

typedef struct sky_upload_part {
    void *to; /* device memory */
    uint64_t bytes;
    void *host; /* where its bytes are written to: set by begin */
} sky_upload_part;

/* Bytes that parts of these lengths take in a buffer; 0 where none is needed. */
uint64_t sky_uploader_bytes(const sky_ctx *ctx, const uint64_t *bytes, int num_parts);

/* Buffers of at least this many bytes, now rather than one after the other. Errors: NOMEM, DEVICE. */
sky_status sky_uploader_reserve(sky_uploader *uploader, uint64_t bytes);

/* Errors: NOMEM, DEVICE. What was begun need not be ended where something fails in between. */
sky_status sky_uploader_begin(sky_uploader *uploader, sky_upload_part *parts, int num_parts);
sky_status sky_uploader_end(sky_uploader *uploader, const sky_upload_part *parts, int num_parts);

/* Errors: DEVICE, and then it is released all the same. */
sky_status sky_uploader_release(sky_uploader *uploader);

#endif
