/*
 * ops/ref/ref_ops.h - the functions of the reference backend (private to ops/ref)
 *
 * A fused op calls those of the ops it fuses.
 */
#ifndef SKY_OPS_REF_REF_OPS_H
#define SKY_OPS_REF_REF_OPS_H

#include "ops/backend.h"

#define SKY_DECLARE_REF(op) sky_status sky_ref_##op(sky_ctx *ctx, const sky_##op##_args *args, void *scratch);
SKY_OPS(SKY_DECLARE_REF)
#undef SKY_DECLARE_REF

/* Only these need scratch; nothing is refused. */
sky_status sky_ref_activation_plan(sky_ctx *ctx, const sky_activation_args *args, size_t *scratch_bytes);
sky_status sky_ref_attention_plan(sky_ctx *ctx, const sky_attention_args *args, size_t *scratch_bytes);
sky_status sky_ref_attention_8bit_plan(sky_ctx *ctx, const sky_attention_8bit_args *args, size_t *scratch_bytes);
sky_status sky_ref_conv3d_plan(sky_ctx *ctx, const sky_conv3d_args *args, size_t *scratch_bytes);
sky_status sky_ref_layer_norm_plan(sky_ctx *ctx, const sky_layer_norm_args *args, size_t *scratch_bytes);
sky_status sky_ref_layer_norm_modulate_plan(sky_ctx *ctx, const sky_layer_norm_modulate_args *args,
                                            size_t *scratch_bytes);
sky_status sky_ref_linear_plan(sky_ctx *ctx, const sky_linear_args *args, size_t *scratch_bytes);
sky_status sky_ref_qk_norm_rope_plan(sky_ctx *ctx, const sky_qk_norm_rope_args *args, size_t *scratch_bytes);
sky_status sky_ref_qk_norm_rope_quantize_plan(sky_ctx *ctx, const sky_qk_norm_rope_quantize_args *args,
                                              size_t *scratch_bytes);
sky_status sky_ref_qk_norm_rope_sums_plan(sky_ctx *ctx, const sky_qk_norm_rope_sums_args *args, size_t *scratch_bytes);
sky_status sky_ref_residual_norm_plan(sky_ctx *ctx, const sky_residual_norm_args *args, size_t *scratch_bytes);

#endif
