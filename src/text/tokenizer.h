/*
 * text/tokenizer.h - the umt5 tokenizer: SentencePiece unigram, as Hugging Face's fast tokenizer runs it
 *
 * Reads tokenizer.json, or spiece.model where there is only that. Both are hostile until checked: at most 64 MiB, 2^20
 * pieces of at most 4 KiB. A tokenizer is read-only once open; any number of threads may encode with it.
 */
#ifndef SKY_TEXT_TOKENIZER_H
#define SKY_TEXT_TOKENIZER_H

#include "base/status.h"

#include <stdint.h>

/* Longest text that is encoded, in bytes: more than any prompt has once it is cleaned. */
enum { SKY_TOKENIZER_MAX_TEXT_BYTES = 4 << 20 };

typedef struct sky_tokenizer sky_tokenizer;

/*
 * Errors: INPUT where the folder holds neither file or one is refused, UNSUPPORTED where tokenizer.json asks for a step
 * that is not offered, IO, NOMEM.
 */
sky_status sky_tokenizer_open(const char *folder, sky_tokenizer **out);
void sky_tokenizer_destroy(sky_tokenizer **tokenizer);

/* One more than the largest id it can give. */
int32_t sky_tokenizer_vocab_size(const sky_tokenizer *tokenizer);

/*
 * Token ids of cleaned text (sky_text_clean), cut to max_ids - 1, with </s> behind (what the file's template asks for).
 * ids has room for max_ids; *num_ids is what was written. Errors: USAGE where text is not UTF-8 or too long, or max_ids
 * has no room for </s>; NOMEM.
 * Source: modules/tokenizers.py HuggingfaceTokenizer (add_special_tokens, truncation; padding is left to the caller).
 */
sky_status sky_tokenizer_encode(const sky_tokenizer *tokenizer, const char *text, int64_t max_ids, int32_t *ids,
                                int64_t *num_ids);

#endif
