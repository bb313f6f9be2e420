#include "ops/ctx.h"

#include "ops/check.h"

#include <stdio.h>

sky_status sky_ctx_tensor(sky_ctx *ctx, sky_tensor *out, sky_dtype dtype, int num_dims, const int64_t *shape)
{
    sky_tensor t = {.dtype = dtype, .num_dims = num_dims};
    if (num_dims < 0 || num_dims > SKY_MAX_DIMS) {
        return sky_fail(SKY_ERR_SHAPE, "a tensor of %d dimensions: at most %d", num_dims, (int)SKY_MAX_DIMS);
    }
    if (ctx->arena == NULL) {
        return sky_fail(SKY_ERR_INTERNAL, "a tensor is wanted, but its context has no arena");
    }
    uint64_t bytes = sky_dtype_bytes(dtype);
    if (bytes == 0) {
        return sky_fail(SKY_ERR_DTYPE, "a tensor of unknown type %d", (int)dtype);
    }
    for (int i = 0; i < num_dims; i++) {
        t.shape[i] = shape[i];
        if (shape[i] < 0 || __builtin_mul_overflow(bytes, (uint64_t)shape[i], &bytes)) {
            return SKY_CHECK_FAIL(SKY_ERR_SHAPE, "new tensor", "negative or too large", {"it", &t});
        }
    }
    char text[160];
    SKY_TRY(sky_fail_in(sky_arena_alloc(ctx->arena, (size_t)bytes, &t.data), "%s",
                        sky_tensor_describe(&t, text, sizeof text)));
    *out = t;
    return SKY_OK;
}

bool sky_ctx_planning(const sky_ctx *ctx)
{
    return ctx->arena != NULL && ctx->arena->planning;
}

void sky_ctx_hold(sky_ctx *ctx, sky_held *held)
{
    SKY_ASSERT(ctx->held == NULL);
    held->status = SKY_OK;
    held->message[0] = '\0';
    ctx->held = held;
}

sky_status sky_ctx_release(sky_ctx *ctx)
{
    const sky_held *held = ctx->held;
    ctx->held = NULL;
    return held == NULL || held->status == SKY_OK ? SKY_OK : sky_fail(held->status, "%s", held->message);
}

sky_status sky_ctx_keep(sky_ctx *ctx, sky_status st)
{
    if (st == SKY_OK || ctx->held == NULL) {
        return st;
    }
    if (ctx->held->status == SKY_OK) {
        ctx->held->status = st;
        snprintf(ctx->held->message, sizeof ctx->held->message, "%s", sky_message());
    }
    return SKY_OK;
}

bool sky_ctx_failed(const sky_ctx *ctx)
{
    return ctx->held != NULL && ctx->held->status != SKY_OK;
}
