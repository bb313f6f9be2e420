/* One block of the transformer: self-attention, cross-attention, feed-forward. Roundings: docs/model.md. */
#include "model/transformer_impl.h"
#include "ops/ops.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

enum { NAME_BYTES = 64 };

/* Rows of a block's modulation [6, dim]. */
enum { SHIFT_ATTN, SCALE_ATTN, GATE_ATTN, SHIFT_FFN, SCALE_FFN, GATE_FFN };

sky_status sky_transformer_see(sky_ctx *ctx, const transformer_pass *p, int64_t layer, const char *what,
                               const sky_tensor *value)
{
    char name[NAME_BYTES];
    if (layer != 0) {
        return SKY_OK;
    }
    snprintf(name, sizeof name, "block_0_%s", what);
    return sky_observe(p->args->observer, ctx, name, value);
}

sky_status sky_transformer_apply_in_pass(sky_ctx *ctx, const transformer_pass *p, const transformer_linear *linear,
                                         const transformer_input *input, const sky_tensor *y)
{
    return sky_transformer_apply_block(ctx, p->model, linear, &p->room, input, y);
}

static sky_status norm_modulate(sky_ctx *ctx, const transformer_pass *p, const sky_tensor *x, int shift, int scale,
                                const sky_tensor *y)
{
    return sky_layer_norm_modulate(ctx, &(sky_layer_norm_modulate_args){.y = *y,
                                                                        .x = *x,
                                                                        .shift = sky_tensor_rows(&p->m, shift, 1),
                                                                        .scale = sky_tensor_rows(&p->m, scale, 1),
                                                                        .first_row = p->tokens.first,
                                                                        .rows_per_group = p->sequence.num_tokens,
                                                                        .eps = p->model->dims.eps});
}

static sky_status add_gated(sky_ctx *ctx, const transformer_pass *p, const sky_tensor *y, int gate)
{
    return sky_gate_residual(ctx, &(sky_gate_residual_args){.x = p->x,
                                                            .y = *y,
                                                            .gate = sky_tensor_rows(&p->m, gate, 1),
                                                            .first_row = p->tokens.first,
                                                            .rows_per_group = p->sequence.num_tokens});
}

static sky_status self_attention(sky_ctx *ctx, const transformer_pass *p, int64_t layer)
{
    const transformer_block *b = &p->model->blocks[layer];
    transformer_input input;
    SKY_TRY(norm_modulate(ctx, p, &p->x_between, SHIFT_ATTN, SCALE_ATTN, &p->normed));
    SKY_TRY(sky_transformer_make_input(ctx, p->model, &p->room, &p->normed, &input));
    SKY_TRY(sky_transformer_attend(ctx, p, layer, &input));
    SKY_TRY(sky_transformer_see(ctx, p, layer, "attn", &p->attended));
    SKY_TRY(sky_transformer_make_input(ctx, p->model, &p->room, &p->attended, &input));
    SKY_TRY(sky_transformer_apply_in_pass(ctx, p, &b->o, &input, &p->delta));
    SKY_TRY(sky_transformer_see(ctx, p, layer, "self_attn_o", &p->delta));
    return add_gated(ctx, p, &p->delta, GATE_ATTN);
}

