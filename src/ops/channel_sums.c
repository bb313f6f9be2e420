#include "ops/check.h"
#include "ops/dispatch.h"

sky_status sky_channel_sums(sky_ctx *ctx, const sky_channel_sums_args *args)
{
    static const char op[] = "channel_sums";
    const sky_operand sums = SKY_OPERAND(args, sums);
    const sky_operand x = SKY_OPERAND(args, x);
    SKY_TRY(sky_check_tensor(ctx, op, sums, 1, SKY_ONLY_I64));
    SKY_TRY(sky_check_tensor(ctx, op, x, 2, SKY_LINEAR_OUTPUT));
    if (args->sums.shape[0] != args->x.shape[1]) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "want sums [C] for x [rows, C]", sums, x);
    }
    SKY_TRY(sky_check_disjoint(ctx, op, sums, x));
    SKY_TRY(sky_check_linear_sums(ctx, op, sums, x, &args->x_sums));
    if (sky_tensor_present(&args->range)) {
        const sky_operand range = SKY_OPERAND(args, range);
        SKY_TRY(sky_check_vector(ctx, op, range, 2 * args->x.shape[1]));
        SKY_TRY(sky_check_disjoint(ctx, op, range, x));
        SKY_TRY(sky_check_linear_sums(ctx, op, range, x, &args->x_sums));
        SKY_TRY(sky_check_disjoint(ctx, op, range, sums));
    }
    if (args->num_tokens < 1 || args->num_tokens < args->x.shape[0]) {
        return sky_fail(SKY_ERR_SHAPE, "%s: num_tokens is %lld: want at least 1, and the %lld rows of x", op,
                        (long long)args->num_tokens, (long long)args->x.shape[0]);
    }
    if (args->sums.shape[0] == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(channel_sums, ctx, args); /* for no rows too: the sums are 0 */
}

sky_status sky_sums_to_mean(sky_ctx *ctx, const sky_sums_to_mean_args *args)
{
    static const char op[] = "sums_to_mean";
    const sky_operand mean = SKY_OPERAND(args, mean);
    const sky_operand sums = SKY_OPERAND(args, sums);
    SKY_TRY(sky_check_tensor(ctx, op, mean, 1, SKY_ONLY_F32));
    SKY_TRY(sky_check_parts(ctx, op, sums, args->mean.shape[0], SKY_ONLY_I64));
    SKY_TRY(sky_check_disjoint(ctx, op, mean, sums));
    if (args->num_tokens < 1) {
        return sky_fail(SKY_ERR_SHAPE, "%s: num_tokens is %lld: want at least 1", op, (long long)args->num_tokens);
    }
    if (args->mean.shape[0] == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(sums_to_mean, ctx, args);
}
