/*
 * tests/parallel/mpi_main.h - a test program that runs on several ranks
 *
 * mpi_main.c has the main(). Every rank runs every case; a case fails where it fails on any rank. Rank 0 prints the one
 * summary line; failures are printed by the rank that has them. A program that takes longer than a minute, because a
 * failed rank left a collective call that others wait in, is ended.
 */
#ifndef SKY_TESTS_PARALLEL_MPI_MAIN_H
#define SKY_TESTS_PARALLEL_MPI_MAIN_H

#include "parallel/group.h"

/* All ranks: with the usual piece length, and with pieces of 1,000 bytes. Borrowed; there while cases run. */
sky_group *mpi_test_world(void);
sky_group *mpi_test_world_in_pieces(void);

#endif
