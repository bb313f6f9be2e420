#include "ops/host_device.h"
#include "ops/ref/ref.h"
#include "ops/ref/ref_ops.h"

/* There is no state: the device is NULL. */
static sky_status ref_open(const sky_device_options *options, void **device)
{
    if (options->isa != NULL) {
        return sky_fail(SKY_ERR_UNSUPPORTED, "instruction set '%s': the reference has no choice", options->isa);
    }
    *device = NULL;
    return SKY_OK;
}

static void ref_close(void **device)
{
    *device = NULL;
}

static const char *ref_device_name(const void *device)
{
    (void)device;
    return "plain loops";
}

const sky_backend *sky_backend_ref(void)
{
    static const sky_backend backend = {
        .name = "ref",
        .open = ref_open,
        .close = ref_close,
        .device_name = ref_device_name,
        SKY_HOST_DEVICE,
#define SKY_REF_ENTRY(op) .op = sky_ref_##op,
        SKY_OPS(SKY_REF_ENTRY)
#undef SKY_REF_ENTRY
            .activation_plan = sky_ref_activation_plan,
        .attention_plan = sky_ref_attention_plan,
        .attention_8bit_plan = sky_ref_attention_8bit_plan,
        .conv3d_plan = sky_ref_conv3d_plan,
        .layer_norm_plan = sky_ref_layer_norm_plan,
        .layer_norm_modulate_plan = sky_ref_layer_norm_modulate_plan,
        .linear_plan = sky_ref_linear_plan,
        .qk_norm_rope_plan = sky_ref_qk_norm_rope_plan,
        .qk_norm_rope_quantize_plan = sky_ref_qk_norm_rope_quantize_plan,
        .qk_norm_rope_sums_plan = sky_ref_qk_norm_rope_sums_plan,
        .residual_norm_plan = sky_ref_residual_norm_plan,
    };
    return &backend;
}
