/* parallel/group.h on 1 to 4 ranks: whole numbers that name sender, receiver and place, compared exactly. */
#include "mpi_main.h"
#include "parallel/group_mpi.h"
#include "support/test.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned char value(int from, int to, size_t i)
{
    return (unsigned char)(7 * from + 31 * to + 3 * (int)(i % 1009) + 1);
}

static void fill(unsigned char *buf, size_t bytes, int from, int to)
{
    for (size_t i = 0; i < bytes; i++) {
        buf[i] = value(from, to, i);
    }
}

static bool holds(const unsigned char *buf, size_t bytes, int from, int to)
{
    for (size_t i = 0; i < bytes; i++) {
        if (buf[i] != value(from, to, i)) {
            test_fail(__FILE__, __LINE__, "from rank %d to rank %d, byte %zu of %zu: got %d, want %d", from, to, i,
                      bytes, buf[i], value(from, to, i));
            return false;
        }
    }
    return true;
}

static const size_t lengths[] = {0, 1, 7, 999, 1000, 1001, 2000, 4097};
enum { NUM_LENGTHS = sizeof lengths / sizeof lengths[0], LONGEST = 4097, MOST_RANKS = 8, POISON = 0xa5 };

TEST(world)
{
    sky_group *world = mpi_test_world();
    CHECK(strcmp(sky_group_name(world), "mpi") == 0);
    CHECK(sky_group_size(world) >= 1 && sky_group_size(world) <= MOST_RANKS);
    CHECK(sky_group_rank(world) >= 0 && sky_group_rank(world) < sky_group_size(world));
    CHECK(sky_group_world_rank(world) == sky_group_rank(world));
    CHECK_OK(sky_group_barrier(world));
    sky_group *other = NULL;
    CHECK_STATUS(sky_group_world_create_in_pieces(0, &other), SKY_ERR_INTERNAL);
    CHECK_STATUS(sky_group_world_create_in_pieces((size_t)1 << 31, &other), SKY_ERR_INTERNAL);
    CHECK(other == NULL);
}

static bool broadcasts(sky_group *group)
{
    unsigned char buf[LONGEST + 1];
    for (int root = 0; root < sky_group_size(group); root++) {
        for (int n = 0; n < NUM_LENGTHS; n++) {
            test_parameters("root=%d bytes=%zu", root, lengths[n]);
            memset(buf, POISON, sizeof buf);
            if (sky_group_rank(group) == root) {
                fill(buf, lengths[n], root, 0);
            }
            if (sky_group_broadcast(group, root, buf, lengths[n]) != SKY_OK || !holds(buf, lengths[n], root, 0) ||
                buf[lengths[n]] != POISON) {
                return false;
            }
        }
    }
    return true;
}

TEST(broadcast)
{
    CHECK(broadcasts(mpi_test_world()));
    CHECK(broadcasts(mpi_test_world_in_pieces()));
    char buf[1] = {0};
    CHECK_STATUS(sky_group_broadcast(mpi_test_world(), -1, buf, 1), SKY_ERR_INTERNAL);
    CHECK_STATUS(sky_group_broadcast(mpi_test_world(), sky_group_size(mpi_test_world()), buf, 1), SKY_ERR_INTERNAL);
}

static bool gathers(sky_group *group, bool in_place)
{
    unsigned char send[LONGEST];
    unsigned char recv[MOST_RANKS * LONGEST + 1];
    const int rank = sky_group_rank(group);
    const size_t size = (size_t)sky_group_size(group);
    for (int n = 0; n < NUM_LENGTHS; n++) {
        const size_t bytes = lengths[n];
        test_parameters("bytes=%zu in_place=%d", bytes, in_place);
        memset(recv, POISON, sizeof recv);
        unsigned char *from = in_place ? recv + (size_t)rank * bytes : send;
        fill(from, bytes, rank, 0);
        if (sky_group_all_gather(group, from, bytes, recv) != SKY_OK || recv[size * bytes] != POISON) {
            return false;
        }
        for (size_t r = 0; r < size; r++) {
            if (!holds(recv + r * bytes, bytes, (int)r, 0)) {
                return false;
            }
        }
    }
    return true;
}

TEST(all_gather)
{
    CHECK(gathers(mpi_test_world(), false));
    CHECK(gathers(mpi_test_world(), true));
    CHECK(gathers(mpi_test_world_in_pieces(), false));
    CHECK(gathers(mpi_test_world_in_pieces(), true));
}

