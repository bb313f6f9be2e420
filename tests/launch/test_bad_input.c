/*
 * What goes wrong with files, on two ranks: the right exit code, one message that names the thing, all ranks ended, and
 * nothing left in the output's folder. The readers' own rules are tested in tests/weights.
 */
#include "launch/program.h"
#include "support/test.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define MODEL   SKY_TEST_MODELS "/shapes-t2v"
#define SHARD_1 "diffusion_pytorch_model-00001-of-00002.safetensors"
#define SHARD_2 "diffusion_pytorch_model-00002-of-00002.safetensors"

enum { EXIT_USAGE = 64, EXIT_INPUT = 65, EXIT_INTERNAL = 70, EXIT_IO = 74, EXIT_MISMATCH = 78, MANY_SECONDS = 30 };

static bool says(const program_run *run, const char *part)
{
    if (strstr(run->err, part) != NULL) {
        return true;
    }
    test_fail(__FILE__, __LINE__, "\"%s\" is not in: %s", part, run->err);
    return false;
}

/* How often our own error line stands in what was said: once for the job, not once a rank. */
static int count_errors(const program_run *run)
{
    int count = 0;
    for (const char *p = run->err; (p = strstr(p, "skyreels-mpi: error: ")) != NULL; p++) {
        count++;
    }
    return count;
}

/* A small render of MODEL's copy on two ranks into an empty folder. */
static void render(const char *model, program_run *run, const char *output)
{
    program_skyreels_mpi(run, 2, "--model_path", model, "--prompt", "A red ball.", "--height", "32", "--width", "48",
                         "--num_frames", "5", "--inference_steps", "2", "--seed", "1", "--output", output, NULL);
}

static void check_refused(const char *model, int exit_code, const char *message)
{
    program_run run;
    const char *folder = test_temp_path("empty");
    char output[512];
    mkdir(folder, 0777);
    snprintf(output, sizeof output, "%s/video.y4m", folder);
    render(model, &run, output);
    EXPECT(run.exit_code == exit_code);
    if (run.exit_code != exit_code) {
        test_fail(__FILE__, __LINE__, "exit code %d, want %d: %s", run.exit_code, exit_code, run.err);
    }
    EXPECT(says(&run, message));
    EXPECT(count_errors(&run) == 1);
    EXPECT(run.seconds < MANY_SECONDS);
    EXPECT(program_count_entries(folder) == 0);
    program_free(&run);
}

/* A copy of the model to be damaged; `file` becomes the path of one of its files. */
static const char *copy_model(const char *name, const char *file, char path[512])
{
    const char *copy = test_temp_path(name);
    SKY_ASSERT(program_copy_tree(MODEL, copy));
    snprintf(path, 512, "%s/%s", copy, file);
    return copy;
}

/* Overwrites bytes of a file; at is from its beginning. */
static void overwrite(const char *path, long at, const void *bytes, size_t len)
{
    FILE *file = fopen(path, "r+b");
    SKY_ASSERT(file != NULL && fseek(file, at, SEEK_SET) == 0 && fwrite(bytes, 1, len, file) == len &&
               fclose(file) == 0);
}

/* Where text stands in the first MiB of a file; -1 where it does not. */
static long find(const char *path, const char *text)
{
    enum { MAX = 1 << 20 };
    char *bytes = malloc(MAX);
    FILE *file = fopen(path, "rb");
    SKY_ASSERT(bytes != NULL && file != NULL);
    const size_t len = fread(bytes, 1, MAX, file);
    fclose(file);
    const char *at = memmem(bytes, len, text, strlen(text));
    const long offset = at != NULL ? at - bytes : -1;
    free(bytes);
    return offset;
}

/* Offset of a tensor's first value in a safetensors file. */
static long find_data(const char *path, const char *tensor)
{
    char header[512];
    uint64_t header_bytes = 0;
    unsigned long long begin = 0;
    const long entry = find(path, tensor);
    FILE *file = fopen(path, "rb");
    SKY_ASSERT(file != NULL && fread(&header_bytes, sizeof header_bytes, 1, file) == 1);
    SKY_ASSERT(fseek(file, entry, SEEK_SET) == 0 && fread(header, 1, sizeof header - 1, file) > 0);
    header[sizeof header - 1] = '\0';
    const char *offsets = strstr(header, "data_offsets");
    SKY_ASSERT(offsets != NULL && sscanf(strchr(offsets, '['), "[%llu", &begin) == 1);
    fclose(file);
    return (long)(8 + header_bytes + begin);
}

TEST(a_missing_folder)
{
    check_refused("/does/not/exist", EXIT_INPUT, "/does/not/exist");
}

TEST(a_folder_without_a_model)
{
    const char *folder = test_temp_path("no-model");
    mkdir(folder, 0777);
    check_refused(folder, EXIT_INPUT, "no-model");
}

