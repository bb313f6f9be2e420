#include "text/normalizer.h"

#include <stdlib.h>
#include <string.h>

static sky_status add_step(sky_normalizer *normalizer, sky_normalizer_kind kind, sky_normalizer_step **out)
{
    if (normalizer->steps == NULL) {
        normalizer->steps = calloc(SKY_NORMALIZER_MAX_STEPS, sizeof *normalizer->steps);
        if (normalizer->steps == NULL) {
            return sky_fail(SKY_ERR_NOMEM, "out of memory for a normalizer");
        }
    }
    if (normalizer->num_steps == SKY_NORMALIZER_MAX_STEPS) {
        return sky_fail(SKY_ERR_INPUT, "more than %d steps", (int)SKY_NORMALIZER_MAX_STEPS);
    }
    *out = &normalizer->steps[normalizer->num_steps++];
    (*out)->kind = kind;
    return SKY_OK;
}

void sky_normalizer_free(sky_normalizer *normalizer)
{
    for (int i = 0; i < normalizer->num_steps; i++) {
        sky_charsmap_free(&normalizer->steps[i].charsmap);
    }
    free(normalizer->steps);
    *normalizer = (sky_normalizer){0};
}

static int base64_value(char c)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *found = c == '\0' ? NULL : strchr(alphabet, c);
    return found == NULL ? -1 : (int)(found - alphabet);
}

/* Standard alphabet, padded, nothing else in between. *out is new memory. */
static sky_status decode_base64(const char *text, size_t len, unsigned char **out, size_t *out_len)
{
    if (len == 0 || len % 4 != 0) {
        return sky_fail(SKY_ERR_INPUT, "base64: %zu characters are no multiple of four", len);
    }
    const size_t padding = (text[len - 1] == '=') + (size_t)(text[len - 1] == '=' && text[len - 2] == '=');
    int digits[256];
    for (int c = 0; c < 256; c++) {
        digits[c] = base64_value((char)c);
    }
    unsigned char *bytes = malloc(len / 4 * 3);
    if (bytes == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "base64: out of memory for %zu bytes", len / 4 * 3);
    }
    size_t n = 0;
    for (size_t i = 0; i < len; i += 4) {
        uint32_t group = 0;
        for (size_t k = 0; k < 4; k++) {
            const bool pad = i + k >= len - padding;
            const int digit = pad ? 0 : digits[(unsigned char)text[i + k]];
            if (digit < 0) {
                free(bytes);
                return sky_fail(SKY_ERR_INPUT, "base64: character %zu is 0x%02x", i + k, (unsigned char)text[i + k]);
            }
            group = group << 6 | (uint32_t)digit;
        }
        bytes[n++] = (unsigned char)(group >> 16);
        bytes[n++] = (unsigned char)(group >> 8);
        bytes[n++] = (unsigned char)group;
    }
    *out = bytes;
    *out_len = n - padding;
    return SKY_OK;
}

static sky_status add_charsmap(sky_normalizer *normalizer, const void *data, size_t len)
{
    sky_normalizer_step *step = NULL;
    SKY_TRY(add_step(normalizer, SKY_NORMALIZER_CHARSMAP, &step));
    return sky_charsmap_open(data, len, &step->charsmap);
}

static sky_status copy_string(const json_t *value, const char *name, size_t min_bytes, char *out, size_t *out_len)
{
    if (!json_is_string(value)) {
        return sky_fail(SKY_ERR_INPUT, "%s: want a string", name);
    }
    const size_t len = json_string_length(value);
    if (len < min_bytes || len > SKY_NORMALIZER_MAX_STRING_BYTES) {
        return sky_fail(SKY_ERR_INPUT, "%s: %zu bytes long, want %zu to %d", name, len, min_bytes,
                        (int)SKY_NORMALIZER_MAX_STRING_BYTES);
    }
    memcpy(out, json_string_value(value), len);
    *out_len = len;
    return SKY_OK;
}

static sky_status add_precompiled(const json_t *node, sky_normalizer *out)
{
    const json_t *text = json_object_get(node, "precompiled_charsmap");
    if (!json_is_string(text)) {
        return sky_fail(SKY_ERR_INPUT, "precompiled_charsmap: want a string");
    }
    unsigned char *bytes = NULL;
    size_t len = 0;
    SKY_TRY(sky_fail_in(decode_base64(json_string_value(text), json_string_length(text), &bytes, &len),
                        "precompiled_charsmap"));
    const sky_status st = add_charsmap(out, bytes, len);
    free(bytes);
    return sky_fail_in(st, "precompiled_charsmap");
}

