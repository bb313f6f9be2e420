/*
 * skyreels-mpi: one video on a group of ranks. Reads the command line, chooses a backend, starts and ends MPI, and shows
 * what the engine does. The work is in src/engine.
 */
#include "base/file.h"
#include "build_info.h"
#include "engine/fingerprint.h"
#include "fault.h"
#include "media/video.h"
#include "model/text_encoder.h"
#include "options.h"
#include "print_plan.h"
#include "report.h"
#include "skyreels.h"
#include "start.h"
#include "terminal.h"
#include "text/text_clean.h"
#include "text/tokenizer.h"
#include "weights/checkpoint.h"

#include <inttypes.h>
#include <mpi.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

enum { MAX_PROMPT_FILE_BYTES = 1 << 20 };

typedef struct program {
    sky_options options;
    char *prompt; /* owned: of --prompt_file */
    char *output; /* owned: the name made from the prompt */
    sky_group *group;
    const sky_backend *backend; /* NULL until its device is open */
    void *device;
    int num_threads;
    int rank_on_machine;
    sky_terminal terminal;
    sky_faults faults;
    sky_output_file *report;           /* --json, on rank 0 */
    sky_output_file *fingerprint_file; /* --fingerprint, on rank 0 */
    sky_fingerprint *fingerprint;
    sky_result result;
    sky_plan plan; /* --plan */
    int node;      /* the first rank on this machine */
    int *nodes;    /* of all ranks */
} program;

/* ---- preparation, each rank for itself ---- */

/* Text of --prompt_file; one line break at the end is the editor's, not the prompt's. */
static sky_status read_prompt_file(program *p)
{
    size_t len = 0;
    if (p->options.settings.prompt != NULL) {
        return sky_fail(SKY_ERR_USAGE, "--prompt and --prompt_file: give one or the other");
    }
    SKY_TRY(sky_fail_in(sky_file_read_all(p->options.prompt_file, MAX_PROMPT_FILE_BYTES, &p->prompt, &len),
                        "--prompt_file"));
    if (strlen(p->prompt) != len) {
        return sky_fail(SKY_ERR_USAGE, "--prompt_file %s: not a text file, it has a NUL byte at %zu",
                        p->options.prompt_file, strlen(p->prompt));
    }
    while (len > 0 && (p->prompt[len - 1] == '\n' || p->prompt[len - 1] == '\r')) {
        p->prompt[--len] = '\0';
    }
    p->options.settings.prompt = p->prompt;
    return SKY_OK;
}

/*
 * Whether a launcher of MPI jobs started this process. Without one the program is a group of one and leaves MPI alone:
 * starting it as a singleton costs a third of a second and needs a writable temporary folder.
 */
static bool started_by_launcher(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_SIZE"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (getenv(names[i]) != NULL) {
            return true;
        }
    }
    return false;
}

/* The ranks of this job on this machine: how many, which is the first, and which of them this is. */
typedef struct machine {
    int num_ranks, first_rank, own;
} machine;

static machine find_machine(int rank)
{
    MPI_Comm comm = MPI_COMM_NULL;
    machine here = {.num_ranks = 1, .first_rank = rank};
    if (MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &comm) == MPI_SUCCESS) {
        MPI_Comm_size(comm, &here.num_ranks);
        MPI_Comm_rank(comm, &here.own);
        MPI_Bcast(&here.first_rank, 1, MPI_INT, 0, comm);
        MPI_Comm_free(&comm);
    }
    return here;
}

/* Threads where none are asked for: the cores this rank may use, shared with the ranks that may use the same ones. */
static int default_threads(int ranks_here)
{
    cpu_set_t cores;
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    int usable = online > 0 ? (int)online : 1;
    if (sched_getaffinity(0, sizeof cores, &cores) == 0) {
        usable = CPU_COUNT(&cores);
    }
    /* Fewer usable cores than the node has: the launcher has bound this rank to cores of its own. */
    const int threads = usable < online ? usable : usable / ranks_here;
    return threads > 0 ? threads : 1;
}

static sky_status create_device(program *p)
{
    p->backend = sky_backend_find(p->options.backend);
    return sky_device_open(
        p->backend, &(sky_device_options){.num_threads = p->num_threads, .index = p->rank_on_machine}, &p->device);
}

static sky_status draw_seed(uint64_t *seed)
{
    uint64_t bits = 0;
    if (getrandom(&bits, sizeof bits, 0) != (ssize_t)sizeof bits) {
        return sky_fail(SKY_ERR_IO, "no random numbers for a seed; give --seed");
    }
    *seed = bits % 4294967294U; /* the published range */
    return SKY_OK;
}

