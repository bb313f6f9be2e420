#include "kernels/row_io.cuh"

namespace
{

/* (a, b) -> (a cos - b sin, a sin + b cos), for the pair at column col of a row of heads. */
__device__ void rotate(float *a, float *b, const float *freqs, int64_t row, int64_t col, int64_t head_dim)
{
    const float *f = freqs + row * head_dim + col % head_dim;
    const float cosine = f[0];
    const float sine = f[1];
    const float x = *a;
    *a = x * cosine - *b * sine;
    *b = x * sine + *b * cosine;
}

template <class TX, class TY> struct rope_op {
    TY *y;
    const TX *x;
    const float *freqs;
    int64_t width, head_dim; /* of a row, of a head */
    template <int V> __device__ void run(int64_t row, int64_t pair) const
    {
        for (int j = 0; j < V; j++) {
            const int64_t at = row * width + 2 * (pair + j);
            float a = load(x + at);
            float b = load(x + at + 1);
            rotate(&a, &b, freqs, row, 2 * (pair + j), head_dim);
            store(y + at, a);
            store(y + at + 1, b);
        }
    }
};

/*
 * Queries or keys after norm and rotation. Values, sums and codes are made of the same numbers, bit for bit: a row's 1 / rms is found
 * by one kernel for all three, a pair by one function.
 */
struct rotated {
    rows_in x;
    const float *weight, *freqs, *inv_rms;
    int64_t width, head_dim;
    __device__ float2 pair(int64_t row, int64_t col) const
    {
        const float r = inv_rms[row];
        float a = weight[col] * (x.at(row, col, width) * r);
        float b = weight[col + 1] * (x.at(row, col + 1, width) * r);
        rotate(&a, &b, freqs, row, col, head_dim);
        return make_float2(a, b);
    }
};

struct inv_rms_op {
    float *inv_rms;
    rows_in x;
    int64_t width;
    float eps;
    template <int G, bool ALIGNED> __device__ void run(int64_t row, int lane) const
    {
        float squares = 0.0F;
        for_quads<G, ALIGNED>(lane, width, [&](int64_t c, int n) {
            float v[KERNEL_VEC];
            x.quad<ALIGNED>(v, row, c, width, n);
#pragma unroll
            for (int j = 0; j < KERNEL_VEC; j++) {
                squares += v[j] * v[j]; /* behind the end it is 0 */
            }
        });
        squares = group_join<add_f32, G>(squares);
        if (lane == 0) {
            inv_rms[row] = 1.0F / sqrtf(squares / (float)width + eps);
        }
    }
};

template <class TY> struct qk_norm_rope_op {
    TY *y;
    rotated r;
    head_parts parts;
    int64_t num_rows;
    template <int V> __device__ void run(int64_t row, int64_t pair) const
    {
        for (int j = 0; j < V; j++) {
            const int64_t col = 2 * (pair + j);
            const float2 v = r.pair(row, col);
            TY *to = y + parts.row(col / r.head_dim, num_rows, r.head_dim, row) + col % r.head_dim;
            store(to, v.x);
            store(to + 1, v.y);
        }
    }
};

enum { SUM_ROWS = 256 }; /* that one thread goes through */

__global__ void sums_kernel(unsigned long long *sums, rotated r, int64_t rows, int64_t limit, unsigned blocks_a_row)
{
    const int64_t col = 2 * ((int64_t)(blockIdx.x % blocks_a_row) * KERNEL_THREADS + threadIdx.x);
    const int64_t first = (int64_t)(blockIdx.x / blocks_a_row) * SUM_ROWS;
    if (col < r.width) {
        int64_t a = 0;
        int64_t b = 0;
        for (int64_t s = first; s < min(rows, first + SUM_ROWS); s++) {
            const float2 v = r.pair(s, col);
            a += fixed_of(v.x, limit);
            b += fixed_of(v.y, limit);
        }
        atomicAdd(&sums[col], (unsigned long long)a);
        atomicAdd(&sums[col + 1], (unsigned long long)b);
    }
}

/* A block for one group of tokens of one head. */
__global__ void quantize_kernel(uint8_t *codes, float *scale, rotated r, const float *mean, int64_t num_tokens,
                                int64_t num_groups, int64_t tokens_per_group, head_parts parts)
{
    const int64_t head = blockIdx.x % parts.num_heads;
    const int64_t group = blockIdx.x / parts.num_heads;
    const int64_t first = group * tokens_per_group;
    const int64_t pairs = r.head_dim / 2;
    const int64_t count = min(num_tokens - first, tokens_per_group) * pairs;
    const auto value = [&](int64_t i) {
        const int64_t col = head * r.head_dim + 2 * (i % pairs);
        float2 v = r.pair(first + i / pairs, col);
        if (mean != NULL) {
            v.x = __fsub_rn(v.x, mean[col]);
            v.y = __fsub_rn(v.y, mean[col + 1]);
        }
        return v;
    };
    unsigned bits = 0;
    for (int64_t i = threadIdx.x; i < count; i += KERNEL_THREADS) {
        const float2 v = value(i);
        bits = max_bits::join(bits, max_bits::join(magnitude_bits(v.x), magnitude_bits(v.y)));
    }
    const float amax = amax_of_bits(group_join<max_bits, KERNEL_THREADS>(bits));
    const float factor = factor_of(127.0F, amax);
    for (int64_t i = threadIdx.x; i < count; i += KERNEL_THREADS) {
        const float2 v = value(i);
        uint8_t *to = codes + parts.row(head, num_tokens, r.head_dim, first + i / pairs) + 2 * (i % pairs);
        to[0] = i8_code(__fmul_rn(v.x, factor));
        to[1] = i8_code(__fmul_rn(v.y, factor));
    }
    if (threadIdx.x == 0) {
        scale[parts.row(head, num_groups, 1, group)] = __fdiv_rn(amax, 127.0F);
    }
}

/* Enqueues the search for 1 / rms of all rows, which scratch takes; *out is what follows from it. */
template <class Args>
sky_status begin_rotated(const char *name, sky_ctx *ctx, const Args *args, void *scratch, rotated *out)
{
    const rows_in x = rows_in_of(&args->x, &args->x_sums);
    const int64_t width = args->x.shape[1];
    *out = {x,     (const float *)args->weight.data, (const float *)args->freqs.data, (const float *)scratch,
            width, args->freqs.shape[1] * 2};
    return each_row(name, ctx, inv_rms_op{(float *)scratch, x, width, args->eps}, args->x.shape[0], width,
                    is_aligned(x.x));
}

template <class Args> sky_status plan_rotated(const Args *args, size_t *scratch_bytes)
{
    *scratch_bytes = (size_t)args->x.shape[0] * sizeof(float);
    return SKY_OK;
}

} // namespace

