#include "weights/build_files.h"

#include "support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

void bytes_free(bytes *b)
{
    free(b->data);
    *b = (bytes){0};
}

void bytes_insert(bytes *b, size_t at, const void *data, size_t len)
{
    if (b->len + len > b->capacity) {
        b->capacity = 2 * (b->len + len) + 64;
        b->data = realloc(b->data, b->capacity);
        SKY_ASSERT(b->data != NULL);
    }
    if (len == 0) {
        return;
    }
    memmove(b->data + at + len, b->data + at, b->len - at);
    memcpy(b->data + at, data, len);
    b->len += len;
}

void bytes_add(bytes *b, const void *data, size_t len)
{
    bytes_insert(b, b->len, data, len);
}

void bytes_text(bytes *b, const char *text)
{
    bytes_add(b, text, strlen(text));
}

void bytes_number(bytes *b, uint64_t number, int num_bytes)
{
    unsigned char little[8];
    SKY_ASSERT(num_bytes <= 8);
    for (int i = 0; i < num_bytes; i++) {
        little[i] = (unsigned char)(number >> (8 * i));
    }
    bytes_add(b, little, (size_t)num_bytes);
}

void bytes_set(bytes *b, size_t at, uint64_t number, int num_bytes)
{
    SKY_ASSERT(at + (size_t)num_bytes <= b->len);
    for (int i = 0; i < num_bytes; i++) {
        b->data[at + (size_t)i] = (unsigned char)(number >> (8 * i));
    }
}

void bytes_save(const bytes *b, size_t len, const char *path)
{
    FILE *file = fopen(path, "wb");
    SKY_ASSERT(file != NULL);
    SKY_ASSERT(len == 0 || fwrite(b->data, 1, len, file) == len);
    SKY_ASSERT(fclose(file) == 0);
}

void build_safetensors_values(bytes *out, const char *header, const void *data, size_t data_bytes)
{
    bytes_number(out, strlen(header), 8);
    bytes_text(out, header);
    bytes_add(out, data, data_bytes);
}

void build_safetensors(bytes *out, const char *header, size_t data_bytes)
{
    bytes_number(out, strlen(header), 8);
    bytes_text(out, header);
    for (size_t i = 0; i < data_bytes; i++) {
        bytes_number(out, i % 100, 1);
    }
}

/* ---- zip ---- */

void zip_add(bytes *b, zip_layout *z, const char *name, const void *data, size_t len)
{
    SKY_ASSERT(z->count < ZIP_MAX_MEMBERS && strlen(name) < sizeof z->names[0]);
    const int i = z->count++;
    const bool descriptor = z->style != ZIP_PLAIN;
    const uint32_t crc = (uint32_t)crc32_z(0, data, len);
    snprintf(z->names[i], sizeof z->names[i], "%s", name);
    z->lens[i] = len;
    z->crcs[i] = crc;
    z->local[i] = b->len;
    bytes_number(b, 0x04034b50, 4);
    bytes_number(b, 0, 2);                      /* version needed */
    bytes_number(b, descriptor ? 0x808 : 0, 2); /* flags */
    bytes_number(b, 0, 2);                      /* method */
    bytes_number(b, 0, 4);                      /* time, date */
    bytes_number(b, descriptor ? 0 : crc, 4);
    bytes_number(b, descriptor ? 0 : z->zip64 ? 0xffffffff : len, 4);
    bytes_number(b, descriptor ? 0 : z->zip64 ? 0xffffffff : len, 4);
    bytes_number(b, strlen(name), 2);
    bytes_number(b, !descriptor && z->zip64 ? 20 : 6, 2);
    bytes_text(b, name);
    if (!descriptor && z->zip64) {
        bytes_number(b, 0x0001, 2);
        bytes_number(b, 16, 2);
        bytes_number(b, len, 8);
        bytes_number(b, len, 8);
    } else {
        bytes_add(b, "FB\2\0ZZ", 6);
    }
    z->data[i] = b->len;
    bytes_add(b, data, len);
    if (z->style == ZIP_DESCRIPTOR || z->style == ZIP_DESCRIPTOR64) {
        bytes_number(b, 0x08074b50, 4);
    }
    if (descriptor) {
        const int width = z->style == ZIP_DESCRIPTOR64 || z->style == ZIP_DESCRIPTOR64_20 ? 8 : 4;
        bytes_number(b, crc, 4);
        bytes_number(b, len, width);
        bytes_number(b, len, width);
    }
}

