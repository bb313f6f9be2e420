#include "ops/check.h"
#include "ops/dispatch.h"

sky_status sky_merge_attention(sky_ctx *ctx, const sky_merge_attention_args *args)
{
    static const char op[] = "merge_attention";
    const sky_operand y = SKY_OPERAND(args, y);
    const sky_operand lse = SKY_OPERAND(args, lse);
    const sky_operand other = SKY_OPERAND(args, other);
    const sky_operand other_lse = SKY_OPERAND(args, other_lse);
    SKY_TRY(sky_check_tensor(ctx, op, y, 3, SKY_ONLY_F32));
    SKY_TRY(sky_check_tensor(ctx, op, lse, 2, SKY_ONLY_F32));
    SKY_TRY(sky_check_tensor(ctx, op, other, 3, SKY_ONLY_F32));
    SKY_TRY(sky_check_tensor(ctx, op, other_lse, 2, SKY_ONLY_F32));
    SKY_TRY(sky_check_same_shape(op, y, other));
    SKY_TRY(sky_check_same_shape(op, lse, other_lse));
    if (args->lse.shape[0] != args->y.shape[0] || args->lse.shape[1] != args->y.shape[1]) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "want lse [S, N] for y [S, N, D]", y, lse);
    }
    SKY_TRY(sky_check_disjoint(ctx, op, y, lse));
    SKY_TRY(sky_check_disjoint(ctx, op, y, other));
    SKY_TRY(sky_check_disjoint(ctx, op, y, other_lse));
    SKY_TRY(sky_check_disjoint(ctx, op, lse, other));
    SKY_TRY(sky_check_disjoint(ctx, op, lse, other_lse));
    if (sky_tensor_len(&args->lse) == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(merge_attention, ctx, args);
}
