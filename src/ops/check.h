/*
 * ops/check.h - what the argument checks of all ops share (private to src/ops)
 *
 * Messages name every tensor that takes part: "linear: x is [3, 5] f32, weight [7, 6] f32: columns disagree".
 */
#ifndef SKY_OPS_CHECK_H
#define SKY_OPS_CHECK_H

#include "ops/ctx.h"
#include "ops/linear_sums.h"

typedef struct sky_operand {
    const char *name;
    const sky_tensor *tensor;
} sky_operand;

#define SKY_OPERAND(args, field) ((sky_operand){#field, &(args)->field})

/* Sets of dtypes, one bit each. */
enum {
    SKY_ONLY_F32 = 1 << SKY_F32,
    SKY_ONLY_I32 = 1 << SKY_I32,
    SKY_ONLY_I64 = 1 << SKY_I64,
    SKY_ONLY_I8 = 1 << SKY_I8,
    SKY_ONLY_U8 = 1 << SKY_U8,
    SKY_ONLY_E4M3 = 1 << SKY_F8_E4M3,
    SKY_E4M3_OR_I8 = 1 << SKY_F8_E4M3 | 1 << SKY_I8,
    SKY_F32_OR_BF16 = 1 << SKY_F32 | 1 << SKY_BF16,
    SKY_LINEAR_INPUT = SKY_F32_OR_BF16 | SKY_E4M3_OR_I8,
    SKY_LINEAR_OUTPUT = SKY_F32_OR_BF16 | 1 << SKY_I32,
};

enum { SKY_ANY_DIMS = -1 };

/* Fails with st; why goes behind the descriptions of count operands. */
sky_status sky_check_fail(sky_status st, const char *op, const char *why, const sky_operand *operands, int count);
#define SKY_CHECK_FAIL(st, op, why, ...)                            \
    sky_check_fail(st, op, why, (const sky_operand[]){__VA_ARGS__}, \
                   (int)(sizeof((const sky_operand[]){__VA_ARGS__}) / sizeof(sky_operand)))

/*
 * A tensor of num_dims dimensions (or SKY_ANY_DIMS), none negative, its dtype in the set dtypes, and with memory unless it
 * is empty or ctx plans. Errors: SHAPE, DTYPE.
 */
sky_status sky_check_tensor(const sky_ctx *ctx, const char *op, sky_operand operand, int num_dims, unsigned dtypes);

/* Errors: SHAPE, DTYPE. */
sky_status sky_check_same_shape(const char *op, sky_operand a, sky_operand b);
sky_status sky_check_same_dtype(const char *op, sky_operand a, sky_operand b);

/* A vector [len] of f32. Errors: SHAPE, DTYPE. */
sky_status sky_check_vector(const sky_ctx *ctx, const char *op, sky_operand vector, int64_t len);

/* A bias [len] of f32 or bf16. Errors: SHAPE, DTYPE. */
sky_status sky_check_bias(const sky_ctx *ctx, const char *op, sky_operand bias, int64_t len);

/*
 * The output of a linear layer, x [rows, cols] in the set SKY_LINEAR_OUTPUT: with i32, and with nothing else, sums says how it
 * becomes numbers. y is apart from what sums holds. Errors: SHAPE, DTYPE, INTERNAL.
 */
sky_status sky_check_linear_sums(const sky_ctx *ctx, const char *op, sky_operand y, sky_operand x,
                                 const sky_linear_sums *sums);

/*
 * The input of a linear layer, y of the set SKY_LINEAR_INPUT: with codes [rows, cols], and with nothing else, y_scale [rows]
 * takes their scales, apart from y and the inputs. Errors: SHAPE, DTYPE, INTERNAL.
 */
sky_status sky_check_row_codes(const sky_ctx *ctx, const char *op, sky_operand y, sky_operand y_scale,
                               const sky_operand *inputs, int num_inputs);

/* A vector [len] or [parts, len], of at least one part. Errors: SHAPE, DTYPE. */
sky_status sky_check_parts(const sky_ctx *ctx, const char *op, sky_operand parts, int64_t len, unsigned dtypes);

/*
 * What attention may write beside y: lse absent, or [S, N] f32 for y [S, N, D], D not 0, apart from y and the inputs.
 * Errors: SHAPE, DTYPE, INTERNAL.
 */
sky_status sky_check_lse(const sky_ctx *ctx, const char *op, sky_operand lse, sky_operand y, const sky_operand *inputs,
                         int num_inputs);

/*
 * Row r of rows [rows, cols] belongs to group (first_row + r) / rows_per_group of groups [groups, cols].
 * Errors: SHAPE where cols disagree, rows_per_group is below 1, first_row is negative, or a group does not exist.
 */
sky_status sky_check_groups(const char *op, sky_operand rows, sky_operand groups, int64_t first_row,
                            int64_t rows_per_group);

/*
 * Nothing in common between y and x; or, in place, y the same memory with the same type. Not looked at when planning:
 * there, pointers into different arenas may be equal. Errors: INTERNAL.
 */
sky_status sky_check_disjoint(const sky_ctx *ctx, const char *op, sky_operand y, sky_operand x);
sky_status sky_check_in_place(const sky_ctx *ctx, const char *op, sky_operand y, sky_operand x);

#endif
