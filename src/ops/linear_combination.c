#include "ops/check.h"
#include "ops/dispatch.h"

#include <stdio.h>

sky_status sky_linear_combination(sky_ctx *ctx, const sky_linear_combination_args *args)
{
    static const char op[] = "linear_combination";
    const sky_operand y = SKY_OPERAND(args, y);
    if (args->num_terms < 1 || args->num_terms > SKY_MAX_TERMS) {
        return sky_fail(SKY_ERR_UNSUPPORTED, "%s: %d terms, want 1 to %d", op, args->num_terms, (int)SKY_MAX_TERMS);
    }
    SKY_TRY(sky_check_tensor(ctx, op, y, SKY_ANY_DIMS, SKY_ONLY_F32));
    for (int i = 0; i < args->num_terms; i++) {
        char name[16];
        snprintf(name, sizeof name, "x[%d]", i);
        const sky_operand x = {name, &args->x[i]};
        SKY_TRY(sky_check_tensor(ctx, op, x, SKY_ANY_DIMS, SKY_ONLY_F32));
        SKY_TRY(sky_check_same_shape(op, y, x));
        SKY_TRY(sky_check_in_place(ctx, op, y, x));
    }
    if (sky_tensor_len(&args->y) == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(linear_combination, ctx, args);
}
