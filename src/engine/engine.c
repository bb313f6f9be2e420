/* An engine, and a video stage by stage. */
#include "skyreels.h"

#include "engine/render.h"
#include "media/video.h"

#include <stdlib.h>

sky_status sky_engine_create(const sky_engine_config *config, sky_engine **out)
{
    sky_engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "engine");
    }
    engine->config = *config;
    engine->ctx = (sky_ctx){.backend = config->backend, .device = config->device, .log = config->log};
    *out = engine;
    return SKY_OK;
}

void sky_engine_destroy(sky_engine **engine)
{
    if (*engine != NULL) {
        sky_engine_drop_models(*engine);
        free(*engine);
        *engine = NULL;
    }
}

/* ---- writing ---- */

static sky_status check_output(const render *r)
{
    if (r->settings->output == NULL) {
        return sky_fail(SKY_ERR_USAGE, "--output is missing: where the video goes");
    }
    return render_is_first(r) ? sky_video_check_path(r->settings->output) : SKY_OK;
}

/* Rank 0 alone. */
static sky_status write_video(render *r)
{
    const sky_settings *s = r->settings;
    const double start = sky_clock_seconds();
    json_t *settings = sky_settings_json(s);
    char *metadata = settings != NULL ? json_dumps(settings, JSON_COMPACT) : NULL;
    json_decref(settings);
    if (metadata == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "metadata of the video");
    }
    sky_render_progress(r, SKY_PHASE_WRITE, 0, 1);
    const sky_status st = sky_video_write(s->output, &(sky_video){.frames = r->frames,
                                                                  .num_frames = s->num_frames,
                                                                  .height = s->height,
                                                                  .width = s->width,
                                                                  .fps = (int)s->fps,
                                                                  .title = s->prompt,
                                                                  .metadata = metadata});
    free(metadata);
    r->result->seconds[SKY_PHASE_WRITE] = sky_clock_seconds() - start;
    if (st == SKY_OK) {
        sky_render_progress(r, SKY_PHASE_WRITE, 1, 1);
    }
    return st;
}

/* Rank 0 alone. */
static sky_status show_and_write(render *r)
{
    SKY_TRY(sky_render_observe_frames(r));
    SKY_TRY(sky_render_enter(r, SKY_PHASE_WRITE, 0));
    return write_video(r);
}

/* ---- a video ---- */

static sky_status run_stages(render *r)
{
    sky_group *group = r->engine->config.group;
    SKY_TRY(sky_group_agree(group, check_output(r)));
    SKY_TRY(sky_render_check_memory(r));
    SKY_TRY(sky_render_encode_text(r));
    SKY_TRY(sky_render_denoise(r));
    SKY_TRY(sky_render_decode(r));
    return sky_group_agree(group, render_is_first(r) ? show_and_write(r) : SKY_OK);
}

sky_status sky_engine_render(sky_engine *engine, const sky_settings *settings, sky_result *result)
{
    render r;
    const double start = sky_clock_seconds();
    sky_status st = sky_render_begin(engine, settings, result, &r);
    if (st == SKY_OK) {
        st = run_stages(&r);
    }
    sky_render_end(&r);
    result->seconds_total = sky_clock_seconds() - start;
    return st;
}
