#include "unipc_run.h"

#include "ops/ref/ref.h"
#include "support/test.h"

#include <math.h>
#include <stdlib.h>

bool unipc_run_begin(unipc_run *run, const sky_unipc_config *config, int64_t count)
{
    enum { NUM_TENSORS = 6 };
    *run = (unipc_run){.count = count};
    run->memory = malloc((size_t)count * NUM_TENSORS * sizeof(float));
    if (run->memory == NULL || sky_unipc_create(config, &run->solver) != SKY_OK) {
        test_fail(__FILE__, __LINE__, "%s", sky_message());
        unipc_run_end(run);
        return false;
    }
    for (int64_t i = 0; i < count * NUM_TENSORS; i++) {
        run->memory[i] = NAN;
    }
    sky_arena_init(&run->arena, NULL, 0); /* the solver takes nothing from it */
    run->ctx = (sky_ctx){.backend = sky_backend_ref(), .arena = &run->arena};
    run->latents = run->memory;
    run->velocity = run->memory + count;
    run->state.x0 = SKY_TENSOR(run->memory + 2 * count, SKY_F32, count);
    run->state.x0_previous = SKY_TENSOR(run->memory + 3 * count, SKY_F32, count);
    run->state.x_last = SKY_TENSOR(run->memory + 4 * count, SKY_F32, count);
    run->state.scratch = SKY_TENSOR(run->memory + 5 * count, SKY_F32, count);
    return true;
}

bool unipc_run_step(unipc_run *run)
{
    const sky_tensor latents = SKY_TENSOR(run->latents, SKY_F32, run->count);
    const sky_tensor velocity = SKY_TENSOR(run->velocity, SKY_F32, run->count);
    if (sky_unipc_step(&run->ctx, run->solver, &run->state, &velocity, &latents) != SKY_OK) {
        test_fail(__FILE__, __LINE__, "%s", sky_message());
        return false;
    }
    return true;
}

void unipc_run_end(unipc_run *run)
{
    sky_unipc_destroy(&run->solver);
    free(run->memory);
    *run = (unipc_run){0};
}
