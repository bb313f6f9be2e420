#include "base/file.h"
#include "support/test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

/* File systems without files that have no name, without fsync() of folders, and renames that fail. Ours stand before libc's. */
static bool no_nameless;
static int folder_fsync_error;
static int failing_rename; /* counted down; the one at 0 fails */

int openat(int folder_fd, const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    const int mode = va_arg(args, int);
    va_end(args);
    if (no_nameless && (flags & O_TMPFILE) == O_TMPFILE) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return (int)syscall(SYS_openat, folder_fd, path, flags, mode);
}

int fsync(int fd)
{
    struct stat info;
    if (folder_fsync_error != 0 && fstat(fd, &info) == 0 && S_ISDIR(info.st_mode)) {
        errno = folder_fsync_error;
        return -1;
    }
    return (int)syscall(SYS_fsync, fd);
}

static int rename_or_fail(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
    if (failing_rename > 0 && --failing_rename == 0) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, flags);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    return rename_or_fail(from_fd, from, to_fd, to, 0);
}

int renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
    return rename_or_fail(from_fd, from, to_fd, to, flags);
}

static bool mentions(const char *part)
{
    return strstr(sky_message(), part) != NULL;
}

/* A new folder of this program's own. */
static const char *new_folder(const char *name)
{
    const char *path = test_temp_path(name);
    SKY_ASSERT(mkdir(path, 0755) == 0);
    return path;
}

/* "folder/name"; 16 of them at most are alive at once. */
static const char *in(const char *folder, const char *name)
{
    static char paths[16][1024];
    static int next;
    char *path = paths[next++ % 16];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static bool put(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");
    const bool ok = f != NULL && fputs(text, f) >= 0;
    return f != NULL && fclose(f) == 0 && ok;
}

static bool holds(const char *path, const char *text)
{
    char *data = NULL;
    size_t len = 0;
    const bool same = sky_file_read_all(path, 1000000, &data, &len) == SKY_OK && len == strlen(text) &&
                      memcmp(data, text, len + 1) == 0;
    free(data);
    return same;
}

static int count_entries(const char *folder)
{
    DIR *entries = opendir(folder);
    int count = 0;
    while (entries != NULL && readdir(entries) != NULL) {
        count++;
    }
    if (entries != NULL) {
        closedir(entries);
    }
    return count - 2;
}

/* Runs body in a child with files limited to limit bytes, as a full disk would; the child's exit code. */
static int in_child_with_limit(rlim_t limit, int (*body)(const char *), const char *arg)
{
    const pid_t child = fork();
    if (child == 0) {
        signal(SIGXFSZ, SIG_IGN);
        const struct rlimit r = {limit, limit};
        _exit(setrlimit(RLIMIT_FSIZE, &r) == 0 ? body(arg) : 99);
    }
    int status = -1;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 98;
}

TEST(a_file_is_read_at_any_offset_and_not_beyond_its_end)
{
    const char *path = test_temp_path("ten");
    CHECK(put(path, "0123456789"));
    int fd = -1;
    uint64_t len = 0;
    CHECK_OK(sky_file_open(path, &fd, &len));
    CHECK(len == 10);
    CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    char text[16] = {0};
    CHECK_OK(sky_file_read_at(fd, path, 3, text, 7));
    CHECK(memcmp(text, "3456789", 7) == 0);
    CHECK_OK(sky_file_read_at(fd, path, 10, text, 0));
    CHECK_STATUS(sky_file_read_at(fd, path, 3, text, 8), SKY_ERR_IO);
    CHECK(mentions(path) && mentions("8 bytes wanted at offset 3") && mentions("after 7"));
    CHECK_STATUS(sky_file_read_at(fd, path, UINT64_MAX, text, 8), SKY_ERR_IO);
    CHECK_STATUS(sky_file_read_at(fd, path, INT64_MAX, text, 8), SKY_ERR_IO);
    sky_file_close(&fd);
    CHECK(fd == -1);
    sky_file_close(&fd);
    CHECK_STATUS(sky_file_read_at(fd, path, 0, text, 1), SKY_ERR_IO);
}

TEST(only_regular_files_are_opened)
{
    int fd = -1;
    uint64_t len = 0;
    CHECK_STATUS(sky_file_open(test_temp_path("absent"), &fd, &len), SKY_ERR_IO);
    CHECK(mentions("absent") && mentions("No such file"));
    CHECK_STATUS(sky_file_open(new_folder("folder-to-open"), &fd, &len), SKY_ERR_IO);
    CHECK(mentions("a folder"));
    CHECK_STATUS(sky_file_open("/dev/null", &fd, &len), SKY_ERR_IO);
    const char *pipe_path = test_temp_path("pipe");
    CHECK(mkfifo(pipe_path, 0600) == 0);
    CHECK_STATUS(sky_file_open(pipe_path, &fd, &len), SKY_ERR_IO); /* and does not wait for a writer */
    CHECK(fd == -1);
}

TEST(a_whole_file_is_read_up_to_a_limit)
{
    const char *path = test_temp_path("whole");
    CHECK(put(path, "0123456789"));
    char *data = NULL;
    size_t len = 0;
    CHECK_OK(sky_file_read_all(path, 10, &data, &len));
    CHECK(len == 10 && strcmp(data, "0123456789") == 0);
    free(data);
    data = NULL;
    CHECK_STATUS(sky_file_read_all(path, 9, &data, &len), SKY_ERR_IO);
    CHECK(data == NULL && mentions("at most 9 bytes") && mentions("has 10"));
    CHECK(put(path, ""));
    CHECK_OK(sky_file_read_all(path, 0, &data, &len));
    CHECK(len == 0 && data[0] == '\0');
    free(data);
}

TEST(paths_are_joined_with_one_slash)
{
    static const char *const cases[][3] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"a//", "b", "a/b"}, {"/", "b", "/b"}, {"", "b", "b"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *path = NULL;
        CHECK_OK(sky_path_join(cases[i][0], cases[i][1], &path));
        const bool same = strcmp(path, cases[i][2]) == 0;
        test_parameters("%s + %s = %s, want %s", cases[i][0], cases[i][1], path, cases[i][2]);
        free(path);
        CHECK(same);
    }
}

