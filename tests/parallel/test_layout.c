/* parallel/layout.h: which layout a request gets, and what is said to one that cannot be met. */
#include "parallel/layout.h"
#include "support/test.h"

#include <string.h>

typedef struct layout_case {
    int num_ranks;
    int64_t num_heads;
    int num_branches;
    int use_usp;
    int cfg, ulysses, ring;                /* asked for; 0: open */
    int want_cfg, want_ulysses, want_ring; /* 0: refused */
} layout_case;

static const layout_case layout_cases[] = {
    /* all open */
    {1, 12, 2, 0, 0, 0, 0, 1, 1, 1},
    {2, 12, 2, 0, 0, 0, 0, 2, 1, 1},
    {2, 12, 1, 0, 0, 0, 0, 1, 2, 1},
    {3, 12, 2, 0, 0, 0, 0, 1, 3, 1},
    {4, 12, 2, 0, 0, 0, 0, 2, 2, 1},
    {8, 12, 2, 0, 0, 0, 0, 2, 4, 1},
    {8, 40, 2, 0, 0, 0, 0, 2, 4, 1},
    {16, 40, 2, 0, 0, 0, 0, 2, 8, 1},
    {7, 40, 1, 0, 0, 0, 0, 1, 7, 1},   /* 6 heads at most: 40 of 42 places */
    {9, 40, 1, 0, 0, 0, 0, 1, 3, 3},   /* 40 of 45 places are too few, 40 of 42 are not */
    {11, 40, 1, 0, 0, 0, 0, 1, 11, 1}, /* 40 of 44 */
    {5, 12, 2, 0, 0, 0, 0, 1, 1, 5},   /* 12 of 15 */
    {8, 12, 1, 0, 0, 0, 0, 1, 4, 2},   /* 12 of 16 */
    {4, 1, 1, 0, 0, 0, 0, 1, 1, 4},
    {10, 9, 1, 0, 0, 0, 0, 1, 10, 1}, /* a tenth exactly */
    {10, 8, 1, 0, 0, 0, 0, 1, 2, 5},
    {30, 40, 2, 0, 0, 0, 0, 2, 5, 3},
    /* the sequence, please, or not */
    {8, 12, 2, 1, 0, 0, 0, 1, 4, 2},
    {8, 40, 2, 1, 0, 0, 0, 1, 8, 1},
    {2, 12, 2, 1, 0, 0, 0, 1, 2, 1},
    {1, 12, 2, 1, 0, 0, 0, 1, 1, 1},
    {8, 12, 2, 1, 2, 0, 0, 2, 4, 1},
    {4, 12, 2, 1, 0, 2, 1, 2, 2, 1}, /* only two such groups use all ranks */
    {1, 12, 2, -1, 0, 0, 0, 1, 1, 1},
    {2, 12, 2, -1, 0, 0, 0, 2, 1, 1},
    {2, 12, 1, -1, 0, 0, 0, 0, 0, 0},
    {4, 12, 2, -1, 0, 0, 0, 0, 0, 0},
    {2, 12, 2, -1, 0, 2, 0, 0, 0, 0},
    {2, 12, 2, -1, 2, 1, 1, 2, 1, 1},
    /* degrees given */
    {8, 12, 2, 0, 1, 0, 0, 1, 4, 2},
    {8, 12, 2, 0, 2, 0, 0, 2, 4, 1},
    {8, 12, 2, 0, 0, 8, 0, 1, 8, 1}, /* uneven heads, asked for */
    {8, 12, 2, 0, 0, 0, 8, 1, 1, 8},
    {8, 12, 2, 0, 0, 0, 2, 2, 2, 2},
    {8, 12, 2, 0, 0, 2, 0, 2, 2, 2},
    {8, 12, 2, 0, 0, 2, 4, 1, 2, 4},
    {4, 2, 1, 0, 0, 4, 0, 1, 4, 1}, /* two of the ranks hold no heads */
    {4, 12, 2, 0, 2, 1, 2, 2, 1, 2},
    /* contradictions */
    {8, 12, 1, 0, 2, 0, 0, 0, 0, 0},
    {3, 12, 2, 0, 2, 0, 0, 0, 0, 0},
    {8, 12, 2, 0, 3, 0, 0, 0, 0, 0},
    {8, 12, 2, 0, 0, 3, 0, 0, 0, 0},
    {8, 12, 2, 0, 0, 0, 3, 0, 0, 0},
    {8, 12, 2, 0, 2, 4, 2, 0, 0, 0},
    {8, 12, 2, 0, 0, 2, 1, 0, 0, 0},
    {8, 12, 2, 0, 0, 16, 0, 0, 0, 0},
    {8, 12, 2, 0, 0, -1, 0, 0, 0, 0},
};

