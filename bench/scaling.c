/*
 * bench/scaling.c - what each layout of N ranks takes, and whether it sends what the formula says
 *
 *     mpirun -np N bench-scaling [--model_path FOLDER] [--num_frames N] [--height N] [--width N] [--steps N]
 *                                [--precision fp8|int8|bf16|fp32|all] [--repeat N] [--threads N] [--backend NAME]
 *                                [--json FILE]
 *
 * Every layout that N ranks allow renders the same video, with fast_ring too where there is a ring; the rounds of --repeat
 * go through all of them in turn. One rank alone comes first, on rank 0 while the others wait. Seconds are those of the
 * slowest rank; the median of the rounds is shown, and the worst step of all. Where other programs run on the machine, the
 * best round says more, and the seconds that the busiest rank had a processor, which are what it would take on a core of its
 * own if it never waited; waiting ranks poll, and a little of that is in them. "Faster" compares best rounds.
 *
 * Exit code 70 where a rank has sent other bytes or messages than bench/scaling_traffic.h says, or where a layout (without
 * fast_ring) gives another video than one rank alone.
 */
#include "scaling.h"

#include "model/vae.h"
#include "parallel/group_mpi.h"
#include "weights/checkpoint.h"

#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Ends the program on all ranks where one of them has failed. Collective. */
static void check(const bench *b, sky_status st)
{
    st = sky_group_agree(b->world, st);
    if (st != SKY_OK) {
        if (b->rank == 0) {
            fprintf(stderr, "bench-scaling: %s\n", sky_message());
        }
        MPI_Finalize();
        exit(sky_status_exit_code(st));
    }
}

static sky_status read_model(bench *b)
{
    sky_status st = SKY_OK;
    sky_checkpoint *checkpoint = NULL;
    sky_weights *weights = NULL;
    sky_weights *vae = NULL;
    int num_dims = 0;
    int64_t shape[SKY_MAX_DIMS] = {0};
    sky_ctx ctx = {.backend = b->backend, .device = b->device};
    SKY_TRY_GOTO(sky_checkpoint_open(b->options.model_path, &checkpoint));
    SKY_TRY_GOTO(sky_weights_create(&ctx, checkpoint, SKY_TRANSFORMER, NULL, &weights));
    SKY_TRY_GOTO(sky_transformer_infer(weights, &b->dims));
    SKY_TRY_GOTO(sky_weights_create(&ctx, checkpoint, SKY_VAE, NULL, &vae));
    if (!sky_weights_shape(vae, "decoder.conv1.weight", &num_dims, shape) || num_dims < 1) {
        st = sky_fail(SKY_ERR_MISMATCH, "%s: the VAE has no decoder.conv1.weight", b->options.model_path);
        goto done;
    }
    b->vae_width = shape[0] / 4; /* the widest stage's convolution */
done:
    sky_weights_destroy(&vae);
    sky_weights_destroy(&weights);
    sky_checkpoint_destroy(&checkpoint);
    return st;
}

static void list_cases(bench *b)
{
    sky_rank_layout layouts[MAX_LAYOUTS];
    if (b->size == 1) {
        return; /* one rank alone is rendered in any case */
    }
    const int all = sky_rank_layout_list(b->size, b->dims.num_heads, 2, layouts, MAX_LAYOUTS);
    for (int i = 0; i < all && i < MAX_LAYOUTS; i++) {
        b->cases[b->num_cases++] = (layout_case){.layout = layouts[i]};
        if (layouts[i].ring_degree > 1) {
            b->cases[b->num_cases++] = (layout_case){.layout = layouts[i], .fast_ring = true};
        }
    }
}

static step_shape step_shape_of(const bench *b, sky_precision precision, const layout_case *c)
{
    const sky_settings settings = scaling_settings(b, precision, c->fast_ring);
    const sky_arithmetic arithmetic = sky_settings_arithmetic(&settings);
    const sky_video_shape *v = &b->shape;
    return (step_shape){.layout = c->layout,
                        .fast_ring = c->fast_ring,
                        .num_tokens = v->latent_frames * (v->latent_rows / 2) * (v->latent_cols / 2),
                        .num_heads = b->dims.num_heads,
                        .head_dim = b->dims.head_dim,
                        .num_layers = b->dims.num_layers,
                        .patch_len = 4 * b->dims.out_dim,
                        .latents_bytes =
                            SKY_VAE_LATENT_CHANNELS * v->latent_frames * v->latent_rows * v->latent_cols * 4,
                        .attention_8bit = arithmetic.attention_8bit,
                        .compute_bytes = (int64_t)sky_dtype_bytes(arithmetic.compute)};
}

