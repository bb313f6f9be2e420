/* What sequence.c and sequence_share.c are both made of. */
#include "parallel/sequence_impl.h"

sky_span sky_sequence_rows(sky_span tokens, int64_t tokens_per_row)
{
    const int64_t first = (tokens.first + tokens_per_row - 1) / tokens_per_row;
    const int64_t end = (sky_span_end(tokens) + tokens_per_row - 1) / tokens_per_row;
    return (sky_span){.first = first, .count = end - first};
}

sky_tensor sky_matrix_at(const sky_tensor *t, int64_t first, int64_t rows, int64_t columns)
{
    return SKY_TENSOR((char *)t->data + (size_t)first * sky_dtype_bytes(t->dtype), t->dtype, rows, columns);
}

sky_status sky_sequence_check(const char *what, const sky_tensor *t, int64_t rows, int64_t columns)
{
    char text[96];
    return sky_tensor_len(t) == rows * columns
               ? SKY_OK
               : sky_fail(SKY_ERR_SHAPE, "%s: want [%lld, %lld], got %s", what, (long long)rows, (long long)columns,
                          sky_tensor_describe(t, text, sizeof text));
}

sky_status sky_sequence_list_create(const sky_sequence *s, int num_operands, sky_sequence_list *list)
{
    *list = (sky_sequence_list){0};
    return sky_group_list(s->group, num_operands * sky_sequence_members(s), &list->entries);
}

void sky_sequence_list_add(sky_sequence_list *list, int peer, const sky_tensor *send, const sky_tensor *recv)
{
    const sky_exchange e = {.peer = peer,
                            .send = send->data,
                            .send_bytes = sky_tensor_bytes(send),
                            .recv = recv->data,
                            .recv_bytes = sky_tensor_bytes(recv)};
    if (e.send_bytes > 0 || e.recv_bytes > 0) {
        list->entries[list->num++] = e;
    }
}

sky_status sky_sequence_list_begin(sky_ctx *ctx, const sky_sequence *s, const sky_sequence_list *list,
                                   sky_group_exchange **exchange)
{
    if (!sky_ctx_planning(ctx)) {
        return sky_group_exchange_begin(s->group, ctx, list->entries, list->num, exchange);
    }
    sky_group_exchange_plan(s->group, list->entries, list->num, s->planned);
    return SKY_OK;
}
