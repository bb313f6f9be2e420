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
    late_render_seen seen[MOST_RANKS];
} ranks_render;

static void body(sky_group *group, void *arg)
{
    ranks_render *r = arg;
    late_render(group, &r->args, r->path, &r->seen[sky_group_rank(group)]);
}

/* Fails the case where a rank has failed, or has other stages than `want`. */
static void expect_fingerprint(const late_render_seen *seen, int rank, const char *want)
{
    if (seen->status != SKY_OK) {
        test_fail(__FILE__, __LINE__, "rank %d: %s", rank, seen->message);
    } else if (want != NULL && strcmp(seen->fingerprint, want) != 0) {
        test_fail(__FILE__, __LINE__, "rank %d: the stages are not those of one rank on the CPU", rank);
    }
    if (seen->reported_early) {
        test_fail(__FILE__, __LINE__, "rank %d: a frame was called decoded before the device was done", rank);
    }
}

static char *alone(const late_render_args *args, const char *want)
{
    late_render_seen seen;
    sky_group *self = NULL;
    SKY_ASSERT(sky_group_self_create(&self) == SKY_OK);
    test_parameters("%s, %s, alone", args->backend->name, sky_precision_name(args->precision));
    late_render(self, args, test_temp_path("alone.y4m"), &seen);
    expect_fingerprint(&seen, 0, want);
    sky_group_destroy(&self);
    return seen.fingerprint;
}

static void together(ranks_render *r)
{
    const sky_rank_layout *layout = &r->args.layout;
    r->path = test_temp_path("together.y4m");
    test_parameters("%s, %s, guidance %d x ring %d x Ulysses %d", r->args.backend->name,
                    sky_precision_name(r->args.precision), layout->cfg_degree, layout->ring_degree,
                    layout->ulysses_degree);
    thread_group_run(sky_rank_layout_ranks(layout), body, r);
}

TEST(one_rank)
{
    static const sky_precision precisions[] = {SKY_PRECISION_FP8, SKY_PRECISION_FP32};
    alarm(LONGEST_SECONDS);
    for (size_t i = 0; i < sizeof precisions / sizeof precisions[0]; i++) {
        late_render_args args = {.backend = sky_backend_find("cpu"), .precision = precisions[i], .layout = {1, 1, 1}};
        char *want = alone(&args, NULL);
        for (int kind = (int)i; kind < LATE_NUM_KINDS; kind += 2) {
            args.backend = late_backend((late_kind)kind);
            free(alone(&args, want));
        }
        free(want);
    }
}

TEST(ranks_whose_exchanges_are_queued)
{
    static const struct {
        sky_rank_layout layout;
        late_kind kind;
    } cases[] = {{{2, 1, 1}, LATE_LAZY},  {{2, 1, 1}, LATE_EAGER},       {{1, 1, 2}, LATE_LAZY},
                 {{1, 2, 1}, LATE_APART}, {{2, 1, 2}, LATE_APART_EAGER}, {{2, 2, 1}, LATE_EAGER}};
    alarm(LONGEST_SECONDS);
    const late_render_args args = {
        .backend = sky_backend_find("cpu"), .precision = SKY_PRECISION_FP8, .layout = {1, 1, 1}};
    char *want = alone(&args, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ranks_render r = {.args = args};
        r.args.backend = late_backend(cases[i].kind);
        r.args.layout = cases[i].layout;
        together(&r);
        for (int rank = 0; rank < sky_rank_layout_ranks(&r.args.layout); rank++) {
            expect_fingerprint(&r.seen[rank], rank, want);
            free(r.seen[rank].fingerprint);
        }
    }
    free(want);
}

/* All learn of it at the end of the step, before anybody looks at what was computed with it. */
TEST(a_device_that_fails_while_it_runs)
{
    ranks_render r = {.args = {.backend = late_backend(LATE_LAZY),
                               .precision = SKY_PRECISION_BF16,
                               .layout = {2, 1, 1},
                               .fail_step = 1,
                               .fail_rank = 1}};
    alarm(LONGEST_SECONDS);
    together(&r);
    for (int rank = 0; rank < 2; rank++) {
        const late_render_seen *seen = &r.seen[rank];
        EXPECT(seen->status == SKY_ERR_DEVICE && seen->fingerprint == NULL);
        EXPECT(strstr(seen->message, "rank 1: ") != NULL && strstr(seen->message, "on purpose") != NULL);
        EXPECT(seen->velocities[0] == 1 && seen->velocities[1] == 0);
    }
}

TEST_MAIN
