#include "weights/source.h"

#include "base/file.h"
#include "base/json.h"
#include "weights/directory.h"

#include <dirent.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum {
    PIECE_BYTES = 4 << 20,
    MAX_FILES = 4096,
};
#define MAX_INDEX_BYTES ((size_t)64 << 20)

typedef struct source_file {
    char *path;
    int fd;
    sky_checked_range *ranges;
    atomic_bool *range_ok; /* the range's checksum has been seen to be right */
    int64_t num_ranges;
} source_file;

struct sky_source {
    source_file *files;
    int num_files;
    sky_source_tensor *tensors; /* in name order */
    int64_t num_tensors;
};

sky_status sky_source_create(sky_source **out)
{
    sky_source *source = calloc(1, sizeof *source);
    if (source == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "no memory for a source of tensors");
    }
    *out = source;
    return SKY_OK;
}

static void release_file(source_file *file)
{
    sky_file_close(&file->fd);
    free(file->path);
    free(file->ranges);
    free(file->range_ok);
}

void sky_source_destroy(sky_source **source)
{
    if (*source == NULL) {
        return;
    }
    for (int i = 0; i < (*source)->num_files; i++) {
        release_file(&(*source)->files[i]);
    }
    for (int64_t i = 0; i < (*source)->num_tensors; i++) {
        free((char *)(*source)->tensors[i].name);
    }
    free((*source)->files);
    free((*source)->tensors);
    free(*source);
    *source = NULL;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const sky_source_tensor *)a)->name, ((const sky_source_tensor *)b)->name);
}

/* Takes over the directory's tensors and ranges, and the file; changes nothing where it fails. */
static sky_status merge(sky_source *source, sky_directory *directory, source_file *file)
{
    if (source->num_files == MAX_FILES) {
        return sky_fail(SKY_ERR_INPUT, "more than %d files", (int)MAX_FILES);
    }
    const int64_t total = source->num_tensors + directory->count;
    if (directory->count > 0) {
        qsort(directory->tensors, (size_t)directory->count, sizeof directory->tensors[0], by_name);
    }
    source_file *files = realloc(source->files, (size_t)(source->num_files + 1) * sizeof *files);
    if (files == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "no memory for %d files", source->num_files + 1);
    }
    source->files = files;
    sky_source_tensor *tensors = malloc((size_t)(total + 1) * sizeof *tensors);
    if (tensors == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "no memory for %lld tensors", (long long)total);
    }
    for (int64_t i = 0, old = 0, added = 0; i < total; i++) {
        const bool from_old =
            added == directory->count ||
            (old < source->num_tensors && by_name(&source->tensors[old], &directory->tensors[added]) < 0);
        tensors[i] = from_old ? source->tensors[old++] : directory->tensors[added++];
        if (!from_old) {
            tensors[i].file = source->num_files;
        }
        if (i > 0 && strcmp(tensors[i - 1].name, tensors[i].name) == 0) {
            const int other = tensors[i - 1].file == source->num_files ? tensors[i].file : tensors[i - 1].file;
            const sky_status st = sky_fail(SKY_ERR_INPUT, "%.200s: is there twice, also in %.300s", tensors[i].name,
                                           other == source->num_files ? file->path : source->files[other].path);
            free(tensors);
            return st;
        }
    }
    free(source->tensors);
    free(directory->tensors);
    source->tensors = tensors;
    source->num_tensors = total;
    source->files[source->num_files++] = *file;
    *directory = (sky_directory){0};
    return SKY_OK;
}

typedef sky_status (*read_directory)(int fd, const char *path, uint64_t len, sky_directory *directory);

static sky_status add_file(sky_source *source, const char *path, read_directory read)
{
    sky_status st = SKY_OK;
    source_file file = {.fd = -1};
    sky_directory directory = {0};
    uint64_t len = 0;

    SKY_TRY(sky_file_open(path, &file.fd, &len)); /* its messages name the path */
    file.path = strdup(path);
    if (file.path == NULL) {
        st = sky_fail(SKY_ERR_NOMEM, "no memory");
        goto done;
    }
    SKY_TRY_GOTO(read(file.fd, path, len, &directory));
    if (directory.num_ranges > 0) {
        file.range_ok = calloc((size_t)directory.num_ranges, sizeof *file.range_ok);
        if (file.range_ok == NULL) {
            st = sky_fail(SKY_ERR_NOMEM, "no memory");
            goto done;
        }
    }
    file.ranges = directory.ranges;
    file.num_ranges = directory.num_ranges;
    directory.ranges = NULL;
    SKY_TRY_GOTO(merge(source, &directory, &file));
    return SKY_OK;
done:
    release_file(&file);
    sky_directory_release(&directory);
    return st == SKY_ERR_IO ? st : sky_fail_in(st, "%s", path);
}

