#include "model/text_encoder.h"

#include "model/block_name.h"
#include "ops/ops.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { NUM_BUCKETS = 32, NAME_BYTES = SKY_BLOCK_NAME_BYTES };

static const float norm_eps = 1e-6F;

/* [out, in] in the compute type, or e4m3 codes with their scales. */
typedef struct matrix {
    sky_tensor weight;
    sky_tensor scale; /* [out] f32; absent: weight is no codes */
} matrix;

typedef struct block {
    sky_tensor norm1, norm2;
    matrix q, k, v, o;
    matrix gate, up, down;
    float *bias_table; /* [NUM_BUCKETS, num_heads], host */
} block;

struct sky_text_encoder {
    sky_weights *weights; /* borrowed; each block is a group of them: 1 + its number */
    sky_dtype compute;
    bool fp8_storage;
    int64_t vocab_size, dim, attn_dim, ffn_dim, num_heads;
    int64_t num_layers;
    sky_tensor embedding;
    sky_tensor final_norm;
    block *blocks;
};

int sky_text_encoder_bucket(int64_t relative_position)
{
    /* Smallest distance of the logarithmic buckets 8 to 15: 8 + trunc(ln(d/8) / ln(16) * 8). */
    static const int64_t first_distance[] = {8, 12, 16, 23, 32, 46, 64, 91};
    const int half = relative_position > 0 ? NUM_BUCKETS / 2 : 0;
    const int64_t distance = relative_position < 0 ? -relative_position : relative_position;
    if (distance < first_distance[0]) {
        return half + (int)distance;
    }
    int bucket = 8;
    while (bucket < 15 && distance >= first_distance[bucket - 7]) {
        bucket++;
    }
    return half + bucket;
}

int64_t sky_text_encoder_dim(const sky_text_encoder *encoder)
{
    return encoder->dim;
}

int64_t sky_text_encoder_vocab_size(const sky_text_encoder *encoder)
{
    return encoder->vocab_size;
}

static sky_status infer_dims(sky_text_encoder *e, const sky_weights *weights)
{
    int64_t shape[SKY_MAX_DIMS] = {0};
    SKY_TRY(sky_weights_need_shape(weights, "token_embedding.weight", 2, shape));
    e->vocab_size = shape[0];
    e->dim = shape[1];
    SKY_TRY(sky_weights_need_shape(weights, "blocks.0.attn.q.weight", 2, shape));
    e->attn_dim = shape[0];
    SKY_TRY(sky_weights_need_shape(weights, "blocks.0.ffn.fc1.weight", 2, shape));
    e->ffn_dim = shape[0];
    SKY_TRY(sky_weights_need_shape(weights, "blocks.0.pos_embedding.embedding.weight", 2, shape));
    e->num_heads = shape[1];
    if (e->num_heads < 1 || e->attn_dim % e->num_heads != 0) {
        return sky_fail(SKY_ERR_MISMATCH,
                        "text encoder: %" PRId64 " attention channels do not divide into %" PRId64 " heads",
                        e->attn_dim, e->num_heads);
    }
    char name[NAME_BYTES];
    int num_dims = 0;
    do {
        snprintf(name, sizeof name, "blocks.%" PRId64 ".norm1.weight", ++e->num_layers);
    } while (sky_weights_shape(weights, name, &num_dims, shape));
    return SKY_OK;
}

static sky_status get_vector(const sky_text_encoder *e, sky_weights *weights, int64_t layer, const char *name,
                             sky_tensor *out)
{
    char full[NAME_BYTES];
    sky_block_name(layer, name, "", full);
    return sky_weights_get(
        weights, full,
        &(sky_weight_request){.dtype = SKY_F32, .round_bf16 = e->compute == SKY_BF16, .num_dims = 1, .shape = {e->dim}},
        out);
}

static sky_status get_matrix(const sky_text_encoder *e, sky_weights *weights, int64_t layer, const char *name,
                             int64_t rows, int64_t cols, matrix *out)
{
    char full[NAME_BYTES];
    sky_block_name(layer, name, "", full);
    if (e->fp8_storage) {
        return sky_weights_get_8bit(weights, full, SKY_F8_E4M3, rows, cols, &out->weight, &out->scale);
    }
    return sky_weights_get(
        weights, full, &(sky_weight_request){.dtype = e->compute, .num_dims = 2, .shape = {rows, cols}}, &out->weight);
}

