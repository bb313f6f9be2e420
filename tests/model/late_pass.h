/*
 * tests/model/late_pass.h - a forward pass of the small transformer on a late device, and where the host waited
 */
#ifndef SKY_TESTS_MODEL_LATE_PASS_H
#define SKY_TESTS_MODEL_LATE_PASS_H

#include "parallel/group.h"
#include "support/late.h"

enum { LATE_FRAMES = 5, LATE_ROWS = 12, LATE_COLS = 20, LATE_LATENTS = 16 * LATE_FRAMES * LATE_ROWS * LATE_COLS };

typedef enum late_arithmetic {
    LATE_FP8,
    LATE_INT8,
    LATE_BF16,
    LATE_NUM_ARITHMETICS
} late_arithmetic; /* 8 bits: attention too */

typedef struct late_pass_args {
    const sky_backend *backend;
    late_arithmetic arithmetic;
    int ulysses_degree; /* the rest is ring */
    bool fast_ring;
    int num_passes; /* one behind the other, in the same memory */
} late_pass_args;

typedef struct late_pass_result {
    sky_status status;
    char message[256];
    late_counts
        block; /* of a late device: host waits from the end of the first block to the end of the last, all passes */
    float velocity[LATE_LATENTS];
} late_pass_result;

/* group NULL: one rank. Collective over the group. */
void late_pass(sky_group *group, const late_pass_args *args, late_pass_result *out);

#endif
