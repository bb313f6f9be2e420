#include "options.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef enum kind {
    TEXT,
    COUNT,
    REAL,
    SEED,
    SWITCH,
    CHOICE,
    PRECISION,
    TEXT_ENCODER,
    RNG,
    SCHEDULER,
    RESOLUTION,
    BACKEND
} kind;

typedef struct flag {
    const char *name; /* with '_' */
    kind kind;
    size_t offset; /* into sky_options */
    const char *value;
    const char *help;
} flag;

#define AT(member) offsetof(sky_options, member)

static const flag flags[] = {
    {"model_path", TEXT, AT(settings.model_path), "FOLDER", "model in the original or the Diffusers layout (required)"},
    {"prompt", TEXT, AT(settings.prompt), "TEXT", "what the video shows"},
    {"prompt_file", TEXT, AT(prompt_file), "FILE", "the same, from a UTF-8 file"},
    {"negative_prompt", TEXT, AT(settings.negative_prompt), "TEXT", "what to keep away from (the published default)"},
    {"output", TEXT, AT(settings.output), "PATH", "x.mp4, x.y4m, or x/ for PNG files (named from prompt and seed)"},
    {"resolution", RESOLUTION, 0, "540P|720P",
     "544 x 960 or 720 x 1280 (540P, or 720P where the folder's name says so)"},
    {"height", COUNT, AT(settings.height), "N", "instead of --resolution: a multiple of 16"},
    {"width", COUNT, AT(settings.width), "N", "instead of --resolution: a multiple of 16"},
    {"num_frames", COUNT, AT(settings.num_frames), "N", "4k + 1 (97, or 121 at 720P)"},
    {"inference_steps", COUNT, AT(settings.inference_steps), "N", "denoising steps (30)"},
    {"guidance_scale", REAL, AT(settings.guidance_scale), "X", "how closely to follow the prompt (6)"},
    {"shift", REAL, AT(settings.shift), "X", "of the time grid towards noise (8)"},
    {"fps", COUNT, AT(settings.fps), "N", "frames a second of the file (24)"},
    {"seed", SEED, AT(settings.seed), "N", "of the noise (drawn and printed)"},
    {"precision", PRECISION, AT(settings.precision), "fp8|int8|bf16|fp32", "arithmetic of the linear layers (fp8)"},
    {"use_fp8", CHOICE, AT(use_fp8), NULL, "the same switch as --precision fp8, off: bf16 (on)"},
    {"use_sage_attention", CHOICE, AT(use_sage_attention), NULL, "8-bit self-attention (on with fp8 and int8)"},
    {"memory_efficient_attention", SWITCH, AT(memory_efficient_attention), NULL, "16-bit tiled attention instead"},
    {"text_encoder", TEXT_ENCODER, AT(settings.text_encoder_fp8), "bf16|fp8", "storage of its weights (bf16)"},
    {"rng", RNG, AT(settings.rng), "KIND", "whose noise a seed means: torch-cuda[:SMs], torch-cpu (torch-cuda:132)"},
    {"scheduler", SCHEDULER, AT(settings.scheduler), "original|diffusers", "whose time grid (original)"},
    {"backend", BACKEND, AT(backend), "cpu|ref", "fast, or the plain reference for checking (cpu)"},
    {"threads", COUNT, AT(num_threads), "N", "of each rank (the cores it may use)"},
    {"json", TEXT, AT(json_path), "FILE", "write settings, timings and memory there"},
    {"quiet", SWITCH, AT(quiet), NULL, "say nothing but errors"},
    {"print_tokens", SWITCH, AT(print_tokens), NULL, "print the prompt's token ids as a JSON list and end"},
    {"help", SWITCH, AT(help), NULL, "this text"},
    {"version", SWITCH, AT(version), NULL, "version, build and libraries"},
};
enum { NUM_FLAGS = sizeof flags / sizeof flags[0], NAME_BYTES = 64 };

static void *at(sky_options *options, const flag *f)
{
    return (unsigned char *)options + f->offset;
}

/* ---- values ---- */

static sky_status parse_count(const flag *f, const char *text, int64_t *out)
{
    char *end = NULL;
    errno = 0;
    const long long value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value <= 0) {
        return sky_fail(SKY_ERR_USAGE, "--%s %s: want a whole number above 0", f->name, text);
    }
    *out = value;
    return SKY_OK;
}

static sky_status parse_real(const flag *f, const char *text, double *out)
{
    char *end = NULL;
    errno = 0;
    const double value = strtod(text, &end);
    if (errno != 0 || end == text || *end != '\0') {
        return sky_fail(SKY_ERR_USAGE, "--%s %s: want a number", f->name, text);
    }
    *out = value;
    return SKY_OK;
}

