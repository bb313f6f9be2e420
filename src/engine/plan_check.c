/* Whether what a plan needs is there, and what to say where it is not. */
#include "base/status.h"
#include "skyreels.h"

#include <stdio.h>

enum { ADVICE_BYTES = 256 };

/* What is wanted of one memory in one stage, and what there is. */
typedef struct need {
    sky_plan_stage stage;
    int rank;          /* the first, where several share the memory */
    int num_ranks;     /* that share it */
    bool of_machine;   /* else of the rank's device, or what it may take */
    const char *what;  /* "memory", "device memory", "host memory" */
    const char *there; /* "are free", "are allowed" */
    uint64_t need_bytes, have_bytes;
} need;

/* Bytes as people say them. */
typedef struct amount {
    char text[32];
} amount;

static amount amount_of(uint64_t bytes)
{
    amount a;
    snprintf(a.text, sizeof a.text, bytes >= 1000000000U ? "%.2f GB" : "%.1f MB",
             (double)bytes * (bytes >= 1000000000U ? 1e-9 : 1e-6));
    return a;
}

static uint64_t missing_bytes(const need *n)
{
    return n->have_bytes > 0 && n->need_bytes > n->have_bytes ? n->need_bytes - n->have_bytes : 0;
}

static void keep_worse(need *worst, const need *n)
{
    if (missing_bytes(n) > missing_bytes(worst)) {
        *worst = *n;
    }
}

/* What its device holds by itself is no longer among what is free there; on the host it has hardly been touched. */
static void look_at_rank(const sky_plan *plan, int rank, sky_plan_stage stage, need *worst)
{
    const sky_plan_rank *r = &plan->ranks[rank];
    const sky_plan_memory *m = &r->stages[stage];
    need n = {.stage = stage, .rank = rank, .num_ranks = 1};
    if (!r->space.host_memory) {
        n.what = "device memory";
        n.there = "are free";
        n.need_bytes = m->device_bytes - m->workspace_bytes;
        n.have_bytes = r->space.device_free_bytes;
        keep_worse(worst, &n);
    }
    n.what = r->space.host_memory ? "memory" : "device memory";
    n.there = "are allowed";
    n.need_bytes = r->space.host_memory ? m->total_bytes : m->device_bytes;
    n.have_bytes = r->space.limit_bytes;
    keep_worse(worst, &n);
}

/* Of the machine of this rank, where it is the first one there: what all its ranks take in a stage. */
static void look_at_machine(const sky_plan *plan, int rank, sky_plan_stage stage, need *worst)
{
    const sky_plan_space *space = &plan->ranks[rank].space;
    need n = {.stage = stage,
              .rank = rank,
              .of_machine = true,
              .what = space->host_memory ? "memory" : "host memory",
              .there = "are free"};
    for (int i = 0; i < plan->num_ranks; i++) {
        const sky_plan_rank *r = &plan->ranks[i];
        if (r->space.machine != space->machine) {
            continue;
        }
        if (i < rank) {
            return;
        }
        n.num_ranks++;
        n.need_bytes += r->space.host_memory ? r->stages[stage].total_bytes : r->stages[stage].host_bytes;
        /* They may live in control groups of their own: nothing is refused that one of them could have. */
        n.have_bytes = r->space.host_free_bytes > n.have_bytes ? r->space.host_free_bytes : n.have_bytes;
    }
    keep_worse(worst, &n);
}

static const char *advice(const need *n, const sky_settings *s, char text[ADVICE_BYTES])
{
    const bool text_encoder = n->stage == SKY_PLAN_ENCODE_TEXT;
    const bool codes = s->precision == SKY_PRECISION_FP8 || s->precision == SKY_PRECISION_INT8;
    const bool many_here = n->of_machine && n->num_ranks > 1;
    snprintf(text, ADVICE_BYTES, "%s%s%s%s",
             text_encoder ? "a machine with more memory"
                          : "fewer frames (--num_frames), a smaller size (--height, --width)",
             many_here      ? ", fewer ranks on a machine"
             : text_encoder ? ""
                            : ", more ranks",
             text_encoder && !s->text_encoder_fp8 ? ", --text_encoder fp8" : "",
             n->stage == SKY_PLAN_DENOISE && !codes ? ", --precision fp8" : "");
    return text;
}

sky_status sky_plan_check(const sky_plan *plan, const sky_settings *settings)
{
    need worst = {0};
    char who[64];
    char text[ADVICE_BYTES];
    for (int stage = 0; stage < SKY_PLAN_STAGE_COUNT; stage++) {
        for (int rank = 0; rank < plan->num_ranks; rank++) {
            look_at_rank(plan, rank, (sky_plan_stage)stage, &worst);
            look_at_machine(plan, rank, (sky_plan_stage)stage, &worst);
        }
    }
    if (missing_bytes(&worst) == 0) {
        return SKY_OK;
    }
    const sky_plan_memory *m = &plan->ranks[worst.rank].stages[worst.stage];
    if (worst.num_ranks > 1) {
        snprintf(who, sizeof who, "the %d ranks on the machine of rank %d need", worst.num_ranks, worst.rank);
    } else {
        snprintf(who, sizeof who, "rank %d needs", worst.rank);
    }
    return sky_fail(
        SKY_ERR_NOMEM,
        "not enough memory for the %s: %s %s of %s, %s %s (rank %d: weights %s, activations %s, workspace %s, "
        "on the host %s); what helps: %s; --plan shows all stages and ranks",
        sky_plan_stage_name(worst.stage), who, amount_of(worst.need_bytes).text, worst.what,
        amount_of(worst.have_bytes).text, worst.there, worst.rank, amount_of(m->weight_bytes).text,
        amount_of(m->activation_bytes).text, amount_of(m->workspace_bytes).text, amount_of(m->host_bytes).text,
        advice(&worst, settings, text));
}
