/* tokenizer.json files made here: what each part means, and what is refused. */
#include "support/test.h"
#include "text/tokenizer_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK "\xe2\x96\x81" /* U+2581 */

/* Opens the file with these parts and compares the ids of text, written as "3 7 1". */
static void check_ids(const test_json *parts, const char *text, const char *want)
{
    sky_tokenizer *tokenizer = NULL;
    int32_t ids[64];
    int64_t num_ids = 0;
    char got[512] = "";
    size_t len = 0;
    CHECK_OK(open_json(parts, &tokenizer));
    const sky_status st = sky_tokenizer_encode(tokenizer, text, 64, ids, &num_ids);
    sky_tokenizer_destroy(&tokenizer);
    CHECK_OK(st);
    for (int64_t i = 0; i < num_ids; i++) {
        len += (size_t)snprintf(got + len, sizeof got - len, "%s%d", i > 0 ? " " : "", (int)ids[i]);
    }
    if (strcmp(got, want) != 0) {
        test_fail(__FILE__, __LINE__, "\"%s\": want %s, got %s", text, want, got);
    }
}

/* What follows was compared with Hugging Face tokenizers 0.23. */

TEST(the_usual_file)
{
    const test_json usual = {0};
    check_ids(&usual, "", "1");
    check_ids(&usual, "ab a", "7 3 4 1");
    check_ids(&usual, " ab", "7 1");
    check_ids(&usual, BLOCK "ab", "7 1");
    check_ids(&usual, "abxyab", "7 2 6 1");
    check_ids(&usual, "a<unk>b", "3 4 2 5 1"); /* no added token here, but a piece */
}

TEST(scores_decide)
{
    /* -3 - 3 against -4 for "ab"; equal scores keep what was found first, the longer piece from further left. */
    const test_json apart = {.vocab = "[[\"<pad>\",0],[\"</s>\",0],[\"<unk>\",0],[\"" BLOCK
                                      "\",-2],[\"a\",-1],[\"b\",-1],[\"ab\",-4]]"};
    check_ids(&apart, "ab", "3 4 5 1");
    const test_json equal = {.vocab = "[[\"<pad>\",0],[\"</s>\",0],[\"<unk>\",0],[\"" BLOCK
                                      "\",-2],[\"a\",-1],[\"b\",-1],[\"ab\",-2]]"};
    check_ids(&equal, "ab", "3 6 1");
    /* Of equal pieces the last one counts. */
    const test_json twice = {.vocab = "[[\"<pad>\",0],[\"</s>\",0],[\"<unk>\",0],[\"" BLOCK
                                      "\",-2],[\"a\",-1],[\"b\",-1],[\"ab\",-9],[\"ab\",-1.5]]"};
    check_ids(&twice, "ab", "3 7 1");
}

TEST(an_unknown_character_costs_ten_more_than_the_worst_piece)
{
    /* "xa" is the worst piece, -8: x unknown and then a is -18 + 9.5 or -18 + 10.5. */
    const test_json less = {.vocab = "[[\"<pad>\",0],[\"</s>\",0],[\"<unk>\",0],[\"" BLOCK
                                     "\",-2],[\"a\",9.5],[\"xa\",-8]]"};
    check_ids(&less, "xa", "3 5 1");
    const test_json more = {.vocab = "[[\"<pad>\",0],[\"</s>\",0],[\"<unk>\",0],[\"" BLOCK
                                     "\",-2],[\"a\",10.5],[\"xa\",-8]]"};
    check_ids(&more, "xa", "3 2 4 1");
}

TEST(bytes_for_unknown_characters)
{
    const char *vocab = "[[\"<pad>\",0],[\"</s>\",0],[\"<unk>\",0],[\"" BLOCK "\",-2],[\"<0xC3>\",0],[\"<0xA4>\",0]]";
    const test_json with = {.vocab = vocab, .model_rest = "\"unk_id\": 2, \"byte_fallback\": true"};
    check_ids(&with, "\xc3\xa4", "3 4 5 1");
    check_ids(&with, "\xc3\xa4 \xc3\xa4\xc3\xa4", "3 4 5 3 4 5 4 5 1");
    check_ids(&with, "\xc3\xa4y", "3 2 1"); /* y has no byte piece, so the whole run is unknown */
    const test_json without = {.vocab = vocab};
    check_ids(&without, "\xc3\xa4", "3 2 1");
}

