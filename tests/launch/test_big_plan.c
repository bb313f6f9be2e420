/*
 * A folder of the size of T2V-14B-540P, with the published names, shapes and types and no data: what a plan says of it, and
 * that a render which cannot fit reads nothing.
 */
#include "launch/program.h"
#include "support/test.h"
#include "weights/checkpoint.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SMALL SKY_TEST_MODELS "/shapes-t2v"

enum { NUM_BLOCKS = 40, NUM_LAYERS = 24, EXIT_NOMEM = 70, EXIT_INPUT = 65, NAME_BYTES = 128 };

/* ---- the folder: the small model's tensors, grown to the published sizes ---- */

/* docs of the published models: dim, ffn_dim, text_dim; UMT5-XXL's; the VAE's base of 96 channels against 16. */
static int64_t transformer_len(int64_t small)
{
    switch (small) {
    case 256:
        return 5120;
    case 768:
        return 13824;
    case 128:
        return 4096;
    case 6 * 256:
        return 6 * 5120;
    default:
        return small; /* 1, 2, 6, 16 channels, 64 of the head */
    }
}

static int64_t text_len(const char *name, int dim, int64_t small)
{
    if (strstr(name, "pos_embedding") != NULL) {
        return dim == 0 ? 32 : 64; /* buckets, heads */
    }
    return small == 128 ? 4096 : small == 256 ? 10240 : 256384;
}

static bool is_channels_of_latents_or_colours(const char *name, int dim)
{
    static const struct {
        const char *start;
        int dim;
    } kept[] = {{"conv1.", 0},
                {"conv1.", 1},
                {"conv2.", 0},
                {"conv2.", 1},
                {"decoder.conv1.weight", 1},
                {"decoder.head.2.", 0},
                {"encoder.conv1.weight", 1},
                {"encoder.head.2.", 0}};
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        if (kept[i].dim == dim && strncmp(name, kept[i].start, strlen(kept[i].start)) == 0) {
            return true;
        }
    }
    return false;
}

static int64_t vae_len(const char *name, int dim, int64_t small)
{
    return dim > 1 || small == 1 || is_channels_of_latents_or_colours(name, dim) ? small : 6 * small;
}

static int64_t grown_len(sky_component component, const char *name, int dim, int64_t small)
{
    if (component == SKY_TRANSFORMER) {
        /* The one vector of 256 values that stays: what a timestep is made into. */
        return strcmp(name, "time_embedding.0.weight") == 0 && dim == 1 ? small : transformer_len(small);
    }
    return component == SKY_TEXT_ENCODER ? text_len(name, dim, small) : vae_len(name, dim, small);
}

typedef struct header {
    json_t *entries;
    uint64_t bytes;
    size_t count;
} header;

static void add_tensor(header *h, sky_component component, const sky_source_tensor *small, const char *original,
                       const char *name)
{
    const char *type = component == SKY_TEXT_ENCODER ? "BF16" : "F32";
    uint64_t bytes = component == SKY_TEXT_ENCODER ? 2 : 4;
    json_t *shape = json_array();
    for (int i = 0; i < small->num_dims; i++) {
        const int64_t len = grown_len(component, original, i, small->shape[i]);
        json_array_append_new(shape, json_integer(len));
        bytes *= (uint64_t)len;
    }
    json_object_set_new(h->entries, name,
                        json_pack("{s:s, s:o, s:[I, I]}", "dtype", type, "shape", shape, "data_offsets",
                                  (json_int_t)h->bytes, (json_int_t)(h->bytes + bytes)));
    h->bytes += bytes;
    h->count++;
}

/* Block 0 stands for all of them. */
static void add_all(header *h, const sky_checkpoint *small, sky_component component)
{
    const int num_blocks = component == SKY_TRANSFORMER ? NUM_BLOCKS : NUM_LAYERS;
    for (int64_t i = 0; i < sky_checkpoint_count(small, component); i++) {
        char name[NAME_BYTES];
        const sky_source_tensor *t = sky_checkpoint_at(small, component, i);
        SKY_ASSERT(sky_checkpoint_original_name(small, component, t, name, sizeof name));
        if (component == SKY_VAE || strncmp(name, "blocks.", 7) != 0) {
            add_tensor(h, component, t, name, name);
        } else if (strncmp(name, "blocks.0.", 9) == 0) {
            for (int block = 0; block < num_blocks; block++) {
                char numbered[NAME_BYTES + 16];
                snprintf(numbered, sizeof numbered, "blocks.%d.%s", block, name + 9);
                add_tensor(h, component, t, name, numbered);
            }
        }
    }
}

