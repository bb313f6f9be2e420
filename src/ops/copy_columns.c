#include "ops/check.h"
#include "ops/dispatch.h"

#include <stdio.h>

enum { ANY_DTYPE = (1 << SKY_DTYPE_COUNT) - 1 };

static sky_status check_columns(const char *op, sky_operand matrix, const char *name, int64_t first,
                                int64_t num_columns)
{
    if (first < 0 || num_columns < 0 || first > matrix.tensor->shape[1] - num_columns) {
        char why[160];
        snprintf(why, sizeof why, "it has no %lld columns from %s %lld on", (long long)num_columns, name,
                 (long long)first);
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, why, matrix);
    }
    return SKY_OK;
}

sky_status sky_copy_columns(sky_ctx *ctx, const sky_copy_columns_args *args)
{
    static const char op[] = "copy_columns";
    const sky_operand y = SKY_OPERAND(args, y);
    const sky_operand x = SKY_OPERAND(args, x);
    SKY_TRY(sky_check_tensor(ctx, op, y, 2, ANY_DTYPE));
    SKY_TRY(sky_check_tensor(ctx, op, x, 2, ANY_DTYPE));
    SKY_TRY(sky_check_same_dtype(op, y, x));
    if (args->y.shape[0] != args->x.shape[0]) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "rows disagree", y, x);
    }
    SKY_TRY(check_columns(op, y, "y_first", args->y_first, args->num_columns));
    SKY_TRY(check_columns(op, x, "x_first", args->x_first, args->num_columns));
    SKY_TRY(sky_check_disjoint(ctx, op, y, x));
    if (args->y.shape[0] == 0 || args->num_columns == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(copy_columns, ctx, args);
}
