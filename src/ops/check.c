#include "ops/check.h"

#include <stdio.h>

sky_status sky_check_fail(sky_status st, const char *op, const char *why, const sky_operand *operands, int count)
{
    char text[1024];
    char described[160];
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; i < count && used < sizeof text; i++) {
        used +=
            (size_t)snprintf(text + used, sizeof text - used, "%s%s %s%s", i == 0 ? "" : ", ", operands[i].name,
                             i == 0 ? "is " : "", sky_tensor_describe(operands[i].tensor, described, sizeof described));
    }
    return sky_fail(st, "%s: %s: %s", op, text, why);
}

sky_status sky_check_tensor(const sky_ctx *ctx, const char *op, sky_operand operand, int num_dims, unsigned dtypes)
{
    const sky_tensor *t = operand.tensor;
    if (t->num_dims < 0 || t->num_dims > SKY_MAX_DIMS) {
        return sky_fail(SKY_ERR_SHAPE, "%s: %s has %d dimensions", op, operand.name, t->num_dims);
    }
    if (num_dims != SKY_ANY_DIMS && t->num_dims != num_dims) {
        char why[64];
        snprintf(why, sizeof why, "want %d dimension%s", num_dims, num_dims == 1 ? "" : "s");
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, why, operand);
    }
    for (int i = 0; i < t->num_dims; i++) {
        if (t->shape[i] < 0) {
            return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "negative length", operand);
        }
    }
    if ((unsigned)t->dtype >= SKY_DTYPE_COUNT || (dtypes >> t->dtype & 1U) == 0) {
        char why[128];
        size_t used = (size_t)snprintf(why, sizeof why, "want");
        for (int d = 0; d < SKY_DTYPE_COUNT && used < sizeof why; d++) {
            if ((dtypes >> d & 1U) != 0) {
                used += (size_t)snprintf(why + used, sizeof why - used, "%s %s", used > 4 ? " or" : "",
                                         sky_dtype_name((sky_dtype)d));
            }
        }
        return SKY_CHECK_FAIL(SKY_ERR_DTYPE, op, why, operand);
    }
    if (t->data == NULL && !sky_ctx_planning(ctx) && sky_tensor_len(t) > 0) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "it has no memory behind it", operand);
    }
    return SKY_OK;
}

sky_status sky_check_same_shape(const char *op, sky_operand a, sky_operand b)
{
    return sky_tensor_same_shape(a.tensor, b.tensor) ? SKY_OK
                                                     : SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "shapes disagree", a, b);
}

sky_status sky_check_same_dtype(const char *op, sky_operand a, sky_operand b)
{
    return a.tensor->dtype == b.tensor->dtype ? SKY_OK : SKY_CHECK_FAIL(SKY_ERR_DTYPE, op, "types disagree", a, b);
}

static sky_status check_row(const sky_ctx *ctx, const char *op, sky_operand vector, int64_t len, unsigned dtypes)
{
    SKY_TRY(sky_check_tensor(ctx, op, vector, 1, dtypes));
    if (vector.tensor->shape[0] != len) {
        char why[64];
        snprintf(why, sizeof why, "want [%lld]", (long long)len);
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, why, vector);
    }
    return SKY_OK;
}

sky_status sky_check_vector(const sky_ctx *ctx, const char *op, sky_operand vector, int64_t len)
{
    return check_row(ctx, op, vector, len, SKY_ONLY_F32);
}

sky_status sky_check_bias(const sky_ctx *ctx, const char *op, sky_operand bias, int64_t len)
{
    return check_row(ctx, op, bias, len, SKY_F32_OR_BF16);
}

sky_status sky_check_linear_sums(const sky_ctx *ctx, const char *op, sky_operand y, sky_operand x,
                                 const sky_linear_sums *sums)
{
    const sky_operand parts[] = {
        {"x_scale", &sums->x_scale}, {"weight_scale", &sums->weight_scale}, {"bias", &sums->bias}};
    if (x.tensor->dtype != SKY_I32) {
        for (int i = 0; i < 3; i++) {
            if (sky_tensor_present(parts[i].tensor) || parts[i].tensor->num_dims != 0) {
                return SKY_CHECK_FAIL(SKY_ERR_DTYPE, op, "only i32 sums have scales", x, parts[i]);
            }
        }
        return SKY_OK;
    }
    SKY_TRY(sky_check_vector(ctx, op, parts[0], x.tensor->shape[0]));
    SKY_TRY(sky_check_vector(ctx, op, parts[1], x.tensor->shape[1]));
    if (sky_tensor_present(&sums->bias)) {
        SKY_TRY(sky_check_bias(ctx, op, parts[2], x.tensor->shape[1]));
    }
    for (int i = 0; i < 3; i++) {
        SKY_TRY(sky_check_disjoint(ctx, op, y, parts[i]));
    }
    return SKY_OK;
}

