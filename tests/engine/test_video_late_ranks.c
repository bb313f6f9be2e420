/* Whole videos on late devices, with ranks that are joined by MPI. */
#include "engine/late_render.h"
#include "parallel/mpi_main.h"
#include "support/test.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LONGEST_SECONDS = 240, MOST_LAYOUTS = 8, NUM_HEADS = 2, NUM_BRANCHES = 2 };

static char *render(sky_group *group, const late_render_args *args)
{
    late_render_seen seen;
    late_render(group, args, test_temp_path("video.y4m"), &seen);
    if (seen.status != SKY_OK) {
        test_fail(__FILE__, __LINE__, "%s: %s", args->backend->name, seen.message);
    }
    return seen.fingerprint;
}

static char *render_alone(void)
{
    sky_group *self = NULL;
    SKY_ASSERT(sky_group_self_create(&self) == SKY_OK);
    char *text = render(
        self,
        &(late_render_args){.backend = sky_backend_find("cpu"), .precision = SKY_PRECISION_FP8, .layout = {1, 1, 1}});
    sky_group_destroy(&self);
    return text;
}

TEST(each_kind_of_late_device_on_a_layout)
{
    sky_rank_layout layouts[MOST_LAYOUTS];
    sky_group *world = mpi_test_world();
    alarm(LONGEST_SECONDS);
    char *want = render_alone();
    const int num = sky_rank_layout_list(sky_group_size(world), NUM_HEADS, NUM_BRANCHES, layouts, MOST_LAYOUTS);
    for (int kind = 0; kind < LATE_NUM_KINDS; kind++) {
        const late_render_args args = {.backend = late_backend((late_kind)kind),
                                       .precision = SKY_PRECISION_FP8,
                                       .layout = layouts[kind % (num < MOST_LAYOUTS ? num : MOST_LAYOUTS)]};
        test_parameters("%s, guidance %d x ring %d x Ulysses %d", args.backend->name, args.layout.cfg_degree,
                        args.layout.ring_degree, args.layout.ulysses_degree);
        char *got = render(world, &args);
        EXPECT(got != NULL && want != NULL && strcmp(got, want) == 0);
        free(got);
    }
    free(want);
}
