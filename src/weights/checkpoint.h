/*
 * weights/checkpoint.h - a published model folder, whatever its layout
 *
 * The original layout (one flat folder: *.safetensors, config.json, models_t5_*.pth, Wan2.1_VAE.pth, google/umt5-xxl)
 * and Diffusers' (transformer/, vae/, text_encoder/, tokenizer/) are told apart by what is there. Tensors are always
 * asked for by their original names; Diffusers' names are translated here (names.h). docs/checkpoints.md describes both.
 */
#ifndef SKY_WEIGHTS_CHECKPOINT_H
#define SKY_WEIGHTS_CHECKPOINT_H

#include "weights/source.h"

#include <jansson.h>

typedef enum sky_layout {
    SKY_LAYOUT_ORIGINAL,
    SKY_LAYOUT_DIFFUSERS,
    SKY_LAYOUT_CONVERTED, /* manifest.json and shards, written by skyreels-convert; original names */
} sky_layout;

typedef enum sky_component { SKY_TRANSFORMER, SKY_TEXT_ENCODER, SKY_VAE, SKY_COMPONENT_COUNT } sky_component;

typedef struct sky_checkpoint sky_checkpoint;

/*
 * Opens all components (directories of tensors only; no weights are read).
 * Errors: INPUT where the folder is missing, is no model folder, or a part of it is missing or refused (the message
 * lists what was looked for), IO, NOMEM.
 */
sky_status sky_checkpoint_open(const char *model_path, sky_checkpoint **out);
void sky_checkpoint_destroy(sky_checkpoint **checkpoint);

/* Files beside the component's that were not read (sky_source_left_out). */
const char *sky_checkpoint_left_out(const sky_checkpoint *checkpoint, sky_component component);

/*
 * The name that a model was published under, as far as a path tells it: what a converted folder's manifest says, the repository
 * of a snapshot in Hugging Face's cache, the folder's name with links resolved, or as typed; the first that says 540P or 720P,
 * else the first there is. Readable UTF-8, "" where nothing is. Opens no model; cannot fail.
 */
enum { SKY_PUBLISHED_NAME_BYTES = 256 };
void sky_checkpoint_published_name(const char *model_path, char out[SKY_PUBLISHED_NAME_BYTES]);

sky_layout sky_checkpoint_layout(const sky_checkpoint *checkpoint);
const char *sky_checkpoint_path(const sky_checkpoint *checkpoint);
const char *sky_checkpoint_tokenizer_path(const sky_checkpoint *checkpoint); /* folder of tokenizer.json */

/* config.json of a component; NULL where the layout has none (text encoder and VAE of the original layout). */
const json_t *sky_checkpoint_config(const sky_checkpoint *checkpoint, sky_component component);

/* By the original name; NULL where there is none. Its own name is the file's, which may be Diffusers'. */
const sky_source_tensor *sky_checkpoint_find(const sky_checkpoint *checkpoint, sky_component component,
                                             const char *name);

/* In order of the names in the files, which may be Diffusers'. */
int64_t sky_checkpoint_count(const sky_checkpoint *checkpoint, sky_component component);
const sky_source_tensor *sky_checkpoint_at(const sky_checkpoint *checkpoint, sky_component component, int64_t index);

/*
 * Writes the original name of one of its tensors (at most size bytes). False where it has none, does not fit, or another
 * tensor is found under it (a file may have one twice, under two names).
 */
bool sky_checkpoint_original_name(const sky_checkpoint *checkpoint, sky_component component,
                                  const sky_source_tensor *tensor, char *out, size_t size);

/*
 * The format of a converted folder's codes, SKY_F8_E4M3 or SKY_I8; SKY_F32 for any other layout. Codes are read with
 * sky_checkpoint_read_codes; their scales, one f32 per row, are a tensor found by this (NULL where there is none).
 */
sky_dtype sky_checkpoint_codes(const sky_checkpoint *checkpoint);
const sky_source_tensor *sky_checkpoint_find_scale(const sky_checkpoint *checkpoint, sky_component component,
                                                   const char *name);

/* Bytes of all tensors of a component, as stored; for progress. */
uint64_t sky_checkpoint_bytes(const sky_checkpoint *checkpoint, sky_component component);

/* The path of the file that holds the tensor, or of the component's first file where tensor is NULL; for messages. */
const char *sky_checkpoint_file(const sky_checkpoint *checkpoint, sky_component component,
                                const sky_source_tensor *tensor);

/* A component's tensors, under their own names. */
const sky_source *sky_checkpoint_source(const sky_checkpoint *checkpoint, sky_component component);

/* As sky_source_read. */
sky_status sky_checkpoint_read(const sky_checkpoint *checkpoint, sky_component component,
                               const sky_source_tensor *tensor, void *dst, sky_dtype dst_dtype);

/* As sky_source_read_part and sky_source_read_codes. */
sky_status sky_checkpoint_read_part(const sky_checkpoint *checkpoint, sky_component component,
                                    const sky_source_tensor *tensor, uint64_t first, uint64_t count, void *dst,
                                    sky_dtype dst_dtype);
sky_status sky_checkpoint_read_codes(const sky_checkpoint *checkpoint, sky_component component,
                                     const sky_source_tensor *tensor, void *dst);

/* "transformer", "text encoder", "VAE". */
const char *sky_component_name(sky_component component);

#endif
