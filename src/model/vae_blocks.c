#include "model/vae_blocks.h"

#include "ops/ops.h"

#include <math.h>

static sky_status new_like(sky_ctx *ctx, const sky_tensor *like, sky_tensor *out)
{
    return sky_ctx_tensor(ctx, out, like->dtype, like->num_dims, like->shape);
}

static sky_tensor with_channels(const sky_tensor *x, int64_t channels)
{
    sky_tensor y = *x;
    y.shape[3] = channels;
    return y;
}

/* [T, H, W, C] -> [T * H * W, C] */
static sky_tensor as_rows(const sky_tensor *x)
{
    const int64_t channels = x->shape[x->num_dims - 1];
    return sky_tensor_reshape(x, 2, (int64_t[]){sky_tensor_len(x) / channels, channels});
}

static sky_status linear_run(sky_ctx *ctx, const vae_linear *linear, const sky_tensor *x, const sky_tensor *y)
{
    return sky_linear(ctx, &(sky_linear_args){.y = *y, .x = *x, .weight = linear->weight, .bias = linear->bias});
}

sky_status vae_past_init(sky_ctx *ctx, int64_t num_frames, const sky_tensor *x, sky_tensor *past)
{
    const int64_t *shape = x->shape;
    SKY_TRY(sky_ctx_tensor(ctx, past, x->dtype, 4, (int64_t[]){num_frames, shape[1], shape[2], shape[3]}));
    return sky_ctx_zero(ctx, past);
}

/* Keeps the last frames of past followed by x. */
static sky_status past_push(sky_ctx *ctx, sky_tensor *past, const sky_tensor *x)
{
    const int64_t num_kept = past->shape[0];
    const int64_t num_new = x->shape[0] < num_kept ? x->shape[0] : num_kept;
    /* One frame at a time, from the front: what a frame is written over has been moved or is not needed. */
    for (int64_t t = 0; t < num_kept - num_new; t++) {
        const sky_tensor to = sky_tensor_rows(past, t, 1);
        const sky_tensor from = sky_tensor_rows(past, t + num_new, 1);
        SKY_TRY(sky_ctx_copy(ctx, &to, &from));
    }
    const sky_tensor to = sky_tensor_rows(past, num_kept - num_new, num_new);
    const sky_tensor from = sky_tensor_rows(x, x->shape[0] - num_new, num_new);
    return sky_ctx_copy(ctx, &to, &from);
}

/* A kernel of three has one row or column of zeros on each side, a kernel of one has none. */
static sky_status conv_in_time(sky_ctx *ctx, const vae_conv *conv, int stride_t, sky_tensor *past, const sky_tensor *x,
                               const sky_tensor *y)
{
    const int pad_h = (int)conv->weight.shape[1] / 2;
    const int pad_w = (int)conv->weight.shape[2] / 2;
    SKY_TRY(sky_conv3d(ctx, &(sky_conv3d_args){.y = *y,
                                               .x = *x,
                                               .past = *past,
                                               .weight = conv->weight,
                                               .bias = conv->bias,
                                               .stride_t = stride_t,
                                               .stride_hw = 1,
                                               .pad_top = pad_h,
                                               .pad_bottom = pad_h,
                                               .pad_left = pad_w,
                                               .pad_right = pad_w}));
    return past_push(ctx, past, x);
}

sky_status vae_conv_causal(sky_ctx *ctx, const vae_conv *conv, sky_tensor *past, const sky_tensor *x,
                           const sky_tensor *y)
{
    return conv_in_time(ctx, conv, 1, past, x, y);
}

sky_status vae_conv_point(sky_ctx *ctx, const vae_conv *conv, const sky_tensor *x, const sky_tensor *y)
{
    return sky_conv3d(ctx,
                      &(sky_conv3d_args){
                          .y = *y, .x = *x, .weight = conv->weight, .bias = conv->bias, .stride_t = 1, .stride_hw = 1});
}

static sky_status norm_silu(sky_ctx *ctx, const sky_tensor *gamma, const sky_tensor *x, const sky_tensor *y)
{
    return sky_channel_norm(ctx, &(sky_channel_norm_args){.y = *y, .x = *x, .gamma = *gamma, .silu = true});
}

