/*
 * launch/fault.h - failures on request, so that tests can see how ranks fail together
 *
 * The environment variable SKYREELS_FAULT holds up to SKY_MAX_FAULTS of them, joined by commas, each
 *
 *     RANK:PHASE:INDEX:ACTION      as in 1:denoise:2:fail
 *
 *     RANK    who: 0 and up
 *     PHASE   load_text_encoder, encode_text, load_transformer, denoise, load_vae, decode or write
 *     INDEX   the step (denoise) or latent frame (decode), else 0
 *     ACTION  fail, io or nomem: that place fails with the status INTERNAL, IO or NOMEM
 *             kill or stop: the process sends itself SIGKILL or SIGSTOP
 *             exit: the process ends at once, with exit code 0
 *
 * A fault happens when the rank enters that place (sky_engine_observer.enter); a rank that never does has no fault.
 *
 * Only the program skyreels-mpi-faults, which is built with the tests and not installed, is made with fault.c. The others
 * are made with fault_absent.c: they refuse to run where the variable is set, as what was asked for would not happen.
 */
#ifndef SKY_LAUNCH_FAULT_H
#define SKY_LAUNCH_FAULT_H

#include "skyreels.h"

#define SKY_FAULT_VARIABLE "SKYREELS_FAULT"

enum { SKY_MAX_FAULTS = 4 };

typedef struct sky_fault {
    int rank;
    sky_phase phase;
    int64_t index;
    int action; /* fault.c's */
} sky_fault;

typedef struct sky_faults {
    sky_fault list[SKY_MAX_FAULTS]; /* of this rank */
    int num;
    sky_engine_observer observer; /* points to this struct, which therefore stays where it is */
} sky_faults;

/*
 * Reads the variable; unset or empty, nothing will fail. Errors: USAGE, saying what was wanted; UNSUPPORTED where it is set
 * and the program was made without faults.
 */
sky_status sky_faults_init(sky_faults *faults, int rank, int num_ranks);

#endif
