/*
 * text/tokenizer_files.h - small tokenizer files for the tests, good and bad
 */
#ifndef SKY_TESTS_TEXT_TOKENIZER_FILES_H
#define SKY_TESTS_TEXT_TOKENIZER_FILES_H

#include "text/tokenizer_impl.h"

/* Bytes that grow; a test's file is far smaller than this. */
typedef struct test_bytes {
    unsigned char data[16384];
    size_t len;
} test_bytes;

void put_bytes(test_bytes *out, const void *data, size_t len);
void put_u32(test_bytes *out, uint32_t value);
void put_varint(test_bytes *out, uint64_t value);

/* Field of wire type 2. */
void put_field(test_bytes *out, int number, const void *data, size_t len);

/* One SentencePiece; len bytes of text. */
void put_piece(test_bytes *out, const char *text, size_t len, float score, int type);

/* A character map of `num_units` units that replaces "A" by "b" (test_charsmap_*: where its units lie) and U+00C4 by "". */
enum {
    TEST_CHARSMAP_UNITS = 512,
    TEST_CHARSMAP_A = 0x141,    /* the unit that "A" leads to */
    TEST_CHARSMAP_LEAF = 0x101, /* and its leaf */
};
void put_charsmap(test_bytes *out);

/* Pieces <pad> </s> <unk> (0 to 2), U+2581 (3), a (4), b (5), ab (6), U+2581 ab (7), and the character map. */
void put_model(test_bytes *out, const test_bytes *charsmap);

/* Parts of a tokenizer.json; NULL is a default that is fine. */
typedef struct test_json {
    const char *vocab;
    const char *model_rest;
    const char *added_tokens;
    const char *normalizer;
    const char *pre_tokenizer;
    const char *post_processor;
} test_json;

/* Opens the file with these parts from memory, as from_json does. */
sky_status open_json(const test_json *parts, sky_tokenizer **out);

/* Opens from memory of exactly this size, so that a read past its end is seen by a sanitizer. */
sky_status open_spiece(const void *data, size_t len, sky_tokenizer **out);

/* The same, keeping only the status. */
sky_status try_json(const test_json *parts);
sky_status try_spiece(const test_bytes *file);

#endif
