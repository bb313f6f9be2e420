/*
 * model/vae_net.h - encoder or decoder as a whole: a convolution in, a list of layers, a head; and the object behind vae.h
 *
 * Inside model/vae*.c only.
 */
#ifndef SKY_MODEL_VAE_NET_H
#define SKY_MODEL_VAE_NET_H

#include "model/vae.h"
#include "model/vae_blocks.h"

enum { VAE_MAX_LAYERS = 18 }; /* the decoder: 3 in the middle, 3 x 4 residual, 3 upsampling */

typedef struct vae_net {
    vae_conv conv_in;
    vae_layer layers[VAE_MAX_LAYERS];
    int num_layers;
    sky_tensor head_norm; /* [C] f32 */
    vae_conv head;
} vae_net;

/* What a clip's next chunk needs of those before it; all of it in ctx's arena. */
typedef struct vae_net_past {
    sky_tensor conv_in, head;
    vae_layer_past layers[VAE_MAX_LAYERS];
    bool first; /* no chunk has passed yet */
} vae_net_past;

struct sky_vae {
    sky_dtype compute;
    vae_net decoder;
    vae_conv conv2; /* before the decoder, 16 -> 16, a kernel of one */
    bool has_encoder;
    vae_net encoder;
    vae_conv conv1; /* behind the encoder, 32 -> 32, a kernel of one: the mean's channels, then those of the variance */
};

/* Begins a clip whose chunks are [n, H, W, C]: takes the memory for what is kept and clears it. H is of this rank's strip,
 * or of whole frames (strips NULL). */
sky_status sky_vae_net_begin(sky_ctx *ctx, const sky_strips *strips, const vae_net *net, const sky_tensor *chunk,
                             vae_net_past *past);

/* The shape that a chunk comes out in; no memory behind it. */
sky_tensor sky_vae_net_output(const vae_net *net, bool first, const sky_tensor *chunk);

/* One chunk, y as sky_vae_net_output says. Temporary memory is given back. Collective over the strips. */
sky_status sky_vae_net_run(sky_ctx *ctx, const sky_strips *strips, const vae_net *net, vae_net_past *past,
                           const sky_tensor *x, const sky_tensor *y);

/* Mean and standard deviation of the latents per channel. Source: modules/vae.py WanVAE. */
extern const float sky_vae_latent_mean[SKY_VAE_LATENT_CHANNELS];
extern const float sky_vae_latent_std[SKY_VAE_LATENT_CHANNELS];

/* A tensor of ctx's arena with these values. */
sky_status sky_vae_constants(sky_ctx *ctx, const float values[SKY_VAE_LATENT_CHANNELS], sky_tensor *out);

/*
 * Frames of an array that lies channels first, all channels in one call: copies frames [first, first + count) of from
 * [C, T, H, W] into to [C, count, H, W], and back.
 */
sky_status sky_vae_frames_out_of(sky_ctx *ctx, const sky_tensor *from, int64_t first, const sky_tensor *to);
sky_status sky_vae_frames_into(sky_ctx *ctx, const sky_tensor *to, int64_t first, const sky_tensor *from);

/* Errors: SHAPE, DTYPE, unless latents [16, F, H, W] f32 and frames [3, 4F-3, 8H, 8W] (u8: [4F-3, 8H, 8W, 3]) agree, and H
 * is the rows of this rank's strip where there are strips. */
sky_status sky_vae_check(const sky_vae_args *args, bool u8_allowed);

/* Tells the caller that a chunk is done, having waited for it. */
sky_status sky_vae_report(sky_ctx *ctx, const sky_vae_args *args, int64_t done);

#endif
