#include "weights/convert_files.h"

#include "base/file.h"
#include "support/test.h"
#include "weights/manifest_impl.h"
#include "weights/shard.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *at)
{
    (void)info;
    (void)kind;
    (void)at;
    return remove(path);
}

static const char *fresh_path(const char *name)
{
    const char *path = test_temp_path(name);
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    return path;
}

const char *converted_folder(const char *name, const char *model, sky_dtype codes, int num_shards)
{
    sky_convert_report report = {0};
    const char *folder = fresh_path(name);
    const sky_convert_settings settings = {
        .model_path = model, .output_path = folder, .codes = codes, .num_shards = num_shards, .num_threads = 2};
    if (sky_convert_folder(&settings, NULL, NULL, &report) != SKY_OK) {
        test_fail(__FILE__, __LINE__, "%s is not converted: %s", model, sky_message());
    }
    sky_convert_report_release(&report);
    return folder;
}

static sky_status digest_tensor(const sky_checkpoint *c, sky_component component, const sky_source_tensor *t,
                                uint32_t *digest)
{
    sky_status st = SKY_OK;
    const bool codes = t->dtype == SKY_F8_E4M3 || t->dtype == SKY_I8;
    unsigned char *values = malloc(t->len_bytes);
    SKY_ASSERT(values != NULL);
    st = codes ? sky_checkpoint_read_codes(c, component, t, values)
               : sky_checkpoint_read(c, component, t, values, t->dtype);
    if (st == SKY_OK) {
        *digest = (uint32_t)crc32(*digest, (const unsigned char *)t->name, (uInt)strlen(t->name));
        *digest = (uint32_t)crc32(*digest, (const unsigned char *)&t->dtype, sizeof t->dtype);
        *digest = (uint32_t)crc32(*digest, (const unsigned char *)t->shape, sizeof t->shape);
        *digest = (uint32_t)crc32_z(*digest, values, t->len_bytes);
    }
    free(values);
    return st;
}

sky_status read_converted(const char *folder, uint32_t *digest)
{
    sky_checkpoint *c = NULL;
    SKY_TRY(sky_checkpoint_open(folder, &c));
    sky_status st = SKY_OK;
    *digest = (uint32_t)sky_checkpoint_codes(c);
    for (int i = 0; i < SKY_COMPONENT_COUNT; i++) {
        char *config = json_dumps(sky_checkpoint_config(c, (sky_component)i), JSON_SORT_KEYS);
        if (config != NULL) {
            *digest = (uint32_t)crc32(*digest, (const unsigned char *)config, (uInt)strlen(config));
        }
        free(config);
        for (int64_t k = 0; k < sky_checkpoint_count(c, (sky_component)i) && st == SKY_OK; k++) {
            st = digest_tensor(c, (sky_component)i, sky_checkpoint_at(c, (sky_component)i, k), digest);
        }
    }
    sky_checkpoint_destroy(&c);
    return st;
}

const char *copied_folder(const char *name, const char *folder)
{
    char command[2048];
    const char *copy = fresh_path(name);
    snprintf(command, sizeof command, "cp -r '%s' '%s'", folder, copy);
    SKY_ASSERT(system(command) == 0);
    return copy;
}

const char *file_in(const char *folder, const char *name)
{
    static char paths[8][4096];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

size_t load_bytes(const char *path, unsigned char **data)
{
    size_t len = 0;
    char *text = NULL;
    if (sky_file_read_all(path, SIZE_MAX - 1, &text, &len) != SKY_OK) {
        test_fail(__FILE__, __LINE__, "%s", sky_message());
    }
    *data = (unsigned char *)text;
    return len;
}

void save_bytes(const char *path, const void *data, size_t len)
{
    FILE *file = fopen(path, "wb");
    SKY_ASSERT(file != NULL && fwrite(data, 1, len, file) == len && fclose(file) == 0);
}

void flip_bit(const char *path, uint64_t at, int bit)
{
    FILE *file = fopen(path, "r+b");
    SKY_ASSERT(file != NULL && fseek(file, (long)at, SEEK_SET) == 0);
    const int byte = fgetc(file);
    SKY_ASSERT(byte != EOF && fseek(file, (long)at, SEEK_SET) == 0 && fputc(byte ^ (1 << bit), file) != EOF);
    SKY_ASSERT(fclose(file) == 0);
}

void edit_manifest(const char *folder, const char *from, const char *to)
{
    unsigned char *text = NULL;
    char tail[SKY_MANIFEST_TAIL_BYTES + 1];
    const char *path = file_in(folder, SKY_MANIFEST_NAME);
    const size_t len = load_bytes(path, &text) - SKY_MANIFEST_TAIL_BYTES;
    const char *at = strstr((const char *)text, from);
    SKY_ASSERT(at != NULL);
    const size_t before = (size_t)(at - (const char *)text);
    const size_t after = len - before - strlen(from);
    const size_t total = before + strlen(to) + after;
    char *edited = malloc(total + SKY_MANIFEST_TAIL_BYTES);
    SKY_ASSERT(edited != NULL);
    memcpy(edited, text, before);
    memcpy(edited + before, to, strlen(to));
    memcpy(edited + before + strlen(to), at + strlen(from), after);
    sky_manifest_tail((uint32_t)crc32_z(0, (const unsigned char *)edited, total), tail);
    memcpy(edited + total, tail, SKY_MANIFEST_TAIL_BYTES);
    save_bytes(path, edited, total + SKY_MANIFEST_TAIL_BYTES);
    free(edited);
    free(text);
}

void make_checksums_right(const char *folder, int index)
{
    sky_manifest m = {0};
    int fd = -1;
    SKY_ASSERT(sky_manifest_load(folder, SKY_MANIFEST_NAME, &m) == SKY_OK && index < m.num_shards);
    sky_manifest_shard *shard = &m.shards[index];
    const char *path = file_in(folder, shard->name);
    SKY_ASSERT(sky_file_open(path, &fd, &shard->len_bytes) == SKY_OK);
    SKY_ASSERT(sky_shard_metadata_crc32(fd, path, shard->len_bytes, &m.tensors[shard->first], shard->count,
                                        &shard->metadata_crc32) == SKY_OK);
    sky_file_close(&fd);
    SKY_ASSERT(unlink(file_in(folder, SKY_MANIFEST_NAME)) == 0);
    SKY_ASSERT(sky_manifest_save(folder, SKY_MANIFEST_NAME, &m) == SKY_OK);
    sky_manifest_release(&m);
}
