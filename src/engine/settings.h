/*
 * engine/settings.h - everything that decides what a video looks like
 *
 * Two runs with equal settings, seed and model give the same bytes, on any number of ranks.
 */
#ifndef SKY_ENGINE_SETTINGS_H
#define SKY_ENGINE_SETTINGS_H

#include "base/status.h"
#include "model/transformer.h"
#include "sample/noise.h"
#include "sample/unipc.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * Arithmetic of the blocks' linear layers. fp8 and int8: codes with scales, everything around them as in bf16.
 */
typedef enum sky_precision {
    SKY_PRECISION_FP8,
    SKY_PRECISION_INT8,
    SKY_PRECISION_BF16,
    SKY_PRECISION_FP32
} sky_precision;

typedef struct sky_settings {
    const char *model_path;      /* required; borrowed, as all text here */
    const char *prompt;          /* required; UTF-8 */
    const char *negative_prompt; /* NULL: the published default */
    const char *output;          /* required to render; sky_settings_output_name() makes one */
    int64_t height, width;       /* 0: from the model's name, 544 x 960 or 720 x 1280 */
    int64_t num_frames;          /* 0: 97, or 121 for 720P */
    int64_t inference_steps;
    double guidance_scale;
    double shift;
    int64_t fps;
    uint64_t seed;
    sky_precision precision;
    bool attention_8bit;   /* self-attention on INT8 queries and keys and e4m3 values */
    bool text_encoder_fp8; /* the text encoder's weights are kept in e4m3 */
    sky_rng rng;
    sky_time_grid scheduler;
    bool fast_ring; /* ring attention in another order of the keys: overlaps better, differs by rounding */
} sky_settings;

/* The published defaults: 30 steps, guidance 6, shift 8, 24 frames a second, torch-cuda:132 noise, fp8 and 8-bit attention. */
sky_settings sky_settings_default(void);

/* Fills what is still 0 or NULL from the model's folder name (not output). */
void sky_settings_complete(sky_settings *settings);

/*
 * Looks at completed settings. Errors: USAGE, naming the flag, what was wanted, what was found, and for a size or frame
 * count the nearest ones that work.
 */
sky_status sky_settings_check(const sky_settings *settings);

/* Latents [16, frames, rows, cols], and the grid of patches on them. */
typedef struct sky_video_shape {
    int64_t latent_frames, latent_rows, latent_cols;
    sky_grid grid;
} sky_video_shape;
sky_video_shape sky_settings_shape(const sky_settings *settings);

/* "FIRST 100 CHARACTERS OF THE PROMPT_SEED" without '/' and control characters, with `ending`; the caller frees *out. */
sky_status sky_settings_output_name(const sky_settings *settings, const char *ending, char **out);

/* All settings but the output as a JSON object, as written into the video and the report. The caller json_decref()s. */
json_t *sky_settings_json(const sky_settings *settings);

/* What the transformer's blocks compute in. */
sky_arithmetic sky_settings_arithmetic(const sky_settings *settings);

const char *sky_precision_name(sky_precision precision);
const char *sky_time_grid_name(sky_time_grid grid);

#endif
