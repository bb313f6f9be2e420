/* One video, stage by stage. */
#include "engine/render.h"
#include "media/video.h"
#include "ops/backend.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

double sky_seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void render_progress(const render *r, sky_phase phase, uint64_t done, uint64_t total)
{
    const sky_progress *progress = r->engine->config.progress;
    if (progress != NULL && progress->update != NULL) {
        progress->update(progress->user, phase, done, total);
    }
}

/* ---- memory of jobs ---- */

sky_status render_plan(render *r, render_job job, void *arg, sky_arena *arena)
{
    sky_ctx *ctx = &r->engine->ctx;
    sky_arena plan;
    void *block = NULL;
    sky_arena_init_planning(&plan);
    ctx->arena = &plan;
    const sky_status st = job(ctx, r, arg);
    ctx->arena = NULL;
    SKY_TRY(st);
    SKY_TRY(sky_fail_in(ctx->backend->alloc(ctx->device, plan.peak_bytes, &block), "memory for activations"));
    sky_arena_init(arena, block, plan.peak_bytes);
    if (plan.peak_bytes > r->result->activation_peak_bytes) {
        r->result->activation_peak_bytes = plan.peak_bytes;
    }
    return SKY_OK;
}

sky_status render_run(render *r, render_job job, void *arg, sky_arena *arena)
{
    sky_ctx *ctx = &r->engine->ctx;
    ctx->arena = arena;
    const sky_status st = job(ctx, r, arg);
    ctx->arena = NULL;
    return st;
}

void render_free_arena(render *r, sky_arena *arena)
{
    const sky_ctx *ctx = &r->engine->ctx;
    if (arena->base != NULL) {
        ctx->backend->free(ctx->device, arena->base);
        *arena = (sky_arena){0};
    }
}

/* ---- weights ---- */

typedef struct load_progress {
    const render *r;
    sky_phase phase;
} load_progress;

static void on_loaded(void *user, uint64_t done_bytes, uint64_t total_bytes)
{
    const load_progress *p = user;
    /* The end is told by render_load(): a model need not want all of a component's tensors. */
    if (done_bytes < total_bytes) {
        render_progress(p->r, p->phase, done_bytes, total_bytes);
    }
}

sky_status render_load(render *r, sky_component component, sky_phase phase, render_loader loader, sky_weights **weights)
{
    load_progress progress = {.r = r, .phase = phase};
    const uint64_t bytes = sky_checkpoint_bytes(r->checkpoint, component);
    const double start = sky_seconds_now();
    render_progress(r, phase, 0, bytes);
    SKY_TRY(sky_weights_create(&r->engine->ctx, r->checkpoint, component, on_loaded, &progress, weights));
    SKY_TRY(sky_fail_in(loader(r, *weights), "%s", sky_phase_name(phase)));
    if (sky_weights_bytes(*weights) > r->result->weight_bytes) {
        r->result->weight_bytes = sky_weights_bytes(*weights);
    }
    r->result->seconds[phase] = sky_seconds_now() - start;
    render_progress(r, phase, bytes, bytes);
    return SKY_OK;
}

/* ---- stages ---- */

static sky_status need_dim(const render *r, sky_component component, const char *name, int axis, int64_t *out)
{
    const sky_source_tensor *t = sky_checkpoint_find(r->checkpoint, component, name);
    if (t == NULL || axis >= t->num_dims) {
        return sky_fail(SKY_ERR_INPUT, "%s: %s is missing, or has fewer than %d dimensions",
                        sky_component_name(component), name, axis + 1);
    }
    *out = t->shape[axis];
    return SKY_OK;
}

/* Parts that are each in order but belong to different models are found here, before anything large is read. */
static sky_status check_parts_fit(const render *r)
{
    int64_t text_out = 0;
    int64_t text_in = 0;
    int64_t latent_in = 0;
    int64_t vae_latents = 0;
    SKY_TRY(need_dim(r, SKY_TEXT_ENCODER, "token_embedding.weight", 1, &text_out));
    SKY_TRY(need_dim(r, SKY_TRANSFORMER, "text_embedding.0.weight", 1, &text_in));
    SKY_TRY(need_dim(r, SKY_TRANSFORMER, "patch_embedding.weight", 1, &latent_in));
    SKY_TRY(need_dim(r, SKY_VAE, "conv2.weight", 0, &vae_latents));
    if (text_out != text_in) {
        return sky_fail(SKY_ERR_MISMATCH,
                        "the text encoder gives %" PRId64 " values a token, the transformer takes %" PRId64
                        ": they belong to different models",
                        text_out, text_in);
    }
    if (vae_latents != SKY_VAE_LATENT_CHANNELS) {
        return sky_fail(SKY_ERR_MISMATCH, "the VAE has %" PRId64 " latent channels, want %d", vae_latents,
                        SKY_VAE_LATENT_CHANNELS);
    }
    if (latent_in != SKY_VAE_LATENT_CHANNELS) {
        return sky_fail(SKY_ERR_MISMATCH,
                        "the transformer takes %" PRId64 " latent channels; this version renders text-to-video models, "
                        "which take %d",
                        latent_in, SKY_VAE_LATENT_CHANNELS);
    }
    return SKY_OK;
}

