/* Dimensions and weights of the transformer. Names: docs/model.md. */
#include "model/block_name.h"
#include "model/transformer_impl.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { NAME_BYTES = SKY_BLOCK_NAME_BYTES, PATCH = 4, HEAD_DIM = 128 };

static bool has(const sky_weights *weights, const char *name)
{
    int num_dims = 0;
    int64_t shape[SKY_MAX_DIMS];
    return sky_weights_shape(weights, name, &num_dims, shape);
}

/* config.json writes a number under the original's or Diffusers' key; where it does, it must be the tensors'. */
static sky_status agree_with_config(const json_t *config, const char *key, const char *other_key, int64_t value)
{
    const json_t *entry = json_object_get(config, key);
    if (entry == NULL && other_key != NULL) {
        entry = json_object_get(config, other_key);
    }
    if (entry == NULL) {
        return SKY_OK;
    }
    if (!json_is_integer(entry) || json_integer_value(entry) != (json_int_t)value) {
        char *text = json_dumps(entry, JSON_ENCODE_ANY | JSON_COMPACT);
        const sky_status st =
            sky_fail(SKY_ERR_MISMATCH, "transformer: config.json says %s = %.40s, the tensors say %" PRId64, key,
                     text != NULL ? text : "?", value);
        free(text);
        return st;
    }
    return SKY_OK;
}

static sky_status check_config(const json_t *config, sky_transformer_dims *d)
{
    SKY_TRY(agree_with_config(config, "num_heads", "num_attention_heads", d->num_heads));
    SKY_TRY(agree_with_config(config, "attention_head_dim", NULL, d->head_dim));
    SKY_TRY(agree_with_config(config, "dim", NULL, d->dim));
    SKY_TRY(agree_with_config(config, "ffn_dim", NULL, d->ffn_dim));
    SKY_TRY(agree_with_config(config, "num_layers", NULL, d->num_layers));
    SKY_TRY(agree_with_config(config, "in_dim", "in_channels", d->in_dim));
    SKY_TRY(agree_with_config(config, "out_dim", "out_channels", d->out_dim));
    SKY_TRY(agree_with_config(config, "freq_dim", NULL, d->freq_dim));
    SKY_TRY(agree_with_config(config, "text_dim", NULL, d->text_dim));
    const json_t *eps = json_object_get(config, "eps");
    if (eps != NULL) {
        const double value = json_number_value(eps);
        if (!json_is_number(eps) || !(value > 0.0 && value < 1.0)) {
            return sky_fail(SKY_ERR_MISMATCH, "transformer: config.json: eps must be a number in (0, 1)");
        }
        d->eps = (float)value;
    }
    return SKY_OK;
}

static sky_status refuse_other_kinds(const sky_weights *weights)
{
    if (has(weights, "img_emb.proj.0.weight")) {
        return sky_fail(
            SKY_ERR_MISMATCH,
            "transformer: this is an image-to-video checkpoint; this version renders text-to-video ones only");
    }
    if (has(weights, "fps_embedding.weight")) {
        return sky_fail(SKY_ERR_MISMATCH,
                        "transformer: this is a diffusion-forcing checkpoint with an fps embedding; this "
                        "version renders text-to-video ones only");
    }
    return SKY_OK;
}

sky_status sky_transformer_infer(const sky_weights *weights, sky_transformer_dims *out)
{
    int64_t shape[SKY_MAX_DIMS] = {0};
    sky_transformer_dims d = {.eps = 1e-6F};
    SKY_TRY(refuse_other_kinds(weights));
    SKY_TRY(sky_weights_need_shape(weights, "patch_embedding.weight", 5, shape));
    d.dim = shape[0];
    d.in_dim = shape[1];
    SKY_TRY(sky_weights_need_shape(weights, "text_embedding.0.weight", 2, shape));
    d.text_dim = shape[1];
    SKY_TRY(sky_weights_need_shape(weights, "time_embedding.0.weight", 2, shape));
    d.freq_dim = shape[1];
    SKY_TRY(sky_weights_need_shape(weights, "blocks.0.ffn.0.weight", 2, shape));
    d.ffn_dim = shape[0];
    SKY_TRY(sky_weights_need_shape(weights, "head.head.weight", 2, shape));
    d.out_dim = shape[0] / PATCH;
    char name[NAME_BYTES];
    do {
        snprintf(name, sizeof name, "blocks.%" PRId64 ".modulation", ++d.num_layers);
    } while (has(weights, name));

    /* Shapes do not tell the number of heads; every published model has heads of 128. */
    d.head_dim = HEAD_DIM;
    if (d.dim % HEAD_DIM != 0 || d.freq_dim % 2 != 0 || d.freq_dim == 0) {
        return sky_fail(SKY_ERR_MISMATCH,
                        "transformer: want a dim of multiples of %d and an even freq_dim, the tensors say %" PRId64
                        " and %" PRId64,
                        HEAD_DIM, d.dim, d.freq_dim);
    }
    d.num_heads = d.dim / HEAD_DIM;
    SKY_TRY(check_config(sky_weights_config(weights), &d));
    *out = d;
    return SKY_OK;
}

