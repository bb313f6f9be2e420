/*
 * Self-attention of a block, on any layout of ranks (parallel/sequence.h). Outside, a rank has its tokens and all heads;
 * inside, its heads and all keys. Keys and values are computed first, so that they travel while queries are made.
 */
#include "model/transformer_impl.h"
#include "ops/ops.h"

#include <math.h>

/* What attention reads: values, or codes with scales (then *_scale is present). */
typedef struct attention_operands {
    sky_operand_parts q, q_scale, k, k_scale, v;
    sky_tensor v_scale, v_mean; /* [heads of this rank, head_dim] f32; of codes */
} attention_operands;

typedef struct attention_exchanges {
    sky_group_exchange *keys, *queries;
} attention_exchanges;

/* What a rank attends to at a time: all keys, or one block of them with fast_ring. */
typedef struct attention_keys {
    sky_tensor k, k_scale, v; /* [keys, columns]; scales and tiles [groups of 128 keys, columns] */
} attention_keys;

static bool passes_around(const sky_sequence *s)
{
    return s->fast_ring && s->ring_degree > 1;
}

static sky_reach keys_reach(const sky_sequence *s)
{
    return passes_around(s) ? SKY_REACH_BLOCK : SKY_REACH_ALL;
}

static int64_t num_groups(int64_t rows, int64_t group)
{
    return (rows + group - 1) / group;
}

/* V's codes as tiles: x [tiles, columns] as [tiles, heads, head_dim, 128] */
static sky_tensor by_tiles(const transformer_pass *p, const sky_tensor *x)
{
    const int64_t head_dim = p->model->dims.head_dim;
    const int64_t heads = x->shape[1] / head_dim / SKY_V_TILE_TOKENS;
    return sky_tensor_reshape(x, 4, (int64_t[]){x->shape[0], heads, head_dim, SKY_V_TILE_TOKENS});
}

static sky_status alloc_rows(sky_ctx *ctx, const transformer_pass *p, sky_tensor *rows)
{
    return sky_ctx_tensor(ctx, rows, p->attended.dtype, 2, p->attended.shape);
}

/* ---- what linear layers leave: numbers, or sums where the backend wants them ---- */

static sky_span all_rows(const transformer_pass *p)
{
    return (sky_span){0, p->tokens.count};
}

static bool in_one_piece(const sky_ctx *ctx, const transformer_pass *p)
{
    return sky_transformer_first_piece(ctx, p->model, p->tokens.count).count == p->tokens.count;
}

/*
 * Memory for a layer's output that is read once, and the first piece of rows: numbers go to `numbers`, all rows at once. So they
 * do where a piece would be no slice of what is made of it, which lies in parts.
 */
static sky_status alloc_pieces(sky_ctx *ctx, const transformer_pass *p, const sky_tensor *numbers, sky_tensor *memory,
                               sky_span *first)
{
    const bool as_slices = p->sequence.ulysses_degree == 1 || in_one_piece(ctx, p);
    if (!sky_transformer_leaves_sums(ctx, p->model) || !as_slices) {
        *memory = *numbers;
        *first = all_rows(p);
        return SKY_OK;
    }
    *first = sky_transformer_first_piece(ctx, p->model, p->tokens.count);
    return sky_transformer_alloc_output(ctx, p->model, p->tokens.count, p->model->dims.dim, memory);
}

/*
 * Memory for keys and values that are read twice, for what all tokens have in common and for their codes. They are held whole,
 * and sums are twice as large as numbers and save little there: they are left only where one piece, of the size that the
 * backend asked for, holds all rows. Numbers of v go to p->attended, which nobody needs yet.
 */
static sky_status alloc_keys(sky_ctx *ctx, const transformer_pass *p, sky_tensor *k, sky_tensor *v)
{
    const int64_t rows = p->tokens.count;
    if (!sky_transformer_leaves_sums(ctx, p->model) || !in_one_piece(ctx, p)) {
        *v = p->attended;
        return alloc_rows(ctx, p, k);
    }
    SKY_TRY(sky_transformer_alloc_output(ctx, p->model, rows, p->model->dims.dim, k));
    return sky_transformer_alloc_output(ctx, p->model, rows, p->model->dims.dim, v);
}

