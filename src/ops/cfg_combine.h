/*
 * ops/cfg_combine.h - classifier-free guidance
 *
 *     y[i] = uncond[i] + guidance_scale * (cond[i] - uncond[i])
 *
 * Shapes   y, cond, uncond the same; y may be cond or uncond
 * Types    f32; three roundings, in this order (not contracted), so that every backend gives the same bytes
 * Errors   SHAPE, DTYPE
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 * Source   Ho and Salimans 2022, eq. 6; pipelines/text2video_pipeline.py.
 */
#ifndef SKY_OPS_CFG_COMBINE_H
#define SKY_OPS_CFG_COMBINE_H

#include "ops/ctx.h"

typedef struct sky_cfg_combine_args {
    sky_tensor y; /* out */
    sky_tensor cond;
    sky_tensor uncond;
    float guidance_scale;
} sky_cfg_combine_args;

sky_status sky_cfg_combine(sky_ctx *ctx, const sky_cfg_combine_args *args);

#endif
