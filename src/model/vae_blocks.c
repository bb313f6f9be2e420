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

/*
 * Published modules/vae.py ResidualBlock. With bf16: convolutions and the sum are rounded, norm and SiLU once. Where the
 * width stays, y is x, and what the convolutions put out needs a tensor of its own; else it can be y.
 */
static sky_status residual_run(sky_ctx *ctx, const sky_strips *strips, const vae_residual *block, vae_layer_past *past,
                               const sky_tensor *x, const sky_tensor *y)
{
    const bool in_place = !sky_tensor_present(&block->shortcut.weight);
    sky_tensor out = *y;
    sky_tensor shortcut;
    if (in_place) {
        SKY_TRY(new_like(ctx, y, &out));
    }
    SKY_TRY(sky_vae_norm_conv(ctx, strips, &block->norm1, &block->conv1, &past->frames[0], x, &out));
    SKY_TRY(sky_vae_norm_conv(ctx, strips, &block->norm2, &block->conv2, &past->frames[1], &out, &out));
    if (in_place) {
        return sky_add(ctx, &(sky_add_args){.y = *x, .a = out, .b = *x});
    }
    SKY_TRY(new_like(ctx, y, &shortcut));
    SKY_TRY(sky_vae_conv_point(ctx, &block->shortcut, x, &shortcut));
    return sky_add(ctx, &(sky_add_args){.y = out, .a = out, .b = shortcut});
}

/* All rows of the frame that x [1, H, W, C] is this rank's strip of, as positions; a copy. */
static sky_status gather_frame(sky_ctx *ctx, const sky_strips *strips, const sky_tensor *x, sky_tensor *out)
{
    const int64_t scale = x->shape[1] / sky_strips_own(strips).count;
    const int64_t shape[] = {scale * strips->latent_rows, x->shape[2], x->shape[3]};
    sky_tensor frame;
    SKY_TRY(sky_ctx_tensor(ctx, &frame, x->dtype, 3, shape));
    const sky_tensor mine = sky_tensor_reshape(x, 3, &x->shape[1]);
    SKY_TRY(sky_strips_gather(ctx, strips, &mine, &frame));
    *out = as_rows(&frame);
    return SKY_OK;
}

/*
 * The positions of a frame whose queries a rank computes: its own rows', rounded out to whole pieces, since a result may
 * depend on the place within a piece.
 */
static sky_span query_span(const sky_strips *strips, const sky_tensor *x, int64_t num_positions, sky_span *own)
{
    *own = (sky_span){.first = 0, .count = num_positions};
    if (strips != NULL) {
        const sky_span rows = sky_strips_own(strips);
        own->count = x->shape[1] * x->shape[2];
        own->first = own->count / rows.count * rows.first;
    }
    _Static_assert(SKY_LINEAR_PIECE_ROWS % SKY_ATTENTION_PIECE_ROWS == 0, "a piece of both");
    const int64_t piece = SKY_LINEAR_PIECE_ROWS;
    const int64_t first = own->first / piece * piece;
    const int64_t end = (sky_span_end(*own) + piece - 1) / piece * piece;
    return (sky_span){.first = first, .count = (end < num_positions ? end : num_positions) - first};
}

/* Published modules/vae.py AttentionBlock, one frame: keys and values of all positions, queries of own rows. */
static sky_status attention_frame(sky_ctx *ctx, const sky_strips *strips, const vae_attention *block,
                                  const sky_tensor *x)
{
    const sky_tensor rows = as_rows(x);
    const int64_t channels = rows.shape[1];
    sky_tensor all = rows;
    sky_tensor normed, q, k, v;
    if (strips != NULL) {
        SKY_TRY(gather_frame(ctx, strips, x, &all));
        normed = all;
    } else {
        SKY_TRY(new_like(ctx, &rows, &normed));
    }
    sky_span own;
    const sky_span span = query_span(strips, x, all.shape[0], &own);
    SKY_TRY(sky_ctx_tensor(ctx, &q, all.dtype, 2, (int64_t[]){span.count, channels}));
    SKY_TRY(new_like(ctx, &all, &k));
    SKY_TRY(new_like(ctx, &all, &v));
    SKY_TRY(sky_channel_norm(ctx, &(sky_channel_norm_args){.y = normed, .x = all, .gamma = block->norm}));
    const sky_tensor queries = sky_tensor_rows(&normed, span.first, span.count);
    SKY_TRY(linear_run(ctx, &block->q, &queries, &q));
    SKY_TRY(linear_run(ctx, &block->k, &normed, &k));
    SKY_TRY(linear_run(ctx, &block->v, &normed, &v));

    const int64_t one_head_q[] = {span.count, 1, channels};
    const int64_t one_head[] = {all.shape[0], 1, channels};
    const sky_tensor mixed = queries; /* no longer needed as what it was */
    SKY_TRY(sky_attention(ctx, &(sky_attention_args){.y = sky_tensor_reshape(&mixed, 3, one_head_q),
                                                     .q = sky_tensor_reshape(&q, 3, one_head_q),
                                                     .k = sky_tensor_reshape(&k, 3, one_head),
                                                     .v = sky_tensor_reshape(&v, 3, one_head),
                                                     .softmax_scale = 1.0F / sqrtf((float)channels)}));
    SKY_TRY(linear_run(ctx, &block->proj, &mixed, &q));
    const sky_tensor change = sky_tensor_rows(&q, own.first - span.first, own.count);
    return sky_add(ctx, &(sky_add_args){.y = rows, .a = rows, .b = change});
}