TEST(metaspace)
{
    static const struct {
        const char *pre_tokenizer;
        const char *text;
        const char *ids;
    } cases[] = {
        {"{\"type\":\"Metaspace\",\"replacement\":\"" BLOCK "\",\"prepend_scheme\":\"first\",\"split\":true}",
         "ab</s>ab ab", "7 1 6 7 1"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"" BLOCK "\",\"prepend_scheme\":\"never\"}", "ab ab", "6 7 1"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"" BLOCK "\"}", "ab</s>ab", "7 1 7 1"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"" BLOCK "\",\"add_prefix_space\":true}", "ab", "7 1"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"" BLOCK "\",\"add_prefix_space\":false}", "ab ab", "6 7 1"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"b\",\"prepend_scheme\":\"always\"}", "a a", "5 4 5 4 1"},
        {"{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"WhitespaceSplit\"},{\"type\":\"Metaspace\","
         "\"replacement\":\"" BLOCK "\",\"prepend_scheme\":\"always\"}]}",
         "\tab\xe3\x80\x80 ab\n", "7 7 1"},
        {"{\"type\":\"WhitespaceSplit\"}", " ab  ab", "6 6 1"},
        {"null", "ab" BLOCK "ab", "6 7 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const test_json parts = {
            .pre_tokenizer = cases[i].pre_tokenizer,
            .added_tokens = "[{\"id\":1,\"content\":\"</s>\",\"normalized\":false,\"special\":true}]",
        };
        test_parameters("case %zu", i);
        check_ids(&parts, cases[i].text, cases[i].ids);
    }
}

