/* The transformer's forward pass. The order of operations and where values are rounded: docs/model.md. */
#include "model/transformer.h"

#include "model/transformer_impl.h"
#include "ops/ops.h"

#include <inttypes.h>

static sky_status activate(sky_ctx *ctx, sky_activation_kind kind, const sky_tensor *x)
{
    return sky_activation(ctx, &(sky_activation_args){.y = *x, .x = *x, .kind = kind});
}

/* A linear layer outside of the blocks: no codes. */
static sky_status apply(sky_ctx *ctx, const transformer_linear *linear, const sky_tensor *x, const sky_tensor *y)
{
    return sky_transformer_apply(ctx, linear, &(transformer_input){.x = *x}, y);
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
    SKY_TRY(sky_ctx_tensor(ctx, &kv->k, m->arithmetic.compute, 3, all));
    SKY_TRY(sky_ctx_tensor(ctx, &kv->v, m->arithmetic.compute, 3, all));

    const size_t mark = sky_arena_mark(ctx->arena);
    sky_tensor hidden = {0};
    sky_tensor context = {0};
    SKY_TRY(sky_ctx_tensor(ctx, &hidden, m->arithmetic.compute, 2, rows));
    SKY_TRY(sky_ctx_tensor(ctx, &context, m->arithmetic.compute, 2, rows));
    SKY_TRY(embed_text(ctx, m, text, &hidden, &context));
    SKY_TRY(sky_observe(observer, ctx, "text_embedding", &context));
    transformer_input memory, input;
    SKY_TRY(sky_transformer_alloc_input(ctx, m, SKY_TEXT_LEN, d->dim, &memory));
    SKY_TRY(sky_transformer_make_input(ctx, &context, 1, m->dims.num_heads, &memory, &input));
    for (int64_t i = 0; i < d->num_layers; i++) {
        const transformer_block *b = &m->blocks[i];
        sky_tensor k = sky_tensor_rows(&kv->k, i, 1);
        sky_tensor v = sky_tensor_rows(&kv->v, i, 1);
        k = sky_tensor_reshape(&k, 2, rows);
        v = sky_tensor_reshape(&v, 2, rows);
        SKY_TRY(sky_weights_use(ctx, m->weights, transformer_text_group(m, i)));
        SKY_TRY(sky_transformer_apply(ctx, &b->cross_k, &input, &k));
        SKY_TRY(sky_rms_norm(ctx, &(sky_rms_norm_args){.y = k, .x = k, .weight = b->cross_norm_k, .eps = d->eps}));
        SKY_TRY(sky_transformer_apply(ctx, &b->cross_v, &input, &v));
    }
    sky_arena_release(ctx->arena, mark);
    return SKY_OK;
}

/* ---- one forward pass ---- */

/*
 * e and e0 in f32, whatever the compute type: its weights are widened. The published model rounds the sinusoid to bf16 on the
 * way into these layers; kept so except in f32, where the golden set has it unrounded.
 */
static sky_status embed_time(sky_ctx *ctx, const transformer_pass *p, const sky_tensor *time6)
{
    const sky_transformer *m = p->model;
    const size_t mark = sky_arena_mark(ctx->arena);
    sky_tensor timestep = {0};
    sky_tensor sinusoid = {0};
    sky_tensor hidden = {0};
    SKY_TRY(sky_ctx_tensor(ctx, &timestep, SKY_F32, 1, (int64_t[]){1}));
    SKY_TRY(sky_ctx_tensor(ctx, &sinusoid, m->arithmetic.compute, 2, (int64_t[]){1, m->dims.freq_dim}));
    SKY_TRY(sky_ctx_tensor(ctx, &hidden, SKY_F32, 2, (int64_t[]){1, m->dims.dim}));
    SKY_TRY(sky_ctx_upload(ctx, &timestep, &p->args->timestep));
    SKY_TRY(sky_timestep_embedding(ctx, &(sky_timestep_embedding_args){.y = sinusoid, .timesteps = timestep}));
    SKY_TRY(apply(ctx, &m->time_0, &sinusoid, &hidden));
    SKY_TRY(activate(ctx, SKY_SILU, &hidden));
    SKY_TRY(apply(ctx, &m->time_2, &hidden, &p->time));
    SKY_TRY(sky_observe(p->args->observer, ctx, "time_embedding", &p->time));

    const sky_tensor flat = sky_tensor_reshape(time6, 2, (int64_t[]){1, NUM_MODULATIONS * m->dims.dim});
    SKY_TRY(sky_activation(ctx, &(sky_activation_args){.y = hidden, .x = p->time, .kind = SKY_SILU}));
    SKY_TRY(apply(ctx, &m->time_projection, &hidden, &flat));
    sky_arena_release(ctx->arena, mark);
    return sky_observe(p->args->observer, ctx, "time_projection", &flat);
}

