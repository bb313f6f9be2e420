#include "text/text_buffer.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* Room for one more run of `more` elements; data, capacity of either buffer. */
static sky_status grow(void **data, size_t *capacity, size_t len, size_t more, size_t max, size_t element_bytes)
{
    if (more > max || len > max - more) {
        return sky_fail(SKY_ERR_USAGE, "text grows beyond %zu bytes while it is cleaned or normalised; shorten it",
                        max * element_bytes);
    }
    const size_t want = len + more;
    if (want <= *capacity) {
        return SKY_OK;
    }
    size_t next = *capacity < 64 ? 64 : *capacity * 2;
    next = next < want ? want : next;
    void *bigger = realloc(*data, next * element_bytes);
    if (bigger == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "out of memory for %zu bytes of text", next * element_bytes);
    }
    *data = bigger;
    *capacity = next;
    return SKY_OK;
}

sky_status sky_text_append(sky_text *text, const char *bytes, size_t len)
{
    if (len == 0) {
        return SKY_OK;
    }
    void *data = text->data;
    const sky_status st = grow(&data, &text->capacity, text->len, len, SKY_TEXT_MAX_BYTES, 1);
    text->data = data;
    SKY_TRY(st);
    memcpy(text->data + text->len, bytes, len);
    text->len += len;
    return SKY_OK;
}

sky_status sky_codepoints_push(sky_codepoints *text, uint32_t codepoint)
{
    if (text->len == text->capacity) {
        void *data = text->data;
        const sky_status st = grow(&data, &text->capacity, text->len, 1, SKY_TEXT_MAX_CODEPOINTS, sizeof *text->data);
        text->data = data;
        SKY_TRY(st);
    }
    text->data[text->len++] = codepoint;
    return SKY_OK;
}

void sky_text_free(sky_text *text)
{
    free(text->data);
    *text = (sky_text){0};
}

void sky_codepoints_free(sky_codepoints *text)
{
    free(text->data);
    *text = (sky_codepoints){0};
}

sky_status sky_codepoints_append_utf8(sky_codepoints *out, const char *text, size_t len)
{
    for (size_t i = 0; i < len;) {
        uint32_t codepoint = 0;
        i += sky_utf8_decode(text + i, &codepoint);
        SKY_TRY(sky_codepoints_push(out, codepoint));
    }
    return SKY_OK;
}

sky_status sky_text_append_codepoints(sky_text *out, const uint32_t *codepoints, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char bytes[4];
        SKY_TRY(sky_text_append(out, bytes, sky_utf8_encode(codepoints[i], bytes)));
    }
    return SKY_OK;
}

/* A mark on its way through canonical ordering: class first, then where it stood. */
static int compare_marks(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a;
    const uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/*
 * Sorts every run of combining marks by class, keeping the order of equals. utf8proc's own ordering swaps neighbours,
 * which is quadratic in the length of a run.
 */
static sky_status order_marks(sky_codepoints *text)
{
    sky_status st = SKY_OK;
    uint64_t *keys = NULL;
    uint32_t *copy = NULL;
    size_t capacity = 0;
    for (size_t i = 0; i < text->len;) {
        size_t end = i;
        while (end < text->len && utf8proc_get_property((utf8proc_int32_t)text->data[end])->combining_class != 0) {
            end++;
        }
        const size_t count = end - i;
        if (count < 2) {
            i = end + 1;
            continue;
        }
        if (count > capacity) {
            free(keys);
            free(copy);
            capacity = count;
            keys = malloc(count * sizeof *keys);
            copy = malloc(count * sizeof *copy);
            if (keys == NULL || copy == NULL) {
                st = sky_fail(SKY_ERR_NOMEM, "out of memory for %zu combining marks", count);
                goto done;
            }
        }
        for (size_t k = 0; k < count; k++) {
            const utf8proc_property_t *property = utf8proc_get_property((utf8proc_int32_t)text->data[i + k]);
            keys[k] = (uint64_t)(uint16_t)property->combining_class << 32 | k;
            copy[k] = text->data[i + k];
        }
        qsort(keys, count, sizeof *keys, compare_marks);
        for (size_t k = 0; k < count; k++) {
            text->data[i + k] = copy[keys[k] & 0xffffffffU];
        }
        i = end;
    }
done:
    free(keys);
    free(copy);
    return st;
}

sky_status sky_codepoints_normalize(sky_codepoints *text, bool compat)
{
    const uint32_t first_affected = compat ? 0xa0 : 0x300; /* everything below is its own normal form */
    size_t i = 0;
    while (i < text->len && text->data[i] < first_affected) {
        i++;
    }
    if (i == text->len) {
        return SKY_OK;
    }
    const utf8proc_option_t options = UTF8PROC_STABLE | (compat ? UTF8PROC_COMPAT : 0);
    sky_status st = SKY_OK;
    sky_codepoints apart = {0};
    for (i = 0; i < text->len; i++) {
        utf8proc_int32_t parts[32]; /* the longest decomposition in Unicode has 18 */
        int boundary_class = 0;
        const utf8proc_ssize_t count = utf8proc_decompose_char((utf8proc_int32_t)text->data[i], parts, 32,
                                                               options | UTF8PROC_DECOMPOSE, &boundary_class);
        if (count < 0 || count > 32) {
            st = sky_fail(SKY_ERR_INTERNAL, "decomposing U+%04X: %s", (unsigned)text->data[i],
                          count < 0 ? utf8proc_errmsg(count) : "too long");
            goto done;
        }
        for (utf8proc_ssize_t k = 0; k < count; k++) {
            SKY_TRY_GOTO(sky_codepoints_push(&apart, (uint32_t)parts[k]));
        }
    }
    SKY_TRY_GOTO(order_marks(&apart));
    const utf8proc_ssize_t len = utf8proc_normalize_utf32((utf8proc_int32_t *)apart.data, (utf8proc_ssize_t)apart.len,
                                                          options | UTF8PROC_COMPOSE);
    if (len < 0) {
        st = sky_fail(SKY_ERR_INTERNAL, "composing %zu characters: %s", apart.len, utf8proc_errmsg(len));
        goto done;
    }
    apart.len = (size_t)len;
    sky_codepoints_free(text);
    *text = apart;
    apart = (sky_codepoints){0};
done:
    sky_codepoints_free(&apart);
    return st;
}

bool sky_is_white_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool sky_is_python_space(uint32_t c)
{
    return (c >= 0x1c && c <= 0x1f) || sky_is_white_space(c);
}

bool sky_is_word(uint32_t c)
{
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        break;
    }
    /* Other_Alphabetic symbols (circled and squared letters) and Join_Control. */
    return (c >= 0x24b6 && c <= 0x24e9) || (c >= 0x1f130 && c <= 0x1f149) || (c >= 0x1f150 && c <= 0x1f169) ||
           (c >= 0x1f170 && c <= 0x1f189) || c == 0x200c || c == 0x200d;
}

bool sky_is_digit(uint32_t c)
{
    return c < 0x80 ? c >= '0' && c <= '9' : utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_ND;
}

uint32_t sky_c1_as_windows_1252(uint32_t c)
{
    static const uint16_t windows_1252[32] = {
        0x20ac, 0x81,   0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160,
        0x2039, 0x0152, 0x8d,   0x017d, 0x8f,   0x90,   0x2018, 0x2019, 0x201c, 0x201d, 0x2022,
        0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0x9d,   0x017e, 0x0178,
    };
    return c >= 0x80 && c <= 0x9f ? windows_1252[c - 0x80] : c;
}
