/*
 * weights/build_files.h - small safetensors, zip and pickle files, byte by byte, good and bad
 */
#ifndef SKY_TESTS_WEIGHTS_BUILD_FILES_H
#define SKY_TESTS_WEIGHTS_BUILD_FILES_H

#include "weights/source.h"

#include <stddef.h>
#include <stdint.h>

typedef struct bytes {
    unsigned char *data;
    size_t len;
    size_t capacity;
    uint64_t base; /* where the first byte will be in the file */
} bytes;

void bytes_free(bytes *b);
void bytes_add(bytes *b, const void *data, size_t len);
void bytes_text(bytes *b, const char *text);
void bytes_number(bytes *b, uint64_t number, int num_bytes); /* little endian */
void bytes_insert(bytes *b, size_t at, const void *data, size_t len);
void bytes_set(bytes *b, size_t at, uint64_t number, int num_bytes);

/* Writes the first len bytes to the path, replacing what is there. */
void bytes_save(const bytes *b, size_t len, const char *path);

/* 8 bytes of length, the header, then data_bytes bytes 0, 1, 2, ... of data. */
void build_safetensors(bytes *out, const char *header, size_t data_bytes);
void build_safetensors_values(bytes *out, const char *header, const void *data, size_t data_bytes);

enum { ZIP_MAX_MEMBERS = 16 };

typedef enum zip_style {
    ZIP_PLAIN,          /* lengths and CRC in the local header */
    ZIP_DESCRIPTOR,     /* as torch: zeros there, and a descriptor of 16 bytes behind the data */
    ZIP_DESCRIPTOR_12,  /* without signature */
    ZIP_DESCRIPTOR64,   /* 24 bytes */
    ZIP_DESCRIPTOR64_20 /* 20 bytes */
} zip_style;

/* Where things are in the bytes, for patching. */
typedef struct zip_layout {
    zip_style style;
    bool zip64; /* zip64 extra fields and end record */
    int count;
    size_t local[ZIP_MAX_MEMBERS]; /* local header; name at + 30 */
    size_t data[ZIP_MAX_MEMBERS];
    size_t central[ZIP_MAX_MEMBERS]; /* record of the central directory; name at + 46 */
    size_t directory;
    size_t end64;
    size_t end;
    char names[ZIP_MAX_MEMBERS][64];
    uint64_t lens[ZIP_MAX_MEMBERS];
    uint32_t crcs[ZIP_MAX_MEMBERS];
} zip_layout;

void zip_add(bytes *b, zip_layout *z, const char *name, const void *data, size_t len);
void zip_finish(bytes *b, zip_layout *z);

/* archive/data.pkl, archive/version, then storages archive/data/0, 1, ... */
void build_torch(bytes *out, zip_layout *z, const bytes *pickle, const bytes *storages, int num_storages);

typedef struct tensor_spec {
    const char *name;
    const char *storage_class; /* "FloatStorage" */
    const char *key;
    int64_t numel;
    int64_t offset;
    int num_dims;
    int64_t shape[8];
    int64_t stride[8];
} tensor_spec;

/* Pickle instructions, protocol 2. */
void pickle_text(bytes *b, const char *text);
void pickle_int(bytes *b, int64_t number);
void pickle_global(bytes *b, const char *module, const char *name);
void pickle_tensor(bytes *b, const tensor_spec *t); /* leaves the tensor on the stack */

/* A whole state dict of tensors. */
void build_pickle(bytes *b, const tensor_spec *tensors, int num_tensors);

/* Saves and opens; *out may be NULL where only the answer matters. */
sky_status open_safetensors(const bytes *b, size_t len, sky_source **out);
sky_status open_torch(const bytes *b, size_t len, sky_source **out);

/* Whether all tensors lie in [0, file_bytes) and have the bytes that their shape and dtype make. */
bool directory_is_sound(const sky_source *source, uint64_t file_bytes);

#endif
