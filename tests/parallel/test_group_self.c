/* The group of one, which needs no MPI. */
#include "parallel/group.h"
#include "parallel/group_mpi.h"
#include "support/test.h"

#include <string.h>

TEST(alone)
{
    sky_group *group = NULL;
    CHECK_OK(sky_group_self_create(&group));
    EXPECT(strcmp(sky_group_name(group), "self") == 0);
    EXPECT(sky_group_rank(group) == 0 && sky_group_size(group) == 1 && sky_group_world_rank(group) == 0);
    EXPECT(sky_group_barrier(group) == SKY_OK);
    EXPECT(sky_group_agree(group, SKY_OK) == SKY_OK);
    EXPECT(sky_group_agree(group, sky_fail(SKY_ERR_IO, "disk full")) == SKY_ERR_IO);
    EXPECT(strcmp(sky_message(), "disk full") == 0);

    char from[] = "abc";
    char to[sizeof from] = "";
    EXPECT(sky_group_broadcast(group, 0, from, sizeof from) == SKY_OK);
    EXPECT(sky_group_broadcast(group, 1, from, sizeof from) == SKY_ERR_INTERNAL);
    EXPECT(sky_group_all_gather(group, from, sizeof from, to) == SKY_OK && strcmp(to, "abc") == 0);
    EXPECT(sky_group_all_gather(group, to, sizeof to, to) == SKY_OK && strcmp(to, "abc") == 0);
    sky_group_destroy(&group);
    EXPECT(group == NULL);
    sky_group_destroy(&group);
}

TEST(exchange_with_itself)
{
    sky_group *group = NULL;
    CHECK_OK(sky_group_self_create(&group));
    const char from[] = "abc";
    char to[sizeof from] = "";
    const sky_exchange list[] = {{0, from, sizeof from, to, sizeof to}};
    sky_group_exchange *under_way[SKY_GROUP_MAX_EXCHANGES + 1] = {NULL};
    for (int i = 0; i < SKY_GROUP_MAX_EXCHANGES; i++) {
        memset(to, 0, sizeof to);
        EXPECT(sky_group_exchange_begin(group, NULL, list, 1, &under_way[i]) == SKY_OK && strcmp(to, "abc") == 0);
    }
    EXPECT(sky_group_exchange_begin(group, NULL, list, 0, &under_way[SKY_GROUP_MAX_EXCHANGES]) == SKY_ERR_INTERNAL);
    EXPECT(under_way[SKY_GROUP_MAX_EXCHANGES] == NULL);
    for (int i = 0; i < SKY_GROUP_MAX_EXCHANGES; i++) {
        EXPECT(sky_group_exchange_end(group, NULL, &under_way[i]) == SKY_OK && under_way[i] == NULL);
    }
    EXPECT(sky_group_exchange_now(group, NULL, list, 1) == SKY_OK);
    EXPECT(sky_group_exchange_now(group, NULL, NULL, 0) == SKY_OK);
    EXPECT(sky_group_traffic(group).bytes == 0 && sky_group_traffic(group).messages == 0);
    sky_group_destroy(&group);
}

/* The k-th send matches the k-th receive, wherever in the list they are. */
TEST(several_to_itself)
{
    sky_group *group = NULL;
    CHECK_OK(sky_group_self_create(&group));
    char to[4] = "...";
    const sky_exchange list[] = {{.peer = 0, .recv = &to[0], .recv_bytes = 1},
                                 {.peer = 0},
                                 {.peer = 0, .send = "a", .send_bytes = 1},
                                 {.peer = 0, .send = "bc", .send_bytes = 2},
                                 {.peer = 0, .recv = &to[1], .recv_bytes = 2}};
    EXPECT(sky_group_exchange_now(group, NULL, list, 5) == SKY_OK && strcmp(to, "abc") == 0);
    EXPECT(sky_group_exchange_now(group, NULL, list, 4) == SKY_ERR_INTERNAL); /* "bc" matches nothing */
    EXPECT(strcmp(sky_message(), "exchange with itself: 2 bytes out, 0 in") == 0);
    EXPECT(sky_group_exchange_now(group, NULL, list, 2) == SKY_ERR_INTERNAL); /* nothing matches "." */
    EXPECT(sky_group_exchange_now(group, NULL, list + 3, 1) == SKY_ERR_INTERNAL);
    const sky_exchange crossed[] = {list[0], list[3], list[2], list[4]};
    EXPECT(sky_group_exchange_now(group, NULL, crossed, 4) == SKY_ERR_INTERNAL); /* both there, in the wrong order */
    sky_group_destroy(&group);
}

TEST(splits)
{
    sky_group *group = NULL;
    sky_group *part = NULL;
    CHECK_OK(sky_group_self_create(&group));
    EXPECT(sky_group_split(group, 3, 0, &part) == SKY_OK && part != NULL && sky_group_size(part) == 1);
    sky_group_destroy(&group);
    EXPECT(part == NULL || sky_group_barrier(part) == SKY_OK); /* outlives the group it came from */
    sky_group_destroy(&part);
    CHECK_OK(sky_group_self_create(&group));
    EXPECT(sky_group_split(group, -1, 0, &part) == SKY_OK && part == NULL);
    sky_group_destroy(&group);
}

TEST(no_world_without_mpi)
{
    sky_group *world = NULL;
    CHECK_STATUS(sky_group_world_create(&world), SKY_ERR_INTERNAL);
    CHECK(world == NULL && strstr(sky_message(), "MPI is not running") != NULL);
}

TEST_MAIN
