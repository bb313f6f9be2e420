#include "support/test.h"
#include "weights/build_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TENSOR(name, dtype, shape, begin, end) \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"

static const char good[] = "{\"__metadata__\":{\"format\":\"pt\"}," TENSOR("b", "F32", "[2,3]", "4", "28") "," TENSOR(
    "a", "BF16", "[2]", "0", "4") "," TENSOR("empty", "F32", "[0,7]", "28", "28") "," TENSOR("one", "F16", "[]", "28",
                                                                                             "30") "}  ";

static sky_status open_header(const char *header, size_t data_bytes)
{
    bytes file = {0};
    build_safetensors(&file, header, data_bytes);
    const sky_status st = open_safetensors(&file, file.len, NULL);
    bytes_free(&file);
    return st;
}

TEST(a_good_file_gives_its_tensors)
{
    bytes file = {0};
    sky_source *source = NULL;
    build_safetensors(&file, good, 30);
    CHECK_OK(open_safetensors(&file, file.len, &source));
    CHECK(sky_source_count(source) == 4);
    CHECK(directory_is_sound(source, file.len));
    const sky_source_tensor *t = sky_source_find(source, "b");
    CHECK(t != NULL && t->dtype == SKY_F32 && t->num_dims == 2 && t->shape[0] == 2 && t->shape[1] == 3);
    CHECK(t->offset_bytes == 8 + strlen(good) + 4 && t->len_bytes == 24);
    t = sky_source_find(source, "one");
    CHECK(t != NULL && t->num_dims == 0 && t->len_bytes == 2);
    CHECK(sky_source_find(source, "__metadata__") == NULL && sky_source_find(source, "") == NULL);
    float values[6];
    float want = 0;
    CHECK_OK(sky_source_read(source, sky_source_find(source, "b"), values, SKY_F32));
    memcpy(&want, file.data + 8 + strlen(good) + 4 + 20, sizeof want); /* not aligned in the file */
    CHECK(values[5] == want);
    CHECK_OK(sky_source_read(source, sky_source_find(source, "empty"), values, SKY_F32));
    sky_source_destroy(&source);
    bytes_free(&file);
}

TEST(every_dtype_of_the_format_is_known)
{
    static const struct {
        const char *name;
        sky_dtype dtype;
    } rows[] = {{"F64", SKY_F64},         {"F32", SKY_F32},         {"F16", SKY_F16}, {"BF16", SKY_BF16},
                {"F8_E4M3", SKY_F8_E4M3}, {"F8_E5M2", SKY_F8_E5M2}, {"I64", SKY_I64}, {"I32", SKY_I32},
                {"I16", SKY_I16},         {"I8", SKY_I8},           {"U8", SKY_U8},   {"BOOL", SKY_BOOL}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char header[128];
        bytes file = {0};
        sky_source *source = NULL;
        const size_t len = 3 * sky_dtype_bytes(rows[i].dtype);
        test_parameters("%s", rows[i].name);
        snprintf(header, sizeof header, "{\"x\":{\"dtype\":\"%s\",\"shape\":[3],\"data_offsets\":[0,%zu]}}",
                 rows[i].name, len);
        build_safetensors(&file, header, len);
        CHECK_OK(open_safetensors(&file, file.len, &source));
        CHECK(sky_source_at(source, 0)->dtype == rows[i].dtype);
        sky_source_destroy(&source);
        bytes_free(&file);
    }
}

TEST(the_prefix_of_single_file_exports_is_taken_off)
{
    bytes file = {0};
    sky_source *source = NULL;
    build_safetensors(&file, "{" TENSOR("model.diffusion_model.x.weight", "U8", "[1]", "0", "1") "}", 1);
    CHECK_OK(open_safetensors(&file, file.len, &source));
    CHECK(sky_source_find(source, "x.weight") != NULL);
    sky_source_destroy(&source);
    bytes_free(&file);
    CHECK_STATUS(
        open_header(
            "{" TENSOR("model.diffusion_model.x", "U8", "[1]", "0", "1") "," TENSOR("x", "U8", "[1]", "1", "2") "}", 2),
        SKY_ERR_INPUT);
}

