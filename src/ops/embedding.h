/*
 * ops/embedding.h - rows of a table by index
 *
 *     y[s, c] = table[ids[s], c]
 *
 * Shapes   ids [S]; table [V, C]; y [S, C]
 * Types    ids i32, on the device, each in [0, V) (the tokenizer's caller keeps them there); table and y f32 or bf16, the same
 * Errors   SHAPE, DTYPE
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 * Source   torch.nn.Embedding.
 */
#ifndef SKY_OPS_EMBEDDING_H
#define SKY_OPS_EMBEDDING_H

#include "ops/ctx.h"

typedef struct sky_embedding_args {
    sky_tensor y;     /* [S, C]  out */
    sky_tensor table; /* [V, C] */
    sky_tensor ids;   /* [S] i32 */
} sky_embedding_args;

sky_status sky_embedding(sky_ctx *ctx, const sky_embedding_args *args);

#endif
