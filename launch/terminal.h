/*
 * launch/terminal.h - what a person sees: progress bars on a terminal, plain lines in a log
 *
 * Everything goes to standard error; rank 0 only.
 */
#ifndef SKY_LAUNCH_TERMINAL_H
#define SKY_LAUNCH_TERMINAL_H

#include "base/log.h"
#include "skyreels.h"

#include <stdbool.h>

typedef struct sky_terminal {
    bool shown;       /* false: --quiet, or not rank 0 */
    bool interactive; /* bars that move; else a line at a phase's end, and every few seconds in a long one */
    int width;        /* columns */

    sky_phase phase;
    double phase_start;
    double last_drawn;
    double last_step_start; /* when the step at hand began */
    double step_seconds;    /* of the last one */
    uint64_t last_done;
    bool line_open; /* a bar stands on the last line */
} sky_terminal;

/* shown as above. Looks at standard error, or, under mpirun (which puts pipes and a pty between), at mpirun's own. */
void sky_terminal_init(sky_terminal *terminal, bool shown);

/* Callbacks for the engine; user is the sky_terminal. */
void sky_terminal_progress(void *user, sky_phase phase, uint64_t done, uint64_t total);
void sky_terminal_log(void *user, sky_log_level level, const char *line);

/* Ends a bar that stands open, so that other text begins on a line of its own. */
void sky_terminal_end_line(sky_terminal *terminal);

#endif
