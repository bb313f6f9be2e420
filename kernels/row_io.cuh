/*
 * kernels/row_io.cuh - rows that ops read and write in several types (private to kernels)
 *
 * The type is looked at by the kernel, alike in all threads: beside the memory's time that costs nothing, and one kernel serves all.
 */
#ifndef SKY_KERNELS_ROW_IO_CUH
#define SKY_KERNELS_ROW_IO_CUH

#include "kernels/quantize.cuh"

/* bias[n] of f32 or bf16; data NULL where there is none. */
struct bias_of {
    const void *data;
    bool is_bf16;
    __device__ __forceinline__ float operator()(int64_t n) const
    {
        return is_bf16 ? load((const bf16 *)data + n) : ((const float *)data)[n];
    }
};

static inline bias_of bias_of_tensor(const sky_tensor *t)
{
    return {sky_tensor_present(t) ? t->data : NULL, t->dtype == SKY_BF16};
}

/* A matrix of f32, bf16, or i32 that is the sums of a linear layer: steps as in ops/ref/linear_sums.h. */
struct rows_in {
    const void *x;
    sky_dtype dtype;
    const float *x_scale, *weight_scale;
    bias_of bias;

    __device__ __forceinline__ float sum_at(int64_t row, int64_t col, int64_t cols) const
    {
        float y = __fmul_rn((float)((const int32_t *)x)[row * cols + col], __fmul_rn(x_scale[row], weight_scale[col]));
        if (bias.data != NULL) {
            y = __fadd_rn(y, bias(col));
        }
        return __bfloat162float(__float2bfloat16_rn(y));
    }
    __device__ __forceinline__ float at(int64_t row, int64_t col, int64_t cols) const
    {
        return dtype == SKY_F32    ? ((const float *)x)[row * cols + col]
               : dtype == SKY_BF16 ? load((const bf16 *)x + row * cols + col)
                                   : sum_at(row, col, cols);
    }
    template <bool ALIGNED>
    __device__ __forceinline__ void quad(float (&v)[KERNEL_VEC], int64_t row, int64_t col, int64_t cols, int n) const
    {
        if (dtype == SKY_F32) {
            load_quad<ALIGNED>(v, (const float *)x + row * cols + col, n);
        } else if (dtype == SKY_BF16) {
            load_quad<ALIGNED>(v, (const bf16 *)x + row * cols + col, n);
        } else {
#pragma unroll
            for (int j = 0; j < KERNEL_VEC; j++) {
                v[j] = j < n ? sum_at(row, col + j, cols) : 0.0F;
            }
        }
    }
};

static inline rows_in rows_in_of(const sky_tensor *x, const sky_linear_sums *sums)
{
    rows_in in = {x->data, x->dtype, NULL, NULL, {NULL, false}};
    if (x->dtype == SKY_I32) {
        in.x_scale = (const float *)sums->x_scale.data;
        in.weight_scale = (const float *)sums->weight_scale.data;
        in.bias = bias_of_tensor(&sums->bias);
    }
    return in;
}

static inline rows_in rows_in_of(const sky_tensor *x)
{
    return {x->data, x->dtype, NULL, NULL, {NULL, false}};
}

/* A matrix of f32 or bf16, or of codes with a scale for each row. */
struct rows_out {
    void *y;
    float *scale; /* with codes */
    sky_dtype dtype;

    /*
     * Writes row `row`; value(v, col, n) computes columns [col, col + n) of it, and may be called twice for each: codes are of the
     * f32 values, whose largest must be known first. Every thread of the group calls.
     */
    template <int G, bool ALIGNED, class F>
    __device__ __forceinline__ void write(int64_t row, int64_t cols, int lane, F value) const
    {
        float factor = 1.0F;
        const bool is_float = dtype == SKY_F32 || dtype == SKY_BF16;
        if (!is_float) {
            const float largest = dtype == SKY_F8_E4M3 ? 448.0F : 127.0F;
            unsigned bits = 0;
            for_quads<G, ALIGNED>(lane, cols, [&](int64_t c, int n) {
                float v[KERNEL_VEC];
                value(v, c, n);
#pragma unroll
                for (int j = 0; j < KERNEL_VEC; j++) {
                    bits = j < n ? max_bits::join(bits, magnitude_bits(v[j])) : bits;
                }
            });
            const float amax = amax_of_bits(group_join<max_bits, G>(bits));
            factor = factor_of(largest, amax);
            if (lane == 0) {
                scale[row] = __fdiv_rn(amax, largest);
            }
        }
        for_quads<G, ALIGNED>(lane, cols, [&](int64_t c, int n) {
            float v[KERNEL_VEC];
            value(v, c, n);
            if (dtype == SKY_F32) {
                store_quad<ALIGNED>((float *)y + row * cols + c, v, n);
            } else if (dtype == SKY_BF16) {
                store_quad<ALIGNED>((bf16 *)y + row * cols + c, v, n);
            } else {
                pack<uint8_t, KERNEL_VEC> codes;
#pragma unroll
                for (int j = 0; j < KERNEL_VEC; j++) {
                    codes.e[j] =
                        dtype == SKY_F8_E4M3 ? e4m3_code(__fmul_rn(v[j], factor)) : i8_code(__fmul_rn(v[j], factor));
                }
                uint8_t *to = (uint8_t *)y + row * cols + c;
                if (ALIGNED) {
                    *(pack<uint8_t, KERNEL_VEC> *)to = codes;
                } else {
                    for (int j = 0; j < n; j++) {
                        to[j] = codes.e[j];
                    }
                }
            }
        });
    }
};

static inline rows_out rows_out_of(const sky_tensor *y, const sky_tensor *y_scale)
{
    return {y->data, sky_tensor_present(y_scale) ? (float *)y_scale->data : NULL, y->dtype};
}

static inline rows_out rows_out_of(const sky_tensor *y)
{
    return {y->data, NULL, y->dtype};
}

#endif
