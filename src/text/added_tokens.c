#include "text/added_tokens.h"

#include <stdlib.h>
#include <string.h>

sky_status sky_added_tokens_add(sky_added_tokens *added, const sky_unigram *unigram, const char *content, size_t len,
                                const sky_added_token *token)
{
    if (len == 0 || len > SKY_TRIE_MAX_KEY_BYTES) {
        return sky_fail(SKY_ERR_INPUT, "content: %zu bytes long, want 1 to %d", len, (int)SKY_TRIE_MAX_KEY_BYTES);
    }
    const int32_t piece = sky_trie_find(&unigram->trie, content, len);
    if (piece >= 0 && piece != token->id) {
        return sky_fail(SKY_ERR_INPUT, "id %d, but the vocabulary has the same text as piece %d", (int)token->id,
                        (int)piece);
    }
    if (piece < 0 && token->id < unigram->num_pieces) {
        return sky_fail(SKY_ERR_INPUT, "id %d is that of another piece of the vocabulary", (int)token->id);
    }
    /* Doubles whenever the number is a power of two. */
    if ((added->num_tokens & (added->num_tokens - 1)) == 0) {
        const size_t capacity = added->num_tokens == 0 ? 1 : added->num_tokens * 2;
        sky_added_token *bigger = realloc(added->tokens, capacity * sizeof *bigger);
        if (bigger == NULL) {
            return sky_fail(SKY_ERR_NOMEM, "out of memory for %zu added tokens", capacity);
        }
        added->tokens = bigger;
    }
    char *copy = malloc(len);
    if (copy == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "out of memory for an added token");
    }
    memcpy(copy, content, len);
    sky_added_token *slot = &added->tokens[added->num_tokens++];
    *slot = *token;
    slot->content = copy;
    slot->len = len;
    return SKY_OK;
}

static int compare_ids(const void *a, const void *b)
{
    const int32_t x = *(const int32_t *)a;
    const int32_t y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static sky_status check_ids(sky_added_tokens *added)
{
    int32_t *ids = malloc((added->num_tokens + 1) * sizeof *ids);
    if (ids == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "out of memory for %zu added tokens", added->num_tokens);
    }
    for (size_t i = 0; i < added->num_tokens; i++) {
        ids[i] = added->tokens[i].id;
    }
    qsort(ids, added->num_tokens, sizeof *ids, compare_ids);
    sky_status st = SKY_OK;
    for (size_t i = 1; i < added->num_tokens; i++) {
        if (ids[i] == ids[i - 1]) {
            st = sky_fail(SKY_ERR_INPUT, "two tokens have the id %d", (int)ids[i]);
        }
    }
    added->max_id = added->num_tokens > 0 ? ids[added->num_tokens - 1] : -1;
    free(ids);
    return st;
}

sky_status sky_added_tokens_build(sky_added_tokens *added, const sky_normalizer *normalizer)
{
    sky_status st = SKY_OK;
    sky_trie_key *raw = NULL;
    sky_trie_key *normalized = NULL;
    sky_text *texts = NULL; /* what the keys of normalized tokens point to */
    size_t num_raw = 0;
    size_t num_normalized = 0;
    int32_t duplicate[2] = {-1, -1};

    SKY_TRY(check_ids(added));
    raw = calloc(added->num_tokens + 1, sizeof *raw);
    normalized = calloc(added->num_tokens + 1, sizeof *normalized);
    texts = calloc(added->num_tokens + 1, sizeof *texts);
    if (raw == NULL || normalized == NULL || texts == NULL) {
        st = sky_fail(SKY_ERR_NOMEM, "out of memory for %zu added tokens", added->num_tokens);
        goto done;
    }
    for (size_t i = 0; i < added->num_tokens; i++) {
        const sky_added_token *token = &added->tokens[i];
        if (!token->normalized) {
            raw[num_raw++] = (sky_trie_key){token->content, (uint32_t)token->len, (int32_t)i};
            continue;
        }
        SKY_TRY_GOTO(sky_normalizer_apply(normalizer, token->content, token->len, &texts[i]));
        if (texts[i].len == 0 || texts[i].len > SKY_TRIE_MAX_KEY_BYTES) {
            st = sky_fail(SKY_ERR_INPUT, "token %zu has %zu bytes once it is normalised, want 1 to %d", i, texts[i].len,
                          (int)SKY_TRIE_MAX_KEY_BYTES);
            goto done;
        }
        normalized[num_normalized++] = (sky_trie_key){texts[i].data, (uint32_t)texts[i].len, (int32_t)i};
    }
    SKY_TRY_GOTO(sky_trie_build(raw, num_raw, &added->raw, &duplicate[0]));
    SKY_TRY_GOTO(sky_trie_build(normalized, num_normalized, &added->normalized, &duplicate[1]));
    for (int i = 0; i < 2; i++) {
        if (duplicate[i] >= 0) {
            st = sky_fail(SKY_ERR_INPUT, "token %d is there a second time", (int)duplicate[i]);
        }
    }
done:
    for (size_t i = 0; texts != NULL && i < added->num_tokens; i++) {
        sky_text_free(&texts[i]);
    }
    free(texts);
    free(raw);
    free(normalized);
    return st;
}