static sky_status attention_run(sky_ctx *ctx, const sky_strips *strips, const vae_attention *block, const sky_tensor *x)
{
    for (int64_t t = 0; t < x->shape[0]; t++) {
        const size_t mark = sky_arena_mark(ctx->arena);
        const sky_tensor frame = sky_tensor_rows(x, t, 1);
        SKY_TRY(attention_frame(ctx, strips, block, &frame));
        sky_arena_release(ctx->arena, mark);
    }
    return SKY_OK;
}

/*
 * Nearest x2, then the convolution; frame by frame, since the doubled frame is the largest thing of a layer: two launches a
 * frame on a GPU, each with work for all of it. x is extended; of the two rows that a neighbour's row becomes, the
 * convolution sees the one next to own rows.
 */
static sky_status upsample_frames(sky_ctx *ctx, const sky_strips *strips, const vae_conv *conv, const sky_tensor *x,
                                  const sky_tensor *y)
{
    const vae_halo halo = sky_vae_halo_of(strips, VAE_BOTH_SIDES);
    const int64_t height = 2 * x->shape[1];
    const int64_t width = 2 * x->shape[2];
    const int64_t seen_height = height - halo.above - halo.below;
    sky_tensor doubled;
    SKY_TRY(sky_ctx_tensor(ctx, &doubled, x->dtype, 4, (int64_t[]){1, height, width, x->shape[3]}));
    const sky_tensor rows = sky_tensor_reshape(&doubled, 3, &doubled.shape[1]);
    const sky_tensor seen = sky_tensor_rows(&rows, halo.above, seen_height);
    for (int64_t t = 0; t < x->shape[0]; t++) {
        SKY_TRY(sky_upsample_nearest(ctx, &(sky_upsample_nearest_args){.y = doubled, .x = sky_tensor_rows(x, t, 1)}));
        SKY_TRY(sky_conv3d(
            ctx, &(sky_conv3d_args){.y = sky_tensor_rows(y, t, 1),
                                    .x = sky_tensor_reshape(&seen, 4, (int64_t[]){1, seen_height, width, x->shape[3]}),
                                    .weight = conv->weight,
                                    .bias = conv->bias,
                                    .stride_t = 1,
                                    .stride_hw = 1,
                                    .pad_top = 1 - halo.above,
                                    .pad_bottom = 1 - halo.below,
                                    .pad_left = 1,
                                    .pad_right = 1}));
    }
    return SKY_OK;
}

/*
 * Published modules/vae.py Resample, upsample2d and upsample3d. The clip's first frame passes the convolution in time
 * by and is not kept for it either: what follows begins with zeros for its past. The convolution in time works on the
 * neighbours' rows too: that is less than sending them doubled in time.
 */
static sky_status upsample_run(sky_ctx *ctx, const sky_strips *strips, const vae_resample *block, vae_layer_past *past,
                               bool first, const sky_tensor *x, const sky_tensor *y)
{
    sky_tensor frames, pairs;
    if (first || !sky_tensor_present(&block->time.weight)) {
        SKY_TRY(sky_vae_extend(ctx, strips, x, VAE_BOTH_SIDES, &frames));
        return upsample_frames(ctx, strips, &block->conv, &frames, y);
    }
    const sky_tensor wide = sky_vae_extended_shape(strips, x, VAE_BOTH_SIDES);
    const int64_t *shape = wide.shape;
    SKY_TRY(sky_ctx_tensor(ctx, &frames, wide.dtype, 4, (int64_t[]){2 * shape[0], shape[1], shape[2], shape[3]}));
    const size_t mark = sky_arena_mark(ctx->arena);
    const sky_tensor wide_pairs = with_channels(&wide, 2 * shape[3]);
    SKY_TRY(new_like(ctx, &wide_pairs, &pairs));
    SKY_TRY(sky_vae_conv_in_time(ctx, strips, &block->time, &past->frames[0], x, &pairs));
    SKY_TRY(sky_interleave_frames(ctx, &(sky_interleave_frames_args){.y = frames, .x = pairs}));
    sky_arena_release(ctx->arena, mark);
    return upsample_frames(ctx, strips, &block->conv, &frames, y);
}

