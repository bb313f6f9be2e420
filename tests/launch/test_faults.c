/*
 * Jobs of several ranks of which one fails: all end, with one message that names the rank and the place, the exit code of
 * that failure, and nothing left behind. Failures are those of launch/fault.h. repeat-faults does the same at random places,
 * and kills from outside.
 */
#include "launch/program.h"
#include "support/test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MODEL SKY_TEST_MODELS "/shapes-t2v"

enum {
    EXIT_INTERNAL = 70,
    EXIT_IO = 74,
    EXIT_KILLED = 137,
    MAX_JOBS = 32,
    MAX_FLAGS = 6,
    MAX_LEFT = 16,
    AT_A_TIME = 4,        /* a job that fails takes a second or more of mpirun's, most of it asleep */
    PATIENCE_SECONDS = 60 /* for processes to end that their launcher has given up */
};

typedef struct job {
    int num_ranks;
    const char *layout[MAX_FLAGS];
    const char *fault; /* SKYREELS_FAULT */
    int exit_code;
    const char *says[2]; /* parts of the error line: the rank, the place */

    const char *folder; /* the output's, new and empty */
    char output[512];
    program_run run;
} job;

/* ---- processes ---- */

/* Running processes whose command line has `text`, and how many of them are stopped. */
static int find_processes(const char *text, pid_t pids[MAX_LEFT], int *num_stopped)
{
    DIR *proc = opendir("/proc");
    SKY_ASSERT(proc != NULL);
    int num = 0;
    *num_stopped = 0;
    for (struct dirent *e = readdir(proc); e != NULL && num < MAX_LEFT; e = readdir(proc)) {
        char path[300];
        char line[8192] = "";
        snprintf(path, sizeof path, "/proc/%s/cmdline", e->d_name);
        const int fd = e->d_name[0] >= '1' && e->d_name[0] <= '9' ? open(path, O_RDONLY) : -1;
        const ssize_t len = fd >= 0 ? read(fd, line, sizeof line) : 0;
        if (fd >= 0) {
            close(fd);
        }
        if (len <= 0 || memmem(line, (size_t)len, text, strlen(text)) == NULL) {
            continue;
        }
        pids[num++] = (pid_t)strtol(e->d_name, NULL, 10);
        snprintf(path, sizeof path, "/proc/%s/stat", e->d_name);
        FILE *stat = fopen(path, "r");
        if (stat != NULL && fgets(line, sizeof line, stat) != NULL && strrchr(line, ')') != NULL) {
            *num_stopped += strncmp(strrchr(line, ')'), ") T", 3) == 0;
        }
        if (stat != NULL) {
            fclose(stat);
        }
    }
    closedir(proc);
    return num;
}

static void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

static bool nobody_left(const job *j)
{
    pid_t pids[MAX_LEFT];
    int num_stopped = 0;
    for (int i = 0; i < PATIENCE_SECONDS * 10; i++) {
        if (find_processes(j->output, pids, &num_stopped) == 0) {
            return true;
        }
        sleep_ms(100);
    }
    return false;
}

/* ---- jobs ---- */

/* A video of 390 tokens, so that each of four ranks holds some, with five latent rows or more for each. */
#define VIDEO                                                                                                   \
    "--model_path", MODEL, "--prompt", "A red ball.", "--height", "160", "--width", "208", "--num_frames", "9", \
        "--inference_steps", "3", "--seed", "1", "--threads", "1"

static void run_job(job *j)
{
    char fault[256];
    char ranks[16];
    const char *argv[64] = {"env", fault,           SKY_TEST_MPIRUN, "--oversubscribe", "-np",
                            ranks, SKY_TEST_FAULTS, VIDEO,           "--output",        j->output};
    size_t num = 0;
    while (argv[num] != NULL) {
        num++;
    }
    for (int i = 0; i < MAX_FLAGS && j->layout[i] != NULL; i++) {
        argv[num++] = j->layout[i];
    }
    snprintf(fault, sizeof fault, "SKYREELS_FAULT=%s", j->fault);
    snprintf(ranks, sizeof ranks, "%d", j->num_ranks);
    program_start(&j->run, argv);
}