static sky_status load_bias_table(sky_ctx *ctx, const sky_text_encoder *e, sky_weights *weights, int64_t layer,
                                  float **out)
{
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "blocks.%" PRId64 ".pos_embedding.embedding.weight", layer);
    const sky_weight_request request = {
        .dtype = SKY_F32, .round_bf16 = e->compute == SKY_BF16, .num_dims = 2, .shape = {NUM_BUCKETS, e->num_heads}};
    sky_tensor table = {0};
    SKY_TRY(sky_weights_get(weights, name, &request, &table));
    *out = malloc(sky_tensor_bytes(&table));
    if (*out == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "%s: %zu bytes", name, sky_tensor_bytes(&table));
    }
    return sky_ctx_download(ctx, *out, &table);
}

static sky_status load_block(sky_ctx *ctx, sky_text_encoder *e, sky_weights *weights, int64_t layer)
{
    block *b = &e->blocks[layer];
    SKY_TRY(get_vector(e, weights, layer, "norm1.weight", &b->norm1));
    SKY_TRY(get_matrix(e, weights, layer, "attn.q.weight", e->attn_dim, e->dim, &b->q));
    SKY_TRY(get_matrix(e, weights, layer, "attn.k.weight", e->attn_dim, e->dim, &b->k));
    SKY_TRY(get_matrix(e, weights, layer, "attn.v.weight", e->attn_dim, e->dim, &b->v));
    SKY_TRY(get_matrix(e, weights, layer, "attn.o.weight", e->dim, e->attn_dim, &b->o));
    SKY_TRY(load_bias_table(ctx, e, weights, layer, &b->bias_table));
    SKY_TRY(get_vector(e, weights, layer, "norm2.weight", &b->norm2));
    SKY_TRY(get_matrix(e, weights, layer, "ffn.gate.0.weight", e->ffn_dim, e->dim, &b->gate));
    SKY_TRY(get_matrix(e, weights, layer, "ffn.fc1.weight", e->ffn_dim, e->dim, &b->up));
    return get_matrix(e, weights, layer, "ffn.fc2.weight", e->dim, e->ffn_dim, &b->down);
}

static sky_status load_embedding(sky_text_encoder *e, sky_weights *weights)
{
    return sky_weights_get(weights, "token_embedding.weight",
                           &(sky_weight_request){.dtype = e->compute, .num_dims = 2, .shape = {e->vocab_size, e->dim}},
                           &e->embedding);
}

sky_status sky_text_encoder_create(sky_ctx *ctx, sky_weights *weights, sky_dtype compute, bool fp8_storage,
                                   sky_text_encoder **out)
{
    sky_status st = SKY_OK;
    sky_text_encoder *e = calloc(1, sizeof *e);
    if (e == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "text encoder");
    }
    e->weights = weights;
    e->compute = compute;
    e->fp8_storage = fp8_storage;
    SKY_TRY_GOTO(infer_dims(e, weights));
    e->blocks = calloc((size_t)e->num_layers, sizeof *e->blocks);
    if (e->blocks == NULL) {
        st = sky_fail(SKY_ERR_NOMEM, "text encoder: %" PRId64 " blocks", e->num_layers);
        goto done;
    }
    SKY_TRY_GOTO(load_embedding(e, weights));
    for (int64_t i = 0; i < e->num_layers; i++) {
        sky_weights_begin_group(weights, 1 + (int)i);
        SKY_TRY_GOTO(load_block(ctx, e, weights, i));
    }
    sky_weights_begin_group(weights, 0);
    SKY_TRY_GOTO(get_vector(e, weights, -1, "norm.weight", &e->final_norm));
    *out = e;
    e = NULL;
done:
    sky_text_encoder_destroy(&e);
    return st;
}

void sky_text_encoder_destroy(sky_text_encoder **encoder)
{
    sky_text_encoder *e = *encoder;
    if (e == NULL) {
        return;
    }
    for (int64_t i = 0; e->blocks != NULL && i < e->num_layers; i++) {
        free(e->blocks[i].bias_table);
    }
    free(e->blocks);
    free(e);
    *encoder = NULL;
}

