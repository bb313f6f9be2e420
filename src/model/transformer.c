/* The transformer's forward pass. The order of operations and where values are rounded: docs/model.md. */
#include "model/transformer.h"

#include "model/transformer_impl.h"
#include "ops/ops.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

enum { NAME_BYTES = 64, MAX_FREQ_DIM = 1024 };

/* Rows of a block's modulation [6, dim]. */
enum { SHIFT_ATTN, SCALE_ATTN, GATE_ATTN, SHIFT_FFN, SCALE_FFN, GATE_FFN, NUM_MODULATIONS };

static sky_status apply(sky_ctx *ctx, const transformer_linear *linear, const sky_tensor *x, const sky_tensor *y)
{
    return sky_linear(ctx, &(sky_linear_args){.y = *y, .x = *x, .weight = linear->weight, .bias = linear->bias});
}

static sky_status activate(sky_ctx *ctx, sky_activation_kind kind, const sky_tensor *x)
{
    return sky_activation(ctx, &(sky_activation_args){.y = *x, .x = *x, .kind = kind});
}

/* ---- conditioning on the text: once per prompt ---- */

static sky_status embed_text(sky_ctx *ctx, const sky_transformer *m, const sky_tensor *text, const sky_tensor *hidden,
                             const sky_tensor *context)
{
    SKY_TRY(apply(ctx, &m->text_0, text, hidden));
    SKY_TRY(activate(ctx, SKY_GELU_TANH, hidden));
    return apply(ctx, &m->text_2, hidden, context);
}

sky_status sky_transformer_condition(sky_ctx *ctx, const sky_transformer *m, const sky_tensor *text,
                                     const sky_observer *observer, sky_text_kv *kv)
{
    const sky_transformer_dims *d = &m->dims;
    const int64_t all[] = {d->num_layers, SKY_TEXT_LEN, d->dim};
    const int64_t rows[] = {SKY_TEXT_LEN, d->dim};
    SKY_TRY(sky_ctx_tensor(ctx, &kv->k, m->compute, 3, all));
    SKY_TRY(sky_ctx_tensor(ctx, &kv->v, m->compute, 3, all));

    const size_t mark = sky_arena_mark(ctx->arena);
    sky_tensor hidden = {0};
    sky_tensor context = {0};
    SKY_TRY(sky_ctx_tensor(ctx, &hidden, m->compute, 2, rows));
    SKY_TRY(sky_ctx_tensor(ctx, &context, m->compute, 2, rows));
    SKY_TRY(embed_text(ctx, m, text, &hidden, &context));
    SKY_TRY(sky_observe(observer, ctx, "text_embedding", &context));
    for (int64_t i = 0; i < d->num_layers; i++) {
        const transformer_block *b = &m->blocks[i];
        sky_tensor k = sky_tensor_rows(&kv->k, i, 1);
        sky_tensor v = sky_tensor_rows(&kv->v, i, 1);
        k = sky_tensor_reshape(&k, 2, rows);
        v = sky_tensor_reshape(&v, 2, rows);
        SKY_TRY(apply(ctx, &b->cross_k, &context, &k));
        SKY_TRY(sky_rms_norm(ctx, &(sky_rms_norm_args){.y = k, .x = k, .weight = b->cross_norm_k, .eps = d->eps}));
        SKY_TRY(apply(ctx, &b->cross_v, &context, &v));
    }
    sky_arena_release(ctx->arena, mark);
    return SKY_OK;
}

/* ---- one forward pass ---- */

/* Everything that a pass needs beside the weights; one set serves all blocks. */
typedef struct pass {
    const sky_transformer *model;
    const sky_transformer_args *args;
    int64_t first_token; /* of this rank's rows, in the whole sequence */
    int64_t num_tokens;  /* rows of this rank */
    int64_t all_tokens;
    sky_tensor time;                      /* [1, dim] f32: e */
    sky_tensor time6;                     /* [6, dim] f32: e0 */
    sky_tensor m;                         /* [6, dim] f32: modulation of the block at hand */
    sky_tensor x;                         /* [rows, dim] f32: residual stream inside a block */
    sky_tensor x_between;                 /* [rows, dim] compute type: between blocks (x itself in f32) */
    sky_tensor normed, q, k, v, attended; /* [rows, dim] compute type */
    sky_tensor hidden;                    /* [rows, ffn_dim] compute type */
} pass;

