/*
 * ops/cpu/conv3d_plan.h - memory of a convolution
 */
#ifndef SKY_OPS_CPU_CONV3D_PLAN_H
#define SKY_OPS_CPU_CONV3D_PLAN_H

#include "ops/backend.h"

/* Output channels are padded to whole vectors: the longest of any instruction set, so that plans fit every machine. */
enum { SKY_CPU_CONV3D_PAD = 16 };

/* Floats of the weight, packed; behind it the bias in f32, where it is bf16. */
static inline int64_t sky_cpu_conv3d_packed_len(const sky_conv3d_args *args)
{
    const int64_t *w = args->weight.shape;
    const int64_t padded = (w[0] + SKY_CPU_CONV3D_PAD - 1) / SKY_CPU_CONV3D_PAD * SKY_CPU_CONV3D_PAD;
    return w[1] * w[2] * w[3] * w[4] * padded;
}

static inline size_t sky_cpu_conv3d_scratch_bytes(const sky_conv3d_args *args)
{
    const int64_t bias_len = args->bias.dtype == SKY_F32 ? 0 : args->bias.shape[0];
    return (size_t)(sky_cpu_conv3d_packed_len(args) + bias_len) * sizeof(float);
}

#endif
