/* Converting: what is in the folder, that it loads as the original does, what is refused, and what is left behind. */
#include "ops/backend.h"
#include "ops/ref/ref.h"
#include "support/test.h"
#include "weights/build_files.h"
#include "weights/convert_files.h"
#include "weights/names.h"
#include "weights/store.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int count_entries(const char *folder)
{
    int count = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *e = dir != NULL ? readdir(dir) : NULL; e != NULL; e = readdir(dir)) {
        count += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return count;
}

static sky_status convert_to(const char *model, const char *output, int num_shards, bool verify,
                             sky_convert_report *report)
{
    const sky_convert_settings settings = {.model_path = model,
                                           .output_path = output,
                                           .codes = SKY_F8_E4M3,
                                           .num_shards = num_shards,
                                           .num_threads = 1,
                                           .verify = verify};
    return sky_convert_folder(&settings, NULL, NULL, report);
}

/* ---- what is in it ---- */

TEST(a_converted_folder_stands_alone_and_has_original_names)
{
    static const char *const models[] = {ORIGINAL, DIFFUSERS};
    for (size_t i = 0; i < 2; i++) {
        test_parameters("%s", models[i]);
        sky_checkpoint *c = NULL;
        const char *folder = converted_folder("alone", models[i], SKY_F8_E4M3, 0);
        CHECK_OK(sky_checkpoint_open(folder, &c));
        CHECK(sky_checkpoint_layout(c) == SKY_LAYOUT_CONVERTED && sky_checkpoint_codes(c) == SKY_F8_E4M3);
        CHECK(strcmp(sky_checkpoint_tokenizer_path(c), file_in(folder, "google/umt5-xxl")) == 0);
        CHECK(sky_checkpoint_config(c, SKY_TRANSFORMER) != NULL);
        CHECK((sky_checkpoint_config(c, SKY_VAE) != NULL) == (i == 1));
        const sky_source_tensor *t = sky_checkpoint_find(c, SKY_TRANSFORMER, "blocks.0.ffn.2.weight");
        const sky_source_tensor *scale = sky_checkpoint_find_scale(c, SKY_TRANSFORMER, "blocks.0.ffn.2.weight");
        CHECK(t != NULL && t->dtype == SKY_F8_E4M3 && t->num_dims == 2 && t->shape[0] == 256);
        CHECK(scale != NULL && scale->dtype == SKY_F32 && scale->num_dims == 1 && scale->shape[0] == 256);
        CHECK(sky_checkpoint_find_scale(c, SKY_TRANSFORMER, "head.head.weight") == NULL);
        CHECK(sky_checkpoint_find(c, SKY_TRANSFORMER, "blocks.0.norm3.weight") != NULL);
        CHECK(sky_checkpoint_find(c, SKY_VAE, "decoder.upsamples.7.time_conv.weight") != NULL);
        CHECK(sky_checkpoint_find(c, SKY_TEXT_ENCODER, "blocks.0.pos_embedding.embedding.weight") != NULL);
        sky_checkpoint_destroy(&c);
    }
}

TEST(every_name_of_diffusers_goes_back_to_the_original_one)
{
    sky_checkpoint *original = NULL;
    CHECK_OK(sky_checkpoint_open(ORIGINAL, &original));
    for (int i = 0; i < SKY_COMPONENT_COUNT; i++) {
        for (int64_t k = 0; k < sky_checkpoint_count(original, (sky_component)i); k++) {
            const char *name = sky_checkpoint_at(original, (sky_component)i, k)->name;
            char there[SKY_DIFFUSERS_NAME_BYTES];
            char back[SKY_DIFFUSERS_NAME_BYTES];
            test_parameters("%s", name);
            for (int choice = 0; sky_diffusers_name((sky_component)i, name, choice, there); choice++) {
                CHECK(sky_original_name((sky_component)i, there, back) && strcmp(back, name) == 0);
            }
        }
    }
    sky_checkpoint_destroy(&original);
    static const char *const unknown[] = {"encoder.mid_block.resnets.2.conv1.weight", "decoder.up_blocks.0.conv.weight",
                                          "decoder.up_blocks.0.resnets.3.conv1.weight", "nothing", ""};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        char back[SKY_DIFFUSERS_NAME_BYTES];
        test_parameters("%s", unknown[i]);
        CHECK(!sky_original_name(SKY_VAE, unknown[i], back));
    }
}

