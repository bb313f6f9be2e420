/* spiece.model files made here: what a small one means, and what a bad one is refused for. */
#include "support/test.h"
#include "text/tokenizer_files.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "3 7 1" */
static const char *encode_as_text(const sky_tokenizer *tokenizer, const char *text, char *out, size_t size)
{
    int32_t ids[64];
    int64_t num_ids = 0;
    size_t len = 0;
    out[0] = '\0';
    if (sky_tokenizer_encode(tokenizer, text, 64, ids, &num_ids) != SKY_OK) {
        return sky_message();
    }
    for (int64_t i = 0; i < num_ids && len < size; i++) {
        len += (size_t)snprintf(out + len, size - len, "%s%d", i > 0 ? " " : "", (int)ids[i]);
    }
    return out;
}

TEST(a_small_model)
{
    static const struct {
        const char *text;
        const char *ids;
    } cases[] = {
        {"", "1"},
        {"ab", "7 1"},
        {"a", "3 4 1"},
        {"Aab", "3 5 6 1"}, /* A -> b */
        {"\xc3\x84"
         "ab",
         "7 1"},                                  /* U+00C4 -> nothing */
        {"A\xcc\x81", "3 5 1"},                   /* the mark goes with its letter: one cluster of three bytes */
        {"A\xcc\x81\xcc\x81\xcc\x81", "3 5 2 1"}, /* one of seven goes character by character */
        {"ab  ab ", "7 7 1"},                     /* a run of spaces is one U+2581; none at the end */
        {"xyz", "3 2 1"},                         /* a run of unknown characters is one <unk> */
        {"x ab<unk>yz", "3 2 7 2 3 2 1"},         /* an added token starts a word behind it */
        {"ab</s>ab <pad>", "7 1 7 0 1"},          /* as found in the raw text */
        {"ba\xe2\x96\x81"
         "ab",
         "3 5 4 7 1"}, /* U+2581 in the text is a space */
    };
    static test_bytes charsmap, file;
    put_charsmap(&charsmap);
    put_model(&file, &charsmap);
    sky_tokenizer *tokenizer = NULL;
    CHECK_OK(open_spiece(file.data, file.len, &tokenizer));
    EXPECT(sky_tokenizer_vocab_size(tokenizer) == 8);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char ids[256];
        if (strcmp(encode_as_text(tokenizer, cases[i].text, ids, sizeof ids), cases[i].ids) != 0) {
            test_fail(__FILE__, __LINE__, "\"%s\": want %s, got %s", cases[i].text, cases[i].ids, ids);
        }
    }
    sky_tokenizer_destroy(&tokenizer);
}

/* Opens what a damaged file gives, and uses it where it opens. */
static void use(const void *data, size_t len)
{
    sky_tokenizer *tokenizer = NULL;
    int32_t ids[32];
    int64_t num_ids = 0;
    sky_status st = open_spiece(data, len, &tokenizer);
    if (st == SKY_OK) {
        st = sky_tokenizer_encode(tokenizer, "aAb \xc3\x84 ab<unk>  A\xcc\x81 \xe2\x96\x81x", 32, ids, &num_ids);
        if (st == SKY_OK && (num_ids < 1 || num_ids > 32)) {
            test_fail(__FILE__, __LINE__, "%lld ids", (long long)num_ids);
        }
    }
    if (st != SKY_OK && sky_message()[0] == '\0') {
        test_fail(__FILE__, __LINE__, "%s without a message", sky_status_name(st));
    }
    sky_tokenizer_destroy(&tokenizer);
}

TEST(cut_anywhere)
{
    static test_bytes charsmap, file;
    put_charsmap(&charsmap);
    put_model(&file, &charsmap);
    int opened = 0;
    for (size_t len = 0; len <= file.len; len++) {
        sky_tokenizer *tokenizer = NULL;
        test_parameters("len=%zu of %zu", len, file.len);
        opened += open_spiece(file.data, len, &tokenizer) == SKY_OK;
        sky_tokenizer_destroy(&tokenizer);
        use(file.data, len);
    }
    EXPECT(opened == 7); /* only between fields, once </s> and <unk> are there */
}

