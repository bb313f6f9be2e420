#include "ops/ref/load_store.h"
#include "ops/ref/ref_ops.h"

/* The sums of one output position, one per output channel, and the channels of one input position. */
sky_status sky_ref_conv3d_plan(sky_ctx *ctx, const sky_conv3d_args *args, size_t *scratch_bytes)
{
    (void)ctx;
    *scratch_bytes = (size_t)(args->weight.shape[0] + args->weight.shape[4]) * sizeof(double);
    return SKY_OK;
}

/* Adds what the kernel's plane kt sees in a frame around the upper left corner (top, left). */
static void add_plane(double *sums, double *channels, const sky_conv3d_args *args, int64_t kt, int64_t frame,
                      int64_t top, int64_t left)
{
    const sky_tensor *x = &args->x;
    const int64_t height = x->shape[1];
    const int64_t width = x->shape[2];
    const int64_t num_in = x->shape[3];
    const int64_t num_out = args->weight.shape[0];
    const int64_t *kernel = &args->weight.shape[1];
    for (int64_t kh = 0; kh < kernel[1]; kh++) {
        for (int64_t kw = 0; kw < kernel[2]; kw++) {
            const int64_t i = top + kh;
            const int64_t j = left + kw;
            if (i < 0 || i >= height || j < 0 || j >= width) {
                continue;
            }
            ref_load_row(channels, x, ((frame * height + i) * width + j) * num_in, num_in);
            for (int64_t o = 0; o < num_out; o++) {
                const int64_t tap = ((o * kernel[0] + kt) * kernel[1] + kh) * kernel[2] + kw;
                sums[o] += ref_dot(channels, &args->weight, tap * num_in, num_in);
            }
        }
    }
}

sky_status sky_ref_conv3d(sky_ctx *ctx, const sky_conv3d_args *args, void *scratch)
{
    (void)ctx;
    const int64_t *out = args->y.shape;
    double *sums = scratch;
    double *channels = sums + out[3];
    for (int64_t position = 0; position < out[0] * out[1] * out[2]; position++) {
        const int64_t t = position / (out[1] * out[2]);
        const int64_t i = position / out[2] % out[1];
        const int64_t j = position % out[2];
        for (int64_t o = 0; o < out[3]; o++) {
            sums[o] = 0.0;
        }
        for (int64_t kt = 0; kt < args->weight.shape[1]; kt++) {
            add_plane(sums, channels, args, kt, t * args->stride_t + kt, i * args->stride_hw - args->pad_top,
                      j * args->stride_hw - args->pad_left);
        }
        for (int64_t o = 0; o < out[3]; o++) {
            ref_store(&args->y, position * out[3] + o, (float)sums[o] + ref_load(&args->bias, o));
        }
    }
    return SKY_OK;
}
