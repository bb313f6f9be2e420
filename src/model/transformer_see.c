/* What the transformer shows to an observer (model/observe.h). */
#include "model/transformer_impl.h"
#include "ops/ops.h"

#include <inttypes.h>
#include <stdio.h>

enum { NAME_BYTES = 64 };

sky_status sky_transformer_see(sky_ctx *ctx, const transformer_pass *p, int64_t layer, const char *what,
                               const sky_tensor *value)
{
    char name[NAME_BYTES];
    if (layer != 0 || (value->dtype != SKY_F32 && value->dtype != SKY_BF16)) {
        return SKY_OK;
    }
    snprintf(name, sizeof name, "block_0_%s", what);
    return sky_observe(p->args->observer, ctx, name, value);
}

sky_status sky_transformer_see_residual(sky_ctx *ctx, const transformer_pass *p, int64_t layer)
{
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "block_%" PRId64, layer);
    const sky_dtype compute = p->model->arithmetic.compute;
    if (compute == SKY_F32) {
        return sky_observe(p->args->observer, ctx, name, &p->x);
    }
    /* The arena has room for it here: inside a block more is held. */
    const size_t mark = sky_arena_mark(ctx->arena);
    sky_tensor rows = {0};
    SKY_TRY(sky_ctx_tensor(ctx, &rows, compute, 2, p->x.shape));
    if (p->args->observer != NULL) {
        SKY_TRY(sky_convert(ctx, &(sky_convert_args){.y = rows, .x = p->x}));
        SKY_TRY(sky_observe(p->args->observer, ctx, name, &rows));
    }
    sky_arena_release(ctx->arena, mark);
    return SKY_OK;
}
