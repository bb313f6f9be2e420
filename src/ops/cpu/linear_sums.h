/*
 * ops/cpu/linear_sums.h - runs of a linear layer's output, which may still be sums
 */
#ifndef SKY_OPS_CPU_LINEAR_SUMS_H
#define SKY_OPS_CPU_LINEAR_SUMS_H

#include "ops/cpu/blocks.h"
#include "ops/linear_sums.h"

/* The nearest bf16 values, in place. */
static inline void sky_round_run(float *x, int64_t len)
{
    for (int64_t i = 0; i < len; i++) {
        const uint32_t bits = sky_float_bits(x[i]);
        const uint32_t rounded = bits + 0x7fffU + ((bits >> 16) & 1U);
        const uint32_t nan = bits | 0x400000U;
        x[i] = sky_bits_float(((bits & 0x7fffffffU) > 0x7f800000U ? nan : rounded) & 0xffff0000U);
    }
}

/* As sky_read(), columns [col, col + len) of a row of x [rows, cols]. */
static inline const float *sky_read_linear(const sky_tensor *x, const sky_linear_sums *sums, int64_t row, int64_t col,
                                           int64_t len, float *buf)
{
    const int64_t at = row * x->shape[1] + col;
    if (x->dtype != SKY_I32) {
        return sky_read(x, at, len, buf);
    }
    const int32_t *sum = (const int32_t *)x->data + at;
    const float x_scale = ((const float *)sums->x_scale.data)[row];
    const float *weight_scale = (const float *)sums->weight_scale.data + col;
    for (int64_t i = 0; i < len; i++) {
        buf[i] = (float)sum[i] * (x_scale * weight_scale[i]);
    }
    if (sums->bias.data != NULL && sums->bias.dtype == SKY_F32) {
        const float *bias = (const float *)sums->bias.data + col;
        for (int64_t i = 0; i < len; i++) {
            buf[i] += bias[i];
        }
    } else if (sums->bias.data != NULL) {
        const uint16_t *bias = (const uint16_t *)sums->bias.data + col;
        for (int64_t i = 0; i < len; i++) {
            buf[i] += sky_bits_float((uint32_t)bias[i] << 16);
        }
    }
    sky_round_run(buf, len);
    return buf;
}

#endif