/* What can fail before ranks depend on each other. */
static sky_status prepare(program *p)
{
    sky_settings *s = &p->options.settings;
    const bool first = sky_group_rank(p->group) == 0;
    SKY_TRY(sky_faults_init(&p->faults, sky_group_rank(p->group), sky_group_size(p->group)));
    if (p->options.prompt_file != NULL) {
        SKY_TRY(read_prompt_file(p));
    }
    if (p->options.plan && s->prompt == NULL) {
        s->prompt = ""; /* a plan is made for the longest text */
    }
    sky_settings_complete(s);
    SKY_TRY(sky_settings_check(s));
    if (first && !p->options.seed_given) {
        SKY_TRY(draw_seed(&s->seed));
    }
    if (first && p->options.json_path != NULL) {
        SKY_TRY(sky_fail_in(sky_output_file_create(p->options.json_path, &p->report), "--json"));
    }
    if (p->options.fingerprint_path != NULL) {
        SKY_TRY(sky_fingerprint_create(s->inference_steps, &p->fingerprint));
        if (first) {
            SKY_TRY(sky_fail_in(sky_output_file_create(p->options.fingerprint_path, &p->fingerprint_file),
                                "--fingerprint"));
        }
    }
    return create_device(p);
}

/* After the seed is the same everywhere. */
static sky_status name_output(program *p)
{
    sky_settings *s = &p->options.settings;
    if (s->output == NULL) {
        SKY_TRY(sky_settings_output_name(s, sky_video_has_mp4() ? ".mp4" : ".y4m", &p->output));
        s->output = p->output;
    }
    return SKY_OK;
}

/* ---- rendering ---- */

static void say_what(const program *p)
{
    const sky_settings *s = &p->options.settings;
    const sky_video_shape shape = sky_settings_shape(s);
    if (!p->terminal.shown) {
        return;
    }
    fprintf(stderr, "skyreels-mpi %s: %s, %s attention, %s backend, %d rank%s of %d thread%s\n", SKY_BUILD_VERSION,
            sky_precision_name(s->precision),
            s->attention_8bit                    ? "8-bit"
            : s->precision == SKY_PRECISION_FP32 ? "32-bit"
                                                 : "16-bit",
            sky_backend_name(p->backend), sky_group_size(p->group), sky_group_size(p->group) == 1 ? "" : "s",
            p->num_threads, p->num_threads == 1 ? "" : "s");
    fprintf(stderr,
            "%" PRId64 " frames of %" PRId64 " x %" PRId64 " (%" PRId64 " tokens), %" PRId64 " steps, seed %" PRIu64
            "\n",
            s->num_frames, s->height, s->width, sky_grid_tokens(&shape.grid), s->inference_steps, s->seed);
}

static void say_done(const program *p)
{
    const sky_settings *s = &p->options.settings;
    const sky_result *r = &p->result;
    if (!p->terminal.shown) {
        return;
    }
    printf("wrote %s\n", s->output);
    printf("%.1f s: text %.1f, %" PRId64
           " steps of %.2f = %.1f, decoding %.1f, writing %.1f; %.2f frames a second; %.2f GB\n",
           r->seconds_total, r->seconds[SKY_PHASE_LOAD_TEXT_ENCODER] + r->seconds[SKY_PHASE_ENCODE_TEXT],
           s->inference_steps, r->step_seconds_median, r->seconds[SKY_PHASE_DENOISE], r->seconds[SKY_PHASE_DECODE],
           r->seconds[SKY_PHASE_WRITE], (double)s->num_frames / r->seconds_total, (double)sky_peak_host_bytes() * 1e-9);
}

/* ---- planning ---- */

static sky_plan_view plan_view(const program *p)
{
    return (sky_plan_view){
        .plan = &p->plan, .settings = &p->options.settings, .request = &p->options.layout, .nodes = p->nodes};
}

