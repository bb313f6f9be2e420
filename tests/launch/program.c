#include "launch/program.h"

#include "base/clock.h"

#include "support/test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_ARGS = 64, LIMIT_SECONDS = 120 };

/* What a pipe has to say is appended to *text; false at its end. */
static bool drain(int fd, char **text, size_t *len)
{
    char piece[4096];
    const ssize_t got = read(fd, piece, sizeof piece);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) {
        return true;
    }
    if (got <= 0) {
        return false;
    }
    *text = realloc(*text, *len + (size_t)got + 1);
    SKY_ASSERT(*text != NULL);
    memcpy(*text + *len, piece, (size_t)got);
    *len += (size_t)got;
    (*text)[*len] = '\0';
    return true;
}

static pid_t start_child(const char *const *argv, int out, int err)
{
    const pid_t child = fork();
    if (child != 0) {
        return child;
    }
    const int null = open("/dev/null", O_RDONLY);
    if (geteuid() == 0) { /* as in containers: mpirun wants to hear that it is meant */
        setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
        setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    }
    setpgid(0, 0);
    dup2(null, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    execvp(argv[0], (char *const *)argv);
    _exit(127);
}

void program_start(program_run *run, const char *const *argv)
{
    int out[2];
    int err[2];
    size_t out_len = 0;
    size_t err_len = 0;
    *run = (program_run){.exit_code = -1, .out = calloc(1, 1), .err = calloc(1, 1)};
    SKY_ASSERT(run->out != NULL && run->err != NULL && pipe2(out, O_CLOEXEC) == 0 && pipe2(err, O_CLOEXEC) == 0);
    const double start = sky_clock_seconds();
    const pid_t child = start_child(argv, out[1], err[1]);
    SKY_ASSERT(child > 0);
    close(out[1]);
    close(err[1]);
    struct pollfd fds[2] = {{.fd = out[0], .events = POLLIN}, {.fd = err[0], .events = POLLIN}};
    while (fds[0].fd >= 0 || fds[1].fd >= 0) {
        const double left = start + LIMIT_SECONDS - sky_clock_seconds();
        if (left <= 0 || poll(fds, 2, (int)(left * 1000) + 1) == 0) {
            break;
        }
        if (fds[0].revents != 0 && !drain(out[0], &run->out, &out_len)) {
            fds[0].fd = -1;
        }
        if (fds[1].revents != 0 && !drain(err[0], &run->err, &err_len)) {
            fds[1].fd = -1;
        }
    }
    const bool in_time = fds[0].fd < 0 && fds[1].fd < 0;
    if (!in_time) {
        kill(-child, SIGKILL);
    }
    int status = 0;
    waitpid(child, &status, 0);
    close(out[0]);
    close(err[0]);
    run->seconds = sky_clock_seconds() - start;
    if (in_time) {
        run->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
}

void program_free(program_run *run)
{
    free(run->out);
    free(run->err);
    *run = (program_run){0};
}

static int append(const char **argv, int count, va_list args)
{
    const char *arg = NULL;
    while ((arg = va_arg(args, const char *)) != NULL) {
        SKY_ASSERT(count < MAX_ARGS - 1);
        argv[count++] = arg;
    }
    argv[count] = NULL;
    return count;
}

void program_skyreels(program_run *run, ...)
{
    const char *argv[MAX_ARGS] = {SKY_TEST_PROGRAM};
    va_list args;
    va_start(args, run);
    append(argv, 1, args);
    va_end(args);
    program_start(run, argv);
}

void program_skyreels_mpi(program_run *run, int num_ranks, ...)
{
    char ranks[16];
    const char *argv[MAX_ARGS] = {SKY_TEST_MPIRUN, "--oversubscribe", "-np", ranks, SKY_TEST_PROGRAM};
    va_list args;
    snprintf(ranks, sizeof ranks, "%d", num_ranks);
    va_start(args, num_ranks);
    append(argv, 5, args);
    va_end(args);
    program_start(run, argv);
}

int program_count_entries(const char *folder)
{
    DIR *dir = opendir(folder);
    if (dir == NULL) {
        return -1;
    }
    int count = 0;
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        count += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    }
    closedir(dir);
    return count;
}

bool program_same_files(const char *a, const char *b)
{
    FILE *fa = fopen(a, "rb");
    FILE *fb = fopen(b, "rb");
    bool same = fa != NULL && fb != NULL;
    while (same) {
        const int ca = getc(fa);
        const int cb = getc(fb);
        same = ca == cb;
        if (ca == EOF) {
            break;
        }
    }
    if (fa != NULL) {
        fclose(fa);
    }
    if (fb != NULL) {
        fclose(fb);
    }
    return same;
}

bool program_copy_tree(const char *from, const char *to)
{
    program_run run;
    const char *const argv[] = {"cp", "-rL", from, to, NULL};
    program_start(&run, argv);
    const bool ok = run.exit_code == 0;
    program_free(&run);
    return ok;
}
