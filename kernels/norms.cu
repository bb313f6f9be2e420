#include "kernels/nonlinear.cuh"
#include "kernels/row_io.cuh"

namespace
{

/* Sum over a row of f(x), where x(v, col, n) gives columns [col, col + n). */
template <int G, bool ALIGNED, class X, class F> __device__ float row_sum(int64_t cols, int lane, X x, F f)
{
    float sum = 0.0F;
    for_quads<G, ALIGNED>(lane, cols, [&](int64_t c, int n) {
        float v[KERNEL_VEC];
        x(v, c, n);
#pragma unroll
        for (int j = 0; j < KERNEL_VEC; j++) {
            sum += j < n ? f(v[j]) : 0.0F;
        }
    });
    return group_join<add_f32, G>(sum);
}

/* What comes behind the normalisation: weight and bias of their own, or shift and scale of the row's group. */
struct affine {
    const float *factor, *summand;
    bool one_more;                     /* than factor: 1 + scale */
    int64_t first_row, rows_per_group; /* rows_per_group 0: one for all */
};

/* Layer normalisation of the row that x gives, written to out. */
template <int G, bool ALIGNED, class X>
__device__ void layer_norm_row(const rows_out &out, const affine &a, int64_t row, int64_t cols, int lane, float eps,
                               X x)
{
    const float mean = row_sum<G, ALIGNED>(cols, lane, x, [](float v) { return v; }) / (float)cols;
    const float squares = row_sum<G, ALIGNED>(cols, lane, x, [mean](float v) { return (v - mean) * (v - mean); });
    const float inv_std = 1.0F / sqrtf(squares / (float)cols + eps);
    const int64_t group = a.rows_per_group > 0 ? (a.first_row + row) / a.rows_per_group * cols : 0;
    const float more = a.one_more ? 1.0F : 0.0F;
    out.write<G, ALIGNED>(row, cols, lane, [&](float(&v)[KERNEL_VEC], int64_t c, int n) {
        float w[KERNEL_VEC];
        float b[KERNEL_VEC];
        x(v, c, n);
        load_quad<ALIGNED>(w, a.factor + group + c, n);
        load_quad<ALIGNED>(b, a.summand + group + c, n);
#pragma unroll
        for (int j = 0; j < KERNEL_VEC; j++) {
            v[j] = fmaf((v[j] - mean) * inv_std, more + w[j], b[j]);
        }
    });
}

struct layer_norm_op {
    rows_out y;
    rows_in x;
    affine a;
    int64_t cols;
    float eps;
    template <int G, bool ALIGNED> __device__ void run(int64_t row, int lane) const
    {
        layer_norm_row<G, ALIGNED>(y, a, row, cols, lane, eps, [&](float(&v)[KERNEL_VEC], int64_t c, int n) {
            x.quad<ALIGNED>(v, row, c, cols, n);
        });
    }
};

struct residual_norm_op {
    float *x;
    rows_out y; /* y.y NULL: no norm */
    rows_in delta;
    const float *gate; /* or NULL */
    affine a;
    sky_residual_rounding rounding;
    int64_t cols, first_row, rows_per_group;
    float eps;
    template <int G, bool ALIGNED> __device__ void run(int64_t row, int lane) const
    {
        float *in = x + row * cols;
        const float *g = gate != NULL ? gate + (first_row + row) / rows_per_group * cols : NULL;
        for_quads<G, ALIGNED>(lane, cols, [&](int64_t c, int n) {
            float v[KERNEL_VEC];
            float d[KERNEL_VEC];
            load_quad<ALIGNED>(v, in + c, n);
            delta.quad<ALIGNED>(d, row, c, cols, n);
            if (g != NULL) {
                float w[KERNEL_VEC];
                load_quad<ALIGNED>(w, g + c, n);
#pragma unroll
                for (int j = 0; j < KERNEL_VEC; j++) {
                    v[j] = fmaf(d[j], w[j], v[j]);
                }
            } else {
#pragma unroll
                for (int j = 0; j < KERNEL_VEC; j++) {
                    v[j] += d[j];
                }
            }
            if (rounding == SKY_ROUND_X) {
#pragma unroll
                for (int j = 0; j < KERNEL_VEC; j++) {
                    v[j] = round_bf16(v[j]);
                }
            }
            store_quad<ALIGNED>(in + c, v, n);
        });
        if (y.y == NULL) {
            return;
        }
        /* A thread reads what it has itself written. */
        layer_norm_row<G, ALIGNED>(y, a, row, cols, lane, eps, [&](float(&v)[KERNEL_VEC], int64_t c, int n) {
            load_quad<ALIGNED>(v, in + c, n);
            if (rounding == SKY_ROUND_NORMED) {
#pragma unroll
                for (int j = 0; j < KERNEL_VEC; j++) {
                    v[j] = round_bf16(v[j]);
                }
            }
        });
    }
};

struct rms_norm_op {
    rows_out y;
    rows_in x;
    const float *weight;
    int64_t cols;
    float eps;
    bool round_normed; /* to y's type, which for f32 it has */
    template <int G, bool ALIGNED> __device__ void run(int64_t row, int lane) const
    {
        const auto in = [&](float(&v)[KERNEL_VEC], int64_t c, int n) { x.quad<ALIGNED>(v, row, c, cols, n); };
        const float squares = row_sum<G, ALIGNED>(cols, lane, in, [](float v) { return v * v; });
        const float inv_rms = 1.0F / sqrtf(squares / (float)cols + eps);
        y.write<G, ALIGNED>(row, cols, lane, [&](float(&v)[KERNEL_VEC], int64_t c, int n) {
            float w[KERNEL_VEC];
            in(v, c, n);
            load_quad<ALIGNED>(w, weight + c, n);
#pragma unroll
            for (int j = 0; j < KERNEL_VEC; j++) {
                const float normed = v[j] * inv_rms;
                v[j] = w[j] * (round_normed && y.dtype == SKY_BF16 ? round_bf16(normed) : normed);
            }
        });
    }
};

template <class T> struct channel_norm_op {
    T *y;
    const T *x;
    const float *gamma;
    int64_t cols;
    int64_t frame, y_frame, y_first; /* positions of a frame of x and of y; where x begins in y's */
    bool with_silu;
    template <int G, bool ALIGNED> __device__ void run(int64_t row, int lane) const
    {
        const T *from = x + row * cols;
        T *to = y + (row / frame * y_frame + y_first + row % frame) * cols;
        const auto in = [&](float(&v)[KERNEL_VEC], int64_t c, int n) { load_quad<ALIGNED>(v, from + c, n); };
        const float length = sqrtf(row_sum<G, ALIGNED>(cols, lane, in, [](float v) { return v * v; }));
        const float norm = length < 1e-12F ? 1e-12F : length; /* NaN stays */
        const float factor = sqrtf((float)cols) / norm;
        for_quads<G, ALIGNED>(lane, cols, [&](int64_t c, int n) {
            float v[KERNEL_VEC];
            float g[KERNEL_VEC];
            in(v, c, n);
            load_quad<ALIGNED>(g, gamma + c, n);
#pragma unroll
            for (int j = 0; j < KERNEL_VEC; j++) {
                const float z = v[j] * factor * g[j];
                v[j] = with_silu ? silu(z) : z;
            }
            store_quad<ALIGNED>(to + c, v, n);
        });
    }
};

affine own(const sky_tensor *weight, const sky_tensor *bias)
{
    return {(const float *)weight->data, (const float *)bias->data, false, 0, 0};
}

affine of_group(const sky_tensor *shift, const sky_tensor *scale, int64_t first_row, int64_t rows_per_group)
{
    return {(const float *)scale->data, (const float *)shift->data, true, first_row, rows_per_group};
}

} // namespace