/* ---- operands in the compute type ---- */

static sky_status alloc_values(sky_ctx *ctx, const transformer_pass *p, sky_reach reach, const sky_tensor *mine,
                               sky_operand_parts *parts)
{
    *parts = (sky_operand_parts){.mine = *mine, .tokens_per_row = 1, .width = p->model->dims.head_dim};
    return sky_sequence_alloc(ctx, &p->sequence, reach, parts);
}

/* Queries or keys, in parts: `what` is the layer's output for observers, or NULL. Its numbers go to p->attended. */
static sky_status make_rotated(sky_ctx *ctx, const transformer_pass *p, int64_t layer, const char *what,
                               const transformer_linear *linear, const sky_tensor *weight,
                               const transformer_input *input, const sky_tensor *parts)
{
    const size_t mark = sky_arena_mark(ctx->arena);
    sky_tensor memory;
    sky_span piece;
    SKY_TRY(alloc_pieces(ctx, p, &p->attended, &memory, &piece));
    for (; piece.count > 0; piece = sky_transformer_next_piece(piece, p->tokens.count)) {
        transformer_output out;
        SKY_TRY(sky_transformer_apply_piece(ctx, linear, input, piece, &memory, &out));
        SKY_TRY(what != NULL ? sky_transformer_see(ctx, p, layer, what, &out.x) : SKY_OK);
        SKY_TRY(sky_qk_norm_rope(
            ctx, &(sky_qk_norm_rope_args){.y = sky_tensor_rows(parts, piece.first, piece.count),
                                          .x = out.x,
                                          .x_sums = out.sums,
                                          .weight = *weight,
                                          .freqs = sky_tensor_rows(&p->args->freqs, piece.first, piece.count),
                                          .eps = p->model->dims.eps,
                                          .num_parts = p->sequence.ulysses_degree}));
    }
    sky_arena_release(ctx->arena, mark);
    return SKY_OK;
}

/* What is made of linear layers' output lies in parts, and is left alone while sent. */
static sky_status make_operands(sky_ctx *ctx, const transformer_pass *p, int64_t layer, const transformer_input *input,
                                attention_operands *o, attention_exchanges *x)
{
    const transformer_block *b = &p->model->blocks[layer];
    const sky_reach reach = keys_reach(&p->sequence);
    const bool in_parts = p->sequence.ulysses_degree > 1;
    sky_tensor k;
    sky_tensor v;
    SKY_TRY(alloc_rows(ctx, p, &k));
    SKY_TRY(alloc_rows(ctx, p, &v));
    SKY_TRY(alloc_values(ctx, p, SKY_REACH_BLOCK, &p->q, &o->q));
    SKY_TRY(alloc_values(ctx, p, reach, &k, &o->k));
    SKY_TRY(alloc_values(ctx, p, reach, &v, &o->v));

    SKY_TRY(make_rotated(ctx, p, layer, NULL, &b->k, &b->norm_k, input, &k));
    SKY_TRY(sky_transformer_see(ctx, p, layer, "k_rope", &k));
    SKY_TRY(sky_transformer_apply(ctx, &b->v, input, in_parts ? &p->attended : &v));
    SKY_TRY(in_parts ? sky_sequence_pack(ctx, &p->sequence, p->model->dims.head_dim, &p->attended, &v) : SKY_OK);
    SKY_TRY(sky_transformer_see(ctx, p, layer, "v", &v));
    const sky_operand_parts keys[] = {o->k, o->v};
    SKY_TRY(sky_sequence_gather_begin(ctx, &p->sequence, reach, keys, 2, &x->keys));

    SKY_TRY(make_rotated(ctx, p, layer, "self_attn_q", &b->q, &b->norm_q, input, &p->q));
    SKY_TRY(sky_transformer_see(ctx, p, layer, "q_rope", &p->q));
    return sky_sequence_gather_begin(ctx, &p->sequence, SKY_REACH_BLOCK, &o->q, 1, &x->queries);
}

/* ---- operands in 8 bits: docs/numerics.md, the 8-bit contract ---- */

enum { K, V };