TEST(changed_anywhere)
{
    static const unsigned char changes[] = {0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff};
    static test_bytes charsmap, file;
    put_charsmap(&charsmap);
    put_model(&file, &charsmap);
    for (size_t i = 0; i < file.len; i++) {
        for (size_t k = 0; k < sizeof changes; k++) {
            test_parameters("byte %zu ^ 0x%02x", i, changes[k]);
            file.data[i] ^= changes[k];
            use(file.data, file.len);
            file.data[i] ^= changes[k];
        }
    }
}

/* Refused with a message that holds `why`. */
static void check_refused(const test_bytes *file, const char *why)
{
    CHECK_STATUS(try_spiece(file), SKY_ERR_INPUT);
    if (strstr(sky_message(), why) == NULL) {
        test_fail(__FILE__, __LINE__, "want a message with \"%s\", got \"%s\"", why, sky_message());
    }
}

TEST(bad_pieces_are_refused)
{
    static char huge[SKY_TRIE_MAX_KEY_BYTES + 1];
    memset(huge, 'h', sizeof huge);
    const struct {
        const char *text;
        size_t len;
        float score;
        int type;
        const char *why;
    } cases[] = {
        {"", 0, -1, 1, "want 1 to 4096 bytes"},
        {huge, sizeof huge, -1, 1, "4097 bytes long"},
        {"\xc3", 1, -1, 1, "not UTF-8"},
        {"x\xed\xa0\x80", 4, -1, 1, "byte 1 is not UTF-8"},
        {"x", 1, NAN, 1, "finite"},
        {"x", 1, -INFINITY, 1, "finite"},
        {"x", 1, -1, 0, "type 0"},
        {"x", 1, -1, 7, "type 7"},
        {"x", 1, -1, 1000000000, "type 1000000000"},
        {"x", 1, -1, 2, "both of type unknown"},
        {"ab", 2, -1, 1, "second time"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        static test_bytes file;
        file.len = 0;
        test_parameters("case %zu", i);
        put_model(&file, NULL);
        put_piece(&file, cases[i].text, cases[i].len, cases[i].score, cases[i].type);
        check_refused(&file, cases[i].why);
    }
    static test_bytes file;
    put_model(&file, NULL);
    put_piece(&file, huge, SKY_TRIE_MAX_KEY_BYTES, -1, 1);
    CHECK_OK(try_spiece(&file)); /* the longest that is fine */
}

TEST(bad_messages_are_refused)
{
    static test_bytes file;
    put_model(&file, NULL);
    const size_t good = file.len;
    const struct {
        const char *bytes;
        size_t len;
        const char *why;
    } cases[] = {
        {"\x0a\x80\x94\xeb\xdc\x03", 6, "claims 1000000000 bytes, 0 are left"},
        {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, "claims 18446744073709551615 bytes"},
        {"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 11, "more than ten bytes"},
        {"\x80", 1, "a number runs past its end"},
        {"\x00\x00", 2, "field number 0"},
        {"\x0b", 1, "wire type 3"},
        {"\x0e", 1, "wire type 6"},
        {"\x25\x00\x00", 3, "fixed-size field"},
        {"\x21\x00\x00\x00\x00", 5, "fixed-size field"},
        {"\x08\x01", 2, "pieces: want wire type 2"},
        {"\x18\x01", 2, "normalizer_spec: want wire type 2"},
        {"\x12\x02\x18\x02", 4, "model_type is 2"},
        {"\x0a\x02\x0a\x05", 4, "piece 8: byte"}, /* a piece that reaches out of its message */
        {"\x0a\x02\x08\x01", 4, "piece: want wire type 2"},
        {"\x0a\x03\x12\x01x", 5, "score: want wire type 5"},
        {"\x0a\x03\x1a\x01x", 5, "type: want wire type 0"},
        {"\x1a\x02\x10\x01", 4, "precompiled_charsmap: want wire type 2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        test_parameters("case %zu", i);
        file.len = good;
        put_bytes(&file, cases[i].bytes, cases[i].len);
        check_refused(&file, cases[i].why);
    }
    file.len = good;
    put_bytes(&file,
              "\x20\x05\x29"
              "8 bytes!"
              "\x25"
              "4 by",
              16); /* other fields are skipped */
    CHECK_OK(try_spiece(&file));
    file.len = 0;
    check_refused(&file, "0 pieces");
    put_piece(&file, "a", 1, -1, 1);
    check_refused(&file, "no piece is of type unknown");
    put_piece(&file, "<unk>", 5, 0, 2);
    check_refused(&file, "no piece is </s>");
}

static void put_unit(test_bytes *map, size_t unit, uint32_t value)
{
    test_bytes bytes = {.len = 0};
    put_u32(&bytes, value);
    memcpy(map->data + 4 + 4 * unit, bytes.data, 4);
}

TEST(bad_character_maps_are_refused)
{
    enum { POOL = 4 + 4 * TEST_CHARSMAP_UNITS };
    static test_bytes good;
    put_charsmap(&good);
    const struct {
        int unit; /* -1: the size; -2: the map's length; -3: a byte of the pool */
        uint32_t value;
        const char *why;
    } cases[] = {
        {-1, 0, "claims 0 bytes"},
        {-1, 4 * TEST_CHARSMAP_UNITS - 1, "claims 2047 bytes"},
        {-1, 4 * TEST_CHARSMAP_UNITS + 8, "claims 2056 bytes"},
        {-1, 1000000000, "claims 1000000000 bytes"},
        {-1, 0xffffffff, "claims 4294967295 bytes"},
        {-1, 4 * TEST_CHARSMAP_UNITS + 4, "claims 2052 bytes"}, /* one byte more than there are */
        {-2, 1, "want at least 4"},
        {-2, POOL, "does not end in NUL"},
        {-2, POOL + 1, "does not end in NUL"},
        {-3, 0xff, "not UTF-8"},
        {0, 0x7fffffffU << 10 >> 1, "root unit"},
        {0, 0x80000000U, "root unit"},
        {0, (uint32_t)TEST_CHARSMAP_UNITS << 10, "root unit"},
        {TEST_CHARSMAP_A, 0x1fffffU << 10 | 0x300U | 'A', "has no leaf"}, /* outside */
        {TEST_CHARSMAP_A, 0x41U << 10 | 0x100U | 'A', "has no leaf"},     /* no leaf there */
        {TEST_CHARSMAP_LEAF, 0x80000000U | 3, "outside"},                 /* behind the pool */
        {TEST_CHARSMAP_LEAF, 0xffffffffU, "outside"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        static test_bytes map, file;
        map = good;
        file.len = 0;
        test_parameters("case %zu", i);
        if (cases[i].unit == -1) {
            put_unit(&map, (size_t)0 - 1, cases[i].value);
        } else if (cases[i].unit == -2) {
            map.len = cases[i].value;
        } else if (cases[i].unit == -3) {
            map.data[POOL] = (unsigned char)cases[i].value;
        } else {
            put_unit(&map, (size_t)cases[i].unit, cases[i].value);
        }
        put_model(&file, &map);
        check_refused(&file, cases[i].why);
    }
    /* A replacement that starts inside a character. */
    static test_bytes map, file;
    map = good;
    map.len -= 3;
    put_bytes(&map, "\xc3\xa4\0", 4);
    put_unit(&map, TEST_CHARSMAP_LEAF, 0x80000000U | 1);
    put_model(&file, &map);
    check_refused(&file, "inside a character");
}

/* A map of so many units whose only reachable unit, if any, is that of "A". */
static void check_walk(int num_units, uint32_t unit_of_a, const char *text)
{
    static test_bytes map;
    sky_charsmap opened = {0};
    sky_text mapped = {0};
    map.len = 0;
    put_u32(&map, 4 * (uint32_t)num_units);
    for (int i = 0; i < num_units; i++) {
        put_u32(&map, i == 0 ? 0x100U << 10 : i == TEST_CHARSMAP_A ? unit_of_a : 0);
    }
    put_bytes(&map, "", 1);
    CHECK_OK(sky_charsmap_open(map.data, map.len, &opened));
    const sky_status st = sky_charsmap_apply(&opened, text, strlen(text), &mapped);
    const bool same = mapped.len == strlen(text) && memcmp(mapped.data, text, mapped.len) == 0;
    sky_text_free(&mapped);
    sky_charsmap_free(&opened);
    CHECK_OK(st);
    CHECK(same);
}

TEST(a_walk_that_leaves_the_units_finds_nothing)
{
    check_walk(0x101, 0, "x");                                      /* the first step leads to 0x178 */
    check_walk(0x142, 0x1fffffU << 10 | 0x200U | 'A', "A\xcc\x81"); /* the second far away */
    check_walk(0x142, 0x3fU << 10 | 'A', "A\xcc\x81");              /* 0x17e ^ 0xcc */
}

TEST_MAIN
