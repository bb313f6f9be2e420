/*
 * kernels/cuda.h - the CUDA backend
 *
 *     void *device = NULL;
 *     SKY_TRY(sky_device_open(sky_backend_cuda(), &(sky_device_options){.index = 0}, &device));
 *
 * Opened: one of the visible GPUs, options.index modulo their number. Errors of opening: DEVICE where there is no GPU, no driver
 * or one that is too old; UNSUPPORTED below compute capability 8.0.
 */
#ifndef SKY_KERNELS_CUDA_H
#define SKY_KERNELS_CUDA_H

#include "ops/backend.h"

const sky_backend *sky_backend_cuda(void);

#endif
