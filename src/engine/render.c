/* What the stages of a video share: its beginning and end, memory, weights. */
#include "engine/render.h"
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

void sky_render_progress(const render *r, sky_phase phase, uint64_t done, uint64_t total)
{
    const sky_progress *progress = r->engine->config.progress;
    if (progress != NULL && progress->update != NULL) {
        progress->update(progress->user, phase, done, total);
    }
}

/* ---- memory of jobs ---- */

sky_status sky_render_peak(render *r, render_job job, void *arg, size_t *bytes)
{
    sky_ctx *ctx = &r->engine->ctx;
    sky_arena plan;
    sky_arena_init_planning(&plan);
    ctx->arena = &plan;
    const sky_status st = job(ctx, r, arg);
    ctx->arena = NULL;
    *bytes = plan.peak_bytes;
    return st;
}

sky_status sky_render_plan(render *r, render_job job, void *arg, sky_arena *arena)
{
    const sky_ctx *ctx = &r->engine->ctx;
    void *block = NULL;
    size_t bytes = 0;
    SKY_TRY(sky_render_peak(r, job, arg, &bytes));
    SKY_TRY(sky_fail_in(ctx->backend->alloc(ctx->device, bytes, &block), "memory for activations"));
    sky_arena_init(arena, block, bytes);
    if (bytes > r->result->activation_peak_bytes) {
        r->result->activation_peak_bytes = bytes;
    }
    return SKY_OK;
}

sky_status sky_render_run(render *r, render_job job, void *arg, sky_arena *arena)
{
    sky_ctx *ctx = &r->engine->ctx;
    ctx->arena = arena;
    const sky_status st = job(ctx, r, arg);
    ctx->arena = NULL;
    return st;
}

void sky_render_free_arena(render *r, sky_arena *arena)
{
    const sky_ctx *ctx = &r->engine->ctx;
    if (arena->base != NULL) {
        ctx->backend->free(ctx->device, arena->base);
        *arena = (sky_arena){0};
    }
}

sky_status sky_render_release(render *r, const sky_group *group, sky_status st)
{
    sky_ctx *ctx = &r->engine->ctx;
    if (st != SKY_OK) {
        const sky_status left = sky_group_size(group) > 1 ? sky_fail_in(SKY_ERR_COMM, "leaving the other ranks") : st;
        ctx->held = NULL; /* the message is of what made it leave */
        return left;
    }
    return sky_ctx_release(ctx);
}

/* ---- weights ---- */

typedef struct load_progress {
    const render *r;
    sky_phase phase;
} load_progress;

static void on_loaded(void *user, uint64_t done_bytes, uint64_t total_bytes)
{
    const load_progress *p = user;
    /* The end is told by sky_render_load(): a model need not want all of a component's tensors. */
    if (done_bytes < total_bytes) {
        sky_render_progress(p->r, p->phase, done_bytes, total_bytes);
    }
}

void sky_render_destroy_models(render *r)
{
    sky_text_encoder_destroy(&r->text_encoder);
    sky_transformer_destroy(&r->transformer);
    sky_vae_destroy(&r->vae);
}

sky_status sky_render_plan_weights(render *r, sky_component component, render_loader loader, sky_weights **planned)
{
    sky_ctx *ctx = &r->engine->ctx;
    sky_arena planning;
    sky_arena_init_planning(&planning); /* a context that plans makes a store that plans */
    ctx->arena = &planning;
    sky_status st = sky_weights_create(ctx, r->checkpoint, component,
                                       &(sky_weights_options){.num_threads = r->engine->config.num_threads}, planned);
    if (st == SKY_OK) {
        st = loader(r, *planned);
    }
    ctx->arena = NULL;
    return st;
}

/* Makes the model in one block of memory, whose size is what planning it found. */
static sky_status load(render *r, sky_component component, sky_phase phase, render_loader loader, sky_weights **weights)
{
    sky_status st = SKY_OK;
    sky_weights *planned = NULL;
    load_progress progress = {.r = r, .phase = phase};
    sky_weights_options options = {
        .num_threads = r->engine->config.num_threads, .progress = on_loaded, .user = &progress};
    SKY_TRY_GOTO(sky_render_plan_weights(r, component, loader, &planned));
    sky_render_destroy_models(r);
    options.planned = planned;
    SKY_TRY_GOTO(sky_weights_create(&r->engine->ctx, r->checkpoint, component, &options, weights));
    SKY_TRY_GOTO(loader(r, *weights));
    SKY_TRY_GOTO(sky_weights_end_loading(*weights));
done:
    sky_weights_destroy(&planned);
    return sky_fail_in(st, "%s", sky_phase_name(phase));
}

sky_status sky_render_load(render *r, sky_component component, sky_phase phase, render_loader loader,
                           sky_weights **weights)
{
    const uint64_t bytes = sky_checkpoint_bytes(r->checkpoint, component);
    const double start = sky_seconds_now();
    sky_render_progress(r, phase, 0, bytes);
    SKY_TRY(load(r, component, phase, loader, weights));
    if (sky_weights_bytes(*weights) > r->result->weight_bytes) {
        r->result->weight_bytes = sky_weights_bytes(*weights);
    }
    r->result->seconds[phase] = sky_seconds_now() - start;
    sky_render_progress(r, phase, bytes, bytes);
    return SKY_OK;
}

/* ---- beginning and end ---- */

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
    SKY_TRY(sky_checkpoint_open(r->settings->model_path, &r->checkpoint));
    SKY_TRY(sky_weights_create(&r->engine->ctx, r->checkpoint, SKY_TRANSFORMER, NULL, &weights));
    const sky_status st = sky_transformer_infer(weights, &r->dims);
    sky_weights_destroy(&weights);
    SKY_TRY(st);
    return check_parts_fit(r);
}

sky_status sky_render_begin(sky_engine *engine, const sky_settings *settings, sky_result *result, render *r)
{
    *result = (sky_result){0};
    *r = (render){.engine = engine,
                  .settings = settings,
                  .shape = sky_settings_shape(settings),
                  .arithmetic = sky_settings_arithmetic(settings),
                  .result = result};
    r->compute = r->arithmetic.compute;
    result->num_tokens = sky_grid_tokens(&r->shape.grid);
    SKY_TRY(sky_render_check_same_settings(r));
    SKY_TRY(sky_group_agree(engine->config.group, open_checkpoint(r)));
    return sky_render_partition_ranks(r);
}

void sky_render_end(render *r)
{
    for (int branch = 0; branch < NUM_BRANCHES; branch++) {
        free(r->text[branch]);
    }
    free(r->latents);
    free(r->frames);
    sky_render_free_ranks(r);
    sky_checkpoint_destroy(&r->checkpoint);
}