/* One place per loading: the model, the store, and the block that names are in (-1: none). */
typedef struct loader {
    const sky_transformer *model;
    sky_weights *weights;
    int64_t layer;
} loader;

static sky_status load_f32(const loader *l, const char *name, int num_dims, const int64_t *shape, sky_tensor *out)
{
    char full[NAME_BYTES];
    sky_weight_request request = {
        .dtype = SKY_F32, .round_bf16 = l->model->arithmetic.compute == SKY_BF16, .num_dims = num_dims};
    for (int i = 0; i < num_dims; i++) {
        request.shape[i] = shape[i];
    }
    sky_block_name(l->layer, name, "", full);
    return sky_weights_get(l->weights, full, &request, out);
}

static sky_status load_vector(const loader *l, const char *name, int64_t len, sky_tensor *out)
{
    return load_f32(l, name, 1, (int64_t[]){len}, out);
}

static sky_status load_compute(const loader *l, const char *name, const char *suffix, int num_dims,
                               const int64_t *shape, sky_tensor *out)
{
    char full[NAME_BYTES];
    sky_weight_request request = {.dtype = l->model->arithmetic.compute, .num_dims = num_dims};
    for (int i = 0; i < num_dims; i++) {
        request.shape[i] = shape[i];
    }
    sky_block_name(l->layer, name, suffix, full);
    return sky_weights_get(l->weights, full, &request, out);
}

static sky_status load_linear(const loader *l, const char *name, int64_t out_features, int64_t in_features,
                              transformer_linear *out)
{
    SKY_TRY(load_compute(l, name, ".weight", 2, (int64_t[]){out_features, in_features}, &out->weight));
    return load_compute(l, name, ".bias", 1, &out_features, &out->bias);
}

/* A linear layer of a block: codes and scales in an 8-bit format. */
static sky_status load_block_linear(const loader *l, const char *name, int64_t out_features, int64_t in_features,
                                    transformer_linear *out)
{
    const sky_arithmetic *arithmetic = &l->model->arithmetic;
    char full[NAME_BYTES];
    if (arithmetic->linear == arithmetic->compute) {
        return load_linear(l, name, out_features, in_features, out);
    }
    sky_block_name(l->layer, name, ".weight", full);
    SKY_TRY(sky_weights_get_8bit(l->weights, full, arithmetic->linear, out_features, in_features, &out->weight,
                                 &out->scale));
    return load_compute(l, name, ".bias", 1, &out_features, &out->bias);
}

