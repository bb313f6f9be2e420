#include "kernels/launch.cuh"

namespace
{

/* A warp for one query of one head. */
struct merge_attention_op {
    float *y, *lse;
    const float *other, *other_lse;
    int64_t head_dim;
    template <int G, bool ALIGNED> __device__ void run(int64_t row, int lane) const
    {
        const float a = lse[row];
        const float b = other_lse[row];
        if (b == -INFINITY) {
            return;
        }
        const float max = a > b ? a : b;
        const float w = expf(a - max);
        const float v = expf(b - max);
        for (int64_t d = lane; d < head_dim; d += G) {
            const int64_t at = row * head_dim + d;
            y[at] = a == -INFINITY ? other[at] : (w * y[at] + v * other[at]) / (w + v);
        }
        __syncwarp(); /* everyone has read lse */
        if (lane == 0) {
            lse[row] = max + logf(w + v);
        }
    }
};

} // namespace

extern "C" sky_status sky_cuda_merge_attention(sky_ctx *ctx, const sky_merge_attention_args *args, void *)
{
    const merge_attention_op op = {(float *)args->y.data, (float *)args->lse.data, (const float *)args->other.data,
                                   (const float *)args->other_lse.data, args->y.shape[2]};
    return each_row("merge_attention", ctx, op, sky_tensor_len(&args->lse), WARP, false);
}