sky_status sky_source_add_safetensors(sky_source *source, const char *path)
{
    return add_file(source, path, sky_safetensors_read_directory);
}

sky_status sky_source_add_torch(sky_source *source, const char *path)
{
    return add_file(source, path, sky_torch_read_directory);
}

int64_t sky_source_count(const sky_source *source)
{
    return source->num_tensors;
}

const sky_source_tensor *sky_source_at(const sky_source *source, int64_t index)
{
    SKY_ASSERT(index >= 0 && index < source->num_tensors);
    return &source->tensors[index];
}

const sky_source_tensor *sky_source_find(const sky_source *source, const char *name)
{
    if (source->num_tensors == 0) {
        return NULL;
    }
    const sky_source_tensor key = {.name = name};
    return bsearch(&key, source->tensors, (size_t)source->num_tensors, sizeof key, by_name);
}

const char *sky_source_path(const sky_source *source, int index)
{
    SKY_ASSERT(index >= 0 && index < source->num_files);
    return source->files[index].path;
}

/* ---- folders ---- */

static bool has_suffix(const char *name, const char *suffix)
{
    const size_t len = strlen(name);
    const size_t suffix_len = strlen(suffix);
    return len > suffix_len && strcmp(name + len - suffix_len, suffix) == 0;
}

static int is_safetensors(const struct dirent *entry)
{
    return entry->d_name[0] != '.' && has_suffix(entry->d_name, ".safetensors");
}

static int is_index(const struct dirent *entry)
{
    return entry->d_name[0] != '.' && has_suffix(entry->d_name, ".safetensors.index.json");
}

/* strcmp, not the locale's order: every machine reads in the same order. */
static int by_entry_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static void free_entries(struct dirent **entries, int count)
{
    for (int i = 0; i < count; i++) {
        free(entries[i]);
    }
    free(entries);
}

