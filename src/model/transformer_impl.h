/*
 * model/transformer_impl.h - what the transformer's files share; private to them
 */
#ifndef SKY_MODEL_TRANSFORMER_IMPL_H
#define SKY_MODEL_TRANSFORMER_IMPL_H

#include "model/transformer.h"

typedef struct transformer_linear {
    sky_tensor weight; /* [out, in] */
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
    sky_dtype compute;
    transformer_linear patch_embedding;                 /* as a matrix [dim, in_dim * 4] */
    transformer_linear text_0, text_2;                  /* text embedding */
    transformer_linear time_0, time_2, time_projection; /* f32 */
    sky_tensor head_modulation;                         /* [2, dim] f32 */
    transformer_linear head;                            /* f32 */
    transformer_block *blocks;
};

#endif
