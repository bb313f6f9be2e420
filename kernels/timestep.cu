#include "kernels/launch.cuh"

namespace
{

template <class T> struct timestep_op {
    T *y;
    const float *timesteps;
    int64_t half;
    template <int V> __device__ void run(int64_t row, int64_t j) const
    {
        const double angle = (double)timesteps[row] * pow(10000.0, -(double)j / (double)half);
        store(y + row * 2 * half + j, (float)cos(angle));
        store(y + row * 2 * half + half + j, (float)sin(angle));
    }
};

} // namespace

extern "C" sky_status sky_cuda_timestep_embedding(sky_ctx *ctx, const sky_timestep_embedding_args *args, void *)
{
    return with_float(args->y.dtype, [&](auto t) {
        using T = decltype(t);
        const timestep_op<T> op = {(T *)args->y.data, (const float *)args->timesteps.data, args->y.shape[1] / 2};
        return map_rows("timestep_embedding", ctx, op, args->y.shape[0], op.half, false);
    });
}
