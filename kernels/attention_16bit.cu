#include "kernels/attention.cuh"
#include "kernels/mma.cuh"

namespace
{

/*
 * Softmax attention on bf16 by the tensor cores, head dims up to 128 that are multiples of 16. A block has 128 queries of one head, a
 * warp 16 of them, and goes over keys in steps of 64, of which two are in shared memory. The weights enter their product as two bf16
 * numbers, the second what the first leaves: what is lost of them is below 2^-17, as docs/numerics.md wants it.
 */
enum {
    WARPS = 8,
    THREADS = WARPS * WARP,
    WARP_QUERIES = 16,
    QUERIES = WARPS * WARP_QUERIES,
    KEYS = 64,
    SCORE_TILES = KEYS / 8,
    SKEW = 8, /* elements: rows in shared memory begin in different banks */
};

struct arguments {
    void *y;
    bool y_is_bf16;
    const bf16 *q, *k, *v;
    float *lse; /* or NULL */
    int64_t num_queries, num_keys, num_heads;
    int head_dim;
    float softmax_scale;
};

__device__ __forceinline__ void mma_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, "
                 "%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* Four matrices of 8 rows of 16 bytes; each lane names a row. */
__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], const bf16 *row)
{
    const unsigned at = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}

__device__ __forceinline__ void load_matrices_turned(uint32_t (&r)[4], const bf16 *row)
{
    const unsigned at = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}

__device__ __forceinline__ uint32_t two(float x, float y)
{
    const __nv_bfloat162 both = __floats2bfloat162_rn(x, y);
    return *(const uint32_t *)&both;
}

/* Rows [first, first + KEYS) of a head, zeros behind the last and behind head_dim. */
template <int DIM> __device__ void load_rows(bf16 *to, const bf16 *x, const arguments &a, int64_t first, int64_t head)
{
    for (int i = threadIdx.x; i < KEYS * (DIM / 8); i += THREADS) {
        const int row = i / (DIM / 8);
        const int d = i % (DIM / 8) * 8;
        const bool there = first + row < a.num_keys && d < a.head_dim;
        copy_async(to + row * (DIM + SKEW) + d, x + (there ? ((first + row) * a.num_heads + head) * a.head_dim + d : 0),
                   there);
    }
}

__device__ uint32_t query_pair(const arguments &a, int64_t row, int64_t head, int d)
{
    return row < a.num_queries && d < a.head_dim
               ? *(const uint32_t *)(a.q + (row * a.num_heads + head) * a.head_dim + d)
               : 0;
}

__device__ __forceinline__ float row_max(float x)
{
    x = fmaxf(x, __shfl_xor_sync(0xffffffffU, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffffU, x, 2));
}

__device__ __forceinline__ float row_sum(float x)
{
    x += __shfl_xor_sync(0xffffffffU, x, 1);
    return x + __shfl_xor_sync(0xffffffffU, x, 2);
}

template <int DIM> __global__ void __launch_bounds__(THREADS, 1) attention_16bit_kernel(arguments a)
{
    extern __shared__ bf16 shared[];
    constexpr float LOG2_E = 1.4426950408889634F;
    constexpr int ROWS = KEYS * (DIM + SKEW); /* elements of a step's keys, or values */
    const int lane = (int)threadIdx.x % WARP;
    const int g = lane / 4;
    const int q = lane % 4;
    const int64_t head = blockIdx.y;
    const int64_t row = (int64_t)blockIdx.x * QUERIES + (int)threadIdx.x / WARP * WARP_QUERIES + g; /* and row + 8 */
    const float scale = a.softmax_scale * LOG2_E;
    load_rows<DIM>(shared, a.k, a, 0, head);
    load_rows<DIM>(shared + ROWS, a.v, a, 0, head);
    copy_commit();
    uint32_t query[DIM / 16][4];
#pragma unroll
    for (int i = 0; i < DIM / 16; i++) {
        query[i][0] = query_pair(a, row, head, 16 * i + 2 * q);
        query[i][1] = query_pair(a, row + 8, head, 16 * i + 2 * q);
        query[i][2] = query_pair(a, row, head, 16 * i + 8 + 2 * q);
        query[i][3] = query_pair(a, row + 8, head, 16 * i + 8 + 2 * q);
    }
    float max[2] = {-INFINITY, -INFINITY}; /* of scores times log2 e */
    float denominator[2] = {0.0F, 0.0F};   /* of this lane's keys */
    float out[DIM / 8][4] = {};
    int at = 0;

    for (int64_t first = 0; first < a.num_keys; first += KEYS, at ^= 1) {
        const bf16 *keys = shared + at * 2 * ROWS;
        const bf16 *values = keys + ROWS;
        copy_wait<0>();
        __syncthreads(); /* this step is there, and nobody reads the one before any more */
        if (first + KEYS < a.num_keys) {
            load_rows<DIM>(shared + (at ^ 1) * 2 * ROWS, a.k, a, first + KEYS, head);
            load_rows<DIM>(shared + (at ^ 1) * 2 * ROWS + ROWS, a.v, a, first + KEYS, head);
        }
        copy_commit();
        float z[SCORE_TILES][4] = {};
#pragma unroll
        for (int t = 0; t < SCORE_TILES; t += 2) {
            const bf16 *key = keys + (8 * t + lane / 16 * 8 + lane % 8) * (DIM + SKEW) + lane / 8 % 2 * 8;
#pragma unroll
            for (int i = 0; i < DIM / 16; i++) {
                uint32_t b[4];
                load_matrices(b, key + 16 * i);
                mma_bf16(z[t], query[i], b[0], b[1]);
                mma_bf16(z[t + 1], query[i], b[2], b[3]);
            }
        }
        const int left = (int)min(a.num_keys - first, (int64_t)KEYS);
        float new_max[2] = {max[0], max[1]};
#pragma unroll
        for (int t = 0; t < SCORE_TILES; t++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                z[t][i] = 8 * t + 2 * q + i % 2 < left ? z[t][i] * scale : -INFINITY;
                new_max[i / 2] = fmaxf(new_max[i / 2], z[t][i]);
            }
        }
        float shrink[2];
        float base[2];
#pragma unroll
        for (int r = 0; r < 2; r++) {
            new_max[r] = row_max(new_max[r]);
            base[r] = new_max[r] == -INFINITY ? 0.0F : new_max[r]; /* nothing yet: weights are 0 */
            shrink[r] = exp2f(max[r] - base[r]);
            max[r] = new_max[r];
            denominator[r] *= shrink[r];
        }
#pragma unroll
        for (int n = 0; n < DIM / 8; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                out[n][i] *= shrink[i / 2];
            }
        }
