/*
 * Input: a whole torch file. Checksums would stop nearly every changed input, so the copy that is read gets the right
 * one for each member that its central directory describes.
 */
#include "fuzz.h"
#include "weights/source.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

static uint32_t number(const uint8_t *p, int num_bytes)
{
    uint32_t n = 0;
    for (int i = num_bytes; i > 0; i--) {
        n = n << 8 | p[i - 1];
    }
    return n;
}

static void set_crc(uint8_t *p, uint32_t crc)
{
    for (int i = 0; i < 4; i++) {
        p[i] = (uint8_t)(crc >> (8 * i));
    }
}

static void repair(uint8_t *data, size_t size)
{
    for (size_t at = 0; at + 46 <= size; at++) {
        if (number(data + at, 4) != 0x02014b50) {
            continue;
        }
        const size_t len = number(data + at + 24, 4);
        const size_t local = number(data + at + 42, 4);
        if (local > size || size - local < 30) {
            continue;
        }
        const size_t start = local + 30 + number(data + local + 26, 2) + number(data + local + 28, 2);
        if (start > size || len > size - start) {
            continue;
        }
        const uint32_t crc = (uint32_t)crc32_z(0, data + start, len);
        set_crc(data + at + 16, crc);
        if ((data[local + 6] & 8) == 0) {
            set_crc(data + local + 14, crc);
        } else if (size - start - len >= 8) {
            set_crc(data + start + len + 4, crc);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        fd = memfd_create("fuzz", MFD_CLOEXEC);
        FUZZ_CHECK(fd >= 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    uint8_t *copy = malloc(size > 0 ? size : 1);
    FUZZ_CHECK(copy != NULL);
    if (size > 0) {
        memcpy(copy, data, size);
        repair(copy, size);
    }
    FUZZ_CHECK(ftruncate(fd, 0) == 0 && pwrite(fd, copy, size, 0) == (ssize_t)size);
    free(copy);

    sky_source *source = NULL;
    FUZZ_CHECK(sky_source_create(&source) == SKY_OK);
    const sky_status st = sky_source_add_torch(source, path);
    FUZZ_CHECK(st == SKY_OK || st == SKY_ERR_INPUT);
    for (int64_t i = 0; i < sky_source_count(source); i++) {
        const sky_source_tensor *t = sky_source_at(source, i);
        FUZZ_CHECK(t->offset_bytes <= size && t->len_bytes <= size - t->offset_bytes);
        float *values = malloc(t->len_bytes / sky_dtype_bytes(t->dtype) * sizeof *values + 1);
        FUZZ_CHECK(values != NULL);
        const sky_status read = sky_source_read(source, t, values, SKY_F32);
        FUZZ_CHECK(read == SKY_OK || read == SKY_ERR_INPUT || read == SKY_ERR_DTYPE);
        free(values);
    }
    sky_source_destroy(&source);
    return 0;
}
