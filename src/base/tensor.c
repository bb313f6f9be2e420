#include "base/tensor.h"

#include "base/status.h"

#include <inttypes.h>
#include <stdio.h>

int64_t sky_tensor_len(const sky_tensor *t)
{
    int64_t len = 1;
    for (int i = 0; i < t->num_dims; i++) {
        len *= t->shape[i];
    }
    return len;
}

size_t sky_tensor_bytes(const sky_tensor *t)
{
    return (size_t)sky_tensor_len(t) * sky_dtype_bytes(t->dtype);
}

bool sky_tensor_same_shape(const sky_tensor *a, const sky_tensor *b)
{
    if (a->num_dims != b->num_dims) {
        return false;
    }
    for (int i = 0; i < a->num_dims; i++) {
        if (a->shape[i] != b->shape[i]) {
            return false;
        }
    }
    return true;
}

const char *sky_tensor_describe(const sky_tensor *t, char *text, size_t size)
{
    size_t used = 0;
    const char *separator = "[";
    text[0] = '\0';
    for (int i = 0; i < t->num_dims && used < size; i++) {
        used += (size_t)snprintf(text + used, size - used, "%s%" PRId64, separator, t->shape[i]);
        separator = ", ";
    }
    if (used < size) {
        snprintf(text + used, size - used, "%s] %s", t->num_dims == 0 ? "[" : "", sky_dtype_name(t->dtype));
    }
    return text;
}

sky_tensor sky_tensor_rows(const sky_tensor *t, int64_t first, int64_t count)
{
    SKY_ASSERT(t->num_dims >= 1 && first >= 0 && count >= 0 && first + count <= t->shape[0]);
    sky_tensor rows = *t;
    rows.shape[0] = 1;
    const size_t row_bytes = sky_tensor_bytes(&rows);
    rows.shape[0] = count;
    rows.data = (unsigned char *)t->data + (size_t)first * row_bytes;
    return rows;
}

sky_tensor sky_tensor_reshape(const sky_tensor *t, int num_dims, const int64_t *shape)
{
    SKY_ASSERT(num_dims >= 0 && num_dims <= SKY_MAX_DIMS);
    sky_tensor view = {.data = t->data, .dtype = t->dtype, .num_dims = num_dims};
    for (int i = 0; i < num_dims; i++) {
        view.shape[i] = shape[i];
    }
    SKY_ASSERT(sky_tensor_len(&view) == sky_tensor_len(t));
    return view;
}
