#include "ops/cpu/cpu.h"
#include "ops/rig.h"

#include "ops/cpu/vec.h"
#include "support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/*
 * The CPU backend promises the same bytes from any number of threads and from every instruction set that has fused
 * multiply-add. Sizes are such that jobs, tiles and panels end in the middle of things.
 */
static const test_backend variants[] = {
    {"1 thread", "cpu", {.num_threads = 1}},
    {"2 threads", "cpu", {.num_threads = 2}},
    {"7 threads", "cpu", {.num_threads = 7}},
    {"v3", "cpu", {.num_threads = 2, .isa = "v3"}},
};
enum { NUM_VARIANTS = sizeof variants / sizeof variants[0] };

static bool machine_has(const char *isa)
{
    const sky_backend *cpu = sky_backend_find("cpu");
    void *device = NULL;
    const bool has = sky_device_open(cpu, &(sky_device_options){.num_threads = 1, .isa = isa}, &device) == SKY_OK;
    sky_device_close(cpu, &device);
    return has;
}

typedef sky_status (*run_function)(rig *r, sky_dtype dtype, sky_tensor *out);

/* Runs once on every variant and compares with the first. */
static void check_bytes(const char *what, run_function run, sky_dtype dtype)
{
    unsigned char *first = NULL;
    for (int v = 0; v < NUM_VARIANTS && !test_failed(); v++) {
        test_parameters("%s %s, %s", what, sky_dtype_name(dtype), variants[v].name);
        if (strcmp(variants[v].name, "v3") == 0 && !machine_has("v3")) {
            continue;
        }
        rig r;
        if (!rig_open(&r, &variants[v], 0, RIG_ARENA_BYTES)) {
            break;
        }
        sky_tensor y;
        EXPECT(run(&r, dtype, &y) == SKY_OK);
        unsigned char *got = rig_read_bytes(&r, &y);
        if (first == NULL) {
            first = got;
        } else {
            EXPECT(memcmp(first, got, sky_tensor_bytes(&y)) == 0);
            free(got);
        }
        rig_close(&r);
    }
    free(first);
}

static sky_status run_linear(rig *r, sky_dtype dtype, sky_tensor *out)
{
    *out = RIG_OUTPUT(r, dtype, 301, 330);
    return sky_linear(&r->ctx, &(sky_linear_args){.y = *out,
                                                  .x = RIG_INPUT(r, dtype, 1, 301, 300),
                                                  .weight = RIG_INPUT(r, dtype, 2, 330, 300),
                                                  .bias = RIG_INPUT(r, SKY_F32, 3, 330)});
}

static sky_status run_attention(rig *r, sky_dtype dtype, sky_tensor *out)
{
    *out = RIG_OUTPUT(r, dtype, 333, 3, 40);
    return sky_attention(&r->ctx, &(sky_attention_args){.y = *out,
                                                        .q = RIG_INPUT(r, dtype, 1, 333, 3, 40),
                                                        .k = RIG_INPUT(r, dtype, 2, 150, 3, 40),
                                                        .v = RIG_INPUT(r, dtype, 3, 150, 3, 40),
                                                        .softmax_scale = 0.3F});
}

static sky_status run_conv3d(rig *r, sky_dtype dtype, sky_tensor *out)
{
    *out = RIG_OUTPUT(r, dtype, 2, 19, 53, 37);
    return sky_conv3d(&r->ctx, &(sky_conv3d_args){.y = *out,
                                                  .x = RIG_INPUT(r, dtype, 1, 4, 19, 53, 21),
                                                  .weight = RIG_INPUT(r, dtype, 3, 37, 3, 3, 3, 21),
                                                  .bias = RIG_INPUT(r, dtype, 4, 37),
                                                  .stride_t = 1,
                                                  .stride_hw = 1,
                                                  .pad_top = 1,
                                                  .pad_bottom = 1,
                                                  .pad_left = 1,
                                                  .pad_right = 1});
}

/* Few outputs and rows of several strips. */
static sky_status run_conv3d_head(rig *r, sky_dtype dtype, sky_tensor *out)
{
    *out = RIG_OUTPUT(r, dtype, 2, 7, 101, 3);
    return sky_conv3d(&r->ctx, &(sky_conv3d_args){.y = *out,
                                                  .x = RIG_INPUT(r, dtype, 1, 4, 7, 101, 72),
                                                  .weight = RIG_INPUT(r, dtype, 3, 3, 3, 3, 3, 72),
                                                  .bias = RIG_INPUT(r, dtype, 4, 3),
                                                  .stride_t = 1,
                                                  .stride_hw = 1,
                                                  .pad_top = 1,
                                                  .pad_bottom = 1,
                                                  .pad_left = 1,
                                                  .pad_right = 1});
}

