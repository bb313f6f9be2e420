#include "text/tokenizer.h"

#include "base/file.h"
#include "text/spiece.h"
#include "text/tokenizer_impl.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_FILE_BYTES = 64 << 20 };

/* U+2581, which SentencePiece writes for a space. */
static const char block[] = "\xe2\x96\x81";

/* What one call of encode works in. */
typedef struct encoder {
    const sky_tokenizer *tokenizer;
    sky_text_parts raw_parts;
    sky_text_parts parts;
    sky_text normalized;
    sky_text word; /* a piece of text between tokens, with U+2581 for its spaces */
    sky_unigram_scratch scratch;
    sky_id_list ids;
} encoder;

/* What transformers' SpmConverter and T5Converter make of a model file; docs/text.md. */
sky_status sky_tokenizer_from_spiece(const void *data, size_t len, sky_tokenizer **out)
{
    sky_status st = SKY_OK;
    sky_spiece model = {0};
    sky_trie_key *pieces = NULL; /* a copy, since building the trie sorts it */
    sky_tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    if (tokenizer == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "out of memory for a tokenizer");
    }
    SKY_TRY_GOTO(sky_spiece_read(data, len, &model));
    pieces = malloc(model.num_pieces * sizeof *pieces);
    if (pieces == NULL) {
        st = sky_fail(SKY_ERR_NOMEM, "out of memory for %zu pieces", model.num_pieces);
        goto done;
    }
    memcpy(pieces, model.pieces, model.num_pieces * sizeof *pieces);
    SKY_TRY_GOTO(sky_unigram_create(pieces, model.scores, model.num_pieces, (uint64_t)model.unk_id, false, false,
                                    &tokenizer->unigram));
    SKY_TRY_GOTO(sky_normalizer_from_charsmap(model.charsmap, model.charsmap_bytes, &tokenizer->normalizer));
    for (size_t i = 0; i < model.num_pieces; i++) {
        const uint8_t type = model.types[i];
        if (type == SKY_PIECE_UNKNOWN || type == SKY_PIECE_CONTROL || type == SKY_PIECE_USER_DEFINED) {
            const sky_added_token token = {.id = (int32_t)i};
            SKY_TRY_GOTO(sky_added_tokens_add(&tokenizer->added, &tokenizer->unigram, model.pieces[i].text,
                                              model.pieces[i].len, &token));
        }
    }
    SKY_TRY_GOTO(sky_added_tokens_build(&tokenizer->added, &tokenizer->normalizer));
    tokenizer->pre_tokenizer = (sky_pre_tokenizer){
        .metaspace = true, .split = true, .prepend = SKY_PREPEND_ALWAYS, .replacement_len = sizeof block - 1};
    memcpy(tokenizer->pre_tokenizer.replacement, block, sizeof block - 1);
    tokenizer->suffix[0] = sky_trie_find(&tokenizer->unigram.trie, "</s>", strlen("</s>"));
    tokenizer->num_suffix = 1;
    if (tokenizer->suffix[0] < 0) {
        st = sky_fail(SKY_ERR_INPUT, "no piece is </s>");
        goto done;
    }
    tokenizer->vocab_size = tokenizer->unigram.num_pieces;
    *out = tokenizer;
    tokenizer = NULL;
done:
    free(pieces);
    sky_spiece_free(&model);
    sky_tokenizer_destroy(&tokenizer);
    return st;
}

static sky_status open_file(const char *path, bool json, sky_tokenizer **out)
{
    char *data = NULL;
    size_t len = 0;
    SKY_TRY(sky_file_read_all(path, MAX_FILE_BYTES, &data, &len));
    const sky_status st = json ? sky_tokenizer_from_json(data, len, out) : sky_tokenizer_from_spiece(data, len, out);
    free(data);
    return sky_fail_in(st, "%s", path);
}

sky_status sky_tokenizer_open(const char *folder, sky_tokenizer **out)
{
    static const char *const names[] = {"tokenizer.json", "spiece.model"};
    for (int i = 0; i < 2; i++) {
        char *path = NULL;
        SKY_TRY(sky_path_join(folder, names[i], &path));
        if (sky_path_is_file(path)) {
            const sky_status st = open_file(path, i == 0, out);
            free(path);
            return st;
        }
        free(path);
    }
    return sky_fail(SKY_ERR_INPUT, "%s: want tokenizer.json or spiece.model there, found neither", folder);
}

void sky_tokenizer_destroy(sky_tokenizer **tokenizer)
{
    if (*tokenizer == NULL) {
        return;
    }
    sky_unigram_free(&(*tokenizer)->unigram);
    sky_normalizer_free(&(*tokenizer)->normalizer);
    sky_added_tokens_free(&(*tokenizer)->added);
    free(*tokenizer);
    *tokenizer = NULL;
}

int32_t sky_tokenizer_vocab_size(const sky_tokenizer *tokenizer)
{
    return tokenizer->vocab_size;
}

static bool starts_with(const sky_pre_tokenizer *pre, const char *text, size_t len)
{
    return len >= pre->replacement_len && memcmp(text, pre->replacement, pre->replacement_len) == 0;
}

