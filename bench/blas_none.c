#include "blas.h"

const char *bench_blas_name(void)
{
    return NULL;
}

void bench_blas_set_threads(int num_threads)
{
    (void)num_threads;
}

void bench_blas_linear(const sky_linear_args *args, int64_t piece_rows)
{
    (void)args;
    (void)piece_rows;
}
