/*
 * base/memory.h - how much memory this machine has for us
 */
#ifndef SKY_BASE_MEMORY_H
#define SKY_BASE_MEMORY_H

#include "base/status.h"

#include <stdint.h>

/*
 * Bytes of this machine's memory that a program could still get without swapping, and bytes in all; both at most what the
 * limits of this process's control group leave, where it has any (a container has). Errors: IO where the system does not say.
 */
sky_status sky_machine_memory(uint64_t *free_bytes, uint64_t *total_bytes);

#endif