void zip_finish(bytes *b, zip_layout *z)
{
    z->directory = b->len;
    for (int i = 0; i < z->count; i++) {
        const uint64_t offset = b->base + z->local[i];
        z->central[i] = b->len;
        bytes_number(b, 0x02014b50, 4);
        bytes_number(b, 0, 4); /* versions */
        bytes_number(b, z->style != ZIP_PLAIN ? 0x808 : 0, 2);
        bytes_number(b, 0, 2);
        bytes_number(b, 0, 4);
        bytes_number(b, z->crcs[i], 4);
        bytes_number(b, z->zip64 ? 0xffffffff : z->lens[i], 4);
        bytes_number(b, z->zip64 ? 0xffffffff : z->lens[i], 4);
        bytes_number(b, strlen(z->names[i]), 2);
        bytes_number(b, z->zip64 ? 28 : 0, 2);
        bytes_add(b, (const char[10]){0}, 10); /* comment, part, attributes */
        bytes_number(b, z->zip64 ? 0xffffffff : offset, 4);
        bytes_text(b, z->names[i]);
        if (z->zip64) {
            bytes_number(b, 0x0001, 2);
            bytes_number(b, 24, 2);
            bytes_number(b, z->lens[i], 8);
            bytes_number(b, z->lens[i], 8);
            bytes_number(b, offset, 8);
        }
    }
    const size_t directory_bytes = b->len - z->directory;
    z->end64 = b->len;
    if (z->zip64) {
        bytes_number(b, 0x06064b50, 4);
        bytes_number(b, 44, 8);
        bytes_number(b, 0, 4);
        bytes_number(b, 0, 8);
        bytes_number(b, (uint64_t)z->count, 8);
        bytes_number(b, (uint64_t)z->count, 8);
        bytes_number(b, directory_bytes, 8);
        bytes_number(b, b->base + z->directory, 8);
        bytes_number(b, 0x07064b50, 4);
        bytes_number(b, 0, 4);
        bytes_number(b, b->base + z->end64, 8);
        bytes_number(b, 1, 4);
    }
    z->end = b->len;
    bytes_number(b, 0x06054b50, 4);
    bytes_number(b, 0, 4);
    bytes_number(b, (uint64_t)z->count, 2);
    bytes_number(b, (uint64_t)z->count, 2);
    bytes_number(b, directory_bytes, 4);
    bytes_number(b, z->zip64 ? 0xffffffff : b->base + z->directory, 4);
    bytes_number(b, 0, 2);
}

void build_torch(bytes *out, zip_layout *z, const bytes *pickle, const bytes *storages, int num_storages)
{
    zip_add(out, z, "archive/data.pkl", pickle->data, pickle->len);
    zip_add(out, z, "archive/version", "3\n", 2);
    for (int i = 0; i < num_storages; i++) {
        char name[32];
        snprintf(name, sizeof name, "archive/data/%d", i);
        zip_add(out, z, name, storages[i].data, storages[i].len);
    }
    zip_finish(out, z);
}

/* ---- pickle ---- */

void pickle_text(bytes *b, const char *text)
{
    bytes_text(b, "X");
    bytes_number(b, strlen(text), 4);
    bytes_text(b, text);
}

void pickle_int(bytes *b, int64_t number)
{
    if (number >= 0 && number < 256) {
        bytes_text(b, "K");
        bytes_number(b, (uint64_t)number, 1);
    } else if (number >= INT32_MIN && number <= INT32_MAX) {
        bytes_text(b, "J");
        bytes_number(b, (uint64_t)number, 4);
    } else {
        bytes_text(b, "\x8a\x08");
        bytes_number(b, (uint64_t)number, 8);
    }
}

void pickle_global(bytes *b, const char *module, const char *name)
{
    bytes_text(b, "c");
    bytes_text(b, module);
    bytes_text(b, "\n");
    bytes_text(b, name);
    bytes_text(b, "\n");
}

void pickle_tensor(bytes *b, const tensor_spec *t)
{
    pickle_global(b, "torch._utils", "_rebuild_tensor_v2");
    bytes_text(b, "((");
    pickle_text(b, "storage");
    pickle_global(b, "torch", t->storage_class);
    pickle_text(b, t->key);
    pickle_text(b, "cpu");
    pickle_int(b, t->numel);
    bytes_text(b, "tQ");
    pickle_int(b, t->offset);
    for (int list = 0; list < 2; list++) {
        bytes_text(b, "(");
        for (int d = 0; d < t->num_dims; d++) {
            pickle_int(b, list == 0 ? t->shape[d] : t->stride[d]);
        }
        bytes_text(b, "t");
    }
    bytes_text(b, "\x89"); /* requires_grad */
    pickle_global(b, "collections", "OrderedDict");
    bytes_text(b, ")RtR");
}

void build_pickle(bytes *b, const tensor_spec *tensors, int num_tensors)
{
    bytes_text(b, "\x80\x02}(");
    for (int i = 0; i < num_tensors; i++) {
        pickle_text(b, tensors[i].name);
        pickle_tensor(b, &tensors[i]);
    }
    bytes_text(b, "u.");
}

/* ---- opening ---- */

/* In memory: thousands of cases would keep a disk busy. */
static sky_status open_bytes(const bytes *b, size_t len, sky_status (*add)(sky_source *, const char *),
                             sky_source **out)
{
    char path[64];
    sky_source *source = NULL;
    const int fd = memfd_create("case", MFD_CLOEXEC);
    SKY_ASSERT(fd >= 0 && (len == 0 || write(fd, b->data, len) == (ssize_t)len));
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    SKY_TRY(sky_source_create(&source));
    const sky_status st = add(source, path);
    close(fd); /* the source has opened it for itself */
    if (st == SKY_OK && out != NULL) {
        *out = source;
        return st;
    }
    SKY_ASSERT(st == SKY_OK || sky_source_count(source) == 0);
    sky_source_destroy(&source);
    return st;
}

sky_status open_safetensors(const bytes *b, size_t len, sky_source **out)
{
    return open_bytes(b, len, sky_source_add_safetensors, out);
}

sky_status open_torch(const bytes *b, size_t len, sky_source **out)
{
    return open_bytes(b, len, sky_source_add_torch, out);
}

bool directory_is_sound(const sky_source *source, uint64_t file_bytes)
{
    for (int64_t i = 0; i < sky_source_count(source); i++) {
        const sky_source_tensor *t = sky_source_at(source, i);
        uint64_t len = sky_dtype_bytes(t->dtype);
        for (int d = 0; d < t->num_dims; d++) {
            len *= (uint64_t)t->shape[d];
        }
        if (len != t->len_bytes || t->offset_bytes > file_bytes || t->len_bytes > file_bytes - t->offset_bytes ||
            sky_source_find(source, t->name) != t) {
            return false;
        }
    }
    return true;
}