static sky_status parse_seed(sky_options *options, const flag *f, const char *text)
{
    char *end = NULL;
    errno = 0;
    const unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || text[0] < '0' || text[0] > '9' || *end != '\0') {
        return sky_fail(SKY_ERR_USAGE, "--%s %s: want a whole number from 0 to 2^64 - 1", f->name, text);
    }
    *(uint64_t *)at(options, f) = value;
    options->seed_given = true;
    return SKY_OK;
}

/* Index of text among the choices; a later choice that is not offered yet is unknown, not misunderstood. */
static sky_status parse_choice(const flag *f, const char *text, const char *const *choices, int num, int *out)
{
    for (int i = 0; i < num; i++) {
        if (strcmp(text, choices[i]) == 0) {
            *out = i;
            return SKY_OK;
        }
    }
    return sky_fail(SKY_ERR_USAGE, "--%s %s: want %s", f->name, text, f->value);
}

static sky_status parse_precision(sky_options *options, const flag *f, const char *text)
{
    static const char *const names[] = {"fp8", "int8", "bf16", "fp32"};
    int choice = 0;
    SKY_TRY(parse_choice(f, text, names, 4, &choice));
    options->settings.precision = (sky_precision)choice;
    options->precision_given = true;
    return SKY_OK;
}

static sky_status parse_text_encoder(const flag *f, const char *text, bool *fp8)
{
    static const char *const names[] = {"bf16", "fp8"};
    int choice = 0;
    SKY_TRY(parse_choice(f, text, names, 2, &choice));
    *fp8 = choice == 1;
    return SKY_OK;
}

static sky_status parse_scheduler(const flag *f, const char *text, sky_time_grid *out)
{
    static const char *const names[] = {"original", "diffusers"};
    int choice = 0;
    SKY_TRY(parse_choice(f, text, names, 2, &choice));
    *out = choice == 0 ? SKY_GRID_ORIGINAL : SKY_GRID_DIFFUSERS;
    return SKY_OK;
}

static sky_status parse_backend(const flag *f, const char *text, const char **out)
{
    static const char *const names[] = {"cpu", "ref"};
    int choice = 0;
    SKY_TRY(parse_choice(f, text, names, 2, &choice));
    *out = names[choice];
    return SKY_OK;
}

static sky_status parse_resolution(const flag *f, const char *text, sky_settings *settings)
{
    static const char *const names[] = {"540P", "720P"};
    int choice = 0;
    SKY_TRY(parse_choice(f, text, names, 2, &choice));
    const int64_t height = choice == 0 ? 544 : 720;
    const int64_t width = choice == 0 ? 960 : 1280;
    if ((settings->height != 0 && settings->height != height) || (settings->width != 0 && settings->width != width)) {
        return sky_fail(SKY_ERR_USAGE, "--resolution %s contradicts --height or --width: give one or the other", text);
    }
    settings->height = height;
    settings->width = width;
    return SKY_OK;
}

static sky_status parse_switch(const flag *f, const char *value, bool negated, bool *out)
{
    bool on = true;
    if (value != NULL) {
        if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0) {
            return sky_fail(SKY_ERR_USAGE, "--%s=%s: want true or false", f->name, value);
        }
        on = strcmp(value, "true") == 0;
    }
    *out = on != negated;
    return SKY_OK;
}

static sky_status parse_toggle(sky_options *options, const flag *f, const char *value, bool negated)
{
    bool on = false;
    SKY_TRY(parse_switch(f, value, negated, &on));
    if (f->kind == CHOICE) {
        *(sky_choice *)at(options, f) = on ? SKY_ON : SKY_OFF;
    } else {
        *(bool *)at(options, f) = on;
    }
    return SKY_OK;
}

static bool is_toggle(const flag *f)
{
    return f->kind == SWITCH || f->kind == CHOICE;
}

static sky_status parse_value(sky_options *options, const flag *f, const char *text)
{
    switch (f->kind) {
    case TEXT:
        *(const char **)at(options, f) = text;
        return SKY_OK;
    case COUNT:
        return parse_count(f, text, at(options, f));
    case REAL:
        return parse_real(f, text, at(options, f));
    case SEED:
        return parse_seed(options, f, text);
    case PRECISION:
        return parse_precision(options, f, text);
    case TEXT_ENCODER:
        return parse_text_encoder(f, text, at(options, f));
    case RNG:
        return sky_fail_in(sky_rng_parse(text, at(options, f)), "--%s", f->name);
    case SCHEDULER:
        return parse_scheduler(f, text, at(options, f));
    case BACKEND:
        return parse_backend(f, text, at(options, f));
    case RESOLUTION:
        return parse_resolution(f, text, &options->settings);
    case SWITCH:
    case CHOICE:
        break;
    }
    return sky_fail(SKY_ERR_INTERNAL, "--%s has no parser", f->name);
}

