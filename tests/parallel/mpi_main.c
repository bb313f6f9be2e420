#include "mpi_main.h"

#include "parallel/group_mpi.h"
#include "support/test.h"

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LONGEST_RUN_SECONDS = 60, PIECE_BYTES = 1000 };

static sky_group *world;
static sky_group *world_in_pieces;

sky_group *mpi_test_world(void)
{
    return world;
}

sky_group *mpi_test_world_in_pieces(void)
{
    return world_in_pieces;
}

/* Runs the cases and reads the counts from the summary line, which is kept from the terminal. */
static void run_cases(int argc, char **argv, int counts[3])
{
    char *text = NULL;
    size_t len = 0;
    FILE *kept = open_memstream(&text, &len);
    if (kept == NULL) {
        perror("open_memstream");
        MPI_Abort(MPI_COMM_WORLD, 1);
        return;
    }
    FILE *terminal = stdout;
    stdout = kept;
    test_main(argc, argv);
    stdout = terminal;
    fclose(kept);
    const char *last = text != NULL ? strstr(text, "# ") : NULL;
    if (last == NULL || sscanf(last, "# %d passed, %d failed, %d skipped", &counts[0], &counts[1], &counts[2]) != 3) {
        fprintf(stderr, "no summary line in: %s\n", text != NULL ? text : "");
        counts[1] = 1;
    }
    free(text);
}

int main(int argc, char **argv)
{
    int level = 0;
    int rank = 0;
    int counts[3] = {0};
    int most[3] = {0};

    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
    alarm(LONGEST_RUN_SECONDS);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (sky_group_world_create(&world) != SKY_OK ||
        sky_group_world_create_in_pieces(PIECE_BYTES, &world_in_pieces) != SKY_OK) {
        fprintf(stderr, "rank %d: %s\n", rank, sky_message());
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    run_cases(argc, argv, counts);
    sky_group_destroy(&world_in_pieces);
    sky_group_destroy(&world);

    /* A case counts as failed or skipped on the rank where most did. */
    MPI_Allreduce(counts, most, 3, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    const int total = counts[0] + counts[1] + counts[2];
    const int skipped = most[2] < total - most[1] ? most[2] : total - most[1];
    const int passed = total - most[1] - skipped;
    if (rank == 0) {
        printf("# %d passed, %d failed, %d skipped\n", passed, most[1], skipped);
    }
    MPI_Finalize();
    return most[1] > 0 ? 1 : passed == 0 ? 77 : 0;
}
