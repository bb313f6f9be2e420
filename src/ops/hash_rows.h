/*
 * ops/hash_rows.h - a hash of every group of rows
 *
 *     sums[i] = H(stage, first_row / rows_per_group + i, bytes of rows [i * rows_per_group, (i + 1) * rows_per_group))
 *
 * H is base/hash.h's; the last group may be short. For fingerprints: what comes to the host is a word for each group.
 *
 * Shapes   x [rows, cols]; sums [groups] for groups = ceil(rows / rows_per_group); first_row a multiple of rows_per_group
 * Types    x any; sums i64, the bits of the unsigned number. Every backend gives the same bytes.
 * Errors   SHAPE, DTYPE
 * Stream   enqueued on ctx's stream; returns before the result is ready. Not collective.
 * Source   engine/fingerprint.h.
 */
#ifndef SKY_OPS_HASH_ROWS_H
#define SKY_OPS_HASH_ROWS_H

#include "ops/ctx.h"

typedef struct sky_hash_rows_args {
    sky_tensor sums; /* [groups] i64  out */
    sky_tensor x;    /* [rows, cols] */
    uint64_t stage;
    int64_t first_row; /* global index of row 0 */
    int64_t rows_per_group;
} sky_hash_rows_args;

sky_status sky_hash_rows(sky_ctx *ctx, const sky_hash_rows_args *args);

#endif