extern "C" sky_status sky_cuda_rope(sky_ctx *ctx, const sky_rope_args *args, void *)
{
    return with_float(args->x.dtype, [&](auto tx) {
        return with_float(args->y.dtype, [&](auto ty) {
            using X = decltype(tx);
            using Y = decltype(ty);
            const rope_op<X, Y> op = {(Y *)args->y.data, (const X *)args->x.data, (const float *)args->freqs.data,
                                      args->x.shape[1] * args->x.shape[2], args->x.shape[2]};
            return map_rows("rope", ctx, op, args->x.shape[0], op.width / 2, false);
        });
    });
}

extern "C" sky_status sky_cuda_qk_norm_rope_plan(sky_ctx *, const sky_qk_norm_rope_args *args, size_t *scratch_bytes)
{
    return plan_rotated(args, scratch_bytes);
}

extern "C" sky_status sky_cuda_qk_norm_rope(sky_ctx *ctx, const sky_qk_norm_rope_args *args, void *scratch)
{
    rotated r;
    SKY_TRY(begin_rotated("qk_norm_rope", ctx, args, scratch, &r));
    return with_float(args->y.dtype, [&](auto ty) {
        using Y = decltype(ty);
        const int64_t rows = args->x.shape[0];
        const qk_norm_rope_op<Y> op = {(Y *)args->y.data, r, parts_of(r.width / r.head_dim, args->num_parts), rows};
        return map_rows("qk_norm_rope", ctx, op, rows, r.width / 2, false);
    });
}

extern "C" sky_status sky_cuda_qk_norm_rope_sums_plan(sky_ctx *, const sky_qk_norm_rope_sums_args *args,
                                                      size_t *scratch_bytes)
{
    return plan_rotated(args, scratch_bytes);
}

extern "C" sky_status sky_cuda_qk_norm_rope_sums(sky_ctx *ctx, const sky_qk_norm_rope_sums_args *args, void *scratch)
{
    const int64_t rows = args->x.shape[0];
    SKY_TRY(ctx->backend->zero(ctx->device, args->sums.data, sky_tensor_bytes(&args->sums)));
    if (rows == 0) {
        return SKY_OK;
    }
    rotated r;
    SKY_TRY(begin_rotated("qk_norm_rope_sums", ctx, args, scratch, &r));
    const unsigned a_row = blocks_for(r.width / 2, KERNEL_THREADS);
    sums_kernel<<<a_row * blocks_for(rows, SUM_ROWS), KERNEL_THREADS, 0, sky_cuda_stream_of(ctx)>>>(
        (unsigned long long *)args->sums.data, r, rows, (INT64_C(1) << 62) / args->num_tokens, a_row);
    return sky_cuda_launched("qk_norm_rope_sums");
}

extern "C" sky_status sky_cuda_qk_norm_rope_quantize_plan(sky_ctx *, const sky_qk_norm_rope_quantize_args *args,
                                                          size_t *scratch_bytes)
{
    return plan_rotated(args, scratch_bytes);
}

extern "C" sky_status sky_cuda_qk_norm_rope_quantize(sky_ctx *ctx, const sky_qk_norm_rope_quantize_args *args,
                                                     void *scratch)
{
    rotated r;
    SKY_TRY(begin_rotated("qk_norm_rope_quantize", ctx, args, scratch, &r));
    const int64_t groups = args->scale.shape[0];
    const head_parts parts = parts_of(r.width / r.head_dim, args->num_parts);
    quantize_kernel<<<(unsigned)(groups * parts.num_heads), KERNEL_THREADS, 0, sky_cuda_stream_of(ctx)>>>(
        (uint8_t *)args->codes.data, (float *)args->scale.data, r,
        sky_tensor_present(&args->mean) ? (const float *)args->mean.data : NULL, args->x.shape[0], groups,
        args->tokens_per_group, parts);
    return sky_cuda_launched("qk_norm_rope_quantize");
}
