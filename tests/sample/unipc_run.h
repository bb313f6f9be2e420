/*
 * tests/sample/unipc_run.h - a solver with its tensors in host memory and the reference backend
 *
 * The history starts as NaN, so a step that reads what no step has written shows.
 */
#ifndef SKY_TESTS_SAMPLE_UNIPC_RUN_H
#define SKY_TESTS_SAMPLE_UNIPC_RUN_H

#include "sample/unipc.h"

typedef struct unipc_run {
    sky_ctx ctx;
    sky_arena arena;
    sky_unipc *solver;
    sky_unipc_state state;
    float *memory;
    float *latents;
    float *velocity;
    int64_t count;
} unipc_run;

/* Both fail the running case and return false where something fails. */
bool unipc_run_begin(unipc_run *run, const sky_unipc_config *config, int64_t count);
bool unipc_run_step(unipc_run *run);
void unipc_run_end(unipc_run *run);

#endif
