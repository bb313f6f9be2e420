/*
 * ops/cpu/device.h - what a CPU device holds
 */
#ifndef SKY_OPS_CPU_DEVICE_H
#define SKY_OPS_CPU_DEVICE_H

#include "base/threads.h"
#include "ops/cpu/cpu.h"
#include "ops/cpu/isa.h"

typedef struct sky_cpu_device {
    sky_threads *threads;   /* owned */
    const sky_cpu_isa *isa; /* the instruction set in use */
    int num_threads;
    unsigned char *work; /* owned; SKY_CPU_THREAD_BYTES for each thread */
} sky_cpu_device;

static inline const sky_cpu_device *sky_cpu_device_of(const sky_ctx *ctx)
{
    return ctx->device;
}

/* The working memory of one thread; aligned to SKY_ARENA_ALIGNMENT_BYTES. */
static inline void *sky_cpu_work(const sky_cpu_device *device, int thread)
{
    return device->work + (size_t)thread * SKY_CPU_THREAD_BYTES;
}

#endif
