#include "kernels/wgmma.cuh"

namespace
{

/*
 * A block has 128 queries of one head, a warp 16 of them, and goes over keys in steps of 256. Keys and values of a step have one buffer
 * each: the next keys arrive beside softmax and values' product, the next values beside the keys'. Scores never leave their registers:
 * rounded they are the left operand of the second product, in the order that quantize_channels gave the values.
 */
enum {
    WARPS = 8,
    THREADS = WARPS * WARP,
    WARP_QUERIES = 16,
    QUERIES = WARPS * WARP_QUERIES,
    STEP = SKY_P_STEP_KEYS,
    TILE = SKY_V_TILE_TOKENS,
    MAX_HEAD_DIM = 128,
    SKEW_BYTES = 16,                 /* rows in shared memory begin in different banks */
    V_ROW_BYTES = STEP + SKEW_BYTES, /* a channel's codes of a step */
    SCORE_TILES = STEP / 8,          /* products of 8 keys */
    ONES = 0x38383838,               /* four times e4m3's 1 */
};

struct arguments {
    void *y;
    bool y_is_bf16;
    const int8_t *q, *k;
    const uint8_t *v;
    const float *q_scale, *k_scale, *v_scale;
    const float *v_mean; /* or NULL */
    float *lse;          /* or NULL */
    int64_t num_queries, num_keys, num_heads;
    int head_dim;
    float softmax_scale;
    bool aligned; /* to 16 bytes, rows too */
};

/* Bytes [0, 16) of `from` as far as they are wanted; the rest 0. */
__device__ void copy_16(uint8_t *to, const uint8_t *from, int wanted, bool aligned)
{
    if (aligned) {
        copy_async(to, from, wanted > 0);
        return;
    }
    for (int i = 0; i < 16; i++) {
        to[i] = i < wanted ? from[i] : 0;
    }
}

/* Keys [first, first + STEP) of a head to rows of DIM + SKEW_BYTES. */
template <int DIM> __device__ void load_keys(uint8_t *to, const arguments &a, int64_t first, int64_t head)
{
    for (int i = threadIdx.x; i < STEP * (DIM / 16); i += THREADS) {
        const int row = i / (DIM / 16);
        const int d = i % (DIM / 16) * 16;
        const bool there = first + row < a.num_keys;
        const uint8_t *from =
            (const uint8_t *)a.k + (there ? ((first + row) * a.num_heads + head) * a.head_dim + d : 0);
        copy_16(to + row * (DIM + SKEW_BYTES) + d, from, there ? a.head_dim - d : 0, a.aligned);
    }
}

/* The values of the same keys, a row of V_ROW_BYTES for each channel. */
template <int DIM> __device__ void load_values(uint8_t *to, const arguments &a, int64_t first, int64_t head)
{
    const int64_t tiles = (a.num_keys + TILE - 1) / TILE;
    for (int i = threadIdx.x; i < DIM * (STEP / 16); i += THREADS) {
        const int d = i / (STEP / 16);
        const int key = i % (STEP / 16) * 16;
        const int64_t tile = (first + key) / TILE;
        const bool there = tile < tiles && d < a.head_dim;
        const uint8_t *from = a.v + (there ? ((tile * a.num_heads + head) * a.head_dim + d) * TILE + key % TILE : 0);
        copy_16(to + d * V_ROW_BYTES + key, from, there ? 16 : 0, a.aligned);
    }
}

/* Four codes of a query from dimension d on; 0 where there are none. */
__device__ uint32_t query_codes(const arguments &a, int64_t row, int64_t head, int d)
{
    uint32_t codes = 0;
    if (row < a.num_queries) {
        const uint8_t *from = (const uint8_t *)a.q + (row * a.num_heads + head) * a.head_dim;
        for (int i = 0; i < 4; i++) {
            codes |= d + i < a.head_dim ? (uint32_t)from[d + i] << 8 * i : 0;
        }
    }
    return codes;
}

/* The left operand of the keys' product: rows `row` and row + 8. */
template <int K_STEPS>
__device__ __forceinline__ void load_query(uint32_t (&query)[K_STEPS][4], const arguments &a, int64_t row, int64_t head,
                                           int q)
{
#pragma unroll
    for (int i = 0; i < K_STEPS; i++) {
        query[i][0] = query_codes(a, row, head, 32 * i + 4 * q);
        query[i][1] = query_codes(a, row + 8, head, 32 * i + 4 * q);
        query[i][2] = query_codes(a, row, head, 32 * i + 16 + 4 * q);
        query[i][3] = query_codes(a, row + 8, head, 32 * i + 16 + 4 * q);
    }
}

__device__ __forceinline__ uint32_t word(const uint8_t *p)
{
    return *(const uint32_t *)p;
}

/* Of the four lanes that share a row. */
__device__ __forceinline__ float row_max(float x)
{
    x = fmaxf(x, __shfl_xor_sync(0xffffffffU, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffffU, x, 2));
}

__device__ __forceinline__ uint32_t two_codes(float x, float y)
{
    return __nv_cvt_float2_to_fp8x2(make_float2(x, y), __NV_SATFINITE, __NV_E4M3);
}

template <int DIM> __global__ void __launch_bounds__(THREADS, 1) attention_8bit_kernel(arguments a)
{
    extern __shared__ uint8_t memory[];
    constexpr int K_ROW_BYTES = DIM + SKEW_BYTES;
    constexpr int K_STEPS = DIM / 32;
    constexpr int OUT_TILES = DIM / 8;
    uint8_t *keys = memory;
    uint8_t *values = keys + STEP * K_ROW_BYTES;
    const int64_t head = blockIdx.y;
    const int g = (int)threadIdx.x % WARP / 4;
    const int q = (int)threadIdx.x % 4;
    const int64_t row = (int64_t)blockIdx.x * QUERIES + (int)threadIdx.x / WARP * WARP_QUERIES + g; /* and row + 8 */
    load_keys<DIM>(keys, a, 0, head);
    copy_commit();
    load_values<DIM>(values, a, 0, head);
    copy_commit();

    uint32_t query[K_STEPS][4];
    load_query(query, a, row, head, q);
    /* A warp's queries are of one group. */
    const float q_scale = row < a.num_queries ? a.q_scale[row / SKY_Q_GROUP_TOKENS * a.num_heads + head] : 0.0F;
    float max[2] = {-INFINITY, -INFINITY};
    float denominator[2] = {0.0F, 0.0F};
    float out[OUT_TILES][4] = {};

    for (int64_t first = 0; first < a.num_keys; first += STEP) {
        copy_wait<1>(); /* the keys; the values behind them may be on their way */
        __syncthreads();
        int scores[SCORE_TILES][4] = {};
#pragma unroll
        for (int t = 0; t < SCORE_TILES; t++) {
            const uint8_t *key = keys + (8 * t + g) * K_ROW_BYTES + 4 * q;
#pragma unroll
            for (int i = 0; i < K_STEPS; i++) {
                mma_s8(scores[t], query[i], word(key + 32 * i), word(key + 32 * i + 16));
            }
        }
        __syncthreads();
        if (first + STEP < a.num_keys) {
            load_keys<DIM>(keys, a, first + STEP, head);
        }
        copy_commit();

        float(&z)[SCORE_TILES][4] = (float(&)[SCORE_TILES][4])scores;
        float new_max[2] = {max[0], max[1]};
#pragma unroll
        for (int t = 0; t < SCORE_TILES; t++) {
            const int64_t group = (first + 8 * t) / SKY_K_GROUP_TOKENS;
            const float scale =
                first + 8 * t < a.num_keys ? __fmul_rn(q_scale, __ldg(a.k_scale + group * a.num_heads + head)) : 0.0F;
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float score = __fmul_rn(__fmul_rn((float)scores[t][i], scale), a.softmax_scale);
                z[t][i] = first + 8 * t + 2 * q + i % 2 < a.num_keys ? score : -INFINITY;
                new_max[i / 2] = fmaxf(new_max[i / 2], z[t][i]);
            }
        }
        float shrink[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            new_max[i] = row_max(new_max[i]);
            shrink[i] = expf(max[i] - new_max[i]);
            max[i] = new_max[i];
        }
        constexpr float LOG2_E = 1.4426950408889634F;
        uint32_t weights[SCORE_TILES / 4][4];
#pragma unroll
        for (int t = 0; t < SCORE_TILES; t++) {
            float p[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                p[i] = 448.0F * exp2_approx((z[t][i] - max[i / 2]) * LOG2_E);
            }
            const int shift = t % 2 * 16;
            uint32_t &of_row = weights[t / 4][t % 4 / 2 * 2];
            uint32_t &of_row_8 = weights[t / 4][t % 4 / 2 * 2 + 1];
            of_row = (shift == 0 ? 0 : of_row) | two_codes(p[0], p[1]) << shift;
            of_row_8 = (shift == 0 ? 0 : of_row_8) | two_codes(p[2], p[3]) << shift;
        }

        copy_wait<1>(); /* the values; the next keys may be on their way */
        __syncthreads();
        float sums[4] = {};
#pragma unroll
        for (int j = 0; j < SCORE_TILES / 4; j++) {
            mma_e4m3(sums, weights[j], ONES, ONES);
        }
#pragma unroll
        for (int n = 0; n < OUT_TILES; n++) {
            float step[4] = {};
            const uint8_t *value = values + (8 * n + g) * V_ROW_BYTES + 4 * q;
#pragma unroll
            for (int j = 0; j < SCORE_TILES / 4; j++) {
                mma_e4m3(step, weights[j], word(value + 32 * j), word(value + 32 * j + 16));
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
                out[n][i] = fmaf(shrink[i / 2], out[n][i], step[i]);
            }
        }
        denominator[0] = fmaf(shrink[0], denominator[0], sums[0]);
        denominator[1] = fmaf(shrink[1], denominator[1], sums[2]);
        __syncthreads();
        if (first + STEP < a.num_keys) {
            load_values<DIM>(values, a, first + STEP, head);
        }
        copy_commit();
    }

#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int64_t s = row + 8 * i;
        if (s >= a.num_queries) {
            continue;
        }
#pragma unroll
        for (int n = 0; n < OUT_TILES; n++) {
#pragma unroll
            for (int j = 0; j < 2; j++) {
                const int d = 8 * n + 2 * q + j;
                if (d < a.head_dim) {
                    float value = out[n][2 * i + j] / denominator[i] * a.v_scale[head * a.head_dim + d];
                    if (a.v_mean != NULL) {
                        value += a.v_mean[head * a.head_dim + d];
                    }
                    const int64_t at = (s * a.num_heads + head) * a.head_dim + d;
                    if (a.y_is_bf16) {
                        store((bf16 *)a.y + at, value);
                    } else {
                        store((float *)a.y + at, value);
                    }
                }
            }
        }
        if (a.lse != NULL && q == 0) {
            a.lse[s * a.num_heads + head] = max[i] + logf(denominator[i] / 448.0F);
        }
    }
}

