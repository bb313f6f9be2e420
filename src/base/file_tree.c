#include "base/file_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_FOLDER_DEPTH = 16 };

int sky_fd_sync(int fd, bool is_dir)
{
    while (fsync(fd) != 0) {
        if (is_dir && errno == EINVAL) {
            return 0; /* some network file systems have no such thing for folders */
        }
        if (errno != EINTR) {
            return errno;
        }
    }
    return 0;
}

static bool is_dot(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Opens a folder for reading its entries, never through a link. NULL and errno on failure. */
static DIR *open_entries(int parent_fd, const char *name)
{
    const int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return NULL;
    }
    DIR *entries = fdopendir(fd);
    if (entries == NULL) {
        const int error = errno;
        close(fd);
        errno = error;
    }
    return entries;
}

static int sync_tree(int parent_fd, const char *name, int depth);

/* One entry of a folder of ours; 0 or an errno. */
static int sync_entry(int folder_fd, const char *name, int depth)
{
    struct stat info;
    if (fstatat(folder_fd, name, &info, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno;
    }
    if (S_ISDIR(info.st_mode)) {
        return sync_tree(folder_fd, name, depth + 1);
    }
    if (!S_ISREG(info.st_mode)) {
        return 0;
    }
    const int fd = openat(folder_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        return errno;
    }
    const int error = sky_fd_sync(fd, false);
    return close(fd) != 0 && error == 0 ? errno : error;
}

/* Brings a folder and all in it to the disk; 0 or an errno. */
static int sync_tree(int parent_fd, const char *name, int depth)
{
    if (depth > MAX_FOLDER_DEPTH) {
        return ELOOP;
    }
    DIR *entries = open_entries(parent_fd, name);
    if (entries == NULL) {
        return errno;
    }
    int error = 0;
    while (error == 0) {
        errno = 0;
        const struct dirent *entry = readdir(entries);
        if (entry == NULL) {
            error = errno;
            break;
        }
        if (!is_dot(entry->d_name)) {
            error = sync_entry(dirfd(entries), entry->d_name, depth);
        }
    }
    if (error == 0) {
        error = sky_fd_sync(dirfd(entries), true);
    }
    closedir(entries);
    return error;
}

static void remove_tree(int parent_fd, const char *name, int depth);

/* Removes what it finds in one walk; whether that was anything. */
static bool remove_entries(DIR *entries, int depth)
{
    bool removed = false;
    const struct dirent *entry;
    while ((entry = readdir(entries)) != NULL) {
        if (is_dot(entry->d_name)) {
            continue;
        }
        if (unlinkat(dirfd(entries), entry->d_name, 0) == 0) {
            removed = true;
        } else {
            remove_tree(dirfd(entries), entry->d_name, depth + 1);
        }
    }
    return removed;
}

static void remove_tree(int parent_fd, const char *name, int depth)
{
    DIR *entries = depth <= MAX_FOLDER_DEPTH ? open_entries(parent_fd, name) : NULL;
    if (entries != NULL) {
        while (remove_entries(entries, depth)) {
            rewinddir(entries); /* some file systems skip names while others go */
        }
        closedir(entries);
    }
    unlinkat(parent_fd, name, AT_REMOVEDIR);
}

int sky_tree_sync(int parent_fd, const char *name)
{
    return sync_tree(parent_fd, name, 0);
}

void sky_tree_remove(int parent_fd, const char *name)
{
    remove_tree(parent_fd, name, 0);
}
