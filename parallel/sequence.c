#include "parallel/sequence.h"

#include "ops/copy_columns.h"
#include "parallel/sequence_impl.h"

sky_sequence sky_sequence_whole(int64_t num_tokens, int64_t num_heads)
{
    return (sky_sequence){.ulysses_degree = 1, .ring_degree = 1, .num_tokens = num_tokens, .num_heads = num_heads};
}

int sky_sequence_members(const sky_sequence *s)
{
    return s->ulysses_degree * s->ring_degree;
}

int sky_sequence_member(const sky_sequence *s)
{
    return s->group != NULL ? sky_group_rank(s->group) : 0;
}

static int own_ulysses(const sky_sequence *s)
{
    return sky_sequence_member(s) % s->ulysses_degree;
}

static int own_ring(const sky_sequence *s)
{
    return sky_sequence_member(s) / s->ulysses_degree;
}

sky_span sky_sequence_tokens(const sky_sequence *s, int member)
{
    return sky_partition_tokens(s->num_tokens, sky_sequence_members(s), member);
}

sky_span sky_sequence_block(const sky_sequence *s, int ring)
{
    const sky_span first = sky_sequence_tokens(s, ring * s->ulysses_degree);
    const sky_span last = sky_sequence_tokens(s, (ring + 1) * s->ulysses_degree - 1);
    return (sky_span){.first = first.first, .count = sky_span_end(last) - first.first};
}

sky_span sky_sequence_heads(const sky_sequence *s, int ulysses)
{
    return sky_partition(s->num_heads, s->ulysses_degree, ulysses);
}

sky_span sky_sequence_own_tokens(const sky_sequence *s)
{
    return sky_sequence_tokens(s, sky_sequence_member(s));
}

sky_span sky_sequence_own_block(const sky_sequence *s)
{
    return sky_sequence_block(s, own_ring(s));
}

sky_span sky_sequence_own_heads(const sky_sequence *s)
{
    return sky_sequence_heads(s, own_ulysses(s));
}

int64_t sky_sequence_largest_block(const sky_sequence *s)
{
    return sky_sequence_block(s, 0).count; /* the first shares are the largest */
}

int sky_sequence_ring_block(const sky_sequence *s, int step)
{
    const int back = step % s->ring_degree;
    return (own_ring(s) + s->ring_degree - back) % s->ring_degree;
}

/* Members whose parts arrive here, and mine there: [*first, return). */
static int members_within(const sky_sequence *s, sky_reach reach, int *first)
{
    *first = reach == SKY_REACH_ALL ? 0 : own_ring(s) * s->ulysses_degree;
    return reach == SKY_REACH_ALL ? sky_sequence_members(s) : *first + s->ulysses_degree;
}

static sky_span tokens_within(const sky_sequence *s, sky_reach reach)
{
    return reach == SKY_REACH_ALL ? (sky_span){.first = 0, .count = s->num_tokens} : sky_sequence_own_block(s);
}

/* Nobody sends anything: one member alone within reach. */
static bool is_alone(const sky_sequence *s, sky_reach reach)
{
    return reach == SKY_REACH_ALL ? sky_sequence_members(s) == 1 : s->ulysses_degree == 1;
}

sky_status sky_sequence_alloc(sky_ctx *ctx, const sky_sequence *s, sky_reach reach, sky_operand_parts *parts)
{
    const int64_t rows = sky_sequence_rows(sky_sequence_own_tokens(s), parts->tokens_per_row).count;
    const int64_t columns = s->num_heads * parts->width;
    SKY_TRY(sky_sequence_check("a sequence's operand", &parts->mine, rows, columns));
    parts->sorted = (sky_tensor){0};
    if (is_alone(s, reach)) {
        parts->gathered = sky_tensor_reshape(&parts->mine, 2, (int64_t[]){rows, columns});
        return SKY_OK;
    }
    if (s->ulysses_degree > 1) {
        SKY_TRY(sky_ctx_tensor(ctx, &parts->sorted, parts->mine.dtype, 2, (int64_t[]){rows, columns}));
    }
    return sky_ctx_tensor(ctx, &parts->gathered, parts->mine.dtype, 2,
                          (int64_t[]){sky_sequence_rows(tokens_within(s, reach), parts->tokens_per_row).count,
                                      sky_sequence_own_heads(s).count * parts->width});
}

