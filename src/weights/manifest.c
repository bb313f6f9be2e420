/* Reading a manifest: the checksum of its text first, then the text's meaning. */
#include "weights/manifest.h"

#include "base/checked.h"
#include "base/file.h"
#include "base/json.h"
#include "weights/manifest_impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define MAX_MANIFEST_BYTES ((size_t)64 << 20)

static const char *const component_groups[SKY_COMPONENT_COUNT] = {
    [SKY_TRANSFORMER] = "transformer",
    [SKY_TEXT_ENCODER] = "text_encoder",
    [SKY_VAE] = "vae",
};

/* What a tensor of a converted folder may be. */
static const sky_dtype stored_dtypes[] = {SKY_F32, SKY_BF16, SKY_F16, SKY_F8_E4M3, SKY_I8};

const char *sky_component_group(sky_component component)
{
    return component_groups[component];
}

const char *sky_codes_name(sky_dtype codes)
{
    return codes == SKY_I8 ? "int8" : "fp8";
}

void sky_shard_name(int index, int count, char name[SKY_SHARD_NAME_BYTES])
{
    snprintf(name, SKY_SHARD_NAME_BYTES, "shard-%05d-of-%05d.h5", index + 1, count);
}

void sky_scale_name(const char *name, char out[SKY_SCALE_NAME_BYTES])
{
    snprintf(out, SKY_SCALE_NAME_BYTES, "%s.scale", name);
}

void sky_manifest_release(sky_manifest *manifest)
{
    for (int64_t i = 0; i < manifest->num_tensors; i++) {
        free(manifest->tensors[i].name);
    }
    for (int i = 0; i < manifest->num_files; i++) {
        free(manifest->files[i].name);
    }
    free(manifest->tensors);
    free(manifest->shards);
    free(manifest->files);
    free(manifest->original);
    *manifest = (sky_manifest){0};
}

/* ---- single values ---- */

static sky_status want_text(const json_t *object, const char *key, const char **out)
{
    *out = json_string_value(json_object_get(object, key));
    return *out != NULL ? SKY_OK : sky_fail(SKY_ERR_INPUT, "want a text \"%s\"", key);
}

static sky_status want_size(const json_t *object, const char *key, uint64_t *out)
{
    return sky_json_size(json_object_get(object, key), out)
               ? SKY_OK
               : sky_fail(SKY_ERR_INPUT, "want a whole number \"%s\" from 0 to 2^53", key);
}

/* Eight lower-case hexadecimal digits. */
static sky_status want_crc(const json_t *object, const char *key, uint32_t *out)
{
    const char *text = NULL;
    SKY_TRY(want_text(object, key, &text));
    if (strlen(text) != 8 || strspn(text, "0123456789abcdef") != 8) {
        return sky_fail(SKY_ERR_INPUT, "\"%s\": want eight hexadecimal digits", key);
    }
    *out = (uint32_t)strtoul(text, NULL, 16);
    return SKY_OK;
}

static sky_status want_array(const json_t *object, const char *key, size_t least, size_t most, const json_t **out)
{
    *out = json_object_get(object, key);
    if (!json_is_array(*out) || json_array_size(*out) < least || json_array_size(*out) > most) {
        return sky_fail(SKY_ERR_INPUT, "want a list \"%s\" of %zu to %zu entries", key, least, most);
    }
    return SKY_OK;
}

static sky_status no_memory(void)
{
    return sky_fail(SKY_ERR_NOMEM, "no memory for a manifest");
}

/* ---- tensors ---- */

static sky_status parse_kind(const json_t *entry, sky_manifest_tensor *t)
{
    const char *text = NULL;
    SKY_TRY(want_text(entry, "component", &text));
    t->component = SKY_COMPONENT_COUNT;
    for (int i = 0; i < SKY_COMPONENT_COUNT; i++) {
        if (strcmp(text, component_groups[i]) == 0) {
            t->component = (sky_component)i;
        }
    }
    if (t->component == SKY_COMPONENT_COUNT) {
        return sky_fail(SKY_ERR_INPUT, "\"component\": want transformer, text_encoder or vae");
    }
    SKY_TRY(want_text(entry, "dtype", &text));
    t->dtype = SKY_DTYPE_COUNT;
    for (size_t i = 0; i < sizeof stored_dtypes / sizeof stored_dtypes[0]; i++) {
        if (strcmp(text, sky_dtype_name(stored_dtypes[i])) == 0) {
            t->dtype = stored_dtypes[i];
        }
    }
    return t->dtype != SKY_DTYPE_COUNT ? SKY_OK : sky_fail(SKY_ERR_INPUT, "\"dtype\": want f32, bf16, f16, e4m3 or i8");
}

