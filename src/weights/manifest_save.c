/* Writing a manifest: one line for each tensor, so that people can read and compare it. */
#include "base/file.h"
#include "weights/manifest_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

/* Puts text as a JSON string; names are UTF-8 but may hold quotes. */
static void put_string(FILE *to, const char *text)
{
    json_t *value = json_string(text);
    char *dumped = value != NULL ? json_dumps(value, JSON_ENCODE_ANY) : NULL;
    /* The caller looks at errno. */
    if (dumped == NULL || fputs(dumped, to) < 0) {
        (void)fputs("\"\"", to);
        errno = ENOMEM;
    }
    free(dumped);
    json_decref(value);
}

static void put_tensor(FILE *to, const sky_manifest_tensor *t)
{
    fprintf(to, "   {\"name\": ");
    put_string(to, t->name);
    fprintf(to, ", \"component\": \"%s\", \"dtype\": \"%s\", \"shape\": [", sky_component_group(t->component),
            sky_dtype_name(t->dtype));
    for (int i = 0; i < t->num_dims; i++) {
        fprintf(to, "%s%" PRId64, i > 0 ? ", " : "", t->shape[i]);
    }
    fprintf(to, "], \"offset\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"crc32\": \"%08" PRIx32 "\"}", t->offset_bytes,
            t->len_bytes, t->crc32);
}

static void put_shard(FILE *to, const sky_manifest *m, const sky_manifest_shard *shard)
{
    fprintf(to, "  {\"name\": \"%s\", \"bytes\": %" PRIu64 ", \"metadata_crc32\": \"%08" PRIx32 "\", \"tensors\": [\n",
            shard->name, shard->len_bytes, shard->metadata_crc32);
    for (int64_t i = 0; i < shard->count; i++) {
        put_tensor(to, &m->tensors[shard->first + i]);
        fputs(i + 1 < shard->count ? ",\n" : "\n", to);
    }
    fputs("  ]}", to);
}

static void put_manifest(FILE *to, const sky_manifest *m)
{
    fprintf(to,
            "{\n \"format\": \"%s\",\n \"version\": %d,\n \"precision\": \"%s\",\n \"original\": ", SKY_MANIFEST_FORMAT,
            (int)SKY_MANIFEST_VERSION, sky_codes_name(m->codes));
    put_string(to, m->original);
    fputs(",\n \"files\": [\n", to);
    for (int i = 0; i < m->num_files; i++) {
        fputs("  {\"name\": ", to);
        put_string(to, m->files[i].name);
        fprintf(to, ", \"bytes\": %" PRIu64 ", \"crc32\": \"%08" PRIx32 "\"}%s\n", m->files[i].len_bytes,
                m->files[i].crc32, i + 1 < m->num_files ? "," : "");
    }
    fputs(" ],\n \"shards\": [\n", to);
    for (int i = 0; i < m->num_shards; i++) {
        put_shard(to, m, &m->shards[i]);
        fputs(i + 1 < m->num_shards ? ",\n" : "\n", to);
    }
    fputs(" ],\n ", to);
}

/* A new file with these bytes, brought to the disk. */
static sky_status save_text(const char *path, const char *text, size_t len)
{
    char error[128];
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) {
        return sky_fail(SKY_ERR_IO, "%s: cannot create the file: %s", path, strerror_r(errno, error, sizeof error));
    }
    sky_status st = sky_file_write(fd, path, text, len);
    if (st == SKY_OK && fsync(fd) != 0) {
        st = sky_fail(SKY_ERR_IO, "%s: bringing it to the disk: %s", path, strerror_r(errno, error, sizeof error));
    }
    sky_file_close(&fd);
    return st;
}

sky_status sky_manifest_save(const char *folder, const char *name, const sky_manifest *manifest)
{
    sky_status st = SKY_OK;
    char *path = NULL;
    char *text = NULL;
    size_t len = 0;
    char tail[SKY_MANIFEST_TAIL_BYTES + 1];
    FILE *to = open_memstream(&text, &len);
    if (to == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "no memory for a manifest");
    }
    errno = 0;
    put_manifest(to, manifest);
    const bool failed = ferror(to) != 0 || errno == ENOMEM;
    if (fclose(to) != 0 || failed) {
        st = sky_fail(SKY_ERR_NOMEM, "no memory for a manifest");
        goto done;
    }
    sky_manifest_tail((uint32_t)crc32_z(0, (const unsigned char *)text, len), tail);
    char *whole = realloc(text, len + SKY_MANIFEST_TAIL_BYTES);
    if (whole == NULL) {
        st = sky_fail(SKY_ERR_NOMEM, "no memory for a manifest");
        goto done;
    }
    text = whole;
    memcpy(text + len, tail, SKY_MANIFEST_TAIL_BYTES);
    SKY_TRY_GOTO(sky_path_join(folder, name, &path));
    SKY_TRY_GOTO(save_text(path, text, len + SKY_MANIFEST_TAIL_BYTES));
done:
    free(path);
    free(text);
    return st;
}
