#include "kernels/row_io.cuh"

namespace
{

struct quantize_rows_op {
    rows_out codes;
    rows_in x;
    int64_t cols;
    template <int G, bool ALIGNED> __device__ void run(int64_t row, int lane) const
    {
        codes.write<G, ALIGNED>(row, cols, lane,
                                [&](float(&v)[KERNEL_VEC], int64_t c, int n) { x.quad<ALIGNED>(v, row, c, cols, n); });
    }
};

/* The same for rows of heads that lie in parts. */
template <class T> struct quantize_parts_op {
    rows_out codes;
    const T *x;
    head_parts parts;
    int64_t num_rows, cols, head_dim;
    template <int G, bool ALIGNED> __device__ void run(int64_t row, int lane) const
    {
        codes.write<G, ALIGNED>(row, cols, lane, [&](float(&v)[KERNEL_VEC], int64_t c, int n) {
#pragma unroll
            for (int j = 0; j < KERNEL_VEC; j++) {
                const int64_t at =
                    j < n ? parts.row((c + j) / head_dim, num_rows, head_dim, row) + (c + j) % head_dim : 0;
                v[j] = j < n ? load(x + at) : 0.0F;
            }
        });
    }
};

/* A block for one group of tokens of one head. */
template <class T>
__global__ void quantize_heads_kernel(uint8_t *codes, float *scale, const T *x, const float *mean, int64_t num_tokens,
                                      int64_t num_groups, int64_t head_dim, int64_t tokens_per_group, head_parts parts)
{
    const int64_t head = blockIdx.x % parts.num_heads;
    const int64_t group = blockIdx.x / parts.num_heads;
    const int64_t first = group * tokens_per_group;
    const int64_t tokens = min(num_tokens - first, tokens_per_group);
    const auto value = [&](int64_t i) {
        const int64_t d = i % head_dim;
        const float v = load(x + ((first + i / head_dim) * parts.num_heads + head) * head_dim + d);
        return mean != NULL ? __fsub_rn(v, mean[head * head_dim + d]) : v;
    };
    unsigned bits = 0;
    for (int64_t i = threadIdx.x; i < tokens * head_dim; i += KERNEL_THREADS) {
        bits = max_bits::join(bits, magnitude_bits(value(i)));
    }
    const float amax = amax_of_bits(group_join<max_bits, KERNEL_THREADS>(bits));
    const float factor = factor_of(127.0F, amax);
    for (int64_t i = threadIdx.x; i < tokens * head_dim; i += KERNEL_THREADS) {
        codes[parts.row(head, num_tokens, head_dim, first + i / head_dim) + i % head_dim] =
            i8_code(__fmul_rn(value(i), factor));
    }
    if (threadIdx.x == 0) {
        scale[parts.row(head, num_groups, 1, group)] = __fdiv_rn(amax, 127.0F);
    }
}

enum { CHANNEL_ROWS = 256 }; /* that one thread goes through */

__global__ void begin_range_kernel(float *range, int64_t cols)
{
    const int64_t c = (int64_t)blockIdx.x * KERNEL_THREADS + threadIdx.x;
    if (c < cols) {
        range[c] = -INFINITY;
        range[cols + c] = INFINITY;
    }
}

/* A NaN is a NaN in both, and one of one kind. */
__global__ void end_range_kernel(float *range, int64_t cols)
{
    const int64_t c = (int64_t)blockIdx.x * KERNEL_THREADS + threadIdx.x;
    if (c < cols && isnan(range[c])) {
        range[c] = range[cols + c] = __int_as_float(0x7fc00000);
    }
}

/*
 * The larger (smaller) of two floats in memory, by whole numbers: bits of positive numbers are ordered as they are, of negative ones
 * the other way round. x is no -0. All ones below the sign bit, and all ones, are NaN that no later number replaces.
 */
__device__ void atomic_max(float *to, float x)
{
    if (isnan(x)) {
        atomicMax((int *)to, 0x7fffffff);
    } else if (x >= 0.0F) {
        atomicMax((int *)to, __float_as_int(x));
    } else {
        atomicMin((unsigned *)to, __float_as_uint(x));
    }
}

__device__ void atomic_min(float *to, float x)
{
    if (isnan(x)) {
        atomicMax((unsigned *)to, 0xffffffffU);
    } else if (x >= 0.0F) {
        atomicMin((int *)to, __float_as_int(x));
    } else {
        atomicMax((unsigned *)to, __float_as_uint(x));
    }
}

/* Thread by thread a column; what they find of CHANNEL_ROWS rows is joined in memory, in any order. */
__global__ void channel_sums_kernel(unsigned long long *sums, float *range, rows_in x, int64_t rows, int64_t cols,
                                    int64_t limit, unsigned blocks_a_row)
{
    const int64_t c = (int64_t)(blockIdx.x % blocks_a_row) * KERNEL_THREADS + threadIdx.x;
    const int64_t first = (int64_t)(blockIdx.x / blocks_a_row) * CHANNEL_ROWS;
    if (c < cols) {
        int64_t sum = 0;
        float most = -INFINITY;
        float least = INFINITY;
        for (int64_t s = first; s < min(rows, first + CHANNEL_ROWS); s++) {
            const float v = x.at(s, c, cols) + 0.0F; /* no -0 */
            sum += fixed_of(v, limit);
            most = isnan(v) || v > most ? v : most; /* a NaN stays: nothing is larger */
            least = isnan(v) || v < least ? v : least;
        }
        atomicAdd(&sums[c], (unsigned long long)sum);
        if (range != NULL) {
            atomic_max(&range[c], most);
            atomic_min(&range[cols + c], least);
        }
    }
}

__global__ void sums_to_mean_kernel(float *mean, const int64_t *sums, int64_t cols, int64_t parts, double num_tokens)
{
    const int64_t c = (int64_t)blockIdx.x * KERNEL_THREADS + threadIdx.x;
    if (c < cols) {
        __int128 sum = 0;
        for (int64_t p = 0; p < parts; p++) {
            sum += sums[p * cols + c];
        }
        mean[c] = (float)((double)sum / (0x1p32 * num_tokens));
    }
}

enum { TILE = SKY_V_TILE_TOKENS, TILE_CHANNELS = 32 };

/* The largest |x - mean| of channel c, from all parts' extremes. */
__device__ float centred_amax(const float *range, int64_t c, int64_t cols, int64_t num_ranges, float mean)
{
    float most = -INFINITY;
    float least = INFINITY;
    for (int64_t p = 0; p < num_ranges; p++) {
        const float part_most = range[2 * p * cols + c];
        const float part_least = range[(2 * p + 1) * cols + c];
        if (isnan(part_most) || isnan(part_least)) {
            return __int_as_float(0x7fc00000);
        }
        most = fmaxf(most, part_most);
        least = fminf(least, part_least);
    }
    if (most < least) {
        return 1e-12F; /* no rows */
    }
    return amax_of_bits(max_bits::join(magnitude_bits(__fsub_rn(most, mean)), magnitude_bits(__fsub_rn(least, mean))));
}

/* A block for one tile of TILE tokens and TILE_CHANNELS channels, turned around in shared memory. */
__global__ void quantize_channels_kernel(uint8_t *codes, float *scale, rows_in x, const float *mean, const float *range,
                                         int64_t rows, int64_t cols, int64_t num_ranges, int64_t num_tiles,
                                         int64_t head_dim, head_parts parts, unsigned blocks_a_tile)
{
    __shared__ uint8_t turned[TILE_CHANNELS][TILE + 4];
    const int64_t tile = blockIdx.x / blocks_a_tile;
    const int64_t c = (int64_t)(blockIdx.x % blocks_a_tile) * TILE_CHANNELS + threadIdx.x % TILE_CHANNELS;
    if (c < cols) {
        const float m = mean[c];
        const float a = centred_amax(range, c, cols, num_ranges, m);
        const float factor = factor_of(448.0F, a);
        for (int key = threadIdx.x / TILE_CHANNELS; key < TILE; key += KERNEL_THREADS / TILE_CHANNELS) {
            const int64_t s = tile * TILE + key;
            turned[threadIdx.x % TILE_CHANNELS][tile_position(key)] =
                s < rows ? e4m3_code(__fmul_rn(__fsub_rn(x.at(s, c, cols), m), factor)) : 0;
        }
        if (tile == 0 && threadIdx.x < TILE_CHANNELS) {
            scale[c] = __fdiv_rn(a, 448.0F);
        }
    }
    __syncthreads();
    if (tile >= num_tiles) {
        return; /* there is no tile: only scales were wanted */
    }
    for (int i = threadIdx.x; i < TILE_CHANNELS * TILE; i += KERNEL_THREADS) {
        const int64_t channel = (int64_t)(blockIdx.x % blocks_a_tile) * TILE_CHANNELS + i / TILE;
        if (channel < cols) {
            const int64_t to =
                parts.row(channel / head_dim, num_tiles, head_dim * TILE, tile) + channel % head_dim * TILE;
            codes[to + i % TILE] = turned[i / TILE][i % TILE];
        }
    }
}

} // namespace