/* Bytes from one rank to another: unequal, different in both directions, and nothing for some pairs. */
static size_t pair_bytes(int from, int to, int round)
{
    static const size_t bytes[] = {0, 1, 1000, 2500, 17, 0, 4096, 999, 1001};
    return bytes[(5 * from + 2 * to + round) % 9];
}

typedef struct exchange_buffers {
    unsigned char send[MOST_RANKS][LONGEST];
    unsigned char recv[MOST_RANKS][LONGEST];
    sky_exchange list[MOST_RANKS];
    int n;
} exchange_buffers;

/* Peers in an order of each rank's own; pairs that exchange nothing are left out in odd rounds. */
static void prepare(const sky_group *group, int round, exchange_buffers *b)
{
    const int rank = sky_group_rank(group);
    const int size = sky_group_size(group);
    memset(b->recv, POISON, sizeof b->recv);
    b->n = 0;
    for (int i = 0; i < size; i++) {
        const int peer = (rank * 3 + i) % size;
        const size_t out = pair_bytes(rank, peer, round);
        const size_t in = pair_bytes(peer, rank, round);
        fill(b->send[peer], out, rank, peer);
        if (round % 2 == 0 || out + in > 0) {
            b->list[b->n++] =
                (sky_exchange){peer, out > 0 ? b->send[peer] : NULL, out, in > 0 ? b->recv[peer] : NULL, in};
        }
    }
}

static bool received(const sky_group *group, int round, const exchange_buffers *b)
{
    const int rank = sky_group_rank(group);
    for (int peer = 0; peer < sky_group_size(group); peer++) {
        const size_t in = pair_bytes(peer, rank, round);
        if (!holds(b->recv[peer], in, peer, rank)) {
            return false;
        }
        if (b->recv[peer][in] != POISON) {
            test_fail(__FILE__, __LINE__, "a byte was written behind the %zu from rank %d", in, peer);
            return false;
        }
    }
    return true;
}

static bool exchanges(sky_group *group)
{
    exchange_buffers *b = malloc(sizeof *b);
    bool ok = b != NULL;
    for (int round = 0; ok && round < 18; round++) {
        test_parameters("round=%d", round);
        prepare(group, round, b);
        ok = sky_group_exchange_now(group, NULL, b->list, b->n) == SKY_OK && received(group, round, b);
    }
    free(b);
    return ok;
}

TEST(exchange)
{
    CHECK(exchanges(mpi_test_world()));
    CHECK(exchanges(mpi_test_world_in_pieces()));
}

/* As many as may be under way, ended in reverse, with other collectives between. */
static bool overlapping_exchanges(sky_group *group, exchange_buffers *b)
{
    sky_group_exchange *under_way[SKY_GROUP_MAX_EXCHANGES] = {NULL};
    sky_group_exchange *one_more = NULL;
    bool ok = true;
    for (int i = 0; i < SKY_GROUP_MAX_EXCHANGES; i++) {
        prepare(group, i, &b[i]);
        ok = sky_group_exchange_begin(group, NULL, b[i].list, b[i].n, &under_way[i]) == SKY_OK && ok;
    }
    ok = sky_group_exchange_begin(group, NULL, NULL, 0, &one_more) == SKY_ERR_INTERNAL && one_more == NULL && ok;
    ok = sky_group_barrier(group) == SKY_OK && ok;
    ok = gathers(group, false) && ok;
    for (int i = SKY_GROUP_MAX_EXCHANGES - 1; i >= 0; i--) {
        ok = sky_group_exchange_end(group, NULL, &under_way[i]) == SKY_OK && under_way[i] == NULL && ok;
        ok = sky_group_exchange_end(group, NULL, &under_way[i]) == SKY_OK && ok; /* NULL is taken */
        test_parameters("exchange %d", i);
        ok = received(group, i, &b[i]) && ok;
    }
    return ok;
}

TEST(overlapping)
{
    exchange_buffers *b = malloc(SKY_GROUP_MAX_EXCHANGES * sizeof *b);
    CHECK(b != NULL);
    EXPECT(overlapping_exchanges(mpi_test_world(), b));
    EXPECT(overlapping_exchanges(mpi_test_world_in_pieces(), b));
    free(b);
}

