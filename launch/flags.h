/*
 * launch/flags.h - command lines by a table of flags, for all programs alike
 *
 * --a_b and --a-b are the same; values follow as "--flag value" or "--flag=value"; a switch also takes =true, =false and
 * a --no_ form; -h is --help. An unknown flag is refused, with the nearest where there is one.
 */
#ifndef SKY_LAUNCH_FLAGS_H
#define SKY_LAUNCH_FLAGS_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct sky_flag sky_flag;

/* Stores what text means; a switch gets "true" or "false". Errors: USAGE. */
typedef sky_status (*sky_flag_parser)(void *options, const sky_flag *flag, const char *text);

struct sky_flag {
    const char *name; /* with '_' */
    sky_flag_parser parse;
    size_t offset;     /* of what it sets, in the program's struct of options */
    const char *value; /* what stands for the value in help and messages; NULL: a switch */
    const char *help;
};

/* What flag sets, in options. */
void *sky_flag_place(void *options, const sky_flag *flag);

/* Parsers: const char * (into argv), int64_t above 0, double, bool of a switch. */
sky_status sky_flag_text(void *options, const sky_flag *flag, const char *text);
sky_status sky_flag_count(void *options, const sky_flag *flag, const char *text);
sky_status sky_flag_threads(void *options, const sky_flag *flag, const char *text); /* as a count, 1,024 at most */
sky_status sky_flag_real(void *options, const sky_flag *flag, const char *text);
sky_status sky_flag_switch(void *options, const sky_flag *flag, const char *text);

/* For parsers of own kinds: a whole number from 1 to `most`. Errors: USAGE. */
sky_status sky_flag_number(const sky_flag *flag, const char *text, int64_t most, int64_t *out);

/* For parsers of own kinds: the index of text among `num` choices. Errors: USAGE. */
sky_status sky_flag_find_choice(const sky_flag *flag, const char *text, const char *const *choices, int num, int *out);

/* Reads argv from 1 on; text in *options points into it. Errors: USAGE. */
sky_status sky_flags_parse(const sky_flag *flags, int num_flags, int argc, char **argv, void *options);

/* One line for each flag. */
void sky_flags_print(const sky_flag *flags, int num_flags, FILE *to);

#endif