extern "C" sky_status sky_cuda_quantize_rows(sky_ctx *ctx, const sky_quantize_rows_args *args, void *)
{
    if (sky_num_parts(args->num_parts) > 1) {
        return with_float(args->x.dtype, [&](auto t) {
            using T = decltype(t);
            const quantize_parts_op<T> op = {rows_out_of(&args->codes, &args->scale),
                                             (const T *)args->x.data,
                                             parts_of(args->num_heads, args->num_parts),
                                             args->x.shape[0],
                                             args->x.shape[1],
                                             args->x.shape[1] / args->num_heads};
            return each_row("quantize_rows", ctx, op, op.num_rows, op.cols, is_aligned(op.codes.y));
        });
    }
    const quantize_rows_op op = {rows_out_of(&args->codes, &args->scale), rows_in_of(&args->x), args->x.shape[1]};
    return each_row("quantize_rows", ctx, op, args->x.shape[0], op.cols, are_aligned(op.codes.y, op.x.x));
}

extern "C" sky_status sky_cuda_quantize_heads(sky_ctx *ctx, const sky_quantize_heads_args *args, void *)
{
    return with_float(args->x.dtype, [&](auto t) {
        using T = decltype(t);
        const int64_t groups = args->scale.shape[0];
        const head_parts parts = parts_of(args->x.shape[1], args->num_parts);
        quantize_heads_kernel<T><<<(unsigned)(groups * parts.num_heads), KERNEL_THREADS, 0, sky_cuda_stream_of(ctx)>>>(
            (uint8_t *)args->codes.data, (float *)args->scale.data, (const T *)args->x.data,
            sky_tensor_present(&args->mean) ? (const float *)args->mean.data : NULL, args->x.shape[0], groups,
            args->x.shape[2], args->tokens_per_group, parts);
        return sky_cuda_launched("quantize_heads");
    });
}

