#include "ops/check.h"
#include "ops/dispatch.h"

sky_status sky_channel_norm(sky_ctx *ctx, const sky_channel_norm_args *args)
{
    static const char op[] = "channel_norm";
    const sky_operand y = SKY_OPERAND(args, y);
    const sky_operand x = SKY_OPERAND(args, x);
    const sky_operand gamma = SKY_OPERAND(args, gamma);
    SKY_TRY(sky_check_tensor(ctx, op, y, SKY_ANY_DIMS, SKY_F32_OR_BF16));
    SKY_TRY(sky_check_tensor(ctx, op, x, SKY_ANY_DIMS, SKY_F32_OR_BF16));
    SKY_TRY(sky_check_same_shape(op, y, x));
    SKY_TRY(sky_check_same_dtype(op, y, x));
    if (args->x.num_dims == 0) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "want channels as the last dimension", x);
    }
    SKY_TRY(sky_check_vector(ctx, op, gamma, args->x.shape[args->x.num_dims - 1]));
    SKY_TRY(sky_check_in_place(ctx, op, y, x));
    SKY_TRY(sky_check_disjoint(ctx, op, y, gamma));
    if (sky_tensor_len(&args->y) == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(channel_norm, ctx, args);
}
