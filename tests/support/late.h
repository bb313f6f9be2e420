/*
 * support/late.h - the late device: a backend whose work is done as late as the contract of ops/backend.h allows
 *
 *     const sky_backend *backend = late_backend(LATE_APART);
 *     SKY_TRY(sky_device_open(backend, &(sky_device_options){.num_threads = 1}, &device));
 *
 * Computes with the CPU backend, but what is enqueued (ops with copies of their arguments, copies, exchanges) runs only when
 * the host waits for it: whoever reads too early finds what was there before, and memory is full of NaN at first. A forgotten
 * wait so shows on any machine, always. A wait runs no more than it must: the queue it is for up to the mark, and of other
 * queues what that waits for by events.
 *
 *     lazy     every queue as late as it may be: shows a COMPUTE that does not wait for a copy or an exchange
 *     eager    COPY and EXCHANGE as early as events let them, COMPUTE late: shows those that do not wait for COMPUTE
 *     apart    device memory is not the host's (host_memory false): a host that touches it dies of SIGSEGV
 *
 * Work that fails when it runs is seen late too, and stays: every call after that returns DEVICE. Host waits are counted.
 */
#ifndef SKY_TESTS_SUPPORT_LATE_H
#define SKY_TESTS_SUPPORT_LATE_H

#include "ops/backend.h"

typedef enum late_kind { LATE_LAZY, LATE_EAGER, LATE_APART, LATE_APART_EAGER, LATE_NUM_KINDS } late_kind;

const sky_backend *late_backend(late_kind kind);

/* How often the host has waited: for everything, an event, a copy to or from the host, memory that is given back. */
typedef struct late_waits {
    int64_t syncs, events, copies, frees;
} late_waits;

/* Of one device: outside late_exchange_begin() .. _end(), and within. */
typedef struct late_counts {
    late_waits outside, inside;
} late_counts;
late_counts late_device_counts(const void *device);
int64_t late_waits_sum(const late_waits *w);

/* Waits of this thread between these two are those of an exchange. */
void late_exchange_begin(void);
void late_exchange_end(void);

/*
 * Enqueues a function of the caller's, with a copy of `bytes` of arg; run may block. A status other than OK is a failure of the device.
 */
typedef sky_status (*late_function)(void *arg);
sky_status late_enqueue(void *device, sky_queue queue, late_function run, const void *arg, size_t bytes);

/* Where what runs finds device memory: another address, of a device apart. Those in arg are replaced already, if in whole words. */
void *late_reach(const void *device, const void *address);

/* How much is enqueued and has not run. */
int64_t late_device_pending(const void *device);

/* Runs what is enqueued, as a device does while the host is busy with other things; no wait of the host's. */
void late_progress(void *device);

/* The op that is enqueued next fails when it runs. */
void late_fail_next_op(void *device);

#endif
