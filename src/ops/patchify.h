/*
 * ops/patchify.h - latents to rows of patches, and back
 *
 * Patches are 1 x 2 x 2. Tokens run frame by frame, row by row, column by column: token n = (f * H/2 + i) * W/2 + j.
 *
 *     patchify     y[n - first_token, c*4 + ph*2 + pw]   = x[c, f, 2i + ph, 2j + pw]
 *     unpatchify   y[c, f, 2i + ph, 2j + pw]             = x[n, (ph*2 + pw)*C + c]
 *
 * The two orders differ (channel slowest in, fastest out), as in the published model.
 *
 * Shapes   patchify: x [C, F, H, W], H and W even; y [rows, 4*C] with first_token + rows <= F * H/2 * W/2
 *          unpatchify: x [F * H/2 * W/2, 4*C]; y [C, F, H, W]
 * Types    patchify: x f32, y f32 or bf16. unpatchify: x and y f32.
 * Errors   SHAPE, DTYPE
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 * Source   modules/transformer.py WanModel: patch_embedding (as a matrix product), unpatchify.
 */
#ifndef SKY_OPS_PATCHIFY_H
#define SKY_OPS_PATCHIFY_H

#include "ops/ctx.h"

typedef struct sky_patchify_args {
    sky_tensor y; /* [rows, 4*C]  out */
    sky_tensor x; /* [C, F, H, W] f32 */
    int64_t first_token;
} sky_patchify_args;

typedef struct sky_unpatchify_args {
    sky_tensor y; /* [C, F, H, W] f32  out */
    sky_tensor x; /* [tokens, 4*C] f32 */
} sky_unpatchify_args;

sky_status sky_patchify(sky_ctx *ctx, const sky_patchify_args *args);
sky_status sky_unpatchify(sky_ctx *ctx, const sky_unpatchify_args *args);

#endif
