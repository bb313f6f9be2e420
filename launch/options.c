#include "options.h"

#include "flags.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>

enum { MAX_DEGREE = 65536 }; /* ranks; far above any job, far below where their products overflow */

/* ---- values of our own kinds ---- */

static sky_status parse_seed(void *options, const sky_flag *flag, const char *text)
{
    char *end = NULL;
    errno = 0;
    const unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || text[0] < '0' || text[0] > '9' || *end != '\0') {
        return sky_fail(SKY_ERR_USAGE, "--%s %s: want a whole number from 0 to 2^64 - 1", flag->name, text);
    }
    *(uint64_t *)sky_flag_place(options, flag) = value;
    ((sky_options *)options)->seed_given = true;
    return SKY_OK;
}

static sky_status parse_precision(void *options, const sky_flag *flag, const char *text)
{
    static const char *const names[] = {"fp8", "int8", "bf16", "fp32"};
    int choice = 0;
    SKY_TRY(sky_flag_find_choice(flag, text, names, 4, &choice));
    *(sky_precision *)sky_flag_place(options, flag) = (sky_precision)choice;
    ((sky_options *)options)->precision_given = true;
    return SKY_OK;
}

static sky_status parse_text_encoder(void *options, const sky_flag *flag, const char *text)
{
    static const char *const names[] = {"bf16", "fp8"};
    int choice = 0;
    SKY_TRY(sky_flag_find_choice(flag, text, names, 2, &choice));
    *(bool *)sky_flag_place(options, flag) = choice == 1;
    return SKY_OK;
}

static sky_status parse_rng(void *options, const sky_flag *flag, const char *text)
{
    return sky_fail_in(sky_rng_parse(text, sky_flag_place(options, flag)), "--%s", flag->name);
}

static sky_status parse_scheduler(void *options, const sky_flag *flag, const char *text)
{
    static const char *const names[] = {"original", "diffusers"};
    int choice = 0;
    SKY_TRY(sky_flag_find_choice(flag, text, names, 2, &choice));
    *(sky_time_grid *)sky_flag_place(options, flag) = choice == 0 ? SKY_GRID_ORIGINAL : SKY_GRID_DIFFUSERS;
    return SKY_OK;
}

/* How many ways something is split; how many ranks there are is not known here. */
static sky_status parse_degree(void *options, const sky_flag *flag, const char *text)
{
    int64_t degree = 0;
    SKY_TRY(sky_flag_number(flag, text, MAX_DEGREE, &degree));
    *(int *)sky_flag_place(options, flag) = (int)degree;
    return SKY_OK;
}

static sky_status parse_cfg_degree(void *options, const sky_flag *flag, const char *text)
{
    static const char *const names[] = {"1", "2"};
    int choice = 0;
    SKY_TRY(sky_flag_find_choice(flag, text, names, 2, &choice));
    *(int *)sky_flag_place(options, flag) = choice + 1;
    return SKY_OK;
}

static sky_status parse_backend(void *options, const sky_flag *flag, const char *text)
{
    char names[128] = "";
    const sky_backend *backend = sky_backend_find(text);
    if (backend != NULL) {
        *(const char **)sky_flag_place(options, flag) = sky_backend_name(backend);
        return SKY_OK;
    }
    for (int i = 0; i < sky_backend_count(); i++) {
        const size_t len = strlen(names);
        snprintf(names + len, sizeof names - len, "%s%s", i > 0 ? "|" : "", sky_backend_name(sky_backend_at(i)));
    }
    return sky_fail(SKY_ERR_USAGE, "--%s %s: want one of this build's: %s", flag->name, text, names);
}

static sky_status parse_resolution(void *options, const sky_flag *flag, const char *text)
{
    static const char *const names[] = {"540P", "720P"};
    sky_settings *settings = &((sky_options *)options)->settings;
    int choice = 0;
    SKY_TRY(sky_flag_find_choice(flag, text, names, 2, &choice));
    const int64_t height = choice == 0 ? 544 : 720;
    const int64_t width = choice == 0 ? 960 : 1280;
    if ((settings->height != 0 && settings->height != height) || (settings->width != 0 && settings->width != width)) {
        return sky_fail(SKY_ERR_USAGE, "--resolution %s contradicts --height or --width: give one or the other", text);
    }
    settings->height = height;
    settings->width = width;
    return SKY_OK;
}

