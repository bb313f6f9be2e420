#include "base/utf8.h"

#include <string.h>

size_t sky_utf8_sequence(const char *text, size_t left)
{
    static const struct {
        unsigned char first, last, len, second_min, second_max;
    } rows[] = {
        {0xc2, 0xdf, 2, 0x80, 0xbf}, {0xe0, 0xe0, 3, 0xa0, 0xbf}, {0xe1, 0xec, 3, 0x80, 0xbf},
        {0xed, 0xed, 3, 0x80, 0x9f}, {0xee, 0xef, 3, 0x80, 0xbf}, {0xf0, 0xf0, 4, 0x90, 0xbf},
        {0xf1, 0xf3, 4, 0x80, 0xbf}, {0xf4, 0xf4, 4, 0x80, 0x8f},
    };
    const unsigned char *s = (const unsigned char *)text;
    if (s[0] < 0x80) {
        return 1;
    }
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        if (s[0] < rows[r].first || s[0] > rows[r].last) {
            continue;
        }
        const size_t len = rows[r].len;
        if (len > left || s[1] < rows[r].second_min || s[1] > rows[r].second_max) {
            return 0;
        }
        for (size_t i = 2; i < len; i++) {
            if ((s[i] & 0xc0U) != 0x80U) {
                return 0;
            }
        }
        return len;
    }
    return 0;
}

bool sky_utf8_valid(const char *text, size_t len, size_t *bad)
{
    for (size_t i = 0; i < len;) {
        const size_t step = sky_utf8_sequence(text + i, len - i);
        if (step == 0) {
            *bad = i;
            return false;
        }
        i += step;
    }
    return true;
}

size_t sky_utf8_decode(const char *text, uint32_t *codepoint)
{
    const unsigned char *s = (const unsigned char *)text;
    const size_t len = sky_utf8_len(text[0]);
    switch (len) {
    case 1:
        *codepoint = s[0];
        break;
    case 2:
        *codepoint = (s[0] & 0x1fU) << 6 | (s[1] & 0x3fU);
        break;
    case 3:
        *codepoint = (s[0] & 0x0fU) << 12 | (s[1] & 0x3fU) << 6 | (s[2] & 0x3fU);
        break;
    default:
        *codepoint = (s[0] & 0x07U) << 18 | (s[1] & 0x3fU) << 12 | (s[2] & 0x3fU) << 6 | (s[3] & 0x3fU);
        break;
    }
    return len;
}

size_t sky_utf8_encode(uint32_t codepoint, char out[4])
{
    static const unsigned char leads[5] = {0, 0x00, 0xc0, 0xe0, 0xf0};
    const size_t len = codepoint < 0x80 ? 1 : codepoint < 0x800 ? 2 : codepoint < 0x10000 ? 3 : 4;
    for (size_t i = len - 1; i > 0; i--) {
        out[i] = (char)(0x80U | (codepoint & 0x3fU));
        codepoint >>= 6;
    }
    out[0] = (char)(leads[len] | codepoint);
    return len;
}

bool sky_utf8_shows(uint32_t codepoint)
{
    static const struct {
        uint32_t first, last;
    } hidden[] = {
        {0x00, 0x1f},     {0x7f, 0x9f},       {0xad, 0xad},       {0x34f, 0x34f},     {0x61c, 0x61c},
        {0x115f, 0x1160}, {0x17b4, 0x17b5},   {0x180b, 0x180f},   {0x200b, 0x200f},   {0x2028, 0x202e},
        {0x2060, 0x206f}, {0x3164, 0x3164},   {0xfeff, 0xfeff},   {0xffa0, 0xffa0},   {0xfff0, 0xfffb},
        {0xfffe, 0xffff}, {0x1bca0, 0x1bca3}, {0x1d173, 0x1d17a}, {0xe0000, 0xe0fff},
    };
    for (size_t i = 0; i < sizeof hidden / sizeof hidden[0]; i++) {
        if (codepoint >= hidden[i].first && codepoint <= hidden[i].last) {
            return false;
        }
    }
    return true;
}

/* replacement: of what is no UTF-8 or does not show; 0: nothing. */
static void clean(char *text, char replacement)
{
    size_t left = strlen(text);
    const char *from = text;
    char *to = text;
    while (left > 0) {
        size_t step = sky_utf8_sequence(from, left);
        uint32_t codepoint = 0;
        if (step > 0) {
            sky_utf8_decode(from, &codepoint);
        }
        if (step > 0 && sky_utf8_shows(codepoint)) {
            memmove(to, from, step);
            to += step;
        } else if (codepoint == '\n' || codepoint == '\t' || codepoint == '\r' || replacement != '\0') {
            *to++ = codepoint == '\n' || codepoint == '\t' || codepoint == '\r' ? ' ' : replacement;
        }
        step = step > 0 ? step : 1;
        from += step;
        left -= step;
    }
    *to = '\0';
}

void sky_utf8_make_printable(char *text)
{
    clean(text, '?');
}

void sky_utf8_make_name(char *text)
{
    clean(text, '\0');
    const size_t leading = strspn(text, " ");
    size_t len = strlen(text) - leading;
    memmove(text, text + leading, len + 1);
    while (len > 0 && text[len - 1] == ' ') {
        text[--len] = '\0';
    }
}
