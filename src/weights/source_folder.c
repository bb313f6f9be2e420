/* A folder of safetensors files as one source, and the index that says what is in which file. */
#include "weights/source_impl.h"

#include "base/file.h"
#include "base/json.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_INDEX_BYTES ((size_t)64 << 20)

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

/* One entry of the index: a tensor, and the file that has it. *index becomes that file's number in the source. */
static sky_status check_entry(const sky_source *source, int first_file, const char *name, const char *file, int *index)
{
    SKY_TRY(sky_check_name("tensor", name, strlen(name)));
    if (file == NULL || sky_check_name("file", file, strlen(file)) != SKY_OK || strchr(file, '/') != NULL) {
        return sky_fail(SKY_ERR_INPUT, "%.200s: want the name of a file in the same folder", name);
    }
    int i = first_file;
    while (i < source->num_files && strcmp(base_name(source->files[i].path), file) != 0) {
        i++;
    }
    if (i == source->num_files) {
        return sky_fail(SKY_ERR_INPUT, "%.200s: is in %.200s, which is missing (is the download complete?)", name,
                        file);
    }
    const sky_source_tensor *t = sky_source_find(source, name + sky_name_prefix_len(name, strlen(name)));
    if (t == NULL || t->file != i) {
        return sky_fail(SKY_ERR_INPUT, "%.200s: want it in %.200s, where it is not (files of two downloads?)", name,
                        file);
    }
    *index = i;
    return SKY_OK;
}

/* The index names exactly the tensors of the files that it names, and those files are all there. */
static sky_status check_weight_map(const sky_source *source, int first_file, const json_t *map)
{
    sky_status st = SKY_OK;
    const char *name = NULL;
    json_t *value = NULL;
    int64_t unnamed = 0; /* tensors of the named files less those that the map names */
    bool *named = calloc((size_t)source->num_files + 1, sizeof *named);
    if (named == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "no memory for %d files", source->num_files);
    }
    json_object_foreach((json_t *)map, name, value)
    {
        int index = 0;
        SKY_TRY_GOTO(check_entry(source, first_file, name, json_string_value(value), &index));
        named[index] = true;
        unnamed--;
    }
    for (int64_t i = 0; i < source->num_tensors; i++) {
        unnamed += named[source->tensors[i].file];
    }
    if (unnamed != 0) {
        st = sky_fail(SKY_ERR_INPUT, "its files hold %lld tensors that it does not name", (long long)unnamed);
    }
done:
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

/* ---- which files ---- */

static bool has_name(struct dirent *const *entries, int count, const char *name)
{
    for (int i = 0; i < count; i++) {
        if (entries[i] != NULL && strcmp(entries[i]->d_name, name) == 0) {
            return true;
        }
    }
    return false;
}

/*
 * Whether a name is another's of the list with something put in: "STEM.fp16.safetensors" or "STEM.fp16-00001-of-00002.safetensors"
 * beside it without the ".fp16" (a variant, which the published loaders take only where it is asked for), and "STEM (1).safetensors"
 * (a second download; any words behind a space).
 */
static bool is_beside(struct dirent *const *entries, int count, const char *name)
{
    char plain[NAME_MAX + 1];
    for (const char *from = strpbrk(name, ". "); from != NULL; from = strpbrk(from + 1, ". ")) {
        const char *to = from + 1 + strcspn(from + 1, *from == ' ' ? "." : ".-");
        if (*to == '\0') {
            continue;
        }
        snprintf(plain, sizeof plain, "%.*s%s", (int)(from - name), name, to);
        if (has_name(entries, count, plain)) {
            return true;
        }
        snprintf(plain, sizeof plain, "%.*s.safetensors", (int)(from - name), name); /* which may be one file */
        if (*to == '-' && has_name(entries, count, plain)) {
            return true;
        }
    }
    return false;
}

/* Takes an entry off the list, and remembers its name as one that was not read. */
static void leave(sky_source *source, struct dirent **entry)
{
    const size_t used = strlen(source->left_out);
    snprintf(source->left_out + used, sizeof source->left_out - used, "%s%s", used > 0 ? ", " : "", (*entry)->d_name);
    free(*entry);
    *entry = NULL;
}

