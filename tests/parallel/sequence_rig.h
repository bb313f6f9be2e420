/*
 * tests/parallel/sequence_rig.h - a sequence on every layout of the ranks, with contents that name their place
 *
 * A body makes tensors, calls parallel/sequence.h, and compares. It runs twice for each size: planning, then in an arena of
 * just the bytes that were planned, full of poison; what planning counted must be what the group has sent then.
 */
#ifndef SKY_TESTS_PARALLEL_SEQUENCE_RIG_H
#define SKY_TESTS_PARALLEL_SEQUENCE_RIG_H

#include "parallel/sequence.h"

typedef struct sequence_rig {
    sky_sequence s;
    sky_ctx ctx;
    bool planning;
    const void *with; /* what the case gives to its body */
    sky_arena arena;
    sky_traffic planned;
    unsigned char *block;
    char parameters[96];
} sequence_rig;

typedef void (*sequence_body)(sequence_rig *rig);

/*
 * Runs the body for every layout of all ranks, split for guidance too, with the reference and the CPU backend, for whole
 * lists of numbers of tokens and heads, and with late devices (support/late.h) for two of them. Collective; bodies must not leave early.
 */
void sequence_rig_run(sequence_body body, const void *with);

/* The same for one number of tokens and of heads. */
void sequence_rig_run_size(sequence_body body, const void *with, int64_t num_tokens, int64_t num_heads);

/* Rows and heads of a matrix [rows, heads * width] whose elements name their place in the whole one. */
typedef struct sequence_part {
    sky_span rows, heads;
    int64_t num_heads, width; /* of the whole */
} sequence_part;

/* Rows of tokens_per_row tokens that a span of tokens has. */
sky_span sequence_rows(sky_span tokens, int64_t tokens_per_row);

/* From the rig's arena, and where this is no planning, filled with the part. Fails the case where it cannot. */
sky_tensor sequence_rig_tensor(sequence_rig *rig, sky_dtype dtype, int64_t rows, int64_t columns);
sky_tensor sequence_rig_filled(sequence_rig *rig, sky_dtype dtype, const sequence_part *part);

/* The same of rows of all heads that lie in parts, one for each Ulysses rank; and whether t holds them so. */
sky_tensor sequence_rig_filled_parts(sequence_rig *rig, sky_dtype dtype, const sequence_part *all);
void sequence_rig_holds_parts(const sequence_rig *rig, const char *what, const sky_tensor *t, const sequence_part *all);

/* Whether the first rows of t hold the part; fails the case otherwise. True when planning. */
bool sequence_rig_holds(const sequence_rig *rig, const char *what, const sky_tensor *t, const sequence_part *part);

/* A call that must succeed. */
void sequence_rig_ok(const sequence_rig *rig, const char *what, sky_status st);

#endif
