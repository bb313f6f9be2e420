/*
 * parallel/sequence_impl.h - rows, and lists of what is sent; for parallel/sequence*.c only
 */
#ifndef SKY_PARALLEL_SEQUENCE_IMPL_H
#define SKY_PARALLEL_SEQUENCE_IMPL_H

#include "parallel/sequence.h"

/* Rows of tokens_per_row tokens each. Tokens begin with a whole row, or behind the last one, and so do the rows. */
sky_span sky_sequence_rows(sky_span tokens, int64_t tokens_per_row);

/* Elements [first, first + rows * columns) of t as a matrix. */
sky_tensor sky_matrix_at(const sky_tensor *t, int64_t first, int64_t rows, int64_t columns);

/* Errors: SHAPE where t has not the elements of [rows, columns]. */
sky_status sky_sequence_check(const char *what, const sky_tensor *t, int64_t rows, int64_t columns);

/* A list being made, in the group's own room: one at a time. */
typedef struct sky_sequence_list {
    sky_exchange *entries;
    int num;
} sky_sequence_list;

/* Empty, with room for an entry per operand and member. */
sky_status sky_sequence_list_create(const sky_sequence *s, int num_operands, sky_sequence_list *list);

/* An entry that neither sends nor receives is left out: both sides know that. */
void sky_sequence_list_add(sky_sequence_list *list, int peer, const sky_tensor *send, const sky_tensor *recv);

/* Begins to send what is enqueued on ctx by now to be computed; while planning, counts it. */
sky_status sky_sequence_list_begin(sky_ctx *ctx, const sky_sequence *s, const sky_sequence_list *list,
                                   sky_group_exchange **exchange);

#endif
