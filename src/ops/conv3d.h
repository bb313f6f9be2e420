/*
 * ops/conv3d.h - convolution over time, height and width, channels last
 *
 *     y[t, i, j, o] = bias[o] + sum over kt, kh, kw, c of
 *                     weight[o, kt, kh, kw, c] * x[t*stride_t + kt, i*stride_hw + kh - pad_top, j*stride_hw + kw - pad_left, c]
 *
 * where x is zero outside of height and width. There is no padding in time: a causal convolution has the frames before its
 * first output's in front of the others (zeros at the start of a clip), P = kT - 1 of them with stride_t 1.
 *
 * Shapes   x [T, H, W, C], T = P + the frames that are new; weight [O, kT, kH, kW, C]; bias [O];
 *          y [To, Ho, Wo, O] with To = (T - kT) / stride_t + 1, Ho = (H + pad_top + pad_bottom - kH) / stride_hw + 1,
 *          Wo alike with pad_left and pad_right; y overlaps nothing
 * Types    x, weight, bias, y f32 or bf16, all the same. Sums: f64 reference, f32 elsewhere; the bias is added in
 *          f32 and the result rounded once.
 * Bytes    An output row [t, i, :, :] depends on its inputs only, not on H or T: it is computed in fixed pieces.
 * Errors   SHAPE   shapes disagree, the kernel is larger than the padded input, or a stride is 0
 *          DTYPE   types differ
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 * Source   modules/vae.py CausalConv3d, Resample (as 1 x 3 x 3).
 */
#ifndef SKY_OPS_CONV3D_H
#define SKY_OPS_CONV3D_H

#include "ops/ctx.h"

typedef struct sky_conv3d_args {
    sky_tensor y;      /* [To, Ho, Wo, O]  out */
    sky_tensor x;      /* [T, H, W, C], the frames before the others in front */
    sky_tensor weight; /* [O, kT, kH, kW, C] */
    sky_tensor bias;   /* [O] */
    int stride_t;
    int stride_hw;
    int pad_top, pad_bottom, pad_left, pad_right; /* rows and columns of zeros */
} sky_conv3d_args;

sky_status sky_conv3d(sky_ctx *ctx, const sky_conv3d_args *args);

#endif
