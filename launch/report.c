#include "report.h"

#include "base/utf8.h"
#include "build_info.h"
#include "engine/settings.h"

#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

uint64_t sky_peak_host_bytes(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (uint64_t)usage.ru_maxrss * 1024U : 0;
}

static json_t *timings(const sky_result *result)
{
    static const char *const keys[SKY_PHASE_COUNT] = {
        [SKY_PHASE_LOAD_TEXT_ENCODER] = "load_text_encoder_seconds",
        [SKY_PHASE_ENCODE_TEXT] = "encode_text_seconds",
        [SKY_PHASE_LOAD_TRANSFORMER] = "load_transformer_seconds",
        [SKY_PHASE_DENOISE] = "denoise_seconds",
        [SKY_PHASE_LOAD_VAE] = "load_vae_seconds",
        [SKY_PHASE_DECODE] = "decode_seconds",
        [SKY_PHASE_WRITE] = "write_seconds",
    };
    json_t *out = json_pack("{s:f, s:f, s:f}", "total_seconds", result->seconds_total, "step_seconds_median",
                            result->step_seconds_median, "step_seconds_worst", result->step_seconds_worst);
    for (int i = 0; out != NULL && i < SKY_PHASE_COUNT; i++) {
        json_object_set_new(out, keys[i], json_real(result->seconds[i]));
    }
    return out;
}

static json_t *memory(const sky_result *result)
{
    return json_pack("{s:I, s:I, s:I}", "weight_bytes", (json_int_t)result->weight_bytes, "activation_peak_bytes",
                     (json_int_t)result->activation_peak_bytes, "peak_host_bytes", (json_int_t)sky_peak_host_bytes());
}

/* How the ranks were used, and rank 0's share; null where it did not come to that. */
static json_t *layout(const sky_result *result)
{
    const sky_rank_layout *l = &result->layout;
    if (l->cfg_degree == 0) {
        return json_null();
    }
    return json_pack("{s:i, s:i, s:i, s:{s:I, s:I}, s:{s:I, s:I}}", "cfg_degree", l->cfg_degree, "ring_degree",
                     l->ring_degree, "ulysses_degree", l->ulysses_degree, "tokens", "first",
                     (json_int_t)result->tokens.first, "count", (json_int_t)result->tokens.count, "heads", "first",
                     (json_int_t)result->heads.first, "count", (json_int_t)result->heads.count);
}

/* What rank 0 sent while denoising; all steps send the same. */
static json_t *traffic(const sky_report *r)
{
    const uint64_t num_steps = (uint64_t)r->settings->inference_steps;
    return json_pack("{s:I, s:I, s:f}", "sent_bytes_per_step", (json_int_t)(r->result->traffic.bytes / num_steps),
                     "sent_messages_per_step", (json_int_t)(r->result->traffic.messages / num_steps),
                     "exchange_seconds", r->result->exchange_seconds);
}

/* What a render has to tell. */
static json_t *build_render(const sky_report *r)
{
    char output[PATH_MAX] = "";
    if (r->status == SKY_OK) {
        snprintf(output, sizeof output, "%s", r->settings->output);
        sky_utf8_make_printable(output); /* a path may be any bytes, JSON is UTF-8 */
    }
    return json_pack("{s:s?, s:I, s:o, s:o, s:o, s:o}", "output", r->status == SKY_OK ? output : NULL, "num_tokens",
                     (json_int_t)r->result->num_tokens, "layout", layout(r->result), "traffic", traffic(r), "timings",
                     timings(r->result), "memory", memory(r->result));
}

/* What a plan has to tell: nothing where it failed. */
static json_t *build_plan(const sky_report *r)
{
    return json_pack("{s:o}", "plan", r->status == SKY_OK ? sky_plan_json(r->plan) : json_null());
}

static json_t *build(const sky_report *r)
{
    json_t *root = json_pack("{s:s, s:s, s:s, s:i, s:s, s:s?, s:o, s:s, s:i, s:i}", "program", "skyreels-mpi",
                             "version", SKY_BUILD_VERSION, "commit", SKY_BUILD_COMMIT, "exit_code",
                             sky_status_exit_code(r->status), "status", sky_status_name(r->status), "message",
                             r->status == SKY_OK ? NULL : r->message, "settings", sky_settings_json(r->settings),
                             "backend", r->backend, "num_ranks", r->num_ranks, "num_threads", r->num_threads);
    json_t *rest = r->plan != NULL ? build_plan(r) : build_render(r);
    if (root == NULL || json_object_update(root, rest) != 0) { /* fails where rest is NULL */
        json_decref(root);
        root = NULL;
    }
    json_decref(rest);
    return root;
}

sky_status sky_report_write(const sky_report *report, sky_output_file *file)
{
    json_t *root = build(report);
    char *text = root != NULL ? json_dumps(root, JSON_INDENT(2)) : NULL;
    json_decref(root);
    if (text == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "report");
    }
    sky_status st = sky_file_write(sky_output_file_fd(file), sky_output_file_path(file), text, strlen(text));
    if (st == SKY_OK) {
        st = sky_file_write(sky_output_file_fd(file), sky_output_file_path(file), "\n", 1);
    }
    free(text);
    SKY_TRY(st);
    return sky_output_file_commit(file);
}