/* The modulation of every block, at once: a block's last op already makes the input of the next one. */
static sky_status modulate_blocks(sky_ctx *ctx, const transformer_pass *p, const sky_tensor *time6)
{
    for (int64_t i = 0; i < p->model->dims.num_layers; i++) {
        SKY_TRY(sky_add(ctx, &(sky_add_args){.y = sky_tensor_rows(&p->modulation, NUM_MODULATIONS * i, NUM_MODULATIONS),
                                             .a = p->model->blocks[i].modulation,
                                             .b = *time6}));
    }
    return SKY_OK;
}

static sky_status embed_patches(sky_ctx *ctx, const transformer_pass *p)
{
    const size_t mark = sky_arena_mark(ctx->arena);
    const sky_dtype compute = p->model->arithmetic.compute;
    sky_tensor patches = {0};
    sky_tensor embedded = p->x;
    SKY_TRY(sky_ctx_tensor(ctx, &patches, compute, 2, (int64_t[]){p->tokens.count, 4 * p->model->dims.in_dim}));
    if (compute != SKY_F32) {
        SKY_TRY(sky_ctx_tensor(ctx, &embedded, compute, 2, p->x.shape));
    }
    SKY_TRY(
        sky_patchify(ctx, &(sky_patchify_args){.y = patches, .x = p->args->latents, .first_token = p->tokens.first}));
    SKY_TRY(apply(ctx, &p->model->patch_embedding, &patches, &embedded));
    SKY_TRY(sky_observe(p->args->observer, ctx, "patch_embedding", &embedded));
    if (compute != SKY_F32) {
        SKY_TRY(sky_convert(ctx, &(sky_convert_args){.y = p->x, .x = embedded}));
    }
    sky_arena_release(ctx->arena, mark);
    return SKY_OK;
}

/* All in f32; note that the head takes e, not e0. Collective: every rank gets all patches. */
static sky_status run_head(sky_ctx *ctx, const transformer_pass *p)
{
    const sky_transformer *m = p->model;
    const size_t mark = sky_arena_mark(ctx->arena);
    sky_tensor modulation = {0};
    sky_tensor normed = {0};
    sky_tensor mine = {0};
    sky_tensor patches = {0};
    SKY_TRY(sky_ctx_tensor(ctx, &modulation, SKY_F32, 2, (int64_t[]){2, m->dims.dim}));
    SKY_TRY(sky_ctx_tensor(ctx, &normed, SKY_F32, 2, (int64_t[]){p->tokens.count, m->dims.dim}));
    SKY_TRY(sky_ctx_tensor(ctx, &mine, SKY_F32, 2, (int64_t[]){p->tokens.count, 4 * m->dims.out_dim}));
    patches = mine;
    if (sky_sequence_members(&p->sequence) > 1) {
        SKY_TRY(sky_ctx_tensor(ctx, &patches, SKY_F32, 2, (int64_t[]){p->sequence.num_tokens, 4 * m->dims.out_dim}));
    }
    for (int64_t i = 0; i < 2; i++) {
        SKY_TRY(sky_add(ctx, &(sky_add_args){.y = sky_tensor_rows(&modulation, i, 1),
                                             .a = sky_tensor_rows(&m->head_modulation, i, 1),
                                             .b = p->time}));
    }
    SKY_TRY(sky_layer_norm_modulate(ctx, &(sky_layer_norm_modulate_args){.y = normed,
                                                                         .x = p->x,
                                                                         .shift = sky_tensor_rows(&modulation, 0, 1),
                                                                         .scale = sky_tensor_rows(&modulation, 1, 1),
                                                                         .first_row = p->tokens.first,
                                                                         .rows_per_group = p->sequence.num_tokens,
                                                                         .eps = m->dims.eps}));
    SKY_TRY(apply(ctx, &m->head, &normed, &mine));
    SKY_TRY(sky_sequence_share_rows(ctx, &p->sequence, &mine, &patches));
    SKY_TRY(sky_unpatchify(ctx, &(sky_unpatchify_args){.y = p->args->velocity, .x = patches}));
    sky_arena_release(ctx->arena, mark);
    return SKY_OK;
}

static sky_status alloc_pass(sky_ctx *ctx, transformer_pass *p)
{
    const sky_transformer_dims *d = &p->model->dims;
    SKY_TRY(sky_ctx_tensor(ctx, &p->time, SKY_F32, 2, (int64_t[]){1, d->dim}));
    SKY_TRY(sky_ctx_tensor(ctx, &p->modulation, SKY_F32, 2, (int64_t[]){NUM_MODULATIONS * d->num_layers, d->dim}));
    return sky_ctx_tensor(ctx, &p->x, SKY_F32, 2, (int64_t[]){p->tokens.count, d->dim});
}

