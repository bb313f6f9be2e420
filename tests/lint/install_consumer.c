/* A program that knows only the installed library; compiled as C and as C++, and run, by tests/lint/install. */
#include <skyreels.h>

#include <stdio.h>
#include <string.h>

int main(void)
{
    sky_group *group = NULL;
    sky_engine *engine = NULL;
    void *device = NULL;
    sky_result result;
    sky_engine_config config;
    sky_device_options options;
    sky_settings settings = sky_settings_default();
    memset(&config, 0, sizeof config);
    memset(&options, 0, sizeof options);
    options.num_threads = 1;
    settings.model_path = "no-such-model";
    settings.prompt = "A red ball.";
    settings.output = "never-written.y4m";
    sky_settings_complete(&settings);
    config.backend = sky_backend_find("cpu");
    if (config.backend == NULL || sky_settings_check(&settings) != SKY_OK || sky_group_self_create(&group) != SKY_OK ||
        sky_device_open(config.backend, &options, &device) != SKY_OK) {
        printf("want a group and a device, got: %s\n", sky_message());
        return 1;
    }
    config.device = device;
    config.group = group;
    if (sky_engine_create(&config, &engine) != SKY_OK) {
        printf("want an engine, got: %s\n", sky_message());
        return 1;
    }
    if (sky_engine_render(engine, &settings, &result) == SKY_OK || sky_message()[0] == '\0') {
        puts("want a message about the missing model, got none");
        return 1;
    }
    printf("%s\n", sky_message());
    sky_engine_destroy(&engine);
    sky_device_close(config.backend, &device);
    sky_group_destroy(&group);
    return 0;
}
