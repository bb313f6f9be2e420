#include "terminal.h"

#include "base/clock.h"

#include "skyreels.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { DEFAULT_WIDTH = 80, LABEL_WIDTH = 25, STATE_WIDTH = 47, MAX_BAR = 24 };

/* Least time between two drawings of a bar, and between two lines of a log. */
static const double BAR_SECONDS = 0.05;
static const double LINE_SECONDS = 10.0;

static bool started_by_mpirun(void)
{
    return getenv("OMPI_COMM_WORLD_RANK") != NULL || getenv("PMIX_RANK") != NULL;
}

/*
 * A descriptor of the terminal that a person looks at, -1 where there is none. mpirun puts pipes and a pty between; what
 * it has itself as standard error is what counts then.
 */
static int open_terminal(void)
{
    char path[64];
    char target[64];
    if (!started_by_mpirun()) {
        return isatty(STDERR_FILENO) == 1 ? dup(STDERR_FILENO) : -1;
    }
    snprintf(path, sizeof path, "/proc/%d/fd/2", (int)getppid());
    const ssize_t len = readlink(path, target, sizeof target - 1);
    if (len <= 0) {
        return -1;
    }
    target[len] = '\0';
    const bool is_terminal = strncmp(target, "/dev/pts/", 9) == 0 || strncmp(target, "/dev/tty", 8) == 0;
    return is_terminal ? open(target, O_RDONLY | O_NOCTTY | O_CLOEXEC) : -1;
}

void sky_terminal_init(sky_terminal *t, bool shown)
{
    struct winsize size;
    *t = (sky_terminal){.shown = shown, .width = DEFAULT_WIDTH, .phase = SKY_PHASE_COUNT};
    const char *type = getenv("TERM");
    const int fd = open_terminal();
    t->interactive = fd >= 0 && (type == NULL || strcmp(type, "dumb") != 0);
    if (fd >= 0 && ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
        t->width = size.ws_col;
    }
    if (fd >= 0) {
        close(fd);
    }
}

static void format_seconds(double seconds, char *text, size_t size)
{
    const long whole = (long)(seconds + 0.5);
    if (seconds < 9.95) {
        snprintf(text, size, "%.1f s", seconds);
    } else if (whole < 60) {
        snprintf(text, size, "%ld s", whole);
    } else if (whole < 3600) {
        snprintf(text, size, "%ld:%02ld min", whole / 60, whole % 60);
    } else {
        snprintf(text, size, "%ld:%02ld h", whole / 3600, whole / 60 % 60);
    }
}

static bool counts_bytes(sky_phase phase)
{
    return phase == SKY_PHASE_LOAD_TEXT_ENCODER || phase == SKY_PHASE_LOAD_TRANSFORMER || phase == SKY_PHASE_LOAD_VAE;
}

static void format_amount(sky_phase phase, uint64_t done, uint64_t total, char *text, size_t size)
{
    if (counts_bytes(phase)) {
        const bool large = total >= 1000000000U;
        const double unit = large ? 1e-9 : 1e-6;
        snprintf(text, size, "%.1f of %.1f %s", (double)done * unit, (double)total * unit, large ? "GB" : "MB");
    } else {
        const char *unit = phase == SKY_PHASE_DENOISE ? "step " : phase == SKY_PHASE_DECODE ? "latent frame " : "";
        snprintf(text, size, "%s%" PRIu64 " of %" PRIu64, unit, done, total);
    }
}

/* "step 7 of 20, 0.21 s a step, 2.7 s left" */
static void format_state(const sky_terminal *t, uint64_t done, uint64_t total, double elapsed, char *text, size_t size)
{
    char amount[64];
    char left[32];
    format_amount(t->phase, done, total, amount, sizeof amount);
    int used = snprintf(text, size, "%s", amount);
    if (t->phase == SKY_PHASE_DENOISE && done > 0) {
        used += snprintf(text + used, size - (size_t)used, ", %.2f s a step", t->step_seconds);
    }
    if (done >= total) {
        format_seconds(elapsed, left, sizeof left);
        snprintf(text + used, size - (size_t)used, ", took %s", left);
    } else if (done > 0 && elapsed > 0.2) {
        format_seconds(elapsed / (double)done * (double)(total - done), left, sizeof left);
        snprintf(text + used, size - (size_t)used, ", %s left", left);
    }
}

static void draw_bar(sky_terminal *t, uint64_t done, uint64_t total, double elapsed)
{
    char state[160];
    char bar[MAX_BAR + 1];
    format_state(t, done, total, elapsed, state, sizeof state);
    int bar_width = t->width - LABEL_WIDTH - STATE_WIDTH - 3;
    bar_width = bar_width > MAX_BAR ? MAX_BAR : bar_width < 0 ? 0 : bar_width;
    const int filled = total > 0 ? (int)((uint64_t)bar_width * done / total) : bar_width;
    for (int i = 0; i < bar_width; i++) {
        bar[i] = i < filled ? '#' : '.';
    }
    bar[bar_width] = '\0';
    /* Carriage return, the line, and "erase to the end of the line". */
    fprintf(stderr, "\r%-*s %s%s%s\033[K", LABEL_WIDTH, sky_phase_name(t->phase), bar, bar_width > 0 ? " " : "", state);
    t->line_open = true;
    if (done >= total) {
        sky_terminal_end_line(t);
    }
    fflush(stderr);
}

/* A log wants few lines, but long work must not go quiet. */
static void print_line(sky_terminal *t, uint64_t done, uint64_t total, double elapsed)
{
    char state[160];
    format_state(t, done, total, elapsed, state, sizeof state);
    fprintf(stderr, "%s: %s\n", sky_phase_name(t->phase), state);
}

void sky_terminal_progress(void *user, sky_phase phase, uint64_t done, uint64_t total)
{
    sky_terminal *t = user;
    if (!t->shown) {
        return;
    }
    const double time = sky_clock_seconds();
    if (phase != t->phase) {
        sky_terminal_end_line(t);
        t->phase = phase;
        t->phase_start = time;
        t->last_step_start = time;
        t->last_drawn = t->interactive ? 0.0 : time;
        t->last_done = 0;
    }
    if (done > t->last_done) {
        t->step_seconds = (time - t->last_step_start) / (double)(done - t->last_done);
        t->last_step_start = time;
        t->last_done = done;
    }
    const double period = t->interactive ? BAR_SECONDS : LINE_SECONDS;
    if (done < total && time - t->last_drawn < period) {
        return;
    }
    t->last_drawn = time;
    if (t->interactive) {
        draw_bar(t, done, total, time - t->phase_start);
    } else {
        print_line(t, done, total, time - t->phase_start);
    }
}

void sky_terminal_log(void *user, sky_log_level level, const char *line)
{
    sky_terminal *t = user;
    if (!t->shown) {
        return;
    }
    sky_terminal_end_line(t);
    fprintf(stderr, "%s%s\n", level == SKY_LOG_WARNING ? "warning: " : "", line);
}

void sky_terminal_end_line(sky_terminal *t)
{
    if (t->line_open) {
        fputc('\n', stderr);
        t->line_open = false;
    }
}
