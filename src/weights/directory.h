/*
 * weights/directory.h - what the readers of tensor files share: a memory budget, and the list of tensors they fill
 *
 * Not part of the public interface. A directory is filled by one reader (safetensors.c, torch.c) and handed to a source.
 */
#ifndef SKY_WEIGHTS_DIRECTORY_H
#define SKY_WEIGHTS_DIRECTORY_H

#include "base/status.h"
#include "weights/source.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SKY_MAX_NAME_BYTES = 4096 };

/* Headers (safetensors) and pickles and central directories (torch) may be this long. */
#define SKY_MAX_HEADER_BYTES UINT64_C(100000000)

/* Memory that reading one file's directory may use: this, and twice its header. */
#define SKY_BUDGET_BASE_BYTES ((uint64_t)64 << 20)

typedef struct sky_budget {
    uint64_t left_bytes;
} sky_budget;

/* As malloc; counts what the block really takes. Errors: INPUT where the budget is used up, NOMEM. */
sky_status sky_budget_alloc(sky_budget *budget, uint64_t bytes, void **out);

/* Frees a block of this budget and counts it back. block may be NULL. */
void sky_budget_free(sky_budget *budget, void *block);

/* The number that num_bytes (at most 8) bytes at p make, the lowest first. */
uint64_t sky_little_endian(const unsigned char *p, int num_bytes);

/* A stretch of the file whose checksum is known (a member of a torch archive). */
typedef struct sky_checked_range {
    uint64_t offset_bytes;
    uint64_t len_bytes;
    uint32_t crc32;
} sky_checked_range;

typedef struct sky_directory {
    sky_source_tensor *tensors; /* owned, names too; .file is not set */
    int64_t count;
    int64_t capacity;          /* as reserved */
    sky_checked_range *ranges; /* owned; in order of offset, disjoint; NULL for formats without checksums */
    int64_t num_ranges;
} sky_directory;

/* Frees what it owns; takes an empty one. */
void sky_directory_release(sky_directory *directory);

/* Room for that many tensors; once, before the first is added. Errors: INPUT (budget), NOMEM. */
sky_status sky_directory_reserve(sky_directory *directory, sky_budget *budget, uint64_t capacity);

/*
 * Whether len bytes may be a name: 1 to SKY_MAX_NAME_BYTES of UTF-8 without control characters, so that it can be
 * shown. `what` is what it names, for the message. Errors: INPUT.
 */
sky_status sky_check_name(const char *what, const char *name, size_t len);

/* Bytes of the prefix that some exports put in front of every name ("model.diffusion_model."); 0 where there is none. */
size_t sky_name_prefix_len(const char *name, size_t len);

/*
 * Adds a copy of `tensor` under a copy of name (len bytes, not terminated), without the prefix above. The name is
 * checked. Errors: INPUT, NOMEM.
 */
sky_status sky_directory_add(sky_directory *directory, sky_budget *budget, const char *name, size_t len,
                             const sky_source_tensor *tensor);

/* The product of a shape. False where a length is not in [0, 2^53], or the product is more than 2^63 - 1. */
bool sky_shape_count(int num_dims, const int64_t *shape, uint64_t *out);

/* Readers: fill an empty directory from an open file of len bytes. Errors: IO, INPUT, NOMEM. */
sky_status sky_safetensors_read_directory(int fd, const char *path, uint64_t len, sky_directory *directory);
sky_status sky_torch_read_directory(int fd, const char *path, uint64_t len, sky_directory *directory);

#endif
