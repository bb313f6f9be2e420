#include "ops/rig.h"

#include "support/test.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/*
 * What every op refuses, one tensor at a time: a type that no op takes, a dimension more, a negative length, no memory,
 * memory that overlaps the output. What only one op refuses is in that op's test.
 */
enum { MAX_TENSORS = 9, BUFFER_FLOATS = 1024 };

typedef struct op_refusals {
    const char *name;
    sky_status (*call)(sky_ctx *ctx, const void *args);
    const void *good;
    size_t args_bytes;
    int num_tensors;  /* the output comes first */
    int num_required; /* those behind may be absent */
    size_t tensors[MAX_TENSORS];
    bool any_type; /* all f16 is fine */
} op_refusals;

#define CALL(op)                                                \
    static sky_status call_##op(sky_ctx *ctx, const void *args) \
    {                                                           \
        return sky_##op(ctx, args);                             \
    }
SKY_OPS(CALL)

static sky_tensor *tensor_of(const op_refusals *o, void *args, int i)
{
    return (sky_tensor *)(void *)((unsigned char *)args + o->tensors[i]);
}

static void expect_status(sky_ctx *ctx, const op_refusals *o, const void *args, sky_status want, const char *why, int i)
{
    const sky_status st = o->call(ctx, args);
    if (st != want) {
        test_fail(__FILE__, __LINE__, "%s: %s (tensor %d): want %s, got %s (%s)", o->name, why, i,
                  sky_status_name(want), sky_status_name(st), sky_message());
    } else if (st != SKY_OK && strncmp(sky_message(), o->name, strlen(o->name)) != 0) {
        test_fail(__FILE__, __LINE__, "%s: the message does not name the op: %s", o->name, sky_message());
    }
}

static void check_refusals(sky_ctx *ctx, const op_refusals *o)
{
    void *args = malloc(o->args_bytes);
    SKY_ASSERT(args != NULL);
    expect_status(ctx, o, o->good, SKY_OK, "as it should be", 0);
    for (int i = 0; i < o->num_tensors; i++) {
        sky_tensor *t = tensor_of(o, args, i);
        memcpy(args, o->good, o->args_bytes);
        t->dtype = SKY_F16;
        expect_status(ctx, o, args, SKY_ERR_DTYPE, "f16", i);
        memcpy(args, o->good, o->args_bytes);
        t->dtype = (sky_dtype)99;
        expect_status(ctx, o, args, SKY_ERR_DTYPE, "an unknown type", i);
        memcpy(args, o->good, o->args_bytes);
        t->shape[t->num_dims++] = 1;
        expect_status(ctx, o, args, SKY_ERR_SHAPE, "a dimension more", i);
        t->num_dims = SKY_MAX_DIMS + 1;
        expect_status(ctx, o, args, SKY_ERR_SHAPE, "too many dimensions", i);
        memcpy(args, o->good, o->args_bytes);
        t->shape[0] = -t->shape[0];
        expect_status(ctx, o, args, SKY_ERR_SHAPE, "a negative length", i);
        if (i < o->num_required) {
            memcpy(args, o->good, o->args_bytes);
            t->data = NULL;
            expect_status(ctx, o, args, SKY_ERR_SHAPE, "no memory", i);
        }
        if (i > 0) {
            const sky_tensor *y = tensor_of(o, args, 0);
            memcpy(args, o->good, o->args_bytes);
            t->data = (unsigned char *)y->data + sky_tensor_bytes(y) - 1;
            expect_status(ctx, o, args, SKY_ERR_INTERNAL, "the last byte of the output is its first", i);
            t->data = (unsigned char *)y->data + 1 - sky_tensor_bytes(t);
            expect_status(ctx, o, args, SKY_ERR_INTERNAL, "the first byte of the output is its last", i);
        }
    }
    memcpy(args, o->good, o->args_bytes);
    for (int i = 0; i < o->num_tensors; i++) {
        tensor_of(o, args, i)->dtype = SKY_F16;
    }
    expect_status(ctx, o, args, o->any_type ? SKY_OK : SKY_ERR_DTYPE, "all f16", -1);
    memcpy(args, o->good, o->args_bytes);
    for (int i = 0; i < o->num_tensors; i++) {
        tensor_of(o, args, i)->shape[0] *= -1;
    }
    expect_status(ctx, o, args, SKY_ERR_SHAPE, "all of negative length", -1);
    free(args);
}

