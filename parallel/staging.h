/*
 * parallel/staging.h - an exchange of device memory by way of host memory, for groups whose transport knows only that
 *
 *     SKY_TRY(sky_staging_begin(&staging, ctx, slot, list, n, rank, &host, &num_host));
 *     ... the host has waited: send and receive by `host`, a list like `list` ...
 *     SKY_TRY(sky_staging_end(&staging, ctx, slot));     // what was received is on its way to the device
 *
 * Where the host may use device memory (backend.h, host_memory) host is the list itself. Elsewhere pinned memory holds what
 * travels: begin fetches it on the EXCHANGE queue, behind what COMPUTE was given before; end sends back on EXCHANGE what came,
 * and COMPUTE waits for that. Each slot is for one exchange at a time, and keeps its memory until more is wanted.
 */
#ifndef SKY_PARALLEL_STAGING_H
#define SKY_PARALLEL_STAGING_H

#include "ops/backend.h"
#include "parallel/group.h"

/* One exchange's. */
typedef struct sky_staging_slot {
    sky_exchange *list, *host; /* [capacity]: on the device, and the same in block */
    int num, capacity;
    unsigned char *block; /* pinned */
    size_t block_bytes;
    sky_event *event; /* behind this slot's last copy */
} sky_staging_slot;

/* Begins zero. */
typedef struct sky_staging {
    const sky_backend *backend; /* of the device that slots have memory of; NULL: of none yet */
    void *device;
    sky_event *computed; /* what COMPUTE had been given when an exchange began */
    sky_staging_slot slots[SKY_GROUP_MAX_EXCHANGES];
} sky_staging;

/*
 * Entries with `rank` are left out of what is copied and of *host, which is the group's and stays until end. Errors: DEVICE,
 * NOMEM, INTERNAL where ctx has another device than this staging has memory of (sky_group_forget_device).
 */
sky_status sky_staging_begin(sky_staging *s, const sky_ctx *ctx, int slot, const sky_exchange *list, int n, int rank,
                             const sky_exchange **host, int *num_host);

/* Once what `host` receives is there. Errors: DEVICE. */
sky_status sky_staging_end(sky_staging *s, const sky_ctx *ctx, int slot);

/* Gives everything back; s is as at first. Nothing is under way. */
void sky_staging_release(sky_staging *s);

#endif