/* A new folder for the job's video. */
static void give_folder(job *j)
{
    static int count; /* of this program */
    char name[32];
    snprintf(name, sizeof name, "job-%d", count++);
    j->folder = test_temp_path(name);
    SKY_ASSERT(mkdir(j->folder, 0777) == 0);
    snprintf(j->output, sizeof j->output, "%s/video.y4m", j->folder);
}

typedef struct queue {
    job *jobs;
    int num, next;
    pthread_mutex_t lock;
} queue;

static void *work(void *arg)
{
    queue *q = arg;
    for (;;) {
        pthread_mutex_lock(&q->lock);
        const int i = q->next++;
        pthread_mutex_unlock(&q->lock);
        if (i >= q->num) {
            return NULL;
        }
        run_job(&q->jobs[i]);
    }
}

/* Runs all jobs, a few at a time. */
static void run_jobs(job *jobs, int num)
{
    pthread_t threads[AT_A_TIME];
    queue q = {.jobs = jobs, .num = num, .lock = PTHREAD_MUTEX_INITIALIZER};
    for (int i = 0; i < num; i++) {
        give_folder(&jobs[i]);
    }
    for (int i = 0; i < AT_A_TIME; i++) {
        SKY_ASSERT(pthread_create(&threads[i], NULL, work, &q) == 0);
    }
    for (int i = 0; i < AT_A_TIME; i++) {
        SKY_ASSERT(pthread_join(threads[i], NULL) == 0);
    }
}

static const char *error_line(const job *j, int *num_lines)
{
    const char *first = NULL;
    *num_lines = 0;
    for (const char *p = j->run.err; (p = strstr(p, "skyreels-mpi: error: ")) != NULL; p++) {
        first = first == NULL ? p : first;
        *num_lines += 1;
    }
    return first;
}

static bool line_has(const char *line, const char *part)
{
    const char *end = strchr(line, '\n');
    return memmem(line, end != NULL ? (size_t)(end - line) : strlen(line), part, strlen(part)) != NULL;
}

static void tell_parameters(const job *j)
{
    const char *const *flags = j->layout;
    test_parameters("%s, %d ranks %s %s %s %s", j->fault, j->num_ranks, flags[0] != NULL ? flags[0] : "",
                    flags[0] != NULL && flags[1] != NULL ? flags[1] : "",
                    flags[0] != NULL && flags[1] != NULL && flags[2] != NULL ? flags[2] : "",
                    flags[0] != NULL && flags[1] != NULL && flags[2] != NULL && flags[3] != NULL ? flags[3] : "");
}

static void check_failed(const job *j)
{
    int num_lines = 0;
    const char *line = error_line(j, &num_lines);
    tell_parameters(j);
    if (j->run.exit_code != j->exit_code || num_lines != 1) {
        test_fail(__FILE__, __LINE__, "exit code %d, want %d; %d error lines, want 1: %s", j->run.exit_code,
                  j->exit_code, num_lines, j->run.err);
    }
    for (int i = 0; i < 2 && line != NULL && j->says[i] != NULL; i++) {
        if (!line_has(line, j->says[i])) {
            test_fail(__FILE__, __LINE__, "\"%s\" is not in: %s", j->says[i], line);
        }
    }
    EXPECT(program_count_entries(j->folder) == 0);
    EXPECT(nobody_left(j));
}

static void check_all_failed(job *jobs, int num)
{
    run_jobs(jobs, num);
    for (int i = 0; i < num; i++) {
        check_failed(&jobs[i]);
        program_free(&jobs[i].run);
    }
}

/* A finished job: the right video, with its settings beside it, and nothing else. */
static void check_finished(const job *j, const char *good)
{
    tell_parameters(j);
    if (j->run.exit_code != 0) {
        test_fail(__FILE__, __LINE__, "exit code %d: %s", j->run.exit_code, j->run.err);
    }
    EXPECT(program_same_files(good, j->output));
    EXPECT(program_count_entries(j->folder) == 2);
}

