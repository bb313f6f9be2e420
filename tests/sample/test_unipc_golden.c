/* sample/unipc.h against runs of the published scheduler (tests/golden/unipc.h5) and Diffusers' grid. */
#include "sample/unipc.h"
#include "support/compare.h"
#include "support/golden.h"
#include "support/test.h"
#include "unipc_run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool same_grid(const char *file, const char *group, const sky_unipc *solver, int num_steps)
{
    char name[64];
    golden_array timesteps = {0};
    golden_array sigmas = {0};
    snprintf(name, sizeof name, "%stimesteps", group);
    bool ok = golden_read_i64(file, name, &timesteps);
    snprintf(name, sizeof name, "%ssigmas", group);
    ok = ok && golden_read_f32(file, name, &sigmas);
    if (ok && (timesteps.count != (size_t)num_steps || sigmas.count != (size_t)num_steps + 1)) {
        test_fail(__FILE__, __LINE__, "%zu timesteps and %zu sigmas", timesteps.count, sigmas.count);
        ok = false;
    }
    for (int i = 0; ok && i < num_steps; i++) {
        const int64_t want = ((const int64_t *)timesteps.data)[i];
        if (sky_unipc_timestep(solver, i) != (float)want) {
            test_fail(__FILE__, __LINE__, "timestep %d: got %g, want %d", i, (double)sky_unipc_timestep(solver, i),
                      (int)want);
            ok = false;
        }
    }
    for (int i = 0; ok && i <= num_steps; i++) {
        const float want = ((const float *)sigmas.data)[i];
        if (!(fabsf(sky_unipc_sigma(solver, i) - want) <= 1e-7F)) {
            test_fail(__FILE__, __LINE__, "sigma %d: got %.9g, want %.9g", i, (double)sky_unipc_sigma(solver, i),
                      (double)want);
            ok = false;
        }
    }
    golden_free(&timesteps);
    golden_free(&sigmas);
    return ok;
}

/* The stored velocities go in; the latents are ours from step to step. */
static bool same_run(const char *group, unipc_run *run, int num_steps)
{
    char name[64];
    golden_array x = {0};
    golden_array v = {0};
    snprintf(name, sizeof name, "%sx", group);
    bool ok = golden_read_f32("unipc.h5", name, &x);
    snprintf(name, sizeof name, "%sv", group);
    ok = ok && golden_read_f32("unipc.h5", name, &v);
    const size_t count = (size_t)run->count;
    if (ok && (x.count != count * ((size_t)num_steps + 1) || v.count != count * (size_t)num_steps)) {
        test_fail(__FILE__, __LINE__, "%zu values of x, %zu of v", x.count, v.count);
        ok = false;
    }
    if (ok) {
        memcpy(run->latents, x.data, count * sizeof(float));
    }
    for (int i = 0; ok && i < num_steps; i++) {
        memcpy(run->velocity, (const float *)v.data + (size_t)i * count, count * sizeof(float));
        snprintf(name, sizeof name, "x after step %d", i);
        ok = unipc_run_step(run) && test_close(__FILE__, __LINE__, name, run->latents,
                                               (const float *)x.data + ((size_t)i + 1) * count, count, 1e-5);
    }
    golden_free(&x);
    golden_free(&v);
    return ok;
}

TEST(published_scheduler)
{
    static const struct {
        int num_steps;
        int shift;
    } runs[] = {{1, 3}, {2, 3}, {5, 8}, {20, 5}, {30, 8}, {50, 5}};
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        char group[32];
        snprintf(group, sizeof group, "n%d_shift%d/", runs[i].num_steps, runs[i].shift);
        test_parameters("%s", group);
        unipc_run run;
        CHECK(unipc_run_begin(&run, &(sky_unipc_config){runs[i].num_steps, (double)runs[i].shift, SKY_GRID_ORIGINAL},
                              24));
        EXPECT(same_grid("unipc.h5", group, run.solver, runs[i].num_steps));
        EXPECT(same_run(group, &run, runs[i].num_steps));
        unipc_run_end(&run);
    }
}

TEST(diffusers_grid)
{
    double shift = 0.0;
    double steps = 0.0;
    CHECK(golden_attr_double("diffusers_t2v.h5", "/", "shift", &shift));
    CHECK(golden_attr_double("diffusers_t2v.h5", "/", "steps", &steps));
    sky_unipc *solver = NULL;
    CHECK_OK(sky_unipc_create(&(sky_unipc_config){(int)steps, shift, SKY_GRID_DIFFUSERS}, &solver));
    EXPECT(same_grid("diffusers_t2v.h5", "", solver, (int)steps));
    sky_unipc_destroy(&solver);
}

TEST_MAIN
