/* The tables, and the same for machines. */
#include "scaling.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void scaling_print_head(const bench *b)
{
    const options *o = &b->options;
    printf("%d rank%s of %lld thread%s on %d core%s", b->size, b->size == 1 ? "" : "s", (long long)o->threads,
           o->threads == 1 ? "" : "s", b->cores, b->cores == 1 ? "" : "s");
    printf("%s\n", b->size * o->threads > b->cores ? ": ranks share cores, so more ranks cannot be faster here" : "");
    printf("%s: %lld tokens, %lld heads of %lld, %lld blocks; %lld frames of %lld x %lld, %lld steps, %lld round%s\n",
           o->model_path, (long long)sky_grid_tokens(&b->shape.grid), (long long)b->dims.num_heads,
           (long long)b->dims.head_dim, (long long)b->dims.num_layers, (long long)o->num_frames, (long long)o->height,
           (long long)o->width, (long long)o->steps, (long long)o->repeat, o->repeat == 1 ? "" : "s");
    printf("a rank computes %.0f GFLOP/s at most", b->peak_flops * 1e-9);
    if (b->size > 1) {
        printf("; two ranks exchange %.2f GB/s each way, and a few bytes in %.0f us", b->bandwidth * 1e-9,
               b->small_seconds * 1e6);
    }
    printf("\nlayouts: guidance x ring x Ulysses\n");
    fflush(stdout);
}

sky_status scaling_write_json(const bench *b, json_t *precisions)
{
    const options *o = &b->options;
    json_t *all = json_object();
    json_object_set_new(all, "ranks", json_integer(b->size));
    json_object_set_new(all, "threads", json_integer(o->threads));
    json_object_set_new(all, "cores", json_integer(b->cores));
    json_object_set_new(all, "model", json_string(o->model_path));
    json_object_set_new(all, "num_tokens", json_integer(sky_grid_tokens(&b->shape.grid)));
    json_object_set_new(all, "num_frames", json_integer(o->num_frames));
    json_object_set_new(all, "height", json_integer(o->height));
    json_object_set_new(all, "width", json_integer(o->width));
    json_object_set_new(all, "steps", json_integer(o->steps));
    json_object_set_new(all, "rounds", json_integer(o->repeat));
    json_object_set_new(all, "peak_gflops", json_real(b->peak_flops * 1e-9));
    json_object_set_new(all, "exchange_gbytes", json_real(b->bandwidth * 1e-9));
    json_object_set_new(all, "small_exchange_us", json_real(b->small_seconds * 1e6));
    json_object_set(all, "precisions", precisions);
    const bool written = json_dump_file(all, o->json_path, JSON_INDENT(1)) == 0;
    json_decref(all);
    return written ? SKY_OK : sky_fail(SKY_ERR_IO, "%s: cannot be written", o->json_path);
}

const char *scaling_describe(const layout_case *c, char text[SCALING_NAME_BYTES])
{
    snprintf(text, SCALING_NAME_BYTES, "%d x %d x %d%s", c->layout.cfg_degree, c->layout.ring_degree,
             c->layout.ulysses_degree, c->fast_ring ? " fast" : "");
    return text;
}

typedef struct stages {
    double text, load, denoise, decode, write;
} stages;

static stages stages_of(const timing *r)
{
    return (stages){.text = r->seconds[SKY_PHASE_LOAD_TEXT_ENCODER] + r->seconds[SKY_PHASE_ENCODE_TEXT],
                    .load = r->seconds[SKY_PHASE_LOAD_TRANSFORMER] + r->seconds[SKY_PHASE_LOAD_VAE],
                    .denoise = r->seconds[SKY_PHASE_DENOISE],
                    .decode = r->seconds[SKY_PHASE_DECODE],
                    .write = r->seconds[SKY_PHASE_WRITE]};
}

static json_t *traffic_json(const tally *t)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:b}", "largest_bytes", (json_int_t)t->largest.bytes, "bytes",
                     (json_int_t)t->sum.bytes, "largest_messages", (json_int_t)t->largest.messages, "messages",
                     (json_int_t)t->sum.messages, "as_formula", !t->differs);
}

