/* Calls of the engine's observers: each in turn, up to the first that fails. */
#include "engine/render.h"

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

sky_status sky_render_observe_rows(const render *r, const sky_engine_rows *rows)
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