TEST(half_a_checkpoint)
{
    char path[512];
    const char *model = copy_model("half", SHARD_2, path);
    CHECK(unlink(path) == 0);
    check_refused(model, EXIT_INPUT, SHARD_2);
}

TEST(a_part_is_missing)
{
    char path[512];
    const char *model = copy_model("no-vae", "Wan2.1_VAE.pth", path);
    CHECK(unlink(path) == 0);
    check_refused(model, EXIT_INPUT, "VAE");
}

/* Which of the copy's two shards has a tensor: its path in shard. */
static void find_shard(const char *model, const char *tensor, char shard[512])
{
    static const char *const names[] = {SHARD_1, SHARD_2};
    for (int i = 0; i < 2; i++) {
        snprintf(shard, 512, "%s/%s", model, names[i]);
        if (find(shard, tensor) >= 0) {
            return;
        }
    }
    test_fail(__FILE__, __LINE__, "no shard has %s", tensor);
}

/* Replaces the first `from` behind the tensor's name in the header by `to`, of the same length. */
static void patch_header(const char *shard, const char *tensor, const char *from, const char *to)
{
    char text[256] = {0};
    const long entry = find(shard, tensor);
    FILE *file = fopen(shard, "rb");
    SKY_ASSERT(file != NULL && fseek(file, entry, SEEK_SET) == 0 && fread(text, 1, sizeof text - 1, file) > 0);
    fclose(file);
    const char *at = strstr(text, from);
    SKY_ASSERT(at != NULL && strlen(from) == strlen(to));
    overwrite(shard, entry + (at - text), to, strlen(to));
}

TEST(a_tensor_of_the_wrong_shape)
{
    char path[512];
    const char *model = copy_model("wrong-shape", SHARD_1, path);
    find_shard(model, "\"blocks.3.ffn.0.weight\"", path);
    patch_header(path, "\"blocks.3.ffn.0.weight\"", "[768,256]", "[256,768]"); /* as many bytes */
    check_refused(model, EXIT_MISMATCH, "blocks.3.ffn.0.weight: want [768, 256]");
}

/* Types that no reader here takes for weights are refused as the file's, whichever network they are in. */
TEST(a_tensor_of_a_type_that_is_not_read)
{
    static const char *const tensors[] = {"\"blocks.3.ffn.0.weight\"", "\"blocks.3.ffn.0.bias\"",
                                          "\"patch_embedding.weight\""};
    for (size_t i = 0; i < sizeof tensors / sizeof tensors[0]; i++) {
        char path[512];
        char name[32];
        snprintf(name, sizeof name, "wrong-type-%zu", i);
        const char *model = copy_model(name, SHARD_1, path);
        find_shard(model, tensors[i], path);
        patch_header(path, tensors[i], "\"BF16\"", "\"I16\" ");
        check_refused(model, EXIT_INPUT, "want floating numbers");
    }
}

/* The converter knows what the engine needs: where a network would refuse the model it writes nothing. */
TEST(what_would_not_load_is_not_converted)
{
    static const struct {
        const char *file, *tensor, *from, *to, *message;
    } rows[] = {
        {"vae/diffusion_pytorch_model.safetensors", "decoder.conv_in.bias\"", "bias", "bixs", "decoder.conv1.bias"},
        {"vae/diffusion_pytorch_model.safetensors", "decoder.conv_in.bias\"", "\"F32\"", "\"I32\"",
         "want floating numbers"},
        {"text_encoder/model.safetensors", "shared.weight\"", "weight", "weighx", "token_embedding"},
        {"text_encoder/model.safetensors", "encoder.block.0.layer.0.SelfAttention.k.weight\"", "weight", "weighx",
         "attn.k.weight"},
        {"transformer/diffusion_pytorch_model.safetensors", "patch_embedding.bias\"", "bias", "bixs",
         "patch_embedding.bias"},
        {"transformer/diffusion_pytorch_model.safetensors", "blocks.0.norm2.bias\"", "bias", "bixs", "norm3.bias"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char path[512];
        char output[512];
        program_run run;
        const char *model = test_temp_path("unloadable");
        const char *folder = test_temp_path("nothing");
        snprintf(path, sizeof path, "rm -rf '%s'", model);
        CHECK(system(path) == 0 && program_copy_tree(SKY_TEST_MODELS "/diffusers-t2v", model));
        snprintf(path, sizeof path, "%s/%s", model, rows[i].file);
        mkdir(folder, 0777);
        snprintf(output, sizeof output, "%s/converted", folder);
        test_parameters("%s %s", rows[i].tensor, rows[i].to);
        patch_header(path, rows[i].tensor, rows[i].from, rows[i].to);
        const char *const argv[] = {SKY_TEST_CONVERT, "--model_path", model, "--output_path", output, NULL};
        program_start(&run, argv);
        EXPECT(run.exit_code == EXIT_INPUT && says(&run, rows[i].message));
        EXPECT(program_count_entries(folder) == 0);
        program_free(&run);
    }
}

TEST(a_header_that_is_not_json)
{
    char path[512];
    const char *model = copy_model("not-json", SHARD_1, path);
    find_shard(model, "\"blocks.3.ffn.0.weight\"", path);
    patch_header(path, "\"blocks.3.ffn.0.weight\"", "[768,256]", "[768,25}]");
    check_refused(model, EXIT_INPUT, strrchr(path, '/') + 1);
}

TEST(a_config_that_says_otherwise)
{
    char path[512];
    const char *model = copy_model("other-config", "config.json", path);
    const long at = find(path, "\"num_layers\": 8");
    overwrite(path, at, "\"num_layers\": 9", 15);
    check_refused(model, EXIT_MISMATCH, "num_layers");
}

TEST(a_truncated_header)
{
    char path[512];
    const char *model = copy_model("truncated", SHARD_1, path);
    CHECK(truncate(path, 1000) == 0);
    check_refused(model, EXIT_INPUT, SHARD_1);
}

TEST(a_flipped_bit_in_a_header)
{
    char path[512];
    const char *model = copy_model("flipped", SHARD_2, path);
    unsigned char byte = 0;
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL && fread(&byte, 1, 1, file) == 1);
    fclose(file);
    byte ^= 4U; /* in the header's length */
    overwrite(path, 0, &byte, 1);
    check_refused(model, EXIT_INPUT, SHARD_2);
}

