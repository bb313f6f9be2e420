/*
 * model/block_name.h - names of tensors in a file: "blocks.7.ffn.0.weight", or without a block "head.head.bias"
 *
 * Inside src/model only.
 */
#ifndef SKY_MODEL_BLOCK_NAME_H
#define SKY_MODEL_BLOCK_NAME_H

#include <inttypes.h>
#include <stdio.h>

enum { SKY_BLOCK_NAME_BYTES = 96 };

/* name and suffix one behind the other, of block `layer`, or of none (below 0). */
static inline void sky_block_name(int64_t layer, const char *name, const char *suffix, char out[SKY_BLOCK_NAME_BYTES])
{
    if (layer >= 0) {
        snprintf(out, SKY_BLOCK_NAME_BYTES, "blocks.%" PRId64 ".%s%s", layer, name, suffix);
    } else {
        snprintf(out, SKY_BLOCK_NAME_BYTES, "%s%s", name, suffix);
    }
}

#endif
