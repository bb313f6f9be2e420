/* Calls of the engine's observers: each in turn, up to the first that fails. */
#include "engine/render.h"

#include "base/hash.h"
#include "ops/ops.h"
#include "parallel/partition.h"

#include <inttypes.h>
#include <stdlib.h>

/* Calls `function` of every observer that has one. */
#define CALL_ALL(r, function, ...)                                                                  \
    do {                                                                                            \
        for (const sky_engine_observer *o = (r)->engine->config.observer; o != NULL; o = o->next) { \
            if (o->function != NULL) {                                                              \
                SKY_TRY(o->function(o->user, __VA_ARGS__));                                         \
            }                                                                                       \
        }                                                                                           \
        return SKY_OK;                                                                              \
    } while (0)

#define ANY(r, function)                                                                            \
    do {                                                                                            \
        for (const sky_engine_observer *o = (r)->engine->config.observer; o != NULL; o = o->next) { \
            if (o->function != NULL) {                                                              \
                return true;                                                                        \
            }                                                                                       \
        }                                                                                           \
        return false;                                                                               \
    } while (0)

bool sky_render_wants_latents(const render *r)
{
    ANY(r, latents);
}

bool sky_render_wants_rows(const render *r)
{
    ANY(r, rows);
}

sky_status sky_render_enter(const render *r, sky_phase phase, int64_t index)
{
    CALL_ALL(r, enter, phase, index);
}

sky_status sky_render_observe_text(const render *r, int branch)
{
    CALL_ALL(r, text, branch, r->text[branch], render_text_bytes(r));
}

sky_status sky_render_observe_latents(const render *r, int step, const float *latents)
{
    CALL_ALL(r, latents, step, latents, render_latents_len(r));
}

sky_status sky_render_observe_rows(const render *r, sky_engine_rows *rows)
{
    CALL_ALL(r, rows, rows);
}

sky_status sky_render_observe_velocity(const render *r, int step, int branch, const float *velocity)
{
    CALL_ALL(r, velocity, step, branch, velocity, render_latents_len(r));
}

sky_status sky_render_observe_frames(const render *r)
{
    CALL_ALL(r, frames, r->frames, r->settings->num_frames * r->settings->height * r->settings->width * 3);
}

/* ---- rows inside the transformer ---- */

sky_status sky_engine_rows_read(sky_engine_rows *rows)
{
    struct sky_engine_rows_source *from = rows->source;
    if (rows->data != NULL || from == NULL) {
        return SKY_OK;
    }
    const size_t bytes = sky_tensor_bytes(from->value);
    if (bytes > from->data_bytes) {
        void *more = realloc(from->data, bytes);
        if (more == NULL) {
            return sky_fail(SKY_ERR_NOMEM, "%zu bytes of %s to look at", bytes, rows->name);
        }
        from->data = more;
        from->data_bytes = bytes;
    }
    SKY_TRY(sky_ctx_download(from->ctx, from->data, from->value));
    rows->data = from->data;
    return SKY_OK;
}

static uint64_t hash_on_host(const sky_engine_rows *rows, uint64_t stage)
{
    const unsigned char *data = rows->data;
    uint64_t sum = 0;
    for (int64_t row = 0; row < rows->num_rows; row += SKY_TOKEN_GROUP) {
        const int64_t left = rows->num_rows - row;
        const int64_t num = left < SKY_TOKEN_GROUP ? left : SKY_TOKEN_GROUP;
        sum += sky_hash(stage, (uint64_t)((rows->first_row + row) / SKY_TOKEN_GROUP),
                        data + (size_t)row * rows->row_bytes, (size_t)num * rows->row_bytes);
    }
    return sum;
}

sky_status sky_engine_rows_hash(const sky_engine_rows *rows, uint64_t stage, uint64_t *sum)
{
    const struct sky_engine_rows_source *from = rows->source;
    *sum = 0;
    if (rows->num_rows == 0) {
        return SKY_OK;
    }
    if (rows->first_row % SKY_TOKEN_GROUP != 0) {
        return sky_fail(SKY_ERR_INTERNAL, "%s: rows begin at %" PRId64 ", want a multiple of %d", rows->name,
                        rows->first_row, SKY_TOKEN_GROUP);
    }
    if (rows->data != NULL || from == NULL) {
        *sum = hash_on_host(rows, stage);
        return SKY_OK;
    }
    const int64_t groups = (rows->num_rows + SKY_TOKEN_GROUP - 1) / SKY_TOKEN_GROUP;
    const sky_tensor sums = sky_tensor_rows(&from->sums, 0, groups);
    SKY_TRY(sky_hash_rows(from->ctx, &(sky_hash_rows_args){.sums = sums,
                                                           .x = *from->value,
                                                           .stage = stage,
                                                           .first_row = rows->first_row,
                                                           .rows_per_group = SKY_TOKEN_GROUP}));
    SKY_TRY(sky_ctx_download(from->ctx, from->host_sums, &sums));
    for (int64_t i = 0; i < groups && !sky_ctx_failed(from->ctx); i++) {
        *sum += from->host_sums[i];
    }
    return SKY_OK;
}
