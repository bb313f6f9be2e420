#include "ops/check.h"
#include "ops/dispatch.h"

sky_status sky_timestep_embedding(sky_ctx *ctx, const sky_timestep_embedding_args *args)
{
    static const char op[] = "timestep_embedding";
    const sky_operand y = SKY_OPERAND(args, y);
    const sky_operand timesteps = SKY_OPERAND(args, timesteps);
    SKY_TRY(sky_check_tensor(ctx, op, y, 2, SKY_F32_OR_BF16));
    SKY_TRY(sky_check_vector(ctx, op, timesteps, args->y.shape[0]));
    SKY_TRY(sky_check_disjoint(ctx, op, y, timesteps));
    if (args->y.shape[1] == 0 || args->y.shape[1] % 2 != 0) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "want an even number of columns", y);
    }
    if (args->y.shape[0] == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(timestep_embedding, ctx, args);
}
