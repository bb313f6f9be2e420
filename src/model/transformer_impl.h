/*
 * model/transformer_impl.h - what the transformer's files share; private to them
 */
#ifndef SKY_MODEL_TRANSFORMER_IMPL_H
#define SKY_MODEL_TRANSFORMER_IMPL_H

#include "model/transformer.h"

typedef struct transformer_linear {
    sky_tensor weight; /* [out, in], or its codes */
    sky_tensor scale;  /* [out] f32 of codes; absent: weight is in the compute type or f32 */
    sky_tensor bias;   /* [out] f32 */
} transformer_linear;

typedef struct transformer_block {
    sky_tensor modulation; /* [6, dim] f32 */
    transformer_linear q, k, v, o;
    sky_tensor norm_q, norm_k; /* [dim] f32 */
    sky_tensor norm3_weight, norm3_bias;
    transformer_linear cross_q, cross_k, cross_v, cross_o;
    sky_tensor cross_norm_q, cross_norm_k;
    transformer_linear ffn_0, ffn_2;
} transformer_block;

struct sky_transformer {
    sky_transformer_dims dims;
    sky_arithmetic arithmetic;
    transformer_linear patch_embedding;                 /* as a matrix [dim, in_dim * 4] */
    transformer_linear text_0, text_2;                  /* text embedding */
    transformer_linear time_0, time_2, time_projection; /* f32 */
    sky_tensor head_modulation;                         /* [2, dim] f32 */
    transformer_linear head;                            /* f32 */
    transformer_block *blocks;
};

/*
 * The input that the layers to come share: x itself, or its codes in an 8-bit format. Codes are made of the f32 values
 * where an op produces them, so such an op writes f32 (input_dtype) and nothing is rounded on the way.
 */
typedef struct transformer_input {
    sky_tensor x;
    sky_tensor scale;  /* [rows] f32; absent: x is no codes */
    sky_tensor source; /* what codes were made of */
} transformer_input;

/* Room for one input of up to max_cols columns. */
typedef struct transformer_room {
    sky_tensor codes; /* [rows, max_cols] */
    sky_tensor scale; /* [rows] */
    sky_tensor plain; /* [rows, max_cols] compute type, for layers that are excepted from codes */
} transformer_room;

/* Everything that a pass needs beside the weights; one set serves all blocks. */
typedef struct transformer_pass {
    const sky_transformer *model;
    const sky_transformer_args *args;
    sky_sequence sequence;
    sky_span tokens;        /* this rank's rows */
    sky_tensor time;        /* [1, dim] f32: e */
    sky_tensor time6;       /* [6, dim] f32: e0 */
    sky_tensor m;           /* [6, dim] f32: modulation of the block at hand */
    sky_tensor x;           /* [rows, dim] f32: residual stream inside a block */
    sky_tensor x_between;   /* [rows, dim] compute type: between blocks (x itself in f32) */
    sky_tensor normed;      /* [rows, dim] on its way into linear layers (input_dtype) */
    sky_tensor delta;       /* [rows, dim] compute type: a sub-layer's output (normed itself where alike) */
    sky_tensor q, attended; /* [rows, dim] compute type */
    transformer_room room;
} transformer_pass;

/* x [rows, columns] as [rows, heads, head_dim] */
static inline sky_tensor by_heads(const transformer_pass *p, const sky_tensor *x)
{
    const int64_t head_dim = p->model->dims.head_dim;
    return sky_tensor_reshape(x, 3, (int64_t[]){x->shape[0], x->shape[1] / head_dim, head_dim});
}

/* ---- transformer_linear.c: the linear layers, in any format ---- */

sky_status sky_transformer_apply(sky_ctx *ctx, const transformer_linear *linear, const sky_tensor *x,
                                 const sky_tensor *y);

/* Type in which an op hands values to a linear layer of a block: f32 where codes are made of them. */
sky_dtype sky_transformer_input_dtype(const sky_transformer *m);

sky_status sky_transformer_alloc_room(sky_ctx *ctx, const sky_transformer *m, int64_t rows, int64_t max_cols,
                                      transformer_room *room);

/* The input that the layers to come share, in room; stays valid until the next one is made there. */
sky_status sky_transformer_make_input(sky_ctx *ctx, const sky_transformer *m, const transformer_room *room,
                                      const sky_tensor *x, transformer_input *out);

/* A linear layer of a block. */
sky_status sky_transformer_apply_block(sky_ctx *ctx, const sky_transformer *m, const transformer_linear *linear,
                                       const transformer_room *room, const transformer_input *input,
                                       const sky_tensor *y);

/* ---- transformer_attention.c ---- */

/*
 * Self-attention of a block over all tokens, on any layout: from the layers' input to p->attended [rows, dim], this rank's
 * tokens, all heads. Uses p->q. Collective over p->sequence.
 */
sky_status sky_transformer_attend(sky_ctx *ctx, const transformer_pass *p, int64_t layer,
                                  const transformer_input *input);

/* ---- transformer_block.c ---- */

/* Shows a value of block 0 only: enough to tell where a mistake is, and cheap. */
sky_status sky_transformer_see(sky_ctx *ctx, const transformer_pass *p, int64_t layer, const char *what,
                               const sky_tensor *value);

sky_status sky_transformer_apply_in_pass(sky_ctx *ctx, const transformer_pass *p, const transformer_linear *linear,
                                         const transformer_input *input, const sky_tensor *y);

sky_status sky_transformer_run_block(sky_ctx *ctx, const transformer_pass *p, int64_t layer);

#endif
