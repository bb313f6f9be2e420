/*
 * support/late_table.h - each op, as the late device enqueues it; for late.c only
 */
#ifndef SKY_TESTS_SUPPORT_LATE_TABLE_H
#define SKY_TESTS_SUPPORT_LATE_TABLE_H

#include "support/late.h"

/* How every op's call begins; behind it come the op's own arguments, all of them values. */
typedef struct late_call {
    sky_ctx inner;
    void *scratch;
    bool fails;
} late_call;

sky_status late_op(sky_ctx *ctx, late_function run, void *call, size_t bytes);
sky_ctx late_inner(const sky_ctx *ctx);

#define LATE_OP(op)                                                                                               \
    typedef struct late_call_##op {                                                                               \
        late_call call;                                                                                           \
        sky_##op##_args args;                                                                                     \
    } late_call_##op;                                                                                             \
    static sky_status late_run_##op(void *arg)                                                                    \
    {                                                                                                             \
        late_call_##op *c = arg;                                                                                  \
        if (c->call.fails) {                                                                                      \
            return sky_fail(SKY_ERR_DEVICE, "%s, on purpose", #op);                                               \
        }                                                                                                         \
        return c->call.inner.backend->op(&c->call.inner, &c->args, c->call.scratch);                              \
    }                                                                                                             \
    static sky_status late_##op(sky_ctx *ctx, const sky_##op##_args *args, void *scratch)                         \
    {                                                                                                             \
        late_call_##op c = {.call.scratch = scratch, .args = *args};                                              \
        return late_op(ctx, late_run_##op, &c, sizeof c);                                                         \
    }                                                                                                             \
    static sky_status late_plan_##op(sky_ctx *ctx, const sky_##op##_args *args, size_t *scratch_bytes)            \
    {                                                                                                             \
        sky_ctx inner = late_inner(ctx);                                                                          \
        return inner.backend->op##_plan != NULL ? inner.backend->op##_plan(&inner, args, scratch_bytes) : SKY_OK; \
    }
SKY_OPS(LATE_OP)
#undef LATE_OP

#endif
