#include "kernels/nonlinear.cuh"
#include "kernels/row_io.cuh"

namespace
{

__device__ float activate(float x, sky_activation_kind kind)
{
    return kind == SKY_SILU ? silu(x) : kind == SKY_GELU_TANH ? gelu_tanh(x) : gelu_erf(x);
}

/* From floats to floats, of any shape. */
template <class TX, class TY> struct activation_op {
    TY *y;
    const TX *x;
    sky_activation_kind kind;
    template <int V> __device__ void run(int64_t i) const
    {
        float v[V];
        load_vec(v, x + i);
#pragma unroll
        for (int j = 0; j < V; j++) {
            v[j] = activate(v[j], kind);
        }
        store_vec(y + i, v);
    }
};

/* From sums or to codes. */
struct activation_rows_op {
    rows_out y;
    rows_in x;
    sky_activation_kind kind;
    int64_t cols;
    template <int G, bool ALIGNED> __device__ void run(int64_t row, int lane) const
    {
        y.write<G, ALIGNED>(row, cols, lane, [&](float(&v)[KERNEL_VEC], int64_t c, int n) {
            x.quad<ALIGNED>(v, row, c, cols, n);
#pragma unroll
            for (int j = 0; j < KERNEL_VEC; j++) {
                v[j] = activate(v[j], kind);
            }
        });
    }
};

template <class T> struct gated_gelu_op {
    T *y;
    const T *up, *gate;
    template <int V> __device__ void run(int64_t i) const
    {
        float u[V];
        float g[V];
        load_vec(u, up + i);
        load_vec(g, gate + i);
#pragma unroll
        for (int j = 0; j < V; j++) {
            u[j] *= gelu_tanh(g[j]);
        }
        store_vec(y + i, u);
    }
};

template <class T> struct add_op {
    T *y;
    const T *a, *b;
    template <int V> __device__ void run(int64_t i) const
    {
        float v[V];
        float w[V];
        load_vec(v, a + i);
        load_vec(w, b + i);
#pragma unroll
        for (int j = 0; j < V; j++) {
            v[j] += w[j];
        }
        store_vec(y + i, v);
    }
};

template <class TX, class TY> struct convert_op {
    TY *y;
    const TX *x;
    template <int V> __device__ void run(int64_t i) const
    {
        float v[V];
        load_vec(v, x + i);
        store_vec(y + i, v);
    }
};

template <class TX, class TY> struct shift_op {
    TY *y;
    const TX *x;
    const float *shift;
    int64_t cols;
    template <int V> __device__ void run(int64_t row, int64_t col) const
    {
        float v[V];
        float s[V];
        load_vec(v, x + row * cols + col);
        load_vec(s, shift + col);
#pragma unroll
        for (int j = 0; j < V; j++) {
            v[j] += s[j];
        }
        store_vec(y + row * cols + col, v);
    }
};

/* Three roundings, as the header says. */
struct cfg_combine_op {
    float *y;
    const float *cond, *uncond;
    float guidance_scale;
    template <int V> __device__ void run(int64_t i) const
    {
        float c[V];
        float u[V];
        load_vec(c, cond + i);
        load_vec(u, uncond + i);
#pragma unroll
        for (int j = 0; j < V; j++) {
            c[j] = __fadd_rn(u[j], __fmul_rn(guidance_scale, __fsub_rn(c[j], u[j])));
        }
        store_vec(y + i, c);
    }
};

struct linear_combination_op {
    float *y;
    const float *x[SKY_MAX_TERMS];
    float coefficient[SKY_MAX_TERMS];
    int num_terms;
    template <int V> __device__ void run(int64_t i) const
    {
        float sum[V];
        load_vec(sum, x[0] + i);
#pragma unroll
        for (int j = 0; j < V; j++) {
            sum[j] = __fmul_rn(coefficient[0], sum[j]);
        }
        for (int k = 1; k < num_terms; k++) {
            float v[V];
            load_vec(v, x[k] + i);
#pragma unroll
            for (int j = 0; j < V; j++) {
                sum[j] = __fadd_rn(sum[j], __fmul_rn(coefficient[k], v[j]));
            }
        }
        store_vec(y + i, sum);
    }
};

template <class T> struct frames_to_u8_op {
    uint8_t *y;
    const T *x;
    template <int V> __device__ void run(int64_t i) const
    {
        for (int j = 0; j < V; j++) {
            const float v = load(x + i + j) / 2.0F + 0.5F;
            y[i + j] = (uint8_t)(255.0F * fminf(fmaxf(v, 0.0F), 1.0F)); /* fmaxf makes 0 of NaN */
        }
    }
};

template <class TY> struct gate_residual_op {
    float *x;
    const TY *y;
    const float *gate; /* or NULL */
    int64_t cols, first_row, rows_per_group;
    template <int V> __device__ void run(int64_t row, int64_t col) const
    {
        float sum[V];
        float v[V];
        load_vec(sum, x + row * cols + col);
        load_vec(v, y + row * cols + col);
        if (gate != NULL) {
            float g[V];
            load_vec(g, gate + (first_row + row) / rows_per_group * cols + col);
#pragma unroll
            for (int j = 0; j < V; j++) {
                sum[j] = fmaf(v[j], g[j], sum[j]);
            }
        } else {
#pragma unroll
            for (int j = 0; j < V; j++) {
                sum[j] += v[j];
            }
        }
        store_vec(x + row * cols + col, sum);
    }
};

template <class TC, class TY> struct dequantize_rows_op {
    TY *y;
    const TC *codes;
    const float *scale;
    int64_t cols;
    template <int V> __device__ void run(int64_t row, int64_t col) const
    {
        float v[V];
        const float s = scale[row];
        load_vec(v, codes + row * cols + col);
#pragma unroll
        for (int j = 0; j < V; j++) {
            v[j] *= s;
        }
        store_vec(y + row * cols + col, v);
    }
};

template <class T> struct embedding_op {
    T *y;
    const T *table;
    const int32_t *ids;
    int64_t cols;
    template <int V> __device__ void run(int64_t row, int64_t col) const
    {
        *(pack<T, V> *)(y + row * cols + col) = *(const pack<T, V> *)(table + ids[row] * cols + col);
    }
};

template <class T> struct copy_columns_op {
    T *y;
    const T *x;
    int64_t y_cols, x_cols;
    template <int V> __device__ void run(int64_t row, int64_t col) const
    {
        *(pack<T, V> *)(y + row * y_cols + col) = *(const pack<T, V> *)(x + row * x_cols + col);
    }
};

} // namespace