/* Where each rank is, and what all of them must have been told alike, since they do it together. Collective. */
static sky_status compare_flags(program *p)
{
    static const char *const flags[] = {"--plan", "--fingerprint"};
    enum { NUM_FLAGS = sizeof flags / sizeof flags[0] };
    const int size = sky_group_size(p->group);
    const int own[1 + NUM_FLAGS] = {p->node, p->options.plan, p->options.fingerprint_path != NULL};
    int(*all)[1 + NUM_FLAGS] = calloc((size_t)size, sizeof *all);
    p->nodes = calloc((size_t)size, sizeof *p->nodes);
    sky_status st = all != NULL && p->nodes != NULL ? SKY_OK : sky_fail(SKY_ERR_NOMEM, "a list of %d ranks", size);
    SKY_TRY_GOTO(sky_group_agree(p->group, st));
    SKY_TRY_GOTO(sky_group_all_gather(p->group, own, sizeof own, all));
    for (int rank = 0; rank < size; rank++) {
        p->nodes[rank] = all[rank][0];
        for (int i = 0; i < NUM_FLAGS; i++) {
            const bool first = all[0][1 + i] != 0;
            if (all[rank][1 + i] != all[0][1 + i]) {
                st =
                    sky_fail(SKY_ERR_USAGE, "%s was given to rank %d and not to rank %d; give all ranks the same flags",
                             flags[i], first ? 0 : rank, first ? rank : 0);
            }
        }
    }
done:
    free(all);
    return st;
}

static sky_status plan(program *p, sky_engine *engine)
{
    SKY_TRY(sky_engine_plan(engine, &p->options.settings, &p->plan));
    if (p->terminal.shown) {
        const sky_plan_view view = plan_view(p);
        sky_plan_print(&view, stdout);
    }
    return SKY_OK;
}

/* ---- the job ---- */

/* Collective. */
static sky_status write_fingerprint(program *p)
{
    if (p->fingerprint == NULL) {
        return SKY_OK;
    }
    return sky_fail_in(sky_fingerprint_write(p->fingerprint, p->group, p->fingerprint_file), "--fingerprint");
}

static sky_status render(program *p, sky_engine *engine)
{
    SKY_TRY(sky_engine_render(engine, &p->options.settings, &p->result));
    return write_fingerprint(p);
}

static sky_status run(program *p)
{
    sky_status st = SKY_OK;
    sky_engine *engine = NULL;
    const sky_progress progress = {.update = sky_terminal_progress, .user = &p->terminal};
    const sky_log log = {.write = sky_terminal_log, .user = &p->terminal, .least = SKY_LOG_INFO};

    SKY_TRY_GOTO(sky_group_agree(p->group, prepare(p)));
    SKY_TRY_GOTO(compare_flags(p));
    SKY_TRY_GOTO(sky_group_broadcast(p->group, 0, &p->options.settings.seed, sizeof p->options.settings.seed));
    SKY_TRY_GOTO(sky_group_agree(p->group, name_output(p)));
    say_what(p);
    const sky_engine_observer observer = sky_fingerprint_observer(p->fingerprint, &p->faults.observer);
    st = sky_engine_create(&(sky_engine_config){.backend = p->backend,
                                                .device = p->device,
                                                .group = p->group,
                                                .num_threads = p->num_threads,
                                                .memory_limit_bytes = (uint64_t)(p->options.memory_limit_gb * 1e9),
                                                .layout = p->options.layout,
                                                .log = &log,
                                                .progress = &progress,
                                                .observer = p->fingerprint != NULL ? &observer : &p->faults.observer},
                           &engine);
    SKY_TRY_GOTO(sky_group_agree(p->group, st));
    st = p->options.plan ? plan(p, engine) : render(p, engine);
    sky_terminal_end_line(&p->terminal);
done:
    sky_engine_destroy(&engine);
    return st;
}

static sky_status write_report(program *p, sky_status st)
{
    if (p->report == NULL) {
        return SKY_OK;
    }
    const sky_plan_view view = plan_view(p);
    const sky_status written = sky_report_write(&(sky_report){.settings = &p->options.settings,
                                                              .result = &p->result,
                                                              .plan = p->options.plan ? &view : NULL,
                                                              .backend = p->options.backend,
                                                              .num_ranks = sky_group_size(p->group),
                                                              .num_threads = p->num_threads,
                                                              .status = st,
                                                              .message = st == SKY_OK ? NULL : sky_message()},
                                                p->report);
    return sky_fail_in(written, "--json");
}

