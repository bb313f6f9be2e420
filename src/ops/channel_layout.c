#include "ops/check.h"
#include "ops/dispatch.h"

/* first is [C, T, H, W]; last is [T, H, W, C], or has more channels where that is allowed. */
static sky_status check_layouts(const char *op, sky_operand first, sky_operand last, bool more_channels)
{
    const int64_t *a = first.tensor->shape;
    const int64_t *b = last.tensor->shape;
    if (a[1] != b[0] || a[2] != b[1] || a[3] != b[2]) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "frames, height or width disagree", first, last);
    }
    if (more_channels ? a[0] > b[3] : a[0] != b[3]) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "channels disagree", first, last);
    }
    return SKY_OK;
}

static sky_status check_scale_shift(const sky_ctx *ctx, const char *op, sky_operand y, sky_operand scale,
                                    sky_operand shift, int64_t num_channels)
{
    const bool present = sky_tensor_present(scale.tensor);
    if (present != sky_tensor_present(shift.tensor)) {
        return sky_fail(SKY_ERR_SHAPE, "%s: want both scale and shift, or neither", op);
    }
    if (present) {
        SKY_TRY(sky_check_vector(ctx, op, scale, num_channels));
        SKY_TRY(sky_check_vector(ctx, op, shift, num_channels));
        SKY_TRY(sky_check_disjoint(ctx, op, y, scale));
        SKY_TRY(sky_check_disjoint(ctx, op, y, shift));
    }
    return SKY_OK;
}

sky_status sky_to_channels_last(sky_ctx *ctx, const sky_to_channels_last_args *args)
{
    static const char op[] = "to_channels_last";
    const sky_operand y = SKY_OPERAND(args, y);
    const sky_operand x = SKY_OPERAND(args, x);
    SKY_TRY(sky_check_tensor(ctx, op, y, 4, SKY_F32_OR_BF16));
    SKY_TRY(sky_check_tensor(ctx, op, x, 4, SKY_F32_OR_BF16));
    SKY_TRY(check_layouts(op, x, y, false));
    SKY_TRY(check_scale_shift(ctx, op, y, SKY_OPERAND(args, scale), SKY_OPERAND(args, shift), args->x.shape[0]));
    SKY_TRY(sky_check_disjoint(ctx, op, y, x));
    if (sky_tensor_len(&args->y) == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(to_channels_last, ctx, args);
}

sky_status sky_to_channels_first(sky_ctx *ctx, const sky_to_channels_first_args *args)
{
    static const char op[] = "to_channels_first";
    const sky_operand y = SKY_OPERAND(args, y);
    const sky_operand x = SKY_OPERAND(args, x);
    SKY_TRY(sky_check_tensor(ctx, op, y, 4, SKY_F32_OR_BF16));
    SKY_TRY(sky_check_tensor(ctx, op, x, 4, SKY_F32_OR_BF16));
    SKY_TRY(check_layouts(op, y, x, true));
    SKY_TRY(check_scale_shift(ctx, op, y, SKY_OPERAND(args, scale), SKY_OPERAND(args, shift), args->y.shape[0]));
    SKY_TRY(sky_check_disjoint(ctx, op, y, x));
    if (sky_tensor_len(&args->y) == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(to_channels_first, ctx, args);
}
