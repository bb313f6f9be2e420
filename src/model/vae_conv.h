/*
 * model/vae_conv.h - convolutions of the VAE: the frames before a chunk, and the rows around a strip
 *
 * Inside model/vae*.c only. Activations are [T, H, W, C] in the compute type, H the rows of this rank's strip, or of whole
 * frames (strips NULL).
 *
 * A convolution over height sees one row beyond its own, and one over time the two frames before its own. What it reads is
 * one tensor that holds all of it, "extended":
 *
 *     frames   [ past (2) | the chunk's (T) ]        kept from the chunk before, rows around them too: sent once
 *     rows     [ above (0 or 1) | own (H) | below (0 or 1) ]     of the neighbours, where there are such
 *
 * Where there is no neighbour the frame's border is padded with zeros. What goes before a convolution (norm and SiLU, or a
 * copy) writes own rows of new frames in place; then the neighbours' rows are exchanged.
 */
#ifndef SKY_MODEL_VAE_CONV_H
#define SKY_MODEL_VAE_CONV_H

#include "ops/ctx.h"
#include "parallel/strips.h"

typedef struct vae_conv {
    sky_tensor weight; /* [O, kT, kH, kW, C], compute type */
    sky_tensor bias;   /* [O], compute type */
} vae_conv;

/* With stride 2 a row needs those below only. */
typedef enum vae_sides { VAE_BOTH_SIDES, VAE_BELOW } vae_sides;

/* Rows of the neighbours around this rank's: 0 or 1 each. */
typedef struct vae_halo {
    int above, below;
} vae_halo;
vae_halo sky_vae_halo_of(const sky_strips *strips, vae_sides sides);

/* x's shape with those rows; no memory behind it. */
sky_tensor sky_vae_extended_shape(const sky_strips *strips, const sky_tensor *x, vae_sides sides);

/* x with the neighbours' rows, in memory from ctx's arena; x itself where there are none. Collective over the strips. */
sky_status sky_vae_extend(sky_ctx *ctx, const sky_strips *strips, const sky_tensor *x, vae_sides sides,
                          sky_tensor *out);

/* Memory for the num_frames frames of x's shape (extended if the convolution's input is) before a clip: zeros. */
sky_status sky_vae_past_init(sky_ctx *ctx, int64_t num_frames, const sky_tensor *x, sky_tensor *past);

/* Memory from ctx's arena for num_frames frames behind those of past, which are copied to the front. */
sky_status sky_vae_behind_past(sky_ctx *ctx, const sky_tensor *past, int64_t num_frames, sky_tensor *out);

/* Keeps the last frames of x in past. */
sky_status sky_vae_past_keep(sky_ctx *ctx, const sky_tensor *past, const sky_tensor *x);

/*
 * A convolution over time of x [T, H, W, C], which follows past; the last frames of both are kept for the next chunk. Over
 * height and width too if its kernel is of three there: then y has own rows. With a kernel of one y has the rows that past
 * has, the neighbours' with them. Collective over the strips.
 */
sky_status sky_vae_conv_in_time(sky_ctx *ctx, const sky_strips *strips, const vae_conv *conv, const sky_tensor *past,
                                const sky_tensor *x, const sky_tensor *y);

/*
 * The same of silu(norm(x)), with a kernel of three; y may be x. Collective over the strips.
 */
sky_status sky_vae_norm_conv(sky_ctx *ctx, const sky_strips *strips, const sky_tensor *gamma, const vae_conv *conv,
                             const sky_tensor *past, const sky_tensor *x, const sky_tensor *y);

/* The convolution by itself: x is extended, its past in front. */
sky_status sky_vae_conv_extended(sky_ctx *ctx, const sky_strips *strips, const vae_conv *conv, int stride_t,
                                 const sky_tensor *x, const sky_tensor *y);

/* A kernel of one: x [T, H, W, C] -> y [T, H, W, O], position by position. */
sky_status sky_vae_conv_point(sky_ctx *ctx, const vae_conv *conv, const sky_tensor *x, const sky_tensor *y);

#endif
