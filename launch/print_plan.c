#include "print_plan.h"
#include "parallel/layout.h"

#include "base/span.h"

#include <inttypes.h>
#include <string.h>

enum { TEXT_BYTES = 96, COLUMN_BYTES = 80, SIZE_BYTES = 32, MOST_OTHERS = 4 };

/* ---- numbers as text ---- */

static const char *bytes_text(uint64_t bytes, char text[SIZE_BYTES])
{
    const double value = (double)bytes;
    if (bytes >= 1000000000U) {
        snprintf(text, SIZE_BYTES, "%.2f GB", value * 1e-9);
    } else if (bytes >= 100000U) {
        snprintf(text, SIZE_BYTES, "%.1f MB", value * 1e-6);
    } else {
        snprintf(text, SIZE_BYTES, "%.1f kB", value * 1e-3);
    }
    return text;
}

/* "0 to 127", with how many where asked for. */
static const char *span_text(sky_span span, bool with_count, char text[COLUMN_BYTES])
{
    if (span.count == 0) {
        snprintf(text, COLUMN_BYTES, "none");
    } else if (with_count) {
        snprintf(text, COLUMN_BYTES, "%" PRId64 " to %" PRId64 " (%" PRId64 ")", span.first, sky_span_end(span) - 1,
                 span.count);
    } else {
        snprintf(text, COLUMN_BYTES, "%" PRId64 " to %" PRId64, span.first, sky_span_end(span) - 1);
    }
    return text;
}

static const char *traffic_text(sky_traffic traffic, char text[COLUMN_BYTES])
{
    char bytes[SIZE_BYTES];
    if (traffic.messages == 0) {
        snprintf(text, COLUMN_BYTES, "nothing");
    } else {
        snprintf(text, COLUMN_BYTES, "%s in %" PRIu64, bytes_text(traffic.bytes, bytes), traffic.messages);
    }
    return text;
}

/* ---- the layout ---- */

static const char *guidance_reason(const sky_plan *plan, const sky_rank_layout_request *request)
{
    if (request->degrees.cfg_degree != 0) {
        return "--cfg_degree as asked for";
    }
    if (plan->layout.cfg_degree == 2) {
        return "a half of the ranks for each guidance pass, which sends least";
    }
    if (request->use_usp > 0) {
        return "--use_usp: both guidance passes on all ranks, one after the other";
    }
    return plan->num_ranks % 2 != 0 ? "an odd number of ranks, so both guidance passes are on all of them"
                                    : "both guidance passes are on all ranks, as the other degrees ask for";
}

static void print_heads_reason(const sky_plan *plan, FILE *to)
{
    const sky_rank_layout *layout = &plan->layout;
    const int64_t most = (plan->num_heads + layout->ulysses_degree - 1) / layout->ulysses_degree;
    const int64_t least = plan->num_heads / layout->ulysses_degree;
    fprintf(to, "; %d rank%s share %s sequence: ", sky_rank_layout_members(layout),
            sky_rank_layout_members(layout) == 1 ? "" : "s", layout->cfg_degree == 2 ? "each" : "the");
    if (most == least) {
        fprintf(to, "%" PRId64 " of %" PRId64 " heads on a rank", most, plan->num_heads);
    } else {
        fprintf(to, "%" PRId64 " or %" PRId64 " of %" PRId64 " heads on a rank", least, most, plan->num_heads);
    }
}

static bool same_layout(const sky_rank_layout *a, const sky_rank_layout *b)
{
    return a->cfg_degree == b->cfg_degree && a->ring_degree == b->ring_degree && a->ulysses_degree == b->ulysses_degree;
}

static void print_other_layouts(const sky_plan *plan, FILE *to)
{
    int listed = 0;
    for (int i = 0; i < plan->num_layouts && i < SKY_PLAN_MAX_LAYOUTS && listed < MOST_OTHERS; i++) {
        const sky_rank_layout *l = &plan->layouts[i];
        if (!same_layout(l, &plan->layout)) {
            fprintf(to, "%s--cfg_degree %d --ulysses_degree %d --ring_degree %d", listed == 0 ? "also fit: " : ", ",
                    l->cfg_degree, l->ulysses_degree, l->ring_degree);
            listed++;
        }
    }
    if (listed > 0) {
        fprintf(to, "%s\n", plan->num_layouts - 1 > listed ? ", ..." : "");
    }
}

static void print_layout(const sky_plan_view *v, FILE *to)
{
    char text[TEXT_BYTES];
    const sky_plan *plan = v->plan;
    fprintf(to, "%d rank%s: %s; %" PRId64 " tokens\n", plan->num_ranks, plan->num_ranks == 1 ? "" : "s",
            sky_rank_layout_describe(&plan->layout, text, sizeof text), plan->num_tokens);
    if (plan->num_ranks > 1) {
        fprintf(to, "because: %s", guidance_reason(plan, v->request));
        print_heads_reason(plan, to);
        fputs("\n", to);
        print_other_layouts(plan, to);
    }
}

