#include "ops/check.h"
#include "ops/dispatch.h"

sky_status sky_layer_norm(sky_ctx *ctx, const sky_layer_norm_args *args)
{
    static const char op[] = "layer_norm";
    const sky_operand y = SKY_OPERAND(args, y);
    const sky_operand x = SKY_OPERAND(args, x);
    const sky_operand weight = SKY_OPERAND(args, weight);
    const sky_operand bias = SKY_OPERAND(args, bias);
    const sky_operand inputs[] = {x, weight, bias};
    SKY_TRY(sky_check_tensor(ctx, op, y, 2, SKY_LINEAR_INPUT));
    SKY_TRY(sky_check_tensor(ctx, op, x, 2, SKY_F32_OR_BF16));
    SKY_TRY(sky_check_same_shape(op, y, x));
    SKY_TRY(sky_check_vector(ctx, op, weight, args->x.shape[1]));
    SKY_TRY(sky_check_vector(ctx, op, bias, args->x.shape[1]));
    SKY_TRY(sky_check_in_place(ctx, op, y, x));
    SKY_TRY(sky_check_row_codes(ctx, op, y, SKY_OPERAND(args, y_scale), inputs, 3));
    SKY_TRY(sky_check_disjoint(ctx, op, y, weight));
    SKY_TRY(sky_check_disjoint(ctx, op, y, bias));
    if (args->x.shape[1] == 0) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "no columns to take a mean of", x);
    }
    if (args->x.shape[0] == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(layer_norm, ctx, args);
}
