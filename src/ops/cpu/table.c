#include "ops/cpu/isa.h"

const sky_backend SKY_CPU(table) = {
    .name = "cpu",
#define ENTRY(op) .op = SKY_CPU(op),
    SKY_OPS(ENTRY)
#undef ENTRY
        .activation_plan = SKY_CPU(activation_plan),
    .attention_plan = SKY_CPU(attention_plan),
    .attention_8bit_plan = SKY_CPU(attention_8bit_plan),
    .channel_norm_plan = SKY_CPU(channel_norm_plan),
    .conv3d_plan = SKY_CPU(conv3d_plan),
    .layer_norm_plan = SKY_CPU(layer_norm_plan),
    .layer_norm_modulate_plan = SKY_CPU(layer_norm_modulate_plan),
    .qk_norm_rope_plan = SKY_CPU(qk_norm_rope_plan),
    .qk_norm_rope_quantize_plan = SKY_CPU(qk_norm_rope_quantize_plan),
    .qk_norm_rope_sums_plan = SKY_CPU(qk_norm_rope_sums_plan),
    .residual_norm_plan = SKY_CPU(residual_norm_plan),
    .rms_norm_plan = SKY_CPU(rms_norm_plan),
    .rope_plan = SKY_CPU(rope_plan),
};