/* Sums and extremes over tokens, this rank's and those of all members, and what follows from them. */
typedef struct token_statistics {
    sky_tensor sums;                /* [2 dim] i64: K's, V's of this rank's tokens */
    sky_tensor range;               /* [2 dim] f32: V's largest, V's least */
    sky_tensor all_sums, all_range; /* [members, 2 dim] */
    sky_tensor mean;                /* [2 dim] f32: K's, V's */
    sky_tensor v_scale;             /* [dim] f32 */
} token_statistics;

static sky_status alloc_statistics(sky_ctx *ctx, const transformer_pass *p, token_statistics *t)
{
    const int64_t dim = p->model->dims.dim;
    const int64_t both = 2 * dim;
    const int64_t members = sky_sequence_members(&p->sequence);
    SKY_TRY(sky_ctx_tensor(ctx, &t->mean, SKY_F32, 1, &both));
    SKY_TRY(sky_ctx_tensor(ctx, &t->v_scale, SKY_F32, 1, &dim));
    SKY_TRY(sky_ctx_tensor(ctx, &t->sums, SKY_I64, 1, &both));
    SKY_TRY(sky_ctx_tensor(ctx, &t->range, SKY_F32, 1, &both));
    t->all_sums = t->sums;
    t->all_range = t->range;
    if (members > 1) {
        SKY_TRY(sky_ctx_tensor(ctx, &t->all_sums, SKY_I64, 2, (int64_t[]){members, both}));
        SKY_TRY(sky_ctx_tensor(ctx, &t->all_range, SKY_F32, 2, (int64_t[]){members, both}));
    }
    return SKY_OK;
}

/* K's or V's half of something of both. */
static sky_tensor half(const sky_tensor *both, int which)
{
    const int64_t dim = both->shape[0] / 2;
    return sky_tensor_rows(both, which * dim, dim);
}

/* Of [dim], the channels of this rank's heads: [heads, head_dim] */
static sky_tensor own_heads(const transformer_pass *p, const sky_tensor *channels)
{
    const sky_span own = sky_sequence_own_heads(&p->sequence);
    const sky_tensor heads =
        sky_tensor_reshape(channels, 2, (int64_t[]){p->model->dims.num_heads, p->model->dims.head_dim});
    return sky_tensor_rows(&heads, own.first, own.count);
}

/* V's codes: 128 tokens to a row of tiles. */
static sky_status alloc_tiles(sky_ctx *ctx, const transformer_pass *p, sky_reach reach, sky_operand_parts *parts)
{
    const sky_transformer_dims *d = &p->model->dims;
    *parts = (sky_operand_parts){.tokens_per_row = SKY_V_TILE_TOKENS, .width = d->head_dim * SKY_V_TILE_TOKENS};
    SKY_TRY(
        sky_ctx_tensor(ctx, &parts->mine, SKY_F8_E4M3, 4,
                       (int64_t[]){sky_num_v_tiles(p->tokens.count), d->num_heads, d->head_dim, SKY_V_TILE_TOKENS}));
    return sky_sequence_alloc(ctx, &p->sequence, reach, parts);
}

static sky_status alloc_codes(sky_ctx *ctx, const transformer_pass *p, sky_reach reach, sky_dtype dtype,
                              sky_operand_parts *parts)
{
    *parts = (sky_operand_parts){.tokens_per_row = 1, .width = p->model->dims.head_dim};
    SKY_TRY(sky_ctx_tensor(ctx, &parts->mine, dtype, 2, (int64_t[]){p->tokens.count, p->model->dims.dim}));
    return sky_sequence_alloc(ctx, &p->sequence, reach, parts);
}

static sky_status alloc_scales(sky_ctx *ctx, const transformer_pass *p, sky_reach reach, int64_t tokens_per_row,
                               sky_operand_parts *parts)
{
    *parts = (sky_operand_parts){.tokens_per_row = tokens_per_row, .width = 1};
    SKY_TRY(sky_ctx_tensor(ctx, &parts->mine, SKY_F32, 2,
                           (int64_t[]){num_groups(p->tokens.count, tokens_per_row), p->model->dims.num_heads}));
    return sky_sequence_alloc(ctx, &p->sequence, reach, parts);
}

