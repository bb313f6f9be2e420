#include "text/text_clean.h"

#include "text/html_entities.h"
#include "text/text_buffer.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum {
    FTFY_SEGMENT_LEN = 1000000, /* ftfy's max_decode_length, in code points */
    /* "&amp;amp;amp;..." loses one layer a round. Code points that all rounds together may look at. */
    MAX_WORK = 64 << 20,
};

static void swap(sky_codepoints *a, sky_codepoints *b)
{
    const sky_codepoints t = *a;
    *a = *b;
    *b = t;
}

/* ftfy's chardata.py LIGATURES: what it is, what becomes of it. */
static const struct {
    uint16_t from;
    uint16_t to[3]; /* ends at 0 */
} ligatures[] = {
    {0x0132, {'I', 'J'}},    {0x0133, {'i', 'j'}},    {0x0149, {0x02bc, 'n'}},   {0x01c4, {'D', 0x017d}},
    {0x01c5, {'D', 0x017e}}, {0x01c6, {'d', 0x017e}}, {0x01c7, {'L', 'J'}},      {0x01c8, {'L', 'j'}},
    {0x01c9, {'l', 'j'}},    {0x01ca, {'N', 'J'}},    {0x01cb, {'N', 'j'}},      {0x01cc, {'n', 'j'}},
    {0x01f1, {'D', 'Z'}},    {0x01f2, {'D', 'z'}},    {0x01f3, {'d', 'z'}},      {0xfb00, {'f', 'f'}},
    {0xfb01, {'f', 'i'}},    {0xfb02, {'f', 'l'}},    {0xfb03, {'f', 'f', 'i'}}, {0xfb04, {'f', 'f', 'l'}},
    {0xfb05, {0x017f, 't'}}, {0xfb06, {'s', 't'}},
};

static uint32_t uncurl_quote(uint32_t c)
{
    if (c == 0x02bc || (c >= 0x2018 && c <= 0x201b)) {
        return '\'';
    }
    return c >= 0x201c && c <= 0x201f ? '"' : c;
}

/* fix_character_width, then uncurl_quotes and the line separators of fix_line_breaks. */
static sky_status push_narrow(uint32_t c, sky_codepoints *out)
{
    if (c == 0x3000) {
        return sky_codepoints_push(out, ' ');
    }
    if (c >= 0xff01 && c <= 0xffef) {
        utf8proc_int32_t parts[8];
        int boundary_class = 0;
        const utf8proc_ssize_t count = utf8proc_decompose_char(
            (utf8proc_int32_t)c, parts, 8, UTF8PROC_STABLE | UTF8PROC_COMPAT | UTF8PROC_DECOMPOSE, &boundary_class);
        for (utf8proc_ssize_t i = 0; i < count && i < 8; i++) {
            SKY_TRY(sky_codepoints_push(out, uncurl_quote((uint32_t)parts[i])));
        }
        return SKY_OK;
    }
    c = uncurl_quote(c);
    return sky_codepoints_push(out, c == 0x2028 || c == 0x2029 ? '\n' : c);
}

/* The fixers that look at one character at a time, in ftfy's order. */
static sky_status fix_characters(const sky_codepoints *in, sky_codepoints *out)
{
    for (size_t i = 0; i < in->len; i++) {
        const uint32_t c = in->data[i];
        if (c == '\r') { /* CRLF is one break, CR alone too */
            if (i + 1 >= in->len || in->data[i + 1] != '\n') {
                SKY_TRY(sky_codepoints_push(out, '\n'));
            }
            continue;
        }
        const uint32_t fixed = sky_c1_as_windows_1252(c); /* fix_c1_controls */
        const uint16_t *letters = NULL;
        if (fixed >= ligatures[0].from) {
            for (size_t k = 0; k < sizeof ligatures / sizeof ligatures[0]; k++) {
                if (ligatures[k].from == fixed) {
                    letters = ligatures[k].to;
                    break;
                }
            }
        }
        if (letters == NULL) {
            SKY_TRY(push_narrow(fixed, out));
            continue;
        }
        for (size_t k = 0; k < 3 && letters[k] != 0; k++) {
            SKY_TRY(push_narrow(letters[k], out));
        }
    }
    return SKY_OK;
}

/* chardata.py CONTROL_CHARS */
static bool is_removed_control(uint32_t c)
{
    return c < 0x09 || c == 0x0b || (c >= 0x0e && c <= 0x1f) || c == 0x7f || (c >= 0x206a && c <= 0x206f) ||
           c == 0xfeff || (c >= 0xfff9 && c <= 0xfffc);
}

/* Length of the terminal escape ESC [ digits-or-semicolons letter at text[0]; 0 where it is none. */
static size_t terminal_escape_len(const uint32_t *text, size_t len)
{
    if (len < 3 || text[0] != 0x1b || text[1] != '[') {
        return 0;
    }
    size_t i = 2;
    while (i < len && (text[i] == ';' || sky_is_digit(text[i]))) {
        i++;
    }
    const bool letter = i < len && text[i] < 0x80 && (text[i] | 0x20U) >= 'a' && (text[i] | 0x20U) <= 'z';
    return letter ? i + 1 : 0;
}

