/* parallel/sequence.h on 1 to 4 ranks: every element arrives where its place in the whole says, and nothing else moves. */
#include "ops/ref/ref.h"
#include "sequence_rig.h"
#include "support/test.h"

#include <string.h>

enum { MOST_MEMBERS = 16 };

/* Shares tile tokens and heads, blocks are the members', and the ring comes round. */
static void spans(sequence_rig *rig)
{
    const sky_sequence *s = &rig->s;
    const int members = sky_sequence_members(s);
    const int member = sky_sequence_member(s);
    int64_t tokens = 0;
    int64_t heads = 0;
    EXPECT(members == sky_group_size(s->group) && member == sky_group_rank(s->group));
    for (int ring = 0; ring < s->ring_degree; ring++) {
        const sky_span block = sky_sequence_block(s, ring);
        EXPECT(block.first == tokens && block.count <= sky_sequence_largest_block(s));
        for (int u = 0; u < s->ulysses_degree; u++) {
            const sky_span share = sky_sequence_tokens(s, ring * s->ulysses_degree + u);
            EXPECT(share.first == tokens && (share.first % SKY_TOKEN_GROUP == 0 || share.count == 0));
            tokens = sky_span_end(share);
        }
        EXPECT(sky_span_end(block) == tokens);
    }
    for (int u = 0; u < s->ulysses_degree; u++) {
        EXPECT(sky_sequence_heads(s, u).first == heads);
        heads = sky_span_end(sky_sequence_heads(s, u));
    }
    EXPECT(tokens == s->num_tokens && heads == s->num_heads);
    EXPECT(sky_sequence_own_tokens(s).first == sky_sequence_tokens(s, member).first);
    EXPECT(sky_sequence_own_block(s).first == sky_sequence_block(s, member / s->ulysses_degree).first);
    EXPECT(sky_sequence_own_heads(s).first == sky_sequence_heads(s, member % s->ulysses_degree).first);
    EXPECT(sky_sequence_ring_block(s, 0) == member / s->ulysses_degree);
    EXPECT(sky_sequence_ring_block(s, s->ring_degree) == sky_sequence_ring_block(s, 0));
}

TEST(spans)
{
    sequence_rig_run(spans, NULL);
}

typedef struct operand_kind {
    sky_dtype dtype;
    int64_t tokens_per_row, width;
} operand_kind;

/* Codes, their scales for 64 and for 128 tokens, and 16-bit values; tiles of codes are like scales, but wider. */
static const operand_kind kinds[] = {{SKY_I8, 1, 3}, {SKY_F32, 64, 1}, {SKY_F32, 128, 5}, {SKY_BF16, 1, 2}};
enum { NUM_KINDS = sizeof kinds / sizeof kinds[0] };

static sequence_part part_of(const sequence_rig *rig, const operand_kind *kind, sky_span tokens, sky_span heads)
{
    return (sequence_part){.rows = sequence_rows(tokens, kind->tokens_per_row),
                           .heads = heads,
                           .num_heads = rig->s.num_heads,
                           .width = kind->width};
}

static sky_span all_heads(const sequence_rig *rig)
{
    return (sky_span){.first = 0, .count = rig->s.num_heads};
}

static sequence_part part_of_mine(const sequence_rig *rig, const operand_kind *kind)
{
    return part_of(rig, kind, sky_sequence_own_tokens(&rig->s), all_heads(rig));
}

static sequence_part part_gathered(const sequence_rig *rig, const operand_kind *kind, sky_reach reach)
{
    const sky_span all = {.first = 0, .count = rig->s.num_tokens};
    return part_of(rig, kind, reach == SKY_REACH_ALL ? all : sky_sequence_own_block(&rig->s),
                   sky_sequence_own_heads(&rig->s));
}

static void prepare(sequence_rig *rig, sky_reach reach, sky_operand_parts operands[NUM_KINDS])
{
    for (int i = 0; i < NUM_KINDS; i++) {
        const sequence_part part = part_of_mine(rig, &kinds[i]);
        operands[i] = (sky_operand_parts){.mine = sequence_rig_filled_parts(rig, kinds[i].dtype, &part),
                                          .tokens_per_row = kinds[i].tokens_per_row,
                                          .width = kinds[i].width};
        sequence_rig_ok(rig, "alloc", sky_sequence_alloc(&rig->ctx, &rig->s, reach, &operands[i]));
    }
}

