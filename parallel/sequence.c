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
    if (is_alone(s, reach)) {
        parts->gathered = sky_tensor_reshape(&parts->mine, 2, (int64_t[]){rows, columns});
        return SKY_OK;
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

/* What a Ulysses rank takes of rows of all heads that lie in parts. */
static sky_tensor part_for(const sky_sequence *s, const sky_tensor *parts, int64_t rows, int64_t width, int ulysses)
{
    const sky_span heads = sky_sequence_heads(s, ulysses);
    return sky_matrix_at(parts, rows * heads.first * width, rows, heads.count * width);
}

static sky_tensor part_of_mine(const sky_sequence *s, const sky_operand_parts *o, int ulysses)
{
    const int64_t rows = sky_sequence_rows(sky_sequence_own_tokens(s), o->tokens_per_row).count;
    return part_for(s, &o->mine, rows, o->width, ulysses);
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
        const sky_tensor from = part_of_mine(s, &operands[i], own_ulysses(s));
        const sky_tensor to = place_of(s, reach, &operands[i], sky_sequence_member(s));
        SKY_TRY(sky_ctx_copy(ctx, &to, &from));
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
                const sky_tensor send = part_of_mine(s, &operands[i], member % s->ulysses_degree);
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

sky_status sky_sequence_scatter(sky_ctx *ctx, const sky_sequence *s, int64_t width, const sky_tensor *y,
                                const sky_tensor *parts)
{
    const sky_span tokens = sky_sequence_own_tokens(s);
    const sky_span block = sky_sequence_own_block(s);
    const int64_t columns = sky_sequence_own_heads(s).count * width;
    SKY_TRY(sky_sequence_check("a sequence's attention", y, block.count, columns));
    SKY_TRY(sky_sequence_check("parts of a sequence's attention", parts, tokens.count, s->num_heads * width));
    const sky_tensor own = sky_matrix_at(y, (tokens.first - block.first) * columns, tokens.count, columns);
    const sky_tensor place = part_for(s, parts, tokens.count, width, own_ulysses(s));
    if (s->ulysses_degree == 1) {
        return sky_ctx_copy(ctx, &place, &own);
    }
    sky_sequence_list list;
    SKY_TRY(sky_sequence_list_create(s, 1, &list));
    sky_group_exchange *exchange = NULL;
    for (int u = 0; u < s->ulysses_degree; u++) {
        if (u != own_ulysses(s)) {
            const int member = own_ring(s) * s->ulysses_degree + u;
            const sky_span theirs = sky_sequence_tokens(s, member);
            const sky_tensor send = sky_matrix_at(y, (theirs.first - block.first) * columns, theirs.count, columns);
            const sky_tensor recv = part_for(s, parts, tokens.count, width, u);
            sky_sequence_list_add(&list, member, &send, &recv);
        }
    }
    SKY_TRY(sky_sequence_list_begin(ctx, s, &list, &exchange));
    sky_status st = sky_ctx_copy(ctx, &place, &own);
    SKY_KEEP_FIRST(st, sky_sequence_gather_end(ctx, s, &exchange));
    return st;
}

/* Between rows [tokens(m), num_heads * width] and their parts. */
static sky_status copy_parts(sky_ctx *ctx, const sky_sequence *s, int64_t width, const sky_tensor *rows,
                             const sky_tensor *parts, bool to_parts)
{
    const int64_t num_rows = sky_sequence_own_tokens(s).count;
    const int64_t columns = s->num_heads * width;
    SKY_TRY(sky_sequence_check("rows of a sequence", rows, num_rows, columns));
    SKY_TRY(sky_sequence_check("parts of a sequence's rows", parts, num_rows, columns));
    if (s->ulysses_degree == 1) {
        return sky_ctx_copy(ctx, to_parts ? parts : rows, to_parts ? rows : parts);
    }
    const sky_tensor whole = sky_matrix_at(rows, 0, num_rows, columns);
    for (int u = 0; u < s->ulysses_degree; u++) {
        const sky_span heads = sky_sequence_heads(s, u);
        const sky_tensor part = part_for(s, parts, num_rows, width, u);
        if (sky_tensor_len(&part) > 0) {
            SKY_TRY(sky_copy_columns(ctx, &(sky_copy_columns_args){.y = to_parts ? part : whole,
                                                                   .x = to_parts ? whole : part,
                                                                   .y_first = to_parts ? 0 : heads.first * width,
                                                                   .x_first = to_parts ? heads.first * width : 0,
                                                                   .num_columns = heads.count * width}));
        }
    }
    return SKY_OK;
}

sky_status sky_sequence_pack(sky_ctx *ctx, const sky_sequence *s, int64_t width, const sky_tensor *rows,
                             const sky_tensor *parts)
{
    return copy_parts(ctx, s, width, rows, parts, true);
}

sky_status sky_sequence_unpack(sky_ctx *ctx, const sky_sequence *s, int64_t width, const sky_tensor *parts,
                               const sky_tensor *rows)
{
    return copy_parts(ctx, s, width, rows, parts, false);
}