static sky_status remove_controls(const sky_codepoints *in, sky_codepoints *out)
{
    for (size_t i = 0; i < in->len;) {
        const size_t escape = terminal_escape_len(in->data + i, in->len - i);
        if (escape > 0) {
            i += escape;
            continue;
        }
        if (!is_removed_control(in->data[i])) {
            SKY_TRY(sky_codepoints_push(out, in->data[i]));
        }
        i++;
    }
    return SKY_OK;
}

/* One segment as ftfy's fix_and_explain treats it: round after round until nothing changes. Appends to out. */
static sky_status fix_segment(const uint32_t *text, size_t len, bool unescape, size_t *work, sky_codepoints *out)
{
    sky_status st = SKY_OK;
    sky_codepoints before = {0};
    sky_codepoints now = {0};
    sky_codepoints next = {0};
    for (size_t i = 0; i < len; i++) {
        SKY_TRY_GOTO(sky_codepoints_push(&now, text[i]));
    }
    bool changed = true;
    while (changed) {
        *work += now.len;
        if (*work > MAX_WORK) {
            st = sky_fail(SKY_ERR_USAGE, "the text escapes its '&' over and over again (as in &amp;amp;amp;); unescape "
                                         "it first");
            goto done;
        }
        before.len = 0;
        for (size_t i = 0; i < now.len; i++) {
            SKY_TRY_GOTO(sky_codepoints_push(&before, now.data[i]));
        }
        if (unescape) {
            next.len = 0;
            SKY_TRY_GOTO(sky_html_unescape_ftfy(now.data, now.len, &next));
            swap(&now, &next);
        }
        next.len = 0;
        SKY_TRY_GOTO(fix_characters(&now, &next));
        now.len = 0;
        SKY_TRY_GOTO(remove_controls(&next, &now));
        SKY_TRY_GOTO(sky_codepoints_normalize(&now, false));
        changed =
            now.len != before.len || (now.len > 0 && memcmp(now.data, before.data, now.len * sizeof *now.data) != 0);
    }
    for (size_t i = 0; i < now.len; i++) {
        SKY_TRY_GOTO(sky_codepoints_push(out, now.data[i]));
    }
done:
    sky_codepoints_free(&before);
    sky_codepoints_free(&now);
    sky_codepoints_free(&next);
    return st;
}

/* ftfy.fix_text less fix_encoding: line by line; a '<' ends the unescaping for that line and all that follow. */
static sky_status fix_text(const sky_codepoints *in, sky_codepoints *out)
{
    bool unescape = true;
    size_t work = 0;
    for (size_t pos = 0; pos < in->len;) {
        size_t end = pos;
        while (end < in->len && end - pos < FTFY_SEGMENT_LEN) {
            unescape = unescape && in->data[end] != '<';
            if (in->data[end++] == '\n') {
                break;
            }
        }
        SKY_TRY(fix_segment(in->data + pos, end - pos, unescape, &work, out));
        pos = end;
    }
    return SKY_OK;
}

/* Runs of white space become one space; none at the ends. basic_clean's strip() is part of this. */
static sky_status collapse_space(const sky_codepoints *in, sky_codepoints *out)
{
    bool space = false;
    for (size_t i = 0; i < in->len; i++) {
        if (sky_is_python_space(in->data[i])) {
            space = true;
            continue;
        }
        if (space && out->len > 0) {
            SKY_TRY(sky_codepoints_push(out, ' '));
        }
        space = false;
        SKY_TRY(sky_codepoints_push(out, in->data[i]));
    }
    return SKY_OK;
}

sky_status sky_text_clean(const char *text, char **out)
{
    sky_status st = SKY_OK;
    sky_codepoints a = {0};
    sky_codepoints b = {0};
    sky_text bytes = {0};
    const size_t len = strlen(text);
    size_t bad = 0;

    if (len > SKY_PROMPT_MAX_BYTES) {
        return sky_fail(SKY_ERR_USAGE, "the text has %zu bytes; at most %d are taken", len, (int)SKY_PROMPT_MAX_BYTES);
    }
    if (!sky_utf8_valid(text, len, &bad)) {
        return sky_fail(SKY_ERR_USAGE, "the text is not UTF-8: byte %zu is 0x%02x", bad, (unsigned char)text[bad]);
    }
    SKY_TRY_GOTO(sky_codepoints_append_utf8(&a, text, len));
    SKY_TRY_GOTO(fix_text(&a, &b));
    for (int round = 0; round < 2; round++) {
        a.len = 0;
        SKY_TRY_GOTO(sky_html_unescape(b.data, b.len, &a));
        swap(&a, &b);
    }
    a.len = 0;
    SKY_TRY_GOTO(collapse_space(&b, &a));
    SKY_TRY_GOTO(sky_text_append_codepoints(&bytes, a.data, a.len));
    SKY_TRY_GOTO(sky_text_append(&bytes, "", 1)); /* the terminator */
    *out = bytes.data;
    bytes = (sky_text){0};
done:
    sky_codepoints_free(&a);
    sky_codepoints_free(&b);
    sky_text_free(&bytes);
    return st;
}
