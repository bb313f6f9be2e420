/*
 * engine/render.h - the stages of one video, and what they share; private to src/engine
 *
 * Each stage is called by all ranks. A stage that talks to other ranks says so ("collective"); the others fail alone and
 * are brought together by sky_group_agree() behind them (render.c).
 */
#ifndef SKY_ENGINE_RENDER_H
#define SKY_ENGINE_RENDER_H

#include "base/clock.h"
#include "engine/settings.h"
#include "model/text_encoder.h"
#include "model/transformer.h"
#include "model/vae.h"
#include "ops/ctx.h"
#include "parallel/layout.h"
#include "parallel/sequence.h"
#include "text/tokenizer.h"

/* The two passes of classifier-free guidance. */
enum { BRANCH_COND, BRANCH_UNCOND, NUM_BRANCHES };

/* A component's weights on the device, and the model made of them. */
typedef struct engine_model {
    sky_weights *weights; /* NULL: not loaded */
    sky_text_encoder *text_encoder;
    sky_transformer *transformer;
    sky_vae *vae;
} engine_model;

/* What is open of a folder: for one video, or for all that come (models.c). All of it owned. */
typedef struct engine_models {
    char *path; /* of the folder, without links; NULL: nothing is open, or nobody knows its path */
    sky_checkpoint *checkpoint;
    sky_tokenizer *tokenizer;
    sky_arithmetic arithmetic; /* what the models were made for */
    bool text_encoder_fp8;
    engine_model loaded[SKY_COMPONENT_COUNT];
} engine_models;

struct sky_engine {
    sky_engine_config config;
    sky_ctx ctx; /* arena: set for the time of a job */
    engine_models models;
};

/* How the ranks of this render are used. A group that is the engine's own is not to be destroyed. */
typedef struct render_ranks {
    sky_rank_layout layout;
    sky_place place;    /* of this rank */
    sky_group *members; /* ranks with a part of the same sequence; the engine's group, or made for this render */
    sky_group
        *branches; /* ranks with the same part of the other branches' sequences; NULL: one rank does all branches */
    sky_group *strip_ranks; /* ranks with a strip of the frames; NULL on a rank without one */
    sky_sequence sequence;
    sky_strips strips;
} render_ranks;

typedef struct render {
    sky_engine *engine;
    const sky_settings *settings;
    sky_video_shape shape;
    sky_arithmetic arithmetic;
    sky_dtype compute; /* arithmetic's */
    sky_result *result;
    sky_checkpoint *checkpoint; /* the engine's */
    sky_transformer_dims dims;
    render_ranks ranks;
    bool keeps_models; /* the plan's word: what is loaded stays when the video is done */

    sky_text_encoder *text_encoder; /* each only while its stage runs: the engine's, or made to plan */
    sky_transformer *transformer;
    sky_vae *vae;

    void *text[NUM_BRANCHES]; /* host: [SKY_TEXT_LEN, text_dim] compute type, on every rank */
    float *latents;           /* host: [16, frames, rows, cols] */
    uint8_t *frames;          /* host: [num_frames, height, width, 3]; rank 0 */
} render;

/* Opens the checkpoint, looks at all that can be refused without reading weights, and partitions the ranks. Collective. */
sky_status sky_render_begin(sky_engine *engine, const sky_settings *settings, sky_result *result, render *r);
void sky_render_end(render *r);

/* Whether this rank computes a branch. */
static inline bool render_owns_branch(const render *r, int branch)
{
    return branch % r->ranks.layout.cfg_degree == r->ranks.place.branch_group;
}

/* Whether this rank is the one that encodes prompts and writes the file. */
static inline bool render_is_first(const render *r)
{
    return sky_group_rank(r->engine->config.group) == 0;
}

static inline int64_t render_latents_len(const render *r)
{
    return SKY_VAE_LATENT_CHANNELS * r->shape.latent_frames * r->shape.latent_rows * r->shape.latent_cols;
}

/* Bytes of one branch's text. */
static inline size_t render_text_bytes(const render *r)
{
    return (size_t)(SKY_TEXT_LEN * r->dims.text_dim) * sky_dtype_bytes(r->compute);
}

/* ---- memory ---- */

/* A job that takes all its device memory from ctx's arena, so that a first call can plan it. */
typedef sky_status (*render_job)(sky_ctx *ctx, render *r, void *arg);

/* What a job takes from the arena, found by calling it in planning mode. It must not communicate then. Fails alone. */
sky_status sky_render_peak(render *r, render_job job, void *arg, size_t *bytes);

/* Calls job once to plan and allocates what it needs. Fails alone. */
sky_status sky_render_plan(render *r, render_job job, void *arg, sky_arena *arena);

