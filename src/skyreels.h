/*
 * skyreels.h - the public interface of libskyreels
 *
 *     sky_group *group = NULL;
 *     sky_engine *engine = NULL;
 *     void *device = NULL;
 *     sky_result result;
 *     sky_settings settings = sky_settings_default();
 *     settings.model_path = "SkyReels-V2-T2V-14B-540P";
 *     settings.prompt = "A cat walks over a frozen lake.";
 *     settings.output = "cat.mp4";
 *     sky_settings_complete(&settings);
 *     if (sky_settings_check(&settings) != SKY_OK || sky_group_self_create(&group) != SKY_OK ||
 *         sky_cpu_device_create(8, &device) != SKY_OK ||
 *         sky_engine_create(&(sky_engine_config){.backend = sky_backend_cpu(), .device = device, .group = group},
 *                           &engine) != SKY_OK ||
 *         sky_engine_render(engine, &settings, &result) != SKY_OK) {
 *         fprintf(stderr, "%s\n", sky_message());
 *     }
 *
 * For several ranks: call MPI_Init, create the group with sky_group_world_create() and make the same calls on all ranks.
 * A call that returns SKY_ERR_COMM has left other ranks waiting: end the job (MPI_Abort).
 * The library never prints, exits or calls MPI_Init. Every function says in its header what it takes and how it fails.
 */
#ifndef SKYREELS_H
#define SKYREELS_H

#include "base/status.h"
#include "engine/engine.h"
#include "engine/fingerprint.h"
#include "engine/plan.h"
#include "engine/settings.h"
#include "ops/cpu/cpu.h"
#include "ops/ref/ref.h"
#include "parallel/group.h"
#include "parallel/group_mpi.h"

#endif