static sky_status run_channel_norm(rig *r, sky_dtype dtype, sky_tensor *out)
{
    *out = RIG_OUTPUT(r, dtype, 3001, 77);
    return sky_channel_norm(&r->ctx, &(sky_channel_norm_args){.y = *out,
                                                              .x = RIG_INPUT(r, dtype, 1, 3001, 77),
                                                              .gamma = RIG_INPUT(r, SKY_F32, 2, 77),
                                                              .silu = true});
}

static sky_status run_modulate(rig *r, sky_dtype dtype, sky_tensor *out)
{
    *out = RIG_OUTPUT(r, dtype, 601, 333);
    return sky_layer_norm_modulate(&r->ctx, &(sky_layer_norm_modulate_args){.y = *out,
                                                                            .x = RIG_INPUT(r, SKY_F32, 1, 601, 333),
                                                                            .shift = RIG_INPUT(r, SKY_F32, 2, 7, 333),
                                                                            .scale = RIG_INPUT(r, SKY_F32, 3, 7, 333),
                                                                            .rows_per_group = 100,
                                                                            .eps = 1e-6F});
}

static sky_status run_rms_norm(rig *r, sky_dtype dtype, sky_tensor *out)
{
    *out = RIG_OUTPUT(r, dtype, 601, 333);
    return sky_rms_norm(&r->ctx, &(sky_rms_norm_args){.y = *out,
                                                      .x = RIG_INPUT(r, dtype, 1, 601, 333),
                                                      .weight = RIG_INPUT(r, SKY_F32, 2, 333),
                                                      .eps = 1e-6F,
                                                      .round_normed = true});
}

static sky_status run_qk_norm_rope(rig *r, sky_dtype dtype, sky_tensor *out)
{
    *out = RIG_OUTPUT(r, dtype, 401, 3 * 46);
    return sky_qk_norm_rope(&r->ctx, &(sky_qk_norm_rope_args){.y = *out,
                                                              .x = RIG_INPUT(r, dtype, 1, 401, 3 * 46),
                                                              .weight = RIG_INPUT(r, SKY_F32, 2, 3 * 46),
                                                              .freqs = RIG_INPUT(r, SKY_F32, 3, 401, 23, 2),
                                                              .eps = 1e-6F});
}

static sky_status run_qk_sums(rig *r, sky_dtype dtype, sky_tensor *out)
{
    *out = RIG_OUTPUT(r, SKY_I64, 3 * 46);
    return sky_qk_norm_rope_sums(&r->ctx, &(sky_qk_norm_rope_sums_args){.sums = *out,
                                                                        .x = RIG_INPUT(r, dtype, 1, 401, 3 * 46),
                                                                        .weight = RIG_INPUT(r, SKY_F32, 2, 3 * 46),
                                                                        .freqs = RIG_INPUT(r, SKY_F32, 3, 401, 23, 2),
                                                                        .eps = 1e-6F,
                                                                        .num_tokens = 401});
}

static sky_status run_qk_codes(rig *r, sky_dtype dtype, sky_tensor *out)
{
    *out = RIG_OUTPUT(r, SKY_I8, 401, 3 * 46);
    return sky_qk_norm_rope_quantize(&r->ctx,
                                     &(sky_qk_norm_rope_quantize_args){.codes = *out,
                                                                       .scale = RIG_OUTPUT(r, SKY_F32, 7, 3),
                                                                       .x = RIG_INPUT(r, dtype, 1, 401, 3 * 46),
                                                                       .weight = RIG_INPUT(r, SKY_F32, 2, 3 * 46),
                                                                       .freqs = RIG_INPUT(r, SKY_F32, 3, 401, 23, 2),
                                                                       .eps = 1e-6F,
                                                                       .mean = RIG_INPUT(r, SKY_F32, 4, 3, 46),
                                                                       .tokens_per_group = 64,
                                                                       .num_parts = 2});
}

