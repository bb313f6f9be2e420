#include "ops/check.h"
#include "ops/dispatch.h"

sky_status sky_quantize_heads(sky_ctx *ctx, const sky_quantize_heads_args *args)
{
    static const char op[] = "quantize_heads";
    const sky_operand codes = SKY_OPERAND(args, codes);
    const sky_operand scale = SKY_OPERAND(args, scale);
    const sky_operand x = SKY_OPERAND(args, x);
    const sky_operand mean = SKY_OPERAND(args, mean);
    const int64_t *shape = args->x.shape;
    SKY_TRY(sky_check_tensor(ctx, op, codes, 3, SKY_ONLY_I8));
    SKY_TRY(sky_check_tensor(ctx, op, scale, 2, SKY_ONLY_F32));
    SKY_TRY(sky_check_tensor(ctx, op, x, 3, SKY_F32_OR_BF16));
    SKY_TRY(sky_check_same_shape(op, codes, x));
    if (shape[2] == 0) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "heads without channels", x);
    }
    if (args->tokens_per_group < 1) {
        return sky_fail(SKY_ERR_SHAPE, "%s: tokens_per_group is %lld: want at least 1", op,
                        (long long)args->tokens_per_group);
    }
    if (args->num_parts < 0) {
        return sky_fail(SKY_ERR_SHAPE, "%s: num_parts is %d: want at least 0", op, args->num_parts);
    }
    const int64_t num_groups = shape[0] / args->tokens_per_group + (shape[0] % args->tokens_per_group != 0);
    if (args->scale.shape[0] != num_groups || args->scale.shape[1] != shape[1]) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "want scale [ceil(S / tokens_per_group), N]", scale, x);
    }
    SKY_TRY(sky_check_disjoint(ctx, op, codes, x));
    SKY_TRY(sky_check_disjoint(ctx, op, codes, scale));
    SKY_TRY(sky_check_disjoint(ctx, op, scale, x));
    if (sky_tensor_present(&args->mean)) {
        SKY_TRY(sky_check_tensor(ctx, op, mean, 2, SKY_ONLY_F32));
        if (args->mean.shape[0] != shape[1] || args->mean.shape[1] != shape[2]) {
            return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "want mean [N, D]", mean, x);
        }
        SKY_TRY(sky_check_disjoint(ctx, op, codes, mean));
        SKY_TRY(sky_check_disjoint(ctx, op, scale, mean));
    }
    if (sky_tensor_len(&args->x) == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(quantize_heads, ctx, args);
}
