/*
 * kernels/attention.cuh - the ways to compute ops/attention.h (private to kernels)
 */
#ifndef SKY_KERNELS_ATTENTION_CUH
#define SKY_KERNELS_ATTENTION_CUH

#include "kernels/launch.cuh"

/* bf16 by the tensor cores: no bias, head dims 16, 32, ... 128, everything aligned. */
bool sky_cuda_attention_16bit_serves(const sky_attention_args *args);
sky_status sky_cuda_attention_16bit(sky_ctx *ctx, const sky_attention_args *args);

#endif
