#include "base/file.h"
#include "support/test.h"
#include "text/text_clean.h"
#include "text/tokenizer.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define UMT5_FOLDER SKY_TEST_MODELS "/shapes-t2v/google/umt5-xxl"

enum { MAX_IDS = 512 };

/* Copies the file `name` of the umt5 folder, alone, to a new temporary folder. */
static const char *folder_with(const char *folder_name, const char *name)
{
    const char *folder = test_temp_path(folder_name);
    char *from = NULL;
    char *to = NULL;
    char *data = NULL;
    size_t len = 0;
    FILE *file = NULL;
    mkdir(folder, 0700);
    if (sky_path_join(UMT5_FOLDER, name, &from) == SKY_OK && sky_path_join(folder, name, &to) == SKY_OK &&
        sky_file_read_all(from, 64 << 20, &data, &len) == SKY_OK) {
        file = fopen(to, "wb");
    }
    if (file == NULL || fwrite(data, 1, len, file) != len || fclose(file) != 0) {
        test_fail(__FILE__, __LINE__, "cannot copy %s", name);
    }
    free(from);
    free(to);
    free(data);
    return folder;
}

static bool same_ids(const json_t *want, const int32_t *ids, int64_t num_ids)
{
    if ((int64_t)json_array_size(want) != num_ids) {
        test_fail(__FILE__, __LINE__, "want %zu ids, got %lld", json_array_size(want), (long long)num_ids);
        return false;
    }
    for (int64_t i = 0; i < num_ids; i++) {
        const json_int_t id = json_integer_value(json_array_get(want, (size_t)i));
        if (id != ids[i]) {
            test_fail(__FILE__, __LINE__, "id %lld: want %lld, got %d", (long long)i, (long long)id, (int)ids[i]);
            return false;
        }
    }
    return true;
}

static void check_golden_entry(const sky_tokenizer *tokenizer, const json_t *entry)
{
    char *clean = NULL;
    int32_t ids[MAX_IDS];
    int64_t num_ids = 0;
    CHECK_OK(sky_text_clean(json_string_value(json_object_get(entry, "text")), &clean));
    const bool same_text = strcmp(clean, json_string_value(json_object_get(entry, "clean"))) == 0;
    const sky_status st = sky_tokenizer_encode(tokenizer, clean, MAX_IDS, ids, &num_ids);
    free(clean);
    CHECK(same_text);
    CHECK_OK(st);
    CHECK(same_ids(json_object_get(entry, "ids"), ids, num_ids));
    CHECK(ids[num_ids - 1] == 1);
}

static void check_golden(const char *folder)
{
    json_t *list = json_load_file(SKY_TEST_GOLDEN "/tokens.json", 0, NULL);
    sky_tokenizer *tokenizer = NULL;
    CHECK(json_array_size(list) == 18);
    CHECK_OK(sky_tokenizer_open(folder, &tokenizer));
    EXPECT(sky_tokenizer_vocab_size(tokenizer) == 1024);
    for (size_t i = 0; i < json_array_size(list); i++) {
        test_parameters("%s, entry %zu", folder, i);
        check_golden_entry(tokenizer, json_array_get(list, i));
    }
    sky_tokenizer_destroy(&tokenizer);
    json_decref(list);
}

TEST(golden_ids_from_tokenizer_json)
{
    check_golden(UMT5_FOLDER);
    check_golden(SKY_TEST_MODELS "/diffusers-t2v/tokenizer"); /* WhitespaceSplit before Metaspace */
}

TEST(golden_ids_from_spiece_model_alone)
{
    check_golden(folder_with("spiece-only", "spiece.model"));
}

TEST(cut_to_max_ids_with_the_end_last)
{
    sky_tokenizer *tokenizer = NULL;
    int32_t all[MAX_IDS];
    int64_t num_all = 0;
    CHECK_OK(sky_tokenizer_open(UMT5_FOLDER, &tokenizer));
    CHECK_OK(sky_tokenizer_encode(tokenizer, "A large red ball <pad> moving", MAX_IDS, all, &num_all));
    for (int64_t max_ids = 1; max_ids <= num_all + 2; max_ids++) {
        int32_t ids[MAX_IDS + 1];
        int64_t num_ids = 0;
        test_parameters("max_ids=%lld", (long long)max_ids);
        ids[max_ids] = -7;
        CHECK_OK(sky_tokenizer_encode(tokenizer, "A large red ball <pad> moving", max_ids, ids, &num_ids));
        CHECK(num_ids == (max_ids < num_all ? max_ids : num_all));
        CHECK(memcmp(ids, all, (size_t)(num_ids - 1) * sizeof *ids) == 0);
        CHECK(ids[num_ids - 1] == 1 && ids[max_ids] == -7);
    }
    int32_t id = -7;
    int64_t num_ids = -1;
    EXPECT(sky_tokenizer_encode(tokenizer, "", 0, &id, &num_ids) == SKY_ERR_USAGE);
    EXPECT(sky_tokenizer_encode(tokenizer, "a\x80", 1, &id, &num_ids) == SKY_ERR_USAGE);
    EXPECT(strstr(sky_message(), "byte 1 is 0x80") != NULL);
    EXPECT(id == -7 && num_ids == -1);
    sky_tokenizer_destroy(&tokenizer);
    sky_tokenizer_destroy(&tokenizer);
}

TEST(a_long_text_is_fine_and_a_longer_one_refused)
{
    sky_tokenizer *tokenizer = NULL;
    const size_t len = SKY_TOKENIZER_MAX_TEXT_BYTES;
    char *text = malloc(len + 2);
    int32_t ids[MAX_IDS];
    int64_t num_ids = 0;
    CHECK(text != NULL);
    memset(text, 'a', len + 1);
    text[len + 1] = '\0';
    CHECK_OK(sky_tokenizer_open(UMT5_FOLDER, &tokenizer));
    EXPECT(sky_tokenizer_encode(tokenizer, text, MAX_IDS, ids, &num_ids) == SKY_ERR_USAGE);
    text[1 << 20] = '\0';
    EXPECT(sky_tokenizer_encode(tokenizer, text, MAX_IDS, ids, &num_ids) == SKY_OK && num_ids == MAX_IDS);
    sky_tokenizer_destroy(&tokenizer);
    free(text);
}

static sky_status open_folder(const char *folder)
{
    sky_tokenizer *tokenizer = NULL;
    const sky_status st = sky_tokenizer_open(folder, &tokenizer);
    sky_tokenizer_destroy(&tokenizer);
    return st;
}

TEST(folders_without_a_tokenizer_are_refused)
{
    CHECK_STATUS(open_folder(test_temp_path("nowhere")), SKY_ERR_INPUT);
    CHECK(strstr(sky_message(), "tokenizer.json or spiece.model") != NULL);
    /* A tokenizer.json that is refused is not passed over for spiece.model. */
    const char *folder = folder_with("both", "spiece.model");
    char *path = NULL;
    CHECK_OK(open_folder(folder));
    CHECK_OK(sky_path_join(folder, "tokenizer.json", &path));
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL);
    fputs("{}", file);
    fclose(file);
    const sky_status st = open_folder(folder);
    const bool named = strstr(sky_message(), path) != NULL;
    free(path);
    CHECK_STATUS(st, SKY_ERR_INPUT);
    CHECK(named);
}

TEST_MAIN