/* ---- that it loads as the original ---- */

typedef struct pair {
    sky_ctx ctx;
    sky_checkpoint *checkpoints[2]; /* original, converted */
    sky_weights *weights[2];
} pair;

static sky_status pair_open(pair *p, const char *original, const char *converted, sky_component component)
{
    *p = (pair){.ctx = {.backend = sky_backend_ref()}};
    SKY_TRY(sky_checkpoint_open(original, &p->checkpoints[0]));
    SKY_TRY(sky_checkpoint_open(converted, &p->checkpoints[1]));
    SKY_TRY(sky_weights_create(&p->ctx, p->checkpoints[0], component, NULL, &p->weights[0]));
    return sky_weights_create(&p->ctx, p->checkpoints[1], component, NULL, &p->weights[1]);
}

static void pair_close(pair *p)
{
    for (int i = 0; i < 2; i++) {
        sky_weights_destroy(&p->weights[i]);
        sky_checkpoint_destroy(&p->checkpoints[i]);
    }
}

static bool same_tensors(const sky_tensor *a, const sky_tensor *b)
{
    return a->dtype == b->dtype && sky_tensor_same_shape(a, b) && memcmp(a->data, b->data, sky_tensor_bytes(a)) == 0;
}

/* One tensor as the model asks for it in `codes`' precision, from both. */
static void compare_loaded(const pair *p, const char *name, const sky_source_tensor *t, bool eight_bit, sky_dtype codes)
{
    sky_tensor got[2];
    sky_tensor scale[2];
    for (int i = 0; i < 2; i++) {
        if (eight_bit) {
            CHECK_OK(sky_weights_get_8bit(p->weights[i], name, codes, t->shape[0], t->shape[1], &got[i], &scale[i]));
        } else {
            sky_weight_request request = {.dtype = SKY_F32, .round_bf16 = true, .num_dims = t->num_dims};
            memcpy(request.shape, t->shape, sizeof t->shape);
            CHECK_OK(sky_weights_get(p->weights[i], name, &request, &got[i]));
        }
    }
    CHECK(same_tensors(&got[0], &got[1]) && (!eight_bit || same_tensors(&scale[0], &scale[1])));
}

static void compare_component(const char *model, const char *folder, sky_component component, sky_dtype codes)
{
    pair p;
    CHECK_OK(pair_open(&p, model, folder, component));
    for (int64_t i = 0; i < sky_checkpoint_count(p.checkpoints[1], component) && !test_failed(); i++) {
        const sky_source_tensor *t = sky_checkpoint_at(p.checkpoints[1], component, i);
        const size_t len = strlen(t->name);
        if (len > 6 && strcmp(t->name + len - 6, ".scale") == 0) {
            continue;
        }
        const bool eight_bit =
            sky_is_block_linear(t->name, NULL, NULL) || (component == SKY_TEXT_ENCODER && t->num_dims == 2);
        /* the text encoder's own 8-bit storage is e4m3 whatever the transformer's codes are */
        const sky_dtype format = component == SKY_TEXT_ENCODER ? SKY_F8_E4M3 : codes;
        test_parameters("%s, %s, %s", model, sky_dtype_name(codes), t->name);
        compare_loaded(&p, t->name, t, eight_bit && component != SKY_VAE, format);
    }
    pair_close(&p);
}