/*
 * The same on Hopper, where a warpgroup multiplies operands in shared memory, for head dim 128. Two warpgroups of 64 queries; steps of
 * keys and values arrive one ahead, in two stages. Eight more rows behind the values' channels are ones: their product sums the
 * weights. Scores are kept in units of log 2.
 */
enum {
    HOPPER_DIM = 128,
    HOPPER_THREADS = 256,
    V_TILE_BYTES = (HOPPER_DIM + 8) * TILE,
    STAGE_BYTES = STEP * HOPPER_DIM + STEP / TILE * V_TILE_BYTES,
    HOPPER_BYTES = 2 * STAGE_BYTES + 1024, /* to begin at a multiple of 1,024 */
};

/* Where chunk c of 16 bytes of row r lies. */
[[maybe_unused]] __device__ __forceinline__ int swizzled(int r, int c)
{
    return r * 128 + ((c ^ (r & 7)) * 16);
}

/* For other cards the kernel below is empty. */
[[maybe_unused]] __device__ __forceinline__ void load_stage(uint8_t *stage, const arguments &a, int64_t first,
                                                            int64_t head)
{
    const int64_t row_bytes = a.num_heads * HOPPER_DIM;
    const int64_t tiles = (a.num_keys + TILE - 1) / TILE;
    const uint8_t *k = (const uint8_t *)a.k + (first * a.num_heads + head) * HOPPER_DIM;
    for (int i = threadIdx.x; i < STEP * 8; i += HOPPER_THREADS) {
        const int row = i / 8;
        const int chunk = i % 8;
        const bool there = first + row < a.num_keys;
        copy_async(stage + swizzled(row, chunk), there ? k + row * row_bytes + chunk * 16 : a.v, there);
    }
    uint8_t *values = stage + STEP * HOPPER_DIM;
    for (int i = threadIdx.x; i < STEP / TILE * HOPPER_DIM * 8; i += HOPPER_THREADS) {
        const int tile = i / (HOPPER_DIM * 8);
        const int channel = i / 8 % HOPPER_DIM;
        const int chunk = i % 8;
        const int64_t from = first / TILE + tile;
        const bool there = from < tiles;
        copy_async(values + tile * V_TILE_BYTES + swizzled(channel, chunk),
                   a.v + (there ? ((from * a.num_heads + head) * HOPPER_DIM + channel) * TILE + chunk * 16 : 0), there);
    }
}

