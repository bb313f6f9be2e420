/*
 * weights/source.h - named tensors in files that others wrote
 *
 * A source gathers the tensors of one network from any number of files: safetensors (with or without an index) and
 * torch's zip archives (.pth). Files are hostile until checked: adding one checks its whole directory, and reading
 * checks the values. Nothing in a file is ever executed. docs/checkpoints.md lists the rules.
 *
 *     sky_source *source = NULL;
 *     SKY_TRY_GOTO(sky_source_create(&source));
 *     SKY_TRY_GOTO(sky_source_add_folder(source, "models/SkyReels-V2-T2V-14B-540P"));
 *     const sky_source_tensor *t = sky_source_find(source, "patch_embedding.weight");
 *     SKY_TRY_GOTO(sky_source_read(source, t, memory, SKY_BF16));
 * done:
 *     sky_source_destroy(&source);
 */
#ifndef SKY_WEIGHTS_SOURCE_H
#define SKY_WEIGHTS_SOURCE_H

#include "base/status.h"
#include "base/tensor.h"

typedef struct sky_source sky_source;

typedef struct sky_source_tensor {
    const char *name; /* owned by the source */
    sky_dtype dtype;  /* as stored */
    int num_dims;     /* 0 for a scalar */
    int64_t shape[SKY_MAX_DIMS];
    int file;              /* which file of the source, see sky_source_path */
    uint64_t offset_bytes; /* of the first element in that file */
    uint64_t len_bytes;
} sky_source_tensor;

/* An empty source. destroy closes its files; takes NULL, sets NULL. Errors: NOMEM. */
sky_status sky_source_create(sky_source **out);
void sky_source_destroy(sky_source **source);

/*
 * Each adds the tensors of one file. A name that is already there is refused.
 * Errors: IO where the file cannot be read, INPUT where it is refused (the message says which rule), NOMEM.
 */
sky_status sky_source_add_safetensors(sky_source *source, const char *path);
sky_status sky_source_add_torch(sky_source *source, const char *path);

/*
 * Adds the *.safetensors of a folder, in name order. Where there is a *.safetensors.index.json, those that it names, every one
 * of which must be there and hold exactly the tensors it maps to it; else all. Variants (x.fp16.safetensors) and copies ("x
 * (1).safetensors") beside a file are left out, as the published loaders do. Where it fails, files that were added before stay added.
 * Errors: as above; INPUT where the folder has no such file.
 */
sky_status sky_source_add_folder(sky_source *source, const char *folder);

/* Names of files in its folders that are no part of the model and were not read, as a list for a person; "" for none. */
const char *sky_source_left_out(const sky_source *source);

/* Number of tensors; they are in name order. */
int64_t sky_source_count(const sky_source *source);
const sky_source_tensor *sky_source_at(const sky_source *source, int64_t index);

/* By name; NULL where there is none. */
const sky_source_tensor *sky_source_find(const sky_source *source, const char *name);

/* The path of file `index`, for messages. */
const char *sky_source_path(const sky_source *source, int index);

/*
 * Reads a whole floating tensor into dst, converted to dst_dtype (f32, bf16 or f16; round to nearest even).
 * Reads in pieces of 4 MiB: needs no more memory beyond dst. Several threads may read from one source.
 * Errors: IO; INPUT where a value is NaN or infinite (the message names the tensor and the element) or a checksum is
 * wrong; DTYPE where it is not a floating tensor, or dst_dtype is another; NOMEM. dst is then undefined.
 */
sky_status sky_source_read(const sky_source *source, const sky_source_tensor *tensor, void *dst, sky_dtype dst_dtype);

/* The same for the elements [first, first + count), which must be there. */
sky_status sky_source_read_part(const sky_source *source, const sky_source_tensor *tensor, uint64_t first,
                                uint64_t count, void *dst, sky_dtype dst_dtype);

/*
 * Reads all 8-bit codes (e4m3 or i8) of a tensor of a converted folder (converted.h) as they are, and checks them.
 * Errors: IO, INPUT where the checksum is wrong or a code means no number, DTYPE for any other tensor.
 */
sky_status sky_source_read_codes(const sky_source *source, const sky_source_tensor *tensor, void *dst);

#endif