static sky_status alloc_operands_8bit(sky_ctx *ctx, const transformer_pass *p, attention_operands *o)
{
    const sky_reach reach = keys_reach(&p->sequence);
    SKY_TRY(alloc_codes(ctx, p, SKY_REACH_BLOCK, SKY_I8, &o->q));
    SKY_TRY(alloc_scales(ctx, p, SKY_REACH_BLOCK, SKY_Q_GROUP_TOKENS, &o->q_scale));
    SKY_TRY(alloc_codes(ctx, p, reach, SKY_I8, &o->k));
    SKY_TRY(alloc_scales(ctx, p, reach, SKY_K_GROUP_TOKENS, &o->k_scale));
    return alloc_tiles(ctx, p, reach, &o->v);
}

/* Some rows of queries, or of keys less their mean, as the linear layer left them: whole groups, and all rows where in parts. */
static sky_status quantize_heads(sky_ctx *ctx, const transformer_pass *p, const transformer_output *x, sky_span rows,
                                 const sky_tensor *weight, const sky_tensor *mean, const sky_operand_parts *codes,
                                 const sky_operand_parts *scale)
{
    const int64_t group = scale->tokens_per_row;
    return sky_qk_norm_rope_quantize(
        ctx, &(sky_qk_norm_rope_quantize_args){
                 .codes = sky_tensor_rows(&codes->mine, rows.first, rows.count),
                 .scale = sky_tensor_rows(&scale->mine, rows.first / group, num_groups(rows.count, group)),
                 .x = x->x,
                 .x_sums = x->sums,
                 .weight = *weight,
                 .freqs = sky_tensor_rows(&p->args->freqs, rows.first, rows.count),
                 .eps = p->model->dims.eps,
                 .mean = *mean,
                 .tokens_per_group = group,
                 .num_parts = p->sequence.ulysses_degree});
}

/* Codes of keys and values, whose mean and scales are those of all members' tokens. */
static sky_status quantize_keys(sky_ctx *ctx, const transformer_pass *p, const sky_tensor *weight,
                                const transformer_output *k, const transformer_output *v, const token_statistics *t,
                                attention_operands *o)
{
    const int64_t heads[] = {p->model->dims.num_heads, p->model->dims.head_dim};
    const sky_tensor v_mean = half(&t->mean, V);
    sky_tensor k_mean = half(&t->mean, K);
    SKY_TRY(sky_sums_to_mean(
        ctx, &(sky_sums_to_mean_args){.mean = t->mean, .sums = t->all_sums, .num_tokens = p->sequence.num_tokens}));
    k_mean = sky_tensor_reshape(&k_mean, 2, heads);
    SKY_TRY(quantize_heads(ctx, p, k, all_rows(p), weight, &k_mean, &o->k, &o->k_scale));
    SKY_TRY(sky_quantize_channels(ctx, &(sky_quantize_channels_args){.codes = o->v.mine,
                                                                     .scale = t->v_scale,
                                                                     .x = v->x,
                                                                     .x_sums = v->sums,
                                                                     .mean = v_mean,
                                                                     .range = t->all_range,
                                                                     .num_parts = p->sequence.ulysses_degree}));
    o->v_scale = own_heads(p, &t->v_scale);
    o->v_mean = own_heads(p, &v_mean);
    return SKY_OK;
}

/* Keys' and values' sums and extremes over this rank's tokens, of which the linear layers' outputs stay in k and v. */
static sky_status make_statistics(sky_ctx *ctx, const transformer_pass *p, int64_t layer,
                                  const transformer_input *input, const token_statistics *t, transformer_output *k,
                                  transformer_output *v)
{
    const transformer_block *b = &p->model->blocks[layer];
    sky_tensor k_memory;
    sky_tensor v_memory;
    SKY_TRY(alloc_keys(ctx, p, &k_memory, &v_memory));
    SKY_TRY(sky_transformer_apply_piece(ctx, &b->k, input, all_rows(p), &k_memory, k));
    SKY_TRY(sky_qk_norm_rope_sums(ctx, &(sky_qk_norm_rope_sums_args){.sums = half(&t->sums, K),
                                                                     .x = k->x,
                                                                     .x_sums = k->sums,
                                                                     .weight = b->norm_k,
                                                                     .freqs = p->args->freqs,
                                                                     .eps = p->model->dims.eps,
                                                                     .num_tokens = p->sequence.num_tokens}));
    SKY_TRY(sky_transformer_apply_piece(ctx, &b->v, input, all_rows(p), &v_memory, v));
    SKY_TRY(sky_transformer_see(ctx, p, layer, "v", &v->x));
    return sky_channel_sums(ctx, &(sky_channel_sums_args){.sums = half(&t->sums, V),
                                                          .range = t->range,
                                                          .x = v->x,
                                                          .x_sums = v->sums,
                                                          .num_tokens = p->sequence.num_tokens});
}

