/*
 * base/json_reader.h - JSON text to Jansson's values; private to base/json.c
 *
 * A reader of our own because Jansson's does not look whether its token buffer grew: where memory is refused it writes
 * past the block, or drops characters. Building values it does look, so they stay Jansson's. RFC 8259, and keys unique.
 */
#ifndef SKY_BASE_JSON_READER_H
#define SKY_BASE_JSON_READER_H

#include "base/json.h"

#include <stddef.h>

enum { SKY_JSON_MAX_DEPTH = 64, SKY_JSON_MAX_NUMBER_BYTES = 512 };

typedef struct sky_json_reader {
    const char *text; /* len bytes */
    size_t len;
    size_t at;                        /* where it is, and after a failure, where that was */
    char *scratch;                    /* room for the longest string of the text; the caller's */
    const char *reason;               /* of a failure; NULL where memory was refused */
    json_t *open[SKY_JSON_MAX_DEPTH]; /* borrowed: the arrays and objects around `at` */
    int depth;
} sky_json_reader;

/* Reads all of text. NULL on failure, with reason and at. The caller owns what it returns. */
json_t *sky_json_read(sky_json_reader *reader);

#endif