/* ---- the tables ---- */

static const char *passes_text(const sky_plan *plan, const sky_plan_rank *rank)
{
    return plan->layout.cfg_degree == 1 ? "both" : rank->place.branch_group == 0 ? "prompt" : "negative";
}

/* What a rank takes at most, of each memory that there is. */
static const char *peaks_text(const sky_plan_rank *r, char text[COLUMN_BYTES])
{
    char device[SIZE_BYTES];
    char host[SIZE_BYTES];
    if (r->space.host_memory) {
        snprintf(text, COLUMN_BYTES, "%s", bytes_text(r->peak_bytes, device));
    } else {
        snprintf(text, COLUMN_BYTES, "%s, host %s", bytes_text(r->peak_device_bytes, device),
                 bytes_text(r->peak_host_bytes, host));
    }
    return text;
}

static void print_ranks(const sky_plan *plan, FILE *to)
{
    fprintf(to, "\nrank  guidance  %-24s %-10s %-10s %-22s %-22s %s\n", "tokens", "heads", "VAE rows", "sent a step",
            "sent while decoding", "peak memory");
    for (int i = 0; i < plan->num_ranks; i++) {
        const sky_plan_rank *r = &plan->ranks[i];
        char tokens[COLUMN_BYTES];
        char heads[COLUMN_BYTES];
        char rows[COLUMN_BYTES];
        char step[COLUMN_BYTES];
        char decode[COLUMN_BYTES];
        char peaks[COLUMN_BYTES];
        fprintf(to, "%4d  %-8s  %-24s %-10s %-10s %-22s %-22s %s\n", i, passes_text(plan, r),
                span_text(r->tokens, true, tokens), span_text(r->heads, false, heads),
                span_text(r->vae_rows, false, rows), traffic_text(r->step, step), traffic_text(r->decode, decode),
                peaks_text(r, peaks));
    }
}

static int rank_with_most(const sky_plan *plan, int stage)
{
    int most = 0;
    for (int i = 1; i < plan->num_ranks; i++) {
        if (plan->ranks[i].stages[stage].total_bytes > plan->ranks[most].stages[stage].total_bytes) {
            most = i;
        }
    }
    return most;
}

static void print_stages(const sky_plan *plan, FILE *to)
{
    enum { COLUMNS = 8 };
    fprintf(to,
            "\n%-14s %5s | %-35s %11s | %-23s %11s | %11s\n%-14s %5s | %11s %11s %11s %11s | %11s %11s %11s | %11s\n",
            "", "", "on the device", "", "on the host", "", "at most", "stage", "rank", "weights", "activations",
            "workspace", "together", "loading", "values", "together", "at a time");
    for (int stage = 0; stage < SKY_PLAN_STAGE_COUNT; stage++) {
        const int rank = rank_with_most(plan, stage);
        const sky_plan_memory *m = &plan->ranks[rank].stages[stage];
        char t[COLUMNS][SIZE_BYTES];
        fprintf(to, "%-14s %5d | %11s %11s %11s %11s | %11s %11s %11s | %11s\n",
                sky_plan_stage_name((sky_plan_stage)stage), rank, bytes_text(m->weight_bytes, t[0]),
                bytes_text(m->activation_bytes, t[1]), bytes_text(m->workspace_bytes, t[2]),
                bytes_text(m->device_bytes, t[3]), bytes_text(m->staging_bytes, t[4]),
                bytes_text(m->values_bytes, t[5]), bytes_text(m->host_bytes, t[6]), bytes_text(m->total_bytes, t[7]));
    }
    fputs("Each stage is of the rank that takes most; loading and activations follow each other. The program, its\n"
          "libraries and MPI are not counted.\n",
          to);
}

static void print_space(const sky_plan_view *v, FILE *to)
{
    const sky_plan_space *space = &v->plan->ranks[0].space;
    char device[SIZE_BYTES];
    char host[SIZE_BYTES];
    if (sky_plan_check(v->plan, v->settings) != SKY_OK) {
        fprintf(to, "It does not fit: %s.\n", sky_message());
    } else if (space->device_free_bytes == 0) {
        fputs("How much memory is free is not known.\n", to);
    } else if (space->host_memory) {
        fprintf(to, "It fits: %s are free on the machine of rank 0.\n", bytes_text(space->device_free_bytes, device));
    } else {
        fprintf(to, "It fits: %s are free on the device of rank 0, %s on its machine.\n",
                bytes_text(space->device_free_bytes, device), bytes_text(space->host_free_bytes, host));
    }
}

/* All ranks of a machine are in the same stage, so what they take together is that of one stage. */
static uint64_t node_peak(const sky_plan_view *v, int node)
{
    uint64_t peak = 0;
    for (int stage = 0; stage < SKY_PLAN_STAGE_COUNT; stage++) {
        uint64_t sum = 0;
        for (int i = 0; i < v->plan->num_ranks; i++) {
            sum += v->nodes[i] == node ? v->plan->ranks[i].stages[stage].total_bytes : 0;
        }
        peak = sum > peak ? sum : peak;
    }
    return peak;
}

