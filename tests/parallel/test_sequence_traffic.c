/*
 * What a self-attention sends, planned for the published sizes, against the formula of the literature (arXiv 2405.07719,
 * section 3): per rank and layer, with S = L / P * D * 2 bytes, Ulysses 4 S (U - 1) / U and a ring 2 S (R - 1).
 */
#include "mpi_main.h"
#include "ops/ref/ref.h"
#include "parallel/sequence.h"
#include "support/test.h"

enum { MOST_RANKS = 8 };

typedef struct attention_size {
    int64_t num_tokens, num_heads, head_dim;
} attention_size;

static void plan_operand(sky_ctx *ctx, const sky_sequence *s, const attention_size *size, sky_reach reach,
                         sky_operand_parts *o)
{
    sky_group_exchange *exchange = NULL;
    *o = (sky_operand_parts){.tokens_per_row = 1, .width = size->head_dim};
    EXPECT(sky_ctx_tensor(ctx, &o->mine, SKY_BF16, 2,
                          (int64_t[]){sky_sequence_own_tokens(s).count, size->num_heads * size->head_dim}) == SKY_OK);
    EXPECT(sky_sequence_alloc(ctx, s, reach, o) == SKY_OK);
    EXPECT(sky_sequence_gather_begin(ctx, s, reach, o, 1, &exchange) == SKY_OK && exchange == NULL);
}

/* Bytes that this rank sends for one layer in bf16; around the ring, or with keys and values from everyone at once. */
static uint64_t plan_layer(const sky_sequence *sequence, const attention_size *size, bool around)
{
    sky_traffic planned = {0};
    sky_sequence s = *sequence;
    s.planned = &planned;
    sky_arena arena;
    sky_arena_init_planning(&arena);
    sky_ctx ctx = {.backend = sky_backend_ref(), .arena = &arena};
    sky_operand_parts q;
    sky_operand_parts k;
    sky_operand_parts v;
    plan_operand(&ctx, &s, size, SKY_REACH_BLOCK, &q);
    plan_operand(&ctx, &s, size, around ? SKY_REACH_BLOCK : SKY_REACH_ALL, &k);
    plan_operand(&ctx, &s, size, around ? SKY_REACH_BLOCK : SKY_REACH_ALL, &v);
    sky_tensor buffers[2] = {{0}};
    for (int i = 0; i < 2; i++) {
        EXPECT(sky_ctx_tensor(&ctx, &buffers[i], SKY_BF16, 2,
                              (int64_t[]){sky_sequence_largest_block(&s),
                                          sky_sequence_own_heads(&s).count * size->head_dim}) == SKY_OK);
    }
    for (int step = 0; around && step + 1 < s.ring_degree; step++) {
        const sky_ring_parts parts = {.from = buffers[0], .to = buffers[1], .tokens_per_row = 1};
        const sky_ring_parts both[] = {parts, parts}; /* keys and values */
        sky_group_exchange *exchange = NULL;
        EXPECT(sky_sequence_pass_begin(&ctx, &s, step, both, 2, &exchange) == SKY_OK && exchange == NULL);
    }
    EXPECT(sky_sequence_scatter(&ctx, &s, size->head_dim, &q.gathered, &q.mine) == SKY_OK);
    return planned.bytes;
}

/* Every (Ulysses, ring) on all ranks whose heads divide; tokens need not: then it holds for all ranks together. */
static void expect_formula(const attention_size *size)
{
    sky_group *world = mpi_test_world();
    const int num_ranks = sky_group_size(world);
    const uint64_t whole = (uint64_t)(size->num_tokens * size->num_heads * size->head_dim * 2);
    for (int ulysses = 1; ulysses <= num_ranks; ulysses++) {
        if (num_ranks % ulysses != 0 || size->num_heads % ulysses != 0) {
            continue;
        }
        const sky_sequence s = {.group = world,
                                .ulysses_degree = ulysses,
                                .ring_degree = num_ranks / ulysses,
                                .num_tokens = size->num_tokens,
                                .num_heads = size->num_heads};
        const uint64_t want =
            4 * whole / (uint64_t)ulysses * (uint64_t)(ulysses - 1) + 2 * whole * (uint64_t)(s.ring_degree - 1);
        for (int around = 0; around < 2; around++) {
            const uint64_t mine = plan_layer(&s, size, around == 1);
            uint64_t all[MOST_RANKS] = {0};
            uint64_t sum = 0;
            EXPECT(sky_group_all_gather(world, &mine, sizeof mine, all) == SKY_OK);
            for (int i = 0; i < num_ranks; i++) {
                sum += all[i];
            }
            test_parameters("%lld tokens, %lld heads, Ulysses %d of %d, around=%d: %llu bytes of %llu, want %llu",
                            (long long)size->num_tokens, (long long)size->num_heads, ulysses, num_ranks, around,
                            (unsigned long long)mine, (unsigned long long)sum, (unsigned long long)want);
            EXPECT(sum == want);
            EXPECT(size->num_tokens % (SKY_TOKEN_GROUP * num_ranks) != 0 || mine == want / (uint64_t)num_ranks);
        }
    }
}

TEST(a_layer_sends_what_the_formula_says)
{
    CHECK(sky_group_size(mpi_test_world()) <= MOST_RANKS);
    expect_formula(&(attention_size){.num_tokens = 51000, .num_heads = 40, .head_dim = 128}); /* 14B, 540P */
    expect_formula(&(attention_size){.num_tokens = 51000, .num_heads = 12, .head_dim = 128}); /* 1.3B */
    expect_formula(&(attention_size){.num_tokens = 111600, .num_heads = 40, .head_dim = 128});
    expect_formula(&(attention_size){.num_tokens = 128 * 12 * 5, .num_heads = 12, .head_dim = 8}); /* same for all */
}

/* In megabytes, as published tables have it: 14B, 540P, 97 frames. */
TEST(megabytes_of_a_layer)
{
    static const struct {
        int num_ranks, ulysses, megabytes;
    } rows[] = {{1, 1, 0}, {2, 2, 522}, {2, 1, 522}, {4, 4, 392}, {4, 1, 783}};
    sky_group *world = mpi_test_world();
    const attention_size size = {.num_tokens = 51000, .num_heads = 40, .head_dim = 128};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].num_ranks == sky_group_size(world)) {
            const sky_sequence s = {.group = world,
                                    .ulysses_degree = rows[i].ulysses,
                                    .ring_degree = rows[i].num_ranks / rows[i].ulysses,
                                    .num_tokens = size.num_tokens,
                                    .num_heads = size.num_heads};
            const uint64_t mine = plan_layer(&s, &size, true);
            uint64_t all[MOST_RANKS] = {0};
            uint64_t sum = 0;
            EXPECT(sky_group_all_gather(world, &mine, sizeof mine, all) == SKY_OK);
            for (int r = 0; r < rows[i].num_ranks; r++) {
                sum += all[r];
            }
            test_parameters("Ulysses %d of %d: %llu bytes", rows[i].ulysses, rows[i].num_ranks,
                            (unsigned long long)sum);
            EXPECT((sum / (uint64_t)rows[i].num_ranks + 500000) / 1000000 == (uint64_t)rows[i].megabytes);
        }
    }
}