static void expect_gathered(const sequence_rig *rig, sky_reach reach, const sky_operand_parts operands[NUM_KINDS])
{
    for (int i = 0; i < NUM_KINDS; i++) {
        const sequence_part mine = part_of_mine(rig, &kinds[i]);
        const sequence_part gathered = part_gathered(rig, &kinds[i], reach);
        sequence_rig_holds(rig, reach == SKY_REACH_ALL ? "all" : "block", &operands[i].gathered, &gathered);
        sequence_rig_holds_parts(rig, "mine", &operands[i].mine, &mine);
    }
}

static void gather(sequence_rig *rig)
{
    const sky_reach reach = *(const sky_reach *)rig->with;
    sky_operand_parts operands[NUM_KINDS];
    sky_group_exchange *exchange = NULL;
    prepare(rig, reach, operands);
    sequence_rig_ok(rig, "gather",
                    sky_sequence_gather_begin(&rig->ctx, &rig->s, reach, operands, NUM_KINDS, &exchange));
    const bool alone = rig->s.ulysses_degree == 1 && (reach == SKY_REACH_BLOCK || rig->s.ring_degree == 1);
    EXPECT((exchange == NULL) == (alone || rig->planning));
    EXPECT((operands[0].gathered.data == operands[0].mine.data) == alone || sky_tensor_len(&operands[0].mine) == 0);
    sequence_rig_ok(rig, "gather's end", sky_sequence_gather_end(&rig->ctx, &rig->s, &exchange));
    expect_gathered(rig, reach, operands);
}

TEST(gather_a_block)
{
    sequence_rig_run(gather, &(sky_reach){SKY_REACH_BLOCK});
}

TEST(gather_all)
{
    sequence_rig_run(gather, &(sky_reach){SKY_REACH_ALL});
}

/* Keys from all, then queries of the block, both under way; and rows shared meanwhile. */
static void gather_both(sequence_rig *rig)
{
    sky_operand_parts keys[NUM_KINDS];
    sky_operand_parts queries[NUM_KINDS];
    sky_group_exchange *key_exchange = NULL;
    sky_group_exchange *query_exchange = NULL;
    prepare(rig, SKY_REACH_ALL, keys);
    prepare(rig, SKY_REACH_BLOCK, queries);
    sequence_rig_ok(rig, "keys",
                    sky_sequence_gather_begin(&rig->ctx, &rig->s, SKY_REACH_ALL, keys, NUM_KINDS, &key_exchange));
    sequence_rig_ok(
        rig, "queries",
        sky_sequence_gather_begin(&rig->ctx, &rig->s, SKY_REACH_BLOCK, queries, NUM_KINDS, &query_exchange));
    sequence_rig_ok(rig, "queries' end", sky_sequence_gather_end(&rig->ctx, &rig->s, &query_exchange));
    expect_gathered(rig, SKY_REACH_BLOCK, queries);
    sequence_rig_ok(rig, "keys' end", sky_sequence_gather_end(&rig->ctx, &rig->s, &key_exchange));
    expect_gathered(rig, SKY_REACH_ALL, keys);
}

TEST(gather_both_at_a_time)
{
    sequence_rig_run(gather_both, NULL);
}

/* What is where gathering leads to goes back to where it came from. */
static void scatter(sequence_rig *rig)
{
    static const operand_kind scattered[] = {{SKY_BF16, 1, 2}, {SKY_F32, 1, 5}};
    for (size_t i = 0; i < sizeof scattered / sizeof scattered[0]; i++) {
        const sequence_part mine = part_of_mine(rig, &scattered[i]);
        const sequence_part gathered = part_gathered(rig, &scattered[i], SKY_REACH_BLOCK);
        const int64_t columns = rig->s.num_heads * scattered[i].width;
        const sky_tensor y = sequence_rig_filled(rig, scattered[i].dtype, &gathered);
        const sky_tensor parts = sequence_rig_tensor(rig, scattered[i].dtype, mine.rows.count, columns);
        sequence_rig_ok(rig, "scatter", sky_sequence_scatter(&rig->ctx, &rig->s, scattered[i].width, &y, &parts));
        sequence_rig_holds_parts(rig, "scattered", &parts, &mine);
        sequence_rig_holds(rig, "what was scattered", &y, &gathered);
    }
}

TEST(scatter)
{
    sequence_rig_run(scatter, NULL);
}

