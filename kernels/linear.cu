#include "kernels/gemm.cuh"
#include "kernels/matmul.h"
#include "kernels/row_io.cuh"

namespace
{

enum { PIECE_BYTES = 64 << 20 }; /* of sums between the library and the scaling pass */

/* y = sum (x_scale weight_scale) + bias, each step rounded; scales and bias where they are. */
template <class TY> struct linear_store {
    TY *y;
    int64_t n_len;
    const float *x_scale, *weight_scale;
    bias_of bias;
    __device__ __forceinline__ float finish(int64_t m, int64_t n, float sum) const
    {
        if (x_scale != NULL) {
            sum = __fmul_rn(sum, __fmul_rn(x_scale[m], weight_scale[n]));
        }
        return bias.data != NULL ? __fadd_rn(sum, bias(n)) : sum;
    }
    __device__ __forceinline__ void operator()(int64_t m, int64_t n, float sum) const
    {
        store(y + m * n_len + n, finish(m, n, sum));
    }
    __device__ __forceinline__ void operator()(int64_t m, int64_t n, int sum) const
    {
        (*this)(m, n, (float)sum);
    }
    __device__ __forceinline__ void operator()(int64_t m, int64_t n, long long sum) const
    {
        (*this)(m, n, (float)sum);
    }
};

struct sums_store {
    int32_t *y;
    int64_t n_len;
    __device__ __forceinline__ void operator()(int64_t m, int64_t n, int sum) const
    {
        y[m * n_len + n] = sum;
    }
};

/* The scaling pass: sums of f32 or i32 [rows, N] to rows [first_row, ..) of y. */
template <class TS, class TY> struct scale_op {
    const TS *sums;
    linear_store<TY> out;
    int64_t first_row;
    template <int V> __device__ void run(int64_t row, int64_t col) const
    {
        const pack<TS, V> in = *(const pack<TS, V> *)(sums + row * out.n_len + col);
        float v[V];
#pragma unroll
        for (int j = 0; j < V; j++) {
            v[j] = out.finish(first_row + row, col + j, (float)in.e[j]);
        }
        store_vec(out.y + (first_row + row) * out.n_len + col, v);
    }
};

template <class TX, class TW, class Out>
sky_status plain(const char *name, const sky_ctx *ctx, const sky_tensor *x, const sky_tensor *weight, const Out &out)
{
    const int64_t k = x->shape[1];
    return gemm(name, ctx, matrix_rows<TX>{(const TX *)x->data, k}, (const TW *)weight->data, out, x->shape[0],
                weight->shape[0], k);
}

sky_dtype bias_type(const sky_tensor *bias)
{
    return bias->num_dims == 0 ? SKY_DTYPE_COUNT : bias->dtype;
}

/* Whether cuBLASLt may be asked: the bias of its epilogue is bf16 only. */
bool bias_fits(const sky_tensor *bias)
{
    return bias_type(bias) != SKY_F32;
}

sky_status find(sky_ctx *ctx, const sky_linear_args *args, const sky_cuda_matmul **out)
{
    *out = NULL;
    if (args->x.dtype != SKY_BF16 || !bias_fits(&args->bias)) {
        return SKY_OK;
    }
    return sky_cuda_matmul_find(sky_cuda_device_of(ctx), SKY_BF16, args->y.dtype, bias_type(&args->bias), false,
                                args->weight.shape[0], args->weight.shape[1], out);
}

/* How an 8-bit product is computed: by one call with scales and bias, or sums first. Either may be absent. */
struct way_8bit {
    const sky_cuda_matmul *scaled, *sums;
};

sky_status find_8bit(sky_ctx *ctx, const sky_linear_8bit_args *args, way_8bit *out)
{
    sky_cuda_device *device = sky_cuda_device_of(ctx);
    const int64_t n = args->weight.shape[0];
    const int64_t k = args->weight.shape[1];
    *out = {NULL, NULL};
    if (args->x.dtype == SKY_I8) {
        if (k >= SKY_LINEAR_I8_MAX_LEN) {
            return SKY_OK; /* more than i32 holds */
        }
        return sky_cuda_matmul_find(device, SKY_I8, SKY_I32, SKY_DTYPE_COUNT, false, n, k, &out->sums);
    }
    if (args->y.dtype == SKY_F32) {
        return SKY_OK; /* the tensor cores keep fewer bits of their sums than f32 shows */
    }
    if (bias_fits(&args->bias)) {
        SKY_TRY(
            sky_cuda_matmul_find(device, SKY_F8_E4M3, args->y.dtype, bias_type(&args->bias), true, n, k, &out->scaled));
    }
    return out->scaled != NULL
               ? SKY_OK
               : sky_cuda_matmul_find(device, SKY_F8_E4M3, SKY_F32, SKY_DTYPE_COUNT, false, n, k, &out->sums);
}

/* Rows of sums that are scaled at once. */
int64_t piece_rows(int64_t rows, int64_t n)
{
    const int64_t pieces = PIECE_BYTES / (n * 4) / SKY_LINEAR_PIECE_ROWS;
    const int64_t most = (pieces > 0 ? pieces : 1) * SKY_LINEAR_PIECE_ROWS;
    return rows < most ? rows : most;
}

template <class TS, class TY>
sky_status sums_and_scale(sky_ctx *ctx, const sky_linear_8bit_args *args, const sky_cuda_matmul *sums,
                          const linear_store<TY> &out, void *scratch)
{
    const int64_t rows = args->x.shape[0];
    const int64_t piece = piece_rows(rows, out.n_len);
    for (int64_t first = 0; first < rows; first += piece) {
        const int64_t count = rows - first < piece ? rows - first : piece;
        sky_cuda_matmul_args product = {};
        product.x = sky_tensor_rows(&args->x, first, count);
        product.weight = args->weight;
        product.y.data = scratch;
        SKY_TRY(sky_cuda_matmul_run(sky_cuda_device_of(ctx), sums, &product));
        SKY_TRY(map_rows("linear_8bit", ctx, scale_op<TS, TY>{(const TS *)scratch, out, first}, count, out.n_len,
                         are_aligned(scratch, args->y.data)));
    }
    return SKY_OK;
}

sky_status sums_only(sky_ctx *ctx, const sky_linear_8bit_args *args, const way_8bit &way)
{
    if (way.sums != NULL && are_aligned(args->x.data, args->weight.data, args->y.data)) {
        sky_cuda_matmul_args product = {};
        product.x = args->x;
        product.weight = args->weight;
        product.y = args->y;
        return sky_cuda_matmul_run(sky_cuda_device_of(ctx), way.sums, &product);
    }
    return plain<int8_t, int8_t>("linear_8bit", ctx, &args->x, &args->weight,
                                 sums_store{(int32_t *)args->y.data, args->weight.shape[0]});
}

} // namespace

