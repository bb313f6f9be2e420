#include "ops/cpu/gemm.h"

/* Rows that one call of a tile takes, by the number of vectors across: as many sums as the registers hold. */
enum { MAX_ROWS = 12 };
#if defined(__AVX512F__)
static const int rows_of_tile[SKY_CPU_MAX_VECS] = {12, 12, 8, 6};
#else
static const int rows_of_tile[SKY_CPU_MAX_VECS] = {8, 6};
#endif

#define ROWS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)

/*
 * A tile of mr rows and nv vectors, both constants after inlining. Written with one variable for each sum, since arrays
 * of vectors end up in memory. This file alone is compiled with contraction: in `sum += a * b` nothing else can be fused.
 */
static inline __attribute__((always_inline)) void tile(const int mr, const int nv, const sky_gemm_a *a, int64_t offset,
                                                       const float *b, float *c, int64_t ldc, bool add)
{
    const int64_t run = a->run;
    const int64_t lda = a->lda;
#define DECLARE(i) sky_vec c##i##_0 = {0}, c##i##_1 = {0}, c##i##_2 = {0}, c##i##_3 = {0};
    ROWS(DECLARE)
    for (int64_t s = 0; s < a->num_segments; s++) {
        if (a->segment[s] == NULL) {
            b += run * nv * SKY_CPU_LANES;
            continue;
        }
        const float *const row = a->segment[s] + offset;
#define POINT(i) const float *const a##i = row + (mr > i ? i : 0) * lda;
        ROWS(POINT)
        for (int64_t k = 0; k < run; k++) {
            const sky_vec b0 = sky_vec_load(b);
            const sky_vec b1 = nv > 1 ? sky_vec_load(b + SKY_CPU_LANES) : b0;
            const sky_vec b2 = nv > 2 ? sky_vec_load(b + 2 * SKY_CPU_LANES) : b0;
            const sky_vec b3 = nv > 3 ? sky_vec_load(b + 3 * SKY_CPU_LANES) : b0;
            b += nv * SKY_CPU_LANES;
#define STEP(i)                  \
    if (mr > i) {                \
        const float x = a##i[k]; \
        c##i##_0 += x * b0;      \
        if (nv > 1) {            \
            c##i##_1 += x * b1;  \
        }                        \
        if (nv > 2) {            \
            c##i##_2 += x * b2;  \
        }                        \
        if (nv > 3) {            \
            c##i##_3 += x * b3;  \
        }                        \
    }
            ROWS(STEP)
        }
    }
#define PUT(i, j)                                                            \
    if (mr > i && nv > j) {                                                  \
        float *const to = c + i * ldc + j * SKY_CPU_LANES;                   \
        sky_vec_store(to, add ? sky_vec_load(to) + c##i##_##j : c##i##_##j); \
    }
#define PUT_ROW(i) PUT(i, 0) PUT(i, 1) PUT(i, 2) PUT(i, 3)
    ROWS(PUT_ROW)
}

typedef void (*tile_function)(const sky_gemm_a *a, int64_t offset, const float *b, float *c, int64_t ldc, bool add);

#define TILE(mr, nv)                                                                                                   \
    static void tile_##mr##_##nv(const sky_gemm_a *a, int64_t offset, const float *b, float *c, int64_t ldc, bool add) \
    {                                                                                                                  \
        tile(mr, nv, a, offset, b, c, ldc, add);                                                                       \
    }
#define TILES_6(nv)  TILE(1, nv) TILE(2, nv) TILE(3, nv) TILE(4, nv) TILE(5, nv) TILE(6, nv)
#define TILES_8(nv)  TILES_6(nv) TILE(7, nv) TILE(8, nv)
#define TILES_12(nv) TILES_8(nv) TILE(9, nv) TILE(10, nv) TILE(11, nv) TILE(12, nv)
#define NAMES_6(nv)  tile_1_##nv, tile_2_##nv, tile_3_##nv, tile_4_##nv, tile_5_##nv, tile_6_##nv
#define NAMES_8(nv)  NAMES_6(nv), tile_7_##nv, tile_8_##nv
#define NAMES_12(nv) NAMES_8(nv), tile_9_##nv, tile_10_##nv, tile_11_##nv, tile_12_##nv

#if defined(__AVX512F__)
TILES_12(1)
TILES_12(2)
TILES_8(3)
TILES_6(4)
static const tile_function tiles[SKY_CPU_MAX_VECS][MAX_ROWS] = {
    {NAMES_12(1)}, {NAMES_12(2)}, {NAMES_8(3)}, {NAMES_6(4)}};
#else
TILES_8(1)
TILES_6(2)
static const tile_function tiles[SKY_CPU_MAX_VECS][MAX_ROWS] = {{NAMES_8(1)}, {NAMES_6(2)}};
#endif

void SKY_CPU(gemm)(const sky_gemm_a *a, int64_t rows, const sky_gemm_b *b, float *c, int64_t ldc, bool add)
{
    for (int64_t first = 0; first < b->cols; first += SKY_PANEL_COLS) {
        const int64_t width = sky_panel_width(b->cols, first);
        const int64_t vecs = width / SKY_CPU_LANES;
        const float *panel = b->packed + first * b->depth + b->first_k * width;
        int64_t tiles_left = sky_div_up(rows, rows_of_tile[vecs - 1]); /* of nearly equal height: a low one is slow */
        for (int64_t row = 0; row < rows; tiles_left--) {
            const int64_t count = sky_div_up(rows - row, tiles_left);
            tiles[vecs - 1][count - 1](a, row * a->lda, panel, c + row * ldc + first, ldc, add);
            row += count;
        }
    }
}

static inline const void *element_at(const void *b, sky_dtype dtype, int64_t index)
{
    return (const unsigned char *)b + (size_t)index * sky_dtype_bytes(dtype);
}

void SKY_CPU(pack)(float *dst, const void *b, sky_dtype dtype, int64_t ld, int64_t cols, int64_t depth)
{
    for (int64_t first = 0; first < cols; first += SKY_PANEL_COLS) {
        const int64_t width = sky_panel_width(cols, first);
        const int64_t used = sky_min_i64(width, cols - first);
        for (int64_t k = 0; k < depth; k++) {
            sky_widen_any(dst, element_at(b, dtype, k * ld + first), dtype, used);
            for (int64_t j = used; j < width; j++) {
                dst[j] = 0.0F;
            }
            dst += width;
        }
    }
}

static inline sky_vec load_as_f32(const void *from, sky_dtype dtype, int64_t index)
{
    if (dtype == SKY_F32) {
        return sky_vec_load((const float *)from + index);
    }
    if (dtype == SKY_BF16) {
        return sky_vec_load_bf16((const uint16_t *)from + index);
    }
    return dtype == SKY_I8 ? sky_vec_load_i8((const int8_t *)from + index)
                           : sky_vec_load_e4m3((const uint8_t *)from + index);
}

/*
 * Turns a square of SKY_CPU_LANES around: halves of vectors change places, then quarters, and so on. After the step of
 * distance h, bit h of row and lane have been exchanged.
 */
#define TURN_LOW(lane, h)  ((lane) & (h) ? (lane) - (h) + SKY_CPU_LANES : (lane))
#define TURN_HIGH(lane, h) ((lane) & (h) ? (lane) + SKY_CPU_LANES : (lane) + (h))
#define TURN_STEP(v, h)                                         \
    SKY_LOOP_UNROLLED                                           \
    for (int i = 0; i < SKY_CPU_LANES; i++) {                   \
        if ((i & (h)) == 0) {                                   \
            const sky_vec low = v[i];                           \
            const sky_vec high = v[i + (h)];                    \
            v[i] = SKY_VEC_PICK(low, high, TURN_LOW, h);        \
            v[i + (h)] = SKY_VEC_PICK(low, high, TURN_HIGH, h); \
        }                                                       \
    }

static inline __attribute__((always_inline)) void turn(sky_vec *v)
{
#if defined(__AVX512F__)
    TURN_STEP(v, 8)
#endif
#if defined(__AVX2__)
    TURN_STEP(v, 4)
#endif
    TURN_STEP(v, 2)
    TURN_STEP(v, 1)
}

/* Columns from first + begin to first + used and k [k, k + count), with zeros up to the width; dst is the panel's row k. */
static void pack_turned_slowly(float *dst, const void *b, sky_dtype dtype, int64_t ld, int64_t first, int64_t begin,
                               int64_t used, int64_t width, int64_t k, int64_t count)
{
    for (int64_t j = begin; j < width; j++) {
        for (int64_t i = 0; i < count; i++) {
            const int64_t at = (first + j) * ld + k + i;
            dst[i * width + j] = 0.0F;
            if (j < used) {
                sky_widen_any(dst + i * width + j, element_at(b, dtype, at), dtype, 1);
            }
        }
    }
}

void SKY_CPU(pack_transposed)(float *dst, const void *b, sky_dtype dtype, int64_t ld, int64_t cols, int64_t depth)
{
    for (int64_t first = 0; first < cols; first += SKY_PANEL_COLS) {
        const int64_t width = sky_panel_width(cols, first);
        const int64_t used = sky_min_i64(width, cols - first);
        const int64_t whole = used / SKY_CPU_LANES * SKY_CPU_LANES;
        int64_t k = 0;
        for (; k + SKY_CPU_LANES <= depth; k += SKY_CPU_LANES) {
            for (int64_t j = 0; j < whole; j += SKY_CPU_LANES) {
                sky_vec v[SKY_CPU_LANES];
                for (int i = 0; i < SKY_CPU_LANES; i++) {
                    v[i] = load_as_f32(b, dtype, (first + j + i) * ld + k);
                }
                turn(v);
                for (int i = 0; i < SKY_CPU_LANES; i++) {
                    sky_vec_store(dst + (k + i) * width + j, v[i]);
                }
            }
        }
        pack_turned_slowly(dst, b, dtype, ld, first, whole, used, width, 0, k);
        pack_turned_slowly(dst + k * width, b, dtype, ld, first, 0, used, width, k, depth - k);
        dst += depth * width;
    }
}