static sky_status run_gate_residual(rig *r, sky_dtype dtype, sky_tensor *out)
{
    *out = RIG_INPUT(r, SKY_F32, 1, 601, 333);
    return sky_gate_residual(&r->ctx, &(sky_gate_residual_args){.x = *out,
                                                                .y = RIG_INPUT(r, dtype, 2, 601, 333),
                                                                .gate = RIG_INPUT(r, SKY_F32, 3, 7, 333),
                                                                .rows_per_group = 100});
}

static sky_status run_residual_norm(rig *r, sky_dtype dtype, sky_tensor *out)
{
    const bool codes = dtype == SKY_BF16;
    *out = RIG_OUTPUT(r, codes ? SKY_F8_E4M3 : SKY_F32, 601, 333);
    const sky_tensor x = RIG_INPUT(r, SKY_F32, 1, 601, 333);
    rig_may_change(r, &x);
    return sky_residual_norm(&r->ctx,
                             &(sky_residual_norm_args){.x = x,
                                                       .y = *out,
                                                       .y_scale = codes ? RIG_OUTPUT(r, SKY_F32, 601) : (sky_tensor){0},
                                                       .delta = RIG_INPUT(r, dtype, 2, 601, 333),
                                                       .gate = RIG_INPUT(r, SKY_F32, 3, 7, 333),
                                                       .shift = RIG_INPUT(r, SKY_F32, 4, 7, 333),
                                                       .scale = RIG_INPUT(r, SKY_F32, 5, 7, 333),
                                                       .rounding = SKY_ROUND_NORMED,
                                                       .rows_per_group = 100,
                                                       .eps = 1e-6F});
}

static sky_status run_gelu_codes(rig *r, sky_dtype dtype, sky_tensor *out)
{
    *out = RIG_OUTPUT(r, SKY_I8, 201, 1333);
    return sky_activation(&r->ctx, &(sky_activation_args){.y = *out,
                                                          .y_scale = RIG_OUTPUT(r, SKY_F32, 201),
                                                          .x = RIG_INPUT(r, dtype, 1, 201, 1333),
                                                          .kind = SKY_GELU_TANH});
}

static sky_status run_gelu(rig *r, sky_dtype dtype, sky_tensor *out)
{
    *out = RIG_OUTPUT(r, dtype, 200001);
    return sky_activation(
        &r->ctx, &(sky_activation_args){.y = *out, .x = RIG_INPUT(r, dtype, 1, 200001), .kind = SKY_GELU_TANH});
}

static sky_status run_gelu_erf(rig *r, sky_dtype dtype, sky_tensor *out)
{
    *out = RIG_OUTPUT(r, dtype, 200001);
    return sky_activation(&r->ctx,
                          &(sky_activation_args){.y = *out, .x = RIG_INPUT(r, dtype, 1, 200001), .kind = SKY_GELU_ERF});
}

static sky_status linear_of(rig *r, sky_dtype codes, sky_dtype y, sky_tensor *out)
{
    *out = RIG_OUTPUT(r, y, 301, 330);
    return sky_linear_8bit(&r->ctx, &(sky_linear_8bit_args){.y = *out,
                                                            .x = RIG_INPUT(r, codes, 1, 301, 300),
                                                            .x_scale = RIG_INPUT(r, SKY_F32, 2, 301),
                                                            .weight = RIG_INPUT(r, codes, 3, 330, 300),
                                                            .weight_scale = RIG_INPUT(r, SKY_F32, 4, 330),
                                                            .bias = RIG_INPUT(r, SKY_F32, 5, 330)});
}

static sky_status run_linear_e4m3(rig *r, sky_dtype dtype, sky_tensor *out)
{
    return linear_of(r, SKY_F8_E4M3, dtype, out);
}

static sky_status run_linear_i8(rig *r, sky_dtype dtype, sky_tensor *out)
{
    return linear_of(r, SKY_I8, dtype, out);
}

static sky_status run_attention_8bit(rig *r, sky_dtype dtype, sky_tensor *out)
{
    *out = RIG_OUTPUT(r, dtype, 333, 3, 40);
    return sky_attention_8bit(&r->ctx, &(sky_attention_8bit_args){.y = *out,
                                                                  .q = RIG_INPUT(r, SKY_I8, 1, 333, 3, 40),
                                                                  .q_scale = RIG_INPUT(r, SKY_F32, 2, 6, 3),
                                                                  .k = RIG_INPUT(r, SKY_I8, 3, 150, 3, 40),
                                                                  .k_scale = RIG_INPUT(r, SKY_F32, 4, 2, 3),
                                                                  .v = rig_v_input(r, 5, 150, 3, 40),
                                                                  .v_scale = RIG_INPUT(r, SKY_F32, 6, 3, 40),
                                                                  .softmax_scale = 1e-3F});
}

