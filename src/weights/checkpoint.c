#include "weights/checkpoint.h"

#include "base/checked.h"
#include "base/file.h"
#include "base/json.h"
#include "base/utf8.h"
#include "weights/converted.h"
#include "weights/manifest.h"
#include "weights/names.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CONFIG_BYTES   ((size_t)1 << 20)
#define MAX_MANIFEST_BYTES ((size_t)64 << 20)

typedef struct component_files {
    sky_source *source;
    json_t *config;
    sky_layout names; /* told by the tensors' names */
} component_files;

struct sky_checkpoint {
    char *path;
    char *tokenizer_path;
    sky_layout layout;
    sky_dtype codes; /* of a converted folder */
    component_files components[SKY_COMPONENT_COUNT];
};

/* What is missing, as a list for one message. */
typedef struct missing_list {
    char text[1024];
    int count;
} missing_list;

static void add_missing(missing_list *missing, const char *what)
{
    const size_t used = strlen(missing->text);
    snprintf(missing->text + used, sizeof missing->text - used, "%s%s", missing->count > 0 ? ", " : "", what);
    missing->count++;
}

static const char what_a_folder_holds[] =
    "A model folder holds, in the original layout, config.json, *.safetensors, models_t5_umt5-xxl-enc-bf16.pth, "
    "Wan2.1_VAE.pth and google/umt5-xxl/tokenizer.json; in Diffusers' layout, transformer/, text_encoder/, vae/ and "
    "tokenizer/; a converted one, manifest.json and its shards";

const char *sky_component_name(sky_component component)
{
    static const char *const names[SKY_COMPONENT_COUNT] = {
        [SKY_TRANSFORMER] = "transformer",
        [SKY_TEXT_ENCODER] = "text encoder",
        [SKY_VAE] = "VAE",
    };
    return (unsigned)component < SKY_COMPONENT_COUNT ? names[component] : "unknown component";
}

/* ---- finding files ---- */

/*
 * The one file of a folder whose name fits the pattern, or the one called `usual` where several do. *out is NULL where
 * there is none. Errors: INPUT where there are several, IO, NOMEM.
 */
static sky_status find_file(const char *folder, const char *pattern, const char *usual, char **out)
{
    sky_status st = SKY_OK;
    char *found = NULL;
    bool is_usual = false;
    DIR *dir = opendir(folder);
    *out = NULL;
    if (dir == NULL) {
        char text[128];
        return sky_fail(SKY_ERR_IO, "%s: cannot list the folder: %s", folder, strerror_r(errno, text, sizeof text));
    }
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (fnmatch(pattern, entry->d_name, FNM_PERIOD) != 0 || is_usual) {
            continue;
        }
        is_usual = strcmp(entry->d_name, usual) == 0;
        if (found != NULL && !is_usual) {
            /* Known to be ambiguous only at the end: the usual one may still come. */
            st = sky_fail(SKY_ERR_INPUT, "%s: several files fit %s and none is called %s", folder, pattern, usual);
            continue;
        }
        free(found);
        found = strdup(entry->d_name);
        if (found == NULL) {
            st = sky_fail(SKY_ERR_NOMEM, "no memory");
            break;
        }
    }
    closedir(dir);
    if (is_usual && found != NULL) {
        st = SKY_OK;
    }
    if (st == SKY_OK && found != NULL) {
        st = sky_path_join(folder, found, out);
    }
    free(found);
    return st;
}

/* path/name where it is of this kind; *out is NULL where it is not. */
static sky_status find_part(const char *path, const char *name, sky_path_kind wanted, char **out)
{
    char *joined = NULL;
    sky_path_kind kind = SKY_PATH_NONE;
    *out = NULL;
    SKY_TRY(sky_path_join(path, name, &joined));
    const sky_status st = sky_path_look(joined, &kind);
    if (st == SKY_OK && kind == wanted) {
        *out = joined;
    } else {
        free(joined);
    }
    return st;
}

static sky_status has_part(const char *path, const char *name, sky_path_kind wanted, bool *out)
{
    char *joined = NULL;
    sky_path_kind kind = SKY_PATH_NONE;
    SKY_TRY(sky_path_join(path, name, &joined));
    const sky_status st = sky_path_look(joined, &kind);
    *out = st == SKY_OK && kind == wanted;
    free(joined);
    return st;
}