/* Calls job again, for real, in the memory that sky_render_plan() allocated; the caller frees it in any case. */
sky_status sky_render_run(render *r, render_job job, void *arg, sky_arena *arena);
void sky_render_free_arena(render *r, sky_arena *arena);

/*
 * Ends a hold (sky_ctx_hold) around exchanges of a group; st is what came out of them. A failure there was not held back: this
 * rank has left the others half-way, and as they wait in an exchange nobody can tell them. So it becomes COMM, which
 * sky_group_agree() passes by and which ends the process (launch).
 */
sky_status sky_render_release(render *r, const sky_group *group, sky_status st);

/*
 * Peaks of the stages' arenas on this rank; the model (text_encoder, transformer, vae) must be there, perhaps with planned
 * weights. traffic: what a step sends (denoise) or the stage (decode). Fail alone.
 */
sky_status sky_render_peak_encode_text(render *r, int64_t num_ids, size_t *bytes);
sky_status sky_render_peak_denoise(render *r, size_t *bytes, sky_traffic *traffic);
sky_status sky_render_peak_decode(render *r, size_t *bytes, sky_traffic *traffic);

/* ---- showing ---- */

/* Tells the progress callback, if there is one. */
void sky_render_progress(const render *r, sky_phase phase, uint64_t done, uint64_t total);

/* Where rows are that observers see, and memory for what they may ask. */
struct sky_engine_rows_source {
    sky_ctx *ctx;
    const sky_tensor *value; /* [num_rows, cols], on the device */
    sky_tensor sums;         /* i64, at least one for each SKY_TOKEN_GROUP rows, on the device */
    uint64_t *host_sums;     /* as many */
    void *data;              /* owned: the copy; grows */
    size_t data_bytes;
};

/* Calls the observers, if there are any. wants_*: whether one looks there at all, which costs a copy to the host. */
bool sky_render_wants_latents(const render *r);
bool sky_render_wants_rows(const render *r);
sky_status sky_render_enter(const render *r, sky_phase phase, int64_t index);
sky_status sky_render_observe_text(const render *r, int branch);
sky_status sky_render_observe_latents(const render *r, int step, const float *latents);
sky_status sky_render_observe_rows(const render *r, sky_engine_rows *rows);
sky_status sky_render_observe_velocity(const render *r, int step, int branch, const float *velocity);
sky_status sky_render_observe_frames(const render *r);

/* ---- models.c: what is loaded ---- */

/* Makes a model of a component's weights: fills in one of render's pointers. */
typedef sky_status (*render_loader)(render *r, sky_weights *weights);
sky_status sky_render_create_text_encoder(render *r, sky_weights *weights);
sky_status sky_render_create_transformer(render *r, sky_weights *weights);
sky_status sky_render_create_vae(render *r, sky_weights *weights);

/*
 * Opens the settings' folder, unless the engine has it open; models that were made for other settings go. Looks at all that can
 * be refused without reading weights. Fails alone.
 */
sky_status sky_render_open_models(render *r);

/* The model with weights that have no memory. *planned and the model may be set on failure too. */
sky_status sky_render_plan_weights(render *r, sky_component component, render_loader loader, sky_weights **planned);

/* The models that planning made. */
void sky_render_destroy_planned(render *r);

/* Loads a component (loader is called to plan, then to load) unless the engine has it; shown and timed as `phase`. Fails alone. */
sky_status sky_render_load(render *r, sky_component component, sky_phase phase, render_loader loader);

/* The tokenizer, the engine's. Fails alone. */
sky_status sky_render_tokenizer(render *r, const sky_tokenizer **out);

/* The end of a component's stage: it goes, unless the plan keeps it. Also where it was not loaded. */
void sky_render_unload(render *r, sky_component component);

/* Device bytes of what the engine holds loaded. */
uint64_t sky_engine_held_bytes(const sky_engine *engine);

/* All models go; the folder stays open. */
void sky_engine_unload(sky_engine *engine);

/* Closes and frees all of it. */
void sky_engine_drop_models(sky_engine *engine);

/* ---- stages; all collective ---- */

sky_status sky_render_encode_text(render *r); /* fills text[] */
sky_status sky_render_denoise(render *r);     /* fills latents; the transformer is loaded */
sky_status sky_render_decode(render *r);      /* latents to frames */

/* ---- plan.c ---- */

/* Refuses what will not fit, before anything is loaded. The same answer on all ranks. Collective. Errors: NOMEM. */
sky_status sky_render_check_memory(render *r);

/* ---- ranks.c ---- */

/* Whether all ranks were given the same settings and layout. Collective. Errors: USAGE. */
sky_status sky_render_check_same_settings(render *r);

/* Chooses the layout and makes its groups. Collective. Errors: USAGE. */
sky_status sky_render_partition_ranks(render *r);
void sky_render_free_ranks(render *r);

#endif
