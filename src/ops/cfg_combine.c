#include "ops/check.h"
#include "ops/dispatch.h"

sky_status sky_cfg_combine(sky_ctx *ctx, const sky_cfg_combine_args *args)
{
    static const char op[] = "cfg_combine";
    const sky_operand y = SKY_OPERAND(args, y);
    const sky_operand inputs[] = {SKY_OPERAND(args, cond), SKY_OPERAND(args, uncond)};
    SKY_TRY(sky_check_tensor(ctx, op, y, SKY_ANY_DIMS, SKY_ONLY_F32));
    for (int i = 0; i < 2; i++) {
        SKY_TRY(sky_check_tensor(ctx, op, inputs[i], SKY_ANY_DIMS, SKY_ONLY_F32));
        SKY_TRY(sky_check_same_shape(op, y, inputs[i]));
        SKY_TRY(sky_check_in_place(ctx, op, y, inputs[i]));
    }
    if (sky_tensor_len(&args->y) == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(cfg_combine, ctx, args);
}