/* Header, then nothing up to the end; the first value is no number. False where the file system has no such files. */
static bool write_sparse(const char *path, const header *h)
{
    static const unsigned char no_number[4] = {0xff, 0xff, 0xff, 0x7f};
    struct stat info;
    char *text = json_dumps(h->entries, JSON_COMPACT);
    SKY_ASSERT(text != NULL);
    const uint64_t len = strlen(text);
    const uint64_t start = sizeof len + len;
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    SKY_ASSERT(fd >= 0 && write(fd, &len, sizeof len) == (ssize_t)sizeof len && write(fd, text, len) == (ssize_t)len);
    SKY_ASSERT(pwrite(fd, no_number, sizeof no_number, (off_t)start) == (ssize_t)sizeof no_number);
    const bool ok = ftruncate(fd, (off_t)(start + h->bytes)) == 0 && fstat(fd, &info) == 0 &&
                    (uint64_t)info.st_blocks * 512 < start + ((uint64_t)16 << 20);
    free(text);
    close(fd);
    if (!ok) {
        unlink(path);
    }
    return ok;
}

static void write_text(const char *folder, const char *name, const char *text)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    SKY_ASSERT(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
}

static void make_folder(const char *folder, const char *name)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    SKY_ASSERT(mkdir(path, 0700) == 0);
}

/* Tensors and bytes as docs/checkpoints.md has them of the published files; false where the folder cannot be made. */
static bool make_big_folder(const char *folder)
{
    static const struct {
        const char *part, *file;
        size_t count;
        double gigabytes;
    } parts[SKY_COMPONENT_COUNT] = {
        [SKY_TRANSFORMER] = {"transformer", "transformer/diffusion_pytorch_model.safetensors", 1095, 57.15},
        [SKY_TEXT_ENCODER] = {"text_encoder", "text_encoder/model.safetensors", 242, 11.36},
        [SKY_VAE] = {"vae", "vae/diffusion_pytorch_model.safetensors", 194, 0.5076}};
    bool ok = true;
    sky_checkpoint *small = NULL;
    SKY_ASSERT(sky_checkpoint_open(SMALL, &small) == SKY_OK && mkdir(folder, 0700) == 0);
    for (int i = 0; i < SKY_COMPONENT_COUNT && ok; i++) {
        char path[1024];
        header h = {.entries = json_object()};
        make_folder(folder, parts[i].part);
        snprintf(path, sizeof path, "%s/%s", folder, parts[i].file);
        add_all(&h, small, (sky_component)i);
        test_parameters("%s: %zu tensors, %.4f GB", parts[i].part, h.count, (double)h.bytes * 1e-9);
        EXPECT(h.count == parts[i].count);
        EXPECT((double)h.bytes * 1e-9 > parts[i].gigabytes * 0.998 &&
               (double)h.bytes * 1e-9 < parts[i].gigabytes * 1.002);
        ok = write_sparse(path, &h);
        json_decref(h.entries);
    }
    sky_checkpoint_destroy(&small);
    write_text(folder, "model_index.json", "{}");
    write_text(folder, "transformer/config.json", "{}");
    write_text(folder, "text_encoder/config.json", "{}");
    write_text(folder, "vae/config.json", "{}");
    char to[1024];
    snprintf(to, sizeof to, "%s/tokenizer", folder);
    SKY_ASSERT(program_copy_tree(SMALL "/google/umt5-xxl", to));
    return ok;
}

/* Made once; NULL where it cannot be, and the case is skipped. */
static const char *big_folder(void)
{
    static const char *folder;
    static bool made;
    if (folder == NULL) {
        folder = test_temp_path("SkyReels-V2-T2V-14B-540P");
        made = make_big_folder(folder);
    }
    if (!made) {
        test_skip("no sparse files of 60 GB here");
        return NULL;
    }
    return folder;
}

