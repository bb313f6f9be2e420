#include "support/test.h"
#include "weights/build_files.h"
#include "weights/checkpoint.h"
#include "weights/names.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ORIGINAL  SKY_TEST_MODELS "/shapes-t2v"
#define DIFFUSERS SKY_TEST_MODELS "/diffusers-t2v"

static bool has_shape(const sky_source_tensor *t, int num_dims, const int64_t *shape)
{
    return t != NULL && t->num_dims == num_dims && memcmp(t->shape, shape, (size_t)num_dims * sizeof *shape) == 0;
}
#define HAS_SHAPE(t, ...) has_shape(t, (int)(sizeof((int64_t[]){__VA_ARGS__}) / 8), (int64_t[]){__VA_ARGS__})

TEST(the_original_layout_opens)
{
    sky_checkpoint *c = NULL;
    CHECK_OK(sky_checkpoint_open(ORIGINAL, &c));
    CHECK(sky_checkpoint_layout(c) == SKY_LAYOUT_ORIGINAL && strcmp(sky_checkpoint_path(c), ORIGINAL) == 0);
    CHECK(strcmp(sky_checkpoint_tokenizer_path(c), ORIGINAL "/google/umt5-xxl") == 0);
    CHECK(json_integer_value(json_object_get(sky_checkpoint_config(c, SKY_TRANSFORMER), "dim")) == 256);
    CHECK(sky_checkpoint_config(c, SKY_TEXT_ENCODER) == NULL && sky_checkpoint_config(c, SKY_VAE) == NULL);
    CHECK(HAS_SHAPE(sky_checkpoint_find(c, SKY_TRANSFORMER, "patch_embedding.weight"), 256, 16, 1, 2, 2));
    CHECK(HAS_SHAPE(sky_checkpoint_find(c, SKY_TRANSFORMER, "blocks.7.ffn.0.weight"), 768, 256));
    CHECK(HAS_SHAPE(sky_checkpoint_find(c, SKY_TEXT_ENCODER, "token_embedding.weight"), 1024, 128));
    CHECK(HAS_SHAPE(sky_checkpoint_find(c, SKY_VAE, "decoder.upsamples.7.time_conv.weight"), 128, 64, 3, 1, 1));
    CHECK(sky_checkpoint_find(c, SKY_TRANSFORMER, "blocks.8.ffn.0.weight") == NULL);
    CHECK(sky_checkpoint_find(c, SKY_TRANSFORMER, "blocks.0.attn1.to_q.weight") == NULL);
    CHECK(sky_checkpoint_bytes(c, SKY_VAE) == 7204742);
    CHECK(strcmp(sky_checkpoint_file(c, SKY_VAE, NULL), ORIGINAL "/Wan2.1_VAE.pth") == 0);
    const sky_source_tensor *bias = sky_checkpoint_find(c, SKY_VAE, "conv1.bias");
    float values[32];
    CHECK(HAS_SHAPE(bias, 32));
    CHECK_OK(sky_checkpoint_read(c, SKY_VAE, bias, values, SKY_F32));
    sky_checkpoint_destroy(&c);
    CHECK(c == NULL);
    sky_checkpoint_destroy(&c);
}

