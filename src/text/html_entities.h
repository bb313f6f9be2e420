/*
 * text/html_entities.h - character references, as two Python functions decode them
 *
 * Both append the decoded form of text (len code points) to out. Errors: NOMEM, USAGE where out becomes too long.
 */
#ifndef SKY_TEXT_HTML_ENTITIES_H
#define SKY_TEXT_HTML_ENTITIES_H

#include "text/text_buffer.h"

/*
 * html.unescape: with or without semicolon, the longest name that is a prefix; numbers as HTML5 maps them (128 to 159 as
 * Windows-1252, NUL and surrogates to U+FFFD, other non-characters to nothing). Source: Python's Lib/html/__init__.py.
 */
sky_status sky_html_unescape(const uint32_t *text, size_t len, sky_codepoints *out);

/*
 * ftfy's unescape_html: only names that end in a semicolon, some of them also in capitals (&NTILDE;). Source: ftfy 6,
 * fixes.py unescape_html.
 */
sky_status sky_html_unescape_ftfy(const uint32_t *text, size_t len, sky_codepoints *out);

#endif
