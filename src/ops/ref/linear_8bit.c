#include "ops/ref/load_store.h"
#include "ops/ref/ref_ops.h"

sky_status sky_ref_linear_8bit(sky_ctx *ctx, const sky_linear_8bit_args *args, void *scratch)
{
    (void)ctx;
    (void)scratch;
    const int64_t rows = args->x.shape[0];
    const int64_t len = args->x.shape[1];
    const int64_t cols = args->weight.shape[0];
    float value[256]; /* of each code */
    for (int64_t i = 0; i < 256; i++) {
        const uint8_t code = (uint8_t)i;
        value[i] = ref_load_code(&(sky_tensor){.data = &(uint8_t){code}, .dtype = args->x.dtype}, 0);
    }
    for (int64_t m = 0; m < rows; m++) {
        const uint8_t *x = (const uint8_t *)args->x.data + m * len;
        for (int64_t n = 0; n < cols; n++) {
            const uint8_t *weight = (const uint8_t *)args->weight.data + n * len;
            double sum = 0.0; /* exact for i8 */
            for (int64_t k = 0; k < len; k++) {
                sum += (double)(value[x[k]] * value[weight[k]]); /* exact: at most 15 bits */
            }
            if (args->y.dtype == SKY_I32) {
                ((int32_t *)args->y.data)[m * cols + n] = (int32_t)sum;
                continue;
            }
            float y = (float)sum * (ref_load(&args->x_scale, m) * ref_load(&args->weight_scale, n));
            if (sky_tensor_present(&args->bias)) {
                y += ref_load(&args->bias, n);
            }
            ref_store(&args->y, m * cols + n, y);
        }
    }
    return SKY_OK;
}
