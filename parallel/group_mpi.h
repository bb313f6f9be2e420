/*
 * parallel/group_mpi.h - the group of all ranks of an MPI job
 *
 * The one door to MPI_COMM_WORLD for the library. launch calls MPI_Init_thread() (MPI_THREAD_FUNNELED is enough) before and
 * MPI_Finalize() after; groups work on a duplicate, so messages of a program's own cannot mix with theirs.
 */
#ifndef SKY_PARALLEL_GROUP_MPI_H
#define SKY_PARALLEL_GROUP_MPI_H

#include "parallel/group.h"

/*
 * The same with messages cut into pieces of at most piece_bytes, in [1, INT_MAX] and alike on all ranks. MPI counts are
 * int, so there must be pieces; this lets a test see them without moving gigabytes.
 */
sky_status sky_group_world_create_in_pieces(size_t piece_bytes, sky_group **out);

#endif