static sky_status parse_shape(const json_t *entry, sky_manifest_tensor *t)
{
    const json_t *shape = NULL;
    uint64_t count = 0;
    uint64_t bytes = 0;
    SKY_TRY(want_array(entry, "shape", 0, SKY_MAX_DIMS, &shape));
    t->num_dims = (int)json_array_size(shape);
    for (int i = 0; i < t->num_dims; i++) {
        uint64_t len = 0;
        if (!sky_json_size(json_array_get(shape, (size_t)i), &len) || len == 0) {
            return sky_fail(SKY_ERR_INPUT, "\"shape\": want whole numbers from 1 to 2^53");
        }
        t->shape[i] = (int64_t)len;
    }
    if (!sky_shape_count(t->num_dims, t->shape, &count) || !sky_checked_mul(count, sky_dtype_bytes(t->dtype), &bytes) ||
        bytes != t->len_bytes) {
        return sky_fail(SKY_ERR_INPUT, "its shape and dtype do not make %" PRIu64 " bytes", t->len_bytes);
    }
    return SKY_OK;
}

static sky_status parse_place(const json_t *entry, const sky_manifest_shard *shard, sky_manifest_tensor *t)
{
    uint64_t end = 0;
    SKY_TRY(parse_kind(entry, t));
    SKY_TRY(want_size(entry, "offset", &t->offset_bytes));
    SKY_TRY(want_size(entry, "bytes", &t->len_bytes));
    SKY_TRY(want_crc(entry, "crc32", &t->crc32));
    SKY_TRY(parse_shape(entry, t));
    if (!sky_checked_add(t->offset_bytes, t->len_bytes, &end) || end > shard->len_bytes) {
        return sky_fail(SKY_ERR_INPUT, "reaches beyond the end of the shard");
    }
    return SKY_OK;
}

static sky_status parse_tensor(const json_t *entry, const sky_manifest_shard *shard, sky_manifest_tensor *t)
{
    const char *name = NULL;
    SKY_TRY(want_text(entry, "name", &name));
    SKY_TRY(sky_check_name("tensor", name, strlen(name)));
    if (strchr(name, '/') != NULL || strcmp(name, ".") == 0 || sky_name_prefix_len(name, strlen(name)) != 0) {
        return sky_fail(SKY_ERR_INPUT, "\"%.200s\" is no name of a tensor in a converted folder", name);
    }
    t->name = strdup(name);
    if (t->name == NULL) {
        return no_memory();
    }
    return sky_fail_in(parse_place(entry, shard, t), "%.200s", name);
}

static int by_offset(const void *a, const void *b)
{
    const uint64_t x = ((const sky_manifest_tensor *)a)->offset_bytes;
    const uint64_t y = ((const sky_manifest_tensor *)b)->offset_bytes;
    return (x > y) - (x < y);
}

static sky_status check_disjoint(sky_manifest_tensor *tensors, int64_t count)
{
    qsort(tensors, (size_t)count, sizeof tensors[0], by_offset);
    for (int64_t i = 1; i < count; i++) {
        if (tensors[i].offset_bytes - tensors[i - 1].offset_bytes < tensors[i - 1].len_bytes) {
            return sky_fail(SKY_ERR_INPUT, "%.200s and %.200s overlap", tensors[i - 1].name, tensors[i].name);
        }
    }
    return SKY_OK;
}

static sky_status parse_shard(const json_t *entry, int index, sky_manifest *m)
{
    sky_manifest_shard *shard = &m->shards[index];
    const char *name = NULL;
    const json_t *tensors = NULL;
    sky_shard_name(index, m->num_shards, shard->name);
    SKY_TRY(want_text(entry, "name", &name));
    if (strcmp(name, shard->name) != 0) {
        return sky_fail(SKY_ERR_INPUT, "shard %d of %d: want the name %s", index + 1, m->num_shards, shard->name);
    }
    SKY_TRY(want_size(entry, "bytes", &shard->len_bytes));
    SKY_TRY(want_crc(entry, "metadata_crc32", &shard->metadata_crc32));
    SKY_TRY(want_array(entry, "tensors", 1, INT32_MAX, &tensors));
    shard->first = m->num_tensors;
    shard->count = (int64_t)json_array_size(tensors);
    for (int64_t i = 0; i < shard->count; i++) {
        /* counted before it is filled: what it owns by then is released with the manifest */
        sky_manifest_tensor *t = &m->tensors[m->num_tensors++];
        SKY_TRY(sky_fail_in(parse_tensor(json_array_get(tensors, (size_t)i), shard, t), "%s", shard->name));
    }
    return check_disjoint(&m->tensors[shard->first], shard->count);
}

