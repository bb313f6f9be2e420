#include "kernels/launch.cuh"

namespace
{

__device__ float scale_shift(float x, const float *scale, const float *shift, int64_t c)
{
    return scale == NULL ? x : __fadd_rn(__fmul_rn(x, scale[c]), shift[c]);
}

/* A thread for one element of y. Both take frames as a run of positions: T H W is what does not move. */
template <class TX, class TY> struct to_channels_last_op {
    TY *y;
    const TX *x;
    const float *scale, *shift;
    int64_t channels, positions;
    template <int V> __device__ void run(int64_t i) const
    {
        const int64_t c = i % channels;
        store(y + i, scale_shift(load(x + c * positions + i / channels), scale, shift, c));
    }
};

template <class TX, class TY> struct to_channels_first_op {
    TY *y;
    const TX *x;
    const float *scale, *shift;
    int64_t x_channels, positions;
    bool clamp;
    template <int V> __device__ void run(int64_t i) const
    {
        const int64_t c = i / positions;
        float v = scale_shift(load(x + i % positions * x_channels + c), scale, shift, c);
        if (clamp) {
            v = v < -1.0F ? -1.0F : v > 1.0F ? 1.0F : v; /* NaN is neither */
        }
        store(y + i, v);
    }
};

/* Token, and place in the latents, of patches: rows and cols are those of patches, x is [C, F, 2 rows, 2 cols]. */
struct patches {
    int64_t channels, frames, rows, cols;
    __device__ int64_t at(int64_t token, int64_t c, int64_t p) const /* p = ph*2 + pw */
    {
        const int64_t f = token / (rows * cols);
        const int64_t i = 2 * (token / cols % rows) + p / 2;
        const int64_t j = 2 * (token % cols) + p % 2;
        return ((c * frames + f) * 2 * rows + i) * 2 * cols + j;
    }
};

template <class TY> struct patchify_op {
    TY *y;
    const float *x;
    patches from;
    int64_t first_token;
    template <int V> __device__ void run(int64_t i) const
    {
        const int64_t col = i % (4 * from.channels);
        store(y + i, x[from.at(first_token + i / (4 * from.channels), col / 4, col % 4)]);
    }
};

struct unpatchify_op {
    float *y;
    const float *x;
    patches to;
    template <int V> __device__ void run(int64_t i) const
    {
        const int64_t col = i % (4 * to.channels);
        y[to.at(i / (4 * to.channels), col % to.channels, col / to.channels)] = x[i];
    }
};

/* A row is the channels of one position of y. */
template <class T> struct upsample_nearest_op {
    T *y;
    const T *x;
    int64_t height, width, channels; /* of y */
    template <int V> __device__ void run(int64_t row, int64_t c) const
    {
        const int64_t j = row % width / 2;
        const int64_t i = row / width % height / 2;
        const int64_t t = row / width / height;
        const int64_t from = (t * (height / 2) + i) * (width / 2) + j;
        *(pack<T, V> *)(y + row * channels + c) = *(const pack<T, V> *)(x + from * channels + c);
    }
};

template <class T> struct interleave_frames_op {
    T *y;
    const T *x;
    int64_t positions, channels; /* of a frame, of y */
    template <int V> __device__ void run(int64_t row, int64_t c) const
    {
        const int64_t t = row / positions;
        const int64_t from = t / 2 * positions + row % positions;
        *(pack<T, V> *)(y + row * channels + c) = *(const pack<T, V> *)(x + (from * 2 + t % 2) * channels + c);
    }
};

const float *optional(const sky_tensor *t)
{
    return sky_tensor_present(t) ? (const float *)t->data : NULL;
}

patches patches_of(const sky_tensor *latents)
{
    return {latents->shape[0], latents->shape[1], latents->shape[2] / 2, latents->shape[3] / 2};
}

} // namespace

extern "C" sky_status sky_cuda_to_channels_last(sky_ctx *ctx, const sky_to_channels_last_args *args, void *)
{
    return with_float(args->x.dtype, [&](auto tx) {
        return with_float(args->y.dtype, [&](auto ty) {
            using X = decltype(tx);
            using Y = decltype(ty);
            const int64_t channels = args->x.shape[0];
            const to_channels_last_op<X, Y> op = {(Y *)args->y.data,
                                                  (const X *)args->x.data,
                                                  optional(&args->scale),
                                                  optional(&args->shift),
                                                  channels,
                                                  sky_tensor_len(&args->x) / channels};
            return map("to_channels_last", ctx, op, sky_tensor_len(&args->y), false);
        });
    });
}

extern "C" sky_status sky_cuda_to_channels_first(sky_ctx *ctx, const sky_to_channels_first_args *args, void *)
{
    return with_float(args->x.dtype, [&](auto tx) {
        return with_float(args->y.dtype, [&](auto ty) {
            using X = decltype(tx);
            using Y = decltype(ty);
            const int64_t positions = args->x.shape[0] * args->x.shape[1] * args->x.shape[2];
            const to_channels_first_op<X, Y> op = {(Y *)args->y.data,
                                                   (const X *)args->x.data,
                                                   optional(&args->scale),
                                                   optional(&args->shift),
                                                   args->x.shape[3],
                                                   positions,
                                                   args->clamp};
            return map("to_channels_first", ctx, op, sky_tensor_len(&args->y), false);
        });
    });
}

extern "C" sky_status sky_cuda_patchify(sky_ctx *ctx, const sky_patchify_args *args, void *)
{
    return with_float(args->y.dtype, [&](auto t) {
        using T = decltype(t);
        const patchify_op<T> op = {(T *)args->y.data, (const float *)args->x.data, patches_of(&args->x),
                                   args->first_token};
        return map("patchify", ctx, op, sky_tensor_len(&args->y), false);
    });
}

extern "C" sky_status sky_cuda_unpatchify(sky_ctx *ctx, const sky_unpatchify_args *args, void *)
{
    const unpatchify_op op = {(float *)args->y.data, (const float *)args->x.data, patches_of(&args->y)};
    return map("unpatchify", ctx, op, sky_tensor_len(&args->x), false);
}

extern "C" sky_status sky_cuda_upsample_nearest(sky_ctx *ctx, const sky_upsample_nearest_args *args, void *)
{
    return with_float(args->x.dtype, [&](auto t) {
        using T = decltype(t);
        const int64_t *shape = args->y.shape;
        const upsample_nearest_op<T> op = {(T *)args->y.data, (const T *)args->x.data, shape[1], shape[2], shape[3]};
        return map_rows("upsample_nearest", ctx, op, shape[0] * shape[1] * shape[2], op.channels,
                        are_aligned(op.y, op.x));
    });
}

extern "C" sky_status sky_cuda_interleave_frames(sky_ctx *ctx, const sky_interleave_frames_args *args, void *)
{
    return with_float(args->x.dtype, [&](auto t) {
        using T = decltype(t);
        const int64_t *shape = args->y.shape;
        const interleave_frames_op<T> op = {(T *)args->y.data, (const T *)args->x.data, shape[1] * shape[2], shape[3]};
        return map_rows("interleave_frames", ctx, op, shape[0] * op.positions, op.channels, are_aligned(op.y, op.x));
    });
}