/* All that can be refused without reading weights. Fails alone. */
static sky_status open_checkpoint(render *r)
{
    sky_weights *weights = NULL;
    sky_transformer_dims dims;
    if (r->settings->output == NULL) {
        return sky_fail(SKY_ERR_USAGE, "--output is missing: where the video goes");
    }
    if (sky_group_rank(r->engine->config.group) == 0) {
        SKY_TRY(sky_video_check_path(r->settings->output));
    }
    SKY_TRY(sky_checkpoint_open(r->settings->model_path, &r->checkpoint));
    SKY_TRY(sky_weights_create(&r->engine->ctx, r->checkpoint, SKY_TRANSFORMER, NULL, NULL, &weights));
    const sky_status st = sky_transformer_infer(weights, &dims);
    sky_weights_destroy(&weights);
    SKY_TRY(st);
    return check_parts_fit(r);
}

static sky_status load_transformer(render *r, sky_weights *weights)
{
    return sky_transformer_create(weights, &r->arithmetic, &r->transformer);
}

static sky_status denoise(render *r)
{
    sky_weights *weights = NULL;
    sky_status st = render_load(r, SKY_TRANSFORMER, SKY_PHASE_LOAD_TRANSFORMER, load_transformer, &weights);
    st = sky_group_agree(r->engine->config.group, st);
    if (st == SKY_OK) {
        st = render_denoise(r);
    }
    sky_transformer_destroy(&r->transformer);
    sky_weights_destroy(&weights);
    return st;
}

static void on_decoded(void *user, int64_t done, int64_t total)
{
    render_progress(user, SKY_PHASE_DECODE, (uint64_t)done, (uint64_t)total);
}

static sky_status decode_job(sky_ctx *ctx, render *r, void *arg)
{
    (void)arg;
    sky_tensor latents = {0};
    sky_tensor frames = {0};
    SKY_TRY(sky_ctx_tensor(
        ctx, &latents, SKY_F32, 4,
        (int64_t[]){SKY_VAE_LATENT_CHANNELS, r->shape.latent_frames, r->shape.latent_rows, r->shape.latent_cols}));
    SKY_TRY(sky_ctx_tensor(ctx, &frames, SKY_U8, 4,
                           (int64_t[]){r->settings->num_frames, r->settings->height, r->settings->width, 3}));
    SKY_TRY(sky_ctx_upload(ctx, &latents, r->latents));
    SKY_TRY(sky_vae_decode(ctx, r->vae,
                           &(sky_vae_args){.latents = latents, .frames = frames, .progress = on_decoded, .user = r}));
    return sky_ctx_download(ctx, r->frames, &frames);
}

static sky_status load_vae(render *r, sky_weights *weights)
{
    return sky_vae_create(weights, r->compute, false, &r->vae);
}

/* Latents to frames, on the host. Rank 0 alone. */
static sky_status decode(render *r)
{
    sky_status st = SKY_OK;
    sky_weights *weights = NULL;
    sky_arena arena = {0};
    r->frames = malloc((size_t)(r->settings->num_frames * r->settings->height * r->settings->width * 3));
    if (r->frames == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "memory for %" PRId64 " frames", r->settings->num_frames);
    }
    SKY_TRY_GOTO(render_load(r, SKY_VAE, SKY_PHASE_LOAD_VAE, load_vae, &weights));
    const double start = sky_seconds_now();
    render_progress(r, SKY_PHASE_DECODE, 0, (uint64_t)r->shape.latent_frames);
    SKY_TRY_GOTO(render_plan(r, decode_job, NULL, &arena));
    SKY_TRY_GOTO(render_run(r, decode_job, NULL, &arena));
    r->result->seconds[SKY_PHASE_DECODE] = sky_seconds_now() - start;
