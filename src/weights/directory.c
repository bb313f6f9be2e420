#include "weights/directory.h"

#include "base/checked.h"
#include "base/utf8.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

static sky_status over_budget(const sky_budget *budget, uint64_t bytes)
{
    return sky_fail(SKY_ERR_INPUT, "its directory needs more memory than it may (%llu bytes more, %llu left)",
                    (unsigned long long)bytes, (unsigned long long)budget->left_bytes);
}

sky_status sky_budget_alloc(sky_budget *budget, uint64_t bytes, void **out)
{
    if (bytes > budget->left_bytes || bytes > SIZE_MAX - 1) {
        return over_budget(budget, bytes);
    }
    void *block = malloc(bytes > 0 ? (size_t)bytes : 1);
    if (block == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "no memory for %llu bytes", (unsigned long long)bytes);
    }
    const uint64_t used = malloc_usable_size(block); /* many short names take more than their letters */
    if (used > budget->left_bytes) {
        free(block);
        return over_budget(budget, used);
    }
    budget->left_bytes -= used;
    *out = block;
    return SKY_OK;
}

void sky_budget_free(sky_budget *budget, void *block)
{
    if (block != NULL) {
        budget->left_bytes += malloc_usable_size(block);
        free(block);
    }
}

uint64_t sky_little_endian(const unsigned char *p, int num_bytes)
{
    uint64_t number = 0;
    for (int i = num_bytes; i > 0; i--) {
        number = number << 8 | p[i - 1];
    }
    return number;
}

void sky_directory_release(sky_directory *directory)
{
    for (int64_t i = 0; i < directory->count; i++) {
        free((char *)directory->tensors[i].name);
    }
    free(directory->tensors);
    free(directory->ranges);
    *directory = (sky_directory){0};
}

sky_status sky_directory_reserve(sky_directory *directory, sky_budget *budget, uint64_t capacity)
{
    SKY_ASSERT(directory->tensors == NULL);
    uint64_t bytes = 0;
    if (capacity > INT32_MAX || !sky_checked_mul(capacity, sizeof directory->tensors[0], &bytes)) {
        return sky_fail(SKY_ERR_INPUT, "%llu tensors are too many", (unsigned long long)capacity);
    }
    void *block = NULL;
    SKY_TRY(sky_budget_alloc(budget, bytes, &block));
    directory->tensors = block;
    directory->capacity = (int64_t)capacity;
    return SKY_OK;
}

sky_status sky_check_name(const char *what, const char *name, size_t len)
{
    if (len < 1 || len > SKY_MAX_NAME_BYTES) {
        return sky_fail(SKY_ERR_INPUT, "a name of a %s has %zu bytes, want 1 to %d", what, len,
                        (int)SKY_MAX_NAME_BYTES);
    }
    const unsigned char *s = (const unsigned char *)name;
    for (size_t i = 0; i < len;) {
        const size_t step = sky_utf8_sequence(name + i, len - i);
        if (step == 0) {
            return sky_fail(SKY_ERR_INPUT, "a name of a %s is not UTF-8", what);
        }
        /* C0, DEL, and C1 (U+0080 to U+009F) */
        if (s[i] < 0x20 || s[i] == 0x7f || (step == 2 && s[i] == 0xc2 && s[i + 1] < 0xa0)) {
            return sky_fail(SKY_ERR_INPUT, "a name of a %s has a control character", what);
        }
        i += step;
    }
    return SKY_OK;
}

size_t sky_name_prefix_len(const char *name, size_t len)
{
    static const char prefix[] = "model.diffusion_model.";
    return len > sizeof prefix - 1 && memcmp(name, prefix, sizeof prefix - 1) == 0 ? sizeof prefix - 1 : 0;
}

sky_status sky_directory_add(sky_directory *directory, sky_budget *budget, const char *name, size_t len,
                             const sky_source_tensor *tensor)
{
    SKY_ASSERT(directory->count < directory->capacity);
    SKY_TRY(sky_check_name("tensor", name, len));
    const size_t skipped = sky_name_prefix_len(name, len);
    name += skipped;
    len -= skipped;
    void *block = NULL;
    SKY_TRY(sky_budget_alloc(budget, len + 1, &block));
    char *copy = block;
    memcpy(copy, name, len);
    copy[len] = '\0';
    sky_source_tensor *entry = &directory->tensors[directory->count++];
    *entry = *tensor;
    entry->name = copy;
    return SKY_OK;
}

bool sky_shape_count(int num_dims, const int64_t *shape, uint64_t *out)
{
    uint64_t count = 1;
    for (int d = 0; d < num_dims; d++) {
        if (shape[d] < 0 || shape[d] > (int64_t)1 << 53 || !sky_checked_mul(count, (uint64_t)shape[d], &count)) {
            return false;
        }
    }
    *out = count;
    return count <= (uint64_t)INT64_MAX;
}
