/*
 * support/golden.h - reads the golden HDF5 files in tests/golden
 */
#ifndef SKY_TESTS_SUPPORT_GOLDEN_H
#define SKY_TESTS_SUPPORT_GOLDEN_H

#include "base/tensor.h"

typedef struct golden_array {
    void *data; /* owned; f32, i64 or u8, as golden_read_* says */
    int num_dims;
    int64_t shape[SKY_MAX_DIMS];
    size_t count;
} golden_array;

/* Reads dataset `name` of tests/golden/FILE as f32 (or i64, u8), whatever its stored type. Fails the case and returns
 * false where there is none. */
bool golden_read_f32(const char *file, const char *name, golden_array *out);
bool golden_read_i64(const char *file, const char *name, golden_array *out);
bool golden_read_u8(const char *file, const char *name, golden_array *out);
void golden_free(golden_array *array);

/* Attributes of a group or dataset; a string attribute is copied into text (at most size bytes). */
bool golden_attr_double(const char *file, const char *name, const char *attr, double *out);
bool golden_attr_text(const char *file, const char *name, const char *attr, char *text, size_t size);

/* Calls visit(name, user) for every direct child of group ("/" for the root), in name order. */
bool golden_children(const char *file, const char *group, void (*visit)(const char *name, void *user), void *user);

#endif