done:
    render_free_arena(r, &arena);
    sky_vae_destroy(&r->vae);
    sky_weights_destroy(&weights);
    return st;
}

static sky_status observe_frames(const render *r)
{
    const sky_engine_observer *observer = r->engine->config.observer;
    if (observer == NULL || observer->frames == NULL) {
        return SKY_OK;
    }
    return observer->frames(observer->user, r->frames,
                            r->settings->num_frames * r->settings->height * r->settings->width * 3);
}

/* Rank 0 alone. */
static sky_status write_video(render *r)
{
    const sky_settings *s = r->settings;
    const double start = sky_seconds_now();
    json_t *settings = sky_settings_json(s);
    char *metadata = settings != NULL ? json_dumps(settings, JSON_COMPACT) : NULL;
    json_decref(settings);
    if (metadata == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "metadata of the video");
    }
    render_progress(r, SKY_PHASE_WRITE, 0, 1);
    const sky_status st = sky_video_write(s->output, &(sky_video){.frames = r->frames,
                                                                  .num_frames = s->num_frames,
                                                                  .height = s->height,
                                                                  .width = s->width,
                                                                  .fps = (int)s->fps,
                                                                  .title = s->prompt,
                                                                  .metadata = metadata});
    free(metadata);
    r->result->seconds[SKY_PHASE_WRITE] = sky_seconds_now() - start;
    if (st == SKY_OK) {
        render_progress(r, SKY_PHASE_WRITE, 1, 1);
    }
    return st;
}

/* FNV-1a of the settings, but for the model's folder, which may have another name on another machine. */
static sky_status hash_settings(const sky_settings *settings, uint64_t *out)
{
    json_t *object = sky_settings_json(settings);
    json_object_del(object, "model");
    char *text = object != NULL ? json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    json_decref(object);
    if (text == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "settings");
    }
    uint64_t hash = 0xcbf29ce484222325U;
    for (const char *p = text; *p != '\0'; p++) {
        hash = (hash ^ (unsigned char)*p) * 0x100000001b3U;
    }
    free(text);
    *out = hash;
    return SKY_OK;
}

/* Ranks that were started with different flags would make a video of neither. Collective. */
static sky_status check_same_settings(render *r)
{
    sky_group *group = r->engine->config.group;
    const int size = sky_group_size(group);
    uint64_t own = 0;
    uint64_t *all = calloc((size_t)size, sizeof *all);
    sky_status st =
        all != NULL ? hash_settings(r->settings, &own) : sky_fail(SKY_ERR_NOMEM, "settings of %d ranks", size);
    SKY_TRY_GOTO(sky_group_agree(group, st));
    SKY_TRY_GOTO(sky_group_all_gather(group, &own, sizeof own, all));
    for (int rank = 1; rank < size; rank++) {
        if (all[rank] != all[0]) {
            st = sky_fail(SKY_ERR_USAGE,
                          "rank %d was started with other settings than rank 0; give all ranks the same flags", rank);
            goto done;
        }
    }
done:
    free(all);
    return st;
}

static sky_status run_stages(render *r)
{
    sky_group *group = r->engine->config.group;
    SKY_TRY(check_same_settings(r));
    SKY_TRY(sky_group_agree(group, open_checkpoint(r)));
    SKY_TRY(sky_group_agree(group, render_encode_text(r)));
    SKY_TRY(denoise(r)); /* agrees by itself */
    sky_status st = SKY_OK;
    if (sky_group_rank(group) == 0) {
        st = decode(r);
        if (st == SKY_OK) {
            st = observe_frames(r);
        }
        if (st == SKY_OK) {
            st = write_video(r);
        }
    }
    return sky_group_agree(group, st);
}

sky_status sky_engine_render(sky_engine *engine, const sky_settings *settings, sky_result *result)
{
    *result = (sky_result){0};
    render r = {.engine = engine,
                .settings = settings,
                .shape = sky_settings_shape(settings),
                .arithmetic = sky_settings_arithmetic(settings),
                .result = result};
    r.compute = r.arithmetic.compute;
    const double start = sky_seconds_now();
    result->num_tokens = sky_grid_tokens(&r.shape.grid);
    const sky_status st = run_stages(&r);
    for (int branch = 0; branch < NUM_BRANCHES; branch++) {
        free(r.text[branch]);
    }
    free(r.latents);
    free(r.frames);
    sky_checkpoint_destroy(&r.checkpoint);
    result->seconds_total = sky_seconds_now() - start;
    return st;
}