/* Expands a block's table to rel_bias [num_heads, 2S - 1]: entry S - 1 + r belongs to keys r behind the query. */
static sky_status upload_bias(sky_ctx *ctx, const sky_text_encoder *e, const block *b, int64_t num_ids, float *host,
                              const sky_tensor *bias)
{
    const int64_t width = 2 * num_ids - 1;
    for (int64_t head = 0; head < e->num_heads; head++) {
        for (int64_t i = 0; i < width; i++) {
            const int bucket = sky_text_encoder_bucket(i - (num_ids - 1));
            host[head * width + i] = b->bias_table[bucket * e->num_heads + head];
        }
    }
    return sky_ctx_upload(ctx, bias, host);
}

typedef struct activations {
    sky_tensor x;                 /* [S, dim] residual stream */
    sky_tensor normed;            /* [S, dim] */
    sky_tensor q, k, v, attended; /* [S, attn_dim] */
    sky_tensor gate, up;          /* [S, ffn_dim] */
    sky_tensor delta;             /* [S, dim] */
    sky_tensor bias;              /* [num_heads, 2S - 1] f32 */
    sky_tensor widened;           /* with fp8_storage: room for the largest matrix, compute type */
} activations;

static sky_status alloc_activations(sky_ctx *ctx, const sky_text_encoder *e, int64_t s, activations *a)
{
    const struct {
        sky_tensor *tensor;
        int64_t cols;
    } all[] = {{&a->x, e->dim},        {&a->normed, e->dim}, {&a->q, e->attn_dim},
               {&a->k, e->attn_dim},   {&a->v, e->attn_dim}, {&a->attended, e->attn_dim},
               {&a->gate, e->ffn_dim}, {&a->up, e->ffn_dim}, {&a->delta, e->dim}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        SKY_TRY(sky_ctx_tensor(ctx, all[i].tensor, e->compute, 2, (int64_t[]){s, all[i].cols}));
    }
    if (e->fp8_storage) {
        const int64_t widest = e->attn_dim > e->ffn_dim ? e->attn_dim : e->ffn_dim;
        SKY_TRY(sky_ctx_tensor(ctx, &a->widened, e->compute, 1, (int64_t[]){widest * e->dim}));
    }
    return sky_ctx_tensor(ctx, &a->bias, SKY_F32, 2, (int64_t[]){e->num_heads, 2 * s - 1});
}

static sky_status apply(sky_ctx *ctx, const activations *a, const matrix *m, const sky_tensor *x, const sky_tensor *y)
{
    sky_tensor weight = m->weight;
    if (sky_tensor_present(&m->scale)) {
        weight = SKY_TENSOR(a->widened.data, a->widened.dtype, m->weight.shape[0], m->weight.shape[1]);
        SKY_TRY(
            sky_dequantize_rows(ctx, &(sky_dequantize_rows_args){.y = weight, .codes = m->weight, .scale = m->scale}));
    }
    return sky_linear(ctx, &(sky_linear_args){.y = *y, .x = *x, .weight = weight});
}

static sky_status attend(sky_ctx *ctx, const sky_text_encoder *e, const block *b, const activations *a)
{
    const int64_t heads[] = {a->x.shape[0], e->num_heads, e->attn_dim / e->num_heads};
    SKY_TRY(sky_rms_norm(
        ctx,
        &(sky_rms_norm_args){.y = a->normed, .x = a->x, .weight = b->norm1, .eps = norm_eps, .round_normed = true}));
    SKY_TRY(apply(ctx, a, &b->q, &a->normed, &a->q));
    SKY_TRY(apply(ctx, a, &b->k, &a->normed, &a->k));
    SKY_TRY(apply(ctx, a, &b->v, &a->normed, &a->v));
    SKY_TRY(sky_attention(ctx, &(sky_attention_args){.y = sky_tensor_reshape(&a->attended, 3, heads),
                                                     .q = sky_tensor_reshape(&a->q, 3, heads),
                                                     .k = sky_tensor_reshape(&a->k, 3, heads),
                                                     .v = sky_tensor_reshape(&a->v, 3, heads),
                                                     .rel_bias = a->bias,
                                                     .softmax_scale = 1.0F}));
    SKY_TRY(apply(ctx, a, &b->o, &a->attended, &a->delta));
    return sky_add(ctx, &(sky_add_args){.y = a->x, .a = a->x, .b = a->delta});
}

