/*
 * bench/blas.h - a library's matrix product, to compare ours with
 *
 * bench only: where OpenBLAS is not installed, blas_none.c takes its place and the rows are left out.
 */
#ifndef BENCH_BLAS_H
#define BENCH_BLAS_H

#include "ops/linear.h"

/* Name, version and the kind of processor it took this one for; NULL where there is none. */
const char *bench_blas_name(void);

void bench_blas_set_threads(int num_threads);

/* y = x weight^T in f32, no bias, piece_rows rows at a time. */
void bench_blas_linear(const sky_linear_args *args, int64_t piece_rows);

#endif
