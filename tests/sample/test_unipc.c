/* sample/unipc.h: published time grids, the solver's special cases, and what it refuses. */
#include "sample/unipc.h"
#include "support/test.h"
#include "unipc_run.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct grid_row {
    sky_time_grid grid;
    int num_steps;
    double shift;
    int timesteps[50];
} grid_row;

static const grid_row grid_rows[] = {
    {SKY_GRID_ORIGINAL, 30, 8, {999, 995, 991, 986, 980, 975, 969, 963, 956, 948, 941, 932, 922, 912, 901,
                                888, 874, 859, 841, 822, 799, 773, 743, 708, 666, 615, 551, 470, 363, 216}},
    {SKY_GRID_ORIGINAL, 30, 5, {999, 992, 985, 978, 969, 961, 952, 942, 931, 920, 908, 895, 882, 867, 850,
                                833, 813, 792, 768, 742, 713, 681, 644, 603, 555, 499, 434, 356, 262, 146}},
    {SKY_GRID_ORIGINAL, 30, 3, {999, 988, 976, 963, 950, 937, 922, 907, 891, 874, 856, 837, 817, 796, 773,
                                749, 723, 696, 666, 634, 599, 562, 521, 476, 428, 374, 315, 249, 176, 93}},
    {SKY_GRID_ORIGINAL, 50, 8, {999, 997, 994, 991, 989, 986, 983, 979, 976, 973, 969, 965, 961, 957, 953, 948, 944,
                                939, 934, 928, 922, 916, 910, 903, 896, 888, 880, 871, 862, 852, 841, 830, 817, 804,
                                789, 773, 756, 737, 716, 692, 666, 636, 603, 565, 521, 470, 409, 337, 249, 140}},
    {SKY_GRID_ORIGINAL, 50, 5, {999, 995, 991, 987, 982, 978, 973, 968, 963, 957, 952, 946, 940, 934, 927, 920, 913,
                                906, 898, 890, 882, 873, 863, 854, 843, 833, 821, 809, 796, 783, 768, 753, 737, 720,
                                701, 681, 660, 636, 611, 584, 555, 522, 487, 448, 405, 356, 302, 241, 172, 92}},
    {SKY_GRID_DIFFUSERS, 6, 5, {999, 961, 909, 833, 714, 501}},
};

static bool has_timesteps(const sky_unipc *solver, const grid_row *want)
{
    for (int i = 0; i < want->num_steps; i++) {
        if (sky_unipc_timestep(solver, i) != (float)want->timesteps[i]) {
            test_fail(__FILE__, __LINE__, "timestep %d: got %g, want %d", i, (double)sky_unipc_timestep(solver, i),
                      want->timesteps[i]);
            return false;
        }
    }
    return true;
}

TEST(published_timesteps)
{
    for (size_t row = 0; row < sizeof grid_rows / sizeof grid_rows[0]; row++) {
        const grid_row *want = &grid_rows[row];
        test_parameters("grid=%d N=%d shift=%g", (int)want->grid, want->num_steps, want->shift);
        sky_unipc *solver = NULL;
        CHECK_OK(sky_unipc_create(&(sky_unipc_config){want->num_steps, want->shift, want->grid}, &solver));
        EXPECT(has_timesteps(solver, want));
        EXPECT(sky_unipc_sigma(solver, want->num_steps) == 0.0F);
        sky_unipc_destroy(&solver);
    }
}

/* The ends of Diffusers' grid for the published defaults, whose middle is not published. */
TEST(diffusers_timesteps)
{
    static const int head[] = {999, 995, 991, 986, 981, 975};
    static const int tail[] = {667, 616, 553, 473, 367, 221};
    sky_unipc *solver = NULL;
    CHECK_OK(sky_unipc_create(&(sky_unipc_config){30, 8, SKY_GRID_DIFFUSERS}, &solver));
    for (int i = 0; i < 6; i++) {
        test_parameters("i=%d", i);
        EXPECT(sky_unipc_timestep(solver, i) == (float)head[i]);
        EXPECT(sky_unipc_timestep(solver, 24 + i) == (float)tail[i]);
    }
    EXPECT(sky_unipc_sigma(solver, 0) == 0.999999F);
    sky_unipc_destroy(&solver);
}

