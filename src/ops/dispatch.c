#include "ops/dispatch.h"

bool sky_dispatch_skips(const sky_ctx *ctx)
{
    return sky_ctx_planning(ctx) || sky_ctx_failed(ctx);
}

sky_status sky_dispatch_begin(sky_ctx *ctx, const char *op, size_t bytes, size_t *mark, void **scratch)
{
    *mark = 0;
    *scratch = NULL;
    if (bytes == 0) {
        *mark = ctx->arena != NULL ? sky_arena_mark(ctx->arena) : 0;
        return SKY_OK;
    }
    if (ctx->arena == NULL) {
        return sky_fail(SKY_ERR_INTERNAL, "%s: needs %zu bytes of scratch, but its context has no arena", op, bytes);
    }
    *mark = sky_arena_mark(ctx->arena);
    return sky_fail_in(sky_arena_alloc(ctx->arena, bytes, scratch), "%s: scratch", op);
}

sky_status sky_dispatch_end(sky_ctx *ctx, size_t mark, sky_status st)
{
    if (ctx->arena != NULL) {
        sky_arena_release(ctx->arena, mark);
    }
    return sky_ctx_keep(ctx, st);
}

sky_status sky_dispatch_missing(const sky_ctx *ctx, const char *op)
{
    return sky_fail(SKY_ERR_UNSUPPORTED, "backend %s has no %s", ctx->backend->name, op);
}