/*
 * Sinusoid of the timestep [1, freq_dim]: cosines, then sines, in f64. The published model rounds it to bf16 on the way
 * into its f32 layers; kept so except in f32, where the golden set has it unrounded.
 */
static sky_status upload_sinusoid(sky_ctx *ctx, const sky_transformer *m, float timestep, const sky_tensor *out)
{
    float values[MAX_FREQ_DIM];
    const int64_t half = m->dims.freq_dim / 2;
    for (int64_t j = 0; j < half; j++) {
        const double angle = (double)timestep * pow(10000.0, -(double)j / (double)half);
        values[j] = (float)cos(angle);
        values[half + j] = (float)sin(angle);
    }
    for (int64_t j = 0; m->compute != SKY_F32 && j < m->dims.freq_dim; j++) {
        values[j] = sky_round_bf16(values[j]);
    }
    return sky_ctx_upload(ctx, out, values);
}

static sky_status embed_time(sky_ctx *ctx, const pass *p)
{
    const sky_transformer *m = p->model;
    const size_t mark = sky_arena_mark(ctx->arena);
    sky_tensor sinusoid = {0};
    sky_tensor hidden = {0};
    SKY_TRY(sky_ctx_tensor(ctx, &sinusoid, SKY_F32, 2, (int64_t[]){1, m->dims.freq_dim}));
    SKY_TRY(sky_ctx_tensor(ctx, &hidden, SKY_F32, 2, (int64_t[]){1, m->dims.dim}));
    SKY_TRY(upload_sinusoid(ctx, m, p->args->timestep, &sinusoid));
    SKY_TRY(apply(ctx, &m->time_0, &sinusoid, &hidden));
    SKY_TRY(activate(ctx, SKY_SILU, &hidden));
    SKY_TRY(apply(ctx, &m->time_2, &hidden, &p->time));
    SKY_TRY(sky_observe(p->args->observer, ctx, "time_embedding", &p->time));

    const sky_tensor flat = sky_tensor_reshape(&p->time6, 2, (int64_t[]){1, NUM_MODULATIONS * m->dims.dim});
    SKY_TRY(sky_activation(ctx, &(sky_activation_args){.y = hidden, .x = p->time, .kind = SKY_SILU}));
    SKY_TRY(apply(ctx, &m->time_projection, &hidden, &flat));
    sky_arena_release(ctx->arena, mark);
    return sky_observe(p->args->observer, ctx, "time_projection", &flat);
}

static sky_status embed_patches(sky_ctx *ctx, const pass *p)
{
    const size_t mark = sky_arena_mark(ctx->arena);
    sky_tensor patches = {0};
    SKY_TRY(sky_ctx_tensor(ctx, &patches, p->model->compute, 2, (int64_t[]){p->num_tokens, 4 * p->model->dims.in_dim}));
    SKY_TRY(
        sky_patchify(ctx, &(sky_patchify_args){.y = patches, .x = p->args->latents, .first_token = p->first_token}));
    SKY_TRY(apply(ctx, &p->model->patch_embedding, &patches, &p->x_between));
    sky_arena_release(ctx->arena, mark);
    return sky_observe(p->args->observer, ctx, "patch_embedding", &p->x_between);
}

/* Shows a value of block 0 only: enough to tell where a mistake is, and cheap. */
static sky_status see(sky_ctx *ctx, const pass *p, int64_t layer, const char *what, const sky_tensor *value)
{
    char name[NAME_BYTES];
    if (layer != 0) {
        return SKY_OK;
    }
    snprintf(name, sizeof name, "block_0_%s", what);
    return sky_observe(p->args->observer, ctx, name, value);
}

