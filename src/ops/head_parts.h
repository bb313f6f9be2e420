/*
 * ops/head_parts.h - a tensor of heads in parts, one for each of the ranks that share them
 *
 * An op with num_parts writes [part][rows, heads of the part, width]: what each of num_parts ranks takes, one behind the other,
 * so that an exchange sends a part as it lies (arXiv 2309.14509, DeepSpeed-Ulysses, section 3). Part p has the heads of
 * sky_partition(num_heads, num_parts, p): parts need not divide the heads, and one may be empty. The tensor is passed as
 * [rows, num_heads, width], which is what it is with one part; num_parts 0 is one part too.
 */
#ifndef SKY_OPS_HEAD_PARTS_H
#define SKY_OPS_HEAD_PARTS_H

#include "base/span.h"

static inline int sky_num_parts(int num_parts)
{
    return num_parts > 1 ? num_parts : 1;
}

/* Element that a row of the part with these heads begins at. */
static inline int64_t sky_part_row(sky_span heads, int64_t num_rows, int64_t width, int64_t row)
{
    return (heads.first * num_rows + heads.count * row) * width;
}

/* The heads of the part that head is in. */
static inline sky_span sky_part_of_head(int64_t num_heads, int num_parts, int64_t head)
{
    sky_span part = {0};
    for (int p = 0; sky_span_end(part) <= head; p++) {
        part = sky_partition(num_heads, sky_num_parts(num_parts), p);
    }
    return part;
}

#endif
