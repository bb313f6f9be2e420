#include "kernels/conv3d.cuh"
#include "kernels/mma.cuh"

namespace
{

/*
 * A convolution of bf16 as a matrix product on the tensor cores: rows are output positions, k runs over taps and, inside, channels, of
 * which there are a multiple of 32. A block computes 128 positions x COLS output channels; steps of 32 channels of one tap arrive three
 * ahead. Every result is summed over k in order, by itself.
 */
enum {
    THREADS = 256,
    ROWS = 128,
    STEP = 32,
    STRIDE = STEP + 8,
    STAGES = 3,
    WARPS_DOWN = 4,
    WARPS_ACROSS = 2,
    ROW_TILES = 2
};

struct arguments {
    bf16 *y;
    const bf16 *x, *weight, *bias;
    int64_t positions;
    int frames, height, width, channels; /* of x */
    int out_height, out_width, outs;     /* of y */
    int kernel_h, kernel_w, taps;
    int stride_t, stride_hw, pad_top, pad_left;
};

__device__ __forceinline__ void mma_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, "
                 "%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], const bf16 *row)
{
    const unsigned at = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}

/* Where in x an output position's window begins. */
struct window {
    int frame, top, left;
    bool there;
};

__device__ window window_of(const arguments &a, int64_t position)
{
    const int in_frame = (int)(position % ((int64_t)a.out_height * a.out_width));
    return {(int)(position / ((int64_t)a.out_height * a.out_width)) * a.stride_t,
            in_frame / a.out_width * a.stride_hw - a.pad_top, in_frame % a.out_width * a.stride_hw - a.pad_left,
            position < a.positions};
}

/* Step `step` to a stage: a chunk of 8 channels, of two positions, and of the weights' rows. */
template <int COLS>
__device__ void load_step(bf16 *stage, const arguments &a, int step, const window (&windows)[2], int first_out)
{
    const int steps_a_tap = a.channels / STEP;
    const int tap = step / steps_a_tap;
    const int channel = step % steps_a_tap * STEP + (int)threadIdx.x % 4 * 8;
    const int kh = tap / a.kernel_w % a.kernel_h;
    const int kw = tap % a.kernel_w;
    const int kt = tap / (a.kernel_w * a.kernel_h);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const window &w = windows[i];
        const int row = w.top + kh;
        const int col = w.left + kw;
        const bool there = w.there && row >= 0 && row < a.height && col >= 0 && col < a.width;
        const int64_t from =
            there ? (((int64_t)(w.frame + kt) * a.height + row) * a.width + col) * a.channels + channel : 0;
        copy_async(stage + ((int)threadIdx.x / 4 + i * 64) * STRIDE + (int)threadIdx.x % 4 * 8, a.x + from, there);
    }
    for (int i = threadIdx.x; i < COLS * 4; i += THREADS) {
        const int out = first_out + i / 4;
        const bool there = out < a.outs;
        const int64_t from =
            there ? ((int64_t)out * a.taps + tap) * a.channels + step % steps_a_tap * STEP + i % 4 * 8 : 0;
        copy_async(stage + (ROWS + i / 4) * STRIDE + i % 4 * 8, a.weight + from, there);
    }
}