/*
 * Published modules/vae.py Resample, downsample2d and downsample3d. The clip's first frame is not convolved in time,
 * but is the past of the next chunk.
 */
static sky_status downsample_run(sky_ctx *ctx, const sky_strips *strips, const vae_resample *block,
                                 vae_layer_past *past, bool first, const sky_tensor *x, const sky_tensor *y)
{
    const bool in_time = !first && sky_tensor_present(&block->time.weight);
    const sky_tensor *kept = &past->frames[0];
    sky_tensor halved = *y;
    sky_tensor wide, extended;
    if (in_time) {
        SKY_TRY(sky_vae_behind_past(ctx, kept, x->shape[0], &extended));
        halved = sky_tensor_rows(&extended, kept->shape[0], x->shape[0]);
    }
    const size_t mark = sky_arena_mark(ctx->arena);
    SKY_TRY(sky_vae_extend(ctx, strips, x, VAE_BELOW, &wide));
    SKY_TRY(sky_conv3d(ctx, &(sky_conv3d_args){.y = halved,
                                               .x = wide,
                                               .weight = block->conv.weight,
                                               .bias = block->conv.bias,
                                               .stride_t = 1,
                                               .stride_hw = 2,
                                               .pad_bottom = 1 - sky_vae_halo_of(strips, VAE_BELOW).below,
                                               .pad_right = 1}));
    sky_arena_release(ctx->arena, mark);
    if (!sky_tensor_present(&block->time.weight)) {
        return SKY_OK;
    }
    if (in_time) {
        SKY_TRY(sky_vae_conv_extended(ctx, strips, &block->time, 2, &extended, y));
    }
    return sky_vae_past_keep(ctx, kept, &halved);
}

sky_tensor sky_vae_layer_output(const vae_layer *layer, bool first, const sky_tensor *x)
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

bool sky_vae_layer_in_place(const vae_layer *layer)
{
    return layer->kind == VAE_ATTENTION ||
           (layer->kind == VAE_RESIDUAL && !sky_tensor_present(&layer->residual.shortcut.weight));
}

sky_status sky_vae_layer_past_init(sky_ctx *ctx, const sky_strips *strips, const vae_layer *layer, const sky_tensor *x,
                                   vae_layer_past *past)
{
    *past = (vae_layer_past){0};
    const sky_tensor wide = sky_vae_extended_shape(strips, x, VAE_BOTH_SIDES);
    if (layer->kind == VAE_RESIDUAL) {
        const sky_tensor inside = with_channels(&wide, layer->out_channels);
        SKY_TRY(sky_vae_past_init(ctx, 2, &wide, &past->frames[0]));
        return sky_vae_past_init(ctx, 2, &inside, &past->frames[1]);
    }
    if (layer->kind == VAE_ATTENTION || !sky_tensor_present(&layer->resample.time.weight)) {
        return SKY_OK;
    }
    /* Up, time comes before the change of size; down, behind it. */
    const sky_tensor input = layer->kind == VAE_UPSAMPLE ? wide : sky_vae_layer_output(layer, true, x);
    return sky_vae_past_init(ctx, layer->kind == VAE_UPSAMPLE ? 2 : 1, &input, &past->frames[0]);
}

sky_status sky_vae_layer_run(sky_ctx *ctx, const sky_strips *strips, const vae_layer *layer, vae_layer_past *past,
                             bool first, const sky_tensor *x, const sky_tensor *y)
{
    sky_status st = SKY_OK;
    const size_t mark = sky_arena_mark(ctx->arena);
    switch (layer->kind) {
    case VAE_RESIDUAL:
        st = residual_run(ctx, strips, &layer->residual, past, x, y);
        break;
    case VAE_ATTENTION:
        st = attention_run(ctx, strips, &layer->attention, x);
        break;
    case VAE_UPSAMPLE:
        st = upsample_run(ctx, strips, &layer->resample, past, first, x, y);
        break;
    case VAE_DOWNSAMPLE:
        st = downsample_run(ctx, strips, &layer->resample, past, first, x, y);
        break;
    }
    sky_arena_release(ctx->arena, mark);
    return st;
}