__global__ void __launch_bounds__(HOPPER_THREADS, 1) attention_8bit_hopper_kernel(arguments a)
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    extern __shared__ uint8_t memory[];
    constexpr float LOG2_E = 1.4426950408889634F;
    constexpr float LOG2_448 = 8.8073549220576042F;
    constexpr int K_STEPS = HOPPER_DIM / 32;
    constexpr int OUTS = HOPPER_DIM / 2;
    uint8_t *base = memory + (1024 - __cvta_generic_to_shared(memory) % 1024) % 1024;
    const int64_t head = blockIdx.y;
    const int g = (int)threadIdx.x % WARP / 4;
    const int q = (int)threadIdx.x % 4;
    const int64_t row = (int64_t)blockIdx.x * QUERIES + (int)threadIdx.x / WARP * WARP_QUERIES + g; /* and row + 8 */
    load_stage(base, a, 0, head);
    copy_commit();
    for (int i = threadIdx.x; i < 4 * 8 * TILE / 4; i += HOPPER_THREADS) { /* ones, in both tiles of both stages */
        const int tile = i / (8 * TILE / 4);
        uint8_t *values = base + tile / 2 * STAGE_BYTES + STEP * HOPPER_DIM + tile % 2 * V_TILE_BYTES;
        ((uint32_t *)(values + HOPPER_DIM * TILE))[i % (8 * TILE / 4)] = ONES;
    }
    uint32_t query[K_STEPS][4];
    load_query(query, a, row, head, q);
    const float q_scale = row < a.num_queries ? a.q_scale[row / SKY_Q_GROUP_TOKENS * a.num_heads + head] : 0.0F;
    float max[2] = {-INFINITY, -INFINITY};
    float denominator[2] = {0.0F, 0.0F};
    float out[OUTS] = {};
    int at = 0;

    for (int64_t first = 0; first < a.num_keys; first += STEP, at ^= 1) {
        uint8_t *stage = base + at * STAGE_BYTES;
        const int left = (int)min(a.num_keys - first, (int64_t)STEP);
        float scale[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            scale[i] = i * SKY_K_GROUP_TOKENS < left
                           ? q_scale * __ldg(a.k_scale + (first / SKY_K_GROUP_TOKENS + i) * a.num_heads + head) *
                                 a.softmax_scale * LOG2_E
                           : 0.0F;
        }
        copy_wait<0>();
        wgmma_publish();
        __syncthreads(); /* this stage is there, and nobody reads the other any more */
        if (first + STEP < a.num_keys) {
            load_stage(base + (at ^ 1) * STAGE_BYTES, a, first + STEP, head);
        }
        copy_commit();

        int scores[4 * SCORE_TILES];
        const uint64_t keys = wgmma_operand(stage);
        wgmma_begin();
        wgmma_s8_first(scores, query[0], keys);
        wgmma_s8(scores, query[1], keys + 2);
        wgmma_s8(scores, query[2], keys + 4);
        wgmma_s8(scores, query[3], keys + 6);
        wgmma_commit();
        wgmma_wait();

        if (left < STEP) {
#pragma unroll
            for (int i = 0; i < 4 * SCORE_TILES; i++) {
                if (i / 4 * 8 + 2 * q + i % 2 >= left) {
                    scores[i] = -(1 << 30);
                }
            }
        }
        float shrink[2];
        float offset[2];
#pragma unroll
        for (int r = 0; r < 2; r++) {
            int most[2] = {-(1 << 30), -(1 << 30)};
#pragma unroll
            for (int i = 0; i < 4 * SCORE_TILES; i += 4) {
                int &m = most[i / (2 * SCORE_TILES)];
                m = ::max(m, ::max(scores[i + 2 * r], scores[i + 2 * r + 1]));
            }
            float step_max = (float)most[0] * scale[0];
            if (left > SKY_K_GROUP_TOKENS) {
                step_max = fmaxf(step_max, (float)most[1] * scale[1]);
            }
            const float new_max = fmaxf(max[r], row_max(step_max));
            shrink[r] = exp2f(max[r] - new_max);
            max[r] = new_max;
            offset[r] = LOG2_448 - new_max;
        }
        uint32_t weights[SCORE_TILES / 4][4];
#pragma unroll
        for (int t = 0; t < SCORE_TILES; t++) {
            float p[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                p[i] = exp2_approx(fmaf((float)scores[4 * t + i], scale[t / (SCORE_TILES / 2)], offset[i / 2]));
            }
            if (left < STEP) { /* behind the end the scale may be 0 */
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    p[i] = 8 * t + 2 * q + i % 2 < left ? p[i] : 0.0F;
                }
            }
            const int shift = t % 2 * 16;
            uint32_t &of_row = weights[t / 4][t % 4 / 2 * 2];
            uint32_t &of_row_8 = weights[t / 4][t % 4 / 2 * 2 + 1];
            of_row = (shift == 0 ? 0 : of_row) | two_codes(p[0], p[1]) << shift;
            of_row_8 = (shift == 0 ? 0 : of_row_8) | two_codes(p[2], p[3]) << shift;
        }

        /* Sums of 128 keys at a time: the unit keeps fewer bits than f32 while it adds. */