void sky_added_tokens_free(sky_added_tokens *added)
{
    for (size_t i = 0; i < added->num_tokens; i++) {
        free(added->tokens[i].content);
    }
    free(added->tokens);
    sky_trie_free(&added->raw);
    sky_trie_free(&added->normalized);
    *added = (sky_added_tokens){0};
}

void sky_text_parts_free(sky_text_parts *parts)
{
    free(parts->parts);
    *parts = (sky_text_parts){0};
}

static sky_status add_part(sky_text_parts *out, size_t start, size_t end, const sky_added_token *token)
{
    if (out->num_parts == out->capacity) {
        const size_t capacity = out->capacity == 0 ? 16 : out->capacity * 2;
        sky_text_part *bigger = realloc(out->parts, capacity * sizeof *bigger);
        if (bigger == NULL) {
            return sky_fail(SKY_ERR_NOMEM, "out of memory for %zu parts of the text", capacity);
        }
        out->parts = bigger;
        out->capacity = capacity;
    }
    out->parts[out->num_parts++] = (sky_text_part){start, end, token};
    return SKY_OK;
}

/* The character that ends before byte i of text; i > 0. */
static uint32_t char_before(const char *text, size_t i, size_t *start)
{
    do {
        i--;
    } while (i > 0 && ((unsigned char)text[i] & 0xc0U) == 0x80);
    uint32_t c = 0;
    sky_utf8_decode(text + i, &c);
    *start = i;
    return c;
}

static bool stands_alone(const char *text, size_t len, size_t start, size_t end)
{
    size_t before = 0;
    if (start > 0 && sky_is_word(char_before(text, start, &before))) {
        return false;
    }
    if (end < len) {
        uint32_t next = 0;
        sky_utf8_decode(text + end, &next);
        return !sky_is_word(next);
    }
    return true;
}

/* From start leftwards over white space, not beyond floor. */
static size_t strip_left(const char *text, size_t start, size_t floor)
{
    while (start > floor) {
        size_t before = 0;
        if (!sky_is_white_space(char_before(text, start, &before))) {
            break;
        }
        start = before;
    }
    return start > floor ? start : floor;
}

static size_t strip_right(const char *text, size_t len, size_t end)
{
    while (end < len) {
        uint32_t c = 0;
        const size_t char_len = sky_utf8_decode(text + end, &c);
        if (!sky_is_white_space(c)) {
            break;
        }
        end += char_len;
    }
    return end;
}

sky_status sky_added_tokens_split(const sky_added_tokens *added, const sky_trie *trie, const char *text, size_t len,
                                  sky_text_parts *out)
{
    out->num_parts = 0;
    size_t done = 0;      /* parts cover the text up to here */
    size_t space_end = 0; /* of white space that was looked through already: a run of it is walked once */
    for (size_t i = 0; i < len && trie->num_nodes > 0;) {
        int32_t index = 0;
        const size_t token_len = sky_trie_longest(trie, text + i, len - i, &index);
        if (token_len == 0) {
            i++;
            continue;
        }
        const sky_added_token *token = &added->tokens[index];
        size_t start = i;
        size_t end = i + token_len;
        i = end;
        if (token->single_word && !stands_alone(text, len, start, end)) {
            continue;
        }
        start = token->lstrip ? strip_left(text, start, done) : start;
        if (token->rstrip) {
            space_end = strip_right(text, len, end < space_end ? space_end : end);
            end = space_end;
        }
        if (done < start) {
            SKY_TRY(add_part(out, done, start, NULL));
        }
        SKY_TRY(add_part(out, start, end, token));
        done = end;
    }
    return done < len ? add_part(out, done, len, NULL) : SKY_OK;
}