TEST(exchange_refuses)
{
    sky_group *world = mpi_test_world();
    const int rank = sky_group_rank(world);
    const int size = sky_group_size(world);
    char buf[4] = {0};
    sky_group_exchange *exchange = NULL;
    const sky_exchange bad[] = {{.peer = -1},
                                {.peer = size},
                                {.peer = 0, .send_bytes = 1},
                                {.peer = 0, .recv_bytes = 1},
                                {rank, buf, 1, buf + 2, 2}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        test_parameters("entry %zu", i);
        CHECK_STATUS(sky_group_exchange_begin(world, NULL, &bad[i], 1, &exchange), SKY_ERR_INTERNAL);
    }
    CHECK_STATUS(sky_group_exchange_begin(world, NULL, bad, -1, &exchange), SKY_ERR_INTERNAL);
    CHECK_STATUS(sky_group_exchange_begin(world, NULL, NULL, 1, &exchange), SKY_ERR_INTERNAL);
    CHECK(exchange == NULL);
}

/* Three messages to each peer, this rank included: an odd order of peers, parts left empty, sends and receives of a peer in
 * entries of their own or together. */
enum { MESSAGES = 3, MOST_ENTRIES = 2 * MESSAGES * MOST_RANKS };

typedef struct several_buffers {
    unsigned char send[MOST_RANKS][MESSAGES][LONGEST];
    unsigned char recv[MOST_RANKS][MESSAGES][LONGEST];
    sky_exchange list[MOST_ENTRIES];
    sky_traffic want;
} several_buffers;

static size_t message_bytes(int from, int to, int k, int round)
{
    return pair_bytes(from, to, round + 4 * k);
}

static int list_several(const sky_group *group, int round, several_buffers *b)
{
    const int rank = sky_group_rank(group);
    const int size = sky_group_size(group);
    int n = 0;
    memset(b->recv, POISON, sizeof b->recv);
    b->want = (sky_traffic){0};
    for (int k = 0; k < MESSAGES; k++) {
        for (int i = 0; i < size; i++) {
            const int peer = (rank + k + i) % size;
            const size_t out = message_bytes(rank, peer, k, round);
            const size_t in = message_bytes(peer, rank, k, round);
            fill(b->send[peer][k], out, rank + 3 * k, peer);
            const sky_exchange both = {peer, b->send[peer][k], out, b->recv[peer][k], in};
            if ((round + i) % 2 == 0) {
                b->list[n++] = both;
            } else {
                b->list[n++] = (sky_exchange){.peer = peer, .recv = both.recv, .recv_bytes = both.recv_bytes};
                b->list[n++] = (sky_exchange){.peer = peer, .send = both.send, .send_bytes = both.send_bytes};
            }
            if (peer != rank && out > 0) {
                b->want.bytes += out;
                b->want.messages++;
            }
        }
    }
    return n;
}

static bool received_several(const sky_group *group, int round, const several_buffers *b)
{
    const int rank = sky_group_rank(group);
    for (int peer = 0; peer < sky_group_size(group); peer++) {
        for (int k = 0; k < MESSAGES; k++) {
            const size_t in = message_bytes(peer, rank, k, round);
            if (!holds(b->recv[peer][k], in, peer + 3 * k, rank) || b->recv[peer][k][in] != POISON) {
                return false;
            }
        }
    }
    return true;
}

/* What was sent is counted, by this group and at the right place. */
static void exchange_several(sky_group *group)
{
    several_buffers *b = malloc(sizeof *b);
    for (int round = 0; b != NULL && round < 9; round++) {
        test_parameters("round=%d", round);
        const int n = list_several(group, round, b);
        sky_traffic planned = {0};
        sky_group_exchange_plan(group, b->list, n, &planned);
        const sky_traffic before = sky_group_traffic(group);
        EXPECT(sky_group_exchange_now(group, NULL, b->list, n) == SKY_OK && received_several(group, round, b));
        const sky_traffic after = sky_group_traffic(group);
        EXPECT(after.bytes - before.bytes == b->want.bytes && after.messages - before.messages == b->want.messages);
        EXPECT(planned.bytes == b->want.bytes && planned.messages == b->want.messages);
    }
    EXPECT(b != NULL);
    free(b);
}

TEST(several_messages_to_a_peer)
{
    exchange_several(mpi_test_world());
    exchange_several(mpi_test_world_in_pieces());
}