/* One bad file for each rule; `says` is a part of the message, so that it is that rule which refuses. */
static const struct bad_header {
    const char *label;
    const char *header;
    size_t data_bytes;
    const char *says;
} bad_headers[] = {
    {"empty header", "", 0, "begin with"},
    {"leading space", " {}", 0, "begin with"},
    {"array", "[]", 0, "begin with"},
    {"cut JSON", "{\"a\":", 0, "JSON"},
    {"text behind", "{} x", 0, "JSON"},
    {"overlap", "{" TENSOR("a", "U8", "[4]", "0", "4") "," TENSOR("b", "U8", "[4]", "2", "6") "}", 6, "overlaps"},
    {"same place", "{" TENSOR("a", "U8", "[4]", "0", "4") "," TENSOR("b", "U8", "[4]", "0", "4") "}", 4, "overlaps"},
    {"hole", "{" TENSOR("a", "U8", "[4]", "0", "4") "," TENSOR("b", "U8", "[4]", "5", "9") "}", 9, "a hole"},
    {"hole at the start", "{" TENSOR("a", "U8", "[4]", "1", "5") "}", 5, "a hole"},
    {"tail", "{" TENSOR("a", "U8", "[4]", "0", "4") "}", 5, "goes on"},
    {"tail of nothing", "{}", 1, "goes on"},
    {"data missing", "{" TENSOR("a", "U8", "[4]", "0", "4") "}", 3, "are not in"},
    {"reversed", "{" TENSOR("a", "U8", "[4]", "4", "0") "}", 4, "are not in"},
    {"2^63", "{" TENSOR("a", "U8", "[4]", "0", "9223372036854775808") "}", 4, "JSON"},
    {"2^63 - 1", "{" TENSOR("a", "U8", "[4]", "0", "9223372036854775807") "}", 4, "two integers"},
    {"2^53 + 1", "{" TENSOR("a", "U8", "[9007199254740993]", "0", "4") "}", 4, "no integer"},
    {"product wraps to 4", "{" TENSOR("a", "U8", "[4194305,4194305,211106198978564]", "0", "4") "}", 4, "do not make"},
    {"product wraps to 0", "{" TENSOR("a", "U8", "[4294967296,4294967296]", "0", "0") "}", 0, "do not make"},
    {"bytes wrap", "{" TENSOR("a", "F64", "[2048,1125899906842624]", "0", "0") "}", 0, "do not make"},
    {"negative", "{" TENSOR("a", "U8", "[-4]", "0", "4") "}", 4, "no integer"},
    {"two negatives", "{" TENSOR("a", "U8", "[-2,-2]", "0", "4") "}", 4, "no integer"},
    {"negative offset", "{" TENSOR("a", "U8", "[4]", "-4", "0") "}", 4, "two integers"},
    {"fraction", "{" TENSOR("a", "U8", "[4.0]", "0", "4") "}", 4, "no integer"},
    {"exponent", "{" TENSOR("a", "U8", "[4e0]", "0", "4") "}", 4, "no integer"},
    {"length as text", "{" TENSOR("a", "U8", "[\"4\"]", "0", "4") "}", 4, "no integer"},
    {"shape a number", "{" TENSOR("a", "U8", "4", "0", "4") "}", 4, "want a list"},
    {"seven dimensions", "{" TENSOR("a", "U8", "[1,1,1,1,1,1,4]", "0", "4") "}", 4, "at most 6"},
    {"one offset", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4]}}", 4, "two integers"},
    {"three offsets", "{" TENSOR("a", "U8", "[4]", "0,2", "4") "}", 4, "two integers"},
    {"no offsets", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4]}}", 4, "want an object"},
    {"one key more", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4],\"x\":1}}", 4, "want an object"},
    {"no object", "{\"a\":[1]}", 0, "want an object"},
    {"dtype a number", "{\"a\":{\"dtype\":1,\"shape\":[4],\"data_offsets\":[0,4]}}", 4, "want an object"},
    {"unknown dtype", "{" TENSOR("a", "F4", "[4]", "0", "4") "}", 4, "unknown dtype F4"},
    {"lower case dtype", "{" TENSOR("a", "f32", "[1]", "0", "4") "}", 4, "unknown dtype"},
    {"dtype lie", "{" TENSOR("a", "F32", "[4]", "0", "4") "}", 4, "do not make"},
    {"duplicate", "{" TENSOR("a", "U8", "[4]", "0", "4") "," TENSOR("a", "U8", "[4]", "0", "4") "}", 4, "JSON"},
    {"duplicate, escaped", "{" TENSOR("a", "U8", "[4]", "0", "4") "," TENSOR("\\u0061", "U8", "[4]", "0", "4") "}", 4,
     "JSON"},
    {"invalid UTF-8", "{" TENSOR("a\xff", "U8", "[4]", "0", "4") "}", 4, "JSON"},
    {"NUL in a name", "{" TENSOR("a\\u0000b", "U8", "[4]", "0", "4") "}", 4, "JSON"},
    {"escape in a name", "{" TENSOR("a\\u001b[31m", "U8", "[4]", "0", "4") "}", 4, "control character"},
    {"C1 in a name", "{" TENSOR("a\\u009b31m", "U8", "[4]", "0", "4") "}", 4, "control character"},
    {"empty name", "{" TENSOR("", "U8", "[4]", "0", "4") "}", 4, "has 0 bytes"},
    {"metadata a list", "{\"__metadata__\":[]}", 0, "map of strings"},
    {"metadata of numbers", "{\"__metadata__\":{\"a\":1}}", 0, "map of strings"},
};

TEST(each_rule_has_a_file_that_it_refuses)
{
    for (size_t i = 0; i < sizeof bad_headers / sizeof bad_headers[0]; i++) {
        const struct bad_header *row = &bad_headers[i];
        test_parameters("%s", row->label);
        CHECK_STATUS(open_header(row->header, row->data_bytes), SKY_ERR_INPUT);
        if (strstr(sky_message(), row->says) == NULL) {
            test_fail(__FILE__, __LINE__, "want a message with '%s', got: %s", row->says, sky_message());
        }
    }
}

