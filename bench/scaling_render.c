/* One render, and what a rank sees of it. */
#include "scaling.h"

sky_settings scaling_settings(const bench *b, sky_precision precision, bool fast_ring)
{
    sky_settings settings = sky_settings_default();
    settings.model_path = b->options.model_path;
    settings.prompt = "A large red ball moving to the right on a black background.";
    settings.output = b->output;
    settings.height = b->options.height;
    settings.width = b->options.width;
    settings.num_frames = b->options.num_frames;
    settings.inference_steps = b->options.steps;
    settings.guidance_scale = 3.0;
    settings.shift = 3.0;
    settings.seed = 5000;
    settings.rng.kind = SKY_RNG_TORCH_CPU;
    settings.precision = precision;
    settings.attention_8bit = precision == SKY_PRECISION_FP8 || precision == SKY_PRECISION_INT8;
    settings.fast_ring = fast_ring;
    sky_settings_complete(&settings);
    return settings;
}

/* Of the processors, by this rank, in a stage. */
typedef struct stage_clock {
    double begin, end;
} stage_clock;

typedef struct watcher {
    stage_clock denoise, decode;
    uint64_t video; /* fingerprint of the frames; rank 0 */
} watcher;

/* Each clock runs from its stage's beginning to that of any stage behind it, or to the end. */
static sky_status see_stage(void *user, sky_phase phase, int64_t index)
{
    watcher *w = user;
    stage_clock *const clock = phase == SKY_PHASE_DENOISE ? &w->denoise : phase == SKY_PHASE_DECODE ? &w->decode : NULL;
    if (clock != NULL && index == 0) {
        clock->begin = clock->end = scaling_processor_now();
    }
    if (phase > SKY_PHASE_DENOISE && w->denoise.end == w->denoise.begin) {
        w->denoise.end = scaling_processor_now();
    }
    if (phase > SKY_PHASE_DECODE) {
        w->decode.end = scaling_processor_now();
    }
    return SKY_OK;
}

static sky_status see_frames(void *user, const uint8_t *frames, int64_t len)
{
    uint64_t hash = 0xcbf29ce484222325U; /* FNV-1a */
    for (int64_t i = 0; i < len; i++) {
        hash = (hash ^ frames[i]) * 0x100000001b3U;
    }
    ((watcher *)user)->video = hash;
    return SKY_OK;
}

static double seconds_of(const stage_clock *clock)
{
    return (clock->end > clock->begin ? clock->end : scaling_processor_now()) - clock->begin;
}

sky_status scaling_render(const bench *b, sky_group *group, sky_precision precision, layout_case *c,
                          rank_result *result)
{
    watcher w = {.video = c->video};
    const sky_engine_observer observer = {.enter = see_stage, .frames = see_frames, .user = &w};
    const sky_settings settings = scaling_settings(b, precision, c->fast_ring);
    sky_engine *engine = NULL;
    SKY_TRY(sky_engine_create(&(sky_engine_config){.backend = b->backend,
                                                   .device = b->device,
                                                   .group = group,
                                                   .layout.degrees = c->layout,
                                                   .observer = &observer},
                              &engine));
    const sky_status st = sky_engine_render(engine, &settings, &result->engine);
    sky_engine_destroy(&engine);
    result->step_processor = seconds_of(&w.denoise) / (double)b->options.steps;
    result->decode_processor = w.decode.begin > 0.0 ? seconds_of(&w.decode) : 0.0;
    c->video = w.video;
    return st;
}