extern "C" sky_status sky_cuda_channel_sums(sky_ctx *ctx, const sky_channel_sums_args *args, void *)
{
    const cudaStream_t stream = sky_cuda_stream_of(ctx);
    const int64_t rows = args->x.shape[0];
    const int64_t cols = args->x.shape[1];
    const unsigned a_row = blocks_for(cols, KERNEL_THREADS);
    float *range = sky_tensor_present(&args->range) ? (float *)args->range.data : NULL;
    SKY_TRY(ctx->backend->zero(ctx->device, args->sums.data, sky_tensor_bytes(&args->sums)));
    if (range != NULL) {
        begin_range_kernel<<<a_row, KERNEL_THREADS, 0, stream>>>(range, cols);
        SKY_TRY(sky_cuda_launched("channel_sums"));
    }
    if (rows == 0) {
        return SKY_OK;
    }
    channel_sums_kernel<<<a_row * blocks_for(rows, CHANNEL_ROWS), KERNEL_THREADS, 0, stream>>>(
        (unsigned long long *)args->sums.data, range, rows_in_of(&args->x, &args->x_sums), rows, cols,
        (INT64_C(1) << 62) / args->num_tokens, a_row);
    SKY_TRY(sky_cuda_launched("channel_sums"));
    if (range != NULL) {
        end_range_kernel<<<a_row, KERNEL_THREADS, 0, stream>>>(range, cols);
    }
    return sky_cuda_launched("channel_sums");
}

extern "C" sky_status sky_cuda_sums_to_mean(sky_ctx *ctx, const sky_sums_to_mean_args *args, void *)
{
    const int64_t cols = args->mean.shape[0];
    sums_to_mean_kernel<<<blocks_for(cols, KERNEL_THREADS), KERNEL_THREADS, 0, sky_cuda_stream_of(ctx)>>>(
        (float *)args->mean.data, (const int64_t *)args->sums.data, cols, sky_tensor_len(&args->sums) / cols,
        (double)args->num_tokens);
    return sky_cuda_launched("sums_to_mean");
}

extern "C" sky_status sky_cuda_quantize_channels(sky_ctx *ctx, const sky_quantize_channels_args *args, void *)
{
    const int64_t rows = args->x.shape[0];
    const int64_t cols = args->x.shape[1];
    const unsigned a_tile = blocks_for(cols, TILE_CHANNELS);
    const int64_t tiles = args->codes.shape[0];
    quantize_channels_kernel<<<(unsigned)(tiles > 0 ? tiles : 1) * a_tile, KERNEL_THREADS, 0,
                               sky_cuda_stream_of(ctx)>>>(
        (uint8_t *)args->codes.data, (float *)args->scale.data, rows_in_of(&args->x, &args->x_sums),
        (const float *)args->mean.data, (const float *)args->range.data, rows, cols,
        sky_tensor_len(&args->range) / (2 * cols), tiles, args->codes.shape[2],
        parts_of(args->codes.shape[1], args->num_parts), a_tile);
    return sky_cuda_launched("quantize_channels");
}