static int64_t num_tokens_of(const sky_tensor *latents)
{
    return latents->shape[1] * (latents->shape[2] / 2) * (latents->shape[3] / 2);
}

static sky_status check_latents(const sky_transformer *m, const sky_transformer_args *a)
{
    char latents[96];
    char velocity[96];
    const int64_t *shape = a->latents.shape;
    const bool ok = a->latents.num_dims == 4 && a->velocity.num_dims == 4 && shape[0] == m->dims.in_dim &&
                    a->velocity.shape[0] == m->dims.out_dim && shape[1] == a->velocity.shape[1] &&
                    shape[2] == a->velocity.shape[2] && shape[3] == a->velocity.shape[3] && shape[2] % 2 == 0 &&
                    shape[3] % 2 == 0;
    if (!ok) {
        return sky_fail(SKY_ERR_SHAPE,
                        "transformer: latents %s, velocity %s: want [%" PRId64 ", F, H, W] and [%" PRId64
                        ", F, H, W], H and W even",
                        sky_tensor_describe(&a->latents, latents, sizeof latents),
                        sky_tensor_describe(&a->velocity, velocity, sizeof velocity), m->dims.in_dim, m->dims.out_dim);
    }
    return SKY_OK;
}

static sky_status check_sequence(const transformer_pass *p)
{
    char freqs[96];
    const sky_sequence *s = &p->sequence;
    const int64_t num_tokens = num_tokens_of(&p->args->latents);
    if (s->num_tokens != num_tokens || s->num_heads != p->model->dims.num_heads) {
        return sky_fail(SKY_ERR_SHAPE,
                        "transformer: a sequence of %" PRId64 " tokens and %" PRId64 " heads for latents of %" PRId64
                        " tokens and a model of %" PRId64 " heads",
                        s->num_tokens, s->num_heads, num_tokens, p->model->dims.num_heads);
    }
    if (p->args->freqs.num_dims != 3 || p->args->freqs.shape[0] != p->tokens.count) {
        return sky_fail(SKY_ERR_SHAPE, "transformer: freqs %s: want a row for each of this rank's %" PRId64 " tokens",
                        sky_tensor_describe(&p->args->freqs, freqs, sizeof freqs), p->tokens.count);
    }
    return SKY_OK;
}

/* Timestep and patches. */
static sky_status begin_pass(sky_ctx *ctx, const transformer_pass *p)
{
    const size_t mark = sky_arena_mark(ctx->arena);
    sky_tensor time6 = {0};
    SKY_TRY(sky_ctx_tensor(ctx, &time6, SKY_F32, 2, (int64_t[]){NUM_MODULATIONS, p->model->dims.dim}));
    SKY_TRY(embed_time(ctx, p, &time6));
    SKY_TRY(modulate_blocks(ctx, p, &time6));
    SKY_TRY(embed_patches(ctx, p));
    sky_arena_release(ctx->arena, mark);
    return SKY_OK;
}

static sky_status run_blocks(sky_ctx *ctx, transformer_pass *p)
{
    const size_t mark = sky_arena_mark(ctx->arena);
    SKY_TRY(sky_transformer_alloc_input(ctx, p->model, p->tokens.count, p->model->dims.dim, &p->input));
    SKY_TRY(sky_transformer_begin_blocks(ctx, p));
    for (int64_t i = 0; i < p->model->dims.num_layers; i++) {
        SKY_TRY(sky_transformer_run_block(ctx, p, i));
    }
    sky_arena_release(ctx->arena, mark);
    return SKY_OK;
}

sky_status sky_transformer_forward(sky_ctx *ctx, const sky_transformer *model, const sky_transformer_args *args)
{
    SKY_TRY(check_latents(model, args));
    const size_t mark = sky_arena_mark(ctx->arena);
    transformer_pass p = {.model = model, .args = args};
    p.sequence = args->sequence != NULL ? *args->sequence
                                        : sky_sequence_whole(num_tokens_of(&args->latents), model->dims.num_heads);
    p.tokens = sky_sequence_own_tokens(&p.sequence);
    SKY_TRY(check_sequence(&p));
    SKY_TRY(alloc_pass(ctx, &p));
    SKY_TRY(begin_pass(ctx, &p));
    SKY_TRY(run_blocks(ctx, &p));
    SKY_TRY(run_head(ctx, &p));
    sky_arena_release(ctx->arena, mark);
    return SKY_OK;
}