/* Whether a name in the folder fits; false where there is no such folder. */
static sky_status has_match(const char *folder, const char *pattern, bool *out)
{
    DIR *dir = opendir(folder);
    *out = false;
    if (dir == NULL) {
        char text[128];
        return errno == ENOENT || errno == ENOTDIR ? SKY_OK
                                                   : sky_fail(SKY_ERR_IO, "%s: cannot list the folder: %s", folder,
                                                              strerror_r(errno, text, sizeof text));
    }
    for (struct dirent *entry = readdir(dir); entry != NULL && !*out; entry = readdir(dir)) {
        *out = fnmatch(pattern, entry->d_name, FNM_PERIOD) == 0;
    }
    closedir(dir);
    return SKY_OK;
}

/* path/name where it is a folder with weights in it; *out is NULL where it is not. */
static sky_status find_weights(const char *path, const char *name, char **out)
{
    char *joined = NULL;
    bool found = false;
    *out = NULL;
    SKY_TRY(sky_path_join(path, name, &joined));
    const sky_status st = has_match(joined, "*.safetensors", &found);
    if (st == SKY_OK && found) {
        *out = joined;
    } else {
        free(joined);
    }
    return st;
}

/* The tokenizer in a folder: tokenizer.json, else spiece.model, which text/tokenizer.h reads in this order. */
static sky_status find_tokenizer(const char *path, const char *folder, char **out)
{
    static const char *const names[] = {"tokenizer.json", "spiece.model"};
    *out = NULL;
    for (int i = 0; i < 2 && *out == NULL; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s/%s", folder, names[i]);
        SKY_TRY(find_part(path, name, SKY_PATH_FILE, out));
    }
    return SKY_OK;
}

/* ---- opening ---- */

static sky_status load_config(sky_checkpoint *c, sky_component component, const char *path)
{
    json_t **config = &c->components[component].config;
    SKY_TRY(sky_json_load(path, MAX_CONFIG_BYTES, config));
    return json_is_object(*config) ? SKY_OK : sky_fail(SKY_ERR_INPUT, "%s: want a JSON object", path);
}

/* One part of the folder and what becomes of it. */
typedef struct part {
    const char *name; /* as in messages */
    char *path;       /* NULL where it is missing */
} part;

enum { MAX_PARTS = 8 };

static sky_status report_missing(const char *path, const part *parts, int num_parts)
{
    missing_list missing = {0};
    missing_list looked_for = {0};
    for (int i = 0; i < num_parts; i++) {
        add_missing(&looked_for, parts[i].name);
        if (parts[i].path == NULL) {
            add_missing(&missing, parts[i].name);
        }
    }
    if (missing.count == 0) {
        return SKY_OK;
    }
    return sky_fail(SKY_ERR_INPUT, "%s: the model is not complete: missing %s (looked for %s)", path, missing.text,
                    looked_for.text);
}

static void free_parts(part *parts, int num_parts)
{
    for (int i = 0; i < num_parts; i++) {
        free(parts[i].path);
    }
}