static sky_status apply_q(sky_ctx *ctx, const transformer_pass *p, int64_t layer, const transformer_input *input,
                          sky_span piece, const sky_tensor *memory, transformer_output *q)
{
    SKY_TRY(sky_transformer_apply_piece(ctx, &p->model->blocks[layer].q, input, piece, memory, q));
    return sky_transformer_see(ctx, p, layer, "self_attn_q", &q->x);
}

/*
 * Keys are normed and rotated twice, for their sums and for their codes, and written down neither time. Keys and values stay as
 * their linear layers left them until codes exist, and so does a piece of the queries, most often all: the product that makes
 * it hides what the sums' exchange takes.
 */
static sky_status make_operands_8bit(sky_ctx *ctx, const transformer_pass *p, int64_t layer,
                                     const transformer_input *input, attention_operands *o, attention_exchanges *x)
{
    const transformer_block *b = &p->model->blocks[layer];
    const sky_tensor no_mean = {0};
    token_statistics t;
    transformer_output k, v, q;
    sky_tensor q_memory;
    sky_span piece;
    SKY_TRY(alloc_operands_8bit(ctx, p, o));
    SKY_TRY(alloc_statistics(ctx, p, &t));
    SKY_TRY(alloc_pieces(ctx, p, &p->q, &q_memory, &piece));
    const size_t mark = sky_arena_mark(ctx->arena);
    SKY_TRY(make_statistics(ctx, p, layer, input, &t, &k, &v));
    const sky_shared_row rows[] = {{t.sums, t.all_sums}, {t.range, t.all_range}};
    SKY_TRY(sky_sequence_share_begin(ctx, &p->sequence, rows, 2, &x->keys));

    SKY_TRY(apply_q(ctx, p, layer, input, piece, &q_memory, &q));

    SKY_TRY(sky_sequence_gather_end(ctx, &p->sequence, &x->keys));
    SKY_TRY(quantize_keys(ctx, p, &b->norm_k, &k, &v, &t, o));
    sky_arena_release(ctx->arena, mark);
    const sky_operand_parts keys[] = {o->k, o->k_scale, o->v};
    SKY_TRY(sky_sequence_gather_begin(ctx, &p->sequence, keys_reach(&p->sequence), keys, 3, &x->keys));

    while (piece.count > 0) {
        SKY_TRY(quantize_heads(ctx, p, &q, piece, &b->norm_q, &no_mean, &o->q, &o->q_scale));
        piece = sky_transformer_next_piece(piece, p->tokens.count);
        SKY_TRY(piece.count > 0 ? apply_q(ctx, p, layer, input, piece, &q_memory, &q) : SKY_OK);
    }
    const sky_operand_parts queries[] = {o->q, o->q_scale};
    return sky_sequence_gather_begin(ctx, &p->sequence, SKY_REACH_BLOCK, queries, 2, &x->queries);
}

/* ---- attention on gathered operands ---- */

/*
 * y [queries, columns]; lse [queries, heads], or absent: then this is all of attention, V's mean added. Without queries, keys
 * or heads nothing is written.
 */
