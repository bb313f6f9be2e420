#include "engine/late_render.h"

#include "engine/engine.h"
#include "engine/fingerprint.h"
#include "support/test.h"

#include <stdio.h>

enum { NUM_STEPS = 2 };

static sky_settings settings_of(const late_render_args *args, const char *path)
{
    sky_settings s = sky_settings_default();
    s.model_path = SKY_TEST_MODELS "/shapes-t2v";
    s.prompt = "A red ball moving up on a gray background.";
    s.num_frames = 9;
    s.height = 64; /* 216 tokens: two groups, and rows for four strips */
    s.width = 288;
    s.inference_steps = NUM_STEPS;
    s.guidance_scale = 3;
    s.shift = 3;
    s.seed = 7;
    s.precision = args->precision;
    s.attention_8bit = args->precision == SKY_PRECISION_FP8 || args->precision == SKY_PRECISION_INT8;
    s.output = path;
    sky_settings_complete(&s);
    return s;
}

static sky_status render(sky_group *group, const late_render_args *args, void *device, const char *path, char **text)
{
    sky_status st = SKY_OK;
    sky_engine *engine = NULL;
    sky_fingerprint *fp = NULL;
    sky_result result;
    const sky_settings settings = settings_of(args, path);
    SKY_TRY_GOTO(sky_fingerprint_create(NUM_STEPS, &fp));
    const sky_engine_observer observer = sky_fingerprint_observer(fp, NULL);
    SKY_TRY_GOTO(sky_engine_create(&(sky_engine_config){.backend = args->backend,
                                                        .device = device,
                                                        .group = group,
                                                        .layout = {.degrees = args->layout},
                                                        .observer = &observer},
                                   &engine));
    SKY_TRY_GOTO(sky_engine_render(engine, &settings, &result));
    SKY_TRY_GOTO(sky_fingerprint_text(fp, group, text));
done:
    sky_engine_destroy(&engine);
    sky_fingerprint_destroy(&fp);
    return st;
}

char *late_render(sky_group *group, const late_render_args *args, const char *path, char message[256])
{
    char *text = NULL;
    void *device = NULL;
    sky_status st = sky_device_open(args->backend, &(sky_device_options){.num_threads = 1}, &device);
    if (st == SKY_OK) {
        st = render(group, args, device, path, &text);
    }
    if (st != SKY_OK) {
        snprintf(message, 256, "%s", sky_message());
    }
    sky_device_close(args->backend, &device);
    return text;
}
