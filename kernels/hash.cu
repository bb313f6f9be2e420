#include "kernels/launch.cuh"

namespace
{

/* The arithmetic of base/hash.h, which is C. */
enum : int { LANES = 4, WORD = 8 };
constexpr uint64_t MULTIPLIER_A = UINT64_C(0x9e3779b97f4a7c15);
constexpr uint64_t MULTIPLIER_B = UINT64_C(0x6a09e667f3bcc909);

__device__ uint64_t take(uint64_t state, uint64_t next)
{
    const uint64_t x = state ^ (next * MULTIPLIER_A);
    return (x << 29 | x >> 35) * MULTIPLIER_B;
}

__device__ uint64_t stir(uint64_t x)
{
    x = (x ^ x >> 32) * MULTIPLIER_A;
    x = (x ^ x >> 29) * MULTIPLIER_B;
    return x ^ x >> 32;
}

/* Of bytes that may lie anywhere; those behind the end are 0. */
__device__ uint64_t word_at(const uint8_t *p, int64_t left)
{
    uint64_t x = 0;
    if (left >= WORD && (uintptr_t)p % WORD == 0) {
        return *(const uint64_t *)p;
    }
    for (int i = 0; i < WORD && i < left; i++) {
        x |= (uint64_t)p[i] << 8 * i;
    }
    return x;
}

/* Four threads for a group of rows, a lane of the hash each. */
__global__ void hash_rows_kernel(uint64_t *sums, const uint8_t *x, int64_t row_bytes, int64_t rows,
                                 int64_t rows_per_group, uint64_t stage, uint64_t first_group)
{
    const int64_t i = ((int64_t)blockIdx.x * KERNEL_THREADS + threadIdx.x) / LANES;
    const int lane = (int)threadIdx.x % LANES;
    const bool there = i * rows_per_group < rows;
    const int64_t count = there ? min(rows - i * rows_per_group, rows_per_group) : 0;
    const int64_t bytes = count * row_bytes;
    const uint8_t *p = x + (there ? i * rows_per_group * row_bytes : 0);
    const uint64_t start = take(take(take(0, stage), first_group + (uint64_t)i), (uint64_t)bytes);
    uint64_t state = start;
    for (int64_t at = lane * WORD; at < bytes; at += LANES * WORD) {
        state = take(state, word_at(p + at, bytes - at));
    }
    uint64_t all = start;
    for (int j = 0; j < LANES; j++) {
        all = take(all, __shfl_sync(0xffffffffU, state, j, LANES));
    }
    if (there && lane == 0) {
        sums[i] = stir(all);
    }
}

} // namespace

extern "C" sky_status sky_cuda_hash_rows(sky_ctx *ctx, const sky_hash_rows_args *args, void *)
{
    const int64_t rows = args->x.shape[0];
    hash_rows_kernel<<<blocks_for(args->sums.shape[0] * LANES, KERNEL_THREADS), KERNEL_THREADS, 0,
                       sky_cuda_stream_of(ctx)>>>((uint64_t *)args->sums.data, (const uint8_t *)args->x.data,
                                                  args->x.shape[1] * (int64_t)sky_dtype_bytes(args->x.dtype), rows,
                                                  args->rows_per_group, args->stage,
                                                  (uint64_t)(args->first_row / args->rows_per_group));
    return sky_cuda_launched("hash_rows");
}
