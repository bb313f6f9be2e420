#include "engine/settings.h"

#include "base/utf8.h"
#include "text/text_clean.h"
#include "weights/checkpoint.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* generate_video.py, --negative_prompt */
static const char default_negative_prompt[] =
    "Bright tones, overexposed, static, blurred details, subtitles, style, works, paintings, images, static, overall "
    "gray, "
    "worst quality, low quality, JPEG compression residue, ugly, incomplete, extra fingers, poorly drawn hands, poorly "
    "drawn faces, deformed, disfigured, misshapen limbs, fused fingers, still picture, messy background, three legs, "
    "many "
    "people in the background, walking backwards";

enum {
    SIZE_MULTIPLE = 16,
    FRAME_MULTIPLE = 4,
    LATENT_STRIDE = 8,
    MAX_SIZE = SIZE_MULTIPLE * SKY_ROPE_MAX_POSITIONS,
    MAX_FRAMES = FRAME_MULTIPLE * (SKY_ROPE_MAX_POSITIONS - 1) + 1,
    MAX_STEPS = 1000,
    MAX_FPS = 240,
    NAME_CHARS = 100,
    NAME_BYTES = 200 /* file systems allow 255 for the whole name */
};

sky_settings sky_settings_default(void)
{
    return (sky_settings){.inference_steps = 30,
                          .guidance_scale = 6.0,
                          .shift = 8.0,
                          .fps = 24,
                          .precision = SKY_PRECISION_FP8,
                          .attention_8bit = true,
                          .rng = {.kind = SKY_RNG_TORCH_CUDA, .num_multiprocessors = 132},
                          .scheduler = SKY_GRID_ORIGINAL};
}

/* The last part of a path, without the slashes behind it: len bytes from the pointer returned. */
static const char *folder_name(const char *path, size_t *len)
{
    size_t end = strlen(path);
    while (end > 0 && path[end - 1] == '/') {
        end--;
    }
    size_t start = end;
    while (start > 0 && path[start - 1] != '/') {
        start--;
    }
    *len = end - start;
    return path + start;
}

void sky_settings_complete(sky_settings *s)
{
    char name[SKY_PUBLISHED_NAME_BYTES] = "";
    if (s->model_path != NULL) {
        sky_checkpoint_published_name(s->model_path, name);
    }
    const bool is_720p = strcasestr(name, "720P") != NULL; /* as in SkyReels-V2-T2V-14B-720P */
    if (s->height == 0 && s->width == 0) {
        s->height = is_720p ? 720 : 544;
        s->width = is_720p ? 1280 : 960;
    }
    if (s->num_frames == 0) {
        s->num_frames = s->height == 720 && s->width == 1280 ? 121 : 97;
    }
    if (s->negative_prompt == NULL) {
        s->negative_prompt = default_negative_prompt;
    }
}

static sky_status check_size(const char *flag, int64_t value)
{
    if (value >= SIZE_MULTIPLE && value <= MAX_SIZE && value % SIZE_MULTIPLE == 0) {
        return SKY_OK;
    }
    int64_t below = value / SIZE_MULTIPLE * SIZE_MULTIPLE;
    below = below < SIZE_MULTIPLE ? SIZE_MULTIPLE : below > MAX_SIZE ? MAX_SIZE : below;
    const int64_t above = below + SIZE_MULTIPLE <= MAX_SIZE ? below + SIZE_MULTIPLE : below;
    return sky_fail(SKY_ERR_USAGE,
                    "%s %" PRId64 ": want a multiple of %d from %d to %d; the nearest are %" PRId64 " and %" PRId64,
                    flag, value, SIZE_MULTIPLE, SIZE_MULTIPLE, MAX_SIZE, below, above);
}

static sky_status check_frames(int64_t value)
{
    if (value >= 1 && value <= MAX_FRAMES && value % FRAME_MULTIPLE == 1) {
        return SKY_OK;
    }
    int64_t below = (value - 1) / FRAME_MULTIPLE * FRAME_MULTIPLE + 1;
    below = value < 1 ? 1 : below > MAX_FRAMES ? MAX_FRAMES : below;
    const int64_t above = below + FRAME_MULTIPLE <= MAX_FRAMES ? below + FRAME_MULTIPLE : below;
    return sky_fail(SKY_ERR_USAGE,
                    "--num_frames %" PRId64 ": want 4k + 1 frames from 1 to %d; the nearest are %" PRId64
                    " and %" PRId64,
                    value, MAX_FRAMES, below, above);
}

static sky_status check_range(const char *flag, double value, double least, double most)
{
    if (value >= least && value <= most) { /* false for NaN */
        return SKY_OK;
    }
    return sky_fail(SKY_ERR_USAGE, "%s %g: want %g to %g", flag, value, least, most);
}

/* Text that the tokenizer will take: found out before minutes of loading. */
static sky_status check_text(const char *flag, const char *text)
{
    char *clean = NULL;
    SKY_TRY(sky_fail_in(sky_text_clean(text, &clean), "%s", flag));
    free(clean);
    return SKY_OK;
}