/* One word of the text between tokens; at_start where it begins the whole text. */
static sky_status encode_metaspace(encoder *e, const char *text, size_t len, bool at_start)
{
    const sky_pre_tokenizer *pre = &e->tokenizer->pre_tokenizer;
    const sky_unigram *unigram = &e->tokenizer->unigram;
    if (!pre->metaspace) {
        return sky_unigram_encode(unigram, text, len, &e->scratch, &e->ids);
    }
    sky_text *word = &e->word;
    word->len = 0;
    const bool prepend = pre->prepend == SKY_PREPEND_ALWAYS || (pre->prepend == SKY_PREPEND_FIRST && at_start);
    if (prepend && text[0] != ' ' && !starts_with(pre, text, len)) {
        SKY_TRY(sky_text_append(word, pre->replacement, pre->replacement_len));
    }
    for (size_t i = 0; i < len; i++) {
        const bool space = text[i] == ' ';
        SKY_TRY(sky_text_append(word, space ? pre->replacement : text + i, space ? pre->replacement_len : 1));
    }
    /* Every replacement starts a piece of its own (MergedWithNext). */
    size_t start = 0;
    for (size_t i = 0; pre->split && i < word->len; i += sky_utf8_len(word->data[i])) {
        if (i > start && starts_with(pre, word->data + i, word->len - i)) {
            SKY_TRY(sky_unigram_encode(unigram, word->data + start, i - start, &e->scratch, &e->ids));
            start = i;
        }
    }
    return sky_unigram_encode(unigram, word->data + start, word->len - start, &e->scratch, &e->ids);
}

/* Normalised text between tokens. */
static sky_status encode_words(encoder *e, const char *text, size_t len, bool at_start)
{
    if (!e->tokenizer->pre_tokenizer.whitespace_split) {
        return encode_metaspace(e, text, len, at_start);
    }
    size_t start = 0;
    for (size_t i = 0; i < len && e->ids.num < e->ids.max;) {
        uint32_t c = 0;
        const size_t char_len = sky_utf8_decode(text + i, &c);
        if (sky_is_white_space(c)) {
            if (start < i) {
                SKY_TRY(encode_metaspace(e, text + start, i - start, at_start && start == 0));
            }
            start = i + char_len;
        }
        i += char_len;
    }
    return start < len ? encode_metaspace(e, text + start, len - start, at_start && start == 0) : SKY_OK;
}

/* Raw text between tokens. */
static sky_status encode_raw(encoder *e, const char *text, size_t len, bool at_start)
{
    const sky_added_tokens *added = &e->tokenizer->added;
    SKY_TRY(sky_normalizer_apply(&e->tokenizer->normalizer, text, len, &e->normalized));
    SKY_TRY(sky_added_tokens_split(added, &added->normalized, e->normalized.data, e->normalized.len, &e->parts));
    for (size_t i = 0; i < e->parts.num_parts && e->ids.num < e->ids.max; i++) {
        const sky_text_part *part = &e->parts.parts[i];
        if (part->token != NULL) {
            e->ids.ids[e->ids.num++] = part->token->id;
        } else {
            SKY_TRY(encode_words(e, e->normalized.data + part->start, part->end - part->start,
                                 at_start && part->start == 0));
        }
    }
    return SKY_OK;
}

static sky_status encode_text(encoder *e, const char *text, size_t len)
{
    const sky_added_tokens *added = &e->tokenizer->added;
    SKY_TRY(sky_added_tokens_split(added, &added->raw, text, len, &e->raw_parts));
    for (size_t i = 0; i < e->raw_parts.num_parts && e->ids.num < e->ids.max; i++) {
        const sky_text_part *part = &e->raw_parts.parts[i];
        if (part->token != NULL) {
            e->ids.ids[e->ids.num++] = part->token->id;
        } else {
            SKY_TRY(encode_raw(e, text + part->start, part->end - part->start, part->start == 0));
        }
    }
    return SKY_OK;
}

sky_status sky_tokenizer_encode(const sky_tokenizer *tokenizer, const char *text, int64_t max_ids, int32_t *ids,
                                int64_t *num_ids)
{
    sky_status st = SKY_OK;
    const size_t len = strlen(text);
    const int64_t extra = tokenizer->num_prefix + tokenizer->num_suffix;
    size_t bad = 0;
    encoder e = {.tokenizer = tokenizer};

    if (len > SKY_TOKENIZER_MAX_TEXT_BYTES) {
        return sky_fail(SKY_ERR_USAGE, "the text has %zu bytes; at most %d are taken", len,
                        (int)SKY_TOKENIZER_MAX_TEXT_BYTES);
    }
    if (!sky_utf8_valid(text, len, &bad)) {
        return sky_fail(SKY_ERR_USAGE, "the text is not UTF-8: byte %zu is 0x%02x", bad, (unsigned char)text[bad]);
    }
    if (max_ids < extra) {
        return sky_fail(SKY_ERR_USAGE, "max_ids is %lld; special tokens alone take %lld", (long long)max_ids,
                        (long long)extra);
    }
    e.ids = (sky_id_list){.ids = ids + tokenizer->num_prefix, .max = max_ids - extra};
    SKY_TRY_GOTO(encode_text(&e, text, len));
    memcpy(ids, tokenizer->prefix, (size_t)tokenizer->num_prefix * sizeof *ids);
    memcpy(ids + tokenizer->num_prefix + e.ids.num, tokenizer->suffix, (size_t)tokenizer->num_suffix * sizeof *ids);
    *num_ids = e.ids.num + extra;
done:
    sky_text_parts_free(&e.raw_parts);
    sky_text_parts_free(&e.parts);
    sky_text_free(&e.normalized);
    sky_text_free(&e.word);
    sky_unigram_scratch_free(&e.scratch);
    return st;
}
