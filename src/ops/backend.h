/*
 * ops/backend.h - the table of functions that a backend is
 *
 * A backend implements every op of ops/ops.h once. The public function sky_OP() checks the arguments, takes the scratch
 * that OP_scratch asks for from ctx's arena, and calls the table; in planning mode it stops before the call. So an
 * implementation neither checks arguments, nor allocates, nor knows of planning. What it cannot do it answers with
 * SKY_ERR_UNSUPPORTED.
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
    size_t (*op##_scratch)(const sky_ctx *ctx, const sky_##op##_args *args); /* or NULL */
    SKY_OPS(SKY_BACKEND_ENTRY)
#undef SKY_BACKEND_ENTRY
};

#endif