static decode_shape decode_shape_of(const bench *b, const step_shape *step)
{
    return (decode_shape){.num_ranks = b->size,
                          .latent_frames = b->shape.latent_frames,
                          .latent_rows = b->shape.latent_rows,
                          .latent_cols = b->shape.latent_cols,
                          .width = b->vae_width,
                          .compute_bytes = step->compute_bytes};
}

static void take_larger(double *largest, double value)
{
    *largest = fmax(*largest, value);
}

static timing timing_of(const bench *b, const rank_result *results, int size)
{
    timing r = {0};
    for (int rank = 0; rank < size; rank++) {
        const sky_result *x = &results[rank].engine;
        take_larger(&r.step_processor, results[rank].step_processor);
        take_larger(&r.decode_processor, results[rank].decode_processor);
        take_larger(&r.step_median, x->step_seconds_median);
        take_larger(&r.step_worst, x->step_seconds_worst);
        take_larger(&r.exchange, x->exchange_seconds / (double)b->options.steps);
        r.exchange_mean += x->exchange_seconds / (double)b->options.steps / size;
        for (int phase = 0; phase < SKY_PHASE_COUNT; phase++) {
            take_larger(&r.seconds[phase], x->seconds[phase]);
        }
    }
    return r;
}

static void add_traffic(sky_traffic *sum, sky_traffic *largest, sky_traffic x)
{
    sum->bytes += x.bytes;
    sum->messages += x.messages;
    largest->bytes = x.bytes > largest->bytes ? x.bytes : largest->bytes;
    largest->messages = x.messages > largest->messages ? x.messages : largest->messages;
}

/* One rank's count against the formula, both `times` over. */
static void count(tally *t, int rank, sky_traffic counted, sky_traffic want, uint64_t times)
{
    const sky_traffic off = {counted.bytes - times * want.bytes, counted.messages - times * want.messages};
    if (!t->differs && (off.bytes != 0 || off.messages != 0)) {
        t->differs = true;
        t->wrong_rank = rank;
        t->off_bytes = (int64_t)off.bytes;
        t->off_messages = (int64_t)off.messages;
    }
    add_traffic(&t->sum, &t->largest, (sky_traffic){counted.bytes / times, counted.messages / times});
}

static void compare_traffic(bench *b, layout_case *c, const rank_result *results)
{
    const decode_shape decode = decode_shape_of(b, &c->shape);
    c->step.sum = c->step.largest = c->decode.sum = c->decode.largest = (sky_traffic){0}; /* of the last round */
    c->decode_counted = b->size <= b->shape.latent_rows;
    for (int rank = 0; rank < b->size; rank++) {
        count(&c->step, rank, results[rank].engine.traffic, traffic_of_step(&c->shape, rank),
              (uint64_t)b->options.steps);
        if (c->decode_counted) {
            count(&c->decode, rank, results[rank].decoded, traffic_of_decode(&decode, rank), 1);
        }
    }
    b->wrong = b->wrong || c->step.differs || c->decode.differs;
}

/*
 * What was sent while decoding is what the group of all ranks has sent, less the denoising where that is this group's too:
 * where one group has the whole sequence, or one exchanges nothing but branches. Elsewhere it goes through groups of its own.
 */
static sky_traffic sent_decoding(const bench *b, const layout_case *c, sky_traffic before, const sky_result *result)
{
    sky_traffic sent = sky_group_traffic(b->world);
    const bool denoised_here = c->layout.cfg_degree == 1 || c->layout.cfg_degree == b->size;
    sent.bytes -= before.bytes + (denoised_here ? result->traffic.bytes : 0);
    sent.messages -= before.messages + (denoised_here ? result->traffic.messages : 0);
    return sent;
}

