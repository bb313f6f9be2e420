/* The denoising loop. Nothing is allocated in it. */
#include "engine/render.h"
#include "ops/ops.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

typedef struct loop {
    sky_transformer *model;
    sky_unipc *solver;
    float *staging;       /* host: one branch's velocity on its way to the other ranks */
    float *host_freqs;    /* host: table of rotations */
    double *step_seconds; /* [inference_steps] */

    sky_tensor latents;                /* [16, F, H, W] f32 */
    sky_tensor velocity[NUM_BRANCHES]; /* the same */
    sky_tensor freqs;                  /* [tokens, head_dim / 2, 2] f32 */
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
    SKY_TRY(
        sky_ctx_tensor(ctx, &l->freqs, SKY_F32, 3, (int64_t[]){sky_grid_tokens(&r->shape.grid), d->head_dim / 2, 2}));
    SKY_TRY(sky_ctx_upload(ctx, &l->freqs, l->host_freqs));
    SKY_TRY(sky_ctx_upload(ctx, &l->latents, r->latents));
    for (int branch = 0; branch < NUM_BRANCHES; branch++) {
        if (render_owns_branch(r, branch)) {
            SKY_TRY(condition(ctx, r, l, branch));
        }
    }
    return SKY_OK;
}

/* The velocities of the branches that are this rank's. Fails alone. */
static sky_status run_own_branches(sky_ctx *ctx, render *r, loop *l, int step)
{
    for (int branch = 0; branch < NUM_BRANCHES; branch++) {
        if (render_owns_branch(r, branch)) {
            SKY_TRY(sky_transformer_forward(ctx, l->model,
                                            &(sky_transformer_args){.velocity = l->velocity[branch],
                                                                    .latents = l->latents,
                                                                    .freqs = l->freqs,
                                                                    .timestep = sky_unipc_timestep(l->solver, step),
                                                                    .kv = &l->kv[branch]}));
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

/* Every rank gets every branch's velocity. Collective. */
static sky_status share_branches(sky_ctx *ctx, render *r, loop *l, int step)
{
    sky_group *group = r->engine->config.group;
    const int64_t len = render_latents_len(r);
    for (int branch = 0; branch < NUM_BRANCHES; branch++) {
        sky_status st = SKY_OK;
        if (render_owns_branch(r, branch)) {
            st = sky_ctx_download(ctx, l->staging, &l->velocity[branch]);
            if (st == SKY_OK) {
                st = check_finite(l->staging, len, branch, step);
            }
        }
        SKY_TRY(sky_group_agree(group, st));
        if (sky_group_size(group) > 1) {
            SKY_TRY(
                sky_group_broadcast(group, branch % sky_group_size(group), l->staging, (size_t)len * sizeof(float)));
            SKY_TRY(sky_ctx_upload(ctx, &l->velocity[branch], l->staging));
        }
    }
    return SKY_OK;
}

static sky_status advance(sky_ctx *ctx, render *r, loop *l)
{
    SKY_TRY(sky_cfg_combine(ctx, &(sky_cfg_combine_args){.y = l->velocity[BRANCH_COND],
                                                         .cond = l->velocity[BRANCH_COND],
                                                         .uncond = l->velocity[BRANCH_UNCOND],
                                                         .guidance_scale = (float)r->settings->guidance_scale}));
    SKY_TRY(sky_unipc_step(ctx, l->solver, &l->state, &l->velocity[BRANCH_COND], &l->latents));
    return sky_ctx_sync(ctx);
}

/* The loop's memory, touched without computing. */
static sky_status plan_loop(sky_ctx *ctx, render *r, loop *l)
{
    SKY_TRY(prepare(ctx, r, l));
    SKY_TRY(run_own_branches(ctx, r, l, 0));
    SKY_TRY(advance(ctx, r, l));
    sky_unipc_restart(l->solver);
    return SKY_OK;
}

/* Shows what goes into a step; costs a copy to the host where somebody looks, and nothing else. Fails alone. */
static sky_status observe_latents(sky_ctx *ctx, render *r, loop *l, int step)
{
    const sky_engine_observer *observer = r->engine->config.observer;
    if (observer == NULL || observer->latents == NULL) {
        return SKY_OK;
    }
    SKY_TRY(sky_ctx_download(ctx, l->staging, &l->latents));
    return observer->latents(observer->user, step, l->staging, render_latents_len(r));
}

static sky_status run_loop(sky_ctx *ctx, render *r, void *arg)
{
    loop *l = arg;
    sky_group *group = r->engine->config.group;
    if (sky_ctx_planning(ctx)) {
        return plan_loop(ctx, r, l);
    }
    const int num_steps = (int)r->settings->inference_steps;
    sky_status st = prepare(ctx, r, l);
    SKY_TRY(sky_group_agree(group, st));
    render_progress(r, SKY_PHASE_DENOISE, 0, (uint64_t)num_steps);
    for (int step = 0; step < num_steps; step++) {
        const double start = sky_seconds_now();
        /* A rank whose solver failed in the step before does no work and meets the others below. */
        if (st == SKY_OK) {
            st = observe_latents(ctx, r, l, step);
        }
        if (st == SKY_OK) {
            st = run_own_branches(ctx, r, l, step);
        }
        st = sky_group_agree(group, st);
        SKY_TRY(sky_fail_in(st, "denoising, step %d", step));
        SKY_TRY(share_branches(ctx, r, l, step));
        st = advance(ctx, r, l);
        l->step_seconds[step] = sky_seconds_now() - start;
        render_progress(r, SKY_PHASE_DENOISE, (uint64_t)step + 1, (uint64_t)num_steps);
    }
    if (st == SKY_OK) {
        st = observe_latents(ctx, r, l, num_steps);
    }
    if (st == SKY_OK) {
        st = sky_ctx_download(ctx, r->latents, &l->latents);
    }
    return sky_group_agree(group, st);
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

/* Host memory and the solver. Fails alone. */
static sky_status create_loop(render *r, loop *l)
{
    const sky_transformer_dims *d = sky_transformer_get_dims(l->model);
    const size_t num_tokens = (size_t)sky_grid_tokens(&r->shape.grid);
    const size_t len = (size_t)render_latents_len(r);
    l->staging = malloc(len * sizeof *l->staging);
    r->latents = malloc(len * sizeof *r->latents);
    l->host_freqs = malloc(num_tokens * (size_t)d->head_dim * sizeof *l->host_freqs);
    l->step_seconds = calloc((size_t)r->settings->inference_steps, sizeof *l->step_seconds);
    if (l->staging == NULL || r->latents == NULL || l->host_freqs == NULL || l->step_seconds == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "denoising: host memory for %zu latent values", len);
    }
    SKY_TRY(sky_rope_fill(&r->shape.grid, d->head_dim, 0, (int64_t)num_tokens, l->host_freqs));
    SKY_TRY(sky_noise_fill(&r->settings->rng, r->settings->seed, 0, r->latents, (int64_t)len));
    return sky_unipc_create(&(sky_unipc_config){.num_steps = (int)r->settings->inference_steps,
                                                .shift = r->settings->shift,
                                                .grid = r->settings->scheduler},
                            &l->solver);
}

sky_status render_denoise(render *r)
{
    sky_status st = SKY_OK;
    loop l = {.model = r->transformer};
    sky_arena arena = {0};
    const double start = sky_seconds_now();
    st = create_loop(r, &l);
    if (st == SKY_OK) {
        st = render_plan(r, run_loop, &l, &arena);
    }
    SKY_TRY_GOTO(sky_group_agree(r->engine->config.group, st));
    SKY_TRY_GOTO(render_run(r, run_loop, &l, &arena));
    summarise_steps(r, &l);
    r->result->seconds[SKY_PHASE_DENOISE] = sky_seconds_now() - start;
done:
    render_free_arena(r, &arena);
    sky_unipc_destroy(&l.solver);
    free(l.step_seconds);
    free(l.host_freqs);
    free(l.staging);
    return st;
}
