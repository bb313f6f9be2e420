#include "kernels/attention.cuh"

namespace
{

/*
 * Softmax attention in f32: any head dim up to 384, any lengths, a bias by distance, log-sum-exp. A block has 16 queries of one head,
 * 8 threads each, and goes over keys in steps of 32 with a running maximum; a query's row depends on nothing but itself and the keys.
 */
enum { QUERIES = 16, KEYS = 32, LANES = 8, THREADS = QUERIES * LANES };

struct shape {
    int64_t num_queries, num_keys, num_heads;
    int head_dim;
    float softmax_scale;
};

static __device__ float lanes_max(float x)
{
#pragma unroll
    for (int offset = LANES / 2; offset > 0; offset /= 2) {
        x = fmaxf(x, __shfl_xor_sync(0xffffffffU, x, offset));
    }
    return x;
}

static __device__ float lanes_sum(float x)
{
#pragma unroll
    for (int offset = LANES / 2; offset > 0; offset /= 2) {
        x += __shfl_xor_sync(0xffffffffU, x, offset);
    }
    return x;
}

/* Rows [first, first + count) of one head, count at most what there is, to shared memory; the rest zero. */
template <class T>
static __device__ void load_rows(float *to, const T *x, int64_t first, int count, int64_t end, int64_t head,
                                 const shape &s)
{
    for (int i = threadIdx.x; i < count * s.head_dim; i += THREADS) {
        const int64_t row = first + i / s.head_dim;
        const int d = i % s.head_dim;
        to[i / s.head_dim * (s.head_dim + 1) + d] =
            row < end ? load(x + (row * s.num_heads + head) * s.head_dim + d) : 0.0F;
    }
}

/* DIMS: of the head's dimensions, how many a thread sums. */
template <class T, class TY, int DIMS>
__global__ void attention_kernel(TY *y, const T *q, const T *k, const T *v, const float *rel_bias, float *lse, shape s)
{
    extern __shared__ float memory[];
    const int width = s.head_dim + 1;
    float *qs = memory;
    float *kv = qs + QUERIES * width; /* keys, then values */
    float *weights = kv + KEYS * width;
    const int64_t head = blockIdx.y;
    const int query = threadIdx.x / LANES;
    const int lane = threadIdx.x % LANES;
    const int64_t first = (int64_t)blockIdx.x * QUERIES;
    const int64_t row = first + query;
    float max = -INFINITY;
    float denominator = 0.0F;
    float out[DIMS] = {};
    load_rows(qs, q, first, QUERIES, s.num_queries, head, s);
    for (int64_t tile = 0; tile < s.num_keys; tile += KEYS) {
        __syncthreads(); /* the values before have been read */
        load_rows(kv, k, tile, KEYS, s.num_keys, head, s);
        __syncthreads();
        float z[KEYS / LANES];
        float tile_max = -INFINITY;
#pragma unroll
        for (int j = 0; j < KEYS / LANES; j++) {
            const int key = lane + j * LANES;
            float dot = 0.0F;
            for (int d = 0; d < s.head_dim; d++) {
                dot = fmaf(qs[query * width + d], kv[key * width + d], dot);
            }
            z[j] = dot * s.softmax_scale;
            if (rel_bias != NULL && row < s.num_queries && tile + key < s.num_keys) {
                z[j] += rel_bias[head * (s.num_queries + s.num_keys - 1) + tile + key - row + s.num_queries - 1];
            }
            z[j] = tile + key < s.num_keys ? z[j] : -INFINITY;
            tile_max = fmaxf(tile_max, z[j]);
        }
        const float new_max = fmaxf(max, lanes_max(tile_max));
        const float base = new_max == -INFINITY ? 0.0F : new_max; /* nothing yet: weights are 0 */
        const float shrink = expf(max - base);
        float sum = 0.0F;
#pragma unroll
        for (int j = 0; j < KEYS / LANES; j++) {
            const float p = expf(z[j] - base);
            weights[query * KEYS + lane + j * LANES] = p;
            sum += p;
        }
        denominator = denominator * shrink + lanes_sum(sum);
        max = new_max;
        __syncthreads(); /* the keys have been read */
        load_rows(kv, v, tile, KEYS, s.num_keys, head, s);
        __syncthreads();
#pragma unroll
        for (int i = 0; i < DIMS; i++) {
            out[i] *= shrink;
        }
        for (int key = 0; key < KEYS; key++) {
            const float p = weights[query * KEYS + key];
#pragma unroll
            for (int i = 0; i < DIMS; i++) {
                if (lane + i * LANES < s.head_dim) {
                    out[i] = fmaf(p, kv[key * width + lane + i * LANES], out[i]);
                }
            }
        }
    }
    if (row >= s.num_queries) {
        return;
    }
#pragma unroll
    for (int i = 0; i < DIMS; i++) {
        if (lane + i * LANES < s.head_dim) {
            store(y + (row * s.num_heads + head) * s.head_dim + lane + i * LANES, out[i] / denominator);
        }
    }
    if (lse != NULL && lane == 0) {
        lse[row * s.num_heads + head] = max + logf(denominator);
    }
}

template <class T, class TY, int DIMS> sky_status launch(sky_ctx *ctx, const sky_attention_args *args, const shape &s)
{
    const size_t bytes = (size_t)((QUERIES + KEYS) * (s.head_dim + 1) + QUERIES * KEYS) * sizeof(float);
    const auto kernel = attention_kernel<T, TY, DIMS>;
    SKY_TRY(sky_cuda_status(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes),
                            "attention"));
    const dim3 grid(blocks_for(s.num_queries, QUERIES), (unsigned)s.num_heads);
    kernel<<<grid, THREADS, bytes, sky_cuda_stream_of(ctx)>>>(
        (TY *)args->y.data, (const T *)args->q.data, (const T *)args->k.data, (const T *)args->v.data,
        (const float *)args->rel_bias.data, (float *)args->lse.data, s);
    return sky_cuda_launched("attention");
}

} // namespace

extern "C" sky_status sky_cuda_attention_plan(sky_ctx *, const sky_attention_args *args, size_t *)
{
    return args->q.shape[2] <= 384 ? SKY_OK
                                   : sky_fail(SKY_ERR_UNSUPPORTED, "attention: head dim %lld; at most 384 here",
                                              (long long)args->q.shape[2]);
}

extern "C" sky_status sky_cuda_attention(sky_ctx *ctx, const sky_attention_args *args, void *)
{
    if (sky_cuda_attention_16bit_serves(args)) {
        return sky_cuda_attention_16bit(ctx, args);
    }
    const shape s = {args->q.shape[0], args->k.shape[0], args->q.shape[1], (int)args->q.shape[2], args->softmax_scale};
    return with_float(args->q.dtype, [&](auto t) {
        return with_float(args->y.dtype, [&](auto ty) {
            using T = decltype(t);
            using Y = decltype(ty);
            return s.head_dim <= 128 ? launch<T, Y, 128 / LANES>(ctx, args, s)
                                     : launch<T, Y, 384 / LANES>(ctx, args, s);
        });
    });
}
