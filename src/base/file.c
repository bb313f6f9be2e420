#include "base/file.h"

#include "base/file_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What a person can do about an errno, as a tail to the message; "" where strerror says it all. */
static const char *advice(int error)
{
    switch (error) {
    case ENOSPC:
        return " (the disk is full: free some space or choose another folder)";
    case EDQUOT:
        return " (the disk quota is used up: free some space or choose another folder)";
    case EFBIG:
        return " (larger than this process or file system may write, see ulimit -f)";
    case EROFS:
        return " (choose a folder that can be written)";
    case EMFILE:
    case ENFILE:
        return " (see ulimit -n)";
    default:
        return "";
    }
}

sky_status sky_io_fail(const char *path, const char *action, int error)
{
    char text[128];
    return sky_fail(SKY_ERR_IO, "%s: %s: %s%s", path, action, strerror_r(error, text, sizeof text), advice(error));
}

sky_status sky_no_memory_for(const char *path, size_t bytes)
{
    return sky_fail(SKY_ERR_NOMEM, "%s: no memory for %zu bytes", path, bytes);
}

/* ---- reading and writing ---- */

sky_status sky_file_open(const char *path, int *fd, uint64_t *len_bytes)
{
    /* O_NONBLOCK: a named pipe must be refused below, not waited for. Regular files do not know it. */
    int opened;
    do {
        opened = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    } while (opened < 0 && errno == EINTR);
    if (opened < 0) {
        return sky_io_fail(path, "cannot open for reading", errno);
    }
    struct stat info;
    if (fstat(opened, &info) != 0) {
        const int error = errno;
        close(opened);
        return sky_io_fail(path, "cannot ask for its length", error);
    }
    if (!S_ISREG(info.st_mode)) {
        close(opened);
        return sky_fail(SKY_ERR_IO, "%s: want a regular file, found %s", path,
                        S_ISDIR(info.st_mode) ? "a folder" : "a device, pipe or socket");
    }
    *fd = opened;
    *len_bytes = (uint64_t)info.st_size;
    return SKY_OK;
}

void sky_file_close(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

sky_status sky_file_read_at(int fd, const char *path, uint64_t offset, void *dst, size_t bytes)
{
    uint64_t end;
    if (__builtin_add_overflow(offset, (uint64_t)bytes, &end) || end > (uint64_t)INT64_MAX) {
        return sky_fail(SKY_ERR_IO, "%s: %zu bytes wanted at offset %llu, beyond any file", path, bytes,
                        (unsigned long long)offset);
    }
    size_t done = 0;
    while (done < bytes) {
        const ssize_t got = pread(fd, (unsigned char *)dst + done, bytes - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            char text[128];
            return sky_fail(SKY_ERR_IO, "%s: reading %zu bytes at offset %llu: %s", path, bytes,
                            (unsigned long long)offset, strerror_r(errno, text, sizeof text));
        }
        if (got == 0) {
            return sky_fail(SKY_ERR_IO, "%s: %zu bytes wanted at offset %llu, the file ends after %zu of them", path,
                            bytes, (unsigned long long)offset, done);
        }
        done += (size_t)got;
    }
    return SKY_OK;
}

sky_status sky_file_write(int fd, const char *path, const void *src, size_t bytes)
{
    size_t done = 0;
    while (done < bytes) {
        const ssize_t put = write(fd, (const unsigned char *)src + done, bytes - done);
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put <= 0) {
            const int error = put < 0 ? errno : EIO;
            char text[128];
            return sky_fail(SKY_ERR_IO, "%s: writing %zu bytes, %zu of them done: %s%s", path, bytes, done,
                            strerror_r(error, text, sizeof text), advice(error));
        }
        done += (size_t)put;
    }
    return SKY_OK;
}

sky_status sky_file_read_all(const char *path, size_t max_bytes, char **data, size_t *len_bytes)
{
    sky_status st = SKY_OK;
    int fd = -1;
    uint64_t len = 0;
    char *text = NULL;

    SKY_TRY_GOTO(sky_file_open(path, &fd, &len));
    if (len > max_bytes || len >= SIZE_MAX) {
        st = sky_fail(SKY_ERR_IO, "%s: want at most %zu bytes, the file has %llu", path, max_bytes,
                      (unsigned long long)len);
        goto done;
    }
    text = malloc((size_t)len + 1);
    if (text == NULL) {
        st = sky_no_memory_for(path, (size_t)len + 1);
        goto done;
    }
    SKY_TRY_GOTO(sky_file_read_at(fd, path, 0, text, (size_t)len));
    text[len] = '\0';
    *data = text;
    *len_bytes = (size_t)len;
    text = NULL;
done:
    free(text);
    sky_file_close(&fd);
    return st;
}

/* ---- paths ---- */

sky_status sky_path_look(const char *path, sky_path_kind *out)
{
    struct stat info;
    if (stat(path, &info) == 0) {
        *out = S_ISREG(info.st_mode) ? SKY_PATH_FILE : S_ISDIR(info.st_mode) ? SKY_PATH_DIR : SKY_PATH_OTHER;
        return SKY_OK;
    }
    if (errno != ENOENT && errno != ENOTDIR) {
        return sky_io_fail(path, "cannot look at it", errno);
    }
    *out = SKY_PATH_NONE;
    return SKY_OK;
}

bool sky_path_is_dir(const char *path)
{
    sky_path_kind kind = SKY_PATH_NONE;
    return sky_path_look(path, &kind) == SKY_OK && kind == SKY_PATH_DIR;
}

bool sky_path_is_file(const char *path)
{
    sky_path_kind kind = SKY_PATH_NONE;
    return sky_path_look(path, &kind) == SKY_OK && kind == SKY_PATH_FILE;
}

sky_status sky_path_join(const char *folder, const char *name, char **out)
{
    size_t folder_len = strlen(folder);
    while (folder_len > 1 && folder[folder_len - 1] == '/') {
        folder_len--;
    }
    const bool needs_slash = folder_len > 0 && folder[folder_len - 1] != '/';
    const size_t bytes = folder_len + needs_slash + strlen(name) + 1;
    char *joined = malloc(bytes);
    if (joined == NULL) {
        return sky_no_memory_for(name, bytes);
    }
    snprintf(joined, bytes, "%.*s%s%s", (int)folder_len, folder, needs_slash ? "/" : "", name);
    *out = joined;
    return SKY_OK;
}
