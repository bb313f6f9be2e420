/*
 * ops/ops.h - the list of all operations
 *
 * An op's inputs may share memory with each other; its output shares none with them unless the header says "y may be x",
 * which means the same memory with the same type. Anything else is a mistake of the calling code, not of its input, and
 * is answered with SKY_ERR_INTERNAL. A required tensor without memory is a SHAPE error. Ops with nothing to do (no rows)
 * return SKY_OK without calling the backend.
 *
 * Adding one: its header here, its checks in ops/OP.c, its reference in ops/ref, its rows in tests/ops; then a fast one.
 */
#ifndef SKY_OPS_OPS_H
#define SKY_OPS_OPS_H

#include "ops/activation.h"
#include "ops/add.h"
#include "ops/attention.h"
#include "ops/attention_8bit.h"
#include "ops/cfg_combine.h"
#include "ops/channel_layout.h"
#include "ops/channel_norm.h"
#include "ops/channel_sums.h"
#include "ops/conv3d.h"
#include "ops/convert.h"
#include "ops/copy_columns.h"
#include "ops/ctx.h"
#include "ops/dequantize_rows.h"
#include "ops/embedding.h"
#include "ops/frames_to_u8.h"
#include "ops/gate_residual.h"
#include "ops/gated_gelu.h"
#include "ops/hash_rows.h"
#include "ops/interleave_frames.h"
#include "ops/layer_norm.h"
#include "ops/layer_norm_modulate.h"
#include "ops/linear.h"
#include "ops/linear_8bit.h"
#include "ops/linear_combination.h"
#include "ops/merge_attention.h"
#include "ops/patchify.h"
#include "ops/qk_norm_rope.h"
#include "ops/quantize_channels.h"
#include "ops/quantize_heads.h"
#include "ops/quantize_rows.h"
#include "ops/residual_norm.h"
#include "ops/rms_norm.h"
#include "ops/rope.h"
#include "ops/timestep_embedding.h"
#include "ops/upsample_nearest.h"

#define SKY_OPS(X)           \
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

#endif
