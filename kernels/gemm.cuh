/*
 * kernels/gemm.cuh - the plain matrix product: any types, any shapes, any alignment (private to kernels)
 *
 *     out(m, n, sum_k rows(m, k) * weight[n, k])      f32 from f32, bf16 and e4m3; exact in i32 from i8
 *
 * A block of 256 threads computes TILE x TILE results, a thread 4 x 4 of them, from shared memory, k in order: a result depends on
 * its row, its column and nothing else. What the tensor cores can do goes elsewhere (matmul.cu); this serves f32 and whatever is cut
 * so that they cannot take it.
 */
#ifndef SKY_KERNELS_GEMM_CUH
#define SKY_KERNELS_GEMM_CUH

#include "kernels/launch.cuh"

enum { GEMM_TILE = 64, GEMM_K = 16, GEMM_SIDE = 4 };

/* What products are summed in. */
template <class TW> struct gemm_sum {
    typedef float type;
};
template <> struct gemm_sum<int8_t> {
    typedef int type;
};

/* i8 of which so many are summed that i32 could overflow. */
struct long_i8 {
    int8_t code;
};
template <> struct gemm_sum<long_i8> {
    typedef long long type;
};

static __device__ __forceinline__ float load(const long_i8 *p)
{
    return (float)p->code;
}

static __device__ __forceinline__ void add_product(float *sum, float a, float b)
{
    *sum = fmaf(a, b, *sum);
}

static __device__ __forceinline__ void add_product(int *sum, int a, int b)
{
    *sum += a * b;
}

static __device__ __forceinline__ void add_product(long long *sum, long long a, long long b)
{
    *sum += a * b;
}

/* Rows of a matrix [M, K]; a convolution has rows of its own (conv3d.cu). begin() is called once for each row that a thread reads. */
template <class TX> struct matrix_rows {
    const TX *x;
    int64_t k;
    struct cursor {
        const TX *row;
    };
    __device__ cursor begin(int64_t m) const
    {
        return {x + m * k};
    }
    __device__ float at(const cursor &c, int64_t i) const
    {
        return load(c.row + i);
    }
};

/* blockIdx.x runs over rows, so that M may be large. */
template <class Rows, class TW, class Out>
__global__ void gemm_kernel(Rows rows, const TW *weight, Out out, int64_t m_len, int64_t n_len, int64_t k_len)
{
    typedef typename gemm_sum<TW>::type Sum;
    constexpr int LOADS = GEMM_TILE * GEMM_K / KERNEL_THREADS;
    __shared__ Sum a[GEMM_K][GEMM_TILE + 4];
    __shared__ Sum b[GEMM_K][GEMM_TILE + 4];
    const int64_t first_m = (int64_t)blockIdx.x * GEMM_TILE;
    const int64_t first_n = (int64_t)blockIdx.y * GEMM_TILE;
    const int column = (int)threadIdx.x % (GEMM_TILE / GEMM_SIDE) * GEMM_SIDE;
    const int row = (int)threadIdx.x / (GEMM_TILE / GEMM_SIDE) * GEMM_SIDE;
    const int load_k = (int)threadIdx.x % GEMM_K;
    const int load_row = (int)threadIdx.x / GEMM_K;
    typename Rows::cursor cursors[LOADS];
#pragma unroll
    for (int i = 0; i < LOADS; i++) {
        const int64_t m = first_m + load_row + i * (KERNEL_THREADS / GEMM_K);
        cursors[i] = rows.begin(m < m_len ? m : 0);
    }
    Sum sums[GEMM_SIDE][GEMM_SIDE] = {};
    for (int64_t k = 0; k < k_len; k += GEMM_K) {
        const bool inside = k + load_k < k_len;
#pragma unroll
        for (int i = 0; i < LOADS; i++) {
            const int r = load_row + i * (KERNEL_THREADS / GEMM_K);
            a[load_k][r] = inside && first_m + r < m_len ? (Sum)rows.at(cursors[i], k + load_k) : (Sum)0;
            b[load_k][r] =
                inside && first_n + r < n_len ? (Sum)load(weight + (first_n + r) * k_len + k + load_k) : (Sum)0;
        }
        __syncthreads();
#pragma unroll
        for (int j = 0; j < GEMM_K; j++) {
#pragma unroll
            for (int r = 0; r < GEMM_SIDE; r++) {
#pragma unroll
                for (int c = 0; c < GEMM_SIDE; c++) {
                    add_product(&sums[r][c], a[j][row + r], b[j][column + c]);
                }
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int r = 0; r < GEMM_SIDE; r++) {
#pragma unroll
        for (int c = 0; c < GEMM_SIDE; c++) {
            if (first_m + row + r < m_len && first_n + column + c < n_len) {
                out(first_m + row + r, first_n + column + c, sums[r][c]);
            }
        }
    }
}

template <class Rows, class TW, class Out>
static sky_status gemm(const char *name, const sky_ctx *ctx, const Rows &rows, const TW *weight, const Out &out,
                       int64_t m, int64_t n, int64_t k)
{
    const dim3 grid(blocks_for(m, GEMM_TILE), blocks_for(n, GEMM_TILE));
    gemm_kernel<<<grid, KERNEL_THREADS, 0, sky_cuda_stream_of(ctx)>>>(rows, weight, out, m, n, k);
    return sky_cuda_launched(name);
}

#endif
