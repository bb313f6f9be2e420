#include "weights/safetensors.h"

#include "base/checked.h"
#include "base/file.h"
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

/* Jansson's part of the budget beyond one header length; the other half is for the directory. */
#define JSON_BASE_BYTES (SKY_BUDGET_BASE_BYTES / 2)

static bool dtype_of(const char *name, sky_dtype *out)
{
    static const struct {
        const char *name;
        sky_dtype dtype;
    } rows[] = {
        {"F32", SKY_F32}, {"BF16", SKY_BF16}, {"F16", SKY_F16},         {"F64", SKY_F64},
        {"I64", SKY_I64}, {"I32", SKY_I32},   {"I16", SKY_I16},         {"I8", SKY_I8},
        {"U8", SKY_U8},   {"BOOL", SKY_BOOL}, {"F8_E4M3", SKY_F8_E4M3}, {"F8_E5M2", SKY_F8_E5M2},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (strcmp(name, rows[i].name) == 0) {
            *out = rows[i].dtype;
            return true;
        }
    }
    return false;
}

static sky_status parse_shape(const json_t *value, sky_source_tensor *t)
{
    if (!json_is_array(value) || json_array_size(value) > SKY_MAX_DIMS) {
        return sky_fail(SKY_ERR_INPUT, "shape: want a list of at most %d lengths", (int)SKY_MAX_DIMS);
    }
    t->num_dims = (int)json_array_size(value);
    for (int d = 0; d < t->num_dims; d++) {
        uint64_t length = 0;
        if (!sky_json_size(json_array_get(value, (size_t)d), &length)) {
            return sky_fail(SKY_ERR_INPUT, "shape: length %d is no integer in [0, 2^53]", d);
        }
        t->shape[d] = (int64_t)length;
    }
    return SKY_OK;
}

/* Offsets stay relative to the data here. */
static sky_status parse_tensor(const json_t *value, uint64_t data_bytes, sky_source_tensor *t)
{
    const json_t *dtype = json_object_get(value, "dtype");
    const json_t *shape = json_object_get(value, "shape");
    const json_t *offsets = json_object_get(value, "data_offsets");
    if (!json_is_object(value) || json_object_size(value) != 3 || !json_is_string(dtype) || shape == NULL ||
        offsets == NULL) {
        return sky_fail(SKY_ERR_INPUT, "want an object of \"dtype\", \"shape\" and \"data_offsets\"");
    }
    if (!dtype_of(json_string_value(dtype), &t->dtype)) {
        const char *name = json_string_value(dtype);
        const bool shown = strlen(name) <= 20 && sky_check_name("dtype", name, strlen(name)) == SKY_OK;
        return sky_fail(SKY_ERR_INPUT, "unknown dtype %s", shown ? name : "");
    }
    SKY_TRY(parse_shape(shape, t));

    uint64_t begin = 0;
    uint64_t end = 0;
    if (!json_is_array(offsets) || json_array_size(offsets) != 2 ||
        !sky_json_size(json_array_get(offsets, 0), &begin) || !sky_json_size(json_array_get(offsets, 1), &end)) {
        return sky_fail(SKY_ERR_INPUT, "data_offsets: want two integers in [0, 2^53]");
    }
    if (begin > end || end > data_bytes) {
        return sky_fail(SKY_ERR_INPUT, "data_offsets [%llu, %llu] are not in [0, %llu] (is the download complete?)",
                        (unsigned long long)begin, (unsigned long long)end, (unsigned long long)data_bytes);
    }
    uint64_t bytes = 0;
    if (!sky_shape_count(t->num_dims, t->shape, &bytes) || !sky_checked_mul(bytes, sky_dtype_bytes(t->dtype), &bytes) ||
        bytes != end - begin) {
        return sky_fail(SKY_ERR_INPUT, "shape and dtype do not make the %llu bytes of data_offsets",
                        (unsigned long long)(end - begin));
    }
    t->offset_bytes = begin;
    t->len_bytes = bytes;
    return SKY_OK;
}

static sky_status check_metadata(json_t *value)
{
    const char *key = NULL;
    json_t *text = NULL;
    bool ok = json_is_object(value);
    json_object_foreach(value, key, text)
    {
        ok = ok && json_is_string(text);
    }
    return ok ? SKY_OK : sky_fail(SKY_ERR_INPUT, "__metadata__: want a map of strings");
}

static int by_offset(const void *a, const void *b)
{
    const sky_source_tensor *x = a;
    const sky_source_tensor *y = b;
    if (x->offset_bytes != y->offset_bytes) {
        return x->offset_bytes < y->offset_bytes ? -1 : 1;
    }
    return (x->len_bytes > y->len_bytes) - (x->len_bytes < y->len_bytes);
}

