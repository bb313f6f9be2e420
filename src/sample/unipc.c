#include "sample/unipc.h"

#include "ops/linear_combination.h"

#include <math.h>
#include <stdlib.h>

enum { NUM_TRAIN_TIMESTEPS = 1000 };

struct sky_unipc {
    int num_steps;
    int next_step;
    float *sigmas;    /* [num_steps + 1], the last one 0 */
    float *timesteps; /* [num_steps] */
};

/*
 * The grid before the shift, i of num_steps, as numpy.linspace() computes it: start + i * step.
 *
 * The published code goes from float32(1 - 1 / 1000) to 0, Diffusers from 1 to 1 / 1000.
 */
static double unshifted_sigma(sky_time_grid grid, int i, int num_steps)
{
    if (grid == SKY_GRID_DIFFUSERS) {
        const double least = 1.0 / NUM_TRAIN_TIMESTEPS;
        return 1.0 + i * ((least - 1.0) / num_steps);
    }
    const double most = (double)(float)(1.0 - 1.0 / NUM_TRAIN_TIMESTEPS);
    return most + i * ((0.0 - most) / num_steps);
}

static sky_status fill_grid(const sky_unipc_config *config, sky_unipc *solver)
{
    const double shift = config->shift;
    for (int i = 0; i < config->num_steps; i++) {
        const double s = unshifted_sigma(config->grid, i, config->num_steps);
        double sigma = shift * s / (1.0 + (shift - 1.0) * s);
        if (config->grid == SKY_GRID_DIFFUSERS && i == 0 && fabs(sigma - 1.0) < 1e-6) {
            sigma -= 1e-6; /* as Diffusers: the logarithm of 1 - sigma is needed */
        }
        solver->sigmas[i] = (float)sigma;
        solver->timesteps[i] = (float)trunc(sigma * NUM_TRAIN_TIMESTEPS);
    }
    solver->sigmas[config->num_steps] = 0.0F;

    /* The solver divides by differences of logarithms of these. Steep shifts run out of float. */
    for (int i = 0; i < config->num_steps; i++) {
        if (!(solver->sigmas[i] < 1.0F) || !(solver->sigmas[i] > solver->sigmas[i + 1])) {
            return sky_fail(SKY_ERR_USAGE,
                            "shift %g with %d steps: noise levels %d and %d cannot be told apart; take a %s shift",
                            shift, config->num_steps, i, i + 1, shift > 1.0 ? "smaller" : "larger");
        }
    }
    return SKY_OK;
}

sky_status sky_unipc_create(const sky_unipc_config *config, sky_unipc **out)
{
    sky_status st = SKY_OK;
    sky_unipc *solver = NULL;

    if (config->num_steps < 1 || config->num_steps > NUM_TRAIN_TIMESTEPS) {
        return sky_fail(SKY_ERR_USAGE, "inference steps: want 1 to %d, got %d", NUM_TRAIN_TIMESTEPS, config->num_steps);
    }
    if (!(config->shift > 0.0) || !isfinite(config->shift)) {
        return sky_fail(SKY_ERR_USAGE, "shift: want a number above 0, got %g", config->shift);
    }
    if (config->grid != SKY_GRID_ORIGINAL && config->grid != SKY_GRID_DIFFUSERS) {
        return sky_fail(SKY_ERR_USAGE, "unknown time grid %d", (int)config->grid);
    }
    solver = calloc(1, sizeof *solver);
    if (solver == NULL) {
        st = sky_fail(SKY_ERR_NOMEM, "no memory for the solver");
        goto done;
    }
    solver->num_steps = config->num_steps;
    solver->sigmas = calloc((size_t)config->num_steps + 1, sizeof(float));
    solver->timesteps = calloc((size_t)config->num_steps, sizeof(float));
    if (solver->sigmas == NULL || solver->timesteps == NULL) {
        st = sky_fail(SKY_ERR_NOMEM, "no memory for %d steps", config->num_steps);
        goto done;
    }
    SKY_TRY_GOTO(fill_grid(config, solver));
    *out = solver;
    solver = NULL;
done:
    sky_unipc_destroy(&solver);
    return st;
}

