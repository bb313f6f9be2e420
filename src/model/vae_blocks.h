/*
 * model/vae_blocks.h - the layers of the VAE's encoder and decoder, and what each keeps of the past
 *
 * Inside model/vae*.c only. Activations are [T, H, W, C] in the compute type, H the rows of this rank's strip, or of whole
 * frames (strips NULL). A layer takes height and width from its input; attention alone needs the whole frame, everything
 * else sees at most one row beyond its own (vae_conv.h). A clip passes in chunks of frames; `first` says that the chunk
 * begins the clip, which is always a chunk of one frame.
 */
#ifndef SKY_MODEL_VAE_BLOCKS_H
#define SKY_MODEL_VAE_BLOCKS_H

#include "model/vae_conv.h"

/* A linear layer. Its rows depend on their place within 128 (ops/linear.h), so it is for whole frames, by themselves. */
typedef struct vae_linear {
    sky_tensor weight; /* [O, C], compute type */
    sky_tensor bias;   /* [O], compute type */
} vae_linear;

/* x (or its shortcut) + conv2(silu(norm2(conv1(silu(norm1(x)))))) */
typedef struct vae_residual {
    sky_tensor norm1, norm2; /* [C] f32 */
    vae_conv conv1, conv2;
    vae_conv shortcut; /* 1 x 1 x 1; absent where the width stays */
} vae_residual;

/* One head as wide as the frame's channels, over the positions of each frame by itself. */
typedef struct vae_attention {
    sky_tensor norm;
    vae_linear q, k, v, proj;
} vae_attention;

/* Up: time (3 x 1 x 1, twice the channels), then nearest x2 and conv. Down: conv with stride 2, then time with stride 2. */
typedef struct vae_resample {
    vae_conv conv; /* 1 x 3 x 3 */
    vae_conv time; /* absent where only height and width change */
} vae_resample;

typedef enum vae_layer_kind { VAE_RESIDUAL, VAE_ATTENTION, VAE_UPSAMPLE, VAE_DOWNSAMPLE } vae_layer_kind;

typedef struct vae_layer {
    vae_layer_kind kind;
    int64_t in_channels, out_channels;
    union {
        vae_residual residual;
        vae_attention attention;
        vae_resample resample;
    };
} vae_layer;

/* The frames before the next chunk that a layer's convolutions in time need: two, [2, H, W, C], extended as the inputs of
 * those convolutions are; down: one, own rows. Zeros at the clip's start, which are the padding in time. Residual: inputs
 * of conv1, conv2; resample: input of time. */
typedef struct vae_layer_past {
    sky_tensor frames[2];
} vae_layer_past;

/* What the layer makes of x's shape. */
sky_tensor sky_vae_layer_output(const vae_layer *layer, bool first, const sky_tensor *x);

/* Whether the layer changes x itself; its output is then x and takes no memory. */
bool sky_vae_layer_in_place(const vae_layer *layer);

/* Takes the memory for what is kept from ctx's arena and clears it; x is the shape of any chunk. */
sky_status sky_vae_layer_past_init(sky_ctx *ctx, const sky_strips *strips, const vae_layer *layer, const sky_tensor *x,
                                   vae_layer_past *past);

/* y is x where the layer works in place. Temporary memory is given back. Collective over the strips. */
sky_status sky_vae_layer_run(sky_ctx *ctx, const sky_strips *strips, const vae_layer *layer, vae_layer_past *past,
                             bool first, const sky_tensor *x, const sky_tensor *y);

#endif