extern "C" sky_status sky_cuda_rms_norm(sky_ctx *ctx, const sky_rms_norm_args *args, void *)
{
    const rms_norm_op op = {rows_out_of(&args->y),
                            rows_in_of(&args->x, &args->x_sums),
                            (const float *)args->weight.data,
                            args->x.shape[1],
                            args->eps,
                            args->round_normed};
    return each_row("rms_norm", ctx, op, args->x.shape[0], op.cols, are_aligned(op.y.y, op.x.x, op.weight));
}

extern "C" sky_status sky_cuda_layer_norm(sky_ctx *ctx, const sky_layer_norm_args *args, void *)
{
    const layer_norm_op op = {rows_out_of(&args->y, &args->y_scale), rows_in_of(&args->x),
                              own(&args->weight, &args->bias), args->x.shape[1], args->eps};
    return each_row("layer_norm", ctx, op, args->x.shape[0], op.cols,
                    are_aligned(op.y.y, op.x.x, op.a.factor, op.a.summand));
}

extern "C" sky_status sky_cuda_layer_norm_modulate(sky_ctx *ctx, const sky_layer_norm_modulate_args *args, void *)
{
    const layer_norm_op op = {rows_out_of(&args->y, &args->y_scale), rows_in_of(&args->x),
                              of_group(&args->shift, &args->scale, args->first_row, args->rows_per_group),
                              args->x.shape[1], args->eps};
    return each_row("layer_norm_modulate", ctx, op, args->x.shape[0], op.cols,
                    are_aligned(op.y.y, op.x.x, op.a.factor, op.a.summand));
}

extern "C" sky_status sky_cuda_residual_norm(sky_ctx *ctx, const sky_residual_norm_args *args, void *)
{
    residual_norm_op op = {};
    op.x = (float *)args->x.data;
    op.delta = rows_in_of(&args->delta, &args->delta_sums);
    op.gate = sky_tensor_present(&args->gate) ? (const float *)args->gate.data : NULL;
    if (sky_tensor_present(&args->y)) {
        op.y = rows_out_of(&args->y, &args->y_scale);
        op.a = sky_tensor_present(&args->weight)
                   ? own(&args->weight, &args->bias)
                   : of_group(&args->shift, &args->scale, args->first_row, args->rows_per_group);
    }
    op.rounding = args->rounding;
    op.cols = args->x.shape[1];
    op.first_row = args->first_row;
    op.rows_per_group = args->rows_per_group;
    op.eps = args->eps;
    return each_row("residual_norm", ctx, op, args->x.shape[0], op.cols,
                    are_aligned(op.x, op.y.y, op.delta.x, op.gate, op.a.factor, op.a.summand));
}

extern "C" sky_status sky_cuda_channel_norm(sky_ctx *ctx, const sky_channel_norm_args *args, void *)
{
    return with_float(args->x.dtype, [&](auto t) {
        using T = decltype(t);
        const int64_t cols = args->x.shape[args->x.num_dims - 1];
        const int64_t rows = sky_tensor_len(&args->x) / cols;
        const bool higher = args->x.num_dims == 4;
        const int64_t width = higher ? args->x.shape[2] : 1;
        const channel_norm_op<T> op = {(T *)args->y.data,
                                       (const T *)args->x.data,
                                       (const float *)args->gamma.data,
                                       cols,
                                       higher ? args->x.shape[1] * width : rows,
                                       higher ? args->y.shape[1] * width : rows,
                                       args->y_first_row * width,
                                       args->silu};
        return each_row("channel_norm", ctx, op, rows, cols, are_aligned(op.y, op.x, op.gamma));
    });
}
