/*
 * ops/linear_sums.h - what the i32 sums of a linear layer still lack
 *
 * linear_8bit may leave its exact sums (i8 codes, y i32). The ops that read a linear layer's output (activation, rms_norm,
 * residual_norm, qk_norm_rope and what is made of it, channel_sums, quantize_channels) take them in place of bf16 values, with
 * this struct beside the tensor, and see
 *
 *     x[m, n] = bf16(f32(sum[m, n]) * (x_scale[m] * weight_scale[n]) + bias[n])
 *
 * each step rounded to f32, which are the bytes that linear_8bit writes as bf16. With other inputs all three are absent.
 */
#ifndef SKY_OPS_LINEAR_SUMS_H
#define SKY_OPS_LINEAR_SUMS_H

#include "base/tensor.h"

typedef struct sky_linear_sums {
    sky_tensor x_scale;      /* [rows] f32 */
    sky_tensor weight_scale; /* [cols] f32 */
    sky_tensor bias;         /* [cols] f32 or bf16, optional */
} sky_linear_sums;

#endif
