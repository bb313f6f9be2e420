#include "ops/check.h"
#include "ops/dispatch.h"

sky_status sky_activation(sky_ctx *ctx, const sky_activation_args *args)
{
    static const char op[] = "activation";
    const sky_operand y = SKY_OPERAND(args, y);
    const sky_operand x = SKY_OPERAND(args, x);
    const sky_operand inputs[] = {x,
                                  {"x_scale", &args->x_sums.x_scale},
                                  {"weight_scale", &args->x_sums.weight_scale},
                                  {"bias", &args->x_sums.bias}};
    SKY_TRY(sky_check_tensor(ctx, op, y, SKY_ANY_DIMS, SKY_LINEAR_INPUT));
    SKY_TRY(sky_check_tensor(ctx, op, x, args->x.dtype == SKY_I32 ? 2 : SKY_ANY_DIMS, SKY_LINEAR_OUTPUT));
    SKY_TRY(sky_check_same_shape(op, y, x));
    SKY_TRY(sky_check_in_place(ctx, op, y, x));
    SKY_TRY(sky_check_row_codes(ctx, op, y, SKY_OPERAND(args, y_scale), inputs, 4));
    SKY_TRY(sky_check_linear_sums(ctx, op, y, x, &args->x_sums));
    if ((unsigned)args->kind > SKY_GELU_ERF) {
        return sky_fail(SKY_ERR_UNSUPPORTED, "%s: unknown kind %d", op, (int)args->kind);
    }
    if (sky_tensor_len(&args->y) == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(activation, ctx, args);
}
