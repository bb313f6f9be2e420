#include "base/json.h"
#include "support/test.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sky_status parse(const char *text)
{
    json_t *value = NULL;
    const sky_status st = sky_json_parse(text, strlen(text), &value);
    json_decref(value);
    return st;
}

TEST(values_are_read)
{
    const char *text = " {\"a\": [1, 2.5, \"\\u00e4\\\"[\", null], \"b\": {\"c\": true}}\n\t ";
    json_t *value = NULL;
    CHECK_OK(sky_json_parse(text, strlen(text), &value));
    CHECK(json_integer_value(json_array_get(json_object_get(value, "a"), 0)) == 1);
    CHECK(strcmp(json_string_value(json_array_get(json_object_get(value, "a"), 2)), "\xc3\xa4\"[") == 0);
    CHECK(json_is_true(json_object_get(json_object_get(value, "b"), "c")));
    json_decref(value);
}

TEST(bad_text_is_refused)
{
    static const char *const bad[] = {
        "",
        "   ",
        "{",
        "{}x",
        "{} {}",
        "{\"a\":1,\"a\":2}",
        "[1,]",
        "{\"a\"}",
        "[01]",
        "\"\xff\"",
        "\"\xc3\"",
        "\"\xed\xa0\x80\"",
        "\"\\ud800\"",
        "\"\\u0000\"",
        "'a'",
        "[NaN]",
        "[Infinity]",
        "// x\n{}",
        "\xef\xbb\xbf{}",
        "\"\xc0\x80\"",
        "\"a\nb\"",
        "[1e999]",
        "[99999999999999999999]",
        "\"abc",
        "\"abc\\",
        "]",
        "nul",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        test_parameters("text %zu: %s", i, bad[i]);
        EXPECT(parse(bad[i]) == SKY_ERR_INPUT);
    }
}

TEST(a_nul_byte_is_refused_wherever_it_is)
{
    const char texts[][8] = {"{}\0", "\"a\0b\"", "\0{}", "[1\0]"};
    const size_t lens[] = {3, 5, 3, 4};
    for (size_t i = 0; i < 4; i++) {
        json_t *value = NULL;
        test_parameters("i=%zu", i);
        CHECK_STATUS(sky_json_parse(texts[i], lens[i], &value), SKY_ERR_INPUT);
        CHECK(value == NULL);
    }
}

static char *nested(size_t depth, char open, char close)
{
    char *text = malloc(2 * depth + 1);
    memset(text, open, depth);
    memset(text + depth, close, depth);
    text[2 * depth] = '\0';
    return text;
}

TEST(nesting_is_limited)
{
    const size_t depths[] = {1, 64, 65, 2048, 1000000};
    for (size_t i = 0; i < 5; i++) {
        char *text = nested(depths[i], '[', ']');
        test_parameters("depth=%zu", depths[i]);
        EXPECT(parse(text) == (depths[i] <= 64 ? SKY_OK : SKY_ERR_INPUT));
        free(text);
    }
    char *quoted = nested(1000, '[', '['); /* brackets in a string do not nest */
    quoted[0] = quoted[1999] = '"';
    EXPECT(parse(quoted) == SKY_OK);
    quoted[1998] = '\\'; /* the closing quote is now escaped */
    EXPECT(parse(quoted) == SKY_ERR_INPUT);
    free(quoted);
}

/* n empty arrays: 3 bytes of text and more than 100 bytes of memory each */
static char *many_arrays(size_t n)
{
    char *text = malloc(3 * n + 2);
    text[0] = '[';
    for (size_t i = 0; i < n; i++) {
        memcpy(text + 1 + 3 * i, "[],", 3);
    }
    text[3 * n] = ']';
    text[3 * n + 1] = '\0';
    return text;
}

TEST(memory_is_limited)
{
    char *text = many_arrays(3000000);
    CHECK_STATUS(parse(text), SKY_ERR_INPUT);
    CHECK(strstr(sky_message(), "memory") != NULL);
    free(text);
    text = many_arrays(100000);
    json_t *value = NULL;
    CHECK_OK(sky_json_parse(text, strlen(text), &value));
    json_decref(value);
    CHECK_STATUS(sky_json_parse_within(text, strlen(text), 1000000, &value), SKY_ERR_INPUT);
    free(text);
}

/* A long string is read through a buffer that doubles: what each step frees may be used by the next. */
TEST(what_a_parse_frees_is_counted_back)
{
    enum { LEN = 1000000 };
    char *text = malloc(LEN);
    memset(text, 'x', LEN);
    text[0] = text[LEN - 1] = '"';
    json_t *value = NULL;
    CHECK_OK(sky_json_parse_within(text, LEN, 2700000, &value));
    json_decref(value);
    CHECK_STATUS(sky_json_parse_within(text, LEN, 1900000, &value), SKY_ERR_INPUT);
    free(text);
}

TEST(each_parse_has_a_budget_of_its_own)
{
    char *text = many_arrays(3000);
    for (int i = 0; i < 300; i++) { /* 300 x 400 kB: over a budget that would not be given back */
        json_t *value = NULL;
        CHECK_OK(sky_json_parse_within(text, strlen(text), 1 << 20, &value));
        json_decref(value);
    }
    free(text);
    char *many = malloc(4 << 20);
    memset(many, 'x', 4 << 20);
    json_t *big = json_stringn(many, 4 << 20); /* outside of a parse nothing is limited */
    CHECK(big != NULL);
    json_decref(big);
    free(many);
}

static void *free_value(void *value)
{
    json_decref(value);
    return NULL;
}

TEST(a_value_may_be_freed_by_another_thread)
{
    json_t *value = NULL;
    CHECK_OK(sky_json_parse("[[1],{\"a\":\"b\"}]", 15, &value));
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, free_value, value) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
}

TEST(sizes_are_whole_and_at_most_2_to_the_53)
{
    static const struct {
        const char *text;
        bool ok;
        uint64_t value;
    } rows[] = {
        {"0", true, 0},
        {"9007199254740992", true, UINT64_C(9007199254740992)},
        {"9007199254740993", false, 0},
        {"-1", false, 0},
        {"1.0", false, 0},
        {"1e3", false, 0},
        {"true", false, 0},
        {"\"1\"", false, 0},
        {"null", false, 0},
        {"9223372036854775807", false, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        json_t *value = NULL;
        uint64_t size = 77;
        test_parameters("%s", rows[i].text);
        CHECK_OK(sky_json_parse(rows[i].text, strlen(rows[i].text), &value));
        EXPECT(sky_json_size(value, &size) == rows[i].ok);
        EXPECT(!rows[i].ok || size == rows[i].value);
        json_decref(value);
    }
    uint64_t size = 0;
    CHECK(!sky_json_size(NULL, &size));
}

TEST(files_are_read_and_named_in_messages)
{
    const char *path = test_temp_path("a.json");
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL);
    fputs("{\"a\": 1}", file);
    fclose(file);
    json_t *value = NULL;
    CHECK_OK(sky_json_load(path, 100, &value));
    json_decref(value);
    value = NULL;
    CHECK(sky_json_load(path, 3, &value) != SKY_OK);
    file = fopen(path, "wb");
    fputs("{\"a\": \x1b[31m}", file);
    fclose(file);
    CHECK_STATUS(sky_json_load(path, 100, &value), SKY_ERR_INPUT);
    CHECK(strstr(sky_message(), "a.json") != NULL && strchr(sky_message(), '\x1b') == NULL);
    CHECK_STATUS(sky_json_load(test_temp_path("none.json"), 100, &value), SKY_ERR_IO);
}

TEST_MAIN