extern "C" sky_status sky_cuda_linear_plan(sky_ctx *ctx, const sky_linear_args *args, size_t *)
{
    const sky_cuda_matmul *matmul;
    return find(ctx, args, &matmul);
}

extern "C" sky_status sky_cuda_linear(sky_ctx *ctx, const sky_linear_args *args, void *)
{
    const sky_cuda_matmul *matmul;
    SKY_TRY(find(ctx, args, &matmul));
    if (matmul != NULL && are_aligned(args->x.data, args->weight.data, args->y.data, args->bias.data)) {
        sky_cuda_matmul_args product = {};
        product.x = args->x;
        product.weight = args->weight;
        product.y = args->y;
        product.bias = args->bias.data;
        return sky_cuda_matmul_run(sky_cuda_device_of(ctx), matmul, &product);
    }
    return with_float(args->y.dtype, [&](auto ty) {
        using Y = decltype(ty);
        const linear_store<Y> out = {(Y *)args->y.data, args->weight.shape[0], NULL, NULL, bias_of_tensor(&args->bias)};
        if (args->x.dtype == SKY_BF16) {
            return plain<bf16, bf16>("linear", ctx, &args->x, &args->weight, out);
        }
        return args->weight.dtype == SKY_BF16 ? plain<float, bf16>("linear", ctx, &args->x, &args->weight, out)
                                              : plain<float, float>("linear", ctx, &args->x, &args->weight, out);
    });
}

extern "C" sky_status sky_cuda_linear_8bit_plan(sky_ctx *ctx, const sky_linear_8bit_args *args, size_t *scratch_bytes)
{
    way_8bit way;
    SKY_TRY(find_8bit(ctx, args, &way));
    if (way.sums != NULL && args->y.dtype != SKY_I32) {
        *scratch_bytes = (size_t)(piece_rows(args->x.shape[0], args->weight.shape[0]) * args->weight.shape[0]) * 4;
    }
    return SKY_OK;
}

extern "C" sky_status sky_cuda_linear_8bit(sky_ctx *ctx, const sky_linear_8bit_args *args, void *scratch)
{
    way_8bit way;
    const bool is_i8 = args->x.dtype == SKY_I8;
    SKY_TRY(find_8bit(ctx, args, &way));
    if (args->y.dtype == SKY_I32) {
        return sums_only(ctx, args, way);
    }
    const bool aligned = are_aligned(args->x.data, args->weight.data);
    if (way.scaled != NULL && aligned &&
        are_aligned(args->y.data, args->x_scale.data, args->weight_scale.data, args->bias.data)) {
        sky_cuda_matmul_args product = {};
        product.x = args->x;
        product.weight = args->weight;
        product.y = args->y;
        product.x_scale = (const float *)args->x_scale.data;
        product.weight_scale = (const float *)args->weight_scale.data;
        product.bias = args->bias.data;
        return sky_cuda_matmul_run(sky_cuda_device_of(ctx), way.scaled, &product);
    }
    return with_float(args->y.dtype, [&](auto ty) {
        using Y = decltype(ty);
        const linear_store<Y> out = {(Y *)args->y.data, args->weight.shape[0], (const float *)args->x_scale.data,
                                     (const float *)args->weight_scale.data, bias_of_tensor(&args->bias)};
        if (way.sums != NULL && aligned) {
            return is_i8 ? sums_and_scale<int32_t>(ctx, args, way.sums, out, scratch)
                         : sums_and_scale<float>(ctx, args, way.sums, out, scratch);
        }
        if (is_i8 && args->x.shape[1] >= SKY_LINEAR_I8_MAX_LEN) {
            return plain<long_i8, long_i8>("linear_8bit", ctx, &args->x, &args->weight, out);
        }
        return is_i8 ? plain<int8_t, int8_t>("linear_8bit", ctx, &args->x, &args->weight, out)
                     : plain<e4m3, e4m3>("linear_8bit", ctx, &args->x, &args->weight, out);
    });
}
