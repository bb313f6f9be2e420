#include "ops/check.h"
#include "ops/dispatch.h"

sky_status sky_hash_rows(sky_ctx *ctx, const sky_hash_rows_args *args)
{
    static const char op[] = "hash_rows";
    const sky_operand sums = SKY_OPERAND(args, sums);
    const sky_operand x = SKY_OPERAND(args, x);
    SKY_TRY(sky_check_tensor(ctx, op, sums, 1, SKY_ONLY_I64));
    SKY_TRY(sky_check_tensor(ctx, op, x, 2, (1U << SKY_DTYPE_COUNT) - 1));
    SKY_TRY(sky_check_disjoint(ctx, op, sums, x));
    if (args->rows_per_group < 1 || args->first_row < 0 || args->first_row % args->rows_per_group != 0) {
        return sky_fail(SKY_ERR_SHAPE, "%s: first_row is %lld, rows_per_group %lld: want a multiple of at least 1", op,
                        (long long)args->first_row, (long long)args->rows_per_group);
    }
    const int64_t rows = args->x.shape[0];
    if (args->sums.shape[0] != rows / args->rows_per_group + (rows % args->rows_per_group > 0 ? 1 : 0)) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "want an element for each group of rows", sums, x);
    }
    if (rows == 0) {
        return SKY_OK;
    }
    return SKY_DISPATCH(hash_rows, ctx, args);
}
