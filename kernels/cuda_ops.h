/*
 * kernels/cuda_ops.h - the ops that have a CUDA implementation (private to kernels)
 *
 * An op that is not in the list is UNSUPPORTED.
 */
#ifndef SKY_KERNELS_CUDA_OPS_H
#define SKY_KERNELS_CUDA_OPS_H

#include "ops/backend.h"

#define SKY_CUDA_OPS(X)      \
    X(activation)            \
    X(add)                   \
    X(attention)             \
    X(attention_8bit)        \
    X(cfg_combine)           \
    X(channel_norm)          \
    X(channel_sums)          \
    X(conv3d)                \
    X(convert)               \
    X(copy_columns)          \
    X(dequantize_rows)       \
    X(embedding)             \
    X(frames_to_u8)          \
    X(gate_residual)         \
    X(gated_gelu)            \
    X(hash_rows)             \
    X(interleave_frames)     \
    X(layer_norm)            \
    X(layer_norm_modulate)   \
    X(linear)                \
    X(linear_8bit)           \
    X(linear_combination)    \
    X(merge_attention)       \
    X(patchify)              \
    X(qk_norm_rope)          \
    X(qk_norm_rope_quantize) \
    X(qk_norm_rope_sums)     \
    X(quantize_channels)     \
    X(quantize_heads)        \
    X(quantize_rows)         \
    X(residual_norm)         \
    X(rms_norm)              \
    X(rope)                  \
    X(sums_to_mean)          \
    X(timestep_embedding)    \
    X(to_channels_first)     \
    X(to_channels_last)      \
    X(unpatchify)            \
    X(upsample_nearest)

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
SKY_CUDA_OPS(SKY_CUDA_DECLARE)
#undef SKY_CUDA_DECLARE
#define SKY_CUDA_DECLARE_PLAN(op) \
    sky_status sky_cuda_##op##_plan(sky_ctx *ctx, const sky_##op##_args *args, size_t *scratch_bytes);
SKY_CUDA_PLANNED_OPS(SKY_CUDA_DECLARE_PLAN)
#undef SKY_CUDA_DECLARE_PLAN
#ifdef __cplusplus
}
#endif

#endif
