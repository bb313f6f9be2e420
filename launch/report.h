/*
 * launch/report.h - what happened, for machines: --json FILE
 */
#ifndef SKY_LAUNCH_REPORT_H
#define SKY_LAUNCH_REPORT_H

#include "base/file.h"
#include "print_plan.h"
#include "skyreels.h"

typedef struct sky_report {
    const sky_settings *settings;
    const sky_result *result;
    const sky_plan_view *plan; /* instead of result: the job was a plan; else NULL */
    const char *backend;
    int num_ranks;
    int num_threads; /* of rank 0 */
    sky_status status;
    const char *message; /* of a failure */
} sky_report;

/* Writes the report as one JSON object and gives the file its final name. Errors: IO, NOMEM. */
sky_status sky_report_write(const sky_report *report, sky_output_file *file);

/* Largest resident memory of this process so far. */
uint64_t sky_peak_host_bytes(void);

#endif
