/*
 * One block of the transformer: self-attention, cross-attention, feed-forward. Each sub-layer reads p->input, which the one
 * before has written while it added its own output to the residual stream. Roundings: docs/model.md.
 */
#include "model/transformer_impl.h"
#include "ops/ops.h"

#include <math.h>

/* Rows of a block's modulation [6, dim]. */
enum { SHIFT_ATTN, SCALE_ATTN, GATE_ATTN, SHIFT_FFN, SCALE_FFN, GATE_FFN };

static sky_tensor modulation(const transformer_pass *p, int64_t layer, int row)
{
    return sky_tensor_rows(&p->modulation, NUM_MODULATIONS * layer + row, 1);
}

sky_status sky_transformer_begin_blocks(sky_ctx *ctx, const transformer_pass *p)
{
    return sky_layer_norm_modulate(ctx, &(sky_layer_norm_modulate_args){.y = p->input.x,
                                                                        .y_scale = p->input.scale,
                                                                        .x = p->x,
                                                                        .shift = modulation(p, 0, SHIFT_ATTN),
                                                                        .scale = modulation(p, 0, SCALE_ATTN),
                                                                        .first_row = p->tokens.first,
                                                                        .rows_per_group = p->sequence.num_tokens,
                                                                        .eps = p->model->dims.eps});
}

/*
 * The end of a sub-layer: its last linear layer, whose output enters the residual stream, and p->input of the next one.
 * `then` says how (gate, rounding, norm; without a norm there is no input); `what` is the output's name for observers.
 */
static sky_status end_sublayer(sky_ctx *ctx, const transformer_pass *p, int64_t layer, const char *what,
                               const transformer_linear *linear, const transformer_input *input,
                               const sky_residual_norm_args *then)
{
    const int64_t rows = p->tokens.count;
    const size_t mark = sky_arena_mark(ctx->arena);
    sky_tensor memory;
    SKY_TRY(sky_transformer_alloc_output(ctx, p->model, rows, p->model->dims.dim, &memory));
    for (sky_span piece = sky_transformer_first_piece(ctx, p->model, rows); piece.count > 0;
         piece = sky_transformer_next_piece(piece, rows)) {
        transformer_output out;
        sky_residual_norm_args args = *then;
        SKY_TRY(sky_transformer_apply_piece(ctx, linear, input, piece, &memory, &out));
        SKY_TRY(sky_transformer_see(ctx, p, layer, what, &out.x));
        args.x = sky_tensor_rows(&p->x, piece.first, piece.count);
        args.delta = out.x;
        args.delta_sums = out.sums;
        if (sky_tensor_present(&then->weight) || sky_tensor_present(&then->shift)) {
            const transformer_input next = sky_transformer_input_rows(&p->input, piece);
            args.y = next.x;
            args.y_scale = next.scale;
        }
        args.first_row = p->tokens.first + piece.first;
        args.rows_per_group = p->sequence.num_tokens;
        args.eps = p->model->dims.eps;
        SKY_TRY(sky_residual_norm(ctx, &args));
    }
    sky_arena_release(ctx->arena, mark);
    return SKY_OK;
}

/* x in the compute type, as its rounding asks for: in f32 there is none. */
static sky_residual_rounding rounding(const transformer_pass *p, sky_residual_rounding in_bf16)
{
    return p->model->arithmetic.compute == SKY_F32 ? SKY_ROUND_NOTHING : in_bf16;
}

static sky_status alloc_rows(sky_ctx *ctx, const transformer_pass *p, sky_tensor *out)
{
    return sky_ctx_tensor(ctx, out, p->model->arithmetic.compute, 2, (int64_t[]){p->tokens.count, p->model->dims.dim});
}

static sky_status self_attention(sky_ctx *ctx, transformer_pass *p, int64_t layer)
{
    const transformer_block *b = &p->model->blocks[layer];
    const size_t mark = sky_arena_mark(ctx->arena);
    SKY_TRY(alloc_rows(ctx, p, &p->attended));
    const size_t operands = sky_arena_mark(ctx->arena);
    SKY_TRY(alloc_rows(ctx, p, &p->q));
    SKY_TRY(sky_transformer_attend(ctx, p, layer, &p->input));
    sky_arena_release(ctx->arena, operands);
    SKY_TRY(sky_transformer_see(ctx, p, layer, "attn", &p->attended));

    transformer_input attended;
    SKY_TRY(sky_transformer_make_input(ctx, &p->attended, sky_transformer_attended_parts(p), p->model->dims.num_heads,
                                       &p->input, &attended));
    /* norm3 sees the residual in the context's type: bf16 for text. */
    SKY_TRY(end_sublayer(ctx, p, layer, "self_attn_o", &b->o, &attended,
                         &(sky_residual_norm_args){.gate = modulation(p, layer, GATE_ATTN),
                                                   .rounding = rounding(p, SKY_ROUND_NORMED),
                                                   .weight = b->norm3_weight,
                                                   .bias = b->norm3_bias}));
    sky_arena_release(ctx->arena, mark);
    return sky_transformer_see(ctx, p, layer, "norm3", &p->input.x);
}

