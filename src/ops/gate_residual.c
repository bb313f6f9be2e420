#include "ops/check.h"
#include "ops/dispatch.h"

sky_status sky_gate_residual(sky_ctx *ctx, const sky_gate_residual_args *args)
{
    static const char op[] = "gate_residual";
    const sky_operand x = SKY_OPERAND(args, x);
    const sky_operand y = SKY_OPERAND(args, y);
    const sky_operand gate = SKY_OPERAND(args, gate);
    SKY_TRY(sky_check_tensor(ctx, op, x, 2, SKY_ONLY_F32));
    SKY_TRY(sky_check_tensor(ctx, op, y, 2, SKY_F32_OR_BF16));
    SKY_TRY(sky_check_same_shape(op, x, y));
    SKY_TRY(sky_check_disjoint(ctx, op, x, y));
    if (sky_tensor_present(&args->gate)) {
        SKY_TRY(sky_check_tensor(ctx, op, gate, 2, SKY_ONLY_F32));
        SKY_TRY(sky_check_groups(op, x, gate, args->first_row, args->rows_per_group));
        SKY_TRY(sky_check_disjoint(ctx, op, x, gate));
    }
    if (sky_tensor_len(&args->x) == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(gate_residual, ctx, args);
}
