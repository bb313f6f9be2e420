#include "ops/check.h"
#include "ops/dispatch.h"

sky_status sky_convert(sky_ctx *ctx, const sky_convert_args *args)
{
    static const char op[] = "convert";
    const sky_operand y = SKY_OPERAND(args, y);
    const sky_operand x = SKY_OPERAND(args, x);
    SKY_TRY(sky_check_tensor(ctx, op, y, SKY_ANY_DIMS, SKY_F32_OR_BF16));
    SKY_TRY(sky_check_tensor(ctx, op, x, SKY_ANY_DIMS, SKY_F32_OR_BF16));
    SKY_TRY(sky_check_same_shape(op, y, x));
    SKY_TRY(sky_check_in_place(ctx, op, y, x));
    if (sky_tensor_present(&args->shift)) {
        const sky_operand shift = SKY_OPERAND(args, shift);
        const int last = args->x.num_dims - 1;
        if (last < 0) {
            return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "a shift wants rows", x, shift);
        }
        SKY_TRY(sky_check_vector(ctx, op, shift, args->x.shape[last]));
        SKY_TRY(sky_check_disjoint(ctx, op, y, shift));
    }
    if (sky_tensor_len(&args->y) == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(convert, ctx, args);
}
