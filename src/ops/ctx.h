/*
 * ops/ctx.h - what every op needs to run: a backend, its state, an arena, a log
 *
 * One context belongs to one thread of one rank: it alone enqueues ops, copies and exchanges, and holds failures. A second
 * thread may exist inside the weight store only, which calls the device, not the context (backend.h, "Threads"). launch fills
 * it; everything below borrows it.
 *
 * A tensor's data is memory of the context's device, which the host does not touch; what functions here call `host` is host
 * memory. Ops and copies are enqueued and return before they are done, and each sees what those before it have written. The
 * host waits in upload, download and sync, and in exchanges where their group needs it (parallel/group.h); nowhere else.
 */
#ifndef SKY_OPS_CTX_H
#define SKY_OPS_CTX_H

#include "base/arena.h"
#include "base/log.h"
#include "base/status.h"
#include "base/tensor.h"
#include "skyreels.h"

enum { SKY_HELD_MESSAGE_BYTES = 2048 };

/* The first failure while failures are held back: sky_ctx_hold(). */
typedef struct sky_held {
    sky_status status;
    char message[SKY_HELD_MESSAGE_BYTES];
} sky_held;

typedef struct sky_ctx {
    const sky_backend *backend;
    void *device;     /* the backend's own state: threads, streams, library handles */
    sky_arena *arena; /* activations and scratch; in planning mode ops check their arguments and compute nothing */
    const sky_log *log;
    sky_held *held; /* NULL: failures are returned where they happen */
} sky_ctx;

/* A new tensor from ctx's arena: SKY_TRY(sky_ctx_tensor(ctx, &q, SKY_BF16, 2, (int64_t[]){rows, cols})). */
sky_status sky_ctx_tensor(sky_ctx *ctx, sky_tensor *out, sky_dtype dtype, int num_dims, const int64_t *shape);

/* Whether ctx only plans: tensors have no memory behind them. */
bool sky_ctx_planning(const sky_ctx *ctx);

/*
 * Copies between host and device; len from the tensor. Ordered with the ops of ctx; the host side is ready on return, so both
 * wait for what was enqueued before. Any host memory.
 */
sky_status sky_ctx_upload(sky_ctx *ctx, const sky_tensor *to, const void *host);
sky_status sky_ctx_download(sky_ctx *ctx, void *host, const sky_tensor *from);

/* Device to device: same dtype and number of elements. */
sky_status sky_ctx_copy(sky_ctx *ctx, const sky_tensor *to, const sky_tensor *from);

/* Sets all bytes to zero. */
sky_status sky_ctx_zero(sky_ctx *ctx, const sky_tensor *to);

/*
 * Waits until everything enqueued on ctx is done. Errors: DEVICE, also for what failed earlier. (A rank whose device stands
 * still holds the others: the place for a watchdog is here and in sky_group_exchange_end.)
 */
sky_status sky_ctx_sync(sky_ctx *ctx);

/*
 * Holding failures back. Between ranks that exchange data in the middle of a computation, a rank that leaves because one of
 * its ops failed would leave the others waiting. From sky_ctx_hold() on, the first failure of an op, copy or sync is kept in
 * *held and SKY_OK returned; what follows computes nothing, as when planning, and so the rank passes by the same exchanges
 * as the others (with whatever is in its buffers) up to sky_ctx_release(), which returns the failure with its message:
 *
 *     sky_held held;
 *     sky_ctx_hold(ctx, &held);
 *     sky_status st = forward(ctx);                  // exchanges inside; may still fail by itself: COMM, arguments
 *     SKY_KEEP_FIRST(st, sky_ctx_release(ctx));
 *     st = sky_group_agree(group, st);
 *
 * A launch that is refused fails at once and is held. What fails while it runs shows later, at a sync, and stays: in an exchange
 * between several ranks that becomes COMM and ends the job, for a device in that state can send nothing (parallel/group.h).
 *
 * Refused arguments, an arena that is full and an op that the backend lacks are returned at once as ever: every rank meets
 * them, when planning. One hold at a time; without one, release returns OK.
 *
 * sky_ctx_keep() lets a failure that comes from elsewhere (an observer) be held back too; without a hold it returns st.
 */
void sky_ctx_hold(sky_ctx *ctx, sky_held *held);
sky_status sky_ctx_release(sky_ctx *ctx);
sky_status sky_ctx_keep(sky_ctx *ctx, sky_status st);

/* Whether a failure is being held back: nothing is computed any more. */
bool sky_ctx_failed(const sky_ctx *ctx);

#endif