/* Rows to parts and back; where there is one part, in place too. */
static void pack(sequence_rig *rig)
{
    static const operand_kind packed[] = {{SKY_BF16, 1, 2}, {SKY_F32, 1, 5}, {SKY_I8, 1, 3}};
    for (size_t i = 0; i < sizeof packed / sizeof packed[0]; i++) {
        const sequence_part mine = part_of_mine(rig, &packed[i]);
        const int64_t columns = rig->s.num_heads * packed[i].width;
        const sky_tensor rows = sequence_rig_filled(rig, packed[i].dtype, &mine);
        const sky_tensor parts = sequence_rig_tensor(rig, packed[i].dtype, mine.rows.count, columns);
        const sky_tensor back = sequence_rig_tensor(rig, packed[i].dtype, mine.rows.count, columns);
        sequence_rig_ok(rig, "pack", sky_sequence_pack(&rig->ctx, &rig->s, packed[i].width, &rows, &parts));
        sequence_rig_ok(rig, "unpack", sky_sequence_unpack(&rig->ctx, &rig->s, packed[i].width, &parts, &back));
        sequence_rig_holds_parts(rig, "packed", &parts, &mine);
        sequence_rig_holds(rig, "unpacked", &back, &mine);
        sequence_rig_holds(rig, "what was packed", &rows, &mine);
        if (rig->s.ulysses_degree == 1) {
            sequence_rig_ok(rig, "in place", sky_sequence_pack(&rig->ctx, &rig->s, packed[i].width, &rows, &rows));
            sequence_rig_holds(rig, "packed in place", &rows, &mine);
        }
    }
}

TEST(pack)
{
    sequence_rig_run(pack, NULL);
}

/* Every block comes by once, at the step that says so. The first one is in a buffer of just its rows. */
static void ring(sequence_rig *rig)
{
    static const operand_kind passed[] = {{SKY_BF16, 1, 2}, {SKY_I8, 1, 3}, {SKY_F32, 128, 1}};
    enum { NUM_PASSED = sizeof passed / sizeof passed[0] };
    sky_tensor buffers[3][NUM_PASSED];
    bool seen[MOST_MEMBERS] = {false};
    const sky_span heads = sky_sequence_own_heads(&rig->s);
    const sky_span largest = {.first = 0, .count = sky_sequence_largest_block(&rig->s)};
    for (int i = 0; i < NUM_PASSED; i++) {
        const sequence_part own = part_gathered(rig, &passed[i], SKY_REACH_BLOCK);
        const int64_t rows = sequence_rows(largest, passed[i].tokens_per_row).count;
        buffers[2][i] = sequence_rig_filled(rig, passed[i].dtype, &own);
        buffers[0][i] = sequence_rig_tensor(rig, passed[i].dtype, rows, heads.count * passed[i].width);
        buffers[1][i] = sequence_rig_tensor(rig, passed[i].dtype, rows, heads.count * passed[i].width);
    }
    const sky_tensor *now = buffers[2];
    for (int step = 0; step < rig->s.ring_degree; step++) {
        const int block = sky_sequence_ring_block(&rig->s, step);
        const sky_tensor *next = buffers[step % 2];
        seen[block] = true;
        sky_group_exchange *exchange = NULL;
        if (step + 1 < rig->s.ring_degree) {
            sky_ring_parts parts[NUM_PASSED];
            for (int i = 0; i < NUM_PASSED; i++) {
                parts[i] = (sky_ring_parts){now[i], next[i], passed[i].tokens_per_row};
            }
            sequence_rig_ok(rig, "pass",
                            sky_sequence_pass_begin(&rig->ctx, &rig->s, step, parts, NUM_PASSED, &exchange));
        }
        for (int i = 0; i < NUM_PASSED; i++) { /* while the next one comes */
            const sequence_part part = part_of(rig, &passed[i], sky_sequence_block(&rig->s, block), heads);
            sequence_rig_holds(rig, "the block of a step", &now[i], &part);
        }
        sequence_rig_ok(rig, "pass's end", sky_sequence_gather_end(&rig->ctx, &rig->s, &exchange));
        now = next;
    }
    for (int block = 0; block < rig->s.ring_degree; block++) {
        EXPECT(seen[block]);
    }
}

TEST(ring)
{
    sequence_rig_run(ring, NULL);
}

