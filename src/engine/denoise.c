/* The denoising loop. Nothing is allocated in it. */
#include "engine/render.h"
#include "ops/ops.h"
#include "sample/noise.h"
#include "sample/unipc.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

typedef struct loop {
    sky_transformer *model;
    sky_unipc *solver;
    float *staging;                     /* host: latents or a velocity, for those who look at it */
    float *host_freqs;                  /* host: table of rotations of this rank's tokens */
    double *step_seconds;               /* [inference_steps] */
    struct sky_engine_rows_source rows; /* a transformer's intermediate value, for observers */

    sky_tensor latents;                /* [16, F, H, W] f32 */
    sky_tensor velocity[NUM_BRANCHES]; /* the same */
    sky_tensor freqs;                  /* [this rank's tokens, head_dim / 2, 2] f32 */
    sky_text_kv kv[NUM_BRANCHES];
    sky_unipc_state state;
} loop;

static sky_status condition(sky_ctx *ctx, render *r, loop *l, int branch)
{
    const sky_transformer_dims *d = sky_transformer_get_dims(l->model);
    /* The text goes first into memory that stays: it cannot be given back below keys and values that do. */
    sky_tensor text = {0};
    SKY_TRY(sky_ctx_tensor(ctx, &text, r->compute, 2, (int64_t[]){SKY_TEXT_LEN, d->text_dim}));
    SKY_TRY(sky_ctx_upload(ctx, &text, r->text[branch]));
    return sky_transformer_condition(ctx, l->model, &text, NULL, &l->kv[branch]);
}

static int64_t num_token_groups(int64_t num_tokens)
{
    return (num_tokens + SKY_TOKEN_GROUP - 1) / SKY_TOKEN_GROUP;
}

/* Everything that the loop holds. Fails alone. */
static sky_status prepare(sky_ctx *ctx, render *r, loop *l)
{
    const sky_transformer_dims *d = sky_transformer_get_dims(l->model);
    const int64_t shape[] = {SKY_VAE_LATENT_CHANNELS, r->shape.latent_frames, r->shape.latent_rows,
                             r->shape.latent_cols};
    sky_tensor *const like_latents[] = {&l->latents,           &l->velocity[0],  &l->velocity[1],  &l->state.x0,
                                        &l->state.x0_previous, &l->state.x_last, &l->state.scratch};
    for (size_t i = 0; i < sizeof like_latents / sizeof like_latents[0]; i++) {
        SKY_TRY(sky_ctx_tensor(ctx, like_latents[i], SKY_F32, 4, shape));
    }
    const int64_t num_tokens = sky_sequence_own_tokens(&r->ranks.sequence).count;
    SKY_TRY(sky_ctx_tensor(ctx, &l->freqs, SKY_F32, 3, (int64_t[]){num_tokens, d->head_dim / 2, 2}));
    if (sky_render_wants_rows(r)) {
        SKY_TRY(sky_ctx_tensor(ctx, &l->rows.sums, SKY_I64, 1, (int64_t[]){num_token_groups(num_tokens)}));
    }
    SKY_TRY(sky_ctx_upload(ctx, &l->freqs, l->host_freqs));
    SKY_TRY(sky_ctx_upload(ctx, &l->latents, r->latents));
    for (int branch = 0; branch < NUM_BRANCHES; branch++) {
        if (render_owns_branch(r, branch)) {
            SKY_TRY(condition(ctx, r, l, branch));
        }
    }
    return SKY_OK;
}

/* ---- a look inside the transformer, where somebody looks ---- */

typedef struct rows_observer {
    render *r;
    loop *l;
    int step, branch;
} rows_observer;

static sky_status see_rows(void *user, sky_ctx *ctx, const char *name, const sky_tensor *value)
{
    const rows_observer *o = user;
    const sky_span tokens = sky_sequence_own_tokens(&o->r->ranks.sequence);
    if (value->num_dims != 2 || value->shape[0] != tokens.count) {
        return SKY_OK; /* not a value for each token */
    }
    o->l->rows.ctx = ctx;
    o->l->rows.value = value;
    return sky_render_observe_rows(
        o->r, &(sky_engine_rows){.step = o->step,
                                 .branch = o->branch,
                                 .name = name,
                                 .first_row = tokens.first,
                                 .num_rows = tokens.count,
                                 .row_bytes = (size_t)value->shape[1] * sky_dtype_bytes(value->dtype),
                                 .source = &o->l->rows});
}

