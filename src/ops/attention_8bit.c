#include "ops/check.h"
#include "ops/dispatch.h"

#include <stdio.h>

/* One scale for each head and tokens_per_group tokens. */
static sky_status check_scale(const sky_ctx *ctx, const char *op, sky_operand scale, sky_operand codes,
                              int64_t tokens_per_group)
{
    const int64_t tokens = codes.tensor->shape[0];
    SKY_TRY(sky_check_tensor(ctx, op, scale, 2, SKY_ONLY_F32));
    if (scale.tensor->shape[0] != tokens / tokens_per_group + (tokens % tokens_per_group != 0) ||
        scale.tensor->shape[1] != codes.tensor->shape[1]) {
        char why[64];
        snprintf(why, sizeof why, "want scales [ceil(tokens / %lld), heads]", (long long)tokens_per_group);
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, why, scale, codes);
    }
    return SKY_OK;
}

sky_status sky_attention_8bit(sky_ctx *ctx, const sky_attention_8bit_args *args)
{
    static const char op[] = "attention_8bit";
    const sky_operand y = SKY_OPERAND(args, y);
    const sky_operand q = SKY_OPERAND(args, q);
    const sky_operand q_scale = SKY_OPERAND(args, q_scale);
    const sky_operand k = SKY_OPERAND(args, k);
    const sky_operand k_scale = SKY_OPERAND(args, k_scale);
    const sky_operand v = SKY_OPERAND(args, v);
    const sky_operand v_scale = SKY_OPERAND(args, v_scale);
    const sky_operand v_mean = SKY_OPERAND(args, v_mean);
    const sky_operand inputs[] = {q, q_scale, k, k_scale, v, v_scale, v_mean};
    const int num_inputs = sky_tensor_present(&args->v_mean) ? 7 : 6;
    SKY_TRY(sky_check_tensor(ctx, op, y, 3, SKY_F32_OR_BF16));
    SKY_TRY(sky_check_tensor(ctx, op, q, 3, SKY_ONLY_I8));
    SKY_TRY(sky_check_tensor(ctx, op, k, 3, SKY_ONLY_I8));
    SKY_TRY(sky_check_tensor(ctx, op, v, 4, SKY_ONLY_E4M3));
    SKY_TRY(sky_check_same_shape(op, y, q));
    if (args->q.shape[1] != args->k.shape[1] || args->q.shape[2] != args->k.shape[2]) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "heads or head dims disagree", q, k);
    }
    if (args->k.shape[0] == 0) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "no keys", k);
    }
    const int64_t *tiles = args->v.shape;
    if (tiles[0] != sky_num_v_tiles(args->k.shape[0]) || tiles[1] != args->k.shape[1] || tiles[2] != args->k.shape[2] ||
        tiles[3] != SKY_V_TILE_TOKENS) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "want v [ceil(Sk / 128), N, D, 128]", k, v);
    }
    SKY_TRY(check_scale(ctx, op, q_scale, q, SKY_Q_GROUP_TOKENS));
    SKY_TRY(check_scale(ctx, op, k_scale, k, SKY_K_GROUP_TOKENS));
    SKY_TRY(sky_check_tensor(ctx, op, v_scale, 2, SKY_ONLY_F32));
    if (args->v_scale.shape[0] != tiles[1] || args->v_scale.shape[1] != tiles[2]) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "want v_scale [N, D]", v_scale, v);
    }
    if (num_inputs == 7) {
        SKY_TRY(sky_check_tensor(ctx, op, v_mean, 2, SKY_ONLY_F32));
        SKY_TRY(sky_check_same_shape(op, v_mean, v_scale));
    }
    for (int i = 0; i < num_inputs; i++) {
        SKY_TRY(sky_check_disjoint(ctx, op, y, inputs[i]));
    }
    SKY_TRY(sky_check_lse(ctx, op, SKY_OPERAND(args, lse), y, inputs, num_inputs));
    if (sky_tensor_len(&args->y) == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(attention_8bit, ctx, args);
}
