#include "ops/check.h"
#include "ops/dispatch.h"

sky_status sky_layer_norm_modulate(sky_ctx *ctx, const sky_layer_norm_modulate_args *args)
{
    static const char op[] = "layer_norm_modulate";
    const sky_operand y = SKY_OPERAND(args, y);
    const sky_operand x = SKY_OPERAND(args, x);
    const sky_operand shift = SKY_OPERAND(args, shift);
    const sky_operand scale = SKY_OPERAND(args, scale);
    const sky_operand inputs[] = {x, shift, scale};
    SKY_TRY(sky_check_tensor(ctx, op, y, 2, SKY_LINEAR_INPUT));
    SKY_TRY(sky_check_tensor(ctx, op, x, 2, SKY_F32_OR_BF16));
    SKY_TRY(sky_check_tensor(ctx, op, shift, 2, SKY_ONLY_F32));
    SKY_TRY(sky_check_tensor(ctx, op, scale, 2, SKY_ONLY_F32));
    SKY_TRY(sky_check_same_shape(op, y, x));
    SKY_TRY(sky_check_same_shape(op, shift, scale));
    SKY_TRY(sky_check_groups(op, x, shift, args->first_row, args->rows_per_group));
    SKY_TRY(sky_check_in_place(ctx, op, y, x));
    SKY_TRY(sky_check_row_codes(ctx, op, y, SKY_OPERAND(args, y_scale), inputs, 3));
    SKY_TRY(sky_check_disjoint(ctx, op, y, shift));
    SKY_TRY(sky_check_disjoint(ctx, op, y, scale));
    if (args->x.shape[1] == 0) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "no columns to take a mean of", x);
    }
    if (args->x.shape[0] == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(layer_norm_modulate, ctx, args);
}