static sky_status open_original(sky_checkpoint *c)
{
    enum { CONFIG, WEIGHTS, TEXT, VAE, TOKENIZER, PARTS };
    sky_status st = SKY_OK;
    part parts[PARTS] = {
        [CONFIG] = {.name = "config.json"},
        [WEIGHTS] = {.name = "*.safetensors"},
        [TEXT] = {.name = "models_t5*.pth"},
        [VAE] = {.name = "*VAE*.pth"},
        [TOKENIZER] = {.name = "google/umt5-xxl/tokenizer.json or spiece.model"},
    };
    SKY_TRY_GOTO(find_part(c->path, "config.json", SKY_PATH_FILE, &parts[CONFIG].path));
    SKY_TRY_GOTO(find_weights(c->path, "", &parts[WEIGHTS].path));
    SKY_TRY_GOTO(find_file(c->path, "models_t5*.pth", "models_t5_umt5-xxl-enc-bf16.pth", &parts[TEXT].path));
    SKY_TRY_GOTO(find_file(c->path, "*VAE*.pth", "Wan2.1_VAE.pth", &parts[VAE].path));
    SKY_TRY_GOTO(find_tokenizer(c->path, "google/umt5-xxl", &parts[TOKENIZER].path));
    SKY_TRY_GOTO(report_missing(c->path, parts, PARTS));

    SKY_TRY_GOTO(load_config(c, SKY_TRANSFORMER, parts[CONFIG].path));
    SKY_TRY_GOTO(sky_source_add_folder(c->components[SKY_TRANSFORMER].source, c->path));
    SKY_TRY_GOTO(sky_source_add_torch(c->components[SKY_TEXT_ENCODER].source, parts[TEXT].path));
    SKY_TRY_GOTO(sky_source_add_torch(c->components[SKY_VAE].source, parts[VAE].path));
    SKY_TRY_GOTO(sky_path_join(c->path, "google/umt5-xxl", &c->tokenizer_path));
done:
    free_parts(parts, PARTS);
    return st;
}

static sky_status open_diffusers(sky_checkpoint *c)
{
    static const struct {
        const char *folder, *config, *weights;
    } rows[SKY_COMPONENT_COUNT] = {
        [SKY_TRANSFORMER] = {"transformer", "transformer/config.json", "transformer/*.safetensors"},
        [SKY_TEXT_ENCODER] = {"text_encoder", "text_encoder/config.json", "text_encoder/*.safetensors"},
        [SKY_VAE] = {"vae", "vae/config.json", "vae/*.safetensors"},
    };
    enum { TOKENIZER = 2 * SKY_COMPONENT_COUNT, PARTS };
    sky_status st = SKY_OK;
    part parts[PARTS] = {[TOKENIZER] = {.name = "tokenizer/tokenizer.json or spiece.model"}};
    for (int i = 0; i < SKY_COMPONENT_COUNT; i++) {
        parts[2 * i].name = rows[i].config;
        parts[2 * i + 1].name = rows[i].weights;
    }
    for (int i = 0; i < SKY_COMPONENT_COUNT; i++) {
        SKY_TRY_GOTO(find_part(c->path, rows[i].config, SKY_PATH_FILE, &parts[2 * i].path));
        SKY_TRY_GOTO(find_weights(c->path, rows[i].folder, &parts[2 * i + 1].path));
    }
    SKY_TRY_GOTO(find_tokenizer(c->path, "tokenizer", &parts[TOKENIZER].path));
    SKY_TRY_GOTO(report_missing(c->path, parts, PARTS));

    for (int i = 0; i < SKY_COMPONENT_COUNT; i++) {
        SKY_TRY_GOTO(load_config(c, (sky_component)i, parts[2 * i].path));
        SKY_TRY_GOTO(sky_source_add_folder(c->components[i].source, parts[2 * i + 1].path));
    }
    SKY_TRY_GOTO(sky_path_join(c->path, "tokenizer", &c->tokenizer_path));
done:
    free_parts(parts, PARTS);
    return st;
}

static sky_status open_converted(sky_checkpoint *c, const char *manifest_name)
{
    sky_source *sources[SKY_COMPONENT_COUNT];
    json_t *configs[SKY_COMPONENT_COUNT] = {NULL};
    for (int i = 0; i < SKY_COMPONENT_COUNT; i++) {
        sources[i] = c->components[i].source;
    }
    const sky_status st = sky_converted_open(c->path, manifest_name, sources, configs, &c->codes);
    for (int i = 0; i < SKY_COMPONENT_COUNT; i++) {
        c->components[i].config = configs[i];
    }
    SKY_TRY(st);
    return sky_path_join(c->path, "google/umt5-xxl", &c->tokenizer_path);
}

