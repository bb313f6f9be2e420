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
 */
#ifndef SKY_OPS_BACKEND_H
#define SKY_OPS_BACKEND_H

#include "ops/ops.h"

struct sky_backend {
    const char *name; /* "ref", "cpu", "cuda" */

    sky_status (*alloc)(void *device, size_t bytes, void **out); /* aligned to SKY_ARENA_ALIGNMENT_BYTES */
    void (*free)(void *device, void *block);
    sky_status (*upload)(void *device, void *to, const void *host, size_t bytes);
    sky_status (*download)(void *device, void *host, const void *from, size_t bytes);
    sky_status (*copy)(void *device, void *to, const void *from, size_t bytes);
    sky_status (*zero)(void *device, void *to, size_t bytes);
    sky_status (*sync)(void *device);

#define SKY_BACKEND_ENTRY(op)                                                    \
    sky_status (*op)(sky_ctx * ctx, const sky_##op##_args *args, void *scratch); \
    sky_status (*op##_plan)(sky_ctx * ctx, const sky_##op##_args *args, size_t *scratch_bytes); /* or NULL */
    SKY_OPS(SKY_BACKEND_ENTRY)
#undef SKY_BACKEND_ENTRY
};

#endif