static void write_safetensors(const sky_source *source, const char *path)
{
    bytes text = {0};
    bytes data = {0};
    for (int64_t i = 0; i < sky_source_count(source); i++) {
        char entry[512];
        const sky_source_tensor *t = sky_source_at(source, i);
        const size_t count = t->len_bytes / sky_dtype_bytes(t->dtype);
        float *values = malloc(count * sizeof *values);
        SKY_ASSERT(values != NULL && sky_source_read(source, t, values, SKY_F32) == SKY_OK);
        size_t len = (size_t)snprintf(entry, sizeof entry, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[",
                                      i == 0 ? "{" : ",", t->name);
        for (int d = 0; d < t->num_dims; d++) {
            len +=
                (size_t)snprintf(entry + len, sizeof entry - len, "%s%lld", d > 0 ? "," : "", (long long)t->shape[d]);
        }
        snprintf(entry + len, sizeof entry - len, "],\"data_offsets\":[%zu,%zu]}", data.len,
                 data.len + count * sizeof *values);
        for (size_t k = 0; k < count; k++) {
            values[k] *= 1.0F + (float)(k % 61) * 0x1p-13F; /* between two values of bf16, and near halfway points */
        }
        bytes_text(&text, entry);
        bytes_add(&data, values, count * sizeof *values);
        free(values);
    }
    bytes_text(&text, "}");
    bytes_add(&text, "", 1); /* terminated, for build_safetensors_values() */
    bytes file = {0};
    build_safetensors_values(&file, (const char *)text.data, data.data, data.len);
    bytes_save(&file, file.len, path);
    bytes_free(&file);
    bytes_free(&data);
    bytes_free(&text);
}

/* The Diffusers model with f32 values that bf16 cannot hold in transformer and text encoder, as SkyReels-V2 is published. */
static const char *wide_model(void)
{
    static const char *const files[] = {"transformer/diffusion_pytorch_model.safetensors",
                                        "text_encoder/model.safetensors"};
    const char *model = copied_folder("wide", DIFFUSERS);
    for (size_t i = 0; i < 2; i++) {
        sky_source *source = NULL;
        const char *path = file_in(model, files[i]);
        SKY_ASSERT(sky_source_create(&source) == SKY_OK && sky_source_add_safetensors(source, path) == SKY_OK);
        SKY_ASSERT(unlink(path) == 0);
        write_safetensors(source, path);
        sky_source_destroy(&source);
    }
    return model;
}

/* The contract: converting and then loading gives what quantising the original at load gives, byte for byte. */
TEST(a_converted_model_has_the_bytes_of_quantising_at_load)
{
    const char *const models[] = {ORIGINAL, DIFFUSERS, wide_model()};
    static const sky_dtype formats[] = {SKY_F8_E4M3, SKY_I8};
    for (size_t m = 0; m < 3; m++) {
        for (size_t f = 0; f < 2; f++) {
            const char *folder = converted_folder("same", models[m], formats[f], 0);
            for (int c = 0; c < SKY_COMPONENT_COUNT; c++) {
                compare_component(models[m], folder, (sky_component)c, formats[f]);
            }
        }
    }
}

TEST(any_number_of_shards_holds_the_same)
{
    static const int counts[] = {1, 2, 3, 7, 40};
    uint32_t want = 0;
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        uint32_t digest = 0;
        test_parameters("%d shards", counts[i]);
        const char *folder = converted_folder("shards", ORIGINAL, SKY_F8_E4M3, counts[i]);
        CHECK_OK(read_converted(folder, &digest));
        want = i == 0 ? digest : want;
        CHECK(digest == want);
        char last[SKY_SHARD_NAME_BYTES];
        sky_shard_name(counts[i] - 1, counts[i], last);
        CHECK(access(file_in(folder, last), R_OK) == 0);
        CHECK(count_entries(folder) == counts[i] + 3); /* and manifest.json, config.json, google */
    }
}

/* More than a second apart, since a second is what HDF5's times count. */
TEST(converting_twice_makes_the_same_files)
{
    static const char *const names[] = {"manifest.json", "shard-00001-of-00002.h5", "shard-00002-of-00002.h5"};
    const char *a = converted_folder("first", DIFFUSERS, SKY_I8, 2);
    usleep(1100000);
    const char *b = converted_folder("second", DIFFUSERS, SKY_I8, 2);
    for (size_t i = 0; i < 3; i++) {
        unsigned char *data[2];
        const size_t len = load_bytes(file_in(a, names[i]), &data[0]);
        test_parameters("%s", names[i]);
        CHECK(load_bytes(file_in(b, names[i]), &data[1]) == len && memcmp(data[0], data[1], len) == 0);
        free(data[0]);
        free(data[1]);
    }
}

