#include "ops/check.h"
#include "ops/dispatch.h"

sky_status sky_embedding(sky_ctx *ctx, const sky_embedding_args *args)
{
    static const char op[] = "embedding";
    const sky_operand y = SKY_OPERAND(args, y);
    const sky_operand table = SKY_OPERAND(args, table);
    const sky_operand ids = SKY_OPERAND(args, ids);
    SKY_TRY(sky_check_tensor(ctx, op, y, 2, SKY_F32_OR_BF16));
    SKY_TRY(sky_check_tensor(ctx, op, table, 2, SKY_F32_OR_BF16));
    SKY_TRY(sky_check_tensor(ctx, op, ids, 1, SKY_ONLY_I32));
    SKY_TRY(sky_check_same_dtype(op, y, table));
    if (args->y.shape[0] != args->ids.shape[0] || args->y.shape[1] != args->table.shape[1]) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "want y [S, C] for table [V, C], ids [S]", y, table, ids);
    }
    SKY_TRY(sky_check_disjoint(ctx, op, y, table));
    SKY_TRY(sky_check_disjoint(ctx, op, y, ids));
    if (sky_tensor_len(&args->y) == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(embedding, ctx, args);
}