#pragma unroll
        for (int half = 0; half < STEP / TILE; half++) {
            float sums[OUTS + 4];
            const uint64_t values = wgmma_operand(stage + STEP * HOPPER_DIM + half * V_TILE_BYTES);
            wgmma_begin();
            wgmma_e4m3_first(sums, weights[4 * half], values);
#pragma unroll
            for (int j = 1; j < TILE / 32; j++) {
                wgmma_e4m3(sums, weights[4 * half + j], values + 2 * j);
            }
            wgmma_commit();
            wgmma_wait();
#pragma unroll
            for (int i = 0; i < OUTS; i++) {
                out[i] = half == 0 ? fmaf(shrink[i / 2 % 2], out[i], sums[i]) : out[i] + sums[i];
            }
#pragma unroll
            for (int r = 0; r < 2; r++) {
                denominator[r] = half == 0 ? fmaf(shrink[r], denominator[r], sums[OUTS + 2 * r])
                                           : denominator[r] + sums[OUTS + 2 * r];
            }
        }
    }

#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int64_t s = row + 8 * r;
        if (s >= a.num_queries) {
            continue;
        }
        const float inverse = 1.0F / denominator[r];
#pragma unroll
        for (int n = 0; n < HOPPER_DIM / 8; n++) {
            const int64_t channel = head * HOPPER_DIM + 8 * n + 2 * q;
            float y[2];
#pragma unroll
            for (int j = 0; j < 2; j++) {
                y[j] = out[4 * n + 2 * r + j] * inverse * a.v_scale[channel + j];
                y[j] += a.v_mean != NULL ? a.v_mean[channel + j] : 0.0F;
            }
            const int64_t to = s * a.num_heads * HOPPER_DIM + channel;
            if (a.y_is_bf16) {
                store((bf16 *)a.y + to, y[0]);
                store((bf16 *)a.y + to + 1, y[1]);
            } else {
                store((float *)a.y + to, y[0]);
                store((float *)a.y + to + 1, y[1]);
            }
        }
        if (a.lse != NULL && q == 0) {
            a.lse[s * a.num_heads + head] = max[r] / LOG2_E + logf(denominator[r] / 448.0F);
        }
    }
