/* Reads the tokenizer.json of Hugging Face's fast tokenizers, as far as SentencePiece models need it. */
#include "text/tokenizer_impl.h"

#include <stdlib.h>
#include <string.h>

static const char *type_of(const json_t *node)
{
    const char *type = json_string_value(json_object_get(node, "type"));
    return type == NULL ? "" : type;
}

/* A missing or null flag is fallback. */
static sky_status read_flag(const json_t *node, const char *name, bool fallback, bool *out)
{
    const json_t *value = json_object_get(node, name);
    if (value == NULL || json_is_null(value)) {
        *out = fallback;
        return SKY_OK;
    }
    if (!json_is_boolean(value)) {
        return sky_fail(SKY_ERR_INPUT, "%s: want true or false", name);
    }
    *out = json_is_true(value);
    return SKY_OK;
}

static sky_status read_id(const json_t *value, int32_t *out)
{
    uint64_t id = 0;
    if (!sky_json_size(value, &id) || id >= SKY_UNIGRAM_MAX_PIECES) {
        return sky_fail(SKY_ERR_INPUT, "want an id, a whole number from 0 to %d", SKY_UNIGRAM_MAX_PIECES - 1);
    }
    *out = (int32_t)id;
    return SKY_OK;
}

static sky_status read_piece(const json_t *entry, size_t index, sky_trie_key *piece, double *score)
{
    const json_t *text = json_array_get(entry, 0);
    const json_t *number = json_array_get(entry, 1);
    if (json_array_size(entry) != 2 || !json_is_string(text) || !json_is_number(number)) {
        return sky_fail(SKY_ERR_INPUT, "vocab: entry %zu: want [piece, score]", index);
    }
    const size_t len = json_string_length(text);
    piece->text = json_string_value(text);
    piece->len = len <= SKY_TRIE_MAX_KEY_BYTES ? (uint32_t)len : SKY_TRIE_MAX_KEY_BYTES + 1; /* refused later */
    *score = json_number_value(number);
    return SKY_OK;
}

static sky_status read_model(const json_t *model, sky_unigram *out)
{
    sky_status st = SKY_OK;
    sky_trie_key *pieces = NULL;
    double *scores = NULL;
    uint64_t unk_id = 0;
    bool byte_fallback = false;
    const json_t *vocab = json_object_get(model, "vocab");

    /* Files of before 2021 have no type; then unk_id tells a unigram model. */
    if (json_object_get(model, "type") != NULL && strcmp(type_of(model), "Unigram") != 0) {
        return sky_fail(SKY_ERR_UNSUPPORTED, "type \"%.40s\" is not offered, only Unigram", type_of(model));
    }
    if (!json_is_array(vocab)) {
        return sky_fail(SKY_ERR_INPUT, "vocab: want a list of [piece, score]");
    }
    if (!sky_json_size(json_object_get(model, "unk_id"), &unk_id)) {
        return sky_fail(SKY_ERR_INPUT, "unk_id: want the id of <unk>, a whole number");
    }
    SKY_TRY(read_flag(model, "byte_fallback", false, &byte_fallback));
    const size_t count = json_array_size(vocab);
    pieces = calloc(count + 1, sizeof *pieces);
    scores = calloc(count + 1, sizeof *scores);
    if (pieces == NULL || scores == NULL) {
        st = sky_fail(SKY_ERR_NOMEM, "out of memory for %zu pieces", count);
        goto done;
    }
    for (size_t i = 0; i < count; i++) {
        SKY_TRY_GOTO(read_piece(json_array_get(vocab, i), i, &pieces[i], &scores[i]));
    }
    SKY_TRY_GOTO(sky_unigram_create(pieces, scores, count, unk_id, byte_fallback, true, out));
done:
    free(pieces);
    free(scores);
    return st;
}

static sky_status read_added_token(const json_t *node, sky_tokenizer *out)
{
    const json_t *content = json_object_get(node, "content");
    sky_added_token token = {0};
    bool special = false;
    SKY_TRY(sky_fail_in(read_id(json_object_get(node, "id"), &token.id), "id"));
    if (!json_is_string(content)) {
        return sky_fail(SKY_ERR_INPUT, "content: want a string");
    }
    SKY_TRY(read_flag(node, "special", false, &special));
    SKY_TRY(read_flag(node, "single_word", false, &token.single_word));
    SKY_TRY(read_flag(node, "lstrip", false, &token.lstrip));
    SKY_TRY(read_flag(node, "rstrip", false, &token.rstrip));
    SKY_TRY(read_flag(node, "normalized", !special, &token.normalized));
    return sky_added_tokens_add(&out->added, &out->unigram, json_string_value(content), json_string_length(content),
                                &token);
}