TEST(paths_are_told_apart)
{
    const char *folder = new_folder("told");
    CHECK(put(in(folder, "f"), "x"));
    CHECK(sky_path_is_dir(folder) && !sky_path_is_file(folder));
    CHECK(!sky_path_is_dir(in(folder, "f")) && sky_path_is_file(in(folder, "f")));
    CHECK(!sky_path_is_dir(in(folder, "g")) && !sky_path_is_file(in(folder, "g")));
    CHECK(!sky_path_is_file("/dev/null"));
}

static void check_commit(const char *folder, int num_entries)
{
    const char *path = in(folder, "out.bin");
    sky_output_file *file = NULL;
    CHECK_OK(sky_output_file_create(path, &file));
    CHECK(strncmp(sky_output_file_path(file), in(folder, ".out.bin."), strlen(folder) + 10) == 0);
    CHECK((fcntl(sky_output_file_fd(file), F_GETFD) & FD_CLOEXEC) != 0);
    CHECK_OK(sky_file_write(sky_output_file_fd(file), path, "new", 3));
    CHECK(!sky_path_is_file(path) && count_entries(folder) == num_entries);
    CHECK_OK(sky_output_file_commit(file));
    CHECK(holds(path, "new") && count_entries(folder) == 1);
    CHECK_STATUS(sky_output_file_commit(file), SKY_ERR_INTERNAL);
    sky_output_file_destroy(&file);
    CHECK(file == NULL && holds(path, "new"));
    sky_output_file_destroy(&file);
}

TEST(a_file_appears_when_committed)
{
    check_commit(new_folder("commit"), 0);
}

TEST(a_file_appears_when_committed_without_nameless_files)
{
    no_nameless = true;
    check_commit(new_folder("commit-named"), 1);
    no_nameless = false;
}