/* A switch that remembers whether it was given. */
static sky_status parse_choice(void *options, const sky_flag *flag, const char *text)
{
    sky_choice *choice = sky_flag_place(options, flag);
    sky_flag as_switch = *flag;
    bool on = false;
    as_switch.offset = 0;
    SKY_TRY(sky_flag_switch(&on, &as_switch, text));
    *choice = on ? SKY_ON : SKY_OFF;
    return SKY_OK;
}

/* ---- the flags ---- */

#define AT(member) offsetof(sky_options, member)

static const sky_flag flags[] = {
    {"model_path", sky_flag_text, AT(settings.model_path), "FOLDER",
     "model as published (original, Diffusers) or converted"},
    {"prompt", sky_flag_text, AT(settings.prompt), "TEXT", "what the video shows"},
    {"prompt_file", sky_flag_text, AT(prompt_file), "FILE", "the same, from a UTF-8 file"},
    {"negative_prompt", sky_flag_text, AT(settings.negative_prompt), "TEXT",
     "what to keep away from (the published default)"},
    {"output", sky_flag_text, AT(settings.output), "PATH", "x.mp4, x.y4m, or x/ for PNG files (from prompt and seed)"},
    {"resolution", parse_resolution, 0, "540P|720P", "544 x 960 or 720 x 1280 (540P, or as the folder is named)"},
    {"height", sky_flag_count, AT(settings.height), "N", "instead of --resolution: a multiple of 16"},
    {"width", sky_flag_count, AT(settings.width), "N", "instead of --resolution: a multiple of 16"},
    {"num_frames", sky_flag_count, AT(settings.num_frames), "N", "4k + 1 (97, or 121 at 720P)"},
    {"inference_steps", sky_flag_count, AT(settings.inference_steps), "N", "denoising steps (30)"},
    {"guidance_scale", sky_flag_real, AT(settings.guidance_scale), "X", "how closely to follow the prompt (6)"},
    {"shift", sky_flag_real, AT(settings.shift), "X", "of the time grid towards noise (8)"},
    {"fps", sky_flag_count, AT(settings.fps), "N", "frames a second of the file (24)"},
    {"seed", parse_seed, AT(settings.seed), "N", "of the noise (drawn and printed)"},
    {"precision", parse_precision, AT(settings.precision), "fp8|int8|bf16|fp32",
     "arithmetic of the linear layers (fp8)"},
    {"use_fp8", parse_choice, AT(use_fp8), NULL, "FP8 linear layers; off: bf16 (on)"},
    {"use_sage_attention", parse_choice, AT(use_sage_attention), NULL, "8-bit self-attention (on with fp8 and int8)"},
    {"memory_efficient_attention", sky_flag_switch, AT(memory_efficient_attention), NULL,
     "16-bit tiled attention instead"},
    {"text_encoder", parse_text_encoder, AT(settings.text_encoder_fp8), "bf16|fp8", "storage of its weights (bf16)"},
    {"rng", parse_rng, AT(settings.rng), "KIND", "whose noise: torch-cuda[:SMs], torch-cpu (torch-cuda:132)"},
    {"scheduler", parse_scheduler, AT(settings.scheduler), "original|diffusers", "whose time grid (original)"},
    {"backend", parse_backend, AT(backend), "NAME", "cpu, or ref: the plain reference for checking (cpu)"},
    {"use_usp", parse_choice, AT(use_usp), NULL,
     "split the sequence before the guidance passes; off: never (as is best)"},
    {"cfg_degree", parse_cfg_degree, AT(layout.degrees.cfg_degree), "1|2", "guidance passes at a time (as is best)"},
    {"ulysses_degree", parse_degree, AT(layout.degrees.ulysses_degree), "N",
     "ranks that exchange heads in attention (as is best)"},
    {"ring_degree", parse_degree, AT(layout.degrees.ring_degree), "N",
     "groups of them that exchange keys and values (as is best)"},
    {"fast_ring", sky_flag_switch, AT(settings.fast_ring), NULL,
     "pass keys around the ring: overlaps better, differs by rounding"},
    {"memory_limit", sky_flag_real, AT(memory_limit_gb), "GB",
     "of a rank's device; a render that needs more is refused (what is free)"},
    {"threads", sky_flag_threads, AT(num_threads), "N", "of each rank (the cores it may use)"},
    {"json", sky_flag_text, AT(json_path), "FILE", "write settings, timings and memory there"},
    {"plan", sky_flag_switch, AT(plan), NULL, "print layout, memory and traffic per rank and end: reads no weights"},
    {"fingerprint", sky_flag_text, AT(fingerprint_path), "FILE",
     "write a checksum of every stage there, to compare runs"},
    {"quiet", sky_flag_switch, AT(quiet), NULL, "say nothing but errors"},
    {"print_tokens", sky_flag_switch, AT(print_tokens), NULL, "print the prompt's token ids as a JSON list and end"},
    {"help", sky_flag_switch, AT(help), NULL, "this text"},
    {"version", sky_flag_switch, AT(version), NULL, "version, build and libraries"},
};
enum { NUM_FLAGS = sizeof flags / sizeof flags[0] };

