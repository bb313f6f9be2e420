/*
 * weights/manifest.h - manifest.json of a converted folder: what is in which shard, and every checksum
 *
 * docs/checkpoint-format.md is the format's description. A manifest in memory is what the file says, checked as far as
 * that can be done without opening another file: names, shapes, places that do not overlap, scales beside codes.
 */
#ifndef SKY_WEIGHTS_MANIFEST_H
#define SKY_WEIGHTS_MANIFEST_H

#include "weights/checkpoint.h"

#define SKY_MANIFEST_NAME "manifest.json"
enum { SKY_MANIFEST_VERSION = 1, SKY_MAX_SHARDS = 4096, SKY_SHARD_NAME_BYTES = 48 };

typedef struct sky_manifest_tensor {
    char *name; /* owned; the original name */
    sky_component component;
    sky_dtype dtype;
    int num_dims;
    int64_t shape[SKY_MAX_DIMS];
    uint64_t offset_bytes; /* in the shard's file */
    uint64_t len_bytes;
    uint32_t crc32;
} sky_manifest_tensor;

typedef struct sky_manifest_shard {
    char name[SKY_SHARD_NAME_BYTES]; /* shard-00001-of-00003.h5 */
    uint64_t len_bytes;
    uint32_t metadata_crc32; /* of all bytes that are no tensor's, in order */
    int64_t first, count;    /* its tensors, in order of offset once loaded */
} sky_manifest_shard;

/* A file that is not a shard: a configuration or a part of the tokenizer. */
typedef struct sky_manifest_file {
    char *name; /* owned; relative to the folder */
    uint64_t len_bytes;
    uint32_t crc32;
} sky_manifest_file;

typedef struct sky_manifest {
    sky_dtype codes;            /* SKY_F8_E4M3 or SKY_I8 */
    char *original;             /* owned; name of the folder it was made from */
    sky_manifest_shard *shards; /* owned */
    int num_shards;
    sky_manifest_tensor *tensors; /* owned; shard by shard */
    int64_t num_tensors;
    sky_manifest_file *files; /* owned */
    int num_files;
} sky_manifest;

void sky_manifest_release(sky_manifest *manifest);

/* Reads and checks folder/name into an empty manifest. Errors: IO, INPUT, NOMEM. */
sky_status sky_manifest_load(const char *folder, const char *name, sky_manifest *manifest);

/* Writes folder/name, which must not exist, and brings it to the disk. Errors: IO, NOMEM. */
sky_status sky_manifest_save(const char *folder, const char *name, const sky_manifest *manifest);

/* The name of shard `index` of `count`. */
void sky_shard_name(int index, int count, char name[SKY_SHARD_NAME_BYTES]);

/* "fp8" or "int8". */
const char *sky_codes_name(sky_dtype codes);

/* "transformer", "text_encoder", "vae": the components' names in manifest and shards. */
const char *sky_component_group(sky_component component);

/* The name under which a tensor's scale is stored: NAME.scale. */
enum { SKY_SCALE_NAME_BYTES = 4096 + 8 };
void sky_scale_name(const char *name, char out[SKY_SCALE_NAME_BYTES]);

#endif