/* Into codes and back: codes and scales both show. */
static sky_status run_quantize_rows(rig *r, sky_dtype dtype, sky_tensor *out)
{
    const sky_quantize_rows_args args = {.codes = RIG_OUTPUT(r, SKY_F8_E4M3, 601, 333),
                                         .scale = RIG_OUTPUT(r, SKY_F32, 601),
                                         .x = RIG_INPUT(r, dtype, 1, 601, 333)};
    *out = RIG_OUTPUT(r, dtype, 601, 333);
    SKY_TRY(sky_quantize_rows(&r->ctx, &args));
    return sky_dequantize_rows(&r->ctx,
                               &(sky_dequantize_rows_args){.y = *out, .codes = args.codes, .scale = args.scale});
}

static sky_status run_quantize_heads(rig *r, sky_dtype dtype, sky_tensor *out)
{
    const sky_quantize_heads_args args = {.codes = RIG_OUTPUT(r, SKY_I8, 601, 7, 43),
                                          .scale = RIG_OUTPUT(r, SKY_F32, 10, 7),
                                          .x = RIG_INPUT(r, dtype, 1, 601, 7, 43),
                                          .mean = RIG_INPUT(r, SKY_F32, 2, 7, 43),
                                          .tokens_per_group = 64};
    *out = args.codes;
    return sky_quantize_heads(&r->ctx, &args);
}

static sky_status run_channel_sums(rig *r, sky_dtype dtype, sky_tensor *out)
{
    *out = RIG_OUTPUT(r, SKY_I64, 333);
    return sky_channel_sums(
        &r->ctx, &(sky_channel_sums_args){.sums = *out, .x = RIG_INPUT(r, dtype, 1, 601, 333), .num_tokens = 601});
}

static sky_status run_quantize_channels(rig *r, sky_dtype dtype, sky_tensor *out)
{
    const sky_tensor x = RIG_INPUT(r, dtype, 1, 601, 333);
    const sky_tensor range = RIG_OUTPUT(r, SKY_F32, 666);
    *out = RIG_OUTPUT(r, SKY_F8_E4M3, 5, 9, 37, 128);
    SKY_TRY(sky_channel_sums(
        &r->ctx,
        &(sky_channel_sums_args){.sums = RIG_OUTPUT(r, SKY_I64, 333), .x = x, .range = range, .num_tokens = 601}));
    return sky_quantize_channels(&r->ctx, &(sky_quantize_channels_args){.codes = *out,
                                                                        .scale = RIG_OUTPUT(r, SKY_F32, 333),
                                                                        .x = x,
                                                                        .mean = RIG_INPUT(r, SKY_F32, 2, 333),
                                                                        .range = range});
}

TEST(cpu_gives_the_same_bytes_on_any_threads_and_vectors)
{
    const sky_dtype dtypes[] = {SKY_F32, SKY_BF16};
    for (int d = 0; d < 2; d++) {
        check_bytes("linear", run_linear, dtypes[d]);
        check_bytes("attention", run_attention, dtypes[d]);
        check_bytes("linear_8bit e4m3", run_linear_e4m3, dtypes[d]);
        check_bytes("linear_8bit i8", run_linear_i8, dtypes[d]);
        check_bytes("attention_8bit", run_attention_8bit, dtypes[d]);
        check_bytes("quantize_rows", run_quantize_rows, dtypes[d]);
        check_bytes("quantize_heads", run_quantize_heads, dtypes[d]);
        check_bytes("channel_sums", run_channel_sums, dtypes[d]);
        check_bytes("quantize_channels", run_quantize_channels, dtypes[d]);
        check_bytes("conv3d", run_conv3d, dtypes[d]);
        check_bytes("conv3d to 3 channels", run_conv3d_head, dtypes[d]);
        check_bytes("channel_norm", run_channel_norm, dtypes[d]);
        check_bytes("layer_norm_modulate", run_modulate, dtypes[d]);
        check_bytes("residual_norm", run_residual_norm, dtypes[d]);
        check_bytes("gelu to codes", run_gelu_codes, dtypes[d]);
        check_bytes("rms_norm", run_rms_norm, dtypes[d]);
        check_bytes("qk_norm_rope", run_qk_norm_rope, dtypes[d]);
        check_bytes("qk_norm_rope_sums", run_qk_sums, dtypes[d]);
        check_bytes("qk_norm_rope_quantize", run_qk_codes, dtypes[d]);
        check_bytes("gate_residual", run_gate_residual, dtypes[d]);
        check_bytes("gelu_tanh", run_gelu, dtypes[d]);
        check_bytes("gelu_erf", run_gelu_erf, dtypes[d]);
    }
}