/* Whose names the tensors bear: files are copied between layouts, so the folder does not decide it. */
static sky_status tell_names(component_files *files, sky_component component)
{
    for (int i = 0; i < 2; i++) {
        const sky_layout layout = i == 0 ? SKY_LAYOUT_ORIGINAL : SKY_LAYOUT_DIFFUSERS;
        if (sky_source_find(files->source, sky_layout_marker(component, layout)) != NULL) {
            files->names = layout;
            return SKY_OK;
        }
    }
    return sky_fail(SKY_ERR_INPUT, "%s: no %s of this family: neither %s nor %s is among its %lld tensors",
                    sky_source_count(files->source) > 0
                        ? sky_source_path(files->source, sky_source_at(files->source, 0)->file)
                        : "an empty file",
                    sky_component_name(component), sky_layout_marker(component, SKY_LAYOUT_ORIGINAL),
                    sky_layout_marker(component, SKY_LAYOUT_DIFFUSERS), (long long)sky_source_count(files->source));
}

static sky_status tell_layout(sky_checkpoint *c)
{
    bool index = false;
    bool transformer = false;
    bool config = false;
    bool manifest = false;
    bool shards = false;
    bool weights = false;
    sky_path_kind kind = SKY_PATH_NONE;
    SKY_TRY(sky_path_look(c->path, &kind));
    if (kind != SKY_PATH_DIR) {
        return sky_fail(SKY_ERR_INPUT, "%s: %s. %s", c->path,
                        kind == SKY_PATH_FILE ? "this is a file, want a model folder" : "no such folder",
                        what_a_folder_holds);
    }
    SKY_TRY(has_part(c->path, "model_index.json", SKY_PATH_FILE, &index));
    SKY_TRY(has_part(c->path, "transformer", SKY_PATH_DIR, &transformer));
    SKY_TRY(has_part(c->path, "config.json", SKY_PATH_FILE, &config));
    SKY_TRY(has_part(c->path, SKY_MANIFEST_NAME, SKY_PATH_FILE, &manifest));
    SKY_TRY(has_match(c->path, "shard-*-of-*.h5", &shards));
    SKY_TRY(has_match(c->path, "*.safetensors", &weights));
    if (manifest) {
        c->layout = SKY_LAYOUT_CONVERTED;
    } else if (shards) {
        return sky_fail(SKY_ERR_INPUT,
                        "%s: shards of a converted model without manifest.json: the conversion or the copy was not "
                        "finished, do it again",
                        c->path);
    } else if (index || transformer) {
        c->layout = SKY_LAYOUT_DIFFUSERS;
    } else if (config || weights) {
        c->layout = SKY_LAYOUT_ORIGINAL;
    } else {
        return sky_fail(SKY_ERR_INPUT,
                        "%s: no model folder: neither config.json nor *.safetensors, nor transformer/ nor "
                        "model_index.json is there. %s",
                        c->path, what_a_folder_holds);
    }
    return SKY_OK;
}

static sky_status open_parts(sky_checkpoint *c, const char *manifest_name)
{
    switch (c->layout) {
    case SKY_LAYOUT_CONVERTED:
        return open_converted(c, manifest_name);
    case SKY_LAYOUT_DIFFUSERS:
        return open_diffusers(c);
    default:
        return open_original(c);
    }
}

/* manifest_name is NULL where the layout is to be told. */
static sky_status open_folder(const char *model_path, const char *manifest_name, sky_checkpoint **out)
{
    sky_status st = SKY_OK;
    sky_checkpoint *c = calloc(1, sizeof *c);
    if (c == NULL || (c->path = strdup(model_path)) == NULL) {
        st = sky_fail(SKY_ERR_NOMEM, "no memory for a checkpoint");
        goto done;
    }
    c->layout = SKY_LAYOUT_CONVERTED;
    c->codes = SKY_F32;
    if (manifest_name == NULL) {
        manifest_name = SKY_MANIFEST_NAME;
        SKY_TRY_GOTO(tell_layout(c));
    }
    for (int i = 0; i < SKY_COMPONENT_COUNT; i++) {
        SKY_TRY_GOTO(sky_source_create(&c->components[i].source));
    }
    SKY_TRY_GOTO(open_parts(c, manifest_name));
    for (int i = 0; i < SKY_COMPONENT_COUNT; i++) {
        SKY_TRY_GOTO(tell_names(&c->components[i], (sky_component)i));
    }
    *out = c;
    c = NULL;
done:
    sky_checkpoint_destroy(&c);
    return st;
}

