/*
 * engine/settings.h - what the engine makes of settings (skyreels.h): shapes, arithmetic, JSON
 */
#ifndef SKY_ENGINE_SETTINGS_H
#define SKY_ENGINE_SETTINGS_H

#include "model/transformer.h"
#include "skyreels.h"

#include <jansson.h>

/* Latents [16, frames, rows, cols], and the grid of patches on them. */
typedef struct sky_video_shape {
    int64_t latent_frames, latent_rows, latent_cols;
    sky_grid grid;
} sky_video_shape;
sky_video_shape sky_settings_shape(const sky_settings *settings);

/* All settings but the output as a JSON object, as written into the video and the report. The caller json_decref()s. */
json_t *sky_settings_json(const sky_settings *settings);

/* What the transformer's blocks compute in. */
sky_arithmetic sky_settings_arithmetic(const sky_settings *settings);

const char *sky_time_grid_name(sky_time_grid grid);

#endif