#define AT(op, field)    offsetof(sky_##op##_args, field)
#define F(i, ...)        SKY_TENSOR(memory[i] + BUFFER_FLOATS / 2, SKY_F32, __VA_ARGS__)
#define C(i, dtype, ...) SKY_TENSOR(memory[i] + BUFFER_FLOATS / 2, dtype, __VA_ARGS__)
#define ROW(op, count, needed, ...)                                                                 \
    {                                                                                               \
        .name = #op, .call = call_##op, .good = &op, .args_bytes = sizeof op, .num_tensors = count, \
        .num_required = needed, .tensors = {__VA_ARGS__},                                           \
    }

TEST(what_no_op_takes)
{
    /* Tensors start in the middle, so that there is room for others to overlap from both sides. */
    static float memory[MAX_TENSORS][BUFFER_FLOATS];
    static int32_t numbers[5];
    const sky_activation_args activation = {.y = F(0, 4, 6), .x = F(1, 4, 6)};
    const sky_add_args add = {.y = F(0, 4, 6), .a = F(1, 4, 6), .b = F(2, 4, 6)};
    const sky_attention_args attention = {.y = F(0, 3, 2, 4),
                                          .q = F(1, 3, 2, 4),
                                          .k = F(2, 5, 2, 4),
                                          .v = F(3, 5, 2, 4),
                                          .rel_bias = F(4, 2, 7),
                                          .softmax_scale = 1.0F};
    const sky_cfg_combine_args cfg_combine = {.y = F(0, 4, 6), .cond = F(1, 4, 6), .uncond = F(2, 4, 6)};
    const sky_channel_norm_args channel_norm = {.y = F(0, 4, 6), .x = F(1, 4, 6), .gamma = F(2, 6)};
    const sky_conv3d_args conv3d = {.y = F(0, 2, 4, 5, 3),
                                    .x = F(1, 4, 4, 5, 2),
                                    .weight = F(2, 3, 3, 3, 3, 2),
                                    .bias = F(3, 3),
                                    .stride_t = 1,
                                    .stride_hw = 1,
                                    .pad_top = 1,
                                    .pad_bottom = 1,
                                    .pad_left = 1,
                                    .pad_right = 1};
    const sky_convert_args convert = {.y = F(0, 4, 6), .x = F(1, 4, 6), .shift = F(2, 6)};
    const sky_copy_columns_args copy_columns = {.y = F(0, 4, 6), .x = F(1, 4, 8), .num_columns = 6};
    const sky_embedding_args embedding = {.y = F(0, 5, 4), .table = F(1, 7, 4), .ids = SKY_TENSOR(numbers, SKY_I32, 5)};
    const sky_frames_to_u8_args frames_to_u8 = {.y = SKY_TENSOR(memory[0] + BUFFER_FLOATS / 2, SKY_U8, 2, 3, 4, 3),
                                                .x = F(1, 2, 3, 4, 3)};
    const sky_gate_residual_args gate_residual = {
        .x = F(0, 4, 6), .y = F(1, 4, 6), .gate = F(2, 2, 6), .rows_per_group = 2};
    const sky_gated_gelu_args gated_gelu = {.y = F(0, 4, 6), .up = F(1, 4, 6), .gate = F(2, 4, 6)};
    const sky_interleave_frames_args interleave_frames = {.y = F(0, 4, 3, 4, 3), .x = F(1, 2, 3, 4, 6)};
    const sky_layer_norm_args layer_norm = {.y = F(0, 4, 6), .x = F(1, 4, 6), .weight = F(2, 6), .bias = F(3, 6)};
    const sky_layer_norm_modulate_args layer_norm_modulate = {
        .y = F(0, 4, 6), .x = F(1, 4, 6), .shift = F(2, 2, 6), .scale = F(3, 2, 6), .rows_per_group = 2};
    const sky_linear_args linear = {.y = F(0, 3, 7), .x = F(1, 3, 5), .weight = F(2, 7, 5), .bias = F(3, 7)};
    const sky_linear_combination_args linear_combination = {
        .y = F(0, 4, 6), .num_terms = 2, .x = {F(1, 4, 6), F(2, 4, 6)}};
    const sky_merge_attention_args merge_attention = {
        .y = F(0, 3, 2, 4), .lse = F(1, 3, 2), .other = F(2, 3, 2, 4), .other_lse = F(3, 3, 2)};
    const sky_patchify_args patchify = {.y = F(0, 12, 12), .x = F(1, 3, 2, 4, 6)};
    const sky_qk_norm_rope_args qk_norm_rope = {
        .y = F(0, 3, 8), .x = F(1, 3, 8), .weight = F(2, 8), .freqs = F(3, 3, 2, 2)};
    const sky_qk_norm_rope_sums_args qk_norm_rope_sums = {
        .sums = C(0, SKY_I64, 8), .x = F(1, 3, 8), .weight = F(2, 8), .freqs = F(3, 3, 2, 2), .num_tokens = 3};
    const sky_qk_norm_rope_quantize_args qk_norm_rope_quantize = {.codes = C(0, SKY_I8, 3, 8),
                                                                  .scale = F(1, 2, 2),
                                                                  .x = F(2, 3, 8),
                                                                  .weight = F(3, 8),
                                                                  .freqs = F(4, 3, 2, 2),
                                                                  .mean = F(5, 2, 4),
                                                                  .tokens_per_group = 2};
    const sky_residual_norm_args residual_norm = {.x = F(0, 4, 6),
                                                  .y = F(1, 4, 6),
                                                  .delta = F(2, 4, 6),
                                                  .weight = F(3, 6),
                                                  .bias = F(4, 6),
                                                  .gate = F(5, 2, 6),
                                                  .rows_per_group = 2};
    const sky_hash_rows_args hash_rows = {
        .sums = C(0, SKY_I64, 2), .x = F(1, 4, 6), .rows_per_group = 2}; /* x may be anything */
    const sky_timestep_embedding_args timestep_embedding = {.y = F(0, 3, 4), .timesteps = F(1, 3)};
    const sky_rms_norm_args rms_norm = {.y = F(0, 4, 6), .x = F(1, 4, 6), .weight = F(2, 6)};
    const sky_rope_args rope = {.y = F(0, 3, 2, 4), .x = F(1, 3, 2, 4), .freqs = F(2, 3, 2, 2)};
    const sky_to_channels_first_args to_channels_first = {
        .y = F(0, 3, 2, 4, 5), .x = F(1, 2, 4, 5, 4), .scale = F(2, 3), .shift = F(3, 3)};
    const sky_to_channels_last_args to_channels_last = {
        .y = F(0, 2, 4, 5, 3), .x = F(1, 3, 2, 4, 5), .scale = F(2, 3), .shift = F(3, 3)};
    const sky_unpatchify_args unpatchify = {.y = F(0, 3, 2, 4, 6), .x = F(1, 12, 12)};
    const sky_upsample_nearest_args upsample_nearest = {.y = F(0, 1, 4, 6, 4), .x = F(1, 1, 2, 3, 4)};
    const sky_attention_8bit_args attention_8bit = {.y = F(0, 3, 2, 4),
                                                    .q = C(1, SKY_I8, 3, 2, 4),
                                                    .q_scale = F(2, 1, 2),
                                                    .k = C(3, SKY_I8, 5, 2, 4),
                                                    .k_scale = F(4, 1, 2),
                                                    .v = C(5, SKY_F8_E4M3, 1, 2, 4, 128),
                                                    .v_scale = F(6, 2, 4),
                                                    .v_mean = F(7, 2, 4),
                                                    .lse = F(8, 3, 2),
                                                    .softmax_scale = 1.0F};
    const sky_channel_sums_args channel_sums = {
        .sums = C(0, SKY_I64, 6), .x = F(1, 4, 6), .range = F(2, 12), .num_tokens = 4};
    const sky_dequantize_rows_args dequantize_rows = {
        .y = F(0, 4, 6), .codes = C(1, SKY_F8_E4M3, 4, 6), .scale = F(2, 4)};
    const sky_linear_8bit_args linear_8bit = {.y = F(0, 3, 7),
                                              .x = C(1, SKY_I8, 3, 5),
                                              .x_scale = F(2, 3),
                                              .weight = C(3, SKY_I8, 7, 5),
                                              .weight_scale = F(4, 7),
                                              .bias = F(5, 7)};
    const sky_quantize_channels_args quantize_channels = {.codes = C(0, SKY_F8_E4M3, 1, 2, 3, 128),
                                                          .scale = F(1, 6),
                                                          .x = F(2, 4, 6),
                                                          .mean = F(3, 6),
                                                          .range = F(4, 12)};
    const sky_quantize_heads_args quantize_heads = {.codes = C(0, SKY_I8, 5, 2, 4),
                                                    .scale = F(1, 3, 2),
                                                    .x = F(2, 5, 2, 4),
                                                    .mean = F(3, 2, 4),
                                                    .tokens_per_group = 2};
    const sky_quantize_rows_args quantize_rows = {.codes = C(0, SKY_F8_E4M3, 4, 6), .scale = F(1, 4), .x = F(2, 4, 6)};
    const sky_sums_to_mean_args sums_to_mean = {.mean = F(0, 6), .sums = C(1, SKY_I64, 6), .num_tokens = 3};
    const op_refusals ops[] = {
        ROW(activation, 2, 2, AT(activation, y), AT(activation, x)),
        ROW(add, 3, 3, AT(add, y), AT(add, a), AT(add, b)),
        ROW(attention, 5, 4, AT(attention, y), AT(attention, q), AT(attention, k), AT(attention, v),
            AT(attention, rel_bias)),
        ROW(cfg_combine, 3, 3, AT(cfg_combine, y), AT(cfg_combine, cond), AT(cfg_combine, uncond)),
        ROW(channel_norm, 3, 3, AT(channel_norm, y), AT(channel_norm, x), AT(channel_norm, gamma)),
        ROW(conv3d, 4, 4, AT(conv3d, y), AT(conv3d, x), AT(conv3d, weight), AT(conv3d, bias)),
        ROW(convert, 3, 2, AT(convert, y), AT(convert, x), AT(convert, shift)),
        {.name = "copy_columns",
         .call = call_copy_columns,
         .good = &copy_columns,
         .args_bytes = sizeof copy_columns,
         .num_tensors = 2,
         .num_required = 2,
         .tensors = {AT(copy_columns, y), AT(copy_columns, x)},
         .any_type = true},
        ROW(embedding, 3, 3, AT(embedding, y), AT(embedding, table), AT(embedding, ids)),
        ROW(frames_to_u8, 2, 2, AT(frames_to_u8, y), AT(frames_to_u8, x)),
        ROW(gate_residual, 3, 2, AT(gate_residual, x), AT(gate_residual, y), AT(gate_residual, gate)),
        ROW(gated_gelu, 3, 3, AT(gated_gelu, y), AT(gated_gelu, up), AT(gated_gelu, gate)),
        ROW(interleave_frames, 2, 2, AT(interleave_frames, y), AT(interleave_frames, x)),
        ROW(layer_norm, 4, 4, AT(layer_norm, y), AT(layer_norm, x), AT(layer_norm, weight), AT(layer_norm, bias)),
        ROW(layer_norm_modulate, 4, 4, AT(layer_norm_modulate, y), AT(layer_norm_modulate, x),
            AT(layer_norm_modulate, shift), AT(layer_norm_modulate, scale)),
        ROW(linear, 4, 3, AT(linear, y), AT(linear, x), AT(linear, weight), AT(linear, bias)),
        ROW(linear_combination, 3, 3, AT(linear_combination, y), AT(linear_combination, x[0]),
            AT(linear_combination, x[1])),
        ROW(merge_attention, 4, 4, AT(merge_attention, y), AT(merge_attention, lse), AT(merge_attention, other),
            AT(merge_attention, other_lse)),
        ROW(patchify, 2, 2, AT(patchify, y), AT(patchify, x)),
        ROW(qk_norm_rope, 4, 4, AT(qk_norm_rope, y), AT(qk_norm_rope, x), AT(qk_norm_rope, weight),
            AT(qk_norm_rope, freqs)),
        ROW(qk_norm_rope_sums, 4, 4, AT(qk_norm_rope_sums, sums), AT(qk_norm_rope_sums, x),
            AT(qk_norm_rope_sums, weight), AT(qk_norm_rope_sums, freqs)),
        ROW(qk_norm_rope_quantize, 6, 5, AT(qk_norm_rope_quantize, codes), AT(qk_norm_rope_quantize, scale),
            AT(qk_norm_rope_quantize, x), AT(qk_norm_rope_quantize, weight), AT(qk_norm_rope_quantize, freqs),
            AT(qk_norm_rope_quantize, mean)),
        ROW(hash_rows, 1, 1, AT(hash_rows, sums)),
        ROW(timestep_embedding, 2, 2, AT(timestep_embedding, y), AT(timestep_embedding, timesteps)),
        ROW(residual_norm, 6, 5, AT(residual_norm, x), AT(residual_norm, y), AT(residual_norm, delta),
            AT(residual_norm, weight), AT(residual_norm, bias), AT(residual_norm, gate)),
        ROW(rms_norm, 3, 3, AT(rms_norm, y), AT(rms_norm, x), AT(rms_norm, weight)),
        ROW(rope, 3, 3, AT(rope, y), AT(rope, x), AT(rope, freqs)),
        ROW(to_channels_first, 4, 4, AT(to_channels_first, y), AT(to_channels_first, x), AT(to_channels_first, scale),
            AT(to_channels_first, shift)),
        ROW(to_channels_last, 4, 4, AT(to_channels_last, y), AT(to_channels_last, x), AT(to_channels_last, scale),
            AT(to_channels_last, shift)),
        ROW(unpatchify, 2, 2, AT(unpatchify, y), AT(unpatchify, x)),
        ROW(upsample_nearest, 2, 2, AT(upsample_nearest, y), AT(upsample_nearest, x)),
        ROW(attention_8bit, 9, 7, AT(attention_8bit, y), AT(attention_8bit, q), AT(attention_8bit, q_scale),
            AT(attention_8bit, k), AT(attention_8bit, k_scale), AT(attention_8bit, v), AT(attention_8bit, v_scale),
            AT(attention_8bit, v_mean), AT(attention_8bit, lse)),
        ROW(channel_sums, 3, 2, AT(channel_sums, sums), AT(channel_sums, x), AT(channel_sums, range)),
        ROW(dequantize_rows, 3, 3, AT(dequantize_rows, y), AT(dequantize_rows, codes), AT(dequantize_rows, scale)),
        ROW(linear_8bit, 6, 5, AT(linear_8bit, y), AT(linear_8bit, x), AT(linear_8bit, x_scale),
            AT(linear_8bit, weight), AT(linear_8bit, weight_scale), AT(linear_8bit, bias)),
        ROW(quantize_channels, 5, 5, AT(quantize_channels, codes), AT(quantize_channels, scale),
            AT(quantize_channels, x), AT(quantize_channels, mean), AT(quantize_channels, range)),
        ROW(quantize_heads, 4, 3, AT(quantize_heads, codes), AT(quantize_heads, scale), AT(quantize_heads, x),
            AT(quantize_heads, mean)),
        ROW(quantize_rows, 3, 3, AT(quantize_rows, codes), AT(quantize_rows, scale), AT(quantize_rows, x)),
        ROW(sums_to_mean, 2, 2, AT(sums_to_mean, mean), AT(sums_to_mean, sums)),
    };
#define COUNT(op) +1
    EXPECT(sizeof ops / sizeof ops[0] == SKY_OPS(COUNT));
    rig r;
    CHECK(rig_open(&r, test_backend_at(0), 0, RIG_ARENA_BYTES));
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        check_refusals(&r.ctx, &ops[i]);
    }
    rig_close(&r);
}

TEST_MAIN
