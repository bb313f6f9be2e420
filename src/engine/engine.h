/*
 * engine/engine.h - from settings to a video file, on a group of ranks
 *
 * All ranks of the group make the same calls with the same settings. The two guidance branches are dealt to the ranks
 * in turn; every rank holds the latents and advances the solver itself; rank 0 decodes and writes. The bytes do not
 * depend on the number of ranks.
 *
 *     sky_engine *engine = NULL;
 *     sky_result result = {0};
 *     SKY_TRY_GOTO(sky_engine_create(&(sky_engine_config){.backend = backend, .device = device, .group = group}, &engine));
 *     SKY_TRY_GOTO(sky_engine_render(engine, &settings, &result));
 * done:
 *     sky_engine_destroy(&engine);
 */
#ifndef SKY_ENGINE_ENGINE_H
#define SKY_ENGINE_ENGINE_H

#include "engine/progress.h"
#include "engine/settings.h"
#include "ops/ctx.h"
#include "parallel/group.h"

typedef struct sky_engine sky_engine;

/*
 * A look at what a render makes, on every rank. Each function may be NULL; a status other than SKY_OK ends the render with
 * it. latents [16, F, H, W]: what goes into step `step`; with step = inference_steps what the decoder is given.
 * frames [num_frames, height, width, 3]: rank 0 only.
 */
typedef struct sky_engine_observer {
    sky_status (*latents)(void *user, int step, const float *latents, int64_t len);
    sky_status (*frames)(void *user, const uint8_t *frames, int64_t len);
    void *user;
} sky_engine_observer;

typedef struct sky_engine_config {
    const sky_backend *backend; /* with its device, as everything here: borrowed, outlives the engine */
    void *device;
    sky_group *group;
    const sky_log *log;                  /* may be NULL */
    const sky_progress *progress;        /* may be NULL */
    const sky_engine_observer *observer; /* may be NULL */
} sky_engine_config;

typedef struct sky_result {
    double seconds[SKY_PHASE_COUNT]; /* of this rank */
    double step_seconds_median;
    double step_seconds_worst;
    double seconds_total;
    int64_t num_tokens;             /* of the transformer's sequence */
    int64_t num_text_tokens[2];     /* prompt, negative prompt; of the branches this rank encoded, else 0 */
    uint64_t weight_bytes;          /* device bytes of the largest set of weights held at once */
    uint64_t activation_peak_bytes; /* largest arena */
} sky_result;

sky_status sky_engine_create(const sky_engine_config *config, sky_engine **out);
void sky_engine_destroy(sky_engine **engine);

/*
 * Renders one video and writes it to settings->output (completed and checked settings). Collective: a failure on one
 * rank ends the call on all of them with that rank's status and message; nothing half-written stays.
 * Errors: USAGE, INPUT, MISMATCH, IO, NOMEM, DEVICE, COMM, and INTERNAL where numbers are no longer finite.
 */
sky_status sky_engine_render(sky_engine *engine, const sky_settings *settings, sky_result *result);

#endif
