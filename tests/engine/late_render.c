#include "engine/late_render.h"

#include "engine/fingerprint.h"
#include "skyreels.h"
#include "support/test.h"

#include <stdio.h>

static sky_settings settings_of(const late_render_args *args, const char *path)
{
    sky_settings s = sky_settings_default();
    s.model_path = SKY_TEST_MODELS "/shapes-t2v";
    s.prompt = "A red ball moving up on a gray background.";
    s.num_frames = 9;
    s.height = 64; /* 216 tokens: two groups, and rows for four strips */
    s.width = 288;
    s.inference_steps = LATE_RENDER_STEPS;
    s.guidance_scale = 3;
    s.shift = 3;
    s.seed = 7;
    s.precision = args->precision;
    s.attention_8bit = args->precision == SKY_PRECISION_FP8 || args->precision == SKY_PRECISION_INT8;
    s.output = path;
    sky_settings_complete(&s);
    return s;
}

typedef struct watcher {
    const late_render_args *args;
    sky_group *group;
    void *device;
    late_render_seen *seen;
} watcher;

static sky_status enter(void *user, sky_phase phase, int64_t index)
{
    const watcher *w = user;
    if (w->args->backend == sky_backend_find("cpu")) {
        return SKY_OK;
    }
    if (phase == SKY_PHASE_DECODE && index > 0 && late_device_pending(w->device) > 0) {
        w->seen->reported_early = true;
    }
    if (phase == SKY_PHASE_DENOISE && w->args->fail_step > 0 && index == w->args->fail_step &&
        sky_group_rank(w->group) == w->args->fail_rank) {
        late_fail_next_op(w->device);
    }
    return SKY_OK;
}

static sky_status see_velocity(void *user, int step, int branch, const float *velocity, int64_t len)
{
    const watcher *w = user;
    (void)branch;
    (void)velocity;
    (void)len;
    w->seen->velocities[step]++;
    return SKY_OK;
}

static sky_status render(watcher *w, const char *path)
{
    sky_status st = SKY_OK;
    sky_engine *engine = NULL;
    sky_fingerprint *fp = NULL;
    sky_result result;
    const bool fails =
        w->args->fail_step > 0; /* then without a fingerprint: a look at rows is a wait, which finds it */
    const sky_settings settings = settings_of(w->args, path);
    const sky_engine_observer watch = {.enter = enter, .velocity = see_velocity, .user = w};
    SKY_TRY_GOTO(sky_fingerprint_create(LATE_RENDER_STEPS, &fp));
    const sky_engine_observer observer = sky_fingerprint_observer(fp, &watch);
    SKY_TRY_GOTO(sky_engine_create(&(sky_engine_config){.backend = w->args->backend,
                                                        .device = w->device,
                                                        .group = w->group,
                                                        .layout = {.degrees = w->args->layout},
                                                        .observer = fails ? &watch : &observer},
                                   &engine));
    SKY_TRY_GOTO(sky_engine_render(engine, &settings, &result));
    SKY_ASSERT(!fails);
    SKY_TRY_GOTO(sky_fingerprint_text(fp, w->group, &w->seen->fingerprint));
done:
    sky_engine_destroy(&engine);
    sky_fingerprint_destroy(&fp);
    return st;
}

void late_render(sky_group *group, const late_render_args *args, const char *path, late_render_seen *out)
{
    watcher w = {.args = args, .group = group, .seen = out};
    *out = (late_render_seen){0};
    out->status = sky_device_open(args->backend, &(sky_device_options){.num_threads = 1}, &w.device);
    if (out->status == SKY_OK) {
        out->status = render(&w, path);
    }
    if (out->status != SKY_OK) {
        snprintf(out->message, sizeof out->message, "%s", sky_message());
    }
    sky_device_close(args->backend, &w.device);
}