/* p->q: the queries for the text. */
static sky_status make_cross_queries(sky_ctx *ctx, const transformer_pass *p, const transformer_block *b)
{
    const int64_t rows = p->tokens.count;
    const size_t mark = sky_arena_mark(ctx->arena);
    sky_tensor memory;
    SKY_TRY(sky_transformer_alloc_output(ctx, p->model, rows, p->model->dims.dim, &memory));
    for (sky_span piece = sky_transformer_first_piece(ctx, p->model, rows); piece.count > 0;
         piece = sky_transformer_next_piece(piece, rows)) {
        transformer_output out;
        SKY_TRY(sky_transformer_apply_piece(ctx, &b->cross_q, &p->input, piece, &memory, &out));
        SKY_TRY(sky_rms_norm(ctx, &(sky_rms_norm_args){.y = sky_tensor_rows(&p->q, piece.first, piece.count),
                                                       .x = out.x,
                                                       .x_sums = out.sums,
                                                       .weight = b->cross_norm_q,
                                                       .eps = p->model->dims.eps}));
    }
    sky_arena_release(ctx->arena, mark);
    return SKY_OK;
}

static sky_status cross_attention(sky_ctx *ctx, transformer_pass *p, int64_t layer)
{
    const transformer_block *b = &p->model->blocks[layer];
    const int64_t rows[] = {SKY_TEXT_LEN, p->model->dims.dim};
    const size_t mark = sky_arena_mark(ctx->arena);
    transformer_input attended;
    sky_tensor k = sky_tensor_rows(&p->args->kv->k, layer, 1);
    sky_tensor v = sky_tensor_rows(&p->args->kv->v, layer, 1);
    k = sky_tensor_reshape(&k, 2, rows);
    v = sky_tensor_reshape(&v, 2, rows);
    SKY_TRY(alloc_rows(ctx, p, &p->attended));
    SKY_TRY(alloc_rows(ctx, p, &p->q));
    SKY_TRY(make_cross_queries(ctx, p, b));
    SKY_TRY(sky_attention(ctx, &(sky_attention_args){.y = by_heads(p, &p->attended),
                                                     .q = by_heads(p, &p->q),
                                                     .k = by_heads(p, &k),
                                                     .v = by_heads(p, &v),
                                                     .softmax_scale = 1.0F / sqrtf((float)p->model->dims.head_dim)}));
    SKY_TRY(sky_transformer_make_input(ctx, &p->attended, 1, p->model->dims.num_heads, &p->input, &attended));
    SKY_TRY(end_sublayer(
        ctx, p, layer, "cross_attn_o", &b->cross_o, &attended,
        &(sky_residual_norm_args){.shift = modulation(p, layer, SHIFT_FFN), .scale = modulation(p, layer, SCALE_FFN)}));
    sky_arena_release(ctx->arena, mark);
    return SKY_OK;
}

/* *activated [rows, ffn_dim], in the memory that it comes with: gelu(ffn_0(p->input)) */
static sky_status run_ffn_0(sky_ctx *ctx, const transformer_pass *p, int64_t layer, const transformer_input *activated)
{
    const int64_t rows = p->tokens.count;
    const size_t mark = sky_arena_mark(ctx->arena);
    sky_tensor memory = activated->x; /* in place, where that is of the compute type */
    if (sky_tensor_present(&activated->scale)) {
        SKY_TRY(sky_transformer_alloc_output(ctx, p->model, rows, p->model->dims.ffn_dim, &memory));
    }
    for (sky_span piece = sky_transformer_first_piece(ctx, p->model, rows); piece.count > 0;
         piece = sky_transformer_next_piece(piece, rows)) {
        transformer_output out;
        const transformer_input y = sky_transformer_input_rows(activated, piece);
        SKY_TRY(sky_transformer_apply_piece(ctx, &p->model->blocks[layer].ffn_0, &p->input, piece, &memory, &out));
        SKY_TRY(sky_transformer_see(ctx, p, layer, "ffn_0", &out.x));
        SKY_TRY(sky_activation(
            ctx, &(sky_activation_args){
                     .y = y.x, .y_scale = y.scale, .x = out.x, .x_sums = out.sums, .kind = SKY_GELU_TANH}));
    }
    sky_arena_release(ctx->arena, mark);
    return SKY_OK;
}

static sky_status feed_forward(sky_ctx *ctx, const transformer_pass *p, int64_t layer)
{
    const size_t mark = sky_arena_mark(ctx->arena);
    transformer_input activated;
    SKY_TRY(sky_transformer_alloc_input(ctx, p->model, p->tokens.count, p->model->dims.ffn_dim, &activated));
    SKY_TRY(run_ffn_0(ctx, p, layer, &activated));
    sky_residual_norm_args then = {.gate = modulation(p, layer, GATE_FFN), .rounding = rounding(p, SKY_ROUND_X)};
    if (layer + 1 < p->model->dims.num_layers) {
        then.shift = modulation(p, layer + 1, SHIFT_ATTN);
        then.scale = modulation(p, layer + 1, SCALE_ATTN);
    }
    SKY_TRY(end_sublayer(ctx, p, layer, "ffn_2", &p->model->blocks[layer].ffn_2, &activated, &then));
    sky_arena_release(ctx->arena, mark);
    return SKY_OK;
}

sky_status sky_transformer_run_block(sky_ctx *ctx, transformer_pass *p, int64_t layer)
{
    SKY_TRY(sky_weights_use(ctx, p->model->weights, transformer_block_group(layer)));
    SKY_TRY(self_attention(ctx, p, layer));
    SKY_TRY(cross_attention(ctx, p, layer));
    SKY_TRY(feed_forward(ctx, p, layer));
    return sky_transformer_see_residual(ctx, p, layer);
}