TEST(the_diffusers_layout_opens)
{
    sky_checkpoint *c = NULL;
    CHECK_OK(sky_checkpoint_open(DIFFUSERS, &c));
    CHECK(sky_checkpoint_layout(c) == SKY_LAYOUT_DIFFUSERS);
    CHECK(strcmp(sky_checkpoint_tokenizer_path(c), DIFFUSERS "/tokenizer") == 0);
    CHECK(json_integer_value(json_object_get(sky_checkpoint_config(c, SKY_TRANSFORMER), "ffn_dim")) == 512);
    CHECK(json_integer_value(json_object_get(sky_checkpoint_config(c, SKY_TEXT_ENCODER), "d_ff")) == 256);
    CHECK(json_integer_value(json_object_get(sky_checkpoint_config(c, SKY_VAE), "z_dim")) == 16);
    const sky_source_tensor *t = sky_checkpoint_find(c, SKY_TRANSFORMER, "blocks.0.norm3.weight");
    CHECK(HAS_SHAPE(t, 256) && strcmp(t->name, "blocks.0.norm2.weight") == 0);
    float norm[256];
    CHECK_OK(sky_checkpoint_read(c, SKY_TRANSFORMER, t, norm, SKY_F32));
    CHECK(norm[0] == 1.0F && norm[1] == 1.0625F); /* as safetensors reads them */
    CHECK(HAS_SHAPE(sky_checkpoint_find(c, SKY_TRANSFORMER, "blocks.0.modulation"), 1, 6, 256));
    CHECK(HAS_SHAPE(sky_checkpoint_find(c, SKY_TRANSFORMER, "head.modulation"), 1, 2, 256));
    CHECK(HAS_SHAPE(sky_checkpoint_find(c, SKY_TRANSFORMER, "head.head.weight"), 64, 256));
    CHECK(HAS_SHAPE(sky_checkpoint_find(c, SKY_TRANSFORMER, "text_embedding.0.weight"), 256, 128));
    CHECK(HAS_SHAPE(sky_checkpoint_find(c, SKY_TEXT_ENCODER, "token_embedding.weight"), 1024, 128));
    CHECK(HAS_SHAPE(sky_checkpoint_find(c, SKY_TEXT_ENCODER, "blocks.0.pos_embedding.embedding.weight"), 32, 2));
    t = sky_checkpoint_find(c, SKY_VAE, "decoder.upsamples.7.time_conv.weight");
    CHECK(t != NULL && strcmp(t->name, "decoder.up_blocks.1.upsamplers.0.time_conv.weight") == 0);
    CHECK(HAS_SHAPE(sky_checkpoint_find(c, SKY_VAE, "encoder.middle.1.norm.gamma"), 32, 1, 1));
    /* the Diffusers name of norm3 is the original name of a norm without weights */
    CHECK(sky_checkpoint_find(c, SKY_TRANSFORMER, "blocks.0.norm2.weight") == NULL);
    CHECK(sky_checkpoint_find(c, SKY_TRANSFORMER, "blocks.0.attn1.to_q.weight") == NULL);
    sky_checkpoint_destroy(&c);
}

/* Both small models are of one architecture: every tensor of one is asked for by exactly one name of the other. */
TEST(every_diffusers_tensor_has_one_original_name)
{
    static const struct {
        sky_component component;
        const char *original, *diffusers;
    } rows[] = {{SKY_TRANSFORMER, ORIGINAL, DIFFUSERS "/transformer"},
                {SKY_TEXT_ENCODER, ORIGINAL "/models_t5_umt5-xxl-enc-bf16.pth", DIFFUSERS "/text_encoder"},
                {SKY_VAE, ORIGINAL "/Wan2.1_VAE.pth", DIFFUSERS "/vae"}};
    sky_checkpoint *c = NULL;
    CHECK_OK(sky_checkpoint_open(DIFFUSERS, &c));
    for (size_t r = 0; r < 3; r++) {
        sky_source *original = NULL;
        sky_source *diffusers = NULL;
        CHECK_OK(sky_source_create(&original));
        CHECK_OK(sky_source_create(&diffusers));
        CHECK_OK(r == 0 ? sky_source_add_folder(original, rows[r].original)
                        : sky_source_add_torch(original, rows[r].original));
        CHECK_OK(sky_source_add_folder(diffusers, rows[r].diffusers));
        bool *seen = calloc((size_t)sky_source_count(diffusers), sizeof *seen);
        int64_t found = 0;
        for (int64_t i = 0; i < sky_source_count(original); i++) {
            const sky_source_tensor *want = sky_source_at(original, i);
            test_parameters("%s %s", sky_component_name(rows[r].component), want->name);
            if (strncmp(want->name, "blocks.", 7) == 0 && strncmp(want->name, "blocks.0.", 9) != 0) {
                continue; /* the Diffusers model has one block */
            }
            const sky_source_tensor *t = sky_checkpoint_find(c, rows[r].component, want->name);
            CHECK(t != NULL && t->num_dims == want->num_dims);
            const int64_t index = sky_source_find(diffusers, t->name) - sky_source_at(diffusers, 0);
            CHECK(!seen[index]);
            seen[index] = true;
            found++;
        }
        test_parameters("%s", sky_component_name(rows[r].component));
        CHECK(found == sky_source_count(diffusers));
        free(seen);
        sky_source_destroy(&original);
        sky_source_destroy(&diffusers);
    }
    sky_checkpoint_destroy(&c);
}

