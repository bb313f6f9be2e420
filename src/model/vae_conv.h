/*
 * model/vae_conv.h - convolutions of the VAE: the frames before a chunk, and the rows around a strip
 *
 * Inside model/vae*.c only. Activations are [T, H, W, C] in the compute type, H the rows of this rank's strip, or of whole
 * frames (strips NULL).
 *
 * A convolution over height sees one row beyond its own. A tensor is "extended" when it has that row of the neighbour above
 * and below around own rows, where there are such neighbours: it is then the convolution's input, and where there is no
 * neighbour the frame's border is padded with zeros. Without strips nothing is extended and nothing is copied.
 *
 *     sky_tensor wide;
 *     SKY_TRY(sky_vae_extended(ctx, strips, x, VAE_BOTH_SIDES, &wide));   // memory, where x has not the room
 *     ... own rows into wide: sky_vae_own_rows(strips, VAE_BOTH_SIDES, &wide, t)
 *     SKY_TRY(sky_vae_fill_halo(ctx, strips, VAE_BOTH_SIDES, &wide));     // the neighbours' rows
 *     SKY_TRY(sky_vae_conv_in_time(ctx, strips, conv, 1, past, &wide, y));// y has own rows
 */
#ifndef SKY_MODEL_VAE_CONV_H
#define SKY_MODEL_VAE_CONV_H

#include "ops/ctx.h"
#include "parallel/strips.h"

typedef struct vae_conv {
    sky_tensor weight; /* [O, kT, kH, kW, C], compute type */
    sky_tensor bias;   /* [O] f32 */
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

/* Frame t's own rows of an extended tensor, [1, H, W, C]. */
sky_tensor sky_vae_own_rows(const sky_strips *strips, vae_sides sides, const sky_tensor *extended, int64_t t);

/* Memory from ctx's arena for x extended, with nothing in it; x itself where there is nothing to extend. */
sky_status sky_vae_extended(sky_ctx *ctx, const sky_strips *strips, const sky_tensor *x, vae_sides sides,
                            sky_tensor *out);

/* The neighbours' rows into the extended tensor, whose own rows are there. Collective over the strips. */
sky_status sky_vae_fill_halo(sky_ctx *ctx, const sky_strips *strips, vae_sides sides, const sky_tensor *extended);

/* All three at once: x copied where that is needed, and the neighbours' rows. Collective over the strips. */
sky_status sky_vae_extend(sky_ctx *ctx, const sky_strips *strips, const sky_tensor *x, vae_sides sides,
                          sky_tensor *out);

/* y = silu(norm(x)), y extended or x; then the neighbours' rows. Collective over the strips. */
sky_status sky_vae_norm_silu(sky_ctx *ctx, const sky_strips *strips, const sky_tensor *gamma, const sky_tensor *x,
                             const sky_tensor *y);

/* Memory for the num_frames frames of x's shape (extended if the convolution's input is) before a clip: zeros. */
sky_status sky_vae_past_init(sky_ctx *ctx, int64_t num_frames, const sky_tensor *x, sky_tensor *past);

/* Keeps the last frames of past followed by x. */
sky_status sky_vae_past_push(sky_ctx *ctx, sky_tensor *past, const sky_tensor *x);

/*
 * A convolution over time, and over height and width if its kernel is of three there, of a chunk x that follows past; then
 * x's last frames are kept. With a kernel of three over height x and past are extended and y has own rows; with a kernel of
 * one y has the rows that x has.
 */
sky_status sky_vae_conv_in_time(sky_ctx *ctx, const sky_strips *strips, const vae_conv *conv, int stride_t,
                                sky_tensor *past, const sky_tensor *x, const sky_tensor *y);

/* A kernel of one: x [T, H, W, C] -> y [T, H, W, O], position by position. */
sky_status sky_vae_conv_point(sky_ctx *ctx, const vae_conv *conv, const sky_tensor *x, const sky_tensor *y);

#endif
