#include "ops/check.h"
#include "ops/dispatch.h"

sky_status sky_quantize_rows(sky_ctx *ctx, const sky_quantize_rows_args *args)
{
    static const char op[] = "quantize_rows";
    const sky_operand codes = SKY_OPERAND(args, codes);
    const sky_operand scale = SKY_OPERAND(args, scale);
    const sky_operand x = SKY_OPERAND(args, x);
    SKY_TRY(sky_check_tensor(ctx, op, codes, 2, SKY_E4M3_OR_I8));
    SKY_TRY(sky_check_tensor(ctx, op, x, 2, SKY_F32_OR_BF16));
    SKY_TRY(sky_check_same_shape(op, codes, x));
    SKY_TRY(sky_check_vector(ctx, op, scale, args->x.shape[0]));
    if (args->num_parts < 0 ||
        (args->num_parts > 1 && (args->num_heads < 1 || args->x.shape[1] % args->num_heads != 0))) {
        return sky_fail(SKY_ERR_SHAPE, "%s: %d parts of %lld heads of %lld columns", op, args->num_parts,
                        (long long)args->num_heads, (long long)args->x.shape[1]);
    }
    if (args->x.shape[1] == 0) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "no columns", x);
    }
    SKY_TRY(sky_check_disjoint(ctx, op, codes, x));
    SKY_TRY(sky_check_disjoint(ctx, op, codes, scale));
    SKY_TRY(sky_check_disjoint(ctx, op, scale, x));
    if (args->x.shape[0] == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(quantize_rows, ctx, args);
}