/* ---- names ---- */

/* Levenshtein distance, for "did you mean". */
static size_t distance(const char *a, const char *b)
{
    size_t row[NAME_BYTES + 1];
    const size_t len_b = strlen(b);
    for (size_t j = 0; j <= len_b; j++) {
        row[j] = j;
    }
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= len_b; j++) {
            const size_t substitute = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            size_t best = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
            row[j] = best < substitute ? best : substitute;
        }
    }
    return row[len_b];
}

static sky_status unknown_flag(const char *name)
{
    const flag *nearest = NULL;
    size_t least = 4; /* farther than that is a guess */
    for (int i = 0; i < NUM_FLAGS; i++) {
        const size_t d = distance(name, flags[i].name);
        if (d < least) {
            least = d;
            nearest = &flags[i];
        }
    }
    if (nearest != NULL) {
        return sky_fail(SKY_ERR_USAGE, "unknown flag --%s; did you mean --%s?", name, nearest->name);
    }
    return sky_fail(SKY_ERR_USAGE, "unknown flag --%s; --help lists them", name);
}

static const flag *find_flag(const char *name)
{
    for (int i = 0; i < NUM_FLAGS; i++) {
        if (strcmp(flags[i].name, name) == 0) {
            return &flags[i];
        }
    }
    return NULL;
}

/* Takes the argument "--name" or "--name=value" apart; '-' in the name becomes '_'. */
static sky_status split(const char *argument, char name[NAME_BYTES], const char **value)
{
    if (strncmp(argument, "--", 2) != 0 || argument[2] == '\0') {
        return sky_fail(SKY_ERR_USAGE,
                        "\"%.80s\" is not a flag; flags begin with --, and text with spaces needs quotes", argument);
    }
    const char *equals = strchr(argument, '=');
    const size_t len = equals != NULL ? (size_t)(equals - argument) - 2 : strlen(argument) - 2;
    if (len >= NAME_BYTES) {
        return sky_fail(SKY_ERR_USAGE, "unknown flag %.80s...", argument);
    }
    for (size_t i = 0; i < len; i++) {
        name[i] = argument[2 + i] == '-' ? '_' : argument[2 + i];
    }
    name[len] = '\0';
    *value = equals != NULL ? equals + 1 : NULL;
    return SKY_OK;
}

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

sky_status sky_options_parse(int argc, char **argv, sky_options *out)
{
    *out = (sky_options){.settings = sky_settings_default(), .backend = "cpu"};
    for (int i = 1; i < argc; i++) {
        char name[NAME_BYTES];
        const char *value = NULL;
        if (strcmp(argv[i], "-h") == 0) {
            out->help = true;
            continue;
        }
        SKY_TRY(split(argv[i], name, &value));
        const flag *f = find_flag(name);
        const bool negated = f == NULL && strncmp(name, "no_", 3) == 0;
        if (negated) {
            f = find_flag(name + 3);
        }
        if (f == NULL || (negated && !is_toggle(f))) {
            return unknown_flag(name);
        }
        if (is_toggle(f)) {
            SKY_TRY(parse_toggle(out, f, value, negated));
            continue;
        }
        if (value == NULL && ++i == argc) {
            return sky_fail(SKY_ERR_USAGE, "--%s: its value is missing (%s)", f->name, f->value);
        }
        SKY_TRY(parse_value(out, f, value != NULL ? value : argv[i]));
    }
    return settle_arithmetic(out);
}

void sky_options_print_help(FILE *to)
{
    fputs("skyreels-mpi - makes video with SkyReels-V2 models\n\n"
          "    skyreels-mpi --model_path FOLDER --prompt TEXT [flags]\n"
          "    mpirun -np 2 skyreels-mpi --model_path FOLDER --prompt TEXT [flags]\n\n"
          "With two ranks each computes one of the two guidance passes; the video is the same, byte for byte.\n\n",
          to);
    for (int i = 0; i < NUM_FLAGS; i++) {
        char left[NAME_BYTES];
        snprintf(left, sizeof left, "--%s %s", flags[i].name, flags[i].value != NULL ? flags[i].value : "");
        fprintf(to, "  %-34s %s\n", left, flags[i].help);
    }
    fputs(
        "\nFlags may be written with - or _, values after a space or =. Switches take =true, =false and a --no_ form.\n"
        "Exit codes: 0 done, 64 usage, 65 model file refused, 70 internal, 71 device, 74 reading or writing failed,\n"
        "78 model files do not fit together.\n",
        to);
}