/* Published modules/vae.py ResidualBlock. With bf16: convolutions and the sum are rounded, norm and SiLU once. */
static sky_status residual_run(sky_ctx *ctx, const vae_residual *block, vae_layer_past *past, const sky_tensor *x,
                               const sky_tensor *y)
{
    const bool in_place = !sky_tensor_present(&block->shortcut.weight);
    sky_tensor a, b;
    SKY_TRY(new_like(ctx, y, &b));
    const size_t mark = sky_arena_mark(ctx->arena);
    SKY_TRY(new_like(ctx, x, &a));
    SKY_TRY(norm_silu(ctx, &block->norm1, x, &a));
    SKY_TRY(vae_conv_causal(ctx, &block->conv1, &past->frames[0], &a, &b));
    SKY_TRY(norm_silu(ctx, &block->norm2, &b, &b));
    if (in_place) {
        SKY_TRY(vae_conv_causal(ctx, &block->conv2, &past->frames[1], &b, &a));
        return sky_add(ctx, &(sky_add_args){.y = *x, .a = a, .b = *x});
    }
    sky_arena_release(ctx->arena, mark);
    sky_tensor shortcut;
    SKY_TRY(new_like(ctx, y, &shortcut));
    SKY_TRY(vae_conv_causal(ctx, &block->conv2, &past->frames[1], &b, y));
    SKY_TRY(vae_conv_point(ctx, &block->shortcut, x, &shortcut));
    return sky_add(ctx, &(sky_add_args){.y = *y, .a = *y, .b = shortcut});
}

/* Published modules/vae.py AttentionBlock, one frame. */
static sky_status attention_frame(sky_ctx *ctx, const vae_attention *block, const sky_tensor *x)
{
    const sky_tensor rows = as_rows(x);
    const int64_t channels = rows.shape[1];
    sky_tensor normed, q, k, v;
    SKY_TRY(new_like(ctx, &rows, &normed));
    SKY_TRY(new_like(ctx, &rows, &q));
    SKY_TRY(new_like(ctx, &rows, &k));
    SKY_TRY(new_like(ctx, &rows, &v));
    SKY_TRY(sky_channel_norm(ctx, &(sky_channel_norm_args){.y = normed, .x = rows, .gamma = block->norm}));
    SKY_TRY(linear_run(ctx, &block->q, &normed, &q));
    SKY_TRY(linear_run(ctx, &block->k, &normed, &k));
    SKY_TRY(linear_run(ctx, &block->v, &normed, &v));

    const int64_t one_head[] = {rows.shape[0], 1, channels};
    const sky_tensor mixed = normed; /* no longer needed as what it was */
    SKY_TRY(sky_attention(ctx, &(sky_attention_args){.y = sky_tensor_reshape(&mixed, 3, one_head),
                                                     .q = sky_tensor_reshape(&q, 3, one_head),
                                                     .k = sky_tensor_reshape(&k, 3, one_head),
                                                     .v = sky_tensor_reshape(&v, 3, one_head),
                                                     .softmax_scale = 1.0F / sqrtf((float)channels)}));
    SKY_TRY(linear_run(ctx, &block->proj, &mixed, &q));
    return sky_add(ctx, &(sky_add_args){.y = rows, .a = rows, .b = q});
}

static sky_status attention_run(sky_ctx *ctx, const vae_attention *block, const sky_tensor *x)
{
    for (int64_t t = 0; t < x->shape[0]; t++) {
        const size_t mark = sky_arena_mark(ctx->arena);
        const sky_tensor frame = sky_tensor_rows(x, t, 1);
        SKY_TRY(attention_frame(ctx, block, &frame));
        sky_arena_release(ctx->arena, mark);
    }
    return SKY_OK;
}

/* Nearest x2, then the convolution; frame by frame, since the doubled frame is the largest thing of a layer. */
static sky_status upsample_frames(sky_ctx *ctx, const vae_conv *conv, const sky_tensor *x, const sky_tensor *y)
{
    sky_tensor doubled;
    SKY_TRY(sky_ctx_tensor(ctx, &doubled, x->dtype, 4, (int64_t[]){1, 2 * x->shape[1], 2 * x->shape[2], x->shape[3]}));
    for (int64_t t = 0; t < x->shape[0]; t++) {
        SKY_TRY(sky_upsample_nearest(ctx, &(sky_upsample_nearest_args){.y = doubled, .x = sky_tensor_rows(x, t, 1)}));
        SKY_TRY(sky_conv3d(ctx, &(sky_conv3d_args){.y = sky_tensor_rows(y, t, 1),
                                                   .x = doubled,
                                                   .weight = conv->weight,
                                                   .bias = conv->bias,
                                                   .stride_t = 1,
                                                   .stride_hw = 1,
                                                   .pad_top = 1,
                                                   .pad_bottom = 1,
                                                   .pad_left = 1,
                                                   .pad_right = 1}));
    }
    return SKY_OK;
}

/*
 * Published modules/vae.py Resample, upsample2d and upsample3d. The clip's first frame passes the convolution in time
 * by and is not kept for it either: what follows begins with zeros for its past.
 */
