/*
 * skyreels-convert: a published model folder becomes one with 8-bit linear layers. Reads the command line and shows what
 * is done; the work is in src/weights/convert.h.
 */
#include "weights/convert.h"
#include "base/clock.h"
#include "base/file.h"
#include "build_info.h"
#include "flags.h"
#include "model/check.h"
#include "ops/ref/ref.h"
#include "start.h"
#include "weights/manifest.h"

#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct convert_options {
    const char *model_path;
    const char *output_path;
    sky_dtype codes;
    int64_t num_shards;
    int64_t num_threads;
    bool cuda;
    bool verify;
    bool quiet;
    bool help;
    bool version;
} convert_options;

static sky_status parse_precision(void *options, const sky_flag *flag, const char *text)
{
    static const char *const names[] = {"fp8", "int8"};
    int choice = 0;
    SKY_TRY(sky_flag_find_choice(flag, text, names, 2, &choice));
    *(sky_dtype *)sky_flag_place(options, flag) = choice == 0 ? SKY_F8_E4M3 : SKY_I8;
    return SKY_OK;
}

static sky_status parse_shards(void *options, const sky_flag *flag, const char *text)
{
    return sky_flag_number(flag, text, SKY_MAX_SHARDS, sky_flag_place(options, flag));
}

static sky_status parse_device(void *options, const sky_flag *flag, const char *text)
{
    static const char *const names[] = {"cpu", "cuda"};
    int choice = 0;
    SKY_TRY(sky_flag_find_choice(flag, text, names, 2, &choice));
    *(bool *)sky_flag_place(options, flag) = choice == 1;
    return SKY_OK;
}

#define AT(member) offsetof(convert_options, member)

static const sky_flag flags[] = {
    {"model_path", sky_flag_text, AT(model_path), "FOLDER", "model in the original or the Diffusers layout (required)"},
    {"output_path", sky_flag_text, AT(output_path), "FOLDER", "a new folder (the model's name with _fp8 or _int8)"},
    {"precision", parse_precision, AT(codes), "fp8|int8", "of the blocks' linear layers (fp8)"},
    {"shards", parse_shards, AT(num_shards), "N", "files of weights (as many as are needed for 2 GiB each)"},
    {"verify", sky_flag_switch, AT(verify), NULL, "read everything back, and report the error of each layer"},
    {"device", parse_device, AT(cuda), "cpu|cuda", "where to compute (cpu)"},
    {"threads", sky_flag_threads, AT(num_threads), "N", "for quantising (the cores it may use)"},
    {"quiet", sky_flag_switch, AT(quiet), NULL, "say nothing but errors"},
    {"help", sky_flag_switch, AT(help), NULL, "this text"},
    {"version", sky_flag_switch, AT(version), NULL, "version and build"},
};
enum { NUM_FLAGS = sizeof flags / sizeof flags[0] };

static void print_help(void)
{
    fputs("skyreels-convert - quantises a SkyReels-V2 model once, so that it loads fast and takes less room\n\n"
          "    skyreels-convert --model_path FOLDER [flags]\n\n",
          stdout);
    sky_flags_print(flags, NUM_FLAGS, stdout);
    fputs(
        "\nFlags may be written with - or _, values after a space or =. Switches take =true, =false and a --no_ form.\n"
        "The original is left as it is. What is interrupted leaves nothing that loads.\n"
        "Exit codes: 0 done, 64 usage, 65 model file refused, 70 internal, 74 reading or writing failed, 78 model "
        "files\n"
        "do not fit together.\n",
        stdout);
}

/* ---- while it runs ---- */

/* The one thing that a signal handler may touch. */
static volatile sig_atomic_t caught_signal;

/* Ctrl-C and SIGTERM end the conversion between two pieces, so that the temporary folder is removed. */
static void on_signal(int number)
{
    caught_signal = number;
}

typedef struct show {
    bool shown;
    bool moving; /* a terminal: one line that is drawn again */
    bool open;
    sky_convert_phase phase;
    double phase_start;
    double last_drawn;
} show;

static void end_line(show *s)
{
    if (s->open) {
        fputc('\n', stderr);
        s->open = false;
    }
}

