#include "base/log.h"
#include "base/utf8.h"
#include "support/test.h"

#include <stdio.h>
#include <string.h>

typedef struct row {
    const char *text, *printable, *name;
} row;

static const row rows[] = {
    {"plain", "plain", "plain"},
    {"\xc3\xa4\xe4\xbd\xa0\xf0\x9f\x98\x80", "\xc3\xa4\xe4\xbd\xa0\xf0\x9f\x98\x80",
     "\xc3\xa4\xe4\xbd\xa0\xf0\x9f\x98\x80"},
    {"a\x1b[31mb", "a?[31mb", "a[31mb"},
    {"a\xc2\x9b"
     "31mb",
     "a?31mb", "a31mb"}, /* C1: a control sequence without ESC */
    {"a\x07\x7f", "a??", "a"},
    {"a\nb\tc\r", "a b c ", "a b c"},
    {"\xef\xbb\xbf A", "? A", "A"}, /* byte order mark */
    {"a\xe2\x80\xae"
     "b\xe2\x81\xa6",
     "a?b?", "ab"}, /* directions */
    {"a\xe2\x80\x8b"
     "b\xc2\xad",
     "a?b?", "ab"},                   /* zero width space, soft hyphen */
    {"a\xf3\xa0\x80\xa1", "a?", "a"}, /* a tag */
    {"mod\xe8le", "mod?le", "modle"}, /* Latin-1 */
    {"\xc3", "?", ""},
    {"\xed\xa0\x80\xc0\xaf", "?????", ""}, /* a surrogate, an overlong slash */
    {"  x  ", "  x  ", "x"},
    {"", "", ""},
};

TEST(text_becomes_printable)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[64];
        test_parameters("row %zu", i);
        snprintf(text, sizeof text, "%s", rows[i].text);
        sky_utf8_make_printable(text);
        EXPECT(strcmp(text, rows[i].printable) == 0);
        snprintf(text, sizeof text, "%s", rows[i].text);
        sky_utf8_make_name(text);
        EXPECT(strcmp(text, rows[i].name) == 0);
    }
}

static void keep_line(void *user, sky_log_level level, const char *line)
{
    (void)level;
    snprintf(user, 64, "%s", line);
}

/* Whatever a message or a line of the log quotes, and wherever. */
TEST(messages_and_lines_are_printable)
{
    char line[64];
    const sky_log log = {.write = keep_line, .user = line};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        test_parameters("row %zu", i);
        (void)sky_fail(SKY_ERR_INPUT, "%s", rows[i].text);
        EXPECT(strcmp(sky_message(), rows[i].printable) == 0);
        (void)sky_fail(SKY_ERR_INPUT, "x");
        (void)sky_fail_in(SKY_ERR_INPUT, "%s", rows[i].text);
        EXPECT(strncmp(sky_message(), rows[i].printable, strlen(rows[i].printable)) == 0);
        sky_log_line(&log, SKY_LOG_WARNING, "%s", rows[i].text);
        EXPECT(strcmp(line, rows[i].printable) == 0);
    }
}

/* A message that is too long is cut, and still UTF-8. */
TEST(a_long_message_is_cut_between_characters)
{
    char text[4001] = "";
    size_t bad = 0;
    for (int i = 0; i < 1000; i++) {
        memcpy(text + 4 * i, "\xf0\x9f\x98\x80", 4);
    }
    for (int shift = 0; shift < 4; shift++) {
        (void)sky_fail(SKY_ERR_INPUT, "%.*s%s", shift, "xxx", text);
        CHECK(strlen(sky_message()) > 1900 && sky_utf8_valid(sky_message(), strlen(sky_message()), &bad));
        (void)sky_fail_in(SKY_ERR_INPUT, "%s", text);
        CHECK(strlen(sky_message()) > 1900 && sky_utf8_valid(sky_message(), strlen(sky_message()), &bad));
    }
}

static sky_status fail_later(void)
{
    sky_status st = sky_fail(SKY_ERR_INPUT, "deep");
    SKY_KEEP_FIRST(st, sky_fail(SKY_ERR_IO, "deeper"));
    return sky_fail_in(st, "later");
}

/* What fails afterwards changes neither the status nor a word of the message. */
TEST(the_first_failure_keeps_its_message)
{
    sky_status st = sky_fail(SKY_ERR_NOMEM, "first");
    SKY_KEEP_FIRST(st, fail_later());
    CHECK(st == SKY_ERR_NOMEM && strcmp(sky_message(), "first") == 0);
    st = SKY_OK;
    SKY_KEEP_FIRST(st, fail_later());
    CHECK(st == SKY_ERR_INPUT && strcmp(sky_message(), "later: deep") == 0);
    SKY_KEEP_FIRST(st, SKY_OK);
    CHECK(st == SKY_ERR_INPUT && strcmp(sky_message(), "later: deep") == 0);
    (void)sky_fail(SKY_ERR_IO, "new");
    CHECK(strcmp(sky_message(), "new") == 0);
}

TEST(utf8_is_told_from_what_is_not)
{
    static const struct {
        const char *text;
        bool valid;
    } cases[] = {{"", true},
                 {"a\xc2\x80", true},
                 {"\xe0\xa0\x80", true},
                 {"\xef\xbf\xbf", true},
                 {"\xf4\x8f\xbf\xbf", true},
                 {"\x80", false},
                 {"\xc1\xbf", false},
                 {"\xe0\x9f\xbf", false},
                 {"\xed\xa0\x80", false},
                 {"\xf0\x8f\xbf\xbf", false},
                 {"\xf4\x90\x80\x80", false},
                 {"\xf5\x80\x80\x80", false},
                 {"\xe4\xbd", false},
                 {"\xff", false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t bad = 99;
        test_parameters("case %zu", i);
        EXPECT(sky_utf8_valid(cases[i].text, strlen(cases[i].text), &bad) == cases[i].valid);
        EXPECT(cases[i].valid || bad == 0);
    }
    for (uint32_t c = 1; c < 0x110000; c += c < 0x900 ? 1 : 61) {
        char text[4];
        uint32_t back = 0;
        if (c >= 0xd800 && c <= 0xdfff) {
            continue;
        }
        const size_t len = sky_utf8_encode(c, text);
        test_parameters("U+%04X", (unsigned)c);
        CHECK(sky_utf8_sequence(text, len) == len && sky_utf8_decode(text, &back) == len && back == c);
        CHECK(len == 1 || sky_utf8_sequence(text, len - 1) == 0);
    }
}

TEST_MAIN
