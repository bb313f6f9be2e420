/*
 * ops/ref/nonlinear.h - the nonlinearities of ops/activation.h on one number (private to ops/ref)
 */
#ifndef SKY_OPS_REF_NONLINEAR_H
#define SKY_OPS_REF_NONLINEAR_H

#include <math.h>

static inline double ref_silu(double x)
{
    return x / (1.0 + exp(-x));
}

static inline double ref_gelu_tanh(double x)
{
    return 0.5 * x * (1.0 + tanh(sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
}

static inline double ref_gelu_erf(double x)
{
    return 0.5 * x * (1.0 + erf(x / sqrt(2.0)));
}

#endif
