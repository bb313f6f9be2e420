#include "support/test.h"
#include "text/text_clean.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct text_case {
    const char *text;
    const char *clean;
} text_case;

static void check_all(const text_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char *clean = NULL;
        test_parameters("case %zu: %s", i, cases[i].text);
        CHECK_OK(sky_text_clean(cases[i].text, &clean));
        if (strcmp(clean, cases[i].clean) != 0) {
            test_fail(__FILE__, __LINE__, "want \"%s\", got \"%s\"", cases[i].clean, clean);
        }
        free(clean);
    }
}
#define CHECK_ALL(cases) check_all(cases, sizeof(cases) / sizeof((cases)[0]))

/* What follows is what ftfy 6.3.1 (fix_encoding off), html and re of Python 3.11 make of the texts. */

TEST(white_space_is_collapsed)
{
    static const text_case cases[] = {
        {"", ""},
        {" \t\r\n ", ""},
        {"  a\t\n b\xc2\xa0\xe2\x80\x83"
         "c ",
         "a b c"},
        {"a\xe2\x80\xa8"
         "b\xe2\x80\xa9"
         "c\rd\r\ne",
         "a b c d e"}, /* U+2028, U+2029 */
        {"a\xe3\x80\x80"
         "b",
         "a b"}, /* U+3000 */
        {"a\xe2\x80\x8b"
         "b",
         "a\xe2\x80\x8b"
         "b"}, /* U+200B is no white space */
        {"a\x0c"
         "b\x1c"
         "c\x0b"
         "d",
         "a bcd"}, /* form feed stays, the others are control characters */
    };
    CHECK_ALL(cases);
}

TEST(entities_with_a_semicolon)
{
    static const text_case cases[] = {
        {"&lt;tag&gt; &amp; &quot;q&quot; &#39; &#x41;", "<tag> & \"q\" ' A"},
        {"&amp;lt;b&amp;gt;", "<b>"},
        {"&amp;amp;amp;amp;amp;lt;", "<"},                             /* ftfy goes round until nothing changes */
        {"<i> &amp;amp;amp;amp;amp;lt;", "<i> &amp;amp;amp;lt;"},      /* a '<': only html.unescape twice */
        {"a &amp;amp;amp;lt;\n<\n&amp;amp;amp;lt;", "a < < &amp;lt;"}, /* and for all lines behind it */
        {"&Jscr;ohn &HilbertSpace;ancock", "\xf0\x9d\x92\xa5ohn \xe2\x84\x8b"
                                           "ancock"},
        {"P&EACUTE;REZ BUNDESSTRA&SZLIG;E &nTILDE;", "P\xc3\x89REZ BUNDESSTRASSE &nTILDE;"},
        {"< P&EACUTE;REZ", "< P&EACUTE;REZ"}, /* only ftfy knows those */
        {"&ngE;", "\xe2\x89\xa7\xcc\xb8"},    /* two characters */
        {"&CounterClockwiseContourIntegral;", "\xe2\x88\xb3"},
        {"&notanentity; &; &#; &#x; &", "\xc2\xac"
                                        "anentity; &; &#; &#x; &"},
    };
    CHECK_ALL(cases);
}

TEST(entities_without_a_semicolon)
{
    static const text_case cases[] = {
        {"&amp", "&"},
        {"&ampx", "&x"},
        {"&amplt;", "<"}, /* "&lt;" after the first round */
        {"&notit;", "\xc2\xacit;"},
        {"&notin;", "\xe2\x88\x89"},
        {"&notin", "\xc2\xacin"},
        {"this&not that", "this\xc2\xac that"},
        {"&frac12ish &frac1", "\xc2\xbdish &frac1"},
        {"R&D AT&T &gtx", "R&D AT&T >x"},
        {"&am\xc3\xa9p", "&am\xc3\xa9p"},
        {"&amp\xc3\xa9", "&\xc3\xa9"},
    };
    CHECK_ALL(cases);
}

TEST(numeric_references)
{
    static const text_case cases[] = {
        {"&#128;&#x99;", "\xe2\x82\xac\xe2\x84\xa2"}, /* by Windows-1252 */
        {"&#129;", "\xc2\x81"},                       /* which has nothing there */
        {"&#0;&#xD800;&#x110000;&#99999999999999999999999;", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"a&#1;b&#x0b;c&#xFFFE;d&#x1FFFF;e&#xFDD0;f", "abcdef"},
        {"a&#13;b&#10;c&#9;d", "a b c d"},
        {"&#65 &#x41g &#0000000065;", "A Ag A"},
        {"&#59;", ";"}, /* ftfy leaves it, html.unescape does not */
        {"&amp;#38;lt;", "<"},
        {"&amp&#59;lt;", "&;lt;"},
        {"&#000000000000000000000038;amp;lt;", "<"},     /* 24 digits: ftfy decodes it, and what comes of it */
        {"&#0000000000000000000000038;amp;lt;", "&lt;"}, /* 25: only html.unescape, twice */
        {"&#4294967361;&#x100000041;", "\xef\xbf\xbd\xef\xbf\xbd"}, /* 2^32 + 65 */
        {"&#x1F680;", "\xf0\x9f\x9a\x80"},
    };
    CHECK_ALL(cases);
}

