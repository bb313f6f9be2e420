/*
 * model/transformer.h - the SkyReels-V2 diffusion transformer (Wan2.1 architecture)
 *
 * Latents [16, F, H, W] are cut into patches of 1 x 2 x 2: S = F * H/2 * W/2 tokens of width dim. Every block modulates
 * by the timestep, attends over all tokens, attends to the text, and runs a feed-forward; the head gives the velocity.
 *
 *     sky_transformer *model = NULL;
 *     sky_text_kv kv = {0};
 *     const sky_arithmetic fp8 = {.compute = SKY_BF16, .linear = SKY_F8_E4M3, .attention_8bit = true};
 *     SKY_TRY(sky_transformer_create(weights, &fp8, &model));
 *     SKY_TRY(sky_transformer_condition(ctx, model, &text, NULL, &kv)); // once per prompt
 *     SKY_TRY(sky_transformer_forward(ctx, model, &(sky_transformer_args){
 *         .velocity = velocity, .latents = latents, .freqs = freqs, .timestep = 999.0F, .kv = &kv}));
 *     sky_transformer_destroy(&model);
 */
#ifndef SKY_MODEL_TRANSFORMER_H
#define SKY_MODEL_TRANSFORMER_H

#include "model/observe.h"
#include "model/rope.h"
#include "model/text_encoder.h"
#include "parallel/sequence.h"
#include "weights/store.h"

typedef struct sky_transformer sky_transformer;

typedef struct sky_transformer_dims {
    int64_t dim, ffn_dim, num_heads, head_dim, num_layers;
    int64_t in_dim, out_dim; /* latent channels */
    int64_t text_dim, freq_dim;
    float eps;
} sky_transformer_dims;

/*
 * Dimensions from the shapes of the tensors, held against config.json where there is one.
 * Errors: INPUT where a tensor is missing; MISMATCH where shapes or config.json disagree, or the checkpoint is of a
 * kind that this version does not run (image to video, fps embedding).
 */
sky_status sky_transformer_infer(const sky_weights *weights, sky_transformer_dims *out);

/*
 * What the blocks compute in. compute: residual between blocks, and everything 16-bit or wider (f32 or bf16). linear: format
 * of the blocks' linear layers: compute's own type, or e4m3 or i8 codes. attention_8bit: self-attention on INT8 queries and
 * keys and e4m3 values; cross-attention is in compute. Time embedding, modulation, norms and head are f32 in any case.
 */
typedef struct sky_arithmetic {
    sky_dtype compute;
    sky_dtype linear;
    bool attention_8bit;
} sky_arithmetic;

/* Loads the weights through the store, which keeps them and outlives the model. Errors: those of sky_transformer_infer() and of the store. */
sky_status sky_transformer_create(sky_weights *weights, const sky_arithmetic *arithmetic, sky_transformer **out);
void sky_transformer_destroy(sky_transformer **model);

const sky_transformer_dims *sky_transformer_get_dims(const sky_transformer *model);

/* Keys and values of the text for every block: they depend on neither step nor latents. */
typedef struct sky_text_kv {
    sky_tensor k; /* [num_layers, SKY_TEXT_LEN, dim], normalised, compute type */
    sky_tensor v; /* the same shape */
} sky_text_kv;

/*
 * text [SKY_TEXT_LEN, text_dim] in the compute type, all rows, padding included (zeros, which the text embedding turns
 * into a constant that is attended to, as published). kv's tensors come from ctx's arena and stay allocated.
 */
sky_status sky_transformer_condition(sky_ctx *ctx, const sky_transformer *model, const sky_tensor *text,
                                     const sky_observer *observer, sky_text_kv *kv);

typedef struct sky_transformer_args {
    sky_tensor velocity; /* [out_dim, F, H, W] f32  out */
    sky_tensor latents;  /* [in_dim, F, H, W] f32, H and W even */
    sky_tensor freqs;    /* [tokens of this rank, head_dim / 2, 2] f32: sky_rope_fill */
    float timestep;
    const sky_text_kv *kv;
    const sky_sequence *sequence; /* NULL: whole on this rank */
    const sky_observer *observer; /* may be NULL; sees this rank's rows */
} sky_transformer_args;

/*
 * Temporary memory comes from ctx's arena and is given back. Collective over sequence->group: latents, timestep and text are
 * alike on its ranks, and each gets the whole velocity. What of a step may fail on one rank alone is to be held back
 * (sky_ctx_hold), or the others wait. Source: modules/transformer.py WanModel.forward.
 */
sky_status sky_transformer_forward(sky_ctx *ctx, const sky_transformer *model, const sky_transformer_args *args);

#endif
