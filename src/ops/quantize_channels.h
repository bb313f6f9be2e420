/*
 * ops/quantize_channels.h - 8-bit codes of values with one scale per channel
 *
 *     channel_amax        amax[c]     = max_s |x[s, c]|       (0 for no rows)
 *     quantize_channels   a[c]        = max(max_p amax[p, c], 1e-12)
 *                         codes[s, c] = e4m3(x[s, c] * (448 / a[c]))      scale[c] = a[c] / 448
 *
 * Everything in f32; 448 / a stands for (1 / a) * 448, as in quantize_rows.h. A NaN makes its channel's amax and scale NaN and
 * the channel's codes 0x7f.
 *
 * Shapes   x, codes [rows, C]; amax, scale [C]; rows may be 0; outputs overlap nothing. quantize_channels: amax [C] or
 *          [parts, C], a part for each rank; rows may be 0 there too, the scale is written in any case
 * Types    x f32 or bf16; codes e4m3; amax and scale f32. Every backend gives the same bytes.
 * Errors   SHAPE, DTYPE
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 * Source   docs/numerics.md, the 8-bit contract (V).
 */
#ifndef SKY_OPS_QUANTIZE_CHANNELS_H
#define SKY_OPS_QUANTIZE_CHANNELS_H

#include "ops/ctx.h"

typedef struct sky_channel_amax_args {
    sky_tensor amax; /* [C] f32  out */
    sky_tensor x;    /* [rows, C] */
} sky_channel_amax_args;

typedef struct sky_quantize_channels_args {
    sky_tensor codes; /* [rows, C] e4m3  out */
    sky_tensor scale; /* [C] f32  out */
    sky_tensor x;     /* [rows, C] */
    sky_tensor amax;  /* [C] or [parts, C] f32 */
} sky_quantize_channels_args;

sky_status sky_channel_amax(sky_ctx *ctx, const sky_channel_amax_args *args);
sky_status sky_quantize_channels(sky_ctx *ctx, const sky_quantize_channels_args *args);

#endif
