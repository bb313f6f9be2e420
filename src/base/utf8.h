/*
 * base/utf8.h - one character at a time, strictly: shortest forms only, no surrogates, nothing above U+10FFFF
 */
#ifndef SKY_BASE_UTF8_H
#define SKY_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Length of the sequence at text, of which `left` (at least one) bytes are there; 0 where it is none as RFC 3629 has them
 * (Unicode 15, table 3-7).
 */
size_t sky_utf8_sequence(const char *text, size_t left);

/* Whether all of it is UTF-8; otherwise *bad is the first wrong byte. */
bool sky_utf8_valid(const char *text, size_t len, size_t *bad);

/* Decodes one character of valid UTF-8 and returns its length in bytes, 1 to 4. */
size_t sky_utf8_decode(const char *text, uint32_t *codepoint);

/* Bytes of the character that starts with this byte, in valid UTF-8. */
static inline size_t sky_utf8_len(char first)
{
    const unsigned char byte = (unsigned char)first;
    return byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}

/* Writes one character and returns its length in bytes. */
size_t sky_utf8_encode(uint32_t codepoint, char out[4]);

/*
 * Whether it is no control character (C0, DEL, C1), changes no writing direction and is not invisible (zero width, byte
 * order mark, line and paragraph separators, tags): what a name or a message may show.
 */
bool sky_utf8_shows(uint32_t codepoint);

/*
 * Makes text, in place, what a terminal may be given and every program takes for UTF-8: line breaks and tabs become spaces;
 * what is no UTF-8, or does not show, becomes a '?'.
 */
void sky_utf8_make_printable(char *text);

/* The same, with what does not show left out, and no white space at either end: for names and titles. */
void sky_utf8_make_name(char *text);

#endif
