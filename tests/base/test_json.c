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

/* Read through a buffer of its length, which is counted too. */
TEST(a_long_string_needs_its_length_twice)
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

/* {"a":TOKEN}, the token one of the kind made of `len` times the same letter. */
static char *long_token(const char *begin, char letter, size_t len, const char *end)
{
    const size_t room = len + 64;
    char *text = malloc(room);
    const size_t first = (size_t)snprintf(text, room, "{\"a\":%s", begin);
    memset(text + first, letter, len);
    snprintf(text + first + len, room - first - len, "%s}", end);
    return text;
}

/* Tokens whose buffer the budget refuses, or that are longer than anything means: Jansson's reader wrote past its block. */
TEST(long_tokens_are_refused_or_read)
{
    static const struct {
        const char *begin, *end;
        char letter;
        sky_status st;
    } rows[] = {
        {"\"", "\"", 'y', SKY_OK},     {"\"", "", 'y', SKY_ERR_INPUT},  {"{\"", "\":1}", 'k', SKY_OK},
        {"", "", '1', SKY_ERR_INPUT},  {"1.5", "", '5', SKY_ERR_INPUT}, {"1e", "", '0', SKY_ERR_INPUT},
        {"t", "", 't', SKY_ERR_INPUT}, {"\"\\", "\"", '\\', SKY_OK}, /* an even number of backslashes */
    };
    static const size_t lens[] = {17000001, 33554431, 33554433, 40000001};
    for (size_t l = 0; l < sizeof lens / sizeof lens[0]; l++) {
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
            char *text = long_token(rows[i].begin, rows[i].letter, lens[l], rows[i].end);
            test_parameters("%s%c... of %zu", rows[i].begin, rows[i].letter, lens[l]);
            EXPECT(parse(text) == rows[i].st);
            free(text);
        }
    }
}

/* Wherever memory runs out, it is that which is told, and nothing is written past a block (asan). */
TEST(every_budget_is_right_or_refused)
{
    static const char text[] = "{\"key\":[\"a string of some length, longer than a small block, to be copied\",1,2.5,"
                               "{\"another key of some length, to be copied\":{}}],\"b\":[[],[],[],[],[],[],[],[],[]]}";
    int refused = 0;
    for (uint64_t budget = 0; budget < 4000; budget += 8) {
        json_t *value = NULL;
        const sky_status st = sky_json_parse_within(text, sizeof text - 1, budget, &value);
        test_parameters("budget=%llu", (unsigned long long)budget);
        CHECK(st == SKY_OK || (st == SKY_ERR_INPUT && strstr(sky_message(), "need more than") != NULL));
        refused += st != SKY_OK;
        json_decref(value);
    }
    CHECK(refused > 100 && refused < 499);
}

TEST(escapes_and_numbers_are_decoded)
{
    json_t *value = NULL;
    const char *text = "[\"\\b\\f\\n\\r\\t\\/\\\\\\\"\\u00E4\\ud83d\\ude00\", -0, -9223372036854775808, 2.5E-1, 1e2]";
    CHECK_OK(sky_json_parse(text, strlen(text), &value));
    CHECK(strcmp(json_string_value(json_array_get(value, 0)), "\b\f\n\r\t/\\\"\xc3\xa4\xf0\x9f\x98\x80") == 0);
    CHECK(json_integer_value(json_array_get(value, 1)) == 0);
    CHECK(json_integer_value(json_array_get(value, 2)) == INT64_MIN);
    CHECK(json_real_value(json_array_get(value, 3)) == 0.25 && json_real_value(json_array_get(value, 4)) == 100.0);
    json_decref(value);
    static const char *const bad[] = {"[1.]",
                                      "[.5]",
                                      "[1e]",
                                      "[-]",
                                      "[+1]",
                                      "[00]",
                                      "[1 2]",
                                      "{\"a\":1 \"b\":2}",
                                      "{1:2}",
                                      "[\"\\x\"]",
                                      "[\"\\u12g4\"]",
                                      "[\"\\ude00\"]",
                                      "[\"\\ud83dx\"]",
                                      "{\"a\":1,}",
                                      "[,]",
                                      "[}",
                                      "{]",
                                      "[1",
                                      "{\"a\":",
                                      "{\"a\"",
                                      "truefalse",
                                      "[-9223372036854775809]",
                                      "[\"\x7f\xff\"]"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        test_parameters("%s", bad[i]);
        EXPECT(parse(bad[i]) == SKY_ERR_INPUT);
    }
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
