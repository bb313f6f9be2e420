/*
 * ops/add.h - elementwise sum
 *
 *     y[i] = a[i] + b[i]
 *
 * Shapes   y, a, b the same; y may be a or b
 * Types    f32 or bf16, all the same; added in f32, rounded once
 * Errors   SHAPE, DTYPE
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 */
#ifndef SKY_OPS_ADD_H
#define SKY_OPS_ADD_H

#include "ops/ctx.h"

typedef struct sky_add_args {
    sky_tensor y; /* out */
    sky_tensor a;
    sky_tensor b;
} sky_add_args;

sky_status sky_add(sky_ctx *ctx, const sky_add_args *args);

#endif
