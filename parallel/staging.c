#include "parallel/staging.h"

#include <stdlib.h>

/* The device of the first exchange is the device of all, until sky_staging_release(). */
static sky_status attach(sky_staging *s, const sky_ctx *ctx)
{
    if (s->backend == NULL) {
        SKY_TRY(ctx->backend->event_create(ctx->device, &s->computed));
        s->backend = ctx->backend;
        s->device = ctx->device;
    }
    return s->backend == ctx->backend && s->device == ctx->device
               ? SKY_OK
               : sky_fail(SKY_ERR_INTERNAL, "exchange: the group serves another device still");
}

static size_t round_up(size_t bytes)
{
    return (bytes + SKY_ARENA_ALIGNMENT_BYTES - 1) / SKY_ARENA_ALIGNMENT_BYTES * SKY_ARENA_ALIGNMENT_BYTES;
}

static sky_status reserve_entries(sky_staging_slot *slot, int n)
{
    if (n <= slot->capacity) {
        return SKY_OK;
    }
    sky_exchange *list = realloc(slot->list, (size_t)n * sizeof *list);
    slot->list = list != NULL ? list : slot->list;
    sky_exchange *host = realloc(slot->host, (size_t)n * sizeof *host);
    slot->host = host != NULL ? host : slot->host;
    if (list == NULL || host == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "no memory for a list of %d exchanges", n);
    }
    slot->capacity = n;
    return SKY_OK;
}

static sky_status reserve_block(const sky_staging *s, sky_staging_slot *slot, size_t bytes)
{
    void *block = NULL;
    if (slot->event == NULL) {
        SKY_TRY(s->backend->event_create(s->device, &slot->event));
    }
    if (bytes <= slot->block_bytes) {
        return SKY_OK;
    }
    SKY_TRY(s->backend->event_sync(s->device, slot->event)); /* the last exchange may still be on its way from it */
    s->backend->host_free(s->device, slot->block);
    slot->block = NULL;
    slot->block_bytes = 0;
    SKY_TRY(s->backend->host_alloc(s->device, bytes, &block));
    slot->block = block;
    slot->block_bytes = bytes;
    return SKY_OK;
}

/* The entries that travel, and places for them in the slot's block. */
static sky_status place(const sky_staging *s, sky_staging_slot *slot, const sky_exchange *list, int n, int rank)
{
    size_t bytes = 0;
    slot->num = 0;
    SKY_TRY(reserve_entries(slot, n));
    for (int i = 0; i < n; i++) {
        if (list[i].peer != rank) {
            slot->list[slot->num++] = list[i];
            bytes += round_up(list[i].send_bytes) + round_up(list[i].recv_bytes);
        }
    }
    SKY_TRY(reserve_block(s, slot, bytes));
    unsigned char *free_place = slot->block;
    for (int i = 0; i < slot->num; i++) {
        slot->host[i] = slot->list[i];
        slot->host[i].send = free_place;
        free_place += round_up(slot->list[i].send_bytes);
        slot->host[i].recv = free_place;
        free_place += round_up(slot->list[i].recv_bytes);
    }
    return SKY_OK;
}

static sky_status fetch(const sky_staging *s, const sky_staging_slot *slot)
{
    const sky_backend *b = s->backend;
    SKY_TRY(b->event_record(s->device, s->computed, SKY_QUEUE_COMPUTE));
    SKY_TRY(b->event_wait(s->device, SKY_QUEUE_EXCHANGE, s->computed));
    for (int i = 0; i < slot->num; i++) {
        SKY_TRY(b->download_begin(s->device, SKY_QUEUE_EXCHANGE, (void *)slot->host[i].send, slot->list[i].send,
                                  slot->list[i].send_bytes));
    }
    SKY_TRY(b->event_record(s->device, slot->event, SKY_QUEUE_EXCHANGE));
    /* This is behind what the slot's last exchange sent to the device, too: its memory is free to be received into. */
    return b->event_sync(s->device, slot->event);
}

sky_status sky_staging_begin(sky_staging *s, const sky_ctx *ctx, int slot, const sky_exchange *list, int n, int rank,
                             const sky_exchange **host, int *num_host)
{
    if (ctx->backend->host_memory) {
        *host = list;
        *num_host = n;
        return ctx->backend->sync(ctx->device);
    }
    SKY_TRY(attach(s, ctx));
    SKY_TRY(place(s, &s->slots[slot], list, n, rank));
    SKY_TRY(fetch(s, &s->slots[slot]));
    *host = s->slots[slot].host;
    *num_host = s->slots[slot].num;
    return SKY_OK;
}

sky_status sky_staging_end(sky_staging *s, const sky_ctx *ctx, int slot)
{
    const sky_backend *b = ctx->backend;
    const sky_staging_slot *from = &s->slots[slot];
    if (b->host_memory) {
        return SKY_OK;
    }
    for (int i = 0; i < from->num; i++) {
        SKY_TRY(b->upload_begin(s->device, SKY_QUEUE_EXCHANGE, from->list[i].recv, from->host[i].recv,
                                from->list[i].recv_bytes));
    }
    SKY_TRY(b->event_record(s->device, from->event, SKY_QUEUE_EXCHANGE));
    return b->event_wait(s->device, SKY_QUEUE_COMPUTE, from->event);
}

void sky_staging_release(sky_staging *s)
{
    for (int i = 0; i < SKY_GROUP_MAX_EXCHANGES; i++) {
        sky_staging_slot *slot = &s->slots[i];
        if (slot->event != NULL) {
            (void)s->backend->event_sync(s->device, slot->event); /* a device that has failed has nothing under way */
            s->backend->event_destroy(s->device, &slot->event);
        }
        if (s->backend != NULL) {
            s->backend->host_free(s->device, slot->block);
        }
        free(slot->list);
        free(slot->host);
    }
    if (s->backend != NULL) {
        s->backend->event_destroy(s->device, &s->computed);
    }
    *s = (sky_staging){0};
}
