/* Linear layers of the transformer: f32, bf16, or 8-bit codes with a scale per token and per output channel. */
#include "model/transformer_impl.h"
#include "ops/ops.h"

sky_status sky_transformer_apply(sky_ctx *ctx, const transformer_linear *linear, const sky_tensor *x,
                                 const sky_tensor *y)
{
    return sky_linear(ctx, &(sky_linear_args){.y = *y, .x = *x, .weight = linear->weight, .bias = linear->bias});
}

static bool is_8bit(const sky_transformer *m)
{
    return m->arithmetic.linear != m->arithmetic.compute;
}

sky_dtype sky_transformer_input_dtype(const sky_transformer *m)
{
    return is_8bit(m) ? SKY_F32 : m->arithmetic.compute;
}

sky_status sky_transformer_alloc_room(sky_ctx *ctx, const sky_transformer *m, int64_t rows, int64_t max_cols,
                                      transformer_room *room)
{
    if (!is_8bit(m)) {
        return SKY_OK;
    }
    const sky_arithmetic *a = &m->arithmetic;
    SKY_TRY(sky_ctx_tensor(ctx, &room->codes, a->linear, 2, (int64_t[]){rows, max_cols}));
    if (a->plain_parts != 0 || a->plain_first_blocks > 0 || a->plain_last_blocks > 0) {
        SKY_TRY(sky_ctx_tensor(ctx, &room->plain, a->compute, 2, (int64_t[]){rows, max_cols}));
    }
    return sky_ctx_tensor(ctx, &room->scale, SKY_F32, 1, (int64_t[]){rows});
}

sky_status sky_transformer_make_input(sky_ctx *ctx, const sky_transformer *m, const transformer_room *room,
                                      const sky_tensor *x, transformer_input *out)
{
    *out = (transformer_input){.x = *x, .source = *x};
    if (!is_8bit(m)) {
        return SKY_OK;
    }
    out->x = SKY_TENSOR(room->codes.data, m->arithmetic.linear, x->shape[0], x->shape[1]);
    out->scale = room->scale;
    return sky_quantize_rows(ctx, &(sky_quantize_rows_args){.codes = out->x, .scale = out->scale, .x = *x});
}

sky_status sky_transformer_apply_block(sky_ctx *ctx, const sky_transformer *m, const transformer_linear *linear,
                                       const transformer_room *room, const transformer_input *input,
                                       const sky_tensor *y)
{
    if (sky_tensor_present(&linear->scale)) {
        return sky_linear_8bit(ctx, &(sky_linear_8bit_args){.y = *y,
                                                            .x = input->x,
                                                            .x_scale = input->scale,
                                                            .weight = linear->weight,
                                                            .weight_scale = linear->scale,
                                                            .bias = linear->bias});
    }
    if (!is_8bit(m)) {
        return sky_transformer_apply(ctx, linear, &input->x, y);
    }
    const sky_tensor *source = &input->source;
    const sky_tensor plain = SKY_TENSOR(room->plain.data, m->arithmetic.compute, source->shape[0], source->shape[1]);
    SKY_TRY(sky_convert(ctx, &(sky_convert_args){.y = plain, .x = *source}));
    return sky_transformer_apply(ctx, linear, &plain, y);
}
