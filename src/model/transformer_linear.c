/* Linear layers of the transformer: f32, bf16, or 8-bit codes with a scale per token and per output channel. */
#include "model/transformer_impl.h"
#include "ops/backend.h"
#include "parallel/partition.h"

static bool is_8bit(const sky_transformer *m)
{
    return m->arithmetic.linear != m->arithmetic.compute;
}

sky_status sky_transformer_alloc_input(sky_ctx *ctx, const sky_transformer *m, int64_t rows, int64_t cols,
                                       transformer_input *out)
{
    *out = (transformer_input){0};
    SKY_TRY(sky_ctx_tensor(ctx, &out->x, m->arithmetic.linear, 2, (int64_t[]){rows, cols}));
    return is_8bit(m) ? sky_ctx_tensor(ctx, &out->scale, SKY_F32, 1, &rows) : SKY_OK;
}

transformer_input sky_transformer_input_rows(const transformer_input *input, sky_span rows)
{
    transformer_input some = {.x = sky_tensor_rows(&input->x, rows.first, rows.count)};
    if (sky_tensor_present(&input->scale)) {
        some.scale = sky_tensor_rows(&input->scale, rows.first, rows.count);
    }
    return some;
}

sky_status sky_transformer_make_input(sky_ctx *ctx, const sky_tensor *x, int num_parts, int64_t num_heads,
                                      const transformer_input *memory, transformer_input *out)
{
    if (!sky_tensor_present(&memory->scale)) {
        *out = (transformer_input){.x = *x};
        return SKY_OK;
    }
    out->x = memory->x;
    SKY_TRY(sky_ctx_tensor(ctx, &out->scale, SKY_F32, 1, memory->scale.shape));
    return sky_quantize_rows(
        ctx, &(sky_quantize_rows_args){
                 .codes = out->x, .scale = out->scale, .x = *x, .num_parts = num_parts, .num_heads = num_heads});
}

sky_status sky_transformer_apply(sky_ctx *ctx, const transformer_linear *linear, const transformer_input *input,
                                 const sky_tensor *y)
{
    if (!sky_tensor_present(&linear->scale)) {
        return sky_linear(ctx,
                          &(sky_linear_args){.y = *y, .x = input->x, .weight = linear->weight, .bias = linear->bias});
    }
    return sky_linear_8bit(ctx, &(sky_linear_8bit_args){.y = *y,
                                                        .x = input->x,
                                                        .x_scale = input->scale,
                                                        .weight = linear->weight,
                                                        .weight_scale = linear->scale,
                                                        .bias = linear->bias});
}

/* ---- in pieces of rows, as sums ---- */

bool sky_transformer_leaves_sums(const sky_ctx *ctx, const sky_transformer *m)
{
    return m->arithmetic.linear == SKY_I8 && ctx->backend->linear_sums_rows > 0;
}

static int64_t piece_rows(const sky_ctx *ctx, const sky_transformer *m, int64_t rows)
{
    const int64_t most = sky_transformer_leaves_sums(ctx, m) ? ctx->backend->linear_sums_rows : rows;
    SKY_ASSERT(most == rows || most % SKY_TOKEN_GROUP == 0);
    return most < rows ? most : rows;
}

sky_span sky_transformer_first_piece(const sky_ctx *ctx, const sky_transformer *m, int64_t rows)
{
    return (sky_span){0, piece_rows(ctx, m, rows)};
}

sky_span sky_transformer_next_piece(sky_span piece, int64_t rows)
{
    const int64_t left = rows - sky_span_end(piece);
    return (sky_span){sky_span_end(piece), left < piece.count ? left : piece.count};
}

sky_status sky_transformer_alloc_output(sky_ctx *ctx, const sky_transformer *m, int64_t rows, int64_t cols,
                                        sky_tensor *memory)
{
    return sky_ctx_tensor(ctx, memory, sky_transformer_leaves_sums(ctx, m) ? SKY_I32 : m->arithmetic.compute, 2,
                          (int64_t[]){piece_rows(ctx, m, rows), cols});
}

sky_status sky_transformer_apply_piece(sky_ctx *ctx, const transformer_linear *linear, const transformer_input *input,
                                       sky_span piece, const sky_tensor *memory, transformer_output *out)
{
    const transformer_input rows = sky_transformer_input_rows(input, piece);
    *out = (transformer_output){.x = sky_tensor_rows(memory, 0, piece.count)};
    if (memory->dtype != SKY_I32) {
        return sky_transformer_apply(ctx, linear, &rows, &out->x);
    }
    out->sums = (sky_linear_sums){.x_scale = rows.scale, .weight_scale = linear->scale, .bias = linear->bias};
    return sky_linear_8bit(ctx, &(sky_linear_8bit_args){.y = out->x, .x = rows.x, .weight = linear->weight});
}
