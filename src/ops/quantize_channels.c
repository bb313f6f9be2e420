#include "ops/check.h"
#include "ops/dispatch.h"

sky_status sky_quantize_channels(sky_ctx *ctx, const sky_quantize_channels_args *args)
{
    static const char op[] = "quantize_channels";
    const sky_operand codes = SKY_OPERAND(args, codes);
    const sky_operand scale = SKY_OPERAND(args, scale);
    const sky_operand x = SKY_OPERAND(args, x);
    const sky_operand mean = SKY_OPERAND(args, mean);
    const sky_operand range = SKY_OPERAND(args, range);
    const int64_t *tiles = args->codes.shape;
    SKY_TRY(sky_check_tensor(ctx, op, codes, 4, SKY_ONLY_E4M3));
    SKY_TRY(sky_check_tensor(ctx, op, x, 2, SKY_LINEAR_OUTPUT));
    if (tiles[0] != sky_num_v_tiles(args->x.shape[0]) || tiles[1] * tiles[2] != args->x.shape[1] ||
        tiles[3] != SKY_V_TILE_TOKENS) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "want codes [ceil(rows / 128), N, D, 128] for x [rows, N D]", codes,
                              x);
    }
    if (args->num_parts < 0) {
        return sky_fail(SKY_ERR_SHAPE, "%s: num_parts is %d: want at least 0", op, args->num_parts);
    }
    SKY_TRY(sky_check_vector(ctx, op, scale, args->x.shape[1]));
    SKY_TRY(sky_check_vector(ctx, op, mean, args->x.shape[1]));
    SKY_TRY(sky_check_parts(ctx, op, range, 2 * args->x.shape[1], SKY_ONLY_F32));
    SKY_TRY(sky_check_disjoint(ctx, op, codes, scale));
    SKY_TRY(sky_check_linear_sums(ctx, op, codes, x, &args->x_sums));
    SKY_TRY(sky_check_linear_sums(ctx, op, scale, x, &args->x_sums));
    const sky_operand inputs[] = {x, mean, range};
    for (int i = 0; i < 3; i++) {
        SKY_TRY(sky_check_disjoint(ctx, op, codes, inputs[i]));
        SKY_TRY(sky_check_disjoint(ctx, op, scale, inputs[i]));
    }
    if (args->scale.shape[0] == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(quantize_channels, ctx, args); /* for no rows too: there are scales to write */
}