static void check_formats(const pair *p)
{
    static const char name[] = "blocks.0.ffn.0.weight";
    sky_tensor codes[2];
    sky_tensor scale[2];
    const sky_weight_request bf16 = {.dtype = SKY_BF16, .num_dims = 2, .shape = {768, 256}};
    CHECK_STATUS(sky_weights_get(p->weights[1], name, &bf16, &codes[0]), SKY_ERR_MISMATCH);
    CHECK(strstr(sky_message(), "--precision fp8") != NULL && strstr(sky_message(), "original folder") != NULL);
    CHECK_STATUS(sky_weights_get_8bit(p->weights[1], name, SKY_I8, 768, 256, &codes[0], &scale[0]), SKY_ERR_MISMATCH);
    CHECK(strstr(sky_message(), "--precision fp8") != NULL);
    CHECK_STATUS(sky_weights_get_8bit(p->weights[1], "head.head.weight", SKY_F8_E4M3, 64, 256, &codes[0], &scale[0]),
                 SKY_ERR_MISMATCH);
    CHECK_STATUS(sky_weights_get_8bit(p->weights[1], name, SKY_F8_E4M3, 256, 768, &codes[0], &scale[0]),
                 SKY_ERR_MISMATCH);
    CHECK_STATUS(sky_weights_get_8bit(p->weights[1], name, SKY_BF16, 768, 256, &codes[0], &scale[0]), SKY_ERR_DTYPE);
    CHECK_STATUS(sky_weights_get_8bit(p->weights[1], name, SKY_I8, 0, 256, &codes[0], &scale[0]), SKY_ERR_SHAPE);
    CHECK_STATUS(sky_weights_get_8bit(p->weights[1], "blocks.8.ffn.0.weight", SKY_F8_E4M3, 1, 1, &codes[0], &scale[0]),
                 SKY_ERR_INPUT);
    for (int i = 0; i < 2; i++) { /* asked for again: the same; from a published folder in both formats: each its own */
        CHECK_OK(sky_weights_get_8bit(p->weights[i], name, SKY_F8_E4M3, 768, 256, &codes[0], &scale[0]));
        CHECK_OK(sky_weights_get_8bit(p->weights[i], name, SKY_F8_E4M3, 768, 256, &codes[1], &scale[1]));
        CHECK(codes[0].data == codes[1].data && scale[0].data == scale[1].data);
        CHECK(sky_weights_bytes(p->weights[i]) == 768 * 256 + 768 * 4);
    }
    CHECK_OK(sky_weights_get_8bit(p->weights[0], name, SKY_I8, 768, 256, &codes[0], &scale[0]));
    sky_tensor again[2];
    CHECK_OK(sky_weights_get_8bit(p->weights[0], name, SKY_I8, 768, 256, &again[0], &again[1]));
    CHECK(again[0].data == codes[0].data && again[1].data == scale[0].data);
    const float factor = ((const float *)scale[0].data)[5] / ((const float *)scale[1].data)[5];
    CHECK(codes[0].dtype == SKY_I8 && fabsf(factor - 448.0F / 127.0F) < 1e-4F);
}

TEST(a_converted_folder_has_one_format)
{
    pair p;
    CHECK_OK(pair_open(&p, ORIGINAL, converted_folder("format", ORIGINAL, SKY_F8_E4M3, 0), SKY_TRANSFORMER));
    check_formats(&p);
    pair_close(&p);
}

/* ---- the report ---- */

TEST(verifying_reports_the_error_of_each_layer)
{
    sky_convert_report r = {0};
    const char *output = test_temp_path("verified");
    CHECK_OK(convert_to(ORIGINAL, output, 2, true, &r));
    CHECK(r.num_errors == 8 * SKY_BLOCK_LINEARS && r.num_shards == 2 && r.num_left_out == 0);
    for (int64_t i = 0; i < r.num_errors; i++) {
        CHECK(r.errors[i].block == i / SKY_BLOCK_LINEARS && r.errors[i].part == i % SKY_BLOCK_LINEARS);
        CHECK(r.errors[i].relative > 0.02 && r.errors[i].relative < 0.03 && r.errors[i].largest > 0.0);
    }
    const sky_convert_part *t = &r.parts[SKY_TRANSFORMER];
    CHECK(t->num_quantized == 80 && t->original_bytes == 2 * t->num_parameters); /* published in bf16 */
    /* eight bits for 8 x (8 x 256 x 256 + 2 x 256 x 768) of them, and a scale for each of 8 x (9 x 256 + 768) rows */
    CHECK(t->original_bytes - t->converted_bytes == 8 * (8 * 256 * 256 + 2 * 256 * 768) - 4 * 8 * (9 * 256 + 768));
    CHECK(r.parts[SKY_VAE].original_bytes == r.parts[SKY_VAE].converted_bytes);
    sky_convert_report_release(&r);
}

/* ---- what is refused ---- */

static void expect_not_converted(const char *model, const char *output, int num_shards, sky_status want,
                                 const char *message)
{
    sky_convert_report report = {0};
    const int entries = count_entries(output);
    CHECK_STATUS(convert_to(model, output, num_shards, false, &report), want);
    sky_convert_report_release(&report);
    if (strstr(sky_message(), message) == NULL) {
        test_fail(__FILE__, __LINE__, "\"%s\" is not in: %s", message, sky_message());
    }
    CHECK(count_entries(output) == entries);
}

