/*
 * model/transformer_impl.h - what the transformer's files share; private to them
 */
#ifndef SKY_MODEL_TRANSFORMER_IMPL_H
#define SKY_MODEL_TRANSFORMER_IMPL_H

#include "model/transformer.h"
#include "ops/linear_sums.h"

enum { NUM_MODULATIONS = 6 }; /* shift, scale, gate of attention and of the feed-forward */

typedef struct transformer_linear {
    sky_tensor weight; /* [out, in], or its codes */
    sky_tensor scale;  /* [out] f32 of codes; absent: weight is in the compute type */
    sky_tensor bias;   /* [out] compute type */
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
    sky_weights *weights; /* borrowed */
    sky_transformer_dims dims;
    sky_arithmetic arithmetic;
    transformer_linear patch_embedding; /* as a matrix [dim, in_dim * 4] */
    transformer_linear text_0, text_2;  /* text embedding */
    transformer_linear time_0, time_2, time_projection;
    sky_tensor head_modulation; /* [2, dim] f32 */
    transformer_linear head;
    transformer_block *blocks;
};

/* Groups of weights (weights/store.h): a block's, and its share of conditioning. What a pass reads of all blocks is in 0. */
static inline int transformer_block_group(int64_t layer)
{
    return 1 + (int)layer;
}

static inline int transformer_text_group(const sky_transformer *m, int64_t layer)
{
    return 1 + (int)(m->dims.num_layers + layer);
}

/* The input that the layers to come share: numbers in the compute type, or codes. The op before them writes it so. */
typedef struct transformer_input {
    sky_tensor x;     /* [rows, cols] */
    sky_tensor scale; /* [rows] f32; absent: x is no codes */
} transformer_input;

/* What a linear layer leaves for the op behind it, of some of its rows: numbers in the compute type, or sums. */
typedef struct transformer_output {
    sky_tensor x;         /* [rows, cols] compute type or i32 */
    sky_linear_sums sums; /* with i32 */
} transformer_output;

/* Everything that a pass needs beside the weights; one set serves all blocks. */
typedef struct transformer_pass {
    const sky_transformer *model;
    const sky_transformer_args *args;
    sky_sequence sequence;
    sky_span tokens;       /* this rank's rows */
    sky_tensor time;       /* [1, dim] f32: e */
    sky_tensor modulation; /* [6 * num_layers, dim] f32: of all blocks */
    sky_tensor x;          /* [rows, dim] f32: the residual stream; between blocks its values are of the compute type */
    transformer_input input; /* [rows, dim]: what the next layers read */
    sky_tensor q, attended;  /* [rows, dim] compute type, while a block attends */
} transformer_pass;

/* x [rows, columns] as [rows, heads, head_dim] */
static inline sky_tensor by_heads(const transformer_pass *p, const sky_tensor *x)
{
    const int64_t head_dim = p->model->dims.head_dim;
    return sky_tensor_reshape(x, 3, (int64_t[]){x->shape[0], x->shape[1] / head_dim, head_dim});
}

/*
 * Parts in which self-attention leaves p->attended (parallel/sequence.h): as it came from the other ranks where codes are made
 * of it, which can be done from there; one where a linear layer reads it.
 */
static inline int sky_transformer_attended_parts(const transformer_pass *p)
{
    return sky_tensor_present(&p->input.scale) ? p->sequence.ulysses_degree : 1;
}

/* ---- transformer_linear.c: the linear layers, in any format ---- */

/*
 * Memory for the input of layers of the blocks, and some rows of it. make_input: x in its memory's codes (with scales of its
 * own, from ctx's arena), or where there are none x itself; codes are made from num_parts parts of num_heads heads.
 */
sky_status sky_transformer_alloc_input(sky_ctx *ctx, const sky_transformer *m, int64_t rows, int64_t cols,
                                       transformer_input *out);
transformer_input sky_transformer_input_rows(const transformer_input *input, sky_span rows);
sky_status sky_transformer_make_input(sky_ctx *ctx, const sky_tensor *x, int num_parts, int64_t num_heads,
                                      const transformer_input *memory, transformer_input *out);

/* y = x weight + bias, y f32 or bf16. */
sky_status sky_transformer_apply(sky_ctx *ctx, const transformer_linear *linear, const transformer_input *input,
                                 const sky_tensor *y);

/*
 * Between two linear layers a backend may want i32 sums (sky_backend.linear_sums_rows). Then a layer and the op behind it go
 * through the rows in pieces of whole token groups, so that the sums of all need not be held at once; otherwise there is one
 * piece:
 *
 *     SKY_TRY(sky_transformer_alloc_output(ctx, m, rows, cols, &memory));
 *     for (sky_span piece = sky_transformer_first_piece(ctx, m, rows); piece.count > 0;
 *          piece = sky_transformer_next_piece(piece, rows)) {
 *         SKY_TRY(sky_transformer_apply_piece(ctx, linear, &input, piece, &memory, &out));
 *         ... an op that reads out.x with out.sums
 *     }
 */
bool sky_transformer_leaves_sums(const sky_ctx *ctx, const sky_transformer *m);
sky_span sky_transformer_first_piece(const sky_ctx *ctx, const sky_transformer *m, int64_t rows);
sky_span sky_transformer_next_piece(sky_span piece, int64_t rows);
sky_status sky_transformer_alloc_output(sky_ctx *ctx, const sky_transformer *m, int64_t rows, int64_t cols,
                                        sky_tensor *memory);
sky_status sky_transformer_apply_piece(sky_ctx *ctx, const transformer_linear *linear, const transformer_input *input,
                                       sky_span piece, const sky_tensor *memory, transformer_output *out);

/* ---- transformer_see.c: values shown to the pass's observer ---- */

/* A value of block 0 only: enough to tell where a mistake is, and cheap. Codes and sums are not shown. */
sky_status sky_transformer_see(sky_ctx *ctx, const transformer_pass *p, int64_t layer, const char *what,
                               const sky_tensor *value);

/* The residual stream between blocks, in the compute type; its memory is planned for in any case. */
sky_status sky_transformer_see_residual(sky_ctx *ctx, const transformer_pass *p, int64_t layer);

/* ---- transformer_attention.c ---- */

/*
 * Self-attention of a block over all tokens, on any layout: from the layers' input to p->attended [rows, dim], this rank's
 * tokens, all heads, in sky_transformer_attended_parts(). Uses p->q. Collective over p->sequence.
 */
sky_status sky_transformer_attend(sky_ctx *ctx, const transformer_pass *p, int64_t layer,
                                  const transformer_input *input);

/* ---- transformer_block.c ---- */

/* Makes p->input of the first block from p->x. */
sky_status sky_transformer_begin_blocks(sky_ctx *ctx, const transformer_pass *p);

/* From p->x and p->input to those of the next block; the last leaves p->x only. */
sky_status sky_transformer_run_block(sky_ctx *ctx, transformer_pass *p, int64_t layer);

#endif
