/*
 * kernels/nonlinear.cuh - the nonlinearities of ops/activation.h in f32 (private to kernels)
 */
#ifndef SKY_KERNELS_NONLINEAR_CUH
#define SKY_KERNELS_NONLINEAR_CUH

static __device__ __forceinline__ float silu(float x)
{
    return x / (1.0F + expf(-x));
}

/* 1 + tanh(u) = 2 / (1 + exp(-2 u)), and 1 + erf(u) = erfc(-u): without the difference of near numbers. */
static __device__ __forceinline__ float gelu_tanh(float x)
{
    const float twice_u = x * fmaf(0.0713548163F, x * x, 1.5957691216F); /* 2 sqrt(2/pi) (x + 0.044715 x^3) */
    return x / (1.0F + expf(-twice_u));
}

static __device__ __forceinline__ float gelu_erf(float x)
{
    return 0.5F * x * erfcf(x * -0.7071067812F);
}

#endif
