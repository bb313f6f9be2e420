#include "ops/check.h"
#include "ops/dispatch.h"

/* What the three ops read; y is what each writes. */
static sky_status check_inputs(const sky_ctx *ctx, const char *op, sky_operand y, sky_operand x,
                               const sky_linear_sums *sums, sky_operand weight, sky_operand freqs)
{
    SKY_TRY(sky_check_tensor(ctx, op, x, 2, SKY_LINEAR_OUTPUT));
    SKY_TRY(sky_check_tensor(ctx, op, freqs, 3, SKY_ONLY_F32));
    SKY_TRY(sky_check_vector(ctx, op, weight, x.tensor->shape[1]));
    SKY_TRY(sky_check_linear_sums(ctx, op, y, x, sums));
    const int64_t head_dim = freqs.tensor->shape[1] * 2;
    if (freqs.tensor->shape[0] != x.tensor->shape[0] || freqs.tensor->shape[2] != 2) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "want freqs [S, D/2, 2] for x [S, N*D]", x, freqs);
    }
    if (head_dim == 0 || x.tensor->shape[1] % head_dim != 0) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "the head dim of freqs does not divide the columns of x", x, freqs);
    }
    SKY_TRY(sky_check_disjoint(ctx, op, y, weight));
    return sky_check_disjoint(ctx, op, y, freqs);
}

static sky_status check_num_parts(const char *op, int num_parts)
{
    return num_parts >= 0 ? SKY_OK : sky_fail(SKY_ERR_SHAPE, "%s: num_parts is %d: want at least 0", op, num_parts);
}

sky_status sky_qk_norm_rope(sky_ctx *ctx, const sky_qk_norm_rope_args *args)
{
    static const char op[] = "qk_norm_rope";
    const sky_operand y = SKY_OPERAND(args, y);
    const sky_operand x = SKY_OPERAND(args, x);
    SKY_TRY(sky_check_tensor(ctx, op, y, 2, SKY_F32_OR_BF16));
    SKY_TRY(check_inputs(ctx, op, y, x, &args->x_sums, SKY_OPERAND(args, weight), SKY_OPERAND(args, freqs)));
    SKY_TRY(sky_check_same_shape(op, y, x));
    SKY_TRY(check_num_parts(op, args->num_parts));
    SKY_TRY(args->num_parts > 1 ? sky_check_disjoint(ctx, op, y, x) : sky_check_in_place(ctx, op, y, x));
    if (sky_tensor_len(&args->y) == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(qk_norm_rope, ctx, args);
}

sky_status sky_qk_norm_rope_sums(sky_ctx *ctx, const sky_qk_norm_rope_sums_args *args)
{
    static const char op[] = "qk_norm_rope_sums";
    const sky_operand sums = SKY_OPERAND(args, sums);
    const sky_operand x = SKY_OPERAND(args, x);
    SKY_TRY(sky_check_tensor(ctx, op, sums, 1, SKY_ONLY_I64));
    SKY_TRY(check_inputs(ctx, op, sums, x, &args->x_sums, SKY_OPERAND(args, weight), SKY_OPERAND(args, freqs)));
    if (args->sums.shape[0] != args->x.shape[1]) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "want sums [N*D] for x [S, N*D]", sums, x);
    }
    SKY_TRY(sky_check_disjoint(ctx, op, sums, x));
    if (args->num_tokens < 1 || args->num_tokens < args->x.shape[0]) {
        return sky_fail(SKY_ERR_SHAPE, "%s: num_tokens is %lld: want at least 1, and the %lld rows of x", op,
                        (long long)args->num_tokens, (long long)args->x.shape[0]);
    }
    if (args->sums.shape[0] == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(qk_norm_rope_sums, ctx, args); /* for no rows too: the sums are 0 */
}

static sky_status check_mean(const sky_ctx *ctx, const char *op, const sky_qk_norm_rope_quantize_args *args,
                             int64_t num_heads)
{
    const sky_operand mean = SKY_OPERAND(args, mean);
    if (!sky_tensor_present(&args->mean)) {
        return SKY_OK;
    }
    SKY_TRY(sky_check_tensor(ctx, op, mean, 2, SKY_ONLY_F32));
    if (args->mean.shape[0] != num_heads || args->mean.shape[0] * args->mean.shape[1] != args->x.shape[1]) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "want mean [N, D]", mean, SKY_OPERAND(args, x));
    }
    SKY_TRY(sky_check_disjoint(ctx, op, SKY_OPERAND(args, codes), mean));
    return sky_check_disjoint(ctx, op, SKY_OPERAND(args, scale), mean);
}

sky_status sky_qk_norm_rope_quantize(sky_ctx *ctx, const sky_qk_norm_rope_quantize_args *args)
{
    static const char op[] = "qk_norm_rope_quantize";
    const sky_operand outputs[] = {SKY_OPERAND(args, codes), SKY_OPERAND(args, scale)};
    const sky_operand x = SKY_OPERAND(args, x);
    SKY_TRY(sky_check_tensor(ctx, op, outputs[0], 2, SKY_ONLY_I8));
    SKY_TRY(sky_check_tensor(ctx, op, outputs[1], 2, SKY_ONLY_F32));
    for (int i = 0; i < 2; i++) {
        SKY_TRY(
            check_inputs(ctx, op, outputs[i], x, &args->x_sums, SKY_OPERAND(args, weight), SKY_OPERAND(args, freqs)));
        SKY_TRY(sky_check_disjoint(ctx, op, outputs[i], x));
    }
    SKY_TRY(sky_check_disjoint(ctx, op, outputs[0], outputs[1]));
    SKY_TRY(sky_check_same_shape(op, outputs[0], x));
    SKY_TRY(check_num_parts(op, args->num_parts));
    if (args->tokens_per_group < 1) {
        return sky_fail(SKY_ERR_SHAPE, "%s: tokens_per_group is %lld: want at least 1", op,
                        (long long)args->tokens_per_group);
    }
    const int64_t *shape = args->x.shape;
    const int64_t num_groups = shape[0] / args->tokens_per_group + (shape[0] % args->tokens_per_group != 0);
    const int64_t num_heads = shape[1] / (args->freqs.shape[1] * 2);
    if (args->scale.shape[0] != num_groups || args->scale.shape[1] != num_heads) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "want scale [ceil(S / tokens_per_group), N]", outputs[1], x);
    }
    SKY_TRY(check_mean(ctx, op, args, num_heads));
    if (sky_tensor_len(&args->x) == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(qk_norm_rope_quantize, ctx, args);
}