static sky_status norm_modulate(sky_ctx *ctx, const pass *p, const sky_tensor *x, int shift, int scale,
                                const sky_tensor *y)
{
    return sky_layer_norm_modulate(ctx, &(sky_layer_norm_modulate_args){.y = *y,
                                                                        .x = *x,
                                                                        .shift = sky_tensor_rows(&p->m, shift, 1),
                                                                        .scale = sky_tensor_rows(&p->m, scale, 1),
                                                                        .first_row = p->first_token,
                                                                        .rows_per_group = p->all_tokens,
                                                                        .eps = p->model->dims.eps});
}

static sky_status add_gated(sky_ctx *ctx, const pass *p, const sky_tensor *y, int gate)
{
    return sky_gate_residual(ctx, &(sky_gate_residual_args){.x = p->x,
                                                            .y = *y,
                                                            .gate = sky_tensor_rows(&p->m, gate, 1),
                                                            .first_row = p->first_token,
                                                            .rows_per_group = p->all_tokens});
}

/* [rows, dim] -> [rows, heads, head_dim] */
static sky_tensor by_heads(const pass *p, const sky_tensor *x)
{
    return sky_tensor_reshape(x, 3, (int64_t[]){x->shape[0], p->model->dims.num_heads, p->model->dims.head_dim});
}

static sky_status attend(sky_ctx *ctx, const pass *p, const sky_tensor *k, const sky_tensor *v)
{
    return sky_attention(ctx, &(sky_attention_args){.y = by_heads(p, &p->attended),
                                                    .q = by_heads(p, &p->q),
                                                    .k = by_heads(p, k),
                                                    .v = by_heads(p, v),
                                                    .softmax_scale = 1.0F / sqrtf((float)p->model->dims.head_dim)});
}

static sky_status norm_rotate(sky_ctx *ctx, const pass *p, const sky_tensor *weight, const sky_tensor *x)
{
    return sky_qk_norm_rope(
        ctx, &(sky_qk_norm_rope_args){
                 .y = *x, .x = *x, .weight = *weight, .freqs = p->args->freqs, .eps = p->model->dims.eps});
}

static sky_status self_attention(sky_ctx *ctx, const pass *p, int64_t layer)
{
    const transformer_block *b = &p->model->blocks[layer];
    SKY_TRY(norm_modulate(ctx, p, &p->x_between, SHIFT_ATTN, SCALE_ATTN, &p->normed));
    SKY_TRY(apply(ctx, &b->q, &p->normed, &p->q));
    SKY_TRY(see(ctx, p, layer, "self_attn_q", &p->q));
    SKY_TRY(apply(ctx, &b->k, &p->normed, &p->k));
    SKY_TRY(apply(ctx, &b->v, &p->normed, &p->v));
    SKY_TRY(see(ctx, p, layer, "v", &p->v));
    SKY_TRY(norm_rotate(ctx, p, &b->norm_q, &p->q));
    SKY_TRY(norm_rotate(ctx, p, &b->norm_k, &p->k));
    SKY_TRY(see(ctx, p, layer, "q_rope", &p->q));
    SKY_TRY(see(ctx, p, layer, "k_rope", &p->k));
    SKY_TRY(attend(ctx, p, &p->k, &p->v));
    SKY_TRY(see(ctx, p, layer, "attn", &p->attended));
    SKY_TRY(apply(ctx, &b->o, &p->attended, &p->normed));
    SKY_TRY(see(ctx, p, layer, "self_attn_o", &p->normed));
    return add_gated(ctx, p, &p->normed, GATE_ATTN);
}

