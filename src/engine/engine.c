#include "skyreels.h"

#include "engine/render.h"

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
    free(*engine);
    *engine = NULL;
}
