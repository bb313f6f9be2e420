/*
 * bench/scaling.h - what the files of bench-scaling share
 */
#ifndef SKY_BENCH_SCALING_H
#define SKY_BENCH_SCALING_H

#include "engine/settings.h"
#include "model/transformer.h"
#include "scaling_traffic.h"
#include "skyreels.h"

#include <jansson.h>

enum { MAX_LAYOUTS = 64, MAX_CASES = 2 * MAX_LAYOUTS, MAX_ROUNDS = 99, NUM_PRECISIONS = 4, EXIT_WRONG = 70 };

typedef struct options {
    const char *model_path, *json_path;
    int64_t num_frames, height, width, steps, repeat, threads;
    const char *precision, *backend;
} options;

/* What a render took: seconds, the largest over ranks unless it says mean. Nothing but doubles. */
typedef struct timing {
    double step_median, step_worst, exchange, exchange_mean, step_processor; /* seconds of a step */
    double decode_processor;
    double seconds[SKY_PHASE_COUNT];
} timing;

/* What was counted in one round, and the first rank in any round that the formula does not hold for. */
typedef struct tally {
    sky_traffic largest, sum;
    bool differs;
    int wrong_rank;
    int64_t off_bytes, off_messages;
} tally;

/* A layout, with the rounds of one precision. */
typedef struct layout_case {
    sky_rank_layout layout;
    bool fast_ring;
    timing rounds[MAX_ROUNDS];
    timing median;
    double best; /* smallest median step of a round */
    step_shape shape;
    tally step, decode;
    bool decode_counted;
    uint64_t video; /* fingerprint of the frames */
} layout_case;

typedef struct bench {
    options options;
    sky_group *world;
    const sky_backend *backend;
    void *device;
    int rank, size, cores;
    char output[64];
    sky_transformer_dims dims;
    int64_t vae_width;
    sky_video_shape shape;
    double peak_flops;    /* of one rank, per second */
    double bandwidth;     /* bytes a second each way, between two ranks */
    double small_seconds; /* an exchange of 8 bytes between them */
    layout_case alone;
    layout_case cases[MAX_CASES];
    int num_cases;
    bool wrong;
} bench;

/* ---- scaling_render.c ---- */

/* What a rank tells the others of a render. */
typedef struct rank_result {
    sky_result engine;
    double step_processor, decode_processor; /* seconds */
    sky_traffic decoded;                     /* for the caller to fill in */
} rank_result;

sky_settings scaling_settings(const bench *b, sky_precision precision, bool fast_ring);

/* Renders on the layout of c; on rank 0 c->video becomes the fingerprint of the frames. Collective over group. */
sky_status scaling_render(const bench *b, sky_group *group, sky_precision precision, layout_case *c,
                          rank_result *result);

/* ---- scaling_machine.c ---- */

/* Seconds that this process has had processors, all threads together. */
double scaling_processor_now(void);

/* Fills in peak_flops, bandwidth and small_seconds. Collective. */
sky_status scaling_measure_machine(bench *b);

/* Seconds that no step of this case goes below: arithmetic on the cores that there are; bytes of the rank with most. */
double scaling_least_compute(const bench *b, const layout_case *c, int size);
double scaling_least_exchange(const bench *b, const layout_case *c);

/* ---- scaling_report.c; rank 0 only ---- */

void scaling_print_head(const bench *b);

/* "2 x 1 x 2 fast"; returns text. */
enum { SCALING_NAME_BYTES = 64 };
const char *scaling_describe(const layout_case *c, char text[SCALING_NAME_BYTES]);

/* The tables of a precision; returns their rows. Sets b->wrong where a video differs that must not. */
json_t *scaling_print_tables(bench *b, sky_precision precision);

/* Errors: IO. */
sky_status scaling_write_json(const bench *b, json_t *precisions);

#endif
