#include "skyreels.h"

#include "base/hash.h"
#include "base/memory.h"
#include "engine/render.h"
#include "ops/backend.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *sky_plan_stage_name(sky_plan_stage stage)
{
    static const char *const names[] = {
        [SKY_PLAN_ENCODE_TEXT] = "text encoder", [SKY_PLAN_DENOISE] = "transformer", [SKY_PLAN_DECODE] = "VAE"};
    return names[stage];
}

/* A stage on this rank: which weights, and what its arena takes with the model made of them. */
typedef struct stage {
    sky_component component;
    render_loader create;
    sky_status (*peak)(render *r, size_t *bytes, sky_traffic *traffic);
} stage;

static sky_status peak_encode_text(render *r, size_t *bytes, sky_traffic *traffic)
{
    *traffic = (sky_traffic){0};
    return sky_render_peak_encode_text(r, SKY_TEXT_LEN, bytes);
}

static const stage stages[SKY_PLAN_STAGE_COUNT] = {
    [SKY_PLAN_ENCODE_TEXT] = {SKY_TEXT_ENCODER, sky_render_create_text_encoder, peak_encode_text},
    [SKY_PLAN_DENOISE] = {SKY_TRANSFORMER, sky_render_create_transformer, sky_render_peak_denoise},
    [SKY_PLAN_DECODE] = {SKY_VAE, sky_render_create_vae, sky_render_peak_decode},
};

static sky_status plan_stage(render *r, const stage *s, sky_plan_memory *memory, sky_traffic *traffic)
{
    sky_status st = SKY_OK;
    sky_weights *weights = NULL;
    size_t arena_bytes = 0;
    SKY_TRY_GOTO(sky_render_plan_weights(r, s->component, s->create, &weights));
    SKY_TRY_GOTO(s->peak(r, &arena_bytes, traffic));
    memory->weight_bytes = sky_weights_bytes(weights);
    memory->staging_bytes = sky_weights_staging_bytes(weights);
    memory->activation_bytes = arena_bytes;
done:
    sky_render_destroy_planned(r);
    sky_weights_destroy(&weights);
    return sky_fail_in(st, "planning the %s", sky_component_name(s->component));
}

/* ---- host memory of the stages, which they allocate for themselves ---- */

static uint64_t text_bytes(const render *r)
{
    return NUM_BRANCHES * (uint64_t)render_text_bytes(r);
}

static uint64_t latents_bytes(const render *r)
{
    return (uint64_t)render_latents_len(r) * sizeof(float);
}

/* Latents, as many values on their way to an observer, and the table of rotations of this rank's tokens. */
static uint64_t denoise_bytes(const render *r, const sky_plan_rank *rank)
{
    const uint64_t freqs_bytes = (uint64_t)(rank->tokens.count * r->dims.head_dim) * sizeof(float);
    return 2 * latents_bytes(r) + freqs_bytes;
}

/* A row of pixels through all frames. */
static uint64_t video_row_bytes(const render *r)
{
    return (uint64_t)(r->settings->num_frames * r->settings->width * 3);
}

/* Latents; on rank 0 the video; on ranks with a strip its latents, and its frames where these are not the video. */
static uint64_t decode_bytes(const render *r, const sky_plan_rank *rank)
{
    const uint64_t latent_row_bytes = latents_bytes(r) / (uint64_t)r->shape.latent_rows;
    uint64_t bytes = latents_bytes(r) + (uint64_t)rank->vae_rows.count * latent_row_bytes;
    if (render_is_first(r)) {
        bytes += (uint64_t)r->settings->height * video_row_bytes(r);
    }
    if (rank->vae_rows.count < r->shape.latent_rows) {
        bytes += (uint64_t)(rank->vae_rows.count * SKY_VAE_STRIDE_HW) * video_row_bytes(r);
    }
    return bytes;
}

/* ---- one rank, all ranks ---- */

