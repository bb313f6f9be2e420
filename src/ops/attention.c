#include "ops/check.h"
#include "ops/dispatch.h"

sky_status sky_attention(sky_ctx *ctx, const sky_attention_args *args)
{
    static const char op[] = "attention";
    const sky_operand y = SKY_OPERAND(args, y);
    const sky_operand q = SKY_OPERAND(args, q);
    const sky_operand k = SKY_OPERAND(args, k);
    const sky_operand v = SKY_OPERAND(args, v);
    const sky_operand rel_bias = SKY_OPERAND(args, rel_bias);
    const sky_operand lse = SKY_OPERAND(args, lse);
    const sky_operand inputs[] = {q, k, v};
    SKY_TRY(sky_check_tensor(ctx, op, y, 3, SKY_F32_OR_BF16));
    for (int i = 0; i < 3; i++) {
        SKY_TRY(sky_check_tensor(ctx, op, inputs[i], 3, SKY_F32_OR_BF16));
        SKY_TRY(sky_check_same_dtype(op, q, inputs[i]));
        SKY_TRY(sky_check_disjoint(ctx, op, y, inputs[i]));
    }
    if (args->y.dtype != SKY_F32) {
        SKY_TRY(sky_check_same_dtype(op, y, q));
    }
    SKY_TRY(sky_check_same_shape(op, y, q));
    SKY_TRY(sky_check_same_shape(op, k, v));
    if (args->q.shape[1] != args->k.shape[1] || args->q.shape[2] != args->k.shape[2]) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "heads or head dims disagree", q, k);
    }
    if (args->k.shape[0] == 0) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "no keys", k);
    }
    if (sky_tensor_present(&args->rel_bias)) {
        SKY_TRY(sky_check_tensor(ctx, op, rel_bias, 2, SKY_ONLY_F32));
        if (args->rel_bias.shape[0] != args->q.shape[1] ||
            args->rel_bias.shape[1] != args->q.shape[0] + args->k.shape[0] - 1) {
            return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "want rel_bias [N, Sq + Sk - 1]", q, k, rel_bias);
        }
        SKY_TRY(sky_check_disjoint(ctx, op, y, rel_bias));
        if (sky_tensor_present(&args->lse)) {
            return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "want one of them at most", rel_bias, lse);
        }
    }
    SKY_TRY(sky_check_lse(ctx, op, lse, y, inputs, 3));
    if (sky_tensor_len(&args->y) == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(attention, ctx, args);
}
