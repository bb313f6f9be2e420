/*
 * kernels/device.h - the CUDA backend's state (private to kernels)
 *
 * One GPU of this process, three streams, cuBLASLt with its workspace, and the matrix products chosen so far. Everything that is
 * slow to get is got when the device is opened or an op is planned; ops allocate nothing and wait for nothing.
 */
#ifndef SKY_KERNELS_DEVICE_H
#define SKY_KERNELS_DEVICE_H

#include "ops/backend.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>

enum { SKY_CUDA_MAX_MATMULS = 128, SKY_CUDA_BLAS_WORKSPACE_BYTES = 32 << 20 };

/* A matrix product that cuBLASLt computes: what it depends on, which does not include the number of rows, and how. */
typedef struct sky_cuda_matmul {
    sky_dtype x, y, bias; /* SKY_DTYPE_COUNT: no bias */
    bool scaled;          /* by row of x and of weight */
    int64_t n, k;
    bool offered; /* false: the library has none that keeps a row's bytes */
    cublasLtMatmulDesc_t desc;
    cublasLtMatmulAlgo_t algo;
} sky_cuda_matmul;

typedef struct sky_cuda_device {
    int index; /* among the visible ones */
    int num_sms;
    int capability; /* 90 for sm_90 */
    char name[256];
    cudaStream_t queues[SKY_NUM_QUEUES];
    cublasLtHandle_t blas;
    void *blas_workspace; /* of COMPUTE alone: streams must not share one */
    sky_cuda_matmul matmuls[SKY_CUDA_MAX_MATMULS];
    int num_matmuls;
} sky_cuda_device;

static inline sky_cuda_device *sky_cuda_device_of(const sky_ctx *ctx)
{
    return (sky_cuda_device *)ctx->device;
}

static inline cudaStream_t sky_cuda_stream_of(const sky_ctx *ctx)
{
    return sky_cuda_device_of(ctx)->queues[SKY_QUEUE_COMPUTE];
}

#ifdef __cplusplus
extern "C" {
#endif
/* OK, NOMEM or DEVICE with CUDA's word for it. */
sky_status sky_cuda_status(cudaError_t error, const char *what);

/* Of the launch just made. */
sky_status sky_cuda_launched(const char *op);
#ifdef __cplusplus
}
#endif

#endif