/* The video that a run without faults makes. */
static const char *good_video(void)
{
    const char *path = test_temp_path("good.y4m");
    if (access(path, R_OK) != 0) {
        program_run run;
        program_skyreels(&run, VIDEO, "--output", path, NULL);
        if (run.exit_code != 0) {
            test_fail(__FILE__, __LINE__, "exit code %d: %s", run.exit_code, run.err);
        }
        program_free(&run);
    }
    return path;
}

#define USP        "--use_usp"
#define CFG(n)     "--cfg_degree", #n
#define RING(n)    "--ring_degree", #n
#define ULYSSES(n) "--ulysses_degree", #n

/* ---- cases ---- */

#define SAYS(rank, place)                                              \
    {                                                                  \
        "rank " #rank ": ", "fault injected by SKYREELS_FAULT: " place \
    }

TEST(a_rank_fails_while_loading_or_encoding)
{
    job jobs[] = {
        {2, {NULL}, "0:load_text_encoder:0:io", EXIT_IO, SAYS(0, "load_text_encoder")},
        {3, {USP}, "0:encode_text:0:fail", EXIT_INTERNAL, SAYS(0, "encode_text")},
        {4, {NULL}, "3:load_transformer:0:io", EXIT_IO, SAYS(3, "load_transformer")},
        {2, {RING(2)}, "0:load_transformer:0:nomem", EXIT_INTERNAL, SAYS(0, "load_transformer")},
        {4, {CFG(2), RING(2)}, "2:load_vae:0:io", EXIT_IO, SAYS(2, "load_vae")},
    };
    check_all_failed(jobs, sizeof jobs / sizeof jobs[0]);
}

TEST(a_rank_fails_in_a_step)
{
    job jobs[] = {
        {2, {NULL}, "1:denoise:0:fail", EXIT_INTERNAL, SAYS(1, "denoise 0")},
        {2, {USP}, "1:denoise:2:nomem", EXIT_INTERNAL, SAYS(1, "denoise 2")},
        {2, {CFG(1), RING(2)}, "0:denoise:2:io", EXIT_IO, SAYS(0, "denoise 2")},
        {3, {RING(3)}, "1:denoise:1:fail", EXIT_INTERNAL, SAYS(1, "denoise 1")},
        {4, {NULL}, "2:denoise:1:fail", EXIT_INTERNAL, SAYS(2, "denoise 1")},
        {4, {CFG(1), ULYSSES(2), RING(2)}, "3:denoise:2:fail", EXIT_INTERNAL, SAYS(3, "denoise 2")},
        {4, {CFG(2), RING(2)}, "0:denoise:0:io", EXIT_IO, SAYS(0, "denoise 0")},
    };
    check_all_failed(jobs, sizeof jobs / sizeof jobs[0]);
}

TEST(a_rank_fails_while_decoding_or_writing)
{
    job jobs[] = {
        {2, {NULL}, "1:decode:0:fail", EXIT_INTERNAL, SAYS(1, "decode 0")},
        {3, {NULL}, "2:decode:1:io", EXIT_IO, SAYS(2, "decode 1")},
        {4, {USP}, "0:decode:2:nomem", EXIT_INTERNAL, SAYS(0, "decode 2")},
        {3, {USP}, "0:write:0:io", EXIT_IO, SAYS(0, "write")},
    };
    check_all_failed(jobs, sizeof jobs / sizeof jobs[0]);
}

/* In the same step, and in a stage that the first failure does not let the others reach. */
TEST(two_ranks_fail)
{
    job jobs[] = {
        {4, {NULL}, "3:denoise:1:io,1:denoise:1:fail", EXIT_INTERNAL, SAYS(1, "denoise 1")},
        {3, {USP}, "2:load_transformer:0:io,0:denoise:0:fail", EXIT_IO, SAYS(2, "load_transformer")},
        {2, {CFG(1), RING(2)}, "1:denoise:2:io,0:decode:0:fail", EXIT_IO, SAYS(1, "denoise 2")},
    };
    check_all_failed(jobs, sizeof jobs / sizeof jobs[0]);
}

