#include "ops/check.h"
#include "ops/dispatch.h"

static const char op[] = "linear_8bit";

static sky_status check_scales(const sky_ctx *ctx, const sky_linear_8bit_args *args)
{
    const sky_operand y = SKY_OPERAND(args, y);
    const sky_operand x_scale = SKY_OPERAND(args, x_scale);
    const sky_operand weight_scale = SKY_OPERAND(args, weight_scale);
    const sky_operand bias = SKY_OPERAND(args, bias);
    SKY_TRY(sky_check_vector(ctx, op, x_scale, args->x.shape[0]));
    SKY_TRY(sky_check_vector(ctx, op, weight_scale, args->weight.shape[0]));
    SKY_TRY(sky_check_disjoint(ctx, op, y, x_scale));
    SKY_TRY(sky_check_disjoint(ctx, op, y, weight_scale));
    if (!sky_tensor_present(&args->bias)) {
        return SKY_OK;
    }
    SKY_TRY(sky_check_bias(ctx, op, bias, args->weight.shape[0]));
    return sky_check_disjoint(ctx, op, y, bias);
}

/* What is read with the sums (ops/linear_sums.h) has no place here. */
static sky_status check_bare_sums(const sky_linear_8bit_args *args)
{
    const sky_operand y = SKY_OPERAND(args, y);
    const sky_operand later[] = {SKY_OPERAND(args, x_scale), SKY_OPERAND(args, weight_scale), SKY_OPERAND(args, bias)};
    if (args->x.dtype != SKY_I8) {
        return SKY_CHECK_FAIL(SKY_ERR_DTYPE, op, "only the sums of i8 codes are i32", y, SKY_OPERAND(args, x));
    }
    for (int i = 0; i < 3; i++) {
        if (sky_tensor_present(later[i].tensor)) {
            return SKY_CHECK_FAIL(SKY_ERR_DTYPE, op, "i32 sums are without scales and bias", y, later[i]);
        }
    }
    return SKY_OK;
}

sky_status sky_linear_8bit(sky_ctx *ctx, const sky_linear_8bit_args *args)
{
    const sky_operand y = SKY_OPERAND(args, y);
    const sky_operand x = SKY_OPERAND(args, x);
    const sky_operand weight = SKY_OPERAND(args, weight);
    SKY_TRY(sky_check_tensor(ctx, op, y, 2, SKY_LINEAR_OUTPUT));
    SKY_TRY(sky_check_tensor(ctx, op, x, 2, SKY_E4M3_OR_I8));
    SKY_TRY(sky_check_tensor(ctx, op, weight, 2, SKY_E4M3_OR_I8));
    SKY_TRY(sky_check_same_dtype(op, x, weight));
    if (args->x.shape[1] != args->weight.shape[1]) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "columns disagree", x, weight);
    }
    if (args->x.shape[1] == 0) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "no columns to sum over", x, weight);
    }
    const bool sums = args->y.dtype == SKY_I32;
    if (args->x.dtype == SKY_I8 && args->x.shape[1] > SKY_LINEAR_I8_MAX_LEN - (sums ? 1 : 0)) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "more columns than an exact sum of i8 products allows", x, weight);
    }
    if (args->y.shape[0] != args->x.shape[0] || args->y.shape[1] != args->weight.shape[0]) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "want y [M, N] for x [M, K], weight [N, K]", y, x, weight);
    }
    for (int i = 0; i < 2; i++) {
        SKY_TRY(sky_check_disjoint(ctx, op, y, i == 0 ? x : weight));
    }
    if (sums) {
        SKY_TRY(check_bare_sums(args));
    } else {
        SKY_TRY(check_scales(ctx, args));
    }
    if (sky_tensor_len(&args->y) == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(linear_8bit, ctx, args);
}
