/*
 * ops/cpu/rows.h - sums over a row, the same on every instruction set
 */
#ifndef SKY_OPS_CPU_ROWS_H
#define SKY_OPS_CPU_ROWS_H

#include "ops/cpu/blocks.h"

#include <math.h>

/*
 * Sums are kept in 64 lanes (element i in lane i mod 64), which are then folded in halves. Loops over the lanes' vectors are
 * unrolled so that they stay in registers: rows are short.
 */
enum { SKY_ROW_LANES = 64 };

enum { SKY_ROW_VECS = SKY_ROW_LANES / SKY_CPU_LANES };

static inline float sky_fold_sum(sky_vec *v)
{
    SKY_LOOP_UNROLLED
    for (int half = SKY_ROW_VECS / 2; half > 0; half /= 2) {
        SKY_LOOP_UNROLLED
        for (int i = 0; i < half; i++) {
            v[i] += v[i + half];
        }
    }
    sky_vec sum = v[0];
    sum = SKY_CPU_LANES > 8 ? sum + SKY_VEC_SWAP(sum, 8) : sum;
    sum = SKY_CPU_LANES > 4 ? sum + SKY_VEC_SWAP(sum, 4) : sum;
    sum += SKY_VEC_SWAP(sum, 2);
    sum += SKY_VEC_SWAP(sum, 1);
    return sum[0];
}

static inline float sky_fold_max(sky_vec *v)
{
    SKY_LOOP_UNROLLED
    for (int half = SKY_ROW_VECS / 2; half > 0; half /= 2) {
        SKY_LOOP_UNROLLED
        for (int i = 0; i < half; i++) {
            v[i] = sky_vec_max(v[i], v[i + half]);
        }
    }
    sky_vec max = v[0]; /* a swap that is too wide for the vector changes nothing here */
    max = sky_vec_max(max, SKY_VEC_SWAP(max, 8));
    max = sky_vec_max(max, SKY_VEC_SWAP(max, 4));
    max = sky_vec_max(max, SKY_VEC_SWAP(max, 2));
    max = sky_vec_max(max, SKY_VEC_SWAP(max, 1));
    return max[0];
}

static inline void sky_lanes_zero(sky_vec *lane)
{
    SKY_LOOP_UNROLLED
    for (int v = 0; v < SKY_ROW_VECS; v++) {
        lane[v] = sky_vec_all(0.0F);
    }
}

/* 64 elements, one to a lane. */
static inline void sky_lanes_add(sky_vec *lane, const float *x)
{
    SKY_LOOP_UNROLLED
    for (int v = 0; v < SKY_ROW_VECS; v++) {
        lane[v] += sky_vec_load(x + v * SKY_CPU_LANES);
    }
}

static inline void sky_lanes_add_squares(sky_vec *lane, const float *x, sky_vec mean)
{
    SKY_LOOP_UNROLLED
    for (int v = 0; v < SKY_ROW_VECS; v++) {
        const sky_vec d = sky_vec_load(x + v * SKY_CPU_LANES) - mean;
        lane[v] = sky_vec_madd(d, d, lane[v]);
    }
}

/* The last len elements of a row and fill behind them. */
static inline void sky_row_tail(float *tail, const float *x, int64_t len, float fill)
{
    for (int64_t i = 0; i < SKY_ROW_LANES; i++) {
        tail[i] = fill;
    }
    memcpy(tail, x, (size_t)len * sizeof *tail);
}

static inline float sky_row_sum(const float *x, int64_t len)
{
    sky_vec lane[SKY_ROW_VECS];
    sky_lanes_zero(lane);
    int64_t i = 0;
    for (; i + SKY_ROW_LANES <= len; i += SKY_ROW_LANES) {
        sky_lanes_add(lane, x + i);
    }
    if (i < len) {
        float tail[SKY_ROW_LANES];
        sky_row_tail(tail, x + i, len - i, 0.0F);
        sky_lanes_add(lane, tail);
    }
    return sky_fold_sum(lane);
}

/* sum (x - mean)^2 */
static inline float sky_row_sum_squares(const float *x, int64_t len, float mean)
{
    const sky_vec all = sky_vec_all(mean);
    sky_vec lane[SKY_ROW_VECS];
    sky_lanes_zero(lane);
    int64_t i = 0;
    for (; i + SKY_ROW_LANES <= len; i += SKY_ROW_LANES) {
        sky_lanes_add_squares(lane, x + i, all);
    }
    SKY_LOOP_UNROLLED
    for (int v = 0; v < SKY_ROW_VECS; v++) {
        if (i + SKY_CPU_LANES <= len) {
            const sky_vec d = sky_vec_load(x + i) - all;
            lane[v] = sky_vec_madd(d, d, lane[v]);
            i += SKY_CPU_LANES;
        } else if (i < len) {
            float tail[SKY_ROW_LANES];
            sky_row_tail(tail, x + i, len - i, mean);
            const sky_vec d = sky_vec_load(tail) - all;
            lane[v] = sky_vec_madd(d, d, lane[v]);
            i = len;
        }
    }
    return sky_fold_sum(lane);
}

/* 1 / sqrt(mean of x^2 + eps) */
static inline float sky_row_inverse_rms(const float *x, int64_t len, float eps)
{
    return 1.0F / sqrtf(sky_row_sum_squares(x, len, 0.0F) / (float)len + eps);
}

/* Mean and 1 / sqrt(var + eps). */
static inline void sky_row_moments(const float *x, int64_t len, float eps, float *mean, float *factor)
{
    *mean = sky_row_sum(x, len) / (float)len;
    *factor = 1.0F / sqrtf(sky_row_sum_squares(x, len, *mean) / (float)len + eps);
}

/* Layer normalisation of a row, then weight and bias, or the timestep's scale and shift. y may be x. */
static inline void sky_row_layer_norm(const float *x, const float *weight, const float *bias, float eps, float *y,
                                      int64_t len)
{
    float mean, factor;
    sky_row_moments(x, len, eps, &mean, &factor);
    SKY_LOOP_INDEPENDENT
    for (int64_t i = 0; i < len; i++) {
        y[i] = sky_madd((x[i] - mean) * factor, weight[i], bias[i]);
    }
}

static inline void sky_row_layer_norm_modulate(const float *x, const float *shift, const float *scale, float eps,
                                               float *y, int64_t len)
{
    float mean, factor;
    sky_row_moments(x, len, eps, &mean, &factor);
    SKY_LOOP_INDEPENDENT
    for (int64_t i = 0; i < len; i++) {
        y[i] = sky_madd((x[i] - mean) * factor, 1.0F + scale[i], shift[i]);
    }
}

#endif
