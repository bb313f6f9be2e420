#include "base/json_reader.h"

#include "base/utf8.h"

#include <errno.h>
#include <locale.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* What the text is about to have. */
typedef enum expectation {
    EXPECT_VALUE,
    EXPECT_VALUE_OR_END, /* behind '[' */
    EXPECT_KEY,
    EXPECT_KEY_OR_END, /* behind '{' */
    EXPECT_COMMA_OR_END,
    EXPECT_NOTHING,
} expectation;

static bool fail(sky_json_reader *r, const char *reason)
{
    r->reason = reason;
    return false;
}

/* The byte at `at`; 0, which no text has outside of strings, at its end. */
static unsigned char peek(const sky_json_reader *r)
{
    return r->at < r->len ? (unsigned char)r->text[r->at] : 0;
}

static void skip_space(sky_json_reader *r)
{
    while (peek(r) == ' ' || peek(r) == '\t' || peek(r) == '\n' || peek(r) == '\r') {
        r->at++;
    }
}

/* ---- strings ---- */

static bool read_hex4(sky_json_reader *r, uint32_t *out)
{
    uint32_t number = 0;
    for (int i = 0; i < 4; i++, r->at++) {
        const unsigned char c = peek(r);
        const unsigned char letter = c | 0x20;
        if (c >= '0' && c <= '9') {
            number = number << 4 | (uint32_t)(c - '0');
        } else if (letter >= 'a' && letter <= 'f') {
            number = number << 4 | (uint32_t)(letter - 'a' + 10);
        } else {
            return fail(r, "want four hexadecimal digits behind \\u");
        }
    }
    *out = number;
    return true;
}

/* Behind "\u"; writes at most 4 bytes for at least 6 of the text. */
static bool read_unicode(sky_json_reader *r, size_t *len)
{
    uint32_t point = 0;
    uint32_t low = 0;
    if (!read_hex4(r, &point)) {
        return false;
    }
    if (point >= 0xd800 && point <= 0xdbff) {
        if (r->len - r->at < 2 || memcmp(r->text + r->at, "\\u", 2) != 0) {
            return fail(r, "half of a surrogate pair");
        }
        r->at += 2;
        if (!read_hex4(r, &low)) {
            return false;
        }
        if (low < 0xdc00 || low > 0xdfff) {
            return fail(r, "half of a surrogate pair");
        }
        point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
    } else if (point >= 0xdc00 && point <= 0xdfff) {
        return fail(r, "half of a surrogate pair");
    }
    if (point == 0) {
        return fail(r, "\\u0000 in a string");
    }
    *len += sky_utf8_encode(point, r->scratch + *len);
    return true;
}

static bool read_escape(sky_json_reader *r, size_t *len)
{
    static const char letters[] = "\"\\/bfnrt";
    static const char meanings[] = "\"\\/\b\f\n\r\t";
    const unsigned char c = peek(r);
    if (c == 'u') {
        r->at++;
        return read_unicode(r, len);
    }
    const char *found = c != 0 ? strchr(letters, c) : NULL;
    if (found == NULL) {
        return fail(r, "no such escape in a string");
    }
    r->at++;
    r->scratch[(*len)++] = meanings[found - letters];
    return true;
}

/* From the opening quote; decodes into scratch, with a NUL behind it. */
static bool read_string(sky_json_reader *r, size_t *out_len)
{
    size_t len = 0;
    r->at++;
    for (;;) {
        if (r->at == r->len) {
            return fail(r, "a string without an end");
        }
        const unsigned char c = peek(r);
        if (c == '"') {
            break;
        }
        if (c < 0x20) {
            return fail(r, "a control character in a string");
        }
        if (c == '\\') {
            r->at++;
            if (!read_escape(r, &len)) {
                return false;
            }
            continue;
        }
        const size_t step = sky_utf8_sequence(r->text + r->at, r->len - r->at);
        if (step == 0) {
            return fail(r, "a string that is not UTF-8");
        }
        memcpy(r->scratch + len, r->text + r->at, step);
        len += step;
        r->at += step;
    }
    r->at++;
    r->scratch[len] = '\0';
    *out_len = len;
    return true;
}

/* ---- numbers and words ---- */

static locale_t plain_locale;

static void make_plain_locale(void)
{
    plain_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

/* A point is a point whatever the program's locale says. */
static double to_real(const char *text)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (pthread_once(&once, make_plain_locale) != 0 || plain_locale == (locale_t)0) {
        return strtod(text, NULL);
    }
    return strtod_l(text, NULL, plain_locale);
}

static size_t skip_digits(sky_json_reader *r)
{
    const size_t first = r->at;
    while (peek(r) >= '0' && peek(r) <= '9') {
        r->at++;
    }
    return r->at - first;
}

/* Moves behind a number; whether it has a fraction or an exponent. */
static bool skip_number(sky_json_reader *r, bool *is_real)
{
    *is_real = false;
    r->at += peek(r) == '-';
    const bool zero = peek(r) == '0';
    const size_t digits = skip_digits(r);
    if (digits == 0 || (zero && digits > 1)) {
        return fail(r, "a number that is none");
    }
    if (peek(r) == '.') {
        *is_real = true;
        r->at++;
        if (skip_digits(r) == 0) {
            return fail(r, "a number that is none");
        }
    }
    if (peek(r) == 'e' || peek(r) == 'E') {
        *is_real = true;
        r->at++;
        r->at += peek(r) == '+' || peek(r) == '-';
        if (skip_digits(r) == 0) {
            return fail(r, "a number that is none");
        }
    }
    return true;
}

