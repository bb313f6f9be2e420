/* The same bytes on one, two and three ranks; what is written beside the video; what is said. */
#include "launch/program.h"
#include "support/test.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define MODEL SKY_TEST_MODELS "/shapes-t2v"

static void render(program_run *run, int num_ranks, const char *precision, const char *output, const char *more)
{
    program_skyreels_mpi(run, num_ranks, "--model_path", MODEL, "--prompt",
                         "A red ball moving up on a gray background.", "--height", "48", "--width", "80",
                         "--num_frames", "9", "--inference_steps", "3", "--guidance_scale", "3", "--shift", "3",
                         "--seed", "7", "--precision", precision, "--output", output, more, NULL);
}

TEST(one_two_and_three_ranks_give_the_same_bytes)
{
    static const char *const precisions[] = {"fp32", "bf16", "fp8", "int8"};
    for (size_t p = 0; p < 4; p++) {
        const char *outputs[3];
        for (int ranks = 1; ranks <= 3; ranks++) {
            char name[64];
            program_run run;
            snprintf(name, sizeof name, "%s-%d.y4m", precisions[p], ranks);
            outputs[ranks - 1] = test_temp_path(name);
            test_parameters("%s, %d ranks", precisions[p], ranks);
            render(&run, ranks, precisions[p], outputs[ranks - 1], NULL);
            if (run.exit_code != 0) {
                test_fail(__FILE__, __LINE__, "exit code %d: %s", run.exit_code, run.err);
                return;
            }
            program_free(&run);
            CHECK(program_same_files(outputs[0], outputs[ranks - 1]));
        }
    }
    CHECK(!program_same_files(test_temp_path("fp32-1.y4m"), test_temp_path("bf16-1.y4m")));
}

/* Without mpirun the program is a group of one. */
TEST(without_mpirun)
{
    program_run run;
    const char *alone = test_temp_path("alone.y4m");
    const char *one = test_temp_path("one.y4m");
    program_skyreels(&run, "--model_path", MODEL, "--prompt", "A red ball moving up on a gray background.", "--height",
                     "48", "--width", "80", "--num_frames", "9", "--inference_steps", "3", "--guidance_scale", "3",
                     "--shift", "3", "--seed", "7", "--precision", "bf16", "--output", alone, NULL);
    CHECK(run.exit_code == 0);
    program_free(&run);
    render(&run, 1, "bf16", one, NULL);
    CHECK(run.exit_code == 0 && program_same_files(alone, one));
    program_free(&run);
}

TEST(the_report_has_settings_timings_and_memory)
{
    program_run run;
    json_error_t error;
    const char *report = test_temp_path("report.json");
    char flag[512];
    snprintf(flag, sizeof flag, "--json=%s", report);
    render(&run, 2, "bf16", test_temp_path("reported.y4m"), flag);
    CHECK(run.exit_code == 0);
    json_t *root = json_load_file(report, 0, &error);
    CHECK(root != NULL);
    EXPECT(json_integer_value(json_object_get(root, "exit_code")) == 0);
    EXPECT(json_integer_value(json_object_get(root, "num_ranks")) == 2);
    EXPECT(json_integer_value(json_object_get(root, "num_tokens")) == 3 * 3 * 5);
    const json_t *settings = json_object_get(root, "settings");
    EXPECT(json_is_string(json_object_get(settings, "prompt")) && json_is_string(json_object_get(settings, "seed")));
    const json_t *timings = json_object_get(root, "timings");
    EXPECT(json_real_value(json_object_get(timings, "denoise_seconds")) > 0);
    EXPECT(json_real_value(json_object_get(timings, "total_seconds")) >=
           json_real_value(json_object_get(timings, "denoise_seconds")));
    EXPECT(json_integer_value(json_object_get(json_object_get(root, "memory"), "peak_host_bytes")) > 1000000);
    json_decref(root);
    program_free(&run);
}

TEST(a_failed_run_is_reported_too)
{
    program_run run;
    json_error_t error;
    const char *report = test_temp_path("failed.json");
    program_skyreels(&run, "--model_path", "/does/not/exist", "--prompt", "x", "--json", report, NULL);
    CHECK(run.exit_code == 65);
    json_t *root = json_load_file(report, 0, &error);
    CHECK(root != NULL);
    EXPECT(json_integer_value(json_object_get(root, "exit_code")) == 65);
    EXPECT(json_is_string(json_object_get(root, "message")));
    json_decref(root);
    program_free(&run);
}

/* In a log there are plain lines, from one rank, with no control characters; --quiet has none at all. */
TEST(a_log_gets_plain_lines)
{
    program_run run;
    render(&run, 2, "bf16", test_temp_path("said.y4m"), NULL);
    CHECK(run.exit_code == 0);
    EXPECT(strchr(run.err, '\r') == NULL && strchr(run.err, '\033') == NULL);
    EXPECT(strstr(run.err, "loading the transformer") != NULL && strstr(run.err, "denoising") != NULL);
    EXPECT(strstr(run.err, "decoding") != NULL);
    const char *wrote = strstr(run.out, "wrote ");
    EXPECT(wrote != NULL && strstr(wrote + 1, "wrote ") == NULL);
    EXPECT(strstr(run.out, "frames a second") != NULL);
    program_free(&run);

    render(&run, 2, "bf16", test_temp_path("quiet.y4m"), "--quiet");
    CHECK(run.exit_code == 0);
    EXPECT(run.out[0] == '\0' && run.err[0] == '\0');
    program_free(&run);
}

/* A seed that is drawn is told, and gives the same video when it is asked for. */
TEST(a_drawn_seed_is_told)
{
    program_run run;
    char seed[32] = {0};
    const char *drawn = test_temp_path("drawn.y4m");
    const char *again = test_temp_path("again.y4m");
#define SMALL                                                                                       \
    "--model_path", MODEL, "--prompt", "x", "--height", "32", "--width", "32", "--num_frames", "1", \
        "--inference_steps", "1", "--output"
    program_skyreels_mpi(&run, 2, SMALL, drawn, NULL);
    CHECK(run.exit_code == 0);
    const char *at = strstr(run.err, "seed ");
    CHECK(at != NULL && sscanf(at, "seed %31[0-9]", seed) == 1);
    program_free(&run);
    program_skyreels(&run, SMALL, again, "--seed", seed, NULL);
    CHECK(run.exit_code == 0 && program_same_files(drawn, again));
    program_free(&run);
    program_skyreels(&run, SMALL, again, "--seed", "12345", NULL);
    CHECK(run.exit_code == 0 && !program_same_files(drawn, again));
    program_free(&run);
}

TEST_MAIN