TEST(an_unknown_dtype_is_shown_where_it_can_be)
{
    static const struct {
        const char *dtype;
        bool shown;
    } rows[] = {{"I7", true}, {"a name of twenty-one!", false}, {"\\u001b[31m", false}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char header[128];
        test_parameters("%s", rows[i].dtype);
        snprintf(header, sizeof header, "{\"x\":{\"dtype\":\"%s\",\"shape\":[3],\"data_offsets\":[0,3]}}",
                 rows[i].dtype);
        CHECK_STATUS(open_header(header, 3), SKY_ERR_INPUT);
        const char *said = strstr(sky_message(), "unknown dtype");
        CHECK(said != NULL && (strstr(said, rows[i].dtype) != NULL) == rows[i].shown);
        CHECK(strchr(said, '\x1b') == NULL && strlen(said) < 20);
    }
}

TEST(names_may_be_4096_bytes_long)
{
    for (size_t len = 4096; len <= 4097; len++) {
        char *header = malloc(len + 100);
        char *name = malloc(len + 1);
        memset(name, 'n', len);
        name[len] = '\0';
        sprintf(header, "{\"%s\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", name);
        test_parameters("len=%zu", len);
        EXPECT(open_header(header, 1) == (len == 4096 ? SKY_OK : SKY_ERR_INPUT));
        free(header);
        free(name);
    }
}

TEST(the_header_may_not_reach_beyond_the_file_or_the_limit)
{
    static const uint64_t lengths[] = {31, 1000, 99999999, 100000001, UINT64_C(1) << 32, UINT64_C(1) << 63, UINT64_MAX};
    bytes file = {0};
    build_safetensors(&file, "{" TENSOR("a", "U8", "[4]", "0", "4") "}", 4);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        test_parameters("N=%llu", (unsigned long long)lengths[i]);
        bytes_set(&file, 0, lengths[i], 8);
        CHECK_STATUS(open_safetensors(&file, file.len, NULL), SKY_ERR_INPUT);
    }
    bytes_free(&file);
}

TEST(deep_nesting_is_refused)
{
    enum { DEPTH = 1000000 };
    char *header = malloc(DEPTH + 6);
    memcpy(header, "{\"a\":", 5);
    memset(header + 5, '[', DEPTH);
    header[5 + DEPTH] = '\0';
    CHECK_STATUS(open_header(header, 0), SKY_ERR_INPUT);
    CHECK(strstr(sky_message(), "nested") != NULL);
    free(header);
}

TEST(a_header_that_needs_much_memory_is_refused)
{
    enum { ITEMS = 2000000 };
    char *header = malloc(3 * ITEMS + 16);
    memcpy(header, "{\"a\":[", 6);
    for (size_t i = 0; i < ITEMS; i++) {
        memcpy(header + 6 + 3 * i, "[],", 3);
    }
    memcpy(header + 6 + 3 * (size_t)ITEMS, "[]]}", 5);
    CHECK_STATUS(open_header(header, 0), SKY_ERR_INPUT);
    CHECK(strstr(sky_message(), "memory") != NULL);
    free(header);
}

TEST(a_file_cut_short_anywhere_is_refused)
{
    bytes file = {0};
    build_safetensors(&file, good, 30);
    for (size_t len = 0; len < file.len; len++) {
        test_parameters("len=%zu of %zu", len, file.len);
        CHECK_STATUS(open_safetensors(&file, len, NULL), SKY_ERR_INPUT);
    }
    CHECK_OK(open_safetensors(&file, file.len, NULL));
    bytes_free(&file);
}

/* A flipped bit may make another valid header (a name, a dtype of the same width); it never reaches outside. */
TEST(a_flipped_bit_never_leads_outside_of_the_file)
{
    bytes file = {0};
    build_safetensors(&file, good, 30);
    const size_t header_end = 8 + strlen(good);
    size_t refused = 0;
    for (size_t bit = 0; bit < 8 * header_end; bit++) {
        sky_source *source = NULL;
        test_parameters("bit=%zu", bit);
        file.data[bit / 8] ^= (unsigned char)(1U << bit % 8);
        const sky_status st = open_safetensors(&file, file.len, &source);
        file.data[bit / 8] ^= (unsigned char)(1U << bit % 8);
        CHECK(st == SKY_OK || st == SKY_ERR_INPUT);
        if (st == SKY_OK) {
            CHECK(bit >= 64 && directory_is_sound(source, file.len));
            sky_source_destroy(&source);
        } else {
            refused++;
        }
    }
    CHECK(refused > 8 * header_end * 3 / 4); /* the rest are letters of names and metadata */
    bytes_free(&file);
}

TEST(a_missing_file_is_an_io_error_that_names_it)
{
    sky_source *source = NULL;
    CHECK_OK(sky_source_create(&source));
    CHECK_STATUS(sky_source_add_safetensors(source, test_temp_path("none.safetensors")), SKY_ERR_IO);
    CHECK(strstr(sky_message(), "none.safetensors") != NULL);
    sky_source_destroy(&source);
    sky_source_destroy(&source);
}

TEST_MAIN
