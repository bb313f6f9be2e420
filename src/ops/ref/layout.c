#include "ops/ref/load_store.h"
#include "ops/ref/ref_ops.h"

#include <math.h>

sky_status sky_ref_embedding(sky_ctx *ctx, const sky_embedding_args *args, void *scratch)
{
    (void)ctx;
    (void)scratch;
    const int64_t cols = args->table.shape[1];
    const int32_t *ids = args->ids.data;
    for (int64_t s = 0; s < args->ids.shape[0]; s++) {
        for (int64_t c = 0; c < cols; c++) {
            ref_store(&args->y, s * cols + c, ref_load(&args->table, ids[s] * cols + c));
        }
    }
    return SKY_OK;
}

/* Index of channel c, frame t, row i, column j in a tensor [C, T, H, W]. */
static int64_t index_first(const int64_t *shape, int64_t c, int64_t t, int64_t i, int64_t j)
{
    return ((c * shape[1] + t) * shape[2] + i) * shape[3] + j;
}

/* The same in a tensor [T, H, W, C]. */
static int64_t index_last(const int64_t *shape, int64_t c, int64_t t, int64_t i, int64_t j)
{
    return ((t * shape[1] + i) * shape[2] + j) * shape[3] + c;
}

static float scale_shift(float x, const sky_tensor *scale, const sky_tensor *shift, int64_t c)
{
    if (!sky_tensor_present(scale)) {
        return x;
    }
    const float product = x * ref_load(scale, c);
    return product + ref_load(shift, c);
}

sky_status sky_ref_to_channels_last(sky_ctx *ctx, const sky_to_channels_last_args *args, void *scratch)
{
    (void)ctx;
    (void)scratch;
    const int64_t *shape = args->y.shape;
    for (int64_t t = 0; t < shape[0]; t++) {
        for (int64_t i = 0; i < shape[1]; i++) {
            for (int64_t j = 0; j < shape[2]; j++) {
                for (int64_t c = 0; c < shape[3]; c++) {
                    const float x = ref_load(&args->x, index_first(args->x.shape, c, t, i, j));
                    ref_store(&args->y, index_last(shape, c, t, i, j), scale_shift(x, &args->scale, &args->shift, c));
                }
            }
        }
    }
    return SKY_OK;
}

sky_status sky_ref_to_channels_first(sky_ctx *ctx, const sky_to_channels_first_args *args, void *scratch)
{
    (void)ctx;
    (void)scratch;
    const int64_t *shape = args->y.shape;
    for (int64_t c = 0; c < shape[0]; c++) {
        for (int64_t t = 0; t < shape[1]; t++) {
            for (int64_t i = 0; i < shape[2]; i++) {
                for (int64_t j = 0; j < shape[3]; j++) {
                    float y = scale_shift(ref_load(&args->x, index_last(args->x.shape, c, t, i, j)), &args->scale,
                                          &args->shift, c);
                    if (args->clamp) {
                        y = y < -1.0F ? -1.0F : y > 1.0F ? 1.0F : y; /* NaN is neither */
                    }
                    ref_store(&args->y, index_first(shape, c, t, i, j), y);
                }
            }
        }
    }
    return SKY_OK;
}

sky_status sky_ref_patchify(sky_ctx *ctx, const sky_patchify_args *args, void *scratch)
{
    (void)ctx;
    (void)scratch;
    const int64_t *shape = args->x.shape;
    const int64_t rows = shape[2] / 2;
    const int64_t cols = shape[3] / 2;
    for (int64_t r = 0; r < args->y.shape[0]; r++) {
        const int64_t token = args->first_token + r;
        const int64_t f = token / (rows * cols);
        const int64_t i = token / cols % rows;
        const int64_t j = token % cols;
        for (int64_t c = 0; c < shape[0]; c++) {
            for (int64_t p = 0; p < 4; p++) { /* p = ph*2 + pw */
                const int64_t from = index_first(shape, c, f, 2 * i + p / 2, 2 * j + p % 2);
                ref_store(&args->y, r * 4 * shape[0] + c * 4 + p, ref_load(&args->x, from));
            }
        }
    }
    return SKY_OK;
}

