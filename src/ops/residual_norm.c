#include "ops/check.h"
#include "ops/dispatch.h"

static const char op[] = "residual_norm";

static sky_status check_group_vectors(const sky_ctx *ctx, const sky_residual_norm_args *args, sky_operand groups)
{
    SKY_TRY(sky_check_tensor(ctx, op, groups, 2, SKY_ONLY_F32));
    SKY_TRY(sky_check_groups(op, SKY_OPERAND(args, x), groups, args->first_row, args->rows_per_group));
    SKY_TRY(sky_check_disjoint(ctx, op, SKY_OPERAND(args, x), groups));
    return sky_check_disjoint(ctx, op, SKY_OPERAND(args, y), groups);
}

static sky_status check_vector(const sky_ctx *ctx, const sky_residual_norm_args *args, sky_operand vector)
{
    SKY_TRY(sky_check_vector(ctx, op, vector, args->x.shape[1]));
    SKY_TRY(sky_check_disjoint(ctx, op, SKY_OPERAND(args, x), vector));
    return sky_check_disjoint(ctx, op, SKY_OPERAND(args, y), vector);
}

static sky_status check_delta(const sky_ctx *ctx, const sky_residual_norm_args *args)
{
    const sky_operand x = SKY_OPERAND(args, x);
    const sky_operand delta = SKY_OPERAND(args, delta);
    SKY_TRY(sky_check_tensor(ctx, op, x, 2, SKY_ONLY_F32));
    SKY_TRY(sky_check_tensor(ctx, op, delta, 2, SKY_LINEAR_OUTPUT));
    SKY_TRY(sky_check_same_shape(op, x, delta));
    SKY_TRY(sky_check_disjoint(ctx, op, x, delta));
    SKY_TRY(sky_check_linear_sums(ctx, op, x, delta, &args->delta_sums));
    if ((unsigned)args->rounding > SKY_ROUND_X) {
        return sky_fail(SKY_ERR_UNSUPPORTED, "%s: unknown rounding %d", op, (int)args->rounding);
    }
    return sky_tensor_present(&args->gate) ? check_group_vectors(ctx, args, SKY_OPERAND(args, gate)) : SKY_OK;
}

static sky_status check_norm(const sky_ctx *ctx, const sky_residual_norm_args *args)
{
    const sky_operand x = SKY_OPERAND(args, x);
    const sky_operand y = SKY_OPERAND(args, y);
    const sky_operand delta = SKY_OPERAND(args, delta);
    const sky_operand inputs[] = {x,
                                  delta,
                                  SKY_OPERAND(args, gate),
                                  SKY_OPERAND(args, weight),
                                  SKY_OPERAND(args, bias),
                                  SKY_OPERAND(args, shift),
                                  SKY_OPERAND(args, scale),
                                  {"x_scale", &args->delta_sums.x_scale},
                                  {"weight_scale", &args->delta_sums.weight_scale},
                                  {"bias", &args->delta_sums.bias}};
    const bool modulated = sky_tensor_present(&args->shift) || sky_tensor_present(&args->scale);
    SKY_TRY(sky_check_tensor(ctx, op, y, 2, SKY_LINEAR_INPUT));
    SKY_TRY(sky_check_same_shape(op, y, x));
    if (args->x.shape[1] == 0) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "no columns to take a mean of", x);
    }
    SKY_TRY(sky_check_disjoint(ctx, op, y, x));
    SKY_TRY(sky_check_in_place(ctx, op, y, delta));
    SKY_TRY(sky_check_linear_sums(ctx, op, y, delta, &args->delta_sums));
    SKY_TRY(sky_check_row_codes(ctx, op, y, SKY_OPERAND(args, y_scale), inputs, (int)(sizeof inputs / sizeof *inputs)));
    if (!modulated) {
        SKY_TRY(check_vector(ctx, args, SKY_OPERAND(args, weight)));
        return check_vector(ctx, args, SKY_OPERAND(args, bias));
    }
    if (sky_tensor_present(&args->weight) || sky_tensor_present(&args->bias)) {
        return sky_fail(SKY_ERR_INTERNAL, "%s: weight and bias, or shift and scale, not both", op);
    }
    SKY_TRY(check_group_vectors(ctx, args, SKY_OPERAND(args, shift)));
    SKY_TRY(check_group_vectors(ctx, args, SKY_OPERAND(args, scale)));
    return sky_check_same_shape(op, SKY_OPERAND(args, shift), SKY_OPERAND(args, scale));
}

static sky_status check_no_norm(const sky_residual_norm_args *args)
{
    const sky_operand others[] = {SKY_OPERAND(args, y_scale), SKY_OPERAND(args, weight), SKY_OPERAND(args, bias),
                                  SKY_OPERAND(args, shift), SKY_OPERAND(args, scale)};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (sky_tensor_present(others[i].tensor)) {
            return SKY_CHECK_FAIL(SKY_ERR_INTERNAL, op, "there is no y that it is for", others[i]);
        }
    }
    if (args->rounding == SKY_ROUND_NORMED) {
        return sky_fail(SKY_ERR_INTERNAL, "%s: rounding for a norm, and no y", op);
    }
    return SKY_OK;
}

sky_status sky_residual_norm(sky_ctx *ctx, const sky_residual_norm_args *args)
{
    SKY_TRY(check_delta(ctx, args));
    if (sky_tensor_present(&args->y) || args->y.num_dims != 0) {
        SKY_TRY(check_norm(ctx, args));
    } else {
        SKY_TRY(check_no_norm(args));
    }
    if (sky_tensor_len(&args->x) == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(residual_norm, ctx, args);
}
