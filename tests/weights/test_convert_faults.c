/* Conversions whose k-th write fails. */
#include "base/file.h"
#include "support/test.h"
#include "weights/convert_files.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* The call that fails, counted from 1; 0: none. Ours stands before the C library's, for HDF5 too. */
static long failing_write;
static long num_writes;

static ssize_t counted_pwrite(int fd, const void *data, size_t len, off_t at)
{
    if (++num_writes == failing_write) {
        errno = ENOSPC;
        return -1;
    }
    return syscall(SYS_pwrite64, fd, data, len, at);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t at)
{
    return counted_pwrite(fd, data, len, at);
}

ssize_t pwrite64(int fd, const void *data, size_t len, off_t at)
{
    return counted_pwrite(fd, data, len, at);
}

static sky_status convert(const char *output)
{
    sky_convert_report report = {0};
    const sky_convert_settings settings = {
        .model_path = DIFFUSERS, .output_path = output, .codes = SKY_F8_E4M3, .num_shards = 2, .num_threads = 1};
    const sky_status st = sky_convert_folder(&settings, NULL, NULL, &report);
    sky_convert_report_release(&report);
    return st;
}

/* In a child, which must also end well: HDF5 cleans up at the end. Its exit code, or minus the signal. */
static int convert_in_child(const char *output, long failing)
{
    int ended = 0;
    const pid_t child = fork();
    if (child == 0) {
        failing_write = failing;
        num_writes = 0;
        exit(sky_status_exit_code(convert(output)));
    }
    waitpid(child, &ended, 0);
    return WIFEXITED(ended) ? WEXITSTATUS(ended) : -WTERMSIG(ended);
}

static int num_entries(const char *folder)
{
    int num = 0;
    DIR *dir = opendir(folder);
    SKY_ASSERT(dir != NULL);
    while (readdir(dir) != NULL) {
        num++;
    }
    closedir(dir);
    return num - 2;
}

TEST(every_failing_write_is_an_error_that_leaves_nothing)
{
    const char *folder = test_temp_path("faults");
    CHECK(mkdir(folder, 0777) == 0);
    num_writes = 0;
    CHECK_OK(convert(file_in(folder, "whole")));
    const long total = num_writes;
    CHECK(total > 100 && num_entries(folder) == 1);
    /* The first and last of each shard are HDF5's; those between are alike. */
    for (long k = 1; k <= total; k += k < 10 || k > total - 20 ? 1 : 7) {
        test_parameters("write %ld of %ld", k, total);
        EXPECT(convert_in_child(file_in(folder, "failed"), k) == 74);
        EXPECT(num_entries(folder) == 1);
    }
}

TEST_MAIN