static sky_status load_block(const loader *l, transformer_block *b)
{
    const sky_transformer_dims *d = &l->model->dims;
    sky_weights_begin_group(l->weights, 0);
    SKY_TRY(load_f32(l, "modulation", 3, (int64_t[]){1, 6, d->dim}, &b->modulation));
    b->modulation = sky_tensor_reshape(&b->modulation, 2, (int64_t[]){6, d->dim});
    sky_weights_begin_group(l->weights, transformer_text_group(l->model, l->layer));
    SKY_TRY(load_block_linear(l, "cross_attn.k", d->dim, d->dim, &b->cross_k));
    SKY_TRY(load_block_linear(l, "cross_attn.v", d->dim, d->dim, &b->cross_v));
    SKY_TRY(load_vector(l, "cross_attn.norm_k.weight", d->dim, &b->cross_norm_k));
    sky_weights_begin_group(l->weights, transformer_block_group(l->layer));
    SKY_TRY(load_block_linear(l, "self_attn.q", d->dim, d->dim, &b->q));
    SKY_TRY(load_block_linear(l, "self_attn.k", d->dim, d->dim, &b->k));
    SKY_TRY(load_block_linear(l, "self_attn.v", d->dim, d->dim, &b->v));
    SKY_TRY(load_block_linear(l, "self_attn.o", d->dim, d->dim, &b->o));
    SKY_TRY(load_vector(l, "self_attn.norm_q.weight", d->dim, &b->norm_q));
    SKY_TRY(load_vector(l, "self_attn.norm_k.weight", d->dim, &b->norm_k));
    SKY_TRY(load_vector(l, "norm3.weight", d->dim, &b->norm3_weight));
    SKY_TRY(load_vector(l, "norm3.bias", d->dim, &b->norm3_bias));
    SKY_TRY(load_block_linear(l, "cross_attn.q", d->dim, d->dim, &b->cross_q));
    SKY_TRY(load_block_linear(l, "cross_attn.o", d->dim, d->dim, &b->cross_o));
    SKY_TRY(load_vector(l, "cross_attn.norm_q.weight", d->dim, &b->cross_norm_q));
    SKY_TRY(load_block_linear(l, "ffn.0", d->ffn_dim, d->dim, &b->ffn_0));
    return load_block_linear(l, "ffn.2", d->dim, d->ffn_dim, &b->ffn_2);
}

static sky_status load_embeddings(const loader *l, sky_transformer *m)
{
    const sky_transformer_dims *d = &m->dims;
    SKY_TRY(load_compute(l, "patch_embedding", ".weight", 5, (int64_t[]){d->dim, d->in_dim, 1, 2, 2},
                         &m->patch_embedding.weight));
    m->patch_embedding.weight =
        sky_tensor_reshape(&m->patch_embedding.weight, 2, (int64_t[]){d->dim, d->in_dim * PATCH});
    SKY_TRY(load_compute(l, "patch_embedding", ".bias", 1, &d->dim, &m->patch_embedding.bias));
    SKY_TRY(load_linear(l, "text_embedding.0", d->dim, d->text_dim, &m->text_0));
    SKY_TRY(load_linear(l, "text_embedding.2", d->dim, d->dim, &m->text_2));
    SKY_TRY(load_linear(l, "time_embedding.0", d->dim, d->freq_dim, &m->time_0));
    SKY_TRY(load_linear(l, "time_embedding.2", d->dim, d->dim, &m->time_2));
    return load_linear(l, "time_projection.1", 6 * d->dim, d->dim, &m->time_projection);
}

static sky_status load_head(const loader *l, sky_transformer *m)
{
    const sky_transformer_dims *d = &m->dims;
    SKY_TRY(load_f32(l, "head.modulation", 3, (int64_t[]){1, 2, d->dim}, &m->head_modulation));
    m->head_modulation = sky_tensor_reshape(&m->head_modulation, 2, (int64_t[]){2, d->dim});
    return load_linear(l, "head.head", d->out_dim * PATCH, d->dim, &m->head);
}

sky_status sky_transformer_create(sky_weights *weights, const sky_arithmetic *arithmetic, sky_transformer **out)
{
    sky_status st = SKY_OK;
    sky_transformer *m = calloc(1, sizeof *m);
    if (m == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "transformer");
    }
    m->weights = weights;
    m->arithmetic = *arithmetic;
    loader l = {.model = m, .weights = weights, .layer = -1};
    SKY_TRY_GOTO(sky_transformer_infer(weights, &m->dims));
    m->blocks = calloc((size_t)m->dims.num_layers, sizeof *m->blocks);
    if (m->blocks == NULL) {
        st = sky_fail(SKY_ERR_NOMEM, "transformer: %" PRId64 " blocks", m->dims.num_layers);
        goto done;
    }
    SKY_TRY_GOTO(load_embeddings(&l, m));
    for (l.layer = 0; l.layer < m->dims.num_layers; l.layer++) {
        SKY_TRY_GOTO(load_block(&l, &m->blocks[l.layer]));
    }
    l.layer = -1;
    sky_weights_begin_group(weights, 0);
    SKY_TRY_GOTO(load_head(&l, m));
    *out = m;
    m = NULL;
done:
    sky_transformer_destroy(&m);
    return st;
}

void sky_transformer_destroy(sky_transformer **model)
{
    if (*model != NULL) {
        free((*model)->blocks);
        free(*model);
        *model = NULL;
    }
}

const sky_transformer_dims *sky_transformer_get_dims(const sky_transformer *model)
{
    return &model->dims;
}
