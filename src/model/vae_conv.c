#include "model/vae_conv.h"

#include "ops/ops.h"

vae_halo sky_vae_halo_of(const sky_strips *strips, vae_sides sides)
{
    if (strips == NULL) {
        return (vae_halo){0};
    }
    return (vae_halo){.above = sides == VAE_BOTH_SIDES ? sky_strips_above(strips) : 0,
                      .below = sky_strips_below(strips)};
}

sky_tensor sky_vae_extended_shape(const sky_strips *strips, const sky_tensor *x, vae_sides sides)
{
    const vae_halo halo = sky_vae_halo_of(strips, sides);
    sky_tensor extended = *x;
    extended.data = NULL;
    extended.shape[1] += halo.above + halo.below;
    return extended;
}

/* [T, rows, W, C] -> [T, rows * W * C] */
static sky_tensor as_lines(const sky_tensor *x)
{
    return sky_tensor_reshape(x, 2, (int64_t[]){x->shape[0], x->shape[1] * x->shape[2] * x->shape[3]});
}

/* The neighbours' rows into a tensor whose own rows are there. */
static sky_status fill_halo(sky_ctx *ctx, const sky_strips *strips, vae_sides sides, const sky_tensor *wide)
{
    return strips == NULL ? SKY_OK : sky_strips_exchange(ctx, strips, wide, sides == VAE_BOTH_SIDES, 1);
}

/* x's rows into a tensor that is to have the neighbours' too, and these. */
static sky_status copy_and_fill(sky_ctx *ctx, const sky_strips *strips, const sky_tensor *x, vae_sides sides,
                                const sky_tensor *wide)
{
    const sky_tensor from = as_lines(x);
    SKY_TRY(sky_copy_columns(
        ctx, &(sky_copy_columns_args){.y = as_lines(wide),
                                      .x = from,
                                      .y_first = sky_vae_halo_of(strips, sides).above * x->shape[2] * x->shape[3],
                                      .num_columns = from.shape[1]}));
    return fill_halo(ctx, strips, sides, wide);
}

sky_status sky_vae_extend(sky_ctx *ctx, const sky_strips *strips, const sky_tensor *x, vae_sides sides, sky_tensor *out)
{
    const sky_tensor shape = sky_vae_extended_shape(strips, x, sides);
    if (sky_tensor_same_shape(&shape, x)) {
        *out = *x;
        return fill_halo(ctx, strips, sides, out); /* a neighbour may want this rank's rows */
    }
    SKY_TRY(sky_ctx_tensor(ctx, out, x->dtype, x->num_dims, shape.shape));
    return copy_and_fill(ctx, strips, x, sides, out);
}

/* y's own rows = silu(norm(x)); then the neighbours' rows. */
static sky_status norm_silu(sky_ctx *ctx, const sky_strips *strips, const sky_tensor *gamma, const sky_tensor *x,
                            const sky_tensor *y)
{
    SKY_TRY(sky_channel_norm(ctx, &(sky_channel_norm_args){.y = *y,
                                                           .x = *x,
                                                           .gamma = *gamma,
                                                           .y_first_row = sky_vae_halo_of(strips, VAE_BOTH_SIDES).above,
                                                           .silu = true}));
    return fill_halo(ctx, strips, VAE_BOTH_SIDES, y);
}

/* num_frames frames as t's from ctx's arena. */
static sky_status new_frames(sky_ctx *ctx, const sky_tensor *t, int64_t num_frames, sky_tensor *out)
{
    const int64_t *shape = t->shape;
    return sky_ctx_tensor(ctx, out, t->dtype, 4, (int64_t[]){num_frames, shape[1], shape[2], shape[3]});
}

sky_status sky_vae_past_init(sky_ctx *ctx, int64_t num_frames, const sky_tensor *x, sky_tensor *past)
{
    SKY_TRY(new_frames(ctx, x, num_frames, past));
    return sky_ctx_zero(ctx, past);
}

