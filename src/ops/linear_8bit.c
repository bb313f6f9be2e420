#include "ops/check.h"
#include "ops/dispatch.h"

sky_status sky_linear_8bit(sky_ctx *ctx, const sky_linear_8bit_args *args)
{
    static const char op[] = "linear_8bit";
    const sky_operand y = SKY_OPERAND(args, y);
    const sky_operand x = SKY_OPERAND(args, x);
    const sky_operand x_scale = SKY_OPERAND(args, x_scale);
    const sky_operand weight = SKY_OPERAND(args, weight);
    const sky_operand weight_scale = SKY_OPERAND(args, weight_scale);
    const sky_operand bias = SKY_OPERAND(args, bias);
    const sky_operand inputs[] = {x, x_scale, weight, weight_scale};
    SKY_TRY(sky_check_tensor(ctx, op, y, 2, SKY_F32_OR_BF16));
    SKY_TRY(sky_check_tensor(ctx, op, x, 2, SKY_E4M3_OR_I8));
    SKY_TRY(sky_check_tensor(ctx, op, weight, 2, SKY_E4M3_OR_I8));
    SKY_TRY(sky_check_same_dtype(op, x, weight));
    if (args->x.shape[1] != args->weight.shape[1]) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "columns disagree", x, weight);
    }
    if (args->x.shape[1] == 0) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "no columns to sum over", x, weight);
    }
    if (args->x.dtype == SKY_I8 && args->x.shape[1] > SKY_LINEAR_I8_MAX_LEN) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "more columns than an exact sum of i8 products allows", x, weight);
    }
    if (args->y.shape[0] != args->x.shape[0] || args->y.shape[1] != args->weight.shape[0]) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "want y [M, N] for x [M, K], weight [N, K]", y, x, weight);
    }
    SKY_TRY(sky_check_vector(ctx, op, x_scale, args->x.shape[0]));
    SKY_TRY(sky_check_vector(ctx, op, weight_scale, args->weight.shape[0]));
    for (int i = 0; i < 4; i++) {
        SKY_TRY(sky_check_disjoint(ctx, op, y, inputs[i]));
    }
    if (sky_tensor_present(&args->bias)) {
        SKY_TRY(sky_check_bias(ctx, op, bias, args->weight.shape[0]));
        SKY_TRY(sky_check_disjoint(ctx, op, y, bias));
    }
    if (sky_tensor_len(&args->y) == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(linear_8bit, ctx, args);
}
