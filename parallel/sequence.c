#include "parallel/sequence.h"

#include "ops/copy_columns.h"

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

/* Rows of tokens_per_row tokens each. Tokens begin with a whole row, or behind the last one, and so do the rows. */
static sky_span rows_of(sky_span tokens, int64_t tokens_per_row)
{
    const int64_t first = (tokens.first + tokens_per_row - 1) / tokens_per_row;
    const int64_t end = (sky_span_end(tokens) + tokens_per_row - 1) / tokens_per_row;
    return (sky_span){.first = first, .count = end - first};
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

static size_t row_bytes(const sky_tensor *t)
{
    size_t bytes = sky_dtype_bytes(t->dtype);
    for (int i = 1; i < t->num_dims; i++) {
        bytes *= (size_t)t->shape[i];
    }
    return bytes;
}

/* Elements [first, first + rows * columns) of t as a matrix. */
static sky_tensor part_of(const sky_tensor *t, int64_t first, int64_t rows, int64_t columns)
{
    return SKY_TENSOR((char *)t->data + (size_t)first * sky_dtype_bytes(t->dtype), t->dtype, rows, columns);
}

static sky_status check_len(const char *what, const sky_tensor *t, int64_t rows, int64_t columns)
{
    char text[96];
    return sky_tensor_len(t) == rows * columns
               ? SKY_OK
               : sky_fail(SKY_ERR_SHAPE, "%s: want [%lld, %lld], got %s", what, (long long)rows, (long long)columns,
                          sky_tensor_describe(t, text, sizeof text));
}

/* A list being made. Entries that neither send nor receive are left out: both sides know that. */
typedef struct exchange_list {
    sky_exchange *entries;
    int num;
} exchange_list;

static sky_status list_create(const sky_sequence *s, int num_operands, exchange_list *list)
{
    *list = (exchange_list){0};
    return sky_group_list(s->group, num_operands * sky_sequence_members(s), &list->entries);
}

static void list_add(exchange_list *list, int peer, const sky_tensor *send, const sky_tensor *recv)
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

/* Sends what ctx has computed by now. */
static sky_status list_begin(sky_ctx *ctx, const sky_sequence *s, const exchange_list *list,
                             sky_group_exchange **exchange)
{
    if (!sky_ctx_planning(ctx)) {
        SKY_TRY(sky_ctx_sync(ctx));
        return sky_group_exchange_begin(s->group, list->entries, list->num, exchange);
    }
    if (s->planned != NULL) {
        const sky_traffic sent = sky_exchange_traffic(list->entries, list->num, sky_group_rank(s->group));
        s->planned->bytes += sent.bytes;
        s->planned->messages += sent.messages;
    }
    return SKY_OK;
}

sky_status sky_sequence_alloc(sky_ctx *ctx, const sky_sequence *s, sky_reach reach, sky_operand_parts *parts)
{
    const int64_t rows = rows_of(sky_sequence_own_tokens(s), parts->tokens_per_row).count;
    const int64_t columns = s->num_heads * parts->width;
    SKY_TRY(check_len("a sequence's operand", &parts->mine, rows, columns));
    parts->sorted = (sky_tensor){0};
    if (is_alone(s, reach)) {
        parts->gathered = sky_tensor_reshape(&parts->mine, 2, (int64_t[]){rows, columns});
        return SKY_OK;
    }
    if (s->ulysses_degree > 1) {
        SKY_TRY(sky_ctx_tensor(ctx, &parts->sorted, parts->mine.dtype, 2, (int64_t[]){rows, columns}));
    }
    return sky_ctx_tensor(ctx, &parts->gathered, parts->mine.dtype, 2,
                          (int64_t[]){rows_of(tokens_within(s, reach), parts->tokens_per_row).count,
                                      sky_sequence_own_heads(s).count * parts->width});
}

static sky_status check_operand(const sky_sequence *s, sky_reach reach, const sky_operand_parts *o)
{
    const int64_t rows = rows_of(sky_sequence_own_tokens(s), o->tokens_per_row).count;
    const int64_t gathered_rows = rows_of(tokens_within(s, reach), o->tokens_per_row).count;
    SKY_TRY(check_len("a sequence's operand", &o->mine, rows, s->num_heads * o->width));
    if (s->ulysses_degree > 1) {
        SKY_TRY(check_len("a sequence's sorted operand", &o->sorted, rows, s->num_heads * o->width));
    }
    return check_len("a sequence's gathered operand", &o->gathered, gathered_rows,
                     sky_sequence_own_heads(s).count * o->width);
}

/* Where the part of a member within reach lies in what is gathered. */
static sky_tensor place_of(const sky_sequence *s, sky_reach reach, const sky_operand_parts *o, int member)
{
    const sky_span rows = rows_of(sky_sequence_tokens(s, member), o->tokens_per_row);
    const int64_t above = rows.first - rows_of(tokens_within(s, reach), o->tokens_per_row).first;
    const int64_t columns = sky_sequence_own_heads(s).count * o->width;
    return part_of(&o->gathered, above * columns, rows.count, columns);
}

/* What of mine goes to Ulysses rank `ulysses`; this rank's own columns need not be sorted: they are where they belong. */
static sky_tensor sorted_for(const sky_sequence *s, sky_reach reach, const sky_operand_parts *o, int ulysses)
{
    const int64_t rows = rows_of(sky_sequence_own_tokens(s), o->tokens_per_row).count;
    const sky_span heads = sky_sequence_heads(s, ulysses);
    if (s->ulysses_degree == 1) {
        return part_of(&o->mine, 0, rows, s->num_heads * o->width);
    }
    if (ulysses == own_ulysses(s)) {
        return place_of(s, reach, o, sky_sequence_member(s));
    }
    return part_of(&o->sorted, rows * heads.first * o->width, rows, heads.count * o->width);
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
                                              .x = part_of(&o->mine, 0, to.shape[0], s->num_heads * o->width),
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
    exchange_list list;
    SKY_TRY(list_create(s, num, &list));
    int first;
    const int end = members_within(s, reach, &first);
    for (int i = 0; i < num; i++) {
        for (int member = first; member < end; member++) {
            if (member != sky_sequence_member(s)) {
                const sky_tensor send = sorted_for(s, reach, &operands[i], member % s->ulysses_degree);
                const sky_tensor recv = place_of(s, reach, &operands[i], member);
                list_add(&list, member, &send, &recv);
            }
        }
    }
    return list_begin(ctx, s, &list, exchange);
}

sky_status sky_sequence_gather_end(sky_ctx *ctx, const sky_sequence *s, sky_group_exchange **exchange)
{
    (void)ctx;
    return s->group != NULL ? sky_group_exchange_end(s->group, exchange) : SKY_OK;
}

/* One behind the other [rows, heads(u) * width] -> [rows, heads * width], but for this rank's own, which are in y. */
static sky_status merge(sky_ctx *ctx, const sky_sequence *s, int64_t width, const sky_tensor *part, int ulysses,
                        const sky_tensor *mine)
{
    const sky_span heads = sky_sequence_heads(s, ulysses);
    if (sky_tensor_len(part) == 0) {
        return SKY_OK;
    }
    return sky_copy_columns(ctx, &(sky_copy_columns_args){.y = part_of(mine, 0, part->shape[0], s->num_heads * width),
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
    SKY_TRY(check_len("a sequence's attention", y, block.count, columns));
    SKY_TRY(check_len("a sequence's operand", mine, tokens.count, s->num_heads * width));
    if (s->ulysses_degree == 1) {
        return sky_ctx_copy(ctx, mine, y);
    }
    SKY_TRY(check_len("room for a sequence's attention", received, tokens.count, s->num_heads * width));
    exchange_list list;
    SKY_TRY(list_create(s, 1, &list));
    sky_group_exchange *exchange = NULL;
    for (int u = 0; u < s->ulysses_degree; u++) {
        if (u != own_ulysses(s)) {
            const int member = own_ring(s) * s->ulysses_degree + u;
            const sky_span theirs = sky_sequence_tokens(s, member);
            const sky_span heads = sky_sequence_heads(s, u);
            const sky_tensor send = part_of(y, (theirs.first - block.first) * columns, theirs.count, columns);
            const sky_tensor recv =
                part_of(received, tokens.count * heads.first * width, tokens.count, heads.count * width);
            list_add(&list, member, &send, &recv);
        }
    }
    SKY_TRY(list_begin(ctx, s, &list, &exchange));
    const sky_tensor own = part_of(y, (tokens.first - block.first) * columns, tokens.count, columns);
    sky_status st = merge(ctx, s, width, &own, own_ulysses(s), mine);
    SKY_KEEP_FIRST(st, sky_group_exchange_end(s->group, &exchange));
    for (int u = 0; st == SKY_OK && u < s->ulysses_degree; u++) {
        if (u != own_ulysses(s)) {
            const sky_span heads = sky_sequence_heads(s, u);
            const sky_tensor part =
                part_of(received, tokens.count * heads.first * width, tokens.count, heads.count * width);
            st = merge(ctx, s, width, &part, u, mine);
        }
    }
    return st;
}

/* The first rows of t: as many as the block has. */
static sky_status rows_of_block(const sky_sequence *s, const sky_tensor *t, int ring, int64_t tokens_per_row,
                                sky_tensor *out)
{
    const int64_t rows = rows_of(sky_sequence_block(s, ring), tokens_per_row).count;
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
    exchange_list list;
    SKY_TRY(list_create(s, num, &list)); /* two entries a tensor, and two members at least */
    for (int i = 0; i < num; i++) {
        sky_tensor send;
        sky_tensor recv;
        SKY_TRY(rows_of_block(s, &parts[i].from, sky_sequence_ring_block(s, step), parts[i].tokens_per_row, &send));
        SKY_TRY(rows_of_block(s, &parts[i].to, sky_sequence_ring_block(s, step + 1), parts[i].tokens_per_row, &recv));
        if (row_bytes(&send) != row_bytes(&recv)) {
            return sky_fail(SKY_ERR_SHAPE, "passing rows of %zu bytes around a ring to rows of %zu", row_bytes(&send),
                            row_bytes(&recv));
        }
        list_add(&list, next, &send, &none);
        list_add(&list, before, &none, &recv);
    }
    return list_begin(ctx, s, &list, exchange);
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
    exchange_list list;
    SKY_TRY(list_create(s, 1, &list));
    sky_group_exchange *exchange = NULL;
    for (int member = 0; member < sky_sequence_members(s); member++) {
        if (member != sky_sequence_member(s)) {
            const sky_span theirs = sky_sequence_tokens(s, member);
            const sky_tensor recv = sky_tensor_rows(all, theirs.first, theirs.count);
            list_add(&list, member, mine, &recv);
        }
    }
    SKY_TRY(list_begin(ctx, s, &list, &exchange));
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
        SKY_TRY(check_len("shared rows", &rows[i].all, members, sky_tensor_len(&rows[i].mine)));
        const sky_tensor own = part_of(&rows[i].all, sky_sequence_member(s) * sky_tensor_len(&rows[i].mine), 1,
                                       sky_tensor_len(&rows[i].mine));
        SKY_TRY(sky_ctx_copy(ctx, &own, &rows[i].mine));
    }
    if (members == 1) {
        return SKY_OK;
    }
    exchange_list list;
    SKY_TRY(list_create(s, num, &list));
    for (int i = 0; i < num; i++) {
        const int64_t columns = sky_tensor_len(&rows[i].mine);
        for (int member = 0; member < members; member++) {
            if (member != sky_sequence_member(s)) {
                const sky_tensor recv = part_of(&rows[i].all, member * columns, 1, columns);
                list_add(&list, member, &rows[i].mine, &recv);
            }
        }
    }
    return list_begin(ctx, s, &list, exchange);
}
