/* Disks that fill up and writers that are killed, for every kind of output. */
#include "base/file.h"
#include "media/clip.h"
#include "support/test.h"

#include <dirent.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    CHILD_OK = 0,
    CHILD_WRONG = 1,
    CHILD_CANNOT = 77,
};

static const char *const names[] = {"x.y4m", "x/", "x.mp4"};

static int num_names(void)
{
    return sky_video_has_mp4() ? 3 : 2;
}

static int wait_for(pid_t child)
{
    int status = -1;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* In a child: the write fails as a full disk does, and says what and where. */
static int must_fail(const char *path, const sky_video *video)
{
    const sky_status st = sky_video_write(path, video);
    if (st == SKY_ERR_IO && strstr(sky_message(), path) != NULL && strstr(sky_message(), "bytes") != NULL &&
        (strstr(sky_message(), "File too large") != NULL || strstr(sky_message(), "No space left") != NULL)) {
        return CHILD_OK;
    }
    fprintf(stderr, "%s: want IO that names path and bytes, got %s: %s\n", path, sky_status_name(st), sky_message());
    return CHILD_WRONG;
}

static int write_limited(const char *path, const sky_video *video, size_t limit)
{
    const pid_t child = fork();
    if (child == 0) {
        const struct rlimit r = {(rlim_t)limit, (rlim_t)limit};
        signal(SIGXFSZ, SIG_IGN);
        _exit(setrlimit(RLIMIT_FSIZE, &r) == 0 ? must_fail(path, video) : CHILD_WRONG);
    }
    return wait_for(child);
}

/* Bytes of the output's largest file. */
static size_t whole_size(const char *folder, const char *name, const sky_video *video)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/whole-%s", folder, name);
    size_t len = 0;
    if (sky_video_write(path, video) != SKY_OK) {
        return 0;
    }
    if (path[strlen(path) - 1] == '/') {
        snprintf(path, sizeof path, "%s/whole-%sframe-00001.png", folder, name);
    }
    free(clip_read(path, &len));
    return len;
}

TEST(a_file_that_may_not_grow_leaves_the_old_output_and_no_trace)
{
    sky_video video = clip_make(2, 64, 96, 60);
    const char *sizes = clip_folder("sizes");
    for (int i = 0; i < num_names(); i++) {
        const size_t size = whole_size(sizes, names[i], &video);
        EXPECT(size > 4000);
        const size_t limits[] = {0, 1, 100, size / 4, size / 2, size - 1};
        for (size_t k = 0; k < sizeof limits / sizeof limits[0]; k++) {
            char name[40];
            snprintf(name, sizeof name, "limit%d-%zu", i, k);
            const char *folder = clip_folder(name);
            const char *path = clip_path(folder, names[i]);
            const bool is_dir = strchr(names[i], '/') != NULL;
            test_parameters("name=%s size=%zu limit=%zu", names[i], size, limits[k]);
            EXPECT(is_dir ? mkdir(path, 0755) == 0 : clip_put(path, "old"));
            EXPECT(write_limited(path, &video, limits[k]) == CHILD_OK);
            EXPECT(clip_count(folder) == 1);
            EXPECT(is_dir ? clip_count(path) == 0 : clip_holds(path, "old"));
        }
    }
    clip_free(&video);
}

/* A tmpfs of its own for the calling child, seen by nobody else. */
static bool mount_small(const char *folder, const char *options)
{
    return unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tmpfs", folder, "tmpfs", 0, options) == 0;
}

static int write_to_full_disk(const char *folder, const char *name, const sky_video *video, const char *options)
{
    const pid_t child = fork();
    if (child == 0) {
        if (!mount_small(folder, options)) {
            _exit(CHILD_CANNOT);
        }
        const char *path = clip_path(folder, name);
        const bool is_dir = strchr(name, '/') != NULL;
        if (!(is_dir ? mkdir(path, 0755) == 0 : clip_put(path, "old"))) {
            _exit(CHILD_WRONG);
        }
        if (must_fail(path, video) != CHILD_OK) {
            _exit(CHILD_WRONG);
        }
        _exit(clip_count(folder) == 1 && (is_dir ? clip_count(path) == 0 : clip_holds(path, "old")) ? CHILD_OK
                                                                                                    : CHILD_WRONG);
    }
    return wait_for(child);
}

TEST(a_full_disk_leaves_the_old_output_and_no_trace)
{
    const char *folder = clip_folder("small");
    sky_video video = clip_make(6, 64, 96, 60);
    for (int i = 0; i < num_names(); i++) {
        test_parameters("name=%s", names[i]);
        const int code = write_to_full_disk(folder, names[i], &video, "size=32k");
        if (code == CHILD_CANNOT) {
            clip_free(&video);
            test_skip("no right to mount a small file system here");
            return;
        }
        EXPECT(code == CHILD_OK);
    }
    clip_free(&video);
}

/* The first name in folder that is not "." or "..", or "". */
static void first_entry(const char *folder, char *name, size_t size)
{
    name[0] = '\0';
    DIR *entries = opendir(folder);
    const struct dirent *entry;
    while (entries != NULL && name[0] == '\0' && (entry = readdir(entries)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            snprintf(name, size, "%s", entry->d_name);
        }
    }
    if (entries != NULL) {
        closedir(entries);
    }
}

TEST(a_killed_writer_leaves_nothing_under_the_final_name)
{
    sky_video video = clip_make(60, 192, 320, 60);
    for (int i = 0; i < num_names(); i++) {
        char name[40];
        char seen[300] = "";
        snprintf(name, sizeof name, "killed%d", i);
        const char *folder = clip_folder(name);
        const char *path = clip_path(folder, names[i]);
        test_parameters("name=%s", names[i]);
        const pid_t child = fork();
        if (child == 0) {
            _exit(sky_video_write(path, &video) == SKY_OK ? CHILD_OK : CHILD_WRONG);
        }
        const bool is_dir = strchr(names[i], '/') != NULL;
        for (int tries = 0; is_dir && tries < 50000 && seen[0] == '\0'; tries++) {
            usleep(100);
            first_entry(folder, seen, sizeof seen);
        }
        usleep(is_dir ? 0 : 10000); /* a file has no name until it is whole */
        kill(child, SIGKILL);
        EXPECT(wait_for(child) == -1); /* it had not ended by itself */
        EXPECT(is_dir ? strncmp(seen, ".x.", 3) == 0 && clip_count(folder) == 1 : clip_count(folder) == 0);
        EXPECT(!sky_path_is_file(path) && !sky_path_is_dir(path));

        sky_video small = clip_make(1, 16, 16, 0); /* what is left is in nobody's way */
        EXPECT(sky_video_write(path, &small) == SKY_OK);
        const bool has_sidecar = strstr(names[i], ".y4m") != NULL;
        EXPECT(clip_count(folder) == (has_sidecar || is_dir ? 2 : 1));
        clip_free(&small);
    }
    clip_free(&video);
}

TEST_MAIN