static void leave_what_is_beside(sky_source *source, struct dirent **entries, int count)
{
    for (int i = 0; i < count; i++) {
        if (entries[i] != NULL && is_beside(entries, count, entries[i]->d_name)) {
            leave(source, &entries[i]);
        }
    }
}

/* Adds to `named` (an object) the files that an index names. */
static sky_status read_named(const char *folder, const char *index_name, json_t *named)
{
    sky_status st = SKY_OK;
    char *path = NULL;
    json_t *index = NULL;
    const char *tensor = NULL;
    json_t *file = NULL;
    SKY_TRY(sky_path_join(folder, index_name, &path));
    SKY_TRY_GOTO(sky_json_load(path, MAX_INDEX_BYTES, &index));
    json_object_foreach(json_object_get(index, "weight_map"), tensor, file)
    {
        if (json_is_string(file) && json_object_set_nocheck(named, json_string_value(file), json_true()) != 0) {
            st = sky_fail(SKY_ERR_NOMEM, "%s: no memory for its files", path);
            goto done;
        }
    }
done:
    json_decref(index);
    free(path);
    return st;
}

/* Where there is an index, only the files that it names are part of the model. */
static sky_status leave_what_no_index_names(sky_source *source, const char *folder, struct dirent *const *indexes,
                                            int num_indexes, struct dirent **entries, int count)
{
    sky_status st = SKY_OK;
    json_t *named = json_object();
    if (named == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "%s: no memory for its files", folder);
    }
    for (int i = 0; i < num_indexes; i++) {
        if (indexes[i] != NULL) {
            SKY_TRY_GOTO(read_named(folder, indexes[i]->d_name, named));
        }
    }
    for (int i = 0; json_object_size(named) > 0 && i < count; i++) {
        if (entries[i] != NULL && json_object_get(named, entries[i]->d_name) == NULL) {
            leave(source, &entries[i]);
        }
    }
done:
    json_decref(named);
    return st;
}

/* ---- the folder ---- */

static sky_status add_files(sky_source *source, const char *folder, struct dirent *const *entries, int count)
{
    for (int i = 0; i < count; i++) {
        char *path = NULL;
        if (entries[i] != NULL) {
            SKY_TRY(sky_path_join(folder, entries[i]->d_name, &path));
            const sky_status st = sky_source_add_safetensors(source, path);
            free(path);
            SKY_TRY(st);
        }
    }
    return SKY_OK;
}

static sky_status check_indexes(const sky_source *source, int first_file, const char *folder,
                                struct dirent *const *indexes, int num_indexes)
{
    for (int i = 0; i < num_indexes; i++) {
        char *path = NULL;
        if (indexes[i] != NULL) {
            SKY_TRY(sky_path_join(folder, indexes[i]->d_name, &path));
            const sky_status st = check_index(source, first_file, path);
            free(path);
            SKY_TRY(st);
        }
    }
    return SKY_OK;
}

sky_status sky_source_add_folder(sky_source *source, const char *folder)
{
    sky_status st = SKY_OK;
    struct dirent **entries = NULL;
    struct dirent **indexes = NULL;
    int count = 0;
    int num_indexes = 0;
    const int first_file = source->num_files;

    SKY_TRY_GOTO(list_folder(folder, is_safetensors, &entries, &count));
    SKY_TRY_GOTO(list_folder(folder, is_index, &indexes, &num_indexes));
    leave_what_is_beside(source, indexes, num_indexes);
    SKY_TRY_GOTO(leave_what_no_index_names(source, folder, indexes, num_indexes, entries, count));
    leave_what_is_beside(source, entries, count);
    SKY_TRY_GOTO(add_files(source, folder, entries, count));
    SKY_TRY_GOTO(check_indexes(source, first_file, folder, indexes, num_indexes));
    if (source->num_files == first_file) {
        st = sky_fail(SKY_ERR_INPUT, "%s: no *.safetensors in this folder", folder);
    }
done:
    free_entries(indexes, num_indexes);
    free_entries(entries, count);
    return st;
}

const char *sky_source_left_out(const sky_source *source)
{
    return source->left_out;
}
