#include "ops/ref/ref.h"
#include "ops/ref/ref_ops.h"

#include <stdlib.h>
#include <string.h>

static sky_status ref_alloc(void *device, size_t bytes, void **out)
{
    (void)device;
    const size_t alignment = SKY_ARENA_ALIGNMENT_BYTES;
    if (bytes > SIZE_MAX / 2) {
        return sky_fail(SKY_ERR_NOMEM, "host memory: a request of %zu bytes", bytes);
    }
    const size_t rounded = bytes == 0 ? alignment : (bytes + alignment - 1) / alignment * alignment;
    void *block = aligned_alloc(alignment, rounded);
    if (block == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "host memory: %zu bytes wanted", rounded);
    }
    *out = block;
    return SKY_OK;
}

static void ref_free(void *device, void *block)
{
    (void)device;
    free(block);
}

static sky_status ref_copy(void *device, void *to, const void *from, size_t bytes)
{
    (void)device;
    memcpy(to, from, bytes);
    return SKY_OK;
}

static sky_status ref_zero(void *device, void *to, size_t bytes)
{
    (void)device;
    memset(to, 0, bytes);
    return SKY_OK;
}

static sky_status ref_sync(void *device)
{
    (void)device; /* every call has finished when it returns */
    return SKY_OK;
}

const sky_backend *sky_backend_ref(void)
{
    static const sky_backend backend = {
        .name = "ref",
        .alloc = ref_alloc,
        .free = ref_free,
        .upload = ref_copy,
        .download = ref_copy,
        .copy = ref_copy,
        .zero = ref_zero,
        .sync = ref_sync,
#define SKY_REF_ENTRY(op) .op = sky_ref_##op,
        SKY_OPS(SKY_REF_ENTRY)
#undef SKY_REF_ENTRY
            .attention_plan = sky_ref_attention_plan,
        .attention_8bit_plan = sky_ref_attention_8bit_plan,
        .conv3d_plan = sky_ref_conv3d_plan,
        .linear_plan = sky_ref_linear_plan,
        .qk_norm_rope_plan = sky_ref_qk_norm_rope_plan,
    };
    return &backend;
}