/* Into a tensor of all rows, from one's own or from their place there. */
static void share_rows(sequence_rig *rig)
{
    const operand_kind kind = {SKY_F32, 1, 3};
    const sequence_part mine = part_of_mine(rig, &kind);
    const sequence_part whole = part_of(rig, &kind, (sky_span){.first = 0, .count = rig->s.num_tokens}, all_heads(rig));
    const sky_tensor from = sequence_rig_filled(rig, kind.dtype, &mine);
    for (int in_place = 0; in_place < 2; in_place++) {
        const sky_tensor all = sequence_rig_tensor(rig, kind.dtype, rig->s.num_tokens, rig->s.num_heads * kind.width);
        const sky_tensor place = sky_tensor_rows(&all, sky_sequence_own_tokens(&rig->s).first, from.shape[0]);
        if (in_place == 1) {
            sequence_rig_ok(rig, "copy", sky_ctx_copy(&rig->ctx, &place, &from));
        }
        sequence_rig_ok(rig, "share",
                        sky_sequence_share_rows(&rig->ctx, &rig->s, in_place == 1 ? &place : &from, &all));
        sequence_rig_holds(rig, "shared rows", &all, &whole);
    }
}

TEST(share_rows)
{
    sequence_rig_run(share_rows, NULL);
}

/* Sums and maxima of a member: a row each of 64-bit and of 32-bit numbers, which name the member. */
static void share_row(sequence_rig *rig)
{
    const operand_kind of_sums = {SKY_I64, 1, 4};
    const operand_kind of_maxima = {SKY_F32, 1, 1};
    const sky_span members = {.first = 0, .count = sky_sequence_members(&rig->s)};
    const sky_span member = {.first = sky_sequence_member(&rig->s), .count = 1};
    const operand_kind *const shared[] = {&of_sums, &of_maxima};
    sky_shared_row rows[2];
    sky_group_exchange *exchange = NULL;
    for (int i = 0; i < 2; i++) {
        const sequence_part own = part_of(rig, shared[i], member, all_heads(rig));
        const int64_t columns = rig->s.num_heads * shared[i]->width;
        const sky_tensor mine = sequence_rig_filled(rig, shared[i]->dtype, &own);
        rows[i] = (sky_shared_row){.mine = sky_tensor_reshape(&mine, 1, &columns),
                                   .all = sequence_rig_tensor(rig, shared[i]->dtype, members.count, columns)};
    }
    sequence_rig_ok(rig, "share", sky_sequence_share_begin(&rig->ctx, &rig->s, rows, 2, &exchange));
    sequence_rig_ok(rig, "share's end", sky_sequence_gather_end(&rig->ctx, &rig->s, &exchange));
    for (int i = 0; i < 2; i++) {
        const sequence_part all = part_of(rig, shared[i], members, all_heads(rig));
        sequence_rig_holds(rig, "a row of each", &rows[i].all, &all);
    }
}

TEST(share_a_row)
{
    sequence_rig_run(share_row, NULL);
}

/* Member 0 fails before an exchange: it takes part all the same, and what the others send each other arrives. */
static void gather_with_a_failed_member(sequence_rig *rig)
{
    const bool failed = sky_sequence_member(&rig->s) == 0;
    sky_operand_parts o[NUM_KINDS];
    sky_group_exchange *exchange = NULL;
    sky_held held;
    prepare(rig, SKY_REACH_ALL, o);
    sky_ctx_hold(&rig->ctx, &held);
    if (failed) {
        sequence_rig_ok(rig, "keep", sky_ctx_keep(&rig->ctx, sky_fail(SKY_ERR_DEVICE, "out of order")));
    }
    sequence_rig_ok(rig, "gather",
                    sky_sequence_gather_begin(&rig->ctx, &rig->s, SKY_REACH_ALL, o, NUM_KINDS, &exchange));
    sequence_rig_ok(rig, "gather's end", sky_sequence_gather_end(&rig->ctx, &rig->s, &exchange));
    EXPECT(sky_ctx_release(&rig->ctx) == (failed ? SKY_ERR_DEVICE : SKY_OK));
    for (int member = 1; !failed && member < sky_sequence_members(&rig->s); member++) {
        for (int i = 0; i < NUM_KINDS; i++) {
            const sequence_part part =
                part_of(rig, &kinds[i], sky_sequence_tokens(&rig->s, member), sky_sequence_own_heads(&rig->s));
            const sky_tensor rows = sky_tensor_rows(&o[i].gathered, part.rows.first, part.rows.count);
            sequence_rig_holds(rig, "the others'", &rows, &part);
        }
    }
}