extern "C" sky_status sky_cuda_activation(sky_ctx *ctx, const sky_activation_args *args, void *)
{
    if (args->x.dtype == SKY_I32 || sky_tensor_present(&args->y_scale)) {
        const activation_rows_op op = {rows_out_of(&args->y, &args->y_scale), rows_in_of(&args->x, &args->x_sums),
                                       args->kind, args->x.shape[1]};
        return each_row("activation", ctx, op, args->x.shape[0], op.cols, are_aligned(op.y.y, op.x.x));
    }
    return with_float(args->x.dtype, [&](auto tx) {
        return with_float(args->y.dtype, [&](auto ty) {
            using X = decltype(tx);
            using Y = decltype(ty);
            const activation_op<X, Y> op = {(Y *)args->y.data, (const X *)args->x.data, args->kind};
            return map("activation", ctx, op, sky_tensor_len(&args->x), are_aligned(op.y, op.x));
        });
    });
}

extern "C" sky_status sky_cuda_gated_gelu(sky_ctx *ctx, const sky_gated_gelu_args *args, void *)
{
    return with_float(args->y.dtype, [&](auto t) {
        using T = decltype(t);
        const gated_gelu_op<T> op = {(T *)args->y.data, (const T *)args->up.data, (const T *)args->gate.data};
        return map("gated_gelu", ctx, op, sky_tensor_len(&args->y), are_aligned(op.y, op.up, op.gate));
    });
}

extern "C" sky_status sky_cuda_add(sky_ctx *ctx, const sky_add_args *args, void *)
{
    return with_float(args->y.dtype, [&](auto t) {
        using T = decltype(t);
        const add_op<T> op = {(T *)args->y.data, (const T *)args->a.data, (const T *)args->b.data};
        return map("add", ctx, op, sky_tensor_len(&args->y), are_aligned(op.y, op.a, op.b));
    });
}

extern "C" sky_status sky_cuda_convert(sky_ctx *ctx, const sky_convert_args *args, void *)
{
    return with_float(args->x.dtype, [&](auto tx) {
        return with_float(args->y.dtype, [&](auto ty) {
            using X = decltype(tx);
            using Y = decltype(ty);
            if (sky_tensor_present(&args->shift)) {
                const shift_op<X, Y> op = {(Y *)args->y.data, (const X *)args->x.data, (const float *)args->shift.data,
                                           args->shift.shape[0]};
                return map_rows("convert", ctx, op, sky_tensor_len(&args->x) / op.cols, op.cols,
                                are_aligned(op.y, op.x, op.shift));
            }
            const convert_op<X, Y> op = {(Y *)args->y.data, (const X *)args->x.data};
            return map("convert", ctx, op, sky_tensor_len(&args->x), are_aligned(op.y, op.x));
        });
    });
}

