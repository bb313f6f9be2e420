#include "ops/check.h"
#include "ops/dispatch.h"

sky_status sky_qk_norm_rope(sky_ctx *ctx, const sky_qk_norm_rope_args *args)
{
    static const char op[] = "qk_norm_rope";
    const sky_operand y = SKY_OPERAND(args, y);
    const sky_operand x = SKY_OPERAND(args, x);
    const sky_operand weight = SKY_OPERAND(args, weight);
    const sky_operand freqs = SKY_OPERAND(args, freqs);
    SKY_TRY(sky_check_tensor(ctx, op, y, 2, SKY_F32_OR_BF16));
    SKY_TRY(sky_check_tensor(ctx, op, x, 2, SKY_F32_OR_BF16));
    SKY_TRY(sky_check_tensor(ctx, op, freqs, 3, SKY_ONLY_F32));
    SKY_TRY(sky_check_same_shape(op, y, x));
    SKY_TRY(sky_check_vector(ctx, op, weight, args->x.shape[1]));
    const int64_t head_dim = args->freqs.shape[1] * 2;
    if (args->freqs.shape[0] != args->x.shape[0] || args->freqs.shape[2] != 2) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "want freqs [S, D/2, 2] for x [S, N*D]", x, freqs);
    }
    if (head_dim == 0 || args->x.shape[1] % head_dim != 0) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "the head dim of freqs does not divide the columns of x", x, freqs);
    }
    SKY_TRY(sky_check_in_place(ctx, op, y, x));
    SKY_TRY(sky_check_disjoint(ctx, op, y, weight));
    SKY_TRY(sky_check_disjoint(ctx, op, y, freqs));
    if (sky_tensor_len(&args->y) == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(qk_norm_rope, ctx, args);
}
