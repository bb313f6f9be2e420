/* --plan: what it says, that a render then takes just that, and layouts that do not fit. */
#include "launch/program.h"
#include "support/test.h"

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define MODEL SKY_TEST_MODELS "/shapes-t2v"

enum { USAGE = 64, MAX_RANKS = 4 };

/* 3 latent frames of 6 x 10 patches: 180 tokens, two groups of 128 to deal out. */
#define SIZE "--height", "96", "--width", "160", "--num_frames", "9", "--inference_steps", "2", "--seed", "3"

static int times(const char *text, const char *part)
{
    int count = 0;
    for (const char *at = strstr(text, part); at != NULL; at = strstr(at + 1, part)) {
        count++;
    }
    return count;
}

/* A job on num_ranks ranks with these flags (NULL: none); its report, or NULL where the job failed. */
static json_t *report_of(int num_ranks, const char *first, const char *second, const char *third)
{
    program_run run;
    char flag[512];
    const char *path = test_temp_path("report.json");
    snprintf(flag, sizeof flag, "--json=%s", path);
#define FLAGS                                                                                   \
    "--model_path", MODEL, SIZE, "--threads", "1", flag, "--prompt", "A red ball.", "--output", \
        test_temp_path("video.y4m"), first, second, third, NULL
    if (num_ranks == 1) { /* sooner there without mpirun */
        program_skyreels(&run, FLAGS);
    } else {
        program_skyreels_mpi(&run, num_ranks, FLAGS);
    }
#undef FLAGS
    json_error_t error;
    json_t *report = run.exit_code == 0 ? json_load_file(path, 0, &error) : NULL;
    if (report == NULL) {
        test_fail(__FILE__, __LINE__, "exit code %d: %s", run.exit_code, run.err);
    }
    program_free(&run);
    return report;
}

static json_int_t number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value)) {
        test_fail(__FILE__, __LINE__, "no number %s", key);
    }
    return json_integer_value(value);
}

static json_int_t number_in(const json_t *object, const char *name, const char *key)
{
    return number(json_object_get(object, name), key);
}

static const json_t *stage_of(const json_t *rank, const char *stage)
{
    return json_object_get(json_object_get(rank, "stages"), stage);
}

/* ---- what a plan says ---- */

/* The shares of one guidance branch's ranks, in order, are everything once. */
static void check_shares(const json_t *plan, json_int_t num_ranks)
{
    const json_t *ranks = json_object_get(plan, "ranks");
    const json_int_t members = num_ranks / number_in(plan, "layout", "cfg_degree");
    json_int_t vae_rows = 0;
    EXPECT((json_int_t)json_array_size(ranks) == num_ranks);
    for (json_int_t i = 0; i < num_ranks; i++) {
        const json_t *rank = json_array_get(ranks, (size_t)i);
        EXPECT(number(rank, "branch_group") == i / members);
        vae_rows += number_in(rank, "vae_rows", "count");
    }
    for (json_int_t branch = 0; branch * members < num_ranks; branch++) {
        json_int_t tokens = 0;
        for (json_int_t i = 0; i < members; i++) {
            const json_t *rank = json_array_get(ranks, (size_t)(branch * members + i));
            EXPECT(number_in(rank, "tokens", "first") == tokens);
            tokens += number_in(rank, "tokens", "count");
        }
        EXPECT(tokens == number(plan, "num_tokens"));
    }
    EXPECT(vae_rows == 96 / 8 && number(plan, "num_tokens") == 3 * 6 * 10);
}

