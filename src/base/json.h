/*
 * base/json.h - JSON from files that are not trusted
 *
 * Jansson's values, read by a reader of our own with the rules of hostile input: text is UTF-8 without NUL, nesting is at
 * most 64 deep, numbers have at most 512 digits, keys of an object are unique, nothing follows the value, and parsing
 * allocates at most 64 MiB plus twice the text's length. Values are plain Jansson values; callers use json_object_get() and friends, and the checked getters below for numbers.
 */
#ifndef SKY_BASE_JSON_H
#define SKY_BASE_JSON_H

#include "base/status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Parses text (len bytes, no terminator needed). *out is the caller's to json_decref(). Errors: INPUT. */
sky_status sky_json_parse(const char *text, size_t len, json_t **out);

/* The same with another limit on the memory that the parse allocates. */
sky_status sky_json_parse_within(const char *text, size_t len, uint64_t budget_bytes, json_t **out);

/* Reads and parses a whole file of at most max_bytes. Errors: IO where it cannot be read, INPUT. */
sky_status sky_json_load(const char *path, size_t max_bytes, json_t **out);

/* An integer in [0, 2^53]. False for anything else: negative, fractional, exponent form, another type. */
bool sky_json_size(const json_t *value, uint64_t *out);

#endif
