/*
 * text/charsmap.h - SentencePiece's precompiled character map: a Darts double array and a pool of replacements
 *
 * Layout: u32 size of the array in bytes, the array's units (u32 each), the pool of NUL-terminated UTF-8 strings, all
 * little endian. A unit is bit 31 leaf, bits 10 to 30 offset, bit 9 offset times 256, bit 8 a leaf hangs below, bits 0 to
 * 7 label; a leaf holds an offset into the pool. All of it is hostile: every leaf is checked when the map is opened, every
 * step of a walk when it is taken.
 */
#ifndef SKY_TEXT_CHARSMAP_H
#define SKY_TEXT_CHARSMAP_H

#include "text/text_buffer.h"

typedef struct sky_charsmap {
    uint32_t *units; /* owned */
    size_t num_units;
    char *pool; /* owned */
    size_t pool_bytes;
} sky_charsmap;

/* Copies and checks. Errors: INPUT, NOMEM. */
sky_status sky_charsmap_open(const void *data, size_t len, sky_charsmap *out);
void sky_charsmap_free(sky_charsmap *map);

/*
 * Appends the mapped form of valid UTF-8 to out. Per grapheme cluster of less than six bytes, else per character: the
 * replacement of the shortest key that it starts with takes the place of the whole.
 * Source: Hugging Face tokenizers, normalizers/precompiled.rs, and spm_precompiled. Errors: NOMEM, USAGE (too long).
 */
sky_status sky_charsmap_apply(const sky_charsmap *map, const char *text, size_t len, sky_text *out);

#endif