TEST(names_are_translated)
{
    static const struct {
        sky_component component;
        const char *original, *diffusers; /* NULL: none */
    } rows[] = {
        {SKY_TRANSFORMER, "blocks.39.self_attn.norm_q.weight", "blocks.39.attn1.norm_q.weight"},
        {SKY_TRANSFORMER, "blocks.12.cross_attn.o.bias", "blocks.12.attn2.to_out.0.bias"},
        {SKY_TRANSFORMER, "blocks.0.cross_attn.k_img.weight", "blocks.0.attn2.add_k_proj.weight"},
        {SKY_TRANSFORMER, "blocks.0.cross_attn.norm_k_img.weight", "blocks.0.attn2.norm_added_k.weight"},
        {SKY_TRANSFORMER, "img_emb.proj.1.bias", "condition_embedder.image_embedder.ff.net.0.proj.bias"},
        {SKY_TRANSFORMER, "fps_embedding.weight", "fps_embedding.weight"},
        {SKY_TRANSFORMER, "fps_projection.2.weight", "fps_projection.net.2.weight"},
        {SKY_TRANSFORMER, "blocks.3.modulation", "blocks.3.scale_shift_table"},
        {SKY_TRANSFORMER, "blocks.x.modulation", NULL},
        {SKY_TRANSFORMER, "blocks.00.modulation", NULL},
        {SKY_TRANSFORMER, "blocks.1234567.modulation", NULL},
        {SKY_TRANSFORMER, "blocks..modulation", NULL},
        {SKY_TRANSFORMER, "head.head.weight.x", NULL},
        {SKY_TRANSFORMER, "head.head.", NULL},
        {SKY_TRANSFORMER, "head", NULL},
        {SKY_TRANSFORMER, "", NULL},
        {SKY_TEXT_ENCODER, "blocks.23.ffn.gate.0.weight", "encoder.block.23.layer.1.DenseReluDense.wi_0.weight"},
        {SKY_TEXT_ENCODER, "blocks.23.norm2.weight", "encoder.block.23.layer.1.layer_norm.weight"},
        {SKY_VAE, "encoder.downsamples.10.residual.6.bias", "encoder.down_blocks.10.conv2.bias"},
        {SKY_VAE, "encoder.downsamples.5.time_conv.weight", "encoder.down_blocks.5.time_conv.weight"},
        {SKY_VAE, "decoder.upsamples.3.resample.1.weight", "decoder.up_blocks.0.upsamplers.0.resample.1.weight"},
        {SKY_VAE, "decoder.upsamples.4.shortcut.weight", "decoder.up_blocks.1.resnets.0.conv_shortcut.weight"},
        {SKY_VAE, "decoder.upsamples.14.residual.0.gamma", "decoder.up_blocks.3.resnets.2.norm1.gamma"},
        {SKY_VAE, "decoder.middle.2.residual.3.gamma", "decoder.mid_block.resnets.1.norm2.gamma"},
        {SKY_VAE, "decoder.middle.3.residual.3.gamma", NULL},
        {SKY_VAE, "decoder.head.2.weight", "decoder.conv_out.weight"},
        {SKY_VAE, "conv2.bias", "post_quant_conv.bias"},
        {SKY_VAE, "decoder.upsamples.", NULL},
        {SKY_VAE, "decoder.downsamples.0.residual.0.gamma", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char name[SKY_DIFFUSERS_NAME_BYTES];
        test_parameters("%s", rows[i].original);
        const bool found = sky_diffusers_name(rows[i].component, rows[i].original, 0, name);
        CHECK(found == (rows[i].diffusers != NULL));
        CHECK(!found || strcmp(name, rows[i].diffusers) == 0);
        CHECK(!sky_diffusers_name(rows[i].component, rows[i].original, 1, name));
    }
    char name[SKY_DIFFUSERS_NAME_BYTES];
    CHECK(sky_diffusers_name(SKY_TEXT_ENCODER, "token_embedding.weight", 1, name));
    CHECK(strcmp(name, "encoder.embed_tokens.weight") == 0);
    char longest[2 * SKY_DIFFUSERS_NAME_BYTES] = "conv1.";
    memset(longest + 6, 'w', sizeof longest - 7);
    CHECK(!sky_diffusers_name(SKY_VAE, longest, 0, name));
}

/* ---- folders put together from links to the small models, as download caches do ---- */

static const char *new_folder(const char *name)
{
    const char *path = test_temp_path(name);
    SKY_ASSERT(mkdir(path, 0700) == 0);
    return path;
}

static void join(char out[PATH_MAX], const char *folder, const char *name)
{
    SKY_ASSERT(snprintf(out, PATH_MAX, "%s/%s", folder, name) < PATH_MAX);
}

static void link_to(const char *target, const char *folder, const char *name)
{
    char path[PATH_MAX];
    join(path, folder, name);
    unlink(path);
    SKY_ASSERT(symlink(target, path) == 0);
}

static void drop(const char *folder, const char *name)
{
    char path[PATH_MAX];
    join(path, folder, name);
    SKY_ASSERT(unlink(path) == 0);
}

static const char *const original_parts[] = {"config.json",
                                             "diffusion_pytorch_model-00001-of-00002.safetensors",
                                             "diffusion_pytorch_model-00002-of-00002.safetensors",
                                             "diffusion_pytorch_model.safetensors.index.json",
                                             "models_t5_umt5-xxl-enc-bf16.pth",
                                             "Wan2.1_VAE.pth",
                                             "google"};
static const char *const diffusers_parts[] = {"transformer", "text_encoder", "vae", "tokenizer"};

static const char *linked(const char *name, const char *model, const char *const *parts, size_t count)
{
    const char *folder = new_folder(name);
    for (size_t i = 0; i < count; i++) {
        char target[PATH_MAX];
        join(target, model, parts[i]);
        link_to(target, folder, parts[i]);
    }
    return folder;
}

static void expect_refused(const char *path, const char *const *says)
{
    sky_checkpoint *c = NULL;
    CHECK_STATUS(sky_checkpoint_open(path, &c), SKY_ERR_INPUT);
    CHECK(c == NULL);
    for (; *says != NULL; says++) {
        if (strstr(sky_message(), *says) == NULL) {
            test_fail(__FILE__, __LINE__, "want a message with '%s', got: %s", *says, sky_message());
        }
    }
}
#define EXPECT_REFUSED(path, ...) expect_refused(path, (const char *const[]){__VA_ARGS__, NULL})

static void expect_opens(const char *path, sky_layout layout)
{
    sky_checkpoint *c = NULL;
    CHECK_OK(sky_checkpoint_open(path, &c));
    CHECK(sky_checkpoint_layout(c) == layout);
    sky_checkpoint_destroy(&c);
}

static void shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void shell(const char *format, ...)
{
    char command[4 * PATH_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    SKY_ASSERT(system(command) == 0);
}

TEST(spiece_model_is_enough)
{
    const char *original = test_temp_path("spiece-original");
    const char *diffusers = test_temp_path("spiece-diffusers");
    shell("cp -rL '%s' '%s' && cp -rL '%s' '%s'", ORIGINAL, original, DIFFUSERS, diffusers);
    shell("rm '%s'/google/umt5-xxl/tokenizer.json '%s'/tokenizer/tokenizer.json", original, diffusers);
    shell("[ -e '%s'/google/umt5-xxl/spiece.model ] && [ -e '%s'/tokenizer/spiece.model ]", original, diffusers);
    expect_opens(original, SKY_LAYOUT_ORIGINAL);
    expect_opens(diffusers, SKY_LAYOUT_DIFFUSERS);
}

/* Files that the published loaders do not choose do not stop a complete model, and are told. */
TEST(variants_and_copies_are_left_out)
{
    static const struct {
        const char *model, *folder, *from, *to;
    } rows[] = {
        {DIFFUSERS, "transformer/", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"},
        {DIFFUSERS, "transformer/", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model (1).safetensors"},
        {DIFFUSERS, "transformer/", "diffusion_pytorch_model.safetensors",
         "diffusion_pytorch_model - Copy.safetensors"},
        {DIFFUSERS, "transformer/", "diffusion_pytorch_model.safetensors",
         "diffusion_pytorch_model.bf16-00001-of-00001.safetensors"},
        {ORIGINAL, "", "diffusion_pytorch_model-00001-of-00002.safetensors",
         "diffusion_pytorch_model-00001-of-00002 (1).safetensors"},
        {ORIGINAL, "", "diffusion_pytorch_model-00001-of-00002.safetensors",
         "diffusion_pytorch_model.fp16.safetensors"},
        {ORIGINAL, "", "diffusion_pytorch_model-00001-of-00002.safetensors", "anything.safetensors"},
        {ORIGINAL, "", "diffusion_pytorch_model.safetensors.index.json",
         "diffusion_pytorch_model.fp16.safetensors.index.json"},
        {ORIGINAL, "", "diffusion_pytorch_model.safetensors.index.json",
         "diffusion_pytorch_model.safetensors.index (1).json"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char name[32];
        sky_checkpoint *c = NULL;
        snprintf(name, sizeof name, "beside%zu", i);
        const char *folder = test_temp_path(name);
        test_parameters("%s", rows[i].to);
        shell("cp -rL '%s' '%s' && cp '%s/%s%s' '%s/%s%s'", rows[i].model, folder, folder, rows[i].folder, rows[i].from,
              folder, rows[i].folder, rows[i].to);
        CHECK_OK(sky_checkpoint_open(folder, &c));
        const bool is_read = strstr(rows[i].to, "index (1)") != NULL; /* that name is no index's */
        EXPECT(is_read || strcmp(sky_checkpoint_left_out(c, SKY_TRANSFORMER), rows[i].to) == 0);
        EXPECT(sky_checkpoint_left_out(c, SKY_VAE)[0] == '\0');
        sky_checkpoint_destroy(&c);
    }
}

/* A variant alone is the model. */
TEST(a_variant_alone_is_read)
{
    const char *folder = test_temp_path("variant");
    shell("cp -rL '%s' '%s' && cd '%s/transformer' && mv diffusion_pytorch_model.safetensors "
          "diffusion_pytorch_model.fp16.safetensors",
          DIFFUSERS, folder, folder);
    expect_opens(folder, SKY_LAYOUT_DIFFUSERS);
}

static void expect_name(const char *path, const char *want)
{
    char name[SKY_PUBLISHED_NAME_BYTES];
    sky_checkpoint_published_name(path, name);
    if (strcmp(name, want) != 0) {
        test_fail(__FILE__, __LINE__, "%s: want \"%s\", got \"%s\"", path, want, name);
    }
}

/* What the defaults of size hang on: not the path as typed. */
TEST(the_published_name_is_found_behind_paths_and_links)
{
    char path[PATH_MAX];
    const char *top = new_folder("names");
    char *old = getcwd(NULL, 0);
    shell(
        "cd '%s' && mkdir -p hub/models--Skywork--SkyReels-V2-T2V-14B-720P/snapshots/0123abcd/vae "
        "SkyReels-V2-T2V-14B-720P mine plain && ln -s SkyReels-V2-T2V-14B-720P link && ln -s plain as-720P-here && "
        "ln -s hub/models--Skywork--SkyReels-V2-T2V-14B-720P/snapshots/0123abcd cached && "
        "echo '{\"original\": \"SkyReels-V2-T2V-14B-720P\"}' >mine/manifest.json && mkdir $(printf 'mod\\350le-720P')",
        top);
    join(path, top, "SkyReels-V2-T2V-14B-720P/");
    expect_name(path, "SkyReels-V2-T2V-14B-720P");
    join(path, top, "link");
    expect_name(path, "SkyReels-V2-T2V-14B-720P");
    join(path, top, "as-720P-here");
    expect_name(path, "as-720P-here");
    join(path, top, "hub/models--Skywork--SkyReels-V2-T2V-14B-720P/snapshots/0123abcd/");
    expect_name(path, "SkyReels-V2-T2V-14B-720P");
    join(path, top, "cached");
    expect_name(path, "SkyReels-V2-T2V-14B-720P");
    join(path, top, "mine"); /* a converted folder that was renamed */
    expect_name(path, "SkyReels-V2-T2V-14B-720P");
    join(path, top, "plain");
    expect_name(path, "plain");
    join(path, top, "nowhere/x-540P");
    expect_name(path, "x-540P");
    join(path, top, "mod\xe8le-720P");
    expect_name(path, "modle-720P");
    join(path, top, "SkyReels-V2-T2V-14B-720P");
    CHECK(old != NULL && chdir(path) == 0);
    expect_name(".", "SkyReels-V2-T2V-14B-720P");
    CHECK(chdir(old) == 0);
    free(old);
}

TEST(what_is_no_model_folder_is_said_to_be_none)
{
    EXPECT_REFUSED(test_temp_path("nowhere"), "nowhere", "no such folder", "config.json", "transformer/");
    EXPECT_REFUSED(ORIGINAL "/config.json", "this is a file", "Wan2.1_VAE.pth");
    EXPECT_REFUSED(new_folder("empty"), "no model folder", "google/umt5-xxl");
    EXPECT_REFUSED("", "no such folder");
}

TEST(missing_parts_of_the_original_layout_are_listed)
{
    const char *folder = linked("original", ORIGINAL, original_parts, 7);
    expect_opens(folder, SKY_LAYOUT_ORIGINAL);
    drop(folder, "Wan2.1_VAE.pth");
    EXPECT_REFUSED(folder, "missing *VAE*.pth (looked for config.json, *.safetensors, models_t5*.pth, *VAE*.pth, "
                           "google/umt5-xxl/tokenizer.json or spiece.model)");
    drop(folder, "google");
    drop(folder, "models_t5_umt5-xxl-enc-bf16.pth");
    EXPECT_REFUSED(folder, "missing models_t5*.pth, *VAE*.pth, google/umt5-xxl/tokenizer.json or spiece.model (");
    drop(folder, "config.json");
    EXPECT_REFUSED(folder, "missing config.json, models_t5*.pth");
    drop(folder, "diffusion_pytorch_model-00001-of-00002.safetensors");
    drop(folder, "diffusion_pytorch_model-00002-of-00002.safetensors");
    EXPECT_REFUSED(folder, "no model folder");
    link_to(ORIGINAL "/config.json", folder, "config.json");
    EXPECT_REFUSED(folder, "missing *.safetensors, models_t5*.pth");
}

TEST(missing_parts_of_the_diffusers_layout_are_listed)
{
    const char *folder = linked("diffusers", DIFFUSERS, diffusers_parts, 4);
    expect_opens(folder, SKY_LAYOUT_DIFFUSERS); /* without model_index.json */
    drop(folder, "vae");
    drop(folder, "tokenizer");
    EXPECT_REFUSED(folder,
                   "missing vae/config.json, vae/*.safetensors, tokenizer/tokenizer.json or spiece.model (looked for",
                   "transformer/config.json, transformer/*.safetensors");
    drop(folder, "transformer");
    EXPECT_REFUSED(folder, "no model folder");
    link_to(DIFFUSERS "/model_index.json", folder, "model_index.json");
    EXPECT_REFUSED(folder, "missing transformer/config.json");
}

TEST(half_a_download_is_refused)
{
    const char *folder = linked("half", ORIGINAL, original_parts, 7);
    drop(folder, "diffusion_pytorch_model-00002-of-00002.safetensors");
    EXPECT_REFUSED(folder, "diffusion_pytorch_model-00002-of-00002.safetensors, which is missing");
}

TEST(files_of_image_models_are_left_alone)
{
    const char *folder = linked("image", ORIGINAL, original_parts, 7);
    link_to(ORIGINAL "/config.json", folder, "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth");
    link_to(ORIGINAL "/google", folder, "xlm-roberta-large");
    expect_opens(folder, SKY_LAYOUT_ORIGINAL);
}

TEST(several_files_that_fit_are_ambiguous_unless_one_has_the_usual_name)
{
    const char *folder = linked("ambiguous", ORIGINAL, original_parts, 7);
    link_to(ORIGINAL "/config.json", folder, "Other_VAE.pth"); /* no VAE at all: would be refused if it were read */
    link_to(ORIGINAL "/config.json", folder, "A_VAE.pth");
    expect_opens(folder, SKY_LAYOUT_ORIGINAL);
    drop(folder, "Wan2.1_VAE.pth");
    EXPECT_REFUSED(folder, "several files fit *VAE*.pth");
    drop(folder, "A_VAE.pth");
    link_to(ORIGINAL "/Wan2.1_VAE.pth", folder, "Other_VAE.pth");
    expect_opens(folder, SKY_LAYOUT_ORIGINAL);
}

TEST(files_under_each_other_s_names_are_refused)
{
    const char *folder = linked("swapped", ORIGINAL, original_parts, 7);
    link_to(ORIGINAL "/models_t5_umt5-xxl-enc-bf16.pth", folder, "Wan2.1_VAE.pth");
    EXPECT_REFUSED(folder, "no VAE of this family", "decoder.conv1.weight");
    link_to(ORIGINAL "/Wan2.1_VAE.pth", folder, "Wan2.1_VAE.pth");
    link_to(ORIGINAL "/Wan2.1_VAE.pth", folder, "models_t5_umt5-xxl-enc-bf16.pth");
    EXPECT_REFUSED(folder, "no text encoder of this family");
    link_to(DIFFUSERS "/vae/config.json", folder, "models_t5_umt5-xxl-enc-bf16.pth");
    EXPECT_REFUSED(folder, "not a torch file");
}

TEST(configs_are_json_objects)
{
    char path[PATH_MAX];
    const char *folder = linked("configs", ORIGINAL, original_parts, 7);
    drop(folder, "config.json");
    join(path, folder, "config.json");
    bytes text = {0};
    bytes_text(&text, "[]");
    bytes_save(&text, text.len, path);
    EXPECT_REFUSED(folder, "config.json: want a JSON object");
    bytes_text(&text, "x");
    bytes_save(&text, text.len, path);
    EXPECT_REFUSED(folder, "config.json: JSON:");
    bytes_free(&text);
}

/* The embedding of the text encoder under the other of its two tied names. */
TEST(the_embedding_has_two_names)
{
    char path[PATH_MAX];
    const char *folder = linked("tied", DIFFUSERS, diffusers_parts, 4);
    drop(folder, "text_encoder");
    join(path, folder, "text_encoder");
    CHECK(mkdir(path, 0700) == 0);
    link_to(DIFFUSERS "/text_encoder/config.json", path, "config.json");

    bytes file = {0};
    FILE *from = fopen(DIFFUSERS "/text_encoder/model.safetensors", "rb");
    CHECK(from != NULL);
    char block[4096];
    for (size_t got = fread(block, 1, sizeof block, from); got > 0; got = fread(block, 1, sizeof block, from)) {
        bytes_add(&file, block, got);
    }
    fclose(from);
    static const char old[] = "\"shared.weight\"";
    static const char added[] = "encoder.embed_tokens";
    const unsigned char *at = memmem(file.data, file.len, old, sizeof old - 1);
    CHECK(at != NULL);
    const size_t place = (size_t)(at - file.data) + 1;
    uint64_t header_bytes = 0;
    memcpy(&header_bytes, file.data, sizeof header_bytes);
    bytes_set(&file, 0, header_bytes + strlen(added) - strlen("shared"), 8);
    memmove(file.data + place, file.data + place + strlen("shared"), file.len - place - strlen("shared"));
    file.len -= strlen("shared");
    bytes_insert(&file, place, added, strlen(added));
    strcat(path, "/model.safetensors");
    bytes_save(&file, file.len, path);
    bytes_free(&file);

    sky_checkpoint *c = NULL;
    CHECK_OK(sky_checkpoint_open(folder, &c));
    const sky_source_tensor *t = sky_checkpoint_find(c, SKY_TEXT_ENCODER, "token_embedding.weight");
    CHECK(HAS_SHAPE(t, 1024, 128) && strcmp(t->name, "encoder.embed_tokens.weight") == 0);
    sky_checkpoint_destroy(&c);
}

TEST_MAIN