sky_status sky_ref_unpatchify(sky_ctx *ctx, const sky_unpatchify_args *args, void *scratch)
{
    (void)ctx;
    (void)scratch;
    const int64_t *shape = args->y.shape;
    const int64_t rows = shape[2] / 2;
    const int64_t cols = shape[3] / 2;
    for (int64_t token = 0; token < args->x.shape[0]; token++) {
        const int64_t f = token / (rows * cols);
        const int64_t i = token / cols % rows;
        const int64_t j = token % cols;
        for (int64_t p = 0; p < 4; p++) { /* p = ph*2 + pw */
            for (int64_t c = 0; c < shape[0]; c++) {
                const int64_t to = index_first(shape, c, f, 2 * i + p / 2, 2 * j + p % 2);
                ref_store(&args->y, to, ref_load(&args->x, token * 4 * shape[0] + p * shape[0] + c));
            }
        }
    }
    return SKY_OK;
}

sky_status sky_ref_upsample_nearest(sky_ctx *ctx, const sky_upsample_nearest_args *args, void *scratch)
{
    (void)ctx;
    (void)scratch;
    const int64_t *shape = args->y.shape;
    for (int64_t t = 0; t < shape[0]; t++) {
        for (int64_t i = 0; i < shape[1]; i++) {
            for (int64_t j = 0; j < shape[2]; j++) {
                for (int64_t c = 0; c < shape[3]; c++) {
                    ref_store(&args->y, index_last(shape, c, t, i, j),
                              ref_load(&args->x, index_last(args->x.shape, c, t, i / 2, j / 2)));
                }
            }
        }
    }
    return SKY_OK;
}

sky_status sky_ref_interleave_frames(sky_ctx *ctx, const sky_interleave_frames_args *args, void *scratch)
{
    (void)ctx;
    (void)scratch;
    const int64_t *shape = args->y.shape;
    for (int64_t t = 0; t < shape[0]; t++) {
        for (int64_t i = 0; i < shape[1]; i++) {
            for (int64_t j = 0; j < shape[2]; j++) {
                for (int64_t c = 0; c < shape[3]; c++) {
                    ref_store(&args->y, index_last(shape, c, t, i, j),
                              ref_load(&args->x, index_last(args->x.shape, t % 2 * shape[3] + c, t / 2, i, j)));
                }
            }
        }
    }
    return SKY_OK;
}

sky_status sky_ref_frames_to_u8(sky_ctx *ctx, const sky_frames_to_u8_args *args, void *scratch)
{
    (void)ctx;
    (void)scratch;
    unsigned char *y = args->y.data;
    const int64_t len = sky_tensor_len(&args->y);
    for (int64_t i = 0; i < len; i++) {
        const float x = ref_load(&args->x, i) / 2.0F + 0.5F;
        const float clamped = fminf(fmaxf(x, 0.0F), 1.0F); /* fmaxf makes 0 of NaN */
        y[i] = (unsigned char)(255.0F * clamped);
    }
    return SKY_OK;
}

sky_status sky_ref_copy_columns(sky_ctx *ctx, const sky_copy_columns_args *args, void *scratch)
{
    (void)ctx;
    (void)scratch;
    const size_t bytes = sky_dtype_bytes(args->x.dtype);
    for (int64_t r = 0; r < args->x.shape[0]; r++) {
        for (int64_t c = 0; c < args->num_columns; c++) {
            const int64_t to = r * args->y.shape[1] + args->y_first + c;
            const int64_t from = r * args->x.shape[1] + args->x_first + c;
            memcpy((unsigned char *)args->y.data + (size_t)to * bytes,
                   (const unsigned char *)args->x.data + (size_t)from * bytes, bytes);
        }
    }
    return SKY_OK;
}