static sky_status read_added_tokens(const json_t *list, sky_tokenizer *out)
{
    if (list != NULL && !json_is_null(list) && !json_is_array(list)) {
        return sky_fail(SKY_ERR_INPUT, "added_tokens: want a list");
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        SKY_TRY(sky_fail_in(read_added_token(json_array_get(list, i), out), "added_tokens: entry %zu", i));
    }
    return sky_fail_in(sky_added_tokens_build(&out->added, &out->normalizer), "added_tokens");
}

static sky_status read_metaspace(const json_t *node, sky_pre_tokenizer *out)
{
    const json_t *replacement = json_object_get(node, "replacement");
    const json_t *scheme = json_object_get(node, "prepend_scheme");
    const char *name = json_string_value(scheme);
    bool add_prefix_space = true;

    SKY_TRY(read_flag(node, "split", true, &out->split));
    SKY_TRY(read_flag(node, "add_prefix_space", true, &add_prefix_space));
    if (!json_is_string(replacement) || json_string_length(replacement) == 0 ||
        json_string_length(replacement) != sky_utf8_len(json_string_value(replacement)[0])) {
        return sky_fail(SKY_ERR_INPUT, "replacement: want one character");
    }
    out->metaspace = true;
    out->replacement_len = json_string_length(replacement);
    memcpy(out->replacement, json_string_value(replacement), out->replacement_len);
    if (scheme == NULL) { /* files of before 2023 have only add_prefix_space */
        out->prepend = add_prefix_space ? SKY_PREPEND_ALWAYS : SKY_PREPEND_NEVER;
        return SKY_OK;
    }
    if (name != NULL && strcmp(name, "always") == 0) {
        out->prepend = SKY_PREPEND_ALWAYS;
    } else if (name != NULL && strcmp(name, "first") == 0) {
        out->prepend = SKY_PREPEND_FIRST;
    } else if (name != NULL && strcmp(name, "never") == 0) {
        out->prepend = SKY_PREPEND_NEVER;
    } else {
        return sky_fail(SKY_ERR_INPUT, "prepend_scheme: want \"always\", \"first\" or \"never\"");
    }
    if (!add_prefix_space && out->prepend != SKY_PREPEND_NEVER) {
        return sky_fail(SKY_ERR_INPUT, "add_prefix_space is false, but prepend_scheme is \"%s\"", name);
    }
    return SKY_OK;
}

static sky_status read_pre_tokenizer_step(const json_t *node, sky_pre_tokenizer *out)
{
    const char *type = type_of(node);
    if (out->metaspace) {
        return sky_fail(SKY_ERR_UNSUPPORTED, "nothing is offered behind Metaspace");
    }
    if (strcmp(type, "WhitespaceSplit") == 0) {
        out->whitespace_split = true;
        return SKY_OK;
    }
    if (strcmp(type, "Metaspace") == 0) {
        return sky_fail_in(read_metaspace(node, out), "Metaspace");
    }
    return sky_fail(SKY_ERR_UNSUPPORTED,
                    "type \"%.40s\" is not offered (WhitespaceSplit, Metaspace and a flat Sequence "
                    "of them are)",
                    type);
}

static sky_status read_pre_tokenizer(const json_t *node, sky_pre_tokenizer *out)
{
    if (node == NULL || json_is_null(node)) {
        return SKY_OK;
    }
    if (strcmp(type_of(node), "Sequence") != 0) {
        return read_pre_tokenizer_step(node, out);
    }
    const json_t *list = json_object_get(node, "pretokenizers");
    if (!json_is_array(list)) {
        return sky_fail(SKY_ERR_INPUT, "pretokenizers: want a list");
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        SKY_TRY(read_pre_tokenizer_step(json_array_get(list, i), out));
    }
    return SKY_OK;
}

