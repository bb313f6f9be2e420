/* Torch's .pth: a zip archive of a pickle and the raw storages that it names. */
#include "weights/directory.h"

#include "base/checked.h"
#include "base/file.h"
#include "weights/torch_pickle.h"
#include "weights/torch_zip.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_UNREFERENCED_BYTES = 64 << 10 };

static const char pickle_name[] = "/data.pkl";

typedef struct torch_reader {
    const sky_zip *zip;
    const char *folder; /* folder_len bytes of the pickle's name: all members are below it */
    size_t folder_len;
    sky_budget *budget;
    sky_directory *directory;
} torch_reader;

static bool ends_with(const sky_zip_member *m, const char *tail)
{
    const size_t len = strlen(tail);
    return m->name_len >= len && memcmp(m->name + m->name_len - len, tail, len) == 0;
}

static sky_zip_member *find_member(const torch_reader *r, const char *part, const char *key, size_t key_len)
{
    char name[2 * SKY_MAX_NAME_BYTES];
    const size_t part_len = strlen(part);
    if (key_len > SKY_MAX_NAME_BYTES - part_len || r->folder_len > SKY_MAX_NAME_BYTES) {
        return NULL;
    }
    memcpy(name, r->folder, r->folder_len);
    memcpy(name + r->folder_len, part, part_len);
    if (key_len > 0) {
        memcpy(name + r->folder_len + part_len, key, key_len);
    }
    return sky_zip_find(r->zip, name, r->folder_len + part_len + key_len);
}

static sky_status find_storage(void *user, const char *key, size_t key_len, sky_dtype dtype, uint64_t numel,
                               int64_t *index)
{
    const torch_reader *r = user;
    sky_zip_member *m = key_len > 0 ? find_member(r, "/data/", key, key_len) : NULL;
    uint64_t bytes = 0;
    if (m == NULL) {
        return sky_fail(
            SKY_ERR_INPUT,
            "pickle: it names a storage that the archive has not (damaged file; copy or download it again)");
    }
    if (!sky_checked_mul(numel, sky_dtype_bytes(dtype), &bytes) || bytes != m->len_bytes) {
        return sky_fail(SKY_ERR_INPUT, "pickle: %.*s: %llu x %s do not make its %llu bytes", sky_zip_shown(m), m->name,
                        (unsigned long long)numel, sky_dtype_name(dtype), (unsigned long long)m->len_bytes);
    }
    if (m->dtype >= 0 && m->dtype != (int)dtype) {
        return sky_fail(SKY_ERR_INPUT, "pickle: %.*s is named with two types", sky_zip_shown(m), m->name);
    }
    m->dtype = (int)dtype;
    m->referenced = true;
    *index = m - r->zip->members;
    return SKY_OK;
}

static sky_status begin_tensors(void *user, uint64_t num_tensors)
{
    const torch_reader *r = user;
    return sky_directory_reserve(r->directory, r->budget, num_tensors);
}

static sky_status add_tensor(void *user, const sky_pickle_tensor *tensor)
{
    const torch_reader *r = user;
    const size_t element_bytes = sky_dtype_bytes(tensor->dtype);
    sky_source_tensor t = {.dtype = tensor->dtype, .num_dims = tensor->num_dims};
    memcpy(t.shape, tensor->shape, sizeof t.shape);
    /* first + count <= the storage's elements, and those are bytes of the file: no overflow */
    t.offset_bytes = r->zip->members[tensor->storage].data_offset_bytes + tensor->first * element_bytes;
    t.len_bytes = tensor->count * element_bytes;
    return sky_directory_add(r->directory, r->budget, tensor->name, tensor->name_len, &t);
}

/* The one data.pkl in the one top folder. */
static sky_status find_pickle(torch_reader *r, sky_zip_member **out)
{
    sky_zip_member *found = NULL;
    for (uint64_t i = 0; i < r->zip->num_members; i++) {
        sky_zip_member *m = &r->zip->members[i];
        if (!ends_with(m, pickle_name)) {
            continue;
        }
        if (found != NULL) {
            return sky_fail(SKY_ERR_INPUT, "zip: two members end in %s", pickle_name);
        }
        found = m;
    }
    if (found == NULL) {
        return sky_fail(SKY_ERR_INPUT, "zip: no member ends in %s (not written by torch.save()?)", pickle_name);
    }
    r->folder = found->name;
    r->folder_len = found->name_len - strlen(pickle_name);
    for (uint64_t i = 0; i < r->zip->num_members; i++) {
        const sky_zip_member *m = &r->zip->members[i];
        if (memchr(r->folder, '/', r->folder_len) != NULL || m->name_len <= r->folder_len ||
            memcmp(m->name, r->folder, r->folder_len) != 0 || m->name[r->folder_len] != '/') {
            return sky_fail(SKY_ERR_INPUT, "zip: %.*s is not in the one top folder", sky_zip_shown(m), m->name);
        }
    }
    found->referenced = true;
    *out = found;
    return SKY_OK;
}