TEST(a_weight_that_is_not_a_number)
{
    char path[512];
    const char *model = copy_model("nan", SHARD_1, path);
    const unsigned char nan_bf16[] = {0xc0, 0x7f};
    find_shard(model, "\"blocks.1.self_attn.k.weight\"", path);
    overwrite(path, find_data(path, "\"blocks.1.self_attn.k.weight\"") + 200, nan_bf16, sizeof nan_bf16);
    check_refused(model, EXIT_INPUT, "blocks.1.self_attn.k.weight");
}

/* Weights that are finite and far too large: the step at which numbers are lost is named, and nothing is written. */
TEST(numbers_that_overflow_in_a_step)
{
    char path[512];
    const char *model = copy_model("overflow", SHARD_1, path);
    unsigned char largest[512];
    for (size_t i = 0; i < sizeof largest; i += 2) {
        largest[i] = 0x7f; /* 3.39e38 in bf16 */
        largest[i + 1] = 0x7f;
    }
    find_shard(model, "\"head.head.weight\"", path);
    overwrite(path, find_data(path, "\"head.head.weight\""), largest, sizeof largest);
    check_refused(model, EXIT_INTERNAL, "step 0: the transformer's output for the prompt is no longer finite");
}

/* A transformer whose text width is not the text encoder's. */
TEST(parts_of_different_models)
{
    char path[512];
    const char *model = copy_model("other-text", SHARD_1, path);
    find_shard(model, "\"text_embedding.0.weight\"", path);
    patch_header(path, "\"text_embedding.0.weight\"", "[256,128]", "[128,256]");
    check_refused(model, EXIT_MISMATCH, "the text encoder gives 128");
}

TEST(an_output_folder_that_is_not_there)
{
    program_run run;
    render(MODEL, &run, "/does/not/exist/video.y4m");
    CHECK(run.exit_code == EXIT_IO && says(&run, "/does/not/exist") && count_errors(&run) == 1);
    program_free(&run);
}

TEST(an_output_folder_that_cannot_be_written)
{
    program_run run;
    render(MODEL, &run, "/proc/video.y4m");
    CHECK(run.exit_code == EXIT_IO && says(&run, "/proc") && count_errors(&run) == 1);
    program_free(&run);
}

TEST(an_ending_that_means_nothing)
{
    program_run run;
    render(MODEL, &run, test_temp_path("video.gif"));
    CHECK(run.exit_code == EXIT_USAGE && says(&run, ".mp4"));
    program_free(&run);
}

/* A limit on the size of files stands for a full disk: the same failing write, with another errno. One rank, without MPI,
 * whose own files would meet the limit first. */
