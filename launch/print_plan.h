/*
 * launch/print_plan.h - a plan for people (--plan) and for machines (with --json)
 */
#ifndef SKY_LAUNCH_PRINT_PLAN_H
#define SKY_LAUNCH_PRINT_PLAN_H

#include "skyreels.h"

#include <jansson.h>
#include <stdio.h>

/* A plan, what was asked for, and which machine each rank is on. */
typedef struct sky_plan_view {
    const sky_plan *plan;
    const sky_settings *settings;
    const sky_rank_layout_request *request;
    const int *nodes; /* [num_ranks]: the first rank on the same machine */
} sky_plan_view;

/* The layout and why it is, the others that fit, two tables (ranks, and memory by stage), and whether it fits. */
void sky_plan_print(const sky_plan_view *view, FILE *to);

/* All of the plan. The caller json_decref()s; NULL where there is no memory. */
json_t *sky_plan_json(const sky_plan_view *view);

#endif
