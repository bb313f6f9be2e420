/*
 * launch/program.h - runs programs as a user would and keeps what they say
 */
#ifndef SKY_TESTS_LAUNCH_PROGRAM_H
#define SKY_TESTS_LAUNCH_PROGRAM_H

#include <stdbool.h>

typedef struct program_run {
    int exit_code; /* 128 + signal for one that was killed; -1 where it did not end in time */
    double seconds;
    char *out; /* standard output and error, as text */
    char *err;
} program_run;

/*
 * Starts argv[0] (NULL-terminated list) with empty standard input and waits at most 120 s; a program that takes longer is
 * killed with its children. Free with program_free().
 */
void program_start(program_run *run, const char *const *argv);
void program_free(program_run *run);

/* skyreels-mpi itself with these flags; and under mpirun with num_ranks. `...` are strings, ended by NULL. */
void program_skyreels(program_run *run, ...);
void program_skyreels_mpi(program_run *run, int num_ranks, ...);

/* Number of entries of a folder, hidden ones included; -1 where there is none. */
int program_count_entries(const char *folder);

/* Whether both files are there and have the same bytes. */
bool program_same_files(const char *a, const char *b);

/* Copies a folder tree of plain files and links (followed). */
bool program_copy_tree(const char *from, const char *to);

#endif
