#include "ops/check.h"
#include "ops/dispatch.h"

/* Latents [C, F, H, W] that 1 x 2 x 2 patches divide, against rows [.., 4*C]. */
static sky_status check_patches(const char *op, sky_operand latents, sky_operand rows, int64_t *num_tokens)
{
    const int64_t *shape = latents.tensor->shape;
    if (shape[2] % 2 != 0 || shape[3] % 2 != 0) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "height and width must be even", latents);
    }
    if (rows.tensor->shape[1] != 4 * shape[0]) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "want 4 columns per channel", latents, rows);
    }
    *num_tokens = shape[1] * (shape[2] / 2) * (shape[3] / 2);
    return SKY_OK;
}

sky_status sky_patchify(sky_ctx *ctx, const sky_patchify_args *args)
{
    static const char op[] = "patchify";
    const sky_operand y = SKY_OPERAND(args, y);
    const sky_operand x = SKY_OPERAND(args, x);
    int64_t num_tokens = 0;
    SKY_TRY(sky_check_tensor(ctx, op, y, 2, SKY_F32_OR_BF16));
    SKY_TRY(sky_check_tensor(ctx, op, x, 4, SKY_ONLY_F32));
    SKY_TRY(check_patches(op, x, y, &num_tokens));
    if (args->first_token < 0 || args->first_token > num_tokens || args->y.shape[0] > num_tokens - args->first_token) {
        return sky_fail(SKY_ERR_SHAPE, "%s: %lld tokens from %lld on, but the latents have %lld", op,
                        (long long)args->y.shape[0], (long long)args->first_token, (long long)num_tokens);
    }
    SKY_TRY(sky_check_disjoint(ctx, op, y, x));
    if (sky_tensor_len(&args->y) == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(patchify, ctx, args);
}

sky_status sky_unpatchify(sky_ctx *ctx, const sky_unpatchify_args *args)
{
    static const char op[] = "unpatchify";
    const sky_operand y = SKY_OPERAND(args, y);
    const sky_operand x = SKY_OPERAND(args, x);
    int64_t num_tokens = 0;
    SKY_TRY(sky_check_tensor(ctx, op, y, 4, SKY_ONLY_F32));
    SKY_TRY(sky_check_tensor(ctx, op, x, 2, SKY_ONLY_F32));
    SKY_TRY(check_patches(op, y, x, &num_tokens));
    if (args->x.shape[0] != num_tokens) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "numbers of tokens disagree", y, x);
    }
    SKY_TRY(sky_check_disjoint(ctx, op, y, x));
    if (sky_tensor_len(&args->y) == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(unpatchify, ctx, args);
}