static sky_status check_byte_order(int fd, const char *path, torch_reader *r)
{
    char text[8] = "";
    const sky_zip_member *m = find_member(r, "/byteorder", NULL, 0);
    if (m == NULL) {
        return SKY_OK; /* before torch 2.1: little */
    }
    if (m->len_bytes >= sizeof text) {
        return sky_fail(SKY_ERR_INPUT, "zip: byteorder has %llu bytes", (unsigned long long)m->len_bytes);
    }
    SKY_TRY(sky_zip_read(fd, path, m, text));
    if (strcmp(text, "little") != 0) {
        return sky_fail(SKY_ERR_INPUT, "its byte order is not little-endian; save it again on a little-endian machine");
    }
    return SKY_OK;
}

/* What torch.save() adds for itself. */
static bool is_torch_s_own(const sky_zip_member *m, size_t folder_len)
{
    static const char *const rows[] = {"/version", "/byteorder"};
    static const char data[] = "/.data/";
    const char *rest = m->name + folder_len;
    const size_t len = m->name_len - folder_len;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (len == strlen(rows[i]) && memcmp(rest, rows[i], len) == 0) {
            return true;
        }
    }
    return len > sizeof data - 1 && memcmp(rest, data, sizeof data - 1) == 0;
}

static sky_status check_unreferenced(const torch_reader *r)
{
    for (uint64_t i = 0; i < r->zip->num_members; i++) {
        const sky_zip_member *m = &r->zip->members[i];
        if (!m->referenced && m->len_bytes > MAX_UNREFERENCED_BYTES && !is_torch_s_own(m, r->folder_len)) {
            return sky_fail(SKY_ERR_INPUT, "zip: %.*s has %llu bytes that no tensor uses", sky_zip_shown(m), m->name,
                            (unsigned long long)m->len_bytes);
        }
    }
    return SKY_OK;
}

static int by_offset(const void *a, const void *b)
{
    const sky_checked_range *x = a;
    const sky_checked_range *y = b;
    return (x->offset_bytes > y->offset_bytes) - (x->offset_bytes < y->offset_bytes);
}

/* The storages' checksums, for reading. */
static sky_status keep_ranges(const torch_reader *r)
{
    void *block = NULL;
    SKY_TRY(sky_budget_alloc(r->budget, r->zip->num_members * sizeof *r->directory->ranges, &block));
    sky_checked_range *ranges = block;
    int64_t count = 0;
    for (uint64_t i = 0; i < r->zip->num_members; i++) {
        const sky_zip_member *m = &r->zip->members[i];
        if (m->dtype >= 0 && m->len_bytes > 0) {
            ranges[count++] = (sky_checked_range){m->data_offset_bytes, m->len_bytes, m->crc32};
        }
    }
    qsort(ranges, (size_t)count, sizeof *ranges, by_offset);
    r->directory->ranges = ranges;
    r->directory->num_ranges = count;
    return SKY_OK;
}

static sky_status check_signature(int fd, const char *path, uint64_t len)
{
    unsigned char start[4] = {0};
    if (len < sizeof start) {
        return sky_fail(SKY_ERR_INPUT, "%llu bytes are too few for a torch file", (unsigned long long)len);
    }
    SKY_TRY(sky_file_read_at(fd, path, 0, start, sizeof start));
    if (memcmp(start, "PK\3\4", sizeof start) == 0) {
        return SKY_OK;
    }
    if (start[0] == 0x80) { /* a pickle's first byte */
        return sky_fail(SKY_ERR_INPUT,
                        "a torch file in the format from before torch 1.6 (a bare pickle, no zip archive), which is "
                        "not read; load it with torch and save it again with torch.save()");
    }
    return sky_fail(SKY_ERR_INPUT,
                    "not a torch file (want a zip archive, which begins with PK; is the download complete?)");
}

sky_status sky_torch_read_directory(int fd, const char *path, uint64_t len, sky_directory *directory)
{
    sky_status st = SKY_OK;
    sky_budget budget = {.left_bytes = SKY_BUDGET_BASE_BYTES};
    sky_zip zip = {0};
    sky_zip_member *pickle = NULL;
    void *data = NULL;

    SKY_TRY(check_signature(fd, path, len));
    SKY_TRY(sky_zip_open(fd, path, len, &budget, &zip));
    torch_reader reader = {.zip = &zip, .budget = &budget, .directory = directory};
    SKY_TRY_GOTO(find_pickle(&reader, &pickle));
    SKY_TRY_GOTO(check_byte_order(fd, path, &reader));
    if (pickle->len_bytes > SKY_MAX_HEADER_BYTES) {
        st = sky_fail(SKY_ERR_INPUT, "zip: data.pkl has %llu bytes, at most %llu are allowed",
                      (unsigned long long)pickle->len_bytes, (unsigned long long)SKY_MAX_HEADER_BYTES);
        goto done;
    }
    budget.left_bytes += 2 * pickle->len_bytes;
    SKY_TRY_GOTO(sky_budget_alloc(&budget, pickle->len_bytes, &data));
    SKY_TRY_GOTO(sky_zip_read(fd, path, pickle, data));
    SKY_TRY_GOTO(sky_pickle_read(
        data, (size_t)pickle->len_bytes, &budget,
        &(sky_pickle_visitor){.user = &reader, .storage = find_storage, .begin = begin_tensors, .tensor = add_tensor}));
    SKY_TRY_GOTO(check_unreferenced(&reader));
    SKY_TRY_GOTO(keep_ranges(&reader));
done:
    sky_budget_free(&budget, data);
    sky_zip_close(&zip, &budget);
    return st;
}