static json_t *read_number(sky_json_reader *r)
{
    const size_t first = r->at;
    char text[SKY_JSON_MAX_NUMBER_BYTES + 1];
    bool is_real = false;
    if (!skip_number(r, &is_real)) {
        return NULL;
    }
    const size_t len = r->at - first;
    if (len > SKY_JSON_MAX_NUMBER_BYTES) {
        fail(r, "a number of more than 512 digits");
        return NULL;
    }
    memcpy(text, r->text + first, len);
    text[len] = '\0';
    if (!is_real) {
        errno = 0;
        const long long number = strtoll(text, NULL, 10);
        if (errno != 0) {
            fail(r, "a whole number that does not fit into 64 bits");
            return NULL;
        }
        return json_integer(number);
    }
    const double number = to_real(text);
    if (number > 1.7976931348623157e308 || number < -1.7976931348623157e308) {
        fail(r, "a number that is too large");
        return NULL;
    }
    return json_real(number);
}

static json_t *read_word(sky_json_reader *r)
{
    static const char *const words[] = {"true", "false", "null"};
    for (int i = 0; i < 3; i++) {
        const size_t len = strlen(words[i]);
        if (r->len - r->at >= len && memcmp(r->text + r->at, words[i], len) == 0) {
            r->at += len;
            return i == 0 ? json_true() : i == 1 ? json_false() : json_null();
        }
    }
    fail(r, r->at == r->len ? "the text ends early" : "want a value");
    return NULL;
}

/* ---- values ---- */

static json_t *read_scalar(sky_json_reader *r)
{
    const unsigned char c = peek(r);
    if (c == '"') {
        size_t len = 0;
        return read_string(r, &len) ? json_stringn_nocheck(r->scratch, len) : NULL;
    }
    return c == '-' || (c >= '0' && c <= '9') ? read_number(r) : read_word(r);
}

/* Reads a key and its colon, and gives it a place in the object around it. */
static bool read_key(sky_json_reader *r, void **place)
{
    json_t *object = r->open[r->depth - 1];
    size_t len = 0;
    if (peek(r) != '"') {
        return fail(r, "want a key");
    }
    if (!read_string(r, &len)) {
        return false;
    }
    if (json_object_get(object, r->scratch) != NULL) {
        return fail(r, "a key that the object has already");
    }
    skip_space(r);
    if (peek(r) != ':') {
        return fail(r, "want ':' behind a key");
    }
    r->at++;
    if (json_object_set_new_nocheck(object, r->scratch, json_null()) != 0) {
        return fail(r, NULL);
    }
    *place = json_object_iter_at(object, r->scratch);
    return true;
}

/* Takes value. place is that of read_key() in an object. */
static bool add_value(sky_json_reader *r, json_t **root, void *place, json_t *value)
{
    if (r->depth == 0) {
        *root = value;
        return true;
    }
    json_t *parent = r->open[r->depth - 1];
    const int failed =
        json_is_array(parent) ? json_array_append_new(parent, value) : json_object_iter_set_new(parent, place, value);
    return failed == 0 || fail(r, NULL);
}

/* An array or object, empty so far. */
static bool open_container(sky_json_reader *r, json_t **root, void *place)
{
    if (r->depth == SKY_JSON_MAX_DEPTH) {
        return fail(r, "nested more than 64 deep");
    }
    json_t *container = peek(r) == '[' ? json_array() : json_object();
    if (container == NULL || !add_value(r, root, place, container)) {
        return fail(r, NULL);
    }
    r->open[r->depth++] = container;
    r->at++;
    return true;
}

static expectation after_value(const sky_json_reader *r)
{
    return r->depth == 0 ? EXPECT_NOTHING : EXPECT_COMMA_OR_END;
}

/* Behind a value or an opening bracket: whether what is open ends here. */
static bool close_container(sky_json_reader *r)
{
    if (peek(r) != (json_is_array(r->open[r->depth - 1]) ? ']' : '}')) {
        return false;
    }
    r->depth--;
    r->at++;
    return true;
}

static bool read_value(sky_json_reader *r, json_t **root, void *place, expectation *next)
{
    if (peek(r) == '[' || peek(r) == '{') {
        *next = peek(r) == '[' ? EXPECT_VALUE_OR_END : EXPECT_KEY_OR_END;
        return open_container(r, root, place);
    }
    json_t *value = read_scalar(r);
    if (value == NULL || !add_value(r, root, place, value)) {
        return false;
    }
    *next = after_value(r);
    return true;
}

static bool read_comma(sky_json_reader *r, expectation *next)
{
    if (peek(r) != ',') {
        return fail(r, r->at == r->len ? "the text ends early" : "want ',' or the end of what is open");
    }
    r->at++;
    *next = json_is_array(r->open[r->depth - 1]) ? EXPECT_VALUE : EXPECT_KEY;
    return true;
}

static bool read_all(sky_json_reader *r, json_t **root)
{
    expectation now = EXPECT_VALUE;
    void *place = NULL;
    while (now != EXPECT_NOTHING) {
        skip_space(r);
        if (now != EXPECT_VALUE && now != EXPECT_KEY && close_container(r)) {
            now = after_value(r);
            continue;
        }
        if (now == EXPECT_KEY || now == EXPECT_KEY_OR_END) {
            if (!read_key(r, &place)) {
                return false;
            }
            now = EXPECT_VALUE;
        } else if (now == EXPECT_COMMA_OR_END) {
            if (!read_comma(r, &now)) {
                return false;
            }
        } else if (!read_value(r, root, place, &now)) {
            return false;
        }
    }
    skip_space(r);
    return r->at == r->len || fail(r, "something behind the end");
}

json_t *sky_json_read(sky_json_reader *reader)
{
    json_t *root = NULL;
    reader->at = 0;
    reader->depth = 0;
    reader->reason = NULL;
    if (!read_all(reader, &root)) {
        json_decref(root);
        return NULL;
    }
    return root;
}