static void check_memory(const json_t *plan)
{
    const json_t *ranks = json_object_get(plan, "ranks");
    const json_t *first = json_array_get(ranks, 0);
    for (size_t i = 0; i < json_array_size(ranks); i++) {
        const json_t *rank = json_array_get(ranks, i);
        json_int_t most = 0;
        static const char *const stages[] = {"encode_text", "denoise", "decode"};
        for (size_t s = 0; s < 3; s++) {
            const json_t *stage = stage_of(rank, stages[s]);
            const json_int_t total = number(stage, "total_bytes");
            most = total > most ? total : most;
            EXPECT(number(stage, "device_bytes") == number(stage, "weight_bytes") + number(stage, "activation_bytes") +
                                                        number(stage, "workspace_bytes"));
            EXPECT(number(stage, "host_bytes") == number(stage, "staging_bytes") + number(stage, "values_bytes"));
            EXPECT(number(stage, "workspace_bytes") > 0 && number(stage, "values_bytes") > 0);
            EXPECT(total <= number(stage, "device_bytes") + number(stage, "host_bytes"));
        }
        EXPECT(number(rank, "peak_bytes") == most);
        EXPECT(json_is_true(json_object_get(json_object_get(rank, "memory"), "host_memory")));
        EXPECT(number(stage_of(rank, "denoise"), "weight_bytes") == number(stage_of(first, "denoise"), "weight_bytes"));
        EXPECT((number(stage_of(rank, "encode_text"), "weight_bytes") > 0) == (i == 0));
        EXPECT(number(rank, "node") == 0);
    }
}

TEST(a_plan_of_one_to_four_ranks)
{
    for (int ranks = 1; ranks <= MAX_RANKS; ranks++) {
        test_parameters("%d ranks", ranks);
        json_t *report = report_of(ranks, "--plan", NULL, NULL);
        CHECK(report != NULL);
        const json_t *plan = json_object_get(report, "plan");
        CHECK(json_is_object(plan));
        EXPECT(number(report, "num_ranks") == ranks && json_object_get(report, "timings") == NULL);
        EXPECT(number_in(plan, "layout", "cfg_degree") * number_in(plan, "layout", "ring_degree") *
                   number_in(plan, "layout", "ulysses_degree") ==
               ranks);
        check_shares(plan, ranks);
        check_memory(plan);
        json_decref(report);
    }
    FILE *video = fopen(test_temp_path("video.y4m"), "rb");
    CHECK(video == NULL); /* nothing was rendered */
}

/* ---- memory that is not there ---- */

enum { NOMEM = 70, INPUT = 65 };

TEST(a_plan_says_whether_it_fits)
{
    json_t *report = report_of(1, "--plan", "--memory_limit=0.02", NULL);
    CHECK(report != NULL); /* a plan of what does not fit is a plan all the same */
    const json_t *plan = json_object_get(report, "plan");
    EXPECT(json_is_false(json_object_get(plan, "fits")));
    const char *says = json_string_value(json_object_get(plan, "misfit"));
    EXPECT(says != NULL && times(says, "not enough memory for the VAE: rank 0 needs ") == 1);
    EXPECT(number_in(json_array_get(json_object_get(plan, "ranks"), 0), "memory", "limit_bytes") == 20000000);
    json_decref(report);

    report = report_of(1, "--plan", "--memory_limit=4", NULL);
    CHECK(report != NULL);
    plan = json_object_get(report, "plan");
    EXPECT(json_is_true(json_object_get(plan, "fits")) && json_is_null(json_object_get(plan, "misfit")));
    json_decref(report);
}

/* Sets all tensors of the folder's transformer to bytes that are no numbers. */
static void spoil(const char *folder)
{
    char path[1024];
    uint64_t header_bytes = 0;
    snprintf(path, sizeof path, "%s/diffusion_pytorch_model-00001-of-00002.safetensors", folder);
    FILE *file = fopen(path, "r+b");
    SKY_ASSERT(file != NULL && fread(&header_bytes, sizeof header_bytes, 1, file) == 1);
    SKY_ASSERT(fseek(file, 0, SEEK_END) == 0);
    const long end = ftell(file);
    SKY_ASSERT(fseek(file, (long)(sizeof header_bytes + header_bytes), SEEK_SET) == 0);
    for (long at = ftell(file); at < end; at++) {
        SKY_ASSERT(fputc(0xff, file) == 0xff);
    }
    SKY_ASSERT(fclose(file) == 0);
}

