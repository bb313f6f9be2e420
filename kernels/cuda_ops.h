/*
 * kernels/cuda_ops.h - the functions behind the CUDA backend's table: all ops (private to kernels)
 */
#ifndef SKY_KERNELS_CUDA_OPS_H
#define SKY_KERNELS_CUDA_OPS_H

#include "ops/backend.h"

/* Those that choose an algorithm or need scratch. */
#define SKY_CUDA_PLANNED_OPS(X) \
    X(attention)                \
    X(attention_8bit)           \
    X(linear)                   \
    X(linear_8bit)              \
    X(qk_norm_rope)             \
    X(qk_norm_rope_quantize)    \
    X(qk_norm_rope_sums)

#ifdef __cplusplus
extern "C" {
#endif
#define SKY_CUDA_DECLARE(op) sky_status sky_cuda_##op(sky_ctx *ctx, const sky_##op##_args *args, void *scratch);
SKY_OPS(SKY_CUDA_DECLARE)
#undef SKY_CUDA_DECLARE
#define SKY_CUDA_DECLARE_PLAN(op) \
    sky_status sky_cuda_##op##_plan(sky_ctx *ctx, const sky_##op##_args *args, size_t *scratch_bytes);
SKY_CUDA_PLANNED_OPS(SKY_CUDA_DECLARE_PLAN)
#undef SKY_CUDA_DECLARE_PLAN
#ifdef __cplusplus
}
#endif

#endif
