/* The failures on request of launch/fault.h by themselves; test_faults.c has whole jobs that fail. */
#include "launch/fault.h"
#include "launch/program.h"
#include "support/test.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static sky_status init(sky_faults *faults, const char *value, int rank, int num_ranks)
{
    SKY_ASSERT(setenv(SKY_FAULT_VARIABLE, value, 1) == 0);
    const sky_status st = sky_faults_init(faults, rank, num_ranks);
    unsetenv(SKY_FAULT_VARIABLE);
    return st;
}

static sky_status enter(sky_faults *faults, sky_phase phase, int64_t index)
{
    return faults->observer.enter(faults->observer.user, phase, index);
}

TEST(nothing_is_asked_for)
{
    sky_faults faults;
    unsetenv(SKY_FAULT_VARIABLE);
    CHECK_OK(sky_faults_init(&faults, 0, 1));
    EXPECT(faults.observer.enter == NULL);
    CHECK_OK(init(&faults, "", 0, 1));
    EXPECT(faults.observer.enter == NULL);
    CHECK_OK(init(&faults, "1:denoise:2:fail", 0, 2)); /* another rank's */
    EXPECT(faults.observer.enter == NULL);
}

TEST(a_fault_happens_at_its_place_only)
{
    static const struct {
        const char *name;
        sky_phase phase;
    } phases[] = {
        {"load_text_encoder", SKY_PHASE_LOAD_TEXT_ENCODER},
        {"encode_text", SKY_PHASE_ENCODE_TEXT},
        {"load_transformer", SKY_PHASE_LOAD_TRANSFORMER},
        {"denoise", SKY_PHASE_DENOISE},
        {"load_vae", SKY_PHASE_LOAD_VAE},
        {"decode", SKY_PHASE_DECODE},
        {"write", SKY_PHASE_WRITE},
    };
    enum { NUM = sizeof phases / sizeof phases[0] };
    _Static_assert(NUM == (int)SKY_PHASE_COUNT, "every phase has a name");
    for (int wanted = 0; wanted < NUM; wanted++) {
        char value[64];
        sky_faults faults;
        snprintf(value, sizeof value, "1:%s:2:fail", phases[wanted].name);
        test_parameters("%s", value);
        CHECK_OK(init(&faults, value, 1, 3));
        for (int phase = 0; phase < NUM; phase++) {
            for (int64_t index = 0; index < 4; index++) {
                const bool here = phase == wanted && index == 2;
                const sky_status st = enter(&faults, phases[phase].phase, index);
                EXPECT(st == (here ? SKY_ERR_INTERNAL : SKY_OK));
            }
        }
    }
}

TEST(statuses)
{
    sky_faults faults;
    CHECK_OK(init(&faults, "0:denoise:1:fail,0:decode:3:io,1:decode:4:fail,0:write:0:nomem", 0, 2));
    EXPECT(enter(&faults, SKY_PHASE_DENOISE, 1) == SKY_ERR_INTERNAL);
    EXPECT(strstr(sky_message(), "fault injected by SKYREELS_FAULT: denoise 1, fail") != NULL);
    EXPECT(enter(&faults, SKY_PHASE_DECODE, 3) == SKY_ERR_IO);
    EXPECT(enter(&faults, SKY_PHASE_DECODE, 4) == SKY_OK); /* rank 1's */
    EXPECT(enter(&faults, SKY_PHASE_WRITE, 0) == SKY_ERR_NOMEM);
}

/* How a process ends that enters denoise 0 with this action; it is continued where it stops. */
static int end_of(const char *action, bool *stopped)
{
    char value[64];
    int status = 0;
    snprintf(value, sizeof value, "0:denoise:0:%s", action);
    const pid_t child = fork();
    SKY_ASSERT(child >= 0);
    if (child == 0) {
        sky_faults faults;
        _exit(init(&faults, value, 0, 1) == SKY_OK && enter(&faults, SKY_PHASE_DENOISE, 0) == SKY_OK ? 3 : 4);
    }
    SKY_ASSERT(waitpid(child, &status, WUNTRACED) == child);
    *stopped = WIFSTOPPED(status);
    if (*stopped) {
        kill(child, SIGCONT);
        SKY_ASSERT(waitpid(child, &status, 0) == child);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST(what_happens_to_the_process)
{
    bool stopped = false;
    EXPECT(end_of("kill", &stopped) == 128 + SIGKILL && !stopped);
    EXPECT(end_of("stop", &stopped) == 3 && stopped); /* goes on when continued */
    EXPECT(end_of("fail", &stopped) == 4 && !stopped);
}

TEST(values_that_mean_nothing)
{
    static const struct {
        const char *value;
        const char *says;
    } cases[] = {
        {"x", "rank \"x\": want a whole number"},
        {"-1:denoise:0:fail", "rank \"-1\""},
        {"2:denoise:0:fail", "rank 2: want one below 2"},
        {"99999999999999999999:denoise:0:fail", "rank \"99999999999999999999\""},
        {"0", "phase \"\": want load_text_encoder, encode_text, load_transformer, denoise, load_vae, decode or write"},
        {"0:sleep:0:fail", "phase \"sleep\""},
        {"0:denoise:fail", "index \"fail\""},
        {"0:denoise:1x:fail", "index \"1x\""},
        {"0:denoise:0", "action \"\": want fail, io, nomem, kill, stop or exit"},
        {"0:denoise:0:fail:1", "action \"fail:1\""},
        {"0:denoise:0:fail,", "rank \"\""},
        {"0:decode:0:io,0:decode:1:io,0:decode:2:io,0:decode:3:io,0:decode:4:io", "at most 4"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sky_faults faults;
        test_parameters("%s", cases[i].value);
        for (int rank = 0; rank < 2; rank++) { /* found on every rank, whoever it is about */
            EXPECT(init(&faults, cases[i].value, rank, 2) == SKY_ERR_USAGE);
            EXPECT(strstr(sky_message(), cases[i].says) != NULL && strstr(sky_message(), cases[i].value) != NULL);
        }
    }
}

/* The installed program does not know how to fail, and says so instead of carrying on. */
TEST(a_program_without_faults_refuses_to_run)
{
    program_run run;
    SKY_ASSERT(setenv(SKY_FAULT_VARIABLE, "0:denoise:0:fail", 1) == 0);
    program_skyreels(&run, "--model_path", SKY_TEST_MODELS "/shapes-t2v", "--prompt", "x", "--output",
                     test_temp_path("video.y4m"), NULL);
    unsetenv(SKY_FAULT_VARIABLE);
    EXPECT(run.exit_code == 64);
    EXPECT(strstr(run.err, "SKYREELS_FAULT=0:denoise:0:fail is set, and this program has no faults") != NULL);
    program_free(&run);
}

TEST_MAIN