/* Appends the ids of a special token of the template. */
static sky_status read_special(const json_t *name, const json_t *tokens, int32_t *ids, int *num_ids)
{
    const char *key = json_string_value(name);
    const json_t *list = key == NULL ? NULL : json_object_get(json_object_get(tokens, key), "ids");
    if (!json_is_array(list)) {
        return sky_fail(SKY_ERR_INPUT, "special_tokens has no ids for \"%.40s\"", key == NULL ? "" : key);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (*num_ids == SKY_TEMPLATE_MAX_IDS) {
            return sky_fail(SKY_ERR_INPUT, "more than %d special tokens", (int)SKY_TEMPLATE_MAX_IDS);
        }
        SKY_TRY(sky_fail_in(read_id(json_array_get(list, i), &ids[*num_ids]), "special_tokens"));
        (*num_ids)++;
    }
    return SKY_OK;
}

static sky_status read_template(const json_t *node, sky_tokenizer *out)
{
    const json_t *single = json_object_get(node, "single");
    const json_t *tokens = json_object_get(node, "special_tokens");
    if (strcmp(type_of(node), "TemplateProcessing") != 0) {
        return sky_fail(SKY_ERR_UNSUPPORTED, "want a TemplateProcessing, found \"%.40s\"", type_of(node));
    }
    if (!json_is_array(single)) {
        return sky_fail(SKY_ERR_INPUT, "single: want a list");
    }
    bool behind = false;
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *piece = json_array_get(single, i);
        const json_t *sequence = json_object_get(piece, "Sequence");
        const json_t *special = json_object_get(piece, "SpecialToken");
        if (sequence != NULL) {
            const char *id = json_string_value(json_object_get(sequence, "id"));
            if (behind || id == NULL || strcmp(id, "A") != 0) {
                return sky_fail(SKY_ERR_INPUT, "single: want the sequence A once");
            }
            behind = true;
        } else {
            SKY_TRY(read_special(json_object_get(special, "id"), tokens, behind ? out->suffix : out->prefix,
                                 behind ? &out->num_suffix : &out->num_prefix));
        }
    }
    return behind ? SKY_OK : sky_fail(SKY_ERR_INPUT, "single: want the sequence A once");
}

static sky_status read_all(const json_t *root, sky_tokenizer *out)
{
    if (!json_is_object(root)) {
        return sky_fail(SKY_ERR_INPUT, "want an object");
    }
    SKY_TRY(sky_fail_in(read_model(json_object_get(root, "model"), &out->unigram), "model"));
    SKY_TRY(sky_normalizer_from_json(json_object_get(root, "normalizer"), &out->normalizer));
    SKY_TRY(read_added_tokens(json_object_get(root, "added_tokens"), out));
    SKY_TRY(
        sky_fail_in(read_pre_tokenizer(json_object_get(root, "pre_tokenizer"), &out->pre_tokenizer), "pre_tokenizer"));
    return sky_fail_in(read_template(json_object_get(root, "post_processor"), out), "post_processor");
}

static int32_t largest(const int32_t *ids, int count, int32_t so_far)
{
    for (int i = 0; i < count; i++) {
        so_far = ids[i] > so_far ? ids[i] : so_far;
    }
    return so_far;
}

sky_status sky_tokenizer_from_json(const char *text, size_t len, sky_tokenizer **out)
{
    /* A piece of ten characters costs 25 bytes of text and 250 of Jansson's values. */
    const uint64_t budget_bytes = ((uint64_t)64 << 20) + 12 * (uint64_t)len;
    sky_status st = SKY_OK;
    json_t *root = NULL;
    sky_tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    if (tokenizer == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "out of memory for a tokenizer");
    }
    SKY_TRY_GOTO(sky_json_parse_within(text, len, budget_bytes, &root));
    SKY_TRY_GOTO(read_all(root, tokenizer));
    const int32_t pieces = tokenizer->unigram.num_pieces - 1;
    int32_t max_id = tokenizer->added.max_id > pieces ? tokenizer->added.max_id : pieces;
    max_id = largest(tokenizer->prefix, tokenizer->num_prefix, max_id);
    max_id = largest(tokenizer->suffix, tokenizer->num_suffix, max_id);
    tokenizer->vocab_size = max_id + 1;
    *out = tokenizer;
    tokenizer = NULL;
done:
    json_decref(root);
    sky_tokenizer_destroy(&tokenizer);
    return st;
}