TEST(characters_are_replaced)
{
    static const text_case cases[] = {
        {"\xe2\x80\x9cquoted\xe2\x80\x9d \xe2\x80\x98q\xe2\x80\x99 \xca\xbc", "\"quoted\" 'q' '"},
        {"\xef\xac\x82ubberi\xef\xac\x81"
         "c \xef\xac\x83 \xef\xac\x84 \xef\xac\x85 \xef\xac\x86",
         "flubberific ffi ffl \xc5\xbft st"},
        {"\xc5\x89 \xc7\x84 \xc4\xb2", "'n D\xc5\xbd IJ"},
        {"\xef\xbc\xa1\xef\xbc\xa2\xef\xbc\x8c\xef\xbd\xb6\xef\xbe\x9e",
         "AB,\xe3\x82\xac"}, /* half-width ga composes */
        {"x\xef\xbf\xa3", "x \xcc\x84"},
        {"\xc2\x85\xc2\x93\xc2\x81", "\xe2\x80\xa6\"\xc2\x81"}, /* C1 controls as Windows-1252, then uncurled */
        {"e\xcc\x81 \xe2\x84\xab \xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8", "\xc3\xa9 \xc3\x85 \xea\xb0\x81"}, /* NFC */
        {"a\xcc\x81\xcc\xa3", "\xe1\xba\xa1\xcc\x81"}, /* marks are ordered by class */
        {"\xe0\xa5\x98", "\xe0\xa4\x95\xe0\xa4\xbc"},  /* an excluded composition comes apart */
    };
    CHECK_ALL(cases);
}

TEST(controls_are_removed)
{
    static const text_case cases[] = {
        {"\x1b[36;44mblue\x1b[0m \x1b[m", "blue"},
        {"\x1b[\xd9\xa3m.", "."}, /* any decimal digit */
        {"\x1b[1", "[1"},
        {"\x1b[;1!", "[;1!"},
        {"\x01"
         "a\x08"
         "b\x0e"
         "c\x1f"
         "d\x7f"
         "e",
         "abcde"},
        {"\xef\xbb\xbfx\xe2\x81\xaay\xef\xbf\xb9z\xef\xbf\xbc", "xyz"}, /* U+FEFF, U+206A, U+FFF9, U+FFFC */
        {"\x1b\x01[0m", "[0m"},                    /* no escape, and not one once the controls are gone */
        {"x\xef\xbc\x9by&lt\xef\xbc\x9b", "x;y<"}, /* the full-width ';' ends an entity in the next round */
    };
    CHECK_ALL(cases);
}

TEST(what_is_not_utf8_is_refused)
{
    static const struct {
        const char *text;
        const char *place;
    } cases[] = {
        {"\xff", "byte 0 is 0xff"},     {"ab\x80", "byte 2 is 0x80"},        {"abc\xc3", "byte 3 is 0xc3"},
        {"\xc0\xaf", "byte 0 is 0xc0"}, {"x\xed\xa0\x80", "byte 1 is 0xed"}, {"\xf4\x90\x80\x80", "byte 0 is 0xf4"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *clean = NULL;
        test_parameters("case %zu", i);
        CHECK_STATUS(sky_text_clean(cases[i].text, &clean), SKY_ERR_USAGE);
        CHECK(clean == NULL);
        CHECK(strstr(sky_message(), cases[i].place) != NULL);
    }
}

/* count times `unit`, in new memory. */
static char *repeat(const char *unit, size_t count)
{
    const size_t len = strlen(unit);
    char *text = malloc(len * count + 1);
    for (size_t i = 0; text != NULL && i < count; i++) {
        memcpy(text + i * len, unit, len);
    }
    if (text != NULL) {
        text[len * count] = '\0';
    }
    return text;
}

TEST(long_texts)
{
    static const char *const units[] = {"a",    "a b ", "&", "\n", "e\xcc\x81", "\xcc\x81\xcc\xa3", "\xe0\xa5\x98",
                                        "&ngE;"};
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        char *text = repeat(units[i], SKY_PROMPT_MAX_BYTES / strlen(units[i]));
        char *clean = NULL;
        test_parameters("unit %zu", i);
        CHECK(text != NULL);
        const sky_status st = sky_text_clean(text, &clean);
        free(text);
        free(clean);
        CHECK_OK(st);
    }
}

TEST(texts_that_are_too_much_are_refused)
{
    char *clean = NULL;
    char *text = repeat("a", SKY_PROMPT_MAX_BYTES + 1);
    CHECK(text != NULL);
    sky_status st = sky_text_clean(text, &clean);
    free(text);
    CHECK_STATUS(st, SKY_ERR_USAGE);

    text = repeat("amp;", SKY_PROMPT_MAX_BYTES / 4);
    CHECK(text != NULL);
    memcpy(text, "   &", 4); /* "&amp;amp;amp;..." */
    st = sky_text_clean(text, &clean);
    free(text);
    CHECK_STATUS(st, SKY_ERR_USAGE);
    CHECK(clean == NULL);
}

TEST_MAIN
