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
} late_render_args;

/*
 * The fingerprint, the same on all ranks, in new memory; NULL on failure, with the reason in message. path: where rank 0 writes.
 * Collective.
 */
char *late_render(sky_group *group, const late_render_args *args, const char *path, char message[256]);

#endif
