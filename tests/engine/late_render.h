/*
 * tests/engine/late_render.h - a small video on one backend and layout, as the fingerprint of all its stages
 */
#ifndef SKY_TESTS_ENGINE_LATE_RENDER_H
#define SKY_TESTS_ENGINE_LATE_RENDER_H

#include "engine/settings.h"
#include "parallel/layout.h"
#include "support/late.h"

typedef struct late_render_args {
    const sky_backend *backend;
    sky_precision precision; /* in 8 bits: attention too */
    sky_rank_layout layout;
    int fail_step, fail_rank; /* the device of that rank fails while it runs an op of that step; 0: never */
} late_render_args;

enum { LATE_RENDER_STEPS = 2 };

/* What one rank has of a render. */
typedef struct late_render_seen {
    char *fingerprint; /* the same on all ranks, owned; NULL on failure */
    sky_status status;
    char message[256];
    int velocities[LATE_RENDER_STEPS]; /* looked at in each step */
    bool reported_early;               /* a latent frame was called decoded, and the device was not done with it */
} late_render_seen;

/* path: where rank 0 writes. Collective. */
void late_render(sky_group *group, const late_render_args *args, const char *path, late_render_seen *out);

#endif
