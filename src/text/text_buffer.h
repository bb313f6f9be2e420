/*
 * text/text_buffer.h - growing strings of bytes and of code points, and what Unicode says of a character
 *
 * Both buffers start zeroed and are freed by sky_text_free / sky_codepoints_free (also after a failure). They refuse to
 * grow beyond SKY_TEXT_MAX_BYTES or SKY_TEXT_MAX_CODEPOINTS, so that no replacement table can blow a prompt up.
 */
#ifndef SKY_TEXT_TEXT_BUFFER_H
#define SKY_TEXT_TEXT_BUFFER_H

#include "base/status.h"
#include "base/utf8.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SKY_TEXT_MAX_BYTES = 32 << 20,
    SKY_TEXT_MAX_CODEPOINTS = 16 << 20,
};

typedef struct sky_text {
    char *data; /* owned; not terminated */
    size_t len;
    size_t capacity;
} sky_text;

typedef struct sky_codepoints {
    uint32_t *data; /* owned */
    size_t len;
    size_t capacity;
} sky_codepoints;

/* Errors: NOMEM, USAGE where the text would become too long. */
sky_status sky_text_append(sky_text *text, const char *bytes, size_t len);
sky_status sky_codepoints_push(sky_codepoints *text, uint32_t codepoint);
void sky_text_free(sky_text *text);
void sky_codepoints_free(sky_codepoints *text);

/* Appends valid UTF-8 as code points, and the other way round. Errors as above. */
sky_status sky_codepoints_append_utf8(sky_codepoints *out, const char *text, size_t len);
sky_status sky_text_append_codepoints(sky_text *out, const uint32_t *codepoints, size_t len);

/* NFC of text in place, or NFKC where compat is true. Time is n log n even for long runs of marks. Errors as above. */
sky_status sky_codepoints_normalize(sky_codepoints *text, bool compat);

/* White space as Python's str.isspace() has it, and as Unicode's White_Space (Rust, regular expressions) has it. */
bool sky_is_python_space(uint32_t codepoint);
bool sky_is_white_space(uint32_t codepoint);

/* Whether \w of Rust's regular expressions matches. */
bool sky_is_word(uint32_t codepoint);

/* U+0080 to U+009F as browsers read them: by Windows-1252, and unchanged where that has nothing. Others unchanged. */
uint32_t sky_c1_as_windows_1252(uint32_t codepoint);

/* Whether Python's \d matches. */
bool sky_is_digit(uint32_t codepoint);

#endif