#pragma unroll
        for (int t = 0; t < SCORE_TILES; t += 2) { /* 16 keys */
            uint32_t large[4];
            uint32_t small[4];
#pragma unroll
            for (int i = 0; i < 4; i++) { /* row g, g + 8 of the first 8 keys, then of the others */
                const float x = exp2_approx(z[t + i / 2][i % 2 * 2] - base[i % 2]);
                const float y = exp2_approx(z[t + i / 2][i % 2 * 2 + 1] - base[i % 2]);
                denominator[i % 2] += x + y;
                large[i] = two(x, y);
                small[i] = two(x - __uint_as_float(large[i] << 16), y - __uint_as_float(large[i] & 0xffff0000U));
            }
            const bf16 *value = values + (8 * t + lane / 8 % 2 * 8 + lane % 8) * (DIM + SKEW) + lane / 16 * 8;
#pragma unroll
            for (int n = 0; n < DIM / 8; n += 2) {
                uint32_t b[4];
                load_matrices_turned(b, value + 8 * n);
                mma_bf16(out[n], large, b[0], b[1]);
                mma_bf16(out[n], small, b[0], b[1]);
                mma_bf16(out[n + 1], large, b[2], b[3]);
                mma_bf16(out[n + 1], small, b[2], b[3]);
            }
        }
    }

#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int64_t s = row + 8 * r;
        const float sum = row_sum(denominator[r]);
        if (s >= a.num_queries) {
            continue;
        }
#pragma unroll
        for (int n = 0; n < DIM / 8; n++) {
            const int d = 8 * n + 2 * q;
            if (d < a.head_dim) {
                const int64_t to = (s * a.num_heads + head) * a.head_dim + d;
                for (int j = 0; j < 2; j++) {
                    const float y = out[n][2 * r + j] / sum;
                    if (a.y_is_bf16) {
                        store((bf16 *)a.y + to + j, y);
                    } else {
                        store((float *)a.y + to + j, y);
                    }
                }
            }
        }
        if (a.lse != NULL && q == 0) {
            a.lse[s * a.num_heads + head] = max[r] / LOG2_E + logf(sum);
        }
    }
}

template <int DIM> sky_status launch(sky_ctx *ctx, const arguments &a)
{
    const int bytes = 4 * KEYS * (DIM + SKEW) * (int)sizeof(bf16);
    SKY_TRY(sky_cuda_status(
        cudaFuncSetAttribute(attention_16bit_kernel<DIM>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
        "attention"));
    const dim3 grid(blocks_for(a.num_queries, QUERIES), (unsigned)a.num_heads);
    attention_16bit_kernel<DIM><<<grid, THREADS, bytes, sky_cuda_stream_of(ctx)>>>(a);
    return sky_cuda_launched("attention");
}

} // namespace

bool sky_cuda_attention_16bit_serves(const sky_attention_args *args)
{
    return args->q.dtype == SKY_BF16 && !sky_tensor_present(&args->rel_bias) && args->q.shape[2] % 16 == 0 &&
           args->q.shape[2] <= 128 && are_aligned(args->q.data, args->k.data, args->v.data);
}

sky_status sky_cuda_attention_16bit(sky_ctx *ctx, const sky_attention_args *args)
{
    arguments a = {};
    a.y = args->y.data;
    a.y_is_bf16 = args->y.dtype == SKY_BF16;
    a.q = (const bf16 *)args->q.data;
    a.k = (const bf16 *)args->k.data;
    a.v = (const bf16 *)args->v.data;
    a.lse = sky_tensor_present(&args->lse) ? (float *)args->lse.data : NULL;
    a.num_queries = args->q.shape[0];
    a.num_keys = args->k.shape[0];
    a.num_heads = args->q.shape[1];
    a.head_dim = (int)args->q.shape[2];
    a.softmax_scale = args->softmax_scale;
    return a.head_dim <= 64 ? launch<64>(ctx, a) : launch<128>(ctx, a);
}
