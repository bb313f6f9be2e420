/*
 * Fuzzes the reader of spiece.model with its character map, and encoding by whatever opens.
 *
 * The first byte says how the rest is used: even, the file is the rest; odd, the rest is a character map alone,
 * so that mutations reach it without a length to get right.
 */
#include "fuzz.h"
#include "text/charsmap.h"
#include "text/tokenizer_impl.h"

static const char text[] = "aAb \xc3\x84 ab<unk>  A\xcc\x81</s> \xe2\x96\x81x \xef\xbc\xa1\xf0\x9f\x9a\x80\r\n<0x41>";

static void fuzz_model(const uint8_t *data, size_t size)
{
    sky_tokenizer *tokenizer = NULL;
    int32_t ids[64];
    int64_t num_ids = 0;
    if (sky_tokenizer_from_spiece(data, size, &tokenizer) != SKY_OK) {
        return;
    }
    const sky_status st = sky_tokenizer_encode(tokenizer, text, 64, ids, &num_ids);
    for (int64_t i = 0; st == SKY_OK && i < num_ids; i++) {
        FUZZ_CHECK(ids[i] >= 0 && ids[i] < sky_tokenizer_vocab_size(tokenizer));
    }
    sky_tokenizer_destroy(&tokenizer);
}

static void fuzz_charsmap(const uint8_t *data, size_t size)
{
    sky_charsmap map = {0};
    sky_text mapped = {0};
    size_t bad = 0;
    if (sky_charsmap_open(data, size, &map) != SKY_OK) {
        return;
    }
    if (sky_charsmap_apply(&map, text, sizeof text - 1, &mapped) == SKY_OK) {
        FUZZ_CHECK(sky_utf8_valid(mapped.data, mapped.len, &bad));
    }
    sky_text_free(&mapped);
    sky_charsmap_free(&map);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0 && data[0] % 2 == 0) {
        fuzz_model(data + 1, size - 1);
    } else if (size > 0) {
        fuzz_charsmap(data + 1, size - 1);
    }
    return 0;
}
