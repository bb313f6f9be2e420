/* The command line: what is offered, what is refused, and how. No video is made here. */
#include "launch/program.h"
#include "support/test.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define MODEL SKY_TEST_MODELS "/shapes-t2v"

enum { USAGE = 64 };

static bool says(const char *text, const char *part)
{
    if (strstr(text, part) != NULL) {
        return true;
    }
    test_fail(__FILE__, __LINE__, "\"%s\" is not in: %s", part, text);
    return false;
}

TEST(help_lists_the_flags)
{
    program_run run;
    program_skyreels(&run, "--help", NULL);
    CHECK(run.exit_code == 0);
    static const char *const flags[] = {"--model_path",
                                        "--prompt",
                                        "--negative_prompt",
                                        "--prompt_file",
                                        "--output",
                                        "--resolution",
                                        "--height",
                                        "--width",
                                        "--num_frames",
                                        "--fps",
                                        "--shift",
                                        "--inference_steps",
                                        "--guidance_scale",
                                        "--seed",
                                        "--rng",
                                        "--precision",
                                        "--scheduler",
                                        "--use_usp",
                                        "--ulysses_degree",
                                        "--ring_degree",
                                        "--cfg_degree",
                                        "--fast_ring",
                                        "--plan",
                                        "--fingerprint",
                                        "--json",
                                        "--quiet",
                                        "--print_tokens"};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        CHECK(says(run.out, flags[i]));
    }
    CHECK(strstr(run.out, "--resume") == NULL);
    program_free(&run);
}

TEST(version_names_the_build)
{
    program_run run;
    program_skyreels(&run, "--version", NULL);
    CHECK(run.exit_code == 0 && says(run.out, "skyreels-mpi 0.") && says(run.out, "Open MPI"));
    program_free(&run);
}

/* Flags of later versions are not half there: they are unknown. */
TEST(flags_that_do_not_exist_yet_are_unknown)
{
    static const char *const flags[] = {"--offload", "--resume",  "--snapshot_every=5",
                                        "--jobs=x",  "--image=x", "--monitor_memory"};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        program_run run;
        test_parameters("%s", flags[i]);
        program_skyreels(&run, "--model_path", MODEL, "--prompt", "x", flags[i], NULL);
        CHECK(run.exit_code == USAGE && says(run.err, "unknown flag"));
        program_free(&run);
    }
}

TEST(a_misspelt_flag_is_answered_with_the_nearest)
{
    program_run run;
    program_skyreels(&run, "--model_path", MODEL, "--promt", "x", NULL);
    CHECK(run.exit_code == USAGE && says(run.err, "did you mean --prompt?"));
    program_free(&run);
}

