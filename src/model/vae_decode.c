#include "model/vae_net.h"

#include "ops/ops.h"

/* All latents, no longer normalised and through conv2: y [F, H, W, 16] in the compute type. */
static sky_status prepare_latents(sky_ctx *ctx, const sky_vae *vae, const sky_tensor *latents, const sky_tensor *y)
{
    const size_t mark = sky_arena_mark(ctx->arena);
    float std[SKY_VAE_LATENT_CHANNELS]; /* the published code divides by a reciprocal that it has rounded to f32 */
    for (int c = 0; c < SKY_VAE_LATENT_CHANNELS; c++) {
        std[c] = 1.0F / (1.0F / sky_vae_latent_std[c]);
    }
    sky_tensor x, scale, shift;
    SKY_TRY(sky_ctx_tensor(ctx, &x, y->dtype, 4, y->shape));
    SKY_TRY(sky_vae_constants(ctx, std, &scale));
    SKY_TRY(sky_vae_constants(ctx, sky_vae_latent_mean, &shift));
    SKY_TRY(
        sky_to_channels_last(ctx, &(sky_to_channels_last_args){.y = x, .x = *latents, .scale = scale, .shift = shift}));
    SKY_TRY(sky_vae_conv_point(ctx, &vae->conv2, &x, y));
    sky_arena_release(ctx->arena, mark);
    return SKY_OK;
}

/* chunk [n, 8H, 8W, 3] becomes frames [first, first + n) of the clip, in either form. */
static sky_status store_chunk(sky_ctx *ctx, const sky_tensor *frames, int64_t first, const sky_tensor *chunk)
{
    const int64_t *shape = chunk->shape;
    if (frames->dtype == SKY_U8) {
        return sky_frames_to_u8(ctx,
                                &(sky_frames_to_u8_args){.y = sky_tensor_rows(frames, first, shape[0]), .x = *chunk});
    }
    sky_tensor planes;
    SKY_TRY(sky_ctx_tensor(ctx, &planes, SKY_F32, 4, (int64_t[]){shape[3], shape[0], shape[1], shape[2]}));
    SKY_TRY(sky_to_channels_first(ctx, &(sky_to_channels_first_args){.y = planes, .x = *chunk, .clamp = true}));
    return sky_vae_frames_into(ctx, frames, first, &planes);
}

static sky_status decode(sky_ctx *ctx, const sky_vae *vae, const sky_vae_args *args)
{
    const int64_t *shape = args->latents.shape;
    const int64_t num_latent_frames = shape[1];
    sky_tensor latents;
    SKY_TRY(sky_ctx_tensor(ctx, &latents, vae->compute, 4, (int64_t[]){shape[1], shape[2], shape[3], shape[0]}));
    SKY_TRY(prepare_latents(ctx, vae, &args->latents, &latents));

    vae_net_past past;
    SKY_TRY(sky_vae_net_begin(ctx, args->strips, &vae->decoder, &latents, &past));
    int64_t num_frames = 0;
    for (int64_t f = 0; f < num_latent_frames; f++) {
        const size_t mark = sky_arena_mark(ctx->arena);
        const sky_tensor x = sky_tensor_rows(&latents, f, 1);
        sky_tensor y = sky_vae_net_output(&vae->decoder, past.first, &x);
        SKY_TRY(sky_arena_tensor(ctx->arena, &y));
        SKY_TRY(sky_vae_net_run(ctx, args->strips, &vae->decoder, &past, &x, &y));
        SKY_TRY(store_chunk(ctx, &args->frames, num_frames, &y));
        num_frames += y.shape[0];
        sky_arena_release(ctx->arena, mark);
        SKY_TRY(sky_vae_report(ctx, args, f + 1));
    }
    return SKY_OK;
}

sky_status sky_vae_decode(sky_ctx *ctx, const sky_vae *vae, const sky_vae_args *args)
{
    SKY_TRY(sky_vae_check(args, true));
    const size_t mark = sky_arena_mark(ctx->arena);
    const sky_status st = decode(ctx, vae, args);
    sky_arena_release(ctx->arena, mark);
    return sky_fail_in(st, "VAE, decoding");
}
