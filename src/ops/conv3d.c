#include "ops/check.h"
#include "ops/dispatch.h"

#include <inttypes.h>
#include <stdio.h>

/* Places where a kernel of len fits into `padded` inputs; 0 where it does not. */
static int64_t num_outputs(int64_t padded, int64_t len, int64_t stride)
{
    return padded < len ? 0 : (padded - len) / stride + 1;
}

static sky_status check_shapes(const sky_conv3d_args *a)
{
    static const char op[] = "conv3d";
    const sky_operand y = SKY_OPERAND(a, y);
    const sky_operand x = SKY_OPERAND(a, x);
    const sky_operand weight = SKY_OPERAND(a, weight);
    if (a->weight.shape[4] != a->x.shape[3]) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "channels disagree (weight is [O, kT, kH, kW, C])", x, weight);
    }
    if (a->stride_t < 1 || a->stride_hw < 1) {
        return sky_fail(SKY_ERR_SHAPE, "%s: stride_t is %d, stride_hw %d: want at least 1", op, a->stride_t,
                        a->stride_hw);
    }
    if (a->pad_top < 0 || a->pad_bottom < 0 || a->pad_left < 0 || a->pad_right < 0) {
        return sky_fail(SKY_ERR_SHAPE, "%s: padding is %d, %d, %d, %d: want none negative", op, a->pad_top,
                        a->pad_bottom, a->pad_left, a->pad_right);
    }
    for (int i = 1; i < 4; i++) {
        if (a->weight.shape[i] < 1) {
            return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "the kernel is empty", weight);
        }
    }
    const int64_t want[] = {
        num_outputs(a->x.shape[0], a->weight.shape[1], a->stride_t),
        num_outputs(a->x.shape[1] + a->pad_top + a->pad_bottom, a->weight.shape[2], a->stride_hw),
        num_outputs(a->x.shape[2] + a->pad_left + a->pad_right, a->weight.shape[3], a->stride_hw),
        a->weight.shape[0],
    };
    if (want[0] == 0 || want[1] == 0 || want[2] == 0) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "the kernel is larger than the padded input", x, weight);
    }
    for (int i = 0; i < 4; i++) {
        if (a->y.shape[i] != want[i]) {
            char why[128];
            snprintf(why, sizeof why, "want y [%" PRId64 ", %" PRId64 ", %" PRId64 ", %" PRId64 "]", want[0], want[1],
                     want[2], want[3]);
            return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, why, y, x, weight);
        }
    }
    return SKY_OK;
}

sky_status sky_conv3d(sky_ctx *ctx, const sky_conv3d_args *args)
{
    static const char op[] = "conv3d";
    const sky_operand y = SKY_OPERAND(args, y);
    const sky_operand x = SKY_OPERAND(args, x);
    const sky_operand weight = SKY_OPERAND(args, weight);
    const sky_operand bias = SKY_OPERAND(args, bias);
    SKY_TRY(sky_check_tensor(ctx, op, y, 4, SKY_F32_OR_BF16));
    SKY_TRY(sky_check_tensor(ctx, op, x, 4, SKY_F32_OR_BF16));
    SKY_TRY(sky_check_tensor(ctx, op, weight, 5, SKY_F32_OR_BF16));
    SKY_TRY(sky_check_bias(ctx, op, bias, args->weight.shape[0]));
    SKY_TRY(sky_check_same_dtype(op, y, x));
    SKY_TRY(sky_check_same_dtype(op, y, weight));
    SKY_TRY(sky_check_same_dtype(op, y, bias));
    SKY_TRY(check_shapes(args));
    SKY_TRY(sky_check_disjoint(ctx, op, y, x));
    SKY_TRY(sky_check_disjoint(ctx, op, y, weight));
    SKY_TRY(sky_check_disjoint(ctx, op, y, bias));
    if (sky_tensor_len(&args->y) == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(conv3d, ctx, args);
}
