/*
 * sample/unipc.h - time grid and solver: UniPC (bh2), order 2, predicting x0 from a flow, corrector on every step
 *
 * The solver keeps three tensors of the latents' size, which the caller provides, and works through ctx's ops, so it
 * runs on any backend and gives the same bytes on every rank.
 *
 *     sky_unipc *solver = NULL;
 *     SKY_TRY_GOTO(sky_unipc_create(&(sky_unipc_config){.num_steps = 30, .shift = 8, .grid = SKY_GRID_ORIGINAL}, &solver));
 *     for (int i = 0; i < 30; i++) {
 *         ... velocity from latents at sky_unipc_timestep(solver, i) ...
 *         SKY_TRY_GOTO(sky_unipc_step(ctx, solver, &state, &velocity, &latents));
 *     }
 */
#ifndef SKY_SAMPLE_UNIPC_H
#define SKY_SAMPLE_UNIPC_H

#include "ops/ctx.h"

typedef struct sky_unipc_config {
    int num_steps; /* 1 to 1000, the number of labels */
    double shift;  /* > 0; so that no two noise levels are the same float */
    sky_time_grid grid;
} sky_unipc_config;

/* The solver's history; tensors like the latents, f32, contents irrelevant before step 0. */
typedef struct sky_unipc_state {
    sky_tensor x0;          /* prediction of the step before */
    sky_tensor x0_previous; /* and of the one before that */
    sky_tensor x_last;      /* the sample that the last predictor started from */
    sky_tensor scratch;     /* x0 of this step */
} sky_unipc_state;

typedef struct sky_unipc sky_unipc;

/* Errors: USAGE where num_steps or shift is out of range, NOMEM. */
sky_status sky_unipc_create(const sky_unipc_config *config, sky_unipc **out);
void sky_unipc_destroy(sky_unipc **solver);

/* The label that the model is given at step i (an integer value), and sigma_i for 0 <= i <= num_steps. */
float sky_unipc_timestep(const sky_unipc *solver, int i);
float sky_unipc_sigma(const sky_unipc *solver, int i);

/*
 * Advances latents (f32, in place) by one step, given the model's velocity there. Steps are taken in order, from 0.
 * May exchange the data pointers inside state. Errors: USAGE where all steps are done, SHAPE, DTYPE.
 * Source: Zhao et al. 2023 (UniPC), algorithms 1 and 2 with B(h) = e^h - 1; scheduler/fm_solvers_unipc.py step().
 */
sky_status sky_unipc_step(sky_ctx *ctx, sky_unipc *solver, sky_unipc_state *state, const sky_tensor *velocity,
                          const sky_tensor *latents);

/* Step that comes next; 0 at first. Setting it back to 0 starts a new video. */
int sky_unipc_next_step(const sky_unipc *solver);
void sky_unipc_restart(sky_unipc *solver);

/*
 * Goes on at next_step with a state that was saved before that step: x0, x0_previous and x_last, by their names, are
 * all there is to save. Errors: USAGE where next_step is not in [0, num_steps].
 */
sky_status sky_unipc_resume(sky_unipc *solver, int next_step);

#endif