TEST(added_tokens)
{
    static const struct {
        const char *tokens;
        const char *text;
        const char *ids;
    } cases[] = {
        {"[{\"id\":8,\"content\":\"<m>\",\"special\":true}]", "ab <m> ab", "7 3 8 7 1"},
        {"[{\"id\":8,\"content\":\"<m>\",\"special\":true,\"lstrip\":true}]", "ab <m> ab", "7 8 7 1"},
        {"[{\"id\":8,\"content\":\"<m>\",\"special\":true,\"rstrip\":true}]", "ab<m>  ", "7 8 1"},
        {"[{\"id\":8,\"content\":\"x\",\"special\":true,\"single_word\":true}]", "ax x", "3 4 2 3 8 1"},
        {"[{\"id\":8,\"content\":\"a\\u0308\",\"special\":true},{\"id\":4,\"content\":\"a\",\"special\":true}]",
         "aa\xcc\x88", "4 8 1"}, /* the longest at a place */
        {"[{\"id\":8,\"content\":\"xy\",\"special\":true},{\"id\":9,\"content\":\"yzzz\",\"special\":true}]", "xyzzz",
         "8 3 2 1"},                                                                    /* the leftmost of all */
        {"[{\"id\":8,\"content\":\"A\\u030a\",\"special\":false}]", "\xc3\x85", "8 1"}, /* normalized by default */
        {"[{\"id\":8,\"content\":\"A\\u030a\",\"special\":true}]", "\xc3\x85", "3 2 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const test_json parts = {.added_tokens = cases[i].tokens, .normalizer = "{\"type\":\"NFC\"}"};
        test_parameters("case %zu", i);
        check_ids(&parts, cases[i].text, cases[i].ids);
    }
    const test_json first = {.added_tokens = "[{\"id\":8,\"content\":\"x\",\"special\":false}]",
                             .pre_tokenizer =
                                 "{\"type\":\"Metaspace\",\"replacement\":\"" BLOCK "\",\"prepend_scheme\":\"first\"}"};
    check_ids(&first, "abxab", "7 8 6 1");
    sky_tokenizer *tokenizer = NULL;
    const test_json far = {.added_tokens = "[{\"id\":1048575,\"content\":\"x\"}]"};
    CHECK_OK(open_json(&far, &tokenizer));
    EXPECT(sky_tokenizer_vocab_size(tokenizer) == 1048576);
    sky_tokenizer_destroy(&tokenizer);
}

TEST(normalizers)
{
    static const struct {
        const char *normalizer;
        const char *text;
        const char *ids;
    } cases[] = {
        {"{\"type\":\"NFKC\"}", "\xef\xbd\x81\xef\xbd\x82", "7 1"},
        {"{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":false}", "  ab ", "7 3 1"},
        {"{\"type\":\"Strip\",\"strip_left\":false,\"strip_right\":true}", " ab \n", "7 1"},
        {"{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":true}", " \n ", "1"},
        {"{\"type\":\"Replace\",\"pattern\":{\"String\":\"xx\"},\"content\":\"ab\"}", "xxx", "7 2 1"},
        {"{\"type\":\"Replace\",\"pattern\":{\"String\":\"x\"},\"content\":\"\"}", "axb", "7 1"},
        {"{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},\"content\":\"b\"}", "a   a a", "7 4 3 4 1"},
        {"{\"type\":\"Prepend\",\"prepend\":\"a\"}", "b", "7 1"},
        {"{\"type\":\"Prepend\",\"prepend\":\"a\"}", "", "1"},
        {"{\"type\":\"Sequence\",\"normalizers\":[]}", "ab", "7 1"},
        {"{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Replace\","
         "\"pattern\":{\"String\":\"x\"},\"content\":\"y\"}]},{\"type\":\"Replace\",\"pattern\":{\"String\":\"y\"},"
         "\"content\":\"ab\"}]}",
         "x", "7 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const test_json parts = {.normalizer = cases[i].normalizer};
        test_parameters("case %zu", i);
        check_ids(&parts, cases[i].text, cases[i].ids);
    }
}

TEST(a_template_with_ids_in_front)
{
    const test_json parts = {
        .post_processor =
            "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},{\"Sequence\":{"
            "\"id\":\"A\"}},{\"SpecialToken\":{\"id\":\"</s>\"}}],\"special_tokens\":{\"<s>\":{\"ids\":[0,2]"
            "},\"</s>\":{\"ids\":[1]}}}"};
    check_ids(&parts, "ab", "0 2 7 1");
    sky_tokenizer *tokenizer = NULL;
    int32_t ids[4];
    int64_t num_ids = 0;
    CHECK_OK(open_json(&parts, &tokenizer));
    EXPECT(sky_tokenizer_encode(tokenizer, "ab ab", 2, ids, &num_ids) == SKY_ERR_USAGE);
    EXPECT(sky_tokenizer_encode(tokenizer, "ab ab", 4, ids, &num_ids) == SKY_OK && num_ids == 4 && ids[3] == 1);
    sky_tokenizer_destroy(&tokenizer);
}

TEST(a_replacement_that_blows_the_text_up_is_refused)
{
    char normalizer[512];
    char content[201];
    memset(content, 'y', sizeof content - 1);
    content[sizeof content - 1] = '\0';
    snprintf(normalizer, sizeof normalizer, "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"%s\"}",
             content);
    const test_json parts = {.normalizer = normalizer};
    char *text = malloc((1 << 20) + 1);
    sky_tokenizer *tokenizer = NULL;
    int32_t ids[8];
    int64_t num_ids = 0;
    CHECK(text != NULL);
    memset(text, 'a', 1 << 20);
    text[1 << 20] = '\0';
    CHECK_OK(open_json(&parts, &tokenizer));
    const sky_status st = sky_tokenizer_encode(tokenizer, text, 8, ids, &num_ids);
    sky_tokenizer_destroy(&tokenizer);
    free(text);
    CHECK_STATUS(st, SKY_ERR_USAGE);
}

TEST(bad_files_are_refused)
{
    static const struct {
        test_json parts;
        sky_status st;
        const char *why;
    } cases[] = {
        {{.vocab = "[]"}, SKY_ERR_INPUT, "0 pieces"},
        {{.vocab = "{}"}, SKY_ERR_INPUT, "vocab: want a list"},
        {{.vocab = "[[\"a\"]]"}, SKY_ERR_INPUT, "entry 0"},
        {{.vocab = "[[\"a\", 0, 0]]"}, SKY_ERR_INPUT, "entry 0"},
        {{.vocab = "[[1, 0]]"}, SKY_ERR_INPUT, "entry 0"},
        {{.vocab = "[[\"a\", \"0\"]]"}, SKY_ERR_INPUT, "entry 0"},
        {{.vocab = "[[\"a\", null]]"}, SKY_ERR_INPUT, "entry 0"},
        {{.vocab = "[[\"a\", NaN]]"}, SKY_ERR_INPUT, "JSON"},
        {{.vocab = "[[\"a\", 1e999]]"}, SKY_ERR_INPUT, "JSON"},
        {{.vocab = "[[\"a\", 0], [\"\", 0], [\"b\", 0]]"}, SKY_ERR_INPUT, "piece 1: want 1 to 4096 bytes"},
        {{.vocab = "[[\"a\", 0], [\"b\", 0]]"}, SKY_ERR_INPUT, "unk_id is 2"},
        {{.model_rest = "\"unk_id\": 8"}, SKY_ERR_INPUT, "unk_id is 8"},
        {{.model_rest = "\"unk_id\": 1000000000"}, SKY_ERR_INPUT, "unk_id is 1000000000"},
        {{.model_rest = "\"unk_id\": -1"}, SKY_ERR_INPUT, "unk_id: want"},
        {{.model_rest = "\"unk_id\": null"}, SKY_ERR_INPUT, "unk_id: want"},
        {{.model_rest = "\"unk_id\": 2.0"}, SKY_ERR_INPUT, "unk_id: want"},
        {{.model_rest = "\"unk_id\": 2, \"byte_fallback\": 1"}, SKY_ERR_INPUT, "byte_fallback: want"},
        {{.added_tokens = "{}"}, SKY_ERR_INPUT, "added_tokens: want a list"},
        {{.added_tokens = "[1]"}, SKY_ERR_INPUT, "entry 0"},
        {{.added_tokens = "[{\"id\":8}]"}, SKY_ERR_INPUT, "content: want"},
        {{.added_tokens = "[{\"id\":1048576,\"content\":\"x\"}]"}, SKY_ERR_INPUT, "id: want an id"},
        {{.added_tokens = "[{\"id\":-1,\"content\":\"x\"}]"}, SKY_ERR_INPUT, "id: want an id"},
        {{.added_tokens = "[{\"id\":8,\"content\":\"\"}]"}, SKY_ERR_INPUT, "0 bytes"},
        {{.added_tokens = "[{\"id\":5,\"content\":\"x\"}]"}, SKY_ERR_INPUT, "another piece"},
        {{.added_tokens = "[{\"id\":5,\"content\":\"a\"}]"}, SKY_ERR_INPUT, "as piece 4"},
        {{.added_tokens = "[{\"id\":8,\"content\":\"x\",\"lstrip\":0}]"}, SKY_ERR_INPUT, "lstrip: want"},
        {{.added_tokens = "[{\"id\":8,\"content\":\"x\"},{\"id\":8,\"content\":\"y\"}]"}, SKY_ERR_INPUT, "the id 8"},
        {{.added_tokens = "[{\"id\":8,\"content\":\"x\"},{\"id\":9,\"content\":\"x\"}]"}, SKY_ERR_INPUT, "second time"},
        {{.added_tokens = "[{\"id\":8,\"content\":\" \"}]",
          .normalizer = "{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":true}"},
         SKY_ERR_INPUT,
         "once it is normalised"},
        {{.normalizer = "[]"}, SKY_ERR_INPUT, "normalizer: want"},
        {{.normalizer = "{\"type\":7}"}, SKY_ERR_INPUT, "normalizer: want"},
        {{.normalizer = "{\"type\":\"Lowercase\"}"}, SKY_ERR_UNSUPPORTED, "\"Lowercase\" is not offered"},
        {{.normalizer = "{\"type\":\"Precompiled\"}"}, SKY_ERR_INPUT, "precompiled_charsmap: want"},
        {{.normalizer = "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"\"}"}, SKY_ERR_INPUT, "base64"},
        {{.normalizer = "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAA\"}"}, SKY_ERR_INPUT, "base64"},
        {{.normalizer = "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AA=A\"}"}, SKY_ERR_INPUT, "base64"},
        {{.normalizer = "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AA A\"}"}, SKY_ERR_INPUT, "base64"},
        {{.normalizer = "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AA\xc3\xa4\"}"}, SKY_ERR_INPUT, "base64"},
        {{.normalizer = "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAA\"}"},
         SKY_ERR_INPUT,
         "character map: 3 bytes"},
        {{.normalizer = "{\"type\":\"Strip\",\"strip_left\":1}"}, SKY_ERR_INPUT, "strip_left"},
        {{.normalizer = "{\"type\":\"Replace\",\"pattern\":\"a\",\"content\":\"b\"}"}, SKY_ERR_INPUT, "pattern.String"},
        {{.normalizer = "{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"b\"}"},
         SKY_ERR_INPUT,
         "0 bytes long"},
        {{.normalizer = "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"(a+)+\"},\"content\":\"b\"}"},
         SKY_ERR_UNSUPPORTED,
         "regular expressions"},
        {{.normalizer = "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"}}"}, SKY_ERR_INPUT, "content: want"},
        {{.normalizer = "{\"type\":\"Sequence\"}"}, SKY_ERR_INPUT, "Sequence: want a list"},
        {{.normalizer = "{\"type\":\"Sequence\",\"normalizers\":[null]}"}, SKY_ERR_INPUT, "normalizer: want"},
        {{.pre_tokenizer = "{\"type\":\"ByteLevel\"}"}, SKY_ERR_UNSUPPORTED, "\"ByteLevel\" is not offered"},
        {{.pre_tokenizer = "{\"type\":\"Metaspace\"}"}, SKY_ERR_INPUT, "replacement: want"},
        {{.pre_tokenizer = "{\"type\":\"Metaspace\",\"replacement\":\"ab\"}"}, SKY_ERR_INPUT, "replacement: want"},
        {{.pre_tokenizer = "{\"type\":\"Metaspace\",\"replacement\":\"a\",\"prepend_scheme\":\"x\"}"},
         SKY_ERR_INPUT,
         "prepend_scheme: want"},
        {{.pre_tokenizer = "{\"type\":\"Metaspace\",\"replacement\":\"a\",\"prepend_scheme\":\"first\","
                           "\"add_prefix_space\":false}"},
         SKY_ERR_INPUT,
         "add_prefix_space is false"},
        {{.pre_tokenizer = "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Metaspace\",\"replacement\":\"a\"},{"
                           "\"type\":\"WhitespaceSplit\"}]}"},
         SKY_ERR_UNSUPPORTED,
         "behind Metaspace"},
        {{.post_processor = "null"}, SKY_ERR_UNSUPPORTED, "TemplateProcessing"},
        {{.post_processor = "{\"type\":\"TemplateProcessing\",\"single\":[]}"}, SKY_ERR_INPUT, "sequence A once"},
        {{.post_processor = "{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"A\"}},{\"Sequence\":{"
                            "\"id\":\"A\"}}]}"},
         SKY_ERR_INPUT,
         "sequence A once"},
        {{.post_processor = "{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"A\"}},{"
                            "\"SpecialToken\":{\"id\":\"x\"}}],\"special_tokens\":{}}"},
         SKY_ERR_INPUT,
         "no ids for \"x\""},
        {{.post_processor = "{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"A\"}},{"
                            "\"SpecialToken\":{\"id\":\"x\"}}],\"special_tokens\":{\"x\":{\"ids\":[1000000000]}}}"},
         SKY_ERR_INPUT,
         "want an id"},
        {{.post_processor =
              "{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"A\"}},{"
              "\"SpecialToken\":{\"id\":\"x\"}}],\"special_tokens\":{\"x\":{\"ids\":[0,0,0,0,0,0,0,0,0,0,0,"
              "0,0,0,0,0,0]}}}"},
         SKY_ERR_INPUT,
         "more than 16"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        test_parameters("case %zu", i);
        const sky_status st = try_json(&cases[i].parts);
        if (st != cases[i].st || strstr(sky_message(), cases[i].why) == NULL) {
            test_fail(__FILE__, __LINE__, "want %s with \"%s\", got %s: %s", sky_status_name(cases[i].st), cases[i].why,
                      sky_status_name(st), sky_message());
        }
    }
    sky_tokenizer *tokenizer = NULL;
    CHECK_STATUS(sky_tokenizer_from_json("[]", 2, &tokenizer), SKY_ERR_INPUT);
    CHECK_STATUS(sky_tokenizer_from_json("{\"model\":{\"type\":\"BPE\"}}", 24, &tokenizer), SKY_ERR_UNSUPPORTED);
    CHECK(tokenizer == NULL);
}

TEST(sequences_in_sequences_and_many_steps)
{
    char text[4096];
    const int depths[] = {8, 9, 20};
    for (size_t i = 0; i < sizeof depths / sizeof depths[0]; i++) {
        size_t len = 0;
        for (int k = 0; k < depths[i]; k++) {
            len += (size_t)snprintf(text + len, sizeof text - len, "{\"type\":\"Sequence\",\"normalizers\":[");
        }
        len += (size_t)snprintf(text + len, sizeof text - len, "{\"type\":\"NFC\"}");
        for (int k = 0; k < depths[i]; k++) {
            len += (size_t)snprintf(text + len, sizeof text - len, "]}");
        }
        const test_json parts = {.normalizer = text};
        test_parameters("depth=%d", depths[i]);
        CHECK_STATUS(try_json(&parts), depths[i] <= 8 ? SKY_OK : SKY_ERR_INPUT);
    }
    for (int steps = 16; steps <= 17; steps++) {
        size_t len = (size_t)snprintf(text, sizeof text, "{\"type\":\"Sequence\",\"normalizers\":[");
        for (int k = 0; k < steps; k++) {
            len += (size_t)snprintf(text + len, sizeof text - len, "%s{\"type\":\"NFC\"}", k > 0 ? "," : "");
        }
        snprintf(text + len, sizeof text - len, "]}");
        const test_json parts = {.normalizer = text};
        test_parameters("steps=%d", steps);
        CHECK_STATUS(try_json(&parts), steps <= 16 ? SKY_OK : SKY_ERR_INPUT);
    }
}

TEST_MAIN
