/*
 * Latents to frames. Every frame is cut into strips of rows, one for each rank (parallel/strips.h); rank 0 puts the strips
 * together.
 */
#include "engine/render.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* One rank's part of the video, on the host. */
typedef struct strip {
    sky_span rows;   /* of the latents */
    float *latents;  /* [16, frames, rows, cols] */
    uint8_t *frames; /* [num_frames, 8 rows, width, 3]; render's own frames where the strip is everything */
} strip;

static size_t frame_row_bytes(const render *r)
{
    return (size_t)r->settings->width * 3;
}

static size_t strip_bytes(const render *r, sky_span rows)
{
    return (size_t)(r->settings->num_frames * rows.count * SKY_VAE_STRIDE_HW) * frame_row_bytes(r);
}

static void copy_latents(const render *r, const strip *s)
{
    const size_t row = (size_t)r->shape.latent_cols;
    const size_t rows = (size_t)r->shape.latent_rows;
    const size_t len = (size_t)s->rows.count * row;
    const int64_t planes = SKY_VAE_LATENT_CHANNELS * r->shape.latent_frames;
    for (int64_t i = 0; i < planes; i++) {
        memcpy(s->latents + (size_t)i * len, r->latents + ((size_t)i * rows + (size_t)s->rows.first) * row,
               len * sizeof *s->latents);
    }
}

/* Rows of a strip into the whole frames. */
static void place_frames(const render *r, sky_span rows, const uint8_t *frames)
{
    const size_t row = frame_row_bytes(r);
    const size_t bytes = (size_t)(rows.count * SKY_VAE_STRIDE_HW) * row;
    const size_t first = (size_t)(rows.first * SKY_VAE_STRIDE_HW) * row;
    for (int64_t t = 0; t < r->settings->num_frames; t++) {
        memcpy(r->frames + (size_t)(t * r->settings->height) * row + first, frames + (size_t)t * bytes, bytes);
    }
}

/* Called within a hold, so that a failure of an observer is held back like any other. */
static void on_decoded(void *user, int64_t done, int64_t total)
{
    render *r = user;
    if (done < total) {
        (void)sky_ctx_keep(&r->engine->ctx, sky_render_enter(r, SKY_PHASE_DECODE, done));
    }
    sky_render_progress(r, SKY_PHASE_DECODE, (uint64_t)done, (uint64_t)total);
}

static sky_status decode_strip(sky_ctx *ctx, render *r, void *arg)
{
    const strip *s = arg;
    const sky_strips *strips = &r->ranks.strips;
    sky_tensor latents = {0};
    sky_tensor frames = {0};
    SKY_TRY(sky_ctx_tensor(
        ctx, &latents, SKY_F32, 4,
        (int64_t[]){SKY_VAE_LATENT_CHANNELS, r->shape.latent_frames, s->rows.count, r->shape.latent_cols}));
    SKY_TRY(
        sky_ctx_tensor(ctx, &frames, SKY_U8, 4,
                       (int64_t[]){r->settings->num_frames, s->rows.count * SKY_VAE_STRIDE_HW, r->settings->width, 3}));
    SKY_TRY(sky_ctx_upload(ctx, &latents, s->latents));
    SKY_TRY(sky_vae_decode(ctx, r->vae,
                           &(sky_vae_args){.latents = latents,
                                           .frames = frames,
                                           .strips = sky_group_size(strips->group) > 1 ? strips : NULL,
                                           .progress = on_decoded,
                                           .user = r}));
    return sky_ctx_download(ctx, s->frames, &frames);
}

sky_status sky_render_create_vae(render *r, sky_weights *weights)
{
    return sky_vae_create(weights, r->compute, false, &r->vae);
}

sky_status sky_render_peak_decode(render *r, size_t *bytes, sky_traffic *traffic)
{
    *bytes = 0;
    *traffic = (sky_traffic){0};
    if (r->ranks.strip_ranks == NULL) {
        return SKY_OK;
    }
    strip s = {.rows = sky_strips_own(&r->ranks.strips)};
    r->ranks.strips.planned = traffic;
    const sky_status st = sky_render_peak(r, decode_strip, &s, bytes);
    r->ranks.strips.planned = NULL;
    return st;
}

