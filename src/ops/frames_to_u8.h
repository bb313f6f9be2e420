/*
 * ops/frames_to_u8.h - decoded frames to bytes
 *
 *     y = trunc(255 * min(max(x / 2 + 0.5, 0), 1))
 *
 * Shapes   x, y [T, H, W, 3]
 * Types    x f32 or bf16, evaluated in f32; y u8. NaN gives 0.
 * Errors   SHAPE, DTYPE
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 * Source   pipelines/text2video_pipeline.py: (videos / 2 + 0.5).clamp(0, 1), * 255, to uint8 (cuts, does not round).
 */
#ifndef SKY_OPS_FRAMES_TO_U8_H
#define SKY_OPS_FRAMES_TO_U8_H

#include "ops/ctx.h"

typedef struct sky_frames_to_u8_args {
    sky_tensor y; /* [T, H, W, 3] u8  out */
    sky_tensor x; /* [T, H, W, 3] */
} sky_frames_to_u8_args;

sky_status sky_frames_to_u8(sky_ctx *ctx, const sky_frames_to_u8_args *args);

#endif
