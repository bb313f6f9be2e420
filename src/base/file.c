#include "base/file.h"

#include "base/file_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    MAX_NAME_TRIES = 100,
    MAX_TEMP_STEM_BYTES = 200, /* of the final name in the temporary one, which must stay below NAME_MAX */
    HEX_DIGITS = 12,
};

struct sky_output_file {
    char *final_path; /* without slashes at its end */
    char *temp_path;
    const char *final_name; /* in final_path */
    const char *temp_name;  /* in temp_path */
    int folder_fd;          /* the folder that both names are in */
    int fd;                 /* -1 for a folder, and once committed */
    bool is_dir;
    bool exists; /* the temporary name is ours to remove */
};

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

static sky_status io_fail(const char *path, const char *action, int error)
{
    char text[128];
    return sky_fail(SKY_ERR_IO, "%s: %s: %s%s", path, action, strerror_r(error, text, sizeof text), advice(error));
}

static sky_status no_memory(const char *path, size_t bytes)
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
        return io_fail(path, "cannot open for reading", errno);
    }
    struct stat info;
    if (fstat(opened, &info) != 0) {
        const int error = errno;
        close(opened);
        return io_fail(path, "cannot ask for its length", error);
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
        st = no_memory(path, (size_t)len + 1);
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

bool sky_path_is_dir(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool sky_path_is_file(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
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
        return no_memory(name, bytes);
    }
    snprintf(joined, bytes, "%.*s%s%s", (int)folder_len, folder, needs_slash ? "/" : "", name);
    *out = joined;
    return SKY_OK;
}

/* ---- outputs ---- */

/* Refuses to put the output where something else than an output of this kind is, /dev/null for instance. */
static sky_status check_final(const sky_output_file *file)
{
    struct stat info;
    /* Links are followed for the question only; rename() replaces the link itself, never what it points to. */
    if (fstatat(file->folder_fd, file->final_name, &info, 0) != 0) {
        return SKY_OK; /* nothing there, or a link to nothing; anything else shows when it is renamed */
    }
    if (file->is_dir) {
        return S_ISDIR(info.st_mode)
                   ? SKY_OK
                   : sky_fail(SKY_ERR_IO, "%s: want a new or empty folder, found a file", file->final_path);
    }
    if (S_ISREG(info.st_mode)) {
        return SKY_OK;
    }
    return sky_fail(SKY_ERR_IO, "%s: want a file that may be replaced, found %s", file->final_path,
                    S_ISDIR(info.st_mode) ? "a folder" : "a device, pipe or socket");
}

/* Sets final_path and final_name, and opens the folder. */
static sky_status open_folder(sky_output_file *file, const char *final_path)
{
    size_t len = strlen(final_path);
    if (file->is_dir) {
        while (len > 1 && final_path[len - 1] == '/') {
            len--;
        }
    }
    file->final_path = strndup(final_path, len);
    if (file->final_path == NULL) {
        return no_memory(final_path, len + 1);
    }
    char *slash = strrchr(file->final_path, '/');
    file->final_name = slash != NULL ? slash + 1 : file->final_path;
    if (file->final_name[0] == '\0' || strcmp(file->final_name, ".") == 0 || strcmp(file->final_name, "..") == 0) {
        return sky_fail(SKY_ERR_IO, "\"%s\": want the name of %s behind the folder", final_path,
                        file->is_dir ? "a new folder" : "a file");
    }
    char *folder = slash == NULL ? strdup(".") : strndup(file->final_path, (size_t)(slash - file->final_path) + 1);
    if (folder == NULL) {
        return no_memory(final_path, len + 1);
    }
    sky_status st = SKY_OK;
    file->folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file->folder_fd < 0) {
        const int error = errno;
        char text[128];
        st = sky_fail(SKY_ERR_IO, "%s: its folder %s: %s%s", file->final_path, folder,
                      strerror_r(error, text, sizeof text), error == ENOENT ? " (create the folder first)" : "");
    }
    free(folder);
    return st;
}

/* ".NAME.0123456789ab.tmp"; a long NAME is cut, between characters. */
static sky_status temp_path_set(sky_output_file *file)
{
    size_t stem = strlen(file->final_name);
    if (stem > MAX_TEMP_STEM_BYTES) {
        stem = MAX_TEMP_STEM_BYTES;
        while (stem > 0 && ((unsigned char)file->final_name[stem] & 0xc0U) == 0x80U) {
            stem--;
        }
    }
    uint64_t random = 0;
    while (getrandom(&random, sizeof random, 0) < 0 && errno == EINTR) {
    }
    const size_t folder_len = (size_t)(file->final_name - file->final_path);
    const size_t bytes = folder_len + 1 + stem + 1 + HEX_DIGITS + sizeof ".tmp";
    free(file->temp_path);
    file->temp_path = malloc(bytes);
    if (file->temp_path == NULL) {
        return no_memory(file->final_path, bytes);
    }
    snprintf(file->temp_path, bytes, "%.*s.%.*s.%0*llx.tmp", (int)folder_len, file->final_path, (int)stem,
             file->final_name, HEX_DIGITS, (unsigned long long)(random >> (64 - 4 * HEX_DIGITS)));
    file->temp_name = file->temp_path + folder_len;
    return SKY_OK;
}

