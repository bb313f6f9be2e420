/*
 * ops/ref/load_store.h - elements of f32 and bf16 tensors as numbers (private to ops/ref)
 *
 * The row functions exist so that the type is looked at once per row and not once per element.
 */
#ifndef SKY_OPS_REF_LOAD_STORE_H
#define SKY_OPS_REF_LOAD_STORE_H

#include "base/tensor.h"

static inline float ref_load(const sky_tensor *t, int64_t i)
{
    return t->dtype == SKY_F32 ? ((const float *)t->data)[i] : sky_bf16_to_f32(((const uint16_t *)t->data)[i]);
}

/* An 8-bit code as the number it stands for. */
static inline float ref_load_code(const sky_tensor *t, int64_t i)
{
    return t->dtype == SKY_I8 ? (float)((const int8_t *)t->data)[i] : sky_e4m3_to_f32(((const uint8_t *)t->data)[i]);
}

static inline void ref_store(const sky_tensor *t, int64_t i, float value)
{
    if (t->dtype == SKY_F32) {
        ((float *)t->data)[i] = value;
    } else {
        ((uint16_t *)t->data)[i] = sky_f32_to_bf16(value);
    }
}

/* row[i] = t[first + i] for i < len. */
static inline void ref_load_row(double *restrict row, const sky_tensor *t, int64_t first, int64_t len)
{
    if (t->dtype == SKY_F32) {
        const float *x = (const float *)t->data + first;
        for (int64_t i = 0; i < len; i++) {
            row[i] = (double)x[i];
        }
    } else {
        const uint16_t *x = (const uint16_t *)t->data + first;
        for (int64_t i = 0; i < len; i++) {
            row[i] = (double)sky_bf16_to_f32(x[i]);
        }
    }
}

/* acc[i] += factor * t[first + i] for i < len. */
static inline void ref_add_scaled(double *restrict acc, double factor, const sky_tensor *t, int64_t first, int64_t len)
{
    if (t->dtype == SKY_F32) {
        const float *x = (const float *)t->data + first;
        for (int64_t i = 0; i < len; i++) {
            acc[i] += factor * (double)x[i];
        }
    } else {
        const uint16_t *x = (const uint16_t *)t->data + first;
        for (int64_t i = 0; i < len; i++) {
            acc[i] += factor * (double)sky_bf16_to_f32(x[i]);
        }
    }
}

/*
 * Sum of row[i] * t[first + i] for i < len. Element i goes to partial sum i mod 8: one chain of additions would wait for
 * itself, eight keep the processor busy.
 */
static inline double ref_dot(const double *row, const sky_tensor *t, int64_t first, int64_t len)
{
    enum { CHAINS = 8 };
    double part[CHAINS] = {0};
    const int64_t whole = len / CHAINS * CHAINS;
    if (t->dtype == SKY_F32) {
        const float *x = (const float *)t->data + first;
        for (int64_t i = 0; i < whole; i += CHAINS) {
            for (int j = 0; j < CHAINS; j++) {
                part[j] += row[i + j] * (double)x[i + j];
            }
        }
    } else {
        const uint16_t *x = (const uint16_t *)t->data + first;
        for (int64_t i = 0; i < whole; i += CHAINS) {
            for (int j = 0; j < CHAINS; j++) {
                part[j] += row[i + j] * (double)sky_bf16_to_f32(x[i + j]);
            }
        }
    }
    double sum = 0.0;
    for (int64_t i = whole; i < len; i++) {
        sum += row[i] * (double)ref_load(t, first + i);
    }
    for (int j = 0; j < CHAINS; j++) {
        sum += part[j];
    }
    return sum;
}

#endif
