/*
 * weights/convert_files.h - converted folders for tests: making them, reading all of them, damaging them
 */
#ifndef SKY_TESTS_WEIGHTS_CONVERT_FILES_H
#define SKY_TESTS_WEIGHTS_CONVERT_FILES_H

#include "weights/convert.h"
#include "weights/manifest.h"

#include <stddef.h>
#include <stdint.h>

#define ORIGINAL  SKY_TEST_MODELS "/shapes-t2v"
#define DIFFUSERS SKY_TEST_MODELS "/diffusers-t2v"

/* Converts into a new folder under the test's temporary one; `model` and its codes. Fails the case where that fails. */
const char *converted_folder(const char *name, const char *model, sky_dtype codes, int num_shards);

/* Opens the folder and reads every tensor; *digest is a CRC-32 of all names, types, shapes and values. */
sky_status read_converted(const char *folder, uint32_t *digest);

/* A copy of a folder, replacing one of that name. */
const char *copied_folder(const char *name, const char *folder);

/* folder/name; valid until the next call but seven. */
const char *file_in(const char *folder, const char *name);

/* Bytes of a file; the caller frees *data. */
size_t load_bytes(const char *path, unsigned char **data);
void save_bytes(const char *path, const void *data, size_t len);

/* Flips one bit, in place. */
void flip_bit(const char *path, uint64_t at, int bit);

/* Replaces the first `from` in folder's manifest and makes its checksum right again. */
void edit_manifest(const char *folder, const char *from, const char *to);

/* After a change to shard `index` through HDF5: length, metadata and manifest agree again, places are the manifest's. */
void make_checksums_right(const char *folder, int index);

#endif
