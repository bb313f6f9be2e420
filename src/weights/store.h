/*
 * weights/store.h - weights of one network in device memory
 *
 * Model code asks for each tensor once, by its original name, with the shape that it expects; the store reads it from
 * the checkpoint, checks and converts it and keeps it until it is destroyed. An equal request for the same name gets the
 * same tensor again; a different one (another type, rounding, or as a convolution) gets a tensor of its own. Each tensor
 * is one block of the backend; ctx's arena is not used. While loading, the host holds a piece of 1 Mi elements (a convolution's
 * weight whole, twice) besides. Asking is not collective.
 *
 * A store made while ctx plans (its arena is in planning mode) plans too: names, shapes and formats are checked and bytes
 * counted as ever, but no tensor is read and none has memory behind it. Its data is not NULL and must not be read. So a
 * checkpoint's directories alone tell what loading it takes.
 */
#ifndef SKY_WEIGHTS_STORE_H
#define SKY_WEIGHTS_STORE_H

#include "ops/ctx.h"
#include "weights/checkpoint.h"

typedef struct sky_weights sky_weights;

/* Called after each tensor with the bytes read so far and the component's bytes in all; not while planning. May be NULL. */
typedef void (*sky_weights_progress)(void *user, uint64_t done_bytes, uint64_t total_bytes);

/* ctx and checkpoint are borrowed; the checkpoint may go when loading is over, ctx outlives the store. */
sky_status sky_weights_create(sky_ctx *ctx, const sky_checkpoint *checkpoint, sky_component component,
                              sky_weights_progress progress, void *user, sky_weights **out);
void sky_weights_destroy(sky_weights **weights);

/*
 * A tensor of exactly this shape (lengths at least 1) in the given type (f32 or bf16). Published values of transformer
 * and text encoder are rounded to bf16 first when round_bf16 is set, as the published code does, whatever the type they
 * are kept in.
 * Errors: INPUT where it is missing or not finite, MISMATCH where the shape differs (message: name, want, found) or where
 * a converted folder holds only its 8-bit codes, IO, NOMEM; DTYPE and SHAPE for a request that no tensor can meet.
 */
typedef struct sky_weight_request {
    sky_dtype dtype;
    bool round_bf16;
    int num_dims;
    int64_t shape[SKY_MAX_DIMS]; /* as stored in the file */
} sky_weight_request;
sky_status sky_weights_get(sky_weights *weights, const char *name, const sky_weight_request *request, sky_tensor *out);

/* A convolution's weight [O, C, kT, kH, kW] (or [O, C, kH, kW], kT = 1), turned into conv3d's [O, kT, kH, kW, C]. */
sky_status sky_weights_get_conv(sky_weights *weights, const char *name, const sky_weight_request *request,
                                sky_tensor *out);

/*
 * A linear layer's weight [rows, cols] as 8-bit codes with one scale per row (docs/numerics.md, the 8-bit contract).
 * format is SKY_F8_E4M3 or SKY_I8. From a converted folder: the codes and scales as they are in it. From a published one:
 * quantised here from the values as published, before any rounding to bf16, a few rows at a time; the bytes are those that
 * skyreels-convert writes. codes and scale are kept by the store; while loading, the host holds one tensor's codes besides.
 * Errors: INPUT where it is missing or not finite, MISMATCH where the shape differs or the folder is converted and holds
 * another format (message: what to do), IO, NOMEM; DTYPE and SHAPE for a request that no tensor can meet.
 */
sky_status sky_weights_get_8bit(sky_weights *weights, const char *name, sky_dtype format, int64_t rows, int64_t cols,
                                sky_tensor *codes /* [rows, cols] */, sky_tensor *scale /* [rows] f32 */);

/* Shape of a tensor without loading it; false where there is none. */
bool sky_weights_shape(const sky_weights *weights, const char *name, int *num_dims, int64_t shape[SKY_MAX_DIMS]);

/* The same for a tensor that must be there with num_dims dimensions. Errors: INPUT, MISMATCH. */
sky_status sky_weights_need_shape(const sky_weights *weights, const char *name, int num_dims,
                                  int64_t shape[SKY_MAX_DIMS]);

/* The component's config.json, or NULL. */
const json_t *sky_weights_config(const sky_weights *weights);

/* Device bytes held. */
uint64_t sky_weights_bytes(const sky_weights *weights);

/* Host bytes that reading and turning a tensor took besides, of the tensor that took most. */
uint64_t sky_weights_staging_bytes(const sky_weights *weights);

#endif