/* ---- what a plan says ---- */

static json_t *plan_of(const char *folder, const char *height, const char *width, const char *frames)
{
    program_run run;
    char flag[1100];
    json_error_t error;
    const char *path = test_temp_path("plan.json");
    snprintf(flag, sizeof flag, "--json=%s", path);
    program_skyreels(&run, "--plan", "--model_path", folder, "--height", height, "--width", width, "--num_frames",
                     frames, "--precision", "fp8", "--threads", "2", flag, NULL);
    json_t *report = run.exit_code == 0 ? json_load_file(path, 0, &error) : NULL;
    if (report == NULL) {
        test_fail(__FILE__, __LINE__, "exit code %d: %s", run.exit_code, run.err);
    }
    program_free(&run);
    return report;
}

/* In GB, of rank 0. */
static double gigabytes(const json_t *report, const char *stage, const char *key)
{
    const json_t *rank = json_array_get(json_object_get(json_object_get(report, "plan"), "ranks"), 0);
    const json_t *place = stage != NULL ? json_object_get(json_object_get(rank, "stages"), stage) : rank;
    const json_t *value = json_object_get(place, key);
    if (!json_is_integer(value)) {
        test_fail(__FILE__, __LINE__, "no number %s", key);
    }
    return (double)json_integer_value(value) * 1e-9;
}

static void expect_near(const char *what, double value, double least, double most)
{
    if (!(value >= least && value <= most)) {
        test_fail(__FILE__, __LINE__, "%s: %.3f GB, want %.3f to %.3f", what, value, least, most);
    }
}

TEST(a_plan_of_14b_in_fp8_at_540p)
{
    const char *folder = big_folder();
    if (folder == NULL) {
        return;
    }
    json_t *report = plan_of(folder, "544", "960", "97");
    CHECK(report != NULL);
    expect_near("text encoder's weights", gigabytes(report, "encode_text", "weight_bytes"), 11.3, 11.4);
    expect_near("transformer's weights", gigabytes(report, "denoise", "weight_bytes"), 14.0, 15.0);
    expect_near("transformer's activations", gigabytes(report, "denoise", "activation_bytes"), 4.0, 7.0);
    expect_near("loading", gigabytes(report, "denoise", "staging_bytes"), 0.0, 0.05);
    expect_near("the transformer on the host", gigabytes(report, "denoise", "host_bytes"), 0.0, 0.1);
    expect_near("the VAE on the host", gigabytes(report, "decode", "host_bytes"), 0.15, 0.25); /* the frames */
    const double device = gigabytes(report, "denoise", "device_bytes");
    const double parts = gigabytes(report, "denoise", "weight_bytes") +
                         gigabytes(report, "denoise", "activation_bytes") +
                         gigabytes(report, "denoise", "workspace_bytes");
    EXPECT(device > parts - 1e-6 && device < parts + 1e-6);
    EXPECT(gigabytes(report, NULL, "peak_device_bytes") >= device);
    json_decref(report);
}

/* ---- what does not fit ---- */

static void expect_refusal(program_run *run, const char *says)
{
    EXPECT(run->exit_code == EXIT_NOMEM);
    if (strstr(run->err, says) == NULL) {
        test_fail(__FILE__, __LINE__, "want '%s', got exit code %d: %s", says, run->exit_code, run->err);
    }
    program_free(run);
}

/* The first value that would be read is no number, so that reading would be another error; each stage by itself. */
TEST(a_render_of_14b_that_does_not_fit_reads_nothing)
{
    static const struct {
        const char *limit, *says;
    } rows[] = {{"10", "not enough memory for the transformer: rank 0 needs "},
                {"16", "not enough memory for the transformer: rank 0 needs "}};
    const char *folder = big_folder();
    if (folder == NULL) {
        return;
    }
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        program_run run;
        test_parameters("--memory_limit %s", rows[i].limit);
        program_skyreels(&run, "--model_path", folder, "--height", "544", "--width", "960", "--num_frames", "97",
                         "--prompt", "x", "--output", test_temp_path("big.y4m"), "--memory_limit", rows[i].limit, NULL);
        expect_refusal(&run, rows[i].says);
    }
}

TEST_MAIN