/* ---- a step ---- */

static sky_status run_branch(sky_ctx *ctx, render *r, loop *l, int step, int branch)
{
    rows_observer user = {.r = r, .l = l, .step = step, .branch = branch};
    const sky_observer observer = {.see = see_rows, .user = &user};
    return sky_transformer_forward(ctx, l->model,
                                   &(sky_transformer_args){.velocity = l->velocity[branch],
                                                           .latents = l->latents,
                                                           .freqs = l->freqs,
                                                           .timestep = sky_unipc_timestep(l->solver, step),
                                                           .kv = &l->kv[branch],
                                                           .sequence = &r->ranks.sequence,
                                                           .observer = sky_render_wants_rows(r) ? &observer : NULL});
}

/* The velocities of the branches that are this rank's, and the one wait of a step. Collective over the members of the sequence. */
static sky_status run_own_branches(sky_ctx *ctx, render *r, loop *l, int step)
{
    for (int branch = 0; branch < NUM_BRANCHES; branch++) {
        if (render_owns_branch(r, branch)) {
            SKY_TRY(run_branch(ctx, r, l, step, branch));
        }
    }
    return sky_ctx_sync(ctx);
}

static sky_status check_finite(const float *values, int64_t len, int branch, int step)
{
    for (int64_t i = 0; i < len; i++) {
        if (!isfinite(values[i])) {
            return sky_fail(SKY_ERR_INTERNAL,
                            "step %d: the transformer's output for the %s is no longer finite (element %" PRId64
                            "); try --precision fp32, or look at the weights",
                            step, branch == BRANCH_COND ? "prompt" : "negative prompt", i);
        }
    }
    return SKY_OK;
}

/* Looks at the velocities of own branches on the host. Fails alone. */
static sky_status check_own_branches(sky_ctx *ctx, render *r, loop *l, int step)
{
    for (int branch = 0; branch < NUM_BRANCHES; branch++) {
        if (render_owns_branch(r, branch)) {
            SKY_TRY(sky_ctx_download(ctx, l->staging, &l->velocity[branch]));
            SKY_TRY(check_finite(l->staging, render_latents_len(r), branch, step));
            SKY_TRY(sky_render_observe_velocity(r, step, branch, l->staging));
        }
    }
    return SKY_OK;
}

/* Shows what goes into a step. Fails alone. */
static sky_status observe_latents(sky_ctx *ctx, render *r, loop *l, int step)
{
    if (!sky_render_wants_latents(r)) {
        return SKY_OK;
    }
    SKY_TRY(sky_ctx_download(ctx, l->staging, &l->latents));
    return sky_ctx_failed(ctx) ? SKY_OK : sky_render_observe_latents(r, step, l->staging);
}

/*
 * A look at the latents, and the velocities of own branches. Comes with a hold, since members meet in every block and a rank
 * that fails still has to pass by there; ends it where all agree, before anybody looks at what may have been computed by a rank
 * that had failed.
 */
static sky_status make_velocities(sky_ctx *ctx, render *r, loop *l, int step)
{
    sky_group *group = r->engine->config.group;
    (void)sky_ctx_keep(ctx, sky_render_enter(r, SKY_PHASE_DENOISE, step));
    if (!sky_ctx_failed(ctx)) {
        (void)sky_ctx_keep(ctx, observe_latents(ctx, r, l, step));
    }
    SKY_TRY(sky_group_agree(group, sky_render_release(r, r->ranks.members, run_own_branches(ctx, r, l, step))));
    return sky_group_agree(group, check_own_branches(ctx, r, l, step));
}

