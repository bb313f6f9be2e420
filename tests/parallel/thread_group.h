/*
 * tests/parallel/thread_group.h - a group whose ranks are threads of one process, for late devices
 *
 *     static void body(sky_group *group, void *arg) { ... }    // every rank, in a thread of its own
 *     thread_group_run(4, body, &arg);
 *
 * An exchange of device memory is queued, as NCCL's would be: it waits on EXCHANGE for what COMPUTE was given, COMPUTE waits
 * for it behind end, and no host waits. It takes place when the late devices of all ranks come to it. Everything else, and
 * exchanges of host memory, are between the threads themselves. Failures of a rank in an exchange leave the others waiting, as
 * with any group: test programs end by alarm().
 *
 * A body does not use EXPECT and the like (support/test.h is one thread's): it leaves what it finds in arg.
 */
#ifndef SKY_TESTS_PARALLEL_THREAD_GROUP_H
#define SKY_TESTS_PARALLEL_THREAD_GROUP_H

#include "parallel/group.h"

typedef void (*thread_body)(sky_group *group, void *arg);

void thread_group_run(int size, thread_body body, void *arg);

#endif
