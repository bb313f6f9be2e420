#include "model/vae_net.h"

#include "ops/ops.h"

#include <inttypes.h>

/* Published modules/vae.py WanVAE.__init__. */
const float sky_vae_latent_mean[SKY_VAE_LATENT_CHANNELS] = {-0.7571F, -0.7089F, -0.9113F, 0.1075F,  -0.1745F, 0.9653F,
                                                            -0.1517F, 1.5508F,  0.4134F,  -0.0715F, 0.5517F,  -0.3632F,
                                                            -0.1922F, -0.9497F, 0.2503F,  -0.2921F};
const float sky_vae_latent_std[SKY_VAE_LATENT_CHANNELS] = {2.8184F, 1.4541F, 2.3275F, 2.6558F, 1.2196F, 1.7708F,
                                                           2.6052F, 2.0743F, 3.2687F, 2.1526F, 2.8652F, 1.5579F,
                                                           1.6382F, 1.1253F, 2.8251F, 1.9160F};

sky_status sky_vae_constants(sky_ctx *ctx, const float values[SKY_VAE_LATENT_CHANNELS], sky_tensor *out)
{
    SKY_TRY(sky_ctx_tensor(ctx, out, SKY_F32, 1, (int64_t[]){SKY_VAE_LATENT_CHANNELS}));
    return sky_ctx_upload(ctx, out, values);
}

/* Channels first, [C, T, H, W] -> [C, T * H * W]: frames are a range of columns. */
static sky_tensor as_planes(const sky_tensor *t)
{
    return sky_tensor_reshape(t, 2, (int64_t[]){t->shape[0], t->shape[1] * t->shape[2] * t->shape[3]});
}

sky_status sky_vae_frames_out_of(sky_ctx *ctx, const sky_tensor *from, int64_t first, const sky_tensor *to)
{
    const sky_tensor y = as_planes(to);
    return sky_copy_columns(ctx, &(sky_copy_columns_args){.y = y,
                                                          .x = as_planes(from),
                                                          .x_first = first * from->shape[2] * from->shape[3],
                                                          .num_columns = y.shape[1]});
}

sky_status sky_vae_frames_into(sky_ctx *ctx, const sky_tensor *to, int64_t first, const sky_tensor *from)
{
    const sky_tensor x = as_planes(from);
    return sky_copy_columns(ctx, &(sky_copy_columns_args){.y = as_planes(to),
                                                          .x = x,
                                                          .y_first = first * to->shape[2] * to->shape[3],
                                                          .num_columns = x.shape[1]});
}

/* x's shape with the channels that conv makes of it. */
static sky_tensor conv_output(const vae_conv *conv, const sky_tensor *x)
{
    sky_tensor y = *x;
    y.shape[3] = conv->weight.shape[0];
    return y;
}

sky_tensor sky_vae_net_output(const vae_net *net, bool first, const sky_tensor *chunk)
{
    sky_tensor t = conv_output(&net->conv_in, chunk);
    for (int i = 0; i < net->num_layers; i++) {
        t = sky_vae_layer_output(&net->layers[i], first, &t);
    }
    t = conv_output(&net->head, &t);
    t.data = NULL;
    return t;
}

sky_status sky_vae_net_begin(sky_ctx *ctx, const sky_strips *strips, const vae_net *net, const sky_tensor *chunk,
                             vae_net_past *past)
{
    past->first = true;
    sky_tensor wide = sky_vae_extended_shape(strips, chunk, VAE_BOTH_SIDES);
    SKY_TRY(sky_vae_past_init(ctx, 2, &wide, &past->conv_in));
    sky_tensor t = conv_output(&net->conv_in, chunk);
    for (int i = 0; i < net->num_layers; i++) {
        SKY_TRY(sky_vae_layer_past_init(ctx, strips, &net->layers[i], &t, &past->layers[i]));
        t = sky_vae_layer_output(&net->layers[i], true, &t);
    }
    wide = sky_vae_extended_shape(strips, &t, VAE_BOTH_SIDES);
    return sky_vae_past_init(ctx, 2, &wide, &past->head);
}

/*
 * Takes memory for what conv_in and the layers that do not work in place put out: last layer first, so that each can be
 * given back, by going back to marks[], as soon as the next is there. outputs[0] is conv_in's, outputs[i + 1] layer i's;
 * marks[i + 1] is where outputs[i + 1] ends.
 */