TEST(published_sigmas)
{
    static const struct {
        int index;
        float sigma;
    } rows[] = {{0, 0.9998749F},  {1, 0.9955798F},  {2, 0.9910188F},  {3, 0.9861661F},
                {27, 0.4703113F}, {28, 0.3633884F}, {29, 0.2160409F}, {30, 0.0F}};
    sky_unipc *solver = NULL;
    CHECK_OK(sky_unipc_create(&(sky_unipc_config){30, 8, SKY_GRID_ORIGINAL}, &solver));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        test_parameters("i=%d: got %.8g, want %.8g", rows[i].index, (double)sky_unipc_sigma(solver, rows[i].index),
                        (double)rows[i].sigma);
        EXPECT(fabsf(sky_unipc_sigma(solver, rows[i].index) - rows[i].sigma) <= 1e-7F);
    }
    sky_unipc_destroy(&solver);
}

TEST(create_refuses)
{
    static const sky_unipc_config bad[] = {
        {0, 8, SKY_GRID_ORIGINAL},           {-1, 8, SKY_GRID_ORIGINAL},    {1001, 8, SKY_GRID_ORIGINAL},
        {30, 0, SKY_GRID_ORIGINAL},          {30, -3, SKY_GRID_ORIGINAL},   {30, NAN, SKY_GRID_ORIGINAL},
        {30, INFINITY, SKY_GRID_ORIGINAL},   {30, 1e9F, SKY_GRID_ORIGINAL}, {30, 1e-44F, SKY_GRID_ORIGINAL},
        {1000, 30000.0F, SKY_GRID_ORIGINAL}, {30, 8, (sky_time_grid)5},     {30, 1e6F, SKY_GRID_DIFFUSERS},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        test_parameters("num_steps=%d shift=%g grid=%d", bad[i].num_steps, bad[i].shift, (int)bad[i].grid);
        sky_unipc *solver = NULL;
        const sky_status st = sky_unipc_create(&bad[i], &solver);
        EXPECT(solver == NULL);
        sky_unipc_destroy(&solver);
        CHECK_STATUS(st, SKY_ERR_USAGE);
    }
}

/* The sample at a noise level of the straight flow from noise to x0. */
static float on_straight_flow(float sigma, int c)
{
    static const float x0[4] = {1.5F, -0.25F, 0.0F, 3.0F};
    static const float noise[4] = {-0.5F, 2.0F, 1.0F, -1.0F};
    return (1.0F - sigma) * x0[c] + sigma * noise[c];
}

static bool straight_steps(unipc_run *run, int num_steps)
{
    for (int c = 0; c < 4; c++) {
        run->latents[c] = on_straight_flow(sky_unipc_sigma(run->solver, 0), c);
        run->velocity[c] = on_straight_flow(1.0F, c) - on_straight_flow(0.0F, c);
    }
    for (int i = 0; i < num_steps; i++) {
        if (sky_unipc_next_step(run->solver) != i || !unipc_run_step(run)) {
            return false;
        }
        for (int c = 0; c < 4; c++) {
            const float want = on_straight_flow(sky_unipc_sigma(run->solver, i + 1), c);
            if (!(fabsf(run->latents[c] - want) <= 4e-6F)) {
                test_fail(__FILE__, __LINE__, "after step %d, value %d: got %.8g, want %.8g", i, c,
                          (double)run->latents[c], (double)want);
                return false;
            }
        }
    }
    return true;
}

/* Where the velocity is noise - x0 for one x0, every prediction is x0 and every step exact. */
TEST(straight_flow_is_exact)
{
    static const int lengths[] = {1, 2, 3, 5, 30};
    for (int grid = 0; grid < 2; grid++) {
        for (size_t n = 0; n < sizeof lengths / sizeof lengths[0]; n++) {
            test_parameters("grid=%d N=%d", grid, lengths[n]);
            unipc_run run;
            CHECK(unipc_run_begin(&run, &(sky_unipc_config){lengths[n], 3, (sky_time_grid)grid}, 4));
            EXPECT(straight_steps(&run, lengths[n]));
            unipc_run_end(&run);
        }
    }
}

