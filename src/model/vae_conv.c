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

sky_tensor sky_vae_own_rows(const sky_strips *strips, vae_sides sides, const sky_tensor *extended, int64_t t)
{
    const vae_halo halo = sky_vae_halo_of(strips, sides);
    const sky_tensor frame = sky_tensor_rows(extended, t, 1);
    const sky_tensor rows = sky_tensor_reshape(&frame, 3, &frame.shape[1]);
    const int64_t num_own = rows.shape[0] - halo.above - halo.below;
    const sky_tensor own = sky_tensor_rows(&rows, halo.above, num_own);
    return sky_tensor_reshape(&own, 4, (int64_t[]){1, num_own, rows.shape[1], rows.shape[2]});
}

sky_status sky_vae_extended(sky_ctx *ctx, const sky_strips *strips, const sky_tensor *x, vae_sides sides,
                            sky_tensor *out)
{
    const sky_tensor shape = sky_vae_extended_shape(strips, x, sides);
    if (sky_tensor_same_shape(&shape, x)) {
        *out = *x;
        return SKY_OK;
    }
    return sky_ctx_tensor(ctx, out, x->dtype, x->num_dims, shape.shape);
}

sky_status sky_vae_fill_halo(sky_ctx *ctx, const sky_strips *strips, vae_sides sides, const sky_tensor *extended)
{
    return strips == NULL ? SKY_OK : sky_strips_exchange(ctx, strips, extended, sides == VAE_BOTH_SIDES, 1);
}

sky_status sky_vae_extend(sky_ctx *ctx, const sky_strips *strips, const sky_tensor *x, vae_sides sides, sky_tensor *out)
{
    SKY_TRY(sky_vae_extended(ctx, strips, x, sides, out));
    if (!sky_tensor_same_shape(out, x)) {
        for (int64_t t = 0; t < x->shape[0]; t++) {
            const sky_tensor to = sky_vae_own_rows(strips, sides, out, t);
            const sky_tensor from = sky_tensor_rows(x, t, 1);
            SKY_TRY(sky_ctx_copy(ctx, &to, &from));
        }
    }
    return sky_vae_fill_halo(ctx, strips, sides, out);
}

sky_status sky_vae_norm_silu(sky_ctx *ctx, const sky_strips *strips, const sky_tensor *gamma, const sky_tensor *x,
                             const sky_tensor *y)
{
    sky_channel_norm_args args = {.y = *y, .x = *x, .gamma = *gamma, .silu = true};
    if (sky_tensor_same_shape(x, y)) {
        SKY_TRY(sky_channel_norm(ctx, &args));
    } else {
        for (int64_t t = 0; t < x->shape[0]; t++) { /* own rows of two frames do not touch */
            args.y = sky_vae_own_rows(strips, VAE_BOTH_SIDES, y, t);
            args.x = sky_tensor_rows(x, t, 1);
            SKY_TRY(sky_channel_norm(ctx, &args));
        }
    }
    return sky_vae_fill_halo(ctx, strips, VAE_BOTH_SIDES, y);
}

sky_status sky_vae_past_init(sky_ctx *ctx, int64_t num_frames, const sky_tensor *x, sky_tensor *past)
{
    const int64_t *shape = x->shape;
    SKY_TRY(sky_ctx_tensor(ctx, past, x->dtype, 4, (int64_t[]){num_frames, shape[1], shape[2], shape[3]}));
    return sky_ctx_zero(ctx, past);
}

sky_status sky_vae_past_push(sky_ctx *ctx, sky_tensor *past, const sky_tensor *x)
{
    const int64_t num_kept = past->shape[0];
    const int64_t num_new = x->shape[0] < num_kept ? x->shape[0] : num_kept;
    /* One frame at a time, from the front: what a frame is written over has been moved or is not needed. */
    for (int64_t t = 0; t < num_kept - num_new; t++) {
        const sky_tensor to = sky_tensor_rows(past, t, 1);
        const sky_tensor from = sky_tensor_rows(past, t + num_new, 1);
        SKY_TRY(sky_ctx_copy(ctx, &to, &from));
    }
    const sky_tensor to = sky_tensor_rows(past, num_kept - num_new, num_new);
    const sky_tensor from = sky_tensor_rows(x, x->shape[0] - num_new, num_new);
    return sky_ctx_copy(ctx, &to, &from);
}

sky_status sky_vae_conv_in_time(sky_ctx *ctx, const sky_strips *strips, const vae_conv *conv, int stride_t,
                                sky_tensor *past, const sky_tensor *x, const sky_tensor *y)
{
    /* A kernel of three has one row or column of zeros on each side that is the frame's, a kernel of one has none. */
    const int pad_h = (int)conv->weight.shape[2] / 2;
    const int pad_w = (int)conv->weight.shape[3] / 2;
    const vae_halo halo = pad_h > 0 ? sky_vae_halo_of(strips, VAE_BOTH_SIDES) : (vae_halo){0};
    SKY_TRY(sky_conv3d(ctx, &(sky_conv3d_args){.y = *y,
                                               .x = *x,
                                               .past = *past,
                                               .weight = conv->weight,
                                               .bias = conv->bias,
                                               .stride_t = stride_t,
                                               .stride_hw = 1,
                                               .pad_top = pad_h - halo.above,
                                               .pad_bottom = pad_h - halo.below,
                                               .pad_left = pad_w,
                                               .pad_right = pad_w}));
    return sky_vae_past_push(ctx, past, x);
}

sky_status sky_vae_conv_point(sky_ctx *ctx, const vae_conv *conv, const sky_tensor *x, const sky_tensor *y)
{
    return sky_conv3d(ctx,
                      &(sky_conv3d_args){
                          .y = *y, .x = *x, .weight = conv->weight, .bias = conv->bias, .stride_t = 1, .stride_hw = 1});
}