extern "C" sky_status sky_cuda_cfg_combine(sky_ctx *ctx, const sky_cfg_combine_args *args, void *)
{
    const cfg_combine_op op = {(float *)args->y.data, (const float *)args->cond.data, (const float *)args->uncond.data,
                               args->guidance_scale};
    return map("cfg_combine", ctx, op, sky_tensor_len(&args->y), are_aligned(op.y, op.cond, op.uncond));
}

extern "C" sky_status sky_cuda_linear_combination(sky_ctx *ctx, const sky_linear_combination_args *args, void *)
{
    linear_combination_op op = {};
    op.y = (float *)args->y.data;
    op.num_terms = args->num_terms;
    bool aligned = is_aligned(op.y);
    for (int k = 0; k < args->num_terms; k++) {
        op.x[k] = (const float *)args->x[k].data;
        op.coefficient[k] = args->coefficient[k];
        aligned = aligned && is_aligned(op.x[k]);
    }
    return map("linear_combination", ctx, op, sky_tensor_len(&args->y), aligned);
}

extern "C" sky_status sky_cuda_frames_to_u8(sky_ctx *ctx, const sky_frames_to_u8_args *args, void *)
{
    return with_float(args->x.dtype, [&](auto t) {
        using T = decltype(t);
        const frames_to_u8_op<T> op = {(uint8_t *)args->y.data, (const T *)args->x.data};
        return map("frames_to_u8", ctx, op, sky_tensor_len(&args->y), true);
    });
}

extern "C" sky_status sky_cuda_gate_residual(sky_ctx *ctx, const sky_gate_residual_args *args, void *)
{
    const bool gated = sky_tensor_present(&args->gate);
    return with_float(args->y.dtype, [&](auto t) {
        using T = decltype(t);
        const gate_residual_op<T> op = {
            (float *)args->x.data, (const T *)args->y.data, gated ? (const float *)args->gate.data : NULL,
            args->x.shape[1],      args->first_row,         args->rows_per_group};
        return map_rows("gate_residual", ctx, op, args->x.shape[0], op.cols, are_aligned(op.x, op.y, op.gate));
    });
}

extern "C" sky_status sky_cuda_dequantize_rows(sky_ctx *ctx, const sky_dequantize_rows_args *args, void *)
{
    const auto launch = [&](auto tc, auto ty) {
        using C = decltype(tc);
        using Y = decltype(ty);
        const dequantize_rows_op<C, Y> op = {(Y *)args->y.data, (const C *)args->codes.data,
                                             (const float *)args->scale.data, args->codes.shape[1]};
        return map_rows("dequantize_rows", ctx, op, args->codes.shape[0], op.cols, are_aligned(op.y, op.codes));
    };
    return with_float(args->y.dtype,
                      [&](auto ty) { return args->codes.dtype == SKY_I8 ? launch(int8_t{}, ty) : launch(e4m3{}, ty); });
}

extern "C" sky_status sky_cuda_embedding(sky_ctx *ctx, const sky_embedding_args *args, void *)
{
    return with_float(args->y.dtype, [&](auto t) {
        using T = decltype(t);
        const embedding_op<T> op = {(T *)args->y.data, (const T *)args->table.data, (const int32_t *)args->ids.data,
                                    args->table.shape[1]};
        return map_rows("embedding", ctx, op, args->ids.shape[0], op.cols, are_aligned(op.y, op.table));
    });
}

extern "C" sky_status sky_cuda_copy_columns(sky_ctx *ctx, const sky_copy_columns_args *args, void *)
{
    const auto launch = [&](auto t) {
        using T = decltype(t);
        const copy_columns_op<T> op = {(T *)args->y.data + args->y_first, (const T *)args->x.data + args->x_first,
                                       args->y.shape[1], args->x.shape[1]};
        const bool aligned = are_aligned(op.y, op.x) && op.y_cols % KERNEL_VEC == 0 && op.x_cols % KERNEL_VEC == 0;
        return map_rows("copy_columns", ctx, op, args->x.shape[0], args->num_columns, aligned);
    };
    switch (sky_dtype_bytes(args->x.dtype)) {
    case 1:
        return launch(uint8_t{});
    case 2:
        return launch(uint16_t{});
    case 4:
        return launch(uint32_t{});
    default:
        return launch(double{});
    }
}
