#include "base/hash.h"
#include "ops/cpu/blocks.h"
#include "ops/cpu/device.h"
#include "ops/cpu/isa.h"

#include <math.h>

/* A few thousand numbers a step: as the reference has it. */
sky_status SKY_CPU(timestep_embedding)(sky_ctx *ctx, const sky_timestep_embedding_args *args, void *scratch)
{
    (void)ctx;
    (void)scratch;
    const int64_t dim = args->y.shape[1];
    const int64_t half = dim / 2;
    for (int64_t r = 0; r < args->y.shape[0]; r++) {
        const double timestep = (double)((const float *)args->timesteps.data)[r];
        for (int64_t j = 0; j < half; j++) {
            const double angle = timestep * pow(10000.0, -(double)j / (double)half);
            const float pair[] = {(float)cos(angle), (float)sin(angle)};
            for (int64_t i = 0; i < 2; i++) {
                const int64_t at = r * dim + i * half + j;
                if (args->y.dtype == SKY_F32) {
                    ((float *)args->y.data)[at] = pair[i];
                } else {
                    ((uint16_t *)args->y.data)[at] = sky_f32_to_bf16(pair[i]);
                }
            }
        }
    }
    return SKY_OK;
}

static void hash_group(void *arg, int64_t index, int thread)
{
    (void)thread;
    const sky_hash_rows_args *args = arg;
    const size_t row_bytes = (size_t)args->x.shape[1] * sky_dtype_bytes(args->x.dtype);
    const int64_t row = index * args->rows_per_group;
    const int64_t rows = sky_min_i64(args->rows_per_group, args->x.shape[0] - row);
    ((uint64_t *)args->sums.data)[index] =
        sky_hash(args->stage, (uint64_t)(args->first_row / args->rows_per_group + index),
                 (const unsigned char *)args->x.data + (size_t)row * row_bytes, (size_t)rows * row_bytes);
}

sky_status SKY_CPU(hash_rows)(sky_ctx *ctx, const sky_hash_rows_args *args, void *scratch)
{
    (void)scratch;
    sky_hash_rows_args copy = *args;
    sky_threads_for(sky_cpu_device_of(ctx)->threads, args->sums.shape[0], hash_group, &copy);
    return SKY_OK;
}
