#include "flags.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = 64, MAX_THREADS = 1024 };

void *sky_flag_place(void *options, const sky_flag *flag)
{
    return (unsigned char *)options + flag->offset;
}

/* ---- values ---- */

sky_status sky_flag_text(void *options, const sky_flag *flag, const char *text)
{
    *(const char **)sky_flag_place(options, flag) = text;
    return SKY_OK;
}

sky_status sky_flag_number(const sky_flag *flag, const char *text, int64_t most, int64_t *out)
{
    char *end = NULL;
    errno = 0;
    const long long value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value <= 0 || value > most) {
        return most == INT64_MAX
                   ? sky_fail(SKY_ERR_USAGE, "--%s %s: want a whole number above 0", flag->name, text)
                   : sky_fail(SKY_ERR_USAGE, "--%s %s: want a whole number from 1 to %" PRId64, flag->name, text, most);
    }
    *out = value;
    return SKY_OK;
}

sky_status sky_flag_count(void *options, const sky_flag *flag, const char *text)
{
    return sky_flag_number(flag, text, INT64_MAX, sky_flag_place(options, flag));
}

sky_status sky_flag_threads(void *options, const sky_flag *flag, const char *text)
{
    return sky_flag_number(flag, text, MAX_THREADS, sky_flag_place(options, flag));
}

sky_status sky_flag_real(void *options, const sky_flag *flag, const char *text)
{
    char *end = NULL;
    errno = 0;
    const double value = strtod(text, &end);
    if (errno != 0 || end == text || *end != '\0') {
        return sky_fail(SKY_ERR_USAGE, "--%s %s: want a number", flag->name, text);
    }
    *(double *)sky_flag_place(options, flag) = value;
    return SKY_OK;
}

sky_status sky_flag_switch(void *options, const sky_flag *flag, const char *text)
{
    *(bool *)sky_flag_place(options, flag) = strcmp(text, "true") == 0;
    return SKY_OK;
}

sky_status sky_flag_find_choice(const sky_flag *flag, const char *text, const char *const *choices, int num, int *out)
{
    for (int i = 0; i < num; i++) {
        if (strcmp(text, choices[i]) == 0) {
            *out = i;
            return SKY_OK;
        }
    }
    return sky_fail(SKY_ERR_USAGE, "--%s %s: want %s", flag->name, text, flag->value);
}

/* What a switch is set to by "--flag", "--no_flag" or "--flag=value". */
static sky_status switch_text(const sky_flag *flag, const char *value, bool negated, const char **out)
{
    bool on = true;
    if (value != NULL) {
        if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0) {
            return sky_fail(SKY_ERR_USAGE, "--%s=%s: want true or false", flag->name, value);
        }
        on = strcmp(value, "true") == 0;
    }
    *out = on != negated ? "true" : "false";
    return SKY_OK;
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

static sky_status unknown_flag(const sky_flag *flags, int num_flags, const char *name)
{
    const sky_flag *nearest = NULL;
    size_t least = 4; /* farther than that is a guess */
    for (int i = 0; i < num_flags; i++) {
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

static const sky_flag *find_flag(const sky_flag *flags, int num_flags, const char *name)
{
    for (int i = 0; i < num_flags; i++) {
        if (strcmp(flags[i].name, name) == 0) {
            return &flags[i];
        }
    }
    return NULL;
}

/* Takes the argument "--name" or "--name=value" apart; '-' in the name becomes '_'. */
static sky_status split(const char *argument, char name[NAME_BYTES], const char **value)
{
    if (strcmp(argument, "-h") == 0) {
        argument = "--help";
    }
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

sky_status sky_flags_parse(const sky_flag *flags, int num_flags, int argc, char **argv, void *options)
{
    for (int i = 1; i < argc; i++) {
        char name[NAME_BYTES];
        const char *value = NULL;
        SKY_TRY(split(argv[i], name, &value));
        const sky_flag *f = find_flag(flags, num_flags, name);
        const bool negated = f == NULL && strncmp(name, "no_", 3) == 0;
        if (negated) {
            f = find_flag(flags, num_flags, name + 3);
        }
        if (f == NULL || (negated && f->value != NULL)) {
            return unknown_flag(flags, num_flags, name);
        }
        if (f->value == NULL) {
            SKY_TRY(switch_text(f, value, negated, &value));
        } else if (value == NULL) {
            if (++i == argc) {
                return sky_fail(SKY_ERR_USAGE, "--%s: its value is missing (%s)", f->name, f->value);
            }
            value = argv[i];
        }
        SKY_TRY(f->parse(options, f, value));
    }
    return SKY_OK;
}

void sky_flags_print(const sky_flag *flags, int num_flags, FILE *to)
{
    for (int i = 0; i < num_flags; i++) {
        char left[NAME_BYTES];
        snprintf(left, sizeof left, "--%s %s", flags[i].name, flags[i].value != NULL ? flags[i].value : "");
        fprintf(to, "  %-34s %s\n", left, flags[i].help);
    }
}