/* Every byte of the data belongs to exactly one tensor. */
static sky_status check_tiling(sky_directory *directory, uint64_t data_offset_bytes, uint64_t data_bytes)
{
    uint64_t next = 0;
    if (directory->count > 0) {
        qsort(directory->tensors, (size_t)directory->count, sizeof directory->tensors[0], by_offset);
    }
    for (int64_t i = 0; i < directory->count; i++) {
        sky_source_tensor *t = &directory->tensors[i];
        if (t->offset_bytes != next) {
            return sky_fail(SKY_ERR_INPUT, "%.200s: begins at %llu of the data, want %llu (%s)", t->name,
                            (unsigned long long)t->offset_bytes, (unsigned long long)next,
                            t->offset_bytes < next ? "it overlaps another tensor" : "a hole");
        }
        next = t->offset_bytes + t->len_bytes; /* both were checked against data_bytes */
        t->offset_bytes += data_offset_bytes;
    }
    if (next != data_bytes) {
        return sky_fail(SKY_ERR_INPUT, "tensors end at %llu of the data, the file goes on to %llu",
                        (unsigned long long)next, (unsigned long long)data_bytes);
    }
    return SKY_OK;
}

static sky_status fill(json_t *header, uint64_t data_bytes, sky_budget *budget, sky_directory *directory)
{
    if (!json_is_object(header)) {
        return sky_fail(SKY_ERR_INPUT, "the header is no JSON object");
    }
    SKY_TRY(sky_directory_reserve(directory, budget, json_object_size(header)));
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach(header, name, value)
    {
        if (strcmp(name, "__metadata__") == 0) {
            SKY_TRY(check_metadata(value));
            continue;
        }
        SKY_TRY(sky_check_name("tensor", name, strlen(name)));
        sky_source_tensor t = {0};
        const sky_status st = parse_tensor(value, data_bytes, &t);
        if (st != SKY_OK) {
            return sky_fail_in(st, "%.200s", name);
        }
        SKY_TRY(sky_directory_add(directory, budget, name, strlen(name), &t));
    }
    return SKY_OK;
}

sky_status sky_safetensors_parse(const char *text, size_t len, uint64_t data_offset_bytes, uint64_t data_bytes,
                                 sky_budget *budget, sky_directory *directory)
{
    sky_status st = SKY_OK;
    json_t *header = NULL;
    if (len == 0 || text[0] != '{') {
        return sky_fail(SKY_ERR_INPUT, "the header does not begin with '{' (is it a safetensors file?)");
    }
    SKY_TRY_GOTO(sky_json_parse_within(text, len, JSON_BASE_BYTES + len, &header));
    SKY_TRY_GOTO(fill(header, data_bytes, budget, directory));
    SKY_TRY_GOTO(check_tiling(directory, data_offset_bytes, data_bytes));
done:
    json_decref(header);
    return st;
}

sky_status sky_safetensors_read_directory(int fd, const char *path, uint64_t len, sky_directory *directory)
{
    unsigned char prefix[8];
    if (len < sizeof prefix) {
        return sky_fail(SKY_ERR_INPUT, "%llu bytes are too few for a safetensors file", (unsigned long long)len);
    }
    SKY_TRY(sky_file_read_at(fd, path, 0, prefix, sizeof prefix));
    const uint64_t header_bytes = sky_little_endian(prefix, sizeof prefix);
    if (header_bytes > SKY_MAX_HEADER_BYTES || header_bytes > len - sizeof prefix) {
        return sky_fail(
            SKY_ERR_INPUT,
            "the header claims %llu bytes; at most %llu are allowed and the file has %llu (is it a safetensors "
            "file, and is the download complete?)",
            (unsigned long long)header_bytes, (unsigned long long)SKY_MAX_HEADER_BYTES,
            (unsigned long long)(len - sizeof prefix));
    }
    /* The text and Jansson's copy take half of the budget and one header each while the directory is made. */
    sky_budget budget = {.left_bytes = SKY_BUDGET_BASE_BYTES - JSON_BASE_BYTES};
    char *text = malloc((size_t)header_bytes + 1);
    if (text == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "no memory for a header of %llu bytes", (unsigned long long)header_bytes);
    }
    sky_status st = sky_file_read_at(fd, path, sizeof prefix, text, (size_t)header_bytes);
    if (st == SKY_OK) {
        st = sky_safetensors_parse(text, (size_t)header_bytes, sizeof prefix + header_bytes,
                                   len - sizeof prefix - header_bytes, &budget, directory);
    }
    free(text);
    return st;
}
