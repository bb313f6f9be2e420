/* Files and folders that appear whole or not at all. */
#include "base/file.h"
#include "base/file_impl.h"
#include "base/file_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
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
    int fd;                 /* the file or folder itself; -1 once committed */
    bool is_dir;
    bool named; /* it has its temporary name, which is ours to remove; a file without a name goes by itself */
    int slot;   /* among those that a signal would leave behind; -1 */
};

/* ---- what a signal would leave behind ---- */

enum { SLOT_FREE, SLOT_TAKEN, SLOT_SET, MAX_SLOTS = 64 };

/* Temporary names, for a signal handler: plain memory, nothing that is locked or allocated. */
static struct {
    int state;
    int folder_fd;
    bool is_dir;
    char name[NAME_MAX + 1];
} slots[MAX_SLOTS];

static void slot_fill(sky_output_file *file)
{
    for (int i = 0; file->slot < 0 && i < MAX_SLOTS; i++) {
        int expected = SLOT_FREE;
        if (__atomic_compare_exchange_n(&slots[i].state, &expected, SLOT_TAKEN, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE)) {
            file->slot = i; /* where none is free a signal leaves the name, as a kill does */
        }
    }
    if (file->slot >= 0) {
        __atomic_store_n(&slots[file->slot].state, SLOT_TAKEN, __ATOMIC_RELEASE);
        slots[file->slot].folder_fd = file->folder_fd;
        slots[file->slot].is_dir = file->is_dir;
        snprintf(slots[file->slot].name, sizeof slots[file->slot].name, "%s", file->temp_name);
        __atomic_store_n(&slots[file->slot].state, SLOT_SET, __ATOMIC_RELEASE);
    }
}

static void slot_clear(sky_output_file *file)
{
    if (file->slot >= 0) {
        __atomic_store_n(&slots[file->slot].state, SLOT_FREE, __ATOMIC_RELEASE);
        file->slot = -1;
    }
}

void sky_output_files_abandon(void)
{
    for (int i = 0; i < MAX_SLOTS; i++) {
        if (__atomic_load_n(&slots[i].state, __ATOMIC_ACQUIRE) != SLOT_SET) {
            continue;
        }
        if (slots[i].is_dir) {
            sky_tree_remove(slots[i].folder_fd, slots[i].name);
        } else {
            unlinkat(slots[i].folder_fd, slots[i].name, 0);
        }
    }
}

/* ---- where an output may be ---- */

static sky_status refuse(const sky_output_file *file, const char *found)
{
    return sky_fail(SKY_ERR_IO, "%s: want %s, found %s", file->final_path,
                    file->is_dir ? "a new or empty folder" : "a file that may be replaced", found);
}

/* What is there under the final name; *there is false where nothing is. Links are not followed. */
static sky_status look_at_final(const sky_output_file *file, struct statx *info, bool *there)
{
    *there = statx(file->folder_fd, file->final_name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, info) == 0;
    return *there || errno == ENOENT ? SKY_OK
                                     : sky_io_fail(file->final_path, "cannot look at what has this name", errno);
}

/* Whether giving the name to something else is forbidden in a folder where making something is not. */
static bool is_locked(const sky_output_file *file, const struct statx *final)
{
    struct statx folder;
    if (statx(file->folder_fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &folder) != 0) {
        return false; /* then renaming tells */
    }
    const uint64_t frozen = STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND;
    const uid_t user = geteuid();
    return (final->stx_attributes & frozen) != 0 || (folder.stx_attributes & frozen) != 0 ||
           ((folder.stx_mode & S_ISVTX) != 0 && user != 0 && final->stx_uid != user && folder.stx_uid != user);
}

/*
 * Refuses to put the output where rename() cannot put it, or where something else than an output of this kind is, /dev/null
 * for instance: before the work, not after it.
 */
