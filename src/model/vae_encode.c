#include "model/vae_net.h"

#include "ops/ops.h"

/* Frames [first, first + n) of the clip as x [n, 8H, 8W, 3] in the compute type. */
static sky_status load_chunk(sky_ctx *ctx, const sky_tensor *frames, int64_t first, const sky_tensor *x)
{
    const size_t mark = sky_arena_mark(ctx->arena);
    const int64_t *shape = x->shape;
    sky_tensor planes;
    SKY_TRY(sky_ctx_tensor(ctx, &planes, SKY_F32, 4, (int64_t[]){shape[3], shape[0], shape[1], shape[2]}));
    SKY_TRY(sky_vae_frames_out_of(ctx, frames, first, &planes));
    SKY_TRY(sky_to_channels_last(ctx, &(sky_to_channels_last_args){.y = *x, .x = planes}));
    sky_arena_release(ctx->arena, mark);
    return SKY_OK;
}

/* The encoder's output y [1, H, W, 32] through conv1; its first half is the mean [1, H, W, 16]. */
static sky_status take_mean(sky_ctx *ctx, const sky_vae *vae, const sky_tensor *y, const sky_tensor *mean)
{
    sky_tensor both;
    SKY_TRY(sky_ctx_tensor(ctx, &both, y->dtype, 4, y->shape));
    SKY_TRY(sky_vae_conv_point(ctx, &vae->conv1, y, &both));
    const int64_t num_positions = y->shape[1] * y->shape[2];
    return sky_copy_columns(
        ctx, &(sky_copy_columns_args){
                 .y = sky_tensor_reshape(mean, 2, (int64_t[]){num_positions, SKY_VAE_LATENT_CHANNELS}),
                 .x = sky_tensor_reshape(&both, 2, (int64_t[]){num_positions, 2 * SKY_VAE_LATENT_CHANNELS}),
                 .num_columns = SKY_VAE_LATENT_CHANNELS});
}

/* mean [F, H, W, 16] -> latents [16, F, H, W]: (mean - m) * (1 / s), in f32. */
static sky_status normalise(sky_ctx *ctx, const sky_tensor *mean, const sky_tensor *latents)
{
    float factor[SKY_VAE_LATENT_CHANNELS];
    float offset[SKY_VAE_LATENT_CHANNELS];
    for (int c = 0; c < SKY_VAE_LATENT_CHANNELS; c++) {
        factor[c] = 1.0F / sky_vae_latent_std[c];
        offset[c] = -sky_vae_latent_mean[c] * factor[c];
    }
    sky_tensor scale, shift;
    SKY_TRY(sky_vae_constants(ctx, factor, &scale));
    SKY_TRY(sky_vae_constants(ctx, offset, &shift));
    return sky_to_channels_first(
        ctx, &(sky_to_channels_first_args){.y = *latents, .x = *mean, .scale = scale, .shift = shift});
}

/* Chunks of 1, 4, 4, .. frames, one latent frame each. */
static sky_status encode(sky_ctx *ctx, const sky_vae *vae, const sky_vae_args *args)
{
    const int64_t *shape = args->latents.shape;
    const int64_t num_latent_frames = shape[1];
    const int64_t height = args->frames.shape[2];
    const int64_t width = args->frames.shape[3];
    sky_tensor mean;
    SKY_TRY(sky_ctx_tensor(ctx, &mean, vae->compute, 4, (int64_t[]){shape[1], shape[2], shape[3], shape[0]}));

    const sky_tensor chunk_shape = {.dtype = vae->compute, .num_dims = 4, .shape = {1, height, width, 3}};
    vae_net_past past;
    SKY_TRY(sky_vae_net_begin(ctx, args->strips, &vae->encoder, &chunk_shape, &past));
    int64_t num_frames = 0;
    for (int64_t f = 0; f < num_latent_frames; f++) {
        const size_t mark = sky_arena_mark(ctx->arena);
        sky_tensor x = chunk_shape;
        x.shape[0] = past.first ? 1 : SKY_VAE_STRIDE_T;
        sky_tensor y = sky_vae_net_output(&vae->encoder, past.first, &x);
        SKY_TRY(sky_arena_tensor(ctx->arena, &y));
        SKY_TRY(sky_arena_tensor(ctx->arena, &x));
        SKY_TRY(load_chunk(ctx, &args->frames, num_frames, &x));
        SKY_TRY(sky_vae_net_run(ctx, args->strips, &vae->encoder, &past, &x, &y));
        const sky_tensor mean_frame = sky_tensor_rows(&mean, f, 1);
        SKY_TRY(take_mean(ctx, vae, &y, &mean_frame));
        num_frames += x.shape[0];
        sky_arena_release(ctx->arena, mark);
        SKY_TRY(sky_vae_report(ctx, args, f + 1));
    }
    return normalise(ctx, &mean, &args->latents);
}

sky_status sky_vae_encode(sky_ctx *ctx, const sky_vae *vae, const sky_vae_args *args)
{
    if (!vae->has_encoder) {
        return sky_fail(SKY_ERR_USAGE, "VAE: frames are to be encoded, but it was loaded without its encoder");
    }
    SKY_TRY(sky_vae_check(args, false));
    const size_t mark = sky_arena_mark(ctx->arena);
    const sky_status st = encode(ctx, vae, args);
    sky_arena_release(ctx->arena, mark);
    return sky_fail_in(st, "VAE, encoding");
}