static sky_status add_strip(const json_t *node, sky_normalizer *out)
{
    const json_t *left = json_object_get(node, "strip_left");
    const json_t *right = json_object_get(node, "strip_right");
    if (!json_is_boolean(left) || !json_is_boolean(right)) {
        return sky_fail(SKY_ERR_INPUT, "strip_left, strip_right: want true or false");
    }
    sky_normalizer_step *step = NULL;
    SKY_TRY(add_step(out, SKY_NORMALIZER_STRIP, &step));
    step->left = json_is_true(left);
    step->right = json_is_true(right);
    return SKY_OK;
}

static sky_status add_replace(const json_t *node, sky_normalizer *out)
{
    const json_t *pattern = json_object_get(node, "pattern");
    const json_t *string = json_object_get(pattern, "String");
    const json_t *regex = json_object_get(pattern, "Regex");
    sky_normalizer_step *step = NULL;
    if (regex != NULL) {
        if (!json_is_string(regex) || strcmp(json_string_value(regex), " {2,}") != 0) {
            return sky_fail(SKY_ERR_UNSUPPORTED, "pattern: of regular expressions only \" {2,}\" is offered");
        }
        SKY_TRY(add_step(out, SKY_NORMALIZER_REPLACE_RUNS, &step));
    } else {
        SKY_TRY(add_step(out, SKY_NORMALIZER_REPLACE, &step));
        SKY_TRY(copy_string(string, "pattern.String", 1, step->pattern, &step->pattern_len));
    }
    return copy_string(json_object_get(node, "content"), "content", 0, step->content, &step->content_len);
}

static sky_status add_prepend(const json_t *node, sky_normalizer *out)
{
    sky_normalizer_step *step = NULL;
    SKY_TRY(add_step(out, SKY_NORMALIZER_PREPEND, &step));
    return copy_string(json_object_get(node, "prepend"), "prepend", 0, step->content, &step->content_len);
}

/* One node that is no sequence. */
static sky_status add_node(const json_t *node, const char *type, sky_normalizer *out)
{
    sky_normalizer_step *step = NULL;
    if (strcmp(type, "Precompiled") == 0) {
        return add_precompiled(node, out);
    }
    if (strcmp(type, "Strip") == 0) {
        return add_strip(node, out);
    }
    if (strcmp(type, "Replace") == 0) {
        return add_replace(node, out);
    }
    if (strcmp(type, "Prepend") == 0) {
        return add_prepend(node, out);
    }
    if (strcmp(type, "NFC") == 0) {
        return add_step(out, SKY_NORMALIZER_NFC, &step);
    }
    if (strcmp(type, "NFKC") == 0) {
        return add_step(out, SKY_NORMALIZER_NFKC, &step);
    }
    return sky_fail(SKY_ERR_UNSUPPORTED,
                    "type \"%.40s\" is not offered (Precompiled, Strip, Replace, Prepend, NFC, NFKC, Sequence are)",
                    type);
}

/* A sequence that is being read. Its depth is bounded by that of JSON, but a small stack of our own is enough. */
typedef struct level {
    const json_t *list;
    size_t next;
} level;

sky_status sky_normalizer_from_json(const json_t *node, sky_normalizer *out)
{
    enum { MAX_LEVELS = 8 };
    level levels[MAX_LEVELS];
    int depth = 0;
    if (node == NULL || json_is_null(node)) {
        return SKY_OK;
    }
    for (;;) {
        const char *type = json_string_value(json_object_get(node, "type"));
        if (type == NULL) {
            return sky_fail(SKY_ERR_INPUT, "normalizer: want an object with a type");
        }
        if (strcmp(type, "Sequence") == 0) {
            const json_t *list = json_object_get(node, "normalizers");
            if (!json_is_array(list) || depth == MAX_LEVELS) {
                return sky_fail(SKY_ERR_INPUT, "normalizer: Sequence: want a list, at most %d deep", (int)MAX_LEVELS);
            }
            levels[depth++] = (level){list, 0};
        } else {
            SKY_TRY(sky_fail_in(add_node(node, type, out), "normalizer: %.40s", type));
        }
        while (depth > 0 && levels[depth - 1].next == json_array_size(levels[depth - 1].list)) {
            depth--;
        }
        if (depth == 0) {
            return SKY_OK;
        }
        node = json_array_get(levels[depth - 1].list, levels[depth - 1].next++);
    }
}