static int ranks_of_node(const sky_plan_view *v, int node)
{
    int num = 0;
    for (int i = 0; i < v->plan->num_ranks; i++) {
        num += v->nodes[i] == node;
    }
    return num;
}

static void print_nodes(const sky_plan_view *v, FILE *to)
{
    for (int i = 0; i < v->plan->num_ranks; i++) {
        const int ranks = ranks_of_node(v, i);
        char peak[SIZE_BYTES];
        if (ranks > 1) {
            fprintf(to, "The machine of rank %d: %s for %d ranks.\n", i, bytes_text(node_peak(v, i), peak), ranks);
        }
    }
}

void sky_plan_print(const sky_plan_view *view, FILE *to)
{
    print_layout(view, to);
    print_ranks(view->plan, to);
    print_stages(view->plan, to);
    print_nodes(view, to);
    print_space(view, to);
}

/* ---- JSON ---- */

static json_t *layout_json(const sky_rank_layout *l)
{
    return json_pack("{s:i, s:i, s:i}", "cfg_degree", l->cfg_degree, "ring_degree", l->ring_degree, "ulysses_degree",
                     l->ulysses_degree);
}

static json_t *span_json(sky_span span)
{
    return json_pack("{s:I, s:I}", "first", (json_int_t)span.first, "count", (json_int_t)span.count);
}

static json_t *stages_json(const sky_plan_rank *r)
{
    static const char *const keys[SKY_PLAN_STAGE_COUNT] = {
        [SKY_PLAN_ENCODE_TEXT] = "encode_text", [SKY_PLAN_DENOISE] = "denoise", [SKY_PLAN_DECODE] = "decode"};
    json_t *out = json_object();
    for (int i = 0; out != NULL && i < SKY_PLAN_STAGE_COUNT; i++) {
        const sky_plan_memory *m = &r->stages[i];
        json_object_set_new(out, keys[i],
                            json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "weight_bytes",
                                      (json_int_t)m->weight_bytes, "activation_bytes", (json_int_t)m->activation_bytes,
                                      "workspace_bytes", (json_int_t)m->workspace_bytes, "device_bytes",
                                      (json_int_t)m->device_bytes, "staging_bytes", (json_int_t)m->staging_bytes,
                                      "values_bytes", (json_int_t)m->values_bytes, "host_bytes",
                                      (json_int_t)m->host_bytes, "total_bytes", (json_int_t)m->total_bytes));
    }
    return out;
}

static json_t *space_json(const sky_plan_space *s)
{
    return json_pack("{s:b, s:I, s:I, s:I}", "host_memory", s->host_memory, "device_free_bytes",
                     (json_int_t)s->device_free_bytes, "host_free_bytes", (json_int_t)s->host_free_bytes, "limit_bytes",
                     (json_int_t)s->limit_bytes);
}

static json_t *rank_json(const sky_plan_view *v, int rank)
{
    const sky_plan_rank *r = &v->plan->ranks[rank];
    return json_pack("{s:i, s:i, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:o, s:I, s:I, s:I, s:o}", "node", v->nodes[rank],
                     "branch_group", r->place.branch_group, "tokens", span_json(r->tokens), "heads",
                     span_json(r->heads), "vae_rows", span_json(r->vae_rows), "sent_bytes_per_step",
                     (json_int_t)r->step.bytes, "sent_messages_per_step", (json_int_t)r->step.messages,
                     "sent_bytes_decoding", (json_int_t)r->decode.bytes, "sent_messages_decoding",
                     (json_int_t)r->decode.messages, "stages", stages_json(r), "peak_device_bytes",
                     (json_int_t)r->peak_device_bytes, "peak_host_bytes", (json_int_t)r->peak_host_bytes, "peak_bytes",
                     (json_int_t)r->peak_bytes, "memory", space_json(&r->space));
}

json_t *sky_plan_json(const sky_plan_view *view)
{
    const sky_plan *plan = view->plan;
    json_t *layouts = json_array();
    json_t *ranks = json_array();
    for (int i = 0; i < plan->num_layouts && i < SKY_PLAN_MAX_LAYOUTS; i++) {
        json_array_append_new(layouts, layout_json(&plan->layouts[i]));
    }
    for (int i = 0; i < plan->num_ranks; i++) {
        json_array_append_new(ranks, rank_json(view, i));
    }
    const bool fits = sky_plan_check(plan, view->settings) == SKY_OK;
    return json_pack("{s:o, s:o, s:I, s:I, s:o, s:b, s:s?}", "layout", layout_json(&plan->layout), "layouts", layouts,
                     "num_tokens", (json_int_t)plan->num_tokens, "num_heads", (json_int_t)plan->num_heads, "ranks",
                     ranks, "fits", fits, "misfit", fits ? NULL : sky_message());
}
