/*
 * text/text_clean.h - what the published code does to a prompt before it is tokenised
 *
 * ftfy.fix_text (what of it matters for prompts), HTML unescaping twice, white space collapsed, stripped.
 */
#ifndef SKY_TEXT_TEXT_CLEAN_H
#define SKY_TEXT_TEXT_CLEAN_H

#include "base/status.h"

/* Longest text that is taken, in bytes. */
enum { SKY_PROMPT_MAX_BYTES = 1 << 20 };

/*
 * *out is new memory, the caller frees it. Errors: USAGE where text is not valid UTF-8 (the message gives the byte),
 * longer than SKY_PROMPT_MAX_BYTES, or escapes its '&' over and over again; NOMEM. docs/text.md says what is left out.
 * Source: modules/tokenizers.py basic_clean, whitespace_clean; ftfy 6.
 */
sky_status sky_text_clean(const char *text, char **out);

#endif