static void run_case(bench *b, sky_precision precision, layout_case *c, int index)
{
    rank_result own = {0};
    rank_result *results = calloc((size_t)b->size, sizeof *results);
    check(b, results != NULL ? SKY_OK : sky_fail(SKY_ERR_NOMEM, "results of %d ranks", b->size));
    const sky_traffic before = sky_group_traffic(b->world);
    check(b, scaling_render(b, b->world, precision, c, &own));
    own.decoded = sent_decoding(b, c, before, &own.engine);
    check(b, sky_group_all_gather(b->world, &own, sizeof own, results));
    c->rounds[index] = timing_of(b, results, b->size);
    compare_traffic(b, c, results);
    free(results);
}

static void run_alone(bench *b, sky_precision precision, int index)
{
    sky_status st = SKY_OK;
    rank_result result = {0};
    sky_group *self = NULL;
    if (b->rank == 0) {
        st = sky_group_self_create(&self);
        if (st == SKY_OK) {
            st = scaling_render(b, self, precision, &b->alone, &result);
            b->alone.rounds[index] = timing_of(b, &result, 1);
        }
        sky_group_destroy(&self);
    }
    check(b, st);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_at(const layout_case *c, int num, size_t offset)
{
    double values[MAX_ROUNDS];
    for (int i = 0; i < num; i++) {
        memcpy(&values[i], (const char *)&c->rounds[i] + offset, sizeof values[i]);
    }
    qsort(values, (size_t)num, sizeof values[0], by_value);
    return values[num / 2];
}

static void summarise(layout_case *c, int num)
{
    _Static_assert(sizeof(timing) % sizeof(double) == 0, "a timing is nothing but doubles");
    for (size_t offset = 0; offset < sizeof(timing); offset += sizeof(double)) {
        const double value = median_at(c, num, offset);
        memcpy((char *)&c->median + offset, &value, sizeof value);
    }
    c->best = INFINITY;
    for (int i = 0; i < num; i++) {
        take_larger(&c->median.step_worst, c->rounds[i].step_worst);
        c->best = fmin(c->best, c->rounds[i].step_median);
    }
}

static json_t *run_precision(bench *b, sky_precision precision)
{
    const int num = (int)b->options.repeat;
    b->alone.layout = (sky_rank_layout){1, 1, 1};
    b->alone.shape = step_shape_of(b, precision, &b->alone);
    for (int c = 0; c < b->num_cases; c++) {
        b->cases[c].shape = step_shape_of(b, precision, &b->cases[c]);
        b->cases[c].step = b->cases[c].decode = (tally){0};
    }
    for (int i = 0; i < num; i++) {
        run_alone(b, precision, i);
        for (int c = 0; c < b->num_cases; c++) {
            run_case(b, precision, &b->cases[c], i);
        }
    }
    summarise(&b->alone, num);
    for (int c = 0; c < b->num_cases; c++) {
        summarise(&b->cases[c], num);
    }
    json_t *rows = b->rank == 0 ? scaling_print_tables(b, precision) : NULL;
    int wrong = b->wrong;
    check(b, sky_group_broadcast(b->world, 0, &wrong, sizeof wrong));
    b->wrong = wrong != 0;
    return rows;
}

/* ---- the program ---- */

static void open_bench(bench *b)
{
    const sky_settings settings = scaling_settings(b, SKY_PRECISION_FP8, false);
    check(b, traffic_verify());
    check(b, sky_settings_check(&settings));
    b->shape = sky_settings_shape(&settings);
    b->cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
    b->backend = sky_backend_find(b->options.backend);
    check(b, b->backend != NULL
                 ? SKY_OK
                 : sky_fail(SKY_ERR_USAGE, "--backend %s: this build has none of that name", b->options.backend));
    check(b,
          sky_device_open(b->backend, &(sky_device_options){.num_threads = (int)b->options.threads, .index = b->rank},
                          &b->device));
    check(b, read_model(b));
    list_cases(b);
    check(b, scaling_measure_machine(b));
}

static void close_bench(bench *b)
{
    char beside[sizeof b->output + 8]; /* the settings, which y4m keeps in a file of its own */
    snprintf(beside, sizeof beside, "%s.json", b->output);
    if (b->rank == 0) {
        unlink(b->output);
        unlink(beside);
    }
    sky_device_close(b->backend, &b->device);
}

static int run(bench *b)
{
    json_t *precisions = json_object();
    open_bench(b);
    if (b->rank == 0) {
        scaling_print_head(b);
    }
    for (int i = 0; i < NUM_PRECISIONS; i++) {
        const char *name = sky_precision_name((sky_precision)i);
        if (strcmp(b->options.precision, "all") == 0 || strcmp(b->options.precision, name) == 0) {
            json_t *rows = run_precision(b, (sky_precision)i);
            json_object_set_new(precisions, name, rows != NULL ? rows : json_null());
        }
    }
    const sky_status st = b->rank == 0 && b->options.json_path != NULL ? scaling_write_json(b, precisions) : SKY_OK;
    json_decref(precisions);
    close_bench(b);
    check(b, st);
    return b->wrong ? EXIT_WRONG : 0;
}

static bool parse_count(const char *text, int64_t most, int64_t *out)
{
    char *end = NULL;
    *out = strtoll(text, &end, 10);
    return end != text && *end == '\0' && *out >= 1 && *out <= most;
}

static bool is_precision(const char *name)
{
    bool found = strcmp(name, "all") == 0;
    for (int i = 0; i < NUM_PRECISIONS; i++) {
        found = found || strcmp(name, sky_precision_name((sky_precision)i)) == 0;
    }
    return found;
}

static bool parse_option(options *o, const char *name, const char *value)
{
    if (strcmp(name, "--model_path") == 0) {
        o->model_path = value;
    } else if (strcmp(name, "--json") == 0) {
        o->json_path = value;
    } else if (strcmp(name, "--precision") == 0) {
        o->precision = value;
        return is_precision(value);
    } else if (strcmp(name, "--num_frames") == 0) {
        return parse_count(value, 100000, &o->num_frames);
    } else if (strcmp(name, "--height") == 0) {
        return parse_count(value, 100000, &o->height);
    } else if (strcmp(name, "--width") == 0) {
        return parse_count(value, 100000, &o->width);
    } else if (strcmp(name, "--steps") == 0) {
        return parse_count(value, 1000, &o->steps);
    } else if (strcmp(name, "--repeat") == 0) {
        return parse_count(value, MAX_ROUNDS, &o->repeat);
    } else if (strcmp(name, "--threads") == 0) {
        return parse_count(value, 1024, &o->threads);
    } else if (strcmp(name, "--backend") == 0) {
        o->backend = value;
        return true;
    } else {
        return false;
    }
    return true;
}

static int usage(const bench *b, const char *what)
{
    if (b->rank == 0) {
        fprintf(
            stderr,
            "bench-scaling: %s\nusage: mpirun -np N bench-scaling [--model_path FOLDER] [--num_frames N] [--height N] "
            "[--width N] [--steps N] [--precision fp8|int8|bf16|fp32|all] [--repeat N] [--threads N] [--backend NAME] "
            "[--json FILE]\n",
            what);
    }
    return 64;
}

static int parse_and_run(bench *b, int argc, char **argv)
{
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc || !parse_option(&b->options, argv[i], argv[i + 1])) {
            return usage(b, argv[i]);
        }
    }
    return run(b);
}

int main(int argc, char **argv)
{
    static bench b = {.options = {.model_path = "tests/models/shapes-t2v",
                                  .num_frames = 33,
                                  .height = 96,
                                  .width = 160,
                                  .steps = 4,
                                  .repeat = 1,
                                  .threads = 1,
                                  .backend = "cpu",
                                  .precision = "fp8"}};
    int level = 0;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
    if (sky_group_world_create(&b.world) != SKY_OK) {
        fprintf(stderr, "bench-scaling: %s\n", sky_message());
        MPI_Abort(MPI_COMM_WORLD, 70);
    }
    b.rank = sky_group_rank(b.world);
    b.size = sky_group_size(b.world);
    snprintf(b.output, sizeof b.output, "/tmp/bench-scaling-%ld.y4m", (long)getpid());
    const int exit_code = parse_and_run(&b, argc, argv);
    sky_group_destroy(&b.world);
    MPI_Finalize();
    return exit_code;
}
