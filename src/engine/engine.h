/*
 * engine/engine.h - from settings to a video file, on a group of ranks
 *
 * All ranks of the group make the same calls with the same settings. A layout (parallel/layout.h) says how they share the
 * guidance branches and the sequence; every rank holds the latents and advances the solver itself; all decode a part of
 * every frame; rank 0 encodes the prompts and writes the file. The bytes do not depend on the number of ranks or the layout.
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
#include "parallel/layout.h"
#include "parallel/sequence.h"

typedef struct sky_engine sky_engine;

/*
 * Rows of tokens inside the transformer. They are where it runs, and stay there unless an observer asks for them: 40 blocks of
 * a large video are terabytes.
 */
typedef struct sky_engine_rows {
    int step, branch;
    const char *name; /* as model/observe.h has it: "block_7" */
    int64_t first_row, num_rows;
    size_t row_bytes;
    const void *data;                      /* [num_rows, row_bytes] on the host, once somebody has asked */
    struct sky_engine_rows_source *source; /* the engine's; NULL: data is all there is */
} sky_engine_rows;

/*
 * For the time of an observer's call. read fills rows->data with a copy, once for all observers. hash: the sum, modulo 2^64, of
 * base/hash.h's H over groups of SKY_TOKEN_GROUP rows of the global index, of the copy where there is one; first_row is a
 * multiple of SKY_TOKEN_GROUP, or there are no rows. Errors: NOMEM, DEVICE; INTERNAL where rows begin elsewhere.
 */
sky_status sky_engine_rows_read(sky_engine_rows *rows);
sky_status sky_engine_rows_hash(const sky_engine_rows *rows, uint64_t stage, uint64_t *sum);

/*
 * A look at what a render makes, on every rank. Each function may be NULL; a status other than SKY_OK is a failure of this
 * rank at that place, and ends the render on all of them.
 */
typedef struct sky_engine_observer {
    /* A stage begins; within DENOISE each step (index), within DECODE each latent frame, else index is 0. */
    sky_status (*enter)(void *user, sky_phase phase, int64_t index);
    /* Text encoder's output for branch 0 (prompt) or 1 (negative prompt), as shared by all ranks: bytes of the compute type. */
    sky_status (*text)(void *user, int branch, const void *data, size_t bytes);
    /* [16, F, H, W]: what goes into step `step`; with step = inference_steps what the decoder is given. */
    sky_status (*latents)(void *user, int step, const float *latents, int64_t len);
    /* A transformer's intermediate value: this rank's rows, `first_row` in the whole. */
    sky_status (*rows)(void *user, sky_engine_rows *rows);
    /* [16, F, H, W] of one guidance branch, on the ranks that computed it. */
    sky_status (*velocity)(void *user, int step, int branch, const float *velocity, int64_t len);
    /* [num_frames, height, width, 3]; rank 0 only. */
    sky_status (*frames)(void *user, const uint8_t *frames, int64_t len);
    void *user;
    const struct sky_engine_observer *next; /* another one, or NULL */
} sky_engine_observer;

typedef struct sky_engine_config {
    const sky_backend *backend; /* with its device, as everything here: borrowed, outlives the engine */
    void *device;
    sky_group *group;
    int num_threads;             /* of the host, for reading weights; 0: one */
    uint64_t memory_limit_bytes; /* of the device, for this rank; with the host's where they are one; 0: what is free */
    sky_rank_layout_request layout;      /* zeros: as is best */
    const sky_log *log;                  /* may be NULL */
    const sky_progress *progress;        /* may be NULL */
    const sky_engine_observer *observer; /* may be NULL */
} sky_engine_config;

typedef struct sky_result {
    double seconds[SKY_PHASE_COUNT]; /* of this rank */
    double step_seconds_median;
    double step_seconds_worst;
    double seconds_total;
    sky_rank_layout layout;         /* chosen */
    int64_t num_tokens;             /* of the transformer's sequence */
    sky_span tokens, heads;         /* this rank's share */
    sky_traffic traffic;            /* sent by this rank while denoising */
    double exchange_seconds;        /* of this rank in exchanges while denoising */
    int64_t num_text_tokens[2];     /* prompt, negative prompt; on rank 0, else 0 */
    uint64_t weight_bytes;          /* device bytes of the largest set of weights held at once */
    uint64_t activation_peak_bytes; /* largest arena */
} sky_result;

sky_status sky_engine_create(const sky_engine_config *config, sky_engine **out);
void sky_engine_destroy(sky_engine **engine);

/*
 * Renders one video and writes it to settings->output (completed and checked settings). Collective: a failure on one
 * rank ends the call on all of them with that rank's status and message; nothing half-written stays.
 * What does not fit (engine/plan.h) is refused before anything is read.
 * Errors: USAGE, INPUT, MISMATCH, IO, NOMEM, DEVICE, COMM, and INTERNAL where numbers are no longer finite.
 */
sky_status sky_engine_render(sky_engine *engine, const sky_settings *settings, sky_result *result);

#endif