void sky_unipc_destroy(sky_unipc **solver)
{
    if (*solver != NULL) {
        free((*solver)->sigmas);
        free((*solver)->timesteps);
        free(*solver);
        *solver = NULL;
    }
}

float sky_unipc_timestep(const sky_unipc *solver, int i)
{
    SKY_ASSERT(i >= 0 && i < solver->num_steps);
    return solver->timesteps[i];
}

float sky_unipc_sigma(const sky_unipc *solver, int i)
{
    SKY_ASSERT(i >= 0 && i <= solver->num_steps);
    return solver->sigmas[i];
}

int sky_unipc_next_step(const sky_unipc *solver)
{
    return solver->next_step;
}

void sky_unipc_restart(sky_unipc *solver)
{
    solver->next_step = 0;
}

sky_status sky_unipc_resume(sky_unipc *solver, int next_step)
{
    if (next_step < 0 || next_step > solver->num_steps) {
        return sky_fail(SKY_ERR_USAGE, "going on at step %d: the solver has %d steps", next_step, solver->num_steps);
    }
    solver->next_step = next_step;
    return SKY_OK;
}

/* Half of the logarithm of the signal-to-noise ratio. alpha = 1 - sigma is exact in float. */
static double lambda_at(const sky_unipc *solver, int i)
{
    return log(1.0 - (double)solver->sigmas[i]) - log((double)solver->sigmas[i]);
}

/*
 * Order of the predictor of step i, and of the corrector of step i + 1: as much history as there is, at most 2. (The
 * last step counts as order 1, but to go to sigma = 0 needs none: see predict().)
 */
static int order_of(int i)
{
    return i == 0 ? 1 : 2;
}

/* What predictor and corrector share for a step from `from` to `from + 1`. Notation of Zhao et al. 2023. */
typedef struct transition {
    double sample; /* factor of the sample at `from` */
    double h;      /* step in lambda */
    double weight; /* alpha * B(h) with B(h) = e^-h - 1: the factor of all that is linear in x0, negated */
    double e;      /* B(h) */
    double r;      /* (lambda[from - 1] - lambda[from]) / h; order 2 only */
} transition;

static transition transition_from(const sky_unipc *solver, int from)
{
    const double sigma_from = (double)solver->sigmas[from];
    const double sigma_to = (double)solver->sigmas[from + 1];
    transition t = {
        .sample = sigma_to / sigma_from, .h = lambda_at(solver, from + 1) - lambda_at(solver, from), .r = 1.0};
    t.e = expm1(-t.h);
    t.weight = (1.0 - sigma_to) * t.e;
    if (order_of(from) == 2) {
        t.r = (lambda_at(solver, from - 1) - lambda_at(solver, from)) / t.h;
    }
    return t;
}

/* x_last <- the sample at i, corrected with the prediction x0 at i (scratch). Algorithm 1, with the history at i - 1. */
static sky_status correct(sky_ctx *ctx, const sky_unipc *solver, int i, const sky_unipc_state *state)
{
    const transition t = transition_from(solver, i - 1);
    if (order_of(i - 1) == 1) {
        return sky_linear_combination(
            ctx, &(sky_linear_combination_args){
                     .y = state->x_last,
                     .num_terms = 3,
                     .x = {state->x_last, state->x0, state->scratch},
                     .coefficient = {(float)t.sample, (float)(-0.5 * t.weight), (float)(-0.5 * t.weight)}});
    }
    /* The rho that solve [1, 1; r, 1] rho = b, where b[k] = k! phi[k](hh) / B(h). */
    const double hh = -t.h;
    const double phi1 = t.e / hh - 1.0;
    const double b1 = phi1 / t.e;
    const double b2 = (phi1 / hh - 0.5) * 2.0 / t.e;
    const double rho1 = (b1 - b2) / (1.0 - t.r);
    const double rho2 = b1 - rho1;
    /* sample * x_last - weight * (x0 + rho1 * (x0_previous - x0) / r + rho2 * (scratch - x0)) */
    return sky_linear_combination(
        ctx,
        &(sky_linear_combination_args){.y = state->x_last,
                                       .num_terms = 4,
                                       .x = {state->x_last, state->x0, state->x0_previous, state->scratch},
                                       .coefficient = {(float)t.sample, (float)(-t.weight * (1.0 - rho1 / t.r - rho2)),
                                                       (float)(-t.weight * rho1 / t.r), (float)(-t.weight * rho2)}});
}