TEST(a_file_system_that_cannot_sync_folders_is_forgiven_and_a_failing_disk_is_not)
{
    static const int errors[] = {EINVAL, EOPNOTSUPP, ENOSYS, EBADF, EIO, ENOSPC};
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        char name[32];
        sky_output_file *file = NULL;
        sky_output_file *dir = NULL;
        snprintf(name, sizeof name, "sync%zu", i);
        const char *folder = new_folder(name);
        test_parameters("%s", strerror(errors[i]));
        CHECK_OK(sky_output_file_create(in(folder, "out"), &file));
        CHECK_OK(sky_output_dir_create(in(folder, "dir"), &dir));
        folder_fsync_error = errors[i];
        const sky_status file_st = sky_output_file_commit(file);
        const sky_status dir_st = sky_output_file_commit(dir);
        folder_fsync_error = 0;
        EXPECT(file_st == (i < 4 ? SKY_OK : SKY_ERR_IO) && sky_path_is_file(in(folder, "out")));
        EXPECT(dir_st == (i < 4 ? SKY_OK : SKY_ERR_IO));
        sky_output_file_destroy(&file);
        sky_output_file_destroy(&dir);
        EXPECT(count_entries(folder) == (i < 4 ? 2 : 1));
    }
}

/* What the commit could not do is known before the work. */
TEST(what_cannot_be_replaced_is_refused_at_once)
{
    const char *folder = new_folder("mounts");
    sky_output_file *file = NULL;
    CHECK(mkdir(in(folder, "dir"), 0755) == 0 && put(in(folder, "file"), "old"));
    if (mount("tmpfs", in(folder, "dir"), "tmpfs", 0, "size=1m") != 0) {
        test_skip("cannot mount a file system here");
        return;
    }
    const bool bound = mount(in(folder, "file"), in(folder, "file"), NULL, MS_BIND, NULL) == 0;
    const sky_status dir_st = sky_output_dir_create(in(folder, "dir"), &file);
    const bool dir_said = mentions("mount point");
    const sky_status file_st = bound ? sky_output_file_create(in(folder, "file"), &file) : SKY_ERR_IO;
    const bool file_said = mentions("mount point");
    umount(in(folder, "file"));
    umount(in(folder, "dir"));
    CHECK(dir_st == SKY_ERR_IO && dir_said && file_st == SKY_ERR_IO && file_said && file == NULL);
    no_nameless = true;
    failing_rename = 1;
    const sky_status no_rename = sky_output_file_create(in(folder, "new"), &file);
    failing_rename = 1;
    const sky_status no_rename_dir = sky_output_dir_create(in(folder, "new-dir"), &file);
    failing_rename = 0;
    no_nameless = false;
    CHECK(no_rename == SKY_ERR_IO && no_rename_dir == SKY_ERR_IO && mentions("renamed"));
    CHECK(count_entries(folder) == 2);
}

