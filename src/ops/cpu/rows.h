/*
 * ops/cpu/rows.h - sums over a row, the same on every instruction set
 */
#ifndef SKY_OPS_CPU_ROWS_H
#define SKY_OPS_CPU_ROWS_H

#include "ops/cpu/blocks.h"

/* Sums are kept in 64 lanes (element i in lane i mod 64), which are then folded in halves. */
enum { SKY_ROW_LANES = 64 };

static inline float sky_fold_lanes(float *lane)
{
    for (int half = SKY_ROW_LANES / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) {
            lane[i] += lane[i + half];
        }
    }
    return lane[0];
}

static inline float sky_row_sum(const float *x, int64_t len)
{
    float lane[SKY_ROW_LANES] = {0};
    int64_t i = 0;
    for (; i + SKY_ROW_LANES <= len; i += SKY_ROW_LANES) {
        for (int l = 0; l < SKY_ROW_LANES; l++) {
            lane[l] += x[i + l];
        }
    }
    for (int l = 0; i + l < len; l++) {
        lane[l] += x[i + l];
    }
    return sky_fold_lanes(lane);
}

/* sum (x - mean)^2 */
static inline float sky_row_sum_squares(const float *x, int64_t len, float mean)
{
    float lane[SKY_ROW_LANES] = {0};
    int64_t i = 0;
    for (; i + SKY_ROW_LANES <= len; i += SKY_ROW_LANES) {
        for (int l = 0; l < SKY_ROW_LANES; l++) {
            const float d = x[i + l] - mean;
            lane[l] = sky_madd(d, d, lane[l]);
        }
    }
    for (int l = 0; i + l < len; l++) {
        const float d = x[i + l] - mean;
        lane[l] = sky_madd(d, d, lane[l]);
    }
    return sky_fold_lanes(lane);
}

#endif
