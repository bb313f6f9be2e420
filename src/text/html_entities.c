#include "text/html_entities.h"

#include <stdlib.h>
#include <string.h>

typedef struct html_entity {
    const char *name; /* without '&'; with ';' where the name has one */
    const char *text; /* UTF-8 */
} html_entity;

#include "text/html_entities.inc"

enum {
    MAX_NAME_LEN = 32,      /* of html.unescape's pattern, the semicolon not counted */
    MAX_FTFY_NAME_LEN = 24, /* of ftfy's */
    PAST_UNICODE = 0x110000,
};

/* A name of len bytes, not terminated, as bsearch() gets it. */
typedef struct name_key {
    const char *text;
    size_t len;
} name_key;

static int compare_name(const void *key, const void *element)
{
    const name_key *name = key;
    const html_entity *entity = element;
    const int order = strncmp(name->text, entity->name, name->len);
    return order != 0 ? order : -(entity->name[name->len] != '\0');
}

static const char *find(const html_entity *table, size_t count, const char *name, size_t len)
{
    const name_key key = {name, len};
    const html_entity *entity = bsearch(&key, table, count, sizeof *table, compare_name);
    return entity == NULL ? NULL : entity->text;
}

static const char *find_html5(const char *name, size_t len)
{
    return find(html5_entities, sizeof html5_entities / sizeof html5_entities[0], name, len);
}

static const char *find_upper(const char *name, size_t len)
{
    return find(upper_entities, sizeof upper_entities / sizeof upper_entities[0], name, len);
}

static int digit_value(uint32_t c)
{
    if (c >= '0' && c <= '9') {
        return (int)(c - '0');
    }
    if ((c | 0x20U) >= 'a' && (c | 0x20U) <= 'f') {
        return (int)((c | 0x20U) - 'a') + 10;
    }
    return -1;
}

/* Reads "&#123" or "&#x7b" without its semicolon; returns the length up to there, 0 where it is none. */
static size_t parse_number(const uint32_t *text, size_t len, uint32_t *number)
{
    if (len < 3 || text[1] != '#') {
        return 0;
    }
    const bool hex = (text[2] | 0x20U) == 'x';
    const int base = hex ? 16 : 10;
    const size_t first = hex ? 3 : 2;
    size_t i = first;
    uint32_t value = 0;
    for (; i < len; i++) {
        const int digit = digit_value(text[i]);
        if (digit < 0 || digit >= base) {
            break;
        }
        value = value * (uint32_t)base + (uint32_t)digit;
        value = value < PAST_UNICODE ? value : PAST_UNICODE;
    }
    *number = value;
    return i > first ? i : 0;
}

static sky_status push_number(uint32_t number, sky_codepoints *out)
{
    if (number == 0 || (number >= 0xd800 && number <= 0xdfff) || number >= PAST_UNICODE) {
        return sky_codepoints_push(out, 0xfffd);
    }
    number = sky_c1_as_windows_1252(number);
    const bool control = number < 0x20 && number != '\t' && number != '\n' && number != '\f' && number != '\r';
    if (control || number == 0x7f || (number >= 0xfdd0 && number <= 0xfdef) || (number & 0xfffeU) == 0xfffe) {
        return SKY_OK;
    }
    return sky_codepoints_push(out, number);
}

static bool ends_name(uint32_t c)
{
    return c == '\t' || c == '\n' || c == '\f' || c == ' ' || c == '<' || c == '&' || c == '#' || c == ';';
}

/* Decodes the reference at text[0] == '&' and says how many code points it took; 0 where it is none. */
static sky_status unescape_one(const uint32_t *text, size_t len, sky_codepoints *out, size_t *used)
{
    uint32_t number = 0;
    *used = parse_number(text, len, &number);
    if (*used > 0) {
        *used += *used < len && text[*used] == ';';
        return push_number(number, out);
    }
    /* What the pattern takes, and of that the ASCII part: no name goes further. */
    char name[MAX_NAME_LEN + 1];
    size_t taken = 0;
    size_t ascii = 0;
    while (taken < MAX_NAME_LEN && 1 + taken < len && !ends_name(text[1 + taken])) {
        if (ascii == taken && text[1 + taken] < 0x80) {
            name[ascii++] = (char)text[1 + taken];
        }
        taken++;
    }
    if (taken == 0) {
        return SKY_OK;
    }
    if (1 + taken < len && text[1 + taken] == ';') {
        if (ascii == taken) {
            name[ascii++] = ';';
        }
        taken++;
    }
    /* The whole of it may be one character long, a prefix not (range(len(s) - 1, 1, -1)); no name is so short. */
    for (size_t prefix = ascii; prefix > 1; prefix--) {
        const char *found = find_html5(name, prefix);
        if (found != NULL) {
            *used = 1 + taken;
            SKY_TRY(sky_codepoints_append_utf8(out, found, strlen(found)));
            for (size_t i = prefix; i < taken; i++) {
                SKY_TRY(sky_codepoints_push(out, text[1 + i]));
            }
            return SKY_OK;
        }
    }
    return SKY_OK;
}

/* The same for ftfy. */
static sky_status unescape_one_ftfy(const uint32_t *text, size_t len, sky_codepoints *out, size_t *used)
{
    *used = 0;
    uint32_t number = 0;
    const size_t number_end = parse_number(text, len, &number);
    if (number_end > 0) {
        /* At most 24 letters and digits; ";" itself stays as it is (ftfy: the semicolon should be consumed). */
        if (number_end < len && text[number_end] == ';' && number_end - 2 <= MAX_FTFY_NAME_LEN && number != ';') {
            *used = number_end + 1;
            return push_number(number, out);
        }
        return SKY_OK;
    }
    char name[MAX_FTFY_NAME_LEN + 1];
    size_t n = 0;
    while (n < MAX_FTFY_NAME_LEN && 1 + n < len && text[1 + n] < 0x80) {
        const uint32_t c = text[1 + n];
        if (!((c >= '0' && c <= '9') || ((c | 0x20U) >= 'a' && (c | 0x20U) <= 'z'))) {
            break;
        }
        name[n++] = (char)c;
    }
    if (n == 0 || 1 + n >= len || text[1 + n] != ';') {
        return SKY_OK;
    }
    name[n++] = ';';
    const char *found = find_html5(name, n);
    found = found != NULL ? found : find_upper(name, n);
    if (found == NULL) {
        return SKY_OK;
    }
    *used = 1 + n;
    return sky_codepoints_append_utf8(out, found, strlen(found));
}

typedef sky_status (*decode_fn)(const uint32_t *text, size_t len, sky_codepoints *out, size_t *used);

static sky_status unescape(const uint32_t *text, size_t len, decode_fn decode, sky_codepoints *out)
{
    for (size_t i = 0; i < len;) {
        size_t used = 0;
        if (text[i] == '&') {
            SKY_TRY(decode(text + i, len - i, out, &used));
        }
        if (used == 0) {
            SKY_TRY(sky_codepoints_push(out, text[i]));
            used = 1;
        }
        i += used;
    }
    return SKY_OK;
}

sky_status sky_html_unescape(const uint32_t *text, size_t len, sky_codepoints *out)
{
    return unescape(text, len, unescape_one, out);
}

sky_status sky_html_unescape_ftfy(const uint32_t *text, size_t len, sky_codepoints *out)
{
    return unescape(text, len, unescape_one_ftfy, out);
}
