#include "ops/check.h"
#include "ops/dispatch.h"

sky_status sky_rope(sky_ctx *ctx, const sky_rope_args *args)
{
    static const char op[] = "rope";
    const sky_operand y = SKY_OPERAND(args, y);
    const sky_operand x = SKY_OPERAND(args, x);
    const sky_operand freqs = SKY_OPERAND(args, freqs);
    SKY_TRY(sky_check_tensor(ctx, op, y, 3, SKY_F32_OR_BF16));
    SKY_TRY(sky_check_tensor(ctx, op, x, 3, SKY_F32_OR_BF16));
    SKY_TRY(sky_check_tensor(ctx, op, freqs, 3, SKY_ONLY_F32));
    SKY_TRY(sky_check_same_shape(op, y, x));
    if (args->freqs.shape[0] != args->x.shape[0] || args->freqs.shape[1] * 2 != args->x.shape[2] ||
        args->freqs.shape[2] != 2) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "want freqs [S, D/2, 2] for x [S, N, D]", x, freqs);
    }
    SKY_TRY(sky_check_in_place(ctx, op, y, x));
    SKY_TRY(sky_check_disjoint(ctx, op, y, freqs));
    if (sky_tensor_len(&args->y) == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(rope, ctx, args);
}
