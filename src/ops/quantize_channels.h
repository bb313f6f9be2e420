/*
 * ops/quantize_channels.h - 8-bit codes of values less their channel's mean, in the tiles that attention_8bit reads
 *
 *     most, least[c]    = max_p range[p, c], min_p range[p, C + c]
 *     a[c]              = max(|most - mean[c]|, |least - mean[c]|, 1e-12)       1e-12 where there are no rows: most < least
 *     codes[t, n, d, i] = e4m3((x[s, c] - mean[c]) * (448 / a[c]))              scale[c] = a[c] / 448
 *                         c = n D + d;  s = 128 t + key;  i = sky_v_tile_position(key)
 *
 * range is channel_sums' (channel_sums.h), whose mean this is, too. Rounding keeps an order, so a is the largest
 * |x[s, c] - mean[c]| to the bit, though it was found before there was a mean.
 *
 * A tile holds 128 tokens of a channel side by side: the 8-bit matrix products of a GPU take their right operand that way
 * only. Inside each 16 they lie in the order in which the left operand, the weights that attention makes of scores, comes
 * out of the product before: 0 1 8 9 2 3 10 11 4 5 12 13 6 7 14 15. Codes behind the last row are 0.
 *
 * Everything in f32, each operation rounded; 448 / a stands for (1 / a) * 448, as in quantize_rows.h. A NaN in range, which is
 * there for one in x, makes its channel's scale NaN and the channel's codes 0x7f.
 *
 * Shapes   x [rows, C]; mean, scale [C]; range [2 C] or [parts, 2 C], a part for each rank; codes [ceil(rows / 128), N, D, 128]
 *          with N D = C, in num_parts parts (head_parts.h) where a tile is a row; outputs overlap nothing. rows may be 0: the
 *          scale is written in any case
 * Types    x f32, bf16, or i32 with x_sums (linear_sums.h); codes e4m3; mean, range and scale f32. Every backend gives the same bytes.
 * Errors   SHAPE, DTYPE; SHAPE where num_parts is below 0
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 * Source   docs/numerics.md, the 8-bit contract (V); PTX ISA, "Register fragments for wgmma.m64nNk32" (the order).
 */
#ifndef SKY_OPS_QUANTIZE_CHANNELS_H
#define SKY_OPS_QUANTIZE_CHANNELS_H

#include "ops/ctx.h"
#include "ops/head_parts.h"
#include "ops/linear_sums.h"

enum { SKY_V_TILE_TOKENS = 128 };

static inline int64_t sky_num_v_tiles(int64_t tokens)
{
    return (tokens + SKY_V_TILE_TOKENS - 1) / SKY_V_TILE_TOKENS;
}

/* Where in its tile a token lies. Written for what the eight pairs of a 16 do: bits 3, 2, 1 become 1, 3, 2. */
static inline int64_t sky_v_tile_position(int64_t key)
{
    return (key & ~INT64_C(15)) | (key & 1) | (key & 8) >> 2 | (key & 6) << 1;
}

typedef struct sky_quantize_channels_args {
    sky_tensor codes;       /* [ceil(rows / 128), N, D, 128] e4m3  out */
    sky_tensor scale;       /* [C] f32  out */
    sky_tensor x;           /* [rows, C] */
    sky_linear_sums x_sums; /* of x i32 */
    sky_tensor mean;        /* [C] f32 */
    sky_tensor range;       /* [2 C] or [parts, 2 C] f32 */
    int num_parts;          /* of codes; 0: one */
} sky_quantize_channels_args;

sky_status sky_quantize_channels(sky_ctx *ctx, const sky_quantize_channels_args *args);

#endif