/* A rank that is gone takes the job with it; the next run is not in the way of what it leaves. */
TEST(a_rank_is_killed)
{
    job jobs[] = {
        {2, {USP}, "1:denoise:1:kill", EXIT_KILLED, {0}},
        {4, {NULL}, "0:denoise:2:kill", EXIT_KILLED, {0}},
        {3, {NULL}, "2:load_transformer:0:kill", EXIT_KILLED, {0}},
        {2, {NULL}, "0:write:0:kill", EXIT_KILLED, {0}},
    };
    enum { NUM = sizeof jobs / sizeof jobs[0] };
    const char *good = good_video();
    run_jobs(jobs, NUM);
    for (int i = 0; i < NUM; i++) {
        tell_parameters(&jobs[i]);
        if (jobs[i].run.exit_code != jobs[i].exit_code) {
            test_fail(__FILE__, __LINE__, "exit code %d, want %d: %s", jobs[i].run.exit_code, jobs[i].exit_code,
                      jobs[i].run.err);
        }
        EXPECT(program_count_entries(jobs[i].folder) == 0);
        EXPECT(nobody_left(&jobs[i]));
        program_free(&jobs[i].run);
    }
    jobs[0].fault = "";
    run_job(&jobs[0]);
    check_finished(&jobs[0], good);
    program_free(&jobs[0].run);
}

/* Exit code 0 of a rank that leaves early is not taken for success. */
TEST(a_rank_leaves_early)
{
    job jobs[] = {
        {2, {USP}, "1:denoise:1:exit", 1, {0}},
        {3, {NULL}, "0:decode:1:exit", 1, {0}},
    };
    enum { NUM = sizeof jobs / sizeof jobs[0] };
    run_jobs(jobs, NUM);
    for (int i = 0; i < NUM; i++) {
        tell_parameters(&jobs[i]);
        EXPECT(jobs[i].run.exit_code > 0);
        EXPECT(program_count_entries(jobs[i].folder) == 0);
        EXPECT(nobody_left(&jobs[i]));
        program_free(&jobs[i].run);
    }
}

/* The others wait for a rank that stands still, and the video is the same. */
TEST(a_rank_stands_still_for_a_while)
{
    job j = {4, {CFG(1), ULYSSES(2), RING(2)}, "1:denoise:2:stop,2:decode:1:stop", 0, {0}};
    queue q = {.jobs = &j, .num = 1, .lock = PTHREAD_MUTEX_INITIALIZER};
    const char *good = good_video();
    pthread_t thread;
    int num_stops = 0;
    give_folder(&j);
    CHECK(pthread_create(&thread, NULL, work, &q) == 0);
    while (pthread_tryjoin_np(thread, NULL) == EBUSY) {
        pid_t pids[MAX_LEFT];
        int num_stopped = 0;
        const int num = find_processes(j.output, pids, &num_stopped);
        sleep_ms(num_stopped > 0 ? 300 : 10);
        for (int k = 0; num_stopped > 0 && k < num; k++) {
            kill(pids[k], SIGCONT);
        }
        num_stops += num_stopped;
    }
    EXPECT(num_stops == 2);
    check_finished(&j, good);
    program_free(&j.run);
}

/* Only rank 0 has anything to do with the disk: the others wait for it elsewhere. */
TEST(a_full_disk_on_four_ranks)
{
    job j = {4, {USP}, "", EXIT_IO, {"rank 0: ", strerror(ENOSPC)}};
    give_folder(&j);
    if (mount("tmpfs", j.folder, "tmpfs", 0, "size=64k") != 0) {
        test_skip("a small file system cannot be mounted here");
        return;
    }
    run_job(&j);
    check_failed(&j);
    umount(j.folder);
    program_free(&j.run);
}

/* Found before anything is loaded. */
TEST(an_output_that_cannot_be_written_on_four_ranks)
{
    job j = {4, {CFG(2), RING(2)}, "", EXIT_IO, {"rank 0: ", "/proc/video.y4m"}};
    give_folder(&j);
    snprintf(j.output, sizeof j.output, "/proc/video.y4m");
    run_job(&j);
    check_failed(&j);
    EXPECT(strstr(j.run.err, "loading") == NULL);
    program_free(&j.run);
}

TEST_MAIN