sky_status sky_checkpoint_open(const char *model_path, sky_checkpoint **out)
{
    return open_folder(model_path, NULL, out);
}

sky_status sky_checkpoint_open_converted(const char *model_path, const char *manifest_name, sky_checkpoint **out)
{
    return open_folder(model_path, manifest_name, out);
}

void sky_checkpoint_destroy(sky_checkpoint **checkpoint)
{
    sky_checkpoint *c = *checkpoint;
    if (c == NULL) {
        return;
    }
    for (int i = 0; i < SKY_COMPONENT_COUNT; i++) {
        sky_source_destroy(&c->components[i].source);
        json_decref(c->components[i].config);
    }
    free(c->path);
    free(c->tokenizer_path);
    free(c);
    *checkpoint = NULL;
}

/* ---- names ---- */

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

/* The repository in .../models--OWNER--NAME/snapshots/REVISION, the cache of Hugging Face's libraries; NULL: no such path. */
static char *snapshot_name(const char *path)
{
    const char *snapshots = strstr(path, "/snapshots/");
    const char *repository = snapshots != NULL ? memrchr(path, '/', (size_t)(snapshots - path)) : NULL;
    if (repository == NULL || strncmp(repository, "/models--", 9) != 0) {
        return NULL;
    }
    const char *name = repository + 9;
    for (const char *p = name; p + 1 < snapshots; p++) {
        if (strncmp(p, "--", 2) == 0) {
            name = p + 2;
        }
    }
    return strndup(name, (size_t)(snapshots - name));
}

/* "original" of a converted folder's manifest; NULL where there is none, or nothing that can be read: opening says why. */
static char *manifest_name_of(const char *path)
{
    char *manifest = NULL;
    char *name = NULL;
    json_t *json = NULL;
    if (sky_path_join(path, SKY_MANIFEST_NAME, &manifest) == SKY_OK && sky_path_is_file(manifest) &&
        sky_json_load(manifest, MAX_MANIFEST_BYTES, &json) == SKY_OK) {
        const char *original = json_string_value(json_object_get(json, "original"));
        name = original != NULL ? strdup(original) : NULL;
    }
    json_decref(json);
    free(manifest);
    return name;
}

static bool tells_size(const char *name)
{
    return strcasestr(name, "540P") != NULL || strcasestr(name, "720P") != NULL;
}

void sky_checkpoint_published_name(const char *model_path, char out[SKY_PUBLISHED_NAME_BYTES])
{
    char typed[PATH_MAX];
    char *resolved = realpath(model_path, NULL);
    char *manifest = manifest_name_of(model_path);
    char *snapshot = resolved != NULL ? snapshot_name(resolved) : NULL;
    size_t len = strlen(model_path);
    while (len > 1 && model_path[len - 1] == '/') {
        len--;
    }
    snprintf(typed, sizeof typed, "%.*s", (int)(len < PATH_MAX ? len : PATH_MAX - 1), model_path);
    const char *const names[] = {manifest, snapshot, resolved != NULL ? last_part(resolved) : NULL, last_part(typed)};
    const char *best = NULL;
    for (int i = 0; i < 4; i++) {
        if (names[i] != NULL && (best == NULL || (tells_size(names[i]) && !tells_size(best)))) {
            best = names[i];
        }
    }
    snprintf(out, SKY_PUBLISHED_NAME_BYTES, "%.*s", SKY_PUBLISHED_NAME_BYTES - 1, best);
    sky_utf8_make_name(out);
    free(snapshot);
    free(manifest);
    free(resolved);
    sky_clear_message();
}

/* ---- asking ---- */

const char *sky_checkpoint_left_out(const sky_checkpoint *checkpoint, sky_component component)
{
    return sky_source_left_out(checkpoint->components[component].source);
}

sky_layout sky_checkpoint_layout(const sky_checkpoint *checkpoint)
{
    return checkpoint->layout;
}

const char *sky_checkpoint_path(const sky_checkpoint *checkpoint)
{
    return checkpoint->path;
}

const char *sky_checkpoint_tokenizer_path(const sky_checkpoint *checkpoint)
{
    return checkpoint->tokenizer_path;
}