TEST(outputs_that_are_refused)
{
    char path[PATH_MAX];
    const char *model = copied_folder("model", ORIGINAL);
    const char *full = test_temp_path("full");
    CHECK(mkdir(full, 0777) == 0 && mkdir(file_in(full, "x"), 0777) == 0);
    expect_not_converted(model, model, 0, SKY_ERR_USAGE, "is the model itself");
    snprintf(path, sizeof path, "%s/../model/", model);
    expect_not_converted(model, path, 0, SKY_ERR_USAGE, "is the model itself");
    CHECK(symlink(model, test_temp_path("link")) == 0);
    expect_not_converted(model, test_temp_path("link"), 0, SKY_ERR_USAGE, "is the model itself");
    expect_not_converted(model, full, 0, SKY_ERR_USAGE, "with files in it");
    expect_not_converted(model, test_temp_path("no/such/folder"), 0, SKY_ERR_IO, "create the folder first");
    expect_not_converted(model, file_in(model, "config.json"), 0, SKY_ERR_IO, "found a file");
    expect_not_converted(model, test_temp_path("many"), 4097, SKY_ERR_USAGE, "are too many");
    expect_not_converted(converted_folder("once", ORIGINAL, SKY_F8_E4M3, 0), test_temp_path("twice"), 0, SKY_ERR_USAGE,
                         "is converted already");
    expect_not_converted(test_temp_path("nowhere"), test_temp_path("out"), 0, SKY_ERR_INPUT, "no such folder");
}

/* The original model with a transformer of its own, from one header and as many bytes of zeros. */
static const char *model_with(const char *name, const char *header, uint64_t data_bytes)
{
    static const char *const parts[] = {"config.json", "models_t5_umt5-xxl-enc-bf16.pth", "Wan2.1_VAE.pth", "google"};
    const char *folder = test_temp_path(name);
    bytes b = {0};
    mkdir(folder, 0777);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        SKY_ASSERT(symlink(file_in(ORIGINAL, parts[i]), file_in(folder, parts[i])) == 0);
    }
    bytes_number(&b, strlen(header), 8);
    bytes_text(&b, header);
    const char *path = file_in(folder, "model.safetensors");
    bytes_save(&b, b.len, path);
    SKY_ASSERT(truncate(path, (off_t)(b.len + data_bytes)) == 0); /* a hole: zeros that take no room */
    bytes_free(&b);
    return folder;
}

typedef struct header {
    char text[8192];
    size_t len;
    uint64_t data_bytes;
} header;

static void add_tensor(header *h, const char *name, const char *dtype, int64_t rows, int64_t cols)
{
    const uint64_t len = (uint64_t)(rows * cols) * (strcmp(dtype, "F32") == 0 ? 4 : strcmp(dtype, "I8") == 0 ? 1 : 2);
    h->len += (size_t)snprintf(h->text + h->len, sizeof h->text - h->len,
                               "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%lld,%lld],\"data_offsets\":[%llu,%llu]}",
                               h->len == 0 ? "{" : ",", name, dtype, (long long)rows, (long long)cols,
                               (unsigned long long)h->data_bytes, (unsigned long long)(h->data_bytes + len));
    h->data_bytes += len;
}

/* One block of a transformer, without part `left_out`, whose part `odd` has a row too many. */
static void add_block(header *h, int block, int64_t dim, int64_t ffn_dim, int left_out, int odd)
{
    for (int part = 0; part < SKY_BLOCK_LINEARS; part++) {
        char name[64];
        const char *linear = sky_block_linear_name(part);
        const int64_t rows = strcmp(linear, "ffn.0") == 0 ? ffn_dim : dim;
        const int64_t cols = strcmp(linear, "ffn.2") == 0 ? ffn_dim : dim;
        snprintf(name, sizeof name, "blocks.%d.%s.weight", block, linear);
        if (part != left_out) {
            add_tensor(h, name, "F32", rows + (part == odd), cols);
        }
    }
}

static const char *model_of(const char *name, header *h)
{
    add_tensor(h, "time_projection.1.weight", "F32", 6, 1);
    snprintf(h->text + h->len, sizeof h->text - h->len, "}");
    return model_with(name, h->text, h->data_bytes);
}