TEST(values_are_checked)
{
    static const struct {
        const char *flag, *value, *says;
    } cases[] = {
        {"--num_frames", "34", "the nearest are 33 and 37"},
        {"--num_frames", "0", "whole number above 0"},
        {"--num_frames", "33.5", "whole number"},
        {"--num_frames", "99999999999999999999", "whole number"},
        {"--height", "100", "the nearest are 96 and 112"},
        {"--width", "8", "the nearest are 16 and 32"},
        {"--width", "1000000", "multiple of 16"},
        {"--inference_steps", "1001", "1 to 1000"},
        {"--inference_steps", "-3", "whole number above 0"},
        {"--guidance_scale", "nan", "--guidance_scale"},
        {"--guidance_scale", "three", "want a number"},
        {"--shift", "0", "--shift"},
        {"--fps", "1000", "--fps"},
        {"--seed", "-1", "0 to 2^64 - 1"},
        {"--seed", "18446744073709551616", "0 to 2^64 - 1"},
        {"--precision", "fp4", "fp8|int8|bf16|fp32"},
        {"--text_encoder", "int8", "bf16|fp8"},
        {"--precision=bf16", "--use_fp8", "contradict"},
        {"--precision=fp8", "--no_use_fp8", "contradict"},
        {"--memory_efficient_attention", "--use_sage_attention", "give one of them"},
        {"--scheduler", "euler", "original|diffusers"},
        {"--resolution", "480P", "540P|720P"},
        {"--rng", "torch-cuda:0", "--rng"},
        {"--rng", "numpy", "--rng"},
        {"--backend", "magic", "ref|cpu"},
        {"--cfg_degree", "3", "want 1|2"},
        {"--cfg_degree", "0", "want 1|2"},
        {"--ulysses_degree", "0", "1 to 65536"},
        {"--ring_degree", "two", "1 to 65536"},
        {"--ring_degree", "65537", "1 to 65536"},
        {"--ring_degree", "4294967297", "1 to 65536"}, /* 2^32 + 1 */
        {"--threads", "4294967297", "1 to 1024"},
        {"--threads", "3000000000", "1 to 1024"},
        {"--threads", "1025", "1 to 1024"},
        {"--use_usp=maybe", "", "true or false"},
        {"--no_ulysses_degree", "1", "unknown flag"},
        {"--ulysses_degree", "2", "no layout of 1 rank"},
        {"--quiet=maybe", "", "true or false"},
        {"--no_seed", "3", "unknown flag"},
        {"prompt", "3", "is not a flag"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        program_run run;
        test_parameters("%s %s", cases[i].flag, cases[i].value);
        program_skyreels(&run, "--model_path", MODEL, "--prompt", "x", "--height", "96", "--width", "160",
                         "--num_frames", "33", cases[i].flag, cases[i].value, NULL);
        CHECK(run.exit_code == USAGE && says(run.err, cases[i].says));
        CHECK(run.out[0] == '\0');
        program_free(&run);
    }
}

TEST(numbers_of_the_converter_are_not_cut_to_32_bits)
{
    static const char *const flags[] = {"--threads", "--shards"};
    static const char *const values[] = {"0", "4294967297", "3000000000", "9223372036854775807"};
    for (int i = 0; i < 8; i++) {
        program_run run;
        const char *const argv[] = {SKY_TEST_CONVERT,      "--model_path", MODEL,         "--output_path",
                                    test_temp_path("cut"), flags[i % 2],   values[i / 2], NULL};
        test_parameters("%s %s", flags[i % 2], values[i / 2]);
        program_start(&run, argv);
        CHECK(run.exit_code == USAGE && says(run.err, values[i / 2]) && says(run.err, "from 1 to"));
        program_free(&run);
    }
}

TEST(what_is_missing_is_named)
{
    program_run run;
    program_skyreels(&run, "--prompt", "x", NULL);
    CHECK(run.exit_code == USAGE && says(run.err, "--model_path is missing"));
    program_free(&run);
    program_skyreels(&run, "--model_path", MODEL, NULL);
    CHECK(run.exit_code == USAGE && says(run.err, "--prompt is missing"));
    program_free(&run);
    program_skyreels(&run, "--model_path", MODEL, "--prompt", NULL);
    CHECK(run.exit_code == USAGE && says(run.err, "its value is missing"));
    program_free(&run);
    program_skyreels(&run, "--model_path", MODEL, "--prompt", "x", "--height", "96", NULL);
    CHECK(run.exit_code == USAGE && says(run.err, "--width is missing"));
    program_free(&run);
}

TEST(a_prompt_that_is_not_utf8_is_refused)
{
    program_run run;
    program_skyreels(&run, "--model_path", MODEL, "--prompt", "caf\xe9 au lait", NULL);
    CHECK(run.exit_code == USAGE && says(run.err, "--prompt") && says(run.err, "UTF-8"));
    program_free(&run);
}

static void check_tokens(const char *flag, const char *value)
{
    program_run run;
    json_error_t error;
    program_skyreels(&run, "--model-path=" MODEL, flag, value, "--print-tokens", NULL);
    CHECK(run.exit_code == 0);
    json_t *got = json_loads(run.out, 0, &error);
    json_t *golden = json_load_file(SKY_TEST_GOLDEN "/tokens.json", 0, &error);
    CHECK(json_is_array(got) && json_is_array(golden));
    const json_t *first = json_array_get(golden, 0);
    EXPECT(json_equal(got, json_object_get(first, "ids")));
    json_decref(got);
    json_decref(golden);
    program_free(&run);
}

TEST(print_tokens_prints_the_published_ids)
{
    static const char prompt[] = "A large red ball moving to the right on a black background.";
    check_tokens("--prompt", prompt);
    const char *path = test_temp_path("prompt.txt");
    FILE *file = fopen(path, "w");
    CHECK(file != NULL);
    fprintf(file, "%s\n", prompt);
    fclose(file);
    check_tokens("--prompt_file", path);
}

TEST(switches_take_values_and_a_no_form)
{
    program_run run;
    program_skyreels(&run, "--help=false", "--version", NULL);
    CHECK(run.exit_code == 0 && strstr(run.out, "--model_path") == NULL);
    program_free(&run);
    program_skyreels(&run, "--version", "--no-version", "--help", NULL);
    CHECK(run.exit_code == 0 && says(run.out, "--model_path"));
    program_free(&run);
}

/* What the first line says of the arithmetic that flags lead to; a size that is refused later keeps it quick. */
TEST(flags_choose_the_arithmetic)
{
    static const struct {
        const char *flag, *says;
    } cases[] = {{"--quiet=false", "fp8, 8-bit attention"},
                 {"--precision=int8", "int8, 8-bit attention"},
                 {"--precision=bf16", "bf16, 16-bit attention"},
                 {"--precision=fp32", "fp32, 32-bit attention"},
                 {"--use_fp8", "fp8, 8-bit attention"},
                 {"--no_use_fp8", "bf16, 16-bit attention"},
                 {"--use_fp8=false", "bf16, 16-bit attention"},
                 {"--no_use_sage_attention", "fp8, 16-bit attention"},
                 {"--memory-efficient-attention", "fp8, 16-bit attention"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        program_run run;
        test_parameters("%s", cases[i].flag);
        program_skyreels(&run, "--model_path", MODEL, "--prompt", "x", "--height", "16", "--width", "16",
                         "--num_frames", "1", "--inference_steps", "1", "--output", test_temp_path("x.y4m"),
                         cases[i].flag, NULL);
        CHECK(run.exit_code == 0 && says(run.err, cases[i].says));
        program_free(&run);
    }
}

TEST_MAIN