static sky_status cross_attention(sky_ctx *ctx, const transformer_pass *p, int64_t layer)
{
    const transformer_block *b = &p->model->blocks[layer];
    const int64_t rows[] = {SKY_TEXT_LEN, p->model->dims.dim};
    transformer_input input;
    sky_tensor k = sky_tensor_rows(&p->args->kv->k, layer, 1);
    sky_tensor v = sky_tensor_rows(&p->args->kv->v, layer, 1);
    k = sky_tensor_reshape(&k, 2, rows);
    v = sky_tensor_reshape(&v, 2, rows);
    /* norm3 sees the residual in the context's type: bf16 for text. */
    SKY_TRY(sky_convert(ctx, &(sky_convert_args){.y = p->delta, .x = p->x}));
    SKY_TRY(sky_layer_norm(ctx, &(sky_layer_norm_args){.y = p->normed,
                                                       .x = p->delta,
                                                       .weight = b->norm3_weight,
                                                       .bias = b->norm3_bias,
                                                       .eps = p->model->dims.eps}));
    SKY_TRY(sky_transformer_see(ctx, p, layer, "norm3", &p->normed));
    SKY_TRY(sky_transformer_make_input(ctx, p->model, &p->room, &p->normed, &input));
    SKY_TRY(sky_transformer_apply_in_pass(ctx, p, &b->cross_q, &input, &p->q));
    SKY_TRY(sky_rms_norm(
        ctx, &(sky_rms_norm_args){.y = p->q, .x = p->q, .weight = b->cross_norm_q, .eps = p->model->dims.eps}));
    SKY_TRY(sky_attention(ctx, &(sky_attention_args){.y = by_heads(p, &p->attended),
                                                     .q = by_heads(p, &p->q),
                                                     .k = by_heads(p, &k),
                                                     .v = by_heads(p, &v),
                                                     .softmax_scale = 1.0F / sqrtf((float)p->model->dims.head_dim)}));
    SKY_TRY(sky_transformer_make_input(ctx, p->model, &p->room, &p->attended, &input));
    SKY_TRY(sky_transformer_apply_in_pass(ctx, p, &b->cross_o, &input, &p->delta));
    SKY_TRY(sky_transformer_see(ctx, p, layer, "cross_attn_o", &p->delta));
    return sky_gate_residual(ctx, &(sky_gate_residual_args){.x = p->x, .y = p->delta});
}

static sky_status feed_forward(sky_ctx *ctx, const transformer_pass *p, int64_t layer)
{
    const transformer_block *b = &p->model->blocks[layer];
    const sky_dtype input_dtype = sky_transformer_input_dtype(p->model);
    const int64_t rows[] = {p->tokens.count, p->model->dims.ffn_dim};
    const size_t mark = sky_arena_mark(ctx->arena);
    transformer_input input;
    sky_tensor hidden;
    SKY_TRY(sky_ctx_tensor(ctx, &hidden, p->model->arithmetic.compute, 2, rows));
    sky_tensor activated = hidden;
    if (input_dtype != hidden.dtype) {
        SKY_TRY(sky_ctx_tensor(ctx, &activated, input_dtype, 2, rows));
    }
    SKY_TRY(norm_modulate(ctx, p, &p->x, SHIFT_FFN, SCALE_FFN, &p->normed));
    SKY_TRY(sky_transformer_make_input(ctx, p->model, &p->room, &p->normed, &input));
    SKY_TRY(sky_transformer_apply_in_pass(ctx, p, &b->ffn_0, &input, &hidden));
    SKY_TRY(sky_transformer_see(ctx, p, layer, "ffn_0", &hidden));
    SKY_TRY(sky_activation(ctx, &(sky_activation_args){.y = activated, .x = hidden, .kind = SKY_GELU_TANH}));
    SKY_TRY(sky_transformer_make_input(ctx, p->model, &p->room, &activated, &input));
    SKY_TRY(sky_transformer_apply_in_pass(ctx, p, &b->ffn_2, &input, &p->delta));
    SKY_TRY(sky_transformer_see(ctx, p, layer, "ffn_2", &p->delta));
    sky_arena_release(ctx->arena, mark);
    return add_gated(ctx, p, &p->delta, GATE_FFN);
}

sky_status sky_transformer_run_block(sky_ctx *ctx, const transformer_pass *p, int64_t layer)
{
    char name[NAME_BYTES];
    const bool separate = p->x_between.data != p->x.data;
    SKY_TRY(sky_add(ctx, &(sky_add_args){.y = p->m, .a = p->model->blocks[layer].modulation, .b = p->time6}));
    if (separate) {
        SKY_TRY(sky_convert(ctx, &(sky_convert_args){.y = p->x, .x = p->x_between}));
    }
    SKY_TRY(self_attention(ctx, p, layer));
    SKY_TRY(cross_attention(ctx, p, layer));
    SKY_TRY(feed_forward(ctx, p, layer));
    if (separate) {
        SKY_TRY(sky_convert(ctx, &(sky_convert_args){.y = p->x_between, .x = p->x}));
    }
    snprintf(name, sizeof name, "block_%" PRId64, layer);
    return sky_observe(p->args->observer, ctx, name, &p->x_between);
}
