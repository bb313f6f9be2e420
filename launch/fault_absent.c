/* Stands for fault.c in all programs but skyreels-mpi-faults. */
#include "base/status.h"
#include "fault.h"

#include <stdlib.h>

sky_status sky_faults_init(sky_faults *faults, int rank, int num_ranks)
{
    (void)rank;
    (void)num_ranks;
    *faults = (sky_faults){0};
    const char *text = getenv(SKY_FAULT_VARIABLE);
    if (text == NULL || text[0] == '\0') {
        return SKY_OK;
    }
    return sky_fail(
        SKY_ERR_UNSUPPORTED,
        "%s=%s is set, and this program has no faults: unset it, or start skyreels-mpi-faults, which is built "
        "beside this one with -DSKY_TESTS=ON",
        SKY_FAULT_VARIABLE, text);
}
