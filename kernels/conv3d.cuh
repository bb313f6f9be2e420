/*
 * kernels/conv3d.cuh - the ways to compute ops/conv3d.h (private to kernels)
 */
#ifndef SKY_KERNELS_CONV3D_CUH
#define SKY_KERNELS_CONV3D_CUH

#include "kernels/launch.cuh"

/* bf16 by the tensor cores: a multiple of 32 channels, everything aligned. */
bool sky_cuda_conv3d_16bit_serves(const sky_conv3d_args *args);
sky_status sky_cuda_conv3d_16bit(sky_ctx *ctx, const sky_conv3d_args *args);

#endif