/* Strips go to the first rank when they are decoded. */
static void count_frames(const render *r, sky_plan_rank *rank)
{
    if (rank->vae_rows.first > 0) {
        rank->decode.bytes += (uint64_t)(rank->vae_rows.count * SKY_VAE_STRIDE_HW) * video_row_bytes(r);
        rank->decode.messages++;
    }
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static void add_up(sky_plan_rank *rank, uint64_t workspace_bytes)
{
    rank->peak_device_bytes = rank->peak_host_bytes = rank->peak_bytes = 0;
    for (int i = 0; i < SKY_PLAN_STAGE_COUNT; i++) {
        sky_plan_memory *m = &rank->stages[i];
        m->workspace_bytes = workspace_bytes;
        m->device_bytes = m->weight_bytes + m->activation_bytes + m->workspace_bytes;
        m->host_bytes = m->staging_bytes + m->values_bytes;
        m->total_bytes =
            m->weight_bytes + larger(m->staging_bytes, m->activation_bytes) + m->workspace_bytes + m->values_bytes;
        rank->peak_device_bytes = larger(rank->peak_device_bytes, m->device_bytes);
        rank->peak_host_bytes = larger(rank->peak_host_bytes, m->host_bytes);
        rank->peak_bytes = larger(rank->peak_bytes, m->total_bytes);
    }
}

/* A number of what names this start of this machine; where nothing does, a number of the rank's own. */
static uint64_t machine_of(int rank)
{
    char text[64];
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    const bool known = file != NULL && fgets(text, sizeof text, file) != NULL;
    if (file != NULL) {
        fclose(file);
    }
    return known ? sky_hash(0, 0, text, strlen(text)) : (uint64_t)rank;
}

static sky_plan_space find_space(const render *r)
{
    const sky_engine_config *config = &r->engine->config;
    sky_plan_space space = {.host_memory = config->backend->host_memory,
                            .limit_bytes = config->memory_limit_bytes,
                            .machine = machine_of(sky_group_rank(config->group))};
    uint64_t total = 0;
    if (config->backend->memory(config->device, &space.device_free_bytes, &total) != SKY_OK) {
        space.device_free_bytes = 0;
    }
    if (space.device_free_bytes > 0) {
        space.device_free_bytes += sky_engine_held_bytes(r->engine); /* of the plan's weights already */
    }
    if (space.host_memory) {
        space.host_free_bytes = space.device_free_bytes;
    } else if (sky_machine_memory(&space.host_free_bytes, &total) != SKY_OK) {
        space.host_free_bytes = 0;
    }
    return space;
}

/* Fails alone. */
static sky_status plan_rank(render *r, sky_plan_rank *rank)
{
    const sky_engine_config *config = &r->engine->config;
    const bool has_strip = r->ranks.strip_ranks != NULL;
    sky_traffic none;
    *rank = (sky_plan_rank){
        .place = r->ranks.place, .tokens = r->result->tokens, .heads = r->result->heads, .space = find_space(r)};
    if (has_strip) {
        rank->vae_rows = sky_strips_own(&r->ranks.strips);
    }
    sky_plan_memory *memory = rank->stages;
    memory[SKY_PLAN_ENCODE_TEXT].values_bytes = text_bytes(r);
    memory[SKY_PLAN_DENOISE].values_bytes = text_bytes(r) + denoise_bytes(r, rank);
    memory[SKY_PLAN_DECODE].values_bytes = text_bytes(r) + decode_bytes(r, rank);
    if (render_is_first(r)) {
        SKY_TRY(plan_stage(r, &stages[SKY_PLAN_ENCODE_TEXT], &memory[SKY_PLAN_ENCODE_TEXT], &none));
    }
    SKY_TRY(plan_stage(r, &stages[SKY_PLAN_DENOISE], &memory[SKY_PLAN_DENOISE], &rank->step));
    if (has_strip) {
        SKY_TRY(plan_stage(r, &stages[SKY_PLAN_DECODE], &memory[SKY_PLAN_DECODE], &rank->decode));
        count_frames(r, rank);
    }
    add_up(rank, sky_device_own_bytes(config->backend, config->device));
    return SKY_OK;
}

/*
 * The same plan with all models loaded at a time, if that fits: each stage has the weights of all. Where it does not, or nobody
 * asked for it, the plan stays as it is. The same answer on every rank. Errors: NOMEM of the host.
 */
static sky_status keep_models(const render *r, sky_plan *plan)
{
    const size_t bytes = (size_t)plan->num_ranks * sizeof *plan->ranks;
    sky_plan kept = *plan;
    if (!r->engine->config.keep_models) {
        return SKY_OK;
    }
    kept.keeps_models = true;
    kept.ranks = malloc(bytes);
    if (kept.ranks == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "a plan of %d ranks", plan->num_ranks);
    }
    memcpy(kept.ranks, plan->ranks, bytes);
    for (int i = 0; i < kept.num_ranks; i++) {
        sky_plan_rank *rank = &kept.ranks[i];
        uint64_t weight_bytes = 0;
        for (int s = 0; s < SKY_PLAN_STAGE_COUNT; s++) {
            weight_bytes += rank->stages[s].weight_bytes;
        }
        for (int s = 0; s < SKY_PLAN_STAGE_COUNT; s++) {
            rank->stages[s].weight_bytes = weight_bytes;
        }
        add_up(rank, rank->stages[0].workspace_bytes);
    }
    if (sky_plan_check(&kept, r->settings) != SKY_OK) {
        sky_clear_message();
        sky_plan_release(&kept);
        return SKY_OK;
    }
    sky_plan_release(plan);
    *plan = kept;
    return SKY_OK;
}