static sky_status list_folder(const char *folder, int (*keep)(const struct dirent *), struct dirent ***entries,
                              int *count)
{
    const int found = scandir(folder, entries, keep, by_entry_name);
    if (found < 0) {
        char text[128];
        return sky_fail(SKY_ERR_IO, "%s: cannot list the folder: %s", folder, strerror_r(errno, text, sizeof text));
    }
    *count = found;
    return SKY_OK;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

/* The index names exactly the tensors of the files that it names, and those files are all there. */
static sky_status check_weight_map(const sky_source *source, int first_file, const json_t *map)
{
    const char *name = NULL;
    json_t *value = NULL;
    bool *named = calloc((size_t)source->num_files + 1, sizeof *named);
    sky_status st = named != NULL ? SKY_OK : sky_fail(SKY_ERR_NOMEM, "no memory");
    int64_t expected = 0;
    json_object_foreach((json_t *)map, name, value)
    {
        const char *file = json_string_value(value);
        if (st != SKY_OK) {
            break;
        }
        st = sky_check_name("tensor", name, strlen(name));
        if (st != SKY_OK) {
            break;
        }
        if (file == NULL || sky_check_name("file", file, strlen(file)) != SKY_OK || strchr(file, '/') != NULL) {
            st = sky_fail(SKY_ERR_INPUT, "%.200s: want the name of a file in the same folder", name);
            break;
        }
        int index = first_file;
        while (index < source->num_files && strcmp(base_name(source->files[index].path), file) != 0) {
            index++;
        }
        if (index == source->num_files) {
            st = sky_fail(SKY_ERR_INPUT, "%.200s: is in %.200s, which is missing (is the download complete?)", name,
                          file);
            break;
        }
        const sky_source_tensor *t = sky_source_find(source, name + sky_name_prefix_len(name, strlen(name)));
        if (t == NULL || t->file != index) {
            st = sky_fail(SKY_ERR_INPUT, "%.200s: want it in %.200s, where it is not", name, file);
            break;
        }
        named[index] = true;
        expected++;
    }
    for (int64_t i = 0; i < source->num_tensors && st == SKY_OK; i++) {
        expected -= named[source->tensors[i].file];
    }
    if (st == SKY_OK && expected != 0) {
        st = sky_fail(SKY_ERR_INPUT, "its files hold %lld tensors that it does not name", -(long long)expected);
    }
    free(named);
    return st;
}

static sky_status check_index(const sky_source *source, int first_file, const char *path)
{
    json_t *index = NULL;
    SKY_TRY(sky_json_load(path, MAX_INDEX_BYTES, &index));
    const json_t *map = json_object_get(index, "weight_map");
    sky_status st = json_is_object(map) ? check_weight_map(source, first_file, map)
                                        : sky_fail(SKY_ERR_INPUT, "want an object \"weight_map\"");
    json_decref(index);
    return sky_fail_in(st, "%s", path);
}

sky_status sky_source_add_folder(sky_source *source, const char *folder)
{
    sky_status st = SKY_OK;
    struct dirent **entries = NULL;
    int count = 0;
    char *path = NULL;
    const int first_file = source->num_files;

    SKY_TRY_GOTO(list_folder(folder, is_safetensors, &entries, &count));
    for (int i = 0; i < count; i++) {
        SKY_TRY_GOTO(sky_path_join(folder, entries[i]->d_name, &path));
        SKY_TRY_GOTO(sky_source_add_safetensors(source, path));
        free(path);
        path = NULL;
    }
    free_entries(entries, count);
    entries = NULL;
    count = 0;
    SKY_TRY_GOTO(list_folder(folder, is_index, &entries, &count));
    for (int i = 0; i < count; i++) {
        SKY_TRY_GOTO(sky_path_join(folder, entries[i]->d_name, &path));
        SKY_TRY_GOTO(check_index(source, first_file, path));
        free(path);
        path = NULL;
    }
    if (source->num_files == first_file) {
        st = sky_fail(SKY_ERR_INPUT, "%s: no *.safetensors in this folder", folder);
    }
done:
    free(path);
    free_entries(entries, count);
    return st;
}

/* ---- values ---- */

/* Index of the first NaN or infinity among count f32, bf16 or f16 values; count where there is none. */
static size_t find_not_finite(const unsigned char *values, sky_dtype dtype, size_t count)
{
    const uint32_t mask32 = 0x7f800000U;
    const uint16_t mask16 = dtype == SKY_BF16 ? 0x7f80U : 0x7c00U;
    enum { BLOCK = 1024 };
    for (size_t start = 0; start < count; start += BLOCK) {
        const size_t end = count - start < BLOCK ? count : start + BLOCK;
        unsigned bad = 0; /* without a branch inside, so that it is vectorised */
        if (dtype == SKY_F32) {
            for (size_t i = start; i < end; i++) {
                uint32_t bits;
                memcpy(&bits, values + 4 * i, sizeof bits);
                bad |= (bits & mask32) == mask32;
            }
        } else {
            for (size_t i = start; i < end; i++) {
                uint16_t bits;
                memcpy(&bits, values + 2 * i, sizeof bits);
                bad |= (bits & mask16) == mask16;
            }
        }
        for (size_t i = start; bad != 0 && i < end; i++) {
            uint32_t bits = 0;
            memcpy(&bits, values + sky_dtype_bytes(dtype) * i, sky_dtype_bytes(dtype));
            const uint32_t mask = dtype == SKY_F32 ? mask32 : mask16;
            if ((bits & mask) == mask) {
                return i;
            }
        }
    }
    return count;
}

/* The range that holds [offset, offset + len); NULL where the format has none. */
static int64_t find_range(const source_file *file, uint64_t offset)
{
    int64_t low = 0;
    int64_t high = file->num_ranges;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        const sky_checked_range *r = &file->ranges[middle];
        if (offset < r->offset_bytes) {
            high = middle;
        } else if (offset - r->offset_bytes >= r->len_bytes) {
            low = middle + 1;
        } else {
            return middle;
        }
    }
    return -1;
}

static sky_status checksum_failed(void)
{
    return sky_fail(SKY_ERR_INPUT, "the checksum of its data is wrong (damaged file; copy or download it again)");
}

