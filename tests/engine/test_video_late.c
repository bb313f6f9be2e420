/* Whole videos on late devices: one rank, and ranks whose exchanges are queued on them (parallel/thread_group.h). */
#include "engine/late_render.h"
#include "parallel/thread_group.h"
#include "support/test.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LONGEST_SECONDS = 240, MOST_RANKS = 4 };

typedef struct ranks_render {
    late_render_args args;
    const char *path;
    char *texts[MOST_RANKS];
    char messages[MOST_RANKS][256];
} ranks_render;

static void body(sky_group *group, void *arg)
{
    ranks_render *r = arg;
    const int rank = sky_group_rank(group);
    r->texts[rank] = late_render(group, &r->args, r->path, r->messages[rank]);
}

static char *alone(const late_render_args *args)
{
    char message[256] = "";
    sky_group *self = NULL;
    SKY_ASSERT(sky_group_self_create(&self) == SKY_OK);
    char *text = late_render(self, args, test_temp_path("alone.y4m"), message);
    if (text == NULL) {
        test_fail(__FILE__, __LINE__, "%s alone: %s", args->backend->name, message);
    }
    sky_group_destroy(&self);
    return text;
}

static void check(const late_render_args *args, const char *want)
{
    ranks_render r = {.args = *args, .path = test_temp_path("together.y4m")};
    const int size = sky_rank_layout_ranks(&args->layout);
    test_parameters("%s, %s, guidance %d x ring %d x Ulysses %d", args->backend->name,
                    sky_precision_name(args->precision), args->layout.cfg_degree, args->layout.ring_degree,
                    args->layout.ulysses_degree);
    thread_group_run(size, body, &r);
    for (int rank = 0; rank < size; rank++) {
        if (r.texts[rank] == NULL) {
            test_fail(__FILE__, __LINE__, "rank %d: %s", rank, r.messages[rank]);
        } else {
            EXPECT(want != NULL && strcmp(r.texts[rank], want) == 0);
        }
        free(r.texts[rank]);
    }
}

TEST(one_rank)
{
    static const sky_precision precisions[] = {SKY_PRECISION_FP8, SKY_PRECISION_FP32};
    alarm(LONGEST_SECONDS);
    for (size_t i = 0; i < sizeof precisions / sizeof precisions[0]; i++) {
        late_render_args args = {.backend = sky_backend_find("cpu"), .precision = precisions[i], .layout = {1, 1, 1}};
        char *want = alone(&args);
        for (int kind = 0; kind < LATE_NUM_KINDS; kind++) {
            args.backend = late_backend((late_kind)kind);
            test_parameters("%s, %s", args.backend->name, sky_precision_name(args.precision));
            char *got = alone(&args);
            EXPECT(got != NULL && want != NULL && strcmp(got, want) == 0);
            free(got);
        }
        free(want);
    }
}

TEST(ranks_whose_exchanges_are_queued)
{
    static const sky_rank_layout layouts[] = {{2, 1, 1}, {1, 1, 2}, {2, 1, 2}, {2, 2, 1}};
    alarm(LONGEST_SECONDS);
    late_render_args args = {.backend = sky_backend_find("cpu"), .precision = SKY_PRECISION_FP8, .layout = {1, 1, 1}};
    char *want = alone(&args);
    for (size_t i = 0; i < sizeof layouts / sizeof layouts[0]; i++) {
        for (int kind = 0; kind < LATE_NUM_KINDS; kind++) {
            args.backend = late_backend((late_kind)kind);
            args.layout = layouts[i];
            check(&args, want);
        }
    }
    free(want);
}

TEST_MAIN
