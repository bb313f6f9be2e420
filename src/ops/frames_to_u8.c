#include "ops/check.h"
#include "ops/dispatch.h"

sky_status sky_frames_to_u8(sky_ctx *ctx, const sky_frames_to_u8_args *args)
{
    static const char op[] = "frames_to_u8";
    const sky_operand y = SKY_OPERAND(args, y);
    const sky_operand x = SKY_OPERAND(args, x);
    SKY_TRY(sky_check_tensor(ctx, op, y, 4, SKY_ONLY_U8));
    SKY_TRY(sky_check_tensor(ctx, op, x, 4, SKY_F32_OR_BF16));
    SKY_TRY(sky_check_same_shape(op, y, x));
    if (args->x.shape[3] != 3) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "want three channels, last", x);
    }
    SKY_TRY(sky_check_disjoint(ctx, op, y, x));
    if (sky_tensor_len(&args->y) == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(frames_to_u8, ctx, args);
}