const json_t *sky_checkpoint_config(const sky_checkpoint *checkpoint, sky_component component)
{
    return checkpoint->components[component].config;
}

const sky_source_tensor *sky_checkpoint_find(const sky_checkpoint *checkpoint, sky_component component,
                                             const char *name)
{
    const component_files *files = &checkpoint->components[component];
    if (files->names == SKY_LAYOUT_ORIGINAL) {
        return sky_source_find(files->source, name);
    }
    const sky_source_tensor *found = NULL;
    char diffusers_name[SKY_DIFFUSERS_NAME_BYTES];
    for (int i = 0; found == NULL && sky_diffusers_name(component, name, i, diffusers_name); i++) {
        found = sky_source_find(files->source, diffusers_name);
    }
    return found;
}

int64_t sky_checkpoint_count(const sky_checkpoint *checkpoint, sky_component component)
{
    return sky_source_count(checkpoint->components[component].source);
}

const sky_source_tensor *sky_checkpoint_at(const sky_checkpoint *checkpoint, sky_component component, int64_t index)
{
    return sky_source_at(checkpoint->components[component].source, index);
}

bool sky_checkpoint_original_name(const sky_checkpoint *checkpoint, sky_component component,
                                  const sky_source_tensor *tensor, char *out, size_t size)
{
    char name[SKY_DIFFUSERS_NAME_BYTES];
    const char *original = tensor->name;
    if (checkpoint->components[component].names == SKY_LAYOUT_DIFFUSERS) {
        if (!sky_original_name(component, tensor->name, name)) {
            return false;
        }
        original = name;
    }
    if (strlen(original) >= size || sky_checkpoint_find(checkpoint, component, original) != tensor) {
        return false;
    }
    memcpy(out, original, strlen(original) + 1);
    return true;
}

sky_dtype sky_checkpoint_codes(const sky_checkpoint *checkpoint)
{
    return checkpoint->codes;
}

const sky_source_tensor *sky_checkpoint_find_scale(const sky_checkpoint *checkpoint, sky_component component,
                                                   const char *name)
{
    char scale[SKY_SCALE_NAME_BYTES];
    if (checkpoint->layout != SKY_LAYOUT_CONVERTED) {
        return NULL;
    }
    sky_scale_name(name, scale);
    return sky_checkpoint_find(checkpoint, component, scale);
}

uint64_t sky_checkpoint_bytes(const sky_checkpoint *checkpoint, sky_component component)
{
    const sky_source *source = checkpoint->components[component].source;
    uint64_t bytes = 0;
    for (int64_t i = 0; i < sky_source_count(source); i++) {
        /* Views may share bytes, so that a sum of hostile ones need not fit. */
        if (!sky_checked_add(bytes, sky_source_at(source, i)->len_bytes, &bytes)) {
            return UINT64_MAX;
        }
    }
    return bytes;
}

const char *sky_checkpoint_file(const sky_checkpoint *checkpoint, sky_component component,
                                const sky_source_tensor *tensor)
{
    return sky_source_path(checkpoint->components[component].source, tensor != NULL ? tensor->file : 0);
}

const sky_source *sky_checkpoint_source(const sky_checkpoint *checkpoint, sky_component component)
{
    return checkpoint->components[component].source;
}

sky_status sky_checkpoint_read(const sky_checkpoint *checkpoint, sky_component component,
                               const sky_source_tensor *tensor, void *dst, sky_dtype dst_dtype)
{
    return sky_source_read(checkpoint->components[component].source, tensor, dst, dst_dtype);
}

sky_status sky_checkpoint_read_part(const sky_checkpoint *checkpoint, sky_component component,
                                    const sky_source_tensor *tensor, uint64_t first, uint64_t count, void *dst,
                                    sky_dtype dst_dtype)
{
    return sky_source_read_part(checkpoint->components[component].source, tensor, first, count, dst, dst_dtype);
}

sky_status sky_checkpoint_read_codes(const sky_checkpoint *checkpoint, sky_component component,
                                     const sky_source_tensor *tensor, void *dst)
{
    return sky_source_read_codes(checkpoint->components[component].source, tensor, dst);
}