TEST(transformers_of_unknown_shape_are_refused)
{
    const char *output = test_temp_path("unknown");
    header none = {0};
    expect_not_converted(model_of("none", &none), output, 0, SKY_ERR_MISMATCH, "it has no blocks.0.self_attn.q.weight");
    for (int part = 0; part < SKY_BLOCK_LINEARS; part++) {
        char name[16];
        char message[96];
        header missing = {0};
        header odd = {0};
        test_parameters("%s", sky_block_linear_name(part));
        add_block(&missing, 0, 8, 16, -1, -1);
        add_block(&missing, 1, 8, 16, part, -1);
        snprintf(name, sizeof name, "missing%d", part);
        snprintf(message, sizeof message, "blocks.1.%s.weight is missing", sky_block_linear_name(part));
        expect_not_converted(model_of(name, &missing), output, 0, SKY_ERR_MISMATCH, message);
        add_block(&odd, 0, 8, 16, -1, -1);
        add_block(&odd, 1, 8, 16, -1, part);
        snprintf(name, sizeof name, "odd%d", part);
        snprintf(message, sizeof message, "blocks.1.%s.weight: want [", sky_block_linear_name(part));
        expect_not_converted(model_of(name, &odd), output, 0, SKY_ERR_MISMATCH, message);
    }
    header gap = {0};
    add_block(&gap, 0, 8, 16, -1, -1);
    add_block(&gap, 2, 8, 16, -1, -1);
    expect_not_converted(model_of("gap", &gap), output, 0, SKY_ERR_MISMATCH, "blocks.1.self_attn.q.weight is missing");
    header coded = {0};
    add_block(&coded, 0, 8, 16, 3, -1);
    add_tensor(&coded, "blocks.0.self_attn.o.weight", "I8", 8, 8);
    expect_not_converted(model_of("coded", &coded), output, 0, SKY_ERR_INPUT, "want floating numbers to quantise");
    CHECK(access(output, F_OK) != 0);
}

TEST(tensors_that_are_no_part_of_a_model_are_left_out_and_reported)
{
    sky_convert_report r = {0};
    header h = {0};
    add_block(&h, 0, 8, 16, -1, -1);
    add_tensor(&h, "steps", "I8", 1, 1);
    add_tensor(&h, "blocks.0.ffn.0.weight.scale", "F32", 16, 1);
    CHECK_OK(convert_to(model_of("more", &h), test_temp_path("more_out"), 0, true, &r));
    CHECK(r.num_left_out == 2 && strcmp(r.left_out, "blocks.0.ffn.0.weight.scale") == 0);
    sky_convert_report_release(&r);
}

TEST(an_original_that_ends_early_or_is_damaged_leaves_nothing)
{
    const char *output = test_temp_path("early");
    const char *model = copied_folder("short", ORIGINAL);
    unsigned char *data = NULL;
    const char *path = file_in(model, "diffusion_pytorch_model-00001-of-00002.safetensors");
    const size_t len = load_bytes(path, &data);
    CHECK(truncate(path, (off_t)len - 1) == 0);
    expect_not_converted(model, output, 0, SKY_ERR_INPUT, "00001-of-00002");
    memset(data + len - 4, 0xff, 4); /* NaN */
    save_bytes(path, data, len);
    expect_not_converted(model, output, 0, SKY_ERR_INPUT, "NaN or infinite");
    free(data);
    CHECK(access(output, F_OK) != 0);
}

/* ---- memory ---- */

typedef struct memory_watch {
    long first_kb, most_kb;
    int calls;
} memory_watch;

static long anonymous_kb(void)
{
    char line[256];
    long kb = -1;
    FILE *status = fopen("/proc/self/status", "r");
    while (status != NULL && fgets(line, sizeof line, status) != NULL) {
        (void)sscanf(line, "RssAnon: %ld", &kb);
    }
    if (status != NULL) {
        fclose(status);
    }
    return kb;
}

static sky_status watch_memory(void *user, sky_convert_phase phase, uint64_t done, uint64_t total)
{
    memory_watch *w = user;
    const long kb = anonymous_kb();
    (void)phase;
    (void)done;
    (void)total;
    w->most_kb = kb > w->most_kb ? kb : w->most_kb;
    w->calls++;
    return SKY_OK;
}

