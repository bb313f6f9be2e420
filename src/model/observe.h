/*
 * model/observe.h - a look at what happens inside a model
 *
 * Tests compare intermediate values with the published implementation; fingerprints of stages are made the same way.
 * The callback sees device tensors in the order of computation and must not keep or change them. Not called while
 * planning, nor once a failure is being held back (ops/ctx.h); a failure of its own is held back too.
 */
#ifndef SKY_MODEL_OBSERVE_H
#define SKY_MODEL_OBSERVE_H

#include "ops/ctx.h"

typedef struct sky_observer {
    sky_status (*see)(void *user, sky_ctx *ctx, const char *name, const sky_tensor *value);
    void *user;
} sky_observer;

/* observer may be NULL. */
static inline sky_status sky_observe(const sky_observer *observer, sky_ctx *ctx, const char *name,
                                     const sky_tensor *value)
{
    if (observer == NULL || observer->see == NULL || sky_ctx_planning(ctx) || sky_ctx_failed(ctx)) {
        return SKY_OK;
    }
    return sky_ctx_keep(ctx, observer->see(observer->user, ctx, name, value));
}

#endif
