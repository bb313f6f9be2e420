/*
 * ops/tolerance.h - how far an op's result may be from the exact one
 *
 * A sum of len products in f32, in any order, is off by about 2^-24 * sqrt(len) of its size when errors are random; five
 * times that, 3e-7 * sqrt(len), is allowed, which also leaves room for the last digits of exp and tanh. Rounding a result
 * to bf16 moves it by at most 2^-8 of itself, to f32 by at most 2^-24. Exact results are f64, never rounded.
 */
#ifndef SKY_TESTS_OPS_TOLERANCE_H
#define SKY_TESTS_OPS_TOLERANCE_H

#include "base/dtype.h"

#include <math.h>

/* Of all elements together, as |got - want|_2 / |want|_2, and of one element as a part of the largest. */
static inline double test_sum_tolerance(int64_t sum_len)
{
    return 3e-7 * sqrt(sum_len > 1 ? (double)sum_len : 1.0);
}

/* Of one element as a part of itself. */
static inline double test_rounding_tolerance(sky_dtype y)
{
    return y == SKY_BF16 ? 0x1p-8 : 0x1p-24;
}

#endif