/* Where each rank computes one branch, it gets the other one. Collective over the ranks with the same tokens. */
static sky_status share_branches(sky_ctx *ctx, render *r, loop *l)
{
    const int own = r->ranks.place.branch_group;
    const sky_exchange e = {.peer = 1 - own,
                            .send = l->velocity[own].data,
                            .send_bytes = sky_tensor_bytes(&l->velocity[own]),
                            .recv = l->velocity[1 - own].data,
                            .recv_bytes = sky_tensor_bytes(&l->velocity[1 - own])};
    if (r->ranks.branches == NULL) {
        return SKY_OK;
    }
    if (sky_ctx_planning(ctx)) {
        sky_group_exchange_plan(r->ranks.branches, &e, 1, r->ranks.sequence.planned);
        return SKY_OK;
    }
    return sky_group_exchange_now(r->ranks.branches, ctx, &e, 1);
}

/* Enqueues guidance and solver. Nobody waits for them here: what fails as they run shows where the next step waits. */
static sky_status advance(sky_ctx *ctx, render *r, loop *l)
{
    SKY_TRY(sky_cfg_combine(ctx, &(sky_cfg_combine_args){.y = l->velocity[BRANCH_COND],
                                                         .cond = l->velocity[BRANCH_COND],
                                                         .uncond = l->velocity[BRANCH_UNCOND],
                                                         .guidance_scale = (float)r->settings->guidance_scale}));
    return sky_unipc_step(ctx, l->solver, &l->state, &l->velocity[BRANCH_COND], &l->latents);
}

/* The loop's memory, touched without computing. */
static sky_status plan_loop(sky_ctx *ctx, render *r, loop *l)
{
    SKY_TRY(prepare(ctx, r, l));
    SKY_TRY(run_own_branches(ctx, r, l, 0));
    SKY_TRY(share_branches(ctx, r, l));
    SKY_TRY(advance(ctx, r, l));
    sky_unipc_restart(l->solver);
    return SKY_OK;
}

/* From agreement to agreement failures are held back: held by here, and by here again for the step that follows. */
static sky_status run_step(sky_ctx *ctx, render *r, loop *l, int step, sky_held *held)
{
    SKY_TRY(sky_fail_in(make_velocities(ctx, r, l, step), "denoising, step %d", step));
    sky_ctx_hold(ctx, held);
    SKY_TRY(share_branches(ctx, r, l));
    return advance(ctx, r, l);
}

static sky_status run_steps(sky_ctx *ctx, render *r, loop *l)
{
    const int num_steps = (int)r->settings->inference_steps;
    sky_status st = SKY_OK;
    sky_held held;
    sky_ctx_hold(ctx, &held);
    for (int step = 0; step < num_steps; step++) {
        const double start = sky_clock_seconds();
        SKY_TRY_GOTO(run_step(ctx, r, l, step, &held));
        l->step_seconds[step] = sky_clock_seconds() - start;
        sky_render_progress(r, SKY_PHASE_DENOISE, (uint64_t)step + 1, (uint64_t)num_steps);
    }
    if (!sky_ctx_failed(ctx)) {
        SKY_TRY_GOTO(observe_latents(ctx, r, l, num_steps));
        SKY_TRY_GOTO(sky_ctx_download(ctx, r->latents, &l->latents));
    }
done:
    SKY_KEEP_FIRST(st, sky_ctx_release(ctx));
    return st;
}

