/*
 * engine/progress.h - what the engine is doing, for whoever shows it
 *
 * The engine calls update() often; it must be quick. Only the rank that was given a callback shows anything.
 */
#ifndef SKY_ENGINE_PROGRESS_H
#define SKY_ENGINE_PROGRESS_H

#include <stdint.h>

typedef enum sky_phase {
    SKY_PHASE_LOAD_TEXT_ENCODER,
    SKY_PHASE_ENCODE_TEXT,
    SKY_PHASE_LOAD_TRANSFORMER,
    SKY_PHASE_DENOISE,
    SKY_PHASE_LOAD_VAE,
    SKY_PHASE_DECODE,
    SKY_PHASE_WRITE,
    SKY_PHASE_COUNT
} sky_phase;

/* done of total: bytes while loading, prompts, steps, latent frames, files. done 0 starts a phase, done = total ends it. */
typedef struct sky_progress {
    void (*update)(void *user, sky_phase phase, uint64_t done, uint64_t total);
    void *user;
} sky_progress;

/* "loading the transformer", "denoising", ... */
const char *sky_phase_name(sky_phase phase);

#endif
