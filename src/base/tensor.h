/*
 * base/tensor.h - a borrowed view of a dense, row-major array
 *
 * A sky_tensor owns nothing: the arena, the weight store or a caller's buffer does. Copy it freely. A tensor with
 * num_dims 0 and data NULL is "absent" (optional arguments); see sky_tensor_present().
 */
#ifndef SKY_BASE_TENSOR_H
#define SKY_BASE_TENSOR_H

#include "base/dtype.h"

enum { SKY_MAX_DIMS = 6 };

typedef struct sky_tensor {
    void *data; /* on the context's device */
    sky_dtype dtype;
    int num_dims;
    int64_t shape[SKY_MAX_DIMS]; /* the last index runs fastest */
} sky_tensor;

/* A view of data with up to five dimensions: SKY_TENSOR(ptr, SKY_F32, rows, cols). */
#define SKY_TENSOR(ptr, type, ...)                                                       \
    ((sky_tensor){.data = (ptr),                                                         \
                  .dtype = (type),                                                       \
                  .num_dims = (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), \
                  .shape = {__VA_ARGS__}})

static inline bool sky_tensor_present(const sky_tensor *t)
{
    return t->data != NULL;
}

/* Number of elements; 1 for a scalar (num_dims 0). */
int64_t sky_tensor_len(const sky_tensor *t);

/* Bytes of all elements. */
size_t sky_tensor_bytes(const sky_tensor *t);

/* Whether both have the same number of dimensions and the same lengths. */
bool sky_tensor_same_shape(const sky_tensor *a, const sky_tensor *b);

/* Writes "[3, 5] bf16" into text (at most size bytes) and returns it. */
const char *sky_tensor_describe(const sky_tensor *t, char *text, size_t size);

/* Rows [first, first + count) of the first dimension, as a view of t. */
sky_tensor sky_tensor_rows(const sky_tensor *t, int64_t first, int64_t count);

/* Same data and type under another shape with the same number of elements: sky_tensor_reshape(&t, 2, (int64_t[]){a, b}). */
sky_tensor sky_tensor_reshape(const sky_tensor *t, int num_dims, const int64_t *shape);

#endif