TEST(a_full_disk)
{
    program_run run;
    const char *folder = test_temp_path("full");
    char output[512];
    char command[4096];
    CHECK(mkdir(folder, 0777) == 0);
    snprintf(output, sizeof output, "%s/video.y4m", folder);
    FILE *old = fopen(output, "w");
    CHECK(old != NULL && fputs("the old one", old) >= 0 && fclose(old) == 0);
    snprintf(command, sizeof command,
             "ulimit -f 8; exec '%s' --model_path '%s' --prompt x --height 64 --width 64 --num_frames 5 "
             "--inference_steps 1 --seed 1 --output '%s'",
             SKY_TEST_PROGRAM, MODEL, output); /* in KiB */
    const char *const argv[] = {"bash", "-c", command, NULL};
    program_start(&run, argv);
    CHECK(run.exit_code == EXIT_IO && says(&run, "video.y4m") && count_errors(&run) == 1);
    CHECK(program_count_entries(folder) == 1);
    char text[32] = {0};
    old = fopen(output, "r");
    CHECK(old != NULL && fgets(text, sizeof text, old) != NULL && strcmp(text, "the old one") == 0);
    fclose(old);
    program_free(&run);
}

/* The same with a disk that is really full, on two ranks, where a small one may be mounted. */
TEST(a_full_disk_on_two_ranks)
{
    program_run run;
    const char *folder = test_temp_path("small-disk");
    char output[512];
    CHECK(mkdir(folder, 0777) == 0);
    if (mount("tmpfs", folder, "tmpfs", 0, "size=64k") != 0) {
        test_skip("a small file system cannot be mounted here");
        return;
    }
    snprintf(output, sizeof output, "%s/video.y4m", folder);
    program_skyreels_mpi(&run, 2, "--model_path", MODEL, "--prompt", "x", "--height", "64", "--width", "64",
                         "--num_frames", "13", "--inference_steps", "1", "--seed", "1", "--output", output, NULL);
    EXPECT(run.exit_code == EXIT_IO && says(&run, "video.y4m") && says(&run, strerror(ENOSPC)) &&
           count_errors(&run) == 1);
    EXPECT(program_count_entries(folder) == 0);
    umount(folder);
    program_free(&run);
}

/* One rank has a bad copy of the model: its message is told once, with its number, and both ranks end. */
TEST(one_rank_of_two_fails)
{
    static const struct {
        const char *name;
        const char *tensor; /* made NaN; NULL: a file is cut instead */
    } cases[] = {{"rank-open", NULL}, {"rank-load", "\"blocks.1.self_attn.k.weight\""}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int bad_rank = 0; bad_rank < 2; bad_rank++) {
            char path[512];
            char name[64];
            snprintf(name, sizeof name, "%s-%d", cases[i].name, bad_rank);
            const char *bad = copy_model(name, SHARD_1, path);
            if (cases[i].tensor == NULL) {
                CHECK(truncate(path, 100) == 0);
            } else {
                const unsigned char nan_bf16[] = {0xc0, 0x7f};
                find_shard(bad, cases[i].tensor, path);
                overwrite(path, find_data(path, cases[i].tensor), nan_bf16, sizeof nan_bf16);
            }
            const char *folder = test_temp_path("ranks");
            char output[512];
            mkdir(folder, 0777);
            snprintf(output, sizeof output, "%s/video.y4m", folder);
            const char *models[2] = {MODEL, MODEL};
            models[bad_rank] = bad;
#define FLAGS(model)                                                                                                  \
    SKY_TEST_PROGRAM, "--model_path", model, "--prompt", "x", "--height", "32", "--width", "48", "--num_frames", "5", \
        "--inference_steps", "2", "--seed", "1", "--output", output
            const char *const argv[] = {SKY_TEST_MPIRUN,
                                        "--oversubscribe",
                                        "-np",
                                        "1",
                                        FLAGS(models[0]),
                                        ":",
                                        "-np",
                                        "1",
                                        FLAGS(models[1]),
                                        NULL};
            program_run run;
            char who[32];
            test_parameters("%s", name);
            program_start(&run, argv);
            snprintf(who, sizeof who, "rank %d: ", bad_rank);
            CHECK(run.exit_code == EXIT_INPUT);
            CHECK(says(&run, who) && count_errors(&run) == 1);
            CHECK(run.seconds < MANY_SECONDS);
            CHECK(program_count_entries(folder) == 0);
            program_free(&run);
        }
    }
}

TEST(ranks_with_different_flags)
{
#define SMALL(steps)                                                                                                  \
    SKY_TEST_PROGRAM, "--model_path", MODEL, "--prompt", "x", "--height", "32", "--width", "48", "--num_frames", "5", \
        "--inference_steps", steps, "--seed", "1", "--output", output
    const char *output = test_temp_path("different.y4m");
    const char *const argv[] = {
        SKY_TEST_MPIRUN, "--oversubscribe", "-np", "1", SMALL("2"), ":", "-np", "1", SMALL("3"), NULL};
    program_run run;
    program_start(&run, argv);
    CHECK(run.exit_code == EXIT_USAGE && says(&run, "rank 1 was started with other settings") &&
          count_errors(&run) == 1);
    program_free(&run);
}

TEST_MAIN
