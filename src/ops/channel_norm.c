#include "ops/check.h"
#include "ops/dispatch.h"

#include <inttypes.h>
#include <stdio.h>

/* Shapes alike, or y [T, Hy, W, C] with x's rows among its own. */
static sky_status check_shapes(const char *op, const sky_channel_norm_args *a)
{
    const sky_operand y = SKY_OPERAND(a, y);
    const sky_operand x = SKY_OPERAND(a, x);
    if (a->y_first_row == 0 && sky_tensor_same_shape(&a->y, &a->x)) {
        return SKY_OK;
    }
    const int64_t *to = a->y.shape;
    const int64_t *from = a->x.shape;
    if (a->y.num_dims != 4 || a->x.num_dims != 4 || to[0] != from[0] || to[2] != from[2] || to[3] != from[3]) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "want shapes alike, but for more rows of y [T, H, W, C]", y, x);
    }
    if (a->y_first_row < 0 || a->y_first_row > to[1] - from[1]) {
        char why[96];
        snprintf(why, sizeof why, "y has no %" PRId64 " rows from y_first_row %" PRId64 " on", from[1], a->y_first_row);
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, why, y, x);
    }
    return SKY_OK;
}

sky_status sky_channel_norm(sky_ctx *ctx, const sky_channel_norm_args *args)
{
    static const char op[] = "channel_norm";
    const sky_operand y = SKY_OPERAND(args, y);
    const sky_operand x = SKY_OPERAND(args, x);
    const sky_operand gamma = SKY_OPERAND(args, gamma);
    SKY_TRY(sky_check_tensor(ctx, op, y, SKY_ANY_DIMS, SKY_F32_OR_BF16));
    SKY_TRY(sky_check_tensor(ctx, op, x, SKY_ANY_DIMS, SKY_F32_OR_BF16));
    SKY_TRY(sky_check_same_dtype(op, y, x));
    SKY_TRY(check_shapes(op, args));
    if (args->x.num_dims == 0) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "want channels as the last dimension", x);
    }
    SKY_TRY(sky_check_vector(ctx, op, gamma, args->x.shape[args->x.num_dims - 1]));
    SKY_TRY(sky_check_in_place(ctx, op, y, x));
    SKY_TRY(sky_check_disjoint(ctx, op, y, gamma));
    if (sky_tensor_len(&args->x) == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(channel_norm, ctx, args);
}