template <int COLS> __global__ void __launch_bounds__(THREADS) conv3d_16bit_kernel(arguments a)
{
    extern __shared__ bf16 shared[];
    constexpr int STAGE = (ROWS + COLS) * STRIDE;
    constexpr int TILES = COLS / WARPS_ACROSS / 8;
    const int lane = (int)threadIdx.x % WARP;
    const int warp_row = (int)threadIdx.x / WARP / WARPS_ACROSS * (ROWS / WARPS_DOWN);
    const int warp_col = (int)threadIdx.x / WARP % WARPS_ACROSS * (COLS / WARPS_ACROSS);
    const int64_t first = (int64_t)blockIdx.x * ROWS;
    const int first_out = (int)blockIdx.y * COLS;
    const int steps = a.taps * (a.channels / STEP);
    const window windows[2] = {window_of(a, first + (int)threadIdx.x / 4),
                               window_of(a, first + (int)threadIdx.x / 4 + 64)};
    float sums[ROW_TILES][TILES][4] = {};
    for (int i = 0; i < STAGES - 1; i++) {
        if (i < steps) {
            load_step<COLS>(shared + i * STAGE, a, i, windows, first_out);
        }
        copy_commit();
    }
    for (int step = 0; step < steps; step++) {
        copy_wait<STAGES - 2>();
        __syncthreads(); /* this step is there, and nobody reads the one before any more */
        if (step + STAGES - 1 < steps) {
            load_step<COLS>(shared + (step + STAGES - 1) % STAGES * STAGE, a, step + STAGES - 1, windows, first_out);
        }
        copy_commit();
        const bf16 *stage = shared + step % STAGES * STAGE;
#pragma unroll
        for (int k = 0; k < STEP; k += 16) {
            uint32_t rows[ROW_TILES][4];
#pragma unroll
            for (int m = 0; m < ROW_TILES; m++) {
                load_matrices(rows[m], stage + (warp_row + 16 * m + lane % 16) * STRIDE + k + lane / 16 * 8);
            }
#pragma unroll
            for (int n = 0; n < TILES; n += 2) {
                uint32_t b[4];
                load_matrices(b, stage + (ROWS + warp_col + 8 * n + lane / 16 * 8 + lane % 8) * STRIDE + k +
                                     lane / 8 % 2 * 8);
#pragma unroll
                for (int m = 0; m < ROW_TILES; m++) {
                    mma_bf16(sums[m][n], rows[m], b[0], b[1]);
                    mma_bf16(sums[m][n + 1], rows[m], b[2], b[3]);
                }
            }
        }
    }
#pragma unroll
    for (int m = 0; m < ROW_TILES; m++) {
#pragma unroll
        for (int n = 0; n < TILES; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int64_t position = first + warp_row + 16 * m + lane / 4 + i / 2 * 8;
                const int out = first_out + warp_col + 8 * n + 2 * (lane % 4) + i % 2;
                if (position < a.positions && out < a.outs) {
                    store(a.y + position * a.outs + out, sums[m][n][i] + load(a.bias + out));
                }
            }
        }
    }
}

template <int COLS> sky_status launch(sky_ctx *ctx, const arguments &a)
{
    const int bytes = STAGES * (ROWS + COLS) * STRIDE * (int)sizeof(bf16);
    SKY_TRY(sky_cuda_status(
        cudaFuncSetAttribute(conv3d_16bit_kernel<COLS>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), "conv3d"));
    const dim3 grid(blocks_for(a.positions, ROWS), blocks_for(a.outs, COLS));
    conv3d_16bit_kernel<COLS><<<grid, THREADS, bytes, sky_cuda_stream_of(ctx)>>>(a);
    return sky_cuda_launched("conv3d");
}

} // namespace

bool sky_cuda_conv3d_16bit_serves(const sky_conv3d_args *args)
{
    return args->x.dtype == SKY_BF16 && args->x.shape[3] % STEP == 0 && are_aligned(args->x.data, args->weight.data);
}

sky_status sky_cuda_conv3d_16bit(sky_ctx *ctx, const sky_conv3d_args *args)
{
    const int64_t *x = args->x.shape;
    const int64_t *y = args->y.shape;
    const int64_t *w = args->weight.shape;
    arguments a = {};
    a.y = (bf16 *)args->y.data;
    a.x = (const bf16 *)args->x.data;
    a.weight = (const bf16 *)args->weight.data;
    a.bias = (const bf16 *)args->bias.data;
    a.positions = y[0] * y[1] * y[2];
    a.frames = (int)x[0];
    a.height = (int)x[1];
    a.width = (int)x[2];
    a.channels = (int)x[3];
    a.out_height = (int)y[1];
    a.out_width = (int)y[2];
    a.outs = (int)y[3];
    a.kernel_h = (int)w[2];
    a.kernel_w = (int)w[3];
    a.taps = (int)(w[1] * w[2] * w[3]);
    a.stride_t = args->stride_t;
    a.stride_hw = args->stride_hw;
    a.pad_top = args->pad_top;
    a.pad_left = args->pad_left;
    return a.outs % 96 == 0 ? launch<96>(ctx, a) : launch<64>(ctx, a);
}
