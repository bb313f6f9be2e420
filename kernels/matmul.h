/*
 * kernels/matmul.h - matrix products by cuBLASLt, chosen so that a row keeps its bytes (private to kernels)
 *
 *     y[m, n] = sum_k x[m, k] * weight[n, k]  (* x_scale[m] * weight_scale[n])  (+ bias[n])
 *
 *     x     weight  y             scales           bias
 *     bf16  bf16    bf16 or f32                    bf16 or none
 *     e4m3  e4m3    bf16 or f32   f32, or none     bf16 or none (with scales)
 *     i8    i8      i32 (exact)
 *
 * An algorithm is chosen once for types, N and K, at a fixed number of rows, and serves any number. No algorithm that splits K is
 * ever taken: with the others a row's bytes do not depend on how many rows there are or where it lies (docs/measurements).
 * Everything must be aligned to 16 bytes, and rows too.
 */
#ifndef SKY_KERNELS_MATMUL_H
#define SKY_KERNELS_MATMUL_H

#include "kernels/device.h"

typedef struct sky_cuda_matmul_args {
    sky_tensor y, x, weight;
    const float *x_scale, *weight_scale; /* or NULL */
    const void *bias;                    /* bf16, or NULL */
} sky_cuda_matmul_args;

#ifdef __cplusplus
extern "C" {
#endif
/*
 * The product for these types, N and K, chosen where it is asked for the first time. *out is NULL where cuBLASLt offers none.
 * bias: SKY_BF16, or SKY_DTYPE_COUNT for none. Errors: DEVICE, NOMEM where there are more than SKY_CUDA_MAX_MATMULS.
 */
sky_status sky_cuda_matmul_find(sky_cuda_device *device, sky_dtype x, sky_dtype y, sky_dtype bias, bool scaled,
                                int64_t n, int64_t k, const sky_cuda_matmul **out);

/* Enqueues it on COMPUTE. x [M, K], weight [N, K], y [M, N]. */
sky_status sky_cuda_matmul_run(sky_cuda_device *device, const sky_cuda_matmul *matmul,
                               const sky_cuda_matmul_args *args);

/* Gives back what was kept; the device is being closed. */
void sky_cuda_matmul_forget(sky_cuda_device *device);
#ifdef __cplusplus
}
#endif

#endif