TEST(a_folder_that_is_a_link_means_what_it_points_to)
{
    const char *folder = new_folder("links");
    sky_output_file *dir = NULL;
    CHECK(mkdir(in(folder, "there"), 0755) == 0 && mkdir(in(folder, "there/empty"), 0755) == 0);
    CHECK(symlink("there/empty", in(folder, "link")) == 0 && symlink("nowhere", in(folder, "dangling")) == 0);
    CHECK_OK(sky_output_dir_create(in(folder, "link/"), &dir));
    const int fd = openat(sky_output_file_fd(dir), "a", O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    CHECK(fd >= 0 && close(fd) == 0);
    CHECK_OK(sky_output_file_commit(dir));
    sky_output_file_destroy(&dir);
    CHECK(sky_path_is_file(in(folder, "link/a")) && sky_path_is_file(in(folder, "there/empty/a")));
    CHECK_STATUS(sky_output_dir_create(in(folder, "dangling/"), &dir), SKY_ERR_IO);
    CHECK(mentions("found a link"));
}

/* The only name in folder that begins with ".NAME." */
static bool kept_is(const char *folder, const char *begin, const char *text)
{
    DIR *entries = opendir(folder);
    const struct dirent *entry;
    bool same = false;
    while (entries != NULL && (entry = readdir(entries)) != NULL) {
        if (strncmp(entry->d_name, begin, strlen(begin)) == 0) {
            same = mentions(entry->d_name) && holds(in(folder, entry->d_name), text);
        }
    }
    closedir(entries);
    return same;
}

TEST(finished_work_that_cannot_get_its_name_is_kept_and_named)
{
    for (int named = 0; named < 2; named++) {
        const char *folder = new_folder(named != 0 ? "kept-named" : "kept");
        sky_output_file *file = NULL;
        no_nameless = named != 0;
        CHECK_OK(sky_output_file_create(in(folder, "out"), &file));
        no_nameless = false;
        CHECK_OK(sky_file_write(sky_output_file_fd(file), "out", "hours", 5));
        failing_rename = 1;
        const sky_status st = sky_output_file_commit(file);
        failing_rename = 0;
        sky_output_file_destroy(&file);
        CHECK(st == SKY_ERR_IO && count_entries(folder) == 1 && kept_is(folder, ".out.", "hours"));
    }
}

/* An output and what belongs to it, of one text each. */
static sky_status put_two(const char *folder, const char *text)
{
    sky_output_file *file = NULL;
    sky_output_file *beside = NULL;
    SKY_ASSERT(sky_output_file_create(in(folder, "out"), &file) == SKY_OK);
    SKY_ASSERT(sky_output_file_create(in(folder, "out.json"), &beside) == SKY_OK);
    SKY_ASSERT(sky_file_write(sky_output_file_fd(file), "out", text, strlen(text)) == SKY_OK);
    SKY_ASSERT(sky_file_write(sky_output_file_fd(beside), "out.json", text, strlen(text)) == SKY_OK);
    const sky_status st = sky_output_file_commit_with(file, beside);
    sky_output_file_destroy(&beside);
    sky_output_file_destroy(&file);
    return st;
}

TEST(two_files_have_what_belongs_together_whichever_rename_fails)
{
    for (int old = 0; old < 2; old++) {
        for (int k = 1; k <= 6; k++) {
            char name[32];
            snprintf(name, sizeof name, "two-%d-%d", old, k);
            const char *folder = new_folder(name);
            test_parameters("old=%d k=%d", old, k);
            EXPECT(old == 0 || put_two(folder, "old") == SKY_OK);
            failing_rename = k;
            const sky_status st = put_two(folder, "new");
            failing_rename = 0;
            const char *want = st == SKY_OK ? "new" : "old";
            if (st == SKY_OK || old != 0) {
                EXPECT(holds(in(folder, "out"), want) && holds(in(folder, "out.json"), want));
            } else {
                EXPECT(!sky_path_is_file(in(folder, "out")) && !sky_path_is_file(in(folder, "out.json")));
            }
            EXPECT(count_entries(folder) == (st == SKY_OK ? 2 : 1 + 2 * old)); /* one is kept */
        }
    }
}

TEST(two_jobs_of_one_name_do_not_mix)
{
    const char *folder = new_folder("race");
    for (int i = 0; i < 50; i++) {
        const pid_t child = fork();
        if (child == 0) {
            _exit(put_two(folder, "a") == SKY_OK ? 0 : 1);
        }
        CHECK_OK(put_two(folder, "b"));
        int status = 1;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        test_parameters("i=%d", i);
        CHECK(holds(in(folder, "out"), "a") == holds(in(folder, "out.json"), "a"));
        CHECK(count_entries(folder) == 2);
    }
}

/* As a handler of a signal does it: folders too, whatever is in them. */
TEST(what_a_signal_would_leave_is_removed)
{
    const char *folder = new_folder("signal");
    sky_output_file *outputs[3] = {NULL, NULL, NULL};
    no_nameless = true;
    const sky_status st = sky_output_file_create(in(folder, "named"), &outputs[0]);
    no_nameless = false;
    CHECK_OK(st);
    CHECK_OK(sky_output_file_create(in(folder, "nameless"), &outputs[1]));
    CHECK_OK(sky_output_dir_create(in(folder, "dir"), &outputs[2]));
    for (int i = 0; i < 300; i++) {
        char name[32];
        snprintf(name, sizeof name, "frame-%05d.png", i);
        CHECK(put(in(sky_output_file_path(outputs[2]), name), "x"));
    }
    CHECK(mkdir(in(sky_output_file_path(outputs[2]), "sub"), 0755) == 0);
    CHECK(count_entries(folder) == 2);
    sky_output_files_abandon();
    CHECK(count_entries(folder) == 0);
    for (int i = 0; i < 3; i++) {
        sky_output_file_destroy(&outputs[i]);
    }
}

TEST(a_new_file_gets_the_rights_of_the_umask)
{
    const char *path = in(new_folder("rights"), "out");
    const mode_t old = umask(027);
    sky_output_file *file = NULL;
    const sky_status st = sky_output_file_create(path, &file);
    umask(old);
    CHECK_OK(st);
    CHECK_OK(sky_output_file_commit(file));
    sky_output_file_destroy(&file);
    struct stat info;
    CHECK(stat(path, &info) == 0 && (info.st_mode & 0777) == 0640);
}

TEST(an_abandoned_file_leaves_the_old_one)
{
    const char *folder = new_folder("abandon");
    const char *path = in(folder, "out.bin");
    CHECK(put(path, "old"));
    sky_output_file *file = NULL;
    CHECK_OK(sky_output_file_create(path, &file));
    CHECK_OK(sky_file_write(sky_output_file_fd(file), path, "half", 4));
    CHECK(holds(path, "old"));
    sky_output_file_destroy(&file);
    CHECK(holds(path, "old") && count_entries(folder) == 1);
}

TEST(a_committed_file_replaces_the_old_one)
{
    const char *folder = new_folder("replace");
    const char *path = in(folder, "out.bin");
    CHECK(put(path, "old"));
    sky_output_file *a = NULL;
    sky_output_file *b = NULL;
    CHECK_OK(sky_output_file_create(path, &a));
    CHECK_OK(sky_output_file_create(path, &b)); /* two writers do not meet in one temporary file */
    CHECK_OK(sky_file_write(sky_output_file_fd(a), path, "a", 1));
    CHECK_OK(sky_file_write(sky_output_file_fd(b), path, "bb", 2));
    CHECK_OK(sky_output_file_commit(a));
    CHECK(holds(path, "a"));
    CHECK_OK(sky_output_file_commit(b));
    CHECK(holds(path, "bb"));
    sky_output_file_destroy(&a);
    sky_output_file_destroy(&b);
    CHECK(count_entries(folder) == 1);
}

TEST(a_link_is_replaced_and_what_it_points_to_stays)
{
    const char *folder = new_folder("link");
    const char *path = in(folder, "out.bin");
    CHECK(put(in(folder, "target"), "old"));
    CHECK(symlink("target", path) == 0);
    sky_output_file *file = NULL;
    CHECK_OK(sky_output_file_create(path, &file));
    CHECK_OK(sky_file_write(sky_output_file_fd(file), path, "new", 3));
    CHECK_OK(sky_output_file_commit(file));
    sky_output_file_destroy(&file);
    CHECK(holds(in(folder, "target"), "old") && holds(path, "new"));
}

TEST(places_where_no_output_can_be_are_refused)
{
    const char *folder = new_folder("refuse");
    CHECK(put(in(folder, "file"), "x"));
    CHECK(mkdir(in(folder, "folder"), 0755) == 0);
    CHECK(symlink("/dev/null", in(folder, "device")) == 0);
    sky_output_file *file = NULL;
    CHECK_STATUS(sky_output_file_create(in(folder, "absent/out"), &file), SKY_ERR_IO);
    CHECK(mentions("absent") && mentions("No such file") && mentions("create the folder"));
    CHECK_STATUS(sky_output_file_create(in(folder, "file/out"), &file), SKY_ERR_IO);
    CHECK(mentions("Not a directory"));
    CHECK_STATUS(sky_output_file_create(in(folder, "folder"), &file), SKY_ERR_IO);
    CHECK(mentions("found a folder"));
    CHECK_STATUS(sky_output_file_create(in(folder, "device"), &file), SKY_ERR_IO);
    CHECK_STATUS(sky_output_file_create("/dev/null", &file), SKY_ERR_IO);
    CHECK_STATUS(sky_output_file_create("/proc/out", &file), SKY_ERR_IO);
    CHECK_STATUS(sky_output_file_create("", &file), SKY_ERR_IO);
    CHECK_STATUS(sky_output_file_create("..", &file), SKY_ERR_IO);
    CHECK_STATUS(sky_output_dir_create(in(folder, "file/"), &file), SKY_ERR_IO);
    CHECK_STATUS(sky_output_dir_create(in(folder, "absent/x/"), &file), SKY_ERR_IO);
    CHECK_STATUS(sky_output_dir_create("/", &file), SKY_ERR_IO);
    CHECK(file == NULL && count_entries(folder) == 3);
}

TEST(a_folder_without_write_permission_is_refused)
{
    if (geteuid() == 0) {
        test_skip("root may write everywhere");
        return;
    }
    const char *folder = new_folder("locked");
    CHECK(chmod(folder, 0555) == 0);
    sky_output_file *file = NULL;
    CHECK_STATUS(sky_output_file_create(in(folder, "out"), &file), SKY_ERR_IO);
    CHECK(mentions("Permission denied"));
}

TEST(long_names_fit)
{
    const char *folder = new_folder("long");
    char name[256];
    memset(name, 'x', 255);
    memcpy(name + 199, "\xe4\xbd\xa0", 3); /* a character across the place where the temporary name is cut */
    name[255] = '\0';
    sky_output_file *file = NULL;
    CHECK_OK(sky_output_file_create(in(folder, name), &file));
    const char *stem = strrchr(sky_output_file_path(file), '/') + 2;
    CHECK(strspn(stem, "x") == 199 && stem[199] == '.');
    CHECK_OK(sky_output_file_commit(file));
    sky_output_file_destroy(&file);
    CHECK(sky_path_is_file(in(folder, name)) && count_entries(folder) == 1);
}

TEST(the_working_folder_may_change_meanwhile)
{
    const char *folder = new_folder("cwd");
    char *old = getcwd(NULL, 0);
    CHECK(old != NULL && chdir(folder) == 0);
    sky_output_file *file = NULL;
    const sky_status st = sky_output_file_create("out", &file);
    CHECK(chdir(old) == 0);
    free(old);
    CHECK_OK(st);
    CHECK_OK(sky_output_file_commit(file));
    sky_output_file_destroy(&file);
    CHECK(sky_path_is_file(in(folder, "out")));
}

TEST(a_temporary_file_that_was_replaced_is_not_committed)
{
    const char *folder = new_folder("replaced");
    sky_output_file *file = NULL;
    no_nameless = true;
    const sky_status created = sky_output_file_create(in(folder, "out"), &file);
    no_nameless = false;
    CHECK_OK(created);
    CHECK(put(in(folder, "other"), "other"));
    CHECK(rename(in(folder, "other"), sky_output_file_path(file)) == 0);
    CHECK_STATUS(sky_output_file_commit(file), SKY_ERR_IO);
    sky_output_file_destroy(&file);
    CHECK(!sky_path_is_file(in(folder, "out")));
}

static bool put_two_levels(const sky_output_file *dir)
{
    const char *temp = sky_output_file_path(dir);
    return put(in(temp, "a"), "aa") && mkdir(in(temp, "sub"), 0755) == 0 && put(in(temp, "sub/b"), "bb");
}

TEST(a_temporary_folder_that_was_replaced_by_a_link_is_not_followed)
{
    const char *folder = new_folder("swapped");
    CHECK(mkdir(in(folder, "precious"), 0755) == 0 && put(in(folder, "precious/file"), "x"));
    sky_output_file *dir = NULL;
    CHECK_OK(sky_output_dir_create(in(folder, "out"), &dir));
    CHECK(rmdir(sky_output_file_path(dir)) == 0 && symlink("precious", sky_output_file_path(dir)) == 0);
    CHECK_STATUS(sky_output_file_commit(dir), SKY_ERR_IO);
    sky_output_file_destroy(&dir);
    CHECK(holds(in(folder, "precious/file"), "x"));
}

TEST(what_appears_under_the_final_name_meanwhile_is_not_replaced_unless_it_is_a_file)
{
    const char *folder = new_folder("meanwhile");
    const char *path = in(folder, "out");
    struct stat info;
    sky_output_file *file = NULL;
    CHECK_OK(sky_output_file_create(path, &file));
    CHECK(mkfifo(path, 0600) == 0);
    CHECK_STATUS(sky_output_file_commit(file), SKY_ERR_IO);
    CHECK(stat(path, &info) == 0 && S_ISFIFO(info.st_mode) && mentions("kept as"));
    sky_output_file_destroy(&file);
    CHECK(unlink(path) == 0);
    CHECK_OK(sky_output_file_create(path, &file));
    CHECK(mkdir(path, 0755) == 0);
    CHECK_STATUS(sky_output_file_commit(file), SKY_ERR_IO);
    CHECK(mentions("found a folder"));
    sky_output_file_destroy(&file);
    CHECK(sky_path_is_dir(path) && count_entries(folder) == 3); /* both that were kept */
}

TEST(a_folder_appears_when_committed)
{
    const char *folder = new_folder("dirs");
    const char *path = in(folder, "out/");
    sky_output_file *dir = NULL;
    CHECK_OK(sky_output_dir_create(path, &dir));
    CHECK((fcntl(sky_output_file_fd(dir), F_GETFD) & FD_CLOEXEC) != 0);
    CHECK(put_two_levels(dir) && !sky_path_is_dir(path));
    CHECK_OK(sky_output_file_commit(dir));
    CHECK_STATUS(sky_output_file_commit(dir), SKY_ERR_INTERNAL);
    sky_output_file_destroy(&dir);
    CHECK(holds(in(folder, "out/a"), "aa") && holds(in(folder, "out/sub/b"), "bb") && count_entries(folder) == 1);
}

TEST(a_folder_replaces_an_empty_one_and_no_other)
{
    const char *folder = new_folder("empty");
    const char *path = in(folder, "out");
    CHECK(mkdir(path, 0755) == 0);
    sky_output_file *dir = NULL;
    CHECK_OK(sky_output_dir_create(path, &dir));
    CHECK(put_two_levels(dir));
    CHECK_OK(sky_output_file_commit(dir));
    sky_output_file_destroy(&dir);
    CHECK(holds(in(folder, "out/a"), "aa"));

    CHECK_OK(sky_output_dir_create(path, &dir));
    CHECK(put_two_levels(dir) && put(in(sky_output_file_path(dir), "a"), "new"));
    CHECK_STATUS(sky_output_file_commit(dir), SKY_ERR_IO);
    CHECK(mentions(path) && mentions("empty folder"));
    sky_output_file_destroy(&dir);
    CHECK(holds(in(folder, "out/a"), "aa") && count_entries(folder) == 2); /* and the one that was kept */
}

TEST(removing_a_folder_follows_no_links)
{
    const char *folder = new_folder("keep");
    CHECK(mkdir(in(folder, "precious"), 0755) == 0 && put(in(folder, "precious/file"), "x"));
    sky_output_file *dir = NULL;
    CHECK_OK(sky_output_dir_create(in(folder, "out"), &dir));
    CHECK(put_two_levels(dir));
    CHECK(symlink("../precious", in(sky_output_file_path(dir), "to-folder")) == 0);
    CHECK(symlink("../precious/file", in(sky_output_file_path(dir), "to-file")) == 0);
    sky_output_file_destroy(&dir);
    CHECK(count_entries(folder) == 1 && holds(in(folder, "precious/file"), "x"));
}

static int write_too_much(const char *path)
{
    static char block[3000];
    sky_output_file *file = NULL;
    if (sky_output_file_create(path, &file) != SKY_OK) {
        return 1;
    }
    if (sky_file_write(sky_output_file_fd(file), path, block, 3000) != SKY_OK) {
        return 2;
    }
    const sky_status st = sky_file_write(sky_output_file_fd(file), path, block, 3000);
    if (st != SKY_ERR_IO || !mentions(path) || !mentions("writing 3000 bytes, 1096 of them done")) {
        return 3;
    }
    sky_output_file_destroy(&file);
    return 0;
}

TEST(a_write_that_does_not_fit_names_the_path_and_the_bytes)
{
    const char *folder = new_folder("full");
    CHECK(put(in(folder, "out"), "old"));
    CHECK(in_child_with_limit(4096, write_too_much, in(folder, "out")) == 0);
    CHECK(holds(in(folder, "out"), "old") && count_entries(folder) == 1);
}

TEST(a_full_disk_says_so)
{
    const int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        test_skip("no /dev/full here");
        return;
    }
    const sky_status st = sky_file_write(fd, "out.bin", "x", 1);
    close(fd);
    CHECK_STATUS(st, SKY_ERR_IO);
    CHECK(mentions("out.bin") && mentions("1 bytes") && mentions("No space left") && mentions("disk is full"));
}