sky_status sky_check_row_codes(const sky_ctx *ctx, const char *op, sky_operand y, sky_operand y_scale,
                               const sky_operand *inputs, int num_inputs)
{
    if (y.tensor->dtype == SKY_F32 || y.tensor->dtype == SKY_BF16) {
        return !sky_tensor_present(y_scale.tensor) && y_scale.tensor->num_dims == 0
                   ? SKY_OK
                   : SKY_CHECK_FAIL(SKY_ERR_DTYPE, op, "only codes have scales", y, y_scale);
    }
    if (y.tensor->num_dims != 2 || y.tensor->shape[1] == 0) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "want rows to quantise", y);
    }
    SKY_TRY(sky_check_vector(ctx, op, y_scale, y.tensor->shape[0]));
    SKY_TRY(sky_check_disjoint(ctx, op, y, y_scale));
    for (int i = 0; i < num_inputs; i++) {
        SKY_TRY(sky_check_disjoint(ctx, op, y_scale, inputs[i]));
    }
    return SKY_OK;
}

sky_status sky_check_parts(const sky_ctx *ctx, const char *op, sky_operand parts, int64_t len, unsigned dtypes)
{
    const sky_tensor *t = parts.tensor;
    SKY_TRY(sky_check_tensor(ctx, op, parts, SKY_ANY_DIMS, dtypes));
    const bool vector = t->num_dims == 1 && t->shape[0] == len;
    const bool matrix = t->num_dims == 2 && t->shape[0] > 0 && t->shape[1] == len;
    if (!vector && !matrix) {
        char why[96];
        snprintf(why, sizeof why, "want [%lld] or [parts, %lld]", (long long)len, (long long)len);
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, why, parts);
    }
    return SKY_OK;
}

sky_status sky_check_groups(const char *op, sky_operand rows, sky_operand groups, int64_t first_row,
                            int64_t rows_per_group)
{
    const int64_t num_rows = rows.tensor->shape[0];
    if (rows.tensor->shape[1] != groups.tensor->shape[1]) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "columns disagree", rows, groups);
    }
    if (first_row < 0 || rows_per_group < 1 || first_row > INT64_MAX - num_rows) {
        return sky_fail(SKY_ERR_SHAPE, "%s: first_row is %lld, rows_per_group %lld: want at least 0 and 1", op,
                        (long long)first_row, (long long)rows_per_group);
    }
    if (num_rows > 0 && (first_row + num_rows - 1) / rows_per_group >= groups.tensor->shape[0]) {
        char why[128];
        snprintf(why, sizeof why, "not enough groups for first_row %lld and %lld rows per group", (long long)first_row,
                 (long long)rows_per_group);
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, why, rows, groups);
    }
    return SKY_OK;
}

sky_status sky_check_lse(const sky_ctx *ctx, const char *op, sky_operand lse, sky_operand y, const sky_operand *inputs,
                         int num_inputs)
{
    if (!sky_tensor_present(lse.tensor)) {
        return SKY_OK;
    }
    SKY_TRY(sky_check_tensor(ctx, op, lse, 2, SKY_ONLY_F32));
    if (lse.tensor->shape[0] != y.tensor->shape[0] || lse.tensor->shape[1] != y.tensor->shape[1] ||
        y.tensor->shape[2] == 0) {
        return SKY_CHECK_FAIL(SKY_ERR_SHAPE, op, "want lse [S, N] for y [S, N, D]", y, lse);
    }
    SKY_TRY(sky_check_disjoint(ctx, op, lse, y));
    for (int i = 0; i < num_inputs; i++) {
        SKY_TRY(sky_check_disjoint(ctx, op, lse, inputs[i]));
    }
    return SKY_OK;
}

sky_status sky_check_disjoint(const sky_ctx *ctx, const char *op, sky_operand y, sky_operand x)
{
    const size_t y_bytes = sky_tensor_bytes(y.tensor);
    const size_t x_bytes = sky_tensor_bytes(x.tensor);
    if (sky_ctx_planning(ctx) || y.tensor->data == NULL || x.tensor->data == NULL || y_bytes == 0 || x_bytes == 0) {
        return SKY_OK;
    }
    const uintptr_t y_begin = (uintptr_t)y.tensor->data;
    const uintptr_t x_begin = (uintptr_t)x.tensor->data;
    if (y_begin < x_begin + x_bytes && x_begin < y_begin + y_bytes) {
        return SKY_CHECK_FAIL(SKY_ERR_INTERNAL, op, "their memory overlaps", y, x);
    }
    return SKY_OK;
}

sky_status sky_check_in_place(const sky_ctx *ctx, const char *op, sky_operand y, sky_operand x)
{
    const bool same = y.tensor->data == x.tensor->data && y.tensor->dtype == x.tensor->dtype &&
                      sky_tensor_bytes(y.tensor) == sky_tensor_bytes(x.tensor);
    return same ? SKY_OK : sky_check_disjoint(ctx, op, y, x);
}
