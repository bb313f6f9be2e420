/*
 * model/vae.h - the Wan2.1 VAE: latents to frames and frames to latents, with the causal feature cache
 *
 * Frames pass in chunks of 1, 4, 4, ... (decoder: one latent frame a chunk); what a causal convolution needs of the past
 * is kept between chunks. Inside, activations are channels last, in the compute type (f32 or bf16).
 */
#ifndef SKY_MODEL_VAE_H
#define SKY_MODEL_VAE_H

#include "ops/ctx.h"
#include "parallel/strips.h"
#include "weights/store.h"

enum { SKY_VAE_LATENT_CHANNELS = 16, SKY_VAE_STRIDE_T = 4, SKY_VAE_STRIDE_HW = 8 };

typedef struct sky_vae sky_vae;

/* Called after each chunk: done and total latent frames. */
typedef void (*sky_vae_progress)(void *user, int64_t done, int64_t total);

typedef struct sky_vae_args {
    sky_tensor latents;        /* [16, F, H, W] f32, normalised */
    sky_tensor frames;         /* decode: [4F-3, 8H, 8W, 3] u8 out, or [3, 4F-3, 8H, 8W] f32 out, clamped to [-1, 1];
                           encode: [3, 4F-3, 8H, 8W] f32 in */
    const sky_strips *strips;  /* NULL: whole frames on this rank. Else H above is the rows of this rank's strip */
    sky_vae_progress progress; /* or NULL */
    void *user;
} sky_vae_args;

/*
 * Loads the weights through the store, which keeps them; widths come from the tensors. compute is f32 or bf16.
 * with_encoder: also load the encoder (image to video needs it).
 * Errors: MISMATCH where shapes do not fit together, those of the store.
 */
sky_status sky_vae_create(sky_weights *weights, sky_dtype compute, bool with_encoder, sky_vae **out);
void sky_vae_destroy(sky_vae **vae);

/*
 * Temporary memory and caches come from ctx's arena and are given back. With bf16, convolutions (weights, biases and
 * inputs rounded), attention and residual sums are rounded where the published code under autocast rounds them.
 * In planning mode latents and frames need a shape and a data pointer that is not NULL; nothing is computed or called back.
 * With a progress function each chunk is waited for. Frames decoded first do not depend on those that follow.
 * With strips both are collective over strips->group, and the bytes are those of whole frames; what may fail on one rank
 * alone is to be held back (sky_ctx_hold).
 * Errors: SHAPE, DTYPE where latents and frames do not fit together; USAGE for encoding without an encoder.
 * Source: modules/vae.py WanVAE.decode, .encode.
 */
sky_status sky_vae_decode(sky_ctx *ctx, const sky_vae *vae, const sky_vae_args *args);
sky_status sky_vae_encode(sky_ctx *ctx, const sky_vae *vae, const sky_vae_args *args);

#endif
