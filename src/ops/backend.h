/*
 * ops/backend.h - the table of functions that a backend is
 *
 * A backend implements every op of ops/ops.h once. The public function sky_OP() checks the arguments, calls OP_plan, takes
 * the scratch that it asks for from ctx's arena, and calls the table; in planning mode it stops before the call. So an
 * implementation neither checks arguments, nor allocates, nor knows of planning.
 *
 * OP_plan(ctx, args, &scratch_bytes) is where a backend says no and where it chooses. NULL: the op needs no scratch and no
 * choice, and does all that its contract names.
 *
 *   - What it cannot do, it answers with SKY_ERR_UNSUPPORTED, and a slower way it takes here and nowhere else: so that
 *     both show when a model is planned, before a weight is read.
 *   - It is called at every dispatch, when planning and when computing, with the same result for equal arguments (their
 *     addresses apart). An algorithm or a descriptor that costs something to find is kept in the device, under what it
 *     depends on (shapes, types; not the number of rows, where results must not depend on how rows are cut), and found
 *     again cheaply: a pass that was planned once chooses and creates nothing any more, and allocates nothing.
 *   - When planning, tensors have no memory: it reads dtypes, shapes, settings and which operands are present, and never
 *     what `data` points to, nor its alignment.
 *   - *scratch_bytes is 0 before the call. Nothing is enqueued, nothing waited for.
 *   - A failure is one of the op: held back where failures are (sky_ctx_hold).
 *
 * Order    What a device does is enqueued on one of three queues and done in the order of each; between queues only events
 *          order anything. Ops, upload, download, copy and zero go to COMPUTE: none of them needs an event among themselves.
 *          A backend that has finished when it returns (the CPU ones) makes all of this trivial.
 * Waiting  Only sync, event_sync, upload, download and free make the host wait, and open and close. Everything else returns
 *          before it is done, where work is queued, and the arguments of an op are read before the call returns.
 * Memory   `to` and `from` are device memory (of alloc), `host` is host memory. With host_memory the host may read and write
 *          device memory by its pointers once what uses it is done; without, it must not touch it at all.
 * Errors   DEVICE from any function, also for what was enqueued before and failed since: such a failure is seen late, may be
 *          seen first by a call that has nothing to do with it, and stays (every later call fails with it). What fails by
 *          itself and leaves the device sound, a launch that is refused for one, is seen by its own call alone. Besides:
 *          NOMEM where something is allocated, and what is said below. On failure outputs are untouched.
 * Threads  A device belongs to the thread of its context. One more thread (the weight store's) may call host_alloc,
 *          host_free, event_create, event_destroy, event_sync, and upload_begin, event_record and event_wait for COPY, at
 *          the same time.
 */
#ifndef SKY_OPS_BACKEND_H
#define SKY_OPS_BACKEND_H

#include "ops/ops.h"
#include "skyreels.h"

typedef enum sky_queue {
    SKY_QUEUE_COMPUTE,  /* ops and the plain copies */
    SKY_QUEUE_COPY,     /* weights on their way to the device */
    SKY_QUEUE_EXCHANGE, /* between ranks, and what they send through host memory */
    SKY_NUM_QUEUES,
} sky_queue;

/* A point in a queue; each backend defines its own. */
typedef struct sky_event sky_event;

struct sky_backend {
    const char *name; /* "ref", "cpu", "cuda" */
    bool host_memory; /* the host may read and write device memory: see above */

    /*
     * Where linear_8bit of i8 is faster when it leaves its sums (ops/linear_sums.h): how many rows of them a model should hold
     * at a time (the sums are exact: cuts change no byte), a multiple of 128: tiles and groups that share a scale are whole
     * then. 0: it is not.
     */
    int64_t linear_sums_rows;

    /* As sky_device_open() and _close() (skyreels.h), where *device is not NULL. Nothing is under way when it is closed. */
    sky_status (*open)(const sky_device_options *options, void **device);
    void (*close)(void **device);
    const char *(*device_name)(const void *device);
    uint64_t (*own_bytes)(const void *device); /* or NULL: none */

    /*
     * Bytes that alloc could give now, all callers together, and bytes in all; with host_memory those of the machine, less
     * what its limits (cgroups) take away. Others may take some of them in between.
     */
    sky_status (*memory)(void *device, uint64_t *free_bytes, uint64_t *total_bytes);

    /* Device memory, aligned to SKY_ARENA_ALIGNMENT_BYTES; not cleared. 0 bytes are some. free waits for all queues first. */
    sky_status (*alloc)(void *device, size_t bytes, void **out);
    void (*free)(void *device, void *block);

    /*
     * Host memory that copies of this device reach by themselves ("pinned"), aligned as device memory; not cleared. Slow to
     * get and scarce: to be kept. host_free takes NULL; what copies to or from block has been waited for.
     */
    sky_status (*host_alloc)(void *device, size_t bytes, void **out);
    void (*host_free)(void *device, void *block);

    /* On COMPUTE, and waited for: the host side is ready when they return. Any host memory. bytes may be 0. */
    sky_status (*upload)(void *device, void *to, const void *host, size_t bytes);
    sky_status (*download)(void *device, void *host, const void *from, size_t bytes);

    /*
     * The same without waiting, on any queue. host is of host_alloc, at any offset, and belongs to the copy until an event
     * recorded behind it on `queue` is done (later copies of that queue may use it: they come after). So does the device
     * memory, which is ordered by nothing but that queue. bytes may be 0.
     */
    sky_status (*upload_begin)(void *device, sky_queue queue, void *to, const void *host, size_t bytes);
    sky_status (*download_begin)(void *device, sky_queue queue, void *host, const void *from, size_t bytes);

    /* On COMPUTE, device memory; `to` and `from` do not overlap. bytes may be 0. */
    sky_status (*copy)(void *device, void *to, const void *from, size_t bytes);
    sky_status (*zero)(void *device, void *to, size_t bytes);

    /* The host waits for all that was enqueued on all queues. */
    sky_status (*sync)(void *device);

    /*
     * Events. record marks the end of what is on `queue` by now; a later record moves the mark, and what waits for the
     * former one goes on doing so. wait holds back what is enqueued on `queue` from now on until the mark is reached; it
     * costs the host nothing, and where both are of one queue it does nothing. sync makes the host wait for the mark. An
     * event that was never recorded is done. event_destroy takes NULL and sets NULL; the event may still be waited for by
     * queues, not by the host.
     */
    sky_status (*event_create)(void *device, sky_event **out);
    void (*event_destroy)(void *device, sky_event **event);
    sky_status (*event_record)(void *device, sky_event *event, sky_queue queue);
    sky_status (*event_wait)(void *device, sky_queue queue, sky_event *event);
    sky_status (*event_sync)(void *device, sky_event *event);

    /* Seconds between two marks, both of which were recorded and are done; of the device's clock, for measurements. */
    sky_status (*event_elapsed)(void *device, const sky_event *from, const sky_event *to, double *seconds);

    /*
     * For a library that enqueues by itself (NCCL): the queue in the backend's own terms, a cudaStream_t; borrowed. NULL
     * where there is none.
     */
    void *(*native_queue)(void *device, sky_queue queue);

#define SKY_BACKEND_ENTRY(op)                                                    \
    sky_status (*op)(sky_ctx * ctx, const sky_##op##_args *args, void *scratch); \
    sky_status (*op##_plan)(sky_ctx * ctx, const sky_##op##_args *args, size_t *scratch_bytes); /* or NULL */
    SKY_OPS(SKY_BACKEND_ENTRY)
#undef SKY_BACKEND_ENTRY
};

#endif
