/*
 * engine/render.h - the stages of one video, and what they share; private to src/engine
 *
 * Each stage is called by all ranks. A stage that talks to other ranks says so; the others fail alone and are brought
 * together by sky_group_agree() behind them (render.c).
 */
#ifndef SKY_ENGINE_RENDER_H
#define SKY_ENGINE_RENDER_H

#include "engine/engine.h"
#include "model/text_encoder.h"
#include "model/tokenizer.h"
#include "model/transformer.h"
#include "model/vae.h"

/* The two passes of classifier-free guidance. */
enum { BRANCH_COND, BRANCH_UNCOND, NUM_BRANCHES };

struct sky_engine {
    sky_engine_config config;
    sky_ctx ctx; /* arena: set for the time of a job */
};

typedef struct render {
    sky_engine *engine;
    const sky_settings *settings;
    sky_video_shape shape;
    sky_arithmetic arithmetic;
    sky_dtype compute; /* arithmetic's */
    sky_result *result;
    sky_checkpoint *checkpoint;

    sky_text_encoder *text_encoder; /* each only while its stage runs */
    sky_transformer *transformer;
    sky_vae *vae;

    void *text[NUM_BRANCHES]; /* host: [SKY_TEXT_LEN, text_dim] compute type; NULL for branches of other ranks */
    float *latents;           /* host: [16, frames, rows, cols] */
    uint8_t *frames;          /* host: [num_frames, height, width, 3]; rank 0 */
} render;

/* Whether this rank computes a branch. */
static inline bool render_owns_branch(const render *r, int branch)
{
    const sky_group *group = r->engine->config.group;
    return branch % sky_group_size(group) == sky_group_rank(group);
}

static inline int64_t render_latents_len(const render *r)
{
    return SKY_VAE_LATENT_CHANNELS * r->shape.latent_frames * r->shape.latent_rows * r->shape.latent_cols;
}

/* A job that takes all its device memory from ctx's arena, so that a first call can plan it. */
typedef sky_status (*render_job)(sky_ctx *ctx, render *r, void *arg);

/* Calls job once to plan and allocates what it needs. The job must not communicate while planning. Fails alone. */
sky_status render_plan(render *r, render_job job, void *arg, sky_arena *arena);

/* Calls job again, for real, in the memory that render_plan() allocated; the caller frees it in any case. */
sky_status render_run(render *r, render_job job, void *arg, sky_arena *arena);
void render_free_arena(render *r, sky_arena *arena);

/* Tells the progress callback, if there is one. */
void render_progress(const render *r, sky_phase phase, uint64_t done, uint64_t total);

/* Makes a model of a component's weights: fills in one of render's pointers. */
typedef sky_status (*render_loader)(render *r, sky_weights *weights);

/* Opens a component's store and calls loader, shown and timed as `phase`. *weights may be set on failure too. */
sky_status render_load(render *r, sky_component component, sky_phase phase, render_loader loader,
                       sky_weights **weights);

/* Stages. */
sky_status render_encode_text(render *r); /* alone: fills text[] of own branches */
sky_status render_denoise(render *r);     /* collective: fills latents */

double sky_seconds_now(void); /* monotonic */

#endif
