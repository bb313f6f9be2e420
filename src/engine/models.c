/*
 * What an engine has loaded. A model is the engine's: a render borrows it for the time of its stage, and when that is over it goes,
 * so that stages need not fit into memory together, or stays for the next video, where the plan says that they do fit. What stays is
 * what its folder held when it was opened.
 */
#include "engine/render.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void drop(engine_model *m)
{
    sky_text_encoder_destroy(&m->text_encoder);
    sky_transformer_destroy(&m->transformer);
    sky_vae_destroy(&m->vae);
    sky_weights_destroy(&m->weights);
}

void sky_engine_unload(sky_engine *engine)
{
    for (int i = 0; i < SKY_COMPONENT_COUNT; i++) {
        drop(&engine->models.loaded[i]);
    }
}

void sky_engine_drop_models(sky_engine *engine)
{
    engine_models *models = &engine->models;
    sky_engine_unload(engine);
    sky_tokenizer_destroy(&models->tokenizer);
    sky_checkpoint_destroy(&models->checkpoint);
    free(models->path);
    models->path = NULL;
}

uint64_t sky_engine_held_bytes(const sky_engine *engine)
{
    uint64_t bytes = 0;
    for (int i = 0; i < SKY_COMPONENT_COUNT; i++) {
        const sky_weights *weights = engine->models.loaded[i].weights;
        bytes += weights != NULL ? sky_weights_bytes(weights) : 0;
    }
    return bytes;
}

/* ---- opening ---- */

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

/* The transformer's dimensions, and whether the parts fit together. */
static sky_status look_at_parts(render *r)
{
    sky_weights *weights = NULL;
    SKY_TRY(sky_weights_create(&r->engine->ctx, r->checkpoint, SKY_TRANSFORMER, NULL, &weights));
    const sky_status st = sky_transformer_infer(weights, &r->dims);
    sky_weights_destroy(&weights);
    SKY_TRY(st);
    return check_parts_fit(r);
}

static bool same_arithmetic(const sky_arithmetic *a, const sky_arithmetic *b)
{
    return a->compute == b->compute && a->linear == b->linear && a->attention_8bit == b->attention_8bit;
}

sky_status sky_render_open_models(render *r)
{
    engine_models *models = &r->engine->models;
    const sky_settings *s = r->settings;
    char *path = realpath(s->model_path, NULL);
    if (models->checkpoint == NULL || path == NULL || models->path == NULL || strcmp(path, models->path) != 0) {
        sky_engine_drop_models(r->engine);
        models->path = path;
        SKY_TRY(sky_checkpoint_open(s->model_path, &models->checkpoint));
        for (int i = 0; render_is_first(r) && i < SKY_COMPONENT_COUNT; i++) {
            const char *left_out = sky_checkpoint_left_out(models->checkpoint, (sky_component)i);
            if (left_out[0] != '\0') {
                sky_log_line(r->engine->config.log, SKY_LOG_WARNING,
                             "%s: not read, as they are variants, copies or in no index: %s",
                             sky_component_name((sky_component)i), left_out);
            }
        }
    } else {
        free(path);
    }
    if (!same_arithmetic(&models->arithmetic, &r->arithmetic) || models->text_encoder_fp8 != s->text_encoder_fp8) {
        sky_engine_unload(r->engine);
    }
    models->arithmetic = r->arithmetic;
    models->text_encoder_fp8 = s->text_encoder_fp8;
    r->checkpoint = models->checkpoint;
    return look_at_parts(r);
}

sky_status sky_render_tokenizer(render *r, const sky_tokenizer **out)
{
    engine_models *models = &r->engine->models;
    if (models->tokenizer == NULL) {
        SKY_TRY(sky_tokenizer_open(sky_checkpoint_tokenizer_path(r->checkpoint), &models->tokenizer));
    }
    *out = models->tokenizer;
    return SKY_OK;
}

/* ---- loading ---- */

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

void sky_render_destroy_planned(render *r)
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

/* A render sees the engine's model. */
static void lend(render *r, const engine_model *m)
{
    r->text_encoder = m->text_encoder;
    r->transformer = m->transformer;
    r->vae = m->vae;
}

/* What a loader made of real weights becomes the engine's. */
static void take(render *r, engine_model *m)
{
    m->text_encoder = r->text_encoder;
    m->transformer = r->transformer;
    m->vae = r->vae;
}

/* Makes the model in one block of memory, whose size is what planning it found. */
static sky_status load(render *r, sky_component component, sky_phase phase, render_loader loader)
{
    engine_model *m = &r->engine->models.loaded[component];
    sky_weights *planned = NULL;
    load_progress progress = {.r = r, .phase = phase};
    sky_weights_options options = {
        .num_threads = r->engine->config.num_threads, .progress = on_loaded, .user = &progress};
    sky_status st = sky_render_plan_weights(r, component, loader, &planned);
    sky_render_destroy_planned(r);
    SKY_TRY_GOTO(st);
    options.planned = planned;
    SKY_TRY_GOTO(sky_weights_create(&r->engine->ctx, r->checkpoint, component, &options, &m->weights));
    st = loader(r, m->weights);
    take(r, m);
    SKY_TRY_GOTO(st);
    SKY_TRY_GOTO(sky_weights_end_loading(m->weights));
done:
    sky_weights_destroy(&planned);
    if (st != SKY_OK) {
        lend(r, &(engine_model){0});
        drop(m);
    }
    return sky_fail_in(st, "%s", sky_phase_name(phase));
}

sky_status sky_render_load(render *r, sky_component component, sky_phase phase, render_loader loader)
{
    const engine_model *m = &r->engine->models.loaded[component];
    const uint64_t bytes = sky_checkpoint_bytes(r->checkpoint, component);
    const double start = sky_clock_seconds();
    sky_render_progress(r, phase, 0, bytes);
    if (m->weights == NULL) {
        SKY_TRY(load(r, component, phase, loader));
    }
    lend(r, m);
    const uint64_t held_bytes = sky_engine_held_bytes(r->engine);
    if (held_bytes > r->result->weight_bytes) {
        r->result->weight_bytes = held_bytes;
    }
    r->result->seconds[phase] = sky_clock_seconds() - start;
    sky_render_progress(r, phase, bytes, bytes);
    return SKY_OK;
}

void sky_render_unload(render *r, sky_component component)
{
    lend(r, &(engine_model){0});
    if (!r->keeps_models) {
        drop(&r->engine->models.loaded[component]);
    }
}
