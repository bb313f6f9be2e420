/* Around the ring, and from every member to every member. */
#include "parallel/sequence.h"
#include "parallel/sequence_impl.h"

static size_t row_bytes(const sky_tensor *t)
{
    size_t bytes = sky_dtype_bytes(t->dtype);
    for (int i = 1; i < t->num_dims; i++) {
        bytes *= (size_t)t->shape[i];
    }
    return bytes;
}

/* The first rows of t: as many as the block has. */
static sky_status rows_of_block(const sky_sequence *s, const sky_tensor *t, int ring, int64_t tokens_per_row,
                                sky_tensor *out)
{
    const int64_t rows = sky_sequence_rows(sky_sequence_block(s, ring), tokens_per_row).count;
    if (t->num_dims < 1 || t->shape[0] < rows) {
        char text[96];
        return sky_fail(SKY_ERR_SHAPE, "a ring's block of %lld rows: got %s", (long long)rows,
                        sky_tensor_describe(t, text, sizeof text));
    }
    *out = sky_tensor_rows(t, 0, rows);
    return SKY_OK;
}

sky_status sky_sequence_pass_begin(sky_ctx *ctx, const sky_sequence *s, int step, const sky_ring_parts *parts, int num,
                                   sky_group_exchange **exchange)
{
    *exchange = NULL;
    if (num < 0 || num > SKY_SEQUENCE_MAX_OPERANDS || step < 0) {
        return sky_fail(SKY_ERR_INTERNAL, "step %d around a ring with %d tensors: at most %d", step, num,
                        (int)SKY_SEQUENCE_MAX_OPERANDS);
    }
    if (s->ring_degree == 1) {
        return SKY_OK;
    }
    const int members = sky_sequence_members(s);
    const int next = (sky_sequence_member(s) + s->ulysses_degree) % members;
    const int before = (sky_sequence_member(s) + members - s->ulysses_degree) % members;
    const sky_tensor none = {.dtype = SKY_F32, .num_dims = 1};
    sky_sequence_list list;
    SKY_TRY(sky_sequence_list_create(s, num, &list)); /* two entries a tensor, and two members at least */
    for (int i = 0; i < num; i++) {
        sky_tensor send;
        sky_tensor recv;
        SKY_TRY(rows_of_block(s, &parts[i].from, sky_sequence_ring_block(s, step), parts[i].tokens_per_row, &send));
        SKY_TRY(rows_of_block(s, &parts[i].to, sky_sequence_ring_block(s, step + 1), parts[i].tokens_per_row, &recv));
        if (row_bytes(&send) != row_bytes(&recv)) {
            return sky_fail(SKY_ERR_SHAPE, "passing rows of %zu bytes around a ring to rows of %zu", row_bytes(&send),
                            row_bytes(&recv));
        }
        sky_sequence_list_add(&list, next, &send, &none);
        sky_sequence_list_add(&list, before, &none, &recv);
    }
    return sky_sequence_list_begin(ctx, s, &list, exchange);
}

sky_status sky_sequence_share_rows(sky_ctx *ctx, const sky_sequence *s, const sky_tensor *mine, const sky_tensor *all)
{
    const sky_span tokens = sky_sequence_own_tokens(s);
    if (all->num_dims < 1 || all->shape[0] != s->num_tokens || row_bytes(all) != row_bytes(mine) ||
        mine->shape[0] != tokens.count) {
        char texts[2][96];
        return sky_fail(SKY_ERR_SHAPE, "sharing %lld of %lld rows: got %s and %s", (long long)tokens.count,
                        (long long)s->num_tokens, sky_tensor_describe(mine, texts[0], sizeof texts[0]),
                        sky_tensor_describe(all, texts[1], sizeof texts[1]));
    }
    const sky_tensor own = sky_tensor_rows(all, tokens.first, tokens.count);
    SKY_TRY(sky_ctx_copy(ctx, &own, mine));
    if (sky_sequence_members(s) == 1) {
        return SKY_OK;
    }
    sky_sequence_list list;
    SKY_TRY(sky_sequence_list_create(s, 1, &list));
    sky_group_exchange *exchange = NULL;
    for (int member = 0; member < sky_sequence_members(s); member++) {
        if (member != sky_sequence_member(s)) {
            const sky_span theirs = sky_sequence_tokens(s, member);
            const sky_tensor recv = sky_tensor_rows(all, theirs.first, theirs.count);
            sky_sequence_list_add(&list, member, mine, &recv);
        }
    }
    SKY_TRY(sky_sequence_list_begin(ctx, s, &list, &exchange));
    return sky_sequence_gather_end(ctx, s, &exchange);
}

sky_status sky_sequence_share_begin(sky_ctx *ctx, const sky_sequence *s, const sky_shared_row *rows, int num,
                                    sky_group_exchange **exchange)
{
    *exchange = NULL;
    const int64_t members = sky_sequence_members(s);
    if (num < 0 || num > SKY_SEQUENCE_MAX_OPERANDS) {
        return sky_fail(SKY_ERR_INTERNAL, "sharing %d rows: at most %d", num, (int)SKY_SEQUENCE_MAX_OPERANDS);
    }
    for (int i = 0; i < num; i++) {
        SKY_TRY(sky_sequence_check("shared rows", &rows[i].all, members, sky_tensor_len(&rows[i].mine)));
        const sky_tensor own = sky_matrix_at(&rows[i].all, sky_sequence_member(s) * sky_tensor_len(&rows[i].mine), 1,
                                             sky_tensor_len(&rows[i].mine));
        SKY_TRY(sky_ctx_copy(ctx, &own, &rows[i].mine));
    }
    if (members == 1) {
        return SKY_OK;
    }
    sky_sequence_list list;
    SKY_TRY(sky_sequence_list_create(s, num, &list));
    for (int i = 0; i < num; i++) {
        const int64_t columns = sky_tensor_len(&rows[i].mine);
        for (int member = 0; member < members; member++) {
            if (member != sky_sequence_member(s)) {
                const sky_tensor recv = sky_matrix_at(&rows[i].all, member * columns, 1, columns);
                sky_sequence_list_add(&list, member, &rows[i].mine, &recv);
            }
        }
    }
    return sky_sequence_list_begin(ctx, s, &list, exchange);
}
