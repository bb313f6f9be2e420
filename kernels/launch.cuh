/*
 * kernels/launch.cuh - what every .cu file begins with (private to kernels)
 *
 * Numbers are f32 inside a kernel, whatever memory holds: load() widens, store() rounds to nearest even. Kernels take V elements
 * a thread, contiguous: V is KERNEL_VEC where every address is a multiple of KERNEL_ALIGNMENT bytes and V divides what lies in a row,
 * else 1.
 */
#ifndef SKY_KERNELS_LAUNCH_CUH
#define SKY_KERNELS_LAUNCH_CUH

#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_fp8.h>
#include <cuda_runtime.h>
#include <stdint.h>

#define _Noreturn [[noreturn]]
extern "C" {
#include "ops/backend.h"
}
#include "kernels/cuda_ops.h"
#include "kernels/device.h"

typedef __nv_bfloat16 bf16;

enum { KERNEL_THREADS = 256, KERNEL_VEC = 4, KERNEL_ALIGNMENT = 16, WARP = 32 };

/* ---- elements ---- */

static __device__ __forceinline__ float load(const float *p)
{
    return *p;
}

static __device__ __forceinline__ float load(const bf16 *p)
{
    return __bfloat162float(*p);
}

static __device__ __forceinline__ float load(const int8_t *p)
{
    return (float)*p;
}

static __device__ __forceinline__ float e4m3_value(uint8_t code)
{
    const __half_raw h = __nv_cvt_fp8_to_halfraw(code, __NV_E4M3); /* exact */
    return __half2float(__half(h));
}

static __device__ __forceinline__ uint8_t e4m3_code(float x)
{
    return (uint8_t)__nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E4M3);
}

/* An e4m3 code as memory holds it: a type of its own, so that load() knows it from u8. */
struct e4m3 {
    uint8_t code;
};

static __device__ __forceinline__ float load(const e4m3 *p)
{
    return e4m3_value(p->code);
}

static __device__ __forceinline__ void store(float *p, float x)
{
    *p = x;
}

static __device__ __forceinline__ void store(bf16 *p, float x)
{
    *p = __float2bfloat16_rn(x);
}

static __device__ __forceinline__ float round_bf16(float x)
{
    return __bfloat162float(__float2bfloat16_rn(x));
}

/* The bytes of V elements. */
template <class T, int V> struct alignas(sizeof(T) * V) pack {
    T e[V];
};

template <int V, class T> static __device__ __forceinline__ void load_vec(float (&x)[V], const T *p)
{
    const pack<T, V> in = *(const pack<T, V> *)p;
#pragma unroll
    for (int i = 0; i < V; i++) {
        x[i] = load(&in.e[i]);
    }
}

template <int V, class T> static __device__ __forceinline__ void store_vec(T *p, const float (&x)[V])
{
    pack<T, V> out;
#pragma unroll
    for (int i = 0; i < V; i++) {
        store(&out.e[i], x[i]);
    }
    *(pack<T, V> *)p = out;
}

/* ---- sums over a warp (G = WARP) or a block of KERNEL_THREADS (G = KERNEL_THREADS); every thread gets the result ---- */

struct add_f32 {
    static __device__ float zero()
    {
        return 0.0F;
    }
    static __device__ float join(float a, float b)
    {
        return a + b;
    }
};

/* The larger of two magnitudes as bit patterns: NaN is larger than anything. */
struct max_bits {
    static __device__ unsigned zero()
    {
        return 0;
    }
    static __device__ unsigned join(unsigned a, unsigned b)
    {
        return a > b ? a : b;
    }
};

template <class Join, class T> static __device__ __forceinline__ T warp_join(T x)
{
#pragma unroll
    for (int offset = WARP / 2; offset > 0; offset /= 2) {
        x = Join::join(x, __shfl_xor_sync(0xffffffffU, x, offset));
    }
    return x;
}

template <class Join, int G, class T> static __device__ __forceinline__ T group_join(T x)
{
    x = warp_join<Join>(x);
    if (G > WARP) {
        __shared__ T part[KERNEL_THREADS / WARP];
        __syncthreads(); /* part may still be read from the call before */
        if (threadIdx.x % WARP == 0) {
            part[threadIdx.x / WARP] = x;
        }
        __syncthreads();
        x = part[0];
#pragma unroll
        for (int i = 1; i < KERNEL_THREADS / WARP; i++) {
            x = Join::join(x, part[i]);
        }
    }
    return x;
}

static __device__ __forceinline__ unsigned magnitude_bits(float x)
{
    return __float_as_uint(x) & 0x7fffffffU;
}

/* ---- launching ---- */

static inline bool is_aligned(const void *p)
{
    return (uintptr_t)p % KERNEL_ALIGNMENT == 0;
}

template <class... P> static inline bool are_aligned(const P *...p)
{
    return (is_aligned(p) && ...);
}

static inline unsigned blocks_for(int64_t count, int64_t per_block)
{
    return (unsigned)((count + per_block - 1) / per_block);
}

/* Calls f(T{}) with the type that a tensor's elements have in a kernel. */
template <class F> static inline sky_status with_float(sky_dtype dtype, F f)
{
    return dtype == SKY_F32 ? f(float{}) : f(bf16{});
}

/* ---- one thread for V elements of n, in a row ---- */

