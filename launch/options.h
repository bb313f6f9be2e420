/*
 * launch/options.h - the command line of skyreels-mpi
 */
#ifndef SKY_LAUNCH_OPTIONS_H
#define SKY_LAUNCH_OPTIONS_H

#include "engine/settings.h"
#include "parallel/layout.h"

#include <stdio.h>

/* A switch that has been given or not. */
typedef enum sky_choice { SKY_UNSET, SKY_ON, SKY_OFF } sky_choice;

typedef struct sky_options {
    sky_settings settings;
    sky_rank_layout_request layout;
    const char *prompt_file;      /* or NULL */
    const char *json_path;        /* or NULL */
    const char *fingerprint_path; /* or NULL */
    const char *backend;          /* "cpu" or "ref" */
    int64_t num_threads;          /* 0: from the cores of this rank */
    double memory_limit_gb;       /* 0: none */
    bool seed_given;
    bool precision_given;
    sky_choice use_fp8, use_sage_attention, use_usp;
    bool memory_efficient_attention;
    bool quiet;
    bool print_tokens;
    bool plan;
    bool help;
    bool version;
} sky_options;

/*
 * Reads argv; text in *out points into it. --a_b and --a-b are the same; values follow as "--flag value" or
 * "--flag=value"; a switch also takes =true, =false and a --no_ form. Errors: USAGE, with the nearest flag where one is
 * unknown.
 */
sky_status sky_options_parse(int argc, char **argv, sky_options *out);

/* The text of --help. */
void sky_options_print_help(FILE *to);

#endif