sky_status sky_settings_check(const sky_settings *s)
{
    if (s->model_path == NULL || s->model_path[0] == '\0') {
        return sky_fail(SKY_ERR_USAGE, "--model_path is missing: the folder of a SkyReels-V2 model");
    }
    if (s->prompt == NULL) {
        return sky_fail(SKY_ERR_USAGE, "--prompt is missing: what the video shows, or --prompt_file FILE");
    }
    if (s->height == 0 || s->width == 0) {
        return sky_fail(SKY_ERR_USAGE, "--height and --width go together: %s is missing",
                        s->height == 0 ? "--height" : "--width");
    }
    SKY_TRY(check_text("--prompt", s->prompt));
    SKY_TRY(check_text("--negative_prompt", s->negative_prompt));
    SKY_TRY(check_size("--height", s->height));
    SKY_TRY(check_size("--width", s->width));
    SKY_TRY(check_frames(s->num_frames));
    SKY_TRY(check_range("--inference_steps", (double)s->inference_steps, 1, MAX_STEPS));
    SKY_TRY(check_range("--guidance_scale", s->guidance_scale, 0, 100));
    SKY_TRY(check_range("--shift", s->shift, 0.01, 100));
    return check_range("--fps", (double)s->fps, 1, MAX_FPS);
}

sky_video_shape sky_settings_shape(const sky_settings *s)
{
    const sky_video_shape shape = {.latent_frames = (s->num_frames - 1) / FRAME_MULTIPLE + 1,
                                   .latent_rows = s->height / LATENT_STRIDE,
                                   .latent_cols = s->width / LATENT_STRIDE};
    return (sky_video_shape){.latent_frames = shape.latent_frames,
                             .latent_rows = shape.latent_rows,
                             .latent_cols = shape.latent_cols,
                             .grid = {.num_frames = shape.latent_frames,
                                      .num_rows = shape.latent_rows / 2,
                                      .num_cols = shape.latent_cols / 2}};
}

sky_status sky_settings_output_name(const sky_settings *s, const char *ending, char **out)
{
    char name[NAME_BYTES + 1];
    size_t len = 0;
    int chars = 0;
    char *shown = strdup(s->prompt);
    if (shown == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "output name");
    }
    sky_utf8_make_name(shown); /* no controls, no line breaks, nothing invisible */
    for (const char *p = shown; *p != '\0'; p++) {
        const bool starts_char = ((unsigned char)*p & 0xc0U) != 0x80U;
        if (starts_char && (chars++ == NAME_CHARS || len + 4 > NAME_BYTES)) {
            break;
        }
        if (*p != '/') {
            name[len++] = *p;
        }
    }
    free(shown);
    while (len > 0 && name[len - 1] == ' ') {
        len--;
    }
    name[len] = '\0';
    /* A leading dot or dash would hide the file or look like a flag. */
    const char *prefix = name[0] == '.' || name[0] == '-' ? "_" : "";
    if (asprintf(out, "%s%s_%" PRIu64 "%s", prefix, name, s->seed, ending) < 0) {
        *out = NULL;
        return sky_fail(SKY_ERR_NOMEM, "output name");
    }
    return SKY_OK;
}

sky_arithmetic sky_settings_arithmetic(const sky_settings *s)
{
    static const sky_arithmetic by_precision[] = {
        [SKY_PRECISION_FP8] = {.compute = SKY_BF16, .linear = SKY_F8_E4M3},
        [SKY_PRECISION_INT8] = {.compute = SKY_BF16, .linear = SKY_I8},
        [SKY_PRECISION_BF16] = {.compute = SKY_BF16, .linear = SKY_BF16},
        [SKY_PRECISION_FP32] = {.compute = SKY_F32, .linear = SKY_F32},
    };
    sky_arithmetic arithmetic = by_precision[s->precision];
    arithmetic.attention_8bit = s->attention_8bit;
    return arithmetic;
}

const char *sky_precision_name(sky_precision precision)
{
    static const char *const names[] = {[SKY_PRECISION_FP8] = "fp8",
                                        [SKY_PRECISION_INT8] = "int8",
                                        [SKY_PRECISION_BF16] = "bf16",
                                        [SKY_PRECISION_FP32] = "fp32"};
    return names[precision];
}

const char *sky_time_grid_name(sky_time_grid grid)
{
    return grid == SKY_GRID_ORIGINAL ? "original" : "diffusers";
}

json_t *sky_settings_json(const sky_settings *s)
{
    char rng[32];
    if (s->rng.kind == SKY_RNG_TORCH_CPU) {
        snprintf(rng, sizeof rng, "torch-cpu");
    } else {
        snprintf(rng, sizeof rng, "torch-cuda:%d", s->rng.num_multiprocessors);
    }
    /* The seed is unsigned 64 bits, JSON's integers here are signed: text keeps all of it. */
    char seed[24];
    snprintf(seed, sizeof seed, "%" PRIu64, s->seed);
    size_t model_len = 0;
    const char *folder = folder_name(s->model_path, &model_len);
    char model[NAME_MAX + 1]; /* a folder may be called anything, JSON is UTF-8 */
    snprintf(model, sizeof model, "%.*s", (int)(model_len < NAME_MAX ? model_len : NAME_MAX), folder);
    sky_utf8_make_printable(model);
    return json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:s, s:b, s:s, s:s, s:s, s:b}", "model",
                     model, "prompt", s->prompt, "negative_prompt", s->negative_prompt, "seed", seed, "height",
                     (json_int_t)s->height, "width", (json_int_t)s->width, "num_frames", (json_int_t)s->num_frames,
                     "fps", (json_int_t)s->fps, "inference_steps", (json_int_t)s->inference_steps, "guidance_scale",
                     s->guidance_scale, "shift", s->shift, "precision", sky_precision_name(s->precision),
                     "use_sage_attention", s->attention_8bit, "text_encoder", s->text_encoder_fp8 ? "fp8" : "bf16",
                     "rng", rng, "scheduler", sky_time_grid_name(s->scheduler), "fast_ring", s->fast_ring);
}
