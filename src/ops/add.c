#include "ops/check.h"
#include "ops/dispatch.h"

sky_status sky_add(sky_ctx *ctx, const sky_add_args *args)
{
    static const char op[] = "add";
    const sky_operand y = SKY_OPERAND(args, y);
    const sky_operand inputs[] = {SKY_OPERAND(args, a), SKY_OPERAND(args, b)};
    SKY_TRY(sky_check_tensor(ctx, op, y, SKY_ANY_DIMS, SKY_F32_OR_BF16));
    for (int i = 0; i < 2; i++) {
        SKY_TRY(sky_check_tensor(ctx, op, inputs[i], SKY_ANY_DIMS, SKY_F32_OR_BF16));
        SKY_TRY(sky_check_same_shape(op, y, inputs[i]));
        SKY_TRY(sky_check_same_dtype(op, y, inputs[i]));
        SKY_TRY(sky_check_in_place(ctx, op, y, inputs[i]));
    }
    if (sky_tensor_len(&args->y) == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(add, ctx, args);
}