/* Frames [first, ..) of from over all of to. */
static sky_status copy_frames(sky_ctx *ctx, const sky_tensor *to, const sky_tensor *from, int64_t first)
{
    const sky_tensor frames = sky_tensor_rows(from, first, to->shape[0]);
    return sky_ctx_copy(ctx, to, &frames);
}

sky_status sky_vae_behind_past(sky_ctx *ctx, const sky_tensor *past, int64_t num_frames, sky_tensor *out)
{
    SKY_TRY(new_frames(ctx, past, past->shape[0] + num_frames, out));
    const sky_tensor front = sky_tensor_rows(out, 0, past->shape[0]);
    return copy_frames(ctx, &front, past, 0);
}

sky_status sky_vae_past_keep(sky_ctx *ctx, const sky_tensor *past, const sky_tensor *x)
{
    return copy_frames(ctx, past, x, x->shape[0] - past->shape[0]);
}

sky_status sky_vae_conv_in_time(sky_ctx *ctx, const sky_strips *strips, const vae_conv *conv, const sky_tensor *past,
                                const sky_tensor *x, const sky_tensor *y)
{
    const size_t mark = sky_arena_mark(ctx->arena);
    sky_tensor extended;
    SKY_TRY(sky_vae_behind_past(ctx, past, x->shape[0], &extended));
    const sky_tensor frames = sky_tensor_rows(&extended, past->shape[0], x->shape[0]);
    SKY_TRY(copy_and_fill(ctx, strips, x, VAE_BOTH_SIDES, &frames));
    SKY_TRY(sky_vae_conv_extended(ctx, strips, conv, 1, &extended, y));
    SKY_TRY(sky_vae_past_keep(ctx, past, &extended));
    sky_arena_release(ctx->arena, mark);
    return SKY_OK;
}

sky_status sky_vae_norm_conv(sky_ctx *ctx, const sky_strips *strips, const sky_tensor *gamma, const vae_conv *conv,
                             const sky_tensor *past, const sky_tensor *x, const sky_tensor *y)
{
    const size_t mark = sky_arena_mark(ctx->arena);
    sky_tensor extended;
    SKY_TRY(sky_vae_behind_past(ctx, past, x->shape[0], &extended));
    const sky_tensor normed = sky_tensor_rows(&extended, past->shape[0], x->shape[0]);
    SKY_TRY(norm_silu(ctx, strips, gamma, x, &normed));
    SKY_TRY(sky_vae_conv_extended(ctx, strips, conv, 1, &extended, y));
    SKY_TRY(sky_vae_past_keep(ctx, past, &extended));
    sky_arena_release(ctx->arena, mark);
    return SKY_OK;
}

sky_status sky_vae_conv_extended(sky_ctx *ctx, const sky_strips *strips, const vae_conv *conv, int stride_t,
                                 const sky_tensor *x, const sky_tensor *y)
{
    /* A kernel of three has one row or column of zeros on each side that is the frame's, a kernel of one has none. */
    const int pad_h = (int)conv->weight.shape[2] / 2;
    const int pad_w = (int)conv->weight.shape[3] / 2;
    const vae_halo halo = pad_h > 0 ? sky_vae_halo_of(strips, VAE_BOTH_SIDES) : (vae_halo){0};
    return sky_conv3d(ctx, &(sky_conv3d_args){.y = *y,
                                              .x = *x,
                                              .weight = conv->weight,
                                              .bias = conv->bias,
                                              .stride_t = stride_t,
                                              .stride_hw = 1,
                                              .pad_top = pad_h - halo.above,
                                              .pad_bottom = pad_h - halo.below,
                                              .pad_left = pad_w,
                                              .pad_right = pad_w});
}

sky_status sky_vae_conv_point(sky_ctx *ctx, const vae_conv *conv, const sky_tensor *x, const sky_tensor *y)
{
    return sky_conv3d(ctx,
                      &(sky_conv3d_args){
                          .y = *y, .x = *x, .weight = conv->weight, .bias = conv->bias, .stride_t = 1, .stride_hw = 1});
}