static sky_status attend(sky_ctx *ctx, const transformer_pass *p, const attention_operands *o,
                         const attention_keys *keys, const sky_tensor *y, const sky_tensor *lse)
{
    const float softmax_scale = 1.0F / sqrtf((float)p->model->dims.head_dim);
    const bool merged = sky_tensor_present(lse);
    if (sky_tensor_len(y) == 0 || keys->k.shape[0] == 0) {
        return SKY_OK;
    }
    if (!sky_tensor_present(&keys->k_scale)) {
        return sky_attention(ctx, &(sky_attention_args){.y = by_heads(p, y),
                                                        .q = by_heads(p, &o->q.gathered),
                                                        .k = by_heads(p, &keys->k),
                                                        .v = by_heads(p, &keys->v),
                                                        .lse = *lse,
                                                        .softmax_scale = softmax_scale});
    }
    return sky_attention_8bit(ctx, &(sky_attention_8bit_args){.y = by_heads(p, y),
                                                              .q = by_heads(p, &o->q.gathered),
                                                              .q_scale = o->q_scale.gathered,
                                                              .k = by_heads(p, &keys->k),
                                                              .k_scale = keys->k_scale,
                                                              .v = by_tiles(p, &keys->v),
                                                              .v_scale = o->v_scale,
                                                              .v_mean = merged ? (sky_tensor){0} : o->v_mean,
                                                              .lse = *lse,
                                                              .softmax_scale = softmax_scale});
}

/* The first rows of a buffer that are in use. */
static sky_tensor filled(const sky_tensor *buffer, int64_t rows)
{
    return sky_tensor_present(buffer) ? sky_tensor_rows(buffer, 0, rows) : *buffer;
}

static sky_status alloc_ring_buffer(sky_ctx *ctx, const sky_sequence *s, const attention_operands *o,
                                    attention_keys *buffer)
{
    const int64_t rows = sky_sequence_largest_block(s);
    const int64_t groups = num_groups(rows, SKY_K_GROUP_TOKENS);
    *buffer = (attention_keys){0};
    SKY_TRY(sky_ctx_tensor(ctx, &buffer->k, o->k.gathered.dtype, 2, (int64_t[]){rows, o->k.gathered.shape[1]}));
    SKY_TRY(sky_ctx_tensor(ctx, &buffer->v, o->v.gathered.dtype, 2,
                           (int64_t[]){num_groups(rows, o->v.tokens_per_row), o->v.gathered.shape[1]}));
    if (sky_tensor_present(&o->k_scale.gathered)) {
        SKY_TRY(sky_ctx_tensor(ctx, &buffer->k_scale, SKY_F32, 2, (int64_t[]){groups, o->k_scale.gathered.shape[1]}));
    }
    return SKY_OK;
}

static sky_status pass_begin(sky_ctx *ctx, const sky_sequence *s, const attention_operands *o, int step,
                             const attention_keys *from, const attention_keys *to, sky_group_exchange **exchange)
{
    sky_ring_parts parts[3];
    int num = 0;
    parts[num++] = (sky_ring_parts){.from = from->k, .to = to->k, .tokens_per_row = 1};
    parts[num++] = (sky_ring_parts){.from = from->v, .to = to->v, .tokens_per_row = o->v.tokens_per_row};
    if (sky_tensor_present(&from->k_scale)) {
        parts[num++] = (sky_ring_parts){.from = from->k_scale, .to = to->k_scale, .tokens_per_row = SKY_K_GROUP_TOKENS};
    }
    return sky_sequence_pass_begin(ctx, s, step, parts, num, exchange);
}

/*
 * Attends to one block of keys while the next is on its way, and merges the results. Blocks come in another order on each
 * rank, so this differs from one rank's attention by rounding.
 */