/* Host memory and weights. Fails alone. */
static sky_status prepare(render *r, strip *s, sky_arena *arena)
{
    const bool alone = sky_group_size(r->ranks.strip_ranks) == 1;
    s->rows = sky_strips_own(&r->ranks.strips);
    s->latents = malloc((size_t)(render_latents_len(r) / r->shape.latent_rows * s->rows.count) * sizeof *s->latents);
    if (render_is_first(r)) {
        r->frames = malloc((size_t)(r->settings->num_frames * r->settings->height) * frame_row_bytes(r));
    }
    s->frames = alone ? r->frames : malloc(strip_bytes(r, s->rows));
    if (s->latents == NULL || s->frames == NULL || (render_is_first(r) && r->frames == NULL)) {
        return sky_fail(SKY_ERR_NOMEM, "memory for %" PRId64 " frames", r->settings->num_frames);
    }
    copy_latents(r, s);
    SKY_TRY(sky_render_enter(r, SKY_PHASE_LOAD_VAE, 0));
    SKY_TRY(sky_render_load(r, SKY_VAE, SKY_PHASE_LOAD_VAE, sky_render_create_vae));
    return sky_render_plan(r, decode_strip, s, arena);
}

/* Failures are held back: the other ranks are met in every convolution. */
static sky_status run(render *r, strip *s, sky_arena *arena)
{
    sky_ctx *ctx = &r->engine->ctx;
    sky_held held;
    sky_ctx_hold(ctx, &held);
    (void)sky_ctx_keep(ctx, sky_render_enter(r, SKY_PHASE_DECODE, 0));
    return sky_render_release(r, r->ranks.strip_ranks, sky_render_run(r, decode_strip, s, arena));
}

/* Strips to rank 0, one after the other, so that it holds one besides the frames. Collective over the ranks with strips. */
static sky_status gather_frames(render *r, const strip *s)
{
    sky_group *group = r->ranks.strip_ranks;
    const int rank = sky_group_rank(group);
    if (sky_group_size(group) == 1) {
        return SKY_OK;
    }
    if (rank == 0) {
        place_frames(r, s->rows, s->frames);
    }
    for (int peer = 1; peer < sky_group_size(group); peer++) {
        const sky_span rows = sky_strips_of(&r->ranks.strips, peer);
        const size_t bytes = strip_bytes(r, rows); /* never more than rank 0's own */
        sky_exchange e = {.peer = 0, .send = s->frames, .send_bytes = bytes};
        if (rank == 0) {
            e = (sky_exchange){.peer = peer, .recv = s->frames, .recv_bytes = bytes};
        }
        SKY_TRY(sky_group_exchange_now(group, NULL, &e, rank == 0 || rank == peer ? 1 : 0));
        if (rank == 0) {
            place_frames(r, rows, s->frames);
        }
    }
    return SKY_OK;
}

sky_status sky_render_decode(render *r)
{
    sky_group *world = r->engine->config.group;
    sky_status st = SKY_OK;
    sky_arena arena = {0};
    strip s = {0};
    const bool has_strip = r->ranks.strip_ranks != NULL;

    SKY_TRY_GOTO(sky_group_agree(world, has_strip ? prepare(r, &s, &arena) : SKY_OK));
    const double start = sky_clock_seconds();
    sky_render_progress(r, SKY_PHASE_DECODE, 0, (uint64_t)r->shape.latent_frames);
    SKY_TRY_GOTO(sky_group_agree(world, has_strip ? run(r, &s, &arena) : SKY_OK));
    SKY_TRY_GOTO(sky_group_agree(world, has_strip ? gather_frames(r, &s) : SKY_OK));
    r->result->seconds[SKY_PHASE_DECODE] = sky_clock_seconds() - start;
done:
    sky_render_free_arena(r, &arena);
    sky_render_unload(r, SKY_VAE);
    if (s.frames != r->frames) {
        free(s.frames);
    }
    free(s.latents);
    return st;
}
