/* skyreels-convert as a user runs it, and videos from what it makes. Damaged folders are tested in tests/weights. */
#include "launch/program.h"
#include "support/test.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MODEL SKY_TEST_MODELS "/shapes-t2v"

enum { EXIT_USAGE = 64, EXIT_INPUT = 65, EXIT_MISMATCH = 78 };

static bool says(const char *text, const char *part)
{
    if (strstr(text, part) != NULL) {
        return true;
    }
    test_fail(__FILE__, __LINE__, "\"%s\" is not in: %s", part, text);
    return false;
}

static bool convert(const char *model, const char *output, const char *more)
{
    program_run run;
    const char *const argv[] = {SKY_TEST_CONVERT, "--model_path", model, "--output_path", output, more, NULL};
    program_start(&run, argv);
    if (run.exit_code != 0) {
        test_fail(__FILE__, __LINE__, "convert: exit code %d: %s", run.exit_code, run.err);
    }
    const bool ok = run.exit_code == 0;
    program_free(&run);
    return ok;
}

static int render(int num_ranks, const char *model, const char *precision, const char *output, program_run *run)
{
    program_skyreels_mpi(run, num_ranks, "--model_path", model, "--prompt",
                         "A red ball moving up on a gray background.", "--height", "48", "--width", "80",
                         "--num_frames", "9", "--inference_steps", "3", "--guidance_scale", "3", "--shift", "3",
                         "--seed", "7", "--precision", precision, "--output", output, NULL);
    return run->exit_code;
}

static bool same_video(int num_ranks, const char *model, const char *precision, const char *name, const char *reference)
{
    program_run run;
    const char *output = test_temp_path(name);
    const int code = render(num_ranks, model, precision, output, &run);
    if (code != 0) {
        test_fail(__FILE__, __LINE__, "exit code %d: %s", code, run.err);
    }
    program_free(&run);
    return code == 0 && program_same_files(output, reference);
}

TEST(a_converted_folder_gives_the_bytes_of_the_published_one)
{
    static const char *const formats[] = {"fp8", "int8"};
    for (int i = 0; i < 2; i++) {
        char name[64];
        char flag[64];
        program_run run;
        test_parameters("%s", formats[i]);
        snprintf(name, sizeof name, "published-%s.y4m", formats[i]);
        const char *published = test_temp_path(name);
        CHECK(render(1, MODEL, formats[i], published, &run) == 0);
        program_free(&run);

        snprintf(name, sizeof name, "folder-%s", formats[i]);
        snprintf(flag, sizeof flag, "--precision=%s", formats[i]);
        const char *folder = test_temp_path(name);
        CHECK(convert(MODEL, folder, flag));
        snprintf(name, sizeof name, "converted-%s.y4m", formats[i]);
        CHECK(same_video(2, folder, formats[i], name, published));
    }
}

TEST(any_number_of_shards_gives_the_same_bytes)
{
    program_run run;
    const char *one = test_temp_path("one-shard.y4m");
    CHECK(convert(MODEL, test_temp_path("one"), "--shards=1"));
    CHECK(convert(MODEL, test_temp_path("three"), "--shards=3"));
    CHECK(render(1, test_temp_path("one"), "fp8", one, &run) == 0);
    program_free(&run);
    CHECK(same_video(1, test_temp_path("three"), "fp8", "three-1.y4m", one));
    CHECK(same_video(2, test_temp_path("three"), "fp8", "three-2.y4m", one));
}

TEST(diffusers_layout_converts_too)
{
    program_run run;
    const char *published = test_temp_path("diffusers-published.y4m");
    CHECK(convert(SKY_TEST_MODELS "/diffusers-t2v", test_temp_path("diffusers"), "--verify"));
    CHECK(render(1, SKY_TEST_MODELS "/diffusers-t2v", "fp8", published, &run) == 0);
    program_free(&run);
    CHECK(same_video(1, test_temp_path("diffusers"), "fp8", "diffusers-converted.y4m", published));
}

TEST(codes_of_one_format_are_not_taken_for_another)
{
    static const char *const others[] = {"int8", "bf16", "fp32"};
    CHECK(convert(MODEL, test_temp_path("fp8-only"), "--precision=fp8"));
    for (int i = 0; i < 3; i++) {
        program_run run;
        test_parameters("%s", others[i]);
        CHECK(render(2, test_temp_path("fp8-only"), others[i], test_temp_path("never.y4m"), &run) == EXIT_MISMATCH);
        CHECK(says(run.err, "fp8"));
        program_free(&run);
    }
}

TEST(the_summary_and_the_verification_are_printed)
{
    program_run run;
    const char *folder = test_temp_path("told");
    const char *const argv[] = {SKY_TEST_CONVERT, "--model-path", MODEL, "--output-path", folder, "--verify", NULL};
    program_start(&run, argv);
    CHECK(run.exit_code == 0);
    CHECK(says(run.out, "parameters") && says(run.out, "quantised") && says(run.out, "reduction"));
    CHECK(says(run.out, "worst ten") && says(run.out, "blocks.7"));
    program_free(&run);
}

/* The name that is left out is the model's with _fp8 behind it. */
TEST(the_output_is_named_after_the_model)
{
    program_run run;
    const char *model = test_temp_path("named");
    CHECK(program_copy_tree(MODEL, model));
    const char *const argv[] = {SKY_TEST_CONVERT, "--model_path", model, NULL};
    program_start(&run, argv);
    CHECK(run.exit_code == 0);
    program_free(&run);
    char manifest[512];
    struct stat info;
    snprintf(manifest, sizeof manifest, "%s_fp8/manifest.json", model);
    CHECK(stat(manifest, &info) == 0);
    snprintf(manifest, sizeof manifest, "%s_fp8", model);
    char command[600];
    snprintf(command, sizeof command, "rm -rf '%s'", manifest);
    const char *const cleanup[] = {"sh", "-c", command, NULL};
    program_start(&run, cleanup);
    program_free(&run);
}

TEST(what_cannot_be_converted_is_refused_and_leaves_nothing)
{
    program_run run;
    const char *model = test_temp_path("source");
    CHECK(program_copy_tree(MODEL, model));
    const int before = program_count_entries(model);
    const char *const onto_source[] = {SKY_TEST_CONVERT, "--model_path", model, "--output_path", model, NULL};
    program_start(&run, onto_source);
    CHECK(run.exit_code == EXIT_USAGE || run.exit_code == EXIT_INPUT);
    CHECK(program_count_entries(model) == before);
    program_free(&run);

    const char *parent = test_temp_path("parent");
    char output[512];
    CHECK(mkdir(parent, 0777) == 0);
    snprintf(output, sizeof output, "%s/out", parent);
    const char *const missing[] = {SKY_TEST_CONVERT, "--model_path", "/does/not/exist", "--output_path", output, NULL};
    program_start(&run, missing);
    CHECK(run.exit_code == EXIT_INPUT && says(run.err, "/does/not/exist"));
    CHECK(program_count_entries(parent) == 0);
    program_free(&run);

    const char *const unknown[] = {SKY_TEST_CONVERT, "--model_path", MODEL, "--outputpath", output, NULL};
    program_start(&run, unknown);
    CHECK(run.exit_code == EXIT_USAGE && says(run.err, "--output_path"));
    program_free(&run);
}

TEST_MAIN
