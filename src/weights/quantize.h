/*
 * weights/quantize.h - linear layers' weights as 8-bit codes with one scale per output channel, on the host
 *
 *     amax[r]     = max(max_c |w[r, c]|, 1e-12)
 *     e4m3        codes[r, c] = e4m3(w[r, c] * (448 / amax[r]))      scale[r] = amax[r] / 448
 *     i8          codes[r, c] = rint(w[r, c] * (127 / amax[r]))      scale[r] = amax[r] / 127
 *
 * in f32, to nearest even, e4m3 saturating, 448 / amax being (1 / amax) * 448: what ops/quantize_rows.h says, from the
 * published values. skyreels-convert and the weight store (which quantises a published checkpoint as it loads it) both call
 * this, so their bytes are the same.
 */
#ifndef SKY_WEIGHTS_QUANTIZE_H
#define SKY_WEIGHTS_QUANTIZE_H

#include "weights/checkpoint.h"

/* Rows of f32 values that are read and quantised at once take at most this much, or are one row. */
enum { SKY_QUANTIZE_BLOCK_BYTES = 8 << 20 };

/* Rows of such a block; cols at least 1. */
int64_t sky_quantize_block_rows(int64_t cols);

/* codes [rows, cols], scale [rows], x [rows, cols] finite. format is SKY_F8_E4M3 or SKY_I8. */
void sky_quantize_host_rows(sky_dtype format, int64_t rows, int64_t cols, const float *x, uint8_t *codes, float *scale);

/* The value that a code stands for, without its scale. */
float sky_code_value(sky_dtype format, uint8_t code);

/*
 * Reads rows [first, first + rows) of a tensor [rows, cols] as they are published into values [rows, cols]; the text
 * encoder's rounded to bf16 first, which is what the published code loads and what a converted folder holds.
 * Errors: as sky_source_read.
 */
sky_status sky_quantize_read_rows(const sky_checkpoint *checkpoint, sky_component component,
                                  const sky_source_tensor *tensor, int64_t first, int64_t rows, float *values);

/*
 * Whether a tensor of the transformer is quantised: blocks.N.{self_attn,cross_attn}.{q,k,v,o}.weight and
 * blocks.N.ffn.{0,2}.weight. *block becomes N and *part 0 to 9 in this order (q, k, v, o twice, then ffn); both may be NULL.
 */
enum { SKY_BLOCK_LINEARS = 10 };
bool sky_is_block_linear(const char *name, int64_t *block, int *part);

/* "self_attn.q", ..., "ffn.2". */
const char *sky_block_linear_name(int part);

#endif