static sky_status cross_attention(sky_ctx *ctx, const pass *p, int64_t layer)
{
    const transformer_block *b = &p->model->blocks[layer];
    const int64_t rows[] = {SKY_TEXT_LEN, p->model->dims.dim};
    sky_tensor k = sky_tensor_rows(&p->args->kv->k, layer, 1);
    sky_tensor v = sky_tensor_rows(&p->args->kv->v, layer, 1);
    k = sky_tensor_reshape(&k, 2, rows);
    v = sky_tensor_reshape(&v, 2, rows);
    /* norm3 sees the residual in the context's type: bf16 for text. */
    SKY_TRY(sky_convert(ctx, &(sky_convert_args){.y = p->normed, .x = p->x}));
    SKY_TRY(sky_layer_norm(ctx, &(sky_layer_norm_args){.y = p->normed,
                                                       .x = p->normed,
                                                       .weight = b->norm3_weight,
                                                       .bias = b->norm3_bias,
                                                       .eps = p->model->dims.eps}));
    SKY_TRY(see(ctx, p, layer, "norm3", &p->normed));
    SKY_TRY(apply(ctx, &b->cross_q, &p->normed, &p->q));
    SKY_TRY(sky_rms_norm(
        ctx, &(sky_rms_norm_args){.y = p->q, .x = p->q, .weight = b->cross_norm_q, .eps = p->model->dims.eps}));
    SKY_TRY(attend(ctx, p, &k, &v));
    SKY_TRY(apply(ctx, &b->cross_o, &p->attended, &p->normed));
    SKY_TRY(see(ctx, p, layer, "cross_attn_o", &p->normed));
    return sky_gate_residual(ctx, &(sky_gate_residual_args){.x = p->x, .y = p->normed});
}

static sky_status feed_forward(sky_ctx *ctx, const pass *p, int64_t layer)
{
    const transformer_block *b = &p->model->blocks[layer];
    SKY_TRY(norm_modulate(ctx, p, &p->x, SHIFT_FFN, SCALE_FFN, &p->normed));
    SKY_TRY(apply(ctx, &b->ffn_0, &p->normed, &p->hidden));
    SKY_TRY(see(ctx, p, layer, "ffn_0", &p->hidden));
    SKY_TRY(activate(ctx, SKY_GELU_TANH, &p->hidden));
    SKY_TRY(apply(ctx, &b->ffn_2, &p->hidden, &p->normed));
    SKY_TRY(see(ctx, p, layer, "ffn_2", &p->normed));
    return add_gated(ctx, p, &p->normed, GATE_FFN);
}

static sky_status run_block(sky_ctx *ctx, const pass *p, int64_t layer)
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

/* All in f32; note that the head takes e, not e0. */
static sky_status run_head(sky_ctx *ctx, const pass *p)
{
    const sky_transformer *m = p->model;
    const size_t mark = sky_arena_mark(ctx->arena);
    sky_tensor modulation = {0};
    sky_tensor normed = {0};
    sky_tensor patches = {0};
    SKY_TRY(sky_ctx_tensor(ctx, &modulation, SKY_F32, 2, (int64_t[]){2, m->dims.dim}));
    SKY_TRY(sky_ctx_tensor(ctx, &normed, SKY_F32, 2, (int64_t[]){p->num_tokens, m->dims.dim}));
    SKY_TRY(sky_ctx_tensor(ctx, &patches, SKY_F32, 2, (int64_t[]){p->num_tokens, 4 * m->dims.out_dim}));
    for (int64_t i = 0; i < 2; i++) {
        SKY_TRY(sky_add(ctx, &(sky_add_args){.y = sky_tensor_rows(&modulation, i, 1),
                                             .a = sky_tensor_rows(&m->head_modulation, i, 1),
                                             .b = p->time}));
    }
    SKY_TRY(sky_layer_norm_modulate(ctx, &(sky_layer_norm_modulate_args){.y = normed,
                                                                         .x = p->x_between,
                                                                         .shift = sky_tensor_rows(&modulation, 0, 1),
                                                                         .scale = sky_tensor_rows(&modulation, 1, 1),
                                                                         .first_row = p->first_token,
                                                                         .rows_per_group = p->all_tokens,
                                                                         .eps = m->dims.eps}));
    SKY_TRY(apply(ctx, &m->head, &normed, &patches));
    SKY_TRY(sky_unpatchify(ctx, &(sky_unpatchify_args){.y = p->args->velocity, .x = patches}));
    sky_arena_release(ctx->arena, mark);
    return SKY_OK;
}