/* latents <- the sample at i + 1, from x_last and the history up to i. Algorithm 2. */
static sky_status predict(sky_ctx *ctx, const sky_unipc *solver, int i, const sky_unipc_state *state,
                          const sky_tensor *latents)
{
    if (i == solver->num_steps - 1) {
        /* sigma = 0: h is infinite, and what is left is x0. */
        return sky_ctx_copy(ctx, latents, &state->x0);
    }
    const transition t = transition_from(solver, i);
    if (order_of(i) == 1) {
        return sky_linear_combination(
            ctx, &(sky_linear_combination_args){.y = *latents,
                                                .num_terms = 2,
                                                .x = {state->x_last, state->x0},
                                                .coefficient = {(float)t.sample, (float)-t.weight}});
    }
    /* sample * x_last - weight * (x0 + 0.5 * (x0_previous - x0) / r) */
    return sky_linear_combination(
        ctx, &(sky_linear_combination_args){.y = *latents,
                                            .num_terms = 3,
                                            .x = {state->x_last, state->x0, state->x0_previous},
                                            .coefficient = {(float)t.sample, (float)(-t.weight * (1.0 - 0.5 / t.r)),
                                                            (float)(-t.weight * 0.5 / t.r)}});
}

static sky_status check_tensor(const char *name, const sky_tensor *t, const sky_tensor *latents)
{
    char got[96];
    char want[96];
    if (t->dtype != SKY_F32 || !sky_tensor_same_shape(t, latents)) {
        return sky_fail(t->dtype != SKY_F32 ? SKY_ERR_DTYPE : SKY_ERR_SHAPE,
                        "solver step: %s: want f32 like latents %s, got %s", name,
                        sky_tensor_describe(latents, want, sizeof want), sky_tensor_describe(t, got, sizeof got));
    }
    return SKY_OK;
}

sky_status sky_unipc_step(sky_ctx *ctx, sky_unipc *solver, sky_unipc_state *state, const sky_tensor *velocity,
                          const sky_tensor *latents)
{
    const int i = solver->next_step;
    if (i >= solver->num_steps) {
        return sky_fail(SKY_ERR_USAGE, "solver step: all %d steps are done", solver->num_steps);
    }
    SKY_TRY(check_tensor("latents", latents, latents));
    SKY_TRY(check_tensor("velocity", velocity, latents));
    SKY_TRY(check_tensor("x0", &state->x0, latents));
    SKY_TRY(check_tensor("x0_previous", &state->x0_previous, latents));
    SKY_TRY(check_tensor("x_last", &state->x_last, latents));
    SKY_TRY(check_tensor("scratch", &state->scratch, latents));

    /* x0 of this step, from the sample as it came in: it is not computed anew from the corrected one. */
    SKY_TRY(sky_linear_combination(ctx, &(sky_linear_combination_args){.y = state->scratch,
                                                                       .num_terms = 2,
                                                                       .x = {*latents, *velocity},
                                                                       .coefficient = {1.0F, -solver->sigmas[i]}}));
    if (i == 0) {
        SKY_TRY(sky_ctx_copy(ctx, &state->x_last, latents));
    } else {
        SKY_TRY(correct(ctx, solver, i, state));
    }
    const sky_tensor oldest = state->x0_previous;
    state->x0_previous = state->x0;
    state->x0 = state->scratch;
    state->scratch = oldest;
    SKY_TRY(predict(ctx, solver, i, state, latents));
    solver->next_step = i + 1;
    return SKY_OK;
}