#else
    (void)a;
#endif
}

sky_status launch_hopper(sky_ctx *ctx, const arguments &a)
{
    SKY_TRY(sky_cuda_status(
        cudaFuncSetAttribute(attention_8bit_hopper_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, HOPPER_BYTES),
        "attention_8bit"));
    const dim3 grid(blocks_for(a.num_queries, QUERIES), (unsigned)a.num_heads);
    attention_8bit_hopper_kernel<<<grid, HOPPER_THREADS, HOPPER_BYTES, sky_cuda_stream_of(ctx)>>>(a);
    return sky_cuda_launched("attention_8bit");
}

template <int DIM> sky_status launch(sky_ctx *ctx, const arguments &a)
{
    const int bytes = STEP * (DIM + SKEW_BYTES) + DIM * V_ROW_BYTES;
    SKY_TRY(sky_cuda_status(
        cudaFuncSetAttribute(attention_8bit_kernel<DIM>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
        "attention_8bit"));
    const dim3 grid(blocks_for(a.num_queries, QUERIES), (unsigned)a.num_heads);
    attention_8bit_kernel<DIM><<<grid, THREADS, bytes, sky_cuda_stream_of(ctx)>>>(a);
    return sky_cuda_launched("attention_8bit");
}

} // namespace

extern "C" sky_status sky_cuda_attention_8bit_plan(sky_ctx *, const sky_attention_8bit_args *args, size_t *)
{
    return args->q.shape[2] <= MAX_HEAD_DIM
               ? SKY_OK
               : sky_fail(SKY_ERR_UNSUPPORTED, "attention_8bit: head dim %lld; at most %d here",
                          (long long)args->q.shape[2], (int)MAX_HEAD_DIM);
}

