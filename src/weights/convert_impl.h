/*
 * weights/convert_impl.h - what the converter's files share; private to them
 *
 *     convert_plan.c    what becomes of each tensor, and which shard it goes to
 *     convert.c         the folder: shards, other files, manifest
 *     sky_convert_verify.c  reading it back
 */
#ifndef SKY_WEIGHTS_CONVERT_IMPL_H
#define SKY_WEIGHTS_CONVERT_IMPL_H

#include "base/threads.h"
#include "weights/convert.h"
#include "weights/manifest.h"

/* Values are read, converted and compared in pieces of this many bytes of f32. */
enum { CONVERT_PIECE_BYTES = SKY_QUANTIZE_BLOCK_BYTES };

typedef struct convert_item {
    char *name; /* owned; original */
    sky_component component;
    const sky_source_tensor *source;
    sky_dtype stored;
    bool quantized;
    int64_t block; /* of a quantised one */
    int part;
    uint64_t bytes; /* stored, with its scales */
    int64_t tensor; /* index in the manifest; scales are the one behind it */
} convert_item;

typedef struct convert_plan {
    convert_item *items; /* owned; by component and name, so also by shard */
    int64_t num_items;
    uint64_t source_bytes; /* of all items */
} convert_plan;

/* Fills plan, and shards and tensors of the manifest, but for places and checksums. Also the report's parts. */
sky_status sky_convert_plan_make(const sky_checkpoint *checkpoint, const sky_convert_settings *settings,
                                 convert_plan *plan, sky_manifest *manifest, sky_convert_report *report);
void sky_convert_plan_release(convert_plan *plan);

/* The state of a conversion that its steps share. */
typedef struct conversion {
    const sky_convert_settings *settings;
    const sky_checkpoint *checkpoint;
    convert_plan plan;
    sky_manifest manifest;
    sky_threads *threads;
    float *values;         /* CONVERT_PIECE_BYTES, or the longest row */
    unsigned char *pieces; /* as many bytes */
    uint64_t done_bytes;
    sky_convert_progress progress;
    void *user;
    sky_convert_report *report;
} conversion;

/* Rows [first, first + rows) of a quantised item: values, and from them codes and scales. */
sky_status sky_convert_rows(conversion *c, const convert_item *item, int64_t first, int64_t rows, uint8_t *codes,
                            float *scale);

/* Adds bytes of the original to what is done. */
sky_status sky_convert_tell(conversion *c, sky_convert_phase phase, uint64_t bytes);

/* Opens the folder through its manifest and compares every tensor with the original. */
sky_status sky_convert_verify(conversion *c, const char *folder, const char *manifest_name);

#endif