TEST(a_failed_member_takes_part)
{
    sequence_rig_run_size(gather_with_a_failed_member, NULL, 540, 5);
}

/* Without a group: nothing is sent, and what is gathered is what was there. */
TEST(whole)
{
    sequence_rig rig = {.s = sky_sequence_whole(7, 3), .planning = true};
    sky_arena_init_planning(&rig.arena);
    rig.ctx = (sky_ctx){.backend = sky_backend_ref(), .arena = &rig.arena};
    CHECK(sky_sequence_members(&rig.s) == 1 && sky_sequence_member(&rig.s) == 0);
    CHECK(sky_sequence_own_tokens(&rig.s).count == 7 && sky_sequence_own_heads(&rig.s).count == 3);
    CHECK(sky_sequence_own_block(&rig.s).count == 7 && sky_sequence_largest_block(&rig.s) == 7);
    gather(&(sequence_rig){.s = rig.s, .ctx = rig.ctx, .planning = true, .with = &(sky_reach){SKY_REACH_ALL}});
    scatter(&rig);
    pack(&rig);
    ring(&rig);
    share_rows(&rig);
    share_row(&rig);
}

/* Shapes that do not belong to the sequence, refused on every rank before anything is sent. */
static void refuse(sequence_rig *rig)
{
    sky_ctx *ctx = &rig->ctx;
    const sky_sequence *s = &rig->s;
    sky_group_exchange *exchange = NULL;
    sky_operand_parts o[NUM_KINDS + 1] = {{.tokens_per_row = 1}};
    prepare(rig, SKY_REACH_ALL, o);
    EXPECT(sky_sequence_gather_begin(ctx, s, SKY_REACH_ALL, o, SKY_SEQUENCE_MAX_OPERANDS + 1, &exchange) ==
           SKY_ERR_INTERNAL);
    sky_operand_parts wrong = o[3];
    wrong.width = 1;
    EXPECT(sky_sequence_alloc(ctx, s, SKY_REACH_ALL, &wrong) == SKY_ERR_SHAPE);
    EXPECT(sky_sequence_gather_begin(ctx, s, SKY_REACH_ALL, &wrong, 1, &exchange) == SKY_ERR_SHAPE);
    wrong = o[3];
    wrong.gathered = sequence_rig_tensor(rig, SKY_BF16, s->num_tokens + 1, 2);
    EXPECT(sky_sequence_gather_begin(ctx, s, SKY_REACH_ALL, &wrong, 1, &exchange) == SKY_ERR_SHAPE);
    EXPECT(sky_sequence_scatter(ctx, s, 3, &wrong.gathered, &o[3].mine) == SKY_ERR_SHAPE);
    EXPECT(sky_sequence_pack(ctx, s, 2, &wrong.gathered, &o[3].mine) == SKY_ERR_SHAPE);
    EXPECT(sky_sequence_unpack(ctx, s, 2, &o[3].mine, &wrong.gathered) == SKY_ERR_SHAPE);
    EXPECT(sky_sequence_share_rows(ctx, s, &o[3].mine, &wrong.gathered) == SKY_ERR_SHAPE);
    const sky_shared_row row = {.mine = o[3].mine, .all = wrong.gathered};
    EXPECT(sky_sequence_share_begin(ctx, s, &row, 1, &exchange) == SKY_ERR_SHAPE);
    EXPECT(sky_sequence_share_begin(ctx, s, &row, SKY_SEQUENCE_MAX_OPERANDS + 1, &exchange) == SKY_ERR_INTERNAL);
    const sky_tensor empty = sequence_rig_tensor(rig, SKY_BF16, 0, 2);
    const sky_ring_parts parts = {.from = empty, .to = empty, .tokens_per_row = 1};
    EXPECT(sky_sequence_pass_begin(ctx, s, 0, &parts, 1, &exchange) == (s->ring_degree > 1 ? SKY_ERR_SHAPE : SKY_OK));
    EXPECT(sky_sequence_pass_begin(ctx, s, -1, &parts, 1, &exchange) == SKY_ERR_INTERNAL);
    EXPECT(exchange == NULL);
}

TEST(refusals)
{
    sequence_rig_run_size(refuse, NULL, 1000, 5);
}