static sky_status feed_forward(sky_ctx *ctx, const block *b, const activations *a)
{
    SKY_TRY(sky_rms_norm(
        ctx,
        &(sky_rms_norm_args){.y = a->normed, .x = a->x, .weight = b->norm2, .eps = norm_eps, .round_normed = true}));
    SKY_TRY(apply(ctx, a, &b->gate, &a->normed, &a->gate));
    SKY_TRY(apply(ctx, a, &b->up, &a->normed, &a->up));
    SKY_TRY(sky_gated_gelu(ctx, &(sky_gated_gelu_args){.y = a->up, .up = a->up, .gate = a->gate}));
    SKY_TRY(apply(ctx, a, &b->down, &a->up, &a->delta));
    return sky_add(ctx, &(sky_add_args){.y = a->x, .a = a->x, .b = a->delta});
}

static sky_status run(sky_ctx *ctx, const sky_text_encoder *e, const sky_text_encode_args *args, float *host_bias)
{
    activations a = {0};
    sky_tensor ids = {0};
    SKY_TRY(alloc_activations(ctx, e, args->num_ids, &a));
    SKY_TRY(sky_ctx_tensor(ctx, &ids, SKY_I32, 1, (int64_t[]){args->num_ids}));
    SKY_TRY(sky_ctx_upload(ctx, &ids, args->ids));
    SKY_TRY(sky_embedding(ctx, &(sky_embedding_args){.y = a.x, .table = e->embedding, .ids = ids}));
    for (int64_t i = 0; i < e->num_layers; i++) {
        char name[NAME_BYTES];
        SKY_TRY(sky_weights_use(ctx, e->weights, 1 + (int)i));
        SKY_TRY(upload_bias(ctx, e, &e->blocks[i], args->num_ids, host_bias, &a.bias));
        SKY_TRY(attend(ctx, e, &e->blocks[i], &a));
        SKY_TRY(feed_forward(ctx, &e->blocks[i], &a));
        snprintf(name, sizeof name, "blocks.%" PRId64, i);
        SKY_TRY(sky_observe(args->observer, ctx, name, &a.x));
    }
    const sky_tensor real = sky_tensor_rows(&args->out, 0, args->num_ids);
    const sky_tensor padding = sky_tensor_rows(&args->out, args->num_ids, SKY_TEXT_LEN - args->num_ids);
    SKY_TRY(sky_rms_norm(
        ctx,
        &(sky_rms_norm_args){.y = real, .x = a.x, .weight = e->final_norm, .eps = norm_eps, .round_normed = true}));
    return sky_ctx_zero(ctx, &padding);
}

sky_status sky_text_encoder_encode(sky_ctx *ctx, const sky_text_encoder *e, const sky_text_encode_args *args)
{
    if (args->num_ids < 1 || args->num_ids > SKY_TEXT_LEN) {
        return sky_fail(SKY_ERR_USAGE, "text encoder: %" PRId64 " tokens, want 1 to %d", args->num_ids, SKY_TEXT_LEN);
    }
    for (int64_t i = 0; i < args->num_ids; i++) {
        if (args->ids[i] < 0 || args->ids[i] >= e->vocab_size) {
            return sky_fail(SKY_ERR_USAGE,
                            "text encoder: token %" PRId64 " has id %d, the embedding has %" PRId64
                            " rows: the tokenizer does not belong to this text encoder",
                            i, args->ids[i], e->vocab_size);
        }
    }
    float *host_bias = malloc((size_t)(e->num_heads * (2 * args->num_ids - 1)) * sizeof *host_bias);
    if (host_bias == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "text encoder: position bias");
    }
    const size_t mark = sky_arena_mark(ctx->arena);
    const sky_status st = run(ctx, e, args, host_bias);
    sky_arena_release(ctx->arena, mark);
    free(host_bias);
    return st;
}