static sky_status alloc_pass(sky_ctx *ctx, pass *p)
{
    const sky_transformer_dims *d = &p->model->dims;
    const sky_dtype compute = p->model->compute;
    const int64_t rows[] = {p->num_tokens, d->dim};
    sky_tensor *const wide[] = {&p->normed, &p->q, &p->k, &p->v, &p->attended};
    SKY_TRY(sky_ctx_tensor(ctx, &p->time, SKY_F32, 2, (int64_t[]){1, d->dim}));
    SKY_TRY(sky_ctx_tensor(ctx, &p->time6, SKY_F32, 2, (int64_t[]){NUM_MODULATIONS, d->dim}));
    SKY_TRY(sky_ctx_tensor(ctx, &p->m, SKY_F32, 2, (int64_t[]){NUM_MODULATIONS, d->dim}));
    SKY_TRY(sky_ctx_tensor(ctx, &p->x, SKY_F32, 2, rows));
    p->x_between = p->x;
    if (compute != SKY_F32) {
        SKY_TRY(sky_ctx_tensor(ctx, &p->x_between, compute, 2, rows));
    }
    for (size_t i = 0; i < sizeof wide / sizeof wide[0]; i++) {
        SKY_TRY(sky_ctx_tensor(ctx, wide[i], compute, 2, rows));
    }
    return sky_ctx_tensor(ctx, &p->hidden, compute, 2, (int64_t[]){p->num_tokens, d->ffn_dim});
}

static sky_status check_args(const sky_transformer *m, const sky_transformer_args *a)
{
    char latents[96];
    char velocity[96];
    const int64_t *shape = a->latents.shape;
    const bool ok = a->latents.num_dims == 4 && a->velocity.num_dims == 4 && shape[0] == m->dims.in_dim &&
                    a->velocity.shape[0] == m->dims.out_dim && shape[1] == a->velocity.shape[1] &&
                    shape[2] == a->velocity.shape[2] && shape[3] == a->velocity.shape[3] && shape[2] % 2 == 0 &&
                    shape[3] % 2 == 0;
    if (!ok || m->dims.freq_dim > MAX_FREQ_DIM) {
        return sky_fail(SKY_ERR_SHAPE,
                        "transformer: latents %s, velocity %s: want [%" PRId64 ", F, H, W] and [%" PRId64
                        ", F, H, W], H and W even, freq_dim at most %d",
                        sky_tensor_describe(&a->latents, latents, sizeof latents),
                        sky_tensor_describe(&a->velocity, velocity, sizeof velocity), m->dims.in_dim, m->dims.out_dim,
                        MAX_FREQ_DIM);
    }
    return SKY_OK;
}

sky_status sky_transformer_forward(sky_ctx *ctx, const sky_transformer *model, const sky_transformer_args *args)
{
    SKY_TRY(check_args(model, args));
    const size_t mark = sky_arena_mark(ctx->arena);
    pass p = {.model = model, .args = args};
    p.all_tokens = args->latents.shape[1] * (args->latents.shape[2] / 2) * (args->latents.shape[3] / 2);
    p.num_tokens = p.all_tokens;
    SKY_TRY(alloc_pass(ctx, &p));
    SKY_TRY(embed_time(ctx, &p));
    SKY_TRY(embed_patches(ctx, &p));
    for (int64_t i = 0; i < model->dims.num_layers; i++) {
        SKY_TRY(run_block(ctx, &p, i));
    }
    SKY_TRY(run_head(ctx, &p));
    sky_arena_release(ctx->arena, mark);
    return SKY_OK;
}