static sky_status take_outputs(sky_ctx *ctx, const vae_net *net, bool first, const sky_tensor *x, sky_tensor *outputs,
                               size_t *marks)
{
    outputs[0] = conv_output(&net->conv_in, x);
    for (int i = 0; i < net->num_layers; i++) {
        outputs[i + 1] = sky_vae_layer_output(&net->layers[i], first, &outputs[i]);
    }
    for (int i = net->num_layers; i >= 0; i--) {
        if (i == 0 || !sky_vae_layer_in_place(&net->layers[i - 1])) {
            SKY_TRY(sky_arena_tensor(ctx->arena, &outputs[i]));
            marks[i] = sky_arena_mark(ctx->arena);
        }
    }
    for (int i = 1; i <= net->num_layers; i++) {
        if (sky_vae_layer_in_place(&net->layers[i - 1])) {
            outputs[i] = outputs[i - 1];
        }
    }
    return SKY_OK;
}

sky_status sky_vae_net_run(sky_ctx *ctx, const sky_strips *strips, const vae_net *net, vae_net_past *past,
                           const sky_tensor *x, const sky_tensor *y)
{
    const size_t begin = sky_arena_mark(ctx->arena);
    sky_tensor outputs[VAE_MAX_LAYERS + 1];
    size_t marks[VAE_MAX_LAYERS + 1];
    SKY_TRY(take_outputs(ctx, net, past->first, x, outputs, marks));

    SKY_TRY(sky_vae_conv_in_time(ctx, strips, &net->conv_in, &past->conv_in, x, &outputs[0]));
    for (int i = 0; i < net->num_layers; i++) {
        SKY_TRY(sky_vae_layer_run(ctx, strips, &net->layers[i], &past->layers[i], past->first, &outputs[i],
                                  &outputs[i + 1]));
        if (!sky_vae_layer_in_place(&net->layers[i])) {
            sky_arena_release(ctx->arena, marks[i + 1]);
        }
    }
    SKY_TRY(sky_vae_norm_conv(ctx, strips, &net->head_norm, &net->head, &past->head, &outputs[net->num_layers], y));
    past->first = false;
    sky_arena_release(ctx->arena, begin);
    return SKY_OK;
}

sky_status sky_vae_check(const sky_vae_args *args, bool u8_allowed)
{
    const sky_tensor *latents = &args->latents;
    const sky_tensor *frames = &args->frames;
    char latents_text[96];
    char frames_text[96];
    sky_tensor_describe(latents, latents_text, sizeof latents_text);
    sky_tensor_describe(frames, frames_text, sizeof frames_text);
    if (latents->dtype != SKY_F32 || (frames->dtype != SKY_F32 && !(u8_allowed && frames->dtype == SKY_U8))) {
        return sky_fail(SKY_ERR_DTYPE, "VAE: want latents in f32 and frames in f32%s, got %s and %s",
                        u8_allowed ? " or u8" : "", latents_text, frames_text);
    }
    bool fits = latents->num_dims == 4 && frames->num_dims == 4 && latents->shape[0] == SKY_VAE_LATENT_CHANNELS &&
                sky_tensor_len(latents) > 0;
    if (fits) {
        const bool u8 = frames->dtype == SKY_U8;
        const int64_t *size = &frames->shape[u8 ? 0 : 1];
        fits = frames->shape[u8 ? 3 : 0] == 3 && size[0] == SKY_VAE_STRIDE_T * (latents->shape[1] - 1) + 1 &&
               size[1] == SKY_VAE_STRIDE_HW * latents->shape[2] && size[2] == SKY_VAE_STRIDE_HW * latents->shape[3];
    }
    if (!fits) {
        return sky_fail(SKY_ERR_SHAPE,
                        "VAE: latents %s and frames %s do not fit: want [16, F, H, W] and 4F - 3 frames of 8H x 8W",
                        latents_text, frames_text);
    }
    if (args->strips != NULL && latents->shape[2] != sky_strips_own(args->strips).count) {
        return sky_fail(SKY_ERR_SHAPE, "VAE: latents %s: want the %" PRId64 " rows of this rank's strip", latents_text,
                        sky_strips_own(args->strips).count);
    }
    return SKY_OK;
}

sky_status sky_vae_report(sky_ctx *ctx, const sky_vae_args *args, int64_t done)
{
    if (args->progress == NULL || sky_ctx_planning(ctx)) {
        return SKY_OK;
    }
    SKY_TRY(sky_ctx_sync(ctx));
    args->progress(args->user, done, args->latents.shape[1]);
    return SKY_OK;
}