/* Several flags decide about the arithmetic: --precision, and the published fork's switches. */
static sky_status settle_arithmetic(sky_options *o)
{
    sky_settings *s = &o->settings;
    if (o->use_fp8 == SKY_OFF && !o->precision_given) {
        s->precision = SKY_PRECISION_BF16;
    }
    const bool fp8 = s->precision == SKY_PRECISION_FP8;
    if ((o->use_fp8 == SKY_ON && !fp8) || (o->use_fp8 == SKY_OFF && fp8)) {
        return sky_fail(SKY_ERR_USAGE, "--precision %s and --use_fp8=%s contradict each other: give one of them",
                        sky_precision_name(s->precision), o->use_fp8 == SKY_ON ? "true" : "false");
    }
    if (o->memory_efficient_attention && o->use_sage_attention == SKY_ON) {
        return sky_fail(SKY_ERR_USAGE,
                        "--memory_efficient_attention is 16-bit attention and --use_sage_attention 8-bit: "
                        "give one of them");
    }
    const bool low_precision = fp8 || s->precision == SKY_PRECISION_INT8;
    s->attention_8bit = !o->memory_efficient_attention &&
                        (o->use_sage_attention == SKY_ON || (o->use_sage_attention == SKY_UNSET && low_precision));
    return SKY_OK;
}

static void settle_layout(sky_options *o)
{
    o->layout.use_usp = o->use_usp == SKY_ON ? 1 : o->use_usp == SKY_OFF ? -1 : 0;
}

sky_status sky_options_parse(int argc, char **argv, sky_options *out)
{
    *out = (sky_options){.settings = sky_settings_default(), .backend = "cpu"};
    SKY_TRY(sky_flags_parse(flags, NUM_FLAGS, argc, argv, out));
    settle_layout(out);
    return settle_arithmetic(out);
}

void sky_options_print_help(FILE *to)
{
    fputs("skyreels-mpi - makes video with SkyReels-V2 models\n\n"
          "    skyreels-mpi --model_path FOLDER --prompt TEXT [flags]\n"
          "    mpirun -np 4 skyreels-mpi --model_path FOLDER --prompt TEXT [flags]\n"
          "    mpirun -np 8 skyreels-mpi --plan --model_path FOLDER [flags]\n\n"
          "All ranks make one video: an even number of them works as two halves, one for each guidance pass, and the\n"
          "ranks of a half share the tokens. The bytes are the same on any number of ranks (but for --fast_ring).\n\n",
          to);
    sky_flags_print(flags, NUM_FLAGS, to);
    fputs(
        "\nFlags may be written with - or _, values after a space or =. Switches take =true, =false and a --no_ form.\n"
        "Ranks = cfg_degree x ring_degree x ulysses_degree; what is not given is chosen, and --plan shows it.\n"
        "Exit codes: 0 done, 64 usage, 65 model file refused, 70 internal, 71 device, 74 reading or writing failed,\n"
        "78 model files do not fit together.\n",
        to);
}
