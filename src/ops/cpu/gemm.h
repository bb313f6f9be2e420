/*
 * ops/cpu/gemm.h - the one matrix product that linear, attention and conv3d are made of
 *
 * C[rows, cols] = or += sum over segments s and k < run of A[s][row, k] * B[s * run + k, cols]
 *
 * A is read where it lies: a segment is a pointer to its first row, and rows lie lda floats apart. (A convolution's
 * segments are rows of the image, lda is a pixel, and neighbouring rows of A overlap. A NULL segment is all zeros and is
 * left out.) B is packed into panels of up to SKY_CPU_MAX_VECS vectors of columns. An element of C is summed over k in
 * order, from zero, and then stored or added: its bits depend on its own row of A and column of B and on nothing else.
 */
#ifndef SKY_OPS_CPU_GEMM_H
#define SKY_OPS_CPU_GEMM_H

#include "ops/cpu/blocks.h"
#include "ops/cpu/isa.h"

/* Columns of a full panel, and k taken at a time by callers with long sums: a panel of that depth stays in the L2 cache. */
enum { SKY_PANEL_COLS = SKY_CPU_LANES * SKY_CPU_MAX_VECS, SKY_GEMM_DEPTH = 256 };

typedef struct sky_gemm_a {
    const float *const *segment;
    int64_t num_segments;
    int64_t run;
    int64_t lda;
} sky_gemm_a;

/* Width in floats of the panel that begins at column `first` of `cols`: a full one, or the rest in whole vectors. */
static inline int64_t sky_panel_width(int64_t cols, int64_t first)
{
    const int64_t rest = sky_div_up(cols - first, SKY_CPU_LANES) * SKY_CPU_LANES;
    return sky_min_i64(rest, SKY_PANEL_COLS);
}

/* Columns rounded up to whole vectors: the width of a row of C, and of all panels together. */
static inline int64_t sky_padded_cols(int64_t cols)
{
    return sky_div_up(cols, SKY_CPU_LANES) * SKY_CPU_LANES;
}

/*
 * Packs B [depth, cols] into dst: panel after panel, [depth][width] each, zeros behind the last column. b holds B row by
 * row (ld elements apart), or, transposed, column by column. f32, bf16, i8 or e4m3.
 */
void SKY_CPU(pack)(float *dst, const void *b, sky_dtype dtype, int64_t ld, int64_t cols, int64_t depth);
void SKY_CPU(pack_transposed)(float *dst, const void *b, sky_dtype dtype, int64_t ld, int64_t cols, int64_t depth);

/* A packed B: all of its depth, and the k at which a product begins. */
typedef struct sky_gemm_b {
    const float *packed;
    int64_t depth;
    int64_t first_k;
    int64_t cols;
} sky_gemm_b;

/* c [rows, ldc] with ldc at least sky_padded_cols(b->cols); the columns behind the last are written too. */
void SKY_CPU(gemm)(const sky_gemm_a *a, int64_t rows, const sky_gemm_b *b, float *c, int64_t ldc, bool add);

#endif