static void draw(show *s, uint64_t done, uint64_t total)
{
    const double seconds = sky_clock_seconds() - s->phase_start;
    const double share = total > 0 ? (double)done / (double)total : 1.0;
    const double left = share > 0.01 ? seconds / share - seconds : 0.0;
    fprintf(stderr, "%s%-10s %3.0f %%  %.2f of %.2f GB  %.0f s, %.0f s left%s", s->moving ? "\r" : "",
            s->phase == SKY_CONVERT_WRITE ? "converting" : "verifying", 100.0 * share, (double)done * 1e-9,
            (double)total * 1e-9, seconds, left, s->moving ? "  " : "\n");
    s->open = s->moving;
    s->last_drawn = sky_clock_seconds();
}

static sky_status on_progress(void *user, sky_convert_phase phase, uint64_t done, uint64_t total)
{
    enum { LOG_SECONDS = 10 };
    show *s = user;
    if (caught_signal != 0) {
        end_line(s);
        return sky_fail(SKY_ERR_IO, "interrupted by signal %d, nothing was converted", (int)caught_signal);
    }
    if (phase != s->phase) {
        end_line(s);
        s->phase = phase;
        s->phase_start = sky_clock_seconds();
    }
    if (s->shown && (done == total || sky_clock_seconds() - s->last_drawn > (s->moving ? 0.2 : LOG_SECONDS))) {
        draw(s, done, total);
    }
    return SKY_OK;
}

/* ---- afterwards ---- */

static void print_part(const char *name, const sky_convert_part *p)
{
    printf("%-14s %8.3f B  %9.3f GB  %9.3f GB  %6.1f %%\n", name, (double)p->num_parameters * 1e-9,
           (double)p->original_bytes * 1e-9, (double)p->converted_bytes * 1e-9,
           p->original_bytes > 0 ? 100.0 * (1.0 - (double)p->converted_bytes / (double)p->original_bytes) : 0.0);
}

static void print_sizes(const sky_convert_report *r)
{
    sky_convert_part all = {0};
    printf("\n%-14s %10s  %12s  %12s  %8s\n", "", "parameters", "original", "quantised", "reduction");
    for (int i = 0; i < SKY_COMPONENT_COUNT; i++) {
        const sky_convert_part *p = &r->parts[i];
        print_part(sky_component_name((sky_component)i), p);
        all.num_parameters += p->num_parameters;
        all.original_bytes += p->original_bytes;
        all.converted_bytes += p->converted_bytes;
    }
    print_part("all", &all);
    printf("%" PRId64 " weights of linear layers in 8 bits with one scale per output channel\n",
           r->parts[SKY_TRANSFORMER].num_quantized);
    if (r->num_left_out > 0) {
        printf("%" PRId64 " tensor%s left out that are no part of such a model: %s%s\n", r->num_left_out,
               r->num_left_out == 1 ? "" : "s", r->left_out, r->num_left_out > 1 ? ", ..." : "");
    }
}

static void print_errors(const sky_convert_report *r)
{
    printf("\nrelative error of each layer's weights, %%\n\n%5s", "block");
    for (int part = 0; part < SKY_BLOCK_LINEARS; part++) {
        printf(" %12s", sky_block_linear_name(part));
    }
    for (int64_t i = 0; i < r->num_errors; i++) {
        if (r->errors[i].part == 0) {
            printf("\n%5" PRId64, r->errors[i].block);
        }
        printf(" %12.3f", 100.0 * r->errors[i].relative);
    }
    printf("\n");
}

static int worse_first(const void *a, const void *b)
{
    const double x = ((const sky_convert_error *)a)->relative;
    const double y = ((const sky_convert_error *)b)->relative;
    return (x < y) - (x > y);
}

static void print_worst(sky_convert_report *r)
{
    enum { WORST = 10 };
    qsort(r->errors, (size_t)r->num_errors, sizeof r->errors[0], worse_first);
    printf("\nworst ten: relative error, and the largest of one weight\n");
    for (int64_t i = 0; i < r->num_errors && i < WORST; i++) {
        const sky_convert_error *e = &r->errors[i];
        printf("  %7.3f %%  %10.3g  blocks.%" PRId64 ".%s.weight\n", 100.0 * e->relative, e->largest, e->block,
               sky_block_linear_name(e->part));
    }
}

/* ---- the program ---- */

