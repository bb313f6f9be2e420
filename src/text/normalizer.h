/*
 * text/normalizer.h - what happens to text between the added tokens before it is cut into pieces
 *
 * A list of steps, as the "normalizer" of a tokenizer.json names them, sequences flattened.
 */
#ifndef SKY_TEXT_NORMALIZER_H
#define SKY_TEXT_NORMALIZER_H

#include "base/json.h"
#include "text/charsmap.h"

enum {
    SKY_NORMALIZER_MAX_STEPS = 16,
    SKY_NORMALIZER_MAX_STRING_BYTES = 256, /* of Replace and Prepend */
};

typedef enum sky_normalizer_kind {
    SKY_NORMALIZER_CHARSMAP,     /* Precompiled */
    SKY_NORMALIZER_NFC,          /* NFC */
    SKY_NORMALIZER_NFKC,         /* NFKC */
    SKY_NORMALIZER_STRIP,        /* Strip: white space at the left, the right or both ends */
    SKY_NORMALIZER_REPLACE,      /* Replace of a string */
    SKY_NORMALIZER_REPLACE_RUNS, /* Replace of the regular expression " {2,}": runs of spaces */
    SKY_NORMALIZER_PREPEND,      /* Prepend, where there is any text */
} sky_normalizer_kind;

typedef struct sky_normalizer_step {
    sky_normalizer_kind kind;
    sky_charsmap charsmap;
    bool left;
    bool right;
    size_t pattern_len;
    size_t content_len;
    char pattern[SKY_NORMALIZER_MAX_STRING_BYTES];
    char content[SKY_NORMALIZER_MAX_STRING_BYTES];
} sky_normalizer_step;

typedef struct sky_normalizer {
    sky_normalizer_step *steps; /* owned; [SKY_NORMALIZER_MAX_STEPS] or NULL */
    int num_steps;
} sky_normalizer;

/* *out starts zeroed and is freed by the caller also after a failure. Errors: INPUT, UNSUPPORTED, NOMEM. */
sky_status sky_normalizer_from_json(const json_t *node, sky_normalizer *out); /* node NULL or null: no steps */

/* What transformers' SpmConverter writes: the character map (may be NULL), strip right, runs of spaces to U+2581. */
sky_status sky_normalizer_from_charsmap(const void *charsmap, size_t len, sky_normalizer *out);
void sky_normalizer_free(sky_normalizer *normalizer);

/* Replaces *out by the normalised form of valid UTF-8. Errors: NOMEM, USAGE where the text becomes too long. */
sky_status sky_normalizer_apply(const sky_normalizer *normalizer, const char *text, size_t len, sky_text *out);

#endif