TEST(only_exchanges_are_counted)
{
    sky_group *part = NULL;
    CHECK_OK(sky_group_split(mpi_test_world(), 0, 0, &part));
    EXPECT(sky_group_traffic(part).bytes == 0 && sky_group_traffic(part).messages == 0); /* from nothing on */
    EXPECT(sky_group_exchange_seconds(part) == 0);
    EXPECT(broadcasts(part));
    EXPECT(gathers(part, false));
    EXPECT(sky_group_barrier(part) == SKY_OK);
    EXPECT(sky_group_traffic(part).bytes == 0 && sky_group_traffic(part).messages == 0);
    EXPECT(sky_group_exchange_seconds(part) == 0);
    EXPECT(sky_group_agree(part, SKY_OK) == SKY_OK);
    EXPECT(sky_group_traffic(part).bytes == 0 && sky_group_traffic(part).messages == 0);
    const double agreed = sky_group_exchange_seconds(part);
    EXPECT((agreed > 0) == (sky_group_size(part) > 1));
    EXPECT(sky_group_exchange_now(part, NULL, NULL, 0) == SKY_OK);
    const double exchanged = sky_group_exchange_seconds(part);
    EXPECT(exchanged > agreed);
    EXPECT(sky_group_traffic(part).bytes == 0 && sky_group_traffic(part).messages == 0);
    sky_group_destroy(&part);
}

TEST(a_list_of_the_group)
{
    sky_group *world = mpi_test_world();
    sky_exchange *list = NULL;
    sky_exchange *again = NULL;
    CHECK_OK(sky_group_list(world, 100, &list));
    list[99] = (sky_exchange){.peer = 7};
    CHECK_OK(sky_group_list(world, 0, &again));
    CHECK(again == list);
    CHECK_OK(sky_group_list(world, 100, &again));
    CHECK(again == list);
    CHECK_STATUS(sky_group_list(world, -1, &again), SKY_ERR_INTERNAL);
}

/* Rows and columns of a grid two wide, in reverse order of rank; who has no color gets no group. */
TEST(split)
{
    sky_group *world = mpi_test_world_in_pieces();
    const int rank = sky_group_rank(world);
    const int size = sky_group_size(world);
    for (int color_of = 0; color_of < 3; color_of++) {
        test_parameters("way %d", color_of);
        const int color = color_of == 0 ? rank / 2 : color_of == 1 ? rank % 2 : rank == 0 ? -1 : 5;
        sky_group *part = NULL;
        CHECK_OK(sky_group_split(world, color, -rank, &part));
        CHECK((part == NULL) == (color < 0));
        if (part == NULL) {
            continue;
        }
        int members = 0;
        int above = 0;
        for (int r = 0; r < size; r++) {
            const int c = color_of == 0 ? r / 2 : color_of == 1 ? r % 2 : r == 0 ? -1 : 5;
            members += c == color;
            above += c == color && r > rank;
        }
        EXPECT(sky_group_size(part) == members);
        EXPECT(sky_group_rank(part) == above);
        EXPECT(sky_group_world_rank(part) == rank);
        EXPECT(broadcasts(part));
        EXPECT(gathers(part, false));
        EXPECT(exchanges(part));
        sky_group *half = NULL;
        EXPECT(sky_group_split(part, sky_group_rank(part) == 0 ? 0 : -1, 0, &half) == SKY_OK);
        EXPECT((half != NULL) == (sky_group_rank(part) == 0));
        EXPECT(half == NULL || (sky_group_size(half) == 1 && sky_group_world_rank(half) == rank && exchanges(half)));
        sky_group_destroy(&half);
        sky_group_destroy(&part);
        CHECK(part == NULL);
    }
}

/* Where the two sides disagree about a length, MPI's error comes back as a status, and the program goes on. */
TEST(mpi_errors_are_statuses)
{
    sky_group *world = mpi_test_world();
    const int rank = sky_group_rank(world);
    if (sky_group_size(world) == 1) {
        return;
    }
    sky_group *pair = NULL;
    CHECK_OK(sky_group_split(world, rank < 2 ? 0 : -1, 0, &pair));
    if (pair != NULL) {
        char buf[8] = {0};
        const sky_exchange sender = {.peer = 1, .send = buf, .send_bytes = 8};
        const sky_exchange receiver = {.peer = 0, .recv = buf, .recv_bytes = 4};
        const sky_status st = sky_group_exchange_now(pair, NULL, rank == 0 ? &sender : &receiver, 1);
        EXPECT(rank == 0 || st == SKY_ERR_COMM);
        test_parameters("message '%s'", sky_message());
        EXPECT(rank == 0 || strstr(sky_message(), "exchange: MPI error") != NULL);
        sky_group_destroy(&pair);
    }
    CHECK_OK(sky_group_barrier(world));
}