/* Every rank's plan to every rank. Collective. On failure nothing is left to release. */
static sky_status plan_ranks(render *r, sky_plan *out)
{
    sky_group *group = r->engine->config.group;
    sky_plan_rank own = {0};
    sky_plan plan = {.num_ranks = sky_group_size(group),
                     .layout = r->ranks.layout,
                     .num_tokens = r->result->num_tokens,
                     .num_heads = r->dims.num_heads};
    plan.num_layouts =
        sky_rank_layout_list(plan.num_ranks, plan.num_heads, NUM_BRANCHES, plan.layouts, SKY_PLAN_MAX_LAYOUTS);
    plan.ranks = calloc((size_t)plan.num_ranks, sizeof *plan.ranks);
    sky_status st =
        plan.ranks != NULL ? plan_rank(r, &own) : sky_fail(SKY_ERR_NOMEM, "a plan of %d ranks", plan.num_ranks);
    st = sky_group_agree(group, st);
    if (st == SKY_OK) {
        st = sky_group_all_gather(group, &own, sizeof own, plan.ranks);
    }
    if (st == SKY_OK) {
        st = sky_group_agree(group, keep_models(r, &plan));
    }
    if (st != SKY_OK) {
        sky_plan_release(&plan);
        return st;
    }
    *out = plan;
    return SKY_OK;
}

sky_status sky_engine_plan(sky_engine *engine, const sky_settings *settings, sky_plan *out)
{
    render r;
    sky_result result;
    sky_status st = sky_render_begin(engine, settings, &result, &r);
    if (st == SKY_OK) {
        st = plan_ranks(&r, out);
    }
    sky_render_end(&r);
    return st;
}

sky_status sky_render_check_memory(render *r)
{
    sky_plan plan = {0};
    SKY_TRY(plan_ranks(r, &plan));
    const sky_status st = sky_plan_check(&plan, r->settings);
    r->keeps_models = plan.keeps_models;
    if (!r->keeps_models) {
        sky_engine_unload(r->engine); /* what a video before this one could keep has no place beside it */
    }
    sky_plan_release(&plan);
    return st;
}

void sky_plan_release(sky_plan *plan)
{
    free(plan->ranks);
    *plan = (sky_plan){0};
}
