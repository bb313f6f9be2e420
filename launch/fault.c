#include "fault.h"

#include "base/status.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ACTION_FAIL, ACTION_IO, ACTION_NOMEM, ACTION_KILL, ACTION_STOP, ACTION_EXIT, NUM_ACTIONS };

static const char *const phase_names[SKY_PHASE_COUNT] = {
    [SKY_PHASE_LOAD_TEXT_ENCODER] = "load_text_encoder",
    [SKY_PHASE_ENCODE_TEXT] = "encode_text",
    [SKY_PHASE_LOAD_TRANSFORMER] = "load_transformer",
    [SKY_PHASE_DENOISE] = "denoise",
    [SKY_PHASE_LOAD_VAE] = "load_vae",
    [SKY_PHASE_DECODE] = "decode",
    [SKY_PHASE_WRITE] = "write",
};

static const char *const action_names[NUM_ACTIONS] = {"fail", "io", "nomem", "kill", "stop", "exit"};

/* ---- a fault happens ---- */

static sky_status act(const sky_fault *fault)
{
    sky_status st = SKY_ERR_INTERNAL;
    switch (fault->action) {
    case ACTION_KILL:
        (void)kill(getpid(), SIGKILL);
        break;
    case ACTION_STOP:
        (void)kill(getpid(), SIGSTOP); /* and goes on where somebody continues it */
        return SKY_OK;
    case ACTION_EXIT:
        exit(0);
    case ACTION_IO:
        st = SKY_ERR_IO;
        break;
    case ACTION_NOMEM:
        st = SKY_ERR_NOMEM;
        break;
    default:
        break;
    }
    return sky_fail(st, "fault injected by %s: %s %" PRId64 ", %s", SKY_FAULT_VARIABLE, phase_names[fault->phase],
                    fault->index, action_names[fault->action]);
}

static sky_status on_enter(void *user, sky_phase phase, int64_t index)
{
    const sky_faults *faults = user;
    for (int i = 0; i < faults->num; i++) {
        if (faults->list[i].phase == phase && faults->list[i].index == index) {
            SKY_TRY(act(&faults->list[i]));
        }
    }
    return SKY_OK;
}

/* ---- reading the variable ---- */

/* The next part of *text up to `end`, or all of it where there is no such end; *text is then behind it, or NULL. */
static char *take(char **text, char end)
{
    char *part = *text;
    char *at = part != NULL ? strchr(part, end) : NULL;
    if (at != NULL) {
        *at = '\0';
    }
    *text = at != NULL ? at + 1 : NULL;
    return part;
}

static sky_status parse_number(const char *text, const char *what, int64_t *out)
{
    char *end = NULL;
    errno = 0;
    const long long value = text != NULL ? strtoll(text, &end, 10) : 0;
    if (text == NULL || text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0) {
        return sky_fail(SKY_ERR_USAGE, "%s \"%s\": want a whole number from 0", what, text != NULL ? text : "");
    }
    *out = value;
    return SKY_OK;
}

static sky_status parse_choice(const char *text, const char *what, const char *const *names, int num_names, int *out)
{
    char list[256] = "";
    size_t len = 0;
    for (int i = 0; i < num_names; i++) {
        if (text != NULL && strcmp(text, names[i]) == 0) {
            *out = i;
            return SKY_OK;
        }
        const char *joint = i == 0 ? "" : i == num_names - 1 ? " or " : ", ";
        len += (size_t)snprintf(list + len, sizeof list - len, "%s%s", joint, names[i]);
    }
    return sky_fail(SKY_ERR_USAGE, "%s \"%s\": want %s", what, text != NULL ? text : "", list);
}

static sky_status parse_fault(char *text, int num_ranks, sky_fault *out)
{
    char *rest = text;
    int64_t rank = 0;
    int phase = 0;
    SKY_TRY(parse_number(take(&rest, ':'), "rank", &rank));
    if (rank >= num_ranks) {
        return sky_fail(SKY_ERR_USAGE, "rank %" PRId64 ": want one below %d, the number of ranks", rank, num_ranks);
    }
    SKY_TRY(parse_choice(take(&rest, ':'), "phase", phase_names, SKY_PHASE_COUNT, &phase));
    SKY_TRY(parse_number(take(&rest, ':'), "index", &out->index));
    SKY_TRY(parse_choice(rest, "action", action_names, NUM_ACTIONS, &out->action));
    out->rank = (int)rank;
    out->phase = (sky_phase)phase;
    return SKY_OK;
}

/* Every rank reads all of it, so that a mistake is found whoever it is about. */
static sky_status parse(char *text, int rank, int num_ranks, sky_faults *faults)
{
    char *rest = text;
    for (int num = 0; rest != NULL; num++) {
        sky_fault fault = {0};
        if (num == SKY_MAX_FAULTS) {
            return sky_fail(SKY_ERR_USAGE, "want at most %d faults", SKY_MAX_FAULTS);
        }
        SKY_TRY(parse_fault(take(&rest, ','), num_ranks, &fault));
        if (fault.rank == rank) {
            faults->list[faults->num++] = fault;
        }
    }
    return SKY_OK;
}

sky_status sky_faults_init(sky_faults *faults, int rank, int num_ranks)
{
    *faults = (sky_faults){0};
    const char *value = getenv(SKY_FAULT_VARIABLE);
    if (value == NULL || value[0] == '\0') {
        return SKY_OK;
    }
    char *text = strdup(value);
    if (text == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "%s", SKY_FAULT_VARIABLE);
    }
    const sky_status st = parse(text, rank, num_ranks, faults);
    free(text);
    SKY_TRY(
        sky_fail_in(st, "%s=%s (want RANK:PHASE:INDEX:ACTION, several joined by commas)", SKY_FAULT_VARIABLE, value));
    if (faults->num > 0) {
        faults->observer = (sky_engine_observer){.enter = on_enter, .user = faults};
    }
    return SKY_OK;
}