/* Two tensors of 200 MB become 50 MB each; the converter may hold two pieces of 8 MiB, one of 4, and what HDF5 takes. */
TEST(large_tensors_pass_through_little_memory)
{
#ifdef __SANITIZE_ADDRESS__
    enum { SANITIZED = 1 }; /* its own memory is in the way */
#else
    enum { SANITIZED = 0 };
#endif
    enum { MOST_KB = 32 << 10 };
    memory_watch watch = {0};
    sky_convert_report r = {0};
    header h = {0};
    add_block(&h, 0, 1024, 51200, -1, -1);
    const char *output = test_temp_path("large_out");
    const sky_convert_settings settings = {
        .model_path = model_of("large", &h), .output_path = output, .codes = SKY_F8_E4M3, .num_threads = 1};
    watch.first_kb = anonymous_kb();
    CHECK(watch.first_kb > 0);
    CHECK_OK(sky_convert_folder(&settings, watch_memory, &watch, &r));
    CHECK(r.parts[SKY_TRANSFORMER].original_bytes > 400 << 20 && watch.calls > 50);
    test_parameters("%ld kB at first, %ld at most", watch.first_kb, watch.most_kb);
    CHECK(SANITIZED || (watch.most_kb > 0 && watch.most_kb - watch.first_kb < MOST_KB));
    sky_convert_report_release(&r);
}

/* ---- interruptions ---- */

static sky_status stop_at_third(void *user, sky_convert_phase phase, uint64_t done, uint64_t total)
{
    int *calls = user;
    (void)phase;
    (void)done;
    (void)total;
    return ++*calls == 3 ? sky_fail(SKY_ERR_IO, "stopped") : SKY_OK;
}

TEST(a_conversion_that_is_stopped_leaves_nothing)
{
    int calls = 0;
    sky_convert_report r = {0};
    const char *parent = test_temp_path("stopped");
    CHECK(mkdir(parent, 0777) == 0);
    const sky_convert_settings settings = {
        .model_path = ORIGINAL, .output_path = file_in(parent, "out"), .codes = SKY_I8, .num_threads = 1};
    CHECK_STATUS(sky_convert_folder(&settings, stop_at_third, &calls, &r), SKY_ERR_IO);
    sky_convert_report_release(&r);
    CHECK(calls == 3 && count_entries(parent) == 0);
}

typedef struct folder_watch {
    const char *parent;
    int looked, opened;
} folder_watch;

/* While it is read back, all bytes are there; the folder still must not load. */
static sky_status try_to_open(void *user, sky_convert_phase phase, uint64_t done, uint64_t total)
{
    folder_watch *w = user;
    DIR *dir = phase == SKY_CONVERT_VERIFY && w->looked == 0 ? opendir(w->parent) : NULL;
    (void)done;
    (void)total;
    for (struct dirent *e = dir != NULL ? readdir(dir) : NULL; e != NULL; e = readdir(dir)) {
        uint32_t digest = 0;
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            w->looked++;
            w->opened += read_converted(file_in(w->parent, e->d_name), &digest) == SKY_OK;
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return SKY_OK;
}

TEST(a_folder_does_not_load_before_it_has_been_verified)
{
    sky_convert_report r = {0};
    folder_watch watch = {.parent = test_temp_path("watched")};
    CHECK(mkdir(watch.parent, 0777) == 0);
    const sky_convert_settings settings = {.model_path = DIFFUSERS,
                                           .output_path = file_in(watch.parent, "out"),
                                           .codes = SKY_I8,
                                           .num_threads = 1,
                                           .verify = true};
    CHECK_OK(sky_convert_folder(&settings, try_to_open, &watch, &r));
    sky_convert_report_release(&r);
    CHECK(watch.looked == 1 && watch.opened == 0);
}

typedef struct saboteur {
    const char *parent;
    bool done;
} saboteur;

/* Flips a bit of the last shard's last byte but some, after it has been written and before it is read back. */
static sky_status flip_while_verifying(void *user, sky_convert_phase phase, uint64_t done, uint64_t total)
{
    saboteur *s = user;
    DIR *dir = phase == SKY_CONVERT_VERIFY && !s->done ? opendir(s->parent) : NULL;
    (void)done;
    (void)total;
    for (struct dirent *e = dir != NULL ? readdir(dir) : NULL; e != NULL; e = readdir(dir)) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            const char *path = file_in(file_in(s->parent, e->d_name), "shard-00002-of-00002.h5");
            struct stat info;
            SKY_ASSERT(stat(path, &info) == 0);
            flip_bit(path, (uint64_t)info.st_size / 2, 3);
            s->done = true;
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return SKY_OK;
}

TEST(verifying_notices_what_the_disk_did_not_keep)
{
    sky_convert_report r = {0};
    saboteur s = {.parent = test_temp_path("sabotaged")};
    CHECK(mkdir(s.parent, 0777) == 0);
    const sky_convert_settings settings = {.model_path = DIFFUSERS,
                                           .output_path = file_in(s.parent, "out"),
                                           .codes = SKY_F8_E4M3,
                                           .num_shards = 2,
                                           .num_threads = 1,
                                           .verify = true};
    CHECK_STATUS(sky_convert_folder(&settings, flip_while_verifying, &s, &r), SKY_ERR_INPUT);
    sky_convert_report_release(&r);
    CHECK(s.done && strstr(sky_message(), "reading the converted model back") != NULL);
    CHECK(strstr(sky_message(), "checksum") != NULL && count_entries(s.parent) == 0);
}

/* Whatever a killed conversion leaves either does not open, or is all there. */
static void check_leftovers(const char *parent, uint32_t want, int *opened, int *refused)
{
    DIR *dir = opendir(parent);
    CHECK(dir != NULL);
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        uint32_t digest = 0;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) {
            continue;
        }
        const sky_status st = read_converted(file_in(parent, e->d_name), &digest);
        EXPECT(st == SKY_OK ? digest == want : st == SKY_ERR_INPUT);
        EXPECT(st == SKY_OK || strcmp(e->d_name, "out") != 0);
        ++*(st == SKY_OK ? opened : refused);
    }
    closedir(dir);
}

