/*
 * text/added_tokens.h - tokens that are looked for in the text itself, before it is cut into pieces
 *
 * Those that are not `normalized` are found in the raw text, the others in the normalised text between them: leftmost
 * first, the longest of those that start there.
 * Source: Hugging Face tokenizers, tokenizer/added_vocabulary.rs.
 */
#ifndef SKY_TEXT_ADDED_TOKENS_H
#define SKY_TEXT_ADDED_TOKENS_H

#include "text/normalizer.h"
#include "text/unigram.h"

typedef struct sky_added_token {
    char *content; /* owned */
    size_t len;
    int32_t id;
    bool single_word; /* only where no word character is next to it */
    bool lstrip;      /* takes the white space before it along */
    bool rstrip;      /* and behind it */
    bool normalized;
} sky_added_token;

typedef struct sky_added_tokens {
    sky_added_token *tokens; /* owned */
    size_t num_tokens;
    sky_trie raw;        /* values are indices of tokens */
    sky_trie normalized; /* by their normalised content */
    int32_t max_id;      /* -1 without tokens */
} sky_added_tokens;

/*
 * Appends one token; content (len bytes of UTF-8) is copied, token's own content is not read. A token that is a piece of
 * the vocabulary must have that piece's id, any other an id behind the vocabulary. Errors: INPUT, NOMEM.
 */
sky_status sky_added_tokens_add(sky_added_tokens *added, const sky_unigram *unigram, const char *content, size_t len,
                                const sky_added_token *token);

/* When all are there. Errors: INPUT where two are the same or share an id, NOMEM. */
sky_status sky_added_tokens_build(sky_added_tokens *added, const sky_normalizer *normalizer);
void sky_added_tokens_free(sky_added_tokens *added);

/* A part of the text: a token, or (token NULL) the text between tokens. */
typedef struct sky_text_part {
    size_t start;
    size_t end;
    const sky_added_token *token;
} sky_text_part;

typedef struct sky_text_parts {
    sky_text_part *parts; /* owned */
    size_t num_parts;
    size_t capacity;
} sky_text_parts;

/* Replaces *out by the parts of text, which none, one or all of them cover. Errors: NOMEM. */
sky_status sky_added_tokens_split(const sky_added_tokens *added, const sky_trie *trie, const char *text, size_t len,
                                  sky_text_parts *out);
void sky_text_parts_free(sky_text_parts *parts);

#endif
