#include "ops/check.h"
#include "ops/dispatch.h"

sky_status sky_dequantize_rows(sky_ctx *ctx, const sky_dequantize_rows_args *args)
{
    static const char op[] = "dequantize_rows";
    const sky_operand y = SKY_OPERAND(args, y);
    const sky_operand codes = SKY_OPERAND(args, codes);
    const sky_operand scale = SKY_OPERAND(args, scale);
    SKY_TRY(sky_check_tensor(ctx, op, y, 2, SKY_F32_OR_BF16));
    SKY_TRY(sky_check_tensor(ctx, op, codes, 2, SKY_E4M3_OR_I8));
    SKY_TRY(sky_check_same_shape(op, y, codes));
    SKY_TRY(sky_check_vector(ctx, op, scale, args->codes.shape[0]));
    SKY_TRY(sky_check_disjoint(ctx, op, y, codes));
    SKY_TRY(sky_check_disjoint(ctx, op, y, scale));
    if (sky_tensor_len(&args->y) == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(dequantize_rows, ctx, args);
}