/* On all ranks together; what would be refused once it is read is not read where it cannot fit. */
TEST(a_render_that_does_not_fit_reads_nothing)
{
    const char *folder = test_temp_path("spoilt");
    CHECK(program_copy_tree(MODEL, folder));
    spoil(folder);
    for (int ranks = 1; ranks <= 3; ranks += 2) {
        for (int fits = 0; fits < 2; fits++) {
            program_run run;
            test_parameters("%d ranks, fits=%d", ranks, fits);
            program_skyreels_mpi(&run, ranks, "--model_path", folder, "--prompt", "x", SIZE, "--threads", "1",
                                 "--output", test_temp_path("misfit.y4m"), "--memory_limit", fits ? "4" : "0.02", NULL);
            EXPECT(run.exit_code == (fits ? INPUT : NOMEM));
            if (times(run.err, "skyreels-mpi: error:") != 1 ||
                times(run.err, fits ? "NaN or infinite" : "not enough memory for the ") != 1) {
                test_fail(__FILE__, __LINE__, "exit code %d: %s", run.exit_code, run.err);
            }
            program_free(&run);
        }
    }
}

TEST(a_plan_for_people)
{
    program_run run;
    program_skyreels_mpi(&run, 4, "--plan", "--model_path", MODEL, SIZE, NULL);
    CHECK(run.exit_code == 0);
    EXPECT(times(run.out, "4 ranks: guidance 2 x ring 1 x Ulysses 2") == 1);
    EXPECT(times(run.out, "because: a half of the ranks for each guidance pass") == 1);
    EXPECT(times(run.out, "also fit: --cfg_degree") == 1);
    EXPECT(times(run.out, "prompt") == 2 && times(run.out, "negative") == 2);
    EXPECT(times(run.out, "text encoder") == 1 && times(run.out, "transformer") == 1);
    EXPECT(times(run.out, "The machine of rank 0: ") == 1);
    EXPECT(times(run.out, "on the device") == 1 && times(run.out, "on the host") == 1);
    EXPECT(times(run.out, "It fits: ") == 1);
    program_free(&run);

    program_skyreels(&run, "--plan", "--quiet", "--model_path", MODEL, SIZE, NULL);
    CHECK(run.exit_code == 0 && run.out[0] == '\0' && run.err[0] == '\0');
    program_free(&run);
}

/* ---- a plan and what happens ---- */

static json_int_t larger(json_int_t a, json_int_t b)
{
    return a > b ? a : b;
}

static void compare(const json_t *plan, const json_t *done)
{
    const json_t *rank = json_array_get(json_object_get(plan, "ranks"), 0);
    const json_t *denoise = stage_of(rank, "denoise");
    const json_t *decode = stage_of(rank, "decode");
    EXPECT(json_equal(json_object_get(rank, "tokens"), json_object_get(json_object_get(done, "layout"), "tokens")));
    EXPECT(json_equal(json_object_get(rank, "heads"), json_object_get(json_object_get(done, "layout"), "heads")));
    EXPECT(number_in(plan, "layout", "ulysses_degree") == number_in(done, "layout", "ulysses_degree"));
    const json_int_t bytes = number_in(done, "traffic", "sent_bytes_per_step");
    const json_int_t messages = number_in(done, "traffic", "sent_messages_per_step");
    if (number(rank, "sent_bytes_per_step") != bytes || number(rank, "sent_messages_per_step") != messages) {
        test_fail(__FILE__, __LINE__, "planned %lld bytes in %lld messages a step, sent %lld in %lld",
                  (long long)number(rank, "sent_bytes_per_step"), (long long)number(rank, "sent_messages_per_step"),
                  (long long)bytes, (long long)messages);
    }
    EXPECT((bytes > 0) == (json_array_size(json_object_get(plan, "ranks")) > 1));
    EXPECT(number_in(done, "memory", "activation_peak_bytes") ==
           larger(number(denoise, "activation_bytes"), number(decode, "activation_bytes")));
    EXPECT(number_in(done, "memory", "weight_bytes") ==
           larger(number(stage_of(rank, "encode_text"), "weight_bytes"),
                  larger(number(denoise, "weight_bytes"), number(decode, "weight_bytes"))));
}