template <int V, class Op> static __global__ void map_kernel(Op op, int64_t n)
{
    const int64_t i = ((int64_t)blockIdx.x * KERNEL_THREADS + threadIdx.x) * V;
    if (i < n) {
        op.template run<V>(i);
    }
}

template <class Op> static sky_status map(const char *name, const sky_ctx *ctx, const Op &op, int64_t n, bool aligned)
{
    const cudaStream_t stream = sky_cuda_stream_of(ctx);
    if (aligned && n % KERNEL_VEC == 0) {
        map_kernel<KERNEL_VEC><<<blocks_for(n, KERNEL_THREADS * KERNEL_VEC), KERNEL_THREADS, 0, stream>>>(op, n);
    } else {
        map_kernel<1><<<blocks_for(n, KERNEL_THREADS), KERNEL_THREADS, 0, stream>>>(op, n);
    }
    return sky_cuda_launched(name);
}

/* ---- one block for KERNEL_THREADS * V columns of one row; blocks of a row lie side by side ---- */

template <int V, class Op> static __global__ void map_rows_kernel(Op op, int64_t cols, unsigned blocks_a_row)
{
    const int64_t row = blockIdx.x / blocks_a_row;
    const int64_t col = ((int64_t)(blockIdx.x % blocks_a_row) * KERNEL_THREADS + threadIdx.x) * V;
    if (col < cols) {
        op.template run<V>(row, col);
    }
}

template <class Op>
static sky_status map_rows(const char *name, const sky_ctx *ctx, const Op &op, int64_t rows, int64_t cols, bool aligned)
{
    const cudaStream_t stream = sky_cuda_stream_of(ctx);
    if (aligned && cols % KERNEL_VEC == 0) {
        const unsigned a_row = blocks_for(cols, KERNEL_THREADS * KERNEL_VEC);
        map_rows_kernel<KERNEL_VEC><<<(unsigned)rows * a_row, KERNEL_THREADS, 0, stream>>>(op, cols, a_row);
    } else {
        const unsigned a_row = blocks_for(cols, KERNEL_THREADS);
        map_rows_kernel<1><<<(unsigned)rows * a_row, KERNEL_THREADS, 0, stream>>>(op, cols, a_row);
    }
    return sky_cuda_launched(name);
}

/*
 * ---- a warp or a block for each row: op.run<G, ALIGNED>(row, the thread's number in its group) ----
 *
 * A thread has the same four columns of every G * 4, whether or not it can take them at once, so that a row's sum does not depend on
 * where rows lie in memory.
 */

template <int G, bool ALIGNED, class Op> static __global__ void each_row_kernel(Op op, int64_t rows)
{
    const int64_t row = ((int64_t)blockIdx.x * KERNEL_THREADS + threadIdx.x) / G;
    if (row < rows) { /* alike in all threads of a group */
        op.template run<G, ALIGNED>(row, (int)threadIdx.x % G);
    }
}

template <class Op>
static sky_status each_row(const char *name, const sky_ctx *ctx, const Op &op, int64_t rows, int64_t cols, bool aligned)
{
    const cudaStream_t stream = sky_cuda_stream_of(ctx);
    const bool by_warp = cols <= 512;
    const bool at_once = aligned && cols % KERNEL_VEC == 0;
    const unsigned blocks = blocks_for(rows * (by_warp ? WARP : KERNEL_THREADS), KERNEL_THREADS);
    if (at_once && by_warp) {
        each_row_kernel<WARP, true><<<blocks, KERNEL_THREADS, 0, stream>>>(op, rows);
    } else if (at_once) {
        each_row_kernel<KERNEL_THREADS, true><<<blocks, KERNEL_THREADS, 0, stream>>>(op, rows);
    } else if (by_warp) {
        each_row_kernel<WARP, false><<<blocks, KERNEL_THREADS, 0, stream>>>(op, rows);
    } else {
        each_row_kernel<KERNEL_THREADS, false><<<blocks, KERNEL_THREADS, 0, stream>>>(op, rows);
    }
    return sky_cuda_launched(name);
}

/* f(first column, how many) for what a thread has of a row. */
template <int G, bool ALIGNED, class F> static __device__ __forceinline__ void for_quads(int lane, int64_t cols, F f)
{
    for (int64_t c = lane * KERNEL_VEC; c < cols; c += G * KERNEL_VEC) {
        f(c, ALIGNED || cols - c >= KERNEL_VEC ? (int)KERNEL_VEC : (int)(cols - c));
    }
}

/* Elements p[0, n) of four, the others 0. */
template <bool ALIGNED, class T>
static __device__ __forceinline__ void load_quad(float (&x)[KERNEL_VEC], const T *p, int n)
{
    if (ALIGNED) {
        load_vec(x, p);
    } else {
#pragma unroll
        for (int j = 0; j < KERNEL_VEC; j++) {
            x[j] = j < n ? load(p + j) : 0.0F;
        }
    }
}

template <bool ALIGNED, class T>
static __device__ __forceinline__ void store_quad(T *p, const float (&x)[KERNEL_VEC], int n)
{
    if (ALIGNED) {
        store_vec(p, x);
    } else {
#pragma unroll
        for (int j = 0; j < KERNEL_VEC; j++) {
            if (j < n) {
                store(p + j, x[j]);
            }
        }
    }
}

#endif