TEST(step_refuses)
{
    unipc_run run;
    CHECK(unipc_run_begin(&run, &(sky_unipc_config){2, 3, SKY_GRID_ORIGINAL}, 4));
    memset(run.velocity, 0, 4 * sizeof *run.velocity);
    memset(run.latents, 0, 4 * sizeof *run.latents);
    const sky_tensor latents = SKY_TENSOR(run.latents, SKY_F32, 4);
    const sky_tensor velocity = SKY_TENSOR(run.velocity, SKY_F32, 4);
    const sky_tensor shorter = SKY_TENSOR(run.velocity, SKY_F32, 3);
    const sky_tensor bf16 = SKY_TENSOR(run.velocity, SKY_BF16, 4);
    EXPECT(sky_unipc_step(&run.ctx, run.solver, &run.state, &shorter, &latents) == SKY_ERR_SHAPE);
    EXPECT(sky_unipc_step(&run.ctx, run.solver, &run.state, &bf16, &latents) == SKY_ERR_DTYPE);
    EXPECT(sky_unipc_step(&run.ctx, run.solver, &run.state, &velocity, &bf16) == SKY_ERR_DTYPE);
    EXPECT(sky_unipc_next_step(run.solver) == 0);
    EXPECT(unipc_run_step(&run) && unipc_run_step(&run));
    EXPECT(sky_unipc_step(&run.ctx, run.solver, &run.state, &velocity, &latents) == SKY_ERR_USAGE);
    EXPECT(sky_unipc_resume(run.solver, 3) == SKY_ERR_USAGE);
    EXPECT(sky_unipc_resume(run.solver, -1) == SKY_ERR_USAGE);
    EXPECT(sky_unipc_next_step(run.solver) == 2);
    unipc_run_end(&run);
}

/* A velocity that depends on the latents as a model's does, so that every term of the solver matters. */
static bool curved_steps(unipc_run *run, int num_steps)
{
    for (int i = 0; i < num_steps; i++) {
        for (int c = 0; c < 4; c++) {
            run->velocity[c] = sinf(3.0F * run->latents[c] + (float)sky_unipc_next_step(run->solver));
        }
        if (!unipc_run_step(run)) {
            return false;
        }
    }
    return true;
}

static void start_curved(unipc_run *run)
{
    for (int c = 0; c < 4; c++) {
        run->latents[c] = 0.7F * (float)c - 1.0F;
    }
}

/* The same bytes from a state that another solver goes on with, and again after a restart with the old history there. */
TEST(resumes_and_restarts)
{
    enum { STEPS = 7 };
    const sky_unipc_config config = {STEPS, 3, SKY_GRID_ORIGINAL};
    float want[4];
    unipc_run whole;
    CHECK(unipc_run_begin(&whole, &config, 4));
    start_curved(&whole);
    EXPECT(curved_steps(&whole, STEPS));
    memcpy(want, whole.latents, sizeof want);

    for (int cut = 0; cut <= STEPS; cut++) {
        test_parameters("cut before step %d", cut);
        unipc_run first;
        unipc_run second;
        CHECK(unipc_run_begin(&first, &config, 4) && unipc_run_begin(&second, &config, 4));
        start_curved(&first);
        EXPECT(curved_steps(&first, cut));
        memcpy(second.latents, first.latents, 4 * sizeof(float));
        memcpy(second.state.x0.data, first.state.x0.data, 4 * sizeof(float));
        memcpy(second.state.x0_previous.data, first.state.x0_previous.data, 4 * sizeof(float));
        memcpy(second.state.x_last.data, first.state.x_last.data, 4 * sizeof(float));
        EXPECT(sky_unipc_resume(second.solver, cut) == SKY_OK);
        EXPECT(curved_steps(&second, STEPS - cut));
        EXPECT(memcmp(second.latents, want, sizeof want) == 0);
        unipc_run_end(&first);
        unipc_run_end(&second);
    }

    test_parameters("restart");
    sky_unipc_restart(whole.solver);
    start_curved(&whole);
    EXPECT(curved_steps(&whole, STEPS));
    EXPECT(memcmp(whole.latents, want, sizeof want) == 0);
    unipc_run_end(&whole);
}

TEST_MAIN