static sky_status check_operand(const sky_sequence *s, sky_reach reach, const sky_operand_parts *o)
{
    const int64_t rows = sky_sequence_rows(sky_sequence_own_tokens(s), o->tokens_per_row).count;
    const int64_t gathered_rows = sky_sequence_rows(tokens_within(s, reach), o->tokens_per_row).count;
    SKY_TRY(sky_sequence_check("a sequence's operand", &o->mine, rows, s->num_heads * o->width));
    if (s->ulysses_degree > 1) {
        SKY_TRY(sky_sequence_check("a sequence's sorted operand", &o->sorted, rows, s->num_heads * o->width));
    }
    return sky_sequence_check("a sequence's gathered operand", &o->gathered, gathered_rows,
                              sky_sequence_own_heads(s).count * o->width);
}

/* Where the part of a member within reach lies in what is gathered. */
static sky_tensor place_of(const sky_sequence *s, sky_reach reach, const sky_operand_parts *o, int member)
{
    const sky_span rows = sky_sequence_rows(sky_sequence_tokens(s, member), o->tokens_per_row);
    const int64_t above = rows.first - sky_sequence_rows(tokens_within(s, reach), o->tokens_per_row).first;
    const int64_t columns = sky_sequence_own_heads(s).count * o->width;
    return sky_matrix_at(&o->gathered, above * columns, rows.count, columns);
}

/* What of mine goes to Ulysses rank `ulysses`; this rank's own columns need not be sorted: they are where they belong. */
static sky_tensor sorted_for(const sky_sequence *s, sky_reach reach, const sky_operand_parts *o, int ulysses)
{
    const int64_t rows = sky_sequence_rows(sky_sequence_own_tokens(s), o->tokens_per_row).count;
    const sky_span heads = sky_sequence_heads(s, ulysses);
    if (s->ulysses_degree == 1) {
        return sky_matrix_at(&o->mine, 0, rows, s->num_heads * o->width);
    }
    if (ulysses == own_ulysses(s)) {
        return place_of(s, reach, o, sky_sequence_member(s));
    }
    return sky_matrix_at(&o->sorted, rows * heads.first * o->width, rows, heads.count * o->width);
}

/* [rows, heads * width] -> one behind the other [rows, heads(u) * width]; this rank's own go to their place among the gathered. */
static sky_status sort(sky_ctx *ctx, const sky_sequence *s, sky_reach reach, const sky_operand_parts *o)
{
    const sky_tensor own = place_of(s, reach, o, sky_sequence_member(s));
    if (s->ulysses_degree == 1) {
        return sky_ctx_copy(ctx, &own, &o->mine);
    }
    for (int u = 0; u < s->ulysses_degree; u++) {
        const sky_span heads = sky_sequence_heads(s, u);
        const sky_tensor to = sorted_for(s, reach, o, u);
        if (sky_tensor_len(&to) > 0) {
            SKY_TRY(sky_copy_columns(
                ctx, &(sky_copy_columns_args){.y = to,
                                              .x = sky_matrix_at(&o->mine, 0, to.shape[0], s->num_heads * o->width),
                                              .x_first = heads.first * o->width,
                                              .num_columns = heads.count * o->width}));
        }
    }
    return SKY_OK;
}

