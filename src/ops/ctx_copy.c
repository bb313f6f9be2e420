/* Copies, and waiting. */
#include "ops/check.h"
#include "ops/ctx.h"
#include "ops/dispatch.h"

sky_status sky_ctx_upload(sky_ctx *ctx, const sky_tensor *to, const void *host)
{
    const size_t bytes = sky_tensor_bytes(to);
    if (sky_dispatch_skips(ctx) || bytes == 0) {
        return SKY_OK;
    }
    return sky_ctx_keep(ctx, ctx->backend->upload(ctx->device, to->data, host, bytes));
}

sky_status sky_ctx_download(sky_ctx *ctx, void *host, const sky_tensor *from)
{
    const size_t bytes = sky_tensor_bytes(from);
    if (sky_dispatch_skips(ctx) || bytes == 0) {
        return SKY_OK;
    }
    return sky_ctx_keep(ctx, ctx->backend->download(ctx->device, host, from->data, bytes));
}

sky_status sky_ctx_copy(sky_ctx *ctx, const sky_tensor *to, const sky_tensor *from)
{
    const sky_operand a = {"to", to};
    const sky_operand b = {"from", from};
    SKY_TRY(sky_check_same_dtype("copy", a, b));
    if (sky_tensor_len(to) != sky_tensor_len(from)) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, "copy", "numbers of elements disagree", a, b);
    }
    const size_t bytes = sky_tensor_bytes(to);
    if (sky_ctx_planning(ctx) || bytes == 0 || to->data == from->data) {
        return SKY_OK;
    }
    SKY_TRY(sky_check_disjoint(ctx, "copy", a, b));
    if (sky_dispatch_skips(ctx)) {
        return SKY_OK;
    }
    return sky_ctx_keep(ctx, ctx->backend->copy(ctx->device, to->data, from->data, bytes));
}

sky_status sky_ctx_zero(sky_ctx *ctx, const sky_tensor *to)
{
    const size_t bytes = sky_tensor_bytes(to);
    if (sky_dispatch_skips(ctx) || bytes == 0) {
        return SKY_OK;
    }
    return sky_ctx_keep(ctx, ctx->backend->zero(ctx->device, to->data, bytes));
}

sky_status sky_ctx_sync(sky_ctx *ctx)
{
    return sky_dispatch_skips(ctx) ? SKY_OK : sky_ctx_keep(ctx, ctx->backend->sync(ctx->device));
}
