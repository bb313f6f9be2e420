#include "weights/source_impl.h"

#include "base/file.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_FILES = 4096 };

sky_status sky_source_create(sky_source **out)
{
    sky_source *source = calloc(1, sizeof *source);
    if (source == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "no memory for a source of tensors");
    }
    *out = source;
    return SKY_OK;
}

static void release_file(sky_source_file *file)
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
static sky_status merge(sky_source *source, sky_directory *directory, sky_source_file *file)
{
    if (source->num_files == MAX_FILES) {
        return sky_fail(SKY_ERR_INPUT, "more than %d files", (int)MAX_FILES);
    }
    const int64_t total = source->num_tensors + directory->count;
    if (directory->count > 0) {
        qsort(directory->tensors, (size_t)directory->count, sizeof directory->tensors[0], by_name);
    }
    sky_source_file *files = realloc(source->files, (size_t)(source->num_files + 1) * sizeof *files);
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

sky_status sky_source_add_directory(sky_source *source, const char *path, int *fd, sky_directory *directory)
{
    sky_status st = SKY_OK;
    sky_source_file file = {.fd = -1, .num_ranges = directory->num_ranges};
    file.path = strdup(path);
    if (directory->num_ranges > 0) {
        file.range_ok = calloc((size_t)directory->num_ranges, sizeof *file.range_ok);
    }
    if (file.path == NULL || (directory->num_ranges > 0 && file.range_ok == NULL)) {
        st = sky_fail(SKY_ERR_NOMEM, "no memory");
        goto done;
    }
    file.ranges = directory->ranges;
    file.fd = *fd;
    st = merge(source, directory, &file);
    if (st == SKY_OK) {
        *fd = -1;
        return SKY_OK;
    }
    file.ranges = NULL; /* still the directory's */
    file.fd = -1;
done:
    release_file(&file);
    return st;
}

typedef sky_status (*read_directory)(int fd, const char *path, uint64_t len, sky_directory *directory);

static sky_status add_file(sky_source *source, const char *path, read_directory read)
{
    sky_status st = SKY_OK;
    int fd = -1;
    sky_directory directory = {0};
    uint64_t len = 0;

    SKY_TRY(sky_file_open(path, &fd, &len)); /* its messages name the path */
    SKY_TRY_GOTO(read(fd, path, len, &directory));
    SKY_TRY_GOTO(sky_source_add_directory(source, path, &fd, &directory));
done:
    sky_file_close(&fd);
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