TEST(a_conversion_that_is_killed_leaves_nothing_that_loads_but_a_whole_one)
{
    enum { TRIALS = 25 };
    uint32_t want = 0;
    int opened = 0;
    int refused = 0;
    CHECK_OK(read_converted(converted_folder("whole", DIFFUSERS, SKY_F8_E4M3, 3), &want));
    for (int trial = 0; trial < TRIALS; trial++) {
        char name[32];
        snprintf(name, sizeof name, "killed%d", trial);
        const char *parent = test_temp_path(name);
        const char *output = file_in(parent, "out");
        CHECK(mkdir(parent, 0777) == 0);
        const pid_t child = fork();
        if (child == 0) {
            sky_convert_report r = {0};
            _exit(convert_to(DIFFUSERS, output, 3, false, &r) == SKY_OK ? 0 : 1);
        }
        usleep((useconds_t)(trial * 3000));
        kill(child, SIGKILL);
        CHECK(waitpid(child, NULL, 0) == child);
        test_parameters("killed after %d ms", trial * 3);
        check_leftovers(parent, want, &opened, &refused);
    }
    test_parameters("%d opened, %d refused", opened, refused);
    CHECK(refused > 3);
}

/* As a full disk that shows only while writing. */
TEST(a_limit_on_file_sizes_leaves_nothing)
{
    const char *parent = test_temp_path("limited");
    CHECK(mkdir(parent, 0777) == 0);
    const pid_t child = fork();
    if (child == 0) {
        sky_convert_report r = {0};
        const struct rlimit limit = {.rlim_cur = 3 << 20, .rlim_max = 3 << 20};
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        const sky_status st = convert_to(ORIGINAL, file_in(parent, "out"), 0, false, &r);
        _exit(st == SKY_ERR_IO && strstr(sky_message(), "shard-00001-of-00001.h5: reserving") != NULL ? 7 : 8);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
    CHECK(count_entries(parent) == 0);
}

TEST(a_full_disk_leaves_nothing)
{
    sky_convert_report r = {0};
    const char *mount_point = test_temp_path("disk");
    CHECK(mkdir(mount_point, 0777) == 0);
    if (mount("tmpfs", mount_point, "tmpfs", 0, "size=4m") != 0) {
        test_skip("cannot mount a small file system here");
        return;
    }
    const sky_status st = convert_to(ORIGINAL, file_in(mount_point, "out"), 0, false, &r);
    const bool says = strstr(sky_message(), "free disk space") != NULL;
    const int left = count_entries(mount_point);
    umount(mount_point);
    sky_convert_report_release(&r);
    CHECK(st == SKY_ERR_IO && says && left == 0);
}

TEST_MAIN
