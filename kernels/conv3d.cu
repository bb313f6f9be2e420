#include "kernels/conv3d.cuh"
#include "kernels/gemm.cuh"
#include "kernels/row_io.cuh"

namespace
{

/* A convolution is a matrix product whose rows are output positions, and whose k runs over taps and channels. */
template <class T> struct conv_rows {
    const T *x;
    int64_t height, width, channels; /* of x */
    int64_t out_height, out_width;   /* of y */
    int64_t kernel_h, kernel_w;
    int64_t stride_t, stride_hw, pad_top, pad_left;
    struct cursor {
        int64_t frame, top, left;
    };
    __device__ cursor begin(int64_t m) const
    {
        return {m / (out_height * out_width) * stride_t, m / out_width % out_height * stride_hw - pad_top,
                m % out_width * stride_hw - pad_left};
    }
    __device__ float at(const cursor &c, int64_t k) const
    {
        const int64_t tap = k / channels;
        const int64_t i = c.top + tap / kernel_w % kernel_h;
        const int64_t j = c.left + tap % kernel_w;
        if (i < 0 || i >= height || j < 0 || j >= width) {
            return 0.0F;
        }
        const int64_t frame = c.frame + tap / (kernel_w * kernel_h);
        return load(x + ((frame * height + i) * width + j) * channels + k % channels);
    }
};

template <class T> struct conv_store {
    T *y;
    bias_of bias;
    int64_t n_len;
    __device__ void operator()(int64_t m, int64_t n, float sum) const
    {
        store(y + m * n_len + n, __fadd_rn(sum, bias(n)));
    }
};

} // namespace

extern "C" sky_status sky_cuda_conv3d(sky_ctx *ctx, const sky_conv3d_args *args, void *)
{
    if (sky_cuda_conv3d_16bit_serves(args)) {
        return sky_cuda_conv3d_16bit(ctx, args);
    }
    return with_float(args->x.dtype, [&](auto t) {
        using T = decltype(t);
        const int64_t *x = args->x.shape;
        const int64_t *y = args->y.shape;
        const int64_t *w = args->weight.shape;
        const conv_rows<T> rows = {
            (const T *)args->x.data, x[1],          x[2],          x[3], y[1], y[2], w[2], w[3], args->stride_t,
            args->stride_hw,         args->pad_top, args->pad_left};
        return gemm("conv3d", ctx, rows, (const T *)args->weight.data,
                    conv_store<T>{(T *)args->y.data, bias_of_tensor(&args->bias), y[3]}, y[0] * y[1] * y[2], y[3],
                    w[1] * w[2] * w[3] * w[4]);
    });
}