static sky_status run_loop(sky_ctx *ctx, render *r, void *arg)
{
    loop *l = arg;
    sky_group *group = r->engine->config.group;
    if (sky_ctx_planning(ctx)) {
        return plan_loop(ctx, r, l);
    }
    SKY_TRY(sky_group_agree(group, prepare(ctx, r, l)));
    sky_render_progress(r, SKY_PHASE_DENOISE, 0, (uint64_t)r->settings->inference_steps);
    return sky_group_agree(group, run_steps(ctx, r, l));
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void summarise_steps(render *r, loop *l)
{
    const int num_steps = (int)r->settings->inference_steps;
    qsort(l->step_seconds, (size_t)num_steps, sizeof l->step_seconds[0], compare_doubles);
    r->result->step_seconds_median = l->step_seconds[num_steps / 2];
    r->result->step_seconds_worst = l->step_seconds[num_steps - 1];
}

static sky_status create_solver(const render *r, loop *l)
{
    return sky_unipc_create(&(sky_unipc_config){.num_steps = (int)r->settings->inference_steps,
                                                .shift = r->settings->shift,
                                                .grid = r->settings->scheduler},
                            &l->solver);
}

/* Host memory and the solver. Fails alone. */
static sky_status create_loop(render *r, loop *l)
{
    const sky_span tokens = sky_sequence_own_tokens(&r->ranks.sequence);
    const size_t len = (size_t)render_latents_len(r);
    l->model = r->transformer;
    l->staging = malloc(len * sizeof *l->staging);
    r->latents = malloc(len * sizeof *r->latents);
    l->host_freqs = malloc((size_t)(tokens.count * r->dims.head_dim + 1) * sizeof *l->host_freqs);
    l->step_seconds = calloc((size_t)r->settings->inference_steps, sizeof *l->step_seconds);
    l->rows.host_sums = calloc((size_t)num_token_groups(tokens.count) + 1, sizeof *l->rows.host_sums);
    if (l->rows.host_sums == NULL || l->staging == NULL || r->latents == NULL || l->host_freqs == NULL ||
        l->step_seconds == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "denoising: host memory for %zu latent values", len);
    }
    SKY_TRY(sky_rope_fill(&r->shape.grid, r->dims.head_dim, tokens.first, tokens.count, l->host_freqs));
    SKY_TRY(sky_noise_fill(&r->settings->rng, r->settings->seed, 0, r->latents, (int64_t)len));
    return create_solver(r, l);
}

static void free_loop(loop *l)
{
    sky_unipc_destroy(&l->solver);
    free(l->rows.data);
    free(l->rows.host_sums);
    free(l->step_seconds);
    free(l->host_freqs);
    free(l->staging);
}

sky_status sky_render_create_transformer(render *r, sky_weights *weights)
{
    return sky_transformer_create(weights, &r->arithmetic, &r->transformer);
}

sky_status sky_render_peak_denoise(render *r, size_t *bytes, sky_traffic *traffic)
{
    loop l = {.model = r->transformer};
    *traffic = (sky_traffic){0};
    SKY_TRY(create_solver(r, &l));
    r->ranks.sequence.planned = traffic;
    const sky_status st = sky_render_peak(r, run_loop, &l, bytes);
    r->ranks.sequence.planned = NULL;
    free_loop(&l);
    return st;
}

/* What the loop has sent, and how long it was in exchanges. */
static void count_exchanges(render *r, double sign)
{
    const sky_group *const groups[] = {r->ranks.members, r->ranks.branches};
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        if (groups[i] != NULL) {
            const sky_traffic traffic = sky_group_traffic(groups[i]);
            r->result->traffic.bytes += sign > 0 ? traffic.bytes : -traffic.bytes;
            r->result->traffic.messages += sign > 0 ? traffic.messages : -traffic.messages;
            r->result->exchange_seconds += sign * sky_group_exchange_seconds(groups[i]);
        }
    }
}

static sky_status load(render *r)
{
    SKY_TRY(sky_render_enter(r, SKY_PHASE_LOAD_TRANSFORMER, 0));
    return sky_render_load(r, SKY_TRANSFORMER, SKY_PHASE_LOAD_TRANSFORMER, sky_render_create_transformer);
}

/* Weights, host memory and the arena. Fails alone. */
static sky_status prepare_loop(render *r, loop *l, sky_arena *arena)
{
    SKY_TRY(load(r));
    SKY_TRY(create_loop(r, l));
    return sky_render_plan(r, run_loop, l, arena);
}

sky_status sky_render_denoise(render *r)
{
    sky_group *world = r->engine->config.group;
    sky_status st = SKY_OK;
    loop l = {0};
    sky_arena arena = {0};
    SKY_TRY_GOTO(sky_group_agree(world, prepare_loop(r, &l, &arena)));
    const double start = sky_clock_seconds();
    count_exchanges(r, -1.0);
    SKY_TRY_GOTO(sky_render_run(r, run_loop, &l, &arena));
    count_exchanges(r, 1.0);
    summarise_steps(r, &l);
    r->result->seconds[SKY_PHASE_DENOISE] = sky_clock_seconds() - start;
done:
    sky_render_free_arena(r, &arena);
    free_loop(&l);
    sky_render_unload(r, SKY_TRANSFORMER);
    return st;
}
