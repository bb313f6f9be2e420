#include "base/hash.h"
#include "ops/ref/load_store.h"
#include "ops/ref/ref_ops.h"

#include <math.h>

sky_status sky_ref_timestep_embedding(sky_ctx *ctx, const sky_timestep_embedding_args *args, void *scratch)
{
    (void)ctx;
    (void)scratch;
    const int64_t dim = args->y.shape[1];
    const int64_t half = dim / 2;
    for (int64_t r = 0; r < args->y.shape[0]; r++) {
        const double timestep = (double)ref_load(&args->timesteps, r);
        for (int64_t j = 0; j < half; j++) {
            const double angle = timestep * pow(10000.0, -(double)j / (double)half);
            ref_store(&args->y, r * dim + j, (float)cos(angle));
            ref_store(&args->y, r * dim + half + j, (float)sin(angle));
        }
    }
    return SKY_OK;
}

sky_status sky_ref_hash_rows(sky_ctx *ctx, const sky_hash_rows_args *args, void *scratch)
{
    (void)ctx;
    (void)scratch;
    const size_t row_bytes = (size_t)args->x.shape[1] * sky_dtype_bytes(args->x.dtype);
    for (int64_t row = 0; row < args->x.shape[0]; row += args->rows_per_group) {
        const int64_t left = args->x.shape[0] - row;
        const int64_t rows = left < args->rows_per_group ? left : args->rows_per_group;
        const uint64_t group = (uint64_t)((args->first_row + row) / args->rows_per_group);
        ((uint64_t *)args->sums.data)[row / args->rows_per_group] =
            sky_hash(args->stage, group, (const unsigned char *)args->x.data + (size_t)row * row_bytes,
                     (size_t)rows * row_bytes);
    }
    return SKY_OK;
}