extern "C" sky_status sky_cuda_attention_8bit(sky_ctx *ctx, const sky_attention_8bit_args *args, void *)
{
    arguments a = {};
    a.y = args->y.data;
    a.y_is_bf16 = args->y.dtype == SKY_BF16;
    a.q = (const int8_t *)args->q.data;
    a.k = (const int8_t *)args->k.data;
    a.v = (const uint8_t *)args->v.data;
    a.q_scale = (const float *)args->q_scale.data;
    a.k_scale = (const float *)args->k_scale.data;
    a.v_scale = (const float *)args->v_scale.data;
    a.v_mean = sky_tensor_present(&args->v_mean) ? (const float *)args->v_mean.data : NULL;
    a.lse = sky_tensor_present(&args->lse) ? (float *)args->lse.data : NULL;
    a.num_queries = args->q.shape[0];
    a.num_keys = args->k.shape[0];
    a.num_heads = args->q.shape[1];
    a.head_dim = (int)args->q.shape[2];
    a.softmax_scale = args->softmax_scale;
    a.aligned = are_aligned(a.k, a.v) && a.head_dim % KERNEL_ALIGNMENT == 0;
    if (a.head_dim == HOPPER_DIM && a.aligned && sky_cuda_device_of(ctx)->capability == 90) {
        return launch_hopper(ctx, a);
    }
    return a.head_dim <= 32 ? launch<32>(ctx, a) : a.head_dim <= 64 ? launch<64>(ctx, a) : launch<128>(ctx, a);
}
