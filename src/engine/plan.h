/*
 * engine/plan.h - what a render would take: layout, memory and traffic of every rank, before anything runs
 *
 * Nothing is loaded and nothing computed: weights are counted from the checkpoint's directories, activations by running
 * each stage's own code in planning mode. So a checkpoint of any size is planned on any machine.
 *
 *     sky_plan plan = {0};
 *     SKY_TRY(sky_engine_plan(engine, &settings, &plan));
 *     ... plan.ranks[0].peak_bytes ...
 *     sky_plan_release(&plan);
 */
#ifndef SKY_ENGINE_PLAN_H
#define SKY_ENGINE_PLAN_H

#include "engine/engine.h"

/* Stages follow each other on all ranks together; what one holds is gone before the next begins. */
typedef enum sky_plan_stage {
    SKY_PLAN_ENCODE_TEXT, /* rank 0 alone */
    SKY_PLAN_DENOISE,
    SKY_PLAN_DECODE,
    SKY_PLAN_STAGE_COUNT
} sky_plan_stage;

/* "text encoder", "transformer", "VAE". */
const char *sky_plan_stage_name(sky_plan_stage stage);

/* Bytes on one rank. The program itself, its libraries and MPI are not counted. */
typedef struct sky_plan_memory {
    /* of the device */
    uint64_t weight_bytes;     /* one block */
    uint64_t activation_bytes; /* one block: the arena, the ops' scratch in it */
    uint64_t workspace_bytes;  /* what the backend's device holds by itself */
    uint64_t device_bytes;     /* the three */
    /* of the host */
    uint64_t staging_bytes; /* to load weights; gone before activations */
    uint64_t values_bytes;  /* text, latents and frames */
    uint64_t host_bytes;    /* the two */
    /* of both, at most at a time: what counts where device memory is the host's */
    uint64_t total_bytes;
} sky_plan_memory;

/* What there is on one rank, before anything is loaded. */
typedef struct sky_plan_space {
    bool host_memory;           /* device memory is the host's: the two are one */
    uint64_t device_free_bytes; /* of the device, or of the machine; 0: not known */
    uint64_t host_free_bytes;   /* of the machine; 0: not known */
    uint64_t limit_bytes;       /* sky_engine_config's; 0: none */
    uint64_t machine;           /* ranks with the same number share a machine's memory */
} sky_plan_space;

typedef struct sky_plan_rank {
    sky_place place;
    sky_span tokens, heads;
    sky_span vae_rows;        /* of the latents; each is 8 rows of the video */
    sky_traffic step, decode; /* sent by this rank in a denoising step, and while decoding */
    sky_plan_memory stages[SKY_PLAN_STAGE_COUNT];
    uint64_t peak_device_bytes, peak_host_bytes, peak_bytes; /* each of the stage that takes most */
    sky_plan_space space;
} sky_plan_rank;

enum { SKY_PLAN_MAX_LAYOUTS = 16 };

typedef struct sky_plan {
    sky_rank_layout layout;                        /* chosen */
    sky_rank_layout layouts[SKY_PLAN_MAX_LAYOUTS]; /* all that fit the number of ranks, best first; the first ones */
    int num_layouts;                               /* all, listed or not */
    int64_t num_tokens, num_heads;
    int num_ranks;
    sky_plan_rank *ranks; /* [num_ranks], owned */
} sky_plan;

/*
 * Plans a render of these settings (completed and checked; text counts as long as it can be, output is not looked at).
 * Every rank gets the same plan. Collective, as is sky_engine_render(). Errors: USAGE, INPUT, MISMATCH, IO, NOMEM, COMM; what
 * a render would refuse before it loads weights is refused here too, but for a lack of memory: sky_plan_check().
 */
sky_status sky_engine_plan(sky_engine *engine, const sky_settings *settings, sky_plan *out);

/*
 * Whether every stage fits: on each rank what its device needs, and on each machine what its ranks need together. What is
 * not known is not missing. The same answer on every rank. Errors: NOMEM; the message says which stage and rank, what is
 * needed and what there is, and what to do.
 */
sky_status sky_plan_check(const sky_plan *plan, const sky_settings *settings);
void sky_plan_release(sky_plan *plan);

#endif
