#include "base/file_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MAX_FOLDER_DEPTH = 16 };

int sky_fd_sync(int fd, bool is_dir)
{
    while (fsync(fd) != 0) {
        if (is_dir && (errno == EINVAL || errno == EOPNOTSUPP || errno == ENOSYS || errno == EBADF)) {
            return 0; /* file systems of networks, of FUSE and of other systems have no such thing for folders */
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

/* A folder to be read, never through a link; -1 and errno on failure. */
static int open_entries(int parent_fd, const char *name)
{
    return openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* What the kernel says of one entry (man 2 getdents64). */
typedef struct entry {
    uint64_t inode;
    int64_t offset;
    uint16_t bytes;
    uint8_t kind;
    char name[];
} entry;

/*
 * Calls `each` for every entry but . and .. until it returns something else than 0; that, 0, or an errno. By the system call,
 * on the stack: readdir() allocates, which a signal handler must not.
 */
static int for_each(int folder_fd, int depth, bool *removed,
                    int (*each)(int folder_fd, const char *name, int depth, bool *removed))
{
    _Alignas(entry) char buffer[2048];
    if (lseek(folder_fd, 0, SEEK_SET) < 0) {
        return errno;
    }
    for (;;) {
        const long got = syscall(SYS_getdents64, folder_fd, buffer, sizeof buffer);
        if (got <= 0) {
            return got < 0 ? errno : 0;
        }
        for (long at = 0; at < got;) {
            const entry *e = (const entry *)(buffer + at);
            const int result = is_dot(e->name) ? 0 : each(folder_fd, e->name, depth, removed);
            if (result != 0) {
                return result;
            }
            at += e->bytes;
        }
    }
}

static int sync_tree(int folder_fd, int depth);

/* One entry of a folder of ours; 0 or an errno. */
static int sync_entry(int folder_fd, const char *name, int depth, bool *removed)
{
    (void)removed;
    struct stat info;
    if (fstatat(folder_fd, name, &info, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno;
    }
    const bool is_dir = S_ISDIR(info.st_mode);
    if (!is_dir && !S_ISREG(info.st_mode)) {
        return 0;
    }
    const int fd = is_dir ? open_entries(folder_fd, name)
                          : openat(folder_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        return errno;
    }
    const int error = is_dir ? sync_tree(fd, depth + 1) : sky_fd_sync(fd, false);
    return close(fd) != 0 && error == 0 ? errno : error;
}

/* Brings a folder and all in it to the disk; 0 or an errno. */
static int sync_tree(int folder_fd, int depth)
{
    if (depth > MAX_FOLDER_DEPTH) {
        return ELOOP;
    }
    const int error = for_each(folder_fd, depth, NULL, sync_entry);
    return error != 0 ? error : sky_fd_sync(folder_fd, true);
}

static void remove_tree(int parent_fd, const char *name, int depth);

static int remove_entry(int folder_fd, const char *name, int depth, bool *removed)
{
    if (unlinkat(folder_fd, name, 0) == 0) {
        *removed = true;
    } else {
        remove_tree(folder_fd, name, depth + 1);
    }
    return 0;
}

static void remove_tree(int parent_fd, const char *name, int depth)
{
    const int fd = depth <= MAX_FOLDER_DEPTH ? open_entries(parent_fd, name) : -1;
    bool removed = fd >= 0;
    while (removed) { /* some file systems skip names while others go */
        removed = false;
        (void)for_each(fd, depth, &removed, remove_entry);
    }
    if (fd >= 0) {
        close(fd);
    }
    unlinkat(parent_fd, name, AT_REMOVEDIR);
}

int sky_tree_sync(int folder_fd)
{
    return sync_tree(folder_fd, 0);
}

void sky_tree_remove(int parent_fd, const char *name)
{
    remove_tree(parent_fd, name, 0);
}