static sky_status check_final(const sky_output_file *file)
{
    struct statx info;
    bool there = false;
    SKY_TRY(look_at_final(file, &info, &there));
    if (!there) {
        return SKY_OK;
    }
    if ((info.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0) {
        return sky_fail(SKY_ERR_IO,
                        "%s: is a mount point, which cannot be replaced by the finished output: give a name inside of "
                        "it, or one beside it",
                        file->final_path);
    }
    if (is_locked(file, &info)) {
        return sky_fail(SKY_ERR_IO, "%s: is there and may not be replaced (another user's, or marked unchangeable)",
                        file->final_path);
    }
    if (S_ISLNK(info.stx_mode) && !file->is_dir) {
        /* rename() replaces the link itself, never what it points to; the question is what the user means by it. */
        struct stat target;
        if (fstatat(file->folder_fd, file->final_name, &target, 0) != 0) {
            return SKY_OK; /* a link to nothing */
        }
        info.stx_mode = (uint16_t)target.st_mode;
    }
    if (file->is_dir) {
        return S_ISDIR(info.stx_mode) ? SKY_OK : refuse(file, S_ISLNK(info.stx_mode) ? "a link" : "a file");
    }
    return S_ISREG(info.stx_mode) ? SKY_OK
                                  : refuse(file, S_ISDIR(info.stx_mode) ? "a folder" : "a device, pipe or socket");
}

/* The path of a folder that is to be; one that is a link to a folder means that folder. The caller frees it. */
static char *folder_path(const char *path, size_t len)
{
    struct stat info;
    char *plain = strndup(path, len);
    if (plain != NULL && lstat(plain, &info) == 0 && S_ISLNK(info.st_mode)) {
        char *resolved = realpath(plain, NULL);
        if (resolved != NULL) {
            free(plain);
            return resolved;
        }
    }
    return plain;
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
    file->final_path = file->is_dir ? folder_path(final_path, len) : strdup(final_path);
    if (file->final_path == NULL) {
        return sky_no_memory_for(final_path, len + 1);
    }
    char *slash = strrchr(file->final_path, '/');
    file->final_name = slash != NULL ? slash + 1 : file->final_path;
    if (file->final_name[0] == '\0' || strcmp(file->final_name, ".") == 0 || strcmp(file->final_name, "..") == 0) {
        return sky_fail(SKY_ERR_IO, "\"%s\": want the name of %s behind the folder", final_path,
                        file->is_dir ? "a new folder" : "a file");
    }
    char *folder = slash == NULL ? strdup(".") : strndup(file->final_path, (size_t)(slash - file->final_path) + 1);
    if (folder == NULL) {
        return sky_no_memory_for(final_path, len + 1);
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

enum { FD_PATH_BYTES = 40 };

/* A name of the open file itself, whatever has its name in a folder. */
static const char *fd_path(int fd, char path[FD_PATH_BYTES])
{
    snprintf(path, FD_PATH_BYTES, "/proc/self/fd/%d", fd);
    return path;
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
        return sky_no_memory_for(file->final_path, bytes);
    }
    snprintf(file->temp_path, bytes, "%.*s.%.*s.%0*llx.tmp", (int)folder_len, file->final_path, (int)stem,
             file->final_name, HEX_DIGITS, (unsigned long long)(random >> (64 - 4 * HEX_DIGITS)));
    file->temp_name = file->temp_path + folder_len;
    return SKY_OK;
}

/* A file that has no name yet: nothing is left of it whatever ends the program. False where the file system has no such. */
static bool make_nameless(sky_output_file *file)
{
    char self[FD_PATH_BYTES];
    file->fd = openat(file->folder_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
    if (file->fd >= 0 && access(fd_path(file->fd, self), F_OK) != 0) {
        sky_file_close(&file->fd); /* without /proc it could not be given one */
    }
    return file->fd >= 0;
}

/* Makes it under its temporary name; 0 or an errno. */
static int make_named(sky_output_file *file)
{
    slot_fill(file);
    if (!file->is_dir) {
        file->fd = openat(file->folder_fd, file->temp_name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
        file->named = file->fd >= 0;
        return file->named ? 0 : errno;
    }
    if (mkdirat(file->folder_fd, file->temp_name, 0777) != 0) {
        return errno;
    }
    file->named = true;
    file->fd = openat(file->folder_fd, file->temp_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return file->fd >= 0 ? 0 : errno;
}

/* Gives it another temporary name: that renaming works here is known before the work, too. */
static sky_status try_rename(sky_output_file *file)
{
    char old[NAME_MAX + 1];
    sky_output_file old_slot = {.slot = file->slot};
    snprintf(old, sizeof old, "%s", file->temp_name);
    SKY_TRY(temp_path_set(file));
    file->slot = -1;
    slot_fill(file); /* both names, so that a signal in between finds the one that is there */
    if (renameat(file->folder_fd, old, file->folder_fd, file->temp_name) != 0) {
        const int error = errno;
        (void)unlinkat(file->folder_fd, old, file->is_dir ? AT_REMOVEDIR : 0);
        file->named = false;
        slot_clear(&old_slot);
        return sky_io_fail(file->final_path, "nothing can be renamed in its folder", error);
    }
    slot_clear(&old_slot);
    return SKY_OK;
}

/* Makes the temporary file or folder, under a name that was free or under none. */
static sky_status temp_make(sky_output_file *file)
{
    SKY_TRY(temp_path_set(file));
    if (!file->is_dir && make_nameless(file)) {
        return SKY_OK;
    }
    for (int i = 0; i < MAX_NAME_TRIES; i++) {
        const int error = make_named(file);
        if (error == 0) {
            return try_rename(file);
        }
        if (error != EEXIST && error != EINTR) {
            return sky_io_fail(file->final_path,
                               file->is_dir ? "cannot create a folder there" : "cannot create a file in its folder",
                               error);
        }
        SKY_TRY(temp_path_set(file));
    }
    return sky_fail(SKY_ERR_IO, "%s: no free temporary name in its folder after %d tries", file->final_path,
                    MAX_NAME_TRIES);
}

static sky_status output_create(const char *final_path, bool is_dir, sky_output_file **out)
{
    sky_status st = SKY_OK;
    sky_output_file *file = calloc(1, sizeof *file);
    if (file == NULL) {
        return sky_no_memory_for(final_path, sizeof *file);
    }
    file->is_dir = is_dir;
    file->folder_fd = -1;
    file->fd = -1;
    file->slot = -1;
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

/* The bytes of the temporary file or folder are on the disk. */
static sky_status temp_sync(sky_output_file *file)
{
    const int error = file->is_dir ? sky_tree_sync(file->fd) : sky_fd_sync(file->fd, false);
    return error == 0
               ? SKY_OK
               : sky_io_fail(file->final_path,
                             file->is_dir ? "bringing the folder to the disk" : "bringing the file to the disk", error);
}

/* Its temporary name is still that of what we made. */
static sky_status check_temp(const sky_output_file *file)
{
    struct stat ours;
    struct stat named;
    if (fstat(file->fd, &ours) != 0 || fstatat(file->folder_fd, file->temp_name, &named, AT_SYMLINK_NOFOLLOW) != 0) {
        return sky_io_fail(file->temp_path, "the temporary file or folder is gone", errno);
    }
    if (ours.st_dev != named.st_dev || ours.st_ino != named.st_ino) {
        return sky_fail(SKY_ERR_IO, "%s: the temporary file or folder was replaced by another", file->temp_path);
    }
    return SKY_OK;
}

/* Gives a file without a name its temporary one. */
static sky_status name_temp(sky_output_file *file)
{
    char self[FD_PATH_BYTES];
    for (int i = 0; !file->named && i < MAX_NAME_TRIES; i++) {
        slot_fill(file);
        if (linkat(AT_FDCWD, fd_path(file->fd, self), file->folder_fd, file->temp_name, AT_SYMLINK_FOLLOW) == 0) {
            file->named = true;
        } else if (errno == EEXIST) {
            SKY_TRY(temp_path_set(file));
        } else {
            return sky_io_fail(file->final_path, "giving the finished output a name", errno);
        }
    }
    return check_temp(file);
}

static sky_status give_name(sky_output_file *file)
{
    SKY_TRY(check_final(file));
    if (renameat(file->folder_fd, file->temp_name, file->folder_fd, file->final_name) != 0) {
        const int error = errno;
        if (error == ENOTEMPTY || error == EEXIST) {
            return sky_fail(SKY_ERR_IO, "%s: want a new or empty folder, found one with files in it", file->final_path);
        }
        return sky_io_fail(file->final_path, "giving the finished output its name", error);
    }
    return SKY_OK;
}

/* The work is done and its bytes are safe: they stay under the temporary name, which the message tells. */
static sky_status keep_temp(sky_output_file *file, sky_status st)
{
    char reason[1024];
    slot_clear(file);
    file->named = false;
    snprintf(reason, sizeof reason, "%s", sky_message());
    return sky_fail(st, "%s; what was written is complete and kept as %s", reason, file->temp_path);
}

/* Its bytes are safe and have the temporary name; no more can be written. */
static sky_status finish_temp(sky_output_file *file)
{
    if (file->fd < 0) {
        return sky_fail(SKY_ERR_INTERNAL, "%s: committed twice, or after a failed commit", file->final_path);
    }
    sky_status st = temp_sync(file);
    if (st == SKY_OK) {
        st = name_temp(file);
    }
    const int fd = file->fd;
    file->fd = -1;
    if (close(fd) != 0 && errno != EINTR && st == SKY_OK) {
        st = sky_io_fail(file->final_path, "closing it", errno);
    }
    return st;
}

static sky_status sync_name(const sky_output_file *file)
{
    const int error = sky_fd_sync(file->folder_fd, true);
    return error == 0 ? SKY_OK
                      : sky_io_fail(file->final_path, "is complete, but its name may be lost in a power cut", error);
}

sky_status sky_output_file_commit(sky_output_file *file)
{
    SKY_TRY(finish_temp(file));
    const sky_status st = give_name(file);
    if (st != SKY_OK) {
        return keep_temp(file, st);
    }
    slot_clear(file);
    file->named = false;
    return sync_name(file);
}

/* ---- two files ---- */

/* One file of two while they get their names: what was there before can be put back. */
typedef struct swap {
    sky_output_file *file;
    bool done;
    bool had_old; /* which has the temporary name meanwhile */
} swap;

static sky_status swap_in(swap *s)
{
    const sky_output_file *f = s->file;
    SKY_TRY(check_final(f));
    if (renameat2(f->folder_fd, f->temp_name, f->folder_fd, f->final_name, RENAME_NOREPLACE) == 0) {
        s->done = true;
        return SKY_OK;
    }
    if (errno == EEXIST && renameat2(f->folder_fd, f->temp_name, f->folder_fd, f->final_name, RENAME_EXCHANGE) == 0) {
        s->done = s->had_old = true;
        return SKY_OK;
    }
    if (errno == EINVAL || errno == ENOSYS) { /* this file system knows only the plain one: nothing can be put back */
        return give_name(s->file);
    }
    return sky_io_fail(f->final_path, "giving the finished output its name", errno);
}

static void swap_out(swap *s)
{
    const sky_output_file *f = s->file;
    if (s->done) {
        (void)renameat2(f->folder_fd, f->final_name, f->folder_fd, f->temp_name,
                        s->had_old ? RENAME_EXCHANGE : RENAME_NOREPLACE);
    }
    s->done = s->had_old = false;
}

/* Jobs that put files into one folder take turns; a file system without locks, or a lock that is held long, is passed over. */
static void lock_folder(int folder_fd)
{
    const struct timespec pause = {.tv_nsec = 20000000};
    for (int i = 0; i < 500 && flock(folder_fd, LOCK_EX | LOCK_NB) != 0 && (errno == EWOULDBLOCK || errno == EINTR);
         i++) {
        nanosleep(&pause, NULL);
    }
}

/*
 * The settings that are there go first and the new ones come last: whatever interrupts it, a video may be without settings,
 * but never has those of another.
 */
static sky_status swap_both(sky_output_file *file, sky_output_file *beside)
{
    char old[NAME_MAX + 1];
    swap main_swap = {.file = file};
    swap beside_swap = {.file = beside};
    snprintf(old, sizeof old, "%.*s-old", NAME_MAX - 8, beside->temp_name);
    const bool had_old =
        renameat2(beside->folder_fd, beside->final_name, beside->folder_fd, old, RENAME_NOREPLACE) == 0;
    sky_status st = swap_in(&main_swap);
    if (st == SKY_OK) {
        st = swap_in(&beside_swap);
    }
    if (st != SKY_OK) {
        swap_out(&main_swap);
        if (had_old) {
            (void)renameat2(beside->folder_fd, old, beside->folder_fd, beside->final_name, RENAME_NOREPLACE);
        }
        return st;
    }
    if (had_old) {
        (void)unlinkat(beside->folder_fd, old, 0);
    }
    file->named = main_swap.had_old; /* the old ones, to be removed */
    beside->named = beside_swap.had_old;
    return SKY_OK;
}

sky_status sky_output_file_commit_with(sky_output_file *file, sky_output_file *beside)
{
    SKY_TRY(finish_temp(beside));
    SKY_TRY(finish_temp(file));
    lock_folder(file->folder_fd);
    const sky_status st = swap_both(file, beside);
    (void)flock(file->folder_fd, LOCK_UN);
    if (st != SKY_OK) {
        return keep_temp(file, st);
    }
    return sync_name(file);
}

/* ---- the end ---- */

void sky_output_file_destroy(sky_output_file **file)
{
    sky_output_file *f = *file;
    if (f == NULL) {
        return;
    }
    sky_file_close(&f->fd);
    if (f->named && f->is_dir) {
        sky_tree_remove(f->folder_fd, f->temp_name);
    } else if (f->named) {
        unlinkat(f->folder_fd, f->temp_name, 0);
    }
    slot_clear(f);
    sky_file_close(&f->folder_fd);
    free(f->temp_path);
    free(f->final_path);
    free(f);
    *file = NULL;
}