TEST(a_render_takes_what_was_planned)
{
    static const struct {
        int ranks;
        const char *first, *second;
    } cases[] = {{1, NULL, NULL},
                 {2, "--use_usp", "--precision=fp32"},
                 {3, NULL, NULL},
                 {4, "--precision=bf16", NULL},
                 {4, "--ring_degree=2", "--fast_ring"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        test_parameters("%d ranks %s %s", cases[i].ranks, cases[i].first != NULL ? cases[i].first : "",
                        cases[i].second != NULL ? cases[i].second : "");
        /* The flag that is always there ends no list of flags early. */
        const char *first = cases[i].first != NULL ? cases[i].first : "--quiet";
        const char *second = cases[i].second != NULL ? cases[i].second : "--quiet";
        json_t *planned = report_of(cases[i].ranks, first, second, "--plan");
        json_t *done = report_of(cases[i].ranks, first, second, NULL);
        if (planned != NULL && done != NULL) {
            compare(json_object_get(planned, "plan"), done);
        }
        json_decref(planned);
        json_decref(done);
    }
}

/* ---- what does not fit ---- */

TEST(degrees_that_do_not_fit_are_answered_with_those_that_do)
{
    static const struct {
        int ranks;
        const char *flag, *other, *says;
    } cases[] = {{1, "--ulysses_degree=2", "--quiet", "no layout of 1 rank"},
                 {1, "--cfg_degree=2", "--plan", "--cfg_degree 1 --ulysses_degree 1 --ring_degree 1"},
                 {3, "--cfg_degree=2", "--plan", "--cfg_degree 1 --ulysses_degree 3 --ring_degree 1"},
                 {4, "--no_use_usp", "--quiet", "--cfg_degree 2 --ulysses_degree 2 --ring_degree 1"},
                 {2, "--cfg_degree=2", "--ring_degree=2", "--cfg_degree 2 --ulysses_degree 1 --ring_degree 1"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        program_run run;
        test_parameters("%d ranks %s %s", cases[i].ranks, cases[i].flag, cases[i].other);
        program_skyreels_mpi(&run, cases[i].ranks, "--model_path", MODEL, "--prompt", "x", SIZE, "--output",
                             test_temp_path("refused.y4m"), cases[i].flag, cases[i].other, NULL);
        EXPECT(run.exit_code == USAGE);
        if (times(run.err, "skyreels-mpi: error:") != 1 || times(run.err, cases[i].says) != 1) {
            test_fail(__FILE__, __LINE__, "want \"%s\" said once: %s", cases[i].says, run.err);
        }
        program_free(&run);
    }
}

TEST(a_plan_on_some_ranks_only_is_refused)
{
    program_run run;
    const char *const argv[] = {SKY_TEST_MPIRUN,
                                "--oversubscribe",
                                "-np",
                                "1",
                                SKY_TEST_PROGRAM,
                                "--model_path",
                                MODEL,
                                "--prompt",
                                "x",
                                ":",
                                "-np",
                                "1",
                                SKY_TEST_PROGRAM,
                                "--model_path",
                                MODEL,
                                "--plan",
                                NULL};
    program_start(&run, argv);
    EXPECT(run.exit_code == USAGE && times(run.err, "--plan was given to rank 1 and not to rank 0") == 1);
    program_free(&run);
}

TEST_MAIN