/* What attention does to its weights, against base; this file's own vectors, those of the build's plain flags. */
TEST(vectors_round_to_e4m3_as_base_does)
{
    float x[SKY_CPU_LANES];
    float y[SKY_CPU_LANES];
    int lane = 0;
    for (uint32_t bits = 0; bits <= 0x43e00000U; bits += 0x40U << 4 | 1U) { /* 0 to 448 */
        x[lane++] = sky_bits_float(bits);
        if (lane == SKY_CPU_LANES) {
            sky_vec_store(y, sky_vec_round_e4m3(sky_vec_load(x)));
            for (lane = 0; lane < SKY_CPU_LANES; lane++) {
                test_parameters("%a became %a", (double)x[lane], (double)y[lane]);
                CHECK(y[lane] == sky_e4m3_to_f32(sky_f32_to_e4m3(x[lane])));
            }
            lane = 0;
        }
    }
    for (int code = 0; code < 126; code++) { /* ties and their neighbours */
        const float low = sky_e4m3_to_f32((uint8_t)code);
        const float tie = low + (sky_e4m3_to_f32((uint8_t)(code + 1)) - low) / 2.0F;
        for (int i = 0; i < SKY_CPU_LANES; i++) {
            x[i] = i % 3 == 0 ? tie : nextafterf(tie, i % 3 == 1 ? 0.0F : 1e9F);
        }
        sky_vec_store(y, sky_vec_round_e4m3(sky_vec_load(x)));
        for (int i = 0; i < SKY_CPU_LANES; i++) {
            test_parameters("%a became %a", (double)x[i], (double)y[i]);
            CHECK(y[i] == sky_e4m3_to_f32(sky_f32_to_e4m3(x[i])));
        }
    }
}

/* Beyond this head_dim f32 no longer sums the products of queries and keys exactly. */
TEST(cpu_attention_8bit_refuses_inexact_scores)
{
    rig r;
    CHECK(rig_open(&r, &variants[0], 0, RIG_ARENA_BYTES));
    for (int64_t dim = 1024; dim <= 1025; dim++) {
        const sky_attention_8bit_args args = {.y = RIG_OUTPUT(&r, SKY_F32, 1, 1, dim),
                                              .q = RIG_INPUT(&r, SKY_I8, 1, 1, 1, dim),
                                              .q_scale = RIG_INPUT(&r, SKY_F32, 2, 1, 1),
                                              .k = RIG_INPUT(&r, SKY_I8, 3, 1, 1, dim),
                                              .k_scale = RIG_INPUT(&r, SKY_F32, 4, 1, 1),
                                              .v = rig_v_input(&r, 5, 1, 1, dim),
                                              .v_scale = RIG_INPUT(&r, SKY_F32, 6, 1, dim),
                                              .softmax_scale = 1.0F};
        EXPECT(sky_attention_8bit(&r.ctx, &args) == (dim > 1024 ? SKY_ERR_UNSUPPORTED : SKY_OK));
    }
    rig_close(&r);
}

