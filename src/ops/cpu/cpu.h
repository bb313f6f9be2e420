/*
 * ops/cpu/cpu.h - the fast CPU backend
 *
 *     void *device = NULL;
 *     SKY_TRY(sky_cpu_device_create(2, &device));
 *     sky_ctx ctx = {.backend = sky_backend_cpu(), .device = device, .arena = &arena};
 *     ...
 *     sky_cpu_device_destroy(&device);
 *
 * Results do not depend on the number of threads, nor on how rows are cut or grouped: every element is summed in an
 * order of its own (docs/performance.md). They are the same on every x86-64 machine with AVX2 and FMA or better.
 */
#ifndef SKY_OPS_CPU_CPU_H
#define SKY_OPS_CPU_CPU_H

#include "ops/backend.h"

/* Working memory of one thread, part of the device; only what is touched becomes resident. */
enum { SKY_CPU_THREAD_BYTES = 4 << 20 };

const sky_backend *sky_backend_cpu(void);

/*
 * A pool of num_threads threads (the caller is one of them) and the choice of instruction set. One device serves one
 * context. Errors: USAGE where num_threads is below 1, NOMEM, INTERNAL where a thread cannot be started.
 */
sky_status sky_cpu_device_create(int num_threads, void **device);
void sky_cpu_device_destroy(void **device);

/* Name of the instruction set in use: "v4" (AVX-512), "v3" (AVX2, FMA) or "base". */
const char *sky_cpu_device_isa(const void *device);

/* Uses another of the instruction sets named above; for tests and measurements. Errors: UNSUPPORTED on this machine. */
sky_status sky_cpu_device_set_isa(void *device, const char *name);

#endif