static sky_status parse_shards(const json_t *root, sky_manifest *m)
{
    const json_t *shards = NULL;
    size_t total = 0;
    SKY_TRY(want_array(root, "shards", 1, SKY_MAX_SHARDS, &shards));
    const size_t num_shards = json_array_size(shards);
    for (size_t i = 0; i < num_shards; i++) {
        total += json_array_size(json_object_get(json_array_get(shards, i), "tensors"));
    }
    m->shards = calloc(num_shards, sizeof *m->shards);
    m->tensors = calloc(total + 1, sizeof *m->tensors);
    if (m->shards == NULL || m->tensors == NULL) {
        return no_memory();
    }
    m->num_shards = (int)num_shards;
    for (size_t i = 0; i < num_shards; i++) {
        SKY_TRY(parse_shard(json_array_get(shards, i), (int)i, m));
    }
    return SKY_OK;
}

/* ---- codes and their scales ---- */

static int by_component_and_name(const void *a, const void *b)
{
    const sky_manifest_tensor *x = *(const sky_manifest_tensor *const *)a;
    const sky_manifest_tensor *y = *(const sky_manifest_tensor *const *)b;
    return x->component != y->component ? (x->component > y->component) - (x->component < y->component)
                                        : strcmp(x->name, y->name);
}

static sky_status check_scale(const sky_manifest *m, const sky_manifest_tensor *const *sorted,
                              const sky_manifest_tensor *t)
{
    char name[SKY_SCALE_NAME_BYTES];
    sky_scale_name(t->name, name);
    const sky_manifest_tensor key = {.name = name, .component = t->component};
    const sky_manifest_tensor *key_at = &key;
    const sky_manifest_tensor *const *found =
        bsearch(&key_at, sorted, (size_t)m->num_tensors, sizeof(const sky_manifest_tensor *), by_component_and_name);
    if (t->dtype != m->codes || t->num_dims != 2) {
        return sky_fail(SKY_ERR_INPUT, "%.200s: want [rows, cols] of %s in an %s folder", t->name,
                        sky_dtype_name(m->codes), sky_codes_name(m->codes));
    }
    if (found == NULL || (*found)->dtype != SKY_F32 || (*found)->num_dims != 1 || (*found)->shape[0] != t->shape[0]) {
        return sky_fail(SKY_ERR_INPUT, "%.200s: want one f32 for each of its %" PRId64 " rows under the name %.200s",
                        t->name, t->shape[0], name);
    }
    return SKY_OK;
}

static sky_status check_names(const sky_manifest *m)
{
    sky_status st = SKY_OK;
    const sky_manifest_tensor **sorted = malloc((size_t)m->num_tensors * sizeof(const sky_manifest_tensor *));
    if (sorted == NULL) {
        return no_memory();
    }
    for (int64_t i = 0; i < m->num_tensors; i++) {
        sorted[i] = &m->tensors[i];
    }
    qsort(sorted, (size_t)m->num_tensors, sizeof(const sky_manifest_tensor *), by_component_and_name);
    for (int64_t i = 1; i < m->num_tensors && st == SKY_OK; i++) {
        if (by_component_and_name(&sorted[i - 1], &sorted[i]) == 0) {
            st = sky_fail(SKY_ERR_INPUT, "%.200s: is there twice", sorted[i]->name);
        }
    }
    for (int64_t i = 0; i < m->num_tensors && st == SKY_OK; i++) {
        if (m->tensors[i].dtype == SKY_F8_E4M3 || m->tensors[i].dtype == SKY_I8) {
            st = check_scale(m, sorted, &m->tensors[i]);
        }
    }
    free(sorted);
    return st;
}

/* ---- other files ---- */

bool sky_manifest_may_list(const char *name)
{
    static const char *const configs[] = {"config.json", "text_encoder/config.json", "vae/config.json"};
    static const char folder[] = SKY_TOKENIZER_FOLDER "/";
    for (size_t i = 0; i < sizeof configs / sizeof configs[0]; i++) {
        if (strcmp(name, configs[i]) == 0) {
            return true;
        }
    }
    const char *rest = name + sizeof folder - 1;
    return strncmp(name, folder, sizeof folder - 1) == 0 && rest[0] != '\0' && rest[0] != '.' &&
           strchr(rest, '/') == NULL;
}