static int usable_cores(void)
{
    cpu_set_t cores;
    const int count = sched_getaffinity(0, sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : 1;
    return count > 0 ? count : 1;
}

/* model_path + "_fp8" or "_int8"; the caller frees it. */
static sky_status default_output(const convert_options *o, char **out)
{
    const char *suffix = o->codes == SKY_I8 ? "_int8" : "_fp8";
    size_t len = strlen(o->model_path);
    while (len > 1 && o->model_path[len - 1] == '/') {
        len--;
    }
    const char *slash = memrchr(o->model_path, '/', len);
    const char *name = slash != NULL ? slash + 1 : o->model_path;
    const size_t name_len = len - (size_t)(name - o->model_path);
    if (name_len == 0 || (name_len == 1 && name[0] == '.') || (name_len == 2 && strncmp(name, "..", 2) == 0)) {
        return sky_fail(SKY_ERR_USAGE, "--output_path is missing, and \"%s\" has no name to make one from",
                        o->model_path);
    }
    if (asprintf(out, "%.*s%s", (int)len, o->model_path, suffix) < 0) {
        *out = NULL;
        return sky_fail(SKY_ERR_NOMEM, "no memory for a path");
    }
    return SKY_OK;
}

static sky_status check_options(const convert_options *o)
{
    if (o->model_path == NULL || o->model_path[0] == '\0') {
        return sky_fail(SKY_ERR_USAGE, "--model_path is missing: the folder of the model to convert");
    }
    if (o->cuda) {
        return sky_fail(SKY_ERR_UNSUPPORTED, "--device cuda: this build converts on the CPU only; leave the flag out");
    }
    return SKY_OK;
}

static void print_report(sky_convert_report *report, const char *output_path, double seconds)
{
    uint64_t read_bytes = 0;
    for (int i = 0; i < SKY_COMPONENT_COUNT; i++) {
        read_bytes += report->parts[i].original_bytes;
    }
    print_sizes(report);
    if (report->errors != NULL) {
        print_errors(report);
        print_worst(report);
        printf("\neverything was read back: checksums right, codes nearest, the rest equal\n");
    }
    printf("wrote %s: %d shard%s, the largest of %.3f GB, in %.1f s (%.2f GB/s of the original)\n", output_path,
           report->num_shards, report->num_shards == 1 ? "" : "s", (double)report->largest_shard_bytes * 1e-9, seconds,
           (double)read_bytes * 1e-9 / (seconds > 0.0 ? seconds : 1e-9));
}

static sky_status check_model(void *user, const sky_checkpoint *checkpoint, sky_dtype codes)
{
    (void)user;
    return sky_model_check(sky_backend_ref(), checkpoint, &(sky_arithmetic){.compute = SKY_F32, .linear = codes},
                           false);
}

static sky_status convert(const convert_options *o)
{
    sky_status st = SKY_OK;
    char *output = NULL;
    sky_convert_report report = {0};
    const double start = sky_clock_seconds();
    show bar = {.shown = !o->quiet, .moving = isatty(STDERR_FILENO) == 1, .phase_start = start, .last_drawn = start};

    SKY_TRY(check_options(o));
    if (o->output_path == NULL) {
        SKY_TRY(default_output(o, &output));
    }
    const sky_convert_settings settings = {
        .model_path = o->model_path,
        .output_path = output != NULL ? output : o->output_path,
        .codes = o->codes,
        .num_shards = (int)o->num_shards,
        .num_threads = o->num_threads > 0 ? (int)o->num_threads : usable_cores(),
        .verify = o->verify,
        .check = check_model,
    };
    st = sky_convert_folder(&settings, on_progress, &bar, &report);
    end_line(&bar);
    if (st == SKY_OK && !o->quiet) {
        print_report(&report, settings.output_path, sky_clock_seconds() - start);
    }
    sky_convert_report_release(&report);
    free(output);
    return st;
}

int main(int argc, char **argv)
{
    convert_options options = {.codes = SKY_F8_E4M3};
    sky_start_descriptors();
    sky_start_signals(on_signal);
    sky_status st = sky_flags_parse(flags, NUM_FLAGS, argc, argv, &options);
    if (st == SKY_OK && options.help) {
        print_help();
    } else if (st == SKY_OK && options.version) {
        printf("skyreels-convert %s (%s), %s, %s\n", SKY_BUILD_VERSION, SKY_BUILD_COMMIT, SKY_BUILD_COMPILER,
               SKY_BUILD_TYPE);
    } else if (st == SKY_OK) {
        st = convert(&options);
    }
    if (st != SKY_OK) {
        fprintf(stderr, "skyreels-convert: error: %s\n", sky_message());
    }
    if (caught_signal != 0 && st != SKY_OK) { /* whoever started it sees that the signal ended it */
        signal((int)caught_signal, SIG_DFL);
        raise((int)caught_signal);
    }
    return sky_status_exit_code(st);
}