TEST(choices)
{
    for (size_t i = 0; i < sizeof layout_cases / sizeof layout_cases[0]; i++) {
        const layout_case *c = &layout_cases[i];
        const sky_rank_layout_request request = {
            .degrees = {.cfg_degree = c->cfg, .ring_degree = c->ring, .ulysses_degree = c->ulysses},
            .use_usp = c->use_usp};
        sky_rank_layout got = {0};
        const sky_status st = sky_rank_layout_choose(&request, c->num_ranks, c->num_heads, c->num_branches, &got);
        test_parameters("case %zu: %d ranks, %lld heads, %d branches, use_usp=%d, cfg %d ulysses %d ring %d: got %s, "
                        "cfg %d ulysses %d ring %d",
                        i, c->num_ranks, (long long)c->num_heads, c->num_branches, c->use_usp, c->cfg, c->ulysses,
                        c->ring, sky_status_name(st), got.cfg_degree, got.ulysses_degree, got.ring_degree);
        EXPECT(st == (c->want_cfg > 0 ? SKY_OK : SKY_ERR_USAGE));
        EXPECT(got.cfg_degree == c->want_cfg && got.ulysses_degree == c->want_ulysses &&
               got.ring_degree == c->want_ring);
    }
}

static void expect_refusal(const sky_rank_layout_request *request, int num_ranks, int num_branches, const char *want)
{
    sky_rank_layout got = {0};
    EXPECT(sky_rank_layout_choose(request, num_ranks, 12, num_branches, &got) == SKY_ERR_USAGE);
    test_parameters("got '%s', want '%s'", sky_message(), want);
    EXPECT(strcmp(sky_message(), want) == 0);
}

TEST(refusals_say_what_fits)
{
    expect_refusal(
        &(sky_rank_layout_request){.degrees = {.cfg_degree = 2, .ulysses_degree = 3}}, 2, 2,
        "--cfg_degree 2 --ulysses_degree 3: no layout of 2 ranks and 2 guidance branches: cfg_degree (at most "
        "2) x ulysses_degree x ring_degree must be 2; what fits: --cfg_degree 2 --ulysses_degree 1 "
        "--ring_degree 1, --cfg_degree 1 --ulysses_degree 2 --ring_degree 1, --cfg_degree 1 "
        "--ulysses_degree 1 --ring_degree 2");
    expect_refusal(&(sky_rank_layout_request){.degrees = {.ring_degree = 3}}, 8, 1,
                   "--ring_degree 3: no layout of 8 ranks and 1 guidance branch: cfg_degree (at most 1) x "
                   "ulysses_degree x ring_degree must be 8; what fits: --cfg_degree 1 --ulysses_degree 4 "
                   "--ring_degree 2, --cfg_degree 1 --ulysses_degree 2 --ring_degree 4, --cfg_degree 1 "
                   "--ulysses_degree 1 --ring_degree 8, --cfg_degree 1 --ulysses_degree 8 --ring_degree 1");
    expect_refusal(
        &(sky_rank_layout_request){.use_usp = -1}, 4, 2,
        "--no_use_usp: no layout of 4 ranks and 2 guidance branches: cfg_degree (at most 2) x ulysses_degree "
        "x ring_degree must be 4, and without USP the last two are 1; what fits: --cfg_degree 2 "
        "--ulysses_degree 2 --ring_degree 1, --cfg_degree 2 --ulysses_degree 1 --ring_degree 2, "
        "--cfg_degree 1 --ulysses_degree 4 --ring_degree 1, --cfg_degree 1 --ulysses_degree 2 "
        "--ring_degree 2, ...");
    expect_refusal(&(sky_rank_layout_request){.degrees = {.cfg_degree = 2}, .use_usp = 1}, 1, 2,
                   "--use_usp --cfg_degree 2: no layout of 1 rank and 2 guidance branches: cfg_degree (at most 2) x "
                   "ulysses_degree x ring_degree must be 1; what fits: --cfg_degree 1 --ulysses_degree 1 "
                   "--ring_degree 1");
}

