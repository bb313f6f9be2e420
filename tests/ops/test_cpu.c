#include "ops/cpu/cpu.h"
#include "ops/rig.h"

#include "support/test.h"

#include <stdlib.h>
#include <string.h>

/*
 * The CPU backend promises the same bytes from any number of threads and from every instruction set that has fused
 * multiply-add. Sizes are such that jobs, tiles and panels end in the middle of things.
 */
static sky_status create_1(void **device)
{
    return sky_cpu_device_create(1, device);
}

static sky_status create_2(void **device)
{
    return sky_cpu_device_create(2, device);
}

static sky_status create_7(void **device)
{
    return sky_cpu_device_create(7, device);
}

static sky_status create_v3(void **device)
{
    SKY_TRY(sky_cpu_device_create(2, device));
    return sky_cpu_device_set_isa(*device, "v3");
}

static const test_backend variants[] = {
    {"1 thread", sky_backend_cpu, create_1, sky_cpu_device_destroy},
    {"2 threads", sky_backend_cpu, create_2, sky_cpu_device_destroy},
    {"7 threads", sky_backend_cpu, create_7, sky_cpu_device_destroy},
    {"v3", sky_backend_cpu, create_v3, sky_cpu_device_destroy},
};
enum { NUM_VARIANTS = sizeof variants / sizeof variants[0] };

static bool machine_has(const char *isa)
{
    void *device = NULL;
    const bool has = sky_cpu_device_create(1, &device) == SKY_OK && sky_cpu_device_set_isa(device, isa) == SKY_OK;
    sky_cpu_device_destroy(&device);
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
                                                  .x = RIG_INPUT(r, dtype, 1, 2, 19, 53, 21),
                                                  .past = RIG_INPUT(r, dtype, 2, 2, 19, 53, 21),
                                                  .weight = RIG_INPUT(r, dtype, 3, 3, 3, 3, 21, 37),
                                                  .bias = RIG_INPUT(r, SKY_F32, 4, 37),
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
                                                  .x = RIG_INPUT(r, dtype, 1, 2, 7, 101, 72),
                                                  .past = RIG_INPUT(r, dtype, 2, 2, 7, 101, 72),
                                                  .weight = RIG_INPUT(r, dtype, 3, 3, 3, 3, 72, 3),
                                                  .bias = RIG_INPUT(r, SKY_F32, 4, 3),
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

static sky_status run_gate_residual(rig *r, sky_dtype dtype, sky_tensor *out)
{
    *out = RIG_INPUT(r, SKY_F32, 1, 601, 333);
    return sky_gate_residual(&r->ctx, &(sky_gate_residual_args){.x = *out,
                                                                .y = RIG_INPUT(r, dtype, 2, 601, 333),
                                                                .gate = RIG_INPUT(r, SKY_F32, 3, 7, 333),
                                                                .rows_per_group = 100});
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

TEST(cpu_gives_the_same_bytes_on_any_threads_and_vectors)
{
    const sky_dtype dtypes[] = {SKY_F32, SKY_BF16};
    for (int d = 0; d < 2; d++) {
        check_bytes("linear", run_linear, dtypes[d]);
        check_bytes("attention", run_attention, dtypes[d]);
        check_bytes("conv3d", run_conv3d, dtypes[d]);
        check_bytes("conv3d to 3 channels", run_conv3d_head, dtypes[d]);
        check_bytes("channel_norm", run_channel_norm, dtypes[d]);
        check_bytes("layer_norm_modulate", run_modulate, dtypes[d]);
        check_bytes("rms_norm", run_rms_norm, dtypes[d]);
        check_bytes("qk_norm_rope", run_qk_norm_rope, dtypes[d]);
        check_bytes("gate_residual", run_gate_residual, dtypes[d]);
        check_bytes("gelu_tanh", run_gelu, dtypes[d]);
        check_bytes("gelu_erf", run_gelu_erf, dtypes[d]);
    }
}

TEST(cpu_device_refuses_what_it_cannot_be)
{
    void *device = NULL;
    CHECK_STATUS(sky_cpu_device_create(0, &device), SKY_ERR_USAGE);
    CHECK(device == NULL);
    CHECK_OK(sky_cpu_device_create(1, &device));
    EXPECT(sky_cpu_device_set_isa(device, "v9") == SKY_ERR_UNSUPPORTED);
    EXPECT(sky_cpu_device_set_isa(device, "base") == SKY_OK);
    EXPECT(strcmp(sky_cpu_device_isa(device), "base") == 0);
    sky_cpu_device_destroy(&device);
    sky_cpu_device_destroy(&device);
}

TEST_MAIN