static void on_alarm(int signal_number)
{
    (void)signal_number;
}

TEST(interrupted_and_short_writes_go_on)
{
    /* A pipe takes what fits and blocks; the reader is slow and a signal arrives every millisecond. */
    enum { BYTES = 300000 };
    int ends[2];
    CHECK(pipe(ends) == 0);
    const pid_t reader = fork();
    if (reader == 0) {
        close(ends[1]);
        static unsigned char got[4096];
        size_t count = 0;
        ssize_t n;
        while ((n = read(ends[0], got, sizeof got)) > 0) {
            for (ssize_t i = 0; i < n; i++, count++) {
                if (got[i] != (unsigned char)(count * 7 >> 3)) {
                    _exit(1);
                }
            }
            usleep(1000);
        }
        _exit(count == BYTES ? 0 : 2);
    }
    close(ends[0]);
    struct sigaction old;
    const struct sigaction action = {.sa_handler = on_alarm}; /* without SA_RESTART */
    sigaction(SIGALRM, &action, &old);
    const struct timeval ms = {.tv_usec = 1000};
    setitimer(ITIMER_REAL, &(struct itimerval){.it_interval = ms, .it_value = ms}, NULL);
    unsigned char *bytes = malloc(BYTES);
    SKY_ASSERT(bytes != NULL);
    for (size_t i = 0; i < BYTES; i++) {
        bytes[i] = (unsigned char)(i * 7 >> 3);
    }
    const sky_status st = sky_file_write(ends[1], "pipe", bytes, BYTES);
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    sigaction(SIGALRM, &old, NULL);
    free(bytes);
    close(ends[1]);
    int status = -1;
    while (waitpid(reader, &status, 0) < 0 && errno == EINTR) {
    }
    CHECK_OK(st);
    CHECK(status == 0);
}

static void check_killed(const char *folder, int num_left)
{
    int ready[2];
    CHECK(pipe(ready) == 0);
    const pid_t child = fork();
    if (child == 0) {
        sky_output_file *file = NULL;
        if (sky_output_file_create(in(folder, "out"), &file) == SKY_OK &&
            sky_file_write(sky_output_file_fd(file), "out", "half", 4) == SKY_OK && write(ready[1], "x", 1) == 1) {
            pause();
        }
        _exit(1);
    }
    char byte;
    CHECK(read(ready[0], &byte, 1) == 1);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    close(ready[0]);
    close(ready[1]);
    CHECK(!sky_path_is_file(in(folder, "out")) && count_entries(folder) == num_left);
}

TEST(a_killed_writer_leaves_nothing)
{
    check_killed(new_folder("killed"), 0);
}

TEST(a_killed_writer_leaves_nothing_under_the_final_name)
{
    no_nameless = true;
    check_killed(new_folder("killed-named"), 1);
    no_nameless = false;
}

TEST_MAIN
