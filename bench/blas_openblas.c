#include "blas.h"

#include <cblas.h>
#include <stdio.h>

const char *bench_blas_name(void)
{
    static char name[256];
    snprintf(name, sizeof name, "%s, core %s", openblas_get_config(), openblas_get_corename());
    return name;
}

void bench_blas_set_threads(int num_threads)
{
    openblas_set_num_threads(num_threads);
}

void bench_blas_linear(const sky_linear_args *args, int64_t piece_rows)
{
    const int64_t rows = args->x.shape[0];
    const int depth = (int)args->x.shape[1];
    const int cols = (int)args->weight.shape[0];
    const float *x = args->x.data;
    float *y = args->y.data;
    for (int64_t row = 0; row < rows; row += piece_rows) {
        const int count = (int)(rows - row < piece_rows ? rows - row : piece_rows);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, count, cols, depth, 1.0F, x + row * depth, depth,
                    args->weight.data, depth, 0.0F, y + row * cols, cols);
    }
}
