/*
 * model/tokenizer.h - the umt5 tokenizer: SentencePiece unigram, as Hugging Face's fast tokenizer runs it
 *
 * Reads tokenizer.json, or spiece.model where there is only that. Both are hostile until checked.
 */
#ifndef SKY_MODEL_TOKENIZER_H
#define SKY_MODEL_TOKENIZER_H

#include "base/status.h"

#include <stdint.h>

typedef struct sky_tokenizer sky_tokenizer;

/* Errors: INPUT where the folder holds neither file or one is refused, IO, NOMEM. */
sky_status sky_tokenizer_open(const char *folder, sky_tokenizer **out);
void sky_tokenizer_destroy(sky_tokenizer **tokenizer);

/* One more than the largest id it can give. */
int32_t sky_tokenizer_vocab_size(const sky_tokenizer *tokenizer);

/*
 * Token ids of cleaned text (sky_text_clean), cut to max_ids - 1, with </s> behind. ids has room for max_ids; *num_ids
 * is what was written. Errors: USAGE where text is not UTF-8, NOMEM.
 * Source: modules/tokenizers.py HuggingfaceTokenizer (add_special_tokens, truncation; padding is left to the caller).
 */
sky_status sky_tokenizer_encode(const sky_tokenizer *tokenizer, const char *text, int64_t max_ids, int32_t *ids,
                                int64_t *num_ids);

#endif