static sky_status upsample_run(sky_ctx *ctx, const vae_resample *block, vae_layer_past *past, bool first,
                               const sky_tensor *x, const sky_tensor *y)
{
    if (first || !sky_tensor_present(&block->time.weight)) {
        return upsample_frames(ctx, &block->conv, x, y);
    }
    sky_tensor frames, pairs;
    SKY_TRY(
        sky_ctx_tensor(ctx, &frames, x->dtype, 4, (int64_t[]){2 * x->shape[0], x->shape[1], x->shape[2], x->shape[3]}));
    const size_t mark = sky_arena_mark(ctx->arena);
    const sky_tensor wide = with_channels(x, 2 * x->shape[3]);
    SKY_TRY(new_like(ctx, &wide, &pairs));
    SKY_TRY(conv_in_time(ctx, &block->time, 1, &past->frames[0], x, &pairs));
    SKY_TRY(sky_interleave_frames(ctx, &(sky_interleave_frames_args){.y = frames, .x = pairs}));
    sky_arena_release(ctx->arena, mark);
    return upsample_frames(ctx, &block->conv, &frames, y);
}

/*
 * Published modules/vae.py Resample, downsample2d and downsample3d. The clip's first frame is not convolved in time,
 * but is the past of the next chunk.
 */
static sky_status downsample_run(sky_ctx *ctx, const vae_resample *block, vae_layer_past *past, bool first,
                                 const sky_tensor *x, const sky_tensor *y)
{
    const bool in_time = !first && sky_tensor_present(&block->time.weight);
    sky_tensor halved = *y;
    if (in_time) {
        SKY_TRY(
            sky_ctx_tensor(ctx, &halved, x->dtype, 4, (int64_t[]){x->shape[0], y->shape[1], y->shape[2], y->shape[3]}));
    }
    SKY_TRY(sky_conv3d(ctx, &(sky_conv3d_args){.y = halved,
                                               .x = *x,
                                               .weight = block->conv.weight,
                                               .bias = block->conv.bias,
                                               .stride_t = 1,
                                               .stride_hw = 2,
                                               .pad_bottom = 1,
                                               .pad_right = 1}));
    if (in_time) {
        return conv_in_time(ctx, &block->time, 2, &past->frames[0], &halved, y);
    }
    return sky_tensor_present(&block->time.weight) ? past_push(ctx, &past->frames[0], &halved) : SKY_OK;
}

sky_tensor vae_layer_output(const vae_layer *layer, bool first, const sky_tensor *x)
{
    sky_tensor y = with_channels(x, layer->out_channels);
    if (layer->kind == VAE_UPSAMPLE || layer->kind == VAE_DOWNSAMPLE) {
        const bool up = layer->kind == VAE_UPSAMPLE;
        const bool in_time = !first && sky_tensor_present(&layer->resample.time.weight);
        y.shape[0] = !in_time ? x->shape[0] : up ? 2 * x->shape[0] : x->shape[0] / 2;
        y.shape[1] = up ? 2 * x->shape[1] : x->shape[1] / 2;
        y.shape[2] = up ? 2 * x->shape[2] : x->shape[2] / 2;
    }
    return y;
}

bool vae_layer_in_place(const vae_layer *layer)
{
    return layer->kind == VAE_ATTENTION ||
           (layer->kind == VAE_RESIDUAL && !sky_tensor_present(&layer->residual.shortcut.weight));
}

sky_status vae_layer_past_init(sky_ctx *ctx, const vae_layer *layer, const sky_tensor *x, vae_layer_past *past)
{
    *past = (vae_layer_past){0};
    if (layer->kind == VAE_RESIDUAL) {
        const sky_tensor inside = with_channels(x, layer->out_channels);
        SKY_TRY(vae_past_init(ctx, 2, x, &past->frames[0]));
        return vae_past_init(ctx, 2, &inside, &past->frames[1]);
    }
    if (layer->kind == VAE_ATTENTION || !sky_tensor_present(&layer->resample.time.weight)) {
        return SKY_OK;
    }
    /* Up, time comes before the change of size; down, behind it. */
    const sky_tensor input = layer->kind == VAE_UPSAMPLE ? *x : vae_layer_output(layer, true, x);
    return vae_past_init(ctx, layer->kind == VAE_UPSAMPLE ? 2 : 1, &input, &past->frames[0]);
}

sky_status vae_layer_run(sky_ctx *ctx, const vae_layer *layer, vae_layer_past *past, bool first, const sky_tensor *x,
                         const sky_tensor *y)
{
    sky_status st = SKY_OK;
    const size_t mark = sky_arena_mark(ctx->arena);
    switch (layer->kind) {
    case VAE_RESIDUAL:
        st = residual_run(ctx, &layer->residual, past, x, y);
        break;
    case VAE_ATTENTION:
        st = attention_run(ctx, &layer->attention, x);
        break;
    case VAE_UPSAMPLE:
        st = upsample_run(ctx, &layer->resample, past, first, x, y);
        break;
    case VAE_DOWNSAMPLE:
        st = downsample_run(ctx, &layer->resample, past, first, x, y);
        break;
    }
    sky_arena_release(ctx->arena, mark);
    return st;
}