sky_status sky_sequence_gather_begin(sky_ctx *ctx, const sky_sequence *s, sky_reach reach,
                                     const sky_operand_parts *operands, int num, sky_group_exchange **exchange)
{
    *exchange = NULL;
    if (num < 0 || num > SKY_SEQUENCE_MAX_OPERANDS) {
        return sky_fail(SKY_ERR_INTERNAL, "a sequence's gathering of %d operands: at most %d", num,
                        (int)SKY_SEQUENCE_MAX_OPERANDS);
    }
    for (int i = 0; i < num; i++) {
        SKY_TRY(check_operand(s, reach, &operands[i]));
        SKY_TRY(sort(ctx, s, reach, &operands[i]));
    }
    if (is_alone(s, reach)) {
        return SKY_OK;
    }
    sky_sequence_list list;
    SKY_TRY(sky_sequence_list_create(s, num, &list));
    int first;
    const int end = members_within(s, reach, &first);
    for (int i = 0; i < num; i++) {
        for (int member = first; member < end; member++) {
            if (member != sky_sequence_member(s)) {
                const sky_tensor send = sorted_for(s, reach, &operands[i], member % s->ulysses_degree);
                const sky_tensor recv = place_of(s, reach, &operands[i], member);
                sky_sequence_list_add(&list, member, &send, &recv);
            }
        }
    }
    return sky_sequence_list_begin(ctx, s, &list, exchange);
}

sky_status sky_sequence_gather_end(sky_ctx *ctx, const sky_sequence *s, sky_group_exchange **exchange)
{
    return s->group != NULL ? sky_group_exchange_end(s->group, ctx, exchange) : SKY_OK;
}

/* One behind the other [rows, heads(u) * width] -> [rows, heads * width], but for this rank's own, which are in y. */
static sky_status merge(sky_ctx *ctx, const sky_sequence *s, int64_t width, const sky_tensor *part, int ulysses,
                        const sky_tensor *mine)
{
    const sky_span heads = sky_sequence_heads(s, ulysses);
    if (sky_tensor_len(part) == 0) {
        return SKY_OK;
    }
    return sky_copy_columns(ctx,
                            &(sky_copy_columns_args){.y = sky_matrix_at(mine, 0, part->shape[0], s->num_heads * width),
                                                     .x = *part,
                                                     .y_first = heads.first * width,
                                                     .num_columns = heads.count * width});
}

sky_status sky_sequence_scatter(sky_ctx *ctx, const sky_sequence *s, int64_t width, const sky_tensor *y,
                                const sky_tensor *received, const sky_tensor *mine)
{
    const sky_span tokens = sky_sequence_own_tokens(s);
    const sky_span block = sky_sequence_own_block(s);
    const int64_t columns = sky_sequence_own_heads(s).count * width;
    SKY_TRY(sky_sequence_check("a sequence's attention", y, block.count, columns));
    SKY_TRY(sky_sequence_check("a sequence's operand", mine, tokens.count, s->num_heads * width));
    if (s->ulysses_degree == 1) {
        return sky_ctx_copy(ctx, mine, y);
    }
    SKY_TRY(sky_sequence_check("room for a sequence's attention", received, tokens.count, s->num_heads * width));
    sky_sequence_list list;
    SKY_TRY(sky_sequence_list_create(s, 1, &list));
    sky_group_exchange *exchange = NULL;
    for (int u = 0; u < s->ulysses_degree; u++) {
        if (u != own_ulysses(s)) {
            const int member = own_ring(s) * s->ulysses_degree + u;
            const sky_span theirs = sky_sequence_tokens(s, member);
            const sky_span heads = sky_sequence_heads(s, u);
            const sky_tensor send = sky_matrix_at(y, (theirs.first - block.first) * columns, theirs.count, columns);
            const sky_tensor recv =
                sky_matrix_at(received, tokens.count * heads.first * width, tokens.count, heads.count * width);
            sky_sequence_list_add(&list, member, &send, &recv);
        }
    }
    SKY_TRY(sky_sequence_list_begin(ctx, s, &list, &exchange));
    const sky_tensor own = sky_matrix_at(y, (tokens.first - block.first) * columns, tokens.count, columns);
    sky_status st = merge(ctx, s, width, &own, own_ulysses(s), mine);
    SKY_KEEP_FIRST(st, sky_group_exchange_end(s->group, ctx, &exchange));
    for (int u = 0; st == SKY_OK && u < s->ulysses_degree; u++) {
        if (u != own_ulysses(s)) {
            const sky_span heads = sky_sequence_heads(s, u);
            const sky_tensor part =
                sky_matrix_at(received, tokens.count * heads.first * width, tokens.count, heads.count * width);
            st = merge(ctx, s, width, &part, u, mine);
        }
    }
    return st;
}