TEST(what_no_user_can_ask_for)
{
    const sky_rank_layout_request open = {0};
    sky_rank_layout got = {0};
    CHECK_STATUS(sky_rank_layout_choose(&open, 0, 12, 1, &got), SKY_ERR_INTERNAL);
    CHECK_STATUS(sky_rank_layout_choose(&open, 1, 0, 1, &got), SKY_ERR_INTERNAL);
    CHECK_STATUS(sky_rank_layout_choose(&open, 1, 12, 0, &got), SKY_ERR_INTERNAL);
    CHECK_STATUS(sky_rank_layout_choose(&open, 1, 12, 3, &got), SKY_ERR_INTERNAL);
}

/* Every layout once, the one that is chosen first; a short list holds the best. */
TEST(lists)
{
    enum { MAX_LAYOUTS = 64 };
    for (int num_ranks = 1; num_ranks <= 24; num_ranks++) {
        for (int branches = 1; branches <= 2; branches++) {
            sky_rank_layout list[MAX_LAYOUTS];
            sky_rank_layout best[2];
            sky_rank_layout chosen = {0};
            const int num = sky_rank_layout_list(num_ranks, 12, branches, list, MAX_LAYOUTS);
            int want = 0;
            for (int cfg = 1; cfg <= branches; cfg++) {
                for (int ulysses = 1; ulysses <= num_ranks; ulysses++) {
                    want += num_ranks % (cfg * ulysses) == 0;
                }
            }
            test_parameters("ranks=%d branches=%d: %d layouts, want %d", num_ranks, branches, num, want);
            CHECK(num == want && num <= MAX_LAYOUTS);
            for (int i = 0; i < num; i++) {
                CHECK(sky_rank_layout_ranks(&list[i]) == num_ranks);
                for (int j = 0; j < i; j++) {
                    CHECK(memcmp(&list[i], &list[j], sizeof list[i]) != 0);
                }
            }
            CHECK_OK(sky_rank_layout_choose(&(sky_rank_layout_request){0}, num_ranks, 12, branches, &chosen));
            CHECK(memcmp(&chosen, &list[0], sizeof chosen) == 0);
            CHECK(sky_rank_layout_list(num_ranks, 12, branches, best, 2) == num);
            CHECK(memcmp(best, list, (num < 2 ? 1 : 2) * sizeof best[0]) == 0);
            CHECK(sky_rank_layout_list(num_ranks, 12, branches, NULL, 0) == num);
        }
    }
}

/* Best first, down to the last: by guidance, then balance, then Ulysses. */
TEST(order_of_a_list)
{
    static const sky_rank_layout want[] = {{2, 1, 4}, {2, 2, 2}, {2, 4, 1}, {1, 2, 4}, {1, 4, 2}, {1, 8, 1}, {1, 1, 8}};
    sky_rank_layout list[7];
    CHECK(sky_rank_layout_list(8, 12, 2, list, 7) == 7);
    CHECK(memcmp(list, want, sizeof want) == 0);
    /* 5 heads take 5, 6, 8 and 8 places. */
    static const sky_rank_layout uneven[] = {{1, 8, 1}, {1, 4, 2}, {1, 1, 8}, {1, 2, 4}};
    CHECK(sky_rank_layout_list(8, 5, 1, list, 7) == 4);
    CHECK(memcmp(list, uneven, sizeof uneven) == 0);
}

/* Neighbours in rank number are neighbours in Ulysses, then in the ring. */
TEST(places)
{
    const sky_rank_layout layout = {.cfg_degree = 2, .ring_degree = 3, .ulysses_degree = 4};
    CHECK(sky_rank_layout_ranks(&layout) == 24 && sky_rank_layout_members(&layout) == 12);
    int rank = 0;
    for (int group = 0; group < 2; group++) {
        for (int ring = 0; ring < 3; ring++) {
            for (int ulysses = 0; ulysses < 4; ulysses++, rank++) {
                const sky_place place = sky_rank_layout_place(&layout, rank);
                CHECK(place.branch_group == group && place.ring == ring && place.ulysses == ulysses &&
                      place.member == ring * 4 + ulysses);
            }
        }
    }
    char text[64];
    CHECK(strcmp(sky_rank_layout_describe(&layout, text, sizeof text), "guidance 2 x ring 3 x Ulysses 4") == 0);
}

TEST_MAIN