/* Makes the temporary file or folder under a name that was free. */
static sky_status temp_make(sky_output_file *file)
{
    for (int i = 0; i < MAX_NAME_TRIES; i++) {
        SKY_TRY(temp_path_set(file));
        int made;
        if (file->is_dir) {
            made = mkdirat(file->folder_fd, file->temp_name, 0777);
        } else {
            made = openat(file->folder_fd, file->temp_name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
        }
        if (made >= 0) {
            file->exists = true;
            file->fd = file->is_dir ? -1 : made;
            return SKY_OK;
        }
        if (errno != EEXIST && errno != EINTR) {
            return io_fail(file->final_path,
                           file->is_dir ? "cannot create a folder there" : "cannot create a file in its folder", errno);
        }
    }
    return sky_fail(SKY_ERR_IO, "%s: no free temporary name in its folder after %d tries", file->final_path,
                    MAX_NAME_TRIES);
}

static sky_status output_create(const char *final_path, bool is_dir, sky_output_file **out)
{
    sky_status st = SKY_OK;
    sky_output_file *file = calloc(1, sizeof *file);
    if (file == NULL) {
        return no_memory(final_path, sizeof *file);
    }
    file->is_dir = is_dir;
    file->folder_fd = -1;
    file->fd = -1;
    SKY_TRY_GOTO(open_folder(file, final_path));
    SKY_TRY_GOTO(check_final(file));
    SKY_TRY_GOTO(temp_make(file));
    *out = file;
    file = NULL;
done:
    sky_output_file_destroy(&file);
    return st;
}

sky_status sky_output_file_create(const char *final_path, sky_output_file **out)
{
    return output_create(final_path, false, out);
}

sky_status sky_output_dir_create(const char *final_path, sky_output_file **out)
{
    return output_create(final_path, true, out);
}

const char *sky_output_file_path(const sky_output_file *file)
{
    return file->temp_path;
}

int sky_output_file_fd(const sky_output_file *file)
{
    return file->fd;
}

/* The bytes of the temporary file or folder are on the disk, and its name is still that of what we made. */
static sky_status temp_sync(sky_output_file *file)
{
    if (file->is_dir) {
        const int error = sky_tree_sync(file->folder_fd, file->temp_name);
        return error == 0 ? SKY_OK : io_fail(file->final_path, "bringing the folder to the disk", error);
    }
    struct stat ours;
    struct stat named;
    if (fstat(file->fd, &ours) != 0 || fstatat(file->folder_fd, file->temp_name, &named, AT_SYMLINK_NOFOLLOW) != 0) {
        return io_fail(file->temp_path, "the temporary file is gone", errno);
    }
    if (ours.st_dev != named.st_dev || ours.st_ino != named.st_ino) {
        return sky_fail(SKY_ERR_IO, "%s: the temporary file was replaced by another", file->temp_path);
    }
    const int error = sky_fd_sync(file->fd, false);
    if (error != 0) {
        return io_fail(file->final_path, "bringing the file to the disk", error);
    }
    const int fd = file->fd;
    file->fd = -1;
    if (close(fd) != 0 && errno != EINTR) {
        return io_fail(file->final_path, "closing the file", errno);
    }
    return SKY_OK;
}

sky_status sky_output_file_commit(sky_output_file *file)
{
    if (!file->exists || (!file->is_dir && file->fd < 0)) {
        return sky_fail(SKY_ERR_INTERNAL, "%s: committed twice, or after a failed commit", file->final_path);
    }
    SKY_TRY(check_final(file));
    SKY_TRY(temp_sync(file));
    if (renameat(file->folder_fd, file->temp_name, file->folder_fd, file->final_name) != 0) {
        const int error = errno;
        if (error == ENOTEMPTY || error == EEXIST) {
            return sky_fail(SKY_ERR_IO, "%s: want a new or empty folder, found one with files in it", file->final_path);
        }
        return io_fail(file->final_path, "giving the finished output its name", error);
    }
    file->exists = false;
    const int error = sky_fd_sync(file->folder_fd, true);
    return error == 0 ? SKY_OK
                      : io_fail(file->final_path, "is complete, but its name may be lost in a power cut", error);
}

void sky_output_file_destroy(sky_output_file **file)
{
    sky_output_file *f = *file;
    if (f == NULL) {
        return;
    }
    sky_file_close(&f->fd);
    if (f->exists && f->is_dir) {
        sky_tree_remove(f->folder_fd, f->temp_name);
    } else if (f->exists) {
        unlinkat(f->folder_fd, f->temp_name, 0);
    }
    sky_file_close(&f->folder_fd);
    free(f->temp_path);
    free(f->final_path);
    free(f);
    *file = NULL;
}
