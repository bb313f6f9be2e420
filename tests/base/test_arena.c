#include "base/arena.h"
#include "base/status.h"
#include "support/test.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 4 * SKY_ARENA_ALIGNMENT_BYTES };

TEST(an_arena_is_a_stack)
{
    sky_arena arena;
    void *a = NULL;
    void *b = NULL;
    void *c = NULL;
    void *block = aligned_alloc(SKY_ARENA_ALIGNMENT_BYTES, BLOCK_BYTES);
    CHECK(block != NULL);
    sky_arena_init(&arena, block, BLOCK_BYTES);
    CHECK_OK(sky_arena_alloc(&arena, 1, &a));
    const size_t mark = sky_arena_mark(&arena);
    CHECK_OK(sky_arena_alloc(&arena, SKY_ARENA_ALIGNMENT_BYTES + 1, &b));
    CHECK(a == block && (unsigned char *)b == (unsigned char *)block + SKY_ARENA_ALIGNMENT_BYTES);
    sky_arena_release(&arena, mark);
    CHECK_OK(sky_arena_alloc(&arena, 10, &c));
    CHECK(c == b && arena.peak_bytes == 3 * SKY_ARENA_ALIGNMENT_BYTES);
    free(block);
}

TEST(a_full_arena_says_so)
{
    sky_arena arena;
    void *a = NULL;
    void *block = aligned_alloc(SKY_ARENA_ALIGNMENT_BYTES, BLOCK_BYTES);
    CHECK(block != NULL);
    sky_arena_init(&arena, block, BLOCK_BYTES);
    CHECK_OK(sky_arena_alloc(&arena, BLOCK_BYTES, &a));
    CHECK_STATUS(sky_arena_alloc(&arena, 1, &a), SKY_ERR_NOMEM);
    CHECK_STATUS(sky_arena_alloc(&arena, SIZE_MAX, &a), SKY_ERR_NOMEM);
    CHECK(a == block);
    free(block);
}

TEST(planning_counts_what_running_takes)
{
    sky_arena plan;
    void *a = NULL;
    sky_arena_init_planning(&plan);
    CHECK_OK(sky_arena_alloc(&plan, 5, &a));
    CHECK(a != NULL);
    const size_t mark = sky_arena_mark(&plan);
    CHECK_OK(sky_arena_alloc(&plan, (size_t)1 << 40, &a));
    sky_arena_release(&plan, mark);
    CHECK(plan.peak_bytes == ((size_t)1 << 40) + SKY_ARENA_ALIGNMENT_BYTES && plan.used_bytes == mark);
}

TEST(messages_read_from_the_command_to_the_cause)
{
    CHECK(sky_fail(SKY_ERR_INPUT, "want %d, found %d", 3, 4) == SKY_ERR_INPUT);
    CHECK(sky_fail_in(SKY_ERR_INPUT, "blocks.%d", 7) == SKY_ERR_INPUT);
    CHECK(sky_fail_in(SKY_OK, "not added") == SKY_OK);
    CHECK(strcmp(sky_message(), "blocks.7: want 3, found 4") == 0);
    sky_clear_message();
    CHECK(sky_message()[0] == '\0');
}

/* A message that does not fit loses the end of its cause and stays text. */
TEST(long_messages_are_cut)
{
    char long_text[5000];
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    (void)sky_fail(SKY_ERR_IO, "%s", long_text);
    (void)sky_fail_in(SKY_ERR_IO, "%s", "place");
    CHECK(strncmp(sky_message(), "place: xxx", 10) == 0);
    CHECK(strlen(sky_message()) < 2048);
}

TEST(every_status_has_a_name_and_an_exit_code)
{
    for (int st = 0; st < SKY_STATUS_COUNT; st++) {
        test_parameters("status %d", st);
        CHECK(strcmp(sky_status_name((sky_status)st), "UNKNOWN") != 0);
        CHECK((sky_status_exit_code((sky_status)st) == 0) == (st == SKY_OK));
    }
    CHECK(strcmp(sky_status_name(SKY_STATUS_COUNT), "UNKNOWN") == 0);
    CHECK(sky_status_exit_code(SKY_ERR_USAGE) == 64 && sky_status_exit_code(SKY_ERR_INPUT) == 65);
    CHECK(sky_status_exit_code(SKY_ERR_IO) == 74 && sky_status_exit_code(SKY_ERR_MISMATCH) == 78);
    CHECK(sky_status_exit_code(SKY_ERR_INTERNAL) == 70 && sky_status_exit_code(SKY_ERR_DEVICE) == 71);
}

TEST_MAIN