static sky_status parse_files(const json_t *root, sky_manifest *m)
{
    const json_t *files = NULL;
    SKY_TRY(want_array(root, "files", 0, SKY_MANIFEST_MAX_FILES, &files));
    m->files = calloc(json_array_size(files) + 1, sizeof *m->files);
    if (m->files == NULL) {
        return no_memory();
    }
    for (size_t i = 0; i < json_array_size(files); i++) {
        const json_t *entry = json_array_get(files, i);
        sky_manifest_file *file = &m->files[i];
        const char *name = NULL;
        SKY_TRY(want_text(entry, "name", &name));
        SKY_TRY(sky_check_name("file", name, strlen(name)));
        if (!sky_manifest_may_list(name)) {
            return sky_fail(SKY_ERR_INPUT, "file %.200s: has no place in a converted folder", name);
        }
        for (int j = 0; j < m->num_files; j++) {
            if (strcmp(m->files[j].name, name) == 0) {
                return sky_fail(SKY_ERR_INPUT, "file %.200s: is there twice", name);
            }
        }
        file->name = strdup(name);
        if (file->name == NULL) {
            return no_memory();
        }
        m->num_files++;
        SKY_TRY(sky_fail_in(want_size(entry, "bytes", &file->len_bytes), "file %.200s", name));
        SKY_TRY(sky_fail_in(want_crc(entry, "crc32", &file->crc32), "file %.200s", name));
    }
    return SKY_OK;
}

/* ---- the whole ---- */

static sky_status parse_root(const json_t *root, sky_manifest *m)
{
    const char *text = NULL;
    uint64_t version = 0;
    SKY_TRY(want_text(root, "format", &text));
    if (strcmp(text, SKY_MANIFEST_FORMAT) != 0) {
        return sky_fail(SKY_ERR_INPUT, "\"format\": want \"%s\"", SKY_MANIFEST_FORMAT);
    }
    SKY_TRY(want_size(root, "version", &version));
    if (version != SKY_MANIFEST_VERSION) {
        return sky_fail(SKY_ERR_INPUT,
                        "format version %" PRIu64 ", this program reads version %d: convert the original again with "
                        "this program's skyreels-convert%s",
                        version, (int)SKY_MANIFEST_VERSION,
                        version > SKY_MANIFEST_VERSION ? ", or use a newer skyreels-mpi" : "");
    }
    SKY_TRY(want_text(root, "precision", &text));
    if (strcmp(text, "fp8") != 0 && strcmp(text, "int8") != 0) {
        return sky_fail(SKY_ERR_INPUT, "\"precision\": want fp8 or int8");
    }
    m->codes = strcmp(text, "fp8") == 0 ? SKY_F8_E4M3 : SKY_I8;
    SKY_TRY(want_text(root, "original", &text));
    SKY_TRY(sky_check_name("folder", text, strlen(text)));
    m->original = strdup(text);
    if (m->original == NULL) {
        return no_memory();
    }
    SKY_TRY(parse_files(root, m));
    SKY_TRY(parse_shards(root, m));
    return check_names(m);
}

/* The text ends with its own checksum, which is compared before anything else looks at the text. */
static sky_status check_text(const char *text, size_t len)
{
    char tail[SKY_MANIFEST_TAIL_BYTES + 1];
    if (len >= SKY_MANIFEST_TAIL_BYTES) {
        const size_t body = len - SKY_MANIFEST_TAIL_BYTES;
        sky_manifest_tail((uint32_t)crc32_z(0, (const unsigned char *)text, body), tail);
        if (memcmp(text + body, tail, SKY_MANIFEST_TAIL_BYTES) == 0) {
            return SKY_OK;
        }
    }
    return sky_fail(SKY_ERR_INPUT, "its checksum is wrong (damaged, cut short or edited: copy it again, or convert the "
                                   "original again)");
}

void sky_manifest_tail(uint32_t crc, char tail[SKY_MANIFEST_TAIL_BYTES + 1])
{
    snprintf(tail, SKY_MANIFEST_TAIL_BYTES + 1, "\"crc32\": \"%08" PRIx32 "\"\n}\n", crc);
}

static sky_status parse_text(const char *text, size_t len, sky_manifest *manifest)
{
    json_t *root = NULL;
    SKY_TRY(check_text(text, len));
    SKY_TRY(sky_json_parse(text, len, &root));
    const sky_status st = parse_root(root, manifest);
    json_decref(root);
    return st;
}

sky_status sky_manifest_load(const char *folder, const char *name, sky_manifest *manifest)
{
    char *path = NULL;
    char *text = NULL;
    size_t len = 0;
    SKY_TRY(sky_path_join(folder, name, &path));
    sky_status st = sky_file_read_all(path, MAX_MANIFEST_BYTES, &text, &len);
    if (st == SKY_OK) {
        st = sky_fail_in(parse_text(text, len, manifest), "%s", path);
    }
    free(text);
    free(path);
    if (st != SKY_OK) {
        sky_manifest_release(manifest);
    }
    return st;
}
