/*
 * text/tokenizer_impl.h - what a tokenizer is made of; for its own files and their tests and fuzzers
 */
#ifndef SKY_TEXT_TOKENIZER_IMPL_H
#define SKY_TEXT_TOKENIZER_IMPL_H

#include "text/added_tokens.h"
#include "text/tokenizer.h"

enum { SKY_TEMPLATE_MAX_IDS = 16 };

typedef enum sky_prepend_scheme {
    SKY_PREPEND_ALWAYS,
    SKY_PREPEND_FIRST, /* only at the start of the text */
    SKY_PREPEND_NEVER,
} sky_prepend_scheme;

/* What cuts normalised text into words. */
typedef struct sky_pre_tokenizer {
    bool whitespace_split; /* at white space, which is dropped; before the rest */
    bool metaspace;        /* every space becomes replacement, which starts a word */
    bool split;
    sky_prepend_scheme prepend;
    char replacement[4];
    size_t replacement_len;
} sky_pre_tokenizer;

struct sky_tokenizer {
    sky_unigram unigram;
    sky_normalizer normalizer;
    sky_added_tokens added;
    sky_pre_tokenizer pre_tokenizer;
    int32_t prefix[SKY_TEMPLATE_MAX_IDS]; /* ids before and behind those of the text */
    int32_t suffix[SKY_TEMPLATE_MAX_IDS];
    int num_prefix;
    int num_suffix;
    int32_t vocab_size;
};

/* Both from memory; nothing is kept of data. Errors: INPUT, UNSUPPORTED, NOMEM. */
sky_status sky_tokenizer_from_json(const char *text, size_t len, sky_tokenizer **out);
sky_status sky_tokenizer_from_spiece(const void *data, size_t len, sky_tokenizer **out);

#endif
