#include "ops/check.h"
#include "ops/dispatch.h"

sky_status sky_upsample_nearest(sky_ctx *ctx, const sky_upsample_nearest_args *args)
{
    static const char op[] = "upsample_nearest";
    const sky_operand y = SKY_OPERAND(args, y);
    const sky_operand x = SKY_OPERAND(args, x);
    SKY_TRY(sky_check_tensor(ctx, op, y, 4, SKY_F32_OR_BF16));
    SKY_TRY(sky_check_tensor(ctx, op, x, 4, SKY_F32_OR_BF16));
    SKY_TRY(sky_check_same_dtype(op, y, x));
    if (args->y.shape[0] != args->x.shape[0] || args->y.shape[1] != 2 * args->x.shape[1] ||
        args->y.shape[2] != 2 * args->x.shape[2] || args->y.shape[3] != args->x.shape[3]) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "want y [T, 2H, 2W, C] for x [T, H, W, C]", y, x);
    }
    SKY_TRY(sky_check_disjoint(ctx, op, y, x));
    if (sky_tensor_len(&args->y) == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(upsample_nearest, ctx, args);
}