/* What the backend cannot do shows when a pass is planned. */
TEST(cpu_refuses_when_planning)
{
    enum { LARGEST_ROW = SKY_CPU_THREAD_BYTES / 4 };
    rig r;
    sky_tensor t[3];
    CHECK(rig_open(&r, &variants[0], 0, 0));
    for (int64_t dim = 1024; dim <= 1025; dim++) {
        for (int i = 0; i < 3; i++) {
            CHECK_OK(sky_ctx_tensor(&r.ctx, &t[i], i < 2 ? SKY_I8 : SKY_F8_E4M3, i < 2 ? 3 : 4,
                                    (int64_t[]){1, 1, dim, SKY_V_TILE_TOKENS}));
        }
        sky_tensor y;
        sky_tensor one;
        sky_tensor scale;
        CHECK_OK(sky_ctx_tensor(&r.ctx, &y, SKY_F32, 3, t[0].shape));
        CHECK_OK(sky_ctx_tensor(&r.ctx, &one, SKY_F32, 2, (int64_t[]){1, 1}));
        CHECK_OK(sky_ctx_tensor(&r.ctx, &scale, SKY_F32, 2, (int64_t[]){1, dim}));
        const sky_attention_8bit_args args = {.y = y,
                                              .q = t[0],
                                              .q_scale = one,
                                              .k = t[1],
                                              .k_scale = one,
                                              .v = t[2],
                                              .v_scale = scale,
                                              .softmax_scale = 1.0F};
        EXPECT(sky_attention_8bit(&r.ctx, &args) == (dim > 1024 ? SKY_ERR_UNSUPPORTED : SKY_OK));
    }
    for (int64_t dim = 2688; dim <= 2816; dim += 128) {
        CHECK_OK(sky_ctx_tensor(&r.ctx, &t[0], SKY_F32, 3, (int64_t[]){1, 1, dim}));
        CHECK_OK(sky_ctx_tensor(&r.ctx, &t[1], SKY_F32, 3, t[0].shape));
        const sky_attention_args args = {.y = t[0], .q = t[1], .k = t[1], .v = t[1], .softmax_scale = 1.0F};
        EXPECT(sky_attention(&r.ctx, &args) == (dim > 2688 ? SKY_ERR_UNSUPPORTED : SKY_OK));
    }
    for (int64_t channels = 256; channels <= 524288; channels *= 2048) {
        CHECK_OK(sky_ctx_tensor(&r.ctx, &t[0], SKY_F32, 4, (int64_t[]){1, 3, 3, channels}));
        CHECK_OK(sky_ctx_tensor(&r.ctx, &t[1], SKY_F32, 5, (int64_t[]){16, 1, 3, 3, channels}));
        CHECK_OK(sky_ctx_tensor(&r.ctx, &t[2], SKY_F32, 1, (int64_t[]){16}));
        sky_tensor y;
        CHECK_OK(sky_ctx_tensor(&r.ctx, &y, SKY_F32, 4, (int64_t[]){1, 1, 1, 16}));
        const sky_conv3d_args args = {.y = y, .x = t[0], .weight = t[1], .bias = t[2], .stride_t = 1, .stride_hw = 1};
        EXPECT(sky_conv3d(&r.ctx, &args) == (channels > 256 ? SKY_ERR_UNSUPPORTED : SKY_OK));
    }
    for (int64_t cols = LARGEST_ROW; cols <= LARGEST_ROW + 1; cols++) {
        CHECK_OK(sky_ctx_tensor(&r.ctx, &t[0], SKY_F32, 2, (int64_t[]){1, cols}));
        CHECK_OK(sky_ctx_tensor(&r.ctx, &t[1], SKY_F32, 1, (int64_t[]){cols}));
        const sky_rms_norm_args args = {.y = t[0], .x = t[0], .weight = t[1]};
        EXPECT(sky_rms_norm(&r.ctx, &args) == (cols > LARGEST_ROW ? SKY_ERR_UNSUPPORTED : SKY_OK));
    }
    rig_close(&r);
}

TEST(cpu_device_refuses_what_it_cannot_be)
{
    const sky_backend *cpu = sky_backend_find("cpu");
    void *device = NULL;
    CHECK_STATUS(sky_device_open(cpu, &(sky_device_options){.num_threads = 0}, &device), SKY_ERR_USAGE);
    CHECK_STATUS(sky_device_open(cpu, &(sky_device_options){.num_threads = 1, .isa = "v9"}, &device),
                 SKY_ERR_UNSUPPORTED);
    CHECK(device == NULL);
    CHECK_OK(sky_device_open(cpu, &(sky_device_options){.num_threads = 1, .isa = "base"}, &device));
    EXPECT(strcmp(sky_device_name(cpu, device), "base") == 0);
    sky_device_close(cpu, &device);
    sky_device_close(cpu, &device);
    CHECK_STATUS(sky_device_open(sky_backend_at(0), &(sky_device_options){.isa = "base"}, &device),
                 SKY_ERR_UNSUPPORTED);
}

TEST(the_list_of_backends_begins_with_the_reference)
{
    EXPECT(sky_backend_count() >= 2 && strcmp(sky_backend_name(sky_backend_at(0)), "ref") == 0);
    EXPECT(sky_backend_find("no such thing") == NULL);
}

TEST_MAIN