sky_status sky_normalizer_from_charsmap(const void *charsmap, size_t len, sky_normalizer *out)
{
    static const char block[] = "\xe2\x96\x81"; /* U+2581 */
    if (charsmap != NULL) {
        SKY_TRY(add_charsmap(out, charsmap, len));
    }
    sky_normalizer_step *step = NULL;
    SKY_TRY(add_step(out, SKY_NORMALIZER_STRIP, &step));
    step->right = true;
    SKY_TRY(add_step(out, SKY_NORMALIZER_REPLACE_RUNS, &step));
    step->content_len = sizeof block - 1;
    memcpy(step->content, block, step->content_len);
    return SKY_OK;
}

static sky_status apply_unicode(bool compat, const sky_text *in, sky_text *out)
{
    sky_codepoints points = {0};
    sky_status st = SKY_OK;
    SKY_TRY_GOTO(sky_codepoints_append_utf8(&points, in->data, in->len));
    SKY_TRY_GOTO(sky_codepoints_normalize(&points, compat));
    SKY_TRY_GOTO(sky_text_append_codepoints(out, points.data, points.len));
done:
    sky_codepoints_free(&points);
    return st;
}

static sky_status apply_strip(const sky_normalizer_step *step, const sky_text *in, sky_text *out)
{
    size_t first = step->left ? in->len : 0; /* behind the white space on the left */
    size_t last = 0;                         /* behind the last character that is none */
    for (size_t i = 0; i < in->len;) {
        uint32_t c = 0;
        const size_t char_len = sky_utf8_decode(in->data + i, &c);
        if (!sky_is_white_space(c)) {
            first = i < first ? i : first;
            last = i + char_len;
        }
        i += char_len;
    }
    last = step->right ? last : in->len;
    return first < last ? sky_text_append(out, in->data + first, last - first) : SKY_OK;
}

static sky_status apply_replace(const sky_normalizer_step *step, const sky_text *in, sky_text *out)
{
    for (size_t i = 0; i < in->len;) {
        if (in->len - i >= step->pattern_len && memcmp(in->data + i, step->pattern, step->pattern_len) == 0) {
            SKY_TRY(sky_text_append(out, step->content, step->content_len));
            i += step->pattern_len;
        } else {
            SKY_TRY(sky_text_append(out, in->data + i, 1));
            i++;
        }
    }
    return SKY_OK;
}

static sky_status apply_replace_runs(const sky_normalizer_step *step, const sky_text *in, sky_text *out)
{
    for (size_t i = 0; i < in->len;) {
        size_t end = i;
        while (end < in->len && in->data[end] == ' ') {
            end++;
        }
        if (end - i >= 2) {
            SKY_TRY(sky_text_append(out, step->content, step->content_len));
            i = end;
        } else {
            SKY_TRY(sky_text_append(out, in->data + i, 1));
            i++;
        }
    }
    return SKY_OK;
}

static sky_status apply_step(const sky_normalizer_step *step, const sky_text *in, sky_text *out)
{
    switch (step->kind) {
    case SKY_NORMALIZER_CHARSMAP:
        return sky_charsmap_apply(&step->charsmap, in->data, in->len, out);
    case SKY_NORMALIZER_NFC:
    case SKY_NORMALIZER_NFKC:
        return apply_unicode(step->kind == SKY_NORMALIZER_NFKC, in, out);
    case SKY_NORMALIZER_STRIP:
        return apply_strip(step, in, out);
    case SKY_NORMALIZER_REPLACE:
        return apply_replace(step, in, out);
    case SKY_NORMALIZER_REPLACE_RUNS:
        return apply_replace_runs(step, in, out);
    case SKY_NORMALIZER_PREPEND:
        if (in->len == 0) {
            return SKY_OK;
        }
        SKY_TRY(sky_text_append(out, step->content, step->content_len));
        return sky_text_append(out, in->data, in->len);
    }
    return sky_fail(SKY_ERR_INTERNAL, "normalizer step %d", (int)step->kind);
}

sky_status sky_normalizer_apply(const sky_normalizer *normalizer, const char *text, size_t len, sky_text *out)
{
    sky_status st = SKY_OK;
    sky_text next = {0};
    out->len = 0;
    SKY_TRY_GOTO(sky_text_append(out, text, len));
    for (int i = 0; i < normalizer->num_steps; i++) {
        next.len = 0;
        SKY_TRY_GOTO(apply_step(&normalizer->steps[i], out, &next));
        const sky_text t = *out;
        *out = next;
        next = t;
    }
done:
    sky_text_free(&next);
    return st;
}
