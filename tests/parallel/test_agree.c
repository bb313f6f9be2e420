/* sky_group_agree(): who failed, with what words, on every rank. */
#include "mpi_main.h"
#include "support/test.h"

#include <stdio.h>
#include <string.h>

enum { MOST_RANKS = 32 };

/* Ranks in the bit set `failing` fail, each with a status of its own; all must have the lowest one's. */
static bool agree_on(sky_group *group, unsigned failing)
{
    const int rank = sky_group_rank(group);
    sky_clear_message();
    sky_status st = SKY_OK;
    if ((failing >> rank & 1U) != 0) {
        st = sky_fail((sky_status)(SKY_ERR_INPUT + rank), "file %d is short", rank);
    }
    const sky_status got = sky_group_agree(group, st);
    if (failing == 0) {
        return got == SKY_OK && sky_message()[0] == '\0';
    }
    const int lowest = __builtin_ctz(failing);
    char want[64];
    snprintf(want, sizeof want, "rank %d: file %d is short", lowest, lowest);
    if (got != (sky_status)(SKY_ERR_INPUT + lowest) || strcmp(sky_message(), want) != 0) {
        test_fail(__FILE__, __LINE__, "rank %d: got %s '%s', want '%s'", rank, sky_status_name(got), sky_message(),
                  want);
        return false;
    }
    return true;
}

TEST(agree_on_who_failed)
{
    sky_group *world = mpi_test_world();
    const int size = sky_group_size(world);
    if (size == 1) {
        return; /* below */
    }
    CHECK(size <= 5); /* as many statuses as there are from INPUT on, before COMM */
    for (unsigned failing = 0; failing < 1U << size; failing++) {
        test_parameters("failing ranks 0x%x", failing);
        CHECK(agree_on(world, failing));
        CHECK(agree_on(mpi_test_world_in_pieces(), failing)); /* a message longer than a piece */
    }
}

/* Nobody can be told: it returns without the others, who are not here. */
TEST(a_rank_that_cannot_talk_does_not_try)
{
    sky_group *world = mpi_test_world();
    if (sky_group_rank(world) == 0) {
        EXPECT(sky_group_agree(world, sky_fail(SKY_ERR_COMM, "the link is down")) == SKY_ERR_COMM);
        EXPECT(strcmp(sky_message(), "the link is down") == 0);
    }
    EXPECT(sky_group_barrier(world) == SKY_OK);
}

TEST(one_rank_agrees_with_itself)
{
    sky_group *one = NULL;
    CHECK_OK(sky_group_split(mpi_test_world(), sky_group_rank(mpi_test_world()), 0, &one));
    EXPECT(sky_group_size(one) == 1);
    EXPECT(sky_group_agree(one, SKY_OK) == SKY_OK);
    EXPECT(sky_group_agree(one, sky_fail(SKY_ERR_IO, "as it is")) == SKY_ERR_IO);
    EXPECT(strcmp(sky_message(), "as it is") == 0);
    sky_group_destroy(&one);
}

/* Agreeing again on the way up names the rank once; so does a place put in front. */
TEST(a_rank_is_named_once)
{
    sky_group *world = mpi_test_world();
    const int rank = sky_group_rank(world);
    const int last = sky_group_size(world) - 1;
    if (last == 0) {
        return;
    }
    sky_status st = rank == last ? sky_fail(SKY_ERR_IO, "disk full") : SKY_OK;
    st = sky_group_agree(world, st);
    st = sky_fail_in(st, "saving");
    st = sky_group_agree(world, st);
    char want[64];
    snprintf(want, sizeof want, "saving: rank %d: disk full", last);
    CHECK(st == SKY_ERR_IO);
    test_parameters("got '%s', want '%s'", sky_message(), want);
    CHECK(strcmp(sky_message(), want) == 0);

    /* What only looks like a rank is not one. */
    static const char *const lookalikes[] = {"rank: 3", "rank 3", "rank x: y", "frank 3: y", "rank 3:y"};
    for (size_t i = 0; i < sizeof lookalikes / sizeof lookalikes[0]; i++) {
        st = sky_group_agree(world, rank == last ? sky_fail(SKY_ERR_IO, "%s", lookalikes[i]) : SKY_OK);
        snprintf(want, sizeof want, "rank %d: %s", last, lookalikes[i]);
        test_parameters("got '%s', want '%s'", sky_message(), want);
        CHECK(st == SKY_ERR_IO && strcmp(sky_message(), want) == 0);
    }
}

/* The number is the world's, so that it means something outside of the group. */
TEST(a_part_names_world_ranks)
{
    sky_group *world = mpi_test_world();
    const int rank = sky_group_rank(world);
    const int size = sky_group_size(world);
    sky_group *part = NULL;
    CHECK_OK(sky_group_split(world, rank > 0 ? 0 : -1, 0, &part));
    if (part != NULL && size > 2) {
        const sky_status st = sky_group_agree(part, rank == size - 1 ? sky_fail(SKY_ERR_IO, "gone") : SKY_OK);
        char want[64];
        snprintf(want, sizeof want, "rank %d: gone", size - 1);
        test_parameters("got '%s', want '%s'", sky_message(), want);
        EXPECT(st == SKY_ERR_IO && strcmp(sky_message(), want) == 0);
    }
    sky_group_destroy(&part);
}

TEST(messages_of_any_length)
{
    sky_group *world = mpi_test_world();
    if (sky_group_size(world) == 1) {
        return;
    }
    static char text[4000];
    memset(text, 'x', sizeof text - 1);
    const int last = sky_group_size(world) - 1;
    sky_status st = sky_group_agree(world, sky_group_rank(world) == last ? sky_fail(SKY_ERR_IO, "%s", text) : SKY_OK);
    CHECK(st == SKY_ERR_IO && strncmp(sky_message(), "rank ", 5) == 0 && strlen(sky_message()) == 2047);

    /* A failure that left no words is named by its status. */
    sky_clear_message();
    st = sky_group_agree(world, sky_group_rank(world) == last ? SKY_ERR_NOMEM : SKY_OK);
    char want[64];
    snprintf(want, sizeof want, "rank %d: NOMEM", last);
    CHECK(st == SKY_ERR_NOMEM && strcmp(sky_message(), want) == 0);
}
