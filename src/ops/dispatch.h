/*
 * ops/dispatch.h - from a checked call to the backend (private to src/ops)
 *
 * The last statement of every sky_OP():
 *
 *     return SKY_DISPATCH(linear, ctx, args);
 */
#ifndef SKY_OPS_DISPATCH_H
#define SKY_OPS_DISPATCH_H

#include "ops/backend.h"

/* Whether nothing is to be computed: ctx plans, or a failure is being held back. */
bool sky_dispatch_skips(const sky_ctx *ctx);

/* Takes `bytes` of scratch from ctx's arena (NULL for none); on failure nothing is taken. Errors: NOMEM naming op. */
sky_status sky_dispatch_begin(sky_ctx *ctx, const char *op, size_t bytes, size_t *mark, void **scratch);

/*
 * Gives the scratch back and passes st on, or has it held back (sky_ctx_hold). What the backend enqueued may still use the
 * scratch: later users are enqueued behind.
 */
sky_status sky_dispatch_end(sky_ctx *ctx, size_t mark, sky_status st);

/* Errors: UNSUPPORTED, naming backend and op. */
sky_status sky_dispatch_missing(const sky_ctx *ctx, const char *op);

/* One function per op, so that the arguments keep their type. Scratch is taken when planning too: the peak counts it. */
#define SKY_DEFINE_DISPATCH(op)                                                                                 \
    static inline sky_status sky_dispatch_##op(sky_ctx *ctx, const sky_##op##_args *args)                       \
    {                                                                                                           \
        const sky_backend *backend = ctx->backend;                                                              \
        if (backend->op == NULL) {                                                                              \
            return sky_dispatch_missing(ctx, #op);                                                              \
        }                                                                                                       \
        size_t bytes = 0;                                                                                       \
        const sky_status planned = backend->op##_plan != NULL ? backend->op##_plan(ctx, args, &bytes) : SKY_OK; \
        if (planned != SKY_OK) {                                                                                \
            return sky_ctx_keep(ctx, planned);                                                                  \
        }                                                                                                       \
        size_t mark = 0;                                                                                        \
        void *scratch = NULL;                                                                                   \
        SKY_TRY(sky_dispatch_begin(ctx, #op, bytes, &mark, &scratch));                                          \
        return sky_dispatch_end(ctx, mark, sky_dispatch_skips(ctx) ? SKY_OK : backend->op(ctx, args, scratch)); \
    }
SKY_OPS(SKY_DEFINE_DISPATCH)
#undef SKY_DEFINE_DISPATCH

#define SKY_DISPATCH(op, ctx, args) sky_dispatch_##op(ctx, args)

#endif
