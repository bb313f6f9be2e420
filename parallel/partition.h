/*
 * parallel/partition.h - partitions of tokens, heads and rows: who holds what, as plain arithmetic
 *
 * Every rank computes every rank's share from the same few numbers, so nothing about it is ever sent. Units are assigned
 * in order, whole, the first ranks taking one more; where there are fewer units than ranks, the last ranks hold none.
 *
 *     tokens   in groups of 128 of the global index: pieces of linear layers (128 rows), of attention (64 queries) and the
 *              groups that share a scale (64 and 128 tokens) then never cross a border, and bytes do not depend on the ranks
 *     heads    one by one; any number of ranks, dividing or not
 *     strips   rows of the VAE's latents, one by one
 */
#ifndef SKY_PARALLEL_PARTITION_H
#define SKY_PARALLEL_PARTITION_H

#include "base/span.h"

enum { SKY_TOKEN_GROUP = 128 };

/* sky_partition() in units of `unit`, the last of which may be short. Empty shares begin at total. */
sky_span sky_partition_units(int64_t total, int64_t unit, int parts, int part);

/* The tokens of member `part` of a sequence on `parts` ranks. */
sky_span sky_partition_tokens(int64_t num_tokens, int parts, int part);

#endif