static sky_status attend_around_ring(sky_ctx *ctx, const transformer_pass *p, const attention_operands *o,
                                     sky_group_exchange **exchange, const sky_tensor *y)
{
    const sky_sequence *s = &p->sequence;
    const int64_t head_dim = p->model->dims.head_dim;
    const int64_t queries[] = {y->shape[0], y->shape[1]};
    const int64_t lse_shape[] = {y->shape[0], y->shape[1] / head_dim};
    attention_keys buffers[2];
    sky_tensor sum, lse, part, part_lse;
    SKY_TRY(alloc_ring_buffer(ctx, s, o, &buffers[0]));
    SKY_TRY(alloc_ring_buffer(ctx, s, o, &buffers[1]));
    SKY_TRY(sky_ctx_tensor(ctx, &sum, SKY_F32, 2, queries));
    SKY_TRY(sky_ctx_tensor(ctx, &lse, SKY_F32, 2, lse_shape));
    SKY_TRY(sky_ctx_tensor(ctx, &part, SKY_F32, 2, queries));
    SKY_TRY(sky_ctx_tensor(ctx, &part_lse, SKY_F32, 2, lse_shape));

    attention_keys from = {.k = o->k.gathered, .k_scale = o->k_scale.gathered, .v = o->v.gathered};
    bool first = true;
    for (int step = 0; step < s->ring_degree; step++) {
        const attention_keys *to = &buffers[step % 2];
        const int64_t rows = sky_sequence_block(s, sky_sequence_ring_block(s, step)).count;
        const attention_keys keys = {.k = filled(&from.k, rows),
                                     .k_scale = filled(&from.k_scale, num_groups(rows, SKY_K_GROUP_TOKENS)),
                                     .v = filled(&from.v, num_groups(rows, o->v.tokens_per_row))};
        if (step + 1 < s->ring_degree) {
            SKY_TRY(pass_begin(ctx, s, o, step, &from, to, exchange));
        }
        SKY_TRY(attend(ctx, p, o, &keys, first ? &sum : &part, first ? &lse : &part_lse));
        if (!first && rows > 0 && sky_tensor_len(y) > 0) {
            SKY_TRY(sky_merge_attention(
                ctx, &(sky_merge_attention_args){
                         .y = by_heads(p, &sum), .lse = lse, .other = by_heads(p, &part), .other_lse = part_lse}));
        }
        first = first && rows == 0;
        SKY_TRY(sky_sequence_gather_end(ctx, s, exchange));
        from = *to;
    }
    const sky_tensor v_mean =
        sky_tensor_present(&o->v_mean) ? sky_tensor_reshape(&o->v_mean, 1, &y->shape[1]) : o->v_mean;
    return sky_convert(ctx, &(sky_convert_args){.y = *y, .x = sum, .shift = v_mean});
}

static sky_status attend_to_all(sky_ctx *ctx, const transformer_pass *p, const attention_operands *o,
                                attention_exchanges *x)
{
    const sky_sequence *s = &p->sequence;
    const sky_span heads = sky_sequence_own_heads(s);
    const int64_t head_dim = p->model->dims.head_dim;
    const sky_tensor no_lse = {0};
    sky_tensor y = p->attended;
    if (s->ulysses_degree > 1) {
        SKY_TRY(sky_ctx_tensor(ctx, &y, p->attended.dtype, 2,
                               (int64_t[]){sky_sequence_own_block(s).count, heads.count * head_dim}));
    }
    SKY_TRY(sky_sequence_gather_end(ctx, s, &x->keys));
    SKY_TRY(sky_sequence_gather_end(ctx, s, &x->queries));
    if (passes_around(s)) {
        SKY_TRY(attend_around_ring(ctx, p, o, &x->keys, &y));
    } else {
        const attention_keys keys = {.k = o->k.gathered, .k_scale = o->k_scale.gathered, .v = o->v.gathered};
        SKY_TRY(attend(ctx, p, o, &keys, &y, &no_lse));
    }
    if (s->ulysses_degree == 1) {
        return SKY_OK;
    }
    if (sky_transformer_attended_parts(p) > 1) {
        return sky_sequence_scatter(ctx, s, head_dim, &y, &p->attended);
    }
    /* By way of p->q: queries have been sent, or are codes by now. */
    SKY_TRY(sky_sequence_scatter(ctx, s, head_dim, &y, &p->q));
    return sky_sequence_unpack(ctx, s, head_dim, &p->q, &p->attended);
}

sky_status sky_transformer_attend(sky_ctx *ctx, const transformer_pass *p, int64_t layer,
                                  const transformer_input *input)
{
    const size_t mark = sky_arena_mark(ctx->arena);
    attention_operands o = {0};
    attention_exchanges x = {0};
    sky_status st = p->model->arithmetic.attention_8bit ? make_operands_8bit(ctx, p, layer, input, &o, &x)
                                                        : make_operands(ctx, p, layer, input, &o, &x);
    if (st == SKY_OK) {
        st = attend_to_all(ctx, p, &o, &x);
    }
    /* On failure, what is still under way owns buffers of ours. */
    SKY_KEEP_FIRST(st, sky_sequence_gather_end(ctx, &p->sequence, &x.keys));
    SKY_KEEP_FIRST(st, sky_sequence_gather_end(ctx, &p->sequence, &x.queries));
    sky_arena_release(ctx->arena, mark);
    return st;
}