static void print_times(const bench *b, const layout_case *c, int size, json_t *row)
{
    char text[SCALING_NAME_BYTES];
    const timing *t = &c->median;
    const stages s = stages_of(t);
    const double compute = scaling_least_compute(b, c, size);
    const double exchange = size > 1 ? scaling_least_exchange(b, c) : 0.0;
    const double speedup = b->alone.best / c->best;
    printf("%-16s %8.1f %8.1f %8.1f %6.2f %8.1f   %8.1f %8.1f   %8.1f %8.2f   %6.2f %6.2f %8.2f %7.2f %6.2f %8.2f\n",
           scaling_describe(c, text), t->step_median * 1e3, t->step_worst * 1e3, c->best * 1e3, speedup,
           t->step_processor * 1e3, t->exchange * 1e3, t->exchange_mean * 1e3, compute * 1e3, exchange * 1e3, s.text,
           s.load, s.denoise, s.decode, s.write, t->decode_processor);
    json_object_set_new(row, "layout",
                        json_pack("[i, i, i]", c->layout.cfg_degree, c->layout.ring_degree, c->layout.ulysses_degree));
    json_object_set_new(row, "fast_ring", json_boolean(c->fast_ring));
    const struct {
        const char *name;
        double value;
    } numbers[] = {{"step_seconds_median", t->step_median},
                   {"step_seconds_worst", t->step_worst},
                   {"step_seconds_best", c->best},
                   {"step_processor_seconds", t->step_processor},
                   {"speedup", speedup},
                   {"exchange_seconds_largest", t->exchange},
                   {"exchange_seconds_mean", t->exchange_mean},
                   {"least_compute_seconds", compute},
                   {"least_exchange_seconds", exchange},
                   {"text_seconds", s.text},
                   {"load_seconds", s.load},
                   {"denoise_seconds", s.denoise},
                   {"decode_seconds", s.decode},
                   {"write_seconds", s.write},
                   {"decode_processor_seconds", t->decode_processor}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        json_object_set_new(row, numbers[i].name, json_real(numbers[i].value));
    }
}

static void print_tally(const tally *t, bool counted)
{
    if (!counted) {
        printf("   %10s %11s %6s %7s %-16s", "", "", "", "", "not counted");
        return;
    }
    char formula[64] = "=";
    if (t->differs) {
        snprintf(formula, sizeof formula, "rank %d: %+lld, %+lld", t->wrong_rank, (long long)t->off_bytes,
                 (long long)t->off_messages);
    }
    printf("   %10llu %11llu %6llu %7llu %-16s", (unsigned long long)t->largest.bytes, (unsigned long long)t->sum.bytes,
           (unsigned long long)t->largest.messages, (unsigned long long)t->sum.messages, formula);
}

static void print_traffic(bench *b, layout_case *c, json_t *row)
{
    char text[SCALING_NAME_BYTES];
    const bool same = c->video == b->alone.video;
    b->wrong = b->wrong || (!same && !c->fast_ring);
    printf("%-16s", scaling_describe(c, text));
    print_tally(&c->step, true);
    print_tally(&c->decode, c->decode_counted);
    printf("   %s\n", same ? "=" : "other bytes");
    json_object_set_new(row, "step_sent", traffic_json(&c->step));
    json_object_set_new(row, "decode_sent", c->decode_counted ? traffic_json(&c->decode) : json_null());
    json_object_set_new(row, "same_video", json_boolean(same));
}

json_t *scaling_print_tables(bench *b, sky_precision precision)
{
    json_t *rows = json_array();
    json_t *first = json_object();
    const char *name = sky_precision_name(precision);
    printf("\n%s. A step in ms: median, worst, best round, times faster than one rank (best rounds), processor time of "
           "the "
           "busiest rank;\nin exchanges, waiting for slower ranks included: most, mean rank; no less than: arithmetic, "
           "bytes. "
           "Stages in s.\n",
           name);
    printf("%-16s %8s %8s %8s %6s %8s   %8s %8s   %8s %8s   %6s %6s %8s %7s %6s %8s\n", "", "median", "worst", "best",
           "faster", "busiest", "most", "mean", "ops", "bytes", "text", "load", "denoise", "decode", "write",
           "busiest");
    print_times(b, &b->alone, 1, first);
    json_array_append_new(rows, first);
    for (int i = 0; i < b->num_cases; i++) {
        json_t *row = json_object();
        print_times(b, &b->cases[i], b->size, row);
        json_array_append_new(rows, row);
    }
    if (b->size > 1) {
        printf("\n%s. Sent in a step, then while decoding: bytes of the rank with most, of all; messages; \"=\" or the "
               "first "
               "rank that is off the formula (bytes, messages).\nLast: the video, compared with one rank's.\n",
               name);
        printf("%-16s   %10s %11s %6s %7s %-16s   %10s %11s %6s %7s %-16s   %s\n", "", "most", "bytes", "most",
               "messages", "formula", "most", "bytes", "most", "messages", "formula", "video");
    }
    for (int i = 0; i < b->num_cases && b->size > 1; i++) {
        print_traffic(b, &b->cases[i], json_array_get(rows, (size_t)i + 1));
    }
    fflush(stdout);
    return rows;
}