/* For tensors that are only a part of their storage: the whole storage's checksum, once. */
static sky_status check_range(const source_file *file, int64_t index, unsigned char *piece)
{
    const sky_checked_range *r = &file->ranges[index];
    if (atomic_load(&file->range_ok[index])) {
        return SKY_OK;
    }
    uLong crc = 0;
    for (uint64_t done = 0; done < r->len_bytes;) {
        const size_t bytes = r->len_bytes - done < PIECE_BYTES ? (size_t)(r->len_bytes - done) : PIECE_BYTES;
        SKY_TRY(sky_file_read_at(file->fd, file->path, r->offset_bytes + done, piece, bytes));
        crc = crc32_z(crc, piece, bytes);
        done += bytes;
    }
    if (crc != r->crc32) {
        return checksum_failed();
    }
    atomic_store(&file->range_ok[index], true);
    return SKY_OK;
}

static bool is_floating(sky_dtype dtype)
{
    return dtype == SKY_F32 || dtype == SKY_BF16 || dtype == SKY_F16 || dtype == SKY_F64;
}

static sky_status read_pieces(const source_file *file, const sky_source_tensor *tensor, unsigned char *dst,
                              sky_dtype dst_dtype, unsigned char *piece)
{
    const size_t from_bytes = sky_dtype_bytes(tensor->dtype);
    const size_t to_bytes = sky_dtype_bytes(dst_dtype);
    const uint64_t count = tensor->len_bytes / from_bytes;
    const size_t piece_len = PIECE_BYTES / from_bytes;

    const int64_t range = count > 0 ? find_range(file, tensor->offset_bytes) : -1;
    const bool whole = range >= 0 && file->ranges[range].offset_bytes == tensor->offset_bytes &&
                       file->ranges[range].len_bytes == tensor->len_bytes;
    if (range >= 0 && !whole) {
        SKY_TRY(check_range(file, range, piece));
    }
    uLong crc = 0;
    for (uint64_t done = 0; done < count;) {
        const size_t len = count - done < piece_len ? (size_t)(count - done) : piece_len;
        unsigned char *to = dst + done * to_bytes;
        unsigned char *from = tensor->dtype == dst_dtype ? to : piece;
        SKY_TRY(
            sky_file_read_at(file->fd, file->path, tensor->offset_bytes + done * from_bytes, from, len * from_bytes));
        if (whole) {
            crc = crc32_z(crc, from, len * from_bytes);
        }
        if (from != to && !sky_dtype_convert(to, dst_dtype, from, tensor->dtype, len)) {
            return sky_fail(SKY_ERR_INTERNAL, "no conversion from %s to %s", sky_dtype_name(tensor->dtype),
                            sky_dtype_name(dst_dtype));
        }
        /* After the conversion: what the model would see. A finite value may be too large for the narrower type. */
        const size_t bad = find_not_finite(to, dst_dtype, len);
        if (bad < len) {
            return sky_fail(SKY_ERR_INPUT, "element %llu is NaN or infinite as %s", (unsigned long long)(done + bad),
                            sky_dtype_name(dst_dtype));
        }
        done += len;
    }
    if (whole && crc != file->ranges[range].crc32) {
        return checksum_failed();
    }
    return SKY_OK;
}

sky_status sky_source_read(const sky_source *source, const sky_source_tensor *tensor, void *dst, sky_dtype dst_dtype)
{
    SKY_ASSERT(tensor->file >= 0 && tensor->file < source->num_files);
    const source_file *file = &source->files[tensor->file];
    if (!is_floating(tensor->dtype)) {
        return sky_fail(SKY_ERR_DTYPE, "%s: %.200s: want floating numbers, found %s", file->path, tensor->name,
                        sky_dtype_name(tensor->dtype));
    }
    if (!is_floating(dst_dtype) || dst_dtype == SKY_F64) {
        return sky_fail(SKY_ERR_DTYPE, "%.200s: wanted as %s; only f32, bf16 and f16 are offered", tensor->name,
                        sky_dtype_name(dst_dtype));
    }
    unsigned char *piece = malloc(PIECE_BYTES);
    if (piece == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "%.200s: no memory for %d bytes", tensor->name, (int)PIECE_BYTES);
    }
    const sky_status st = read_pieces(file, tensor, dst, dst_dtype, piece);
    free(piece);
    return sky_fail_in(sky_fail_in(st, "%.200s", tensor->name), "%s", file->path);
}
