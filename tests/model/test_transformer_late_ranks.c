/*
 * The transformer's pass on ranks with late devices, joined by MPI: the bytes of one rank on the CPU backend, and between the
 * first block and the last the host waits nowhere but in the group's exchanges. Memory apart goes through pinned memory.
 */
#include "model/late_pass.h"
#include "parallel/mpi_main.h"
#include "parallel/watched_group.h"
#include "support/test.h"

#include <stdlib.h>
#include <string.h>

enum { NUM_PASSES = 2 };

static late_pass_result *run(sky_group *group, const late_pass_args *args)
{
    late_pass_result *r = calloc(1, sizeof *r);
    SKY_ASSERT(r != NULL);
    late_pass(group, args, r);
    if (r->status != SKY_OK) {
        test_fail(__FILE__, __LINE__, "%s", r->message);
    }
    return r;
}

static void check(late_arithmetic arithmetic, bool fast_ring)
{
    sky_group *world = mpi_test_world();
    const int size = sky_group_size(world);
    late_pass_args args = {.arithmetic = arithmetic, .num_passes = NUM_PASSES, .fast_ring = fast_ring};
    watch_group(world);
    for (args.ulysses_degree = 1; args.ulysses_degree <= size; args.ulysses_degree++) {
        const bool extreme = args.ulysses_degree == 1 || args.ulysses_degree == size;
        if (size % args.ulysses_degree != 0 || (fast_ring && args.ulysses_degree == size) || (size > 3 && extreme)) {
            continue;
        }
        args.backend = sky_backend_find("cpu"); /* with fast_ring the bytes are those of the layout */
        late_pass_result *want = run(fast_ring ? world : NULL, &args);
        for (int kind = 0; kind < LATE_NUM_KINDS; kind++) {
            args.backend = late_backend((late_kind)kind);
            test_parameters("%s, arithmetic %d, Ulysses %d x ring %d", args.backend->name, (int)arithmetic,
                            args.ulysses_degree, size / args.ulysses_degree);
            late_pass_result *got = run(world, &args);
            EXPECT(memcmp(got->velocity, want->velocity, sizeof got->velocity) == 0);
            EXPECT(late_waits_sum(&got->block.outside) == 0);
            EXPECT(late_waits_sum(&got->block.inside) > 0);
            free(got);
        }
        free(want);
    }
}

TEST(fp8_with_8bit_attention)
{
    check(LATE_FP8, false);
}

TEST(a_fast_ring)
{
    check(LATE_BF16, true);
}
