#include "text/tokenizer_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void put_bytes(test_bytes *out, const void *data, size_t len)
{
    SKY_ASSERT(len <= sizeof out->data - out->len);
    memcpy(out->data + out->len, data, len);
    out->len += len;
}

void put_u32(test_bytes *out, uint32_t value)
{
    const unsigned char bytes[4] = {(unsigned char)value, (unsigned char)(value >> 8), (unsigned char)(value >> 16),
                                    (unsigned char)(value >> 24)};
    put_bytes(out, bytes, sizeof bytes);
}

void put_varint(test_bytes *out, uint64_t value)
{
    do {
        const unsigned char byte = (unsigned char)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
        put_bytes(out, &byte, 1);
        value >>= 7;
    } while (value != 0);
}

void put_field(test_bytes *out, int number, const void *data, size_t len)
{
    put_varint(out, (uint64_t)number << 3 | 2);
    put_varint(out, len);
    put_bytes(out, data, len);
}

void put_piece(test_bytes *out, const char *text, size_t len, float score, int type)
{
    test_bytes piece = {.len = 0};
    uint32_t bits;
    memcpy(&bits, &score, sizeof bits);
    put_field(&piece, 1, text, len);
    put_varint(&piece, 2 << 3 | 5);
    put_u32(&piece, bits);
    put_varint(&piece, 3 << 3);
    put_varint(&piece, (uint64_t)type);
    put_field(out, 1, piece.data, piece.len);
}

void put_charsmap(test_bytes *out)
{
    static const char pool[] = "b\0"; /* "b" at 0, "" at 2 */
    uint32_t units[TEST_CHARSMAP_UNITS] = {0};
    units[0] = 0x100U << 10;
    units[TEST_CHARSMAP_A] = 0x40U << 10 | 0x100U | 'A';
    units[TEST_CHARSMAP_LEAF] = 0x80000000U | 0;
    /* c3 84: 0x100 ^ 0xc3 = 0x1c3, offset 0x10 -> 0x1d3 ^ 0x84 = 0x157, offset 1 -> leaf 0x156 */
    units[0x1c3] = 0x10U << 10 | 0xc3U;
    units[0x157] = 0x1U << 10 | 0x100U | 0x84U;
    units[0x156] = 0x80000000U | 2;
    put_u32(out, sizeof units);
    for (int i = 0; i < TEST_CHARSMAP_UNITS; i++) {
        put_u32(out, units[i]);
    }
    put_bytes(out, pool, sizeof pool);
}

void put_model(test_bytes *out, const test_bytes *charsmap)
{
    static const struct {
        const char *text;
        float score;
        int type;
    } pieces[] = {
        {"<pad>", 0, 3},
        {"</s>", 0, 3},
        {"<unk>", 0, 2},
        {"\xe2\x96\x81", -2, 1},
        {"a", -3, 1},
        {"b", -3, 1},
        {"ab", -4, 1},
        {"\xe2\x96\x81"
         "ab",
         -5, 1},
    };
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        put_piece(out, pieces[i].text, strlen(pieces[i].text), pieces[i].score, pieces[i].type);
    }
    if (charsmap != NULL) {
        test_bytes normalizer = {.len = 0};
        put_field(&normalizer, 2, charsmap->data, charsmap->len);
        put_field(out, 3, normalizer.data, normalizer.len);
    }
}

sky_status open_json(const test_json *parts, sky_tokenizer **out)
{
    char *text = NULL;
    const int len = asprintf(
        &text,
        "{\"version\": \"1.0\", \"added_tokens\": %s, \"normalizer\": %s, \"pre_tokenizer\": %s, \"post_processor\": "
        "%s, \"model\": {\"type\": \"Unigram\", %s, \"vocab\": %s}}",
        parts->added_tokens != NULL ? parts->added_tokens : "[]",
        parts->normalizer != NULL ? parts->normalizer : "null",
        parts->pre_tokenizer != NULL
            ? parts->pre_tokenizer
            : "{\"type\": \"Metaspace\", \"replacement\": \"\xe2\x96\x81\", \"prepend_scheme\": \"always\"}",
        parts->post_processor != NULL
            ? parts->post_processor
            : "{\"type\": \"TemplateProcessing\", \"single\": [{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}, "
              "{\"SpecialToken\": {\"id\": \"</s>\", \"type_id\": 0}}], \"pair\": [], \"special_tokens\": {\"</s>\": "
              "{\"id\": \"</s>\", \"ids\": [1], \"tokens\": [\"</s>\"]}}}",
        parts->model_rest != NULL ? parts->model_rest : "\"unk_id\": 2, \"byte_fallback\": false",
        parts->vocab != NULL ? parts->vocab
                             : "[[\"<pad>\", 0.0], [\"</s>\", 0.0], [\"<unk>\", 0.0], [\"\xe2\x96\x81\", -2.0], "
                               "[\"a\", -3.0], [\"b\", -3], [\"ab\", -4.0], [\"\xe2\x96\x81"
                               "ab\", -5.0]]");
    if (len < 0) {
        return SKY_ERR_NOMEM;
    }
    const sky_status st = sky_tokenizer_from_json(text, (size_t)len, out);
    free(text);
    return st;
}

sky_status open_spiece(const void *data, size_t len, sky_tokenizer **out)
{
    void *exact = malloc(len > 0 ? len : 1);
    if (exact == NULL) {
        return SKY_ERR_NOMEM;
    }
    memcpy(exact, data, len);
    const sky_status st = sky_tokenizer_from_spiece(exact, len, out);
    free(exact);
    return st;
}

sky_status try_json(const test_json *parts)
{
    sky_tokenizer *tokenizer = NULL;
    const sky_status st = open_json(parts, &tokenizer);
    sky_tokenizer_destroy(&tokenizer);
    return st;
}

sky_status try_spiece(const test_bytes *file)
{
    sky_tokenizer *tokenizer = NULL;
    const sky_status st = open_spiece(file->data, file->len, &tokenizer);
    sky_tokenizer_destroy(&tokenizer);
    return st;
}
