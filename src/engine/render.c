/* What the stages of a video share: its beginning and end, and memory. */
#include "engine/render.h"
#include "ops/backend.h"

#include <inttypes.h>
#include <stdlib.h>

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

/* ---- beginning and end ---- */

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
    SKY_TRY(sky_group_agree(engine->config.group, sky_render_open_models(r)));
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
    if (!r->keeps_models) {
        sky_engine_drop_models(r->engine);
    }
}
