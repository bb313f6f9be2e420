/*
 * weights/store.h - weights of one network in device memory
 *
 * Model code asks for each tensor once, by its original name, with the shape that it expects; the store reads it from
 * the checkpoint, checks and converts it and keeps it until it is destroyed. An equal request for the same name gets the
 * same tensor again; a different one (another type, rounding, or as a convolution) gets a tensor of its own. ctx's arena is
 * not used. Asking is not collective.
 *
 * A store made while ctx plans (its arena is in planning mode) plans: names, shapes and formats are checked and bytes
 * counted as ever, but no tensor is read and none has memory behind it. Its data is not NULL and must not be read. So a
 * checkpoint's directories alone tell what loading it takes. A store made with the planning one then has all tensors in one
 * block of the device, each at a multiple of SKY_ARENA_ALIGNMENT_BYTES:
 *
 *     ctx->arena = &planning;
 *     SKY_TRY(sky_weights_create(ctx, checkpoint, SKY_VAE, NULL, &planned));
 *     SKY_TRY(sky_vae_create(planned, compute, false, &vae));
 *     sky_vae_destroy(&vae);
 *     ctx->arena = NULL;
 *     SKY_TRY(sky_weights_create(ctx, checkpoint, SKY_VAE, &(sky_weights_options){.planned = planned}, &weights));
 *     SKY_TRY(sky_vae_create(weights, compute, false, &vae));
 *     SKY_TRY(sky_weights_end_loading(weights));
 *
 * Reading. Tensors pass in pieces of at most 16 MiB (or a row, where that is longer) through two pinned buffers: one is filled
 * by several threads, which read, check, convert and quantise, while the other goes up on the copy queue. Ops that are
 * enqueued on ctx after a tensor was given find it complete. Where the host may write device memory itself the threads
 * write to the tensor's place and there are no buffers.
 *
 * Groups. Weights that are used together are a group, so that not all of a model need be in device memory at a time: a
 * transformer's block is one, and its keys' and values' weights of the cross attention, wanted at conditioning only, are
 * another. Group 0 is what is wanted all the time.
 *
 *     sky_weights_begin_group(weights, 1 + b);             // while loading: what is asked for from now on belongs to it
 *     ...
 *     SKY_TRY(sky_weights_use(ctx, weights, 1 + b));       // in a pass: before the ops that read it are enqueued
 *
 * Today every group is resident and use() does nothing. What streaming would do behind the same calls: group 0 in a block of
 * its own; all other groups take turns in two slots, each as long as the longest of them (sky_weights_group_bytes of the
 * planning store), in the order in which a planned pass used them, so that a tensor's address is the slot's and constant.
 * use() makes the compute queue wait until the group's copy is there; and since whatever read the other slot has been
 * enqueued by then, it marks the compute queue, makes the copy queue wait for the mark, and starts the copy of the group
 * that is used next into that slot. It neither waits on the host nor talks to anybody. Sharding over ranks is the same with
 * an all-gather for the copy: use() is then collective over those who share, and all use groups in the same order.
 */
#ifndef SKY_WEIGHTS_STORE_H
#define SKY_WEIGHTS_STORE_H

#include "ops/ctx.h"
#include "weights/checkpoint.h"

typedef struct sky_weights sky_weights;

/* Called after each tensor with the bytes read so far and the component's bytes in all; not while planning. May be NULL. */
typedef void (*sky_weights_progress)(void *user, uint64_t done_bytes, uint64_t total_bytes);

typedef struct sky_weights_options {
    /* A planning store that has been asked for all that will be asked for here, in any order, with the same options; or
     * NULL: each tensor is a block of its own. Borrowed by create alone. */
    const sky_weights *planned;
    int num_threads;      /* that read and convert, the caller among them; 0: one */
    uint64_t piece_bytes; /* read and sent at a time; 0: 16 MiB */
    sky_weights_progress progress;
    void *user;
} sky_weights_options;

/*
 * ctx and checkpoint are borrowed; the checkpoint may go when loading is over, ctx outlives the store. options: NULL for
 * none. Errors: NOMEM, DEVICE.
 */
sky_status sky_weights_create(sky_ctx *ctx, const sky_checkpoint *checkpoint, sky_component component,
                              const sky_weights_options *options, sky_weights **out);
void sky_weights_destroy(sky_weights **weights);

/* Waits for what is on its way and gives buffers and threads back. Errors: DEVICE. */
sky_status sky_weights_end_loading(sky_weights *weights);

/* What is asked for from now on belongs to this group, 0 or more; 0 at first. A tensor stays in the group that asked first. */
void sky_weights_begin_group(sky_weights *weights, int group);

/*
 * The ops that are enqueued on ctx from now on may read the tensors of this group, until another one but 0 is used.
 * Called when planning too. Errors: INTERNAL for a group that never was begun; DEVICE, COMM.
 */
sky_status sky_weights_use(sky_ctx *ctx, sky_weights *weights, int group);

/* Device bytes of a group. */
uint64_t sky_weights_group_bytes(const sky_weights *weights, int group);

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
 * skyreels-convert writes. codes and scale are kept by the store.
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

/* Device bytes held, of the block where there is one. */
uint64_t sky_weights_bytes(const sky_weights *weights);

/* Host bytes that loading took besides: buffers and the threads' scratch, of the tensors that took most. */
uint64_t sky_weights_staging_bytes(const sky_weights *weights);

#endif
