#include "weights/converted.h"

#include "base/file.h"
#include "base/json.h"
#include "weights/manifest_impl.h"
#include "weights/shard.h"
#include "weights/source_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define MAX_FILE_BYTES ((size_t)64 << 20)

static const char *const config_names[SKY_COMPONENT_COUNT] = {
    [SKY_TRANSFORMER] = "config.json",
    [SKY_TEXT_ENCODER] = "text_encoder/config.json",
    [SKY_VAE] = "vae/config.json",
};

/* ---- configurations and tokenizer ---- */

static sky_status use_file(const sky_manifest_file *file, const char *text, size_t len,
                           json_t *configs[SKY_COMPONENT_COUNT])
{
    if (len != file->len_bytes) {
        return sky_fail(SKY_ERR_INPUT, "want %" PRIu64 " bytes, the file has %zu (copy it again)", file->len_bytes,
                        len);
    }
    if ((uint32_t)crc32_z(0, (const unsigned char *)text, len) != file->crc32) {
        return sky_fail(SKY_ERR_INPUT, "its checksum is wrong (damaged or edited; copy it again)");
    }
    for (int i = 0; i < SKY_COMPONENT_COUNT; i++) {
        if (strcmp(file->name, config_names[i]) == 0) {
            SKY_TRY(sky_json_parse(text, len, &configs[i]));
            return json_is_object(configs[i]) ? SKY_OK : sky_fail(SKY_ERR_INPUT, "want a JSON object");
        }
    }
    return SKY_OK;
}

static sky_status check_file(const char *folder, const sky_manifest_file *file, json_t *configs[SKY_COMPONENT_COUNT])
{
    char *path = NULL;
    char *text = NULL;
    size_t len = 0;
    SKY_TRY(sky_path_join(folder, file->name, &path));
    sky_status st = sky_path_is_file(path) ? sky_file_read_all(path, MAX_FILE_BYTES, &text, &len)
                                           : sky_fail(SKY_ERR_INPUT, "%s: is missing (copy the whole folder)", path);
    if (st == SKY_OK) {
        st = sky_fail_in(use_file(file, text, len, configs), "%s", path);
    }
    free(text);
    free(path);
    return st;
}

static sky_status check_files(const char *folder, const sky_manifest *m, json_t *configs[SKY_COMPONENT_COUNT])
{
    bool has_tokenizer = false;
    for (int i = 0; i < m->num_files; i++) {
        SKY_TRY(check_file(folder, &m->files[i], configs));
        has_tokenizer = has_tokenizer || strcmp(m->files[i].name, SKY_TOKENIZER_FOLDER "/tokenizer.json") == 0 ||
                        strcmp(m->files[i].name, SKY_TOKENIZER_FOLDER "/spiece.model") == 0;
    }
    if (configs[SKY_TRANSFORMER] == NULL || !has_tokenizer) {
        return sky_fail(SKY_ERR_INPUT, "%s: the manifest lists no %s", folder,
                        has_tokenizer ? "config.json" : SKY_TOKENIZER_FOLDER "/tokenizer.json");
    }
    return SKY_OK;
}

/* ---- shards ---- */

/* The tensors of one component as a directory; each is a range with a checksum of its own. */
static sky_status fill_directory(const sky_manifest_tensor *tensors, int64_t count, sky_component component,
                                 sky_directory *directory)
{
    sky_budget budget = {.left_bytes = UINT64_MAX}; /* the manifest's own limits hold already */
    SKY_TRY(sky_directory_reserve(directory, &budget, (uint64_t)count));
    directory->ranges = malloc((size_t)count * sizeof *directory->ranges);
    if (directory->ranges == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "no memory for %" PRId64 " tensors", count);
    }
    for (int64_t i = 0; i < count; i++) { /* in order of offset, as ranges must be */
        const sky_manifest_tensor *t = &tensors[i];
        if (t->component != component) {
            continue;
        }
        sky_source_tensor entry = {
            .dtype = t->dtype, .num_dims = t->num_dims, .offset_bytes = t->offset_bytes, .len_bytes = t->len_bytes};
        memcpy(entry.shape, t->shape, sizeof entry.shape);
        SKY_TRY(sky_directory_add(directory, &budget, t->name, strlen(t->name), &entry));
        directory->ranges[directory->num_ranges++] =
            (sky_checked_range){.offset_bytes = t->offset_bytes, .len_bytes = t->len_bytes, .crc32 = t->crc32};
    }
    return SKY_OK;
}

static bool has_component(const sky_manifest_tensor *tensors, int64_t count, sky_component component)
{
    for (int64_t i = 0; i < count; i++) {
        if (tensors[i].component == component) {
            return true;
        }
    }
    return false;
}

/* fd is the checked shard's; each source keeps a descriptor of its own. */
static sky_status add_component(int fd, const char *path, const sky_manifest_tensor *tensors, int64_t count,
                                sky_component component, sky_source *source)
{
    sky_directory directory = {0};
    int own = -1;
    if (!has_component(tensors, count, component)) {
        return SKY_OK;
    }
    sky_status st = fill_directory(tensors, count, component, &directory);
    own = st == SKY_OK ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
    if (st == SKY_OK && own < 0) {
        char text[128];
        st = sky_fail(SKY_ERR_IO, "%s: %s", path, strerror_r(errno, text, sizeof text));
    }
    if (st == SKY_OK) {
        st = sky_source_add_directory(source, path, &own, &directory);
    }
    sky_file_close(&own);
    sky_directory_release(&directory);
    return st;
}

static sky_status add_shard(const char *folder, const sky_manifest *m, const sky_manifest_shard *shard,
                            sky_source *const sources[SKY_COMPONENT_COUNT])
{
    sky_status st = SKY_OK;
    const sky_manifest_tensor *tensors = &m->tensors[shard->first];
    char *path = NULL;
    int fd = -1;
    uint64_t len = 0;
    SKY_TRY(sky_path_join(folder, shard->name, &path));
    if (!sky_path_is_file(path)) {
        st = sky_fail(SKY_ERR_INPUT, "%s: is missing, the manifest lists %d shards (copy the whole folder)", path,
                      m->num_shards);
        goto done;
    }
    SKY_TRY_GOTO(sky_file_open(path, &fd, &len));
    SKY_TRY_GOTO(sky_shard_check(fd, path, len, shard, tensors));
    for (int i = 0; i < SKY_COMPONENT_COUNT; i++) {
        SKY_TRY_GOTO(add_component(fd, path, tensors, shard->count, (sky_component)i, sources[i]));
    }
done:
    sky_file_close(&fd);
    free(path);
    return st;
}

sky_status sky_converted_open(const char *folder, const char *manifest_name,
                              sky_source *const sources[SKY_COMPONENT_COUNT], json_t *configs[SKY_COMPONENT_COUNT],
                              sky_dtype *codes)
{
    sky_manifest m = {0};
    SKY_TRY(sky_manifest_load(folder, manifest_name, &m));
    sky_status st = check_files(folder, &m, configs);
    for (int i = 0; i < m.num_shards && st == SKY_OK; i++) {
        st = add_shard(folder, &m, &m.shards[i], sources);
    }
    *codes = m.codes;
    sky_manifest_release(&m);
    return st;
}