static int run_on_ranks(program *p)
{
    const bool with_mpi = started_by_launcher();
    int rank = 0;
    if (with_mpi) {
        if (MPI_Init(NULL, NULL) != MPI_SUCCESS) {
            fprintf(stderr, "skyreels-mpi: error: MPI does not start\n");
            return sky_status_exit_code(SKY_ERR_COMM);
        }
        MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    }
    const machine here = with_mpi ? find_machine(rank) : (machine){.num_ranks = 1};
    p->node = here.first_rank;
    p->rank_on_machine = here.own;
    p->num_threads = p->options.num_threads > 0 ? (int)p->options.num_threads : default_threads(here.num_ranks);
    sky_terminal_init(&p->terminal, rank == 0 && !p->options.quiet);

    sky_status st = with_mpi ? sky_group_world_create(&p->group) : sky_group_self_create(&p->group);
    if (st != SKY_OK && with_mpi) {
        /* Without a group the other ranks cannot be told. */
        fprintf(stderr, "skyreels-mpi: error: rank %d: %s\n", rank, sky_message());
        MPI_Abort(MPI_COMM_WORLD, sky_status_exit_code(st));
    }
    if (st == SKY_OK) {
        st = run(p);
        if (st == SKY_ERR_COMM && with_mpi) {
            /* The others may be waiting for this rank, for ever. */
            fprintf(stderr, "skyreels-mpi: error: rank %d: %s\n", rank, sky_message());
            MPI_Abort(MPI_COMM_WORLD, sky_status_exit_code(st));
        }
        SKY_KEEP_FIRST(st, sky_group_agree(p->group, write_report(p, st)));
    }
    if (st != SKY_OK && rank == 0) {
        fprintf(stderr, "skyreels-mpi: error: %s\n", sky_message());
    } else if (st == SKY_OK && !p->options.plan) {
        say_done(p);
    }
    sky_plan_release(&p->plan);
    free(p->nodes);
    sky_output_file_destroy(&p->report);
    sky_output_file_destroy(&p->fingerprint_file);
    sky_fingerprint_destroy(&p->fingerprint);
    sky_group_destroy(&p->group); /* which may hold memory of the device */
    sky_device_close(p->backend, &p->device);
    if (with_mpi) {
        MPI_Finalize();
    }
    return sky_status_exit_code(st);
}

/* ---- what needs no ranks ---- */

static sky_status print_tokens(program *p)
{
    sky_status st = SKY_OK;
    sky_checkpoint *checkpoint = NULL;
    sky_tokenizer *tokenizer = NULL;
    char *clean = NULL;
    int32_t ids[SKY_TEXT_LEN];
    int64_t num_ids = 0;
    if (p->options.prompt_file != NULL) {
        SKY_TRY_GOTO(read_prompt_file(p));
    }
    sky_settings_complete(&p->options.settings);
    SKY_TRY_GOTO(sky_settings_check(&p->options.settings));
    SKY_TRY_GOTO(sky_checkpoint_open(p->options.settings.model_path, &checkpoint));
    SKY_TRY_GOTO(sky_tokenizer_open(sky_checkpoint_tokenizer_path(checkpoint), &tokenizer));
    SKY_TRY_GOTO(sky_text_clean(p->options.settings.prompt, &clean));
    SKY_TRY_GOTO(sky_tokenizer_encode(tokenizer, clean, SKY_TEXT_LEN, ids, &num_ids));
    for (int64_t i = 0; i < num_ids; i++) {
        printf("%s%d", i == 0 ? "[" : ", ", ids[i]);
    }
    printf("]\n");
done:
    free(clean);
    sky_tokenizer_destroy(&tokenizer);
    sky_checkpoint_destroy(&checkpoint);
    return st;
}

static void print_version(void)
{
    char mpi[MPI_MAX_LIBRARY_VERSION_STRING];
    int len = 0;
    MPI_Get_library_version(mpi, &len);
    mpi[strcspn(mpi, ",\n")] = '\0';
    printf("skyreels-mpi %s (%s), %s, %s; %s; mp4 %s\n", SKY_BUILD_VERSION, SKY_BUILD_COMMIT, SKY_BUILD_COMPILER,
           SKY_BUILD_TYPE, mpi, sky_video_has_mp4() ? "yes" : "no (built without FFmpeg)");
}

/* Whether this process may speak before MPI has told it its rank. */
static bool speaks_early(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *value = getenv(names[i]);
        if (value != NULL) {
            return strcmp(value, "0") == 0;
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    program p = {0};
    sky_start_descriptors();
    sky_start_signals(sky_start_on_signal);
    sky_status st = sky_options_parse(argc, argv, &p.options);
    int code = 0;
    if (st == SKY_OK && p.options.help) {
        if (speaks_early()) {
            sky_options_print_help(stdout);
        }
    } else if (st == SKY_OK && p.options.version) {
        if (speaks_early()) {
            print_version();
        }
    } else if (st == SKY_OK && !p.options.print_tokens) {
        code = run_on_ranks(&p);
    } else {
        if (st == SKY_OK && speaks_early()) {
            st = print_tokens(&p);
        }
        if (st != SKY_OK && speaks_early()) {
            fprintf(stderr, "skyreels-mpi: error: %s\n", sky_message());
        }
        code = sky_status_exit_code(st);
    }
    free(p.prompt);
    free(p.output);
    return code;
}
